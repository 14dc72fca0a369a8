"""The house rules that no compiler checks. lint.py CHECK ... (or `all`): prints each finding as FILE:LINE: what, exits 1
when there is one. Each check is a test of ctest (label lint) and part of `./dev lint`."""

import collections
import concurrent.futures
import os
import re
import subprocess
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
ROOMS = ("base", "conf", "shm", "store", "worker", "admin", "master")

# Which rooms a room may include, itself aside. master/ holds the command line and may include every room's entry headers.
MAY_INCLUDE = {
    "base": (),
    "conf": ("base",),
    "shm": ("base",),
    "store": ("base", "conf", "shm"),
    "worker": ("base", "conf", "shm"),
    "admin": ("base", "conf", "shm", "store"),
    "master": ("base", "conf", "shm", "store", "worker", "admin"),
}

# A library's headers, and the only files that may include them.
LIBRARIES = (
    (r"h2o(/.*)?\.h", r"worker/(front_[^/]*|loop\.[ch])|admin/[^/]*"),
    (r"curl/.*", r"worker/upstream_[^/]*"),
    (r"lmdb\.h", r"store/[^/]*_lmdb\.c"),
    (r"yaml\.h", r"conf/conf_tree\.c"),
    (r"jsmn\.h", r"base/json_[^/]*\.c"),
    (r"wslay/.*", r"worker/front_[^/]*"),
    (r"openssl/(ssl|err)\.h", r"worker/(front|upstream)_[^/]*|admin/[^/]*"),
)

BANNED = {
    "strcpy": "span_copy", "strncpy": "span_copy", "strcat": "buffer_append_text", "strncat": "buffer_append_text",
    "sprintf": "snprintf or buffer_format", "vsprintf": "vsnprintf", "gets": "fgets", "atoi": "conf_units or strtoll",
    "atol": "strtoll", "atoll": "strtoll", "atof": "money_parse", "strtok": "spans", "alloca": "an arena",
    "system": "fork and exec", "popen": "fork and exec", "tmpnam": "mkstemp", "mktemp": "mkstemp", "tempnam": "mkstemp",
    "rand": "random_bytes", "srand": "random_bytes", "random": "random_bytes", "localtime": "localtime_r",
    "gmtime": "gmtime_r", "ctime": "base/calendar.h", "asctime": "base/calendar.h", "usleep": "nanosleep",
    "bzero": "memset or explicit_bzero", "gethostbyname": "getaddrinfo", "inet_ntoa": "inet_ntop",
}

FINE_IN_TESTS = {"rand", "srand", "random", "system"}

FUNCTION_LINES_MOST = 80
TEST_LINES_MOST = 120  # tables of cases
FILE_LINES_MOST = 800


def sources(*folders, suffixes=(".c", ".h")):
    for folder in folders:
        for path in sorted((TREE / folder).rglob("*")):
            if path.suffix in suffixes and path.is_file():
                yield path


def name_of(path):
    return str(path.relative_to(TREE))


def without_comments(text):
    """The same text with comments blanked, and each string's content too; line numbers stay."""
    def blank(match):
        found = match.group(0)
        if found[0] in "\"'":
            return found[0] + " " * (len(found) - 2) + found[-1]
        return re.sub(r"[^\n]", " ", found)
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.S)


def line_at(text, offset):
    return text.count("\n", 0, offset) + 1


def check_includes():
    """Rooms see only the rooms below them; libraries stay behind their files."""
    for path in sources(*ROOMS):
        name, room = name_of(path), path.relative_to(TREE).parts[0]
        for number, line in enumerate(path.read_text().splitlines(), 1):
            include = re.match(r'\s*#\s*include\s+(["<])([^">]+)[">]', line)
            if include is None:
                continue
            kind, target = include.groups()
            if kind == '"':
                other = target.split("/")[0]
                if other not in ROOMS:
                    yield f'{name}:{number}: include "{target}" by its room, as in "base/span.h"'
                elif other != room and other not in MAY_INCLUDE[room]:
                    yield f"{name}:{number}: {room}/ may not include {other}/"
            for library, allowed in LIBRARIES:
                if kind == "<" and re.fullmatch(library, target) and not re.fullmatch(allowed, name):
                    yield f"{name}:{number}: <{target}> is for {allowed} only"
    users = [name_of(path) for path in sources("store") if "#include <lmdb.h>" in path.read_text()]
    if len(users) > 1:
        yield f"{users[1]}:1: only one file may include <lmdb.h>, and {users[0]} does"


def compile_alone(path):
    command = [os.environ.get("CC", "cc"), "-fsyntax-only", "-x", "c", "-std=gnu17", "-D_GNU_SOURCE", "-DH2O_USE_LIBUV=0",
               "-DTOLLGATE_VERSION=\"0\"", "-Wall", "-Wextra", "-Wno-unused-function", "-Wno-unused-const-variable",
               "-Wno-unused-parameter", "-Werror", f"-I{TREE}", "-"]
    text = f'#include "{name_of(path)}"\n'
    result = subprocess.run(command, input=text, capture_output=True, text=True, cwd=TREE, check=False)
    return [] if result.returncode == 0 else [f"{name_of(path)}:1: does not compile alone: {result.stderr.strip()[:400]}"]


