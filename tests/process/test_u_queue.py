"""max_wait: requests over their rate wait for their turn, first come, first served for each key over all workers."""

import os
import re
import secrets
import signal
import threading

import pytest

from harness.http1 import Http1
from harness.config import ADMIN_TOKEN
from harness.wait import until
from mock import behaviour

RPM = 120  # one more every half second
TIERS = {"patient": {"rpm": RPM, "max_wait": "20s"},
         "hasty": {"rpm": RPM, "max_wait": "100ms"},
         "narrow": {"concurrent": 1, "max_wait": "20s"},
         "wordy": {"tpm": 600, "max_wait": "20s"}}


@pytest.fixture(scope="module")
def queueing(module_relay):
    return module_relay({"workers": 4, "tiers": TIERS, "streams": {"reserve_slice": 100}})


def new_key(relay, tier):
    tenant = f"{tier}-{secrets.token_hex(6)}"
    relay.create_tenant(tenant, "--tier", tier)
    return relay.create_key(tenant)


def metric(relay, name):
    with Http1(relay.admin_port) as connection:
        page = connection.request("GET", "/metrics", {"authorization": f"Bearer {ADMIN_TOKEN}"}).body.decode()
    return int(re.search(rf"^{name}(?:{{.*}})? ([0-9]+)$", page, re.MULTILINE)[1])


def waiting(relay):
    return metric(relay, "tollgate_waiting_requests")


def use_up(relay, key, case, count=RPM):
    with relay.connect() as connection:
        for _ in range(count):
            assert connection.request("POST", "/v1/chat/completions", {"authorization": f"Bearer {key}"},
                                      case.body()).status == 200


class Asker(threading.Thread):
    """One request in a thread of its own, with its number in `user`."""

    def __init__(self, relay, key, case, number):
        super().__init__()
        self.relay, self.key, self.case, self.number = relay, key, case, number
        self.answer = None
        self.start()

    def run(self):
        self.answer = self.relay.chat(self.key, self.case.body(user=str(self.number)))

    def result(self):
        self.join(60)
        return self.answer


def line_up(relay, key, case, count):
    """Starts that many requests, each after the one before it waits."""
    askers = []
    for number in range(count):
        askers.append(Asker(relay, key, case, number))
        until(lambda: waiting(relay) >= len(askers), f"{len(askers)} requests to wait")
    return askers


def test_requests_over_the_rate_wait_in_order(queueing, mock):
    key = new_key(queueing, "patient")
    case = mock.case(behaviour.chat())
    use_up(queueing, key, case)
    served_before = case.count
    askers = [Asker(queueing, key, case, 0)]
    for number in range(1, 6):
        until(lambda: waiting(queueing) + case.count - served_before >= len(askers), "the one before to be there")
        askers.append(Asker(queueing, key, case, number))
    assert [asker.result().status for asker in askers] == [200] * 6
    order = [exchange.json()["user"] for exchange in case.exchanges[served_before:]]
    assert order == sorted(order)
    record = queueing.record(askers[-1].result().headers["x-request-id"])
    assert record["wait_ms"] > 0 and record["status"] == 200
    assert waiting(queueing) == 0


def test_the_wait_ends_at_max_wait(queueing, mock):
    key = new_key(queueing, "hasty")
    case = mock.case(behaviour.chat())
    use_up(queueing, key, case)
    answer = queueing.chat(key, case.body())
    if answer.status == 200:  # the use took so long that one was refilled
        answers = [queueing.chat(key, case.body()) for _ in range(3)]
        answer = next(answer for answer in answers if answer.status != 200)
    assert answer.status == 429 and answer.json()["error"]["code"] == "rate_limit_exceeded"
    assert int(answer.headers["retry-after-ms"]) > 0
    assert waiting(queueing) == 0


def test_who_waits_for_a_gauge_is_woken(queueing, mock):
    key = new_key(queueing, "narrow")
    pace = mock.pace()
    first = mock.case(behaviour.stream("a", "b", pace=pace))
    case = mock.case(behaviour.chat())
    stream = queueing.stream_after(key, first, pace, 1)
    askers = line_up(queueing, key, case, 3)
    assert case.count == 0
    pace.open()
    stream.drain()
    stream.close()
    assert [asker.result().status for asker in askers] == [200] * 3
    assert [exchange.json()["user"] for exchange in case.exchanges] == ["0", "1", "2"]


def test_tokens_are_waited_for_too(queueing, mock):
    key = new_key(queueing, "wordy")
    case = mock.case(behaviour.chat())
    answers = [queueing.chat(key, case.body()) for _ in range(7)]
    assert {answer.status for answer in answers} == {200}


def test_a_client_that_leaves_gives_its_place_up(queueing, mock):
    key = new_key(queueing, "narrow")
    pace = mock.pace()
    first = mock.case(behaviour.stream("a", "b", pace=pace))
    case = mock.case(behaviour.chat())
    stream = queueing.stream_after(key, first, pace, 1)
    leaving = queueing.connect()
    leaving.send("POST", "/v1/chat/completions", {"authorization": f"Bearer {key}"}, case.body(user="gone"))
    until(lambda: waiting(queueing) == 1, "the first to wait")
    stays = Asker(queueing, key, case, 1)
    until(lambda: waiting(queueing) == 2, "the second to wait")
    leaving.close()
    until(lambda: waiting(queueing) == 1, "the place to be given up")
    pace.open()
    stream.drain()
    stream.close()
    assert stays.result().status == 200
    assert [exchange.json()["user"] for exchange in case.exchanges] == ["1"]


def test_a_killed_worker_leaves_no_place_behind(own_relay, mock):
    relay = own_relay({"workers": 2, "tiers": TIERS})
    key = new_key(relay, "narrow")
    pace = mock.pace()
    first = mock.case(behaviour.stream("a", "b", pace=pace))
    case = mock.case(behaviour.chat())
    stream = relay.stream_after(key, first, pace, 1)
    sockets = [relay.connect() for _ in range(6)]
    for number, connection in enumerate(sockets):
        connection.send("POST", "/v1/chat/completions", {"authorization": f"Bearer {key}"}, case.body(user=str(number)))
    until(lambda: waiting(relay) == 6, "six requests to wait")
    os.kill(relay.worker_pids()[0], signal.SIGKILL)
    pace.open()
    until(lambda: waiting(relay) == 0, "the queue to be empty")
    for connection in sockets:
        connection.close()
    stream.close()
    assert relay.chat(key, case.body()).status == 200


def test_a_budget_is_not_waited_for(queueing, mock):
    tenant = f"poor-{secrets.token_hex(6)}"
    queueing.create_tenant(tenant, "--tier", "patient", "--budget", "0.000001", "--per", "total")
    key = queueing.create_key(tenant)
    answer = queueing.chat(key, mock.case(behaviour.chat()).body(stream=True))
    assert answer.status == 429 and answer.json()["error"]["code"] == "insufficient_quota"
