"""The command line, beside a running server and without one."""

import csv
import io
import json
import re
from decimal import Decimal

import pytest

from harness import config
from harness.relay import run
from mock import behaviour, openai

KEY = re.compile(r"sk-tg-[0-9A-Za-z]{38}")
COUNTS = openai.usage(prompt=1_000_000, completion=500_000)


@pytest.fixture(params=["with a server", "without a server"])
def place(request, own_relay):
    """A configuration whose commands must work in both situations."""
    return own_relay(start=request.param == "with a server")


def table(text):
    """A CSV report's rows as dicts."""
    return list(csv.DictReader(io.StringIO(text)))


def test_a_tenant_from_creation_to_disabling(place):
    place.ok("tenant", "create", "acme", "--rpm", "100", "--tpm", "5000", "--concurrent", "3", "--budget", "12.5",
             "--per", "day", "--markup", "1.2")
    shown = place.json("tenant", "show", "acme")
    assert (shown["name"], shown["rpm"], shown["tpm"], shown["concurrent"]) == ("acme", 100, 5000, 3)
    assert Decimal(str(shown["markup"])) == Decimal("1.2")
    place.ok("tenant", "disable", "acme")
    assert "disabled" in json.dumps(place.json("tenant", "show", "acme"), default=str)
    place.ok("tenant", "enable", "acme")
    place.ok("tenant", "create", "zeta")
    assert [tenant["name"] for tenant in place.json("tenant", "list")] == ["acme", "zeta"]


def test_a_tenant_twice_or_not_at_all(place):
    place.ok("tenant", "create", "acme")
    for arguments, code in ((("tenant", "create", "acme"), 1), (("tenant", "show", "nobody"), 1),
                            (("tenant", "create"), 2), (("tenant", "create", "bad name"), (1, 2)),
                            (("tenant", "create", "x", "--rpm", "many"), 2), (("tenant", "create", "y", "--nonsense"), 2),
                            (("tenant", "create", "z", "--budget", "-1", "--per", "day"), (1, 2)),
                            (("tenant", "create", "w", "--tier", "no-such-tier"), (1, 2))):
        result = place.cli(*arguments)
        assert result.code == code or isinstance(code, tuple) and result.code in code, (arguments, result)
        assert result.err.startswith("tollgate: ") and not result.out
    assert len(place.json("tenant", "list")) == 1


def test_a_key_from_creation_to_revocation(place):
    place.ok("tenant", "create", "acme")
    secret = place.ok("key", "create", "--tenant", "acme", "--name", "first", "--models", "test-model", "--tag", "team=red",
                      "--expires", "2099-01-01")
    assert KEY.fullmatch(secret)
    shown = place.json("key", "show", "first")
    assert shown == place.json("key", "show", secret) == place.json("key", "show", shown["id"])
    assert (shown["tenant"], shown["models"], shown["tags"]) == ("acme", ["test-model"], {"team": "red"})
    assert secret not in json.dumps(shown, default=str)
    for command, state in (("disable", "disabled"), ("enable", "active"), ("revoke", "revoked")):
        place.ok("key", command, "first")
        assert place.json("key", "show", shown["id"])["state"] == state
    assert place.cli("key", "enable", shown["id"]).code == 1, "revoked is for good"


def test_a_key_that_cannot_be(place):
    place.ok("tenant", "create", "acme")
    for arguments in (("key", "create"), ("key", "create", "--tenant", "nobody"), ("key", "show", "key_nobody"),
                      ("key", "create", "--tenant", "acme", "--expires", "soon"),
                      ("key", "create", "--tenant", "acme", "--rpm", "0.5"), ("key", "revoke", "nobody"),
                      ("key", "create", "--tenant", "acme", "--models", "no-such-model")):
        result = place.cli(*arguments)
        assert result.code in (1, 2) and result.err.startswith("tollgate: ") and not result.out, (arguments, result)


def test_two_keys_are_never_alike(place):
    place.ok("tenant", "create", "acme")
    keys = {place.create_key("acme") for _ in range(5)}
    assert len(keys) == 5
    assert len(place.json("key", "list")) == 5
    assert not any(key in place.ok("key", "list") for key in keys)


def test_prices_are_set_listed_and_imported(place):
    place.ok("price", "set", "test-model", "--input", "1.5", "--output", "6", "--cached-input", "0.15")
    rows = {row["model"]: row for row in place.json("price", "list") if row["source"] != "file"}
    assert Decimal(str(rows["test-model"]["input"])) == Decimal("1.5")
    file = place.directory / "prices.csv"
    file.write_text("model,input,output,cached_input,cache_write,from\nother-model,1,2,,,2026-01-01\nnew-model,0.000000001,3,,,\n")
    place.ok("price", "import", file)
    names = {row["model"] for row in place.json("price", "list")}
    assert {"other-model", "new-model", "test-model"} <= names


