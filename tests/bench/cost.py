"""Processor time of a worker for a request and for an event, beside nginx's for the same in the same run. nginx neither
knows keys nor counts: the ratio is what metering costs."""

import contextlib

import clients
import servers

STREAMS, EVENTS, INTERVAL_MS = 50, 100, 20
CONNECTIONS, ROUNDS = 16, 100
MODEL, SMALL = f"paced-{EVENTS}x{INTERVAL_MS}", "small"


def run(table, build):
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(servers.directory(build))
        mock = stack.enter_context(servers.mock_server())
        relay = stack.enter_context(servers.relay(folder, mock, [MODEL, SMALL]))
        nginx = stack.enter_context(servers.nginx(folder, mock, build))
        for what, measure in (("an event of a stream", stream_events), ("a request, not streaming", whole_requests),
                              ("a request, streaming 5 words", short_streams)):
            show(table, what, measure, relay, nginx)
        table.row("an event, told to a client of /v1/messages", stream_events(relay, clients.MESSAGES), "µs",
                  "passed on", stream_events(relay))
        table.row("a request of any kind, the ledger process", servers.cpu_ns(relay.ledger) / 1000 / requests_in_all(),
                  "µs")
    table.note(f"Events: {STREAMS} streams at once, {EVENTS} events each, one every {INTERVAL_MS} ms. "
               f"Requests: {CONNECTIONS} connections, {ROUNDS} each.")


def requests_in_all():
    return 3 * STREAMS + 2 * CONNECTIONS * (ROUNDS + 1)


def show(table, what, measure, relay, nginx):
    beside = ("nginx", measure(nginx)) if nginx is not None else ()
    table.row(f"{what}, tollgate's worker", measure(relay), "µs", *beside)


def stream_events(server, target=clients.CHAT):
    """Microseconds of the worker for each event; the few of the streams' beginnings and ends are in it."""
    before = servers.cpu_ns(server.pid)
    streams = clients.Http1Requests(server, MODEL, STREAMS, target=target)
    streams.run(lambda: False)
    assert streams.events >= STREAMS * EVENTS, streams.events
    return (servers.cpu_ns(server.pid) - before) / 1000 / streams.events


def whole_requests(server):
    return requests(server, stream=False)


def short_streams(server):
    return requests(server, stream=True)


def requests(server, stream):
    clients.Http1Requests(server, SMALL, CONNECTIONS, 1, stream).run(lambda: False)
    before = servers.cpu_ns(server.pid)
    sent = clients.Http1Requests(server, SMALL, CONNECTIONS, ROUNDS, stream)
    sent.run(lambda: False)
    assert sent.answers == CONNECTIONS * ROUNDS
    return (servers.cpu_ns(server.pid) - before) / 1000 / sent.answers
