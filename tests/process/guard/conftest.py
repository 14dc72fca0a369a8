"""Starts guard_server: libh2o behind the guard, nothing else. GUARD_SERVER names another binary."""

import json
import os
import signal
import subprocess
import tempfile

import pytest

from guard.frames import Raw2
from harness import paths
from harness.http1 import Http1
from harness.ports import free_port
from harness.wait import SLOWNESS

BINARY = os.environ.get("GUARD_SERVER", str(paths.CLONE / "build" / "tests" / "process" / "guard" / "guard_server"))


class GuardServer:
    def __init__(self, wrapper=(), **options):
        self.port = free_port()
        command = [*wrapper, BINARY, str(self.port), *(f"{name}={value}" for name, value in options.items())]
        self.output = tempfile.TemporaryFile()  # not a pipe: libh2o has a line for every frame it does not know
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.output)
        assert self.process.stdout.readline() == b"ready\n", self.read_errors()
        self.errors = None

    def read_errors(self):
        self.output.seek(0)
        return self.output.read().decode(errors="replace")

    def connect(self, **options):
        return Http1(self.port, **options)

    def connect2(self, **options):
        return Raw2(self.port, **options)

    def stats(self):
        with self.connect() as connection:
            return json.loads(connection.request("GET", "/stats").body)

    def drain(self):
        self.process.send_signal(signal.SIGUSR1)

    def stop(self):
        """Ends it and says whether it lived to the end without a sanitizer's report."""
        self.process.terminate()
        self.process.communicate(timeout=20 * SLOWNESS)
        self.errors = self.read_errors()
        assert self.process.returncode == 0, f"exit {self.process.returncode}: {self.errors[-3000:]}"
        assert "Sanitizer" not in self.errors and "runtime error" not in self.errors, self.errors[-3000:]


@pytest.fixture(scope="session")
def guard_binary():
    if not os.path.exists(BINARY):
        pytest.skip(f"no guard_server at {BINARY}")
    return BINARY


@pytest.fixture
def serve(guard_binary):
    """Starts a server with these limits; every one started must live to the end."""
    started = []

    def start(**options):
        started.append(GuardServer(**options))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def server(serve):
    return serve()
