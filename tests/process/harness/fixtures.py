"""Recorded provider bodies and what a relay must make of them."""

import functools
import json
import re
from dataclasses import dataclass

from harness import paths, sse


@dataclass(frozen=True)
class Fixture:
    """One file of the index."""
    entry: dict

    @property
    def name(self):
        return self.entry["file"]

    @property
    def data(self):
        return (paths.FIXTURES / self.name).read_bytes()

    @property
    def expected(self):
        return self.entry["expected"]

    @property
    def has_usage(self):
        return self.expected["prompt_tokens"] is not None

    @property
    def status(self):
        return self.entry["status"]

    @property
    def ends_well(self):
        """Does the stream end as a completed one?"""
        return "error" not in self.entry.get("extra", {}) and "truncated" not in self.name


@functools.cache
def _index():
    index = paths.FIXTURES / "INDEX.json"
    if not index.exists():
        return []
    return [Fixture(entry) for entry in json.loads(index.read_text())["files"]]


def chat_streams():
    return [item for item in _index() if item.entry["api"] == "openai.chat" and item.entry["kind"] == "stream"]


def chat_bodies():
    return [item for item in _index() if item.entry["api"] == "openai.chat" and item.entry["kind"] == "json"]


def errors():
    return [item for item in _index() if item.entry["kind"] == "error"]


def is_usage_only(event):
    """Is this the extra chunk that include_usage brings?"""
    if event.is_done or not event.data.lstrip().startswith("{"):
        return False
    body = event.json()
    return body.get("choices") == [] and isinstance(body.get("usage"), dict)


def without_usage_only(data):
    """The body a client gets that did not ask for usage."""
    return b"".join(event.raw for event in sse.blocks(data) if not is_usage_only(event))


_COST = rb'"cost":[0-9]+(?:\.[0-9]+)?(?:[eE]-?[0-9]+)?'


def without_cost(raw):
    """Event bytes without the one field the relay adds to a usage object."""
    return re.sub(rb"," + _COST + rb"|" + _COST + rb",", b"", raw, count=1)
