"""The processes of a bench: the mock provider, the relay, nginx as the plainest of proxies before the same mock."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

from harness import config, processes
from harness.ports import free_port
from harness.relay import Relay
from harness.wait import until

TESTS = Path(__file__).resolve().parents[1]

NGINX = """
daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/nginx.err; {user}
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    keepalive_requests 1000000; keepalive_timeout 3600s;
    upstream mock {{ server 127.0.0.1:{upstream}; keepalive 1024; keepalive_requests 1000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_buffering off; proxy_read_timeout 3600s;
        }}
    }}
}}
"""


@contextlib.contextmanager
def directory(build):
    """A folder of its own below the build, on the disk that is measured."""
    place = build / "bench"
    place.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="run-", dir=place))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _process(command, **options):
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def mock_server():
    """The mock as a program of its own, answering by the model's name: `paced-EVENTSxMILLISECONDS`, else five words."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    with _process([sys.executable, "-m", "mock"], stdout=subprocess.PIPE, text=True, env=environment) as process:
        address = re.search(r":([0-9]+)/", process.stdout.readline())
        yield SimpleNamespace(port=int(address[1]), pid=process.pid, key=None)


@contextlib.contextmanager
def relay(folder, mock, models, **changes):
    """A relay with one worker whose models (names, or whole settings) ask the mock for those of the same name; with a key that nothing limits."""
    if not isinstance(models, dict):
        models = {name: config.model("mock") for name in models}
    settings = {**config.base(mock), "upstreams": {"mock": config.upstream(mock)}, "workers": 1, "models": models,
                "log": {"access": "off", "format": "json", "level": "warn"}, **changes}
    server = Relay(folder / f"relay-{len(os.listdir(folder))}", settings)
    try:
        server.start()
        server.create_tenant("bench")
        key = server.create_key("bench")
        worker = server.status()["workers"][0]["pid"]
        ledger = server.status()["ledger"]["pid"]
        yield SimpleNamespace(port=server.port, key=key, pid=worker, ledger=ledger)
        server.stop()
    finally:
        if server.process is not None and server.process.poll() is None:
            server.kill_all()


def find_nginx(build):
    """The nginx program, or None. A Debian package that is not installed is only unpacked into the build: installing it
    would start a web server."""
    unpacked = build / "bench" / "nginx"
    if shutil.which("nginx"):
        return shutil.which("nginx")
    if not (unpacked / "usr/sbin/nginx").exists():
        unpacked.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run("apt-get download nginx && dpkg-deb -x nginx_*.deb .", shell=True, cwd=unpacked, timeout=60,
                           stdin=subprocess.DEVNULL, capture_output=True, check=True)
    program = unpacked / "usr/sbin/nginx"
    runs = program.exists() and subprocess.run([program, "-v"], capture_output=True, check=False).returncode == 0
    return str(program) if runs else None


@contextlib.contextmanager
def nginx(folder, mock, build):
    """nginx with one worker and no buffering, or None where there is none."""
    program = find_nginx(build)
    if program is None:
        yield None
        return
    place = folder / "nginx"
    place.mkdir(exist_ok=True)
    port = free_port()
    text = NGINX.format(directory=place, port=port, upstream=mock.port, user="user root;" if os.getuid() == 0 else "")
    (place / "nginx.conf").write_text(text)
    with _process([program, "-e", place / "nginx.err", "-p", place, "-c", place / "nginx.conf"]) as process:
        worker = until(lambda: processes.children_of(process.pid), "nginx's worker")[0]
        yield SimpleNamespace(port=port, key=None, pid=worker)


def cpu_ns(pid):
    """What a process has used of a processor: to the nanosecond where the kernel says so, else utime + stime."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
    except (OSError, IndexError, ValueError):
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
