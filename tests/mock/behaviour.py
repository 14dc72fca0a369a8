"""What an answer of the mock can be. Each function returns a behaviour: a coroutine function over one Exchange."""

import asyncio
import gzip
import json
import re
import time
import zlib

from mock import openai

FOREVER_S = 3600
SSE = "text/event-stream"


def chat(*words, counts=None, report_usage=True, headers=()):
    """A good provider: streams or not as asked, and reports usage (in a stream only when asked)."""
    words = words or ("One", " two", " three", " four", " five")
    counts = counts or openai.usage(completion=len(words))
    streaming = stream(*words, counts=counts, report_usage=report_usage, headers=headers)

    async def answer(exchange):
        request = exchange.json()
        if openai.wants_stream(request):
            await streaming(exchange)
            return
        body = openai.completion(request["model"], "".join(words), counts if report_usage else None)
        await json_answer(body, headers=headers)(exchange)
    return answer


def stream(*words, counts=None, report_usage=True, pace=None, interval_s=0, headers=(), ending="done"):
    """Streams the words as one event each. pace (or interval_s) is waited for before each event. `ending`: "done" is the
    whole ending; "finish" stops after the finish chunk; "close", "reset" and "stall" do that after the last word."""
    words = words or ("One", " two", " three", " four", " five")

    async def answer(exchange):
        request = exchange.json()
        asked = openai.wants_usage(request)
        model = request["model"]
        await exchange.head(content_type=SSE, chunked=True, headers=headers)
        for number, word in enumerate(words):
            await _wait_turn(pace, interval_s)
            delta = {"role": "assistant", "content": word} if number == 0 else {"content": word}
            await exchange.event(openai.chunk(model, delta, with_usage=asked))
        if ending in ("done", "finish"):
            await _end_stream(exchange, model, asked and report_usage, counts or openai.usage(completion=len(words)),
                              asked, done=ending == "done")
        else:
            await _break_off(exchange, ending)
    return answer


async def _wait_turn(pace, interval_s):
    if pace is not None:
        await pace.take()
    if interval_s:
        await asyncio.sleep(interval_s)


async def _end_stream(exchange, model, report, counts, asked, done):
    await exchange.event(openai.chunk(model, finish="stop", with_usage=asked))
    if report:
        await exchange.event(openai.usage_chunk(model, counts))
    if done:
        await exchange.event(b"[DONE]")
    await exchange.finish()


async def _break_off(exchange, ending):
    if ending == "stall":
        await asyncio.sleep(FOREVER_S)
    elif ending == "reset":
        exchange.reset()
    elif ending == "clean":  # a correct end of the body, but no end of the stream
        await exchange.finish()
    else:
        exchange.close()


def paced(events, interval_s):
    """For benches: events on an even clock, each carrying CLOCK_MONOTONIC in nanoseconds as its text."""
    async def answer(exchange):
        request = exchange.json()
        model, asked = request["model"], openai.wants_usage(request)
        await exchange.head(content_type=SSE, chunked=True)
        due = time.monotonic()
        for _ in range(events):
            due += interval_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await exchange.event(openai.chunk(model, {"content": f"{time.monotonic_ns()} "}, with_usage=asked))
        await _end_stream(exchange, model, asked, openai.usage(completion=events), asked, done=True)
    return answer


ANTHROPIC_WORD = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "1234567890 "}}
GEMINI_WORD = {"candidates": [{"content": {"parts": [{"text": "1234567890 "}], "role": "model"}, "index": 0}]}


def paced_in_dialect(events, interval_s):
    """For benches: events of one size on an even clock, in the dialect of the path that was asked."""
    async def answer(exchange):
        if exchange.target.endswith("/messages"):
            await _paced(exchange, events, interval_s, _named(ANTHROPIC_WORD), *_anthropic_frame())
        elif ":streamGenerateContent" in exchange.target:
            last = {"candidates": [{"finishReason": "STOP", "index": 0}],
                    "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": events, "totalTokenCount": events + 5}}
            await _paced(exchange, events, interval_s, _data(GEMINI_WORD), b"", _data(last))
        else:
            word = openai.chunk("m", {"content": "1234567890 "}, with_usage=True)
            end = _data(openai.chunk("m", finish="stop", with_usage=True))
            end += _data(openai.usage_chunk("m", openai.usage(completion=events))) + b"data: [DONE]\n\n"
            await _paced(exchange, events, interval_s, _data(word), b"", end)
    return answer


def _data(body):
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def _named(body):
    return b"event: " + body["type"].encode() + b"\n" + _data(body)


