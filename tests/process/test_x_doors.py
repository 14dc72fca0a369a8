"""What stands at the doors: who the client is, connections an address, wrong keys, signatures, and checks that hold in
every worker at once."""

import contextlib
import hashlib
import hmac
import json
import os
import re
import signal
import socket
import threading
import time

import pytest

from harness.http1 import Broken, Http1
from harness.ports import free_port
from harness.relay import CHAT, bearer
from harness.wait import LIMIT_S, until
from mock import behaviour

UNKNOWN = "sk-tg-" + "A" * 32 + "000000"
WORKERS = 4
PROXIES = ["127.0.0.1", "10.0.0.0/8", "2001:db8:10::/48", "::1"]


def connections_to_every_worker(relay, count, stack):
    """One kept connection to each worker, found by whose count of requests rises."""
    found = {}

    def look():
        before = {worker["pid"]: worker["requests"] for worker in relay.status()["workers"]}
        connection = stack.enter_context(relay.connect())
        assert connection.request("GET", "/healthz").status == 200
        for worker in relay.status()["workers"]:
            if worker["requests"] > before.get(worker["pid"], 0):
                found.setdefault(worker["pid"], connection)
        return len(found) == count
    until(look, f"a connection to each of {count} workers", LIMIT_S * 4)
    return list(found.values())


@pytest.fixture(scope="module")
def place(module_relay):
    """Four workers, and this machine's own addresses are those of proxies."""
    relay = module_relay({"workers": WORKERS, "trusted_proxies": PROXIES})
    relay.tenant = relay.create_tenant("doors")
    relay.key = relay.create_key(relay.tenant)
    return relay


@pytest.fixture(scope="module")
def doors(place):
    """A kept connection to each of its workers."""
    with contextlib.ExitStack() as stack:
        yield connections_to_every_worker(place, WORKERS, stack)


# --- who the client is ---

