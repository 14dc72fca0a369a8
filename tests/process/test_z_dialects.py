"""Every dialect in, every dialect out: chat and Messages clients over OpenAI-, Anthropic- and Gemini-dialect upstreams, with
the recorded answers of real providers."""

import hashlib
import json

import pytest

from harness import config, fixtures, sse
from mock import behaviour

pytestmark = pytest.mark.skipif(not fixtures.chat_streams(), reason="the recorded fixtures are not beside the clone")

MESSAGES = "/v1/messages"
CHAT = "/v1/chat/completions"


def of(api, kind):
    return [item for item in fixtures._index() if item.entry["api"].startswith(api) and item.entry["kind"] == kind]


STREAMS = of("anthropic.", "stream") + [item for item in of("gemini.", "stream")]
GOOD_STREAMS = [item for item in STREAMS if item.ends_well and "prompt-blocked" not in item.name
                and "error" not in item.name]
BAD_STREAMS = [item for item in STREAMS if not item.ends_well or "error" in item.name]
BODIES = of("anthropic.", "json") + of("gemini.", "json")
GEMINI_BODY = next((item for item in of("gemini.", "json") if item.expected["finish_reason_openai"] == "stop"), None)
ANTHROPIC_STREAMS = [item for item in of("anthropic.", "stream") if item.ends_well]
OPENAI_STREAMS = [item for item in fixtures.chat_streams() if item.ends_well and item.expected["finish_reason_openai"]]


def named(fixture):
    return fixture.name


@pytest.fixture(scope="module")
def dialects(module_relay, mock):
    def served_by(dialect, **fields):
        return {**config.upstream(mock, dialect), "dialect": dialect, **fields}
    return module_relay({
        "upstreams": {"claude": served_by("anthropic"), "google": served_by("gemini"),
                      "gpt": served_by("openai")},
        "models": {"claude": config.model("claude"), "google": config.model("google"), "gpt": config.model("gpt"),
                   "claude-or-gpt": config.model("claude", {"upstream": "gpt", "priority": 2, "cost": config.COST})}})


@pytest.fixture(scope="module")
def client(dialects):
    dialects.create_tenant("dialects")
    return dialects.create_key("dialects")


def model_of(fixture):
    return {"anthropic": "claude", "gemini": "google"}.get(fixture.entry["api"].split(".")[0], "gpt")


def replay(mock, fixture, cut=None):
    kind = "application/json" if fixture.name.endswith(".json") else behaviour.SSE
    return mock.case(behaviour.replay(fixture.data, content_type=kind, cut_bytes=cut, cut_edges_bytes=1500))


def reframed(mock, fixture):
    """The same events with CRLF for each line end, cut inside of them."""
    data = fixture.data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return mock.case(behaviour.replay(data, cut_bytes=3, cut_edges_bytes=1500))


def ask_stream(relay, key, case, model, target):
    fields = {"max_tokens": 1000} if target == MESSAGES else {"stream_options": {"include_usage": True}}
    with relay.stream(key, case.body(model, **fields), target=target) as stream:
        stream.drain()
    assert stream.complete and stream.status == 200
    return stream


# --- what clients read ---

def read_chat(events):
    """Text, number of tool calls with whole arguments, finish reason and usage, as a chat client sees them."""
    text, calls, finish, usage = "", {}, None, None
    for event in events:
        if event.is_done:
            continue
        body = event.json()
        assert "error" not in body, body
        usage = body.get("usage") or usage
        for choice in body["choices"]:
            if choice["index"] != 0:
                continue
            text += choice["delta"].get("content") or ""
            for call in choice["delta"].get("tool_calls", []):
                whole = calls.setdefault(call["index"], {"arguments": ""})
                whole["name"] = call["function"].get("name") or whole.get("name")
                whole["id"] = call.get("id") or whole.get("id")
                whole["arguments"] += call["function"].get("arguments", "")
            finish = choice.get("finish_reason") or finish
    return text, list(calls.values()), finish, usage


