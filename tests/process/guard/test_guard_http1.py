"""What the guard does with HTTP/1: ambiguous requests end in a JSON error, everything else passes untouched."""

import json
import socket
import time

import pytest

from harness.http1 import Broken
from harness.wait import until

HOST = b"Host: a\r\n"


def get(target=b"/", *lines, host=HOST, version=b"1.1", method=b"GET"):
    return method + b" " + target + b" HTTP/" + version + b"\r\n" + host + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def post(body, *lines, target=b"/length"):
    return get(target, b"Content-Length: %d" % len(body), b"Authorization: x", *lines, method=b"POST") + body


CHUNKED = b"Transfer-Encoding: chunked"

BAD = {
    "length and chunked": get(b"/", b"Content-Length: 3", CHUNKED),
    "chunked and length": get(b"/", CHUNKED, b"Content-Length: 3"),
    "two lengths": get(b"/", b"Content-Length: 3", b"Content-Length: 3"),
    "a list of lengths": get(b"/", b"Content-Length: 3, 3"),
    "a signed length": get(b"/", b"Content-Length: +3"),
    "an empty length": get(b"/", b"Content-Length:"),
    "a long length": get(b"/", b"Content-Length: " + b"9" * 30),
    "two encodings": get(b"/", CHUNKED, CHUNKED),
    "gzip, chunked": get(b"/", b"Transfer-Encoding: gzip, chunked"),
    "chunked on 1.0": get(b"/", CHUNKED, version=b"1.0"),
    "bare line feeds": b"GET / HTTP/1.1\nHost: a\n\n",
    "a bare line feed in the head": b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
    "a bare line feed at its end": b"GET / HTTP/1.1\r\nHost: a\r\n\n",
    "no host": get(host=b""),
    "two hosts": get(b"/", b"Host: b"),
    "a host with a path": get(host=b"Host: a/b\r\n"),
    "a host with a user": get(host=b"Host: a@b\r\n"),
    "two words in the host": get(host=b"Host: a b\r\n"),
    "a folded header": get(b"/", b"X: y", b" z"),
    "a fold at once": b"GET / HTTP/1.1\r\n X: y\r\nHost: a\r\n\r\n",
    "version 1.9": get(version=b"1.9"),
    "version 2.0": get(version=b"2.0"),
    "no version": b"GET /\r\nHost: a\r\n\r\n",
    "a method with an at": get(method=b"g@t"),
    "a long method": get(method=b"G" * 33),
    "an absolute target": get(b"http://evil/p"),
    "an authority": get(b"evil:443", method=b"CONNECT"),
    "a star": get(b"*"),
    "a fragment": get(b"/a#b"),
    "a space in the target": get(b"/a b"),
    "two spaces": b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a control character in the target": get(b"/a\x01"),
    "a space before the colon": get(b"/", b"X : y"),
    "a name that is no token": get(b"/", b"X[]: y"),
    "an empty name": get(b"/", b": y"),
    "a NUL in a value": get(b"/", b"X: a\0b"),
    "a bare CR in a value": get(b"/", b"X: a\rb"),
    "two empty lines": b"\r\n\r\n" + get(),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a broken preface": b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    "a bad chunk": get(b"/length", CHUNKED) + b"5x\r\n",
    "a chunk with a bare line feed": get(b"/length", CHUNKED) + b"5\nhello\r\n0\r\n\r\n",
    "a chunk that is longer than it says": get(b"/length", CHUNKED) + b"3\r\nhello\r\n",
    "a chunk size that overflows": get(b"/length", CHUNKED) + b"f" * 16 + b"\r\n",
}
LARGE = {
    "101 headers": get(b"/", *(b"X-%d: y" % i for i in range(101))),
    "a head of 40 KiB": get(b"/", b"X: " + b"y" * 40960),
    "a target of 40 KiB": get(b"/" + b"y" * 40960),
}


def refusal(server, data, status):
    with server.connect() as connection:
        connection.send_raw(data)
        answer = connection.answer()
        assert answer.status == status
        assert answer.headers["connection"] == "close" and answer.headers["content-type"] == "application/json"
        assert answer.headers["x-request-id"] == "req_guard"
        error = json.loads(answer.body)["error"]
        assert error["type"] == "invalid_request_error" and error["code"] == "invalid_value" and error["param"] is None
        assert connection.is_closed()


def test_ambiguous_requests_get_400(server):
    for name, data in BAD.items():
        print(name)
        refusal(server, data, 400)
    assert server.stats()["requests"] == 1


def test_large_heads_get_431(server):
    for name, data in LARGE.items():
        print(name)
        refusal(server, data, 431)
    assert server.stats()["requests"] == 1


def test_byte_by_byte(server):
    with server.connect() as connection:
        for data in (get(), post(b"hello"), get(b"/length", CHUNKED, method=b"POST") + b"2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nT: u\r\n\r\n"):
            for at in range(len(data)):
                connection.send_raw(data[at:at + 1])
                time.sleep(0.0005)
            assert connection.answer().status == 200


