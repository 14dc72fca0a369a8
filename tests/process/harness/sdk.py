"""Real clients as child processes: each is started once and asked one scenario after the other, a line of JSON each way."""

import json
import os
import selectors
import shutil
import subprocess
from dataclasses import dataclass

from harness import paths
from harness.wait import SLOWNESS

SCRIPTS = paths.CLONE / "tests" / "process" / "sdk"
NODE_FOLDER = paths.CLONE / "build" / "node"
LIMIT_S = 60 * SLOWNESS


@dataclass(frozen=True)
class Sdk:
    """One client library. `dialect` is what it speaks to the relay: "chat" or "messages"."""
    name: str
    dialect: str
    script: str
    package: str | None
    arguments: tuple = ()

    @property
    def is_python(self):
        return self.script.endswith(".py")

    def missing(self):
        """Why it cannot run here, or None."""
        if self.is_python:
            there = self.package is None or any((paths.VENV_PYTHON.parent.parent / "lib").glob(f"python3*/site-packages/{self.package}"))
            return None if there else f"no Python package {self.package} below build/venv: the registry could not be reached"
        if shutil.which("node") is None:
            return "no node"
        there = self.package is None or (NODE_FOLDER / "node_modules" / self.package).is_dir()
        return None if there else f"no npm package {self.package} below build/node: no npm, or the registry could not be reached"


SDKS = [
    Sdk("openai-python", "chat", "openai_client.py", "openai"),
    Sdk("openai-node", "chat", "openai_client.mjs", "openai"),
    Sdk("vercel-openai", "chat", "vercel_client.mjs", "ai", ("openai",)),
    Sdk("anthropic-python", "messages", "anthropic_client.py", "anthropic"),
    Sdk("anthropic-node", "messages", "anthropic_client.mjs", "@anthropic-ai/sdk"),
    Sdk("vercel-anthropic", "messages", "vercel_client.mjs", "ai", ("anthropic",)),
]


class Client:
    """A running client."""

    def __init__(self, sdk, log):
        self.sdk = sdk
        self.log = log
        with open(log, "wb") as errors:
            self.process = subprocess.Popen(command_of(sdk), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                                            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.process.stdout, selectors.EVENT_READ)

    def send(self, scenario, **arguments):
        """Starts a scenario; take() has what came of it."""
        self.process.stdin.write(json.dumps({"do": scenario, **arguments}).encode() + b"\n")
        self.process.stdin.flush()

    def take(self):
        """{"value": what the scenario returned} or {"raised": what it threw}."""
        assert self._selector.select(LIMIT_S), f"{self.sdk.name} said nothing: {self.log.read_text()[-2000:]}"
        line = self.process.stdout.readline()
        assert line, f"{self.sdk.name} ended: {self.log.read_text()[-2000:]}"
        return json.loads(line)

    def ask(self, scenario, **arguments):
        """What the scenario returned."""
        self.send(scenario, **arguments)
        told = self.take()
        assert "value" in told, f"{self.sdk.name} {scenario}: {told}"
        return told["value"]

    def fail(self, scenario, **arguments):
        """What the scenario threw."""
        self.send(scenario, **arguments)
        told = self.take()
        assert "raised" in told, f"{self.sdk.name} {scenario} did not fail: {told}"
        return told["raised"]

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(10 * SLOWNESS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self._selector.close()


def command_of(sdk):
    place_node_scripts()
    if sdk.is_python:
        return [paths.VENV_PYTHON, SCRIPTS / sdk.script, *sdk.arguments]
    return ["node", NODE_FOLDER / sdk.script, *sdk.arguments]


def place_node_scripts():
    """Node finds packages from where a script lies: copies go beside build/node/node_modules."""
    for script in SCRIPTS.rglob("*.mjs"):
        copy = NODE_FOLDER / script.relative_to(SCRIPTS)
        if not copy.exists() or copy.read_bytes() != script.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            fresh = copy.with_suffix(f".{os.getpid()}")
            fresh.write_bytes(script.read_bytes())
            fresh.rename(copy)
