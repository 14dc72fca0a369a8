"""Limits that change while the server runs, and while requests wait for them; and refusals that say truly when."""

import secrets
import signal
import time

import pytest

from harness import config
from harness.wait import until
from mock import behaviour
from test_u_queue import line_up, waiting

NARROW = {"narrow": {"concurrent": 1, "max_wait": "60s"}}


def new_tenant(relay, *options):
    tenant = f"tenant-{secrets.token_hex(6)}"
    relay.create_tenant(tenant, *options)
    return tenant


@pytest.fixture
def line(own_relay, mock):
    """One stream that uses a key's only place, and one request that waits behind it."""
    relay = own_relay({"tiers": NARROW})
    tenant = new_tenant(relay, "--tier", "narrow")
    key = relay.create_key(tenant)
    pace = mock.pace()
    first = mock.case(behaviour.stream("a", "b", pace=pace))
    case = mock.case(behaviour.chat())
    stream = relay.stream_after(key, first, pace, 1)
    asker = line_up(relay, key, case, 1)[0]
    yield relay, tenant, key, case, asker, (stream, pace)
    pace.open()
    stream.close()


@pytest.mark.parametrize("what, action, status, code", [
    ("key", "revoke", 401, "invalid_api_key"), ("key", "disable", 403, "key_disabled"),
    ("tenant", "disable", 403, "key_disabled")])
def test_who_waits_is_refused_once_its_key_is(line, what, action, status, code):
    relay, tenant, key, case, asker, _ = line
    relay.ok(what, action, key if what == "key" else tenant)
    answer = asker.result()
    assert (answer.status, answer.json()["error"]["code"]) == (status, code)
    assert case.count == 0 and waiting(relay) == 0


def test_who_waits_is_served_once_its_limit_is_raised(line):
    relay, tenant, _, _, asker, _ = line
    relay.ok("tenant", "update", tenant, "--concurrent", "2")
    assert asker.result().status == 200


def test_a_wait_ends_when_a_reload_ends_max_wait(line):
    relay, _, _, case, asker, _ = line
    relay.write_config({**relay.settings, "tiers": {"narrow": {"concurrent": 1}}})
    relay.ok("reload")
    answer = asker.result()
    assert answer.status == 429 and answer.json()["error"]["code"] == "rate_limit_exceeded"
    assert case.count == 0 and waiting(relay) == 0


def test_the_end_of_the_server_lets_who_waits_be_served(line):
    relay, _, _, _, asker, (stream, pace) = line
    relay.signal(signal.SIGTERM)
    until(lambda: relay.get_or_none("/readyz") in (None, 503), "the server to drain")
    pace.open()
    stream.drain()
    assert asker.result().status == 200
    assert relay.wait_exit() == 0


def statuses(relay, key, case, count, model="test-model"):
    return [relay.chat(key, case.body(model)).status for _ in range(count)]


def test_a_tier_changes_by_reload(own_relay, mock):
    relay = own_relay({"workers": 4, "tiers": {"free": {"rpm": 2, "models": ["other-model"]}}})
    key = relay.create_key(new_tenant(relay, "--tier", "free"))
    case = mock.case(behaviour.chat())
    assert statuses(relay, key, case, 4, "other-model") == [200, 200, 429, 429]
    assert statuses(relay, key, case, 1) == [403]
    relay.write_config({**relay.settings, "tiers": {"free": {"concurrent": 4, "models": ["test-model"]}}})
    relay.ok("reload")
    assert statuses(relay, key, case, 8) == [200] * 8
    assert statuses(relay, key, case, 4, "other-model") == [403] * 4


