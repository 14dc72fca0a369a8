"""An HTTP/2 client over one socket, driven by hand (python3-h2 does the framing)."""

import json
import socket
import time

import h2.config
import h2.connection
import h2.events
import h2.settings

from harness import sse
from harness.http1 import Headers, Http1
from harness.wait import LIMIT_S


class Http2Stream:
    """What came back on one stream."""

    def __init__(self, number):
        self.number = number
        self.status = None
        self.headers = Headers()
        self.body = b""
        self.reader = sse.Reader()
        self.ended = False
        self.reset_code = None

    @property
    def events(self):
        return self.reader.events

    @property
    def done(self):
        return self.ended or self.reset_code is not None

    @property
    def id(self):
        return self.headers["x-request-id"]

    def json(self):
        return json.loads(self.body)


class Http2:
    """One connection with many streams. Windows are refilled at once except for streams in `held`."""

    def __init__(self, port, tls=None, host="127.0.0.1", window_bytes=None):
        self._open(socket.create_connection((host, port), LIMIT_S), tls, f"{host}:{port}")
        self.h2.initiate_connection()
        if window_bytes is not None:
            self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window_bytes})
        self.flush()

    @classmethod
    def upgrade(cls, port, host="127.0.0.1", target="/healthz"):
        """Starts as HTTP/1.1 and asks for `Upgrade: h2c`; the answer to the first request comes on stream 1."""
        client = cls.__new__(cls)
        plain = Http1(port)
        client._open(plain.sock, None, f"{host}:{port}")
        settings = client.h2.initiate_upgrade_connection().decode()
        plain.send("GET", target, {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": settings})
        switch = plain.head()
        assert switch.status == 101, f"no upgrade: {switch.status} {switch.headers}"
        assert switch.headers["upgrade"] == "h2c"
        client.streams[1] = Http2Stream(1)
        client.flush()
        client._take(client.h2.receive_data(plain._buffer))
        return client

    def _open(self, sock, tls, authority):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = tls.wrap_socket(sock, server_hostname="localhost") if tls else sock
        self.authority, self.scheme = authority, "https" if tls else "http"
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.streams, self.held = {}, set()
        self.goaway = self.closed = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def flush(self):
        self.sock.sendall(self.h2.data_to_send())

    def send(self, method, target, headers=(), body=None):
        """Opens a stream with a whole request and returns it."""
        headers = {name.lower(): value for name, value in dict(headers).items()}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("content-type", "application/json")
        number = self.h2.get_next_available_stream_id()
        head = [(":method", method), (":path", target), (":scheme", self.scheme), (":authority", self.authority)]
        self.h2.send_headers(number, head + list(headers.items()), end_stream=body is None)
        self.streams[number] = Http2Stream(number)
        self._send_body(self.streams[number], body or b"")
        return self.streams[number]

    def _send_body(self, stream, body):
        """In frames the peer takes, waiting for its windows; an answer that comes before the end ends the body."""
        while body:
            room = min(self.h2.local_flow_control_window(stream.number), self.h2.max_outbound_frame_size)
            if room > 0:
                piece, body = body[:room], body[room:]
                self.h2.send_data(stream.number, piece, end_stream=not body)
                continue
            self.flush()
            self.until(lambda: stream.done or self.h2.local_flow_control_window(stream.number) > 0, "room for the body")
            if stream.done:
                return
        self.flush()

    def request(self, method, target, headers=(), body=None):
        stream = self.send(method, target, headers, body)
        self.until(lambda: stream.done, f"the answer to {method} {target}")
        return stream

    def reset(self, stream, code=8):
        self.h2.reset_stream(stream.number, code)
        self.flush()

    def until(self, condition, what, limit_s=LIMIT_S):
        """Reads frames until the condition holds."""
        deadline = time.monotonic() + limit_s
        while not condition():
            assert not self.closed, f"connection closed before {what}"
            left = deadline - time.monotonic()
            assert left > 0, f"not within {limit_s:g} s: {what}"
            self.sock.settimeout(left)
            self._read()

    def _read(self):
        try:
            data = self.sock.recv(1 << 16)
        except socket.timeout:
            return
        except ConnectionError:
            data = b""
        if not data:
            self.closed = True
            return
        self._take(self.h2.receive_data(data))
        self.flush()

    def _take(self, events):
        for event in events:
            stream = self.streams.get(getattr(event, "stream_id", None))
            if isinstance(event, h2.events.ResponseReceived):
                stream.headers = Headers(event.headers)
                stream.status = int(stream.headers[":status"])
            elif isinstance(event, h2.events.DataReceived):
                stream.body += event.data
                stream.reader.feed(event.data)
                if event.stream_id not in self.held:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                stream.ended = True
            elif isinstance(event, h2.events.StreamReset):
                stream.reset_code = event.error_code
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.goaway = True
