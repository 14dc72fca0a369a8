"""Requests that are wrong below JSON: framing, headers, encodings. Each is refused on its own connection."""

import json
import socket

import pytest

from harness.http1 import Broken
from harness.relay import CHAT, bearer
from mock import behaviour

BODY = b'{"model":"test-model","messages":[{"role":"user","content":"x"}]}'
JSON = b"Content-Type: application/json\r\n"


def post(key, *lines, body=BODY, start=b"POST " + CHAT.encode() + b" HTTP/1.1", host=b"Host: relay\r\n"):
    """A raw request with these header lines."""
    authorization = b"Authorization: Bearer " + key.encode() + b"\r\n"
    return start + b"\r\n" + host + authorization + JSON + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


LENGTH = b"Content-Length: %d" % len(BODY)
CHUNKED_BODY = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)

SMUGGLING = {
    "length and chunked": (LENGTH, b"Transfer-Encoding: chunked"),
    "chunked and length": (b"Transfer-Encoding: chunked", LENGTH),
    "two lengths": (LENGTH, b"Content-Length: 5"),
    "two equal lengths": (LENGTH, LENGTH),
    "a list of lengths": (b"Content-Length: %d, %d" % (len(BODY), len(BODY)),),
    "a signed length": (b"Content-Length: +%d" % len(BODY),),
    "a negative length": (b"Content-Length: -1",),
    "a hexadecimal length": (b"Content-Length: 0x10",),
    "a length past 64 bits": (b"Content-Length: 99999999999999999999999",),
    "a length that is a word": (b"Content-Length: many",),
    "an empty length": (b"Content-Length:",),
    "two encodings": (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    "gzip and chunked": (b"Transfer-Encoding: gzip, chunked",),
    "an unknown encoding": (b"Transfer-Encoding: xchunked",),
    "identity": (b"Transfer-Encoding: identity",),
    "a space before the colon": (b"Transfer-Encoding : chunked",),
    "a folded header": (b"X-A: 1\r\n b", LENGTH),
    "a line without a colon": (b"X-A", LENGTH),
    "an empty name": (b": x", LENGTH),
    "a NUL in a value": (b"X-A: a\0b", LENGTH),
    "a bare CR in a value": (b"X-A: a\rb", LENGTH),
    "two hosts": (b"Host: other", LENGTH),
    "101 headers": (*(b"X-%d: y" % number for number in range(101)), LENGTH),
}

STARTS = {
    "no version": b"POST /v1/chat/completions",
    "a version past 1.1": b"POST /v1/chat/completions HTTP/1.9",
    "version 9": b"POST /v1/chat/completions HTTP/9.9",
    "a wrong protocol": b"POST /v1/chat/completions HTTQ/1.1",
    "a method with a sign": b"PO@ST /v1/chat/completions HTTP/1.1",
    "a space in the path": b"POST /v1/chat /completions HTTP/1.1",
    "an absolute target": b"POST http://elsewhere.example/v1/chat/completions HTTP/1.1",
    "no method": b" /v1/chat/completions HTTP/1.1",
}


@pytest.fixture(autouse=True, scope="module")
def nothing_gets_through(relay, mock):
    """Workers live, and no request of this file has reached the upstream but the good ones."""
    pids, before = relay.worker_pids(), len(mock.exchanges)
    yield
    assert relay.worker_pids() == pids
    stray = [exchange for exchange in mock.exchanges[before:] if b"case-" not in exchange.body]
    assert not stray, "a malformed request reached the upstream"


def refused(relay, data):
    """Sends data and returns the status, or None for a connection closed without an answer."""
    with relay.connect() as connection:
        try:
            connection.send_raw(data)
            answer = connection.answer()
        except (Broken, ConnectionError):
            return None
        assert connection.is_closed(), "the connection stays open after an ambiguous request"
        return answer.status


@pytest.mark.parametrize("name", SMUGGLING)
def test_an_ambiguous_head_is_refused_and_the_connection_closed(relay, key, name):
    lines = SMUGGLING[name]
    chunked = any(b"ransfer" in line for line in lines)
    assert refused(relay, post(key, *lines, body=CHUNKED_BODY if chunked else BODY)) in (400, 413, 431, 501, None)


@pytest.mark.parametrize("name", STARTS)
def test_a_bad_request_line_is_refused(relay, key, name):
    assert refused(relay, post(key, LENGTH, start=STARTS[name])) in (400, 404, 405, 501, 505, None)


def test_a_request_without_host_is_refused(relay, key):
    assert refused(relay, post(key, LENGTH, host=b"")) in (400, None)


def test_bare_line_feeds_are_refused(relay, key):
    assert refused(relay, post(key, LENGTH).replace(b"\r\n", b"\n")) in (400, None)


@pytest.mark.parametrize("body", [
    b"zz\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloXX0\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n", b"\r\n\r\n\r\n",
    b"ffffffffffffffffffff\r\nx", b"5;" + b"e" * 100_000 + b"\r\nhello\r\n0\r\n\r\n"],
    ids=["no size", "no line end", "negative", "empty size", "huge size", "long extension"])
def test_a_broken_chunked_upload_is_refused(relay, key, body):
    with relay.connect() as connection:
        try:
            connection.send_raw(post(key, b"Transfer-Encoding: chunked", body=body))
            connection.sock.shutdown(socket.SHUT_WR)
            assert connection.answer().status in (400, 413)
        except (Broken, ConnectionError):
            pass


def test_a_good_chunked_upload_is_served(relay, mock, key):
    body = json.dumps(mock.case(behaviour.chat()).body()).encode()
    pieces = b"".join(b"%x\r\n%b\r\n" % (1, body[at:at + 1]) for at in range(len(body)))
    with relay.connect() as connection:
        connection.send_raw(post(key, b"Transfer-Encoding: chunked", body=pieces + b"0\r\n\r\n"))
        assert connection.answer().status == 200


def test_a_head_cut_at_every_byte_leaves_the_relay_well(relay, key):
    data = post(key, LENGTH)
    for at in range(0, len(data), 3):
        with relay.connect() as connection:
            connection.send_raw(data[:at])
    assert relay.get("/healthz").status == 200


def test_a_head_in_single_bytes_is_served(relay, mock, key):
    body = json.dumps(mock.case(behaviour.chat()).body()).encode()
    data = post(key, b"Content-Length: %d" % len(body), body=body)
    with relay.connect() as connection:
        for at in range(len(data)):
            connection.send_raw(data[at:at + 1])
        assert connection.answer().status == 200


def test_a_body_that_ends_early_is_not_forwarded(relay, key):
    with relay.connect() as connection:
        connection.send_raw(post(key, b"Content-Length: 5000"))
        connection.sock.shutdown(socket.SHUT_WR)
        try:
            assert connection.answer().status in (400, 408)
        except Broken:
            pass


def test_a_huge_header_is_refused(relay, key):
    assert refused(relay, post(key, b"X-Big: " + b"b" * 600_000, LENGTH)) in (400, 413, 431, None)


def test_a_header_that_tries_to_inject_is_not_forwarded(relay, mock, key):
    case = mock.case(behaviour.chat())
    answer = relay.chat(key, case.body(user="a\r\nX-Evil: 1", model="test-model"), {"x-request-id": "a%0d%0aX: 1"})
    assert answer.status == 200
    assert case.last.header("x-evil") is None


def test_garbage_is_not_http(relay):
    for garbage in (b"\x16\x03\x01\x02\x00\x01\x00", b"\0" * 5000, b"\xff" * 5000, b"SSH-2.0-x\r\n\r\n", b"\r\n" * 1000):
        with relay.connect() as connection:
            try:
                connection.send_raw(garbage)
                connection.sock.shutdown(socket.SHUT_WR)
                assert connection.is_closed()
            except ConnectionError:
                pass


def test_a_body_without_a_valid_key_is_not_gathered(relay):
    """A megabyte from nobody is answered before it has all been sent."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: relay\r\n" + JSON + b"Content-Length: 8000000\r\n\r\n"
    with relay.connect() as connection:
        connection.send_raw(head + b"x" * 200_000)
        assert connection.answer().status == 401


def test_expect_continue_is_honoured(relay, mock, key):
    body = json.dumps(mock.case(behaviour.chat()).body()).encode()
    with relay.connect() as connection:
        connection.send_raw(post(key, b"Content-Length: %d" % len(body), b"Expect: 100-continue", body=b""))
        assert connection.sock.recv(4096).startswith(b"HTTP/1.1 100")
        connection.send_raw(body)
        assert connection.answer().status == 200


def test_a_compressed_body_is_refused(relay, key):
    answer = relay.request("POST", CHAT, key, {"content-encoding": "gzip", "content-type": "application/json"}, b"\x1f\x8b..")
    assert answer.status in (400, 415)


def test_many_bad_requests_at_once_leave_good_ones_alone(relay, mock, key):
    case = mock.case(behaviour.chat())
    connections = [relay.connect() for _ in range(40)]
    for number, connection in enumerate(connections):
        body = case.body() if number % 2 else {"model": 5}
        connection.send("POST", CHAT, bearer(key), body)
    statuses = [connection.answer().status for connection in connections]
    for connection in connections:
        connection.close()
    assert statuses == [400, 200] * 20
