"""The usage report equals the sum of what clients saw (I1, I2)."""

import random
import threading
from decimal import Decimal

from harness import config
from harness.http1 import Broken
from harness.relay import cost_of
from harness.wait import until
from mock import behaviour, openai

ASK = {"stream_options": {"include_usage": True}}


class Tally:
    """What the clients of a test saw."""

    def __init__(self):
        self.lock = threading.Lock()
        self.seen = {}

    def add(self, identity, usage, cost):
        with self.lock:
            assert identity not in self.seen
            self.seen[identity] = (usage, cost)

    def total(self, name):
        return sum(usage[name] for usage, _ in self.seen.values())

    @property
    def cost(self):
        return sum(cost for _, cost in self.seen.values())


def whole(relay, key, case, tally):
    answer = relay.chat(key, case.body())
    tally.add(answer.id, answer.json()["usage"], Decimal(answer.headers["x-tollgate-cost-usd"]))


def streamed(relay, key, case, tally):
    with relay.stream(key, case.body(**ASK)) as stream:
        usage = stream.drain()[-2].json()["usage"]
    tally.add(stream.id, usage, Decimal(str(usage["cost"])))


def multiplexed(relay, key, case, tally):
    with relay.connect2() as connection:
        headers = {"authorization": f"Bearer {key}"}
        streams = [connection.send("POST", "/v1/chat/completions", headers, case.body(stream=True, **ASK)) for _ in range(5)]
        connection.until(lambda: all(stream.ended for stream in streams), "five answers")
    for stream in streams:
        usage = stream.events[-2].json()["usage"]
        tally.add(stream.id, usage, Decimal(str(usage["cost"])))


def test_reports_equal_what_clients_saw(own_relay, mock):
    relay = own_relay()
    keys = [relay.create_key(relay.create_tenant(name)) for name in ("a", "b", "c")]
    tally, ways = Tally(), (whole, streamed, multiplexed)

    def client(seed):
        choose = random.Random(seed)
        for _ in range(25):
            counts = openai.usage(choose.randrange(1, 5000), choose.randrange(0, 5000), 0, 0, 0)
            counts["prompt_tokens_details"]["cached_tokens"] = choose.randrange(0, counts["prompt_tokens"])
            choose.choice(ways)(relay, choose.choice(keys), mock.case(behaviour.chat(counts=counts)), tally)
    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    def settled():
        report = relay.json("usage", "--by", "tenant,model")
        return report if report["total"]["requests"] >= len(tally.seen) else None
    total = until(settled, "every request in the report")["total"]
    assert total["requests"] == len(tally.seen) >= 150 and total["failed"] == 0
    assert total["input_tokens"] == tally.total("prompt_tokens")
    assert total["output_tokens"] == tally.total("completion_tokens")
    assert total["price_usd"] == tally.cost
    records = relay.records("--last", "100000")
    assert {record["id"] for record in records} == set(tally.seen) and len(records) == len(tally.seen)
    for record in records:
        assert record["price_usd"] == tally.seen[record["id"]][1] == cost_of(record, config.PRICE)
    assert relay.cli("verify").code == 0


def test_books_agree_after_chaos_of_clients(own_relay, mock):
    """Half the clients leave, some upstreams break: one record each, and the roll-ups are their sum."""
    relay = own_relay()
    key = relay.create_key(relay.create_tenant("a"))
    behaviours = [behaviour.chat("a", "b"), behaviour.stream("a", "b", ending="close"), behaviour.stream("a", interval_s=0.02),
                  behaviour.stream(*["word "] * 30, interval_s=0.005)]
    names = []

    def client(seed):
        choose = random.Random(seed)
        for _ in range(15):
            stream = relay.stream(key, mock.case(choose.choice(behaviours)).body())
            names.append(stream.id)
            try:
                for _ in range(choose.randrange(0, 6)):
                    if stream.next() is None:
                        break
            except (Broken, ConnectionError):
                pass
            choose.choice((stream.close, stream.connection.reset))()
    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    def settled():
        found = relay.records("--last", "1000")
        return found if len(found) >= len(names) else None
    records = until(settled, "a record of every stream")
    assert sorted(record["id"] for record in records) == sorted(names)
    total = relay.json("usage")["total"]
    for name in ("input_tokens", "output_tokens", "price_usd", "cost_usd"):
        assert total[name] == sum(record[name] for record in records), name
    until(lambda: sum(worker["streams"] for worker in relay.status()["workers"]) == 0, "no live stream")