def read_messages(events):
    """The same as an Anthropic client sees them; the events' order is checked as well."""
    text, calls, stop, usage, open_block = "", [], None, {}, None
    assert events[0].name == "message_start" and events[-1].name == "message_stop"
    for event in events:
        body = event.json()
        assert event.name == body["type"]
        if body["type"] == "message_start":
            usage = body["message"]["usage"]
        elif body["type"] == "content_block_start":
            assert open_block is None
            open_block = body["index"]
            if body["content_block"]["type"] == "tool_use":
                calls.append({**body["content_block"], "arguments": ""})
        elif body["type"] == "content_block_delta":
            assert body["index"] == open_block
            text += body["delta"].get("text", "")
            if body["delta"]["type"] == "input_json_delta":
                calls[-1]["arguments"] += body["delta"]["partial_json"]
        elif body["type"] == "content_block_stop":
            assert body["index"] == open_block
            open_block = None
        elif body["type"] == "message_delta":
            stop = body["delta"]["stop_reason"] or stop
            usage = {**usage, **body["usage"]}
    return text, calls, stop, usage


def assert_text(text, fixture):
    assert hashlib.sha256(text.encode()).hexdigest() == fixture.expected["concatenated_text_sha256"], text[:200]


def assert_calls(calls, fixture, cut_off=False):
    assert len(calls) == fixture.expected["tool_call_count"]
    for call in calls:
        assert call["name"] and call["id"]
        if not cut_off:
            assert isinstance(json.loads(call["arguments"] or "{}"), dict)


def assert_counts(record, fixture):
    expected = fixture.expected
    if expected["prompt_tokens"] is None:
        assert record["estimated"] is True
        return
    assert record["estimated"] is False
    assert (record["input_tokens"], record["output_tokens"]) == (expected["prompt_tokens"], expected["completion_tokens"])
    assert record["cached_input_tokens"] == (expected["cached_tokens"] or 0)
    assert record["cache_write_tokens"] == (expected["cache_write_tokens"] or 0)


STOP_REASONS = {"stop": {"end_turn", "stop_sequence"}, "length": {"max_tokens"}, "tool_calls": {"tool_use"},
                "content_filter": {"refusal"}, "function_call": {"tool_use"}}


# --- translations ---

@pytest.mark.parametrize("cut", [None, 1, 7], ids=["whole", "1-byte", "7-byte"])
@pytest.mark.parametrize("fixture", GOOD_STREAMS, ids=named)
def test_a_chat_client_reads_every_stream(dialects, mock, client, fixture, cut):
    stream = ask_stream(dialects, client, replay(mock, fixture, cut), model_of(fixture), CHAT)
    assert stream.events[-1].is_done
    text, calls, finish, usage = read_chat(stream.events)
    assert_text(text, fixture)
    assert_calls(calls, fixture, cut_off=finish == "length")
    if fixture.expected["finish_reason_openai"]:
        assert finish == fixture.expected["finish_reason_openai"]
    record = dialects.record(stream.id)
    assert_counts(record, fixture)
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (record["input_tokens"], record["output_tokens"])


@pytest.mark.parametrize("target, fixture", [
    pytest.param(target, item, id=f"{target}-{item.name}")
    for target, items in ((CHAT, GOOD_STREAMS), (MESSAGES, OPENAI_STREAMS + GOOD_STREAMS)) for item in items
    if item.name.endswith(".sse") and not (target == MESSAGES and item.entry["api"].startswith("anthropic."))])
def test_line_ends_are_all_the_same(dialects, mock, client, target, fixture):
    stream = ask_stream(dialects, client, reframed(mock, fixture), model_of(fixture), target)
    if target == CHAT:
        text, calls, finish, _ = read_chat(stream.events)
    else:
        text, calls, finish, _ = read_messages(stream.events)
    if "refusal" not in fixture.name:
        assert_text(text, fixture)
    assert_calls(calls, fixture, cut_off=finish in ("length", "max_tokens"))
    assert_counts(dialects.record(stream.id), fixture)


