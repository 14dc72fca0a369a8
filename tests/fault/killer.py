"""SIGKILL for a worker, the ledger, the admin process, the master, several or all of them, and what it takes to serve again."""

import collections
import ctypes
import os
import random
import signal
import time

from harness import processes
from harness.wait import SLOWNESS, until

# What is killed, and how often among all kills. `boot` kills a server that has not finished starting.
KINDS = {"worker": 40, "workers": 6, "ledger": 22, "worker+ledger": 8, "admin": 8, "master": 7, "all": 7}
BOOT_SHARE = 0.2  # of the starts
PAUSE_S = (0.02, 0.25)
RESPAWN_LIMIT_S = 20 * SLOWNESS
PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans():
    """Children of a killed master become ours, so that none is left a zombie for want of a caring init."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(child) for child in file.read().split()]
    except FileNotFoundError:
        return processes.children_of(pid)
    except OSError:
        return []


class Killer:
    """Kills processes of one relay and starts it anew. Keeps every kill with its time for the story of a violation."""

    def __init__(self, relay, seed):
        self.relay = relay
        self.chance = random.Random(f"killer {seed}")
        self.kills = []  # (time, kind, names and pids)
        self.counts = collections.Counter()
        self.worst = collections.defaultdict(float)  # kind -> seconds until all was back
        self.starts = 0
        self._family = set()
        self._missing = {}  # name of a process that was killed -> (its pid, when)

    def pause(self):
        time.sleep(self.chance.uniform(*PAUSE_S) * SLOWNESS)

    def children(self):
        """name -> pid, as their titles say: "worker 0", "ledger", "admin". One just forked still has its master's."""
        found = {}
        for pid in _children(self.relay.pid):
            self._family.add(pid)
            title = processes.title_of(pid)
            if title == "tollgate: master":
                found[f"newborn {pid}"] = pid
            elif title.startswith("tollgate: "):
                found[" ".join(title.removeprefix("tollgate: ").split()[:2 if "worker" in title else 1])] = pid
        self._note_returns(found)
        return found

    def _note_returns(self, found):
        for name, (pid, when) in list(self._missing.items()):
            if found.get(name) not in (None, pid):
                kind = name.split()[0]
                self.worst[kind] = max(self.worst[kind], time.monotonic() - when)
                del self._missing[name]

    def kill_something(self):
        """One kill of a random kind. Returns once the server runs again where the kill ended it."""
        kind = self.chance.choices(list(KINDS), list(KINDS.values()))[0]
        children = self.children()
        workers = [name for name in children if name.startswith("worker")]
        if kind in ("master", "all"):
            self._kill_server(kind, children)
            self._start_again(kind)
            return
        names = {"worker": workers and [self.chance.choice(workers)], "workers": workers,
                 "worker+ledger": workers and [self.chance.choice(workers), "ledger"]}.get(kind, [kind])
        self._kill(kind, {name: children[name] for name in names if name in children})

    def _kill(self, kind, victims):
        now = time.monotonic()
        killed = {}
        for name, pid in victims.items():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            killed[name] = pid
            self._missing.setdefault(name, (pid, now))
        if killed:
            self.counts[kind] += 1
            self.kills.append((now, kind, killed))

    def _kill_server(self, kind, children):
        victims = {"master": self.relay.pid}
        if kind != "master":
            victims.update(children)
        self._kill(kind, victims)
        self._missing.clear()
        self.relay.process.wait(RESPAWN_LIMIT_S)
        if kind == "master" and self.chance.random() < 0.3:
            # Now and then one of the orphans dies on its way out, when nobody would replace it.
            time.sleep(self.chance.uniform(0, 0.3))
            orphans = {name: pid for name, pid in children.items() if processes.is_alive(pid)}
            if orphans:
                name = self.chance.choice(sorted(orphans))
                self._kill("orphan", {name: orphans[name]})
                self._missing.clear()

    def _start_again(self, kind):
        """The new server waits by itself for what is left of the old one."""
        when = time.monotonic()
        while self.chance.random() < BOOT_SHARE:
            self.relay.spawn()
            time.sleep(self.chance.uniform(0, 0.4) * SLOWNESS)
            if self.relay.process.poll() is None:
                self._kill_server("boot", self.children())
            self._reap()
        self.relay.start()
        self.starts += 1
        self.worst[kind] = max(self.worst[kind], time.monotonic() - when)
        self._reap()

    def _reap(self):
        for pid in list(self._family):
            try:
                gone = os.waitpid(pid, os.WNOHANG)[0] == pid
            except ChildProcessError:
                gone = not processes.is_alive(pid)
            if gone:
                self._family.discard(pid)

    def settle(self):
        """Waits until every killed process has its successor, and all of the old server's have ended."""
        until(lambda: self.children() and not self._missing, "all killed processes are back", RESPAWN_LIMIT_S)
        current = set(_children(self.relay.pid))

        def orphans():
            self._reap()
            return [pid for pid in self._family - current if processes.is_alive(pid)]
        until(lambda: not orphans(), "the old server's processes have ended", RESPAWN_LIMIT_S)

    def during(self, began_at, ended_at):
        """The kills of a span of time, for the story of a request."""
        return [f"{when - began_at:+.3f} s {kind} {killed}" for when, kind, killed in list(self.kills)
                if began_at - 0.5 <= when <= ended_at + 0.5]