def check_headers():
    """Each header compiles alone, has a guard named after it, and says at its top what it is for. A .c file includes its
    own header first."""
    headers = list(sources(*ROOMS, suffixes=(".h",)))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for findings in pool.map(compile_alone, headers):
            yield from findings
    for path in headers:
        name, text = name_of(path), path.read_text()
        if not text.startswith(f"/* {name} - "):
            yield f'{name}:1: begin with "/* {name} - what it is"'
        guard = "TOLLGATE_" + re.sub(r"[^A-Z0-9]", "_", name.upper())
        if f"#ifndef {guard}\n#define {guard}\n" not in text:
            yield f"{name}:1: its guard should be {guard}"
    for path in sources(*ROOMS, suffixes=(".c",)):
        own = path.with_suffix(".h")
        included = re.findall(r'^#include\s+(\S+)', path.read_text(), re.M)
        first = [target for target in included if target != "<h2o.h>"][:1]  # which has to come before all others
        if own.exists() and first != [f'"{name_of(own)}"']:
            yield f"{name_of(path)}:1: include its own header first"


def functions_of(text):
    """(name, first line, last line) of every function in clang-formatted C."""
    lines, start = text.split("\n"), None
    for number, line in enumerate(lines, 1):
        if line.startswith("}"):
            if start is not None:
                yield start[1], start[0], number
            start = None
        elif line.endswith("{") and start is None:
            first = number
            while first > 1 and lines[first - 2][:1] not in ("", "}", "#", "/", " *") and not lines[first - 2].endswith(";"):
                first -= 1
            signature = " ".join(lines[first - 1:number])
            called = re.match(r"[^=(]*?(\w+)\s*\(.*\)\s*\{$", signature)
            if called is not None and line[:1] != "#":
                start = (first, called.group(1))


def check_functions():
    """No function past 80 lines (120 in tests), no file past 800."""
    for path in sources(*ROOMS, "tests", suffixes=(".c", ".h")):
        text = path.read_text()
        most = TEST_LINES_MOST if name_of(path).startswith("tests/") else FUNCTION_LINES_MOST
        for function, first, last in functions_of(without_comments(text)):
            if last - first + 1 > most:
                yield f"{name_of(path)}:{first}: {function} has {last - first + 1} lines, at most {most}"
        if text.count("\n") > FILE_LINES_MOST:
            yield f"{name_of(path)}:1: {text.count(chr(10))} lines, at most {FILE_LINES_MOST}"


def check_banned():
    """Functions without bounds, without errors or with hidden state; clocks outside base/clock.c."""
    pattern = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
    for path in sources(*ROOMS, "tests"):
        text = without_comments(path.read_text())
        in_tests = name_of(path).startswith("tests/")
        for found in pattern.finditer(text):
            function = found.group(1)
            if not (in_tests and function in FINE_IN_TESTS):
                yield f"{name_of(path)}:{line_at(text, found.start())}: {function} is banned; use {BANNED[function]}"
    for path in sources(*ROOMS):
        text = without_comments(path.read_text())
        for found in re.finditer(r"\b(clock_gettime|gettimeofday)\s*\(|(?<![\w.>])time\s*\(", text):
            if name_of(path) != "base/clock.c":
                yield f"{name_of(path)}:{line_at(text, found.start())}: ask base/clock.h for the time"


def check_events():
    """Every LOG has an event name that is a literal, lower_case, and used nowhere else."""
    places = collections.defaultdict(list)
    for path in sources(*ROOMS, suffixes=(".c",)):
        text = path.read_text()
        for found in re.finditer(r"\bLOG\(\s*([^,]+?),\s*(\"[^\"]*\"|[^,)]+)", text):
            place = f"{name_of(path)}:{line_at(text, found.start())}"
            event = found.group(2)
            if re.fullmatch(r'"[a-z][a-z0-9_]*"', event):
                places[event].append(place)
            else:
                yield f"{place}: {event} should be a literal such as \"worker_started\""
    for event, where in places.items():
        for place in where[1:]:
            yield f"{place}: event {event} is logged at {where[0]} too; each line should lead to one place"


CHECKS = {"includes": check_includes, "headers": check_headers, "functions": check_functions, "banned": check_banned,
          "events": check_events}


def main(arguments):
    wanted = list(CHECKS) if arguments == ["all"] else arguments
    if not wanted or any(name not in CHECKS for name in wanted):
        print(f"usage: lint.py all | {' | '.join(CHECKS)}", file=sys.stderr)
        return 2
    findings = [finding for name in wanted for finding in CHECKS[name]()]
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
