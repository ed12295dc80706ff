"""One safe HTTP request: bounded in time and size, and never sent to a private address unless the host is allowed.

The name is resolved once, all its addresses are checked, and the connection goes to a checked address. urllib and requests
resolve the name again when they connect, and by then it can point to another machine. Proxies are not used, because a proxy
chooses the address itself.
"""

import contextlib
import email.utils
import functools
import http.client
import io
import ipaddress
import re
import socket
import ssl
import threading
import time
import urllib.parse
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime

from poster_jax import errors

USER_AGENT = "poster_jax (research; downloads the posters of MovieGenre.csv)"
PORTS = {"http": 80, "https": 443}
# A transforming proxy answers 203 with the picture (RFC 9110 section 15.3.4).
WITH_PICTURE = (200, 203)
MAX_INTERIM = 20  # answers 1xx before the answer, as 103 Early Hints
REDIRECTS = (301, 302, 303, 307, 308)
# RFC 6585 section 4, RFC 9110 sections 15.5.9 and 15.6, RFC 8470: worth retrying. 404 and similar are not.
TRANSIENT_STATUSES = (408, 425, 429)
CHUNK_BYTES = 1 << 16
POLL_SECS = 0.5  # longest delay of a stop while nothing arrives
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are the IPv4 address


class Failure(Exception):
    """No picture was received.

    Attributes:
        reason: a snake_case word for the journal.
        detail: a phrase.
        transient: whether a retry may succeed.
        overload: whether the host asks for fewer requests.
        wait_secs: the pause that the host asks for; None if it names none.
    """

    def __init__(
        self, reason: str, detail: str, *, transient: bool = False, overload: bool = False, wait_secs: float | None = None
    ) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail
        self.transient, self.overload, self.wait_secs = transient, overload, wait_secs


class Stopped(Exception):
    """`Limits.stop` was set during the request."""


@dataclass(frozen=True)
class Limits:
    """Limits of one request; `allow_hosts` are HOST or HOST:PORT of `parse_allowed`, which may be private."""

    total_secs: float
    idle_secs: float
    max_bytes: int
    allow_hosts: frozenset[str]
    stop: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Target:
    """A URL in parts: `host` lower case, `path` with its query, percent-encoded."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True)
class Answer:
    """A body (`redirect` is "") or the URL of a redirect; `declared` is whether the server declared the end of the body."""

    body: bytes = b""
    declared: bool = False
    redirect: str = ""


def parse_url(url: str) -> Target:
    """The parts of a URL; raises `Failure` with reason bad_address if it is not a plain http or https URL."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
    except (ValueError, UnicodeError) as error:
        raise Failure("bad_address", f"{url!r}: {error}") from error
    scheme = parts.scheme.lower()
    if scheme not in PORTS:
        raise Failure("bad_address", f"{url!r} is neither http nor https")
    if not re.fullmatch(r"[^\s\x00-\x1f\\]+", host) or port == 0:
        raise Failure("bad_address", f"{url!r} has no valid host and port")
    path = urllib.parse.quote(parts.path or "/", safe="%/:@!$&'()*+,;=~")
    query = "?" + urllib.parse.quote(parts.query, safe="%/:@!$&'()*+,;=~?") if parts.query else ""
    return Target(scheme, host, PORTS[scheme] if port is None else port, path + query)


def parse_allowed(text: str) -> str:
    """HOST or HOST:PORT, lower case, from either or from a URL, of which a port is kept; raises `UserError`."""
    given = text.strip()
    if given.count(":") > 1 and "//" not in given and not given.startswith("["):
        given = f"[{given}]"  # an address of IPv6
    url = given if "//" in given else f"http://{given}"
    try:
        target, port = parse_url(url), urllib.parse.urlsplit(url).port
    except Failure as error:
        raise errors.UserError(f"--allow-host={text} names no host: give HOST, HOST:PORT or a URL.") from error
    if "//" not in given and target.path != "/":
        raise errors.UserError(f"--allow-host={text} names no host: give HOST, HOST:PORT or a URL.")
    return target.host if port is None else f"{target.host}:{port}"


