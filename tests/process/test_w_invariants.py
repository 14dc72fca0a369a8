"""Invariants of design.md that no other file is named after."""

import json
import os

from harness.wait import SLOWNESS, until
from mock import behaviour

PATHS = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages",
         "/v1/messages/count_tokens", "/v1/models", "/v1/audio/speech", "/v1/files", "/v1/chat/completions/",
         "/v1//chat/completions", "/v1/./chat/completions", "/v1/x/../chat/completions", "/chat/completions", "/",
         "/v1/chat/completions/x", "/%761/chat/completions", "/v1/batches", "/v1/images/generations"]


def test_I10_nothing_reaches_an_upstream_unmetered(own_relay, mock):
    relay = own_relay()
    key = relay.create_key(relay.create_tenant("metered"))
    case = mock.case(behaviour.chat("x"))
    seen_before = len(mock.exchanges)
    for path in PATHS:
        for method in ("POST", "GET", "PUT"):
            for body in (case.body(), case.body(stream=True), {"model": "test-model", "input": case.body()["messages"][0]["content"]}):
                relay.request(method, path, key, {"content-type": "application/json"}, json.dumps(body).encode())
    reached = len(mock.exchanges) - seen_before
    assert reached > 0
    until(lambda: sum(record["attempts"] for record in relay.records()) == reached, "a record for every upstream call")


def test_I7_a_stream_that_nobody_reads_costs_bounded_memory(own_relay, mock):
    options = f"{os.environ.get('ASAN_OPTIONS', '')}:quarantine_size_mb=0"  # a sanitizer keeps what was freed
    relay = own_relay(environment={"ASAN_OPTIONS": options})
    key = relay.create_key(relay.create_tenant("slow"))
    case = mock.case(behaviour.flood(64 << 20))

    def resident_bytes():
        return max(worker["rss_bytes"] for worker in relay.status()["workers"])

    before = resident_bytes()
    streams = [relay.stream(key, case.body(), receive_buffer_bytes=4096) for _ in range(4)]
    until(lambda: len(case.exchanges) == 4 and all(exchange.stalled_for > 0.3 for exchange in case.exchanges), "the upstreams held back")
    assert resident_bytes() - before < (4 << 20) * (1 if SLOWNESS == 1 else 2)  # a sanitizer's own share
    for stream in streams:
        stream.close()


def test_I8_only_a_completed_stream_looks_complete(relay, mock, key):
    """Cut an answer at every event: the client sees its end only when the upstream sent it."""
    words = ["a", "b", "c", "d"]
    whole = mock.case(behaviour.stream(*words))
    with relay.stream(key, whole.body()) as stream:
        assert stream.drain()[-1].is_done
    for ending in ("close", "reset", "clean"):
        case = mock.case(behaviour.stream(*words, ending=ending))
        with relay.stream(key, case.body()) as stream:
            events = stream.drain()
        assert not any(event.is_done for event in events)
        assert "error" in events[-1].json()
