"""Resumable streams and repeated requests: the same answer, to the byte, from any worker, and one bill."""

import os
import random
import signal
import threading
from pathlib import Path
from urllib.parse import quote

import pytest

from harness import config, sse
from harness.http1 import Broken, Stream
from harness.relay import CHAT, bearer, cost_of
from harness.wait import until
from mock import behaviour

RESUME = {"x-tollgate-resume": "1"}
WORDS = [f"word{number} " for number in range(40)]
WINDOW_S = 2


@pytest.fixture(scope="module")
def many(module_relay):
    """Four workers; a window long enough for every test, and more kept than the kernel holds of a client that does not
    read."""
    return module_relay({"workers": 4, "streams": {"resume_buffer": "16MiB"}})


@pytest.fixture(scope="module")
def brief(module_relay):
    """Short windows and little memory."""
    return module_relay({"workers": 2, "streams": {"resume_window": f"{WINDOW_S}s", "resume_buffer": "4KiB",
                                                   "resume_memory": "1MiB", "heartbeat": "200ms"}})


@pytest.fixture(scope="module")
def many_key(many):
    return many.create_key(many.create_tenant("many"))


@pytest.fixture(scope="module")
def brief_key(brief):
    return brief.create_key(brief.create_tenant("brief"))


def back(relay, key, identity, last=None, target=None, **options):
    """A client that comes back to a stream after its event `last`."""
    connection = relay.connect(**options)
    headers = {"last-event-id": last} if last else {}
    connection.send("GET", target or f"/v1/streams/{identity}", bearer(key, headers))
    return Stream(connection, connection.head())


def whole_text(response):
    return sse.text_of(sse.blocks(response.body))


def event_ids(events):
    return [event.id for event in events]


def assert_one_record(relay, identity, mock_case):
    record = relay.record(identity)
    assert mock_case.count == 1 and record["attempts"] == 1
    assert record["price_usd"] == cost_of(record, config.PRICE)
    return record


# --- the events ---

def test_every_event_has_its_id_and_is_otherwise_as_it_came(many, mock, many_key):
    case = mock.case(behaviour.stream(*WORDS))
    with many.stream(many_key, case.body()) as plain:
        expected = [event.data for event in plain.drain()]
    with many.stream(many_key, case.body(), RESUME) as stream:
        events = stream.drain()
    assert [event.data for event in events] == expected and events[-1].is_done
    assert event_ids(events) == [f"{stream.id}:{number}" for number in range(1, len(events) + 1)]
    assert stream.headers["content-type"].startswith("text/event-stream")


def test_without_the_header_there_are_no_ids_and_nothing_to_resume(many, mock, many_key):
    case = mock.case(behaviour.stream("a"))
    with many.stream(many_key, case.body()) as stream:
        assert event_ids(stream.drain()) == [None] * len(stream.events)
    assert many.get(f"/v1/streams/{stream.id}", many_key).error["code"] == "stream_not_found"


@pytest.mark.parametrize("round_number", range(3))
def test_a_stream_cut_twenty_times_joins_to_the_uncut_one(many, mock, many_key, round_number):
    choice = random.Random(f"cuts-{round_number}")
    case = mock.case(behaviour.stream(*(WORDS * 10), interval_s=0.002))
    stream = many.stream(many_key, case.body(), RESUME)
    identity, gathered = stream.id, []
    for _ in range(20):
        gathered += stream.take(choice.randrange(1, 15))
        getattr(stream.connection, choice.choice(["close", "reset"]))()
        stream = back(many, many_key, identity, gathered[-1].id)
        assert stream.status == 200 and stream.id == identity
    gathered += stream.drain()
    assert gathered[-1].is_done and sse.text_of(gathered) == "".join(WORDS * 10)
    assert event_ids(gathered) == [f"{identity}:{number}" for number in range(1, len(gathered) + 1)]
    record = assert_one_record(many, identity, case)
    assert record["status"] == 200 and record["estimated"] is False and record["finish_reason"] == "stop"


def test_the_upstream_is_read_on_while_the_client_is_away(many, mock, many_key):
    pace = mock.pace()
    case = mock.case(behaviour.stream(*WORDS, pace=pace))
    with many.stream_after(many_key, case, pace, 3, headers=RESUME) as stream:
        identity = stream.id
    pace.open()
    record = many.record(identity)
    assert not case.last.client_left and record["estimated"] is False and record["status"] == 200
    again = back(many, many_key, identity, f"{identity}:3")
    events = again.drain()
    assert events[0].id == f"{identity}:4" and events[-1].is_done
    assert sse.text_of(events) == "".join(WORDS[3:])
    assert again.headers["x-tollgate-model"] == "test-model" and again.headers["x-tollgate-upstream"] == "mock"


