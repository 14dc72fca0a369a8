"""Completions over a WebSocket that are resumed: the same messages on another socket, from any worker, and one bill."""

import os
import random
import signal
from types import SimpleNamespace

import pytest

from harness import config, sse
from harness.relay import cost_of
from harness.wait import until
from harness.websocket import Refused, WebSocket, upgrade_headers, with_query
from mock import behaviour, openai
from test_x_websocket import chunk, deltas, events
from test_y_resume import RESUME, back, worker_of

CHAT = "/v1/ws/chat"
WORDS = [f"word{number} " for number in range(40)]
ENDS = ("completion.done", "done")


@pytest.fixture(scope="module")
def many(module_relay):
    return module_relay({"workers": 4})


@pytest.fixture(scope="module")
def client(many):
    return many.create_key(many.create_tenant("many"))


def open_chat(relay, key, target=CHAT, **options):
    return WebSocket(relay.port, target, key, **options)


def start(relay, key, case, target=CHAT, headers=None, resume=True, **fields):
    """A socket with a resumable completion, and what it was told first."""
    socket = open_chat(relay, key, target, headers=headers)
    socket.complete(case.body(), **({"resume": True} if resume else {}), **fields)
    return socket, socket.receive()


def come_back(relay, key, identity, after=None, target=CHAT):
    socket = open_chat(relay, key, target)
    socket.send({"type": "resume", "id": identity, **({} if after is None else {"after": after})})
    return socket


def resumed(relay, key, identity, after=None, target=CHAT):
    """All messages that come on a socket of its own."""
    with come_back(relay, key, identity, after, target) as socket:
        return socket.until(*ENDS)


def bare(messages):
    """Without the ids, which a resumed one has of its stream."""
    return [{name: value for name, value in message.items() if name != "id"} for message in messages]


def assert_one_record(relay, identity, case):
    record = relay.record(identity)
    assert case.count == 1 and record["attempts"] == 1
    assert record["price_usd"] == cost_of(record, config.PRICE)
    return record


# --- what a resumable completion says ---

@pytest.mark.parametrize("dialect", ["content", "stream"])
def test_its_messages_say_how_to_come_back(many, mock, client, dialect):
    case = mock.case(behaviour.stream("a", "b", "c"))
    target = with_query(CHAT, dialect=dialect)
    socket, started = start(many, client, case, target, id="mine")
    with socket:
        messages = socket.until(*ENDS)
    assert started == {"type": "completion.started", "id": "mine", "request_id": started["request_id"], "n": 0}
    said = [message["n"] for message in messages if "n" in message]
    assert said == [1, 2, 3] and messages[-1]["type"] in ENDS
    for after in (None, *range(4)):
        rest = resumed(many, client, started["request_id"], after, target)
        assert bare(rest) == bare(messages[after or 0:]) and {message["id"] for message in rest} == {started["request_id"]}
    assert_one_record(many, started["request_id"], case)


@pytest.mark.parametrize("target, headers", [(with_query(CHAT, resume="1"), None),
                                             (CHAT, upgrade_headers(x_tollgate_resume="1"))])
def test_the_upgrade_may_ask_for_all_of_its_completions(many, mock, client, target, headers):
    case = mock.case(behaviour.stream("a", "b"))
    socket, started = start(many, client, case, target, headers, resume=False)
    with socket:
        assert started["type"] == "completion.started" and socket.until(*ENDS)[0]["n"] == 1
        socket.complete(case.body(), resume=False)
        assert all("n" not in message for message in socket.until(*ENDS))


def test_unasked_nothing_is_kept(many, mock, client):
    case = mock.case(behaviour.stream("a", "b"))
    with open_chat(many, client) as socket:
        socket.complete(case.body(), id="plain-ws")
        messages = socket.until(*ENDS)
    assert [message["type"] for message in messages] == ["content.delta", "content.delta", "completion.done"]
    assert all("n" not in message for message in messages)
    assert resumed(many, client, "plain-ws")[0]["error"]["code"] == "stream_not_found"


def test_the_wish_does_not_go_upstream(many, mock, client):
    case = mock.case(behaviour.stream("a"))
    socket, _ = start(many, client, case)
    with socket:
        socket.until(*ENDS)
    assert "resume" not in case.last.json()


def test_a_refused_one_was_never_started(many, mock):
    key = many.create_key(many.create_tenant("narrow", "--rpm", "1"))
    case = mock.case(behaviour.stream("a"))
    socket, _ = start(many, key, case, with_query(CHAT, resume="1"))
    with socket:
        socket.until(*ENDS)
        socket.complete(case.body(), id="refused-ws")
        refused = socket.receive()
    assert refused["type"] == "error" and refused["status"] == 429
    with pytest.raises(Refused):
        open_chat(many, key)
    with open_chat(many, key, with_query(CHAT, resume="1")) as socket:  # what was paid for can be fetched
        socket.send({"type": "resume", "id": "refused-ws"})
        assert socket.receive()["status"] == 404


