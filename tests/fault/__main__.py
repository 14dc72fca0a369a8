"""The fault test: load, faults and SIGKILLs in rounds, and after each the books against what clients and provider saw."""

import argparse
import collections
import json
import logging
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as tree
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "process")]

from fault import books  # noqa: E402
from fault.clients import Load  # noqa: E402
from fault.killer import Killer, adopt_orphans  # noqa: E402
from fault.plan import BUDGET_KEY  # noqa: E402
from fault.provider import Provider  # noqa: E402
from harness import config, paths  # noqa: E402
from harness.relay import Relay  # noqa: E402
from harness.wait import SLOWNESS, until  # noqa: E402
from mock import Mock  # noqa: E402
from mock.tally import Tally  # noqa: E402

KILLS_A_ROUND = 40
REQUESTS_A_ROUND = 8000
SHOWN_MOST = 6
RUN_CHECKS = ("i2_verify_finds_the_books_right", "i2_reports_equal_the_records", "i2_balances_equal_the_ledgers",
              "i3_gauges_are_zero_when_idle", "the_provider_knows_every_request", "the_server_stops_cleanly")
# Keys of the load: name, share, options. The last two meet their limits all the time.
KEYS = (("plain", 10, ()), ("second", 4, ()), (BUDGET_KEY, 3, ()),
        ("narrow", 2, ("--concurrent", "6")), ("slow", 1, ("--rpm", "300", "--tpm", "2000000")))