def test_without_an_event_id_the_whole_stream_comes_again(many, mock, many_key):
    case = mock.case(behaviour.stream(*WORDS))
    with many.stream(many_key, case.body(), RESUME) as stream:
        stream.drain()
    for _ in range(8):  # over the workers
        assert many.get(f"/v1/streams/{stream.id}", many_key).body == bytes(stream.raw)


def test_several_readers_follow_a_running_stream(many, mock, many_key):
    pace = mock.pace()
    case = mock.case(behaviour.stream(*WORDS, pace=pace))
    stream = many.stream_after(many_key, case, pace, 5, headers=RESUME)
    readers = [back(many, many_key, stream.id, f"{stream.id}:{after}") for after in range(5)]
    for after, reader in enumerate(readers):
        assert reader.take(5 - after)[0].id == f"{stream.id}:{after + 1}"
    pace.release(1)
    for reader in [stream, *readers]:
        assert reader.next().id == f"{stream.id}:6"
    pace.open()
    for reader in [stream, *readers]:
        assert reader.drain()[-1].is_done
        reader.close()
    assert_one_record(many, stream.id, case)


def test_after_the_last_event_there_is_nothing(many, mock, many_key):
    case = mock.case(behaviour.stream("a", "b"))
    with many.stream(many_key, case.body(), RESUME) as stream:
        last = stream.drain()[-1].id
    for _ in range(4):
        answer = many.get(f"/v1/streams/{stream.id}", many_key, {"last-event-id": last})
        assert answer.status == 204 and answer.body == b"" and answer.id == stream.id
    assert case.count == 1


@pytest.mark.parametrize("last, status", [
    ("{id}:999999", 400), ("{id}:-1", 400), ("{id}:x", 400), ("{id}:", 400), ("other:1", 400), (":1", 400), ("x", 400),
    ("{id}:99999999999999999999999", 400), ("1", 200), ("{id}:0", 200)])
def test_event_ids_that_are_none(many, mock, many_key, last, status):
    case = mock.case(behaviour.stream("a", "b"))
    with many.stream(many_key, case.body(), RESUME) as stream:
        stream.drain()
    answer = many.get(f"/v1/streams/{stream.id}", many_key, {"last-event-id": last.format(id=stream.id)})
    assert answer.status == status


def test_another_key_finds_nothing(many, mock, many_key):
    case = mock.case(behaviour.stream("a"))
    with many.stream(many_key, case.body(), RESUME) as stream:
        stream.drain()
    same_tenant = many.create_key("many")
    stranger = many.create_key(many.create_tenant("stranger"))
    for key in (same_tenant, stranger):
        answer = many.get(f"/v1/streams/{stream.id}", key)
        assert answer.status == 404 and answer.error["code"] == "stream_not_found"
        assert answer.error["type"] == "invalid_request_error"
    assert many.get(f"/v1/streams/{stream.id}").status == 401
    assert many.get("/v1/streams/req_nobody", many_key).status == 404
    assert many.request("POST", f"/v1/streams/{stream.id}", many_key, body={}).status == 405


def test_messages_streams_too(many, mock, many_key):
    """Events with names of their own, translated from another dialect."""
    case = mock.case(behaviour.chat(*WORDS))
    body = {"model": "test-model", "max_tokens": 99, "messages": [{"role": "user", "content": case.prompt}]}
    with many.stream(many_key, body, RESUME, target="/v1/messages") as stream:
        events = stream.drain()
    assert events[0].name == "message_start" and events[-1].name == "message_stop"
    assert event_ids(events) == [f"{stream.id}:{number}" for number in range(1, len(events) + 1)]
    again = back(many, many_key, stream.id, events[2].id)
    assert [event.raw for event in again.drain()] == [event.raw for event in events[3:]]
    repeats = [many.request("POST", "/v1/messages", many_key, once("messages"), body) for _ in range(3)]
    assert {answer.status for answer in repeats} == {200} and len({answer.body for answer in repeats}) == 1
    assert case.count == 2 and len({answer.id for answer in repeats}) == 1


def test_http_1_0_gets_no_stream(many, mock, many_key):
    case = mock.case(behaviour.stream("a"))
    with many.stream(many_key, case.body(), RESUME) as stream:
        stream.drain()
    with many.connect() as connection:
        connection.send("GET", f"/v1/streams/{stream.id}", bearer(many_key), version="1.0")
        assert connection.head().status == 400


def test_tenants_with_the_same_id_of_their_own_do_not_meet(many, mock):
    keys = [many.create_key(many.create_tenant(f"twin-{name}")) for name in "ab"]
    name = {"x-request-id": "twin-stream", **RESUME}
    for key, word in zip(keys, ["first", "second"]):
        with many.stream(key, mock.case(behaviour.stream(word)).body(), name) as stream:
            stream.drain()
    for key, word in zip(keys, ["first", "second"]):
        assert whole_text(many.get("/v1/streams/twin-stream", key)) == word


