"""The master: start, titles, drain, reload, log reopen, one server a state directory."""

import os
import re
import signal
import socket

import pytest

from harness import config, processes, sse
from harness.ports import free_port
from harness.relay import CHAT, Relay, bearer, run
from harness.wait import SLOWNESS, stays, until
from mock import behaviour


@pytest.fixture
def serving(own_relay):
    """A relay with a key, for tests that signal it."""
    relay = own_relay()
    relay.key = relay.create_key(relay.create_tenant("t"))
    return relay


def paced_stream(relay, mock):
    """A live stream that waits after its first event."""
    pace = mock.pace()
    case = mock.case(behaviour.stream("a", "b", "c", pace=pace))
    return relay.stream_after(relay.key, case, pace, 1), pace


def assert_ends_well(stream, pace):
    pace.open()
    assert sse.text_of(stream.drain()) == "abc"
    assert stream.events[-1].is_done and stream.complete
    stream.close()


def refuses(port):
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionError:
        return True
    return False


def test_processes_carry_titles(relay):
    titles = {processes.title_of(pid) for pid in processes.children_of(relay.pid)}
    assert {"tollgate: worker 0", "tollgate: worker 1", "tollgate: ledger", "tollgate: admin"} <= titles
    assert processes.title_of(relay.pid).startswith("tollgate: master")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_an_idle_server_ends_at_once(own_relay, number):
    relay = own_relay()
    family = processes.children_of(relay.pid)
    relay.signal(number)
    assert relay.wait_exit() == 0
    assert not any(processes.is_alive(pid) for pid in family)


def test_draining_lets_a_live_stream_finish_and_refuses_new_connections(serving, mock):
    stream, pace = paced_stream(serving, mock)
    serving.signal(signal.SIGTERM)
    until(lambda: refuses(serving.port), "closed listeners")
    assert serving.process.poll() is None
    assert_ends_well(stream, pace)
    assert serving.wait_exit() == 0
    assert serving.record(stream.id)["output_tokens"] == 3


def test_a_kept_connection_is_told_that_the_server_drains(serving, mock):
    stream, pace = paced_stream(serving, mock)
    with serving.connect() as kept:
        assert kept.request("GET", "/readyz").status == 200
        serving.signal(signal.SIGTERM)
        until(lambda: refuses(serving.port), "closed listeners")
        try:
            kept.send("GET", "/readyz")
            assert kept.answer().status == 503
        except Exception as error:  # an idle connection may be closed instead
            assert "closed" in str(error) or isinstance(error, ConnectionError), error
    assert_ends_well(stream, pace)
    assert serving.wait_exit() == 0


def test_draining_ends_at_its_deadline_with_an_error_event(own_relay, mock):
    relay = own_relay({"drain_timeout": "1s"})
    relay.key = relay.create_key(relay.create_tenant("t"))
    stream, _ = paced_stream(relay, mock)
    relay.signal(signal.SIGTERM)
    events = stream.drain()
    assert events[-1].error and not any(event.is_done for event in events)
    assert relay.wait_exit() == 0
    assert relay.record(stream.id)["estimated"] is True


@pytest.mark.parametrize("command", ["drain", "stop"])
def test_the_command_ends_the_server(serving, command):
    assert serving.cli(command).code == 0
    assert serving.wait_exit() == 0
    assert serving.cli(command).code == 1


def add_model(relay, name):
    changed = config.merged(relay.settings, {"models": {name: config.model("mock")}})
    relay.write_config(changed)


def test_reload_serves_the_new_configuration_and_keeps_a_live_stream(serving, mock):
    stream, pace = paced_stream(serving, mock)
    old = serving.worker_pids()
    add_model(serving, "new-model")
    assert serving.get("/v1/models/new-model", serving.key).status == 404
    assert serving.cli("reload").code == 0
    assert [serving.get("/v1/models/new-model", serving.key).status for _ in range(8)] == [200] * 8
    assert not set(serving.worker_pids()) & set(old) or len(serving.worker_pids()) > 2
    assert_ends_well(stream, pace)
    until(lambda: not any(processes.is_alive(pid) for pid in old), "the old workers' end")
    assert serving.record(stream.id)["output_tokens"] == 3


def test_a_kept_connection_never_meets_the_old_configuration(serving):
    """It is closed while it lies idle, before `reload` returns."""
    with serving.connect() as first, serving.connect() as second:
        for kept in (first, second):
            assert kept.request("GET", "/v1/models/new-model", {"authorization": f"Bearer {serving.key}"}).status == 404
        add_model(serving, "new-model")
        assert serving.cli("reload").code == 0
        for kept in (first, second):
            kept.sock.settimeout(0.05 * SLOWNESS)  # it has been closed: nothing to wait for
            assert kept.sock.recv(1) == b""


def test_sighup_reloads(serving):
    add_model(serving, "new-model")
    serving.signal(signal.SIGHUP)
    until(lambda: all(serving.get("/v1/models/new-model", serving.key).status == 200 for _ in range(4)), "the new model")


def test_a_bad_file_changes_nothing_and_is_explained(serving, mock):
    stream, pace = paced_stream(serving, mock)
    before = serving.worker_pids()
    serving.write_config(config.merged(serving.settings, {"nonsense": 5, "workers": "many"}))
    result = serving.cli("reload")
    assert result.code == 2
    findings = result.out + result.err
    assert len(re.findall(re.escape(str(serving.file)) + r":\d+:\d+: ", findings)) >= 2
    assert "nonsense" in findings
    assert serving.worker_pids() == before
    assert serving.get("/v1/models", serving.key).status == 200
    assert_ends_well(stream, pace)


