"""The scenarios with OpenAI's Python SDK."""

import asyncio
import json

import openai
import pydantic

from serve import run_tool, serve

TOOLS = [
    {"type": "function", "function": {
        "name": "weather", "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
                       "additionalProperties": False}, "strict": True}},
    {"type": "function", "function": {"name": "clock", "description": "The time of day",
                                      "parameters": {"type": "object", "properties": {}}}}]


class City(pydantic.BaseModel):
    name: str
    people: int
    districts: list[str]


def client(to):
    return openai.OpenAI(base_url=to["url"] + "/v1", api_key=to["key"], max_retries=to.get("retries", 0), timeout=30)


def user(content):
    return [{"role": "user", "content": content}]


def counted(usage):
    return {"input": usage.prompt_tokens, "cached": usage.prompt_tokens_details.cached_tokens, "output": usage.completion_tokens}


def models(to):
    return sorted(model.id for model in client(to).models.list())


def model(to, model):
    return client(to).models.retrieve(model).id


def chat(to, model, prompt, **options):
    answer = client(to).chat.completions.create(model=model, messages=user(prompt), **options)
    choice = answer.choices[0]
    return {"text": choice.message.content, "finish": choice.finish_reason, "id": answer._request_id, **counted(answer.usage)}


def stream(to, model, prompt):
    with client(to).chat.completions.create(model=model, messages=user(prompt), stream=True,
                                            stream_options={"include_usage": True}) as chunks:
        identity = chunks.response.headers["x-request-id"]
        seen = list(chunks)
    texts = [choice.delta.content for chunk in seen for choice in chunk.choices if choice.delta.content]
    finish = [choice.finish_reason for chunk in seen for choice in chunk.choices if choice.finish_reason]
    return {"text": "".join(texts), "pieces": len(texts), "finish": finish[-1], "id": identity,
            "cost": seen[-1].usage.model_extra["cost"], **counted(seen[-1].usage)}


def stream_plainly(to, model, prompt):
    chunks = list(client(to).chat.completions.create(model=model, messages=user(prompt), stream=True))
    return {"text": "".join(chunk.choices[0].delta.content or "" for chunk in chunks),
            "usage": any(chunk.usage for chunk in chunks)}


def loop(to, model, prompt, streaming, **options):
    messages, rounds = user(prompt), []
    while True:
        message = ask(to, streaming, model=model, messages=messages, tools=TOOLS, **options)
        if not message.tool_calls:
            return {"text": message.content, "rounds": rounds}
        messages.append(message)
        rounds.append([[call.function.name, json.loads(call.function.arguments)] for call in message.tool_calls])
        for call in message.tool_calls:
            result = run_tool(call.function.name, json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


def ask(to, streaming, **request):
    if not streaming:
        return client(to).chat.completions.create(**request).choices[0].message
    with client(to).chat.completions.stream(**request) as events:
        return events.get_final_completion().choices[0].message


def see(to, model, prompt, images):
    parts = [{"type": "image_url", "image_url": {"url": image}} for image in images]
    answer = client(to).chat.completions.create(model=model, messages=user([{"type": "text", "text": prompt}, *parts]))
    return answer.choices[0].message.content


def structured(to, model, prompt):
    answer = client(to).chat.completions.parse(model=model, messages=user(prompt), response_format=City)
    return answer.choices[0].message.parsed.model_dump()


def leave(to, model, prompt):
    with client(to).chat.completions.create(model=model, messages=user(prompt), stream=True) as chunks:
        text = next(chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content)
        return {"text": text, "id": chunks.response.headers["x-request-id"]}


def many(to, model, prompt):
    async def ask_all():
        async with openai.AsyncOpenAI(base_url=to["url"] + "/v1", api_key=to["key"], max_retries=0, timeout=30) as other:
            answers = await asyncio.gather(*(other.chat.completions.create(model=model, messages=user(prompt))
                                             for _ in range(10)))
        return [answer.choices[0].message.content for answer in answers]
    return asyncio.run(ask_all())


def respond(to, model, prompt):
    answer = client(to).responses.create(model=model, input=prompt)
    return {"text": answer.output_text, "finish": answer.status, "id": answer._request_id, "input": answer.usage.input_tokens,
            "output": answer.usage.output_tokens}


def respond_stream(to, model, prompt):
    with client(to).responses.stream(model=model, input=user(prompt)) as events:
        answer = events.until_done().get_final_response()
        return {"text": answer.output_text, "finish": answer.status, "id": events._response.headers["x-request-id"],
                "input": answer.usage.input_tokens, "output": answer.usage.output_tokens}


def complete(to, model, prompt):
    answer = client(to).completions.create(model=model, prompt=prompt)
    return {"text": answer.choices[0].text, "finish": answer.choices[0].finish_reason, "id": answer._request_id,
            "input": answer.usage.prompt_tokens, "output": answer.usage.completion_tokens}


def complete_stream(to, model, prompt):
    chunks = list(client(to).completions.create(model=model, prompt=prompt, stream=True))
    return "".join(chunk.choices[0].text for chunk in chunks)


def embed(to, model, prompt, **options):
    answer = client(to).embeddings.create(model=model, input=[prompt, prompt], **options)
    return {"vectors": [item.embedding for item in answer.data], "input": answer.usage.prompt_tokens}


serve({scenario.__name__: scenario for scenario in (
    models, model, chat, stream, stream_plainly, loop, see, structured, leave, many, respond, respond_stream, complete,
    complete_stream, embed)})