def test_a_stream_whose_upstream_breaks_ends_the_same_for_those_who_come_back(many, mock, many_key):
    case = mock.case(behaviour.stream("a", "b", ending="reset"))
    with many.stream(many_key, case.body(), RESUME) as stream:
        first = [event.data for event in stream.drain()]
    assert stream.events[-1].error and stream.events[-1].id == f"{stream.id}:{len(first)}"
    again = back(many, many_key, stream.id)
    assert [event.data for event in again.drain()] == first


def test_a_refused_stream_leaves_nothing(many, mock, many_key):
    name = {"x-request-id": "refused-stream", **RESUME}
    answer = many.chat(many_key, {"model": "none", "messages": [], "stream": True}, name)
    assert answer.status in (400, 404)
    case = mock.case(behaviour.status(400))
    assert many.chat(many_key, case.body(stream=True), name).status == 400
    assert many.get("/v1/streams/refused-stream", many_key).status == 404


# --- what is kept ---

def test_after_the_window_it_is_gone(brief, mock, brief_key):
    case = mock.case(behaviour.stream("a", "b"))
    with brief.stream(brief_key, case.body(), RESUME) as stream:
        stream.drain()
    assert brief.get(f"/v1/streams/{stream.id}", brief_key).status == 200
    until(lambda: brief.get(f"/v1/streams/{stream.id}", brief_key).status == 404, "the window's end")
    answer = brief.get(f"/v1/streams/{stream.id}", brief_key, {"last-event-id": f"{stream.id}:1"})
    assert answer.error["code"] == "stream_not_found"


def test_the_window_begins_with_the_end(brief, mock, brief_key):
    """A stream that runs longer than the window can be resumed all the while."""
    pace = mock.pace()
    case = mock.case(behaviour.stream("a", "b", "c", pace=pace))
    with brief.stream_after(brief_key, case, pace, 1, headers=RESUME) as stream:
        identity = stream.id
    again = back(brief, brief_key, identity, f"{identity}:1")
    again.until_comment(int(WINDOW_S / 0.2) + 3)
    pace.open()
    assert again.drain()[-1].is_done and again.events[0].id == f"{identity}:2"


def test_past_the_buffer_the_oldest_events_go(brief, mock, brief_key):
    case = mock.case(behaviour.stream(*["x" * 500] * 40))
    with brief.stream(brief_key, case.body(), RESUME) as stream:
        events = stream.drain()
    assert sse.text_of(events) == "x" * 20000 and events[-1].is_done
    answer = brief.get(f"/v1/streams/{stream.id}", brief_key, {"last-event-id": f"{stream.id}:1"})
    assert answer.status == 404 and answer.error["code"] == "stream_not_found"
    again = back(brief, brief_key, stream.id, f"{stream.id}:{len(events) - 2}")
    assert [event.data for event in again.drain()] == [event.data for event in events[-2:]]


def test_an_event_larger_than_all_the_memory_reaches_its_client(brief, mock, brief_key):
    case = mock.case(behaviour.stream("a", "y" * (2 << 20), "z"))
    with brief.stream(brief_key, case.body(), RESUME) as stream:
        assert sse.text_of(stream.drain()) == "a" + "y" * (2 << 20) + "z" and stream.events[-1].is_done


def journal_bytes(relay):
    """What the journal's memory file holds, in the kernel's count."""
    for descriptor in Path(f"/proc/{relay.worker_pids()[0]}/fd").iterdir():
        try:
            if "tollgate-journal" in os.readlink(descriptor):
                return os.stat(descriptor).st_blocks * 512
        except FileNotFoundError:
            continue
    return None


def test_a_thousand_streams_stay_under_the_cap_and_give_it_back(own_relay, mock):
    relay = own_relay({"workers": 2, "streams": {"resume_window": "4s", "resume_memory": "4MiB"},
                       "request_limits": {"connections_per_address": 0}})
    key = relay.create_key(relay.create_tenant("crowd"))
    empty = journal_bytes(relay)
    case = mock.case(behaviour.stream(*["x" * 200] * 40))
    stop, seen = threading.Event(), []

    def watch():
        while not stop.is_set():
            seen.append(journal_bytes(relay))

    watcher = threading.Thread(target=watch)
    watcher.start()
    texts = set()
    try:
        with relay.connect() as connection:
            for _ in range(1000):
                answer = connection.request("POST", CHAT, bearer(key, RESUME), case.body(stream=True))
                texts.add(whole_text(answer))
    finally:
        stop.set()
        watcher.join()
    assert texts == {"x" * 8000}
    tables = 4 << 20  # rows of streams that were touched
    assert max(seen) <= (4 << 20) + tables, max(seen)
    until(lambda: journal_bytes(relay) <= (empty or 0) + tables, "the memory's return")


# --- readers ---

