"""What the mock served, kept by the tag of each request, so that a ledger can be compared with it."""

from dataclasses import dataclass


@dataclass
class Served:
    """One answer of the mock: counted as it is sent, so that it holds when the answer breaks off."""
    tokens_sent: int = 0
    usage: dict | None = None  # the final usage object, once sent
    completed: bool = False  # the end of the answer was sent
    status: int = 200


class Tally:
    """tag -> its answers, in the order in which they were asked for. Written by the mock's thread only."""

    def __init__(self):
        self._served = {}

    def begin(self, tag):
        served = Served()
        self._served.setdefault(tag, []).append(served)
        return served

    def of(self, tag):
        return self._served.get(tag, [])

    def clear(self):
        self._served = {}
