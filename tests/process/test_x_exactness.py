"""Limits and budgets are exact: over all workers, under load, whoever leaves or dies (invariants I3, I4, I5).

A request is admitted between the moment its client sends it and the moment the mock has it. So what was sent after one
moment and had arrived by another was admitted in between: those counts have bounds without any tolerance."""

import asyncio
import json
import os
import random
import secrets
import select
import signal
import subprocess
import threading
import time
from decimal import Decimal

import pytest

from harness import config, paths, processes
from harness.http1 import Broken
from harness.relay import CHAT, bearer
from harness.wait import until
from mock import behaviour, openai

WORKERS = (1, 2, 8)
OUTPUT_USD = Decimal("8") / 1_000_000
INPUT_USD = Decimal("2") / 1_000_000


def gauges(relay):
    """What of the segment should be zero when nothing runs."""
    done = subprocess.run([paths.BINARY.parent / "tests" / "fault" / "segment_gauges", relay.state], capture_output=True,
                          text=True, timeout=30, check=True)
    return json.loads(done.stdout)


def assert_nothing_held(relay):
    def at_rest():
        found = gauges(relay)
        return not found["accounts"] and found["live_slots"] == 0 and found["held_by_slots_nusd"] == 0
    until(at_rest, "no gauge and no money held")


def run_together(count, work):
    """Runs work(number) in so many threads and gives back what they raised first."""
    failures = []

    def guarded(number):
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
            failures.append(error)
    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


# --- rates (I5) ---

RPM, WINDOWS, WINDOW_S = 600, 30, 0.2
RATE = RPM / 60


def hammer(relay, key, case, until_at, sent, refused):
    """Asks over one connection, again and again; notes when each request was sent, or from when to when it was refused."""
    with relay.connect() as connection:
        while time.monotonic() < until_at:
            number = secrets.token_hex(8)
            began = time.monotonic()
            answer = connection.request("POST", CHAT, bearer(key, {"x-request-id": number}), case.body(user=number))
            if answer.status == 200:
                sent[number] = began
            else:
                assert answer.status == 429 and answer.error["code"] == "rate_limit_exceeded", answer.body
                refused.append((began, time.monotonic()))
                time.sleep(0.004)


@pytest.mark.parametrize("workers, level", [(1, "key"), (2, "key"), (8, "key"), (8, "tenant")])
def test_I5_every_window_admits_its_rate_exactly(own_relay, mock, workers, level):
    relay = own_relay({"workers": workers})
    limit = ("--rpm", str(RPM))
    keys = [relay.create_key(relay.create_tenant("t", *(limit if level == "tenant" else ())),
                             *(limit if level == "key" else ()))]
    keys += [relay.create_key("t")] if level == "tenant" else []
    case = mock.case(behaviour.chat("x"))
    sent, refused = {}, []
    until_at = time.monotonic() + WINDOWS * WINDOW_S + 2
    run_together(8, lambda number: hammer(relay, keys[number % len(keys)], case, until_at, sent, refused))
    arrived = {exchange.json()["user"]: exchange.began_at for exchange in case.exchanges}
    assert set(arrived) == set(sent), "what was admitted is what the mock has seen"
    check_rate(sent, arrived, refused)


def check_rate(sent, arrived, refused):
    first = min(arrived.values())
    last_refused = max(began for began, _ in refused)
    assert last_refused - first > WINDOWS * WINDOW_S / 2, "the limit was reached for most of the time"
    # At a refusal less than one permit was left: everything that came back until then had been taken.
    assert len([1 for at in arrived.values() if at <= max(end for _, end in refused)]) \
        >= int(RPM + (last_refused - first) * RATE) - 1
    moments = [min(sent.values()) + window * WINDOW_S for window in range(WINDOWS + 1)]
    for begin in moments:
        for end in [moment for moment in moments if moment > begin]:
            inside = sum(1 for name, at in arrived.items() if sent[name] >= begin and at <= end)
            assert inside <= RPM + (end - begin) * RATE
            before = [(began, ended) for began, ended in refused if ended <= begin]
            if before:  # less than one permit was left at that refusal, and time alone has brought more since
                since, known = before[-1]
                inside = sum(1 for name, at in arrived.items() if sent[name] >= known and at <= end)
                assert inside < 1 + (end - since) * RATE


