"""How much later an event arrives through a relay than straight from the provider. Goal: less than 1 ms at the median."""

import contextlib

import clients
import servers

EVENTS, INTERVAL_MS, WARMING_EVENTS = 200, 20, 10


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def run(table, build):
    warming, model = f"paced-{WARMING_EVENTS}x{INTERVAL_MS}", f"paced-{EVENTS}x{INTERVAL_MS}"
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(servers.directory(build))
        mock = stack.enter_context(servers.mock_server())
        nginx = stack.enter_context(servers.nginx(folder, mock, build))
        paths = {"direct": mock, "tollgate": stack.enter_context(servers.relay(folder, mock, [warming, model]))}
        if nginx is not None:
            paths["nginx"] = nginx
        offset_s = INTERVAL_MS / 1000 / len(paths)
        clients.time_events(paths, warming, offset_s)
        taken = clients.time_events(paths, model, offset_s)
    show(table, taken)


def show(table, taken):
    whole = {name: len(values) for name, values in taken.items()}
    assert set(whole.values()) == {EVENTS}, f"events lost: {whole}"
    for share, name in ((0.5, "median"), (0.99, "99th percentile")):
        at = {path: percentile(values, share) / 1e6 for path, values in taken.items()}
        table.row(f"straight from the provider, {name}", at["direct"], "ms")
        added = {path: at[path] - at["direct"] for path in at if path != "direct"}
        if "nginx" in added:
            table.row(f"added by nginx, {name}", added["nginx"], "ms")
            table.row(f"added by tollgate, {name}", added["tollgate"], "ms", "nginx", added["nginx"])
        else:
            table.row(f"added by tollgate, {name}", added["tollgate"], "ms")
    table.note(f"{EVENTS} events, one every {INTERVAL_MS} ms, all paths at once. Goal: less than 1 ms added at the median.")
