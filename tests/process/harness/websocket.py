"""A WebSocket client over a bare socket: says exactly what it is told, frames that no real client would send included."""

import base64
import hashlib
import json
import os
import socket
import struct
from urllib.parse import quote

from harness.http1 import Broken, Http1
from harness.wait import LIMIT_S

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Refused(Exception):
    """The upgrade was answered with something else than 101."""

    def __init__(self, response):
        super().__init__(f"{response.status} {response.body[:300]!r}")
        self.response = response


class Closed(Exception):
    """The server closed: code is its close frame's (None without one)."""

    def __init__(self, code):
        super().__init__(f"closed with {code}")
        self.code = code


def frame(opcode, payload=b"", fin=True, masked=True, rsv=0, length=None):
    """One frame's bytes; `length` may lie about the payload's."""
    size = len(payload) if length is None else length
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    mark = 0x80 if masked else 0
    if size < 126:
        head += bytes([mark | size])
    elif size < 1 << 16:
        head += bytes([mark | 126]) + struct.pack("!H", size)
    else:
        head += bytes([mark | 127]) + struct.pack("!Q", size)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    key = (mask * (len(payload) // 4 + 1))[:len(payload)]
    mixed = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(len(payload), "big")
    return head + mask + mixed


def upgrade_headers(**changes):
    """The handshake's headers; None removes one. Underscores stand for dashes."""
    headers = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
               "sec-websocket-key": base64.b64encode(os.urandom(16)).decode()}
    for name, value in changes.items():
        headers[name.replace("_", "-")] = value
    return {name: value for name, value in headers.items() if value is not None}


class WebSocket:
    """An open connection. Pings are answered unless `answers_pings` is False; what came is counted."""

    def __init__(self, port, target="/v1/ws/chat", key=None, headers=None, tls=None, receive_buffer_bytes=None,
                 answers_pings=True):
        self.http = Http1(port, tls=tls, receive_buffer_bytes=receive_buffer_bytes)
        self.answers_pings = answers_pings
        self.pings = self.pongs = 0
        self._buffer = b""
        sent = headers if headers is not None else upgrade_headers()
        if key:
            sent = {**sent, "authorization": f"Bearer {key}"}
        self.http.send("GET", target, sent)
        self.response = self.http.head()
        if self.response.status != 101:
            self.response.body = b"".join(self.http.body_of(self.response))
            self.http.close()
            raise Refused(self.response)
        digest = hashlib.sha1(sent["sec-websocket-key"].encode() + GUID).digest()
        assert self.response.headers["sec-websocket-accept"] == base64.b64encode(digest).decode()
        assert self.response.headers["upgrade"] == "websocket"
        self._buffer, self.http._buffer = self.http._buffer, b""

    @property
    def sock(self):
        return self.http.sock

    # --- sending ---

    def send_raw(self, data):
        self.sock.sendall(data)

    def send_frame(self, opcode, payload=b"", **options):
        self.send_raw(frame(opcode, payload, **options))

    def send(self, message):
        """A text message: a JSON value, or a str as it is."""
        text = message if isinstance(message, str) else json.dumps(message)
        self.send_frame(TEXT, text.encode())

    def complete(self, body, **fields):
        """Asks for a completion of this chat body."""
        self.send({"type": "chat.completion", **body, **fields})

    # --- receiving ---

    def _exactly(self, count):
        while len(self._buffer) < count:
            try:
                data = self.sock.recv(1 << 16)
            except ConnectionError as error:
                raise Broken(str(error)) from error
            if not data:
                raise Broken(f"ended with {self._buffer[:100]!r} unread")
            self._buffer += data
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def receive_frame(self):
        """(opcode, payload) of the next frame; a server's are whole and not masked."""
        first, second = self._exactly(2)
        assert first & 0x80, "a server's message in pieces"
        assert not first & 0x70, "reserved bits are set"
        assert not second & 0x80, "a masked frame of a server"
        size = second & 0x7F
        if size == 126:
            size, = struct.unpack("!H", self._exactly(2))
        elif size == 127:
            size, = struct.unpack("!Q", self._exactly(8))
        return first & 0x0F, self._exactly(size)

    def receive(self):
        """The next message, as JSON. Closed when the server closes."""
        while True:
            opcode, payload = self.receive_frame()
            if opcode == TEXT:
                return json.loads(payload.decode())
            if opcode == PING:
                self.pings += 1
                if self.answers_pings:
                    self.send_frame(PONG, payload)
            elif opcode == PONG:
                self.pongs += 1
            elif opcode == CLOSE:
                raise Closed(struct.unpack("!H", payload[:2])[0] if payload else None)
            else:
                raise AssertionError(f"opcode {opcode} of a server")

    def until(self, *types):
        """Messages up to and with the first of one of these types (or an error)."""
        messages = []
        while not messages or messages[-1].get("type") not in (*types, "error"):
            messages.append(self.receive())
        return messages

    def chunks(self):
        """/v1/chat/stream: messages up to and with the one that has usage (or an error)."""
        messages = []
        while not messages or not (messages[-1].get("usage") or "error" in messages[-1]):
            messages.append(self.receive())
        return messages

    def close_code(self):
        """Reads to the server's close frame and returns its code."""
        try:
            while True:
                self.receive()
        except Closed as closed:
            return closed.code

    def is_ended(self):
        """Does the server end the connection? What it still sends is thrown away."""
        return self.http.is_closed()

    # --- leaving ---

    def close(self, code=1000):
        """A closing handshake; returns the code that came back."""
        self.send_frame(CLOSE, struct.pack("!H", code))
        answered = self.close_code()
        assert self.is_ended(), "the server left the connection open"
        self.http.close()
        return answered

    def hang_up(self):
        self.http.close()

    def reset(self):
        self.http.reset()

    def stop_writing(self):
        self.sock.shutdown(socket.SHUT_WR)

    def __enter__(self):
        self.sock.settimeout(LIMIT_S)
        return self

    def __exit__(self, *_):
        self.http.close()


def refusal(port, target="/v1/ws/chat", key=None, **changes):
    """The plain answer to an upgrade that is refused."""
    try:
        with WebSocket(port, target, key, upgrade_headers(**changes)):
            pass
    except Refused as refused:
        return refused.response
    raise AssertionError("the upgrade was not refused")


def with_query(target, **values):
    return target + "?" + "&".join(f"{name}={quote(value)}" for name, value in values.items())
