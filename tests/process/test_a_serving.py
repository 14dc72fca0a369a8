"""What is served without a completion: health, models, the key's own page, CORS, ids and headers."""

import re

import pytest

from harness.relay import CHAT, bearer
from mock import behaviour


def test_the_ready_line_names_addresses_and_workers(relay):
    line = next(line for line in relay.stdout.splitlines() if line.startswith("tollgate: ready:"))
    assert re.fullmatch(rf"tollgate: ready: http://127\.0\.0\.1:{relay.port} "
                        rf"admin http://127\.0\.0\.1:{relay.admin_port} workers 2", line)


def test_port_zero_is_shown_as_the_real_port(own_relay):
    relay = own_relay({"listen": [{"address": "127.0.0.1:0"}], "admin": {"address": "127.0.0.1:0"}})
    assert relay.port > 0 and relay.admin_port > 0
    assert [relay.get("/healthz").status for _ in range(8)] == [200] * 8


@pytest.mark.parametrize("target", ["/healthz", "/readyz"])
def test_health_needs_no_key(relay, target):
    answer = relay.get(target)
    assert answer.status == 200
    assert answer.headers["x-request-id"].startswith("req_")


def test_models_are_those_of_the_configuration(relay, key):
    body = relay.get("/v1/models", key).json()
    assert body["object"] == "list"
    models = {model["id"]: model for model in body["data"]}
    assert {"test-model", "other-model", "test-alias"} <= set(models)
    assert models["test-model"]["object"] == "model"
    assert models["test-model"]["context"] == 100000


def test_a_model_shows_prices_in_usd_per_million(relay, key):
    model = relay.get("/v1/models/test-model", key).json()
    assert model["id"] == "test-model"
    pricing = {name: float(value) for name, value in model["pricing"].items()}
    assert pricing["input"] == 2 and pricing["output"] == 8 and pricing["cached_input"] == 0.5


def test_an_unknown_model_has_no_page(relay, key):
    answer = relay.get("/v1/models/nobody", key)
    assert answer.status == 404
    assert answer.error["code"] == "model_not_found"


def test_models_are_only_those_the_key_may_use(relay, fresh_tenant):
    key = relay.create_key(fresh_tenant, "--models", "test-model")
    assert [model["id"] for model in relay.get("/v1/models", key).json()["data"]
            if model["id"] != "test-alias"] == ["test-model"]
    assert relay.get("/v1/models/other-model", key).status == 404


ANTHROPIC = {"anthropic-version": "2023-06-01"}


def listed(relay, key, query=""):
    answer = relay.get(f"/v1/models{query}", key, ANTHROPIC)
    assert answer.status == 200, answer.body
    return answer.json()


def test_models_in_anthropics_form(relay, key):
    body = listed(relay, key)
    ids = [model["id"] for model in body["data"]]
    assert ids == [model["id"] for model in relay.get("/v1/models", key).json()["data"]]
    assert (body["has_more"], body["first_id"], body["last_id"]) == (False, ids[0], ids[-1]) and "object" not in body
    model = relay.get("/v1/models/test-model", key, ANTHROPIC).json()
    assert model in body["data"] and (model["type"], model["display_name"]) == ("model", "test-model")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", model["created_at"])
    assert float(model["pricing"]["output"]) == 8 and model["context"] == 100000


def test_pages_of_models_in_anthropics_form(relay, key):
    ids = [model["id"] for model in listed(relay, key)["data"]]
    for size in (1, 2, 3, len(ids), 1000):
        seen, page = [], listed(relay, key, f"?limit={size}")
        while True:
            assert len(page["data"]) <= size
            seen += [model["id"] for model in page["data"]]
            if not page["has_more"]:
                break
            page = listed(relay, key, f"?limit={size}&after_id={page['last_id']}")
        assert seen == ids
    back = listed(relay, key, f"?limit=2&before_id={ids[-1]}")
    assert [model["id"] for model in back["data"]] == ids[-3:-1] and back["has_more"]
    assert listed(relay, key, f"?before_id={ids[1]}&limit=2")["has_more"] is False
    beyond = listed(relay, key, f"?after_id={ids[-1]}")
    assert beyond["data"] == [] and (beyond["first_id"], beyond["last_id"], beyond["has_more"]) == (None, None, False)


@pytest.mark.parametrize(("query", "param"), [
    ("limit=0", "limit"), ("limit=1001", "limit"), ("limit=-1", "limit"), ("limit=", "limit"), ("limit=1e2", "limit"),
    ("limit=99999999999999999999", "limit"), ("after_id=nobody", "after_id"), ("after_id=", "after_id"),
    ("before_id=%00", "before_id"), ("before_id=" + "x" * 300, "before_id")])
