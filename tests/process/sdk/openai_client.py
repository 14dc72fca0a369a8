"""Runs one scenario with the real openai SDK and prints what it saw as JSON. Usage: openai_client.py SCENARIO BASE_URL KEY PROMPT"""

import json
import sys

import openai

scenario, base_url, key, prompt = sys.argv[1:]
client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=20)
MESSAGES = [{"role": "user", "content": prompt}]


def models():
    return sorted(model.id for model in client.models.list())


def model():
    return client.models.retrieve("test-model").id


def chat():
    answer = client.chat.completions.create(model="test-model", messages=MESSAGES)
    return {"text": answer.choices[0].message.content, "tokens": answer.usage.completion_tokens, "id": answer._request_id}


def stream():
    chunks = list(client.chat.completions.create(model="test-model", messages=MESSAGES, stream=True))
    return {"text": "".join(chunk.choices[0].delta.content or "" for chunk in chunks),
            "usage": any(chunk.usage for chunk in chunks)}


def stream_with_usage():
    chunks = list(client.chat.completions.create(model="test-model", messages=MESSAGES, stream=True,
                                                 stream_options={"include_usage": True}))
    return {"text": "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices),
            "tokens": chunks[-1].usage.completion_tokens, "cost": chunks[-1].usage.model_extra["cost"]}


def asynchronous():
    import asyncio

    async def ask():
        async with openai.AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0) as other:
            answers = await asyncio.gather(*(other.chat.completions.create(model="test-model", messages=MESSAGES)
                                             for _ in range(10)))
        return [answer.choices[0].message.content for answer in answers]
    return asyncio.run(ask())


def leave_early():
    with client.chat.completions.create(model="test-model", messages=MESSAGES, stream=True) as chunks:
        return next(iter(chunks)).choices[0].delta.content


def error(call):
    """The class and code of what the call raises."""
    try:
        call()
    except openai.APIStatusError as caught:
        return {"class": type(caught).__name__, "status": caught.status_code, "code": caught.code, "param": caught.param,
                "id": caught.request_id}
    except openai.APIError as caught:
        return {"class": type(caught).__name__, "message": caught.message}
    return None


def unknown_model():
    return error(lambda: client.chat.completions.create(model="nobody", messages=MESSAGES))


def bad_request():
    return error(lambda: client.chat.completions.create(model="test-model", messages=MESSAGES, max_tokens=-1))


def failing():
    return error(chat)


def failing_stream():
    return error(stream)


print(json.dumps(globals()[scenario]()))
