"""Gemini's dialect, as the mock reads and speaks it."""

import base64
import json
import re

from mock import provider
from mock.provider import Asked, Call, Refused, Tool

SSE = "text/event-stream"
FIELDS = {"contents", "tools", "toolConfig", "safetySettings", "systemInstruction", "generationConfig", "cachedContent", "labels"}
SETTINGS = {"stopSequences", "responseMimeType", "responseSchema", "responseJsonSchema", "candidateCount", "maxOutputTokens",
            "temperature", "topP", "topK", "seed", "presencePenalty", "frequencyPenalty", "responseLogprobs", "logprobs",
            "thinkingConfig"}
SCHEMA = {"type", "format", "title", "description", "nullable", "enum", "maxItems", "minItems", "properties", "required",
          "minProperties", "maxProperties", "minLength", "maxLength", "pattern", "example", "anyOf", "propertyOrdering", "default",
          "items", "minimum", "maximum"}
STATUSES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED",
            500: "INTERNAL", 503: "UNAVAILABLE"}
STAND_IN = "skip_thought_signature_validator"  # what Google documents for calls another model made


def error(message, status=400):
    return {"error": {"code": status, "message": message, "status": STATUSES.get(status, "UNKNOWN")}}


async def refuse(exchange, refusal):
    data = json.dumps(error(str(refusal), refusal.status)).encode()
    await exchange.head(refusal.status, length=len(data))
    await exchange.part(data)


# --- the request ---

def read(exchange):
    body = exchange.json()
    found = re.fullmatch(r".*/models/([^/:]+):(streamGenerateContent\?alt=sse|generateContent)", exchange.target)
    if found is None:
        raise Refused(f"no such method: {exchange.target}", 404)
    provider.refuse_unknown(body, FIELDS, "Unknown name ")
    settings = body.get("generationConfig", {})
    provider.refuse_unknown(settings, SETTINGS, "Unknown name generation_config.")
    asked = Asked(found[1], "", stream=found[2].startswith("stream"), turns=len(body["contents"]))
    asked.system = _text_of(body.get("systemInstruction", {}).get("parts", []))
    asked.thinks = settings.get("thinkingConfig", {}).get("includeThoughts") is True
    _read_tools(asked, body)
    _read_schema(asked, settings)
    _read_contents(asked, body["contents"])
    return asked


def _text_of(parts):
    return "".join(part["text"] for part in parts if "text" in part and not part.get("thought"))


def _read_tools(asked, body):
    for tool in body.get("tools", []):
        for declared in tool["functionDeclarations"]:
            if "parameters" in declared:
                _check_schema(declared["parameters"])
            asked.tools.append(Tool(declared["name"], declared.get("parametersJsonSchema") or declared.get("parameters") or {}))
    choice = body.get("toolConfig", {}).get("functionCallingConfig", {})
    if choice.get("mode") == "NONE":
        asked.tools = []
    elif choice.get("mode") == "ANY":
        asked.forced_tool = choice.get("allowedFunctionNames", [""])[0]


def _check_schema(schema):
    """Only the subset of OpenAPI that Gemini knows."""
    provider.refuse_unknown(schema, SCHEMA, "Unknown name in parameters: ")
    for inner in [*schema.get("properties", {}).values(), *schema.get("anyOf", []), *([schema["items"]] if "items" in schema else [])]:
        _check_schema(inner)


def _read_schema(asked, settings):
    if "responseSchema" in settings:
        _check_schema(settings["responseSchema"])
    schema = settings.get("responseJsonSchema") or settings.get("responseSchema")
    if schema is not None and settings.get("responseMimeType") != "application/json":
        raise Refused("a response schema needs the mime type application/json")
    asked.schema = schema
    if schema is None and settings.get("responseMimeType") == "application/json":
        asked.schema = {"type": "object", "properties": {"answer": {"type": "string"}}}


