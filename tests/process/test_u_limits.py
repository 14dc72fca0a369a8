"""Limits of models and upstreams, what GET /v1/key says of them all, and the warning before a budget ends."""

import secrets
from decimal import Decimal

import pytest

from harness import config
from harness.wait import until
from mock import behaviour, openai
from test_u_queue import metric


@pytest.fixture(scope="module")
def limited(module_relay, mock):
    return module_relay({
        "models": {"limited-model": config.model("mock", limits={"rpm": 3}),
                   "single-model": config.model("mock", limits={"concurrent": 1}),
                   "limited-alias": {"alias": "limited-model"}},
        "retry": {"max": "200ms"}})


def new_key(relay, *options):
    tenant = f"tenant-{secrets.token_hex(6)}"
    relay.create_tenant(tenant)
    return relay.create_key(tenant, *options)


def test_a_model_limits_each_key(limited, mock):
    case = mock.case(behaviour.chat())
    for _ in range(2):
        key = new_key(limited)
        answers = [limited.chat(key, case.body(model)) for model in ("limited-model", "limited-alias", "limited-model",
                                                                     "limited-model", "limited-alias")]
        assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
        assert "requests limit of this key on this model" in answers[-1].json()["error"]["message"]
        assert int(answers[-1].headers["retry-after-ms"]) > 10000
        assert limited.chat(key, case.body("test-model")).status == 200


def test_a_models_gauge_frees_with_its_stream(limited, mock):
    key = new_key(limited)
    pace = mock.pace()
    case = mock.case(behaviour.stream("a", "b", pace=pace))
    pace.release(1)
    stream = limited.stream(key, case.body("single-model"))
    stream.take(1)
    other = mock.case(behaviour.chat())
    assert limited.chat(key, other.body("single-model")).status == 429
    pace.open()
    stream.drain()
    stream.close()
    until(lambda: limited.chat(key, other.body("single-model")).status == 200, "the gauge to be free")


def test_an_upstream_that_says_429_is_left_alone(limited, mock):
    """The next requests go to the other route, or wait, without asking it again."""
    key = new_key(limited)
    case = mock.case(behaviour.by_path(one=behaviour.status(429, headers=[("retry-after", "60")]),
                                       two=behaviour.chat()))
    assert [limited.chat(key, case.body("two-routes")).status for _ in range(4)] == [200] * 4
    asked = [exchange.target.split("/")[1] for exchange in case.exchanges]
    assert asked == ["one", "two", "two", "two", "two"]


def test_what_an_upstream_says_of_its_limits_is_learned(own_relay, mock):
    relay = own_relay()
    key = new_key(relay)
    headers = [("x-ratelimit-limit-requests", "100"), ("x-ratelimit-remaining-requests", "0"),
               ("x-ratelimit-reset-requests", "6m0s")]
    case = mock.case(behaviour.by_path(one=behaviour.chat("x", headers=headers), two=behaviour.chat("y")))
    assert [relay.chat(key, case.body("two-routes")).status for _ in range(3)] == [200] * 3
    assert [exchange.target.split("/")[1] for exchange in case.exchanges] == ["one", "two", "two"]


def test_what_was_learned_refuses_nobody(own_relay, mock):
    relay = own_relay({"retry": {"max": "50ms"}})
    key = new_key(relay)
    headers = [("anthropic-ratelimit-requests-limit", "10"), ("anthropic-ratelimit-requests-remaining", "0"),
               ("anthropic-ratelimit-requests-reset", "2099-01-01T00:00:00Z")]
    sane = [("x-ratelimit-limit-tokens", "1000"), ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "30s")]
    absurd = mock.case(behaviour.chat("x", headers=headers))
    assert [relay.chat(key, absurd.body()).status for _ in range(2)] == [200] * 2
    case = mock.case(behaviour.chat("x", headers=sane))
    assert [relay.chat(key, case.body()).status for _ in range(2)] == [200] * 2
    assert case.count == 2  # no other route, and longer than may be waited: it is asked all the same


def test_a_short_wait_for_an_upstream_is_waited_out(own_relay, mock):
    relay = own_relay({"retry": {"max": "5s"}})
    key = new_key(relay)
    case = mock.case(behaviour.sequence(behaviour.status(429, headers=[("retry-after-ms", "300")]), behaviour.chat()))
    assert [relay.chat(key, case.body()).status for _ in range(3)] == [200] * 3
    assert case.count == 4


def test_v1_key_shows_limit_left_and_reset_of_each(limited, mock):
    key = new_key(limited, "--rpm", "600", "--tpm", "60000", "--concurrent", "5", "--budget", "2", "--per", "month")
    fresh = limited.get("/v1/key", key).json()
    assert fresh["limits"] == {"rpm": 600, "tpm": 60000, "concurrent": 5,
                               "budget_usd": {"day": None, "month": 2, "total": None}}
    assert fresh["remaining"] == {"rpm": 600, "tpm": 60000, "concurrent": 5,
                                  "budget_usd": {"day": None, "month": 2, "total": None}}
    assert fresh["reset"]["rpm"] == "0s" and fresh["reset"]["budget_usd"]["day"] is None
    assert fresh["reset"]["budget_usd"]["month"].endswith("T00:00:00.000Z")
    pace = mock.pace()
    case = mock.case(behaviour.stream("a", "b", pace=pace))
    pace.release(1)
    with limited.stream(key, case.body()) as stream:
        stream.take(1)
        during = limited.get("/v1/key", key).json()["remaining"]
        assert during["concurrent"] == 4 and during["tpm"] < 60000
        assert Decimal(str(during["budget_usd"]["month"])) < 2
        pace.open()
        stream.drain()


def test_what_streams_is_charged_as_it_streams(limited, mock):
    key = new_key(limited, "--tpm", "3000")
    pace = mock.pace()
    case = mock.case(behaviour.stream(*["word " * 500] * 8, pace=pace))
    pace.release(7)
    with limited.stream(key, case.body()) as stream:
        stream.take(7)
        left = limited.get("/v1/key", key).json()["remaining"]["tpm"]
        refused = limited.chat(key, case.body(stream=False))
        pace.open()
        stream.drain()
    assert left == 0
    assert refused.status == 429 and "tokens limit of this key" in refused.json()["error"]["message"]


def test_a_budget_that_nears_its_end_is_warned_of_once(own_relay, mock):
    relay = own_relay({"budget_warning": 50})
    key = new_key(relay, "--budget", "0.01", "--per", "month")
    case = mock.case(behaviour.chat("x", counts=openai.usage(prompt=5, completion=400)))
    for _ in range(3):
        assert relay.chat(key, case.body(max_tokens=400)).status == 200
    until(lambda: metric(relay, "tollgate_budget_warnings_total") == 1, "the warning to be counted")
    lines = [line for line in relay.stderr.splitlines() if '"budget_warning"' in line or "budget_warning" in line]
    assert len(lines) == 1 and "month" in lines[0]
    assert key not in relay.all_output()
