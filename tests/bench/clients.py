"""Clients that hold many requests at once in one thread: bare sockets for HTTP/1.1, python3-h2 for HTTP/2."""

import json
import re
import selectors
import socket
import time

import h2.config
import h2.connection
import h2.events

SENT_AT = re.compile(rb'"content":"([0-9]{9,}) "')
CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
RECEIVE_BYTES = 1 << 16


def chat_body(model, stream=True, target=CHAT):
    cap = {"max_tokens": 4096} if target == MESSAGES else {}
    return json.dumps({"model": model, "stream": stream, "messages": [{"role": "user", "content": "Hello"}], **cap}).encode()


def chat_request(server, model, stream=True, target=CHAT):
    """A whole HTTP/1.1 request; server has port and key (None: no key)."""
    body = chat_body(model, stream, target)
    key = f"authorization: Bearer {server.key}\r\n" if server.key else ""
    head = (f"POST {target} HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\n{key}content-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n")
    return head.encode() + body


class Http1Requests:
    """Connections that each send the same request `rounds` times, one after another."""

    def __init__(self, server, model, connections, rounds=1, stream=True, target=CHAT):
        self.request = chat_request(server, model, stream, target)
        self.events = self.answers = 0
        self._rounds = rounds
        self._selector = selectors.DefaultSelector()
        self._open = 0
        self._buffers = {}
        for _ in range(connections):
            sock = socket.create_connection(("127.0.0.1", server.port), 30)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(sock, selectors.EVENT_READ, [rounds])
            self._buffers[sock] = b""
            sock.sendall(self.request)
            self._open += 1

    def run(self, until, limit_s=90):
        """Reads until the condition holds or every answer has come."""
        deadline = time.monotonic() + limit_s
        while self._open and not until():
            assert time.monotonic() < deadline, f"not within {limit_s} s ({self.answers} answers, {self.events} events)"
            for key, _ in self._selector.select(0.1):
                self._read(key.fileobj, key.data)

    def _read(self, sock, left):
        data = sock.recv(RECEIVE_BYTES)
        assert data, f"the server closed after {self.answers} answers: {self._buffers[sock][:300]!r}"
        self.events += data.count(b"data: ")
        held = self._buffers[sock] + data
        if not is_whole(held):
            self._buffers[sock] = held if b"\r\n\r\n" not in held or b"chunked" not in held else held[:512] + held[-16:]
            return
        assert b" 200 " in held[:16], held[:300]
        self._buffers[sock] = b""
        self.answers += 1
        left[0] -= 1
        if left[0]:
            sock.sendall(self.request)
        else:
            self._selector.unregister(sock)
            sock.close()
            self._open -= 1

    def close(self):
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()


def is_whole(held):
    """Has an answer come to its end? Of a chunked one its head and its last bytes are enough."""
    head, found, body = held.partition(b"\r\n\r\n")
    if not found:
        return False
    length = re.search(rb"\r\ncontent-length: *([0-9]+)", head, re.IGNORECASE)
    return len(body) >= int(length[1]) if length else held.endswith(b"0\r\n\r\n")


class Http2Streams:
    """Streams over a few HTTP/2 connections, a hundred on each."""

    def __init__(self, server, model, streams):
        self.events = 0
        self._selector = selectors.DefaultSelector()
        body = chat_body(model)
        for first in range(0, streams, 100):
            sock = socket.create_connection(("127.0.0.1", server.port), 30)
            connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
            connection.initiate_connection()
            for _ in range(min(100, streams - first)):
                number = connection.get_next_available_stream_id()
                connection.send_headers(number, [
                    (":method", "POST"), (":path", CHAT), (":scheme", "http"), (":authority", f"127.0.0.1:{server.port}"),
                    ("authorization", f"Bearer {server.key}"), ("content-type", "application/json"),
                    ("content-length", str(len(body)))])
                connection.send_data(number, body, end_stream=True)
            sock.sendall(connection.data_to_send())
            self._selector.register(sock, selectors.EVENT_READ, connection)

    def run(self, until, limit_s=90):
        deadline = time.monotonic() + limit_s
        while not until():
            assert time.monotonic() < deadline, f"not within {limit_s} s ({self.events} events)"
            for key, _ in self._selector.select(0.1):
                self._read(key.fileobj, key.data)

    def _read(self, sock, connection):
        data = sock.recv(RECEIVE_BYTES)
        assert data, "the server closed"
        for event in connection.receive_data(data):
            assert not isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)), event
            if isinstance(event, h2.events.DataReceived):
                self.events += event.data.count(b"data: ")
                connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        sock.sendall(connection.data_to_send())

    def close(self):
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()


def time_events(paths, model, offset_s):
    """One stream over each path at once, begun offset_s apart so that their events never meet. Returns for each path the
    nanoseconds every event took from the mock's clock to this process."""
    selector = selectors.DefaultSelector()
    taken = {name: [] for name in paths}
    for name, server in paths.items():
        sock = socket.create_connection(("127.0.0.1", server.port), 30)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(chat_request(server, model))
        selector.register(sock, selectors.EVENT_READ, Heard(taken[name]))
        _read_for(selector, offset_s)
    while selector.get_map():
        assert _read_for(selector, 10), "no event for 10 s"
    return taken


class Heard:
    """What came over one connection: all of it, and where the last event that was timed ended."""

    def __init__(self, taken_ns):
        self.taken_ns, self.bytes, self.timed = taken_ns, bytearray(), 0

    def take(self, data, now_ns):
        self.bytes += data
        for sent in SENT_AT.finditer(self.bytes, self.timed):
            self.taken_ns.append(now_ns - int(sent[1]))
            self.timed = sent.end()


def _read_for(selector, seconds):
    """Reads until that time is over; True when anything came."""
    deadline = time.monotonic() + seconds
    came = False
    while selector.get_map() and (left := deadline - time.monotonic()) > 0:
        for key, _ in selector.select(left):
            data = key.fileobj.recv(RECEIVE_BYTES)
            key.data.take(data, time.monotonic_ns())
            came = True
            if not data or key.data.bytes.endswith(b"0\r\n\r\n"):
                assert b" 200 " in key.data.bytes[:16], bytes(key.data.bytes[:300])
                selector.unregister(key.fileobj)
                key.fileobj.close()
    return came
