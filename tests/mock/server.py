"""The mock's sockets: HTTP/1.1 by hand, so that an answer may be broken anywhere, and a record of all that was seen.

One thread runs an asyncio loop over raw sockets. Every connection has a receiving task of its own, so that the moment
at which a client leaves is known even while an answer is being sent or withheld. Tests read records from their thread.
"""

import asyncio
import contextlib
import itertools
import json
import re
import secrets
import socket
import struct
import threading
import time
import traceback

HEAD_BYTES_MOST = 1 << 20
TAG = re.compile(rb"case-[0-9]+-[0-9a-f]{8}")
REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
           413: "Payload Too Large", 422: "Unprocessable Entity", 429: "Too Many Requests",
           500: "Internal Server Error", 503: "Service Unavailable", 529: "Overloaded"}


class Pace:
    """Lets a test decide when each step of an answer happens: release(n) allows n more, open() all of them."""

    def __init__(self, loop):
        self._loop = loop
        self._permits = asyncio.Semaphore(0)
        self._open = False

    async def take(self):
        if not self._open:
            await self._permits.acquire()

    def release(self, steps=1):
        self._loop.call_soon_threadsafe(self._allow, steps)

    def open(self):
        self._open = True
        self._loop.call_soon_threadsafe(self._allow, 1 << 10)

    def _allow(self, steps):
        for _ in range(steps):
            self._permits.release()


class Case:
    """One scripted behaviour and the requests that asked for it. Requests find it by the tag in their prompt."""

    def __init__(self, mock, number, behaviour):
        self.mock = mock
        self.tag = f"case-{number}-{secrets.token_hex(4)}"
        self.behaviour = behaviour
        self.exchanges = []

    @property
    def prompt(self):
        return f"Please answer {self.tag}."

    @property
    def count(self):
        return len(self.exchanges)

    @property
    def last(self):
        return self.exchanges[-1]

    def body(self, model="test-model", **fields):
        """A chat-completions body that reaches this case."""
        return {"model": model, "messages": [{"role": "user", "content": self.prompt}], **fields}


