"""Completions over a WebSocket: both dialects, several at once, conversations, cancels, limits, the ledger; and
/v1/chat/stream."""

import asyncio
import hashlib
import hmac
import json
import time

import pytest

from harness import config, fixtures, sse
from harness.relay import cost_of
from harness.wait import until
from harness.websocket import TEXT, Refused, WebSocket, frame, refusal, upgrade_headers, with_query
from mock import behaviour, openai

CHAT, STREAM = "/v1/ws/chat", "/v1/chat/stream"
COUNTS = openai.usage(prompt=1000, completion=500, cached=200, cache_write=100, reasoning=50)


def open_chat(relay, key, target=CHAT, **options):
    return WebSocket(relay.port, target, key, **options)


def deltas(messages, kind="content.delta"):
    return "".join(message["delta"] for message in messages if message["type"] == kind)


def messages_of(exchange):
    return [(message["role"], message["content"]) for message in exchange.json()["messages"]]


# --- the dialects ---

def test_content_is_the_default_dialect(relay, mock, key):
    case = mock.case(behaviour.chat("Hello", " \"world\"\n", counts=COUNTS))
    with open_chat(relay, key) as socket:
        socket.complete(case.body(), id="one")
        messages = socket.until("completion.done")
    assert [message["type"] for message in messages] == ["content.delta", "content.delta", "completion.done"]
    assert all(message["id"] == "one" for message in messages)
    assert deltas(messages) == "Hello \"world\"\n"
    assert messages[0] == {"type": "content.delta", "id": "one", "delta": "Hello"}
    assert messages[-1]["finish_reason"] == "stop"
    assert messages[-1]["usage"]["prompt_tokens"] == 1000
    assert set(messages[-1]) == {"type", "id", "finish_reason", "usage"}


def test_content_can_be_asked_for_by_name(relay, mock, key):
    with open_chat(relay, key, with_query(CHAT, dialect="content")) as socket:
        socket.complete(mock.case(behaviour.chat("a")).body(), id="x")
        assert deltas(socket.until("completion.done")) == "a"


def test_the_stream_dialect(relay, mock, key):
    case = mock.case(behaviour.chat("Hello", " world", counts=COUNTS))
    with open_chat(relay, key, with_query(CHAT, dialect="stream")) as socket:
        socket.complete(case.body(), id="two")
        messages = socket.until("done")
    assert messages[0] == {"type": "stream", "id": "two", "delta": {"content": "Hello"}}
    assert [message["type"] for message in messages] == ["stream", "stream", "usage", "done"]
    assert messages[2]["id"] == "two" and messages[2]["usage"]["completion_tokens"] == 500
    assert messages[3] == {"type": "done", "id": "two"}


def chunk(delta=None, finish=None, index=0):
    return openai.chunk("provider-model", delta, finish=finish, index=index)


def events(*chunks):
    """A behaviour that sends these chunks, usage and the end."""
    async def answer(exchange):
        await exchange.head(content_type=behaviour.SSE, chunked=True)
        for each in chunks:
            await exchange.event(each)
        await exchange.event(openai.usage_chunk("provider-model", openai.usage()))
        await exchange.event(b"[DONE]")
        await exchange.finish()
    return answer


TOOLS = [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}},
         {"index": 0, "function": {"arguments": "{\"city\":"}}, {"index": 0, "function": {"arguments": "\"Bern\"}"}}]


@pytest.mark.parametrize("dialect", ["content", "stream"])
def test_tool_calls_and_reasoning_have_messages_of_their_own(relay, mock, key, dialect):
    case = mock.case(events(chunk({"role": "assistant", "content": None, "reasoning_content": "Hm"}), chunk({"reasoning": "m."}),
                            *(chunk({"tool_calls": [tool]}) for tool in TOOLS), chunk(finish="tool_calls")))
    with open_chat(relay, key, with_query(CHAT, dialect=dialect)) as socket:
        socket.complete(case.body(), id="t")
        messages = socket.until("completion.done", "done")
    assert deltas(messages, "reasoning.delta") == "Hmm."
    assert [message["delta"] for message in messages if message["type"] == "tool_call.delta"] == TOOLS
    assert not [message for message in messages if message["type"] in ("content.delta", "stream")]
    if dialect == "content":
        assert messages[-1]["finish_reason"] == "tool_calls"


def test_several_choices_are_told_apart(relay, mock, key):
    case = mock.case(events(chunk({"content": "a"}), chunk({"content": "b"}, index=1), chunk(finish="stop"),
                            chunk(finish="length", index=1)))
    with open_chat(relay, key) as socket:
        socket.complete(case.body(n=2), id="n")
        messages = socket.until("completion.done")
    assert [(message["delta"], message.get("index", 0)) for message in messages[:-1]] == [("a", 0), ("b", 1)]
    assert messages[-1]["finish_reason"] == "stop"


