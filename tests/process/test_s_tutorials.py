"""Clients as the tutorials about server-sent events and WebSockets have them: they get an address, a key and a question, and
are otherwise run as they stand in sdk/tutorial/."""

import os
import subprocess

import pytest

from harness import tls
from harness.ports import free_port
from harness.sdk import Sdk, command_of
from harness.wait import SLOWNESS, until
from mock import behaviour

WORDS = ("Héllo", " wörld", " 世界", " 🙂")
TEXT = "".join(WORDS)
LIMIT_S = 60 * SLOWNESS

CLIENTS = [Sdk("fetch-reader", "chat", "tutorial/fetch_reader.mjs", None),
           Sdk("fetch-careless", "chat", "tutorial/fetch_careless.mjs", None),
           Sdk("https-request", "chat", "tutorial/https_request.mjs", None),
           Sdk("requests-content", "chat", "tutorial/requests_content.py", "requests"),
           Sdk("requests-lines", "chat", "tutorial/requests_lines.py", "requests"),
           Sdk("ws-header", "socket", "tutorial/ws_header.mjs", "ws"),
           Sdk("ws-query", "socket", "tutorial/ws_query.mjs", "ws"),
           Sdk("ws-reconnect", "socket", "tutorial/ws_reconnect.mjs", "ws"),
           Sdk("websockets", "socket", "tutorial/websockets_client.py", "websockets"),
           Sdk("eventsource", "events", "tutorial/event_source.mjs", "eventsource")]


def client_named(name):
    return next(client for client in CLIENTS if client.name == name)


class Running:
    """A client that has been started."""

    def __init__(self, client, url, key, prompt, directory, **environment):
        if reason := client.missing():
            pytest.skip(reason)
        self.out, self.err = directory / f"{client.name}.out", directory / f"{client.name}.err"
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.process = subprocess.Popen([*command_of(client), prompt], stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                            env={**os.environ, "URL": url, "KEY": key, "PYTHONUTF8": "1", **environment})

    @property
    def text(self):
        return self.out.read_text(errors="replace")

    def end(self):
        """What it printed, once it has ended well."""
        try:
            assert self.process.wait(LIMIT_S) == 0, f"{self.text}\n{self.err.read_text()}"
        finally:
            self.kill()
        return self.text

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def run(tmp_path):
    """run(name, url, key, prompt): starts that client."""
    running = []

    def start(name, url, key, prompt, **environment):
        running.append(Running(client_named(name), url, key, prompt, tmp_path, **environment))
        return running[-1]
    yield start
    for client in running:
        client.kill()


def address_of(relay):
    return f"http://127.0.0.1:{relay.port}"


@pytest.mark.parametrize("name", [client.name for client in CLIENTS])
def test_it_prints_the_answer(relay, mock, key, run, name):
    case = mock.case(behaviour.stream(*WORDS))
    assert run(name, address_of(relay), key, case.prompt).end() == TEXT + " [end]\n"


@pytest.mark.parametrize("name", [client.name for client in CLIENTS])
def test_it_prints_each_word_when_it_comes(relay, mock, key, run, name):
    pace = mock.pace()
    case = mock.case(behaviour.stream(*WORDS, pace=pace))
    client = run(name, address_of(relay), key, case.prompt)
    for count in range(1, len(WORDS)):
        pace.release()
        until(lambda: client.text == "".join(WORDS[:count]), f"{count} words", LIMIT_S)
    pace.open()
    assert client.end() == TEXT + " [end]\n"


@pytest.mark.parametrize("name", [client.name for client in CLIENTS if client.name != "ws-reconnect"])
def test_leaving_it_ends_the_upstream_s_answer(relay, mock, key, run, name):
    pace = mock.pace()
    pace.release()
    case = mock.case(behaviour.stream("a", "b", pace=pace))
    client = run(name, address_of(relay), key, case.prompt)
    until(lambda: client.text == "a", "the first word", LIMIT_S)
    client.kill()
    if name == "eventsource":  # that stream can be resumed: it is read to its end
        pace.open()
    until(lambda: case.last.ended_at, "the end of the upstream's answer")
    assert case.last.client_left is (name != "eventsource")


def test_https_request_over_tls(module_relay, mock, run, tmp_path_factory):
    certificate, private = tls.make_certificate(tmp_path_factory.mktemp("tls"))
    port = free_port()
    relay = module_relay({"listen": [{"address": f"127.0.0.1:{free_port()}"},
                                     {"address": f"127.0.0.1:{port}",
                                      "tls": {"certificate": str(certificate), "key": str(private)}}]})
    relay.create_tenant("tls")
    case = mock.case(behaviour.stream(*WORDS))
    client = run("https-request", f"https://localhost:{port}", relay.create_key("tls"), case.prompt,
                 NODE_EXTRA_CA_CERTS=str(certificate), NODE_OPTIONS="--dns-result-order=ipv4first")
    assert client.end() == TEXT + " [end]\n"


@pytest.mark.parametrize("name", ["ws-header", "ws-query"])
def test_a_wrong_key_is_told_at_the_upgrade(relay, run, name):
    client = run(name, address_of(relay), "sk-tg-wrong", "x")
    client.process.wait(LIMIT_S)
    assert "401" in client.err.read_text() and client.text == ""


def test_a_socket_comes_back_to_a_server_that_was_away(own_relay, mock, run):
    relay = own_relay()
    relay.create_tenant("t")
    key = relay.create_key("t")
    case = mock.case(behaviour.sequence(behaviour.stream("a", ending="stall"), behaviour.stream(*WORDS)))
    client = run("ws-reconnect", address_of(relay), key, case.prompt)
    until(lambda: client.text == "a", "the first word", LIMIT_S)
    relay.kill_all()
    until(lambda: client.text.count("[lost]") >= 2, "the client's trying again", LIMIT_S)
    relay.start()
    text = client.end()
    assert text.endswith("\n" + TEXT + " [end]\n") and case.count == 2


def test_requests_come_back_to_a_server_that_was_away(own_relay, mock, run):
    relay = own_relay()
    relay.create_tenant("t")
    key = relay.create_key("t")
    case = mock.case(behaviour.stream(*WORDS))
    address = address_of(relay)
    relay.stop()
    client = run("requests-lines", address, key, case.prompt)
    until(lambda: client.text.count("[away]") >= 2, "the client's trying again", LIMIT_S)
    relay.start()
    assert client.end().endswith("\n" + TEXT + " [end]\n")
    assert case.count == 1


def test_requests_come_back_when_there_is_room(relay, fresh_tenant, mock, run):
    key = relay.create_key(fresh_tenant, "--concurrent", "1")
    pace = mock.pace()
    held, case = mock.case(behaviour.stream("a", "b", pace=pace)), mock.case(behaviour.stream(*WORDS))
    with relay.stream_after(key, held, pace, 1) as stream:
        client = run("requests-lines", address_of(relay), key, case.prompt)
        until(lambda: client.text.count("[429]") >= 2, "the client's trying again", LIMIT_S)
        pace.open()
        stream.drain()
    assert client.end().endswith("\n" + TEXT + " [end]\n") and case.count == 1
