"""Processes die: every admitted request still ends as exactly one record, and the books agree (I1, I2, I8)."""

import os
import signal
import threading

import pytest

from harness import processes, sse
from harness.http1 import Broken
from harness.relay import CHAT, bearer
from harness.wait import until
from mock import behaviour

WORDS = ["word "] * 12


@pytest.fixture
def serving(own_relay):
    relay = own_relay()
    relay.key = relay.create_key(relay.create_tenant("t"))
    return relay


def ledger_pid(relay):
    return relay.status()["ledger"]["pid"]


def streams_of(relay):
    """pid -> live streams, by `status`."""
    return {worker["pid"]: worker["streams"] for worker in relay.status()["workers"]}


def open_streams(relay, mock, count):
    """Live streams that wait after six events each, and a function that lets all of them go on."""
    paces = [mock.pace() for _ in range(count)]
    streams = [relay.stream_after(relay.key, mock.case(behaviour.stream(*WORDS, pace=pace)), pace, 6) for pace in paces]
    return streams, lambda: [pace.open() for pace in paces]


def test_a_killed_worker_takes_its_own_streams_only(serving, mock):
    streams, let_go = open_streams(serving, mock, 12)
    until(lambda: sum(streams_of(serving).values()) == 12, "twelve live streams in status")
    victim, own = max(streams_of(serving).items(), key=lambda item: item[1])
    os.kill(victim, signal.SIGKILL)
    until(lambda: victim not in serving.worker_pids() and len(serving.worker_pids()) == 2, "a new worker")
    let_go()
    ends = [end_of(stream) for stream in streams]
    assert ends.count("broken") == own and ends.count("done") == 12 - own
    for stream, end in zip(streams, ends):
        record = serving.record(stream.id)
        assert record["estimated"] is (end == "broken")
        if end == "broken":
            assert record["finish_reason"] == "aborted" or record["status"] >= 400
            assert 3 <= record["output_tokens"] <= 14
    assert len(serving.records("--last", "100")) == 12
    assert serving.cli("verify").code == 0


def end_of(stream):
    """"done" or "broken"; nothing else may happen to a stream whose worker dies."""
    try:
        events = stream.drain()
    except (Broken, ConnectionError):
        return "broken"
    finally:
        stream.close()
    assert events[-1].is_done and sse.text_of(events) == "".join(WORDS)
    return "done"


def test_workers_killed_again_and_again_lose_nothing(serving, mock):
    names = []
    for round_number in range(4):
        streams, let_go = open_streams(serving, mock, 6)
        names += [stream.id for stream in streams]
        both = until(lambda: len(pids := serving.worker_pids()) == 2 and pids, "two workers")
        os.kill(both[round_number % 2], signal.SIGKILL)
        let_go()
        for stream in streams:
            end_of(stream)
        until(lambda: serving.get_or_none("/healthz"), "a worker that serves")
    records = until(lambda: whole(serving, names), "a record of each")
    assert sorted(record["id"] for record in records) == sorted(names)
    assert serving.cli("verify").code == 0


def whole(relay, names):
    """All records once there are as many as names, else None."""
    records = relay.records("--last", "100000")
    return records if len(records) >= len(names) else None


def test_a_killed_ledger_loses_nothing(serving, mock):
    case = mock.case(behaviour.chat("a", "b"))
    answers, stop = [], threading.Event()

    def load():
        while not stop.is_set():
            answers.append(serving.chat(serving.key, case.body()))
    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        before, count = ledger_pid(serving), len(answers)
        os.kill(before, signal.SIGKILL)
        until(lambda: ledger_pid_or_none(serving) not in (None, before), "a new ledger process")
        until(lambda: len(answers) > count + 5, "requests that go on")
    stop.set()
    for thread in threads:
        thread.join()
    served = [answer.id for answer in answers if answer.status == 200]
    assert len(served) >= 20
    assert {answer.status for answer in answers} <= {200, 503}
    records = until(lambda: whole(serving, served), "all records")
    assert sorted(record["id"] for record in records) == sorted(served)
    assert sum(record["output_tokens"] for record in records) == 2 * len(served)
    assert serving.cli("verify").code == 0


def ledger_pid_or_none(relay):
    result = relay.cli("status", "--json")
    pid = result.json()["ledger"]["pid"] if result.code == 0 else None
    return pid if pid and processes.is_alive(pid) else None


def test_everything_killed_at_once_is_recovered_at_the_next_start(serving, mock):
    done = [serving.chat(serving.key, mock.case(behaviour.chat("a")).body()).id for _ in range(5)]
    streams, let_go = open_streams(serving, mock, 4)
    serving.kill_all()
    for stream in streams:
        assert end_of(stream) == "broken"
    serving.start()
    records = until(lambda: whole(serving, [*done, *streams]), "nine records")
    by_id = {record["id"]: record for record in records}
    assert sorted(by_id) == sorted(done + [stream.id for stream in streams]) and len(records) == 9
    for stream in streams:
        assert by_id[stream.id]["estimated"] is True and by_id[stream.id]["output_tokens"] >= 3
    assert serving.cli("verify").code == 0
    assert serving.chat(serving.key, mock.case(behaviour.chat()).body()).status == 200
    let_go()


def test_the_command_line_recovers_what_a_dead_server_left(serving, mock):
    """No new server: `usage` and `verify` alone find the dead one's requests."""
    streams, let_go = open_streams(serving, mock, 2)
    serving.kill_all()
    for stream in streams:
        end_of(stream)
    assert serving.json("usage")["total"]["requests"] == 2
    assert serving.cli("verify").code == 0
    let_go()


def test_keys_and_tenants_outlive_every_process(serving):
    serving.kill_all()
    serving.start()
    assert serving.get("/v1/models", serving.key).status == 200
    second = serving.create_key("t")
    serving.kill_all()
    serving.start()
    assert serving.get("/v1/models", second).status == 200


def test_a_stream_of_http_2_dies_visibly_with_its_worker(serving, mock):
    pace = mock.pace()
    case = mock.case(behaviour.stream(*WORDS, pace=pace))
    pace.release(6)
    with serving.connect2() as connection:
        stream = connection.send("POST", CHAT, bearer(serving.key), case.body(stream=True))
        connection.until(lambda: len(stream.events) == 6, "six events")
        for pid in serving.worker_pids():
            os.kill(pid, signal.SIGKILL)
        until(lambda: connection._read() or connection.closed, "the connection's end")
    assert not any(event.is_done for event in stream.events)
    assert serving.record(stream.id)["estimated"] is True
    pace.open()