@pytest.mark.parametrize("workers", WORKERS)
def test_I5_upstream_rates_hold_over_all_workers(own_relay, mock, workers):
    """A burst larger than the upstream's allowance: no more than that and the refill reach it."""
    changes = {"workers": workers, "upstreams": {"mock": {"limits": {"rpm": 60}}}, "retry": {"attempts": 1}}
    relay = own_relay(changes)
    key = relay.create_key(relay.create_tenant("t"))
    case = mock.case(behaviour.chat("x"))
    began = time.monotonic()

    def ask(_):
        for _ in range(15):
            assert relay.chat(key, case.body()).status in (200, 429, 503)
    run_together(8, ask)
    assert 60 <= case.count <= 60 + (case.last.began_at - began)


# --- requests at once ---

class Crowd:
    """Counts the mock's requests in progress. One whose peer has closed its connection is over, whatever of it the mock
    still has to notice."""

    def __init__(self):
        self.present, self.most, self.seen = set(), 0, 0

    def _still_wanted(self):
        poller = select.poll()
        for exchange in self.present:
            poller.register(exchange.connection.sock, select.POLLRDHUP)
        return len(self.present) - len(poller.poll(0))

    def answering(self, pause_s):
        async def answer(exchange):
            self.present.add(exchange)
            self.seen += 1
            if len(self.present) > self.most:
                self.most = max(self.most, self._still_wanted())
            try:
                body = json.dumps(openai.completion("m", "x", openai.usage())).encode()
                await exchange.head(length=len(body))
                await asyncio.sleep(random.uniform(0, pause_s))
            finally:
                self.present.discard(exchange)  # before the last byte: then the relay may already send the next
            await exchange.part(body)
        return answer


@pytest.mark.parametrize("level", ["key", "tenant", "upstream"])
@pytest.mark.parametrize("workers", WORKERS)
def test_no_eleventh_of_ten_at_once(own_relay, mock, workers, level):
    upstream = {"mock": {"limits": {"concurrent": 10}}} if level == "upstream" else {}
    relay = own_relay({"workers": workers, "upstreams": upstream, "retry": {"attempts": 1}})
    limit = ("--concurrent", "10")
    relay.create_tenant("t", *(limit if level == "tenant" else ()))
    keys = [relay.create_key("t", *(limit if level == "key" else ())) for _ in range(1 if level == "key" else 2)]
    crowd = Crowd()
    case = mock.case(crowd.answering(0.03))

    def ask(number):
        for turn in range(25):
            if turn % 5 == 4:  # leaves at once, or a little later
                stream = relay.connect()
                stream.send("POST", CHAT, bearer(keys[number % len(keys)]), case.body())
                time.sleep(random.uniform(0, 0.02))
                stream.reset() if turn % 2 else stream.close()
            else:
                assert relay.chat(keys[number % len(keys)], case.body()).status in (200, 429, 503)
    run_together(30, ask)
    assert crowd.most == 10 and crowd.seen > 40
    assert_nothing_held(relay)


# --- money (I3, I4) ---

def total_price(relay):
    return sum((record["price_usd"] for record in relay.records("--last", "100000")), Decimal(0))


@pytest.mark.parametrize("workers", WORKERS)
def test_I4_a_budget_for_K_requests_admits_them(own_relay, mock, workers):
    relay = own_relay({"workers": workers})
    requests = 100
    price = 5 * INPUT_USD + 50 * OUTPUT_USD
    key = relay.create_key(relay.create_tenant("t"), "--budget", str(price * requests), "--per", "total")
    case = mock.case(behaviour.chat("x", counts=openai.usage(prompt=5, completion=50)))
    statuses = []

    def ask(_):
        while statuses.count(200) < requests - 10 and len(statuses) < 20 * requests:
            statuses.append(relay.chat(key, case.body(max_tokens=50)).status)
    run_together(64, ask)
    while statuses[-2:] != [429, 429]:  # alone: whatever is refused now, the money is gone
        statuses.append(relay.chat(key, case.body(max_tokens=50)).status)
    assert set(statuses) == {200, 429}
    assert requests - 1 <= statuses.count(200) <= requests
    assert statuses.count(200) == case.count
    assert_nothing_held(relay)
    assert total_price(relay) == case.count * price <= price * requests


