"""HTTP/2 frames by hand, for peers that break the rules."""

import socket
import struct

from harness.wait import LIMIT_S

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def number(value, bits, first=0):
    """An HPACK integer."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    out, value = bytearray((first | most,)), value - most
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes((value,))


def text(value):
    return number(len(value), 7) + value


def field(name, value):
    """A literal that is not kept."""
    return b"\x00" + text(name) + text(value)


def block(path=b"/", method=b"GET", *fields):
    """A request's header block; :scheme http and :authority a."""
    head = {b"GET": b"\x82", b"POST": b"\x83"}[method] + b"\x86" + b"\x01" + text(b"a") + b"\x04" + text(path)
    return head + b"".join(field(*pair) for pair in fields)


def headers(stream, path=b"/", method=b"GET", *fields, end_stream=True, end_headers=True):
    flags = (END_STREAM if end_stream else 0) | (END_HEADERS if end_headers else 0)
    return frame(HEADERS, flags, stream, block(path, method, *fields))


def settings(**values):
    numbers = {"header_table_size": 1, "enable_push": 2, "max_concurrent_streams": 3, "initial_window_size": 4}
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", numbers[name], value) for name, value in values.items()))


def reset(stream, code=8):
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def window(stream, increment):
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))


class Raw2:
    """A connection whose preface and SETTINGS are sent; the rest is the test's."""

    def __init__(self, port, receive_buffer_bytes=None, **initial_settings):
        self.sock = socket.socket()
        if receive_buffer_bytes:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.sock.settimeout(LIMIT_S)
        self.sock.connect(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.sock.sendall(PREFACE + settings(**initial_settings))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data):
        """False when the connection ended under it."""
        try:
            self.sock.sendall(data)
        except ConnectionError:
            return False
        return True

    def next_frame(self):
        """(kind, flags, stream, payload), or None at the end of the connection."""
        while len(self.buffer) < 9 or len(self.buffer) < 9 + int.from_bytes(self.buffer[:3], "big"):
            try:
                data = self.sock.recv(1 << 16)
            except ConnectionError:
                return None
            if not data:
                return None
            self.buffer += data
        length = int.from_bytes(self.buffer[:3], "big")
        kind, flags, stream = self.buffer[3], self.buffer[4], int.from_bytes(self.buffer[5:9], "big")
        payload, self.buffer = self.buffer[9:9 + length], self.buffer[9 + length:]
        return kind, flags, stream, payload

    def until(self, kind, stream=None):
        """Reads on to a frame of that kind; None when the connection ends first."""
        while (got := self.next_frame()) is not None:
            if got[0] == kind and stream in (None, got[2]):
                return got
        return None

    def body(self, stream):
        """All DATA of a stream up to its end; None when it was reset or the connection ended."""
        data = b""
        while (got := self.next_frame()) is not None:
            kind, flags, number_, payload = got
            if number_ == stream and kind == RST_STREAM:
                return None
            if number_ == stream and kind == DATA:
                data += payload
            if number_ == stream and kind in (DATA, HEADERS) and flags & END_STREAM:
                return data
        return None

    def is_alive(self):
        """Does a PING still come back?"""
        return self.send(frame(PING, 0, 0, b"12345678")) and self.until(PING) is not None

    def is_closed(self):
        """Waits for the end; what still comes is thrown away."""
        try:
            while self.sock.recv(1 << 16):
                pass
        except ConnectionError:
            return True
        except socket.timeout:
            return False
        return True
