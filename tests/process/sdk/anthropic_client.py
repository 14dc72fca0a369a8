"""The scenarios with Anthropic's Python SDK."""

import anthropic
import pydantic

from serve import run_tool, serve

TOOLS = [
    {"name": "weather", "description": "The weather in a city",
     "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
                      "additionalProperties": False}},
    {"name": "clock", "description": "The time of day", "input_schema": {"type": "object", "properties": {}}}]


class City(pydantic.BaseModel):
    name: str
    people: int
    districts: list[str]


def client(to):
    return anthropic.Anthropic(base_url=to["url"], api_key=to["key"], max_retries=to.get("retries", 0), timeout=30)


def asking(model, content, **fields):
    return {"model": model, "max_tokens": 2000, "messages": [{"role": "user", "content": content}], **fields}


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


def counted(usage):
    cached = usage.cache_read_input_tokens or 0
    return {"input": usage.input_tokens + cached + (usage.cache_creation_input_tokens or 0), "cached": cached,
            "output": usage.output_tokens}


def models(to):
    page = client(to).models.list()
    assert page.data[0].type == "model" and page.data[0].created_at.year >= 2025 and page.data[0].display_name
    return sorted(model.id for model in page)


def models_paged(to):
    return [model.id for model in client(to).models.list(limit=2)]


def model(to, model):
    return client(to).models.retrieve(model).id


def chat(to, model, prompt, **options):
    answer = client(to).messages.create(**asking(model, prompt, **options))
    return {"text": text_of(answer), "finish": answer.stop_reason, "id": answer._request_id, **counted(answer.usage)}


def stream(to, model, prompt):
    with client(to).messages.stream(**asking(model, prompt)) as events:
        texts = list(events.text_stream)
        answer = events.get_final_message()
        return {"text": "".join(texts), "pieces": len(texts), "finish": answer.stop_reason, "id": events.request_id,
                **counted(answer.usage)}


def loop(to, model, prompt, streaming, **options):
    request, rounds = asking(model, prompt, tools=TOOLS, **options), []
    while True:
        message = ask(to, streaming, request)
        calls = [block for block in message.content if block.type == "tool_use"]
        if not calls:
            return {"text": text_of(message), "rounds": rounds}
        assert message.stop_reason == "tool_use"
        rounds.append([[call.name, call.input] for call in calls])
        results = [{"type": "tool_result", "tool_use_id": call.id, "content": run_tool(call.name, call.input)} for call in calls]
        request["messages"] += [{"role": "assistant", "content": message.content}, {"role": "user", "content": results}]


def ask(to, streaming, request):
    if not streaming:
        return client(to).messages.create(**request)
    with client(to).messages.stream(**request) as events:
        return events.get_final_message()


def see(to, model, prompt, images):
    blocks = [{"type": "image", "source": source_of(image)} for image in images]
    return text_of(client(to).messages.create(**asking(model, [*blocks, {"type": "text", "text": prompt}])))


def source_of(image):
    if not image.startswith("data:"):
        return {"type": "url", "url": image}
    media_type, data = image[5:].split(";base64,")
    return {"type": "base64", "media_type": media_type, "data": data}


def structured(to, model, prompt):
    return client(to).messages.parse(**asking(model, prompt), output_format=City).parsed_output.model_dump()


def leave(to, model, prompt):
    with client(to).messages.stream(**asking(model, prompt)) as events:
        return {"text": next(events.text_stream), "id": events.request_id}


def count(to, model, prompt):
    return client(to).messages.count_tokens(model=model, messages=[{"role": "user", "content": prompt}]).input_tokens


serve({scenario.__name__: scenario for scenario in (
    models, models_paged, model, chat, stream, loop, see, structured, leave, count)})