def test_an_answer_without_usage_is_counted_by_us(relay, mock, key):
    case = mock.case(behaviour.chat("Hello", " world", report_usage=False))
    with open_chat(relay, key) as socket:
        socket.complete(case.body(), id="estimate-1")
        done = socket.until("completion.done")[-1]
    record = relay.record("estimate-1")
    assert record["estimated"] is True
    assert done["usage"]["completion_tokens"] == record["output_tokens"] > 0
    assert done["usage"]["prompt_tokens"] == record["input_tokens"] > 0


def test_bytes_that_are_no_utf8_do_not_break_the_socket(relay, mock, key):
    async def answer(exchange):
        await exchange.head(content_type=behaviour.SSE, chunked=True)
        await exchange.event(b'{"choices":[{"index":0,"delta":{"content":"a\xffb"},"finish_reason":"stop"}]}')
        await exchange.event(b"[DONE]")
        await exchange.finish()
    with open_chat(relay, key) as socket:
        socket.complete(mock.case(answer).body(), id="u")
        assert deltas(socket.until("completion.done")) == "a\ufffdb"


# --- what goes upstream ---

def test_any_field_goes_upstream_and_the_envelope_does_not(relay, mock, key):
    case = mock.case(behaviour.chat("a"))
    body = case.body(temperature=0.25, stop=["x"], metadata={"id": "inner"}, user="end-user", stream=False,
                     stream_options={"include_obfuscation": False, "include_usage": False})
    with open_chat(relay, key) as socket:
        socket.complete(body, id="fields-1")
        socket.until("completion.done")
    sent = case.last.json()
    assert "type" not in sent and "id" not in sent
    assert sent["temperature"] == 0.25 and sent["stop"] == ["x"] and sent["metadata"] == {"id": "inner"}
    assert sent["stream"] is True
    assert sent["stream_options"] == {"include_obfuscation": False, "include_usage": True}
    assert sent["model"] == "provider-model"
    assert relay.record("fields-1")["user"] == "end-user"


def test_a_completion_is_one_request_in_the_ledger(relay, mock, key):
    case = mock.case(behaviour.chat(counts=COUNTS))
    with open_chat(relay, key) as socket:
        socket.complete(case.body(), id="ledger-1")
        done = socket.until("completion.done")[-1]
    record = relay.record("ledger-1")
    assert record["endpoint"] == "/v1/ws/chat" and record["stream"] is True and record["status"] == 200
    assert record["input_tokens"] == 1000 and record["output_tokens"] == 500
    assert record["price_usd"] == cost_of(record, config.PRICE)
    assert float(record["price_usd"]) == pytest.approx(done["usage"]["cost"])
    assert record["client"] == "127.0.0.1"


def test_an_id_is_made_when_there_is_none_and_leads_to_the_record(relay, mock, key):
    with open_chat(relay, key) as socket:
        socket.complete(mock.case(behaviour.chat("a")).body())
        messages = socket.until("completion.done")
    made = messages[0]["id"]
    assert made.startswith("req_") and {message["id"] for message in messages} == {made}
    assert relay.record(made)["endpoint"] == "/v1/ws/chat"


def test_a_number_may_be_an_id(relay, mock, key):
    with open_chat(relay, key) as socket:
        socket.complete(mock.case(behaviour.chat("a")).body(), id=17)
        assert {message["id"] for message in socket.until("completion.done")} == {17}


# --- several at once ---

def test_several_completions_run_side_by_side(relay, mock, key):
    paces = [mock.pace() for _ in range(3)]
    cases = [mock.case(behaviour.stream(f"a{n}", f"b{n}", pace=pace)) for n, pace in enumerate(paces)]
    with open_chat(relay, key) as socket:
        for number, case in enumerate(cases):
            socket.complete(case.body(), id=f"c{number}")
        for number in (2, 0, 1):
            paces[number].release()
            message = socket.receive()
            assert (message["id"], message["delta"]) == (f"c{number}", f"a{number}")
        for number in (1, 2, 0):
            paces[number].open()
            rest = socket.until("completion.done")
            assert {message["id"] for message in rest} == {f"c{number}"}
            assert deltas(rest) == f"b{number}"