def test_a_slow_reader_holds_the_upstream_back_and_loses_nothing(many, mock, many_key):
    total = 24 << 20
    case = mock.case(behaviour.flood(total))
    stream = many.stream(many_key, case.body(), RESUME, receive_buffer_bytes=4096)
    first = stream.take(1)[0]
    slow = back(many, many_key, stream.id, first.id, receive_buffer_bytes=4096)
    slow.take(1)
    until(lambda: case.last.stalled_for > 0.5, "the upstream's being held back")
    stream.connection.reset()  # the other one alone holds it
    slow.take(3)
    until(lambda: case.last.stalled_for > 0.5, "the upstream's being held back")
    events = slow.drain()
    assert events[-1].is_done and len(sse.text_of(events)) + len(sse.text_of([first])) >= total * 0.9
    assert event_ids(events) == [f"{stream.id}:{number}" for number in range(2, len(events) + 2)]


def test_a_slow_reader_that_leaves_lets_the_upstream_go_on(many, mock, many_key):
    case = mock.case(behaviour.flood(24 << 20))
    stream = many.stream(many_key, case.body(), RESUME, receive_buffer_bytes=4096)
    first = stream.take(1)[0]
    slow = back(many, many_key, stream.id, first.id, receive_buffer_bytes=4096)
    stream.connection.reset()
    slow.take(1)
    until(lambda: case.last.stalled_for > 0.5, "the upstream's being held back")
    slow.connection.reset()
    until(lambda: case.last.ended_at, "the upstream's end")
    assert many.record(stream.id)["status"] == 200


def test_readers_that_wait_hear_that_we_live(brief, mock, brief_key):
    pace = mock.pace()
    case = mock.case(behaviour.stream("a", "b", pace=pace))
    stream = brief.stream_after(brief_key, case, pace, 1, headers=RESUME)
    readers = [stream, *(back(brief, brief_key, stream.id, f"{stream.id}:1") for _ in range(4))]
    for reader in readers:
        reader.until_comment(3)
    pace.open()
    for reader in readers:
        assert reader.drain()[-1].is_done


def test_a_retry_asks_the_same_when_its_client_has_left(many, mock, many_key):
    pace, asked = mock.pace(), []

    async def answer(exchange):
        asked.append(exchange.header("openai-beta"))
        if len(asked) == 1:
            await pace.take()
        await (behaviour.status(500) if len(asked) == 1 else behaviour.stream("a"))(exchange)
    case = mock.case(answer)
    connection = many.connect()
    connection.send("POST", CHAT, bearer(many_key, {**RESUME, "openai-beta": "feature=v1"}), case.body(stream=True))
    until(lambda: asked, "the first try")
    connection.reset()
    until(lambda: sum(worker["streams"] for worker in many.status()["workers"]) == 0, "the client's leaving")
    pace.open()
    until(lambda: len(asked) == 2, "the second try")
    assert asked == ["feature=v1"] * 2


@pytest.mark.parametrize("from_version, to_version", [(2, 1), (1, 2), (2, 2)])
def test_clients_of_either_version_come_back(many, mock, many_key, from_version, to_version):
    pace = mock.pace()
    case = mock.case(behaviour.stream(*WORDS, pace=pace))
    pace.release(3)
    if from_version == 2:
        client = many.connect2()
        first = client.send("POST", CHAT, bearer(many_key, RESUME), case.body(stream=True))
        client.until(lambda: len(first.events) >= 3, "three events")
    else:
        first = many.stream(many_key, case.body(), RESUME)
        client = first.connection
        first.take(3)
    gathered, identity = list(first.events), first.id
    client.close()
    pace.open()
    if to_version == 2:
        with many.connect2() as client:
            again = client.request("GET", f"/v1/streams/{identity}", bearer(many_key, {"last-event-id": gathered[-1].id}))
        assert again.status == 200 and again.ended
        gathered += again.events
    else:
        gathered += back(many, many_key, identity, gathered[-1].id).drain()
    assert gathered[-1].is_done and sse.text_of(gathered) == "".join(WORDS)
    assert event_ids(gathered) == [f"{identity}:{number}" for number in range(1, len(gathered) + 1)]
    assert_one_record(many, identity, case)


def test_a_killed_worker_leaves_nobody_hanging(own_relay, mock):
    relay = own_relay({"workers": 4})
    key = relay.create_key(relay.create_tenant("killed"))
    pace = mock.pace()
    case = mock.case(behaviour.stream(*WORDS, pace=pace))
    stream = relay.stream_after(key, case, pace, 3, headers=RESUME)
    readers = [back(relay, key, stream.id, f"{stream.id}:1") for _ in range(6)]
    for reader in readers:
        reader.take(2)
    victim = worker_of(relay, stream)
    os.kill(victim, signal.SIGKILL)
    for reader in readers:
        try:
            events = reader.drain()
            assert not events[-1].is_done and events[-1].error
        except Broken:
            pass
    until(lambda: relay.get_or_none("/healthz") and relay.get(f"/v1/streams/{stream.id}", key).status == 404,
          "the stream's being gone")
    record = relay.record(stream.id)
    assert record["estimated"] is True and record["output_tokens"] > 0
    assert relay.cli("verify").code == 0


