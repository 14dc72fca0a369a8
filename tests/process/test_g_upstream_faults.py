"""An upstream that refuses, hangs, breaks or talks nonsense: each gets its row of the error table, and leaks nothing."""

import json
import re
import zlib

import pytest

from harness import config, fixtures, sse
from harness.wait import SLOWNESS, until
from mock import behaviour, openai

UNPACKED_BYTES_MOST = (256 << 20) * (1 if SLOWNESS == 1 else 4)  # sanitizers keep what was freed
LEAKS = re.compile(r"https?://|org-|sk-|api\.openai|invalid-key|projects/|googleapis|127\.0\.0\.1|localhost", re.IGNORECASE)
PRIVATE = openai.error(f"Incorrect API key provided: sk-{config.CANARY}. Organization org-{config.CANARY}, see "
                       f"https://platform.{config.CANARY}.example/account", "invalid_request_error", config.CANARY)

MAPPED = {400: (400,), 413: (400, 413), 422: (400,), 401: (502,), 403: (502,), 404: (502,), 429: (429,),
          500: (502, 503), 503: (502, 503), 529: (502, 503)}
KINDS = {400: "invalid_request_error", 413: "invalid_request_error", 429: "rate_limit_error",
         502: "upstream_error", 503: "overloaded_error", 504: "upstream_error"}