def test_pages_that_make_no_sense(relay, key, query, param):
    answer = relay.get(f"/v1/models?{query}", key, ANTHROPIC)
    assert answer.status == 400 and param in answer.json()["error"]["message"]
    assert relay.get(f"/v1/models?{query}", key).status == 200  # OpenAI's form has no pages


def test_errors_of_models_in_anthropics_form(relay, key, fresh_tenant):
    answer = relay.get("/v1/models/nobody", key, ANTHROPIC)
    assert answer.status == 404 and answer.json()["error"]["type"] == "not_found_error"
    assert answer.headers["request-id"] == answer.json()["request_id"]
    answer = relay.get("/v1/models", "sk-tg-wrong", ANTHROPIC)
    assert answer.status == 401 and answer.json()["error"]["type"] == "authentication_error"
    narrow = relay.create_key(fresh_tenant, "--models", "test-model")
    assert {model["id"] for model in listed(relay, narrow)["data"]} == {"test-model", "test-alias"}


def test_the_key_page_shows_limits_and_spend(relay, mock, fresh_tenant):
    key = relay.create_key(fresh_tenant, "--name", "mine", "--rpm", "50", "--tpm", "100000", "--concurrent", "7")
    case = mock.case(behaviour.chat())
    relay.record(relay.chat(key, case.body()).id)
    page = relay.get("/v1/key", key).json()
    assert page["name"] == "mine" and page["tenant"] == fresh_tenant
    assert re.fullmatch(r"key_\w+", page["id"])
    assert (page["limits"]["rpm"], page["limits"]["tpm"], page["limits"]["concurrent"]) == (50, 100000, 7)
    assert set(page["spend_usd"]) == {"day", "month", "total"}
    assert key not in str(page)


@pytest.mark.parametrize("name", ["x-api-key", "api-key"])
def test_the_key_may_come_in_other_headers(relay, key, name):
    assert relay.get("/v1/models", headers={name: key}).status == 200


def test_the_bearer_scheme_is_read_without_regard_to_case(relay, key):
    assert relay.get("/v1/models", headers={"authorization": f"bearer {key}"}).status == 200


def test_the_clients_request_id_is_kept(relay, key):
    answer = relay.get("/v1/models", key, {"x-request-id": "mine_-09AZ"})
    assert answer.id == "mine_-09AZ"


@pytest.mark.parametrize("bad", ["", "x" * 65, "a b", "a.b", "ä", "a\tb", '"a"'], ids=repr)
def test_an_unfit_request_id_is_replaced(relay, key, bad):
    answer = relay.get("/v1/models", key, {"x-request-id": bad})
    assert re.fullmatch(r"req_[A-Za-z0-9_-]+", answer.id)


def test_a_used_request_id_is_replaced_in_the_same_tenant(relay, mock, key):
    case = mock.case(behaviour.chat())
    headers = {"x-request-id": f"once-{case.tag}"}
    first = relay.chat(key, case.body(), headers)
    assert first.id == headers["x-request-id"]
    relay.record(first.id)
    second = relay.chat(key, case.body(), headers)
    assert second.status == 200
    assert second.id.startswith("req_")
    relay.record(second.id)


def test_request_ids_are_never_the_same(relay):
    with relay.connect() as connection:
        ids = {connection.request("GET", "/healthz").id for _ in range(50)}
    assert len(ids) == 50


def test_rate_limit_headers_are_there_with_limits(relay, mock, fresh_tenant):
    key = relay.create_key(fresh_tenant, "--rpm", "600", "--tpm", "60000")
    answer = relay.chat(key, mock.case(behaviour.chat()).body(max_tokens=10))
    assert answer.headers["x-ratelimit-limit-requests"] == "600"
    assert answer.headers["x-ratelimit-limit-tokens"] == "60000"
    assert 0 <= int(answer.headers["x-ratelimit-remaining-requests"]) < 600
    assert 0 <= int(answer.headers["x-ratelimit-remaining-tokens"]) < 60000
    for name in ("x-ratelimit-reset-requests", "x-ratelimit-reset-tokens"):
        assert re.fullmatch(r"(\d+h)?(\d+m(?!s))?(\d+(\.\d+)?s)?(\d+(\.\d+)?ms)?", answer.headers[name])


def test_rate_limit_headers_are_absent_without_limits(relay, mock, key):
    answer = relay.chat(key, mock.case(behaviour.chat()).body())
    assert not [name for name, _ in answer.headers if name.startswith("x-ratelimit")]


