"""requests with iter_lines, and a back-off that doubles while the server is busy or away."""

import json
import os
import sys
import time

import requests


def ask(prompt):
    delay = 0.05
    while True:
        try:
            response = requests.post(
                os.environ["URL"] + "/v1/chat/completions",
                headers={"api-key": os.environ["KEY"]},
                json={"model": "test-model", "stream": True, "messages": [{"role": "user", "content": prompt}]},
                stream=True,
                timeout=30,
            )
            if response.status_code not in (429, 502, 503):
                response.raise_for_status()
                return response
            print(f"[{response.status_code}]", flush=True)
        except requests.ConnectionError:
            print("[away]", flush=True)
        time.sleep(delay)
        delay = min(delay * 2, 1)


for line in ask(sys.argv[1]).iter_lines(decode_unicode=True):
    if not line or not line.startswith("data:"):
        continue
    data = line[len("data:"):].strip()
    if data == "[DONE]":
        print(" [end]")
        break
    print(json.loads(data)["choices"][0]["delta"].get("content") or "", end="", flush=True)
