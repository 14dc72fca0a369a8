"""The ledger's disk, clock and files fail: a clear message, no lost record, and it goes on when the cause is gone."""

import glob
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest

from harness import paths, processes
from harness.http1 import Broken
from harness.wait import LIMIT_S, SLOWNESS, stays, until
from mock import behaviour, openai

SMALL = {"workers": 1, "capacity": {"keys": 64, "tenants": 16}}
DAY_S = 86400
NOBODY = 65534


def call(*command):
    return subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=60 * SLOWNESS)


@pytest.fixture
def mounts():
    """mounts(directory, *options) mounts something there until the test's relays have ended. Ask for it before own_relay."""
    made = []

    def mount(directory, *options):
        directory.mkdir(parents=True, exist_ok=True)
        done = call("mount", *options, directory)
        if done.returncode != 0:
            pytest.skip(f"may not mount: {done.stderr.strip()}")
        made.append(directory)
        return directory
    yield mount
    failed = [directory for directory in reversed(made) if call("umount", directory).returncode != 0]
    for directory in failed:
        call("umount", "--lazy", directory)
    assert failed == [], "still in use after the test"


class Load:
    """Clients that ask for short answers until stopped; keeps what each got and when."""

    def __init__(self, relay, key, mock, clients=3):
        self.answers = []
        self._ending = threading.Event()
        case = mock.case(behaviour.chat("a", "b"))

        def work():
            while not self._ending.is_set():
                try:
                    answer = relay.chat(key, case.body())
                    self.answers.append((time.monotonic(), answer))
                except (Broken, OSError):
                    self.answers.append((time.monotonic(), None))
        self._threads = [threading.Thread(target=work) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.stop()

    def count(self, status):
        return sum(answer is not None and answer.status == status for _, answer in list(self.answers))

    def wait_for(self, status, more, what):
        target = self.count(status) + more
        until(lambda: self.count(status) >= target, what, LIMIT_S * 2)

    def stop(self):
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def served(self):
        """When and under which id each whole answer came."""
        return [(at, answer.id) for at, answer in list(self.answers) if answer is not None and answer.status == 200]


def ids_in_books(relay):
    return Counter(record["id"] for record in relay.records("--last", "1000000"))


def give_key(relay):
    return relay.create_key(relay.create_tenant("t"))


def refuse_start(relay, *needles):
    """`serve` must end by itself, unharmed, telling all of this; returns what it said."""
    result = relay.cli("serve")
    assert result.code > 0, f"serve: {result}"
    for needle in needles:
        assert re.search(needle, result.err), f"{needle} is not in: {result.err}"
    return result.err


# --- disk ---

def fill(directory):
    """Takes all the room there is; unlink the result to give it back."""
    filler = directory / "filler"
    with open(filler, "wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            with pytest.raises(OSError, match="No space left"):
                while True:
                    file.write(bytes(size))
    return filler


@pytest.fixture
def small_disk(mounts, own_relay):
    """A relay, not started, whose state directory is a file system of 48 MiB."""
    relay = own_relay(SMALL, start=False)
    mounts(relay.state, "-t", "tmpfs", "-o", "size=48m,mode=0700", "tmpfs")
    return relay


def test_a_full_disk_refuses_new_requests_and_loses_none(small_disk, mock):
    relay = small_disk.start()
    key = give_key(relay)
    ledger = relay.status()["ledger"]["pid"]
    pace = mock.pace()
    stream = relay.stream_after(key, mock.case(behaviour.stream("a", "b", "c", pace=pace)), pace, 1)
    with Load(relay, key, mock) as load:
        load.wait_for(200, 20, "answers before")
        filler = fill(relay.state)
        load.wait_for(503, 5, "refusals once the disk is full")
        assert relay.get("/v1/models", key).status == 200
        pace.open()
        assert stream.drain()[-1].is_done
        filler.unlink()
        load.wait_for(200, 20, "answers when there is room again")
    refusal = next(answer for _, answer in load.answers if answer.status == 503)
    assert refusal.json()["error"]["code"] == "overloaded" and int(refusal.headers["retry-after"]) >= 1
    assert {answer.status for _, answer in load.answers} == {200, 503}
    events = [line for line in relay.stderr.splitlines() if '"ledger_cannot_commit"' in line]
    assert 1 <= len(events) <= 5 and "disk is full" in events[0]
    assert '"ledger_commits_again"' in relay.stderr
    expected = Counter([stream.id, *(identity for _, identity in load.served())])
    until(lambda: relay.json("usage")["total"]["requests"] >= len(expected), "all records")
    assert ids_in_books(relay) == expected
    assert relay.status()["ledger"]["pid"] == ledger
    assert relay.cli("verify").code == 0


def test_a_server_does_not_start_on_a_full_disk(small_disk, mock):
    filler = fill(small_disk.state)
    refuse_start(small_disk, re.escape(str(small_disk.state)), "(?i)no space left|disk is full")
    filler.unlink()
    relay = small_disk.start()
    key = give_key(relay)
    identity = relay.chat(key, mock.case(behaviour.chat()).body()).id
    relay.stop()
    filler = fill(relay.state)
    refuse_start(relay, re.escape(str(relay.state)), "MiB free|disk is full")
    filler.unlink()
    relay.start()
    assert ids_in_books(relay) == {identity: 1}


def test_a_read_only_file_system_is_refused(small_disk):
    call("mount", "-o", "remount,ro", small_disk.state)
    refuse_start(small_disk, re.escape(str(small_disk.state)), "(?i)read-only")
    call("mount", "-o", "remount,rw", small_disk.state)
    small_disk.start().stop()
    call("mount", "-o", "remount,ro", small_disk.state)
    try:
        refuse_start(small_disk, re.escape(str(small_disk.state)), "(?i)read-only")
    finally:
        call("mount", "-o", "remount,rw", small_disk.state)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
def test_a_directory_of_another_user_is_refused(own_relay):
    relay = own_relay(SMALL, start=False)
    as_nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        binary = place / "tollgate"
        shutil.copy(paths.BINARY, binary)
        configuration = place / "tollgate.yaml"
        configuration.write_text(relay.file.read_text())
        configuration.chmod(0o644)
        state = place / "state"
        state.mkdir(mode=0o755)
        if call(*as_nobody, binary, "--version").returncode != 0:
            pytest.skip("may not run as another user")
        done = call(*as_nobody, binary, "serve", "-c", configuration, "--state", state)
        assert done.returncode > 0
        assert str(state) in done.stderr and "ermission denied" in done.stderr and "run as" in done.stderr
        assert list(state.iterdir()) == []


# --- clock ---

class Clock:
    """The wall clock of a relay's processes, which libfaketime takes from a file. The monotonic clock stays true."""

    def __init__(self, library, file):
        self._file = file
        now = datetime.now(timezone.utc)
        noon = (now + timedelta(days=1)).replace(hour=12, minute=0, second=0, microsecond=0)
        self._noon_s = int((noon - now).total_seconds())  # no day ends during the test
        self._noon = noon
        self.environment = {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1",
                            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}
        self.step(0)

    def step(self, days):
        """Goes to a day after (or before) the first."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{self._noon_s + days * DAY_S:+d}\n")
        fresh.rename(self._file)

    def date(self, days):
        return (self._noon + timedelta(days=days)).date().isoformat()


@pytest.fixture
def clock(binary, tmp_path):
    libraries = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
    if not libraries:
        pytest.skip("no libfaketime (Debian package faketime)")
    if b"__asan_init" in binary.read_bytes():
        pytest.skip("AddressSanitizer does not go with libfaketime")
    return Clock(libraries[0], tmp_path / "clock")


def test_a_clock_that_steps_a_day(clock, own_relay, mock):
    price = 5 * Decimal("0.000002") + 50 * Decimal("0.000008")
    relay = own_relay({**SMALL, "tiers": {"limited": {"rpm": 600, "tpm": 1000000, "concurrent": 10}}},
                      environment=clock.environment)
    relay.create_tenant("t", "--tier", "limited")
    key = relay.create_key("t", "--budget", str(4 * price), "--per", "day")
    case = mock.case(behaviour.chat("x", counts=openai.usage(prompt=5, completion=50)))
    books = {}

    def ask():
        answer = relay.chat(key, case.body(max_tokens=50))
        assert answer.status == 200 or answer.json()["error"]["code"] == "insufficient_quota", answer.json()
        return answer

    def spent():
        return {name: Decimal(str(usd)) for name, usd in relay.get("/v1/key", key).json()["spend_usd"].items()}

    def spend_all(day):
        """Asks until the day's budget refuses; every answer must stand in the books of that day."""
        first = until(lambda: (answer := ask()).status == 200 and answer, f"an answer on day {day}")
        answers = [first]
        while (answer := ask()).status == 200:
            answers.append(answer)
        books.setdefault(day, []).extend(answer.id for answer in answers)
        until(lambda: spent()["day"] == len(books[day]) * price, f"the spend of day {day}")
        assert spent()["total"] == sum(map(len, books.values())) * price

    def expect_spent(day):
        until(lambda: spent()["day"] == len(books[day]) * price, f"the spend of day {day} after a step")
        assert stays(lambda: ask().status == 429, 0.5), f"day {day} had no money left"

    spend_all(0)
    once = len(books[0])
    assert 1 <= once <= 4
    clock.step(1)
    spend_all(1)
    clock.step(0)
    expect_spent(0)
    clock.step(-1)
    spend_all(-1)
    clock.step(1)
    expect_spent(1)
    assert {day: len(ids) for day, ids in books.items()} == {-1: once, 0: once, 1: once}
    for day, ids in books.items():
        for identity in ids:
            assert relay.record(identity)["end"].startswith(clock.date(day))
    rows = relay.json("usage", "--from", clock.date(-1), "--to", clock.date(2), "--by", "day")["rows"]
    assert [row["requests"] for row in rows] == [once] * 3
    assert relay.cli("verify").code == 0


# --- power cut ---

IMAGE_BYTES = 128 << 20
SEGMENT_BOOT_ID_AT = 48
SEGMENT_VERSION_AT = 8


def poke(file, offset, data):
    with open(file, "r+b") as opened:
        opened.seek(offset)
        opened.write(data)


def freeze(relay):
    """Stops every process of a server between two instructions. Returns them."""
    family = [relay.pid, *processes.children_of(relay.pid)]
    for pid in family:
        os.kill(pid, signal.SIGSTOP)
    for pid in family:
        until(lambda pid=pid: "T (stopped)" in Path(f"/proc/{pid}/status").read_text(), f"{pid} has stopped")
    return family


def cut_power(relay, image, copy):
    """Copies what the disk would hold if the power failed now: nothing that was not synced or written back. Returns
    when that was."""
    at = time.monotonic()
    family = freeze(relay)
    try:
        done = call("cp", "--sparse=always", image, copy)
        assert done.returncode == 0, done.stderr
    finally:
        for pid in family:
            os.kill(pid, signal.SIGCONT)
    return at


def test_a_power_cut_costs_the_last_moments_only(mounts, own_relay, mock, tmp_path, record_property):
    image = tmp_path / "disk"
    with open(image, "wb") as file:
        file.truncate(IMAGE_BYTES)
    if shutil.which("mkfs.ext4") is None or call("mkfs.ext4", "-q", "-F", image).returncode != 0:
        pytest.skip("cannot make an ext4 file system")
    relay = own_relay(SMALL, start=False)
    mounts(relay.state, "-o", "loop", image)
    relay.start()
    key = give_key(relay)
    costs_s = []
    with Load(relay, key, mock, clients=4) as load:
        for cut in range(1, 4):
            load.wait_for(200, 50, "answers before the cut")
            until(lambda: relay.json("usage")["total"]["requests"] >= 50 * cut, "records before the cut")
            after = own_relay(SMALL, start=False)
            at = cut_power(relay, image, after.directory / "copy")
            served = [(when, identity) for when, identity in load.served() if when < at]
            mounts(after.state, "-o", "loop", after.directory / "copy")
            poke(after.state / "segment", SEGMENT_BOOT_ID_AT, b"00000000-another-boot")
            verified = after.cli("verify")
            assert verified.code == 0, verified
            kept = ids_in_books(after)
            assert len(kept) >= 50 * cut and set(kept.values()) == {1}
            costs_s.append(max((at - when for when, identity in served if identity not in kept), default=0))
    record_property("power_cut_costs_ms", [round(cost * 1000) for cost in costs_s])
    print("power cuts cost the last", [f"{cost * 1000:.0f} ms" for cost in costs_s])
    assert min(costs_s) < 0.1 * SLOWNESS and max(costs_s) < 1 * SLOWNESS  # the machine may be busy with other tests
    after.start()
    assert after.chat(key, mock.case(behaviour.chat()).body()).status == 200


def test_a_cut_just_after_the_start_needs_no_repair(mounts, own_relay, mock, tmp_path):
    """Hardly anything of the segment has reached the disk by then: what is left of it must not be in the way."""
    image = tmp_path / "disk"
    with open(image, "wb") as file:
        file.truncate(IMAGE_BYTES)
    if shutil.which("mkfs.ext4") is None or call("mkfs.ext4", "-q", "-F", image).returncode != 0:
        pytest.skip("cannot make an ext4 file system")
    relay = own_relay(SMALL, start=False)
    mounts(relay.state, "-o", "loop", image)
    relay.start()
    key = give_key(relay)
    after = own_relay(SMALL, start=False)
    cut_power(relay, image, after.directory / "copy")
    mounts(after.state, "-o", "loop", after.directory / "copy")
    poke(after.state / "segment", SEGMENT_BOOT_ID_AT, b"00000000-another-boot")
    after.start()
    assert after.chat(key, mock.case(behaviour.chat()).body()).status == 200
    assert "segment_discarded" in after.stderr


# --- foreign and damaged files ---

@pytest.fixture(scope="module")
def books(module_relay, mock):
    """The state directory of a server that has ended, with fifty requests in it."""
    relay = module_relay(SMALL)
    key = give_key(relay)
    case = mock.case(behaviour.chat())
    for _ in range(50):
        assert relay.chat(key, case.body()).status == 200
    relay.stop()
    return relay.state


def replaced(data, old, new):
    assert old in data
    return data.replace(old, new)


def scrambled(data, start):
    return data[:start] + random.Random(5).randbytes(len(data) - start)


def of_lmdb_version(data, version):
    """Both meta pages: a page's header of 16 bytes, the magic number, the version."""
    damaged = bytearray(data)
    for page in (0, 4096):
        assert damaged[page + 16:page + 20] == bytes.fromhex("dec0efbe")
        damaged[page + 20:page + 24] = version.to_bytes(4, "little")
    return bytes(damaged)


DAMAGES = {
    "a newer store": lambda data: replaced(data, b"version\0\0\0\1", b"version\0\0\0\2"),
    "an older store": lambda data: replaced(data, b"version\0\0\0\1", b"version\0\0\0\0"),
    "a newer LMDB": lambda data: of_lmdb_version(data, 999),
    "random bytes": lambda data: scrambled(data, 0),
    "random pages": lambda data: scrambled(data, 8192),
    "empty pages": lambda data: data[:8192] + bytes(len(data) - 8192),
    "cut in half": lambda data: data[:len(data) // 2],
    "cut after the meta pages": lambda data: data[:8192],
    "cut inside a meta page": lambda data: data[:100],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_books_are_refused_with_what_to_do(own_relay, books, damage):
    relay = own_relay(SMALL, start=False)
    shutil.copytree(books, relay.state)
    data = relay.state / "ledger" / "data.mdb"
    damaged = damage(data.read_bytes())
    data.write_bytes(damaged)
    for command in (["verify"], ["usage", "--by", "model"], ["requests", "--last", "5"], ["key", "list"]):
        result = relay.cli(*command)
        assert result.code > 0 and "ledger" in result.err, f"{command}: {result}"
    refuse_start(relay, re.escape(str(relay.state)), "restore a backup|use the program that wrote it",
                 "move the directory away")
    assert data.read_bytes()[:len(damaged)] == damaged


def test_no_damaged_page_is_a_crash(own_relay, books):
    relay = own_relay(SMALL, start=False)
    shutil.copytree(books, relay.state)
    data = relay.state / "ledger" / "data.mdb"
    sound, codes = data.read_bytes(), Counter()
    for at in range(8192, len(sound), 4096):
        for size in (16, 4096):  # its header; all of it
            data.write_bytes(sound[:at] + random.Random(at).randbytes(size) + sound[at + size:])
            result = relay.cli("verify")
            assert result.code in (0, 1, 2), f"page {at // 4096}: {result}"
            assert result.code != 2 or "restore a backup" in result.err, f"page {at // 4096}: {result}"
            codes[result.code] += 1
    assert codes[0] < sum(codes.values()), "no damage was noticed"


def test_a_segment_of_another_layout_is_not_misread(own_relay, mock):
    relay = own_relay(SMALL)
    key = give_key(relay)
    pace = mock.pace()
    stream = relay.stream_after(key, mock.case(behaviour.stream("a", "b", "c", pace=pace)), pace, 2)
    relay.kill_all()
    pace.open()
    segment = relay.state / "segment"
    right = segment.read_bytes()[:4096]
    for offset, wrong in ((SEGMENT_VERSION_AT, b"\x63\0\0\0"), (0, b"\0" * 8), (16, b"\x01" * 8), (24, b"\x01" * 8)):
        poke(segment, offset, wrong)
        refuse_start(relay, re.escape(str(segment)), "another version", "remove the file")
        assert relay.cli("usage").code > 0
        poke(segment, 0, right)
    relay.start()
    assert relay.record(stream.id)["output_tokens"] >= 1


# --- impossible usage ---

IMPOSSIBLE = {
    "negative": openai.usage(prompt=-5, completion=-7),
    "above int64": openai.usage(prompt=1 << 63, completion=1 << 64),
    "largest int64": openai.usage(prompt=(1 << 63) - 1, completion=(1 << 63) - 1),
    "more cached than read": openai.usage(prompt=10, completion=5, cached=1000),
    "more reasoning than output": {**openai.usage(prompt=10, completion=5),
                                   "completion_tokens_details": {"reasoning_tokens": 50}},
    "a text": {"prompt_tokens": "many", "completion_tokens": 5},
    "no number": {"prompt_tokens": 1e300, "completion_tokens": 2.5},
}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("counts", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_impossible_usage_is_clamped_and_logged_once(relay, key, mock, counts, streamed):
    case = mock.case(behaviour.chat("a", "b", "c", counts=counts))
    if streamed:
        with relay.stream(key, case.body()) as stream:
            assert stream.drain()[-1].is_done
            identity = stream.id
    else:
        answer = relay.chat(key, case.body())
        assert answer.status == 200
        identity = answer.id
    record = relay.record(identity)
    assert 0 <= record["input_tokens"] <= 1000 and 0 <= record["output_tokens"] <= 1000
    assert record["cached_input_tokens"] + record["cache_write_tokens"] <= record["input_tokens"]
    assert record["reasoning_tokens"] <= record["output_tokens"]
    assert 0 <= record["price_usd"] < 1 and record["clamped"] is True

    def warnings():
        return [line for line in relay.stderr.splitlines() if '"usage_impossible"' in line and identity in line]
    until(warnings, "the warning")
    assert len(warnings()) == 1
