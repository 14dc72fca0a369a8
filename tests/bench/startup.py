"""How long a server takes from `serve` to its ready line with 1,000 and 1,000,000 keys, and what they take of memory and
disk. Goal: less than 5 s."""

import subprocess
import time

import servers
from harness import config, processes
from harness.relay import Relay

COUNTS, TENANTS, LIMIT_S = (1000, 1000000), 1000, 120


def run(table, build):
    subprocess.run(["ninja", "-C", build, "many_keys"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
    with servers.directory(build) as folder, servers.mock_server() as mock:
        least = None
        for count in COUNTS:
            relay = Relay(folder / f"keys-{count}", {**config.base(mock), "capacity": {"keys": count + 1, "tenants": TENANTS}})
            fill(relay, build, count)
            taken = start(relay)
            try:
                show(table, relay, count, taken, least)
                least = least or taken
            finally:
                relay.kill_all()
    table.note(f"From the first instruction to the ready line, {TENANTS:,} tenants, spend for each key. Goal: less than 5 s.")


def fill(relay, build, count):
    relay.state.mkdir()
    subprocess.run([build / "tests" / "bench" / "many_keys", relay.state, str(TENANTS), str(count)], timeout=LIMIT_S,
                   stdin=subprocess.DEVNULL, check=True)


def start(relay):
    began = time.monotonic()
    relay.spawn()
    while "tollgate: ready" not in relay.stdout:
        assert relay.process.poll() is None and time.monotonic() < began + LIMIT_S, relay.stderr[-2000:]
        time.sleep(0.005)
    return time.monotonic() - began


def show(table, relay, count, taken, least):
    name = f"{count:,} keys"
    table.row(f"{name}: ready after", taken, "s", *(("with 1,000 keys", least) if least else ()))
    table.row(f"{name}: the segment", (relay.state / "segment").stat().st_blocks * 512 / 2 ** 20, "MiB")
    status = relay.status()
    table.row(f"{name}: a worker's resident memory", processes.resident_bytes(status["workers"][0]["pid"]) / 2 ** 20, "MiB")
    table.row(f"{name}: the ledger's, shared pages and page cache", processes.resident_bytes(status["ledger"]["pid"]) / 2 ** 20,
              "MiB")
    began = time.monotonic()
    relay.create_key("tenant0")
    table.row(f"{name}: key create, by the command line", time.monotonic() - began, "s")