def worker_of(relay, stream):
    """The worker that owns a stream's upstream connection is the one with the client's socket."""
    port = stream.connection.sock.getsockname()[1]
    inodes = {line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
              if line.split()[2].endswith(f":{port:04X}") and line.split()[1].endswith(f":{relay.port:04X}")}
    for pid in relay.worker_pids():
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                link = os.readlink(descriptor)
            except FileNotFoundError:
                continue
            if link.startswith("socket:[") and link[8:-1] in inodes:
                return pid
    raise AssertionError("no worker has this client")


def test_a_reload_keeps_what_can_be_resumed(own_relay, mock):
    relay = own_relay({"workers": 2})
    key = relay.create_key(relay.create_tenant("reloaded"))
    pace = mock.pace()
    done, running = mock.case(behaviour.stream(*WORDS)), mock.case(behaviour.stream(*WORDS, pace=pace))
    with relay.stream(key, done.body(), RESUME) as ended:
        ended.drain()
    with relay.stream_after(key, running, pace, 2, headers=RESUME) as stream:
        relay.ok("reload")
    assert whole_text(relay.get(f"/v1/streams/{ended.id}", key)) == "".join(WORDS)
    again = back(relay, key, stream.id, f"{stream.id}:2")
    pace.open()
    assert again.drain()[-1].is_done and sse.text_of(again.events) == "".join(WORDS[2:])


@pytest.mark.parametrize("round_number", range(3))
def test_followers_in_every_worker_keep_up(many, mock, many_key, round_number):
    """Event by event: a wake-up that is lost would leave a reader waiting."""
    pace = mock.pace()
    case = mock.case(behaviour.stream(*WORDS, pace=pace))
    stream = many.stream_after(many_key, case, pace, 1, headers=RESUME)
    readers = [back(many, many_key, stream.id) for _ in range(6)]
    for reader in readers:
        reader.take(1)
    for _ in WORDS[1:]:
        pace.release(1)
        for reader in readers:
            reader.take(1)
    pace.open()
    for reader in readers:
        assert reader.drain()[-1].is_done and sse.text_of(reader.events) == "".join(WORDS)


# --- EventSource ---

def event_source(key, prompt, model="test-model", **fields):
    parts = {"model": model, "prompt": prompt, "api_key": key, **fields}
    return "/v1/stream?" + "&".join(f"{name}={quote(str(value), safe='')}" for name, value in parts.items())


def test_an_event_source_gets_chunks_and_done_and_comes_back(many, mock, many_key):
    pace = mock.pace()
    case = mock.case(behaviour.stream(*WORDS, pace=pace))
    target = event_source(many_key, case.prompt + " ä+ü & more", system="Be brief.", max_tokens=77, temperature=0.5)
    pace.release(4)
    stream = back(many, None, None, target=target)
    assert stream.status == 200 and stream.headers["content-type"].startswith("text/event-stream")
    gathered = stream.take(4)
    asked = case.last.json()
    assert asked["messages"] == [{"role": "system", "content": "Be brief."},
                                 {"role": "user", "content": case.prompt + " ä+ü & more"}]
    assert asked["max_tokens"] == 77 and asked["temperature"] == 0.5 and asked["stream"] is True
    stream.connection.reset()
    pace.open()
    again = back(many, None, None, gathered[-1].id, target)
    gathered += again.drain()
    assert again.id == stream.id and sse.text_of(gathered) == "".join(WORDS) and gathered[-1].is_done
    assert event_ids(gathered) == [f"{stream.id}:{number}" for number in range(1, len(gathered) + 1)]
    last = back(many, None, None, gathered[-1].id, target)
    assert last.status == 204
    record = assert_one_record(many, stream.id, case)
    assert record["endpoint"] == "/v1/stream" and record["stream"] is True
    by_query = many.get(f"{target}&last_event_id={stream.id}:5")
    assert sse.blocks(by_query.body)[0].id == f"{stream.id}:6" and case.count == 1


def test_an_event_source_that_was_cut_before_its_first_event_starts_nothing(brief, mock, brief_key):
    """A page's EventSource comes back by itself, with the last id it was told."""
    pace = mock.pace()
    case = mock.case(behaviour.stream(*WORDS, pace=pace))
    target = event_source(brief_key, case.prompt)
    stream = back(brief, None, None, target=target)
    stream.until_comment(1)
    first = next(line for line in bytes(stream.raw).split(b"\n") if line.startswith(b"id:"))
    assert first.decode() == f"id: {stream.id}:0"
    stream.connection.reset()
    again = back(brief, None, None, first.decode().removeprefix("id: "), target)
    pace.open()
    gathered = again.drain()
    assert again.id == stream.id and sse.text_of(gathered) == "".join(WORDS) and gathered[-1].is_done
    assert event_ids(gathered) == [f"{stream.id}:{number}" for number in range(1, len(gathered) + 1)]
    assert_one_record(brief, stream.id, case)


