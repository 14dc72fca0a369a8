"""Who may not, what is not there: the rows of the error table that need no upstream."""

import re

import pytest

from harness.relay import CHAT, bearer
from harness.wait import until
from mock import behaviour

WELL_FORMED_BUT_UNKNOWN = "sk-tg-" + "A" * 32 + "000000"


def assert_error(answer, status, kind, code, param=...):
    """The answer is an error of OpenAI's form with exactly these values."""
    assert answer.status == status, answer.body
    error = answer.error
    assert set(error) == {"message", "type", "code", "param"}
    assert (error["type"], error["code"]) == (kind, code), error
    assert isinstance(error["message"], str) and error["message"]
    if param is not ...:
        assert error["param"] == param, error
    assert answer.headers["content-type"].startswith("application/json")
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", answer.id)


@pytest.fixture(scope="module")
def body(mock):
    return mock.case(behaviour.chat()).body()


def test_no_key(relay, body):
    assert_error(relay.chat(None, body), 401, "authentication_error", "missing_api_key")


@pytest.mark.parametrize("wrong", ["x", "sk-tg-short", WELL_FORMED_BUT_UNKNOWN, "sk-" + "a" * 48, "k" * 5000])
def test_a_wrong_key(relay, body, wrong):
    answer = relay.chat(wrong, body)
    assert_error(answer, 401, "authentication_error", "invalid_api_key")
    assert wrong not in answer.error["message"]


def test_a_key_with_one_character_changed(relay, body, key):
    changed = key[:-1] + ("0" if key[-1] != "0" else "1")
    assert_error(relay.chat(changed, body), 401, "authentication_error", "invalid_api_key")


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Token x"])
def test_an_authorization_header_without_a_key(relay, body, value):
    answer = relay.request("POST", CHAT, headers={"authorization": value}, body=body)
    assert answer.status == 401
    assert answer.error["code"] in ("missing_api_key", "invalid_api_key")


def test_a_revoked_key(relay, body, fresh_tenant):
    key = relay.create_key(fresh_tenant, "--name", "gone")
    assert relay.chat(key, body).status == 200
    relay.ok("key", "revoke", key)
    assert_error(relay.chat(key, body), 401, "authentication_error", "invalid_api_key")


def test_a_disabled_key_until_it_is_enabled(relay, body, fresh_tenant):
    key = relay.create_key(fresh_tenant)
    relay.ok("key", "disable", key)
    assert_error(relay.chat(key, body), 403, "permission_error", "key_disabled")
    relay.ok("key", "enable", key)
    assert relay.chat(key, body).status == 200


def test_a_disabled_tenant_until_it_is_enabled(relay, body, fresh_tenant):
    key = relay.create_key(fresh_tenant)
    relay.ok("tenant", "disable", fresh_tenant)
    assert_error(relay.chat(key, body), 403, "permission_error", "key_disabled")
    relay.ok("tenant", "enable", fresh_tenant)
    assert relay.chat(key, body).status == 200


def test_an_expired_key(relay, body, fresh_tenant):
    key = relay.create_key(fresh_tenant, "--expires", "1s")

    def refused():
        answer = relay.chat(key, body)
        return answer if answer.status != 200 else None
    assert_error(until(refused, "the key's expiry"), 401, "authentication_error", "expired_api_key")


@pytest.mark.parametrize("second", [{"x-api-key": WELL_FORMED_BUT_UNKNOWN}, {"api-key": "other"}])
def test_several_different_credentials(relay, key, body, second):
    answer = relay.chat(key, body, second)
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"


def test_the_same_credential_twice_is_one(relay, key, body):
    assert relay.chat(key, body, {"x-api-key": key}).status == 200


def test_an_unknown_model(relay, key):
    body = {"model": "nobody", "messages": [{"role": "user", "content": "x"}]}
    answer = relay.chat(key, body)
    assert_error(answer, 404, "invalid_request_error", "model_not_found", "model")


def test_a_model_the_key_may_not_use(relay, body, fresh_tenant):
    key = relay.create_key(fresh_tenant, "--models", "other-model")
    assert_error(relay.chat(key, body), 403, "permission_error", "model_not_allowed", "model")
    assert relay.chat(key, {**body, "model": "other-model"}).status == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_a_wrong_method(relay, key, method):
    answer = relay.request(method, CHAT, key)
    assert_error(answer, 405, "invalid_request_error", "method_not_allowed")
    assert "POST" in answer.headers["allow"]


@pytest.mark.parametrize("target", ["/healthz", "/v1/models", "/v1/key"])
def test_post_where_only_get_is(relay, key, target):
    answer = relay.request("POST", target, key, body={})
    assert_error(answer, 405, "invalid_request_error", "method_not_allowed")
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize("target", ["/", "/v1", "/v1/", "/v2/models", "/v1/chat", "/v1/chat/completions/x", "/V1/models",
                                    "/admin/v1/tenants", "/metrics", "/healthz/x", "/v1/unknown", "/%00", "/v1/%2e%2e/x"])
def test_a_path_that_is_not_there(relay, key, target):
    assert_error(relay.get(target, key), 404, "invalid_request_error", "not_found")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
                                  "application/jsonx"])
def test_a_wrong_content_type(relay, key, body, kind):
    answer = relay.chat(key, body, {"content-type": kind})
    assert_error(answer, 415, "invalid_request_error", "unsupported_media_type")


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"])
def test_a_right_content_type(relay, key, body, kind):
    assert relay.chat(key, body, {"content-type": kind}).status == 200


def test_what_never_reached_an_upstream_has_no_record(relay, key):
    answer = relay.chat(key, {"model": "nobody", "messages": [{"role": "user", "content": "x"}]})
    missing = relay.cli("requests", "--id", answer.id)
    assert missing.code == 1
    assert answer.id in missing.err


def test_a_refused_request_keeps_its_connection(relay, mock, key):
    case = mock.case(behaviour.chat())
    with relay.connect() as connection:
        assert connection.request("POST", CHAT, bearer(key), {"model": "nobody", "messages": [1]}).status in (400, 404)
        assert connection.request("POST", CHAT, bearer(key), case.body()).status == 200


def test_another_relays_key_is_unknown_here(relay, own_relay, body):
    other = own_relay()
    key = other.create_key(other.create_tenant("elsewhere"))
    assert other.get("/v1/models", key).status == 200
    assert relay.get("/v1/models", key).status == 401


def test_a_new_key_works_in_every_worker_at_once(relay, fresh_tenant):
    for _ in range(5):
        key = relay.create_key(fresh_tenant)
        assert [relay.get("/v1/key", key).status for _ in range(6)] == [200] * 6
        relay.ok("key", "revoke", key)
        assert [relay.get("/v1/key", key).status for _ in range(6)] == [401] * 6
