"""Processor time of a worker for an event that is told in another dialect, beside one that is passed on as it came."""

import contextlib

import clients
import servers
from harness import config

STREAMS, EVENTS, INTERVAL_MS = 50, 100, 20
NAME = f"steady-{EVENTS}x{INTERVAL_MS}"
CASES = (("chat to an Anthropic upstream", "anthropic", clients.CHAT), ("chat to a Gemini upstream", "gemini", clients.CHAT),
         ("Messages to an OpenAI upstream", "openai", clients.MESSAGES), ("Messages passed on to Anthropic", "anthropic", clients.MESSAGES))


def run(table, build):
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(servers.directory(build))
        mock = stack.enter_context(servers.mock_server())
        dialects = ("openai", "anthropic", "gemini")
        upstreams = {dialect: {**config.upstream(mock), "dialect": dialect} for dialect in dialects}
        models = {dialect: config.model({"upstream": dialect, "model": NAME, "cost": config.COST}) for dialect in dialects}
        relay = stack.enter_context(servers.relay(folder, mock, models, upstreams=upstreams))
        event_us(relay, "openai", clients.CHAT)
        passed_us = event_us(relay, "openai", clients.CHAT)
        for what, model, target in CASES:
            table.row(f"an event, {what}", event_us(relay, model, target), "µs", "passed on in chat", passed_us)
    table.note(f"{STREAMS} streams at once, {EVENTS} events each, one every {INTERVAL_MS} ms. Goal: a ratio below 2.")


def event_us(relay, model, target):
    """Microseconds of the worker for each event."""
    before = servers.cpu_ns(relay.pid)
    streams = clients.Http1Requests(relay, model, STREAMS, target=target)
    streams.run(lambda: False)
    assert streams.events >= STREAMS * EVENTS, streams.events
    return (servers.cpu_ns(relay.pid) - before) / 1000 / (STREAMS * EVENTS)
