"""Free ports, from below the range the kernel takes for outgoing connections, so that none is lost before it is used."""

import itertools
import os
import socket

_FIRST, _EACH = 16000, 2000
_RUNNER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))  # each pytest process its own range
_offsets = itertools.count(os.getpid() * 37)


def free_port():
    """A port of 127.0.0.1 nobody listens on, and never the same one twice in a run."""
    for offset in _offsets:
        port = _FIRST + _RUNNER % 8 * _EACH + offset % _EACH
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("no free port")