@pytest.mark.parametrize("asked", ["true", "false", None])
def test_an_event_source_gets_its_usage_where_it_asks(many, mock, many_key, asked):
    case = mock.case(behaviour.stream("a", "b"))
    target = event_source(many_key, case.prompt, **({"include_usage": asked} if asked else {}))
    events = back(many, None, None, target=target).drain()
    usage = [event.json()["usage"] for event in events if not event.is_done and event.json().get("usage")]
    assert [(one["completion_tokens"], one["cost"] > 0) for one in usage] == ([(2, True)] if asked == "true" else [])


def test_an_event_source_that_comes_too_late_starts_nothing(brief, mock, brief_key):
    case = mock.case(behaviour.stream("a"))
    target = event_source(brief_key, case.prompt)
    stream = back(brief, None, None, target=target)
    last = stream.drain()[-1].id
    until(lambda: brief.get(target, headers={"last-event-id": last}).status == 404, "the window's end")
    for wrong, status in [("garbage", 400), ("req_nobody:3", 404), (f"{stream.id}:1", 404)]:
        assert brief.get(target, headers={"last-event-id": wrong}).status == status
    assert case.count == 1


@pytest.mark.parametrize("query, status, param", [
    ("prompt=a", 400, "model"), ("model=test-model", 400, "prompt"), ("model=test-model&prompt=", 400, "prompt"),
    ("model=none&prompt=a", 404, "model"), ("model=test-model&prompt=a&max_tokens=many", 400, "max_tokens"),
    ("model=test-model&prompt=a&max_tokens=1,%22n%22:9", 400, "max_tokens"),
    ("model=test-model&prompt=a&max_tokens=0", 400, "max_tokens"),
    ("model=test-model&prompt=a&include_usage=yes", 400, "include_usage")])
def test_queries_that_are_wrong(many, many_key, query, status, param):
    answer = many.get(f"/v1/stream?{query}&api_key={many_key}")
    assert answer.status == status and answer.error["param"] == param


def test_no_log_shows_what_the_query_said(own_relay, mock):
    relay = own_relay({"log": {"access": "stdout", "level": "debug"}})
    key = relay.create_key(relay.create_tenant("t"))
    case = mock.case(behaviour.stream(config.CANARY))
    target = event_source(key, f"{case.prompt} {config.CANARY}")
    stream = back(relay, None, None, target=target)
    assert stream.drain()[-1].is_done
    assert relay.get(f"{target}&last_event_id={stream.id}:1", headers={"referer": target}).status == 200
    assert relay.get(f"/v1/streams/{stream.id}?api_key={key}").status == 200
    relay.record(stream.id)
    until(lambda: relay.all_output().count(stream.id) > 1, "the access lines")
    assert key not in relay.all_output() and config.CANARY not in relay.all_output()


def test_head_starts_nothing(many, mock, many_key):
    case = mock.case(behaviour.stream("a"))
    with many.connect() as connection:
        connection.send("HEAD", event_source(many_key, case.prompt))
        assert connection.head().status == 405
    assert case.count == 0


def test_the_query_of_an_event_source_takes_from_the_rates(many, mock):
    key = many.create_key(many.create_tenant("rated", "--rpm", "1"))
    case = mock.case(behaviour.stream("a"))
    target = event_source(key, case.prompt)
    stream = back(many, None, None, target=target)
    stream.drain()
    assert many.get(target).status == 429
    assert many.get(f"/v1/streams/{stream.id}", key).status == 200


# --- repeats ---

def once(name):
    return {"idempotency-key": name}


def test_a_repeat_of_a_whole_answer_gets_it_again(many, mock, many_key):
    case = mock.case(behaviour.chat("a", "b"))
    first = many.chat(many_key, case.body(), once("whole-1"))
    for _ in range(8):
        again = many.chat(many_key, case.body(), once("whole-1"))
        assert again.status == 200 and again.body == first.body and again.id == first.id
        for name in ("x-tollgate-model", "x-tollgate-upstream", "x-tollgate-cost-usd", "content-type"):
            assert again.headers[name] == first.headers[name]
    assert_one_record(many, first.id, case)
    assert many.chat(many_key, case.body(), once("whole-2")).id != first.id and case.count == 2


def test_a_repeat_waits_for_the_answer_that_is_on_its_way(many, mock, many_key):
    pace = mock.pace()
    case = mock.case(behaviour.late(pace, behaviour.chat("a")))
    connections = [many.connect() for _ in range(6)]
    for connection in connections:
        connection.send("POST", CHAT, bearer(many_key, once("waits")), case.body())
        until(lambda: case.exchanges, "the upstream's request")
    connections[0].reset()  # whoever was first may leave
    pace.open()
    answers = [connection.answer() for connection in connections[1:]]
    assert {answer.status for answer in answers} == {200} and len({answer.id for answer in answers}) == 1
    assert len({answer.body for answer in answers}) == 1
    assert_one_record(many, answers[0].id, case)