@pytest.mark.parametrize("fixture", OPENAI_STREAMS + [item for item in GOOD_STREAMS if "gemini" in item.entry["api"]], ids=named)
@pytest.mark.parametrize("cut", [None, 7], ids=["whole", "7-byte"])
def test_a_messages_client_reads_every_stream(dialects, mock, client, fixture, cut):
    stream = ask_stream(dialects, client, replay(mock, fixture, cut), model_of(fixture), MESSAGES)
    text, calls, stop, usage = read_messages(stream.events)
    if "refusal" not in fixture.name:  # there the refusal is the text
        assert_text(text, fixture)
    assert_calls(calls, fixture, cut_off=stop == "max_tokens")
    if fixture.expected["finish_reason_openai"]:
        assert stop in STOP_REASONS[fixture.expected["finish_reason_openai"]] or "refusal" in fixture.name
    record = dialects.record(stream.id)
    assert record["endpoint"] == MESSAGES
    total = usage["input_tokens"] + usage["cache_read_input_tokens"] + usage["cache_creation_input_tokens"]
    assert (total, usage["output_tokens"]) == (record["input_tokens"], record["output_tokens"])


@pytest.mark.parametrize("cut", [None, 1, 7], ids=["whole", "1-byte", "7-byte"])
@pytest.mark.parametrize("fixture", ANTHROPIC_STREAMS, ids=named)
def test_messages_pass_untouched_to_an_anthropic_upstream(dialects, mock, client, fixture, cut):
    case = replay(mock, fixture, cut)
    stream = ask_stream(dialects, client, case, "claude", MESSAGES)
    expected = fixture.data if fixture.data.endswith(b"\n\n") else fixture.data.rstrip(b"\n") + b"\n\n"
    assert stream.raw.rstrip(b"\n") == expected.rstrip(b"\n")
    assert_counts(dialects.record(stream.id), fixture)
    assert case.last.target == "/anthropic/v1/messages"
    assert case.last.header("x-api-key") == config.UPSTREAM_KEY and case.last.header("authorization") is None
    assert case.last.header("anthropic-version") == "2023-06-01"


@pytest.mark.parametrize("fixture", [item for item in BODIES if item.ends_well], ids=named)
def test_a_chat_client_reads_every_answer(dialects, mock, client, fixture):
    if "stream-json-array" in fixture.name:
        stream = ask_stream(dialects, client, replay(mock, fixture), "google", CHAT)
        text, calls, finish, _ = read_chat(stream.events)
        identity = stream.id
    else:
        case = mock.case(behaviour.json_answer(fixture.data))
        answer = dialects.chat(client, case.body(model_of(fixture)))
        assert answer.status == 200, answer.body
        message, finish = answer.json()["choices"][0]["message"], answer.json()["choices"][0]["finish_reason"]
        text = message["content"] or ""
        calls = [{"id": call["id"], **call["function"]} for call in message.get("tool_calls", [])]
        identity = answer.headers["x-request-id"]
    assert_text(text, fixture)
    assert_calls(calls, fixture)
    if fixture.expected["finish_reason_openai"]:
        assert finish == fixture.expected["finish_reason_openai"]
    assert_counts(dialects.record(identity), fixture)


@pytest.mark.parametrize("fixture", [item for item in of("anthropic.", "json")], ids=named)
def test_a_whole_message_passes_untouched(dialects, mock, client, fixture):
    case = mock.case(behaviour.json_answer(fixture.data))
    answer = dialects.request("POST", MESSAGES, client, body=case.body("claude", max_tokens=100))
    assert answer.status == 200 and answer.body == fixture.data
    assert_counts(dialects.record(answer.headers["request-id"]), fixture)


