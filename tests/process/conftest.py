"""Fixtures of the process tests. The mock and one relay last a session; tests that must kill, reload or configure a
relay get their own from `own_relay`."""

import itertools
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from harness import config, paths  # noqa: E402
from harness.relay import Relay  # noqa: E402
from mock import Mock  # noqa: E402

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def mock():
    server = Mock(send_buffer_bytes=64 << 10).start()
    yield server
    server.stop()
    assert server.faults == [], server.faults[0]


@pytest.fixture(scope="session")
def binary():
    if not paths.BINARY.exists():
        pytest.fail(f"no relay at {paths.BINARY}: build it, or set TOLLGATE_BINARY", pytrace=False)
    return paths.BINARY


def _relay_maker(directory, mock, made):
    """Returns a function that starts relays, each with the base configuration and the given changes."""
    def make(changes=None, start=True, environment=None):
        settings = config.merged(config.base(mock), changes or {})
        relay = Relay(directory / f"relay{next(_numbers)}", settings, environment)
        made.append(relay)
        return relay.start() if start else relay
    return make


def _stop_all(relays):
    try:
        for relay in relays:
            relay.stop()
    finally:
        for relay in relays:
            if relay.process is not None and relay.process.poll() is None:
                relay.kill_all()


@pytest.fixture(scope="session")
def relay(binary, mock, tmp_path_factory):
    """The relay most tests share. Its workers must all outlive the session."""
    made = []
    shared = _relay_maker(tmp_path_factory.mktemp("shared"), mock, made)()
    before = shared.worker_pids()
    yield shared
    try:
        assert shared.worker_pids() == before, "a worker of the shared relay died on the way"
    finally:
        _stop_all(made)


@pytest.fixture
def own_relay(binary, mock, tmp_path):
    """Starts relays of this test's own: own_relay(changes)."""
    made = []
    yield _relay_maker(tmp_path, mock, made)
    _stop_all(made)


@pytest.fixture(scope="module")
def module_relay(binary, mock, tmp_path_factory):
    """Starts relays that the tests of one file share."""
    made = []
    yield _relay_maker(tmp_path_factory.mktemp("module"), mock, made)
    _stop_all(made)


@pytest.fixture(scope="session")
def tenant(relay):
    return relay.create_tenant("shared")


@pytest.fixture(scope="session")
def key(relay, tenant):
    """A key without limits."""
    return relay.create_key(tenant, "--name", "shared-key")


@pytest.fixture
def fresh_tenant(relay):
    """A tenant nobody else uses."""
    return relay.create_tenant(f"tenant-{next(_numbers)}")
