"""The load: many clients on one asyncio loop, over HTTP/1.1 and HTTP/2, that keep what they were given."""

import asyncio
import json
import re
import socket
import struct
import time
from dataclasses import dataclass

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from fault.plan import MODEL, make_plan, prompt_of

WORD_MARK = b'"content":" '  # how every word of the provider looks in a stream
DONE_MARK = b"data: [DONE]"
LENGTH_MARK = b'"finish_reason":"length"'
ERROR_MARK = b'data: {"error"'
LIMIT_S = 30
RESTS_S = {"unsent": 0.2, "refused": 0.05}  # before a client tries again
PATH = "/v1/chat/completions"


@dataclass
class Outcome:
    """One request as its client saw it."""
    plan: object
    transport: str
    began_at: float
    ended_at: float = 0.0
    sent: bool = False
    status: int = 0
    id: str = ""  # x-request-id of the answer
    cost: str | None = None  # x-tollgate-cost-usd of the answer
    received: int = 0  # words
    shortened: bool = False  # finish reason "length"
    end: str = "cut"  # complete | error | refused | left | cut | hung | unsent


class Left(Exception):
    """The client leaves, as planned."""


def body_of(plan):
    body = {"model": MODEL, "messages": [{"role": "user", "content": prompt_of(plan)}]}
    if plan.stream:
        body["stream"] = True
        if plan.include_usage:
            body["stream_options"] = {"include_usage": True}
    return json.dumps(body).encode()


def conclude(outcome, body, whole):
    """Reads off a body, whole or not, what the client has got."""
    if outcome.status != 200:
        outcome.end = "refused" if whole and outcome.status else outcome.end
        return
    if outcome.plan.stream:
        outcome.received = body.count(WORD_MARK)
        outcome.shortened = LENGTH_MARK in body
        if DONE_MARK in body:
            outcome.end = "complete"
        elif ERROR_MARK in body:
            outcome.end = "error"
    elif whole:
        text = json.loads(body)["choices"][0]["message"]["content"]
        outcome.received, outcome.end = text.count(" "), "complete"


class Http1Client:
    """One connection at a time, kept between requests."""
    transport = "http1"

    def __init__(self, load):
        self.load = load
        self.reader = self.writer = None

    def close(self, abort=False):
        if self.writer is None:
            return
        if abort:
            sock = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()
        else:
            self.writer.close()
        self.reader = self.writer = None

    async def exchange(self, plan, outcome):
        """Fills the outcome. OSError when nobody listens."""
        body, whole = bytearray(), False
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.load.port, limit=1 << 20)
        try:
            payload = body_of(plan)
            resume = "x-tollgate-resume: 1\r\n" if plan.resumable else ""
            self.writer.write(
                f"POST {PATH} HTTP/1.1\r\nhost: relay\r\nauthorization: Bearer {self.load.keys[plan.key]}\r\n"
                f"x-request-id: {plan.id}\r\ncontent-type: application/json\r\ncontent-length: {len(payload)}\r\n{resume}\r\n"
                .encode() + payload)
            outcome.sent = True
            await self.writer.drain()
            if plan.leave != "stay" and plan.leave_after_words < 0:
                await asyncio.sleep(plan.pause_s)
                raise Left
            chunked, length = self._read_head(outcome, await self.reader.readuntil(b"\r\n\r\n"))
            await (self._chunks(plan, body) if chunked else self._plain(length, body))
            whole = True
        except Left:
            outcome.end = "left"
            self.close(abort=plan.leave == "rst")
        except (OSError, asyncio.IncompleteReadError):
            self.close()
        finally:
            left = outcome.end == "left"
            conclude(outcome, bytes(body), whole)
            outcome.end = "left" if left and outcome.end != "complete" else outcome.end
        if not plan.stream and outcome.status != 200:
            self.close()  # a refused client comes back by another worker

    def _read_head(self, outcome, head):
        text = head.decode("latin-1").lower()
        outcome.status = int(text[9:12])
        outcome.id = _header(text, "x-request-id")
        outcome.cost = _header(text, "x-tollgate-cost-usd")
        return "\r\ntransfer-encoding: chunked" in text, int(_header(text, "content-length") or 0)

    async def _plain(self, length, body):
        while len(body) < length:
            data = await self.reader.read(min(1 << 16, length - len(body)))
            if not data:
                raise ConnectionResetError
            body += data

    async def _chunks(self, plan, body):
        leaves = plan.leave != "stay"
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            left = size + 2
            while left:
                data = await self.reader.read(left)
                if not data:
                    raise ConnectionResetError
                body += data
                left -= len(data)
            del body[-2:]
            if leaves and body.count(WORD_MARK) >= plan.leave_after_words:
                raise Left
        await self.reader.readexactly(2)


