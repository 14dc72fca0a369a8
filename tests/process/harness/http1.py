"""An HTTP/1.1 client over a bare socket: says exactly what it is told and tells exactly what came back."""

import json
import socket
import struct
import time

from harness import sse
from harness.wait import LIMIT_S


class Broken(Exception):
    """The connection ended inside an answer."""


class Headers(list):
    """Pairs as they came."""

    def all(self, name):
        return [value for key, value in self if key.lower() == name.lower()]

    def get(self, name, default=None):
        values = self.all(name)
        return values[-1] if values else default

    def __contains__(self, name):
        return bool(self.all(name))

    def __getitem__(self, name):
        return self.all(name)[-1] if isinstance(name, str) else super().__getitem__(name)


class Response:
    """Status and headers, and the body once read() or the connection's answer() has it."""

    def __init__(self, status, headers, version):
        self.status, self.headers, self.version = status, Headers(headers), version
        self.body = b""

    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        return self.json()["error"]

    @property
    def id(self):
        return self.headers["x-request-id"]


class Http1:
    """One connection. Use as a context manager."""

    def __init__(self, port, tls=None, host="127.0.0.1", receive_buffer_bytes=None, session=None, source=None):
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if receive_buffer_bytes:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.sock.settimeout(LIMIT_S)
        if source is not None:
            self.sock.bind((source, 0))
        self.sock.connect((host, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname="localhost", session=session)
        self.host = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._buffer = b""
        self.received_at = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def reset(self):
        """Ends the connection with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def send_raw(self, data):
        self.sock.sendall(data)

    def send(self, method, target, headers=(), body=None, version="1.1"):
        """Sends a request; body is bytes or a JSON value."""
        headers = dict(headers)
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("content-type", "application/json")
        if body is not None:
            headers.setdefault("content-length", str(len(body)))
        lines = [f"{method} {target} HTTP/{version}", f"host: {self.host}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.send_raw(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (body or b""))

    def request(self, method, target, headers=(), body=None, version="1.1"):
        """Sends, and reads the whole answer."""
        self.send(method, target, headers, body, version)
        return self.answer(no_body=method == "HEAD")

    def answer(self, no_body=False):
        response = self.head()
        if not no_body:
            response.body = b"".join(self.body_of(response))
        return response

    def head(self):
        """Reads status line and headers; informational answers are passed over, except 101."""
        while True:
            head, self._buffer = self._until(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            version, status = lines[0].split(" ", 2)[:2]
            pairs = [tuple(part.strip() for part in line.split(":", 1)) for line in lines[1:] if line]
            if not status.startswith("1") or status == "101":
                return Response(int(status), pairs, version)

    def body_of(self, response):
        """Yields the body's pieces as they arrive. Broken when it ends before its framing says so."""
        if response.status in (101, 204, 304):
            return
        if "chunked" in response.headers.get("transfer-encoding", ""):
            yield from self._chunks()
        elif "content-length" in response.headers:
            yield self._exactly(int(response.headers["content-length"]))
        else:
            yield self._buffer
            self._buffer = b""
            while data := self._receive():
                yield data

    def _chunks(self):
        while True:
            line, self._buffer = self._until(b"\r\n")
            size = int(line, 16)
            data = self._exactly(size + 2)[:-2]
            if size == 0:
                return
            yield data

    def _receive(self):
        data = self.sock.recv(1 << 16)
        self.received_at = time.monotonic()
        return data

    def _more(self):
        try:
            data = self._receive()
        except ConnectionError as error:
            raise Broken(str(error)) from error
        if not data:
            raise Broken(f"connection closed with {self._buffer[:200]!r} unread")
        self._buffer += data

    def _until(self, mark):
        while mark not in self._buffer:
            self._more()
        head, _, rest = self._buffer.partition(mark)
        return head, rest

    def _exactly(self, count):
        while len(self._buffer) < count:
            self._more()
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def is_closed(self):
        """Waits for the peer to end the connection; what it still sends is thrown away."""
        try:
            while self._receive():
                pass
        except socket.timeout:
            return False
        except ConnectionError:
            return True
        return True


class Stream:
    """A streaming answer in progress: events as they arrive."""

    def __init__(self, connection, response):
        self.connection, self.response = connection, response
        self.reader = sse.Reader()
        self.raw = bytearray()
        self.complete = False
        self._pieces = connection.body_of(response)
        self._given = 0

    @property
    def status(self):
        return self.response.status

    @property
    def headers(self):
        return self.response.headers

    @property
    def id(self):
        return self.response.id

    @property
    def events(self):
        return self.reader.events

    def next(self):
        """The next event; None at the end of the body."""
        while self._given >= len(self.events):
            if not self._advance():
                return None
        self._given += 1
        return self.events[self._given - 1]

    def take(self, count):
        taken = [self.next() for _ in range(count)]
        assert None not in taken, f"stream ended after {len(self.events)} events: {self.raw[-500:]!r}"
        return taken

    def until_comment(self, count=1):
        """Reads on until that many comments have come."""
        while len(self.reader.comments) < count:
            assert self._advance(), f"stream ended with {self.reader.comments}"
        return self.reader.comments

    def drain(self):
        """Reads to the end and returns all events."""
        while self._advance():
            pass
        return self.events

    def _advance(self):
        piece = next(self._pieces, None)
        if piece is None:
            self.complete = True
            return False
        self.raw += piece
        self.reader.feed(piece)
        return True

    def close(self):
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
