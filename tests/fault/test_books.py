"""The checks themselves: each must find the one thing that is wrong in otherwise good books, and nothing in good ones."""

import sys
from decimal import Decimal
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "process")]

from fault import books  # noqa: E402
from fault.clients import Outcome, conclude  # noqa: E402
from fault.plan import BUDGET_KEY, Answer, Plan, make_plan  # noqa: E402
from fault.provider import usage_object  # noqa: E402
from harness import config  # noqa: E402
from harness.relay import cost_of  # noqa: E402
from mock.tally import Tally  # noqa: E402

USAGE = {"prompt": 100, "cached": 30, "cache_write": 20, "reasoning": 5, "completion": 45}


def plan_of(identity, **changes):
    fields = {"key": "plain", "stream": True, "include_usage": False, "words": 40, "batch": 4, "pause_s": 0, "usage": USAGE,
              "running_usage": False, "answers": [Answer()], "leave": "stay", "leave_after_words": 0}
    return Plan(id=identity, **{**fields, **changes})


def priced(record):
    return {**record, "price_usd": cost_of(record, config.PRICE), "cost_usd": cost_of(record, config.COST)}


def record_of(identity, **changes):
    counts = books.exact_counts(usage_object(plan_of(identity)))
    return priced({"id": identity, "key": "key_1", "estimated": False, "finish_reason": "stop", **counts, **changes})


def estimate_of(identity, output, **changes):
    return record_of(identity, output_tokens=output, cached_input_tokens=0, cache_write_tokens=0, reasoning_tokens=0,
                     estimated=True, **changes)


class Case:
    """Good books of five requests: complete, complete without usage, cut, refused, failed by the provider."""

    def __init__(self):
        self.tally = Tally()
        self.outcomes, self.records = {}, {}
        self.add("whole", "complete", 40, record_of("whole"), sent=40, usage=usage_object(plan_of("whole")), completed=True)
        self.add("silent", "complete", 40, estimate_of("silent", 41), sent=40, completed=True)
        self.add("cut", "cut", 17, estimate_of("cut", 20), sent=20)
        self.add("refused", "refused", 0, None, status=429)
        self.add("failed", "refused", 0, record_of("failed", **dict.fromkeys(
            ("input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens", "reasoning_tokens"), 0)),
            status=502, sent=0)

    def add(self, identity, end, received, record, status=200, sent=None, usage=None, completed=False):
        self.outcomes[identity] = Outcome(plan_of(identity), "http1", 0.0, 1.0, sent=True, status=status, id=identity,
                                          received=received, end=end)
        if record is not None:
            self.records[identity] = [record]
        if sent is not None:
            served = self.tally.begin(identity)
            served.tokens_sent, served.usage, served.completed = sent, usage, completed

    def found(self, **options):
        records = [record for group in self.records.values() for record in group]
        return {(item.check, item.id) for item in
                books.violations(books.Round(self.outcomes.values(), records, self.tally, **options))}


def change(identity, **changes):
    def apply(case):
        case.records[identity] = [{**case.records[identity][0], **changes}]
    return apply


def repriced(identity, **changes):
    def apply(case):
        case.records[identity] = [priced({**case.records[identity][0], **changes})]
    return apply


def outcome(identity, **changes):
    def apply(case):
        for name, value in changes.items():
            setattr(case.outcomes[identity], name, value)
    return apply


def lose(identity):
    return lambda case: case.records.pop(identity)


def repeat(identity):
    return lambda case: case.records[identity].append(case.records[identity][0])


def give(identity, record):
    return lambda case: case.records.update({identity: [record]})


DAMAGE = [
    (repeat("cut"), "i1_no_record_stands_twice", "cut"),
    (give("x", record_of("stranger")), "i1_every_record_is_of_a_request_that_was_sent", "stranger"),
    (lose("cut"), "i1_what_an_upstream_was_asked_has_a_record", "cut"),
    (lose("failed"), "i1_what_an_upstream_was_asked_has_a_record", "failed"),
    (lose("whole"), "i1_complete_requests_are_recorded", "whole"),
    (give("refused", record_of("refused")), "i1_refused_requests_have_no_record", "refused"),
    (repriced("whole", input_tokens=101), "complete_requests_have_the_providers_own_counts", "whole"),
    (repriced("whole", cache_write_tokens=0), "complete_requests_have_the_providers_own_counts", "whole"),
    (change("whole", estimated=True), "estimated_means_that_the_provider_did_not_report", "whole"),
    (change("silent", estimated=False), "estimated_means_that_the_provider_did_not_report", "silent"),
    (repriced("cut", output_tokens=0), "nothing_received_is_free", "cut"),
    (repriced("cut", output_tokens=14), "nothing_received_is_free", "cut"),
    (repriced("cut", output_tokens=24), "nothing_is_billed_that_was_not_sent", "cut"),
    (repriced("silent", output_tokens=36), "estimates_are_close", "silent"),
    (repriced("failed", input_tokens=10), "failed_requests_cost_nothing", "failed"),
    (change("whole", price_usd=Decimal("0.000000001")), "prices_are_tokens_times_price", "whole"),
    (change("cut", cost_usd=Decimal("0")), "prices_are_tokens_times_price", "cut"),
    (outcome("whole", cost="0.1"), "the_price_told_is_the_price_recorded", "whole"),
    (outcome("cut", end="complete"), "i8_complete_means_that_the_provider_completed", "cut"),
    (outcome("whole", received=39), "i8_complete_means_that_the_provider_completed", "whole"),
    (outcome("whole", id="req_1"), "the_answers_id_is_the_requests", "whole"),
    (outcome("cut", end="hung"), "no_client_waits_for_ever", "cut"),
]


