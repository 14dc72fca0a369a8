"""The connection itself: the upgrade and its refusals, hostile frames, silence, slow readers, drains, TLS."""

import json
import os
import signal
import struct
from pathlib import Path

import pytest

from harness import processes, tls
from harness.ports import free_port
from harness.wait import LIMIT_S, SLOWNESS, until
from harness.websocket import (BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, WebSocket, frame, refusal,
                               upgrade_headers, with_query)
from mock import behaviour, openai

CHAT, STREAM = "/v1/ws/chat", "/v1/chat/stream"
BOTH = pytest.mark.parametrize("target", [CHAT, STREAM])
ORIGIN = "https://app.example.com"
BODY_BYTES = 256 << 10
# A flood may cost a worker so much; sanitizers (which is what slowness is for) keep what was freed.
FLOOD_BYTES = (16 << 20) if SLOWNESS == 1 else (512 << 20)
# What the kernel may hold of a stream on its way: the largest buffers it gives a receiver and a sender.
KERNEL_BYTES = sum(int(Path(f"/proc/sys/net/ipv4/tcp_{name}").read_text().split()[2]) for name in ("rmem", "wmem"))


def completes(socket, mock):
    """Does a completion still work?"""
    socket.complete(mock.case(behaviour.chat("fine")).body(), id="check")
    return socket.until("completion.done")[-1]["type"] == "completion.done"


@pytest.fixture(scope="module")
def strict(module_relay):
    """A relay with an allowed origin and a small body."""
    relay = module_relay({"cors": {"origins": [ORIGIN]}, "request_limits": {"body": f"{BODY_BYTES // 1024}KiB"}})
    relay.key = relay.create_key(relay.create_tenant("strict"))
    return relay


# --- the upgrade ---

@BOTH
def test_the_upgrade_carries_an_id_and_no_length(relay, key, target):
    with WebSocket(relay.port, target, key) as socket:
        assert socket.response.id.startswith("req_")
        assert "content-length" not in socket.response.headers and "transfer-encoding" not in socket.response.headers
        assert "sec-websocket-protocol" not in socket.response.headers
        assert "sec-websocket-extensions" not in socket.response.headers


def test_the_upgrade_shows_what_is_left(relay):
    key = relay.create_key(relay.create_tenant("ws-left"), "--rpm", "5")
    with WebSocket(relay.port, CHAT, key) as socket:
        assert socket.response.headers["x-ratelimit-remaining-requests"] == "5"


@BOTH
@pytest.mark.parametrize("header", ["x-api-key", "api-key"])
def test_the_key_in_other_headers(relay, mock, key, target, header):
    with WebSocket(relay.port, target, headers={**upgrade_headers(), header: key}) as socket:
        socket.send({"type": "chat.completion", **mock.case(behaviour.chat("a")).body()} if target == CHAT
                    else mock.case(behaviour.chat("a")).body())
        assert "error" not in socket.receive()


@BOTH
def test_the_key_in_the_query_which_no_log_shows(relay, mock, key, target):
    with WebSocket(relay.port, with_query(target, api_key=key)) as socket:
        request_id = socket.response.id
        socket.send({"type": "chat.completion", **mock.case(behaviour.chat("a")).body()} if target == CHAT
                    else mock.case(behaviour.chat("a")).body())
        assert "error" not in socket.receive()
    line = until(lambda: _access_line(relay, request_id), "the access line")
    assert line["path"] == target and line["status"] == 101
    assert key not in relay.all_output()


def _access_line(relay, request_id):
    lines = [json.loads(line) for line in relay.stdout.splitlines() if request_id in line]
    return lines[0] if lines else None


@pytest.mark.parametrize("offer, answer", [
    ("tollgate, tollgate.{key}", "tollgate"), ("tollgate.{key},tollgate", "tollgate"),
    ("realtime, openai-insecure-api-key.{key}", "realtime"), ("tollgate.{key}", None)])