# --- coming back ---

@pytest.mark.parametrize("round_number", range(3))
def test_a_stream_cut_twenty_times_joins_to_the_uncut_one(many, mock, client, round_number):
    choice = random.Random(f"sockets-{round_number}")
    case = mock.case(behaviour.stream(*(WORDS * 10), interval_s=0.002))
    socket, started = start(many, client, case)
    identity, gathered = started["request_id"], []
    for _ in range(20):
        gathered += [socket.receive() for _ in range(choice.randrange(1, 15))]
        getattr(socket, choice.choice(["close", "reset", "hang_up"]))()
        socket = come_back(many, client, identity, gathered[-1]["n"])
    gathered += socket.until(*ENDS)
    socket.hang_up()
    assert deltas(gathered) == "".join(WORDS * 10)
    assert [message["n"] for message in gathered[:-1]] == list(range(1, len(WORDS) * 10 + 1))
    assert bare(gathered) == bare(resumed(many, client, identity))
    assert sse.text_of(back(many, client, identity).drain()) == "".join(WORDS * 10)
    record = assert_one_record(many, identity, case)
    assert record["status"] == 200 and record["estimated"] is False and record["finish_reason"] == "stop"
    assert record["endpoint"] == CHAT and gathered[-1]["finish_reason"] == "stop"
    assert gathered[-1]["usage"]["completion_tokens"] == record["output_tokens"]


def test_the_upstream_is_read_on_while_the_socket_is_away(many, mock, client):
    pace = mock.pace()
    case = mock.case(behaviour.stream(*WORDS, pace=pace))
    socket, started = start(many, client, case)
    pace.release(3)
    with socket:
        assert [socket.receive()["n"] for _ in range(3)] == [1, 2, 3]
    pace.open()
    record = many.record(started["request_id"])
    assert not case.last.client_left and record["status"] == 200 and record["estimated"] is False
    messages = resumed(many, client, started["request_id"], 3)
    assert deltas(messages) == "".join(WORDS[3:]) and messages[0]["n"] == 4


def test_several_sockets_follow_a_running_stream(many, mock, client):
    pace = mock.pace()
    case = mock.case(behaviour.stream(*WORDS, pace=pace))
    first, started = start(many, client, case)
    pace.release(5)
    assert [first.receive()["n"] for _ in range(5)] == [1, 2, 3, 4, 5]
    sockets = [come_back(many, client, started["request_id"], after) for after in range(5)]
    for after, socket in enumerate(sockets):
        assert [socket.receive()["n"] for _ in range(5 - after)] == list(range(after + 1, 6))
    pace.open()
    for socket in [first, *sockets]:
        with socket:
            assert deltas(socket.until(*ENDS)) == "".join(WORDS[5:])
    assert_one_record(many, started["request_id"], case)


def test_a_stream_begun_over_http_goes_on_over_a_socket_and_back(many, mock, client):
    pace = mock.pace()
    case = mock.case(behaviour.stream(*WORDS, pace=pace))
    with many.stream_after(client, case, pace, 3, headers=RESUME) as stream:
        identity, begun = stream.id, sse.text_of(stream.events)
    pace.release(4)
    with come_back(many, client, identity, 3) as socket:
        messages = [socket.receive() for _ in range(4)]
    assert [message["n"] for message in messages] == [4, 5, 6, 7]
    pace.open()
    rest = back(many, client, identity, f"{identity}:7").drain()
    assert begun + deltas(messages) + sse.text_of(rest) == "".join(WORDS)
    done = resumed(many, client, identity, 7)[-1]  # that client asked for no usage: it is known all the same
    record = assert_one_record(many, identity, case)
    assert done["finish_reason"] == "stop" and done["usage"]["completion_tokens"] == record["output_tokens"]


def test_after_the_last_message_the_end_comes_again(many, mock, client):
    async def answer(exchange):  # text, finish reason and usage in one event
        await exchange.head(content_type=behaviour.SSE, chunked=True)
        await exchange.event({**chunk({"content": "all"}, "length"), "usage": openai.usage(prompt=7, completion=3)})
        await exchange.event(b"[DONE]")
        await exchange.finish()
    socket, started = start(many, client, mock.case(answer))
    with socket:
        messages = socket.until(*ENDS)
    assert messages[0]["n"] == 1 and messages[-1]["finish_reason"] == "length"
    for after in (1, 2):
        assert bare(resumed(many, client, started["request_id"], after)) == bare(messages[-1:])


