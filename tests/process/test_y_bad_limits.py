"""Limits that make no sense: the command line, the admin API and the configuration each name the field, and change
nothing."""

import json
from decimal import Decimal

import pytest

from harness import config, http1

# field, value as JSON, whether a key takes it too
ALIKE = [
    *[(field, value, True) for field in ("rpm", "tpm", "concurrent")
      for value in ("0", "-1", "1.5", "1e3", "99999999999999999999", '"many"', "true", "[5]", '""')],
    ("rpm", "1000000001", True), ("tpm", "1000000000001", True), ("concurrent", "1000001", True),
    *[("budget", value, True) for value in ("0", "-5", "1e308", '"x"', "99999999999999999999", "1000000001", "0.0000000001")],
    ("tier", '"no-such-tier"', False), ("tier", "5", False), ("tier", '"a b"', False),
    *[("markup", value, False) for value in ("-1", "1001", '"x"', "1e9")],
    *[("credit", value, False) for value in ("-1", '"x"', "1e30")],
]
KEYS_ONLY = [
    ("models", '["no-such-model"]'), ("models", '["test-model", "no-such-model"]'), ("models", "[]"), ("models", '"test-model"'),
    ("models", "[5]"), ("models", "{}"), ("allow_ip", '["10.0.0.0/33"]'), ("allow_ip", '["nowhere"]'), ("allow_ip", "[]"),
    ("allow_ip", '["::1/129"]'), ("expires", '"2001-01-01"'), ("expires", '"soon"'), ("expires", "5"),
    ("require_signature", '"yes"'), ("tags", "[]"), ("tags", '{"a b": "c"}'), ("tags", '{"a": 5}'),
]
CONTRADICTORY = [
    ('"budget": 5', "per"), ('"per": "day"', "budget"), ('"budget": 5, "per": "year"', "per"),
    ('"rpm": 5, "rpm": 6', "rpm"), ('"budget": 5, "budget": 6, "per": "day"', "budget"), ('"no_such": 5', "no_such"),
]


@pytest.fixture(scope="module")
def place(module_relay):
    relay = module_relay()
    relay.create_tenant("steady", "--rpm", "77", "--budget", "5", "--per", "day", "--markup", "1.5")
    relay.create_key("steady", "--name", "steady-key", "--rpm", "33", "--models", "test-model")
    relay.before = (relay.json("tenant", "show", "steady"), relay.json("key", "show", "steady-key"))
    return relay


def unchanged(relay):
    return relay.before == (relay.json("tenant", "show", "steady"), relay.json("key", "show", "steady-key"))


def call(relay, method, target, body):
    with http1.Http1(relay.admin_port) as connection:
        headers = {"authorization": f"Bearer {config.ADMIN_TOKEN}", "content-type": "application/json"}
        return connection.request(method, target, headers, body.encode())


def members(field, value):
    return f'"{field}": {value}' + (', "per": "day"' if field == "budget" else "")


def test_the_admin_api_names_the_field(place):
    key = place.before[1]["id"]
    bad = [(members(field, value), field, for_key) for field, value, for_key in ALIKE]
    bad += [(text, field, True) for text, field in CONTRADICTORY]
    for text, field, for_key in bad:
        for method, target, rest in (("POST", "/admin/v1/tenants", '"name": "fresh", '), ("PATCH", "/admin/v1/tenants/steady", ""),
                                     ("POST", "/admin/v1/keys", '"tenant": "steady", '), ("PATCH", f"/admin/v1/keys/{key}", "")):
            if for_key or "tenants" in target:
                answer = call(place, method, target, "{" + rest + text + "}")
                assert answer.status == 400, (method, target, text, answer.status, answer.body)
                assert answer.error["param"] == field or field in answer.error["message"], (target, text, answer.body)
    for field, value in KEYS_ONLY:
        for method, target, rest in (("POST", "/admin/v1/keys", '"tenant": "steady", '), ("PATCH", f"/admin/v1/keys/{key}", "")):
            answer = call(place, method, target, "{" + rest + members(field, value) + "}")
            assert (answer.status, answer.error["param"]) == (400, field), (method, target, field, value, answer.body)
    assert unchanged(place)
    assert place.cli("tenant", "show", "fresh").code == 1
    assert len(place.json("key", "list", "--tenant", "steady")) == 1


def option(field, value):
    """The command line's form of a JSON value, or None when it has none."""
    plain = json.loads(value, parse_float=str, parse_int=str)
    if isinstance(plain, list) and field in ("models", "allow_ip") and all(isinstance(item, str) for item in plain):
        plain = ",".join(plain) or ","
    return [f"--{field.replace('_', '-')}", plain] if isinstance(plain, str) else None


