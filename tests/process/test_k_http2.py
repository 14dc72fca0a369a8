"""HTTP/2 without TLS: prior knowledge, upgrade, many streams on one connection, and peers that misbehave."""

import pytest

from harness import sse
from harness.http2 import Http2
from harness.relay import CHAT, bearer
from harness.wait import until
from mock import behaviour


def test_prior_knowledge(relay, mock, key):
    with relay.connect2() as connection:
        answer = connection.request("POST", CHAT, bearer(key), mock.case(behaviour.chat("Hello")).body())
    assert answer.status == 200
    assert answer.json()["choices"][0]["message"]["content"] == "Hello"
    assert answer.headers["x-tollgate-upstream"] == "mock"


def test_a_stream(relay, mock, key):
    pace = mock.pace()
    case = mock.case(behaviour.stream("a", "b", pace=pace))
    with relay.connect2() as connection:
        stream = connection.send("POST", CHAT, bearer(key), case.body(stream=True))
        for count in (1, 2):
            pace.release()
            connection.until(lambda: len(stream.events) >= count, "the next event")
            assert sse.text_of(stream.events) == "ab"[:count]
        connection.until(lambda: stream.ended, "the end")
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert sse.text_of(stream.events) == "ab" and stream.events[-1].is_done


def test_upgrade_from_http_1(relay, mock, key):
    with Http2.upgrade(relay.port) as connection:
        connection.until(lambda: connection.streams[1].done, "the first answer")
        assert connection.streams[1].status == 200
        answer = connection.request("POST", CHAT, bearer(key), mock.case(behaviour.chat("Hello")).body())
        assert answer.status == 200


def test_a_hundred_streams_on_one_connection(relay, mock, key):
    pace = mock.pace()
    case = mock.case(behaviour.stream("a", "b", "c", pace=pace))
    with relay.connect2() as connection:
        streams = [connection.send("POST", CHAT, bearer(key), case.body(stream=True)) for _ in range(100)]
        until(lambda: case.count == 100, "100 requests upstream at the same time")
        pace.open()
        connection.until(lambda: all(stream.done for stream in streams), "100 answers")
    assert all(sse.text_of(stream.events) == "abc" and stream.events[-1].is_done for stream in streams)
    assert len({stream.id for stream in streams}) == 100
    records = {record["id"]: record for record in relay.records("--last", "150")}
    assert all(records[stream.id]["output_tokens"] == 3 for stream in streams)


def test_errors_have_their_bodies(relay, key):
    with relay.connect2() as connection:
        for target, headers, status in (("/nowhere", bearer(key), 404), ("/v1/models", {}, 401), ("/v1/models", bearer("x"), 401)):
            answer = connection.request("GET", target, headers)
            assert answer.status == status and answer.json()["error"]["message"]


def test_a_failing_stream_ends_its_own_stream_only(relay, mock, key):
    broken = mock.case(behaviour.stream("a", ending="reset"))
    pace = mock.pace()
    whole = mock.case(behaviour.stream("a", "b", pace=pace))
    with relay.connect2() as connection:
        good = connection.send("POST", CHAT, bearer(key), whole.body(stream=True))
        bad = connection.request("POST", CHAT, bearer(key), broken.body(stream=True))
        assert bad.events[-1].error and not any(event.is_done for event in bad.events)
        pace.open()
        connection.until(lambda: good.ended, "the good stream")
    assert good.events[-1].is_done


def test_a_reset_of_every_other_stream_leaves_the_rest(relay, mock, key):
    pace = mock.pace()
    case = mock.case(behaviour.stream("a", "b", pace=pace))
    with relay.connect2() as connection:
        streams = [connection.send("POST", CHAT, bearer(key), case.body(stream=True)) for _ in range(20)]
        until(lambda: case.count == 20, "the requests")
        for stream in streams[::2]:
            connection.reset(stream)
        until(lambda: sum(exchange.client_left for exchange in case.exchanges) == 10, "ten hang-ups")
        pace.open()
        connection.until(lambda: all(stream.ended for stream in streams[1::2]), "the others")
    assert all(stream.events[-1].is_done for stream in streams[1::2])


def ping_flood(connection):
    for _ in range(2000):
        connection.h2.ping(b"12345678")
    connection.flush()


def reset_flood(connection):
    for _ in range(3000):
        number = connection.h2.get_next_available_stream_id()
        connection.h2.send_headers(number, [(":method", "GET"), (":path", "/healthz"), (":scheme", "http"),
                                            (":authority", "x")], end_stream=True)
        connection.h2.reset_stream(number)
    connection.flush()


def settings_flood(connection):
    connection.sock.sendall(b"\0\0\0\x04\0\0\0\0\0" * 5000)


def unknown_frames(connection):
    connection.sock.sendall(b"\0\0\0\xfa\0\0\0\0\0" * 20000)


def empty_data(connection):
    connection.sock.sendall(b"\0\0\0\0\0\0\0\0\1" * 5000)


def garbage(connection):
    connection.sock.sendall(bytes(range(256)) * 64)


def an_oversized_frame(connection):
    connection.sock.sendall(b"\xff\xff\xff\0\0\0\0\0\1" + b"x" * 70_000)


def endless_continuation(connection):
    head = b"\0\0\1\1\0\0\0\0\1\x88"
    connection.sock.sendall(head + b"\0\0\0\x09\0\0\0\0\1" * 5000)


def header_bomb(connection):
    """Indexed fields without end: one byte each, far more when decoded."""
    fields = b"\x82\x84\x86\x41\x01x" + b"\xbe" * 16_000
    connection.sock.sendall(len(fields).to_bytes(3, "big") + b"\1\5\0\0\0\1" + fields)


@pytest.mark.parametrize("attack", [ping_flood, reset_flood, settings_flood, unknown_frames, empty_data, garbage,
                                    an_oversized_frame, endless_continuation, header_bomb], ids=lambda attack: attack.__name__)
def test_an_attack_costs_its_sender_and_nobody_else(relay, attack):
    pids = relay.worker_pids()
    with relay.connect2() as connection:
        try:
            attack(connection)
            connection.sock.settimeout(0.2)
            while connection.sock.recv(1 << 16):
                pass
        except OSError:
            pass
    with relay.connect2() as fresh:
        assert fresh.request("GET", "/healthz").status == 200
    assert relay.worker_pids() == pids


def test_large_fast_streams_share_a_connection(relay, mock, key):
    """The guard once took the peer's window updates for a flood and cut such connections."""
    case = mock.case(behaviour.flood(3_000_000))
    for _ in range(3):
        with relay.connect2() as connection:
            streams = [connection.send("POST", CHAT, bearer(key), case.body(stream=True)) for _ in range(2)]
            connection.until(lambda: all(stream.ended for stream in streams), "both ends")
        assert all(stream.events[-1].is_done for stream in streams)
    until(lambda: sum(worker["streams"] for worker in relay.status()["workers"]) == 0, "no stream left")
