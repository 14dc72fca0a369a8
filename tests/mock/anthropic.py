"""Anthropic's Messages dialect, as the mock reads and speaks it."""

import base64
import json

from mock import provider
from mock.provider import Asked, Call, Refused, Tool

SSE = "text/event-stream; charset=utf-8"
FIELDS = {"model", "max_tokens", "messages", "system", "stream", "tools", "tool_choice", "thinking", "temperature", "top_p", "top_k",
          "stop_sequences", "metadata", "service_tier", "output_config"}
KINDS = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
         429: "rate_limit_error", 500: "api_error", 529: "overloaded_error"}
MESSAGE_ID = "msg_mock"


def error(message, status=400):
    return {"type": "error", "error": {"type": KINDS.get(status, "api_error"), "message": message}, "request_id": "req_mock"}


async def refuse(exchange, refusal):
    data = json.dumps(error(str(refusal), refusal.status)).encode()
    await exchange.head(refusal.status, length=len(data))
    await exchange.part(data)


# --- the request ---

def read(exchange):
    body = exchange.json()
    provider.refuse_unknown(body, FIELDS)
    if exchange.header("anthropic-version") is None:
        raise Refused("anthropic-version: header is required")
    if not isinstance(body.get("max_tokens"), int) or body["max_tokens"] < 1:
        raise Refused("max_tokens: Field required")
    asked = Asked(body["model"], "", stream=body.get("stream") is True, turns=len(body["messages"]))
    asked.system = _text_of(body.get("system") or "")
    asked.tools = [Tool(tool["name"], tool["input_schema"]) for tool in body.get("tools", [])]
    asked.thinks = body.get("thinking", {}).get("type") in ("enabled", "adaptive")
    _read_choice(asked, body)
    form = body.get("output_config", {}).get("format")
    asked.schema = form["schema"] if form else None
    _read_messages(asked, body["messages"])
    return asked


def _text_of(content):
    if isinstance(content, str):
        return content
    return "\n".join(block["text"] for block in content if block["type"] == "text")


def _read_choice(asked, body):
    choice = body.get("tool_choice", {"type": "auto"})
    asked.parallel = not choice.get("disable_parallel_tool_use", False)
    if choice["type"] in ("any", "tool"):
        if asked.thinks:
            raise Refused("Thinking may not be enabled when tool_choice forces tool use.")
        asked.forced_tool = choice.get("name", "")
    elif choice["type"] == "none":
        asked.tools = []


def _read_messages(asked, messages):
    if not messages or messages[0]["role"] != "user":
        raise Refused("messages: first message must use the user role")
    calls = []
    for message in messages:
        if message["role"] not in ("user", "assistant"):
            raise Refused("messages: Unexpected role")
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not blocks:
            raise Refused("messages: content must not be empty")
        if message["role"] == "assistant":
            calls = _read_assistant(asked, blocks)
        else:
            _read_user(asked, blocks, calls)
            calls = []


def _read_assistant(asked, blocks):
    calls = [Call(block["id"], block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"]
    if asked.thinks and calls and blocks[0]["type"] != "thinking":
        raise Refused("Expected `thinking`, but found `" + blocks[0]["type"] + "`: a turn that calls must start with its thinking")
    for block in blocks:
        if block["type"] == "thinking" and (block["thinking"], block["signature"]) != (provider.THOUGHT, provider.SIGNATURE):
            raise Refused("Invalid `signature` in `thinking` block")
        if block["type"] == "text" and not block["text"].strip():
            raise Refused("text content blocks must be non-empty")
    return calls


def _read_user(asked, blocks, calls):
    results = [(block["tool_use_id"], _text_of(block.get("content", ""))) for block in blocks if block["type"] == "tool_result"]
    if [block["type"] for block in blocks[:len(results)]] != ["tool_result"] * len(results):
        raise Refused("tool_result blocks must come first")
    asked.results += provider.match_results(calls, results, "tool_result blocks")
    text = _text_of(blocks)
    if text:
        asked.prompt = text
    for block in blocks:
        if block["type"] == "image":
            asked.images.append(_image(block["source"]))


def _image(source):
    if source["type"] == "url":
        return source["url"]
    return f"{source['media_type']} of {len(base64.b64decode(source['data'], validate=True))} bytes"


# --- the answer ---

def _usage(reply, output=None):
    return {"input_tokens": reply.input_tokens - reply.cached_tokens, "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": reply.cached_tokens, "output_tokens": reply.output_tokens if output is None else output,
            "service_tier": "standard"}


def _blocks(reply):
    blocks = []
    if reply.thought:
        blocks.append({"type": "thinking", "thinking": reply.thought, "signature": provider.SIGNATURE})
    if reply.text:
        blocks.append({"type": "text", "text": reply.text})
    return blocks + [{"type": "tool_use", "id": f"toolu_{call.identity}", "name": call.name, "input": call.arguments}
                     for call in reply.calls]


def _stop_reason(reply):
    return "tool_use" if reply.calls else "end_turn"


def _message(asked, reply, blocks, stop_reason, usage):
    return {"id": MESSAGE_ID, "type": "message", "role": "assistant", "model": asked.model, "content": blocks,
            "stop_reason": stop_reason, "stop_sequence": None, "usage": usage}


async def say(exchange, asked, reply, turn, ending):
    if asked.stream:
        await _say_stream(exchange, asked, reply, turn, ending)
        return
    data = json.dumps(_message(asked, reply, _blocks(reply), _stop_reason(reply), _usage(reply))).encode()
    await exchange.head(length=len(data), headers=[("request-id", "req_mock")])
    await exchange.part(data)


async def _say_stream(exchange, asked, reply, turn, ending):
    async def event(kind, **fields):
        await exchange.event({"type": kind, **fields}, name=kind)
    await exchange.head(content_type=SSE, chunked=True)
    await event("message_start", message=_message(asked, reply, [], None, _usage(reply, 1)))
    await event("ping")
    for index, block in enumerate(_blocks(reply)):
        await event("content_block_start", index=index, content_block=_empty(block))
        async for delta in _deltas(block, reply, turn):
            await event("content_block_delta", index=index, delta=delta)
        if block["type"] == "text":
            await provider.end_as_told(exchange, ending)
        await event("content_block_stop", index=index)
    await event("message_delta", delta={"stop_reason": _stop_reason(reply), "stop_sequence": None},
                usage={"output_tokens": reply.output_tokens})
    await event("message_stop")
    await exchange.finish()


def _empty(block):
    return {**block, **{"thinking": {"thinking": "", "signature": ""}, "text": {"text": ""},
                        "tool_use": {"input": {}}}[block["type"]]}


async def _deltas(block, reply, turn):
    if block["type"] == "thinking":
        yield {"type": "thinking_delta", "thinking": block["thinking"]}
        yield {"type": "signature_delta", "signature": block["signature"]}
    elif block["type"] == "text":
        for piece in reply.pieces():
            await turn()
            yield {"type": "text_delta", "text": piece}
    else:
        text = json.dumps(block["input"]) if block["input"] else ""
        for start in range(0, max(len(text), 1), 6):
            yield {"type": "input_json_delta", "partial_json": text[start:start + 6]}