@pytest.mark.parametrize("fixture", BAD_STREAMS, ids=named)
@pytest.mark.parametrize("target", [CHAT, MESSAGES])
def test_a_failed_stream_ends_in_the_clients_dialect(dialects, mock, client, fixture, target):
    case = replay(mock, fixture)
    with dialects.stream(client, case.body(model_of(fixture), max_tokens=100), target=target) as stream:
        stream.drain()
    assert stream.complete
    if stream.status != 200:  # nothing had been sent
        assert stream.status == 502
    elif target == MESSAGES:
        assert stream.events[-1].name == "error" and stream.events[-1].json()["error"]["type"].endswith("_error")
        assert not any(event.name == "message_stop" for event in stream.events)
    else:
        assert "error" in stream.events[-1].json() and not any(event.is_done for event in stream.events)


# --- requests ---

def test_a_chat_request_reaches_anthropic_in_its_dialect(dialects, mock, client):
    case = mock.case(behaviour.replay(of("anthropic.", "json")[0].data, content_type="application/json"))
    tools = [{"type": "function", "function": {"name": "look", "description": "d", "parameters": {"type": "object"}}}]
    body = {"model": "claude", "max_tokens": 50, "temperature": 1.5, "stop": ["x"], "user": "u1", "tools": tools,
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": case.prompt}]}
    assert dialects.chat(client, body).status == 200
    sent = case.last.json()
    assert sent["system"] and sent["max_tokens"] == 50 and sent["temperature"] == 1 and sent["stop_sequences"] == ["x"]
    assert sent["tools"][0]["input_schema"] == {"type": "object"} and sent["metadata"]["user_id"] == "u1"
    assert [message["role"] for message in sent["messages"]] == ["user"]


def test_a_chat_request_reaches_gemini_in_its_dialect(dialects, mock, client):
    case = mock.case(behaviour.replay(of("gemini.", "stream")[0].data))
    with dialects.stream(client, case.body("google", max_tokens=50)) as stream:
        stream.drain()
    assert case.last.target == "/gemini/v1/models/google:streamGenerateContent?alt=sse"
    assert case.last.header("x-goog-api-key") == config.UPSTREAM_KEY and case.last.header("authorization") is None
    assert case.last.json()["generationConfig"]["maxOutputTokens"] == 50


def test_what_cannot_be_said_is_refused_by_name(dialects, mock, client):
    case = mock.case(behaviour.chat())
    refused = dialects.chat(client, case.body("claude", logit_bias={"50256": -100}))
    assert refused.status == 400 and refused.json()["error"]["param"] == "logit_bias"
    refused = dialects.chat(client, case.body("claude", n=2))
    assert refused.status == 400 and refused.json()["error"]["param"] == "n"
    refused = dialects.request("POST", MESSAGES, client, body=case.body(
        "gpt", max_tokens=10, tools=[{"type": "web_search_20250305", "name": "web_search"}]))
    assert refused.status == 400 and refused.json()["type"] == "error"
    assert case.count == 0


@pytest.mark.parametrize("field, value", [
    ("service_tier", "flex"), ("store", True), ("prediction", {"type": "content", "content": "a"}),
    ("audio", {"voice": "alloy", "format": "mp3"}), ("guided_regex", "a+"),
    ("verbosity", "high"), ("web_search_options", {})])
def test_what_gemini_cannot_be_told_is_refused_by_name(dialects, mock, client, field, value):
    case = mock.case(behaviour.chat())
    refused = dialects.chat(client, case.body("google", **{field: value}))
    assert refused.status == 400 and refused.json()["error"]["param"] == field and case.count == 0


def test_fields_that_change_no_answer_are_left_out_for_gemini(dialects, mock, client):
    case = replay(mock, GEMINI_BODY)
    answer = dialects.chat(client, case.body("google", user="u", store=False, service_tier="auto", metadata={"a": "b"},
                                             prompt_cache_key="k", safety_identifier="s", n=1, logprobs=False,
                                             top_logprobs=None, stream_options=None, parallel_tool_calls=True))
    assert answer.status == 200
    assert set(case.last.json()) == {"contents", "generationConfig"}


def test_top_k_reaches_the_dialect_that_has_it(dialects, mock, client):
    case = replay(mock, GEMINI_BODY)
    dialects.request("POST", MESSAGES, client, body=case.body("google", max_tokens=10, top_k=7))
    assert case.last.json()["generationConfig"]["topK"] == 7
    case = mock.case(behaviour.chat())
    dialects.request("POST", MESSAGES, client, body=case.body("gpt", max_tokens=10, top_k=7))
    assert "top_k" not in case.last.json()


def test_thinking_that_nobody_signed_goes_to_no_other_provider(dialects, mock, client):
    case = mock.case(behaviour.chat())
    said = [{"type": "thinking", "thinking": "hm", "signature": ""}, {"type": "text", "text": "a"}]
    body = case.body("gpt", max_tokens=10)
    body["messages"] += [{"role": "assistant", "content": said}, {"role": "user", "content": "go on"}]
    assert dialects.request("POST", MESSAGES, client, body=body).status == 200
    assert case.last.json()["messages"][-2] == {"role": "assistant", "content": "a"}

def test_another_route_may_have_what_one_has_not(dialects, mock, client):
    case = mock.case(behaviour.chat())
    answer = dialects.chat(client, case.body("claude-or-gpt", logit_bias={"50256": -100}))
    assert answer.status == 200 and answer.headers["x-tollgate-upstream"] == "gpt"
    assert case.count == 1


def test_errors_reach_a_messages_client_in_its_form(dialects, mock, client):
    case = mock.case(behaviour.chat())
    answer = dialects.request("POST", MESSAGES, client, body={"model": "gpt", "messages": []})
    assert answer.status == 400
    body = answer.json()
    assert body["type"] == "error" and body["error"]["type"] == "invalid_request_error" and body["request_id"]
    assert answer.headers["request-id"] == body["request_id"]
    answer = dialects.request("POST", MESSAGES, "sk-tg-wrong", body=case.body("gpt", max_tokens=1))
    assert answer.status == 401 and answer.json()["error"]["type"] == "authentication_error"
    answer = dialects.request("POST", MESSAGES, client, body=case.body("nothing", max_tokens=1))
    assert answer.status == 404 and answer.json()["error"]["type"] == "not_found_error"
    failing = mock.case(behaviour.status(529))
    answer = dialects.request("POST", MESSAGES, client, body=failing.body("gpt", max_tokens=1))
    assert answer.status == 503 and answer.json()["error"]["type"] == "overloaded_error"


def test_a_messages_stream_lives_on_pings(own_relay, mock):
    relay = own_relay({"streams": {"heartbeat": "50ms"}})
    relay.create_tenant("t")
    key = relay.create_key("t")
    pace = mock.pace()
    case = mock.case(behaviour.stream("a", "b", pace=pace))
    with relay.stream(key, case.body(max_tokens=5), target=MESSAGES) as stream:
        event = stream.take(1)[0]
        assert event.name == "ping" and event.json() == {"type": "ping"}
        pace.open()
        events = [event for event in stream.drain() if event.name != "ping"]
    assert read_messages(events)[0] == "ab"


def test_tokens_can_be_counted_without_an_upstream(dialects, mock, client):
    body = {"model": "claude", "messages": [{"role": "user", "content": "word " * 100}]}
    answer = dialects.request("POST", "/v1/messages/count_tokens", client, body=body)
    assert answer.status == 200 and 100 <= answer.json()["input_tokens"] <= 150
    answer = dialects.request("POST", "/v1/messages/count_tokens", client, body={"model": "none", "messages": []})
    assert answer.status in (400, 404) and answer.json()["type"] == "error"


def test_anthropic_s_rate_limit_headers(dialects, mock, client):
    key = dialects.create_key("dialects", "--rpm", "100", "--tpm", "100000")
    case = mock.case(behaviour.chat())
    answer = dialects.request("POST", MESSAGES, key, body=case.body("gpt", max_tokens=5))
    assert answer.status == 200 and answer.json()["type"] == "message"
    assert answer.headers["anthropic-ratelimit-requests-limit"] == "100"
    assert answer.headers["anthropic-ratelimit-requests-remaining"] == "99"
    assert answer.headers["anthropic-ratelimit-requests-reset"].endswith("Z")
    assert answer.headers["anthropic-ratelimit-tokens-limit"] == "100000"


@pytest.mark.parametrize("model", ["claude", "google"])
def test_a_budget_ends_a_translated_stream_cleanly(dialects, mock, model):
    name = f"poor-{model}"
    dialects.create_tenant(name)
    key = dialects.create_key(name, "--budget", "0.001", "--per", "total")
    if model == "claude":
        start = 'event: message_start\ndata: {"type":"message_start","message":{"id":"m","type":"message","role":"assistant","content":[],"model":"c","usage":{"input_tokens":5,"output_tokens":1}}}\n\nevent: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
        word = 'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"seven words are in this very piece "}}\n\n'
    else:
        start = ""
        word = 'data: {"candidates":[{"content":{"parts":[{"text":"seven words are in this very piece "}],"role":"model"}}]}\n\n'
    case = mock.case(behaviour.replay((start + word * 60).encode()))
    for target in (CHAT, MESSAGES):
        with dialects.stream(key, case.body(model, max_tokens=2000), target=target) as stream:
            stream.drain()
        if stream.status == 429:
            break
        if target == CHAT:
            assert stream.events[-1].is_done and read_chat(stream.events)[2] == "length"
        else:
            assert read_messages(stream.events)[2] == "max_tokens"
        record = dialects.record(stream.id)
        assert record["finish_reason"] == "length" and record["price_usd"] <= 0.001


def test_a_budget_ends_a_passed_on_message_cleanly(dialects, mock):
    dialects.create_tenant("poor-message")
    key = dialects.create_key("poor-message", "--budget", "0.001", "--per", "total")
    start = 'event: message_start\ndata: {"type":"message_start","message":{"id":"m","type":"message","role":"assistant","content":[],"model":"c","usage":{"input_tokens":5,"output_tokens":1}}}\n\nevent: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
    word = 'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"seven words are in this very piece "}}\n\n'
    case = mock.case(behaviour.replay((start + word * 60).encode()))
    with dialects.stream(key, case.body("claude", max_tokens=2000), target=MESSAGES) as stream:
        stream.drain()
    assert read_messages(stream.events)[2] == "max_tokens"
    assert dialects.record(stream.id)["finish_reason"] == "length"


@pytest.mark.parametrize("model,wrong", [("claude", b'data: {"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'),
                                         ("google", b'event: message_start\ndata: {"type":"message_start","message":{}}\n\n'),
                                         ("gpt", b'event: message_start\ndata: {"type":"message_start"\n\n')])
def test_events_of_another_dialect_are_a_named_error(dialects, mock, client, model, wrong):
    case = mock.case(behaviour.replay(wrong))
    answer = dialects.chat(client, case.body(model, stream=True))
    assert answer.status == 502
    assert answer.json()["error"]["code"] in ("upstream_invalid_response", "upstream_error")


def test_without_a_cap_a_translated_answer_gets_the_affordable_one(dialects, mock):
    """Not streaming: what the provider may write is what is held."""
    dialects.create_tenant("affordable")
    key = dialects.create_key("affordable", "--budget", "0.001", "--per", "total")
    whole = {"id": "m", "type": "message", "role": "assistant", "model": "c", "content": [{"type": "text", "text": "a"}],
             "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 5, "output_tokens": 1}}
    asked = {}
    for model, body in [("claude", whole), ("gpt", None)]:
        case = mock.case(behaviour.json_answer(body) if body else behaviour.chat())
        assert dialects.chat(key, case.body(model)).status == 200
        asked[model] = case.last.json()["max_tokens"]
    assert 0 < asked["claude"] <= 0.001 / (config.PRICE["output"] / 1e6)
    assert asked["gpt"] <= asked["claude"]


def openai_calls(*arguments, finish="tool_calls"):
    chunks = [{"index": 0, "delta": {"role": "assistant", "tool_calls": [
        {"index": index, "id": f"call_{index}", "type": "function", "function": {"name": "look", "arguments": text}}]},
        "finish_reason": None} for index, text in enumerate(arguments)] + [{"index": 0, "delta": {}, "finish_reason": finish}]
    events = [json.dumps({"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [chunk]})
              for chunk in chunks] + ["[DONE]"]
    return "".join(f"data: {event}\n\n" for event in events).encode()


@pytest.mark.parametrize("arguments", [("no JSON at all",), ("{no: json}",), ('{"a":1}', "[1, 2]"), ('{"a":', '{"b":2}')])
def test_arguments_that_are_no_json_are_a_named_error(dialects, mock, client, arguments):
    """An Anthropic client parses a call's input: a stream that carried such a one must not look complete."""
    case = mock.case(behaviour.replay(openai_calls(*arguments)))
    with dialects.stream(client, case.body("gpt", max_tokens=100), target=MESSAGES) as stream:
        stream.drain()
    assert stream.events[-1].name == "error" and stream.events[-1].json()["error"]["type"] == "api_error"
    assert not any(event.name in ("message_stop", "message_delta") for event in stream.events)
    assert dialects.record(stream.id)["status"] == 200


def test_arguments_that_the_length_cut_off_are_no_error(dialects, mock, client):
    case = mock.case(behaviour.replay(openai_calls('{"a":"b', finish="length")))
    with dialects.stream(client, case.body("gpt", max_tokens=100), target=MESSAGES) as stream:
        stream.drain()
    assert read_messages(stream.events)[2] == "max_tokens"


def test_a_large_call_is_told_whole_to_a_client_that_can_resume(dialects, mock, client):
    """Told as text, a call's arguments grow: quotes within quotes."""
    quotes = '"' * 2_500_000
    body = {"candidates": [{"content": {"role": "model", "parts": [{"functionCall": {"name": "look", "args": {"q": quotes}}}]},
                            "finishReason": "STOP", "index": 0}],
            "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 3, "totalTokenCount": 6}}
    raw = ("data: " + json.dumps(body, separators=(",", ":")) + "\n\n").encode()
    case = mock.case(behaviour.replay(raw))
    answer = dialects.chat(client, case.body("google", stream=True), {"x-tollgate-resume": "1"})
    assert json.loads(read_chat(sse.blocks(answer.body))[1][0]["arguments"]) == {"q": quotes}


FIRST = {"claude": b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","type":"message","role":"assistant","content":[],"model":"c","usage":{"input_tokens":5,"output_tokens":1}}}\n\n',
         "google": b'data: {"candidates":[{"content":{"parts":[{"text":"a"}],"role":"model"}}]}\n\n',
         "gpt": b'data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'}


@pytest.mark.parametrize("target", [CHAT, MESSAGES])
@pytest.mark.parametrize("headers", [{}, {"x-tollgate-resume": "1"}], ids=["plain", "resumable"])
@pytest.mark.parametrize("model", FIRST)
def test_an_event_without_end_ends_the_stream_in_the_clients_dialect(dialects, mock, client, model, headers, target):
    case = mock.case(behaviour.replay(FIRST[model] + b'data: {"a":"' + b"x" * (64 << 20) + b'"}\n\n'))
    with dialects.stream(client, case.body(model, max_tokens=100), headers, target=target) as stream:
        stream.drain()
    if stream.status != 200:  # that a message starts is no news to a chat client
        assert (model, target, stream.status) == ("claude", CHAT, 502)
        return
    assert stream.complete and len(stream.events) >= 2 and not any(event.is_done for event in stream.events)
    error = stream.events[-1].json()["error"]
    if target == MESSAGES:
        assert stream.events[-1].name == "error" and error["type"] == "api_error"
    else:
        assert error["code"] == "upstream_invalid_response"
    assert dialects.record(stream.id)["output_tokens"] > 0


def test_a_resumed_messages_stream_fails_in_its_own_dialect(dialects, mock, client):
    pace = mock.pace()
    case = mock.case(behaviour.stream("a", "b", "c", pace=pace, ending="reset"))
    pace.release(2)
    resumable = {"x-tollgate-resume": "1"}
    with dialects.stream(client, case.body("gpt", max_tokens=50), resumable, target=MESSAGES) as stream:
        first = stream.take(3)[-1]
        pace.open()
        stream.drain()
    again = dialects.get(f"/v1/streams/{stream.id}", client, {"last-event-id": first.id})
    events = sse.blocks(again.body)
    assert [event.data for event in events] == [event.data for event in stream.events[3:]]
    assert events[-1].name == "error"


def test_a_repeated_message_keeps_its_dialect(dialects, mock, client):
    case, headers = mock.case(behaviour.chat("a", "b")), {"idempotency-key": "message-1"}
    body = case.body("gpt", max_tokens=5)
    first, again = (dialects.request("POST", MESSAGES, client, headers, body) for _ in range(2))
    assert first.status == 200 and first.body == again.body and case.count == 1
    for target in (MESSAGES + "?stream=true", CHAT):
        other = dialects.request("POST", target, client, headers, body)
        assert other.status == 409 and case.count == 1
        assert other.json().get("type") == ("error" if target != CHAT else None)


def test_anthropics_headers_go_to_anthropic_alone(dialects, mock, client):
    whole = {"id": "m", "type": "message", "role": "assistant", "model": "c", "content": [{"type": "text", "text": "a"}],
             "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 5, "output_tokens": 1}}
    headers = {"anthropic-beta": "a,b", "anthropic-version": "2023-01-01"}
    for model, expected in (("claude", headers), ("gpt", dict.fromkeys(headers))):
        case = mock.case(behaviour.json_answer(whole) if model == "claude" else behaviour.chat())
        assert dialects.request("POST", MESSAGES, client, headers, case.body(model, max_tokens=5)).status == 200
        assert {name: case.last.header(name) for name in headers} == expected


OVERLOADED = FIRST["claude"] + b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'


def test_a_message_that_only_started_leaves_other_routes_open(dialects, mock, client):
    """Anthropic's overload comes behind message_start, of which a chat client has heard nothing."""
    async def answer(exchange):
        at_claude = exchange.target.startswith("/anthropic/")
        await (behaviour.replay(OVERLOADED) if at_claude else behaviour.stream("a", "b"))(exchange)
    case = mock.case(answer)
    with dialects.stream(client, case.body("claude-or-gpt", max_tokens=10)) as stream:
        stream.drain()
    assert stream.status == 200 and sse.text_of(stream.events) == "ab" and stream.events[-1].is_done
    assert stream.headers["x-tollgate-upstream"] == "gpt" and dialects.record(stream.id)["attempts"] == 2


def test_a_message_that_only_started_costs_nobody_anything(dialects, mock, client):
    case = mock.case(behaviour.replay(OVERLOADED))
    answer = dialects.chat(client, case.body("claude", stream=True))
    assert answer.status == 502
    assert dialects.record(answer.id)["price_usd"] == 0
    with dialects.stream(client, case.body("claude", max_tokens=5), target=MESSAGES) as stream:
        stream.drain()
    assert [event.name for event in stream.events] == ["message_start", "error"]
