"""The configuration the tests run with: a plain dict, written as JSON, which YAML includes."""

import copy
import json

from harness.ports import free_port

UPSTREAM_KEY = "sk-upstream-canary-Zk81mQ"
UPSTREAM_ORGANISATION = "org-canary-Zk81mQ"
ADMIN_TOKEN = "admin-canary-Zk81mQ"
CANARY = "canary-Zk81mQ"

PRICE = {"input": 2.00, "cached_input": 0.50, "cache_write": 2.50, "output": 8.00}
COST = {"input": 1.00, "cached_input": 0.25, "cache_write": 1.25, "output": 4.00}
LIST_PRICE = {"input": 3.00, "output": 12.00}


def upstream(mock, path="", **fields):
    """An upstream served by the mock under /PATH/v1."""
    base = f"http://127.0.0.1:{mock.port}{'/' + path if path else ''}/v1"
    return {"dialect": "openai", "base_url": base, "api_key": UPSTREAM_KEY, "allow_private": True,
            "headers": {"openai-organization": UPSTREAM_ORGANISATION},
            "timeouts": {"connect": "2s", "first_byte": "30s", "idle": "30s"}, **fields}


def model(*routes, **fields):
    """A priced model with these routes (upstream names or route dicts)."""
    whole = [{"upstream": route, "cost": COST} if isinstance(route, str) else route for route in routes]
    return {"price": PRICE, "list_price": LIST_PRICE, "context": 100000, "max_output": 4096, "routes": whole, **fields}


def base(mock):
    """What every relay of the tests serves. test-model asks the mock; the others are for faults and fallbacks."""
    impatient = {"connect": "1s", "first_byte": "400ms", "idle": "400ms"}
    return {
        "listen": [{"address": f"127.0.0.1:{free_port()}"}],
        "admin": {"address": f"127.0.0.1:{free_port()}", "token": ADMIN_TOKEN},
        "workers": 2,
        "upstreams": {
            "mock": upstream(mock),
            "one": upstream(mock, "one"),
            "two": upstream(mock, "two"),
            "impatient": upstream(mock, timeouts=impatient),
            "refusing": {**upstream(mock), "base_url": f"http://127.0.0.1:{free_port()}/v1"},
        },
        "models": {
            "test-model": model({"upstream": "mock", "model": "provider-model", "cost": COST}),
            "other-model": model("mock"),
            "large-model": model("mock", context=4_000_000),
            "test-alias": {"alias": "test-model"},
            "impatient-model": model("impatient"),
            "refused-model": model("refusing"),
            "two-routes": model({"upstream": "one", "cost": COST}, {"upstream": "two", "priority": 2, "cost": COST}),
            "with-fallback": model("one", fallback=["other-model"]),
        },
        "retry": {"attempts": 3, "base": "10ms", "max": "100ms"},
        "breaker": {"failures": 100000, "window": "1s", "cooldown": "1s"},
        "drain_timeout": "20s",
        "log": {"access": "stdout", "format": "json", "level": "info"},
    }


def merged(settings, changes):
    """A copy of settings with changes laid over it; dicts are merged, None removes."""
    result = copy.deepcopy(settings)
    for name, value in changes.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict) and isinstance(result.get(name), dict):
            result[name] = merged(result[name], value)
        else:
            result[name] = copy.deepcopy(value)
    return result


def text_of(settings):
    """As a file's text: one setting a line, so that findings have telling lines."""
    return json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