def test_the_key_as_a_subprotocol(relay, mock, key, offer, answer):
    with WebSocket(relay.port, CHAT, headers=upgrade_headers(sec_websocket_protocol=offer.format(key=key))) as socket:
        assert socket.response.headers.get("sec-websocket-protocol") == answer
        assert key not in str(socket.response.headers)
        assert completes(socket, mock)


def test_an_unknown_subprotocol_is_not_chosen(relay, key):
    with WebSocket(relay.port, CHAT, key, upgrade_headers(sec_websocket_protocol="graphql-ws")) as socket:
        assert "sec-websocket-protocol" not in socket.response.headers


def test_a_key_in_the_query_is_for_these_endpoints_only(relay, mock, key):
    answer = relay.request("POST", with_query("/v1/chat/completions", api_key=key), body=mock.case(behaviour.chat("a")).body())
    assert answer.status == 401


@BOTH
@pytest.mark.parametrize("given, status, code", [
    (None, 401, "missing_api_key"), ("sk-tg-" + "a" * 38, 401, "invalid_api_key"), ("nonsense", 401, "invalid_api_key")])
def test_without_a_good_key_it_is_401(relay, target, given, status, code):
    answer = refusal(relay.port, target, given)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/json"


def test_several_keys_are_400(relay, key):
    other = relay.create_key(relay.create_tenant("ws-other"))
    assert refusal(relay.port, CHAT, key, x_api_key=other).status == 400
    assert refusal(relay.port, with_query(CHAT, api_key=other), key).status == 400
    assert refusal(relay.port, CHAT, key, sec_websocket_protocol=f"tollgate.{other}").status == 400


def test_a_disabled_key_is_403(relay, fresh_tenant):
    key = relay.create_key(fresh_tenant)
    relay.ok("key", "disable", key)
    answer = refusal(relay.port, CHAT, key)
    assert (answer.status, answer.error["code"]) == (403, "key_disabled")


@pytest.mark.parametrize("origin, good", [(None, True), (ORIGIN, True), ("https://evil.example", False), ("null", False),
                                          (ORIGIN + ".evil.example", False), ("http://app.example.com", False)])
def test_origins(strict, origin, good):
    if good:
        with WebSocket(strict.port, CHAT, strict.key, upgrade_headers(origin=origin)):
            return
    answer = refusal(strict.port, CHAT, strict.key, origin=origin)
    assert (answer.status, answer.error["code"]) == (403, "origin_not_allowed")


def test_no_origin_is_allowed_by_default(relay, key):
    assert refusal(relay.port, CHAT, key, origin=ORIGIN).status == 403


@BOTH
@pytest.mark.parametrize("version", ["8", "12", "14", "", None])
def test_a_wrong_version_is_426(relay, key, target, version):
    answer = refusal(relay.port, target, key, sec_websocket_version=version)
    assert answer.status == 426 and answer.headers["sec-websocket-version"] == "13"
    assert answer.error["type"] == "invalid_request_error"


@pytest.mark.parametrize("changes", [
    {"sec_websocket_key": None}, {"sec_websocket_key": ""}, {"sec_websocket_key": "short"},
    {"sec_websocket_key": "!" * 22 + "=="}, {"sec_websocket_key": "A" * 24}])
def test_a_bad_handshake_is_400(relay, key, changes):
    answer = refusal(relay.port, CHAT, key, **changes)
    assert answer.status == 400 and answer.error["param"] == "sec-websocket-key"


@BOTH
@pytest.mark.parametrize("changes", [{"upgrade": None}, {"connection": "keep-alive"}, {"upgrade": "other"}])
def test_no_upgrade_at_all_is_426(relay, key, target, changes):
    assert refusal(relay.port, target, key, **changes).status == 426


