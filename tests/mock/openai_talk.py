"""OpenAI's dialect with all that `openai` leaves out: chat completions that read the whole request, Responses, completions,
embeddings."""

import base64
import json
import struct

from mock import openai, provider
from mock.provider import Asked, Call, Refused, Tool

SSE = "text/event-stream; charset=utf-8"
CHAT = {"model", "messages", "stream", "stream_options", "tools", "tool_choice", "parallel_tool_calls", "response_format", "n", "user",
        "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop", "seed", "reasoning_effort", "metadata", "store",
        "service_tier", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "safety_identifier",
        "prompt_cache_key"}


async def refuse(exchange, refusal):
    await _send_json(exchange, openai.error(str(refusal), "invalid_request_error"), refusal.status)


async def _send_json(exchange, body, status=200):
    data = json.dumps(body).encode()
    await exchange.head(status, length=len(data))
    await exchange.part(data)


def _path(exchange):
    return exchange.target.split("?")[0].rsplit("/v1/", 1)[1]


# --- the request ---

def read(exchange):
    body = exchange.json()
    if _path(exchange) != "chat/completions":
        return _read_other(body)
    provider.refuse_unknown(body, CHAT)
    asked = Asked(body["model"], "", stream=body.get("stream") is True, with_usage=openai.wants_usage(body),
                  turns=len(body["messages"]))
    asked.tools = [Tool(tool["function"]["name"], tool["function"].get("parameters") or {}) for tool in body.get("tools", [])]
    asked.parallel = body.get("parallel_tool_calls", True)
    asked.thinks = body.get("reasoning_effort") not in (None, "none")
    _read_choice(asked, body.get("tool_choice", "auto"))
    form = body.get("response_format", {"type": "text"})
    if form["type"] == "json_schema":
        asked.schema = form["json_schema"]["schema"]
    elif form["type"] == "json_object":
        asked.schema = {"type": "object", "properties": {"answer": {"type": "string"}}}
    _read_messages(asked, body["messages"])
    return asked


def _read_other(body):
    inputs = body.get("input", body.get("prompt"))
    prompt = inputs if isinstance(inputs, str) else _last_text(inputs)
    return Asked(body["model"], prompt, stream=body.get("stream") is True, with_usage=openai.wants_usage(body))


def _last_text(inputs):
    last = inputs[-1]
    return last if isinstance(last, str) else _text_of(last["content"])


def _read_choice(asked, choice):
    if choice == "none":
        asked.tools = []
    elif choice == "required":
        asked.forced_tool = ""
    elif isinstance(choice, dict):
        asked.forced_tool = choice["function"]["name"]


def _text_of(content):
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part["text"] for part in content if part["type"] in ("text", "input_text"))