def test_a_repeated_stream_comes_whole_and_goes_on(many, mock, many_key):
    pace = mock.pace()
    case = mock.case(behaviour.stream(*WORDS, pace=pace))
    stream = many.stream_after(many_key, case, pace, 3, headers=once("stream"))
    others = [many.stream(many_key, case.body(), once("stream")) for _ in range(4)]
    for other in others:
        assert other.id == stream.id and len(other.take(3)) == 3
    pace.open()
    whole = [event.raw for event in stream.drain()]
    for other in others:
        assert [event.raw for event in other.drain()] == whole
    later = many.stream(many_key, case.body(), once("stream"))
    assert [event.raw for event in later.drain()] == whole
    assert_one_record(many, stream.id, case)


def test_nothing_is_taken_from_the_limits_by_a_repeat(many, mock):
    key = many.create_key(many.create_tenant("once", "--rpm", "1", "--concurrent", "1"))
    case = mock.case(behaviour.chat("a"))
    first = many.chat(key, case.body(), once("limited"))
    for _ in range(3):
        assert many.chat(key, case.body(), once("limited")).id == first.id
    assert many.chat(key, case.body()).status == 429


def test_another_body_is_a_conflict(many, mock, many_key):
    case = mock.case(behaviour.chat("a"))
    first = many.chat(many_key, case.body(), once("bodies"))
    for other in (case.body(max_tokens=5), case.body(stream=True), case.body(model="other-model")):
        answer = many.chat(many_key, other, once("bodies"))
        assert answer.status == 409 and answer.error["code"] == "idempotency_conflict"
        assert answer.error["type"] == "invalid_request_error" and first.id in answer.error["message"]
        assert answer.headers["x-should-retry"] == "false"  # SDKs repeat a 409 by themselves
    assert case.count == 1


def test_another_key_may_use_the_same_one(many, mock, many_key):
    case = mock.case(behaviour.chat("a"))
    stranger = many.create_key("many")
    first, second = (many.chat(key, case.body(), once("shared")) for key in (many_key, stranger))
    assert first.id != second.id and case.count == 2


def test_after_the_window_a_repeat_is_a_conflict(brief, mock, brief_key):
    case = mock.case(behaviour.chat("a"))
    first = brief.chat(brief_key, case.body(), once("late"))
    assert brief.chat(brief_key, case.body(), once("late")).id == first.id
    until(lambda: brief.chat(brief_key, case.body(), once("late")).status == 409, "the window's end")
    until(lambda: journal_bytes(brief) is not None and not journal_holds(brief, b"chat.completion"), "the sweep")
    answer = brief.chat(brief_key, case.body(), once("late"))
    assert answer.status == 409 and first.id in answer.error["message"] and case.count == 1


def journal_holds(relay, text):
    """Does the journal's memory hold this text?"""
    for descriptor in Path(f"/proc/{relay.worker_pids()[0]}/fd").iterdir():
        if "tollgate-journal" in os.readlink(descriptor):
            return text in descriptor.read_bytes()
    return False


def test_an_answer_longer_than_the_buffer_is_a_conflict(brief, mock, brief_key):
    for name, stream in (("long-whole", False), ("long-stream", True)):
        case = mock.case(behaviour.chat(*["x" * 500] * 20))
        first = brief.chat(brief_key, case.body(stream=stream), once(name))
        answer = brief.chat(brief_key, case.body(stream=stream), once(name))
        assert first.status == 200 and answer.status == 409 and first.id in answer.error["message"]
        assert case.count == 1


def test_what_was_refused_or_failed_is_not_kept(many, mock):
    key = many.create_key(many.create_tenant("refused", "--rpm", "1"))
    good, bad = mock.case(behaviour.chat("a")), mock.case(behaviour.status(400))
    assert many.chat(key, bad.body(), once("again")).status == 400
    first = many.chat(key, good.body(), once("again"))  # another body, too
    assert first.status == 200
    assert many.chat(key, good.body(), once("refused")).status == 429
    other = many.create_key(many.create_tenant("refused-2"))
    case = mock.case(behaviour.sequence(*[behaviour.status(500)] * 3, behaviour.chat("a")))
    assert many.chat(other, case.body(), once("failed")).status == 502
    assert many.chat(other, case.body(), once("failed")).status == 200
    assert many.chat(other, {"model": "none", "messages": [{"role": "user", "content": "a"}]}, once("none")).status == 404


