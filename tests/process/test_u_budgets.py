"""Budgets and credit: money is held before it is spent, and never overspent (invariant I4)."""

import secrets
import threading
from decimal import Decimal

import pytest

from harness.wait import until
from mock import behaviour, openai

WORDS = [f"word{number} " for number in range(400)]
OUTPUT_USD = Decimal("8") / 1_000_000
INPUT_USD = Decimal("2") / 1_000_000


@pytest.fixture
def spender(relay):
    """Makes a key of a fresh tenant with these key options."""
    def make(*key_options, tenant_options=()):
        name = f"spender-{secrets.token_hex(6)}"
        relay.create_tenant(name, *tenant_options)
        return relay.create_key(name, *key_options)

    return make


def spent(relay, key):
    return Decimal(str(relay.get("/v1/key", key).json()["spend_usd"]["total"]))


def test_a_stream_ends_cleanly_when_the_money_does(relay, mock, spender):
    budget = Decimal("0.001")
    key = spender("--budget", str(budget), "--per", "day")
    case = mock.case(behaviour.stream(*WORDS))
    with relay.stream(key, case.body(stream_options={"include_usage": True})) as stream:
        events = stream.drain()
    assert events[-1].is_done
    chunks = [event.json() for event in events[:-1]]
    assert [c["choices"][0]["finish_reason"] for c in chunks if c["choices"]][-1] == "length"
    assert chunks[-1]["choices"] == [] and Decimal(str(chunks[-1]["usage"]["cost"])) <= budget
    assert len({chunk["id"] for chunk in chunks}) == 1
    record = relay.record(stream.id)
    assert record["finish_reason"] == "length" and record["status"] == 200 and record["estimated"]
    assert budget * Decimal("0.9") < record["price_usd"] <= budget
    assert record["price_usd"] == record["input_tokens"] * INPUT_USD + record["output_tokens"] * OUTPUT_USD
    refused = relay.chat(key, mock.case(behaviour.chat()).body(max_tokens=4000))
    assert refused.status == 429
    assert refused.json()["error"]["code"] == refused.json()["error"]["type"] == "insufficient_quota"
    assert refused.headers["x-should-retry"] == "false"
    assert "day budget" in refused.json()["error"]["message"]


def test_the_upstream_is_cancelled_when_the_money_ends(relay, mock, spender):
    key = spender("--budget", "0.001", "--per", "total")
    case = mock.case(behaviour.stream(*WORDS, interval_s=0.005))
    with relay.stream(key, case.body()) as stream:
        assert stream.drain()[-1].is_done
    until(lambda: case.last.client_left, "the upstream's connection to close")


def test_an_answer_that_does_not_stream_is_kept_affordable(relay, mock, spender):
    key = spender("--budget", "0.01", "--per", "month")
    case = mock.case(behaviour.chat("short"))
    assert relay.chat(key, case.body()).status == 200
    cap = case.last.json()["max_tokens"]
    assert 0 < cap * OUTPUT_USD <= Decimal("0.01") and cap < 4096


def test_an_answer_whose_cap_is_too_dear_is_refused(relay, mock, spender):
    key = spender("--budget", "0.01", "--per", "total")
    case = mock.case(behaviour.chat("short"))
    refused = relay.chat(key, case.body(max_tokens=4000))
    assert refused.status == 429 and refused.json()["error"]["type"] == "insufficient_quota"
    assert relay.chat(key, case.body(max_tokens=100)).status == 200
    assert case.count == 1


def test_a_budget_below_one_token_is_refused(relay, mock, spender):
    key = spender("--budget", "0.000001", "--per", "total")
    case = mock.case(behaviour.stream("a"))
    assert relay.chat(key, case.body(stream=True)).status == 429
    assert case.count == 0


def test_large_caps_do_not_starve_a_key_that_has_money(relay, mock, spender):
    key = spender("--budget", "1", "--per", "day")
    counts = openai.usage(prompt=10, completion=5)
    case = mock.case(behaviour.stream("a", "b", counts=counts, interval_s=0.05))
    statuses = []

    def ask():
        with relay.stream(key, case.body(max_tokens=64000)) as stream:
            stream.drain()
            statuses.append(stream.status)

    threads = [threading.Thread(target=ask) for _ in range(40)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert statuses == [200] * 40


def test_credit_runs_down_and_can_be_added(relay, mock, spender):
    key = spender(tenant_options=("--credit", "0.001"))
    counts = openai.usage(prompt=100, completion=90)
    case = mock.case(behaviour.chat("x", counts=counts))
    assert relay.chat(key, case.body(max_tokens=90)).status == 200
    refused = relay.chat(key, case.body(max_tokens=90))
    assert refused.status == 429 and "does not reset" in refused.json()["error"]["message"]
    tenant = relay.get("/v1/key", key).json()["tenant"]
    relay.ok("credit", "add", tenant, "1", "--ref", "invoice-1")
    assert relay.chat(key, case.body(max_tokens=90)).status == 200


@pytest.mark.parametrize("level", ["key", "tenant"])
def test_I4_many_clients_never_overspend(relay, mock, spender, level):
    counts = openai.usage(prompt=5, completion=50)  # fewer prompt tokens than the relay holds money for
    price = 5 * INPUT_USD + 50 * OUTPUT_USD
    admitted_most = 20
    budget = price * admitted_most
    options = ("--budget", str(budget), "--per", "total")
    key = spender(*options) if level == "key" else spender(tenant_options=options)
    case = mock.case(behaviour.chat("x", counts=counts))
    statuses = []

    def ask():
        for _ in range(3):
            statuses.append(relay.chat(key, case.body(max_tokens=50)).status)

    threads = [threading.Thread(target=ask) for _ in range(32)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    admitted = statuses.count(200)
    assert set(statuses) == {200, 429}
    assert admitted <= admitted_most
    relay.ok("usage")
    assert spent(relay, key) == admitted * price <= budget


def test_held_money_comes_back(relay, mock, spender):
    """I3: after refused, failed and finished requests nothing stays held: the whole rest can still be spent."""
    key = spender("--budget", "0.01", "--per", "total")
    failing = mock.case(behaviour.status(400))
    for _ in range(20):
        assert relay.chat(key, failing.body(max_tokens=900)).status == 400
    case = mock.case(behaviour.chat("x", counts=openai.usage(prompt=5, completion=1)))
    assert relay.chat(key, case.body(max_tokens=1000)).status == 200
