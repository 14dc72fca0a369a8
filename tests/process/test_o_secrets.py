"""Secrets and texts stay where they belong (I9): no key, upstream credential, prompt or answer in logs, titles, state, cores."""

import re

import pytest

from harness import config, processes
from harness.wait import until
from mock import behaviour, openai

PROMPT = "prompt-secret-Xq7"
ANSWER = "answer-secret-Xq7"


@pytest.fixture(scope="module")
def used(module_relay, mock):
    """A relay that has seen every kind of request, at the loudest log level."""
    relay = module_relay({"log": {"level": "debug"}}, environment={"MOCK_KEY": config.UPSTREAM_KEY})
    relay.key = relay.create_key(relay.create_tenant("t"))
    relay.wrong = "sk-tg-" + "wrongKEY" * 4 + "zzzzzz"
    quoting = openai.error(f"Incorrect API key {config.UPSTREAM_KEY} for {ANSWER}")
    behaviours = [behaviour.chat(ANSWER), behaviour.status(401, quoting), behaviour.status(500, quoting),
                  behaviour.stream(ANSWER, ending="close"), behaviour.raw(ANSWER.encode())]
    ids = []
    for each in behaviours:
        for stream in (False, True):
            body = mock.case(each).body(stream=stream)
            body["messages"].insert(0, {"role": "system", "content": PROMPT})
            ids.append(relay.chat(relay.key, body).id)
    for key in (relay.wrong, relay.key):
        relay.chat(key, {"model": PROMPT, "messages": PROMPT})
        relay.request("POST", f"/v1/chat/completions?api_key={key}", body={"model": 5, "messages": [PROMPT]})
    until(lambda: ids[0] in relay.all_output(), "the access log's lines")
    return relay


def secrets_of(relay):
    return {"the key": relay.key, "a wrong key": relay.wrong, "the upstream's key": config.UPSTREAM_KEY,
            "the admin token": config.ADMIN_TOKEN, "a prompt": PROMPT, "an answer": ANSWER}


def assert_free_of_secrets(relay, data, where):
    for name, secret in secrets_of(relay).items():
        assert secret.encode() not in data, f"{name} stands in {where}"


def test_logs(used):
    assert_free_of_secrets(used, used.all_output().encode(), "the logs")


def test_command_lines_and_environments(used):
    for pid in [used.pid, *processes.children_of(used.pid)]:
        assert_free_of_secrets(used, processes.title_of(pid).encode(), f"the title of {pid}")
        with open(f"/proc/{pid}/environ", "rb") as environment:
            assert_free_of_secrets(used, environment.read(), f"the environment of {pid}")


def test_state_files(used):
    files = [path for path in used.state.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert_free_of_secrets(used, path.read_bytes(), str(path))


def test_state_files_belong_to_their_owner_alone(used):
    for path in [used.state, *used.state.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0 or path.is_socket() and path.stat().st_mode & 0o007 == 0, path


def test_commands(used):
    for arguments in (("key", "list"), ("key", "list", "--json"), ("requests", "--json"), ("status", "--json"),
                      ("tenant", "show", "t"), ("key", "show", used.key)):
        assert_free_of_secrets(used, used.ok(*arguments).encode(), " ".join(arguments[:2]))


def test_no_process_can_dump_core(used):
    for pid in processes.children_of(used.pid):
        limits = open(f"/proc/{pid}/limits").read()
        assert re.search(r"Max core file size\s+0\s", limits), processes.title_of(pid)


def test_a_secret_may_come_from_the_environment_or_a_file(own_relay, mock):
    relay = own_relay(start=False, environment={"MOCK_KEY": "sk-from-environment"})
    (relay.directory / "key.txt").write_text("sk-from-file\n")
    upstreams = {"mock": {"api_key": "${MOCK_KEY}"}, "one": {"api_key": f"file:{relay.directory}/key.txt"}}
    relay.write_config(config.merged(relay.settings, {"upstreams": upstreams}))
    relay.start()
    key = relay.create_key(relay.create_tenant("t"))
    first, second = mock.case(behaviour.chat()), mock.case(behaviour.chat())
    assert relay.chat(key, first.body()).status == relay.chat(key, second.body("two-routes")).status == 200
    assert first.last.header("authorization") == "Bearer sk-from-environment"
    assert second.last.header("authorization") == "Bearer sk-from-file"
    with open(f"/proc/{relay.pid}/environ", "rb") as environment:
        assert b"sk-from-environment" not in environment.read()
