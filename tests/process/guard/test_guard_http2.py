"""What the guard does with HTTP/2: floods, bombs and the sequences that abort or spin libh2o 2.2.5 end in a closed
connection while the server lives on; ordinary use passes. The recipes are those of the attacks' reports."""

import os
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from guard.frames import (
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HAS_PRIORITY, HEADERS, PADDED, PING, PREFACE, PRIORITY,
    RST_STREAM, SETTINGS, block, field, frame, headers, number, reset, settings, text, window,
)
from harness.http1 import Http1
from harness.wait import until

MOST_STREAMS = 1200  # what a burst of 1,000 units may open, and some refill


def flood(server, pieces, **settings_):
    """Sends until the connection ends; returns how many pieces were sent. The server must answer others meanwhile."""
    count = 0
    with server.connect2(**settings_) as connection:
        for piece in pieces:
            if not connection.send(piece):
                break
            count += 1
        assert connection.is_closed(), "the flood was not ended"
    assert server.stats()["rss"] < 600 << 20
    return count


def batches(make, streams=20000, at_once=50):
    """Pieces of at_once streams each."""
    for first in range(0, streams, at_once):
        yield b"".join(make(2 * i + 1) for i in range(first, first + at_once))


def test_ordinary_use(server):
    with server.connect2() as connection:
        for stream in range(1, 2001, 2):
            assert connection.send(headers(stream))
            assert connection.body(stream) == b"GET 0"
        assert connection.send(headers(2001, b"/stream?20") + headers(2003, b"/later?5") + headers(2005, b"/big?20000"))
        assert connection.body(2001) is not None
        assert connection.is_alive()


def test_h2c_upgrade(server):
    with Http1(server.port) as connection:
        connection.send_raw(b"GET /later?5 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                            b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")
        assert connection.head().status == 101
        connection.send_raw(PREFACE + settings() + headers(3))
        until(lambda: b"GET 0" in pull(connection), "the answer on stream 3")
    # and what comes after the upgrade is guarded as HTTP/2
    with Http1(server.port) as connection:
        connection.send_raw(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                            b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")
        assert connection.head().status == 101
        connection.send_raw(PREFACE + settings())
        try:
            for piece in batches(lambda stream: headers(stream + 2) + reset(stream + 2)):
                connection.send_raw(piece)
        except ConnectionError:
            pass
        assert connection.is_closed()
    assert server.stats()["flood"] == 1


def pull(connection):
    connection._more()
    return connection._buffer


@pytest.mark.parametrize("path", [b"/silent", b"/", b"/refused"])
def test_rapid_reset(server, path):
    flood(server, batches(lambda stream: headers(stream, path) + reset(stream)))
    assert server.stats()["requests"] < MOST_STREAMS


MADE_RESETS = {
    "window overflow": lambda stream: headers(stream, b"/silent") + window(stream, 0x7FFFFFFF),
    "window of zero": lambda stream: headers(stream, b"/silent") + window(stream, 0),
    "data after the end": lambda stream: headers(stream, b"/silent") + frame(DATA, 0, stream, b"x"),
    "window overflow, answered": lambda stream: headers(stream) + window(stream, 0x7FFFFFFF),
    "data after the end, answered": lambda stream: headers(stream) + frame(DATA, 0, stream, b"x"),
    "a priority on itself": lambda stream: headers(stream, b"/silent") + frame(PRIORITY, 0, stream, struct.pack(">IB", stream, 1)),
}


@pytest.mark.parametrize("name", MADE_RESETS)
def test_made_you_reset(server, name):
    flood(server, batches(MADE_RESETS[name]))
    assert server.stats()["requests"] < 2 * MOST_STREAMS


def test_hpack_bomb(server):
    """8 MB of one-byte references to a 4 KB entry, held open by a window of zero."""
    insert = b"\x40" + text(b"x") + text(b"y" * 4000)
    before = server.stats()["rss"]

    def bomb(stream):
        first = block(b"/big?1000", b"GET") + (insert if stream == 1 else b"") + b"\xbe" * 12000
        pieces = [frame(HEADERS, END_STREAM, stream, first[:16384])]
        rest = b"\xbe" * 16384
        pieces += [frame(CONTINUATION, 0, stream, rest) for _ in range(24)]
        return b"".join(pieces) + frame(CONTINUATION, END_HEADERS, stream, b"\xbe")

    flood(server, (bomb(2 * i + 1) for i in range(20)), initial_window_size=0)
    assert server.stats()["rss"] - before < 20 << 20
    assert server.stats()["protocol"] == 1


@pytest.mark.parametrize("count,lives", [(100, True), (140, False)])
def test_header_fields_are_counted(server, count, lives):
    fields = [(b"x-%d" % i, b"v" * 50) for i in range(count)]
    with server.connect2() as connection:
        connection.send(headers(1, b"/", b"GET", *fields))
        assert connection.body(1) == (b"GET 0" if lives else None)


def test_header_forms(server):
    """Padding, priority, continuations at every byte, size updates and long numbers are read as libh2o reads them."""
    whole = b"\x20\x3f\xe1\x1f" + block(b"/x", b"GET", (b"x" * 200, b"y" * 300)) + b"\x40\x01z\x02zz\xbe"
    with server.connect2() as connection:
        stream = 1
        for at in range(0, len(whole), 7):
            first = bytes((3,)) + struct.pack(">IB", 0, 15) + whole[:at] + b"\0\0\0"
            connection.send(frame(HEADERS, END_STREAM | PADDED | HAS_PRIORITY, stream, first))
            connection.send(frame(CONTINUATION, 0, stream) + frame(CONTINUATION, END_HEADERS, stream, whole[at:]))
            assert connection.body(stream) == b"GET 0"
            stream += 2


def test_continuation_flood(server):
    for piece in (b"", b"\x00\x01a\x01b" * 10, b"\x20" * 16384):
        flood(server, [frame(HEADERS, END_STREAM, 1, block())] + [frame(CONTINUATION, 0, 1, piece) * 10] * 20000)
    assert server.stats()["requests"] == 4  # the statistics alone


FLOODS = {
    "unknown frames": frame(0x55, 0, 0, b"x"),
    "pings": frame(PING, 0, 0, b"12345678"),
    "ping acknowledgements": frame(PING, ACK, 0, b"12345678"),
    "settings": settings(initial_window_size=65535),
    "settings acknowledgements": frame(SETTINGS, ACK),
    "priorities": frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 1)),
    "empty data": frame(DATA, 0, 1),
    "padded empty data": frame(DATA, PADDED, 1, b"\0"),
    "window updates": window(0, 1),
    "goaways": frame(GOAWAY, 0, 0, bytes(8)),
}