def _header(text, name):
    found = re.search(rf"\r\n{name}: *([^\r]*)\r\n", text)
    return found[1] if found else None


class Http2Line:
    """One HTTP/2 connection shared by several clients."""

    def __init__(self, load):
        self.load = load
        self.opening = asyncio.Lock()
        self.h2 = self.writer = None
        self.streams = {}
        self.goaway = False

    async def ready(self):
        async with self.opening:
            if self.h2 is not None and not self.goaway:
                return
            reader, writer = await asyncio.open_connection("127.0.0.1", self.load.port)
            self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
            self.writer, self.goaway, self.streams = writer, False, {}
            self.h2.initiate_connection()
            self.h2.increment_flow_control_window(1 << 28)
            self.flush()
            asyncio.create_task(self._read(reader, self.h2, self.streams))

    def flush(self):
        self.writer.write(self.h2.data_to_send())

    def open(self, head, payload, stream):
        number = self.h2.get_next_available_stream_id()
        self.h2.send_headers(number, head)
        self.h2.send_data(number, payload, end_stream=True)
        self.streams[number] = stream
        self.flush()
        return number

    def reset(self, number, stream):
        if self.h2 is None or self.streams.get(number) is not stream:
            return  # it has ended by itself
        try:
            self.h2.reset_stream(number, 8)
            self.flush()
        except h2.exceptions.ProtocolError:
            pass  # the whole connection has

    async def _read(self, reader, connection, streams):
        writer = self.writer
        try:
            while data := await reader.read(1 << 16):
                for event in connection.receive_data(data):
                    self._take(event, connection, streams)
                writer.write(connection.data_to_send())
        except (OSError, h2.exceptions.ProtocolError):
            pass
        if self.h2 is connection:
            self.h2 = None
        writer.close()
        for stream in streams.values():
            stream.put("gone", None)

    def _take(self, event, connection, streams):
        stream = streams.get(getattr(event, "stream_id", None))
        if isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = True
        elif stream is None:
            return
        elif isinstance(event, h2.events.ResponseReceived):
            stream.put("head", dict(event.headers))
        elif isinstance(event, h2.events.DataReceived):
            connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            stream.put("data", event.data)
        elif isinstance(event, h2.events.StreamEnded):
            stream.put("end", None)
            del streams[event.stream_id]
        elif isinstance(event, h2.events.StreamReset):
            stream.put("gone", None)
            del streams[event.stream_id]


class _Http2Stream:
    def __init__(self):
        self.queue = asyncio.Queue()

    def put(self, what, value):
        self.queue.put_nowait((what, value))


