"""requests with iter_content."""

import json
import os
import sys

import requests

response = requests.post(
    os.environ["URL"] + "/v1/chat/completions",
    headers={"Authorization": "Bearer " + os.environ["KEY"], "Accept": "text/event-stream"},
    json={"model": "test-model", "stream": True, "messages": [{"role": "user", "content": sys.argv[1]}]},
    stream=True,
    timeout=30,
)
response.raise_for_status()
buffer = b""
for chunk in response.iter_content(chunk_size=None):
    buffer += chunk
    while b"\n\n" in buffer:
        event, buffer = buffer.split(b"\n\n", 1)
        if event.startswith(b"data: "):
            data = event[6:].decode("utf-8")
            if data == "[DONE]":
                print(" [end]")
            else:
                print(json.loads(data)["choices"][0]["delta"].get("content") or "", end="", flush=True)