@pytest.mark.parametrize("name, status", [("", 400), ("x", 200), ("x" * 255, 200), ("x" * 256, 400)])
def test_how_long_one_may_be(many, mock, many_key, name, status):
    case = mock.case(behaviour.chat("a"))
    assert many.chat(many_key, case.body(), once(name)).status == status
    assert case.count == (1 if status == 200 else 0)


@pytest.mark.parametrize("round_number", range(5))
def test_of_simultaneous_first_requests_one_runs(many, mock, many_key, round_number):
    pace = mock.pace()
    case = mock.case(behaviour.late(pace, behaviour.chat("a")))
    connections = [many.connect() for _ in range(8)]
    for connection in connections:
        connection.send("POST", CHAT, bearer(many_key, once(f"race-{round_number}")), case.body())
    until(lambda: case.exchanges, "the upstream's request")
    pace.open()
    answers = [connection.answer() for connection in connections]
    assert {answer.status for answer in answers} == {200}
    assert len({answer.id for answer in answers}) == 1
    assert_one_record(many, answers[0].id, case)


def test_resumable_and_idempotent_at_once(many, mock, many_key):
    case = mock.case(behaviour.stream(*WORDS))
    with many.stream(many_key, case.body(), {**RESUME, **once("both")}) as stream:
        raw = [event.raw for event in stream.drain()]
    with many.stream(many_key, case.body(), {**RESUME, **once("both")}) as other:
        assert [event.raw for event in other.drain()] == raw and other.id == stream.id
    assert [event.raw for event in back(many, many_key, stream.id, f"{stream.id}:2").drain()] == raw[2:]


def test_a_repeat_of_a_request_that_waits_for_its_turn(own_relay, mock):
    relay = own_relay({"workers": 2, "tiers": {"narrow": {"concurrent": 1, "max_wait": "20s"}}})
    key = relay.create_key(relay.create_tenant("narrow", "--tier", "narrow"))
    pace = mock.pace()
    held, queued = mock.case(behaviour.late(pace, behaviour.chat("a"))), mock.case(behaviour.chat("b"))
    connections = [relay.connect() for _ in range(4)]
    connections[0].send("POST", CHAT, bearer(key), held.body())
    until(lambda: held.exchanges, "the upstream's request")
    for connection in connections[1:]:
        connection.send("POST", CHAT, bearer(key, once("queued")), queued.body())
    connections[1].reset()
    pace.open()
    assert connections[0].answer().status == 200
    answers = [connection.answer() for connection in connections[2:]]
    assert [answer.status for answer in answers] == [200, 200] and answers[0].id == answers[1].id
    assert_one_record(relay, answers[0].id, queued)


def test_a_repeat_under_load_runs_once(many, mock, many_key):
    """Many keys, four tries each at once, by clients that leave at random: never two records of one key."""
    case = mock.case(behaviour.stream(*WORDS, interval_s=0.001))
    ids = {}

    def try_often(number):
        choice = random.Random(number)
        for turn in range(20):
            stream = many.stream(many_key, case.body(), once(f"load-{turn}"))
            assert stream.status == 200
            ids.setdefault(turn, set()).add(stream.id)
            if choice.random() < 0.5:
                stream.take(choice.randrange(1, 10))
                stream.connection.reset()
            else:
                assert sse.text_of(stream.drain()) == "".join(WORDS)
                stream.close()

    threads = [threading.Thread(target=try_often, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ids) == list(range(20)) and all(len(found) == 1 for found in ids.values()) and case.count == 20


def test_a_killed_worker_s_request_is_not_run_again(own_relay, mock):
    relay = own_relay({"workers": 2})
    key = relay.create_key(relay.create_tenant("killed"))
    pace = mock.pace()
    case = mock.case(behaviour.stream(*WORDS, pace=pace))
    stream = relay.stream_after(key, case, pace, 3, headers=once("killed"))
    os.kill(worker_of(relay, stream), signal.SIGKILL)
    record = relay.record(stream.id)
    answer = until(lambda: try_chat(relay, key, case.body(stream=True), once("killed")), "an answer")
    assert answer.status == 409 and record["id"] in answer.error["message"] and case.count == 1


def try_chat(relay, key, body, headers):
    try:
        return relay.chat(key, body, headers)
    except (Broken, OSError):
        return None


def test_a_drain_ends_readers_too(own_relay, mock):
    relay = own_relay({"workers": 2, "drain_timeout": "1s"})
    key = relay.create_key(relay.create_tenant("drained"))
    pace = mock.pace()
    case = mock.case(behaviour.stream(*WORDS, pace=pace))
    stream = relay.stream_after(key, case, pace, 3, headers=RESUME)
    readers = [stream, *(back(relay, key, stream.id, f"{stream.id}:1") for _ in range(3))]
    relay.signal(signal.SIGTERM)
    for reader in readers:
        events = reader.drain()
        assert events[-1].error and not any(event.is_done for event in events)
    assert relay.wait_exit() == 0