def whole_status(relay):
    """The status once two workers and a ledger run, else None."""
    result = relay.cli("status", "--json")
    status = result.json() if result.code == 0 else None
    whole = status and len(status["workers"]) == 2 and processes.is_alive(status["ledger"]["pid"] or 0)
    return status if whole else None


def kill_in_turn(relay, kills):
    """SIGKILLs two workers, then the ledger, and so on."""
    for turn in range(kills):
        status = until(lambda: whole_status(relay), "two workers and a ledger")
        victim = status["ledger"]["pid"] if turn % 3 == 2 else random.choice(status["workers"])["pid"]
        os.kill(victim, signal.SIGKILL)
        until(lambda: not processes.is_alive(victim), "the victim's end")


def test_I4_budgets_hold_while_clients_leave_and_processes_die(own_relay, mock):
    relay = own_relay()
    budget = Decimal("0.1")
    key = relay.create_key(relay.create_tenant("t"), "--budget", str(budget), "--per", "total")
    cases = []
    for size in (1, 3, 20, 90):
        words = [f"word{number} " for number in range(size)]
        cases.append((mock.case(behaviour.chat(*words, counts=openai.usage(prompt=9, completion=size))), False))
        cases.append((mock.case(behaviour.stream(*words, interval_s=0.002)), True))
    ended = threading.Event()

    def ask_once():
        case, streams = random.choice(cases)
        with relay.connect() as connection:
            connection.send("POST", CHAT, bearer(key), case.body(stream=streams, max_tokens=100))
            if random.random() < 0.2:
                time.sleep(random.uniform(0, 0.03))
                connection.reset()
                return
            answer = connection.head()
            assert answer.status in (200, 429, 503), answer.status
            for _ in connection.body_of(answer):
                if random.random() < 0.02:
                    return

    def ask(_):
        while not ended.is_set():
            try:
                ask_once()
            except (Broken, OSError):
                pass

    def kill_or_ask(number):
        if number < 64:
            ask(number)
            return
        try:
            kill_in_turn(relay, 9)
        finally:
            ended.set()
    run_together(65, kill_or_ask)
    until(lambda: relay.get_or_none("/healthz"), "a worker that serves")
    assert_nothing_held(relay)
    assert total_price(relay) <= budget
    last = mock.case(behaviour.chat("x", counts=openai.usage(prompt=9, completion=100)))
    while relay.chat(key, last.body(max_tokens=100)).status == 200:
        pass
    assert_nothing_held(relay)
    # What is left is less than one more request may cost (its prompt estimated): nothing was lost.
    assert budget - (40 * INPUT_USD + 100 * OUTPUT_USD) < total_price(relay) <= budget
    assert relay.cli("verify").code == 0


def test_forty_large_caps_on_25_dollars_are_all_served(own_relay, mock):
    """Their caps would cost 38.40 USD, their answers cost 0.30 USD: none is refused, though all run at once."""
    dear = config.model({"upstream": "mock"}, max_output=64000, context=200000, price={"input": 3, "output": 15})
    relay = own_relay({"models": {"dear": dear}})
    key = relay.create_key(relay.create_tenant("t"), "--budget", "25", "--per", "month")
    pace = mock.pace()
    counts = openai.usage(prompt=10, completion=500)
    case = mock.case(behaviour.stream(*["word "] * 500, counts=counts, pace=pace))
    ends = []

    def ask(_):
        with relay.stream(key, case.body(model="dear", max_tokens=64000)) as stream:
            assert stream.status == 200, stream.status
            ends.append(stream.drain()[-1].is_done)

    def let_go():
        until(lambda: case.count == 40, "all forty at the mock")
        pace.open()
        for _ in range(40):
            pace.release(500)
    letting = threading.Thread(target=let_go)
    letting.start()
    run_together(40, ask)
    letting.join()
    assert ends == [True] * 40
    assert_nothing_held(relay)
    assert total_price(relay) == 40 * (10 * Decimal(3) + 500 * Decimal(15)) / 1_000_000


