"""One request: allowed addresses, the address and name that are used, and the pause that a host asks for."""

import errno
import pathlib
import shutil
import socket
import ssl
import subprocess
from typing import Any

import pytest

from poster_jax.data.download import request
from tests.helpers import poster_server as faults

GOOD = faults.picture(0)

# Forbidden addresses, in the spellings that resolvers accept.
PRIVATE_URLS = (
    "http://127.0.0.1/a.jpg",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://localhost/",
    "http://LOCALHOST/",
    "http://0.0.0.0/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.1.1/",
    "http://169.254.169.254/",
    "http://100.64.0.1/",
    "http://224.0.0.1/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://[::1]/",
    "http://[::]/",
    "http://[fe80::1]/",
    "http://[fec0::1]/",
    "http://[fc00::1]/",
    "http://[ff02::1]/",
    "http://[::ffff:10.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://user:word@127.0.0.1/",
    "https://127.0.0.1/",
)


def limits(*allowed: str, **given: Any) -> request.Limits:
    return request.Limits(
        **{"total_secs": 5.0, "idle_secs": 2.0, "max_bytes": 10**6, "allow_hosts": frozenset(allowed), **given}
    )


@pytest.mark.parametrize("url", PRIVATE_URLS)
def test_no_private_address_is_connected_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request, "_connect", lambda *_: pytest.fail("connected"))
    with pytest.raises(request.Failure) as raised:
        request.fetch(url, limits("example.com", "127.0.0.2"))
    assert raised.value.reason == "refused_address" and not raised.value.transient, raised.value


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses_are_public(address: str) -> None:
    assert request.is_public(address)


@pytest.mark.parametrize("url", ["file:///etc/hosts", "ftp://example.com/a", "//example.com/a", "a.jpg", "http:///a", "N/A"])
def test_only_http_and_https_are_spoken(url: str) -> None:
    with pytest.raises(request.Failure) as raised:
        request.fetch(url, limits("127.0.0.1"))
    assert raised.value.reason == "bad_address"


@pytest.mark.parametrize(
    "url", ["http://a..b/", "http://example.com:99999/", "http://example.com:0/", "http://[::1/", "http://a b/"]
)
def test_a_broken_url_is_lost_and_not_tried_again(url: str) -> None:
    with pytest.raises(request.Failure) as raised:
        request.fetch(url, limits())
    assert raised.value.reason == "bad_address" and not raised.value.transient


def resolving(answers: dict[str, list[list[str]]], looked_up: list[str]) -> Any:
    """A getaddrinfo that returns a name's answers one after another."""

    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        looked_up.append(host)
        found = answers[host].pop(0)
        return [(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in found]

    return getaddrinfo


@pytest.mark.parametrize("found", [["10.0.0.5"], ["93.184.216.34", "127.0.0.1"], ["93.184.216.34", "::1"]])
def test_a_name_that_means_a_private_address_is_refused(found: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolving({"posters.example": [found]}, []))
    monkeypatch.setattr(request, "_connect", lambda *_: pytest.fail("connected"))
    with pytest.raises(request.Failure, match="refused_address"):
        request.fetch("http://posters.example/a.jpg", limits())


def test_the_address_that_was_judged_is_the_one_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[str] = []
    connected: list[Any] = []
    # The name becomes private between the check and the connection, as in DNS rebinding.
    monkeypatch.setattr(socket, "getaddrinfo", resolving({"rebind.example": [["93.184.216.34"], ["127.0.0.1"]]}, looked_up))

    class Refusing:
        def __init__(self, *_: Any) -> None: ...
        def settimeout(self, _: float) -> None: ...
        def close(self) -> None: ...
        def connect(self, place: Any) -> None:
            connected.append(place)
            raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")

    monkeypatch.setattr(request.socket, "socket", Refusing)
    with pytest.raises(request.Failure, match="no_connection"):
        request.fetch("http://rebind.example/a.jpg", limits())
    assert looked_up == ["rebind.example"]
    assert connected == [("93.184.216.34", 80)]


def test_the_server_hears_the_name_and_the_next_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with faults.serving({"a%20b?c=%C3%A9": faults.always(GOOD)}) as server:
        # Nothing listens on the second loopback address.
        monkeypatch.setattr(socket, "getaddrinfo", resolving({"posters.example": [["127.0.0.2", "127.0.0.1"]]}, []))
        url = f"http://Posters.example:{server.port}/a b?c=é"
        assert request.fetch(url, limits("posters.example")).body == GOOD
        assert server.host_headers == [f"posters.example:{server.port}"]


def test_https_shows_the_name_and_checks_the_certificate_against_it(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs the command openssl to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    named = ["-subj", "/CN=posters.example", "-addext", "subjectAltName=DNS:posters.example"]
    subprocess.run([*made, *named, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    shown: list[str | None] = []
    context.sni_callback = lambda _, name, __: shown.append(name)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    request._tls.cache_clear()
    answers = {"posters.example": [["127.0.0.1"]], "other.example": [["127.0.0.1"]]}
    monkeypatch.setattr(socket, "getaddrinfo", resolving(answers, []))
    try:
        with faults.serving({"a": faults.always(GOOD)}) as server:
            server.socket = context.wrap_socket(server.socket, server_side=True)
            allowed = limits(*answers)
            assert request.fetch(f"https://posters.example:{server.port}/a", allowed).body == GOOD
            with pytest.raises(request.Failure, match="bad_certificate: other.example"):
                request.fetch(f"https://other.example:{server.port}/a", allowed)
    finally:
        request._tls.cache_clear()
    assert shown == ["posters.example", "other.example"]


@pytest.mark.parametrize(
    ("text", "date", "secs"),
    [
        ("120", None, 120.0),
        (" 0 ", None, 0.0),
        ("Wed, 21 Oct 2015 07:28:30 GMT", "Wed, 21 Oct 2015 07:28:00 GMT", 30.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None, 0.0),
        ("soon", None, None),
        ("-5", None, None),
        (None, None, None),
    ],
)
def test_retry_after_by_hand(text: str | None, date: str | None, secs: float | None) -> None:
    assert request.parse_retry_after(text, date) == secs


@pytest.mark.parametrize(
    ("status", "header", "transient", "overload"),
    [
        ("500 Oh", "Retry-After: 7\r\n", True, True),
        ("500 Oh", "", True, False),
        ("503 Busy", "", True, True),
        ("404 Not Found", "Retry-After: 7\r\n", False, False),
    ],
)
def test_an_error_that_says_when_to_ask_again_is_an_overload(status: str, header: str, transient: bool, overload: bool) -> None:
    with faults.serving({"a": faults.always(status=status, headers=header)}) as server:
        with pytest.raises(request.Failure) as raised:
            request.fetch(server.url("a"), limits("127.0.0.1"))
    assert raised.value.reason == f"http_{status[:3]}"
    assert (raised.value.transient, raised.value.overload) == (transient, overload)
    assert raised.value.wait_secs == (7.0 if header else None)