def _anthropic_frame():
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None,
               "usage": {"input_tokens": 5, "output_tokens": 1}}
    start = _named({"type": "message_start", "message": message})
    start += _named({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
    end = _named({"type": "content_block_stop", "index": 0})
    end += _named({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}})
    return start, end + _named({"type": "message_stop"})


async def _paced(exchange, events, interval_s, event, start, end):
    await exchange.head(content_type=SSE, chunked=True)
    if start:
        await exchange.part(start)
    due = time.monotonic()
    for _ in range(events):
        due += interval_s
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        await exchange.part(event)
    await exchange.part(end)
    await exchange.finish()


def flood(total_bytes, text_bytes=8192):
    """As fast as the peer reads: events of text_bytes until total_bytes were sent, then a whole ending."""
    async def answer(exchange):
        model = exchange.json()["model"]
        await exchange.head(content_type=SSE, chunked=True)
        while exchange.bytes_sent < total_bytes:
            await exchange.event(openai.chunk(model, {"content": "x" * text_bytes}))
            await asyncio.sleep(0)
        await _end_stream(exchange, model, True, openai.usage(completion=7), True, done=True)
    return answer


def replay(data, content_type=SSE, status=200, headers=(), cut_bytes=None, cut_edges_bytes=None):
    """Sends recorded body bytes in pieces of cut_bytes (default: whole), each its own chunk. With cut_edges_bytes only
    that much of both ends is cut so small, which keeps big bodies quick."""
    pieces = list(_cut(data, cut_bytes, cut_edges_bytes))

    async def answer(exchange):
        await exchange.head(status, headers, content_type, chunked=True)
        for number, piece in enumerate(pieces):
            await exchange.part(piece)
            if number % 32 == 31:
                await asyncio.sleep(0)
        await exchange.finish()
    return answer


def _cut(data, size, edges):
    if size is None:
        return [data]
    if edges is None or len(data) <= 2 * edges:
        return _pieces(data, size)
    return _pieces(data[:edges], size) + _pieces(data[edges:-edges], 251) + _pieces(data[-edges:], size)


def _pieces(data, size):
    return [data[start:start + size] for start in range(0, len(data), size)]


def json_answer(body, status=200, headers=(), content_type="application/json"):
    """A body with a content-length; body is a JSON value or bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def answer(exchange):
        await exchange.head(status, headers, content_type, length=len(data))
        await exchange.part(data)
    return answer


def status(code, body=None, headers=(), content_type="application/json"):
    """An error answer."""
    return json_answer(body if body is not None else openai.error("The mock was told to fail."), code, headers, content_type)


def raw(data, ending="close", cut_bytes=None):
    """Bytes instead of an HTTP answer, then `ending`: "close", "reset", "stall" or "keep"."""
    async def answer(exchange):
        for piece in _cut(data, cut_bytes, None):
            await exchange.send(piece)
        if ending != "keep":
            await _break_off(exchange, ending)
    return answer


def hang():
    """Reads the request and never answers."""
    return raw(b"", "stall")


def drop():
    """Closes without a byte."""
    return raw(b"", "close")


def reset():
    """Resets without a byte."""
    return raw(b"", "reset")


def short_body(body, announced_bytes):
    """Announces more bytes than it sends, then closes."""
    async def answer(exchange):
        await exchange.head(length=announced_bytes)
        await exchange.send(body)
        exchange.close()
    return answer


def half_chunk(data, announced_bytes=4096):
    """A stream that breaks inside a chunk of announced_bytes."""
    async def answer(exchange):
        await exchange.head(content_type=SSE, chunked=True)
        await exchange.send(b"%x\r\n" % announced_bytes + data)
        exchange.close()
    return answer


def endless_header(total_bytes=4 << 20):
    """A response head that does not end before total_bytes."""
    async def answer(exchange):
        await exchange.send(b"HTTP/1.1 200 OK\r\n")
        for number in range(total_bytes // 1024):
            await exchange.send(b"x-filler-%d: %b\r\n" % (number, b"f" * 1000))
    return answer


def gzipped(body):
    """A body that is compressed although nobody asked for it."""
    data = gzip.compress(body if isinstance(body, bytes) else json.dumps(body).encode())
    return json_answer(data, headers=[("content-encoding", "gzip")])


def zipped_stream(events, encoding="gzip"):
    """Events that are compressed although nobody asked for it, each flushed so that it can be read when it comes."""
    async def answer(exchange):
        packer = zlib.compressobj(wbits=31 if encoding == "gzip" else 15)
        await exchange.head(200, [("content-encoding", encoding)], SSE, chunked=True)
        for event in events:
            await exchange.part(packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH))
        await exchange.part(packer.flush())
        await exchange.finish()
    return answer


def early_hints(inner, count=3):
    """Informational answers before the real one."""
    async def answer(exchange):
        for _ in range(count):
            await exchange.send(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")
        await inner(exchange)
    return answer


def then_drop_next(inner):
    """Answers, keeps the connection, and drops it when the next request arrives: the keep-alive race."""
    async def answer(exchange):
        await inner(exchange)
        exchange.doom_next()
    return answer


def then_close(inner):
    """Answers without announcing that the connection ends, and closes it."""
    async def answer(exchange):
        await inner(exchange)
        exchange.close()
    return answer


def late(pace, inner):
    """Waits for a step of pace before the first byte."""
    async def answer(exchange):
        await pace.take()
        await inner(exchange)
    return answer


def sequence(*behaviours):
    """One behaviour for each request in turn; the last one for all further requests."""
    async def answer(exchange):
        await behaviours[min(exchange.nth, len(behaviours) - 1)](exchange)
    return answer


def by_path(**behaviours):
    """Chosen by the first part of the path, so that several upstreams of one relay can share a mock."""
    async def answer(exchange):
        await behaviours[exchange.target.split("/")[1]](exchange)
    return answer


def by_model():
    """What untagged requests get: `paced-EVENTSxMILLISECONDS`, `status-CODE`, `hang`, else a good answer."""
    async def answer(exchange):
        try:
            model = re.search(r"steady-[0-9]+x[0-9]+", exchange.target + exchange.body.decode(errors="replace"))
            model = model[0] if model else str(exchange.json()["model"])
        except (ValueError, TypeError, KeyError):
            await status(400)(exchange)
            return
        await _behaviour_of(model)(exchange)
    return answer


def _behaviour_of(model):
    if pattern := re.fullmatch(r"paced-([0-9]+)x([0-9]+)", model):
        return paced(int(pattern[1]), int(pattern[2]) / 1000)
    if pattern := re.fullmatch(r"steady-([0-9]+)x([0-9]+)", model):
        return paced_in_dialect(int(pattern[1]), int(pattern[2]) / 1000)
    if pattern := re.fullmatch(r"status-([0-9]{3})", model):
        return status(int(pattern[1]))
    return hang() if model == "hang" else chat()
