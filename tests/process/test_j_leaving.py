"""Clients that leave: the upstream is let go at once, and what was relayed stands in the ledger."""

import socket
import time

import pytest

from harness import config
from harness.relay import CHAT, bearer, cost_of
from harness.wait import LIMIT_S, SLOWNESS, until
from mock import behaviour

AT_ONCE_S = 1.0 * SLOWNESS
WORDS = ["word "] * 20


def assert_let_go(case, left_at):
    """The relay closed its upstream connection within a second."""
    until(lambda: case.last.client_left, "the relay's hanging up", LIMIT_S)
    assert case.last.client_left_at - left_at < AT_ONCE_S


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_before_the_first_byte(relay, mock, key, how, stream):
    case = mock.case(behaviour.hang())
    connection = relay.connect()
    name = f"left-{case.tag}"
    connection.send("POST", CHAT, {**bearer(key), "x-request-id": name}, case.body(stream=stream))
    until(lambda: case.exchanges, "the upstream's request")
    left_at = time.monotonic()
    getattr(connection, how)()
    assert_let_go(case, left_at)
    record = relay.record(name)
    assert record["estimated"] is True and record["output_tokens"] == 0
    assert record["status"] == 499 and record["input_tokens"] > 0
    assert record["price_usd"] == cost_of(record, config.PRICE)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_in_the_middle_of_a_stream(relay, mock, key, how):
    pace = mock.pace()
    case = mock.case(behaviour.stream(*WORDS, pace=pace))
    stream = relay.stream_after(key, case, pace, 10)
    left_at = time.monotonic()
    getattr(stream.connection, how)()
    assert_let_go(case, left_at)
    assert_charged_for_what_came(relay.record(stream.id))


def assert_charged_for_what_came(record):
    assert record["estimated"] is True
    assert 5 <= record["output_tokens"] <= 25
    assert record["input_tokens"] > 0 and record["price_usd"] > 0


@pytest.mark.parametrize("events", [0, 10], ids=["before the first byte", "in the middle"])
def test_a_reset_stream_of_http_2(relay, mock, key, events):
    pace = mock.pace()
    case = mock.case(behaviour.stream(*WORDS, pace=pace))
    with relay.connect2() as connection:
        headers = {**bearer(key), "x-request-id": f"reset-{case.tag}"}
        stream = connection.send("POST", CHAT, headers, case.body(stream=True))
        until(lambda: case.exchanges, "the upstream's request")
        pace.release(events)
        connection.until(lambda: len(stream.events) >= events, "the events")
        left_at = time.monotonic()
        connection.reset(stream)
        assert_let_go(case, left_at)
        assert connection.request("GET", "/healthz").status == 200
    record = relay.record(headers["x-request-id"])
    assert record["estimated"] is True and (record["output_tokens"] > 0) == (events > 0)


def test_an_http_2_connection_that_ends_takes_all_its_streams_along(relay, mock, key):
    cases = [mock.case(behaviour.hang()) for _ in range(5)]
    connection = relay.connect2()
    for case in cases:
        connection.send("POST", CHAT, bearer(key), case.body(stream=True))
    until(lambda: all(case.exchanges for case in cases), "the upstream's requests")
    left_at = time.monotonic()
    connection.close()
    for case in cases:
        assert_let_go(case, left_at)


def test_a_client_that_half_closes_still_gets_its_answer_or_is_let_go(relay, mock, key):
    """shutdown(SHUT_WR) looks like leaving: either reading is right, waiting for ever is not."""
    pace = mock.pace()
    case = mock.case(behaviour.late(pace, behaviour.chat("a")))
    with relay.connect() as connection:
        connection.send("POST", CHAT, bearer(key), case.body())
        until(lambda: case.exchanges, "the upstream's request")
        connection.sock.shutdown(socket.SHUT_WR)
        pace.open()
        until(lambda: case.last.client_left or case.last.ended_at, "an end")


def test_usage_that_came_before_the_client_left_is_not_estimated(relay, mock, key):
    """The last events arrive in one piece; the client reads them all and closes."""
    case = mock.case(behaviour.chat("a", "b"))
    with relay.stream(key, case.body()) as stream:
        stream.drain()
    assert relay.record(stream.id)["estimated"] is False


def test_many_clients_leaving_at_once(relay, mock, key):
    case = mock.case(behaviour.hang())
    connections = [relay.connect() for _ in range(50)]
    for connection in connections:
        connection.send("POST", CHAT, bearer(key), case.body(stream=True))
    until(lambda: case.count == 50, "50 requests upstream")
    for connection in connections:
        connection.reset()
    until(lambda: all(exchange.client_left for exchange in case.exchanges), "50 hang-ups")
    until(lambda: sum(worker["streams"] for worker in relay.status()["workers"]) == 0, "no stream counted any more")
    assert relay.cli("verify").code == 0