@pytest.mark.parametrize("text", ["", "model,input\nx,1\n", "model,input,output,cached_input,cache_write,from\nx,-1,2,,,\n",
                                  "model,input,output,cached_input,cache_write,from\nx,1,2,,,someday\n",
                                  "model,input,output,cached_input,cache_write,from\ny,1,2,,,\nx,one,2,,,\n"])
def test_a_bad_price_file_changes_nothing(place, text):
    place.create_tenant("acme")  # the state directory is there
    before = place.ok("price", "list", "--json")
    file = place.directory / "prices.csv"
    file.write_text(text)
    result = place.cli("price", "import", file)
    assert result.code in (1, 2) and result.err.startswith("tollgate: ")
    assert place.ok("price", "list", "--json") == before


def test_an_empty_ledger_reports_zeros(place):
    place.create_tenant("acme")  # the state directory is there
    report = place.json("usage")
    assert report["object"] == "usage" and report["total"]["requests"] == 0
    assert place.json("requests") == []
    assert place.cli("verify").code == 0


def test_wrong_usage_exits_2(place):
    for arguments in (("nonsense",), ("tenant",), ("tenant", "nonsense"), ("usage", "--by", "colour"),
                      ("usage", "--format", "xml"), ("requests", "--last", "many"), ("usage", "--from", "someday"),
                      ("usage", "--tz", "Mars/Olympus")):
        result = place.cli(*arguments)
        assert result.code == 2 and result.err.startswith("tollgate: "), (arguments, result)


class TestReports:
    """usage and requests over a little history."""

    @pytest.fixture(scope="class")
    def told(self, module_relay, mock):
        relay = module_relay()
        relay.keys = {}
        for tenant, team in (("acme", "red"), ("zeta", "blue")):
            relay.create_tenant(tenant)
            relay.keys[tenant] = relay.create_key(tenant, "--name", f"{tenant}-key", "--tag", f"team={team}")
        good, bad = mock.case(behaviour.chat(counts=COUNTS)), mock.case(behaviour.status(400))
        relay.ids = []
        for tenant, body in (("acme", good.body()), ("acme", good.body()), ("acme", good.body("other-model")),
                             ("zeta", good.body()), ("zeta", bad.body())):
            relay.ids.append(relay.chat(relay.keys[tenant], body).id)
            relay.record(relay.ids[-1])  # or two workers may end them in the other order
        return relay

    def test_totals(self, told):
        total = told.json("usage")["total"]
        assert (total["requests"], total["failed"]) == (5, 1)
        assert (total["input_tokens"], total["output_tokens"]) == (4_000_000, 2_000_000)
        assert total["price_usd"] == Decimal("24") and total["cost_usd"] == Decimal("12")
        assert total["list_usd"] == Decimal("36")

    @pytest.mark.parametrize(("by", "labels"), [
        ("tenant", [("acme",), ("zeta",)]), ("model", [("other-model",), ("test-model",)]), ("upstream", [("mock",)]),
        ("tenant,model", [("acme", "other-model"), ("acme", "test-model"), ("zeta", "test-model")]),
        ("tag:team", [("blue",), ("red",)])])
    def test_groups(self, told, by, labels):
        rows = told.json("usage", "--by", by)["rows"]
        assert sorted(tuple(row[name] for name in by.split(",")) for row in rows) == labels
        assert sum(row["requests"] for row in rows) == 5

    @pytest.mark.parametrize(("by", "form"), [("hour", r"\d{4}-\d\d-\d\dT\d\d:00"), ("day", r"\d{4}-\d\d-\d\d"),
                                              ("month", r"\d{4}-\d\d"), ("key", r"key_\w+")])
    def test_labels(self, told, by, form):
        assert all(re.fullmatch(form, row[by]) for row in told.json("usage", "--by", by)["rows"])

    @pytest.mark.parametrize(("option", "value", "count"), [("--tenant", "acme", 3), ("--model", "test-model", 4),
                                                            ("--upstream", "mock", 5), ("--tag", "team=blue", 2),
                                                            ("--key", "acme-key", 3), ("--tenant", "nobody", 0),
                                                            ("--from", "1h", 5), ("--to", "1h", 0), ("--from", "2099-01-01", 0)])
    def test_filters(self, told, option, value, count):
        assert told.json("usage", option, value)["total"]["requests"] == count
        assert len(told.json("requests", option, value)) == count

    def test_csv_has_a_total_row(self, told):
        rows = table(told.ok("usage", "--by", "tenant", "--format", "csv"))
        assert [next(iter(row.values())) for row in rows] == ["acme", "zeta", "total"]
        assert rows[-1]["requests"] == "5" and Decimal(rows[-1]["price_usd"]) == 24

    def test_the_table_is_for_people(self, told):
        text = told.ok("usage", "--by", "tenant")
        assert "acme" in text and "zeta" in text and "24" in text
        assert text.splitlines()[-1].split()[0].lower() == "total"

    def test_the_last_requests_come_newest_first(self, told):
        assert [record["id"] for record in told.records("--last", "2")] == told.ids[:-3:-1]

    def test_one_request(self, told):
        assert [record["id"] for record in told.records("--id", told.ids[0])] == [told.ids[0]]
        assert told.cli("requests", "--id", "req_nobody").code == 1
        assert table(told.ok("requests", "--id", told.ids[0], "--format", "csv"))[0]["id"] == told.ids[0]

    def test_a_refusal_of_the_upstream_costs_nothing(self, told):
        record = told.record(told.ids[-1])
        assert record["status"] == 400 and record["price_usd"] == 0 and record["output_tokens"] == 0

    def test_status(self, told):
        status = told.status()
        assert status["master"]["pid"] == told.pid
        assert len(status["workers"]) == 2 and status["ledger"]["lag_records"] == 0
        for worker in status["workers"]:
            assert worker["uptime_s"] >= 0 and worker["rss_bytes"] > 1 << 20 and worker["streams"] == 0
        assert sum(worker["requests"] for worker in status["workers"]) >= 5
        assert {upstream["name"] for upstream in status["upstreams"]} >= {"mock", "refusing"}
        assert re.search(r"worker", told.ok("status"))

    def test_the_same_without_a_server(self, told):
        """Last in the class: stops the server and asks again."""
        before = told.ok("usage", "--by", "tenant,model,day", "--json"), told.ok("requests", "--json")
        told.stop()
        told.process = None
        after = told.ok("usage", "--by", "tenant,model,day", "--json"), told.ok("requests", "--json")
        assert without_bounds(after[0]) == without_bounds(before[0])
        assert after[1] == before[1]
        assert told.cli("status").code == 1