def test_an_id_that_still_runs_is_refused_and_free_afterwards(relay, mock, key):
    pace = mock.pace()
    case = mock.case(behaviour.stream("a", "b", pace=pace))
    with open_chat(relay, key) as socket:
        socket.complete(case.body(), id="same")
        pace.release()
        assert socket.receive()["delta"] == "a"
        socket.complete(case.body(), id="same")
        error = socket.receive()
        assert error["type"] == "error" and error["id"] == "same" and error["error"]["param"] == "id"
        pace.open()
        assert deltas(socket.until("completion.done")) == "b"
        socket.complete(case.body(), id="same")
        assert deltas(socket.until("completion.done")) == "ab"


def test_the_number_of_completions_at_once_is_bounded(relay, mock, key):
    pace = mock.pace()
    case = mock.case(behaviour.late(pace, behaviour.chat("a")))
    with open_chat(relay, key) as socket:
        for number in range(65):
            socket.complete(case.body(), id=f"many-{number}")
        error = socket.receive()
        assert error["id"] == "many-64" and error["error"]["code"] == "rate_limit_exceeded"
        assert "64" in error["error"]["message"]
        pace.open()
        done = [socket.until("completion.done")[-1] for _ in range(64)]
    assert {message["id"] for message in done} == {f"many-{number}" for number in range(64)}


# --- errors ---

@pytest.mark.parametrize("text, code", [
    ("{", "invalid_json"), ("", "invalid_json"), ("[]", "invalid_json"), ("null", "invalid_json"), ("17", "invalid_json"),
    ("[" * 200, "invalid_json"), ("{}", "missing_field"), ('{"type":"nonsense"}', "invalid_value"),
    ('{"type":17}', "invalid_value"), ('{"type":"cancel"}', "missing_field"),
    ('{"type":"cancel","id":"unknown"}', "invalid_value"), ('{"type":"context.update"}', "missing_field"),
    ('{"type":"context.update","messages":7}', "invalid_value"),
    ('{"type":"context.update","messages":[{"role":"nobody","content":"x"}]}', "invalid_value"),
    ('{"type":"chat.completion","id":{}}', "invalid_value"), ('{"type":"chat.completion","id":""}', "invalid_value"),
    ('{"type":"chat.completion","id":"%s"}' % ("x" * 200), "invalid_value"),
    ('{"type":"chat.completion","id":1.5}', "invalid_value"), ('{"type":"chat.completion"}', "missing_field"),
    ('{"type":"chat.completion","model":"test-model"}', "missing_field"),
    ('{"type":"chat.completion","model":"no-such","messages":[{"role":"user","content":"x"}]}', "model_not_found"),
    ('{"type":"chat.completion","model":"test-model","messages":[]}', "invalid_value"),
    ('{"type":"chat.completion","model":"test-model","messages":[{"role":"user","content":"x"}],"stream":"yes"}', "invalid_value"),
    ('{"type":"chat.completion","model":"test-model","messages":[{"role":"user","content":"x"}],"stream_options":1}',
     "invalid_value"),
    ('{"type":"chat.completion","model":"a","model":"b","messages":[{"role":"user","content":"x"}]}', "invalid_value"),
])
def test_a_bad_message_is_an_error_and_the_socket_stays(relay, mock, key, text, code):
    with open_chat(relay, key) as socket:
        socket.send(text)
        error = socket.receive()
        assert error["type"] == "error" and "id" in error and error["error"]["code"] == code
        assert set(error["error"]) == {"message", "type", "code", "param"}
        socket.complete(mock.case(behaviour.chat("still")).body(), id="after")
        assert deltas(socket.until("completion.done")) == "still"


def test_a_refusal_names_its_completion(relay, mock, key):
    with open_chat(relay, key) as socket:
        socket.complete({"model": "no-such", "messages": [{"role": "user", "content": "x"}]}, id="wrong")
        error = socket.receive()
    assert (error["type"], error["id"], error["status"], error["error"]["param"]) == ("error", "wrong", 404, "model")


@pytest.mark.parametrize("dialect", ["content", "stream"])
def test_an_upstream_that_breaks_ends_in_an_error_only(relay, mock, key, dialect):
    with open_chat(relay, key, with_query(CHAT, dialect=dialect)) as socket:
        socket.complete(mock.case(behaviour.stream("a", "b", ending="reset")).body(), id="broken")
        messages = socket.until("completion.done", "done", "usage")
        assert messages[-1]["type"] == "error" and messages[-1]["id"] == "broken"
        assert messages[-1]["error"]["type"] == "upstream_error"
        socket.complete(mock.case(behaviour.chat("next")).body(), id="next")
        assert {message["id"] for message in socket.until("completion.done", "done")} == {"next"}


def test_an_upstream_that_refuses_is_an_error(relay, mock, key):
    with open_chat(relay, key) as socket:
        socket.complete(mock.case(behaviour.status(400)).body(), id="no")
        error = socket.receive()
    assert error["type"] == "error" and error["status"] == 400 and error["error"]["type"] == "invalid_request_error"


