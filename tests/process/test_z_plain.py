"""Completions, Responses and embeddings: relayed as they are to OpenAI-dialect upstreams, counted and priced from their usage."""

import json

import pytest

from harness import config, fixtures
from mock import behaviour

pytestmark = pytest.mark.skipif(not fixtures.chat_streams(), reason="the recorded fixtures are not beside the clone")

TARGETS = {"openai.responses": "/v1/responses", "openai.completions": "/v1/completions",
           "openai.embeddings": "/v1/embeddings"}


def of(kind):
    return [item for item in fixtures._index() if item.entry["api"] in TARGETS and item.entry["kind"] == kind]


def named(fixture):
    return fixture.name


def body_of(case, target, **fields):
    name = "prompt" if target.endswith("completions") else "input"
    return {"model": "test-model", name: case.prompt, **fields}


def ends_well(fixture):
    return fixture.ends_well and fixture.expected["finish_reason"] not in ("failed", None)


def assert_counts(record, fixture):
    expected = fixture.expected
    if expected["prompt_tokens"] is None:
        assert record["estimated"] is True
        return
    assert record["estimated"] is False
    assert (record["input_tokens"], record["output_tokens"]) == (expected["prompt_tokens"],
                                                                 expected["completion_tokens"] or 0)
    assert record["cached_input_tokens"] == (expected["cached_tokens"] or 0)


@pytest.mark.parametrize("cut", [None, 1], ids=["whole", "1-byte"])
@pytest.mark.parametrize("fixture", [item for item in of("stream") if ends_well(item)], ids=named)
def test_a_stream_passes_untouched_and_is_counted(relay, mock, key, fixture, cut):
    target = TARGETS[fixture.entry["api"]]
    case = mock.case(behaviour.replay(fixture.data, cut_bytes=cut, cut_edges_bytes=1500))
    fields = {"stream_options": {"include_usage": True}} if target == "/v1/completions" else {}
    with relay.stream(key, body_of(case, target, **fields), target=target) as stream:
        stream.drain()
    assert stream.complete and stream.status == 200
    assert case.last.target == target
    if target == "/v1/responses":
        assert stream.raw.rstrip(b"\r\n") == fixture.data.rstrip(b"\r\n")
    record = relay.record(stream.id)
    assert record["endpoint"] == target and record["status"] == 200
    assert_counts(record, fixture)


@pytest.mark.parametrize("fixture", [item for item in of("stream") if not ends_well(item)], ids=named)
def test_a_failed_stream_never_looks_complete(relay, mock, key, fixture):
    target = TARGETS[fixture.entry["api"]]
    case = mock.case(behaviour.replay(fixture.data))
    with relay.stream(key, body_of(case, target), target=target) as stream:
        stream.drain()
    if stream.status == 200:
        assert stream.events[-1].name == "error" or "error" in stream.events[-1].json()
        assert not any(event.data.startswith('{"type":"response.completed"') for event in stream.events)
    else:
        assert stream.status == 502


@pytest.mark.parametrize("fixture", [item for item in of("json") if ends_well(item) or "embeddings" in item.entry["api"]],
                         ids=named)
def test_an_answer_passes_untouched_and_is_counted(relay, mock, key, fixture):
    target = TARGETS[fixture.entry["api"]]
    case = mock.case(behaviour.json_answer(fixture.data))
    answer = relay.request("POST", target, key, body=body_of(case, target))
    assert answer.status == 200 and answer.body == fixture.data
    record = relay.record(answer.headers["x-request-id"])
    assert record["endpoint"] == target and not record["stream"]
    assert_counts(record, fixture)


def test_only_the_models_name_is_changed(relay, mock, key):
    case = mock.case(behaviour.json_answer({"object": "list", "data": [], "model": "m",
                                            "usage": {"prompt_tokens": 3, "total_tokens": 3}}))
    body = {"input": [case.prompt, "b"], "encoding_format": "base64", "model": "test-model", "unknown": {"x": 1e400}}
    text = json.dumps({**body, "unknown": 1}).replace('"unknown": 1', '"unknown": {"x": 12345678901234567890}')
    answer = relay.request("POST", "/v1/embeddings", key, body=text.encode())
    assert answer.status == 200
    assert case.last.body.decode() == text.replace("test-model", "provider-model")