@pytest.mark.parametrize("first", ["/", "/later?20", "/refused"])
def test_a_bad_request_behind_a_good_one(server, first):
    """The good one is answered first; what was done later by a timer must not let the bad one through."""
    for together in (True, False):
        with server.connect() as connection:
            good, bad = get(first.encode()), BAD["length and chunked"]
            if together:
                connection.send_raw(good + bad)
            else:
                connection.send_raw(good)
            assert connection.answer().status in (200, 401)
            if not together:
                connection.send_raw(bad)
            assert connection.answer().status == 400
            assert connection.is_closed()


def test_a_body_is_no_head(server):
    """Bytes that would be refused as a head pass in a body, and a hidden request in one is not served."""
    hidden = BAD["length and chunked"] + get()
    with server.connect() as connection:
        connection.send_raw(post(hidden) + get(b"/length", CHUNKED) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(hidden), hidden) + get())
        assert connection.answer().body == b"POST %d" % len(hidden)
        assert connection.answer().body == b"GET %d" % len(hidden)
        assert connection.answer().body == b"GET 0"
    assert server.stats()["requests"] == 4


def test_pipelining(server):
    with server.connect() as connection:
        connection.send_raw(b"".join(get(b"/later?1") + post(b"x" * i) for i in range(40)) + get())
        for i in range(40):
            assert connection.answer().status == 200
            assert connection.answer().body == b"POST %d" % i
        assert connection.answer().status == 200


def test_large_uploads(server):
    body = b"x" * (8 << 20)
    with server.connect() as connection:
        for _ in range(2):
            connection.send_raw(post(body))
            assert connection.answer().body == b"POST %d" % len(body)


def test_an_unproven_body_is_not_gathered(server):
    with server.connect() as connection:
        connection.send_raw(get(b"/length", b"Content-Length: 65536", method=b"POST") + b"x" * 65536)
        assert connection.answer().body == b"POST 65536"
        connection.send_raw(get(b"/length", b"Content-Length: 1000000", method=b"POST") + b"x" * 1000)
        assert connection.answer().status == 401
    with server.connect() as connection:  # nobody is asked about the request before it
        connection.send_raw(get(b"/later?100") + post(b"x" * 400000))
        assert connection.answer().status == 200
        assert connection.answer().body == b"POST 400000"
    with server.connect() as connection:
        connection.send_raw(get(b"/length", CHUNKED, method=b"POST"))
        with pytest.raises((Broken, ConnectionError)):
            for _ in range(1000):
                connection.send_raw(b"1000\r\n" + b"x" * 4096 + b"\r\n")
                time.sleep(0.001)
            connection.answer()
            raise Broken("an answer in the end")
    assert server.stats()["requests"] == 4


def test_the_answer_survives_a_client_that_goes_on_sending(server):
    for _ in range(20):
        with server.connect() as connection:
            connection.send_raw(get(b"/", b"Content-Length: 3", b"Content-Length: 3") + b"x" * 300000)
            assert connection.answer().status == 400


def test_continue(server):
    with server.connect() as connection:
        connection.send_raw(get(b"/length", b"Content-Length: 5", b"Expect: 100-continue", method=b"POST"))
        head, _ = connection._until(b"\r\n\r\n")
        assert head == b"HTTP/1.1 100 Continue"
        connection._buffer = b""
        connection.send_raw(b"hello")
        assert connection.answer().body == b"POST 5"
        connection.send_raw(BAD["no host"])
        assert connection.answer().status == 400


def test_old_clients(server):
    with server.connect() as connection:
        connection.send_raw(b"GET / HTTP/1.0\r\n\r\n")
        assert connection.answer().body == b"GET 0" and connection.is_closed()
    with server.connect() as connection:
        connection.send_raw(b"\r\n" + get())
        assert connection.answer().status == 200
        connection.send_raw(b"\r\n" + get(b"*", method=b"OPTIONS"))
        assert connection.answer().body == b"OPTIONS 0"


def ws_frame(payload):
    mask = b"\1\2\3\4"
    return bytes((0x81, 0x80 | len(payload))) + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def test_websocket_passes(server):
    upgrade = (b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
    with server.connect() as connection:
        connection.send_raw(get(b"/ws", *upgrade))
        assert connection.head().status == 101
        for text in (b"hello", b"GET / HTTP/1.1", b"\n\n"):
            connection.send_raw(ws_frame(text))
            assert connection._exactly(2 + len(text))[2:] == text


def test_an_upgrade_that_is_not_taken(server):
    upgrade = (b"Upgrade: TLS/1.0", b"Connection: Upgrade, keep-alive")
    with server.connect() as connection:
        for _ in range(3):
            connection.send_raw(get(b"/", *upgrade))
            assert connection.answer().status == 200
        connection.send_raw(get(b"/", *upgrade) + get())
        assert connection.answer().status == 200
        assert connection.answer().status == 400


def test_many_at_once(serve):
    server = serve(connections_per_address=50)
    held = [server.connect() for _ in range(50)]
    assert held[-1].request("GET", "/").status == 200
    with server.connect() as connection:
        connection.sock.settimeout(5)
        assert connection.is_closed()
    held.pop().close()
    until(lambda: can_connect(server), "room for another connection")
    for connection in held:
        connection.close()


def can_connect(server):
    try:
        return server.stats()["address"] >= 1
    except (Broken, ConnectionError, socket.timeout):
        return False
