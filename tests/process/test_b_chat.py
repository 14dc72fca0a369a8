"""A key asks for a completion and gets it: streamed or whole, counted and priced."""

from decimal import Decimal

import pytest

from harness import config, sse
from harness.relay import CHAT, cost_of
from mock import behaviour, openai

COUNTS = openai.usage(prompt=1000, completion=500, cached=200, cache_write=100, reasoning=50)
ASK = {"stream_options": {"include_usage": True}}


def test_an_answer_that_does_not_stream(relay, mock, key):
    case = mock.case(behaviour.chat("Hello", " world", counts=COUNTS))
    answer = relay.chat(key, case.body())
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.json()["choices"][0]["message"]["content"] == "Hello world"
    assert answer.headers["x-tollgate-model"] == "test-model"
    assert answer.headers["x-tollgate-upstream"] == "mock"
    assert case.last.json().get("stream") in (None, False)


def test_the_cost_of_an_answer_stands_in_a_header(relay, mock, key):
    answer = relay.chat(key, mock.case(behaviour.chat(counts=COUNTS)).body())
    record = relay.record(answer.id)
    cost = answer.headers["x-tollgate-cost-usd"]
    assert len(cost.partition(".")[2]) == 9
    assert Decimal(cost) == record["price_usd"] == cost_of(record, config.PRICE)


def test_the_body_flag_makes_a_stream(relay, mock, key):
    with relay.stream(key, mock.case(behaviour.chat("Hello", " world")).body()) as stream:
        events = stream.drain()
    assert stream.status == 200
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.headers["cache-control"] == "no-cache"
    assert stream.headers["x-accel-buffering"] == "no"
    assert stream.headers["x-tollgate-model"] == "test-model"
    assert stream.headers["x-tollgate-upstream"] == "mock"
    assert "x-tollgate-cost-usd" not in stream.headers
    assert sse.text_of(events) == "Hello world"
    assert events[-1].is_done


@pytest.mark.parametrize("body_flag", [None, False])
def test_the_query_makes_a_stream(relay, mock, key, body_flag):
    case = mock.case(behaviour.chat("Hello", " world"))
    fields = {} if body_flag is None else {"stream": body_flag}
    answer = relay.request("POST", CHAT + "?stream=true", key, body=case.body(**fields))
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert sse.text_of(sse.blocks(answer.body)) == "Hello world"
    assert case.last.json()["stream"] is True


def test_events_leave_one_by_one_as_they_arrive(relay, mock, key):
    pace = mock.pace()
    pace.release()  # the head leaves with the first event
    with relay.stream(key, mock.case(behaviour.stream("a", "b", "c", pace=pace)).body()) as stream:
        for word in "abc":
            assert sse.text_of(stream.take(1)) == word
            pace.release()
        assert stream.drain()[-1].is_done


def test_usage_is_asked_for_and_hidden(relay, mock, key):
    case = mock.case(behaviour.chat(counts=COUNTS))
    with relay.stream(key, case.body()) as stream:
        events = stream.drain()
    assert case.last.json()["stream_options"]["include_usage"] is True
    assert all(event.is_done or event.json()["choices"] for event in events)
    assert relay.record(stream.id)["input_tokens"] == 1000


def test_usage_that_was_asked_for_arrives_with_its_cost(relay, mock, key):
    with relay.stream(key, mock.case(behaviour.chat(counts=COUNTS)).body(**ASK)) as stream:
        events = stream.drain()
    usage = events[-2].json()["usage"]
    cost = Decimal(str(usage.pop("cost")))
    assert usage == COUNTS
    assert cost == relay.record(stream.id)["price_usd"]
    assert events[-1].is_done


def test_stream_options_other_than_usage_are_kept(relay, mock, key):
    case = mock.case(behaviour.chat())
    with relay.stream(key, case.body(stream_options={"include_obfuscation": False})) as stream:
        stream.drain()
    assert case.last.json()["stream_options"] == {"include_obfuscation": False, "include_usage": True}


def test_the_record_tells_everything(relay, mock, key, tenant):
    case = mock.case(behaviour.chat(counts=COUNTS))
    with relay.stream(key, case.body(user="end-user-7")) as stream:
        stream.drain()
    record = relay.record(stream.id)
    assert record["id"] == stream.id
    assert (record["tenant"], record["user"]) == (tenant, "end-user-7")
    assert record["key"].startswith("key_")
    assert (record["model"], record["model_served"], record["upstream"]) == ("test-model", "test-model", "mock")
    assert record["endpoint"] == CHAT
    assert (record["stream"], record["status"], record["finish_reason"]) == (True, 200, "stop")
    assert record["input_tokens"] == 1000 and record["output_tokens"] == 500
    assert record["cached_input_tokens"] == 200 and record["cache_write_tokens"] == 100
    assert record["reasoning_tokens"] == 50
    assert (record["estimated"], record["attempts"]) == (False, 1)
    assert record["client"].startswith("127.0.0.1")
    assert record["start"] <= record["first_byte"] <= record["end"]
    assert record["price_usd"] == cost_of(record, config.PRICE)
    assert record["cost_usd"] == cost_of(record, config.COST)
    assert record["list_usd"] == cost_of(record, config.LIST_PRICE)


def test_missing_usage_is_estimated(relay, mock, key):
    case = mock.case(behaviour.chat(*["word "] * 40, report_usage=False))
    with relay.stream(key, case.body()) as stream:
        assert stream.drain()[-1].is_done
    for record in (relay.record(stream.id), relay.record(relay.chat(key, case.body()).id)):
        assert record["estimated"] is True
        assert 20 <= record["output_tokens"] <= 80
        assert record["input_tokens"] > 0