@pytest.mark.parametrize("target,body,param", [
    ("/v1/responses", {"model": "test-model"}, "input"),
    ("/v1/responses", {"model": "test-model", "input": "x", "background": True}, "background"),
    ("/v1/responses", {"model": "test-model", "input": "x", "max_output_tokens": -1}, "max_output_tokens"),
    ("/v1/completions", {"prompt": "x"}, "model"),
    ("/v1/completions", {"model": "test-model", "prompt": "x", "n": 1000}, "n"),
    ("/v1/embeddings", {"model": "test-model", "input": 5}, "input"),
    ("/v1/embeddings", {"model": "test-model", "input": "x", "stream": True}, "stream")])
def test_bad_bodies_are_refused_by_name(relay, key, target, body, param):
    answer = relay.request("POST", target, key, body=body)
    assert answer.status == 400 and answer.json()["error"]["param"] == param


def test_a_model_without_such_an_upstream_is_refused(own_relay, mock):
    relay = own_relay({"upstreams": {"claude": {**config.upstream(mock), "dialect": "anthropic"}},
                       "models": {"claude": config.model("claude")}})
    relay.create_tenant("t")
    key = relay.create_key("t")
    case = mock.case(behaviour.chat())
    answer = relay.request("POST", "/v1/responses", key, body={"model": "claude", "input": case.prompt})
    assert answer.status == 400 and answer.json()["error"]["param"] == "model"
    assert case.count == 0


def test_a_budget_ends_a_responses_stream_cleanly(relay, mock):
    relay.create_tenant("poor-responses")
    key = relay.create_key("poor-responses", "--budget", "0.001", "--per", "total")
    delta = 'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":%d,"output_index":0,"content_index":0,"delta":"seven words are in this very piece "}\n\n'
    created = 'event: response.created\ndata: {"type":"response.created","sequence_number":0,"response":{"id":"resp_1","object":"response","created_at":1,"model":"m","status":"in_progress","output":[]}}\n\n'
    case = mock.case(behaviour.replay((created + "".join(delta % number for number in range(1, 60))).encode()))
    with relay.stream(key, body_of(case, "/v1/responses"), target="/v1/responses") as stream:
        stream.drain()
    last = stream.events[-1].json()
    assert last["type"] == "response.incomplete" == stream.events[-1].name
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"} and last["response"]["id"] == "resp_1"
    assert relay.record(stream.id)["finish_reason"] == "length"


def test_embeddings_cost_their_input(relay, mock):
    relay.create_tenant("embedder")
    key = relay.create_key("embedder", "--budget", "0.001", "--per", "total")
    case = mock.case(behaviour.json_answer({"object": "list", "data": [], "model": "m",
                                            "usage": {"prompt_tokens": 100, "total_tokens": 100}}))
    answer = relay.request("POST", "/v1/embeddings", key, body=body_of(case, "/v1/embeddings"))
    assert answer.status == 200
    assert float(relay.record(answer.headers["x-request-id"])["price_usd"]) == 0.0002


@pytest.mark.parametrize("choices", [{"n": 1}, {"n": 3}, {"n": 1, "best_of": 5}])
def test_completions_get_what_all_their_choices_can_afford(relay, mock, choices):
    """Each of the prompts gets as many, and those that the client never sees cost as much."""
    name = "afford-" + "-".join(map(str, choices.values()))
    relay.create_tenant(name)
    key = relay.create_key(name, "--budget", "0.001", "--per", "total")
    case = mock.case(behaviour.json_answer({"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": [],
                                            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}))
    relay.request("POST", "/v1/completions", key, body={"model": "test-model", "prompt": [case.prompt, "b"], **choices})
    assert case.last.json()["max_tokens"] * 2 * max(choices.values()) * config.PRICE["output"] / 1e6 <= 0.001
