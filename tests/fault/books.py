"""Compares the ledger with what clients saw and what the provider served. Each check is named after the invariant it tries
to break (design, section 4) and yields violations; none is a test's assertion, so that one run tells of all of them."""

import collections
from dataclasses import dataclass
from decimal import Decimal

from fault.plan import BUDGET_KEY
from harness import config
from harness.relay import cost_of

# The relay's estimate of the provider's words is within 4 % of their number; one more for rounding.
ESTIMATE_SHARE = 0.05
ESTIMATE_TOKENS = 1
COUNTS = (("input_tokens", "prompt_tokens", None), ("output_tokens", "completion_tokens", None),
          ("cached_input_tokens", "prompt_tokens_details", "cached_tokens"),
          ("cache_write_tokens", "prompt_tokens_details", "cache_write_tokens"),
          ("reasoning_tokens", "completion_tokens_details", "reasoning_tokens"))


@dataclass
class Violation:
    check: str
    id: str
    what: str


class Round:
    """All that is known of one round: outcomes of clients, records of the ledger, what the provider served."""

    def __init__(self, outcomes, records, tally, budgets=None, earlier_ids=()):
        """budgets: key id -> USD, of keys made for this round."""
        self.outcomes = {outcome.plan.id: outcome for outcome in outcomes}
        self.records = collections.defaultdict(list)
        for record in records:
            self.records[record["id"]].append(record)
        self.tally = tally
        self.budgets = budgets or {}
        self.earlier_ids = earlier_ids

    def each(self):
        """(outcome, its records, the provider's answers to it)"""
        for identity, outcome in self.outcomes.items():
            yield outcome, self.records.get(identity, []), self.tally.of(identity)


def is_cut_by_budget(outcome):
    """Did the relay end it, cleanly, because the money was used up? The provider never says "length"."""
    return outcome.end == "complete" and outcome.shortened and outcome.plan.key == BUDGET_KEY


def floor_of(tokens):
    """The least an honest estimate of so many words may be; never 0 when there was one."""
    return max(1, int(tokens * (1 - ESTIMATE_SHARE)) - ESTIMATE_TOKENS) if tokens else 0


def ceiling_of(tokens):
    return int(tokens * (1 + ESTIMATE_SHARE)) + ESTIMATE_TOKENS + 1


def exact_counts(usage):
    return {name: usage[outer] if inner is None else usage[outer][inner] for name, outer, inner in COUNTS}


def check_i1_no_record_stands_twice(books):
    for identity, records in books.records.items():
        if len(records) > 1:
            yield identity, f"{len(records)} records"
        if identity in books.earlier_ids:
            yield identity, "a record of an earlier round's request"


def check_i1_every_record_is_of_a_request_that_was_sent(books):
    for identity in books.records:
        if identity not in books.outcomes and identity not in books.earlier_ids:
            yield identity, "nobody sent a request of this id"


def check_i1_what_an_upstream_was_asked_has_a_record(books):
    """Complete, broken off, abandoned or failed: an admitted request that reached the provider has its one record (I10)."""
    for outcome, records, served in books.each():
        if served and not records:
            yield outcome.plan.id, f"the provider was asked {len(served)} times, the client saw {outcome.end}; no record"


def check_i1_complete_requests_are_recorded(books):
    for outcome, records, _ in books.each():
        if outcome.end == "complete" and len(records) != 1:
            yield outcome.plan.id, f"the client saw it complete; {len(records)} records"


def check_i1_refused_requests_have_no_record(books):
    for outcome, records, served in books.each():
        if records and not served and outcome.end == "refused":
            yield outcome.plan.id, f"status {outcome.status}, the provider was never asked; has a record"


def check_complete_requests_have_the_providers_own_counts(books):
    for outcome, records, served in books.each():
        if outcome.end != "complete" or len(records) != 1 or not served or served[-1].usage is None:
            continue
        if is_cut_by_budget(outcome):
            continue
        expected = exact_counts(served[-1].usage)
        wrong = [f"{name} {records[0][name]}, provider said {count}" for name, count in expected.items()
                 if records[0][name] != count]
        if wrong:
            yield outcome.plan.id, "; ".join(wrong)


def check_estimated_means_that_the_provider_did_not_report(books):
    for outcome, records, served in books.each():
        if outcome.end != "complete" or len(records) != 1 or not served or is_cut_by_budget(outcome):
            continue
        reported = served[-1].usage is not None
        if records[0]["estimated"] is reported and (reported or not outcome.plan.running_usage):
            yield outcome.plan.id, f"estimated {records[0]['estimated']}, provider's usage {served[-1].usage}"