class Http2Client:
    """One stream at a time on a shared connection."""
    transport = "http2"

    def __init__(self, load, line):
        self.load, self.line = load, line

    def close(self, abort=False):
        """The line stays open for the others."""

    async def exchange(self, plan, outcome):
        await self.line.ready()
        stream, body, whole = _Http2Stream(), bytearray(), False
        head = [(":method", "POST"), (":path", PATH), (":scheme", "http"), (":authority", "relay"),
                ("authorization", f"Bearer {self.load.keys[plan.key]}"), ("x-request-id", plan.id),
                ("content-type", "application/json"), *([("x-tollgate-resume", "1")] if plan.resumable else [])]
        try:
            number = self.line.open(head, body_of(plan), stream)
        except (h2.exceptions.ProtocolError, AttributeError):
            raise ConnectionResetError from None  # the line broke just now
        outcome.sent = True
        try:
            if plan.leave != "stay" and plan.leave_after_words < 0:
                await asyncio.sleep(plan.pause_s)
                raise Left
            whole = await self._receive(plan, outcome, stream, body)
        except Left:
            outcome.end = "left"
            self.line.reset(number, stream)
        left = outcome.end == "left"
        conclude(outcome, bytes(body), whole)
        outcome.end = "left" if left and outcome.end != "complete" else outcome.end

    async def _receive(self, plan, outcome, stream, body):
        """Was the body whole?"""
        while True:
            what, value = await stream.queue.get()
            if what == "head":
                outcome.status = int(value[":status"])
                outcome.id, outcome.cost = value.get("x-request-id"), value.get("x-tollgate-cost-usd")
            elif what == "data":
                body += value
                if plan.leave != "stay" and plan.stream and body.count(WORD_MARK) >= plan.leave_after_words:
                    raise Left
            else:
                return what == "end"


class Load:
    """All clients. start() and pause() are called from another thread than the loop's."""

    def __init__(self, loop, seed, keys, weights, port, plans, clients=120):
        self.loop, self.seed, self.keys, self.weights, self.port = loop, seed, keys, weights, port
        self.plans = plans
        self.clients = clients
        self.outcomes = []
        self.number = 0
        self.busy = 0
        self.most_busy = 0
        self.last_answer_at = time.monotonic()
        self.longest_silence_s = 0.0
        self.faults = []
        self.unsent = 0
        self._running = asyncio.Event()
        self._tasks = []

    def start(self):
        asyncio.run_coroutine_threadsafe(self._start(), self.loop).result(10)

    async def _start(self):
        self.last_answer_at = time.monotonic()
        self._running.set()
        if not self._tasks:
            lines = [Http2Line(self) for _ in range(4)]
            makers = [Http2Client(self, lines[n % 4]) if n % 5 == 0 else Http1Client(self) for n in range(self.clients)]
            self._tasks = [asyncio.create_task(self._client(maker)) for maker in makers]

    def pause(self):
        """No new requests; is_idle tells when the last has ended."""
        self.loop.call_soon_threadsafe(self._running.clear)

    @property
    def is_idle(self):
        return not self._running.is_set() and self.busy == 0

    def take_outcomes(self):
        taken, self.outcomes = self.outcomes, []
        return taken

    async def _client(self, client):
        while True:
            await self._running.wait()
            self.number += 1
            plan = make_plan(self.seed, self.number, self.weights, client.transport == "http2")
            self.plans[plan.id] = plan
            outcome = Outcome(plan, client.transport, time.monotonic())
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
            try:
                await asyncio.wait_for(client.exchange(plan, outcome), LIMIT_S)
            except asyncio.TimeoutError:
                outcome.end = "hung"
                client.close(abort=True)
            except OSError:
                outcome.end = outcome.end if outcome.sent else "unsent"
            except Exception as error:  # a mistake of ours: said at the end, and the run fails
                self.faults.append(repr(error))
                client.close(abort=True)
            self.busy -= 1
            self._note(outcome)
            await asyncio.sleep(RESTS_S.get(outcome.end, 0.005))

    def _note(self, outcome):
        outcome.ended_at = time.monotonic()
        if outcome.end == "unsent":
            self.unsent += 1
            del self.plans[outcome.plan.id]
            return
        if outcome.status == 200:
            self.longest_silence_s = max(self.longest_silence_s, outcome.ended_at - self.last_answer_at)
            self.last_answer_at = outcome.ended_at
        self.outcomes.append(outcome)
