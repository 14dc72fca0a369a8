"""The real openai SDK against the relay. tests/run makes the environment it lives in; without one these are skipped."""

import json
import subprocess

import pytest

from harness import paths
from harness.wait import until
from mock import behaviour

CLIENT = paths.CLONE / "tests" / "process" / "sdk" / "openai_client.py"


def has_sdk():
    probe = [paths.VENV_PYTHON, "-c", "import openai"]
    return paths.VENV_PYTHON.exists() and subprocess.run(probe, capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not has_sdk(), reason=f"no openai SDK in {paths.VENV_PYTHON.parent.parent}: "
                                                      "the package registry could not be reached")


@pytest.fixture
def sdk(relay, key):
    """sdk(scenario, case): what the SDK saw."""
    def run(scenario, case=None, with_key=None):
        base_url = f"http://127.0.0.1:{relay.port}/v1"
        command = [paths.VENV_PYTHON, CLIENT, scenario, base_url, with_key or key, case.prompt if case else "hello"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
    return run


def test_lists_models(sdk):
    assert {"test-model", "other-model"} <= set(sdk("models"))
    assert sdk("model") == "test-model"


def test_chats(relay, mock, sdk):
    seen = sdk("chat", mock.case(behaviour.chat("Hello", " world")))
    assert (seen["text"], seen["tokens"]) == ("Hello world", 2)
    assert relay.record(seen["id"])["output_tokens"] == 2


def test_streams(mock, sdk):
    assert sdk("stream", mock.case(behaviour.chat("Hello", " world"))) == {"text": "Hello world", "usage": False}


def test_streams_with_usage(mock, sdk):
    seen = sdk("stream_with_usage", mock.case(behaviour.chat("Hello", " world")))
    assert (seen["text"], seen["tokens"]) == ("Hello world", 2)
    assert seen["cost"] > 0


def test_asks_asynchronously(mock, sdk):
    assert sdk("asynchronous", mock.case(behaviour.chat("Hello"))) == ["Hello"] * 10


def test_leaves_early(mock, sdk):
    case = mock.case(behaviour.stream("a", "b", ending="stall"))
    assert sdk("leave_early", case) == "a"
    until(lambda: case.last.client_left, "the relay's hanging up")


@pytest.mark.parametrize(("scenario", "answer", "kind", "status", "code"), [
    ("unknown_model", None, "NotFoundError", 404, "model_not_found"),
    ("bad_request", None, "BadRequestError", 400, "invalid_value"),
    ("failing", behaviour.status(429), "RateLimitError", 429, "rate_limit_exceeded"),
    ("failing", behaviour.status(401), "InternalServerError", 502, None),
    ("failing_stream", behaviour.status(400), "BadRequestError", 400, None)])
def test_raises_its_typed_errors(mock, sdk, scenario, answer, kind, status, code):
    seen = sdk(scenario, mock.case(answer) if answer else None)
    assert (seen["class"], seen["status"]) == (kind, status)
    assert code is None or seen["code"] == code
    assert seen["id"]


def test_a_wrong_key_is_an_authentication_error(sdk):
    seen = sdk("failing", with_key="sk-wrong")
    assert (seen["class"], seen["code"]) == ("AuthenticationError", "invalid_api_key")


def test_a_broken_stream_raises(mock, sdk):
    seen = sdk("failing_stream", mock.case(behaviour.stream("a", "b", ending="close")))
    assert seen["class"] == "APIError" and seen["message"]
