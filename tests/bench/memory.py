"""What a thousand open streams take of one worker's memory. Goal: less than 64 KiB a stream."""

import contextlib

import clients
import servers
from harness import processes

STREAMS, EVENTS_EACH = 1000, 2
MODEL, WARMING = "paced-600x1500", "warming"


def run(table, build):
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(servers.directory(build))
        mock = stack.enter_context(servers.mock_server())
        nginx = measure_nginx(folder, mock, build)
        for name, client in (("HTTP/1.1", clients.Http1Requests), ("HTTP/2", clients.Http2Streams)):
            with servers.relay(folder, mock, [WARMING, MODEL]) as relay:
                show(table, f"tollgate, {name} clients", grow(relay, client, relay), nginx)
    if nginx is not None:
        show(table, "nginx, HTTP/1.1 clients", nginx, None)
    table.note(f"One worker, {STREAMS:,} streams that have had {EVENTS_EACH} events each. Goal: less than 64 KiB a stream.")


def measure_nginx(folder, mock, build):
    with servers.nginx(folder, mock, build) as nginx:
        return None if nginx is None else grow(nginx, clients.Http1Requests, nginx)


def grow(server, client, worker):
    """A worker's resident bytes before and with the streams."""
    warming = clients.Http1Requests(server, WARMING, 8, rounds=20)
    warming.run(lambda: False)
    warming.close()
    before = processes.resident_bytes(worker.pid)
    streams = client(server, MODEL, STREAMS)
    try:
        streams.run(lambda: streams.events >= STREAMS * EVENTS_EACH)
        return before, processes.resident_bytes(worker.pid)
    finally:
        streams.close()


def show(table, who, grown, nginx):
    each = {who: (grown[1] - grown[0]) / STREAMS / 1024}
    table.row(f"{who}: resident before", grown[0] / 1024, "KiB")
    table.row(f"{who}: resident with the streams", grown[1] / 1024, "KiB")
    beside = ("nginx", (nginx[1] - nginx[0]) / STREAMS / 1024) if nginx is not None else ()
    table.row(f"{who}: a stream", each[who], "KiB", *beside)
