"""The admin address: who may, the API beside the command line, reports, metrics, the console, and a loop that never waits."""

import json
import os
import re
import signal
import time
from decimal import Decimal

import pytest

from harness import config
from harness.http1 import Http1
from harness.relay import bearer
from harness.wait import SLOWNESS, until
from mock import behaviour

JSON = {"content-type": "application/json"}
COUNTS = {"prompt_tokens": 1_000_000, "completion_tokens": 500_000, "total_tokens": 1_500_000}
DAY_S = 86400


class Admin:
    """One client of a relay's admin address."""

    def __init__(self, relay, token=config.ADMIN_TOKEN):
        self.relay, self.token = relay, token

    def ask(self, method, target, body=None, headers=(), token=None):
        with Http1(self.relay.admin_port) as connection:
            return connection.request(method, target, bearer(token or self.token, headers), body)

    def ok(self, method, target, body=None, status=200):
        answer = self.ask(method, target, body)
        assert answer.status == status, (method, target, answer.body)
        return json.loads(answer.body, parse_float=Decimal)

    def get(self, target):
        return self.ok("GET", target)

    def post(self, target, body=None, status=201):
        return self.ok("POST", target, body, status)

    def metrics(self):
        """Samples by their name with labels."""
        answer = self.ask("GET", "/metrics")
        assert answer.status == 200 and answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        lines = [line for line in answer.body.decode().splitlines() if line and not line.startswith("#")]
        return {name: Decimal(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


@pytest.fixture(scope="module")
def place(module_relay):
    return Admin(module_relay())


# --- who may ---

GUARDED = ["/admin/v1/tenants", "/admin/v1/status", "/admin/v1/usage", "/metrics", "/v1/organization/costs", "/nothing/here"]


@pytest.mark.parametrize("target", GUARDED)
def test_every_path_wants_the_token(place, target):
    with Http1(place.relay.admin_port) as connection:
        answer = connection.request("GET", target)
    assert (answer.status, answer.error["code"]) == (401, "missing_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"
    for wrong in ("x", config.ADMIN_TOKEN[:-1], config.ADMIN_TOKEN + "x", config.UPSTREAM_KEY):
        answer = place.ask("GET", target, token=wrong)
        assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize("target", ["/", "/console.css", "/console.js", "/playground", "/playground.js", "/playground.json", "/healthz"])
def test_the_page_and_health_do_not(place, target):
    with Http1(place.relay.admin_port) as connection:
        assert connection.request("GET", target).status == 200


def test_without_a_token_foreign_pages_get_nothing(own_relay):
    relay = own_relay({"admin": {"token": None}})
    own = f"127.0.0.1:{relay.admin_port}"

    def ask(target, **headers):
        lines = "".join(f"{name}: {value}\r\n" for name, value in {"host": own, **headers}.items())
        with Http1(relay.admin_port) as connection:
            connection.send_raw(f"GET {target} HTTP/1.1\r\n{lines}\r\n".encode())
            return connection.answer().status

    for target in ("/", "/admin/v1/tenants"):
        assert ask(target) == ask(target, origin=f"http://{own}") == ask(target, host="localhost") == 200
        assert ask(target, host="rebound.example") == ask(target, host=f"rebound.example:{relay.admin_port}") == 403
        assert ask(target, origin="http://evil.example") == ask(target, origin="null") == 403
    assert ask("/healthz", host="anything.example") == 200


def test_every_answer_is_kept_by_nobody(place):
    for method, target in (("GET", "/admin/v1/status"), ("GET", "/nothing"), ("PUT", "/admin/v1/tenants"), ("GET", "/")):
        assert place.ask(method, target).headers["cache-control"] == "no-store"


# --- HTTP ---

@pytest.mark.parametrize(("method", "target", "body", "headers", "status", "code"), [
    ("GET", "/admin/v1/nothing", None, {}, 404, "not_found"),
    ("GET", "/admin/v1/tenants/a/b", None, {}, 404, "not_found"),
    ("PUT", "/admin/v1/tenants", None, {}, 405, "method_not_allowed"),
    ("OPTIONS", "/admin/v1/tenants", None, {}, 405, "method_not_allowed"),
    ("POST", "/admin/v1/tenants", b'{"name":"x"}', {}, 415, "unsupported_media_type"),
    ("POST", "/admin/v1/tenants", b'{"name":"x"}', {"content-type": "text/plain"}, 415, "unsupported_media_type"),
    ("POST", "/admin/v1/tenants", b'{"name":', JSON, 400, "invalid_json"),
    ("POST", "/admin/v1/tenants", b'["name"]', JSON, 400, "invalid_json"),
    ("POST", "/admin/v1/tenants", b"", JSON, 400, "invalid_value"),
    ("POST", "/admin/v1/tenants", b'{"op":"verify"}', JSON, 400, "invalid_value"),
    ("POST", "/admin/v1/tenants", b'{"name":"a","name":"b"}', JSON, 400, "invalid_value"),
    ("POST", "/admin/v1/tenants", b"[" * 5000, JSON, 400, "invalid_json"),
    ("POST", "/admin/v1/tenants", b" " * ((1 << 20) + 1), JSON, 413, "body_too_large"),
    ("GET", "/admin/v1/tenants?limit=0", None, {}, 400, "invalid_value"),
    ("GET", "/admin/v1/tenants?limits=1", None, {}, 400, "invalid_value"),
    ("GET", "/admin/v1/tenants?limit=%zz", None, {}, 400, "invalid_value"),
    ("GET", "/admin/v1/usage?by=colour", None, {}, 400, "invalid_value"),
    ("GET", "/admin/v1/usage?from=someday", None, {}, 400, "invalid_value"),
    ("GET", "/admin/v1/usage?from=2026-02-01&to=2026-01-01", None, {}, 400, "invalid_value"),
    ("GET", "/admin/v1/usage?tag=team", None, {}, 400, "invalid_value"),
    ("GET", "/admin/v1/usage?key=key_nobody", None, {}, 404, "not_found"),
    ("GET", "/admin/v1/requests?after=req_nobody", None, {}, 400, "invalid_value"),
    ("GET", "/admin/v1/requests/req_nobody", None, {}, 404, "not_found"),
    ("GET", "/admin/v1/credits", None, {}, 400, "invalid_value"),
    ("GET", "/v1/organization/usage/completions", None, {}, 400, "invalid_value"),
    ("GET", "/v1/organization/costs?start_time=1&bucket_width=1h", None, {}, 400, "invalid_value"),
])
def test_what_is_refused(place, method, target, body, headers, status, code):
    answer = place.ask(method, target, body, headers)
    assert (answer.status, answer.error["code"]) == (status, code), answer.body
    assert set(answer.error) == {"message", "type", "code", "param"}


def test_a_refusal_names_the_field(place):
    for body, field in (({"name": "bad name"}, "name"), ({"name": "x", "rpm": 0}, "rpm"), ({"nam": "x"}, "nam"),
                        ({"name": "x", "tier": "none"}, "tier")):
        assert place.ask("POST", "/admin/v1/tenants", body).error["param"] == field
    assert place.ask("GET", "/admin/v1/usage?bye=day").error["param"] == "bye"


def test_head_has_no_body_and_a_connection_serves_many(place):
    with Http1(place.relay.admin_port) as connection:
        for _ in range(3):
            head = connection.request("HEAD", "/admin/v1/status", bearer(config.ADMIN_TOKEN))
            assert head.status == 200 and int(head.headers["content-length"]) > 0
            assert connection.request("GET", "/admin/v1/status", bearer(config.ADMIN_TOKEN)).json()["version"]


def test_http2_is_not_spoken(place):
    with Http1(place.relay.admin_port) as connection:
        connection.send("GET", "/healthz", {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": ""})
        assert connection.answer().status == 200


# --- tenants, keys, credit, prices ---

def test_a_tenant_from_creation_to_the_end(place):
    made = place.post("/admin/v1/tenants", {"name": "acme", "rpm": 100, "budget": "12.5", "per": "day"})
    assert (made["name"], made["rpm"], made["budgets"]["day"]) == ("acme", 100, Decimal("12.5"))
    assert place.get("/admin/v1/tenants/acme") == made == place.relay.json("tenant", "show", "acme")
    assert place.ask("POST", "/admin/v1/tenants", {"name": "acme"}).status == 409
    changed = place.ok("PATCH", "/admin/v1/tenants/acme", {"rpm": None, "markup": 1.2})
    assert changed["rpm"] is None and changed["markup"] == Decimal("1.2")
    assert place.ask("PATCH", "/admin/v1/tenants/acme", {"name": "other"}).error["param"] == "name"
    assert place.ok("DELETE", "/admin/v1/tenants/acme")["state"] == "disabled"
    assert place.ok("POST", "/admin/v1/tenants/acme/enable")["state"] == "active"
    assert place.ask("GET", "/admin/v1/tenants/nobody").status == 404


def test_a_key_holds_in_every_worker_when_its_creation_is_answered(place, mock):
    place.post("/admin/v1/tenants", {"name": "keyed"})
    made = place.post("/admin/v1/keys", {"tenant": "keyed", "name": "first", "tags": {"team": "red"}})
    secret, path = made.pop("secret"), f"/admin/v1/keys/{made['id']}"
    assert place.get(path) == made
    assert secret not in json.dumps(place.get("/admin/v1/keys"), default=str)

    def statuses(key):
        case = mock.case(behaviour.chat())
        return {place.relay.chat(key, case.body()).status for _ in range(6)}

    assert statuses(secret) == {200}
    rotated = place.post(f"{path}/rotate", {"grace": "1h"}, status=200)
    assert statuses(secret) == statuses(rotated["secret"]) == {200}
    assert place.post(f"{path}/disable", status=200)["state"] == "disabled"
    assert statuses(secret) == {403}
    place.post(f"{path}/enable", status=200)
    assert place.ok("DELETE", path)["state"] == "revoked"
    assert statuses(secret) == statuses(rotated["secret"]) == {401}
    assert place.ask("POST", f"{path}/enable").status in (400, 409)


@pytest.mark.parametrize(("what", "naming"), [("tenants", "name"), ("keys", "id")])
def test_lists_come_in_pages(place, what, naming):
    place.post("/admin/v1/tenants", {"name": f"pages-{what}"})
    for number in range(5):
        place.post(f"/admin/v1/{what}", {"name": f"{what}-{number}", **({"tenant": f"pages-{what}"} if what == "keys" else {})})
    whole = [row[naming] for row in place.get(f"/admin/v1/{what}?limit=1000")["data"]]
    seen, after = [], ""
    while after is not None:
        page = place.get(f"/admin/v1/{what}?limit=2{after and '&after=' + after}")
        assert page["object"] == "list" and 1 <= len(page["data"]) <= 2 and page["has_more"] == (page["next_after"] is not None)
        seen += [row[naming] for row in page["data"]]
        after = page["next_after"]
    assert seen == whole and len(seen) >= 5


def test_credit_is_booked_once(place):
    place.post("/admin/v1/tenants", {"name": "prepaid"})
    bill = {"tenant": "prepaid", "usd": 5, "ref": "bill-1"}
    assert place.post("/admin/v1/credits", bill)["credit_usd"] == 5
    assert place.post("/admin/v1/credits", bill, status=200)["applied"] is False
    assert place.ask("POST", "/admin/v1/credits", {**bill, "usd": 6}).status == 409
    place.post("/admin/v1/credits", {**bill, "ref": "bill-2"})
    first = place.get("/admin/v1/credits?tenant=prepaid&limit=1")
    second = place.get(f"/admin/v1/credits/prepaid?after={first['next_after']}")
    assert [row["ref"] for row in first["data"] + second["data"]] == ["bill-1", "bill-2"] and not second["has_more"]


def test_prices_are_set_and_imported(place):
    assert place.post("/admin/v1/prices", {"model": "other-model", "input": "1.5", "output": 6})["input"] == Decimal("1.5")
    text = "model,input,output,cached_input,cache_write,from\nimpatient-model,1,2,,,2026-01-01\n"
    assert place.post("/admin/v1/prices/import", {"csv": text}, status=200)["imported"] == 1
    rows = {row["model"]: row for row in place.get("/admin/v1/prices")["data"] if row["source"] == "book"}
    assert rows["other-model"]["output"] == 6 and rows["impatient-model"]["input"] == 1


# --- reports and metrics ---

@pytest.fixture(scope="module")
def told(module_relay, mock):
    """A relay with a little history: three good requests, one of them streamed, and one that failed."""
    admin = Admin(module_relay())
    admin.keys = {}
    for tenant, team in (("acme", "red"), ("zeta", "blue")):
        admin.post("/admin/v1/tenants", {"name": tenant})
        admin.keys[tenant] = admin.post("/admin/v1/keys", {"tenant": tenant, "name": f"{tenant}-key", "tags": {"team": team}})
    case = mock.case(behaviour.chat(counts=COUNTS))
    secrets = {tenant: key["secret"] for tenant, key in admin.keys.items()}
    streamed, refused = mock.case(behaviour.stream(counts=COUNTS)), mock.case(behaviour.status(400))
    admin.ids = []
    for tenant, body in (("acme", case.body()), ("acme", case.body("other-model")), ("zeta", streamed.body(stream=True)),
                         ("zeta", refused.body())):
        admin.ids.append(admin.relay.chat(secrets[tenant], body).id)
        admin.relay.record(admin.ids[-1])  # or two workers may end them in the other order
    return admin


@pytest.mark.parametrize("by", ["day", "tenant", "day,model", "key,upstream", "tag:team"])
def test_usage_is_what_the_command_line_prints(told, by):
    mine, theirs = told.get(f"/admin/v1/usage?by={by}"), told.relay.json("usage", "--by", by)
    assert {**mine, "to": None} == {**theirs, "to": None}
    assert mine["object"] == "usage" and mine["by"] == by.split(",")


@pytest.mark.parametrize(("fields", "count"), [
    ("tenant=acme", 2), ("model=test-model", 3), ("model=test-alias", 3), ("upstream=mock", 4), ("tag=team%3Dblue", 2),
    ("key=acme-key", 2), ("tenant=nobody", 0), ("from=1h", 4), ("to=1h", 0), ("from=2026-01-01T00:00:00%2B01:00", 4)])
def test_filters(told, fields, count):
    assert told.get(f"/admin/v1/usage?{fields}")["total"]["requests"] == count
    assert len(told.get(f"/admin/v1/requests?{fields}")["data"]) == count


def test_requests_in_pages_and_one_by_one(told):
    first = told.get("/admin/v1/requests?limit=3")
    second = told.get(f"/admin/v1/requests?limit=3&after={first['next_after']}")
    assert [row["id"] for row in first["data"] + second["data"]] == told.ids[::-1]
    assert first["has_more"] and not second["has_more"] and second["next_after"] is None
    assert told.get(f"/admin/v1/requests?after={told.ids[1]}")["data"] == second["data"]
    assert told.get(f"/admin/v1/requests/{told.ids[0]}") == told.relay.record(told.ids[0])
    assert [row["id"] for row in told.get(f"/admin/v1/requests?id={told.ids[0]}")["data"]] == told.ids[:1]


def test_status_is_what_the_command_line_prints(told):
    mine, theirs = told.get("/admin/v1/status"), told.relay.status()
    assert set(mine) == set(theirs)
    for name in ("version", "master", "admin", "upstreams"):
        assert mine[name] == theirs[name]
    assert [set(worker) for worker in mine["workers"]] == [set(worker) for worker in theirs["workers"]]


def buckets(told, path, fields):
    """All results with their bucket's start, over all pages."""
    found, page = [], ""
    while page is not None:
        answer = told.get(f"/v1/organization/{path}?start_time={int(time.time()) - 3 * DAY_S}&{fields}{page and '&page=' + page}")
        assert answer["object"] == "page" and answer["has_more"] == (answer["next_page"] is not None)
        for bucket in answer["data"]:
            assert bucket["object"] == "bucket" and bucket["start_time"] < bucket["end_time"]
            found += [(bucket["start_time"], result) for result in bucket["results"]]
        page = answer["next_page"]
    return found


@pytest.mark.parametrize("width", ["1d", "1h", "1m&limit=1440"])
def test_openai_usage(told, width):
    results = [result for _, result in buckets(told, "usage/completions", f"bucket_width={width}")]
    assert sum(result["num_model_requests"] for result in results) == 4
    assert sum(result["input_tokens"] for result in results) == 3_000_000
    assert sum(result["output_tokens"] for result in results) == 1_500_000
    assert all(result["project_id"] is result["model"] is result["api_key_id"] is None for result in results)


def test_openai_usage_in_groups(told):
    results = buckets(told, "usage/completions", "limit=1&group_by=project_id&group_by=model&group_by=api_key_id")
    found = sorted((row["project_id"], row["model"], row["api_key_id"], row["num_model_requests"]) for _, row in results)
    acme, zeta = told.keys["acme"]["id"], told.keys["zeta"]["id"]
    assert found == [("acme", "other-model", acme, 1), ("acme", "test-model", acme, 1), ("zeta", "test-model", zeta, 2)]
    only = buckets(told, "usage/completions", f"project_ids=acme&api_key_ids[]={acme}&models=other-model")
    assert [row["num_model_requests"] for _, row in only] == [1]


def test_openai_costs(told):
    results = [row for _, row in buckets(told, "costs", "group_by=project_id")]
    total = told.get("/admin/v1/usage")["total"]
    assert {row["project_id"] for row in results} == {"acme", "zeta"}
    assert sum(row["amount"]["value"] for row in results) == total["cost_usd"] == 9
    assert sum(row["price"]["value"] for row in results) == total["price_usd"] == 18


def test_metrics_equal_the_reports(told):
    def total():
        samples = told.metrics()
        counted = sum(value for name, value in samples.items() if name.startswith("tollgate_requests_total{"))
        return samples if counted == 4 else None

    samples = until(total, "all requests in the metrics")
    labels = 'tenant="zeta",model="test-model",upstream="mock"'
    assert samples[f'tollgate_requests_total{{{labels},code="200"}}'] == samples[f'tollgate_requests_total{{{labels},code="400"}}'] == 1
    assert samples['tollgate_tokens_total{tenant="acme",model="test-model",type="output"}'] == 500_000
    assert (samples["tollgate_price_usd_total"], samples["tollgate_cost_usd_total"]) == (18, 9)
    assert samples["tollgate_streams_active"] == samples["tollgate_ledger_lag_records"] == 0
    assert samples["tollgate_worker_restarts_total"] == 0
    for name in ("tollgate_time_to_first_token_seconds", "tollgate_relay_overhead_seconds"):
        assert samples[f'{name}_bucket{{le="+Inf"}}'] == samples[f"{name}_count"] > 0 and samples[f"{name}_sum"] > 0
    for reason in ("requests", "tokens", "concurrent", "budget"):
        assert samples[f'tollgate_limited_total{{reason="{reason}"}}'] == 0
    assert samples['tollgate_upstream_errors_total{upstream="mock",kind="connect"}'] == 0


def test_metrics_are_well_formed(told):
    families = set()
    for line in told.ask("GET", "/metrics").body.decode().splitlines():
        if line.startswith("# TYPE "):
            name = line.split()[2]
            assert name not in families, f"{name} stands twice"
            families.add(name)
        elif not line.startswith("#"):
            found = re.fullmatch(r'(tollgate_\w+)(\{(\w+="([^"\\\n]|\\.)*",?)+\})? [0-9.]+', line)
            assert found, line
            assert found[1] in families or re.sub("_(bucket|sum|count)$", "", found[1]) in families, line


# --- the console ---

@pytest.mark.parametrize(("target", "files"), [("/", {"/console.css", "/console.js", "/playground"}),
                                               ("/playground", {"/console.css", "/playground.js", "/playground"})])
def test_the_pages_need_nothing_else(place, target, files):
    page = place.ask("GET", target).body.decode()
    assert page.startswith("<!doctype html>") and '<html lang="en">' in page
    assert set(re.findall(r'(?:src|href)="([^"#]+)"', page)) - files == set(re.findall(r'href="(data:[^"]+)"', page))
    assert "style=" not in page and not re.search(r"\son\w+=", page) and "<script>" not in page
    for file in files - {"/playground"}:
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", place.ask("GET", file).body.decode())
    policy = place.ask("GET", target).headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy


def test_only_the_playground_may_ask_other_origins(place):
    policies = {target: place.ask("GET", target).headers["content-security-policy"] for target in ("/", "/playground")}
    assert "connect-src 'self';" in policies["/"]
    assert "connect-src http: https: ws: wss:;" in policies["/playground"]


def test_the_playground_learns_where_the_relay_listens(place):
    listen = place.get("/playground.json")["listen"]
    assert listen == [{"host": "127.0.0.1", "port": place.relay.port, "tls": False}]


# --- invariant I6: the admin loop waits for nobody ---

def test_a_stopped_ledger_stops_only_what_needs_it(own_relay):
    admin = Admin(own_relay())
    admin.post("/admin/v1/tenants", {"name": "before"})
    ledger = admin.get("/admin/v1/status")["ledger"]["pid"]
    os.kill(ledger, signal.SIGSTOP)
    try:
        with Http1(admin.relay.admin_port) as waiting, Http1(admin.relay.admin_port) as queued:
            waiting.sock.settimeout(40 * SLOWNESS)
            queued.sock.settimeout(40 * SLOWNESS)
            waiting.send("GET", "/admin/v1/tenants", bearer(config.ADMIN_TOKEN))
            queued.send("POST", "/admin/v1/tenants", bearer(config.ADMIN_TOKEN), {"name": "too-late"})
            for _ in range(5):
                began = time.monotonic()
                assert admin.ask("GET", "/admin/v1/status").status == 200
                assert admin.ask("GET", "/metrics").status == 200
                assert time.monotonic() - began < 2 * SLOWNESS
            for connection in (waiting, queued):
                answer = connection.answer()
                assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    finally:
        os.kill(ledger, signal.SIGCONT)
    names = until(lambda: [row["name"] for row in admin.get("/admin/v1/tenants")["data"]], "the ledger's answer")
    assert "before" in names


def test_a_killed_ledger_is_waited_for(own_relay):
    admin = Admin(own_relay())
    admin.post("/admin/v1/tenants", {"name": "before"})
    os.kill(admin.get("/admin/v1/status")["ledger"]["pid"], signal.SIGKILL)
    until(lambda: admin.ask("GET", "/admin/v1/tenants").status == 200, "an answer of the new ledger")
    assert admin.get("/admin/v1/usage")["total"]["requests"] == 0


def test_clients_that_leave_or_dawdle_hold_up_nobody(place):
    idle = [Http1(place.relay.admin_port) for _ in range(20)]
    for connection in idle[:10]:
        connection.send("GET", "/admin/v1/requests", bearer(config.ADMIN_TOKEN))
        connection.reset()
    for connection in idle[10:]:
        connection.send_raw(b"POST /admin/v1/tenants HTTP/1.1\r\ncontent-length: 100\r\n\r\n{")
    assert place.ask("GET", "/admin/v1/tenants").status == 200
    for connection in idle[10:]:
        connection.close()


def test_a_stop_ends_the_request_in_hand_first(own_relay):
    admin = Admin(own_relay())
    ledger = admin.get("/admin/v1/status")
    with Http1(admin.relay.admin_port) as connection:
        connection.send("GET", "/admin/v1/usage", bearer(config.ADMIN_TOKEN))
        os.kill(ledger["admin"]["pid"], signal.SIGTERM)
        assert connection.answer().status == 200
    until(lambda: admin.relay.status()["admin"]["pid"] != ledger["admin"]["pid"], "another admin process")


def test_no_token_and_no_key_reaches_the_log(place):
    place.post("/admin/v1/tenants", {"name": "logged"})
    secret = place.post("/admin/v1/keys", {"tenant": "logged"})["secret"]
    place.ask("GET", f"/admin/v1/keys/{secret}")
    place.ask("GET", "/admin/v1/status", token="guess-canary-Qm18kZ")
    output = place.relay.all_output()
    assert "admin_change" in output
    assert config.ADMIN_TOKEN not in output and secret not in output and "guess-canary" not in output