def test_the_alias_is_served_by_its_model(relay, mock, key):
    answer = relay.chat(key, mock.case(behaviour.chat()).body("test-alias"))
    assert answer.status == 200
    record = relay.record(answer.id)
    assert (record["model"], record["model_served"]) == ("test-alias", "test-model")


def test_the_upstream_gets_its_own_names_and_credentials(relay, mock, key):
    case = mock.case(behaviour.chat())
    relay.chat(key, case.body(), {"cookie": "a=b", "x-stainless-lang": "c", "x-forwarded-for": "1.2.3.4"})
    seen = case.last
    assert seen.target == CHAT
    assert seen.json()["model"] == "provider-model"
    assert seen.header("authorization") == f"Bearer {config.UPSTREAM_KEY}"
    assert seen.header("openai-organization") == config.UPSTREAM_ORGANISATION
    assert seen.header("host") == f"127.0.0.1:{mock.port}"
    for name in ("cookie", "x-api-key", "api-key", "x-stainless-lang", "x-forwarded-for", "expect"):
        assert seen.header(name) is None, name
    assert key not in str(seen.headers)


def test_other_fields_reach_the_upstream_untouched(relay, mock, key):
    case = mock.case(behaviour.chat())
    extra = {"temperature": 0.25, "logit_bias": {"50256": -100}, "seed": 9007199254740993, "zusatz": "ä\U0001f600",
             "metadata": {"a": "b"}, "stop": ["\n", "x"], "tools": [{"type": "function", "function": {"name": "f"}}]}
    relay.chat(key, case.body(**extra))
    seen = case.last.json()
    assert {name: seen[name] for name in extra} == extra
    assert seen["messages"] == case.body()["messages"]


def test_max_tokens_above_the_models_output_is_lowered(relay, mock, key):
    case = mock.case(behaviour.chat())
    relay.chat(key, case.body(max_tokens=100000))
    assert case.last.json()["max_tokens"] == 4096


def test_tool_calls_and_unknown_events_pass(relay, mock, key):
    event = b'{"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,' \
            b'"id":"call_1","function":{"arguments":"{\\"a\\": 1}"}}]},"finish_reason":null}],"x_new":{"deep":[1,2]}}'
    data = b"data: " + event + b"\n\nevent: later\ndata: {\"choices\":[]}\n\ndata: [DONE]\n\n"
    with relay.stream(key, mock.case(behaviour.replay(data)).body()) as stream:
        stream.drain()
    assert stream.raw == data


def test_upstream_connections_are_kept(relay, mock, key):
    case = mock.case(behaviour.chat())
    with relay.connect() as connection:
        for _ in range(6):
            connection.request("POST", CHAT, {"authorization": f"Bearer {key}"}, case.body())
    assert len({exchange.connection_number for exchange in case.exchanges}) < 6


def test_private_headers_of_the_upstream_stay_behind(relay, mock, key):
    private = [("openai-organization", config.CANARY), ("set-cookie", f"a={config.CANARY}"), ("server", config.CANARY),
               ("x-ratelimit-limit-requests", "123"), ("via", config.CANARY), ("x-request-id", config.CANARY)]
    case = mock.case(behaviour.chat(headers=private))
    with relay.stream(key, case.body()) as stream:
        stream.drain()
    for headers in (relay.chat(key, case.body()).headers, stream.headers):
        assert config.CANARY not in str(headers)
        assert "x-ratelimit-limit-requests" not in headers


def test_unicode_passes_whole(relay, mock, key):
    words = ["日本", "語 ", "🎉", "é", "\u2028"]
    with relay.stream(key, mock.case(behaviour.chat(*words)).body()) as stream:
        assert sse.text_of(stream.drain()) == "".join(words)


def test_a_large_prompt_and_a_large_answer(relay, mock, key):
    case = mock.case(behaviour.chat("x" * 3_000_000))
    body = case.body("large-model")
    body["messages"].insert(0, {"role": "system", "content": "p" * 1_000_000})
    answer = relay.chat(key, body)
    assert answer.status == 200, answer.body[:300]
    assert len(answer.json()["choices"][0]["message"]["content"]) == 3_000_000
    assert len(case.last.json()["messages"][0]["content"]) == 1_000_000


def test_http_1_0_gets_answers_but_no_streams(relay, mock, key):
    case = mock.case(behaviour.chat())
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    with relay.connect() as connection:
        refused = connection.request("POST", CHAT, headers, case.body(stream=True), version="1.0")
    with relay.connect() as connection:
        served = connection.request("POST", CHAT, headers, case.body(), version="1.0")
    assert refused.status == 400
    assert served.status == 200 and case.count == 1


def test_the_demo_upstream_answers_without_a_provider(own_relay):
    relay = own_relay({"upstreams": {"demo": {"dialect": "demo"}},
                       "models": {"demo": {"price": config.PRICE, "routes": [{"upstream": "demo"}]}}})
    key = relay.create_key(relay.create_tenant("demo"))
    body = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 12}
    with relay.stream(key, {**body, **ASK}) as stream:
        events = stream.drain()
    assert sse.text_of(events)
    usage = events[-2].json()["usage"]
    record = relay.record(stream.id)
    assert (record["output_tokens"], record["input_tokens"]) == (usage["completion_tokens"], usage["prompt_tokens"])
    assert 0 < record["output_tokens"] <= 12 and record["estimated"] is False