@pytest.mark.parametrize("name", FLOODS)
def test_floods(server, name):
    begin = [headers(1, b"/length", b"POST", end_stream=False)]
    flood(server, begin + [FLOODS[name] * 200] * 5000)
    until(lambda: server.stats()["flood"] == 1, "the flood counted")


def test_floods_that_never_read(server):
    """Replies that nobody reads stop the reading of more; the connection is cut, memory stays."""
    with server.connect2(receive_buffer_bytes=4096) as connection:
        connection.sock.settimeout(5)
        while connection.send(frame(PING, 0, 0, b"12345678") * 1000):
            pass
    assert server.stats()["rss"] < 300 << 20


BROKEN = {
    "too large a frame": frame(DATA, 0, 1, b"x" * 16385),
    "a continuation without a block": frame(CONTINUATION, 0, 1, b"x"),
    "another frame inside a block": frame(HEADERS, 0, 1, block()) + frame(PING, 0, 0, bytes(8)),
    "a continuation of another stream": frame(HEADERS, 0, 1, block()) + frame(CONTINUATION, END_HEADERS, 3, b""),
    "padding past the frame": frame(HEADERS, END_HEADERS | PADDED, 1, b"\xff" + block()),
    "a priority past the frame": frame(HEADERS, END_HEADERS | HAS_PRIORITY, 1, b"\0\0"),
    "a block that ends inside a field": frame(HEADERS, END_HEADERS, 1, block() + b"\x40\x05ab"),
    "a number without end": frame(HEADERS, END_HEADERS, 1, b"\xff" + b"\x80" * 20),
    "a huge string": frame(HEADERS, 0, 1, b"\x00" + number(1 << 30, 7)),
    "a block past 32 KiB": frame(HEADERS, 0, 1, field(b"a", b"x" * 16000)) + frame(CONTINUATION, 0, 1, b"\x00\x01a" + number(20000, 7) + b"x" * 16000)
                           + frame(CONTINUATION, 0, 1, b"x" * 4000),
    "a push": frame(5, 0, 1, bytes(8)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_frames(server, name):
    with server.connect2() as connection:
        connection.send(BROKEN[name])
        assert connection.is_closed()
    assert server.stats()["requests"] == 1


def test_pending_requests(server):
    """A stalled reader with all its streams reset at once."""
    with server.connect2(receive_buffer_bytes=4096) as connection:
        connection.send(b"".join(headers(stream, b"/big?100000") for stream in range(1, 200, 2)) + window(0, 1 << 24))
        connection.send(b"".join(reset(stream) for stream in range(1, 200, 2)))
        connection.send(headers(201))
        time.sleep(0.3)
    assert server.stats()["requests"] > 0


def test_drain_spin(server):
    """A header block that is open when the worker drains, and goes on after the second GOAWAY."""
    with server.connect2() as connection, server.connect2() as keeper, server.connect2() as half:
        keeper.send(headers(1, b"/later?3000"))
        half.send(headers(1, b"/later?3000") + frame(HEADERS, END_STREAM, 3, block()))
        connection.send(headers(1, b"/later?3000") + frame(HEADERS, END_STREAM, 3, block()))
        half.send(frame(CONTINUATION, 0, 3, b"x" * 9)[:14])
        time.sleep(0.2)
        server.drain()
        time.sleep(1.5)
        connection.send(frame(CONTINUATION, END_HEADERS, 3, b""))
        half.send(b"xxxx")
        assert connection.is_closed() and half.is_closed()
        assert keeper.body(1) is not None
    assert server.stats()["connections"] == 1


def test_large_uploads(server):
    """Several at once, in whole frames; the windows are libh2o's."""
    with server.connect2() as connection:
        size = 1 << 20
        streams = range(1, 17, 2)
        for stream in streams:
            connection.send(headers(stream, b"/length", b"POST", (b"authorization", b"x"), end_stream=False))
        for _ in range(size // 16384):
            connection.send(b"".join(frame(DATA, 0, stream, b"x" * 16384) for stream in streams))
        connection.send(b"".join(frame(DATA, END_STREAM, stream, b"xx") for stream in streams))
        for stream in streams:
            assert connection.until(DATA)[3] == b"POST %d" % (size + 2)


def test_bodies_of_one_connection_are_bounded(server):
    with server.connect2() as connection:
        for stream in range(1, 41, 2):
            connection.send(headers(stream, b"/length", b"POST", (b"authorization", b"x"), end_stream=False))
        for stream in range(1, 41, 2):
            for _ in range(256):
                if not connection.send(frame(DATA, 0, stream, b"x" * 16384)):
                    break
        assert connection.is_closed()
    assert server.stats()["protocol"] == 1


def test_an_unproven_body_is_cut_short(server):
    """Without a key the handler sees the request with the part that came; with one it sees all."""
    with server.connect2() as connection:
        connection.send(headers(1, b"/length", b"POST", end_stream=False))
        for _ in range(20):
            connection.send(frame(DATA, 0, 1, b"x" * 16384))
            time.sleep(0.01)
        assert connection.body(1) == b"POST %d" % (5 * 16384)
        connection.send(headers(3, b"/length", b"POST", (b"authorization", b"x"), end_stream=False))
        for _ in range(20):
            connection.send(frame(DATA, 0, 3, b"x" * 16384))
            time.sleep(0.01)
        connection.send(frame(DATA, END_STREAM, 3))
        assert connection.body(3) == b"POST %d" % (20 * 16384)


def test_a_slow_reader_gets_everything(server):
    with server.connect2(receive_buffer_bytes=8192, initial_window_size=1 << 24) as connection:
        connection.send(window(0, 1 << 24) + headers(1, b"/big?3000000"))
        got = 0
        while got < 3000000:
            kind, _, _, payload = connection.next_frame()
            got += len(payload) if kind == DATA else 0
            if got % 5 == 0:
                time.sleep(0.0005)


@pytest.mark.skipif(shutil.which("unshare") is None or os.geteuid() != 0, reason="needs a network namespace")
def test_window_update_while_a_write_is_in_flight(guard_binary):
    """h2o PR 1951: on a path with an MTU of 1500, WINDOW_UPDATE on finished streams whose last write is in flight."""
    script = Path(__file__).with_name("attack_1951.py")
    setup = "ip link set lo up && ip link set lo mtu 1500 && exec \"$@\""
    command = ["unshare", "-n", "sh", "-c", setup, "sh", sys.executable, str(script), guard_binary]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if "Operation not permitted" in result.stderr or "ip: not found" in result.stderr:
        pytest.skip(result.stderr)
    assert result.returncode == 0, result.stdout + result.stderr
