"""The guard's deadlines, over TCP and TLS."""

import json
import socket
import subprocess
import threading
import time

import pytest

from guard.frames import CONTINUATION, DATA, HEADERS, PREFACE, block, frame, headers, window
from harness.http1 import Http1
from harness.wait import until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /length HTTP/1.1\r\nHost: a\r\nAuthorization: x\r\nContent-Length: %d\r\n\r\n"
FAST = {"header_timeout_ms": 500, "body_timeout_ms": 700, "idle_timeout_ms": 900, "write_timeout_ms": 1000}


def seconds_until_closed(connection):
    begin = time.monotonic()
    assert connection.is_closed()
    return time.monotonic() - begin


def test_nothing_sent(serve):
    server = serve(**FAST)
    with server.connect() as connection:
        assert 0.4 < seconds_until_closed(connection) < 3
    assert server.stats()["timeout"] == 1


def test_idle(serve):
    server = serve(**FAST)
    with server.connect() as connection:
        for _ in range(3):
            assert connection.request("GET", "/later?30").status == 200
            time.sleep(0.3)
        assert 0.4 < seconds_until_closed(connection) < 3


def test_slow_heads(serve):
    """Byte by byte never extends the time for a head; the answer is 408."""
    server = serve(**FAST)
    for before in (b"", GET):
        with server.connect() as connection:
            if before:
                connection.send_raw(before)
                assert connection.answer().status == 200
            sender = threading.Thread(target=drip, args=(connection.sock, b"GET /" + b"x" * 1000))
            sender.start()
            answer = connection.answer()
            assert answer.status == 408 and json.loads(answer.body)["error"]["type"] == "invalid_request_error"
            assert connection.is_closed()
            sender.join()


def drip(sock, data, pause_s=0.05):
    for at in range(len(data)):
        try:
            sock.sendall(data[at:at + 1])
        except OSError:
            return
        time.sleep(pause_s)


def test_slow_bodies(serve):
    server = serve(**FAST)
    with server.connect() as connection:
        connection.send_raw(POST % 1000 + b"x")
        assert connection.answer().status == 408
    with server.connect() as connection:
        connection.send_raw(POST % 1000)
        sender = threading.Thread(target=drip, args=(connection.sock, b"x" * 1000))
        sender.start()
        assert connection.answer().status == 408
        sender.join()
    with server.connect() as connection:
        connection.send_raw(POST % 12000)
        for _ in range(10):
            connection.send_raw(b"x" * 1200)
            time.sleep(0.2)
        assert connection.answer().body == b"POST 12000"


def test_a_request_being_served_has_no_deadline(serve):
    server = serve(**FAST)
    with server.connect() as connection:
        assert connection.request("GET", "/later?2500").status == 200
    with server.connect2() as connection:
        connection.send(headers(1, b"/later?2500"))
        assert connection.body(1) is not None


def test_slow_http2(serve):
    server = serve(**FAST)
    with socket.create_connection(("127.0.0.1", server.port)) as bare:
        bare.sendall(PREFACE[:20])
        bare.settimeout(5)
        assert bare.recv(10) == b""
    with server.connect2() as connection:
        connection.send(headers(1, b"/later?5000") + frame(HEADERS, 0, 3, block()))
        sender = threading.Thread(target=continue_slowly, args=(connection,))
        sender.start()
        assert seconds_until_closed(connection) < 3
        sender.join()
    for body in (b"", b"x"):
        with server.connect2() as connection:
            connection.send(headers(1, b"/later?9000") + headers(3, b"/length", b"POST", end_stream=False))
            sender = threading.Thread(target=send_slowly, args=(connection, body))
            sender.start()
            assert seconds_until_closed(connection) < 4
            sender.join()
    assert server.stats()["timeout"] == 4


def continue_slowly(connection):
    for _ in range(40):
        if not connection.send(frame(CONTINUATION, 0, 3)):
            return
        time.sleep(0.1)


def send_slowly(connection, body):
    for _ in range(40):
        if body and not connection.send(frame(DATA, 0, 3, body)):
            return
        time.sleep(0.1)