def test_good_books_have_no_violation():
    assert Case().found() == set()


@pytest.mark.parametrize(("damage", "check", "identity"), DAMAGE)
def test_damage_is_found_and_named(damage, check, identity):
    case = Case()
    damage(case)
    assert (check, identity) in case.found()


def test_every_check_of_the_books_is_tested():
    tested = {check for _, check, _ in DAMAGE} | {"i4_no_budget_is_overspent"}
    assert tested == {check.__name__.removeprefix("check_") for check in books.CHECKS}


def test_i1_a_record_that_comes_back_in_a_later_round_is_found():
    assert ("i1_no_record_stands_twice", "whole") in Case().found(earlier_ids={"whole"})


def test_i4_overspending_is_found():
    spent = sum(group[0]["price_usd"] for group in Case().records.values())
    assert Case().found(budgets={"key_1": spent}) == set()
    assert Case().found(budgets={"key_1": spent - Decimal("0.000000001")}) == {("i4_no_budget_is_overspent", "key_1")}


def test_a_price_below_its_tokens_is_right_only_where_a_budget_caps_it():
    case = Case()
    change("cut", price_usd=Decimal("0.000000001"))(case)
    assert case.found() == {("prices_are_tokens_times_price", "cut")}
    assert case.found(budgets={"key_1": Decimal(1)}) == set()


def test_an_answer_may_be_shortened_for_a_key_with_a_budget_only():
    case = Case()
    outcome("cut", end="complete", shortened=True)(case)
    assert ("i8_complete_means_that_the_provider_completed", "cut") in case.found()
    case.outcomes["cut"].plan.key = BUDGET_KEY
    assert case.found() == set()


def test_i2_i3_gauges_and_balances_that_stay_are_found():
    rest = {"live_slots": 0, "settling_slots": 0, "held_by_slots_nusd": 0, "records_pending": 0, "dead_seats": 0,
            "accounts": []}
    window = {"held_nusd": 0, "spent_nusd": 7, "committed_nusd": 7}
    assert books.gauge_violations(rest) == []
    assert len(books.gauge_violations({**rest, "live_slots": 1})) == 1
    for field, check in (("held_nusd", "i3_gauges_are_zero_when_idle"), ("spent_nusd", "i2_balances_equal_the_ledgers")):
        stuck = {"kind": "key", "index": 3, "in_flight": 0, "windows": [window, {**window, field: 9}]}
        assert [(item.check, item.id) for item in books.gauge_violations({**rest, "accounts": [stuck]})] == [(check, "key 3")]


def test_the_floor_of_an_estimate_is_never_nothing():
    assert books.floor_of(0) == 0 and books.floor_of(1) == 1 and books.floor_of(2) == 1 and books.floor_of(400) == 379


@pytest.mark.parametrize(("body", "whole", "end", "received"), [
    (b"", False, "cut", 0),
    (b'data: {"delta":{"content":" the"}}\n\n', False, "cut", 1),
    (b'data: {"delta":{"content":" the"}}\n\ndata: [DONE]\n\n', False, "complete", 1),
    (b'data: {"delta":{"content":" the"}}\n\ndata: {"error":{}}\n\n', True, "error", 1),
])
def test_a_client_knows_what_it_was_given(body, whole, end, received):
    told = Outcome(plan_of("x"), "http1", 0.0, status=200)
    conclude(told, body, whole)
    assert (told.end, told.received) == (end, received)


def test_a_plan_follows_from_seed_and_number():
    keys = [("plain", 1), ("slow", 1)]
    assert make_plan(1, 5, keys, False) == make_plan(1, 5, keys, False) != make_plan(2, 5, keys, False)
    for number in range(300):
        plan = make_plan(1, number, keys, True)
        assert plan.usage["cached"] + plan.usage["cache_write"] <= plan.usage["prompt"]
        assert plan.leave in ("stay", "reset_stream") and plan.answers
