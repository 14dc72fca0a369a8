"""Waiting for conditions. The limits are generous: they end a broken run, they do not measure."""

import os
import time

SLOWNESS = float(os.environ.get("TOLLGATE_TEST_SLOWNESS", "1"))
LIMIT_S = 15 * SLOWNESS


def until(condition, what, limit_s=LIMIT_S):
    """Calls condition until it gives something true and returns that; fails naming `what` after limit_s."""
    deadline = time.monotonic() + limit_s
    pause_s = 0.002
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {limit_s:g} s: {what}"
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.05)
    return result


def stays(condition, seconds):
    """True when condition held during all of these seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not condition():
            return False
        time.sleep(0.02)
    return True
