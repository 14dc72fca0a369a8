"""Recorded answers of many providers: bytes pass untouched, counts are the provider's."""

import json
import re
from decimal import Decimal

import pytest

from harness import fixtures, sse
from mock import behaviour

pytestmark = pytest.mark.skipif(not fixtures.chat_streams(), reason="the recorded fixtures are not beside the clone")

ASK = {"stream_options": {"include_usage": True}}
ENDS_BADLY = [fixture for fixture in fixtures.chat_streams() if not fixture.ends_well]
ENDS_WELL = [fixture for fixture in fixtures.chat_streams() if fixture.ends_well]


def named(fixture):
    return fixture.name


def replay_of(mock, fixture, cut=None):
    return mock.case(behaviour.replay(fixture.data, cut_bytes=cut, cut_edges_bytes=1500))


def stream(relay, key, case, **fields):
    with relay.stream(key, case.body(**fields)) as answer:
        answer.drain()
    assert answer.complete
    return answer


def assert_counts(record, fixture):
    """The record says what the index expects."""
    expected = fixture.expected
    assert record["estimated"] is not fixture.has_usage
    if not fixture.has_usage:
        assert record["input_tokens"] > 0 and record["output_tokens"] > 0
        return
    assert record["input_tokens"] == expected["prompt_tokens"]
    assert record["output_tokens"] in outputs_of(fixture)
    assert record["cached_input_tokens"] == (expected["cached_tokens"] or 0)
    assert record["cache_write_tokens"] == (expected["cache_write_tokens"] or 0)
    # a provider that reports more reasoning than output may be read either way
    assert record["reasoning_tokens"] in (expected["reasoning_tokens"] or 0, record["output_tokens"])


def outputs_of(fixture):
    """Output totals that are right. Where the provider's total shows tokens it left out, counting them is right too."""
    raw = fixture.entry.get("extra", {}).get("usage_raw", {})
    return {fixture.expected["completion_tokens"], raw.get("total_tokens", 0) - raw.get("prompt_tokens", 0)}


def normal(event):
    """An event as a value, without the cost the relay puts in."""
    if event.is_done:
        return event.data
    body = event.json()
    if isinstance(body.get("usage"), dict):
        body["usage"].pop("cost", None)
    return event.name, body


@pytest.mark.parametrize("cut", [None, 1, 7], ids=["whole", "1-byte", "7-byte"])
@pytest.mark.parametrize("fixture", ENDS_WELL, ids=named)
def test_a_stream_passes_without_its_usage_chunk(relay, mock, key, fixture, cut):
    answer = stream(relay, key, replay_of(mock, fixture, cut))
    expected = fixtures.without_usage_only(fixture.data)
    if not expected.endswith(b"\n\n"):  # a last event without its blank line is completed
        expected = expected.rstrip(b"\r\n")
        answer.raw = answer.raw.rstrip(b"\r\n")
    # comments between events may go or stay; everything else is the provider's, byte for byte
    assert without_comments(answer.raw) == without_comments(expected)
    assert_counts(relay.record(answer.id), fixture)


def without_comments(raw):
    return re.sub(rb"^:[^\n]*\n+", b"", raw, flags=re.MULTILINE)


@pytest.mark.parametrize("cut", [None, 1, 7], ids=["whole", "1-byte", "7-byte"])
@pytest.mark.parametrize("fixture", ENDS_WELL, ids=named)
def test_a_stream_with_usage_is_changed_by_cost_alone(relay, mock, key, fixture, cut):
    answer = stream(relay, key, replay_of(mock, fixture, cut), **ASK)
    record = relay.record(answer.id)
    upstream = sse.blocks(fixture.data)
    assert [normal(event) for event in answer.events] == [normal(event) for event in upstream]
    for ours, theirs in zip(answer.events, upstream):
        if '"usage":{' not in theirs.data and '"usage": {' not in theirs.data:
            assert ours.data == theirs.data
        elif fixtures.is_usage_only(theirs) or theirs is upstream[-2]:
            assert_cost(ours, theirs, record)
    assert_counts(record, fixture)


def assert_cost(ours, theirs, record):
    """The usage chunk carries what the ledger charged, and is otherwise as it was."""
    usage = json.loads(ours.data, parse_float=Decimal)["usage"]
    if fixtures.is_usage_only(ours):
        assert usage["cost"] == record["price_usd"]
    if "cost" not in theirs.json()["usage"]:
        assert ours.data == theirs.data or fixtures.without_cost(ours.data.encode()) == theirs.data.encode()


@pytest.mark.parametrize("fixture", ENDS_BADLY, ids=named)
@pytest.mark.parametrize("cut", [None, 7], ids=["whole", "7-byte"])
def test_a_stream_that_fails_never_looks_complete(relay, mock, key, fixture, cut):
    answer = stream(relay, key, replay_of(mock, fixture, cut))
    assert not any(event.is_done for event in answer.events)
    assert answer.events[-1].error["message"]
    assert answer.reader.pending == b""
    assert relay.record(answer.id)["output_tokens"] > 0


def test_an_event_cut_off_by_the_end_is_not_passed_on(relay, mock, key):
    fixture = next(item for item in fixtures.chat_streams() if "truncated" in item.name)
    answer = stream(relay, key, replay_of(mock, fixture))
    upstream = sse.blocks(fixture.data)[:-1]
    assert [event.data for event in answer.events[:-1]] == [event.data for event in upstream]
    assert relay.record(answer.id)["estimated"] is True


@pytest.mark.parametrize("fixture", fixtures.chat_bodies(), ids=named)
def test_an_answer_passes_untouched(relay, mock, key, fixture):
    case = mock.case(behaviour.json_answer(fixture.data))
    answer = relay.chat(key, case.body())
    if "error" in fixture.entry.get("extra", {}):
        assert answer.status in (400, 502)
        assert answer.error["type"] in ("invalid_request_error", "upstream_error")
        return
    assert answer.status == 200
    assert answer.body.strip() == fixture.data.strip()
    record = relay.record(answer.id)
    assert_counts(record, fixture)
    assert record["finish_reason"] == fixture.expected["finish_reason"]


@pytest.mark.parametrize("fixture", [item for item in ENDS_WELL if item.expected["finish_reason"]], ids=named)
def test_the_record_has_the_finish_reason(relay, mock, key, fixture):
    answer = stream(relay, key, replay_of(mock, fixture))
    record = relay.record(answer.id)
    assert (record["finish_reason"], record["status"]) == (fixture.expected["finish_reason"], 200)