# --- ping ---

def test_pong_answers_ping(relay, key):
    with open_chat(relay, key) as socket:
        for _ in range(3):
            socket.send({"type": "ping"})
            assert socket.receive() == {"type": "pong"}


# --- cancel ---

def test_a_cancel_ends_in_done_and_stops_the_upstream(relay, mock, key):
    pace = mock.pace()
    case = mock.case(behaviour.stream("Hello", " never", pace=pace))
    with open_chat(relay, key) as socket:
        socket.complete(case.body(), id="cancel-1")
        pace.release()
        assert socket.receive()["delta"] == "Hello"
        socket.send({"type": "cancel", "id": "cancel-1"})
        done = socket.receive()
        assert (done["type"], done["id"], done["finish_reason"]) == ("completion.done", "cancel-1", "cancelled")
        until(lambda: case.last.client_left, "the upstream's hang-up")
        socket.complete(mock.case(behaviour.chat("next")).body(), id="cancel-2")
        assert deltas(socket.until("completion.done")) == "next"
    record = relay.record("cancel-1")
    assert record["finish_reason"] == "cancelled" and record["estimated"] is True
    assert record["output_tokens"] == done["usage"]["completion_tokens"] > 0
    assert record["price_usd"] == cost_of(record, config.PRICE) > 0


def test_a_cancel_before_the_first_byte(relay, mock, key):
    case = mock.case(behaviour.hang())
    with open_chat(relay, key) as socket:
        socket.complete(case.body(), id="early")
        until(lambda: case.exchanges, "the upstream's request")
        socket.send({"type": "cancel", "id": "early"})
        assert socket.receive()["finish_reason"] == "cancelled"
        until(lambda: case.last.client_left, "the upstream's hang-up")


def test_a_cancel_at_once(relay, mock, key):
    case = mock.case(behaviour.chat("a"))
    with open_chat(relay, key) as socket:
        both = [{"type": "chat.completion", "id": "z", **case.body()}, {"type": "cancel", "id": "z"}]
        socket.send_raw(b"".join(frame(TEXT, json.dumps(message).encode()) for message in both))
        assert socket.until("completion.done")[-1]["id"] == "z"
        socket.send({"type": "ping"})
        assert socket.receive() == {"type": "pong"}


def test_a_cancel_in_the_stream_dialect(relay, mock, key):
    pace = mock.pace()
    with open_chat(relay, key, with_query(CHAT, dialect="stream")) as socket:
        socket.complete(mock.case(behaviour.stream("a", "b", pace=pace)).body(), id="c")
        pace.release()
        socket.receive()
        socket.send({"type": "cancel", "id": "c"})
        assert [message["type"] for message in socket.until("done")] == ["usage", "done"]


def test_who_cancels_or_closes_wants_no_drain_but_a_lost_connection_may(own_relay, mock):
    relay = own_relay({"streams": {"on_disconnect": "drain"}})
    key = relay.create_key(relay.create_tenant("t"))
    for how in ("cancel", "close", "reset"):
        pace = mock.pace()
        case = mock.case(behaviour.stream("a", "b", pace=pace))
        with open_chat(relay, key) as socket:
            socket.complete(case.body(), id=how)
            pace.release()
            socket.receive()
            if how == "cancel":
                socket.send({"type": "cancel", "id": "cancel"})
                assert socket.receive()["finish_reason"] == "cancelled"
            else:
                getattr(socket, how)()
            if how == "reset":
                until(lambda: sum(worker["streams"] for worker in relay.status()["workers"]) == 0, "the loss was seen")
                pace.open()
            else:
                until(lambda: case.last.client_left, "the upstream's hang-up")
    assert relay.record("reset")["finish_reason"] == "stop" and relay.record("reset")["output_tokens"] == 2
    assert relay.record("close")["finish_reason"] == "cancelled"


@pytest.mark.parametrize("how", ["close", "hang_up", "reset"])
def test_closing_the_socket_cancels_what_runs(relay, mock, key, how):
    pace = mock.pace()
    cases = [mock.case(behaviour.stream("a", "b", pace=pace)), mock.case(behaviour.hang())]
    with open_chat(relay, key) as socket:
        for number, case in enumerate(cases):
            socket.complete(case.body(), id=f"gone-{how}-{number}")
        until(lambda: all(case.exchanges for case in cases), "both upstream requests")
        pace.release()
        socket.receive()
        getattr(socket, how)()
        until(lambda: all(case.last.client_left for case in cases), "both upstreams' hang-ups")
    assert relay.record(f"gone-{how}-0")["finish_reason"] == "cancelled"