def raw_chat(connection, key, case, forwarded):
    """A completion with one X-Forwarded-For header for each of `forwarded`."""
    body = json.dumps(case.body()).encode()
    lines = [f"POST {CHAT} HTTP/1.1", "host: x", f"authorization: Bearer {key}", "content-type: application/json",
             f"content-length: {len(body)}", *(f"X-Forwarded-For: {value}" for value in forwarded)]
    connection.send_raw("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    return connection.answer()


@pytest.mark.parametrize("forwarded, client", [
    ([], "127.0.0.1"),
    (["198.51.100.1"], "198.51.100.1"),
    (["198.51.100.1:4711"], "198.51.100.1"),
    (["[2001:db8::7]:4711"], "2001:db8::7"),
    (["::ffff:198.51.100.1"], "198.51.100.1"),
    (["1.1.1.1, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
    (["1.1.1.1", "198.51.100.1", "10.0.0.2"], "198.51.100.1"),
    (["10.0.0.9, 198.51.100.1"], "198.51.100.1"),
    (["198.51.100.1, 10.0.0.2, not-an-address"], "127.0.0.1"),
    (["198.51.100.1, unknown, 10.0.0.2"], "127.0.0.1"),
    (["198.51.100.1, 1.2.3.4:99999"], "127.0.0.1"),
    (["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
    ([", ,"], "127.0.0.1"),
    (["2001:db8:11::1, 2001:db8:10::2"], "2001:db8:11::1"),
])
def test_the_client_behind_a_trusted_proxy(place, mock, forwarded, client):
    with place.connect() as connection:
        answer = raw_chat(connection, place.key, mock.case(behaviour.chat()), forwarded)
    assert answer.status == 200
    assert place.record(answer.id)["client"] == client
    line = until(lambda: re.search(rf'^.*"{answer.id}".*$', place.stdout, re.MULTILINE), "the access line")[0]
    assert json.loads(line)["client"] == client


def test_a_stranger_forwards_for_nobody(place, mock):
    """127.0.0.2 is no trusted proxy: its header is not believed."""
    with place.connect(source="127.0.0.2") as connection:
        answer = raw_chat(connection, place.key, mock.case(behaviour.chat()), ["198.51.100.1, 10.0.0.2"])
    assert place.record(answer.id)["client"] == "127.0.0.2"


def test_without_the_setting_nobody_does(relay, mock, key):
    with relay.connect() as connection:
        answer = raw_chat(connection, key, mock.case(behaviour.chat()), ["198.51.100.1"])
    assert relay.record(answer.id)["client"] == "127.0.0.1"


def test_http2_has_the_same_client(place, mock):
    with place.connect2() as connection:
        answer = connection.request("POST", CHAT, bearer(place.key, {"x-forwarded-for": "1.1.1.1, 198.51.100.8"}),
                                    mock.case(behaviour.chat()).body())
    assert place.record(answer.id)["client"] == "198.51.100.8"


def test_an_allow_list_sees_the_client_behind_the_proxy(place):
    key = place.create_key(place.tenant, "--allow-ip", "198.51.100.0/24,2001:db8:5::/48")

    def status(forwarded, **options):
        with place.connect(**options) as connection:
            return connection.request("GET", "/v1/key", bearer(key, {"x-forwarded-for": forwarded})).status
    assert status("198.51.100.77") == 200
    assert status("2001:db8:5::1") == 200
    assert status("[2001:db8:5::1]:443") == 200
    assert status("::ffff:198.51.100.77") == 200
    assert status("203.0.113.1") == 403
    assert status("198.51.100.77, 203.0.113.1") == 403
    assert status("2001:db8:6::1") == 403
    assert status("198.51.100.77, rubbish") == 403
    assert status("198.51.100.77", source="127.0.0.2") == 403
    assert place.get("/v1/key", key).error["code"] == "ip_not_allowed"


def test_addresses_of_both_families(own_relay, mock):
    """A socket for both sees IPv4 clients as mapped addresses."""
    port = free_port()
    with contextlib.closing(socket.socket(socket.AF_INET6)) as probe:
        try:
            probe.bind(("::1", port))
        except OSError:
            pytest.skip("this machine has no IPv6")
    relay = own_relay({"listen": [{"address": f"[::]:{port}"}]})
    tenant = relay.create_tenant("t")
    four = relay.create_key(tenant, "--allow-ip", "127.0.0.0/8")
    six = relay.create_key(tenant, "--allow-ip", "::1")

    def statuses(host):
        with Http1(port, host=host) as connection:
            return [connection.request("GET", "/v1/key", bearer(key)).status for key in (four, six)]
    assert statuses("::1") == [403, 200]
    try:
        assert statuses("127.0.0.1") == [200, 403]
    except ConnectionRefusedError:
        pass  # its sockets are for IPv6 alone


@pytest.mark.parametrize("value", [["10.0.0.0/33"], ["proxy.example"], "10.0.0.0/8", [["10.0.0.0/8"]], [""]])
def test_bad_proxies_are_found(own_relay, value):
    relay = own_relay({"trusted_proxies": value}, start=False)
    result = relay.cli("check")
    assert result.code == 2
    assert re.search(r"tollgate\.yaml:[0-9]+:[0-9]+: trusted_proxies", result.out), result


# --- connections an address ---

def is_let_in(connection):
    try:
        return connection.request("GET", "/healthz").status == 200
    except (Broken, ConnectionError, OSError):
        return False


def open_all(relay, most, **options):
    """Opens connections until one is refused; returns those that were let in."""
    held = []
    while len(held) <= most:
        connection = relay.connect(**options)
        if not is_let_in(connection):
            connection.close()
            return held
        held.append(connection)
    raise AssertionError(f"{len(held)} connections were let in")


def open_more(relay, held, count):
    """Adds connections to `held` up to `count`; False when one is refused before."""
    while len(held) < count:
        connection = relay.connect()
        if not is_let_in(connection):
            connection.close()
            return False
        held.append(connection)
    return True


@pytest.mark.parametrize("workers", [2, 8])
def test_connections_an_address_over_all_workers(own_relay, workers):
    relay = own_relay({"workers": workers, "request_limits": {"connections_per_address": 11}})
    held = open_all(relay, 11)
    assert len(held) == 11
    with relay.connect(source="127.0.0.2") as other:
        assert is_let_in(other)
    for connection in held[:5]:
        connection.close()
    held = held[5:]
    until(lambda: open_more(relay, held, 11), "room for five more")
    with relay.connect() as late:
        assert not is_let_in(late)
    assert all(is_let_in(connection) for connection in held)
    for connection in held:
        connection.close()


@pytest.mark.parametrize("workers", [2, 8])
def test_a_killed_worker_gives_its_connections_back(own_relay, workers):
    relay = own_relay({"workers": workers, "request_limits": {"connections_per_address": 16}})
    held = open_all(relay, 16)
    assert len(held) == 16
    busiest = max(relay.status()["workers"], key=lambda worker: worker["requests"])["pid"]
    os.kill(busiest, signal.SIGKILL)
    until(lambda: busiest not in relay.worker_pids() and len(relay.worker_pids()) == workers, "a new worker")
    alive = [connection for connection in held if is_let_in(connection)]
    assert 0 < len(alive) < 16
    until(lambda: open_more(relay, alive, 16), "room for as many as were lost")
    with relay.connect() as late:
        assert not is_let_in(late)


def test_connections_at_one_moment(own_relay):
    """Forty threads race for ten places. Never more get in; of two that want the last at one moment both may be refused."""
    relay = own_relay({"workers": 8, "request_limits": {"connections_per_address": 10}})
    let_in, start = [], threading.Barrier(40)

    def run():
        start.wait()
        connection = relay.connect()
        if is_let_in(connection):
            let_in.append(connection)
    threads = [threading.Thread(target=run) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 9 <= len(let_in) <= 10
    for connection in let_in:
        connection.close()


def test_connections_of_the_old_workers_count_after_a_reload(own_relay, mock):
    relay = own_relay({"request_limits": {"connections_per_address": 4}})
    key = relay.create_key(relay.create_tenant("t"))
    paces = [mock.pace() for _ in range(3)]
    streams = [relay.stream_after(key, mock.case(behaviour.stream("a", "b", pace=pace)), pace, 1) for pace in paces]
    relay.ok("reload")
    held = open_all(relay, 4)
    assert len(held) == 1
    for pace, stream in zip(paces, streams):
        pace.open()
        assert stream.drain()[-1].is_done
        stream.close()
    until(lambda: open_more(relay, held, 4), "their places")
    for connection in held:
        connection.close()


# --- wrong keys ---

@pytest.fixture(scope="module")
def strict(module_relay):
    """Five wrong keys a minute, four workers, clients told apart by what the proxy at 127.0.0.1 says."""
    relay = module_relay({"workers": WORKERS, "trusted_proxies": ["127.0.0.1"],
                          "request_limits": {"failed_auth_per_minute": 5}})
    relay.key = relay.create_key(relay.create_tenant("t"))
    return relay


def ask(relay, key, client):
    return relay.get("/v1/key", key, {"x-forwarded-for": client})


def exhaust(relay, client, wrong=UNKNOWN):
    answers = [ask(relay, wrong, client) for _ in range(12)]
    assert [answer.status for answer in answers] == [401] * 5 + [429] * 7
    return answers[-1]


def test_too_many_wrong_keys(strict):
    answer = exhaust(strict, "198.51.100.1")
    assert answer.error["type"] == "rate_limit_error" and answer.error["code"] == "rate_limit_exceeded"
    assert "5 a minute" in answer.error["message"] and UNKNOWN not in answer.error["message"]
    assert 1 <= int(answer.headers["retry-after"]) <= 12
    assert 0 < int(answer.headers["retry-after-ms"]) <= 12000


def test_a_valid_key_still_passes(strict):
    exhaust(strict, "198.51.100.2")
    assert ask(strict, strict.key, "198.51.100.2").status == 200


def test_other_addresses_are_not_concerned(strict):
    exhaust(strict, "198.51.100.3")
    assert ask(strict, UNKNOWN, "198.51.100.4").status == 401
    assert strict.get("/v1/key", UNKNOWN).status == 401


def test_an_ipv6_network_counts_as_one(strict):
    answers = [ask(strict, UNKNOWN, f"2001:db8:0:1::{i:x}") for i in range(8)]
    assert [answer.status for answer in answers] == [401] * 5 + [429] * 3
    assert ask(strict, UNKNOWN, "2001:db8:0:2::1").status == 401


def test_no_key_is_not_a_wrong_key(strict):
    answers = [ask(strict, None, "198.51.100.5") for _ in range(8)]
    assert {answer.error["code"] for answer in answers} == {"missing_api_key"}
    assert ask(strict, UNKNOWN, "198.51.100.5").status == 401


@pytest.mark.parametrize("wrong", ["x", "sk-tg-short", "k" * 3000])
def test_every_kind_of_wrong_key_counts(strict, wrong):
    exhaust(strict, f"203.0.113.{len(wrong) % 250}", wrong)


def test_a_revoked_key_counts(strict):
    key = strict.create_key("t", "--name", "gone")
    strict.ok("key", "revoke", key)
    exhaust(strict, "198.51.100.6", key)


def test_a_large_body_with_a_wrong_key_counts(strict):
    """Refused before the body is gathered, and counted all the same."""
    answers = []
    for _ in range(8):
        with strict.connect() as connection:
            connection.send("POST", CHAT, bearer(UNKNOWN, {"x-forwarded-for": "198.51.100.7"}), b"x" * 70000)
            answers.append(connection.answer())
    assert [answer.status for answer in answers] == [401] * 5 + [429] * 3
    assert answers[-1].error["code"] == "rate_limit_exceeded"


def test_what_is_refused_is_in_the_metrics(strict):
    exhaust(strict, "198.51.100.9")
    with Http1(strict.admin_port) as connection:
        text = connection.request("GET", "/metrics", bearer(strict.settings["admin"]["token"])).body.decode()
    assert int(re.search(r'^tollgate_limited_total\{reason="authentication"\} ([0-9]+)$', text, re.MULTILINE)[1]) >= 7


def test_without_a_limit_every_wrong_key_is_401(own_relay):
    relay = own_relay({"request_limits": {"failed_auth_per_minute": 0}})
    assert {relay.get("/v1/key", UNKNOWN).status for _ in range(30)} == {401}


# --- signatures ---

def signature(key, method, target, body=b"", at=None):
    stamp = str(int(time.time()) if at is None else at)
    text = f"{stamp}.{method}.{target}.{hashlib.sha256(body).hexdigest()}".encode()
    return {"x-timestamp": stamp, "x-signature": "v2=" + hmac.new(key.encode(), text, hashlib.sha256).hexdigest()}


def fresh_target():
    """A GET that was never signed before: two alike in one second would be a replay."""
    return f"/v1/key?{os.urandom(8).hex()}"


def old_signature(key, at=None):
    stamp = str(int(time.time()) if at is None else at)
    return {"x-timestamp": stamp, "x-signature": hmac.new((stamp + key).encode(), b"", hashlib.sha256).hexdigest()}


@pytest.fixture(scope="module")
def signing(place):
    """A key that takes signed requests only."""
    return place.create_key(place.tenant, "--require-signature")


@pytest.fixture
def body(mock):
    return json.dumps(mock.case(behaviour.chat()).body()).encode()


def post(relay, key, headers, body, target=CHAT):
    return relay.request("POST", target, key, {"content-type": "application/json", **headers}, body)


def assert_refused(answer, words=""):
    assert answer.status == 401, answer.body
    assert (answer.error["type"], answer.error["code"]) == ("authentication_error", "invalid_signature")
    assert words in answer.error["message"]


@pytest.mark.parametrize("required", [True, False])
def test_a_good_signature(place, signing, body, required):
    key = signing if required else place.key
    assert post(place, key, signature(key, "POST", CHAT, body), body).status == 200
    target = CHAT + "?stream=false&x=%20y"
    assert post(place, key, signature(key, "POST", target, body), body, target).status == 200
    assert place.get("/v1/models", key, signature(key, "GET", "/v1/models")).status == 200


def test_a_good_signature_over_http2(place, signing, body):
    with place.connect2() as connection:
        headers = bearer(signing, {"content-type": "application/json", **signature(signing, "POST", CHAT, body)})
        assert connection.request("POST", CHAT, headers, body).status == 200
        again = connection.request("POST", CHAT, headers, body)
        assert again.status == 401 and again.json()["error"]["code"] == "invalid_signature"


@pytest.mark.parametrize("carrier", ["x-api-key", "api-key"])
def test_the_key_may_stand_in_any_header(place, signing, carrier):
    target = fresh_target()
    assert place.request("GET", target, None, {carrier: signing, **signature(signing, "GET", target)}).status == 200


def test_a_key_that_must_sign(place, signing, body):
    assert_refused(post(place, signing, {}, body), "signed requests only")
    assert_refused(post(place, signing, old_signature(signing), body), "v2=")
    assert place.get("/healthz").status == 200


def test_the_older_form_where_it_is_allowed(place, body):
    headers = old_signature(place.key)
    assert post(place, place.key, headers, body).status == 200
    assert post(place, place.key, headers, body).status == 200
    assert_refused(post(place, place.key, old_signature(place.key + "x"), body))
    assert_refused(post(place, place.key, old_signature(place.key, int(time.time()) - 400), body), "300 seconds")


@pytest.mark.parametrize("required", [True, False])
def test_what_was_changed_is_refused(place, signing, body, required):
    key = signing if required else place.key
    good = signature(key, "POST", CHAT, body)
    assert_refused(post(place, key, good, body + b" "), "does not fit")
    assert_refused(post(place, key, good, body, CHAT + "?stream=true"), "does not fit")
    assert_refused(post(place, key, {**good, "x-timestamp": str(int(good["x-timestamp"]) + 1)}, body), "does not fit")
    assert_refused(post(place, key, signature(UNKNOWN, "POST", CHAT, body), body), "does not fit")
    assert_refused(place.get("/v1/key", key, signature(key, "POST", "/v1/key")), "does not fit")
    assert_refused(place.get("/v1/key", key, signature(key, "GET", "/v1/models")), "does not fit")
    assert post(place, key, good, body).status == 200


@pytest.mark.parametrize("off", [-310, 310, -86400, 86400])
def test_the_time_must_be_near(place, signing, off):
    headers = signature(signing, "GET", "/v1/key", at=int(time.time()) + off)
    assert_refused(place.get("/v1/key", signing, headers), "300 seconds")


@pytest.mark.parametrize("off", [-280, 280])
def test_a_clock_may_be_off_a_little(place, signing, off):
    headers = signature(signing, "GET", "/v1/key", at=int(time.time()) + off)
    assert place.get("/v1/key", signing, headers).status == 200
    assert_refused(place.get("/v1/key", signing, headers), "used before")


@pytest.mark.parametrize("headers", [
    {"x-timestamp": "1700000000"}, {"x-signature": "v2=" + "0" * 64}, {"x-timestamp": "", "x-signature": ""},
    {"x-timestamp": "now", "x-signature": "v2=" + "0" * 64}, {"x-timestamp": "1700000000", "x-signature": "v2=zz"},
])
def test_half_or_malformed_signatures(place, headers):
    assert_refused(place.get("/v1/key", place.key, headers))


def test_two_signatures_on_one_request(place, signing):
    good = signature(signing, "GET", "/v1/key")
    lines = ["GET /v1/key HTTP/1.1", "host: x", f"authorization: Bearer {signing}", f"x-timestamp: {good['x-timestamp']}",
             f"x-signature: {good['x-signature']}", "x-signature: v2=" + "0" * 64]
    with place.connect() as connection:
        connection.send_raw(("\r\n".join(lines) + "\r\n\r\n").encode())
        assert_refused(connection.answer())


def test_a_replay_is_refused_in_every_worker(place, doors, signing, body):
    headers = bearer(signing, {"content-type": "application/json", **signature(signing, "POST", CHAT, body)})
    assert doors[0].request("POST", CHAT, headers, body).status == 200
    for door in doors:
        assert_refused(door.request("POST", CHAT, headers, body), "used before")


def test_of_simultaneous_replays_one_is_served(place, doors, signing):
    for _ in range(20):
        target = fresh_target()
        headers = bearer(signing, signature(signing, "GET", target))
        for door in doors:
            door.send("GET", target, headers)
        assert sorted(door.answer().status for door in doors) == [200, 401, 401, 401]


def test_a_request_that_was_refused_has_used_its_signature(place, signing):
    wrong = json.dumps({"model": "nobody", "messages": [{"role": "user", "content": "x"}]}).encode()
    headers = signature(signing, "POST", CHAT, wrong)
    assert post(place, signing, headers, wrong).status == 404
    assert_refused(post(place, signing, headers, wrong), "used before")


def test_a_wrong_key_is_named_before_its_signature(place):
    answer = place.get("/v1/key", UNKNOWN, signature(UNKNOWN, "GET", "/v1/key"))
    assert answer.status == 401 and answer.error["code"] == "invalid_api_key"


@pytest.mark.parametrize("end", ["stop", "kill_all"])
def test_a_restart_does_not_forget_used_signatures(own_relay, end):
    relay = own_relay()
    key = relay.create_key(relay.create_tenant("t"), "--require-signature")
    used = signature(key, "GET", "/v1/key")
    assert relay.get("/v1/key", key, used).status == 200
    getattr(relay, end)()
    relay.start()
    assert_refused(relay.get("/v1/key", key, used), "used before")
    target = fresh_target()
    assert relay.get(target, key, signature(key, "GET", target)).status == 200


# --- what holds in every worker ---

def codes(doors, key):
    """What each worker says to the key: None for yes."""
    answers = [door.request("GET", "/v1/key", bearer(key)) for door in doors]
    return {None if answer.status == 200 else answer.error["code"] for answer in answers}


def test_a_changed_allow_list_holds_in_every_worker(place, doors):
    key = place.create_key(place.tenant)
    assert codes(doors, key) == {None}
    place.ok("key", "update", key, "--allow-ip", "192.0.2.0/24")
    assert codes(doors, key) == {"ip_not_allowed"}
    place.ok("key", "update", key, "--allow-ip", "192.0.2.0/24,127.0.0.1")
    assert codes(doors, key) == {None}


def test_disabling_holds_in_every_worker(place, doors):
    tenant = place.create_tenant("switched")
    key = place.create_key(tenant)
    for what, name in (("key", key), ("tenant", tenant)):
        place.ok(what, "disable", name)
        assert codes(doors, key) == {"key_disabled"}
        place.ok(what, "enable", name)
        assert codes(doors, key) == {None}


def test_rotation_holds_in_every_worker(place, doors):
    old = place.create_key(place.tenant)
    new = place.ok("key", "rotate", old, "--grace", "2s")
    assert codes(doors, new) == {None}
    until(lambda: codes(doors, old) == {"invalid_api_key"}, "the end of the grace")
    assert codes(doors, new) == {None}
    newest = place.ok("key", "rotate", new, "--grace", "0s")
    assert codes(doors, new) == {"invalid_api_key"} and codes(doors, newest) == {None}
    place.ok("key", "revoke", newest)
    assert codes(doors, newest) == {"invalid_api_key"}


def test_expiry_holds_in_every_worker(place, doors):
    key = place.create_key(place.tenant, "--expires", "2s")
    until(lambda: "expired_api_key" in codes(doors, key), "the expiry")
    assert codes(doors, key) == {"expired_api_key"}


def test_a_required_signature_holds_in_every_worker(place, doors):
    key = place.create_key(place.tenant)
    assert codes(doors, key) == {None}
    place.ok("key", "update", key, "--require-signature")
    assert codes(doors, key) == {"invalid_signature"}