def options():
    parser = argparse.ArgumentParser(prog="./dev fault", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--seed", type=int, default=None, help="of requests and kills; printed, else chosen")
    parser.add_argument("--clients", type=int, default=120)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--budget", default="0.05", help="USD of the key that has one, a fresh key each round")
    parser.add_argument("--junit", help="writes the results there")
    parser.add_argument("--keep", action="store_true", help="keeps the state directory of a good run too")
    return parser.parse_args()


def own_port():
    """A port of a range no other test uses: ours must not be taken while the server is down between two starts."""
    for port in random.SystemRandom().sample(range(24000, 32000), 50):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise AssertionError("no free port")


def settings_of(mock, workers, on_disconnect):
    changes = {
        "listen": [{"address": f"127.0.0.1:{own_port()}"}], "admin": {"address": f"127.0.0.1:{own_port()}"},
        "workers": workers, "drain_timeout": "2s", "log": {"access": "off"}, "streams": {"on_disconnect": on_disconnect},
        "retry": {"attempts": 3, "base": "5ms", "max": "50ms"},
        "upstreams": {"mock": {"timeouts": {"first_byte": "10s", "idle": "5s"}}, "one": None, "two": None,
                      "impatient": None, "refusing": None},
        "models": {name: None for name in ("large-model", "impatient-model", "refused-model", "two-routes", "with-fallback")},
    }
    return config.merged(config.base(mock), changes)


class Run:
    """One run of the fault test."""

    def __init__(self, chosen):
        self.chosen = chosen
        self.seed = chosen.seed if chosen.seed is not None else random.SystemRandom().randrange(10**6)
        self.on_disconnect = random.Random(f"settings {self.seed}").choice(("cancel", "drain"))
        self.directory = Path(tempfile.mkdtemp(prefix="tollgate-fault-"))
        self.tally, self.plans = Tally(), {}
        self.provider = Provider(self.plans, self.tally)
        self.mock = Mock(self.provider).start()
        self.relay = Relay(self.directory, settings_of(self.mock, chosen.workers, self.on_disconnect))
        self.gauges_tool = paths.BINARY.parent / "tests" / "fault" / "segment_gauges"
        self.killer = Killer(self.relay, self.seed)
        self.load = None
        self.violations = []
        self.ids = set()
        self.ends, self.transports = collections.Counter(), collections.Counter()
        self.records = self.estimated = 0
        self.rounds = 0

    def prepare(self):
        self.relay.start()
        tenant = self.relay.create_tenant("load")
        keys = {}
        for name, _, limits in KEYS:
            keys[name] = self.relay.create_key(tenant, "--name", name, *limits) if name != BUDGET_KEY else ""
        self.load = Load(self.mock.loop, self.seed, keys, [(name, share) for name, share, _ in KEYS], self.relay.port,
                         self.plans, self.chosen.clients)

    def work(self):
        """Rounds until the time is over, or one has found something."""
        self.began_at = time.monotonic()
        ends_at = self.began_at + self.chosen.minutes * 60
        while not self.violations and (self.rounds == 0 or time.monotonic() < ends_at):
            self.round(ends_at)

    def round(self, ends_at):
        began = datetime.now(timezone.utc)  # nothing runs: all records from here on are this round's
        kills = 0
        budget_key = self.make_budget_key()
        self.load.start()
        while kills < KILLS_A_ROUND and len(self.load.outcomes) < REQUESTS_A_ROUND and \
                (kills < 5 or time.monotonic() < ends_at):
            self.killer.pause()
            self.killer.kill_something()
            kills += 1
        self.load.pause()
        self.killer.settle()
        until(lambda: self.load.is_idle, "the end of all requests", 60 * SLOWNESS)
        gauges = self.rest()
        self.check(began, gauges, {budget_key: Decimal(self.chosen.budget)})
        self.rounds += 1

    def make_budget_key(self):
        """Puts a fresh key into the load; gives its id."""
        name = f"{BUDGET_KEY}-{self.rounds}"
        window = ("day", "month", "total")[self.rounds % 3]
        self.load.keys[BUDGET_KEY] = self.relay.create_key("load", "--name", name, "--budget", self.chosen.budget,
                                                           "--per", window)
        return self.relay.json("key", "show", name)["id"]

    def rest(self):
        """Waits until the gauges are zero; gives those that stay."""
        seen = {}

        def at_rest():
            done = subprocess.run([self.gauges_tool, self.relay.state], capture_output=True, text=True, timeout=30,
                                  stdin=subprocess.DEVNULL)
            assert done.returncode == 0, done.stderr
            seen["last"] = json.loads(done.stdout)
            return not books.gauge_violations(seen["last"])
        try:
            until(at_rest, "zero gauges", 4 * SLOWNESS)
        except AssertionError:
            pass
        return seen["last"]

    def check(self, began, gauges, budgets):
        outcomes = self.load.take_outcomes()
        records = self.relay.records("--from", began.isoformat().replace("+00:00", "Z"))
        self.count(outcomes, records)
        told = books.Round(outcomes, records, self.tally, budgets, self.ids)
        found = books.violations(told) + books.gauge_violations(gauges) + list(self.check_store(records))
        if self.provider.strangers:
            found.append(books.Violation("the_provider_knows_every_request", "-", f"{self.provider.strangers} strangers"))
        self.violations = found
        if found:
            self.tell(found, told)
        self.ids.update(record["id"] for record in records)
        self.tally.clear()
        self.plans.clear()
        self.mock.exchanges.clear()

    def check_store(self, records):
        verified = self.relay.cli("verify")
        if verified.code != 0:
            yield books.Violation("i2_verify_finds_the_books_right", "-", f"{verified.out} {verified.err}"[:2000])
        total = self.relay.json("usage")["total"]
        known = len(self.ids | {record["id"] for record in records})
        if total["requests"] != known:
            yield books.Violation("i2_reports_equal_the_records", "-",
                                  f"usage has {total['requests']} requests, the rounds found {known} ids")

    def count(self, outcomes, records):
        self.ends.update("ended by budget" if books.is_cut_by_budget(outcome) else outcome.end for outcome in outcomes)
        self.transports.update(outcome.transport for outcome in outcomes)
        self.records += len(records)
        self.estimated += sum(record["estimated"] for record in records)

    def tell(self, found, told):
        """Prints each violation with the story of its request."""
        print(f"\n{len(found)} violations (seed {self.seed}):")
        for check, group in group_by_check(found).items():
            print(f"\n{check}: {len(group)}")
            for violation in group[:SHOWN_MOST]:
                print(f"  {violation.id}: {violation.what}")
                outcome = told.outcomes.get(violation.id)
                if outcome is None:
                    continue
                print(f"    client   {outcome}")
                print(f"    record   {[dict(record) for record in told.records.get(violation.id, [])]}")
                print(f"    provider {self.tally.of(violation.id)}")
                for line in self.killer.during(outcome.began_at, outcome.ended_at):
                    print(f"    kill     {line}")

    def finish(self):
        try:
            self.relay.stop()
        except AssertionError as error:
            self.violations.append(books.Violation("the_server_stops_cleanly", "-", str(error)))
            print(f"the server does not stop cleanly: {error}")
        if self.load.faults or self.mock.faults:
            self.violations.append(books.Violation("the_test_itself_works", "-", str(self.load.faults + self.mock.faults)))
            print(f"mistakes of the test itself: {(self.load.faults + self.mock.faults)[:3]}")

    def summary(self):
        took_s = time.monotonic() - self.began_at
        kills = sum(self.killer.counts.values())
        print(f"\nfault test: seed {self.seed}, {took_s:.0f} s, {self.rounds} rounds, {self.chosen.workers} workers, "
              f"on_disconnect {self.on_disconnect}")
        print(f"  kills     {kills} ({kills / took_s * 3600:.0f} an hour): "
              + ", ".join(f"{kind} {count}" for kind, count in sorted(self.killer.counts.items())))
        print(f"  requests  {sum(self.ends.values())} by {dict(self.transports)}, at most {self.load.most_busy} at once: "
              + ", ".join(f"{end} {count}" for end, count in sorted(self.ends.items()))
              + f"; {self.load.unsent} found nobody listening")
        print(f"  records   {self.records}, of which estimated {self.estimated}")
        print("  back in   " + ", ".join(f"{kind} {seconds:.2f} s" for kind, seconds in sorted(self.killer.worst.items()))
              + f" (worst); longest time without an answer {self.load.longest_silence_s:.2f} s")
        print(f"  result    {len(self.violations)} violations"
              + (f"; state and logs kept in {self.directory}" if self.violations or self.chosen.keep else ""))

    def write_junit(self):
        names = [check.__name__.removeprefix("check_") for check in books.CHECKS] + list(RUN_CHECKS)
        by_check = group_by_check(self.violations)
        suite = tree.Element("testsuite", name="fault")
        for name in dict.fromkeys(names + list(by_check)):
            case = tree.SubElement(suite, "testcase", classname="fault", name=name)
            if name in by_check:
                tree.SubElement(case, "failure").text = "\n".join(f"{item.id}: {item.what}" for item in by_check[name][:50])
        tree.ElementTree(suite).write(self.chosen.junit, encoding="unicode")

    def clean(self):
        if self.relay.process is not None and self.relay.process.poll() is None:
            self.relay.kill_all()
        if not self.violations and not self.chosen.keep:
            shutil.rmtree(self.directory, ignore_errors=True)


def group_by_check(found):
    groups = collections.defaultdict(list)
    for violation in found:
        groups[violation.check].append(violation)
    return groups


def main():
    chosen = options()
    adopt_orphans()
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of writes to connections that were killed
    run = Run(chosen)
    print(f"fault test: seed {run.seed}, state in {run.directory}", flush=True)
    try:
        run.prepare()
        run.work()
        run.finish()
    except BaseException:
        run.violations = run.violations or [books.Violation("the_test_itself_works", "-", "it was cut short")]
        print(f"cut short (seed {run.seed}); state and logs in {run.directory}", file=sys.stderr)
        raise
    finally:
        if chosen.junit:
            run.write_junit()
        run.clean()
    run.summary()
    return 1 if run.violations else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # the loop's thread has clients that wait for ever