def test_an_answer_without_usage_ends_the_same_for_all(many, mock, client):
    case = mock.case(behaviour.chat("Hello", " world", report_usage=False))
    socket, started = start(many, client, case)
    with socket:
        messages = socket.until(*ENDS)
    record = assert_one_record(many, started["request_id"], case)
    assert record["estimated"] is True and messages[-1]["usage"]["completion_tokens"] == record["output_tokens"] > 0
    assert bare(resumed(many, client, started["request_id"], 1)) == bare(messages[1:])


def test_between_the_messages_of_one_event(many, mock, client):
    """`n` is given back as it came, and exactly what follows comes."""
    calls = [{"index": index, "id": f"call_{index}", "type": "function", "function": {"name": "f", "arguments": "{}"}}
             for index in range(3)]
    case = mock.case(events(chunk({"content": "a"}), chunk({"reasoning_content": "b", "content": "c"}),
                            chunk({"tool_calls": calls}), chunk(finish="tool_calls")))
    socket, started = start(many, client, case)
    with socket:
        messages = socket.until(*ENDS)
    assert [message["n"] for message in messages[:-1]] == [1, "1.1", 2, "2.1", "2.2", 3]
    for place, message in enumerate(messages[:-1]):
        rest = resumed(many, client, started["request_id"], message["n"])
        assert bare(rest) == bare(messages[place + 1:])


def test_a_broken_stream_ends_the_same_for_those_who_come_back(many, mock, client):
    case = mock.case(behaviour.stream("a", "b", ending="reset"))
    socket, started = start(many, client, case)
    with socket:
        messages = socket.until(*ENDS)
    assert messages[-1]["type"] == "error"
    for after in (0, 1, 2):
        assert bare(resumed(many, client, started["request_id"], after)) == bare(messages[after:])


# --- what is not there ---

def test_unknown_foreign_and_expired(own_relay, mock):
    relay = own_relay({"workers": 2, "streams": {"resume_window": "2s"}})
    key, other = (relay.create_key(relay.create_tenant(name)) for name in ("mine", "theirs"))
    socket, started = start(relay, key, mock.case(behaviour.stream("a")))
    with socket:
        socket.until(*ENDS)
    for who, what in ((key, "req_nobody"), (key, "a/../b?c=\"\n"), (other, started["request_id"])):
        message, = resumed(relay, who, what, 0)
        assert message["id"] == what and message["status"] == 404
        assert message["error"]["code"] == "stream_not_found"
    until(lambda: resumed(relay, key, started["request_id"], 1)[-1]["type"] == "error", "the window's end")
    assert resumed(relay, key, started["request_id"])[-1]["status"] == 404


@pytest.mark.parametrize("fields, param", [
    ({}, "id"), ({"id": None}, "id"), ({"after": -1}, "after"), ({"after": 1.5}, "after"), ({"after": "x"}, "after"),
    ({"after": "1."}, "after"), ({"after": ".1"}, "after"), ({"after": "1.2.3"}, "after"), ({"after": 99}, "after"),
    ({"after": 2**32}, "after"), ({"after": "9" * 30}, "after"), ({"after": []}, "after"), ({"after": True}, "after"),
    ({"after": 1e1}, "after"), ({"after": "1.99999999999999"}, "after")])
def test_positions_that_are_none(many, mock, client, fields, param):
    socket, started = start(many, client, mock.case(behaviour.stream("a", "b")))
    with socket:
        socket.until(*ENDS)
        name = {} if param == "id" else {"id": started["request_id"]}
        socket.send({"type": "resume", **name, **fields})
        message = socket.receive()
        assert message["type"] == "error" and message["status"] == 400 and message["error"]["param"] == param
        socket.send({"type": "resume", "id": started["request_id"]})
        assert deltas(socket.until(*ENDS)) == "ab"


@pytest.mark.parametrize("wish", [1, "yes", {}, []])
def test_a_wish_is_a_boolean(many, mock, client, wish):
    case = mock.case(behaviour.stream("a"))
    with open_chat(many, client) as socket:
        socket.complete(case.body(), id="wish", resume=wish)
        message = socket.receive()
    assert message["error"]["param"] == "resume" and message["status"] == 400 and case.count == 0


def test_a_stream_of_another_form_is_not_told_here(many, mock, client):
    case = mock.case(behaviour.chat(*WORDS))
    body = {"model": "test-model", "max_tokens": 99, "messages": [{"role": "user", "content": case.prompt}]}
    with many.stream(client, body, RESUME, target="/v1/messages") as stream:
        stream.drain()
    message, = resumed(many, client, stream.id)
    assert message["status"] == 400 and message["error"]["param"] == "id"


