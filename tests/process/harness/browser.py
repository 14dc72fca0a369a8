"""Debian's Chromium, without a window, through playwright-core: browser/driver.js runs it and obeys line by line."""

import functools
import itertools
import json
import os
import select
import shutil
import subprocess

from harness import paths
from harness.wait import LIMIT_S, until

DRIVER = paths.CLONE / "tests" / "process" / "browser" / "driver.js"
MODULES = paths.CLONE / "build" / "browser" / "node_modules"


@functools.cache
def why_not():
    """What is missing for tests in a browser; "" when nothing is."""
    if shutil.which("chromium") is None:
        return "no chromium: apt-get install chromium"
    if shutil.which("node") is None:
        return "no node: apt-get install nodejs npm"
    if not (MODULES / "playwright-core").exists():
        return f"no playwright-core in {MODULES}: npm or its registry could not be reached"
    return ""


class Browser:
    """One Chromium. Pages are told apart by name, each in a context of its own: no cookies or storage in common."""

    def __init__(self, directory):
        self._log = open(directory / "chromium.log", "wb")
        self._process = subprocess.Popen(["node", DRIVER, shutil.which("chromium"), str(int(LIMIT_S * 1000))], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, stderr=self._log, start_new_session=True,
                                         env={**os.environ, "NODE_PATH": str(MODULES), "HOME": str(directory)})
        self._numbers = itertools.count(1)
        self._rest = b""
        self.version = self._line(LIMIT_S * 4)["version"]

    def close(self):
        self._process.stdin.close()
        self._process.wait(LIMIT_S)
        self._log.close()

    def open(self, url=None, **options):
        """A new page; options are those of playwright's newContext."""
        page = Page(self, f"page{next(self._numbers)}")
        page.call("open", options)
        if url:
            page.call("goto", url)
        return page

    def ask(self, page, call, args):
        command = {"id": next(self._numbers), "page": page, "call": call, "args": args}
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()
        while (answer := self._line(LIMIT_S * 3)).get("id") != command["id"]:
            pass
        assert "error" not in answer, f"{call} {args}: {answer['error']}"
        return answer["result"]

    def _line(self, limit_s):
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self._process.stdout], [], [], limit_s)
            assert ready, f"Chromium says nothing for {limit_s:g} s"
            data = os.read(self._process.stdout.fileno(), 1 << 16)
            assert data, f"Chromium's driver ended: see {self._log.name}"
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        return json.loads(line)


class Page:
    """One page. call("click", "#send") is playwright's page.click("#send")."""

    def __init__(self, browser, name):
        self._browser, self._name = browser, name

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        problems = self.call("problems")
        self.call("close")
        assert kind is not None or problems == [], problems

    def call(self, method, *args):
        return self._browser.ask(self._name, method, list(args))

    def run(self, script):
        """The value of an expression, or of the promise that it is."""
        return self.call("evaluate", script)

    def until(self, condition, what):
        """Waits until an expression of the page is true. (playwright's own waiting needs a page that allows eval.)"""
        until(lambda: self.run(condition), f"{what}, in the page")

    def text(self, selector):
        return self.call("textContent", selector)