@pytest.mark.parametrize("streams", [1, 8])
def test_runaway_streams_stop_within_a_slice_of_the_limit(own_relay, mock, streams):
    slice_tokens = 256
    relay = own_relay({"streams": {"reserve_slice": slice_tokens},
                       "models": {"test-model": {"max_output": 1_000_000, "context": 2_000_000}}})
    budget = Decimal("0.04")
    key = relay.create_key(relay.create_tenant("t"), "--budget", str(budget), "--per", "total")
    case = mock.case(behaviour.stream(*[f"word{number} " for number in range(20000)]))

    def ask(_):
        with relay.stream(key, case.body()) as stream:
            if stream.status == 200:
                events = stream.drain()
                assert events[-1].is_done, "it ends cleanly"
                assert [e.json()["choices"][0]["finish_reason"] for e in events[:-1] if e.json()["choices"]][-1] == "length"
            else:
                assert stream.status == 429
    run_together(streams, ask)
    assert_nothing_held(relay)
    assert budget - slice_tokens * OUTPUT_USD < total_price(relay) <= budget
    until(lambda: all(exchange.client_left for exchange in case.exchanges), "the upstream's connections to close")


# --- nothing is taken for what is refused ---

BAD_NUMBERS = [("max_tokens", -1), ("max_tokens", 0), ("max_tokens", "1e308"), ("max_tokens", '"100"'),
               ("max_tokens", "1.5"), ("max_tokens", 10**30), ("max_completion_tokens", -1),
               ("max_completion_tokens", "1e308"), ("n", 1000), ("n", 0), ("n", -1), ("n", "1e308"), ("n", '"2"')]


def test_a_refused_body_takes_nothing(own_relay, mock):
    relay = own_relay()
    relay.create_tenant("t", "--rpm", "50", "--tpm", "100000", "--concurrent", "1", "--budget", "1", "--per", "day")
    key = relay.create_key("t", "--rpm", "40", "--tpm", "90000", "--concurrent", "1", "--budget", "0.5", "--per", "total")
    case = mock.case(behaviour.chat("x"))
    before = relay.get("/v1/key", key).json()["remaining"]
    for field, value in BAD_NUMBERS:
        for stream in (False, True):
            body = json.dumps(case.body(stream=stream))[:-1] + f', "{field}": {value}}}'
            answer = relay.request("POST", CHAT, key, {"content-type": "application/json"}, body.encode())
            assert (answer.status, answer.error["param"]) == (400, field), (field, value, answer.body)
            assert gauges(relay)["accounts"] == []
    assert relay.get("/v1/key", key).json()["remaining"] == before
    assert case.count == 0 and relay.records() == []
    assert relay.chat(key, case.body(max_tokens=10)).status == 200


# --- sizes ---

def test_keys_beyond_the_capacity_are_refused_by_name(own_relay):
    relay = own_relay({"capacity": {"keys": 16, "tenants": 16}})
    relay.create_tenant("t")
    keys = [relay.create_key("t", "--models", "test-model") for _ in range(16)]
    refused = relay.cli("key", "create", "--tenant", "t")
    assert refused.code == 1 and "capacity.keys" in refused.err and "restart" in refused.err
    # A reload does not make the tables larger: it must not pretend to.
    relay.write_config({**relay.settings, "capacity": {"keys": 4096, "tenants": 4096}})
    relay.ok("reload")
    for _ in range(2):
        refused = relay.cli("key", "create", "--tenant", "t")
        assert refused.code == 1 and "capacity.keys" in refused.err and "restart" in refused.err
    for number in range(15):
        relay.create_tenant(f"t{number}")
    refused = relay.cli("tenant", "create", "one-too-many")
    assert refused.code == 1 and "capacity.tenants" in refused.err
    relay.stop()
    relay.start()
    keys.append(relay.create_key("t"))
    relay.create_tenant("one-more")
    assert all(relay.get("/v1/models", key).status == 200 for key in keys)
    # And with less room than it needs it does not start, and says why.
    relay.stop()
    relay.write_config({**relay.settings, "capacity": {"keys": 16, "tenants": 16}})
    relay.spawn()
    assert relay.wait_exit() != 0 and "capacity." in relay.stderr + relay.stdout