def test_the_command_line_names_the_option(place):
    table = [(option(field, value), field, for_key) for field, value, for_key in ALIKE]
    table += [(option(field, value), field, None) for field, value in KEYS_ONLY
              if field in ("models", "allow_ip") or (field, value) in (("expires", '"2001-01-01"'), ("expires", '"soon"'))]
    table += [(["--budget", "5"], "per", True), (["--per", "day"], "budget", True), (["--rpm", "5", "--rpm", "6"], "rpm", True),
              (["--budget", "5", "--per", "year"], "per", True), (["--tag", "x"], "tag", None),
              (["--tag", "a=1", "--tag", "a=2"], "tag", None)]
    for options, field, for_key in table:
        if options is None or "--models" in options and "test-model" == options[1]:
            continue
        options = [*options, *(["--per", "day"] if field == "budget" and "--per" not in options else [])]
        for command in (("tenant", "update", "steady"), ("key", "update", "steady-key"), ("key", "create", "--tenant", "steady")):
            if for_key is True or (for_key is None) == (command[0] == "key"):
                result = place.cli(*command, *options)
                assert result.code in (1, 2) and result.out == "", (command, options, result)
                assert field.replace("_", "-") in result.err.replace("_", "-"), (command, options, result.err)
    assert unchanged(place)
    assert len(place.json("key", "list", "--tenant", "steady")) == 1


BAD_FILES = [
    *[({"tiers": {"t": {field: value}}}, f"tiers.t.{field}") for field in ("rpm", "tpm", "concurrent")
      for value in (0, -1, 1.5, 10**20, "x", [], None)],
    *[({"upstreams": {"mock": {"limits": {field: value}}}}, f"upstreams.mock.limits.{field}")
      for field in ("rpm", "tpm", "concurrent") for value in (0, -1, 10**20, "x")],
    *[({"tiers": {"t": {"budget": {"amount": value, "per": "day"}}}}, "tiers.t.budget.amount")
      for value in (0, -1, 1e308, "x", 10**20)],
    ({"tiers": {"t": {"budget": {"amount": 5}}}}, "tiers.t.budget.per"),
    ({"tiers": {"t": {"budget": {"per": "day"}}}}, "tiers.t.budget.amount"),
    ({"tiers": {"t": {"budget": {"amount": 5, "per": "year"}}}}, "tiers.t.budget.per"),
    ({"tiers": {"t": {"budget": 5}}}, "tiers.t.budget"),
    ({"tiers": {"t": {"models": ["no-such-model"]}}}, "tiers.t.models"),
    ({"tiers": {"t": {"models": []}}}, "tiers.t.models"),
    ({"tiers": {"t": {"max_wait": "-1s"}}}, "tiers.t.max_wait"),
    ({"tiers": {"t": {"rpn": 5}}}, "rpn"),
    ({"models": {"test-alias": {"alias": "no-such-model"}}}, "models.test-alias.alias"),
    ({"models": {"test-model": {"fallback": ["no-such-model"]}}}, "models.test-model.fallback"),
    ({"models": {"test-model": {"max_output": 0}}}, "models.test-model.max_output"),
    ({"models": {"test-model": {"context": -1}}}, "models.test-model.context"),
    ({"models": {"test-model": {"price": {"input": -1, "output": 1}}}}, "models.test-model.price.input"),
    ({"streams": {"reserve_slice": 0}}, "streams.reserve_slice"),
    ({"capacity": {"keys": 0}}, "capacity.keys"), ({"capacity": {"tenants": -1}}, "capacity.tenants"),
    ({"request_limits": {"body": "2MiB", "bodies_per_connection": "1MiB"}}, "request_limits.bodies_per_connection"),
]


def test_the_configuration_names_the_field(place, mock):
    good = place.settings
    try:
        for changes, field in BAD_FILES:
            settings = config.merged(good, changes)
            if None in [value for tier in changes.get("tiers", {}).values() for value in tier.values()]:
                settings["tiers"] = changes["tiers"]
            place.write_config(settings)
            for command in ("check", "reload"):
                result = place.cli(command)
                assert result.code == 2 and field in result.out + result.err, (changes, command, result)
    finally:
        place.write_config(good)
    place.ok("reload")
    assert unchanged(place)
    assert Decimal(str(place.json("tenant", "show", "steady")["markup"])) == Decimal("1.5")