def test_no_header_tells_what_the_server_is_built_of(relay, mock, key):
    answer = relay.chat(key, mock.case(behaviour.chat()).body())
    assert "h2o" not in answer.headers.get("server", "")


def test_head_is_answered_like_get_without_a_body(relay):
    with relay.connect() as connection:
        assert connection.request("HEAD", "/healthz").status in (200, 405)
        assert connection.request("GET", "/healthz").status == 200


def test_a_pipelined_connection_answers_in_order(relay, mock, key):
    cases = [mock.case(behaviour.chat(f"answer {number}")) for number in range(4)]
    with relay.connect() as connection:
        for case in cases:
            connection.send("POST", CHAT, bearer(key), case.body())
        texts = [connection.answer().json()["choices"][0]["message"]["content"] for _ in cases]
    assert texts == [f"answer {number}" for number in range(4)]


class TestCors:
    """Preflight and headers, from `cors`."""

    ORIGIN = "https://app.example.com"

    @pytest.fixture(scope="class")
    def open_relay(self, module_relay):
        return module_relay({"cors": {"origins": [self.ORIGIN]}})

    @pytest.fixture(scope="class")
    def open_key(self, open_relay):
        return open_relay.create_key(open_relay.create_tenant("browser"))

    def preflight(self, relay, origin):
        return relay.request("OPTIONS", CHAT, headers={
            "origin": origin, "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type"})

    def test_preflight_of_a_listed_origin(self, open_relay):
        answer = self.preflight(open_relay, self.ORIGIN)
        assert answer.status in (200, 204)
        assert answer.headers["access-control-allow-origin"] == self.ORIGIN
        assert "POST" in answer.headers["access-control-allow-methods"]
        allowed = answer.headers["access-control-allow-headers"].lower()
        assert "authorization" in allowed and "content-type" in allowed
        assert "origin" in answer.headers["vary"].lower()

    @pytest.mark.parametrize("header", [
        "last-event-id", "x-tollgate-resume", "idempotency-key", "x-request-id", "x-api-key", "api-key", "x-timestamp", "x-signature",
        "anthropic-version", "anthropic-beta", "anthropic-dangerous-direct-browser-access", "openai-organization", "openai-project",
        "x-stainless-lang", "x-stainless-retry-count", "x-stainless-timeout", "x-stainless-helper", "x-stainless-helper-method",
        "x-stainless-poll-helper", "x-stainless-custom-poll-interval"])
    def test_headers_that_pages_and_sdks_send_are_allowed(self, open_relay, header):
        allowed = self.preflight(open_relay, self.ORIGIN).headers["access-control-allow-headers"].lower()
        assert header in [name.strip() for name in allowed.split(",")]

    @pytest.mark.parametrize("kind", ["requests", "tokens"])
    def test_the_limits_of_messages_are_exposed(self, open_relay, open_key, kind):
        exposed = open_relay.get("/v1/models", open_key, {"origin": self.ORIGIN}).headers["access-control-expose-headers"]
        names = {name.strip() for name in exposed.lower().split(",")}
        assert {f"anthropic-ratelimit-{kind}-{what}" for what in ("limit", "remaining", "reset")} <= names

    @pytest.mark.parametrize("origin", ["https://evil.example.com", "https://app.example.com.evil.org",
                                        "http://app.example.com", "null"])
    def test_other_origins_get_nothing(self, open_relay, origin):
        assert "access-control-allow-origin" not in self.preflight(open_relay, origin).headers

    def test_answers_carry_the_origin_and_expose_headers(self, open_relay, open_key, mock):
        body = mock.case(behaviour.chat()).body()
        answer = open_relay.chat(open_key, body, {"origin": self.ORIGIN})
        assert answer.headers["access-control-allow-origin"] == self.ORIGIN
        assert "x-request-id" in answer.headers["access-control-expose-headers"].lower()

    def test_errors_and_streams_carry_it_too(self, open_relay, open_key, mock):
        refused = open_relay.get("/v1/models", "wrong", {"origin": self.ORIGIN})
        assert refused.status == 401
        assert refused.headers["access-control-allow-origin"] == self.ORIGIN
        with open_relay.stream(open_key, mock.case(behaviour.chat()).body(), {"origin": self.ORIGIN}) as stream:
            stream.drain()
        assert stream.headers["access-control-allow-origin"] == self.ORIGIN

    def test_none_by_default(self, relay, key):
        answer = relay.get("/v1/models", key, {"origin": self.ORIGIN})
        assert "access-control-allow-origin" not in answer.headers
        assert "access-control-allow-origin" not in self.preflight(relay, self.ORIGIN).headers