def test_a_bad_file_at_sighup_is_logged(serving):
    before = serving.worker_pids()
    serving.write_config(config.merged(serving.settings, {"nonsense": 5}))
    serving.signal(signal.SIGHUP)
    until(lambda: "nonsense" in serving.stderr, "the finding in the log")
    assert serving.worker_pids() == before


def test_connections_made_during_reloads_are_all_served(serving):
    for _ in range(3):
        serving.signal(signal.SIGHUP)
        assert [serving.get("/v1/models", serving.key).status for _ in range(30)] == [200] * 30
    assert serving.cli("reload").code == 0


def test_reload_without_a_server(own_relay):
    relay = own_relay(start=False)
    for command in ("reload", "drain", "stop", "status"):
        result = relay.cli(command)
        assert result.code == 1 and result.err.startswith("tollgate: ")


def test_a_second_server_on_one_state_directory_is_refused_by_name(serving):
    elsewhere = config.merged(serving.settings, {"listen": [{"address": f"127.0.0.1:{free_port()}"}],
                                                 "admin": {"address": f"127.0.0.1:{free_port()}"}})
    second = Relay(serving.directory / "second", elsewhere)
    second.state = serving.state
    second.write_config(elsewhere)
    second.spawn()
    assert second.wait_exit() == 1
    assert second.stderr.startswith("tollgate: ")
    assert str(serving.pid) in second.stderr and str(serving.state) in second.stderr
    assert serving.get("/healthz").status == 200


def test_a_taken_port_is_named(serving, own_relay):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        relay = own_relay({"listen": [{"address": address}]}, start=False).spawn()
        assert relay.wait_exit() == 1
        assert address in relay.stderr
        relay.process = None


def test_the_access_log_is_reopened(own_relay, mock):
    relay = own_relay(start=False)
    log = relay.directory / "access.log"
    relay.write_config(config.merged(relay.settings, {"log": {"access": str(log)}}))
    relay.start()
    key = relay.create_key(relay.create_tenant("t"))
    first = relay.chat(key, mock.case(behaviour.chat()).body()).id
    until(lambda: log.exists() and first in log.read_text(), "the first line")
    moved = log.rename(log.with_suffix(".1"))
    relay.signal(signal.SIGUSR1)
    until(log.exists, "the new file")
    second = relay.chat(key, mock.case(behaviour.chat()).body()).id
    until(lambda: second in log.read_text(), "the second line")
    assert second not in moved.read_text() and first in moved.read_text()


def test_a_killed_worker_is_replaced(serving):
    victim, other = serving.worker_pids()
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(pids := serving.worker_pids()) == 2 and victim not in pids, "a new worker")
    assert other in serving.worker_pids()
    assert [serving.get("/healthz").status for _ in range(8)] == [200] * 8


@pytest.mark.parametrize("title", ["tollgate: ledger", "tollgate: admin"])
def test_a_killed_helper_is_replaced(serving, title):
    def pid_of_title():
        return next((pid for pid in processes.children_of(serving.pid) if processes.title_of(pid) == title), None)
    victim = pid_of_title()
    os.kill(victim, signal.SIGKILL)
    until(lambda: (found := pid_of_title()) and found != victim, "the replacement")
    assert serving.get("/v1/models", serving.key).status == 200


def test_a_worker_that_stops_is_not_the_end(serving, mock):
    """SIGSTOP of one worker: the others serve; it goes on when told."""
    victim = serving.worker_pids()[0]
    os.kill(victim, signal.SIGSTOP)
    try:
        with serving.connect() as connection:  # one of the two answers
            connection.sock.settimeout(2)
            connection.send("GET", "/healthz")
            assert stays(lambda: processes.is_alive(victim), 0.2)
    finally:
        os.kill(victim, signal.SIGCONT)
    assert [serving.get("/healthz").status for _ in range(8)] == [200] * 8


def test_children_leave_when_the_master_is_killed(own_relay):
    relay = own_relay()
    family = processes.children_of(relay.pid)
    os.kill(relay.pid, signal.SIGKILL)
    relay.process.wait()
    until(lambda: not any(processes.is_alive(pid) for pid in family), "the children's end")
    assert relay.start().get("/healthz").status == 200


def test_version_and_help(relay):
    version = run("--version")
    assert version.code == 0 and re.match(r"tollgate \d+\.\d+", version.out)
    for arguments in (("help",), ("help", "serve"), ("help", "key"), ("--help",)):
        assert run(*arguments).code == 0, arguments
    assert "serve" in run("help").out


def test_no_configuration_file_is_explained(tmp_path):
    if os.path.exists("/etc/tollgate/tollgate.yaml"):
        pytest.skip("this machine has a system-wide configuration")
    result = run("serve", cwd=tmp_path)
    assert result.code == 2
    assert "./dev run" in result.err and "conf/" in result.err


def test_signals_during_start_are_kept(own_relay):
    """SIGTERM before the ready line ends the server cleanly."""
    relay = own_relay(start=False).spawn()
    until(lambda: processes.title_of(relay.pid).startswith("tollgate: master"), "the master")
    relay.signal(signal.SIGTERM)
    assert relay.wait_exit() == 0


def test_a_stream_over_a_kept_connection_survives_ten_reloads(serving, mock):
    stream, pace = paced_stream(serving, mock)
    for _ in range(5):
        assert serving.cli("reload").code == 0
    with serving.connect() as connection:
        assert connection.request("POST", CHAT, bearer(serving.key), mock.case(behaviour.chat()).body()).status == 200
    assert_ends_well(stream, pace)