# --- conversations ---

def test_a_conversation_sends_context_turns_and_its_own_messages(relay, mock, key):
    case = mock.case(behaviour.sequence(behaviour.chat("An", "swer 1"), behaviour.chat("Answer 2"), behaviour.chat("Answer 3")))
    own = {"model": "test-model"}
    with open_chat(relay, key) as socket:
        socket.send({"type": "context.update", "messages": [{"role": "system", "content": f"Be brief. {case.tag}"}]})
        for number in (1, 2):
            socket.complete({**own, "messages": [{"role": "user", "content": f"Question {number}"}]})
            socket.until("completion.done")
        socket.send({"type": "context.update", "messages": [{"role": "system", "content": f"Be long. {case.tag}"}]})
        socket.complete({**own, "messages": [{"role": "user", "content": "Question 3"}]})
        socket.until("completion.done")
    context, longer = ("system", f"Be brief. {case.tag}"), ("system", f"Be long. {case.tag}")
    first = [("user", "Question 1"), ("assistant", "Answer 1")]
    second = [("user", "Question 2"), ("assistant", "Answer 2")]
    assert messages_of(case.exchanges[0]) == [context, ("user", "Question 1")]
    assert messages_of(case.exchanges[1]) == [context, *first, ("user", "Question 2")]
    assert messages_of(case.exchanges[2]) == [longer, *first, *second, ("user", "Question 3")]


def test_without_a_context_nothing_is_added(relay, mock, key):
    case = mock.case(behaviour.chat("a"))
    with open_chat(relay, key) as socket:
        for _ in range(2):
            socket.complete(case.body())
            socket.until("completion.done")
    assert [len(exchange.json()["messages"]) for exchange in case.exchanges] == [1, 1]


def test_turns_from_before_the_first_context_are_remembered(relay, mock, key):
    case = mock.case(behaviour.chat("a"))
    with open_chat(relay, key) as socket:
        socket.complete(case.body())
        socket.until("completion.done")
        socket.send({"type": "context.update", "messages": []})
        socket.complete({"model": "test-model", "messages": [{"role": "user", "content": "And now?"}]})
        socket.until("completion.done")
    assert messages_of(case.last) == [("user", case.prompt), ("assistant", "a"), ("user", "And now?")]


def test_what_failed_is_not_remembered(relay, mock, key):
    case = mock.case(behaviour.sequence(behaviour.stream("half", ending="reset"), behaviour.chat("whole")))
    with open_chat(relay, key) as socket:
        socket.send({"type": "context.update", "messages": []})
        socket.complete(case.body())
        assert socket.until()[-1]["type"] == "error"
        socket.complete(case.body())
        socket.until("completion.done")
    assert messages_of(case.last) == [("user", case.prompt)]


def test_tool_calls_are_remembered(relay, mock, key):
    called = events(*(chunk({"tool_calls": [tool]}) for tool in TOOLS), chunk(finish="tool_calls"))
    case = mock.case(behaviour.sequence(called, behaviour.chat("Sunny.")))
    with open_chat(relay, key) as socket:
        socket.send({"type": "context.update", "messages": []})
        socket.complete(case.body())
        socket.until("completion.done")
        socket.complete({"model": "test-model", "messages": [{"role": "tool", "tool_call_id": "call_1", "content": "sun"}]})
        socket.until("completion.done")
    assistant = case.last.json()["messages"][1]
    assert assistant["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Bern\"}"}}]


def test_the_oldest_turns_are_dropped_first(relay, mock, key):
    case = mock.case(behaviour.chat("a"))
    with open_chat(relay, key) as socket:
        socket.send({"type": "context.update", "messages": [{"role": "system", "content": case.tag}]})
        for number in range(5):
            socket.complete({"model": "large-model", "messages": [{"role": "user", "content": f"{number}" + "x" * 300_000}]})
            assert socket.until("completion.done")[-1]["type"] == "completion.done"
    sent = [content[0] for role, content in messages_of(case.last) if role == "user"]
    assert sent == ["1", "2", "3", "4"]
    assert messages_of(case.last)[0] == ("system", case.tag)


def test_connections_do_not_share_a_conversation(relay, mock, key):
    case = mock.case(behaviour.chat("a"))
    with open_chat(relay, key) as one, open_chat(relay, key) as other:
        one.send({"type": "context.update", "messages": [{"role": "system", "content": "mine"}]})
        one.complete(case.body())
        one.until("completion.done")
        other.complete(case.body())
        other.until("completion.done")
    assert messages_of(case.last) == [("user", case.prompt)]


# --- limits and budgets ---