def check_nothing_received_is_free(books):
    """Whatever a client got is billed: at least the words it received, within the tolerance of an estimate."""
    for outcome, records, _ in books.each():
        if outcome.received == 0:
            continue
        billed = records[0]["output_tokens"] if len(records) == 1 else None
        if billed is None or billed < floor_of(outcome.received):
            yield outcome.plan.id, f"{outcome.received} words received ({outcome.end}), billed {billed}"


def check_nothing_is_billed_that_was_not_sent(books):
    for outcome, records, served in books.each():
        if len(records) != 1 or outcome.end == "complete":
            continue
        sent = max((answer.tokens_sent for answer in served), default=0)
        most = max([ceiling_of(sent)] + [answer.usage["completion_tokens"] for answer in served if answer.usage])
        if records[0]["output_tokens"] > (most if sent else 0):
            yield outcome.plan.id, f"billed {records[0]['output_tokens']} ({outcome.end}), provider sent {sent} words"


def check_estimates_are_close(books):
    """A complete answer without usage: all of its words, within the stated tolerance."""
    for outcome, records, served in books.each():
        if outcome.end == "complete" and len(records) == 1 and served and not is_cut_by_budget(outcome) and \
                served[-1].usage is None:
            counted, words = records[0]["output_tokens"], outcome.plan.words
            if not outcome.plan.running_usage and not floor_of(words) <= counted <= ceiling_of(words):
                yield outcome.plan.id, f"estimated {counted} of {words} words"


def check_failed_requests_cost_nothing(books):
    """What an upstream failed to deliver: a record with the failure, and no price."""
    for outcome, records, served in books.each():
        if outcome.end == "refused" and served and len(records) == 1 and records[0]["price_usd"] != 0:
            yield outcome.plan.id, f"status {outcome.status} costs {records[0]['price_usd']}"


def check_prices_are_tokens_times_price(books):
    for identity, records in books.records.items():
        for record in records:
            for name, price in (("price_usd", config.PRICE), ("cost_usd", config.COST)):
                # What a budget does not cover is not owed.
                capped = name == "price_usd" and record["key"] in books.budgets and record[name] < cost_of(record, price)
                if record[name] != cost_of(record, price) and not capped:
                    yield identity, f"{name} {record[name]}, {cost_of(record, price)} by its tokens"


def check_the_price_told_is_the_price_recorded(books):
    for outcome, records, _ in books.each():
        if outcome.cost is not None and len(records) == 1 and Decimal(outcome.cost) != records[0]["price_usd"]:
            yield outcome.plan.id, f"x-tollgate-cost-usd {outcome.cost}, recorded {records[0]['price_usd']}"


def check_i4_no_budget_is_overspent(books):
    for key, budget in books.budgets.items():
        spent = sum(record["price_usd"] for group in books.records.values() for record in group if record["key"] == key)
        if spent > budget:
            yield key, f"spent {spent} of a budget of {budget}"


def check_i8_complete_means_that_the_provider_completed(books):
    for outcome, records, served in books.each():
        if outcome.end != "complete" or is_cut_by_budget(outcome):
            continue
        if not served or not served[-1].completed or outcome.received != outcome.plan.words:
            sent = served[-1] if served else None
            yield outcome.plan.id, f"complete with {outcome.received} of {outcome.plan.words} words; provider: {sent}"


def check_the_answers_id_is_the_requests(books):
    for outcome, _, _ in books.each():
        if outcome.status and outcome.id != outcome.plan.id:
            yield outcome.plan.id, f"answered as {outcome.id}"


def check_no_client_waits_for_ever(books):
    for outcome in books.outcomes.values():
        if outcome.end == "hung":
            yield outcome.plan.id, f"no end after {outcome.ended_at - outcome.began_at:.1f} s, status {outcome.status}"


CHECKS = [value for name, value in list(globals().items()) if name.startswith("check_")]


def violations(books):
    """All violations of one round."""
    return [Violation(check.__name__.removeprefix("check_"), identity, what)
            for check in CHECKS for identity, what in check(books)]


def gauge_violations(gauges):
    """I3: with no live request, nothing is held and nothing in flight. I2: what is spent is what the ledger committed."""
    found = []
    for name in ("live_slots", "settling_slots", "held_by_slots_nusd", "records_pending", "dead_seats"):
        if gauges[name] != 0:
            found.append(Violation("i3_gauges_are_zero_when_idle", name, str(gauges[name])))
    for account in gauges["accounts"]:
        name, windows = f"{account['kind']} {account['index']}", account.get("windows", ())
        if account["in_flight"] != 0 or any(window["held_nusd"] != 0 for window in windows):
            found.append(Violation("i3_gauges_are_zero_when_idle", name, str(account)))
        if any(window["spent_nusd"] != window["committed_nusd"] for window in windows):
            found.append(Violation("i2_balances_equal_the_ledgers", name, str(account)))
    return found
