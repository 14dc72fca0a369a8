"""python3 -m mock [--port N] [--events N --interval-ms N]: the mock as a program, for benches and for playing by hand.

Prints its base URL. Answers by model name (see behaviour.by_model); with --events every request gets that paced stream.
Run it from the tests folder, or with PYTHONPATH=tests.
"""

import argparse
import signal

from mock import Mock, behaviour


def main():
    options = argparse.ArgumentParser(prog="python3 -m mock", description=__doc__)
    options.add_argument("--port", type=int, default=0)
    options.add_argument("--events", type=int)
    options.add_argument("--interval-ms", type=float, default=20)
    chosen = options.parse_args()
    default = behaviour.paced(chosen.events, chosen.interval_ms / 1000) if chosen.events else None
    mock = Mock(default, chosen.port)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: exit(0))
    print(f"mock: {mock.base_url}", flush=True)
    mock.run()


if __name__ == "__main__":
    main()