def test_each_completion_is_one_request_of_the_rate(relay, mock):
    key = relay.create_key(relay.create_tenant("ws-rate"), "--rpm", "2")
    case = mock.case(behaviour.chat("a"))
    with open_chat(relay, key) as socket:
        for number in range(2):
            socket.complete(case.body(), id=f"r{number}")
            assert socket.until("completion.done")[-1]["type"] == "completion.done"
        socket.complete(case.body(), id="r2")
        error = socket.receive()
        assert error["id"] == "r2" and error["status"] == 429 and error["error"]["code"] == "rate_limit_exceeded"
        assert error["retry_after_ms"] > 0
        answer = relay.chat(key, case.body())
        assert answer.status == 429, "limits are shared with HTTP"
    assert case.count == 2


def test_an_upgrade_takes_nothing_of_the_rate(relay, mock):
    key = relay.create_key(relay.create_tenant("ws-free"), "--rpm", "1")
    for _ in range(3):
        with open_chat(relay, key) as socket:
            socket.close()
    with open_chat(relay, key) as socket:
        socket.complete(mock.case(behaviour.chat("a")).body())
        assert deltas(socket.until("completion.done")) == "a"


def test_an_empty_rate_is_refused_before_the_upgrade(relay, mock):
    key = relay.create_key(relay.create_tenant("ws-empty"), "--rpm", "1")
    assert relay.chat(key, mock.case(behaviour.chat("a")).body()).status == 200
    for target in (CHAT, STREAM):
        answer = refusal(relay.port, target, key)
        assert answer.status == 429 and answer.error["code"] == "rate_limit_exceeded"
        assert int(answer.headers["retry-after"]) > 0


def test_a_used_up_budget_is_refused_before_the_upgrade(relay, mock):
    key = relay.create_key(relay.create_tenant("ws-budget"), "--budget", "0.006", "--per", "total")
    assert relay.chat(key, mock.case(behaviour.chat(counts=openai.usage(prompt=100, completion=5000))).body()).status == 200
    answer = refusal(relay.port, CHAT, key)
    assert answer.status == 429 and answer.error["code"] == "insufficient_quota"
    assert answer.headers["x-should-retry"] == "false"


def test_concurrency_counts_completions_not_sockets(relay, mock):
    key = relay.create_key(relay.create_tenant("ws-concurrent"), "--concurrent", "1")
    pace = mock.pace()
    case = mock.case(behaviour.stream("a", "b", pace=pace))
    with open_chat(relay, key) as one, open_chat(relay, key) as other:
        one.complete(case.body(), id="first")
        pace.release()
        assert one.receive()["delta"] == "a"
        other.complete(case.body(), id="second")
        error = other.receive()
        assert error["status"] == 429 and "concurrent" in error["error"]["message"]
        pace.open()
        one.until("completion.done")
        until(lambda: _completes(other, case), "room for the second")


def _completes(socket, case):
    socket.complete(case.body())
    return socket.until("completion.done")[-1]["type"] == "completion.done"


def test_a_stream_whose_money_ends_is_done_with_length(relay, mock):
    key = relay.create_key(relay.create_tenant("ws-length"), "--budget", "0.01", "--per", "total")
    with open_chat(relay, key) as socket:
        socket.complete(mock.case(behaviour.flood(4 << 20, 512)).body(), id="long")
        done = socket.until("completion.done")[-1]
    assert done["type"] == "completion.done" and done["finish_reason"] == "length"


def test_a_revoked_key_is_refused_on_an_open_socket(relay, mock, fresh_tenant):
    key = relay.create_key(fresh_tenant)
    case = mock.case(behaviour.chat("a"))
    with open_chat(relay, key) as socket:
        socket.complete(case.body())
        socket.until("completion.done")
        relay.ok("key", "revoke", key)
        socket.complete(case.body(), id="late")
        error = socket.receive()
    assert error["id"] == "late" and error["status"] == 401 and error["error"]["code"] == "invalid_api_key"


# --- /v1/chat/stream ---

def test_chat_stream_takes_bodies_and_gives_chunks(relay, mock, key):
    case = mock.case(behaviour.chat("Hello", " world", counts=COUNTS))
    body = case.body()
    del body["model"]
    with open_chat(relay, key, with_query(STREAM, model="test-model")) as socket:
        socket.send(body)
        chunks = socket.chunks()
    assert all(each["object"] == "chat.completion.chunk" for each in chunks)
    text = "".join(choice["delta"].get("content") or "" for each in chunks for choice in each["choices"])
    assert text == "Hello world"
    assert chunks[-1]["usage"]["completion_tokens"] == 500 and "cost" in chunks[-1]["usage"]
    assert not [each for each in chunks[:-1] if each.get("usage")]