def is_public(address: str) -> bool:
    """Whether an IP address is not loopback, private, link-local, shared, multicast, reserved or unspecified.

    For an IPv6 address that embeds an IPv4 one (mapped, NAT64, 6to4) the answer is that of the IPv4 address.
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip.is_site_local:
            return False
    never = ip.is_multicast or ip.is_reserved or ip.is_unspecified or ip.is_loopback or ip.is_link_local or ip.is_private
    return ip.is_global and not never


def resolve(target: Target, limits: Limits) -> list[tuple[socket.AddressFamily, str]]:
    """(family, IP address) of a host, in the system's order; raises `Failure` if any of them is forbidden."""
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Failure("no_such_host", f"{target.host}: {error}", transient=True) from error
    addresses = list(dict.fromkeys((family, str(place[0])) for family, _, _, _, place in found))
    if not {target.host, f"{target.host}:{target.port}"} & limits.allow_hosts:
        for _, address in addresses:
            if not is_public(address):
                raise Failure("refused_address", f"{target.host} is {address}, which is not a public address")
    return addresses


def fetch(url: str, limits: Limits) -> Answer:
    """One GET without following redirects; whatever the server does, it raises only `Failure` or `Stopped`.

    Resolving the name has the system's own time limits; everything after it ends within `total_secs`.
    """
    target = parse_url(url)
    addresses = resolve(target, limits)
    deadline = time.monotonic() + limits.total_secs
    try:
        wire = _connect(target, addresses, limits, deadline)
        try:
            return _ask(wire, target, limits, url)
        finally:
            wire.hang_up()
    except TimeoutError as error:
        raise Failure("timeout", f"{target.host}: {error}", transient=True) from error
    except ssl.SSLCertVerificationError as error:
        # Asking again is no use before the certificate, the clock or the authorities of this machine are others.
        raise Failure("bad_certificate", f"{target.host}: {error.verify_message}") from error
    except (OSError, http.client.HTTPException) as error:
        kind = "no_connection" if isinstance(error, OSError) else "bad_answer"
        if isinstance(error, http.client.IncompleteRead | http.client.RemoteDisconnected | ConnectionResetError):
            kind = "cut"
        raise Failure(kind, f"{target.host}: {type(error).__name__}: {error}"[:200], transient=True) from error


def parse_retry_after(text: str | None, date: str | None) -> float | None:
    """Seconds to wait by a Retry-After header (seconds, or an HTTP date relative to the header Date); None if unreadable."""
    if text is None:
        return None
    if re.fullmatch(r"\s*[0-9]{1,9}\s*", text):
        return float(text)
    until = _parse_date(text)
    if until is None:
        return None
    return max(0.0, (until - (_parse_date(date or "") or datetime.now(UTC))).total_seconds())


def _parse_date(text: str) -> datetime | None:
    try:
        date = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


class _Wire:
    """The socket methods that http.client needs, with one deadline for the whole exchange instead of one for each read."""

    def __init__(self, sock: socket.socket, limits: Limits, deadline: float) -> None:
        self._sock, self._limits, self._deadline = sock, limits, deadline

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(_remaining_secs(self._deadline, self._limits.idle_secs))
        self._sock.sendall(data)

    def receive_into(self, buffer: memoryview) -> int:
        idle_until = time.monotonic() + self._limits.idle_secs
        while True:
            if self._limits.stop.is_set():
                raise Stopped
            self._sock.settimeout(_remaining_secs(min(idle_until, self._deadline), POLL_SECS))
            with contextlib.suppress(TimeoutError):
                return self._sock.recv_into(buffer)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self))

    def close(self) -> None:
        """Does nothing: http.client closes its socket before it reads a body without a length."""

    def hang_up(self) -> None:
        self._sock.close()


class _Reader(io.RawIOBase):
    def __init__(self, wire: _Wire) -> None:
        self._wire = wire

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        return self._wire.receive_into(buffer)