@pytest.mark.parametrize("version", [1, 2])
def test_a_stalled_reader(serve, version):
    server = serve(**FAST)
    if version == 1:
        with server.connect(receive_buffer_bytes=4096) as connection:
            connection.send("GET", "/big?100000000")
            until(lambda: server.stats()["stall"] == 1, "the stalled connection cut")
    else:
        with server.connect2(receive_buffer_bytes=4096, initial_window_size=1 << 30) as connection:
            connection.send(window(0, 1 << 30) + headers(1, b"/big?100000000"))
            until(lambda: server.stats()["stall"] == 1, "the stalled connection cut")
    until(lambda: server.stats()["connections"] == 1, "the connection gone")
    assert server.stats()["early"] == 1


def test_a_slow_reader_is_no_stalled_one(serve):
    server = serve(**FAST)
    with server.connect(receive_buffer_bytes=4096) as connection:
        connection.send("GET", "/big?6000000")
        begin, got = time.monotonic(), 0
        while time.monotonic() < begin + 3:
            got += len(connection.sock.recv(4096))
            time.sleep(0.05)
        while got < 6000000:
            data = connection.sock.recv(1 << 20)
            assert data
            got += len(data)
    assert server.stats()["stall"] == 0


def test_lifetime(serve):
    server = serve(connection_lifetime_ms=800)
    with server.connect() as connection:
        assert connection.request("GET", "/later?1500").status == 200
        assert seconds_until_closed(connection) < 2
    with server.connect() as connection:
        assert connection.request("GET", "/").status == 200
        time.sleep(0.4)
        assert seconds_until_closed(connection) < 2
    with server.connect2() as connection:
        connection.send(headers(1, b"/later?1500"))
        assert connection.body(1) is not None
        assert seconds_until_closed(connection) < 2
    assert server.stats()["lifetime"] == 3


# ---- TLS ----


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    place = tmp_path_factory.mktemp("tls")
    key, cert = place / "key.pem", place / "cert.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-keyout", key, "-out", cert], check=True, capture_output=True)
    return {"tls_cert": cert, "tls_key": key}


def client_context(*protocols):
    import ssl
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(list(protocols))
    return context


def test_tls_http1(serve, certificate):
    server = serve(**certificate)
    with Http1(server.port, tls=client_context("http/1.1")) as connection:
        connection.send_raw(GET + POST % 500000 + b"x" * 500000)
        assert connection.answer().body == b"GET 0"
        assert connection.answer().body == b"POST 500000"
        assert connection.request("GET", "/later?20").status == 200
        connection.send_raw(b"GET / HTTP/1.1\r\n\r\n")
        assert connection.answer().status == 400
        assert connection.is_closed()


def test_tls_http2(serve, certificate):
    server = serve(**certificate)
    url = f"https://127.0.0.1:{server.port}/big?3000000"
    done = subprocess.run(["curl", "-sk", "--http2", url, url], capture_output=True, timeout=20)
    assert len(done.stdout) == 6000000
    with Http1(server.port, tls=client_context("h2")) as connection:
        connection.send_raw(PREFACE + frame(4))
        try:
            for first in range(1, 40001, 100):
                connection.send_raw(b"".join(headers(n) + frame(3, 0, n, b"\0\0\0\x08") for n in range(first, first + 100, 2)))
        except OSError:
            pass
        assert connection.is_closed()
    with Http1(server.port, tls=client_context("http/1.1")) as connection:
        assert json.loads(connection.request("GET", "/stats").body)["flood"] == 1


def test_tls_handshakes_that_never_end(serve, certificate):
    server = serve(**certificate, **FAST)
    for first in (b"", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1\r\n\r\n"):
        with Http1(server.port) as connection:
            connection.send_raw(first)
            assert seconds_until_closed(connection) < 3
    with Http1(server.port, tls=client_context("h2")) as connection:
        assert seconds_until_closed(connection) < 3
    with Http1(server.port, tls=client_context("http/1.1")) as connection:
        assert connection.request("GET", "/stats").status == 200