def without_bounds(report):
    """A usage report without the moment it was asked at."""
    return {name: value for name, value in json.loads(report).items() if name not in ("from", "to")}


def test_a_new_price_holds_at_once(own_relay, mock):
    relay = own_relay()
    key = relay.create_key(relay.create_tenant("t"))
    case = mock.case(behaviour.chat(counts=COUNTS))
    assert relay.record(relay.chat(key, case.body()).id)["price_usd"] == 6
    relay.ok("price", "set", "test-model", "--input", "10", "--output", "20")
    prices = [relay.record(relay.chat(key, case.body()).id)["price_usd"] for _ in range(4)]
    assert prices == [20] * 4
    assert relay.json("usage")["total"]["price_usd"] == 86


def test_a_markup_raises_the_price_alone(own_relay, mock):
    relay = own_relay()
    key = relay.create_key(relay.create_tenant("t", "--markup", "1.2"))
    record = relay.record(relay.chat(key, mock.case(behaviour.chat(counts=COUNTS)).body()).id)
    assert (record["price_usd"], record["cost_usd"], record["list_usd"]) == (Decimal("7.2"), 3, 9)


class TestCheck:
    """`check` finds everything wrong with a file, with its place."""

    def check(self, directory, text):
        file = directory / "tollgate.yaml"
        file.write_text(text)
        return run("check", "-c", file), str(file)

    def test_a_good_file(self, own_relay):
        relay = own_relay(start=False)
        result = relay.cli("check")
        assert result.code == 0, result

    def test_several_findings_at_once(self, tmp_path):
        result, file = self.check(tmp_path, "workers: many\nnonsense: 1\nupstreams:\n  a: {dialect: klingon}\n"
                                            "models:\n  m:\n    routes: [{upstream: nobody}]\n")
        assert result.code == 2
        places = re.findall(re.escape(file) + r":(\d+):(\d+): \S", result.out)
        assert {line for line, _ in places} >= {"1", "2", "4", "7"}

    @pytest.mark.parametrize(("text", "place", "word"), [
        ("workers: 2\nworkers: 3\n", "2:1", "workers"), ("listen: [{address: nowhere}]\n", "1:", "nowhere"),
        ("log: {level: loud}\n", "1:", "loud"), ("drain_timeout: soon\n", "1:16", "soon"),
        ("models:\n  a: {alias: b}\n  b: {alias: a}\n", "", "alias"), ("a: [\n", "", ""), ("\t: x\n", "", ""),
        ("admin: {token: '${NOT_SET_ANYWHERE}'}\n", "1:", "NOT_SET_ANYWHERE"),
        ("upstreams:\n  a: {dialect: openai, base_url: 'ftp://x'}\n", "2:", "")])
    def test_a_finding_has_its_place(self, tmp_path, text, place, word):
        result, file = self.check(tmp_path, text)
        assert result.code == 2
        assert f"{file}:{place}" in result.out and word in result.out

    def test_a_file_that_is_not_there(self, tmp_path):
        result = run("check", "-c", tmp_path / "none.yaml")
        assert result.code == 2 and "none.yaml" in result.err + result.out

    def test_a_finding_never_quotes_a_secret(self, tmp_path):
        result, _ = self.check(tmp_path, f"upstreams:\n  a: {{dialect: openai, api_key: [{config.UPSTREAM_KEY}]}}\n"
                                         f"admin: {{token: {{x: {config.ADMIN_TOKEN}}}}}\n")
        assert result.code == 2 and config.CANARY not in result.out + result.err