@BOTH
def test_other_methods_are_405(relay, key, target):
    answer = relay.request("POST", target, key, upgrade_headers(), b"")
    assert answer.status == 405
    assert relay.request("HEAD", target, key, upgrade_headers()).status == 426


@BOTH
def test_http_2_is_told_to_use_http_1(relay, key, target):
    with relay.connect2() as connection:
        assert connection.request("GET", target, {"authorization": f"Bearer {key}"}).status == 426


def test_an_unknown_dialect_is_400(relay, key):
    for dialect in ("xml", ""):
        answer = refusal(relay.port, with_query(CHAT, dialect=dialect), key)
        assert answer.status == 400 and answer.error["param"] == "dialect"


def test_a_refused_upgrade_leaves_the_connection_usable(relay, key):
    with relay.connect() as connection:
        assert connection.request("GET", CHAT, upgrade_headers(connection="keep-alive, Upgrade")).status == 401
        assert connection.request("GET", "/v1/models", {"authorization": f"Bearer {key}"}).status == 200


def test_frames_before_the_101_are_refused(relay, key):
    with relay.connect() as connection:
        lines = [f"GET {CHAT} HTTP/1.1", "host: x", f"authorization: Bearer {key}"]
        lines += [f"{name}: {value}" for name, value in upgrade_headers().items()]
        connection.send_raw("\r\n".join(lines).encode() + b"\r\n\r\n" + frame(TEXT, b'{"type":"ping"}'))
        assert connection.is_closed()


# --- frames ---

def test_a_message_in_fragments_with_a_ping_between(relay, mock, key):
    text = json.dumps({"type": "chat.completion", "id": "f", **mock.case(behaviour.chat("a")).body()}).encode()
    with WebSocket(relay.port, CHAT, key) as socket:
        socket.send_frame(TEXT, text[:7], fin=False)
        socket.send_frame(PING, b"between")
        for byte in text[7:20]:
            socket.send_frame(CONTINUATION, bytes([byte]), fin=False)
        socket.send_frame(CONTINUATION, b"", fin=False)
        socket.send_frame(CONTINUATION, text[20:])
        assert socket.until("completion.done")[-1]["id"] == "f"
        assert socket.pongs == 1


def test_a_message_that_comes_byte_by_byte(relay, key):
    with WebSocket(relay.port, CHAT, key) as socket:
        for byte in frame(TEXT, b'{"type":"ping"}'):
            socket.send_raw(bytes([byte]))
        assert socket.receive() == {"type": "pong"}


def test_pings_are_answered_with_their_payload(relay, key):
    with WebSocket(relay.port, CHAT, key) as socket:
        socket.send_frame(PING, b"payload" * 17)
        assert socket.receive_frame() == (PONG, b"payload" * 17)
        socket.send_frame(PONG, b"nobody asked")
        socket.send({"type": "ping"})
        assert socket.receive() == {"type": "pong"}


