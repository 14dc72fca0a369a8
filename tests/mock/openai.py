"""Objects of OpenAI's chat-completions dialect, as the mock sends them."""

import time


def usage(prompt=11, completion=5, cached=0, cache_write=0, reasoning=0):
    """A usage object; prompt includes cached and cache_write, completion includes reasoning."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": cache_write, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": 0}}


def chunk(model, delta=None, finish=None, index=0, with_usage=False):
    """One chunk of a stream; with_usage adds the `"usage": null` that include_usage brings."""
    body = {"id": "chatcmpl-mock", "object": "chat.completion.chunk", "created": 1700000000, "model": model,
            "choices": [{"index": index, "delta": delta or {}, "logprobs": None, "finish_reason": finish}]}
    if with_usage:
        body["usage"] = None
    return body


def usage_chunk(model, counts):
    return {"id": "chatcmpl-mock", "object": "chat.completion.chunk", "created": 1700000000, "model": model,
            "choices": [], "usage": counts}


def completion(model, text, counts, finish="stop"):
    """The whole answer of a request that did not stream."""
    body = {"id": "chatcmpl-mock", "object": "chat.completion", "created": int(time.time()), "model": model,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "logprobs": None,
                         "finish_reason": finish}]}
    if counts is not None:
        body["usage"] = counts
    return body


def error(message, kind="server_error", code=None, param=None):
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def wants_stream(request):
    return request.get("stream") is True


def wants_usage(request):
    return (request.get("stream_options") or {}).get("include_usage") is True
