"""Another try, another route, another model: what happens before the client has seen a byte."""

import pytest

from harness.wait import until
from mock import behaviour

GOOD = behaviour.chat("good")
FAILING = {"500": behaviour.status(500), "529": behaviour.status(529), "drop": behaviour.drop(), "reset": behaviour.reset(),
           "429": behaviour.status(429)}


def text(answer):
    return answer.json()["choices"][0]["message"]["content"]


@pytest.mark.parametrize("name", FAILING)
def test_a_failure_is_tried_again(relay, mock, key, name):
    case = mock.case(behaviour.sequence(FAILING[name], GOOD))
    answer = relay.chat(key, case.body())
    assert (answer.status, text(answer)) == (200, "good")
    assert case.count == 2
    assert relay.record(answer.id)["attempts"] == 2


def test_tries_end_after_the_configured_number(relay, mock, key):
    case = mock.case(behaviour.status(500))
    answer = relay.chat(key, case.body())
    assert answer.status in (502, 503)
    assert case.count == 3


def test_a_short_retry_after_is_waited_out(own_relay, mock):
    relay = own_relay({"retry": {"attempts": 2, "base": "1ms", "max": "3s"}})
    key = relay.create_key(relay.create_tenant("t"))
    case = mock.case(behaviour.sequence(behaviour.status(429, headers=[("retry-after", "1")]), GOOD))
    assert text(relay.chat(key, case.body())) == "good"
    assert case.exchanges[1].began_at - case.exchanges[0].ended_at >= 0.95


def test_the_second_route_serves_when_the_first_fails(relay, mock, key):
    case = mock.case(behaviour.by_path(one=behaviour.status(500), two=GOOD))
    answer = relay.chat(key, case.body("two-routes"))
    assert (answer.status, text(answer)) == (200, "good")
    assert answer.headers["x-tollgate-upstream"] == "two"
    record = relay.record(answer.id)
    assert record["upstream"] == "two" and record["attempts"] >= 2


def test_the_first_route_serves_when_it_can(relay, mock, key):
    case = mock.case(behaviour.by_path(one=GOOD, two=GOOD))
    for _ in range(5):
        assert relay.chat(key, case.body("two-routes")).headers["x-tollgate-upstream"] == "one"


def test_another_model_serves_when_every_route_fails(relay, mock, key):
    case = mock.case(behaviour.by_path(one=behaviour.status(500), v1=GOOD))
    answer = relay.chat(key, case.body("with-fallback"))
    assert (answer.status, text(answer)) == (200, "good")
    record = relay.record(answer.id)
    assert (record["model"], record["model_served"]) == ("with-fallback", "other-model")
    assert answer.headers["x-tollgate-model"] == "other-model"


def test_a_stream_is_retried_before_its_first_byte(relay, mock, key):
    case = mock.case(behaviour.sequence(behaviour.drop(), behaviour.stream("a", "b")))
    with relay.stream(key, case.body()) as stream:
        assert stream.drain()[-1].is_done
    assert relay.record(stream.id)["attempts"] == 2


def test_weights_share_the_load(own_relay, mock):
    routes = [{"upstream": "one", "weight": 3}, {"upstream": "two", "weight": 1}]
    relay = own_relay({"models": {"shared-load": {"price": {"input": 1, "output": 1}, "routes": routes}}})
    key = relay.create_key(relay.create_tenant("t"))
    case = mock.case(behaviour.by_path(one=GOOD, two=GOOD))
    served = [relay.chat(key, case.body("shared-load")).headers["x-tollgate-upstream"] for _ in range(80)]
    assert 40 <= served.count("one") <= 75 and "two" in served


def test_a_client_that_leaves_during_the_tries_ends_them(relay, mock, key):
    case = mock.case(behaviour.sequence(behaviour.status(500), behaviour.hang()))
    connection = relay.connect()
    connection.send("POST", "/v1/chat/completions", {"authorization": f"Bearer {key}"}, case.body())
    until(lambda: case.count == 2, "the second try")
    connection.close()
    until(lambda: case.last.client_left, "the relay's hanging up")
    assert case.count == 2
