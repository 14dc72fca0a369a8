"""Processes as /proc shows them."""

import os
from pathlib import Path


def _stat(pid):
    text = Path(f"/proc/{pid}/stat").read_text()
    return text[text.rindex(")") + 2:].split()


def children_of(pid):
    """The pids whose parent is pid."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            if int(_stat(entry)[1]) == pid:
                found.append(int(entry))
        except (OSError, ValueError):
            continue  # it ended while being read
    return found


def title_of(pid):
    """The command line as ps shows it; empty for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def is_alive(pid):
    """Does it run? A zombie does not."""
    try:
        return _stat(pid)[0] != "Z"
    except OSError:
        return False


def resident_bytes(pid):
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
