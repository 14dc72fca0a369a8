"""Bodies that are wrong, one row each: the status and code they get, and that no upstream hears of them."""

import json
from dataclasses import dataclass

import pytest

from harness.relay import CHAT
from mock import behaviour

USER = {"role": "user", "content": "hello"}


@dataclass
class Row:
    name: str
    body: bytes
    code: str | tuple
    status: int = 400
    param: str | None = ...

    @property
    def codes(self):
        return (self.code,) if isinstance(self.code, str) else self.code


def ask(**fields):
    return {"model": "test-model", "messages": [USER], **fields}


def text(body):
    return json.dumps(body).encode()


def deep(levels):
    """A body whose arrays nest so deep that the innermost stands at `levels`, the root object being 1."""
    return b'{"model":"test-model","messages":[{"role":"user","content":"x"}],"x":' + b"[" * (levels - 1) \
        + b"]" * (levels - 1) + b"}"


def with_raw(name, value):
    """A good body with one more member, its value as raw bytes."""
    return text(ask())[:-1] + b',"' + name.encode() + b'":' + value + b"}"


GOOD = text(ask())
NOT_JSON = [
    ("empty object cut", b"{"),
    ("empty", b""),
    ("white space", b" \r\n\t"),
    ("a word", b"hello"),
    ("an unfinished name", b'{"model'),
    ("an unfinished string", b'{"model":"test-model'),
    ("a name without value", b'{"model"}'),
    ("a comma at the end", GOOD[:-1] + b",}"),
    ("a comma at the end of an array", with_raw("stop", b'["a",]')),
    ("no comma between members", b'{"model":"test-model" "messages":[]}'),
    ("no comma between elements", with_raw("stop", b'["a" "b"]')),
    ("two colons", b'{"model"::"test-model"}'),
    ("single quotes", b"{'model':'test-model'}"),
    ("a bare name", b"{model:1}"),
    ("a comment", b"/* hi */" + GOOD),
    ("something behind the root", GOOD + b"x"),
    ("two roots", GOOD + GOOD),
    ("a closing bracket too many", GOOD + b"}"),
    ("a wrong bracket", GOOD[:-1] + b"]"),
    ("NaN", with_raw("temperature", b"NaN")),
    ("Infinity", with_raw("temperature", b"-Infinity")),
    ("a leading zero", with_raw("seed", b"01")),
    ("a plus sign", with_raw("seed", b"+1")),
    ("two minus signs", with_raw("seed", b"--1")),
    ("a dot without digits", with_raw("seed", b"1.")),
    ("an exponent without digits", with_raw("seed", b"1e")),
    ("hexadecimal", with_raw("seed", b"0x10")),
    ("half a literal", with_raw("stream", b"tru")),
    ("a control character in a string", with_raw("user", b'"a\nb"')),
    ("a bad escape", with_raw("user", b'"\\x41"')),
    ("a short unicode escape", with_raw("user", b'"\\u12"')),
    ("a NUL byte", with_raw("user", b'"a\0b"')),
    ("a NUL behind the root", GOOD + b"\0"),
    ("a byte order mark", b"\xef\xbb\xbf" + GOOD),
    ("UTF-16", GOOD.decode().encode("utf-16")),
    ("a lone continuation byte", with_raw("user", b'"\x80"')),
    ("a cut character", with_raw("user", b'"\xe6\x97"')),
    ("an overlong character", with_raw("user", b'"\xc0\xaf"')),
    ("an encoded surrogate", with_raw("user", b'"\xed\xa0\x80"')),
    ("a character past the last", with_raw("user", b'"\xf4\x90\x80\x80"')),
    ("latin-1", with_raw("user", '"é"'.encode("latin-1"))),
    ("129 levels", deep(129)),
    ("100,000 levels", deep(100_000)),
    ("100,000 levels that never close", b"[" * 100_000),
    ("100,000 objects that never close", b'{"a":' * 100_000),
]

ROOTS = [("an array", b"[]"), ("a string", b'"x"'), ("a number", b"5"), ("null", b"null"), ("true", b"true")]

DUPLICATES = [("model", b'"other-model"'), ("stream", b"true"), ("max_tokens", b"5"), ("max_completion_tokens", b"5"),
              ("n", b"2"), ("messages", b"[]"), ("mod\\u0065l", b'"other-model"')]

WRONG_VALUES = [
    ("model", 5), ("model", None), ("model", ["test-model"]), ("model", {"id": "x"}), ("model", True),
    ("model", ""),
    ("messages", "hello"), ("messages", {}), ("messages", 5), ("messages", True), ("messages", []),
    ("messages", ["hello"]), ("messages", [5]), ("messages", [None]), ("messages", [[USER]]),
    ("stream", "yes"), ("stream", 1), ("stream", []), ("stream", {}),
    ("stream_options", "x"), ("stream_options", []), ("stream_options", {"include_usage": "yes"}),
    ("stream_options", {"include_usage": 1}),
    ("n", 0), ("n", -1), ("n", "2"), ("n", 1.5), ("n", 1_000_000), ("n", [1]), ("n", True),
    ("max_tokens", -1), ("max_tokens", 0), ("max_tokens", "x"), ("max_tokens", "10"), ("max_tokens", 1.5),
    ("max_tokens", []), ("max_tokens", {}), ("max_tokens", True), ("max_tokens", 10**40),
    ("max_completion_tokens", -1), ("max_completion_tokens", 0), ("max_completion_tokens", "x"),
    ("max_completion_tokens", 1.5), ("max_completion_tokens", -(2**63)),
    ("user", 5), ("user", ["a"]), ("tools", "x"), ("tools", 5),
]


