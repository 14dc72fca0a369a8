"""TLS: ALPN, HTTP/1.1 and HTTP/2, session resumption in every worker."""

import socket
import ssl

import pytest

from harness import sse, tls
from harness.http1 import Http1
from harness.http2 import Http2
from harness.ports import free_port
from harness.relay import CHAT, bearer
from harness.wait import until
from mock import behaviour


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return tls.make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def secure(module_relay, certificate):
    """A relay with a cleartext and a TLS address; .tls_port is the latter."""
    tls_port = free_port()
    addresses = [{"address": f"127.0.0.1:{free_port()}"},
                 {"address": f"127.0.0.1:{tls_port}",
                  "tls": {"certificate": str(certificate[0]), "key": str(certificate[1])}}]
    relay = module_relay({"listen": addresses, "workers": 3})
    relay.tls_port = tls_port
    relay.key = relay.create_key(relay.create_tenant("tls"))
    return relay


def test_http_1_by_alpn(secure, certificate, mock):
    with Http1(secure.tls_port, tls.client(certificate[0], "http/1.1")) as connection:
        assert connection.sock.selected_alpn_protocol() == "http/1.1"
        answer = connection.request("POST", CHAT, bearer(secure.key), mock.case(behaviour.chat("Hello")).body())
    assert answer.json()["choices"][0]["message"]["content"] == "Hello"


@pytest.mark.parametrize("offered", [("h2",), ("h2", "http/1.1"), ("http/1.1", "h2")], ids=str)
def test_http_2_by_alpn(secure, certificate, mock, offered):
    case = mock.case(behaviour.chat("a", "b"))
    with Http2(secure.tls_port, tls.client(certificate[0], *offered)) as connection:
        assert connection.sock.selected_alpn_protocol() == "h2"
        stream = connection.request("POST", CHAT, bearer(secure.key), case.body(stream=True))
    assert sse.text_of(stream.events) == "ab"


def test_without_alpn_it_is_http_1(secure, certificate):
    with Http1(secure.tls_port, tls.client(certificate[0])) as connection:
        assert connection.request("GET", "/healthz").status == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda version: version.name)
def test_a_session_is_resumed_by_whichever_worker(secure, certificate, version):
    context = tls.client(certificate[0], "http/1.1", version=version)
    with Http1(secure.tls_port, context) as first:
        assert first.request("GET", "/healthz").status == 200
        session = first.sock.session
    for _ in range(12):
        with Http1(secure.tls_port, context, session=session) as again:
            assert again.sock.session_reused
            assert again.request("GET", "/healthz").status == 200


def test_old_versions_are_refused(secure):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        Http1(secure.tls_port, context)


def test_cleartext_on_the_tls_port_harms_nobody(secure, certificate):
    for data in (b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 5000, b""):
        with socket.create_connection(("127.0.0.1", secure.tls_port)) as raw:
            raw.sendall(data)
    with Http1(secure.tls_port, tls.client(certificate[0])) as connection:
        assert connection.request("GET", "/healthz").status == 200


def test_the_cleartext_address_serves_beside_it(secure):
    assert secure.get("/v1/models", secure.key).status == 200


def test_a_client_that_leaves_is_noticed_through_tls(secure, certificate, mock):
    case = mock.case(behaviour.hang())
    connection = Http1(secure.tls_port, tls.client(certificate[0]))
    connection.send("POST", CHAT, bearer(secure.key), case.body(stream=True))
    until(lambda: case.exchanges, "the upstream's request")
    connection.close()
    until(lambda: case.last.client_left, "the relay's hanging up")


def test_a_missing_certificate_is_a_finding(own_relay):
    relay = own_relay({"listen": [{"address": f"127.0.0.1:{free_port()}",
                                   "tls": {"certificate": "/nowhere/cert.pem", "key": "/nowhere/key.pem"}}]}, start=False)
    relay.spawn()
    assert relay.wait_exit() in (1, 2)
    assert "/nowhere/cert.pem" in relay.stderr
    relay.process = None