class Exchange:
    """One request as the mock saw it, and the tools to answer it. Times are time.monotonic()."""

    def __init__(self, connection, number, head, body):
        lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, self.version = lines[0].split(" ", 2)
        self.headers = [tuple(part.strip() for part in line.split(":", 1)) for line in lines[1:] if line]
        self.body = body
        self.connection = connection
        self.connection_number = connection.number
        self.number_on_connection = number
        self.nth = 0
        self.began_at = time.monotonic()
        self.client_left_at = None
        self.ended_at = None
        self.bytes_sent = 0
        self.sending_since = None
        self.events_sent = 0
        self.chunked = False

    def header(self, name):
        """The header's values joined, or None."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        return ", ".join(values) if values else None

    def json(self):
        return json.loads(self.body)

    @property
    def client_left(self):
        return self.client_left_at is not None

    @property
    def stalled_for(self):
        """Seconds the present write has been waiting for the peer; 0 when none waits."""
        since = self.sending_since
        return 0.0 if since is None else time.monotonic() - since

    async def send(self, data):
        """Raw bytes, as they are."""
        self.sending_since = time.monotonic()
        await self.connection.send(data)
        self.sending_since = None
        self.bytes_sent += len(data)

    async def head(self, status=200, headers=(), content_type="application/json", length=None, chunked=False):
        self.chunked = chunked
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}", f"content-type: {content_type}"]
        if length is not None:
            lines.append(f"content-length: {length}")
        if chunked:
            lines.append("transfer-encoding: chunked")
        lines += [f"{name}: {value}" for name, value in headers]
        await self.send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    async def part(self, data):
        """A piece of the body, framed as the head announced."""
        if data:
            await self.send(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    async def finish(self):
        if self.chunked:
            await self.send(b"0\r\n\r\n")

    async def event(self, data, name=None):
        """One server-sent event; data is a JSON value or bytes."""
        payload = data if isinstance(data, bytes) else json.dumps(data, separators=(",", ":")).encode()
        prefix = b"" if name is None else b"event: " + name.encode() + b"\n"
        await self.part(prefix + b"data: " + payload + b"\n\n")
        self.events_sent += 1

    def close(self):
        """Ends the connection with a FIN when the behaviour returns."""
        self.connection.last = True

    def reset(self):
        """Ends the connection with a RST when the behaviour returns."""
        self.connection.last = True
        self.connection.abort = True

    def doom_next(self):
        """Keeps the connection, but drops it without an answer once another request arrives on it."""
        self.connection.doomed = True


class Connection:
    """One accepted socket: receives all the time, answers one request after another."""

    def __init__(self, mock, sock, number):
        self.mock, self.sock, self.number = mock, sock, number
        self.reader = asyncio.StreamReader(limit=HEAD_BYTES_MOST)
        self.last = self.abort = self.doomed = False
        self._exchange = self._answering = None

    async def send(self, data):
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def run(self):
        receiving = asyncio.create_task(self._receive())
        try:
            await self._serve()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass
        except Exception:  # a behaviour that fails is the test's own mistake: kept for the end of the session
            self.mock.faults.append(traceback.format_exc())
        finally:
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)
            await asyncio.sleep(0)  # lets the loop forget the descriptor before it is closed
            if self.abort:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()

    async def _receive(self):
        loop = asyncio.get_running_loop()
        try:
            while data := await loop.sock_recv(self.sock, 1 << 16):
                self.reader.feed_data(data)
        except ConnectionError:
            pass
        self.reader.feed_eof()
        if self._exchange is not None:
            self._exchange.client_left_at = time.monotonic()
            self._answering.cancel()

    async def _serve(self):
        for number in itertools.count():
            head = (await self.reader.readuntil(b"\r\n\r\n"))[:-4]
            body = await self._read_body(head.lower())
            exchange = Exchange(self, number, head, body)
            if self.doomed:
                self.mock.dropped.append(exchange)
                return
            await self._answer(exchange)
            if self.last or exchange.client_left:
                return

    async def _read_body(self, head):
        length = re.search(rb"\r\ncontent-length: *([0-9]+)", head)
        if length:
            return await self.reader.readexactly(int(length[1]))
        if not re.search(rb"\r\ntransfer-encoding: *chunked", head):
            return b""
        body = bytearray()
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readuntil(b"\r\n")
        return bytes(body)

    async def _answer(self, exchange):
        behaviour = self.mock.choose(exchange)
        self._exchange = exchange
        self._answering = asyncio.create_task(behaviour(exchange))
        try:
            await self._answering
        except asyncio.CancelledError:
            if not exchange.client_left:
                raise
        except ConnectionError:
            exchange.client_left_at = exchange.client_left_at or time.monotonic()
        finally:
            self._exchange = None
            exchange.ended_at = time.monotonic()


class Mock:
    """The server. choose() finds a behaviour by the case's tag in the body, else the default one answers."""

    def __init__(self, default=None, port=0, send_buffer_bytes=None):
        from mock import behaviour  # behaviours are written against this module
        self.default = default or behaviour.by_model()
        self.exchanges, self.dropped, self.faults = [], [], []
        self._cases = {}
        self._numbers = itertools.count(1)
        self._listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        self._listener.setblocking(False)
        if send_buffer_bytes:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
        self.port = self._listener.getsockname()[1]
        self.loop = asyncio.new_event_loop()
        self._thread = None

    @property
    def base_url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self):
        self._thread = threading.Thread(target=self.run, name="mock", daemon=True)
        self._thread.start()
        return self

    def run(self):
        asyncio.set_event_loop(self.loop)
        with contextlib.suppress(asyncio.CancelledError):
            self.loop.run_until_complete(self._accept())

    def stop(self):
        def cancel_all():
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
        self.loop.call_soon_threadsafe(cancel_all)
        self._thread.join(10)
        self._listener.close()

    def pace(self):
        return Pace(self.loop)

    def case(self, behaviour):
        case = Case(self, next(self._numbers), behaviour)
        self._cases[case.tag.encode()] = case
        return case

    def choose(self, exchange):
        """The behaviour for this exchange, which is recorded with its case."""
        self.exchanges.append(exchange)
        tags = TAG.findall(exchange.body)
        case = self._cases.get(tags[-1]) if tags else None
        if case is None:
            return self.default
        exchange.nth = len(case.exchanges)
        case.exchanges.append(exchange)
        return case.behaviour

    async def _accept(self):
        connections = set()
        for number in itertools.count():
            sock, _ = await self.loop.sock_accept(self._listener)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = asyncio.create_task(Connection(self, sock, number).run())
            connections.add(task)
            task.add_done_callback(connections.discard)