def _read_messages(asked, messages):
    calls, results = [], []
    for message in [*messages, {"role": "end", "content": ""}]:
        role, content = message["role"], message["content"] if "content" in message else None
        if role == "tool":
            results.append((message["tool_call_id"], _text_of(content)))
            continue
        asked.results += provider.match_results(calls, results, "messages with role 'tool'")
        calls, results = [], []
        if role == "user":
            _read_user(asked, content)
        elif role == "assistant":
            calls = [Call(call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
                     for call in message.get("tool_calls") or []]
            if content is None and not calls:
                raise Refused("an assistant message needs content or tool calls")
        elif role in ("system", "developer"):
            asked.system += _text_of(content)


def _read_user(asked, content):
    asked.prompt = _text_of(content)
    for part in content if isinstance(content, list) else []:
        if part["type"] == "image_url":
            asked.images.append(_image(part["image_url"]["url"]))


def _image(url):
    if not url.startswith("data:"):
        return url
    kind, data = url[5:].split(";base64,")
    return f"{kind} of {len(base64.b64decode(data, validate=True))} bytes"


# --- the answer ---

def _usage(reply):
    return openai.usage(reply.input_tokens, reply.output_tokens, reply.cached_tokens, 0, reply.thought_tokens)


def _tool_call(call):
    return {"id": f"call_{call.identity}", "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(call.arguments)}}


async def say(exchange, asked, reply, turn, ending):
    path = _path(exchange)
    if path == "embeddings":
        await _send_json(exchange, _embeddings(exchange.json(), reply))
    elif path == "completions":
        await _say_completion(exchange, asked, reply, turn)
    elif path == "responses":
        await _say_response(exchange, asked, reply, turn)
    elif asked.stream:
        await _say_stream(exchange, asked, reply, turn, ending)
    else:
        body = openai.completion(asked.model, reply.text or None, _usage(reply), "tool_calls" if reply.calls else "stop")
        message = body["choices"][0]["message"]
        message["refusal"] = None
        if reply.calls:
            message["tool_calls"] = [_tool_call(call) for call in reply.calls]
        if reply.thought:
            message["reasoning_content"] = reply.thought
        await _send_json(exchange, body)


async def _say_stream(exchange, asked, reply, turn, ending):
    async def chunk(delta=None, finish=None):
        await exchange.event(openai.chunk(asked.model, delta, finish, with_usage=asked.with_usage))
    await exchange.head(content_type=SSE, chunked=True)
    await chunk({"role": "assistant", "content": ""})
    if reply.thought:
        await chunk({"reasoning_content": reply.thought})
    for piece in reply.pieces():
        await turn()
        await chunk({"content": piece})
    await provider.end_as_told(exchange, ending)
    for index, call in enumerate(reply.calls):
        whole = _tool_call(call)
        arguments = whole["function"]["arguments"]
        await chunk({"tool_calls": [{"index": index, **whole, "function": {"name": call.name, "arguments": ""}}]})
        for start in range(0, len(arguments), 6):
            await chunk({"tool_calls": [{"index": index, "function": {"arguments": arguments[start:start + 6]}}]})
    await chunk(finish="tool_calls" if reply.calls else "stop")
    if asked.with_usage:
        await exchange.event(openai.usage_chunk(asked.model, _usage(reply)))
    await exchange.event(b"[DONE]")
    await exchange.finish()


def _embeddings(body, reply):
    inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
    vectors = [[float(number), 0.5, -0.25] for number, _ in enumerate(inputs)]
    if body.get("encoding_format") == "base64":
        vectors = [base64.b64encode(struct.pack("<3f", *vector)).decode() for vector in vectors]
    reply.output_tokens, reply.cached_tokens = 0, 0
    return {"object": "list", "model": body["model"],
            "data": [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)],
            "usage": {"prompt_tokens": reply.input_tokens, "total_tokens": reply.input_tokens}}


async def _say_completion(exchange, asked, reply, turn):
    def body(text, finish):
        return {"id": "cmpl-mock", "object": "text_completion", "created": 1700000000, "model": asked.model,
                "choices": [{"text": text, "index": 0, "logprobs": None, "finish_reason": finish}]}
    if not asked.stream:
        await _send_json(exchange, {**body(reply.text, "stop"), "usage": _usage(reply)})
        return
    await exchange.head(content_type=SSE, chunked=True)
    for piece in reply.pieces():
        await turn()
        await exchange.event(body(piece, None))
    await exchange.event(body("", "stop"))
    if asked.with_usage:
        await exchange.event({**body("", None), "choices": [], "usage": _usage(reply)})
    await exchange.event(b"[DONE]")
    await exchange.finish()


def _response(asked, reply, status, text):
    output = [] if text is None else [{"id": "msg_mock", "type": "message", "role": "assistant", "status": status,
                                       "content": [{"type": "output_text", "text": text, "annotations": []}]}]
    usage = {"input_tokens": reply.input_tokens, "input_tokens_details": {"cached_tokens": reply.cached_tokens},
             "output_tokens": reply.output_tokens, "output_tokens_details": {"reasoning_tokens": 0},
             "total_tokens": reply.input_tokens + reply.output_tokens}
    return {"id": "resp_mock", "object": "response", "created_at": 1700000000, "status": status, "model": asked.model,
            "output": output, "usage": usage if text is not None else None, "error": None, "incomplete_details": None,
            "instructions": None, "metadata": {}, "parallel_tool_calls": True, "temperature": 1, "tool_choice": "auto", "tools": [],
            "top_p": 1}


async def _say_response(exchange, asked, reply, turn):
    if not asked.stream:
        await _send_json(exchange, _response(asked, reply, "completed", reply.text))
        return
    number = 0

    async def event(kind, **fields):
        nonlocal number
        await exchange.event({"type": kind, "sequence_number": number, **fields}, name=kind)
        number += 1
    at = {"item_id": "msg_mock", "output_index": 0, "content_index": 0}
    whole = _response(asked, reply, "completed", reply.text)
    item = whole["output"][0]
    await exchange.head(content_type=SSE, chunked=True)
    await event("response.created", response=_response(asked, reply, "in_progress", None))
    await event("response.in_progress", response=_response(asked, reply, "in_progress", None))
    await event("response.output_item.added", output_index=0, item={**item, "status": "in_progress", "content": []})
    await event("response.content_part.added", **at, part={"type": "output_text", "text": "", "annotations": []})
    for piece in reply.pieces():
        await turn()
        await event("response.output_text.delta", **at, delta=piece, logprobs=[])
    await event("response.output_text.done", **at, text=reply.text, logprobs=[])
    await event("response.content_part.done", **at, part=item["content"][0])
    await event("response.output_item.done", output_index=0, item=item)
    await event("response.completed", response=whole)
    await exchange.finish()