def assert_error(answer, statuses, codes=None):
    """One of these statuses, in OpenAI's form, and nothing of the upstream in it."""
    assert answer.status in statuses, (answer.status, answer.body)
    error = answer.error
    assert set(error) == {"message", "type", "code", "param"}
    assert error["type"] == KINDS[answer.status], error
    if codes:
        assert error["code"] in codes, error
    assert config.CANARY not in answer.body.decode()
    assert config.CANARY not in str(answer.headers)
    leak = LEAKS.search(error["message"])
    assert leak is None, error["message"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("status", MAPPED)
def test_a_status_of_the_upstream_is_mapped_and_its_text_withheld(relay, mock, key, status, stream):
    case = mock.case(behaviour.status(status, PRIVATE, [("x-request-id", config.CANARY)]))
    answer = relay.chat(key, case.body(stream=stream))
    assert_error(answer, MAPPED[status])
    if status in (400, 413, 422, 401, 403, 404):
        assert case.count == 1, "this status is not retried"


@pytest.mark.parametrize("fixture", fixtures.errors(), ids=lambda fixture: fixture.name)
def test_recorded_errors_are_mapped(relay, mock, key, fixture):
    case = mock.case(behaviour.status(fixture.status, fixture.data))
    answer = relay.chat(key, case.body())
    assert_error(answer, MAPPED[fixture.status] + ((502,) if "key" in fixture.name else ()))
    if "context-length" in fixture.name:
        assert answer.error["code"] == "context_length_exceeded"


@pytest.mark.parametrize("body", [b"", b"<html>edge says no</html>", b"\xff\xfe\x00", b"null", b"[]", b'"text"', b"{",
                                  b'{"error":"text"}', b'{"error":[]}', b'{"error":{"message":5,"code":{}}}',
                                  b"[" * 5000, b'{"error":{"message":"' + b"m" * 200_000 + b'"}}'],
                         ids=lambda body: repr(body[:20]))
@pytest.mark.parametrize("status", [400, 500])
def test_error_bodies_may_be_anything(relay, mock, key, status, body):
    answer = relay.chat(key, mock.case(behaviour.status(status, body)).body())
    assert_error(answer, MAPPED[status])
    assert len(answer.body) < 4096


def test_429_passes_retry_after_on(relay, mock, key):
    case = mock.case(behaviour.status(429, PRIVATE, [("retry-after", "7")]))
    answer = relay.chat(key, case.body())
    assert_error(answer, (429,), ("rate_limit_exceeded",))
    assert answer.headers["retry-after"] == "7"
    assert 6000 < int(answer.headers["retry-after-ms"]) <= 7000
    assert "upstream" in answer.error["message"].lower()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_upstream_that_refuses_the_connection(relay, key, stream):
    body = {"model": "refused-model", "messages": [{"role": "user", "content": "x"}], "stream": stream}
    assert_error(relay.chat(key, body), (502,), ("upstream_unreachable",))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_upstream_that_never_answers(relay, mock, key, stream):
    case = mock.case(behaviour.hang())
    assert_error(relay.chat(key, case.body("impatient-model", stream=stream)), (504,), ("upstream_timeout",))
    until(lambda: all(exchange.client_left for exchange in case.exchanges), "the relay's hanging up")


BEFORE_THE_FIRST_EVENT = {
    "closes without a byte": behaviour.drop(),
    "resets without a byte": behaviour.reset(),
    "closes inside the status line": behaviour.raw(b"HTTP/1."),
    "closes inside a header": behaviour.raw(b"HTTP/1.1 200 OK\r\ncontent-ty"),
    "resets inside a header": behaviour.raw(b"HTTP/1.1 200 OK\r\ncontent-type: text", "reset"),
    "closes behind the head": behaviour.raw(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"),
    "is no HTTP": behaviour.raw(b"\x15\x03\x01\x00\x02\x02\x28"),
    "is another protocol": behaviour.raw(b"220 mail.example ESMTP\r\n"),
    "is nothing but zeros": behaviour.raw(b"\0" * 10000),
    "has an endless head": behaviour.endless_header(),
    "answers 200 with HTML": behaviour.json_answer(b"<html>Sign in</html>", content_type="text/html"),
    "answers 200 with nothing": behaviour.json_answer(b""),
    "answers 200 with half JSON": behaviour.json_answer(b'{"id":"x","choices":[{"ind'),
    "answers 200 with a list": behaviour.json_answer(b"[]"),
    "answers less than it announced": behaviour.short_body(b'{"id":"x","choices":[', 500),
    "answers in brotli": behaviour.json_answer(b"\x0b\x02\x80{}\x03", headers=[("content-encoding", "br")]),
    "answers in gzip twice": behaviour.json_answer(b"\x1f\x8b", headers=[("content-encoding", "gzip, gzip")]),
    "answers in what it calls gzip": behaviour.json_answer(b'{"id":"x"}', headers=[("content-encoding", "gzip")]),
    "answers a wrong chunk": behaviour.raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                                           b"transfer-encoding: chunked\r\n\r\nxyz\r\n{}"),
    "redirects": behaviour.json_answer(b"", 302, [("location", "http://127.0.0.1:1/v1/x")]),
    "answers 101": behaviour.raw(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
    "answers 204": behaviour.raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", BEFORE_THE_FIRST_EVENT)
def test_an_upstream_that_breaks_before_its_first_event(relay, mock, key, name, stream):
    case = mock.case(BEFORE_THE_FIRST_EVENT[name])
    answer = relay.chat(key, case.body(stream=stream))
    if answer.headers["content-type"].startswith("text/event-stream"):
        assert_only_an_error_event(answer)
    else:
        assert_error(answer, (502,), ("upstream_unreachable", "upstream_invalid_response", "upstream_error"))


def assert_only_an_error_event(answer):
    events = sse.blocks(answer.body)
    assert len(events) == 1 and events[0].error["type"] == "upstream_error", answer.body


BREAKS = {
    "close": behaviour.stream("a", "b", "c", ending="close"),
    "reset": behaviour.stream("a", "b", "c", ending="reset"),
    "a correct end without [DONE]": behaviour.stream("a", "b", "c", ending="clean"),
    "silence": behaviour.stream("a", "b", "c", ending="stall"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_stream_that_breaks_ends_in_an_error_event(relay, mock, key, name):
    case = mock.case(BREAKS[name])
    with relay.stream(key, case.body("impatient-model")) as stream:
        events = stream.drain()
    assert [event.json()["choices"][0]["delta"]["content"] for event in events[:3]] == ["a", "b", "c"]
    assert len(events) == 4 and events[3].error["type"] == "upstream_error"
    assert config.CANARY not in stream.raw.decode() and LEAKS.search(events[3].error["message"]) is None
    record = relay.record(stream.id)
    assert record["estimated"] is True and record["output_tokens"] >= 1
    assert case.count == 1, "what has begun is never tried again"
    failed = relay.json("usage", "--by", "model", "--model", "impatient-model")["total"]["failed"]
    assert failed >= 1


def test_an_error_event_of_the_upstream_is_told_without_its_secrets(relay, mock, key):
    chunk = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"hello"},"finish_reason":null}]}\n\n'
    data = chunk + b"data: " + json.dumps(PRIVATE).encode() + b"\n\n"
    with relay.stream(key, mock.case(behaviour.replay(data)).body()) as stream:
        events = stream.drain()
    assert len(events) == 2 and events[1].error["message"]
    assert config.CANARY not in stream.raw.decode()


def test_a_stream_after_a_finished_answer_may_lack_done(relay, mock, key):
    """A finish reason is the end; some providers send no [DONE]."""
    with relay.stream(key, mock.case(behaviour.stream("a", ending="finish")).body()) as stream:
        events = stream.drain()
    assert stream.complete and not any(event.is_done or event.error for event in events)
    assert relay.record(stream.id)["finish_reason"] == "stop"


GARBAGE = [b"data: {not json}\n\n", b"data: []\n\n", b"data: \xff\xfe\n\n", b"data: " + b"[" * 3000 + b"\n\n",
           b"complete nonsense\n\n", b"event: x\ndata\n\n", b"data: {\"choices\":5}\n\n", b"data: {\"usage\":\"many\"}\n\n",
           b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":-5,\"completion_tokens\":9223372036854775807}}\n\n"]


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda data: repr(data[:24]))
def test_garbage_between_events_harms_nobody(relay, mock, key, garbage):
    """The relay may pass it, drop it or end the stream with an error; it lives and the ledger stays right."""
    chunk = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"hello"},"finish_reason":null}]}\n\n'
    case = mock.case(behaviour.replay(chunk + garbage + chunk + b"data: [DONE]\n\n"))
    with relay.stream(key, case.body()) as stream:
        stream.drain()
    record = relay.record(stream.id)
    assert 0 < record["output_tokens"] < 1_000_000 and record["input_tokens"] >= 0
    assert 0 <= record["price_usd"] < 100


