"""The websockets package: a body a message, chunks back."""

import asyncio
import json
import os
import sys

import websockets


async def main():
    url = os.environ["URL"].replace("http", "ws", 1) + "/v1/chat/stream?model=test-model"
    async with websockets.connect(url, additional_headers={"Authorization": "Bearer " + os.environ["KEY"]}) as socket:
        await socket.send(json.dumps({"messages": [{"role": "user", "content": sys.argv[1]}]}))
        async for message in socket:
            chunk = json.loads(message)
            for choice in chunk["choices"]:
                print(choice["delta"].get("content") or "", end="", flush=True)
            if chunk.get("usage"):
                print(" [end]")
                break


asyncio.run(main())