BREACHES = {
    "unmasked": (frame(TEXT, b'{"type":"ping"}', masked=False), 1002),
    "unmasked ping": (frame(PING, b"", masked=False), 1002),
    "binary": (frame(BINARY, b"\x00\x01"), 1003),
    "a fragment of binary": (frame(BINARY, b"", fin=False), 1003),
    "no utf-8": (frame(TEXT, b'"\xff\xfe"'), 1007),
    "no utf-8 over two fragments": (frame(TEXT, b'"\xc3', fin=False) + frame(CONTINUATION, b'x"'), 1007),
    "a cut character": (frame(TEXT, b'"\xc3'), 1007),
    "a surrogate": (frame(TEXT, b'"\xed\xa0\x80"'), 1007),
    "the compression bit": (frame(TEXT, b"{}", rsv=4), 1002),
    "a reserved bit": (frame(TEXT, b"{}", rsv=1), 1002),
    "a continuation of nothing": (frame(CONTINUATION, b"{}"), 1002),
    "a message inside a message": (frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"), 1002),
    "a long ping": (frame(PING, b"x" * 126), 1002),
    "a ping in fragments": (frame(PING, b"", fin=False), 1002),
    "an unknown opcode": (frame(3, b""), 1002),
    "an unknown control opcode": (frame(11, b""), 1002),
}


@pytest.mark.parametrize("breach", BREACHES)
@BOTH
def test_a_frame_that_breaks_the_protocol_closes(relay, mock, key, target, breach):
    data, code = BREACHES[breach]
    case = mock.case(behaviour.hang())
    with WebSocket(relay.port, target, key) as socket:
        socket.send({"type": "chat.completion", **case.body()} if target == CHAT else case.body())
        until(lambda: case.exchanges, "the upstream's request")
        socket.send_raw(data)
        closed = socket.close_code()
        assert closed == code or (code == 1002 and closed is None)
        assert socket.is_ended()
        until(lambda: case.last.client_left, "the cancel of what ran")


@pytest.mark.parametrize("payload, code", [
    (b"", None), (struct.pack("!H", 1000), 1000), (struct.pack("!H", 1001) + "Tschüß".encode(), 1001),
    (struct.pack("!H", 4999), 4999)])
def test_a_close_is_answered(relay, key, payload, code):
    with WebSocket(relay.port, CHAT, key) as socket:
        socket.send_frame(CLOSE, payload)
        assert socket.close_code() == code
        assert socket.is_ended()


@pytest.mark.parametrize("payload", [b"\x03", struct.pack("!H", 1000) + b"\xff"])
def test_a_bad_close_closes_too(relay, key, payload):
    with WebSocket(relay.port, CHAT, key) as socket:
        socket.send_frame(CLOSE, payload)
        assert socket.close_code() in (1002, 1007, None)
        assert socket.is_ended()


def long_message(size):
    text = json.dumps({"type": "nonsense", "filler": ""}).encode()
    return text[:-2] + b"x" * (size - len(text)) + text[-2:]


def test_a_message_may_be_as_long_as_a_body_and_no_longer(strict):
    with WebSocket(strict.port, CHAT, strict.key) as socket:
        socket.send_frame(TEXT, long_message(BODY_BYTES))
        assert socket.receive()["error"]["param"] == "type"
        socket.send_frame(TEXT, long_message(BODY_BYTES + 1))
        assert socket.close_code() == 1009
        assert socket.is_ended()


def test_fragments_count_together(strict):
    with WebSocket(strict.port, CHAT, strict.key) as socket:
        text = long_message(BODY_BYTES + 1)
        socket.send_frame(TEXT, text[:BODY_BYTES // 2], fin=False)
        socket.send_frame(CONTINUATION, text[BODY_BYTES // 2:])
        assert socket.close_code() == 1009


@pytest.mark.parametrize("length", [17 << 20, 1 << 40, (1 << 63) - 1])
def test_an_announced_length_is_refused_at_once(relay, key, length):
    with WebSocket(relay.port, CHAT, key) as socket:
        socket.send_raw(frame(TEXT, b'{"type', length=length))
        assert socket.close_code() == 1009


def test_a_large_message_is_taken_whole(relay, mock, key):
    body = mock.case(behaviour.chat("read")).body(model="large-model")
    body["messages"].append({"role": "user", "content": "x" * (6 << 20)})
    with WebSocket(relay.port, CHAT, key) as socket:
        socket.complete(body)
        assert socket.until("completion.done")[-1]["type"] == "completion.done"


def test_compression_is_not_taken_up(relay, mock, key):
    with WebSocket(relay.port, CHAT, key, upgrade_headers(
            sec_websocket_extensions="permessage-deflate; client_max_window_bits")) as socket:
        assert "sec-websocket-extensions" not in socket.response.headers
        assert completes(socket, mock)


@pytest.mark.parametrize("data", [frame(PING, b""), frame(PING, b"x" * 125), frame(TEXT, b'{"type":"ping"}'),
                                  frame(TEXT, b"x")], ids=["empty", "full", "message", "bad"])
def test_a_flood_is_bounded(own_relay, mock, data):
    """A client that floods and never reads is held back; memory stays flat; its neighbours are served."""
    relay = own_relay({"workers": 1})
    key = relay.create_key(relay.create_tenant("flood"))
    pid, = relay.worker_pids()
    before = processes.resident_bytes(pid)
    with WebSocket(relay.port, CHAT, key, receive_buffer_bytes=4096) as socket:
        socket.sock.settimeout(1)
        block = data * ((1 << 20) // len(data))
        sent = 0
        try:
            while sent < KERNEL_BYTES * 2 + (64 << 20):
                sent += socket.sock.send(block)
        except TimeoutError:
            pass
        assert sent < KERNEL_BYTES * 2 + (64 << 20), "nothing holds the flood back"
        assert processes.resident_bytes(pid) - before < FLOOD_BYTES
        with WebSocket(relay.port, CHAT, key) as other:
            assert completes(other, mock)


# --- slow readers ---

def test_a_slow_reader_holds_back_only_its_own_upstreams(relay, mock, key):
    cases = [mock.case(behaviour.flood(KERNEL_BYTES + (48 << 20))) for _ in range(2)]
    with WebSocket(relay.port, CHAT, key, receive_buffer_bytes=16 << 10) as slow:
        for case in cases:
            slow.complete(case.body())
        until(lambda: all(case.exchanges and case.last.stalled_for > 0.5 for case in cases), "both upstreams' stalls")
        stalled_at = [case.last.bytes_sent for case in cases]
        for _ in range(5):
            with WebSocket(relay.port, CHAT, key) as socket:
                assert completes(socket, mock)
        assert max(processes.resident_bytes(pid) for pid in relay.worker_pids()) < 200 << 20
        for case, before in zip(cases, stalled_at):
            assert before < KERNEL_BYTES + (16 << 20) and case.last.bytes_sent - before < 4 << 20
    until(lambda: all(case.last.client_left for case in cases), "the end of both upstream requests")


def test_a_stalled_reader_that_goes_on_loses_nothing(relay, mock, key):
    case = mock.case(behaviour.flood(KERNEL_BYTES + (16 << 20)))
    with WebSocket(relay.port, CHAT, key, receive_buffer_bytes=16 << 10) as socket:
        socket.complete(case.body(), id="slow")
        until(lambda: case.exchanges and case.last.stalled_for > 0.3, "the upstream's stall")
        messages = socket.until("completion.done")
    assert messages[-1]["type"] == "completion.done"
    until(lambda: case.last.ended_at, "the end of the mock's counting")
    assert sum(len(message.get("delta", "")) for message in messages) == (case.last.events_sent - 3) * 8192


def counting(total):
    """A behaviour that says the numbers below total, a thousand an event."""
    async def answer(exchange):
        await exchange.head(content_type=behaviour.SSE, chunked=True)
        for start in range(0, total, 1000):
            text = "".join(f"{number:09d} " for number in range(start, start + 1000))
            await exchange.event(openai.chunk("provider-model", {"content": text}))
        await exchange.event(openai.chunk("provider-model", finish="stop"))
        await exchange.event(b"[DONE]")
        await exchange.finish()
    return answer


@pytest.mark.parametrize("pings", [1, 3])
def test_what_waits_in_a_stalled_connection_is_not_touched(relay, mock, key, pings):
    """Replies to messages are queued while a write is stuck half-way; a buffer used again too early would show."""
    total = (KERNEL_BYTES + (4 << 20)) // 10000 * 1000
    case = mock.case(counting(total))
    with WebSocket(relay.port, CHAT, key, receive_buffer_bytes=16 << 10) as socket:
        socket.complete(case.body(), id="count")
        until(lambda: case.exchanges and case.last.stalled_for > 0.3, "the upstream's stall")
        taken = []
        for _ in range(20):  # each finds the stuck write in another state
            for _ in range(pings):
                socket.send({"type": "ping"})
            taken += [socket.receive() for _ in range(40)]
        messages = taken + socket.until("completion.done")
    text = "".join(message["delta"] for message in messages if message["type"] == "content.delta")
    assert text == "".join(f"{number:09d} " for number in range(total))
    assert sum(message["type"] == "pong" for message in messages) == 20 * pings


@pytest.mark.parametrize("word_bytes", [1500, 9000, 70000])
def test_a_stalled_reader_gets_every_byte_as_it_was(relay, mock, key, word_bytes):
    """What the kernel has not taken waits beside what comes meanwhile; the one must not be written over the other."""
    words = [f"{number:09}".ljust(word_bytes, "abcdefghij"[number % 10]) for number in range((KERNEL_BYTES + (1 << 20)) // word_bytes)]
    case = mock.case(behaviour.stream(*words))
    with WebSocket(relay.port, CHAT, key, receive_buffer_bytes=16 << 10) as socket:
        for name in ("one", "two"):
            socket.complete(case.body(), id=name)
        until(lambda: case.count == 2 and all(exchange.stalled_for > 0.3 for exchange in case.exchanges), "the stall")
        messages = socket.until("completion.done") + socket.until("completion.done")
    for name in ("one", "two"):
        deltas = [message["delta"] for message in messages if message["id"] == name and message["type"] == "content.delta"]
        assert deltas == words


def test_a_cancel_gets_through_to_a_stalled_stream(relay, mock, key):
    case = mock.case(behaviour.flood(KERNEL_BYTES + (48 << 20)))
    with WebSocket(relay.port, CHAT, key, receive_buffer_bytes=16 << 10) as socket:
        socket.complete(case.body(), id="slow")
        until(lambda: case.exchanges and case.last.stalled_for > 0.3, "the upstream's stall")
        socket.send({"type": "cancel", "id": "slow"})
        until(lambda: case.last.client_left, "the end of the upstream's request")
        assert socket.until("completion.done")[-1]["finish_reason"] == "cancelled"


def test_a_reader_that_stops_is_cut_after_the_write_timeout(own_relay, mock):
    relay = own_relay({"request_limits": {"write_timeout": "1s"}})
    key = relay.create_key(relay.create_tenant("t"))
    case = mock.case(behaviour.flood(KERNEL_BYTES + (48 << 20)))
    with WebSocket(relay.port, CHAT, key, receive_buffer_bytes=4096) as socket:
        socket.complete(case.body())
        until(lambda: case.exchanges and case.last.client_left, "the end of the upstream's request", LIMIT_S * 2)


# --- silence ---

@pytest.fixture(scope="module")
def beating(module_relay):
    relay = module_relay({"streams": {"heartbeat": "150ms"}, "request_limits": {"idle_timeout": "300ms", "header_timeout": "300ms",
                                                                               "body_timeout": "300ms"}})
    relay.key = relay.create_key(relay.create_tenant("beat"))
    return relay


@BOTH
def test_an_idle_socket_is_pinged_and_stays_while_it_answers(beating, mock, target):
    with WebSocket(beating.port, target, beating.key) as socket:
        for _ in range(6):
            opcode, payload = socket.receive_frame()
            assert opcode == PING
            socket.send_frame(PONG, payload)
        if target == CHAT:
            assert completes(socket, mock)


@BOTH
def test_an_idle_socket_is_closed_after_two_missed_pongs(beating, target):
    with WebSocket(beating.port, target, beating.key, answers_pings=False) as socket:
        assert socket.close_code() == 1011
        assert socket.pings == 2
        assert socket.is_ended()


def test_any_message_is_a_sign_of_life(beating):
    with WebSocket(beating.port, CHAT, beating.key, answers_pings=False) as socket:
        for _ in range(8):
            assert socket.receive_frame()[0] == PING
            socket.send({"type": "ping"})
            assert socket.receive() == {"type": "pong"}


def test_an_upstreams_silence_is_bridged_with_pings(beating, mock):
    pace = mock.pace()
    with WebSocket(beating.port, CHAT, beating.key) as socket:
        socket.complete(mock.case(behaviour.late(pace, behaviour.chat("late"))).body())
        while socket.pings < 3:
            opcode, payload = socket.receive_frame()
            assert opcode == PING
            socket.pings += 1
            socket.send_frame(PONG, payload)
        pace.open()
        assert socket.receive()["delta"] == "late"


def test_a_peer_that_never_closes_is_left(own_relay):
    relay = own_relay({"streams": {"heartbeat": "100ms"}})
    key = relay.create_key(relay.create_tenant("t"))
    with WebSocket(relay.port, CHAT, key, answers_pings=False) as socket:
        assert socket.close_code() == 1011
        socket.sock.settimeout(LIMIT_S)
        assert socket.is_ended()


def test_an_old_connection_ends_when_nothing_runs(own_relay, mock):
    relay = own_relay({"streams": {"heartbeat": "100ms"}, "request_limits": {"connection_lifetime": "1s"}})
    key = relay.create_key(relay.create_tenant("t"))
    with WebSocket(relay.port, CHAT, key) as idle:
        assert idle.close_code() == 1001
    pace = mock.pace()
    with WebSocket(relay.port, CHAT, key) as busy:
        busy.complete(mock.case(behaviour.late(pace, behaviour.chat("a"))).body(), id="long")
        while busy.pings < 20:  # two seconds
            opcode, payload = busy.receive_frame()
            assert opcode == PING
            busy.pings += 1
            busy.send_frame(PONG, payload)
        pace.open()
        assert busy.until("completion.done")[-1]["type"] == "completion.done"
        assert busy.close_code() == 1001


# --- drain ---

@pytest.fixture
def serving(own_relay):
    relay = own_relay()
    relay.key = relay.create_key(relay.create_tenant("t"))
    return relay


def running(relay, mock):
    """A socket with a completion that waits after its first word."""
    pace = mock.pace()
    socket = WebSocket(relay.port, CHAT, relay.key)
    socket.complete(mock.case(behaviour.stream("a", "b", pace=pace)).body(), id="run")
    pace.release()
    assert socket.receive()["delta"] == "a"
    return socket, pace


def test_a_drain_ends_idle_sockets_at_once_and_busy_ones_when_they_are_done(serving, mock):
    socket, pace = running(serving, mock)
    with socket, WebSocket(serving.port, CHAT, serving.key) as idle:
        serving.signal(signal.SIGTERM)
        assert idle.close_code() == 1001
        socket.complete(mock.case(behaviour.chat("x")).body(), id="new")
        error = socket.receive()
        assert error["id"] == "new" and error["error"]["code"] == "overloaded"
        pace.open()
        assert socket.until("completion.done")[-1]["finish_reason"] == "stop"
        assert socket.close_code() == 1001
    assert serving.wait_exit() == 0


def test_a_drain_ends_at_its_deadline_with_an_error(own_relay, mock):
    relay = own_relay({"drain_timeout": "1s"})
    relay.key = relay.create_key(relay.create_tenant("t"))
    socket, _ = running(relay, mock)
    with socket:
        relay.signal(signal.SIGTERM)
        error = socket.until()[-1]
        assert error["type"] == "error" and error["id"] == "run"
        assert socket.close_code() == 1001
    assert relay.wait_exit() == 0


def test_a_peer_that_ignores_the_close_does_not_hold_the_drain(serving):
    with WebSocket(serving.port, CHAT, serving.key):
        serving.signal(signal.SIGTERM)
        assert serving.wait_exit() == 0


def test_a_reload_lets_a_busy_socket_finish_and_sends_others_away(serving, mock):
    socket, pace = running(serving, mock)
    with socket, WebSocket(serving.port, CHAT, serving.key) as idle:
        serving.ok("reload")
        assert idle.close_code() == 1001
        with WebSocket(serving.port, CHAT, serving.key) as fresh:
            assert completes(fresh, mock)
        pace.open()
        assert socket.until("completion.done")[-1]["type"] == "completion.done"
        assert socket.close_code() == 1001


def test_a_kept_connection_is_not_upgraded_while_draining(own_relay, mock):
    serving = own_relay({"workers": 1})  # a worker with nothing to do closes what it keeps
    serving.key = serving.create_key(serving.create_tenant("t"))
    stream, pace = running(serving, mock)
    with stream, serving.connect() as connection:
        assert connection.request("GET", "/v1/models", {"authorization": f"Bearer {serving.key}"}).status == 200
        serving.signal(signal.SIGTERM)
        until(lambda: _is_draining(serving), "the drain")
        try:
            answer = connection.request("GET", CHAT, {**upgrade_headers(), "authorization": f"Bearer {serving.key}"})
            assert answer.status == 503
        finally:
            pace.open()
    assert serving.wait_exit() == 0


def _is_draining(relay):
    return "worker_draining" in relay.all_output()


# --- deaths and totals ---

def test_a_killed_worker_takes_its_sockets_and_bills_what_ran(serving, mock):
    socket, _ = running(serving, mock)
    with socket:
        for pid in serving.worker_pids():
            os.kill(pid, signal.SIGKILL)
        assert socket.is_ended()
    record = serving.record("run")
    assert record["output_tokens"] > 0 and record["endpoint"] == "/v1/ws/chat"



def test_sockets_come_and_go(relay, mock, key):
    """A hundred connections in every manner of leaving; the shared relay's workers must survive it."""
    pace = mock.pace()
    case = mock.case(behaviour.stream("a", "b", pace=pace))
    leavings = ["hang_up", "reset", "close", "stop_writing"]
    sockets = []
    for number in range(100):
        socket = WebSocket(relay.port, CHAT if number % 3 else STREAM, key)
        socket.complete(case.body())
        sockets.append(socket)
        if number % 2:
            getattr(sockets.pop(number % len(sockets)), leavings[number % 4])()
    pace.open()
    for socket in sockets:
        socket.hang_up()
    until(lambda: all(exchange.ended_at or exchange.client_left for exchange in case.exchanges), "the end of all")
    until(lambda: sum(worker["streams"] for worker in relay.status()["workers"]) == 0, "no stream left")


# --- TLS ---

def test_over_tls(own_relay, mock, tmp_path):
    certificate = tls.make_certificate(tmp_path)
    port = free_port()
    relay = own_relay({"listen": [{"address": f"127.0.0.1:{free_port()}"},
                                  {"address": f"127.0.0.1:{port}",
                                   "tls": {"certificate": str(certificate[0]), "key": str(certificate[1])}}]})
    key = relay.create_key(relay.create_tenant("t"))
    context = tls.client(certificate[0], "http/1.1")
    case = mock.case(behaviour.flood(8 << 20))
    with WebSocket(port, CHAT, key, tls=context) as socket:
        socket.complete(case.body())
        assert socket.until("completion.done")[-1]["type"] == "completion.done"
        assert socket.close() == 1000
    with WebSocket(port, CHAT, key, tls=context) as socket:
        socket.send_frame(BINARY, b"x")
        assert socket.close_code() == 1003
        assert socket.is_ended()
    hung = mock.case(behaviour.hang())
    with WebSocket(port, CHAT, key, tls=context) as socket:
        socket.complete(hung.body())
        until(lambda: hung.exchanges, "the upstream's request")
        socket.hang_up()
        until(lambda: hung.last.client_left, "the cancel")