def test_an_endless_event_is_cut_off(relay, mock, key):
    """An event that never ends must not grow in memory without bound."""
    case = mock.case(behaviour.raw(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: " + b"x" * (64 << 20)))
    with relay.stream(key, case.body()) as stream:
        stream.drain()
    assert not any(event.is_done for event in stream.events)
    assert max(worker["rss_bytes"] for worker in relay.status()["workers"]) < 256 << 20


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_comes_compressed_unasked_is_read(relay, mock, key, encoding):
    case = mock.case(behaviour.gzipped(openai.completion("m", "hello", openai.usage())))
    assert relay.chat(key, case.body()).json()["choices"][0]["message"]["content"] == "hello"
    assert case.last.header("accept-encoding") == "identity"
    events = [b"data: " + json.dumps(openai.chunk("m", {"content": word})).encode() + b"\n\n" for word in ("a", "b", "c")]
    events += [b"data: " + json.dumps(openai.chunk("m", finish="stop")).encode() + b"\n\n", b"data: [DONE]\n\n"]
    case = mock.case(behaviour.zipped_stream(events, encoding))
    with relay.stream(key, case.body()) as stream:
        stream.drain()
    assert stream.raw == b"".join(events) and "content-encoding" not in stream.headers


def test_a_slow_reader_of_what_came_compressed_loses_nothing(relay, mock, key):
    """Little on the wire is much behind it, and has to wait somewhere."""
    words = [str(number % 10) * 10000 for number in range(1500)]
    events = [b"data: " + json.dumps(openai.chunk("m", {"content": word})).encode() + b"\n\n" for word in words]
    events += [b"data: " + json.dumps(openai.chunk("m", finish="stop")).encode() + b"\n\n", b"data: [DONE]\n\n"]
    case = mock.case(behaviour.zipped_stream(events))
    stream = relay.stream(key, case.body())
    stream.take(1)
    until(lambda: case.last.ended_at, "the upstream's end, which the relay need not have read")
    assert sse.text_of(stream.drain()) == "".join(words)
    assert max(worker["rss_bytes"] for worker in relay.status()["workers"]) < UNPACKED_BYTES_MOST


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_bomb_is_put_out(relay, mock, key, stream):
    """256 MiB of blanks, 256 KiB packed."""
    packer = zlib.compressobj(1, wbits=31)
    packed = b"".join([*(packer.compress(b" " * (1 << 20)) for _ in range(256)), packer.flush()])
    kind = behaviour.SSE if stream else "application/json"
    case = mock.case(behaviour.json_answer(packed, headers=[("content-encoding", "gzip")], content_type=kind))
    answer = relay.chat(key, case.body(stream=stream))
    assert answer.status == 502 and answer.error["code"] == "upstream_invalid_response"
    assert max(worker["rss_bytes"] for worker in relay.status()["workers"]) < UNPACKED_BYTES_MOST


def test_informational_answers_are_passed_over(relay, mock, key):
    assert relay.chat(key, mock.case(behaviour.early_hints(behaviour.chat())).body()).status == 200


def test_a_json_answer_to_a_stream_request_is_not_lost(relay, mock, key):
    """A server that ignores `stream`: an error or the answer, but never an empty success."""
    case = mock.case(behaviour.json_answer(openai.completion("m", "hello", openai.usage())))
    answer = relay.chat(key, case.body(stream=True))
    assert (answer.status == 200 and b"hello" in answer.body) or answer.status == 502


def test_a_keep_alive_race_is_not_the_clients_problem(relay, mock, key):
    case = mock.case(behaviour.then_drop_next(behaviour.chat()))
    answers = [relay.chat(key, case.body()) for _ in range(8)]
    assert [answer.status for answer in answers] == [200] * 8
    assert len({relay.record(answer.id)["id"] for answer in answers}) == 8


def test_connections_closed_unannounced_are_replaced(relay, mock, key):
    case = mock.case(behaviour.then_close(behaviour.chat()))
    assert [relay.chat(key, case.body()).status for _ in range(8)] == [200] * 8


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "[::1]",
                                  "[::ffff:127.0.0.1]", "0.0.0.0"])
def test_an_upstream_at_a_private_address_must_be_allowed(own_relay, mock, host):
    """Refused by the file's check, or at the latest when the address is known; the upstream never hears of it."""
    url = f"http://{host}:{mock.port}/v1"
    relay = own_relay({"upstreams": {"mock": {"allow_private": False, "base_url": url}}}, start=False)
    checked = relay.cli("check")
    if checked.code == 2:
        assert "allow_private" in checked.out or "base_url" in checked.out
        return
    relay.start()
    key = relay.create_key(relay.create_tenant("t"))
    case = mock.case(behaviour.chat())
    assert relay.chat(key, case.body()).status in (502, 503)
    assert case.count == 0