def test_updates_hold_for_the_next_request(own_relay, mock):
    relay = own_relay({"workers": 4, "tiers": {"free": {"rpm": 2}, "pro": {"rpm": 1000}}})
    tenant = new_tenant(relay, "--tier", "free")
    key = relay.create_key(tenant)
    case = mock.case(behaviour.chat())
    assert statuses(relay, key, case, 3) == [200, 200, 429]
    relay.ok("tenant", "update", tenant, "--tier", "pro")
    assert statuses(relay, key, case, 8) == [200] * 8
    relay.ok("key", "update", key, "--rpm", "1")
    assert statuses(relay, key, case, 2) == [200, 429]
    relay.ok("key", "update", key, "--rpm", "4")
    assert statuses(relay, key, case, 4) == [200, 200, 200, 429]
    relay.ok("key", "update", key, "--rpm", "2")  # what was used before counts, as so many requests
    assert statuses(relay, key, case, 2) == [429, 429]
    relay.ok("key", "update", key, "--rpm", "1000", "--models", "other-model")
    assert statuses(relay, key, case, 4) == [403] * 4
    assert statuses(relay, key, case, 4, "other-model") == [200] * 4


def test_an_upstreams_limit_changes_by_reload(own_relay, mock):
    limited = config.merged(config.base(mock), {"upstreams": {"mock": {"limits": {"rpm": 3}}}})
    relay = own_relay({"workers": 4, "upstreams": limited["upstreams"]})
    key = relay.create_key(new_tenant(relay))
    case = mock.case(behaviour.chat())
    assert statuses(relay, key, case, 5) == [200, 200, 200, 429, 429]
    relay.write_config(config.merged(relay.settings, {"upstreams": {"mock": {"limits": {"rpm": 6000}}}}))
    relay.ok("reload")
    assert statuses(relay, key, case, 8) == [200] * 8


@pytest.mark.parametrize("limit, word", [({"rpm": 1}, "requests"), ({"tpm": 60}, "tokens")])
def test_an_upstreams_limit_is_named(own_relay, mock, limit, word):
    limited = config.merged(config.base(mock), {"upstreams": {"mock": {"limits": limit}}})
    relay = own_relay({"upstreams": limited["upstreams"]})
    key = relay.create_key(new_tenant(relay))
    case = mock.case(behaviour.chat())
    answers = [relay.chat(key, case.body(max_tokens=40)) for _ in range(4)]
    refused = [answer for answer in answers if answer.status != 200]
    assert refused and refused[-1].status == 429
    assert f"The {word} limit of the upstream" in refused[-1].json()["error"]["message"]


def test_the_same_request_succeeds_after_retry_after(own_relay, mock):
    """Key, tenant and model each have a limit of their own; a refusal counts all that are in the way."""
    relay = own_relay({"streams": {"reserve_slice": 64},
                       "models": {"test-model": config.model("mock", limits={"rpm": 200, "tpm": 30000})}})
    tenant = new_tenant(relay, "--rpm", "240", "--tpm", "24000")
    key = relay.create_key(tenant, "--rpm", "220", "--tpm", "27000")
    case = mock.case(behaviour.chat())
    refusals = 0
    deadline = time.monotonic() + 60
    while refusals < 5 and time.monotonic() < deadline:
        answer = relay.chat(key, case.body())
        if answer.status == 429:
            refusals += 1
            time.sleep(int(answer.headers["retry-after-ms"]) / 1000)
            assert relay.chat(key, case.body()).status == 200
    assert refusals == 5


def test_of_several_budgets_the_last_to_free_is_named(own_relay, mock):
    relay = own_relay()
    tenant = new_tenant(relay, "--budget", "0.0001", "--per", "month")
    key = relay.create_key(tenant, "--budget", "0.00005", "--per", "day")
    case = mock.case(behaviour.chat())
    answer = relay.chat(key, case.body(max_tokens=4096))
    assert answer.status == 429 and answer.json()["error"]["code"] == "insufficient_quota"
    assert "more than the whole" in answer.json()["error"]["message"]
    assert answer.headers["x-should-retry"] == "false" and "retry-after" not in answer.headers
    for _ in range(20):
        answer = relay.chat(key, case.body(max_tokens=3))
        if answer.status == 429:
            break
    assert answer.status == 429 and answer.headers["x-should-retry"] == "false"