def test_chat_stream_goes_on_with_the_next_message(relay, mock, key):
    with open_chat(relay, key, STREAM) as socket:
        for word in ("one", "two"):
            socket.send(mock.case(behaviour.chat(word)).body())
            assert socket.chunks()[0]["choices"][0]["delta"]["content"] == word


def test_the_models_name_in_the_query_may_be_escaped(relay, mock, key):
    body = mock.case(behaviour.chat("a")).body()
    del body["model"]
    with open_chat(relay, key, STREAM + "?model=test%2Dmodel") as socket:
        socket.send(body)
        assert socket.chunks()[-1]["usage"]


def test_the_bodys_model_wins(relay, mock, key):
    case = mock.case(behaviour.chat("a"))
    with open_chat(relay, key, with_query(STREAM, model="no-such-model")) as socket:
        socket.send(case.body())
        assert socket.chunks()[-1]["usage"]


def test_without_any_model_it_is_an_error(relay, mock, key):
    body = mock.case(behaviour.chat("a")).body()
    del body["model"]
    with open_chat(relay, key, STREAM) as socket:
        socket.send(body)
        assert socket.chunks()[-1]["error"]["param"] == "model"


def test_chat_streams_answers_come_in_order(relay, mock, key):
    pace = mock.pace()
    slow, quick = mock.case(behaviour.stream("slow", pace=pace)), mock.case(behaviour.chat("quick"))
    with open_chat(relay, key, STREAM) as socket:
        socket.send(slow.body())
        socket.send(quick.body())
        until(lambda: slow.exchanges, "the first upstream request")
        pace.open()
        assert socket.chunks()[0]["choices"][0]["delta"]["content"] == "slow"
        assert socket.chunks()[0]["choices"][0]["delta"]["content"] == "quick"


def test_a_ping_never_closes_chat_stream(relay, mock, key):
    with open_chat(relay, key, STREAM) as socket:
        for _ in range(3):
            socket.send({"type": "ping"})
        socket.send(mock.case(behaviour.chat("alive")).body())
        assert socket.chunks()[0]["choices"][0]["delta"]["content"] == "alive"
        socket.send({"type": "ping"})
        assert socket.close() == 1000


@pytest.mark.parametrize("text", ["{", "[]", '{"messages":[]}', '"x"'])
def test_chat_stream_survives_bad_messages(relay, mock, key, text):
    with open_chat(relay, key, with_query(STREAM, model="test-model")) as socket:
        socket.send(text)
        assert socket.chunks()[-1]["error"]["type"] == "invalid_request_error"
        socket.send(mock.case(behaviour.chat("alive")).body())
        assert socket.chunks()[-1]["usage"]


def test_chat_stream_without_usage_of_the_upstream_still_ends_with_one(relay, mock, key):
    with open_chat(relay, key, STREAM) as socket:
        socket.send(mock.case(behaviour.chat("a", report_usage=False)).body())
        last = socket.chunks()[-1]
    assert last["choices"] == [] and last["usage"]["completion_tokens"] > 0
    assert last["object"] == "chat.completion.chunk"


def test_chat_stream_in_the_ledger(relay, mock):
    tenant = relay.create_tenant("ws-chunks")
    key = relay.create_key(tenant)
    with open_chat(relay, key, STREAM) as socket:
        for _ in range(2):
            socket.send(mock.case(behaviour.chat("a")).body())
            socket.chunks()
    records = until(lambda: _records(relay, tenant, 2), "two records")
    assert {record["endpoint"] for record in records} == {"/v1/ws/chat"}


def _records(relay, tenant, count):
    records = relay.records("--tenant", tenant)
    return records if len(records) == count else None


def test_closing_chat_stream_cancels_what_runs_and_what_waits(relay, mock, key):
    case, waiting = mock.case(behaviour.hang()), mock.case(behaviour.chat("a"))
    with open_chat(relay, key, STREAM) as socket:
        socket.send(case.body())
        socket.send(waiting.body())
        until(lambda: case.exchanges, "the upstream's request")
        socket.hang_up()
        until(lambda: case.last.client_left, "the upstream's hang-up")
    assert waiting.count == 0


# --- signatures ---

def test_a_key_that_requires_signatures_signs_the_upgrade_once(relay, mock, fresh_tenant):
    key = relay.create_key(fresh_tenant, "--require-signature")
    assert refusal(relay.port, CHAT, key).status == 401
    target = with_query(CHAT, nonce=key[-12:])
    stamp = str(int(time.time()))
    text = f"{stamp}.GET.{target}.{hashlib.sha256(b'').hexdigest()}".encode()
    headers = upgrade_headers(x_timestamp=stamp, x_signature="v2=" + hmac.new(key.encode(), text, hashlib.sha256).hexdigest())
    with WebSocket(relay.port, target, key, headers) as socket:
        for _ in range(2):
            socket.complete(mock.case(behaviour.chat("signed")).body())
            assert deltas(socket.until("completion.done")) == "signed"
    with pytest.raises(Refused):
        WebSocket(relay.port, target, key, headers)


