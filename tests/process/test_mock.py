"""The mock itself: what the other tests rely on."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness import fixtures, sse
from harness.http1 import Broken, Http1, Stream
from harness.wait import until
from mock import behaviour, provider

PATH = "/v1/chat/completions"


@pytest.fixture
def client(mock):
    with Http1(mock.port) as connection:
        yield connection


def open_stream(connection, case, **fields):
    connection.send("POST", PATH, body=case.body(stream=True, **fields))
    return Stream(connection, connection.head())


def test_answers_whole_and_keeps_the_connection(mock, client):
    case = mock.case(behaviour.chat("Hello", " world"))
    first = client.request("POST", PATH, body=case.body())
    second = client.request("POST", PATH, body=case.body())
    assert first.json()["choices"][0]["message"]["content"] == "Hello world"
    assert second.status == 200
    assert [exchange.number_on_connection for exchange in case.exchanges] == [0, 1]
    assert case.last.header("content-type") == "application/json"


def test_streams_usage_only_when_asked(mock, client):
    case = mock.case(behaviour.chat("a", "b"))
    plain = open_stream(client, case).drain()
    asked = open_stream(client, case, stream_options={"include_usage": True}).drain()
    assert sse.text_of(plain) == sse.text_of(asked) == "ab"
    assert not any("usage" in event.data for event in plain)
    assert asked[-2].json()["usage"]["completion_tokens"] == 2
    assert asked[-1].is_done


def test_pace_holds_each_event_until_released(mock, client):
    pace = mock.pace()
    case = mock.case(behaviour.stream("a", "b", "c", pace=pace))
    stream = open_stream(client, case)
    pace.release()
    stream.take(1)
    until(lambda: case.last.events_sent, "the count")  # it rises when the send returns
    assert case.last.events_sent == 1
    pace.open()
    assert sse.text_of(stream.drain()) == "abc"


@pytest.mark.parametrize("ending", ["close", "reset"])
def test_breaks_a_stream(mock, client, ending):
    case = mock.case(behaviour.stream("a", ending=ending))
    stream = open_stream(client, case)
    with pytest.raises(Broken):
        stream.drain()


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_sees_the_client_leave(mock, leave):
    case = mock.case(behaviour.hang())
    connection = Http1(mock.port)
    connection.send("POST", PATH, body=case.body())
    until(lambda: case.exchanges, "the request")
    assert not case.last.client_left
    getattr(connection, leave)()
    until(lambda: case.last.client_left, "the client's leaving")


def test_sees_its_own_send_stall(mock, client):
    case = mock.case(behaviour.flood(64 << 20))
    stream = open_stream(client, case)
    until(lambda: case.last.stalled_for > 0.2, "a stall")
    stalled_at = case.last.bytes_sent
    assert stalled_at < 32 << 20
    stream.close()
    until(lambda: case.last.client_left, "the client's leaving")


@pytest.mark.parametrize("cut", [None, 1, 7])
def test_replays_bytes_in_pieces(mock, client, cut):
    data = b'data: {"a":1}\r\n\r\n: note\n\ndata: [DONE]\n\n'
    case = mock.case(behaviour.replay(data, cut_bytes=cut))
    stream = open_stream(client, case)
    assert [event.data for event in stream.drain()] == ['{"a":1}', "[DONE]"]
    assert stream.raw == data


def test_drops_the_connection_on_the_next_request(mock, client):
    case = mock.case(behaviour.then_drop_next(behaviour.chat()))
    assert client.request("POST", PATH, body=case.body()).status == 200
    before = len(mock.dropped)
    with pytest.raises(Broken):
        client.request("POST", PATH, body=case.body())
    assert len(mock.dropped) == before + 1


def test_sends_informational_answers_first(mock, client):
    case = mock.case(behaviour.early_hints(behaviour.chat()))
    assert client.request("POST", PATH, body=case.body()).status == 200


def test_sends_gzip_unasked(mock, client):
    case = mock.case(behaviour.gzipped({"a": 1}))
    answer = client.request("POST", PATH, body=case.body())
    assert json.loads(gzip.decompress(answer.body)) == {"a": 1}


def test_sends_less_than_it_announced(mock, client):
    case = mock.case(behaviour.short_body(b"{}", 100))
    with pytest.raises(Broken):
        client.request("POST", PATH, body=case.body())


def test_answers_in_sequence(mock, client):
    case = mock.case(behaviour.sequence(behaviour.status(503), behaviour.chat()))
    assert [client.request("POST", PATH, body=case.body()).status for _ in range(3)] == [503, 200, 200]


def test_untagged_requests_are_answered_by_model_name(mock, client):
    assert client.request("POST", PATH, body={"model": "status-429"}).status == 429
    assert client.request("POST", PATH, body={"model": "any"}).status == 200
    assert client.request("POST", PATH, body=b"no json").status == 400


def test_runs_as_a_program():
    tests = Path(__file__).parent.parent
    command = [sys.executable, "-m", "mock", "--events", "20", "--interval-ms", "1"]
    with subprocess.Popen(command, cwd=tests, stdout=subprocess.PIPE, text=True) as process:
        port = int(process.stdout.readline().split(":")[-1].split("/")[0])
        with Http1(port) as connection:
            connection.send("POST", PATH, body={"model": "m", "stream": True})
            events = Stream(connection, connection.head()).drain()
        process.terminate()
    assert len(events) == 22
    assert process.returncode == 0


@pytest.mark.parametrize("fixture", fixtures.chat_streams(), ids=lambda fixture: fixture.name)
def test_the_reader_agrees_with_the_index(fixture):
    """The tests' own event reader against the index's independent counts."""
    events = sse.blocks(fixture.data)
    assert len(events) == fixture.entry["extra"]["sse_events"]
    assert any(event.is_done for event in events) == fixture.expected["has_done_marker"]


TOOL = {"type": "object", "properties": {"city": {"type": "string"}}}
ASKED = {
    "/v1/chat/completions": {"model": "m", "messages": [{"role": "user", "content": "Oslo"}],
                             "tools": [{"type": "function", "function": {"name": "weather", "parameters": TOOL}}]},
    "/v1/messages": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Oslo"}],
                     "tools": [{"name": "weather", "input_schema": TOOL}]},
    "/v1/models/m:generateContent": {"contents": [{"role": "user", "parts": [{"text": "Oslo"}]}],
                                     "tools": [{"functionDeclarations": [{"name": "weather", "parameters": TOOL}]}]}}


def converse(mock, client, path, body):
    """Asks the provider that reads its requests."""
    case = mock.case(provider.answer())
    text = json.dumps(body).replace("Oslo", f"Oslo {case.tag}", 1)
    return client.request("POST", path, {"anthropic-version": "2023-06-01"}, text.encode())


@pytest.mark.parametrize("path", ASKED)
def test_the_provider_calls_what_it_is_offered(mock, client, path):
    answer = converse(mock, client, path, ASKED[path])
    assert answer.status == 200 and b'"weather"' in answer.body and b"Oslo" in answer.body


@pytest.mark.parametrize(("path", "change"), [
    ("/v1/chat/completions", {"unknown": 1}),
    ("/v1/chat/completions", {"tool_choice": {"type": "function", "function": {"name": "other"}}}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Oslo"}, {"role": "tool", "tool_call_id": "x", "content": ""}]}),
    ("/v1/messages", {"max_tokens": None}),
    ("/v1/messages", {"reasoning_effort": "low"}),
    ("/v1/messages", {"messages": [{"role": "user", "content": "Oslo"}, {"role": "assistant", "content": [
        {"type": "tool_use", "id": "a", "name": "weather", "input": {}}]}, {"role": "user", "content": "and?"}]}),
    ("/v1/messages", {"messages": [{"role": "user", "content": "Oslo"}, {"role": "assistant", "content": [
        {"type": "thinking", "thinking": provider.THOUGHT, "signature": "forged"}]}]}),
    ("/v1/models/m:generateContent", {"stream": True}),
    ("/v1/models/m:generateContent", {"tools": [{"functionDeclarations": [
        {"name": "f", "parameters": {"type": "object", "additionalProperties": False}}]}]}),
    ("/v1/models/m:generateContent", {"contents": [{"role": "user", "parts": [{"text": "Oslo"}]}, {"role": "user", "parts": [
        {"functionResponse": {"name": "weather", "response": {}}}]}]}),
    ("/v1/models/gemini-3:generateContent", {"contents": [{"role": "user", "parts": [{"text": "Oslo"}]}, {"role": "model", "parts": [
        {"functionCall": {"name": "weather", "args": {}}}]}]})])
def test_the_provider_refuses_what_the_real_ones_refuse(mock, client, path, change):
    answer = converse(mock, client, path, {**ASKED.get(path, {}), **change})
    assert answer.status == 400 and "error" in answer.json()
