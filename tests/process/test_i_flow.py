"""Silence and slowness: heartbeats, back-pressure, bounded memory."""

import asyncio
import threading
from pathlib import Path

import pytest

from harness import processes, sse
from harness.http1 import Stream
from harness.wait import SLOWNESS, stays, until
from mock import behaviour

KEEPALIVE = "keepalive"
# What the kernel may hold of a stream on its way: the largest buffers it gives a receiver and a sender.
KERNEL_BYTES = sum(int(Path(f"/proc/sys/net/ipv4/tcp_{name}").read_text().split()[2]) for name in ("rmem", "wmem"))


@pytest.fixture(scope="module")
def beating(module_relay):
    """A relay whose heart beats every 200 ms."""
    relay = module_relay({"streams": {"heartbeat": "200ms"}})
    return relay, relay.create_key(relay.create_tenant("beat"))


def test_a_heartbeat_comes_before_the_first_byte(beating, mock):
    relay, key = beating
    pace = mock.pace()
    case = mock.case(behaviour.late(pace, behaviour.chat("a")))
    with relay.stream(key, case.body()) as stream:
        assert stream.status == 200
        assert stream.until_comment(3)[0] == KEEPALIVE
        assert not stream.events
        pace.open()
        assert sse.text_of(stream.drain()) == "a"
        assert stream.events[-1].is_done


def test_a_heartbeat_comes_in_silence(beating, mock):
    relay, key = beating
    pace = mock.pace()
    with relay.stream(key, mock.case(behaviour.stream("a", "b", pace=pace)).body()) as stream:
        pace.release()
        stream.take(1)
        before = len(stream.reader.comments)
        stream.until_comment(before + 2)
        pace.open()
        assert sse.text_of(stream.drain()) == "ab"


def test_a_heartbeat_never_stands_inside_an_event(beating, mock):
    relay, key = beating
    event = b'data: {"choices":[{"index":0,"delta":{"content":"whole"},"finish_reason":"stop"}]}\n\n'

    async def halves(exchange):
        await exchange.head(content_type=behaviour.SSE, chunked=True)
        await exchange.part(event[:30])
        await asyncio.sleep(0.7)
        await exchange.part(event[30:] + b"data: [DONE]\n\n")
        await exchange.finish()
    with relay.stream(key, mock.case(halves).body()) as stream:
        stream.drain()
    assert event in stream.raw
    assert stream.reader.comments, "silence without a heartbeat"


def test_an_answer_that_does_not_stream_has_no_heartbeat(beating, mock):
    relay, key = beating
    pace = mock.pace()
    case = mock.case(behaviour.late(pace, behaviour.chat("a")))
    with relay.connect() as connection:
        connection.send("POST", "/v1/chat/completions", {"authorization": f"Bearer {key}"}, case.body())
        until(lambda: case.exchanges, "the upstream's request")
        assert stays(lambda: not case.last.ended_at, 0.6)
        pace.open()
        assert connection.answer().json()["choices"][0]["message"]["content"] == "a"


def test_a_failure_behind_a_heartbeat_is_an_error_event(beating, mock):
    relay, key = beating
    pace = mock.pace()
    case = mock.case(behaviour.late(pace, behaviour.status(400)))
    with relay.stream(key, case.body()) as stream:
        stream.until_comment()
        pace.open()
        events = stream.drain()
    assert stream.status == 200
    assert len(events) == 1 and events[0].error["type"] == "invalid_request_error"


def test_retries_go_on_behind_a_heartbeat(beating, mock):
    relay, key = beating
    pace = mock.pace()
    case = mock.case(behaviour.sequence(behaviour.late(pace, behaviour.status(500)), behaviour.chat("good")))
    with relay.stream(key, case.body()) as stream:
        stream.until_comment()
        pace.open()
        assert sse.text_of(stream.drain()) == "good"


def test_a_slow_reader_holds_back_its_upstream_and_nobody_else(relay, mock, key):
    case = mock.case(behaviour.flood(KERNEL_BYTES + (48 << 20)))
    quick = mock.case(behaviour.chat(*["word "] * 50))
    before = sum(processes.resident_bytes(pid) for pid in relay.worker_pids())
    slow = relay.stream(key, case.body(), receive_buffer_bytes=16 << 10)
    with slow:
        until(lambda: case.last.stalled_for > 0.5, "the upstream's stall")
        stalled_at = case.last.bytes_sent
        for _ in range(10):
            with relay.stream(key, quick.body()) as stream:
                assert stream.drain()[-1].is_done
        resident = sum(processes.resident_bytes(pid) for pid in relay.worker_pids())
        assert stalled_at < KERNEL_BYTES + (16 << 20), "nothing holds the upstream back"
        assert case.last.bytes_sent - stalled_at < 4 << 20
        assert resident - before < (16 << 20) * (1 if SLOWNESS == 1 else 4)  # a sanitizer keeps what was freed
    until(lambda: case.last.client_left, "the end of the upstream's request")


def test_a_stalled_reader_that_goes_on_loses_nothing(relay, mock, key):
    case = mock.case(behaviour.flood(KERNEL_BYTES + (16 << 20)))
    with relay.stream(key, case.body(), receive_buffer_bytes=16 << 10) as stream:
        until(lambda: case.last.stalled_for > 0.3, "the upstream's stall")
        events = stream.drain()
    assert events[-1].is_done
    until(lambda: case.last.ended_at, "the end of the mock's counting")
    assert len(sse.text_of(events)) == sum(len(event.json()["choices"][0]["delta"].get("content", ""))
                                           for event in events[:-1])
    assert len(sse.text_of(events)) == (case.last.events_sent - 3) * 8192


def test_a_slow_http_2_stream_does_not_hold_its_neighbours(relay, mock, key):
    case, quick = mock.case(behaviour.flood(KERNEL_BYTES + (48 << 20))), mock.case(behaviour.chat("quick"))
    with relay.connect2() as connection:
        headers = {"authorization": f"Bearer {key}"}
        connection.h2.increment_flow_control_window(1 << 24)
        slow = connection.send("POST", "/v1/chat/completions", headers, case.body(stream=True))
        connection.held.add(slow.number)
        connection.until(lambda: len(slow.body) >= 60_000, "a full window")
        until(lambda: case.last.stalled_for > 0.3, "the upstream's stall")
        for _ in range(5):
            assert connection.request("POST", "/v1/chat/completions", headers, quick.body()).status == 200
        assert case.last.bytes_sent < KERNEL_BYTES + (16 << 20)
    until(lambda: case.last.client_left, "the end of the upstream's request")


def test_many_streams_run_side_by_side(relay, mock, key):
    pace = mock.pace()
    case = mock.case(behaviour.stream("a", "b", pace=pace))
    streams = []
    opener = threading.Thread(target=lambda: streams.extend(_open(relay, key, case, 60)))
    opener.start()
    until(lambda: case.count == 60, "60 requests upstream")
    pace.open()
    opener.join()
    for stream in streams:
        with stream:
            assert sse.text_of(stream.drain()) == "ab"


def _open(relay, key, case, count):
    connections = [relay.connect() for _ in range(count)]
    for connection in connections:
        connection.send("POST", "/v1/chat/completions", {"authorization": f"Bearer {key}"}, case.body(stream=True))
    return [Stream(connection, connection.head()) for connection in connections]