def _read_contents(asked, contents):
    calls = []
    for content in contents:
        if content.get("role") not in ("user", "model") or not content.get("parts"):
            raise Refused("contents need a role of user or model, and parts")
        if content["role"] == "model":
            calls = _read_model(asked, content["parts"])
        else:
            _read_user(asked, content["parts"], calls)
            calls = []


def _read_model(asked, parts):
    calls = [part for part in parts if "functionCall" in part]
    if calls and asked.model.startswith("gemini-3") and calls[0].get("thoughtSignature") not in (provider.SIGNATURE, STAND_IN):
        raise Refused("Function call is missing a thought_signature in functionCall parts.")
    return [Call(part["functionCall"].get("id"), part["functionCall"]["name"], part["functionCall"].get("args", {})) for part in calls]


def _read_user(asked, parts, calls):
    responses = [part["functionResponse"] for part in parts if "functionResponse" in part]
    if [response["name"] for response in responses] != [call.name for call in calls]:
        raise Refused("Please ensure that function response parts equal the function call parts of the function call turn.")
    for call, response in zip(calls, responses):  # equal names are told apart by their order; ids, where given, must agree
        if response.get("id") is not None and call.identity is not None and response["id"] != call.identity:
            raise Refused("the id of a function response is not that of its call")
        if not isinstance(response["response"], dict):
            raise Refused("a function response must be an object")
        asked.results.append((call, _result_text(response["response"])))
    text = _text_of(parts)
    if text:
        asked.prompt = text
    asked.images += [_image(part) for part in parts if "inlineData" in part or "fileData" in part]


def _result_text(response):
    inner = response.get("result", response.get("output", response))
    return inner if isinstance(inner, str) else json.dumps(inner)


def _image(part):
    if "fileData" in part:
        return part["fileData"]["fileUri"]
    data = part["inlineData"]
    return f"{data['mimeType']} of {len(base64.b64decode(data['data'], validate=True))} bytes"


# --- the answer ---

def _usage(reply, output=None):
    output = reply.output_tokens if output is None else output
    usage = {"promptTokenCount": reply.input_tokens, "cachedContentTokenCount": reply.cached_tokens,
             "candidatesTokenCount": output - reply.thought_tokens, "totalTokenCount": reply.input_tokens + output}
    if reply.thought_tokens:
        usage["thoughtsTokenCount"] = reply.thought_tokens
    return usage


def _call_parts(reply):
    parts = [{"functionCall": {"name": call.name, "args": call.arguments}} for call in reply.calls]
    if parts:
        parts[0]["thoughtSignature"] = provider.SIGNATURE
    return parts


def _chunk(asked, parts, usage, finish=None):
    candidate = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": asked.model, "responseId": "mock"}


async def say(exchange, asked, reply, turn, ending):
    thoughts = [{"text": reply.thought, "thought": True}] if reply.thought else []
    if asked.stream:
        await _say_stream(exchange, asked, reply, thoughts, turn, ending)
        return
    text = [{"text": reply.text}] if reply.text else []
    data = json.dumps(_chunk(asked, [*thoughts, *text, *_call_parts(reply)], _usage(reply), "STOP"), indent=2).encode()
    await exchange.head(length=len(data), content_type="application/json; charset=UTF-8")
    await exchange.part(data)


async def _say_stream(exchange, asked, reply, thoughts, turn, ending):
    async def chunk(parts, usage, finish=None):
        await exchange.part(b"data: " + json.dumps(_chunk(asked, parts, usage, finish)).encode() + b"\r\n\r\n")
    await exchange.head(content_type=SSE, chunked=True)
    partial = _usage(reply, reply.thought_tokens + 1)
    if thoughts:
        await chunk(thoughts, partial)
    for piece in reply.pieces():
        await turn()
        await chunk([{"text": piece}], partial)
    await provider.end_as_told(exchange, ending)
    if reply.calls:
        await chunk(_call_parts(reply), partial)
    await chunk([{"text": ""}], _usage(reply), "STOP")
    await exchange.finish()