def test_past_the_buffer_the_oldest_go(own_relay, mock):
    relay = own_relay({"workers": 2, "streams": {"resume_buffer": "4KiB"}})
    key = relay.create_key(relay.create_tenant("brief"))
    socket, started = start(relay, key, mock.case(behaviour.stream(*["x" * 500] * 40)))
    with socket:
        messages = socket.until(*ENDS)
    assert resumed(relay, key, started["request_id"], 1)[-1]["status"] == 404
    assert bare(resumed(relay, key, started["request_id"], 39)) == bare(messages[39:])


def test_a_killed_worker_takes_its_streams_along(own_relay, mock):
    """Who follows elsewhere gets an error; who comes back finds nothing; what was relayed is billed once."""
    relay = own_relay({"workers": 2})
    key = relay.create_key(relay.create_tenant("killed"))
    pace = mock.pace()
    case = mock.case(behaviour.stream(*WORDS, pace=pace))
    first, started = start(relay, key, case)
    pace.release(3)
    assert [first.receive()["n"] for _ in range(3)] == [1, 2, 3]
    writer = worker_of(relay, SimpleNamespace(connection=first.http))
    followers = [come_back(relay, key, started["request_id"], 2) for _ in range(6)]
    for socket in followers:
        assert socket.receive()["n"] == 3
    elsewhere = [socket for socket in followers if worker_of(relay, SimpleNamespace(connection=socket.http)) != writer]
    os.kill(writer, signal.SIGKILL)
    for socket in elsewhere:
        assert [message["type"] for message in socket.until(*ENDS)] == ["error"]
    record = relay.record(started["request_id"])
    assert record["estimated"] is True and record["output_tokens"] > 0 and case.count == 1
    assert resumed(relay, key, started["request_id"])[-1]["status"] == 404


# --- cancelling ---

@pytest.mark.parametrize("who", ["first", "other"])
def test_a_cancel_ends_it_for_everybody(many, mock, client, who):
    """Whichever worker runs it."""
    for _ in range(4):
        pace = mock.pace()
        case = mock.case(behaviour.stream(*WORDS, pace=pace))
        socket, started = start(many, client, case)
        identity = started["request_id"]
        pace.release(3)
        assert [socket.receive()["n"] for _ in range(3)] == [1, 2, 3]
        with socket, come_back(many, client, identity, 2) as other:
            assert other.receive()["n"] == 3
            if who == "first":
                socket.send({"type": "cancel", "id": started["id"]})
            else:
                other.send({"type": "cancel", "id": identity})
            done = [each.until(*ENDS) for each in (socket, other)]
        record = assert_one_record(many, identity, case)
        assert record["finish_reason"] == "cancelled" and record["estimated"] is True
        for messages in (*done, resumed(many, client, identity, 3)):
            assert [message["type"] for message in messages] == ["completion.done"]
            assert messages[0]["finish_reason"] == "cancelled"
            assert messages[0]["usage"]["completion_tokens"] == record["output_tokens"] > 0
        until(lambda: case.last.client_left, "the upstream's end")
        pace.open()


def test_a_cancel_before_the_upstream_says_anything(many, mock, client):
    pace = mock.pace()
    case = mock.case(behaviour.late(pace, behaviour.stream("a")))
    socket, started = start(many, client, case)
    with socket:
        until(lambda: case.exchanges, "the upstream's request")
        socket.send({"type": "cancel", "id": started["id"]})
        assert [message["finish_reason"] for message in socket.until(*ENDS)] == ["cancelled"]
    pace.open()
    assert many.record(started["request_id"])["finish_reason"] == "cancelled"


def test_a_slow_socket_holds_the_upstream_back_and_one_that_leaves_does_not(many, mock, client):
    total = 24 << 20
    case = mock.case(behaviour.flood(total))
    socket = open_chat(many, client, receive_buffer_bytes=4096)
    socket.complete(case.body(), resume=True)
    started = socket.receive()
    socket.receive()
    until(lambda: case.last.stalled_for > 0.5, "the upstream's being held back")
    socket.reset()
    assert many.record(started["request_id"])["status"] == 200 and not case.last.client_left


def test_turns_are_remembered_as_ever(many, mock, client):
    case = mock.case(behaviour.chat("answer"))
    with open_chat(many, client, with_query(CHAT, resume="1")) as socket:
        socket.send({"type": "context.update", "messages": [{"role": "system", "content": "Be brief."}]})
        for _ in range(2):
            socket.complete(case.body())
            socket.until(*ENDS)
    assert [message["role"] for message in case.last.json()["messages"]] == ["system", "user", "assistant", "user"]
