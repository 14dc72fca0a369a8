"""Server-sent events, read by the strict rules (WHATWG), with the raw bytes of every block kept."""

import json
import re
import time
from dataclasses import dataclass, field


@dataclass
class Event:
    name: str | None
    data: str
    raw: bytes
    id: str | None = None
    at: float = field(default_factory=time.monotonic)

    def json(self):
        return json.loads(self.data)

    @property
    def is_done(self):
        return self.data == "[DONE]"

    @property
    def error(self):
        """The error object of an error event in OpenAI's form, else None."""
        if self.is_done:
            return None
        body = self.json()
        return body.get("error") if isinstance(body, dict) else None


_BLANK = re.compile(rb"(?:\r\n|\r(?!\n)|\n)(?:\r\n|\r(?!\n)|\n)")
_LINE = re.compile(rb"\r\n|\r|\n")


class Reader:
    """Feed it bytes; it gathers events and comments."""

    def __init__(self):
        self.events, self.comments = [], []
        self._pending = b""

    def feed(self, data):
        """Takes bytes and returns the events they completed."""
        self._pending += data
        before = len(self.events)
        while boundary := _BLANK.search(self._pending):
            block, self._pending = self._pending[:boundary.end()], self._pending[boundary.end():]
            self._take(block)
        return self.events[before:]

    @property
    def pending(self):
        """Bytes of a block that has not ended."""
        return self._pending

    def _take(self, block):
        name, identity, data = None, None, []
        for line in _LINE.split(block):
            key, _, value = line.decode().partition(":")
            value = value.removeprefix(" ")
            if not line or not key:
                if line:
                    self.comments.append(value)
            elif key == "data":
                data.append(value)
            elif key == "event":
                name = value
            elif key == "id":
                identity = value
        if data:
            self.events.append(Event(name, "\n".join(data), block, identity))


def blocks(body):
    """All events of a whole body; a last block without its blank line counts too."""
    reader = Reader()
    reader.feed(body)
    if reader.pending.strip():
        reader.feed(b"\n\n")
    return reader.events


def text_of(events, index=0):
    """The visible text of one choice."""
    parts = []
    for event in events:
        if event.is_done:
            continue
        for choice in event.json().get("choices") or []:
            content = (choice.get("delta") or {}).get("content")
            if choice.get("index", 0) == index and isinstance(content, str):
                parts.append(content)
    return "".join(parts)
