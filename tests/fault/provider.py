"""The provider behind the load: answers each request as its plan says and keeps exact counts in a Tally."""

import asyncio
import functools
import json
import re

from fault.plan import WORDS
from mock import behaviour, openai

TAG = re.compile(rb"<(f[0-9]+-[0-9]+)>")


@functools.cache
def _word_event(model, which):
    chunk = json.dumps(openai.chunk(model, {"content": WORDS[which]}, with_usage=True), separators=(",", ":"))
    return b"data: " + chunk.encode() + b"\n\n"


def usage_object(plan, completion=None):
    counts = plan.usage
    return openai.usage(counts["prompt"], counts["completion"] if completion is None else completion, counts["cached"],
                        counts["cache_write"], counts["reasoning"] if completion is None else 0)


class Provider:
    """The mock's default behaviour. plans: id -> Plan; of a request it does not know, the run makes a violation."""

    def __init__(self, plans, tally):
        self.plans, self.tally = plans, tally
        self.strangers = 0

    async def __call__(self, exchange):
        found = TAG.search(exchange.body)
        plan = self.plans.get(found[1].decode()) if found else None
        if plan is None:
            self.strangers += 1
            await behaviour.status(400)(exchange)
            return
        nth = len(self.tally.of(plan.id))
        answer = plan.answers[min(nth, len(plan.answers) - 1)]
        served = self.tally.begin(plan.id)
        request = exchange.json()
        if answer.fault == "status":
            served.status = 500
            await behaviour.status(500)(exchange)
        elif answer.fault == "drop":
            exchange.close()
        elif openai.wants_stream(request):
            await self._stream(exchange, request["model"], plan, answer, served)
        else:
            await self._whole(exchange, request["model"], plan, answer, served)

    async def _whole(self, exchange, model, plan, answer, served):
        await asyncio.sleep(plan.pause_s + sum(answer.stalls.values()))
        text = "".join(WORDS[number % 2] for number in range(plan.words))
        usage = None if answer.fault == "no_usage" else usage_object(plan)
        if answer.fault == "error_event":
            served.status = 500
            await behaviour.json_answer(openai.error("The mock was told to fail."))(exchange)
        elif answer.fault in ("close", "reset", "clean"):
            data = json.dumps(openai.completion(model, text, usage)).encode()
            await exchange.head(length=len(data))
            await exchange.send(data[:len(data) // 2])
            (exchange.reset if answer.fault == "reset" else exchange.close)()
        else:
            # Counted before it leaves: the peer may have it before this coroutine goes on.
            served.tokens_sent, served.usage, served.completed = plan.words, usage, True
            await behaviour.json_answer(openai.completion(model, text, usage))(exchange)

    async def _stream(self, exchange, model, plan, answer, served):
        await exchange.head(content_type=behaviour.SSE, chunked=True)
        breaks = answer.fault in ("close", "reset", "clean", "error_event")
        last = min(answer.after_words, plan.words) if breaks else plan.words
        number = 0
        while number < last:
            stall_s = answer.stalls.get(number, 0)
            await asyncio.sleep(stall_s or plan.pause_s)
            stop = min([last, number + plan.batch] + [at for at in answer.stalls if at > number])
            await self._batch(exchange, model, plan, served, number, stop)
            number = stop
        if breaks:
            await self._break(exchange, answer.fault)
            return
        usage = None if answer.fault == "no_usage" else usage_object(plan)
        ending = [openai.chunk(model, finish="stop", with_usage=True)]
        ending += [openai.usage_chunk(model, usage)] if usage else []
        served.usage, served.completed = usage, True
        data = "".join(f"data: {json.dumps(event)}\n\n" for event in ending)
        await exchange.part(data.encode() + b"data: [DONE]\n\n")
        await exchange.finish()

    async def _batch(self, exchange, model, plan, served, start, stop):
        data = b"".join(_word_event(model, number % 2) for number in range(start, stop))
        served.tokens_sent = stop
        if plan.running_usage:
            data += b"data: " + json.dumps(openai.usage_chunk(model, usage_object(plan, stop))).encode() + b"\n\n"
        await exchange.part(data)

    async def _break(self, exchange, fault):
        if fault == "error_event":
            await exchange.event(openai.error("The mock was told to fail."))
            exchange.close()
        elif fault == "clean":
            await exchange.finish()
        else:
            (exchange.reset if fault == "reset" else exchange.close)()
