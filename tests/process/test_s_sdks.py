"""The official SDKs of OpenAI and Anthropic, for Python and Node, and the Vercel AI SDK with both, against the relay in front
of a provider of each dialect. tests/run makes the environments they live in; what could not be made is skipped.

The provider (mock/provider.py) really reads what it gets: it refuses what the real ones refuse, calls the tools it is offered,
and tells what it was shown."""

import json

import pytest

from harness import config
from harness.sdk import SDKS, Client
from harness.wait import stays, until
from mock import anthropic, behaviour, gemini, openai, provider

UPSTREAMS = {"gpt": "openai", "claude": "anthropic", "gemini-3": "gemini"}
PNG = ("data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
PHOTO = "https://images.example/photo.jpg"
STOPPED = {"chat": "stop", "messages": "end_turn"}


def of(*names):
    """These SDKs, as parameters: by the start of their names."""
    return [pytest.param(sdk.name, id=sdk.name) for sdk in SDKS if sdk.name.startswith(names)]


every_sdk = pytest.mark.parametrize("name", of(""))
official_sdk = pytest.mark.parametrize("name", of("openai", "anthropic"))
openai_sdk = pytest.mark.parametrize("name", of("openai"))
anthropic_sdk = pytest.mark.parametrize("name", of("anthropic"))
every_upstream = pytest.mark.parametrize("model", UPSTREAMS)


@pytest.fixture(scope="module")
def clients(tmp_path_factory):
    """clients(name): that SDK's running client, or a skip."""
    running = {}

    def get(name):
        sdk = next(sdk for sdk in SDKS if sdk.name == name)
        if reason := sdk.missing():
            pytest.skip(reason)
        if name not in running:
            running[name] = Client(sdk, tmp_path_factory.mktemp("sdk") / f"{name}.log")
        return running[name]
    yield get
    for client in running.values():
        client.stop()


@pytest.fixture(scope="module")
def served(module_relay, mock):
    """A relay with a model on an upstream of each dialect."""
    upstreams = {name: {**config.upstream(mock, name), "dialect": dialect} for name, dialect in UPSTREAMS.items()}
    models = {name: config.model({"upstream": name, "cost": config.COST}) for name in UPSTREAMS}
    relay = module_relay({"upstreams": upstreams, "models": models})
    relay.create_tenant("sdks")
    return relay


@pytest.fixture(scope="module")
def sdk_key(served):
    return served.create_key("sdks")


@pytest.fixture(scope="module")
def to(served, sdk_key):
    """Where a client goes: to(), or with another key or number of retries."""
    def make(key=None, **more):
        return {"url": f"http://127.0.0.1:{served.port}", "key": key or sdk_key, **more}
    return make


def prompt_of(case, text=""):
    return f"{text} {case.prompt}".strip()


def lines_of_log(relay, tenant):
    """The access log's lines of this tenant."""
    lines = [json.loads(line) for line in relay.stdout.splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("tenant") == tenant]


# --- what answers say ---

@official_sdk
def test_models_are_listed(clients, to, name):
    client = clients(name)
    listed = client.ask("models", to=to())
    assert {*UPSTREAMS, "test-model", "test-alias"} <= set(listed)
    assert client.ask("model", to=to(), model="claude") == "claude"
    failed = client.fail("model", to=to(), model="nobody")
    assert (failed["class"], failed["status"]) == ("NotFoundError", 404)


@anthropic_sdk
def test_models_come_in_pages(clients, to, name):
    client = clients(name)
    assert sorted(client.ask("models_paged", to=to())) == client.ask("models", to=to())


def assert_counted(served, seen, exchange):
    """The client, the provider and the ledger agree."""
    reply, record = exchange.reply, served.record(seen["id"])
    assert (seen["input"], seen["output"]) == (reply.input_tokens, reply.output_tokens)
    assert (record["input_tokens"], record["output_tokens"]) == (reply.input_tokens, reply.output_tokens)
    assert record["cached_input_tokens"] == reply.cached_tokens and record["estimated"] is False
    return record


@every_sdk
@every_upstream
@pytest.mark.parametrize("scenario", ["chat", "stream"])
def test_it_chats(clients, served, mock, to, name, model, scenario):
    client = clients(name)
    case = mock.case(provider.answer())
    seen = client.ask(scenario, to=to(), model=model, prompt=prompt_of(case, "Grüße, 世界!"))
    assert seen["text"] == f"You said: Grüße, 世界! {case.prompt}"
    assert seen["finish"] == ("stop" if name.startswith("vercel") else STOPPED[client.sdk.dialect])
    record = assert_counted(served, seen, case.last)
    assert (record["model"], record["upstream"], record["stream"], record["status"]) == (model, model, scenario == "stream", 200)
    assert record["endpoint"] == {"chat": "/v1/chat/completions", "messages": "/v1/messages"}[client.sdk.dialect]
    assert seen["cached"] == case.last.reply.cached_tokens
    if scenario == "stream":
        assert seen["pieces"] == len(case.last.reply.pieces())


@every_sdk
@every_upstream
@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
def test_an_agent_calls_its_tools_until_it_knows(clients, mock, to, name, model, streaming):
    case = mock.case(provider.answer())
    seen = clients(name).ask("loop", to=to(), model=model, prompt=prompt_of(case, "How are Oslo and Lima?"), streaming=streaming)
    assert seen["rounds"] == [[["weather", {"city": "Oslo"}], ["weather", {"city": "Lima"}]], [["clock", {}]]]
    assert seen["text"] == "Oslo is 7 degrees; Lima is 19 degrees; clock is noon."
    assert case.count == 3


@every_sdk
@every_upstream
def test_it_sends_images(clients, mock, to, name, model):
    case = mock.case(provider.answer())
    seen = clients(name).ask("see", to=to(), model=model, prompt=case.prompt, images=[PNG, PHOTO])
    assert seen == f"I see image/png of 70 bytes and {PHOTO}."


@every_sdk
@every_upstream
def test_it_gets_objects_of_a_schema(clients, mock, to, name, model):
    case = mock.case(provider.answer())
    seen = clients(name).ask("structured", to=to(), model=model, prompt=case.prompt)
    assert seen == {"name": "text", "people": 7, "districts": ["text"]}


@anthropic_sdk
@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
def test_thinking_goes_back_as_it_came(clients, mock, to, name, streaming):
    case = mock.case(provider.answer())
    seen = clients(name).ask("loop", to=to(), model="claude", prompt=prompt_of(case, "How is Cairo?"), streaming=streaming,
                             thinking={"type": "enabled", "budget_tokens": 1024})
    assert seen["text"] == "Cairo is 31 degrees; clock is noon."
    sent = case.last.json()["messages"][1]["content"][0]
    assert sent == {"type": "thinking", "thinking": provider.THOUGHT, "signature": provider.SIGNATURE}


@official_sdk
@every_upstream
@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
def test_an_agent_that_thinks(clients, mock, to, name, model, streaming):
    client = clients(name)
    thinking = {"reasoning_effort": "low"} if client.sdk.dialect == "chat" else {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    case = mock.case(provider.answer())
    seen = client.ask("loop", to=to(), model=model, prompt=prompt_of(case, "How is Cairo?"), streaming=streaming, **thinking)
    assert seen["text"] == "Cairo is 31 degrees; clock is noon." and case.count == 3
    assert case.last.reply.thought


@anthropic_sdk
@every_upstream
def test_prompts_are_counted(clients, to, name, model):
    counted = clients(name).ask("count", to=to(), model=model, prompt="word " * 100)
    assert 100 <= counted <= 150


@openai_sdk
def test_responses(clients, served, mock, to, name):
    for scenario in ("respond", "respond_stream"):
        case = mock.case(provider.answer())
        seen = clients(name).ask(scenario, to=to(), model="gpt", prompt=case.prompt)
        assert (seen["text"], seen["finish"]) == (f"You said: {case.prompt}", "completed")
        assert assert_counted(served, seen, case.last)["endpoint"] == "/v1/responses"


@openai_sdk
def test_completions(clients, served, mock, to, name):
    case = mock.case(provider.answer())
    seen = clients(name).ask("complete", to=to(), model="gpt", prompt=case.prompt)
    assert (seen["text"], seen["finish"]) == (f"You said: {case.prompt}", "stop")
    assert assert_counted(served, seen, case.last)["endpoint"] == "/v1/completions"
    assert clients(name).ask("complete_stream", to=to(), model="gpt", prompt=case.prompt) == f"You said: {case.prompt}"


@openai_sdk
def test_embeddings(clients, mock, to, name):
    case = mock.case(provider.answer())
    seen = clients(name).ask("embed", to=to(), model="gpt", prompt=case.prompt)
    assert seen["vectors"] == [[0, 0.5, -0.25], [1, 0.5, -0.25]] and case.last.json()["encoding_format"] == "base64"
    seen = clients(name).ask("embed", to=to(), model="gpt", prompt=case.prompt, encoding_format="float")
    assert seen["vectors"] == [[0, 0.5, -0.25], [1, 0.5, -0.25]] and case.last.json()["encoding_format"] == "float"


def test_many_at_once(clients, mock, to):
    case = mock.case(behaviour.chat("Hello"))
    assert clients("openai-python").ask("many", to=to(), model="test-model", prompt=case.prompt) == ["Hello"] * 10


def test_usage_comes_only_when_asked_for(clients, mock, to):
    client = clients("openai-python")
    case = mock.case(provider.answer())
    assert client.ask("stream_plainly", to=to(), model="gpt", prompt=case.prompt)["usage"] is False
    assert client.ask("stream", to=to(), model="gpt", prompt=case.prompt)["cost"] > 0


# --- leaving ---

@every_sdk
@every_upstream
def test_it_leaves_in_the_middle(clients, served, mock, to, name, model):
    case = mock.case(provider.answer(ending="stall"))
    seen = clients(name).ask("leave", to=to(), model=model, prompt=case.prompt)
    assert seen["text"].startswith("You")
    until(lambda: case.last.client_left, "the relay's hanging up")
    if seen["id"]:
        record = served.record(seen["id"])
        assert (record["finish_reason"], record["estimated"]) == ("cancelled", True) and record["output_tokens"] > 0


# --- errors ---

def assert_typed(client, failed, kind, status, code):
    """Vercel's SDK has one class for all errors of an API."""
    assert failed["status"] == status, failed
    assert failed["class"] == ("APICallError" if client.sdk.name.startswith("vercel") else kind)
    assert failed["id"], failed
    if client.sdk.dialect == "chat" and code:
        assert failed["code"] == code or client.sdk.name.startswith("vercel")


@every_sdk
def test_refusals_are_of_its_own_classes(clients, served, mock, to, name):
    client = clients(name)
    case = mock.case(provider.answer())
    asked = {"model": "gpt", "prompt": case.prompt}
    assert_typed(client, client.fail("chat", to=to("sk-tg-wrong"), **asked), "AuthenticationError", 401, "invalid_api_key")
    narrow = served.create_key("sdks", "--models", "claude")
    assert_typed(client, client.fail("chat", to=to(narrow), **asked), "PermissionDeniedError", 403, "model_not_allowed")
    failed = client.fail("chat", to=to(), model="nobody", prompt="x")
    assert_typed(client, failed, "NotFoundError", 404, "model_not_found")
    assert case.count == 0


@every_sdk
@every_upstream
@pytest.mark.parametrize(("upstream", "kind", "status", "code"), [
    (400, "BadRequestError", 400, "invalid_value"), (401, "InternalServerError", 502, None),
    (429, "RateLimitError", 429, "rate_limit_exceeded"), (500, "InternalServerError", 502, "upstream_error"),
    (503, "InternalServerError", 503, None)])
def test_a_providers_errors_are_of_its_own_classes(clients, mock, to, name, model, upstream, kind, status, code):
    client = clients(name)
    case = mock.case(behaviour.status(upstream, error_of(model, upstream)))
    scenario = "stream_error" if name.startswith("vercel") else "stream"
    for how in ("chat", scenario):
        failed = client.fail(how, to=to(), model=model, prompt=case.prompt)
        own = "ServiceUnavailableError" if name.startswith("anthropic") and status == 503 else kind
        assert_typed(client, failed, own, status, code)
        assert "canary" not in failed["message"]


def error_of(model, status):
    text = f"canary {config.UPSTREAM_KEY}"
    return {"gpt": openai.error(text), "claude": anthropic.error(text, status), "gemini-3": gemini.error(text, status)}[model]


@official_sdk
@pytest.mark.parametrize("content", [-1, "many"])
def test_a_wrong_field_is_a_bad_request(clients, to, name, content):
    failed = clients(name).fail("chat", to=to(), model="gpt", prompt="x", max_tokens=content)
    assert (failed["class"], failed["status"]) == ("BadRequestError", 400)
    assert "max_tokens" in failed["message"]


@official_sdk
@every_upstream
def test_a_stream_that_breaks_raises(clients, mock, to, name, model):
    case = mock.case(provider.answer(ending="close"))
    failed = clients(name).fail("stream", to=to(), model=model, prompt=case.prompt)
    assert failed["class"] in ("APIError", "APIStatusError", "InternalServerError") and failed["message"]


# --- their own retries ---

@pytest.mark.parametrize("status", [429, 503])
def test_they_come_back_after_a_refusal_that_passes(clients, served, mock, to, status):
    """All at once, for each waits a second."""
    wait = [("retry-after", "1")]  # longer than the relay itself waits
    asked = []
    for sdk in [sdk for sdk in SDKS if not sdk.missing()]:
        client, case = clients(sdk.name), mock.case(behaviour.sequence(behaviour.status(status, headers=wait), provider.answer()))
        client.send("chat", to=to(retries=2), model="gpt", prompt=case.prompt)
        asked.append((client, case))
    for client, case in asked:
        told = client.take()
        assert "value" in told, f"{client.sdk.name}: {told}"
        assert told["value"]["text"] == f"You said: {case.prompt}" and case.count == 2
        assert served.record(told["value"]["id"])["status"] == 200


@official_sdk
def test_it_comes_back_after_all_tries_of_the_relay(clients, served, mock, to, name):
    tries = config.base(mock)["retry"]["attempts"]
    case = mock.case(behaviour.sequence(*[behaviour.status(500)] * tries, provider.answer()))
    seen = clients(name).ask("chat", to=to(retries=2), model="gpt", prompt=case.prompt)
    assert seen["text"] == f"You said: {case.prompt}" and case.count == tries + 1
    assert served.record(seen["id"])["attempts"] == 1


@official_sdk
def test_it_waits_for_its_turn_when_the_relay_says_so(clients, served, mock, to, name):
    client = clients(name)
    tenant = served.create_tenant(f"narrow-{name}")
    key = served.create_key(tenant, "--concurrent", "1")
    pace = mock.pace()
    held, case = mock.case(behaviour.stream("a", "b", pace=pace)), mock.case(provider.answer())
    with served.stream_after(key, held, pace, 1) as stream:
        client.send("chat", to=to(key, retries=8), model="gpt", prompt=case.prompt)
        until(lambda: [line for line in lines_of_log(served, tenant) if line["status"] == 429], "the refusal")
        pace.open()
        stream.drain()
    assert client.take()["value"]["text"] == f"You said: {case.prompt}"
    assert case.count == 1


@official_sdk
def test_it_does_not_come_back_when_the_money_is_gone(clients, served, mock, to, name):
    client = clients(name)
    tenant = served.create_tenant(f"poor-{name}")
    key = served.create_key(tenant, "--budget", "0.000001", "--per", "total")
    case = mock.case(provider.answer())
    failed = client.fail("chat", to=to(key, retries=2), model="gpt", prompt=case.prompt)
    assert (failed["class"], failed["status"]) == ("RateLimitError", 429)
    assert failed["code"] == "insufficient_quota" or client.sdk.dialect == "messages"
    assert case.count == 0
    until(lambda: lines_of_log(served, tenant), "the refusal's line in the log")
    assert stays(lambda: len(lines_of_log(served, tenant)) == 1, 0.2)
