"""The relay as a child process: start, command line, clients, and a stop that looks for everything it may not leave behind."""

import json
import os
import re
import signal
import subprocess
from dataclasses import dataclass
from decimal import Decimal

from harness import config, paths, processes
from harness.http1 import Broken, Http1, Stream
from harness.http2 import Http2
from harness.wait import LIMIT_S, SLOWNESS, until

READY = re.compile(r"^tollgate: ready: (\S+) admin (\S+) workers ([0-9]+)$", re.MULTILINE)
ALARMS = re.compile(r"Assertion `|AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error:|check failed", re.IGNORECASE)
CHAT = "/v1/chat/completions"


@dataclass
class Result:
    """What a command gave."""
    code: int
    out: str
    err: str

    def json(self):
        return json.loads(self.out, parse_float=Decimal)


class Relay:
    """One server with its own state directory below `directory`."""

    def __init__(self, directory, settings, environment=None):
        self.directory = directory
        self.state = directory / "state"
        self.settings = settings
        self.file = directory / "tollgate.yaml"
        self.environment = {**os.environ, **(environment or {})}
        self.process = None
        self.port = self.admin_port = None
        self._starts = 0
        directory.mkdir(parents=True, exist_ok=True)
        self.write_config(settings)

    # --- life ---

    def write_config(self, settings):
        """Replaces the file in one step; `reload` makes it count."""
        self.settings = settings
        fresh = self.file.with_suffix(".new")
        fresh.write_text(config.text_of({**settings, "state": str(self.state)}))
        fresh.rename(self.file)

    @property
    def out_file(self):
        return self.directory / f"stdout.{self._starts}"

    @property
    def err_file(self):
        return self.directory / f"stderr.{self._starts}"

    def spawn(self):
        """Starts `serve` without waiting."""
        self._starts += 1
        with open(self.out_file, "wb") as out, open(self.err_file, "wb") as err:
            self.process = subprocess.Popen([paths.BINARY, "serve", "-c", self.file], stdin=subprocess.DEVNULL,
                                            stdout=out, stderr=err, env=self.environment, start_new_session=True)
        return self

    def start(self):
        """Starts and waits for the ready line."""
        self.spawn()
        ready = until(self._ready_or_dead, "the ready line", LIMIT_S * 2)
        self.port = int(ready[1].rsplit(":", 1)[1])
        self.admin_port = int(ready[2].rsplit(":", 1)[1])
        return self

    def _ready_or_dead(self):
        found = READY.search(self.stdout)
        assert found or self.process.poll() is None, f"serve exited {self.process.returncode}: {self.stderr[-3000:]}"
        return found

    @property
    def stdout(self):
        return self.out_file.read_text(errors="replace")

    @property
    def stderr(self):
        return self.err_file.read_text(errors="replace")

    def all_output(self):
        """What every start of this relay has written."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.directory.glob("std???.*")))

    @property
    def pid(self):
        return self.process.pid

    def signal(self, number):
        os.kill(self.pid, number)

    def wait_exit(self, limit_s=30 * SLOWNESS):
        return self.process.wait(limit_s)

    def stop(self):
        """Stops a running server and checks what every end of a test must find true."""
        if self.process is None:
            return
        if self.process.poll() is None:
            family = processes.children_of(self.pid)
            self.signal(signal.SIGTERM)
            assert self.wait_exit() == 0, f"exit {self.process.returncode} after SIGTERM: {self.stderr[-3000:]}"
            until(lambda: not any(processes.is_alive(pid) for pid in family), f"all of {family} have ended")
        self.assert_quiet()
        verified = self.cli("verify")
        assert verified.code == 0, f"verify: {verified}"

    def assert_quiet(self):
        """No sanitizer and no check has spoken."""
        alarm = ALARMS.search(self.all_output())
        assert alarm is None, f"in {self.directory}: {self._around(alarm)}"

    def _around(self, alarm):
        text = self.all_output()
        return text[max(0, alarm.start() - 200):alarm.end() + 3000]

    def kill_all(self):
        """SIGKILLs the master and all its children at once."""
        family = processes.children_of(self.pid)
        for pid in [self.pid, *family]:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        until(lambda: not any(processes.is_alive(pid) for pid in family), "every killed process is gone")

    # --- command line ---

    def cli(self, *arguments, **options):
        """Runs a command with this relay's configuration."""
        return run(*arguments, "-c", self.file, env=self.environment, **options)

    def ok(self, *arguments):
        """Runs a command that must succeed and returns its output without the last line end."""
        result = self.cli(*arguments)
        assert result.code == 0, f"{arguments}: {result}"
        return result.out.rstrip("\n")

    def json(self, *arguments):
        return json.loads(self.ok(*arguments, "--json"), parse_float=Decimal)

    def create_tenant(self, name, *options):
        self.ok("tenant", "create", name, *options)
        return name

    def create_key(self, tenant, *options):
        return self.ok("key", "create", "--tenant", tenant, *options)

    def status(self):
        return self.json("status")

    def worker_pids(self):
        return sorted(worker["pid"] for worker in self.status()["workers"])

    def record(self, identity):
        """The ledger's record of a request, waiting until it is there."""
        def look():
            result = self.cli("requests", "--id", identity, "--json")
            return result.json() if result.code == 0 else None
        found = until(look, f"a ledger record of {identity}")
        assert len(found) == 1, f"{identity} stands {len(found)} times in the ledger: {found}"
        return found[0]

    def records(self, *options):
        return self.json("requests", *options)

    # --- clients ---

    def connect(self, **options):
        return Http1(self.port, **options)

    def connect2(self, **options):
        return Http2(self.port, **options)

    def request(self, method, target, key=None, headers=(), body=None):
        """One request on a connection of its own."""
        with self.connect() as connection:
            return connection.request(method, target, bearer(key, headers), body)

    def get(self, target, key=None, headers=()):
        return self.request("GET", target, key, headers)

    def get_or_none(self, target):
        """The answer, or None while nobody serves."""
        try:
            return self.get(target)
        except (Broken, OSError):
            return None

    def chat(self, key, body, headers=()):
        return self.request("POST", CHAT, key, headers, body)

    def stream(self, key, body, headers=(), target=CHAT, **options):
        """A streaming completion; the answer's head has been read."""
        connection = self.connect(**options)
        connection.send("POST", target, bearer(key, headers), {"stream": True, **body} if isinstance(body, dict) else body)
        return Stream(connection, connection.head())

    def stream_after(self, key, case, pace, events, **options):
        """A stream of `case` that has delivered this many events and waits at its pace."""
        pace.release(events)
        stream = self.stream(key, case.body(), **options)
        stream.take(events)
        return stream


def bearer(key, headers=()):
    """Headers with the key added as a bearer token."""
    return {**dict(headers), **({"authorization": f"Bearer {key}"} if key else {})}


def run(*arguments, env=None, cwd=None, text_in=None, limit_s=30 * SLOWNESS):
    """Runs the program once."""
    done = subprocess.run([paths.BINARY, *map(str, arguments)], capture_output=True, env=env, cwd=cwd, timeout=limit_s,
                          input=None if text_in is None else text_in.encode(),
                          stdin=subprocess.DEVNULL if text_in is None else None)
    return Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def cost_of(record, price):
    """What a record's tokens cost at a price, in USD, rounded once, half up, to nine places."""
    cached, written = record["cached_input_tokens"], record["cache_write_tokens"]
    plain = record["input_tokens"] - cached - written
    total = (plain * Decimal(str(price["input"])) + cached * Decimal(str(price.get("cached_input", price["input"])))
             + written * Decimal(str(price.get("cache_write", price["input"])))
             + record["output_tokens"] * Decimal(str(price["output"]))) / 1000000
    return total.quantize(Decimal("0.000000001"), rounding="ROUND_HALF_UP")