# --- every provider's recorded streams ---

@pytest.fixture(scope="module")
def dialects(module_relay, mock):
    upstreams = {name: {**config.upstream(mock, name), "dialect": name} for name in ("openai", "anthropic", "gemini")}
    relay = module_relay({"upstreams": upstreams, "models": {name: config.model(name) for name in upstreams}})
    relay.key = relay.create_key(relay.create_tenant("dialects"))
    return relay


def recorded():
    others = [item for item in fixtures._index() if item.entry["kind"] == "stream" and
              item.entry["api"].split(".")[0] in ("anthropic", "gemini")]
    return [item for item in [*others, *fixtures.chat_streams()]
            if item.ends_well and "error" not in item.name and "blocked" not in item.name]


def _over_sse(relay, case, model):
    with relay.stream(relay.key, case.body(model, stream_options={"include_usage": True})) as stream:
        events = [event.json() for event in stream.drain() if not event.is_done]
    finish = [choice.get("finish_reason") for event in events for choice in event.get("choices") or []
              if choice.get("index", 0) == 0]
    usage = [event["usage"] for event in events if event.get("usage")]
    return sse.text_of(stream.events), [each for each in finish if each][-1:], usage[-1:]


def _over_socket(relay, case, model):
    with open_chat(relay, relay.key) as socket:
        socket.complete(case.body(model))
        messages = socket.until("completion.done")
    done = messages[-1]
    assert done["type"] == "completion.done", done
    text = "".join(message["delta"] for message in messages if message["type"] == "content.delta" and "index" not in message)
    return text, [done["finish_reason"]] if done["finish_reason"] else [], done["usage"]


@pytest.mark.parametrize("item", recorded(), ids=lambda item: item.name)
def test_recorded_streams_say_the_same_as_over_http(dialects, mock, item):
    model = {"anthropic": "anthropic", "gemini": "gemini"}.get(item.entry["api"].split(".")[0], "openai")
    kind = "application/json" if item.name.endswith(".json") else behaviour.SSE
    case = mock.case(behaviour.replay(item.data, content_type=kind, cut_bytes=97))
    text, finish, usage = _over_sse(dialects, case, model)
    got_text, got_finish, got_usage = _over_socket(dialects, case, model)
    assert (got_text, got_finish) == (text, finish)
    assert not usage or got_usage == usage[-1]
    assert got_usage["prompt_tokens"] >= 0


# --- a real client ---

async def _talk(websockets, relay, key, case):
    """With compression offered, which is not taken up; fragmented; a ping; a closing handshake."""
    async with websockets.connect(f"ws://127.0.0.1:{relay.port}{CHAT}", extra_headers={"Authorization": f"Bearer {key}"},
                                  compression="deflate") as socket:
        assert "sec-websocket-extensions" not in socket.response_headers
        await (await socket.ping())
        text = json.dumps({"type": "chat.completion", "id": "real", **case.body()})
        await socket.send([text[:10], text[10:40], text[40:]])
        messages = []
        while not messages or messages[-1]["type"] != "completion.done":
            messages.append(json.loads(await socket.recv()))
    assert socket.close_code == 1000
    return messages


async def _is_refused(websockets, relay):
    try:
        async with websockets.connect(f"ws://127.0.0.1:{relay.port}{CHAT}"):
            return None
    except websockets.InvalidStatusCode as refused:
        return refused.status_code


async def _talk_as_browser(websockets, relay, key, case):
    async with websockets.connect(f"ws://127.0.0.1:{relay.port}{CHAT}", subprotocols=["tollgate", f"tollgate.{key}"]) as socket:
        await socket.send(json.dumps({"type": "chat.completion", **case.body()}))
        return socket.subprotocol, json.loads(await socket.recv())


def test_a_real_client(relay, mock, key):
    websockets = pytest.importorskip("websockets", reason="Debian's python3-websockets is not installed")
    messages = asyncio.run(_talk(websockets, relay, key, mock.case(behaviour.chat("Hello", " world"))))
    assert deltas(messages) == "Hello world"
    assert asyncio.run(_is_refused(websockets, relay)) == 401
    protocol, message = asyncio.run(_talk_as_browser(websockets, relay, key, mock.case(behaviour.chat("a"))))
    assert protocol == "tollgate" and message["delta"] == "a"
