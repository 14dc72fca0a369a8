"""The benches of single parts, which are C programs: built when needed, their lines made rows."""

import subprocess

import servers

LIMIT_S = 90


def store(table, build):
    _run(table, build, "bench_store")
    table.note("30 days x 1,000 keys x 5 models; a report's size is that of its JSON.")


def shm(table, build):
    _run(table, build, "bench_shm")


def estimate(table, build):
    _run(table, build, "bench_estimate")


def _run(table, build, name):
    subprocess.run(["ninja", "-C", build, name], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
    program = build / "tests" / "bench" / name
    with servers.directory(build) as folder:
        done = subprocess.run([program, folder], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S,
                              check=False)
    for line in done.stdout.splitlines():
        what, value, unit, beside, other = line.split("\t")
        table.row(what, float(value), unit, beside, float(other))
    assert done.returncode == 0, done.stderr.strip() or f"{name} exited {done.returncode}"