def rows():
    """The whole table."""
    table = [Row(name, body, "invalid_json") for name, body in NOT_JSON]
    table += [Row(f"{name} as the body", body, ("invalid_json", "invalid_value")) for name, body in ROOTS]
    table += [Row("no model", text({"messages": [USER]}), "missing_field", param="model"),
              Row("no messages", text({"model": "test-model"}), "missing_field", param="messages"),
              Row("nothing", b"{}", "missing_field"),
              Row("a model with an endless name", text(ask(model="x" * 10_000)), "model_not_found", 404, "model")]
    table += [Row(f"{name} twice", b"{" + b'"%s":%s,' % (name.encode(), value) + b'"stream":false,"n":1,"max_tokens":9,'
                  b'"max_completion_tokens":9,' + GOOD[1:], ("invalid_value", "invalid_json"))
              for name, value in DUPLICATES]
    table += [Row(f"{name} is {json.dumps(value)[:24]}", text(ask(**{name: value})), "invalid_value", param=name)
              for name, value in WRONG_VALUES if not isinstance(value, dict) or name != "stream_options"]
    table += [Row(f"{name} is {json.dumps(value)}", text(ask(**{name: value})), "invalid_value")
              for name, value in WRONG_VALUES if isinstance(value, dict) and name == "stream_options"]
    table += [Row(f"max_tokens is {raw.decode()}", with_raw("max_tokens", raw), "invalid_value", param="max_tokens")
              for raw in (b"1e308", b"1e400", b"-1e308", b"9223372036854775808", b"-0.5", b"1e-3")]
    return table


ROWS = rows()


@pytest.fixture(scope="module")
def before(relay, mock):
    """The workers and the count of what the upstream had seen before the table."""
    return relay.worker_pids(), len(mock.exchanges)


@pytest.fixture(scope="module")
def connection(relay, before):
    """One connection for the whole table: a refusal must not spoil it."""
    holder = [relay.connect()]
    yield holder
    holder[0].close()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_bad_body_gets_its_error(relay, key, connection, row):
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    answer = connection[0].request("POST", CHAT, headers, row.body)
    if answer.headers.get("connection") == "close":
        connection[0].close()
        connection[0] = relay.connect()
    assert answer.status == row.status, answer.body
    error = answer.error
    assert set(error) == {"message", "type", "code", "param"}
    assert error["type"] == "invalid_request_error"
    assert error["code"] in row.codes, error
    if row.param is not ...:
        assert (error["param"] or "").split(".")[0].split("[")[0] == row.param, error
    assert len(error["message"]) < 400


def test_no_bad_body_reached_the_upstream_or_harmed_a_worker(relay, mock, before):
    """Stands right behind the table."""
    assert (relay.worker_pids(), len(mock.exchanges)) == before


def test_the_table_is_long_enough():
    assert len(ROWS) >= 40
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_bad_body_is_the_same_error_for_a_stream(relay, key, stream):
    answer = relay.chat(key, ask(max_tokens=-1, stream=stream))
    assert (answer.status, answer.error["code"]) == (400, "invalid_value")
    assert answer.headers["content-type"].startswith("application/json")


GOOD_EDGES = [
    ("128 levels", deep(128)),
    ("white space around", b" \r\n\t" + GOOD + b"\r\n "),
    ("null where absent is meant", text(ask(stream=None, max_tokens=None, n=None, user=None, stream_options=None))),
    ("an escaped name", GOOD.replace(b'"model"', b'"mod\\u0065l"')),
    ("a lone surrogate escape in a text", with_raw("x", b'"\\ud800"')),
    ("numbers past any machine's", with_raw("x", b"[1e999,123456789012345678901234567890]")),
    ("duplicates that decide nothing", with_raw("temperature", b"1")[:-1] + b',"temperature":0}'),
    ("many members", text(ask(**{f"x{number}": number for number in range(5000)}))),
    ("an empty name", with_raw("", b"1")),
]


@pytest.mark.parametrize(("name", "body"), GOOD_EDGES, ids=[name for name, _ in GOOD_EDGES])
def test_an_odd_but_right_body_is_served(relay, mock, key, name, body):
    headers = {"content-type": "application/json"}
    assert relay.request("POST", CHAT, key, headers, body).status == 200, name


def test_a_body_past_the_limit_is_413(module_relay, mock):
    relay = module_relay({"request_limits": {"body": "64KiB"}})
    key = relay.create_key(relay.create_tenant("big"))
    case = mock.case(behaviour.chat())
    fits = case.body(x="y" * 60_000)
    too_large = case.body(x="y" * 66_000)
    assert relay.chat(key, fits).status == 200
    answer = relay.chat(key, too_large)
    assert (answer.status, answer.error["code"]) == (413, "body_too_large")
    assert case.count == 1
    assert relay.chat(key, fits).status == 200


def test_a_body_past_the_limit_is_413_on_http_2(module_relay):
    relay = module_relay({"request_limits": {"body": "64KiB"}})
    key = relay.create_key(relay.create_tenant("big2"))
    with relay.connect2() as connection:
        answer = connection.request("POST", CHAT, {"authorization": f"Bearer {key}"}, ask(x="y" * 66_000))
        assert answer.status == 413 and answer.json()["error"]["code"] == "body_too_large"
        assert connection.request("GET", "/healthz").status == 200
