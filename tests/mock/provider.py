"""A provider that answers what it was asked, in each of its three dialects: calls the tools it is offered, tells what it was
shown, fills in schemas, and refuses what the real ones refuse. `answer()` is the behaviour; the dialect is the path's.

What the last user message says decides nothing but the words: the answer to a plain question names the question. With tools
whose parameters have a `city`, it first asks one for each city of CITIES in the prompt, all at once; then it calls the other
tools once; then it tells all results.
"""

import asyncio
import contextlib
import json
import re
from dataclasses import dataclass, field

CITIES = ("Oslo", "Lima", "Cairo")
SIGNATURE = "c2lnbmF0dXJlIG9mIHRoZSBtb2Nr"
THOUGHT = "They want an answer."


class Refused(Exception):
    """What a provider answers with an error."""

    def __init__(self, message, status=400):
        super().__init__(message)
        self.status = status


@dataclass
class Tool:
    name: str
    schema: dict


@dataclass
class Call:
    identity: str
    name: str
    arguments: dict


@dataclass
class Asked:
    """A request, in no dialect. A turn of calls is followed by one of results: [(call, text)]."""
    model: str
    prompt: str
    system: str = ""
    stream: bool = False
    with_usage: bool = True
    tools: list = field(default_factory=list)
    forced_tool: str | None = None  # "" is any
    parallel: bool = True
    schema: dict | None = None
    images: list = field(default_factory=list)
    results: list = field(default_factory=list)
    turns: int = 1
    thinks: bool = False


@dataclass
class Reply:
    """An answer, in no dialect; input_tokens includes cached_tokens, output_tokens includes thought_tokens."""
    text: str = ""
    thought: str = ""
    calls: list = field(default_factory=list)
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    thought_tokens: int = 0

    def pieces(self):
        return re.findall(r"\s*\S+\s*$|\s*\S+", self.text)


def answer(pace=None, ending="done"):
    """The behaviour. pace is waited for before each piece of a stream's text; ending "stall" or "close" does
    that after the text of a stream."""
    from mock import anthropic, gemini, openai_talk

    async def act(exchange):
        path = exchange.target.split("?")[0]
        dialect = anthropic if path.endswith("/messages") else gemini if "enerateContent" in path else openai_talk
        try:
            asked = dialect.read(exchange)
            reply = reply_to(asked)
        except Refused as refusal:
            await dialect.refuse(exchange, refusal)
            return
        exchange.reply = reply

        async def turn():
            if pace is not None:
                await pace.take()
        with contextlib.suppress(_Ended):
            await dialect.say(exchange, asked, reply, turn, ending)
    return act


class _Ended(Exception):
    """An answer was broken off on purpose."""


async def end_as_told(exchange, ending):
    """Called by the dialects where a stream's text is over."""
    if ending == "stall":
        await asyncio.sleep(3600)
    if ending == "close":
        exchange.close()
        raise _Ended


def reply_to(asked):
    """What the model says."""
    reply = Reply(input_tokens=40 + 10 * asked.turns, cached_tokens=8)
    if asked.thinks:
        reply.thought, reply.thought_tokens = THOUGHT, 4
    reply.calls = _calls(asked)
    if reply.calls:
        reply.text = "" if asked.forced_tool is not None else "Let me look."
    elif asked.schema is not None:
        reply.text = json.dumps(fill(asked.schema))
    elif asked.results:
        reply.text = "; ".join(f"{told(call)} is {text}" for call, text in asked.results) + "."
    elif asked.images:
        reply.text = "I see " + " and ".join(asked.images) + "."
    else:
        reply.text = f"You said: {asked.prompt}"
    reply.output_tokens = 5 + len(reply.pieces()) + 7 * len(reply.calls) + reply.thought_tokens
    return reply


def told(call):
    """A call as the final answer names it."""
    return call.arguments.get("city", call.name)


def _calls(asked):
    if asked.forced_tool is not None:
        tool = next((tool for tool in asked.tools if asked.forced_tool in ("", tool.name)), None)
        if tool is None:
            raise Refused("tool_choice names no tool that was offered")
        return [Call(_identity(asked, 0), tool.name, fill(tool.schema))]
    wanted = _wanted(asked)
    done = [(call.name, call.arguments.get("city")) for call, _ in asked.results]
    wanted = [call for call in wanted if (call.name, call.arguments.get("city")) not in done]
    of_cities = [call for call in wanted if "city" in call.arguments]
    chosen = of_cities or wanted
    chosen = chosen if asked.parallel else chosen[:1]
    for number, call in enumerate(chosen):
        call.identity = _identity(asked, number)
    return chosen


def _wanted(asked):
    calls = []
    for tool in asked.tools:
        if "city" in tool.schema.get("properties", {}):
            calls += [Call("", tool.name, {"city": city}) for city in CITIES if city in asked.prompt]
        else:
            calls.append(Call("", tool.name, fill(tool.schema)))
    return calls


def _identity(asked, number):
    return f"{asked.turns}{number}mock"


def fill(schema, root=None):
    """A value that fits a JSON schema (or Gemini's subset of it, whose types are in capitals)."""
    root = root or schema
    if "$ref" in schema:
        return fill(root[schema["$ref"].split("/")[1]][schema["$ref"].split("/")[2]], root)
    if "enum" in schema or "const" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    if "anyOf" in schema:
        return fill(schema["anyOf"][0], root)
    kind = str(schema.get("type", "object")).lower()
    if kind == "object":
        return {name: fill(inner, root) for name, inner in schema.get("properties", {}).items()}
    if kind == "array":
        return [fill(schema["items"], root)]
    return {"string": "text", "integer": 7, "number": 1.5, "boolean": True}.get(kind)


def match_results(calls, results, whose):
    """Pairs the calls of one turn with the results of the next by id: exactly one for each."""
    by_identity = {identity: text for identity, text in results}
    if len(by_identity) != len(results) or set(by_identity) != {call.identity for call in calls}:
        raise Refused(f"{whose} do not answer exactly the calls before them")
    return [(call, by_identity[call.identity]) for call in calls]


def refuse_unknown(body, known, where=""):
    unknown = set(body) - set(known)
    if unknown:
        raise Refused(f"{where}{sorted(unknown)[0]}: Extra inputs are not permitted")