def _remaining_secs(deadline: float, most: float) -> float:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError("the answer took too long")
    return min(remaining, most)


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _connect(target: Target, addresses: list[tuple[socket.AddressFamily, str]], limits: Limits, deadline: float) -> _Wire:
    """Connects to the first address that answers; a TLS certificate must match the host name."""
    problem: OSError = OSError("it has no address")
    for family, address in addresses:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(_remaining_secs(deadline, limits.idle_secs))
            sock.connect((address, target.port))
            if target.scheme == "https":
                sock.settimeout(_remaining_secs(deadline, limits.idle_secs))
                sock = _tls().wrap_socket(sock, server_hostname=target.host)
            return _Wire(sock, limits, deadline)
        except OSError as error:
            sock.close()
            problem = error
    raise problem


def _ask(wire: _Wire, target: Target, limits: Limits, url: str) -> Answer:
    connection = http.client.HTTPConnection(target.host, target.port)
    connection.auto_open = 0
    connection.sock = wire  # type: ignore[assignment]
    headers = {"Host": target.authority, "User-Agent": USER_AGENT, "Accept": "image/*", "Accept-Encoding": "identity"}
    connection.request("GET", target.path, headers={**headers, "Connection": "close"})
    with contextlib.closing(connection.getresponse()) as response:
        for _ in range(MAX_INTERIM):
            if not 102 <= response.status < 200:
                break
            # http.client skips 100 only. Without headers it reads the next answer from the same buffer.
            response.headers = None  # type: ignore[assignment]
            response.begin()
        if response.status in REDIRECTS:
            return Answer(redirect=_redirect(response, url))
        if response.status not in WITH_PICTURE:
            raise _refusal(response)
        if response.length is not None and response.length > limits.max_bytes:
            raise Failure("too_big", f"{response.length} bytes are announced, more than {limits.max_bytes}")
        return _read(response, limits)


def _redirect(response: http.client.HTTPResponse, url: str) -> str:
    location = response.getheader("Location")
    if not location:
        raise Failure("bad_redirect", f"status {response.status} without a Location")
    try:
        # http.client decodes headers as ISO-8859-1, but a non-ASCII address in one is UTF-8.
        return urllib.parse.urljoin(url, location.encode("iso-8859-1").decode("utf-8", "replace"))
    except ValueError as error:
        raise Failure("bad_redirect", f"{location!r}: {error}") from error


def _refusal(response: http.client.HTTPResponse) -> Failure:
    status = response.status
    transient = status in TRANSIENT_STATUSES or status >= 500
    wait_secs = parse_retry_after(response.getheader("Retry-After"), response.getheader("Date"))
    overload = status in (429, 503) or (transient and wait_secs is not None)
    return Failure(f"http_{status}", response.reason[:80], transient=transient, overload=overload, wait_secs=wait_secs)


def _read(response: http.client.HTTPResponse, limits: Limits) -> Answer:
    announced = response.length
    received = bytearray()
    while chunk := response.read(CHUNK_BYTES):
        received += chunk
        if len(received) > limits.max_bytes:
            raise Failure("too_big", f"more than {limits.max_bytes} bytes")
    if announced is not None and len(received) < announced:
        raise Failure("cut", f"{len(received)} of {announced} bytes came", transient=True)
    body = _unpack(bytes(received), response.getheader("Content-Encoding", ""), limits)
    return Answer(body, declared=announced is not None or response.chunked)


def _unpack(body: bytes, encoding: str, limits: Limits) -> bytes:
    """The body of an answer that a server packed although it was asked not to; of at most `max_bytes`."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in ("gzip", "x-gzip", "deflate"):
        raise Failure("unknown_encoding", f"Content-Encoding {name[:40]!r}")
    # 15 is the largest window, 32 finds whether the header is that of gzip or of zlib.
    unpacker = zlib.decompressobj(15 + 32)
    try:
        unpacked = unpacker.decompress(body, limits.max_bytes + 1)
    except zlib.error as error:
        raise Failure("bad_answer", f"Content-Encoding {name}: {error}", transient=True) from error
    if len(unpacked) > limits.max_bytes:
        raise Failure("too_big", f"more than {limits.max_bytes} bytes when unpacked")
    if not unpacker.eof:
        raise Failure("cut", f"{len(body)} packed bytes came, which have no end", transient=True)
    return unpacked
