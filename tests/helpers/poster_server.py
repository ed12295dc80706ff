"""A local server with every fault that a server of posters can have; each behaviour is told how often it was asked before."""

import contextlib
import io
import socket
import socketserver
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

Behaviour = Callable[[Any, int], None]


def picture(seed: int, file_format: str = "JPEG") -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((60, 80), Image.Resampling.BICUBIC).save(buffer, file_format)
    return buffer.getvalue()


class Server(socketserver.ThreadingTCPServer):
    """Answers /NAME by `behaviours[NAME]`; keeps what was asked, with when, the Host header and how many at once."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, behaviours: dict[str, Behaviour]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behaviours = behaviours
        self.asked: Counter = Counter()
        self.times: list[tuple[str, float]] = []
        self.host_headers: list[str] = []
        self.active = self.most_active = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()

    @property
    def port(self) -> int:
        return self.server_address[1]

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The downloader hangs up on servers like this one."""


class _Handler(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        name = self.rfile.readline().split()[1].decode()[1:]
        for line in iter(self.rfile.readline, b"\r\n"):
            if line.lower().startswith(b"host:"):
                self.server.host_headers.append(line.split(b":", 1)[1].strip().decode())
        with self.server.lock:
            before = self.server.asked[name]
            self.server.asked[name] += 1
            self.server.times.append((name, time.monotonic()))
        self.server.behaviours[name](self, before)

    def send(self, body: bytes = b"", status: str = "200 OK", length: int | None = -1, headers: str = "") -> None:
        """An answer; `length` -1 is the true one, None leaves it out."""
        if length is not None:
            headers += f"Content-Length: {len(body) if length == -1 else length}\r\n"
        self.wfile.write(f"HTTP/1.1 {status}\r\n{headers}\r\n".encode() + body)

    def drip(self, data: bytes, secs: float) -> None:
        """Byte by byte, until the data or the server ends."""
        for byte in data:
            if self.server.closing.wait(secs):
                return
            self.wfile.write(bytes([byte]))

    def wait(self) -> None:
        """Says nothing until the server ends."""
        self.server.closing.wait(30)


@contextlib.contextmanager
def serving(behaviours: dict[str, Behaviour]) -> Iterator[Server]:
    with Server(behaviours) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


def always(body: bytes = b"", status: str = "200 OK", length: int | None = -1, headers: str = "") -> Behaviour:
    return lambda handler, before: handler.send(body, status, length, headers)


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """The first request gets the first behaviour, and so on; the last one stays."""
    return lambda handler, before: behaviours[min(before, len(behaviours) - 1)](handler, before)


def redirect(url: str, status: str = "302 Found") -> Behaviour:
    return always(status=status, headers=f"Location: {url}\r\n")


def silent(handler: Any, before: int) -> None:
    handler.wait()


def stalling(body: bytes) -> Behaviour:
    def behave(handler: Any, before: int) -> None:
        handler.send(body[: len(body) // 2], length=len(body))
        handler.wait()

    return behave


def trickling(body: bytes, secs: float) -> Behaviour:
    def behave(handler: Any, before: int) -> None:
        handler.send(length=len(body))
        handler.drip(body, secs)

    return behave


def trickling_headers(handler: Any, before: int) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    handler.drip(b"X-Slow: yes\r\n" * 1000, 0.05)


def resetting(handler: Any, before: int) -> None:
    handler.send(b"\xff\xd8", length=5000)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def endless(handler: Any, before: int) -> None:
    handler.send(length=None)
    while not handler.server.closing.is_set():
        handler.wfile.write(b"\xff\xd8" + b"x" * 65536)


def chunked(body: bytes, whole: bool) -> Behaviour:
    def behave(handler: Any, before: int) -> None:
        handler.send(length=None, headers="Transfer-Encoding: chunked\r\n")
        half = len(body) // 2
        for part in (body[:half], body[half:]) if whole else (body[:half],):
            handler.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        if whole:
            handler.wfile.write(b"0\r\n\r\n")

    return behave


def garbage(handler: Any, before: int) -> None:
    handler.wfile.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")


def slowly(behaviour: Behaviour, secs: float) -> Behaviour:
    def behave(handler: Any, before: int) -> None:
        server = handler.server
        with server.lock:
            server.active += 1
            server.most_active = max(server.most_active, server.active)
        server.closing.wait(secs)
        # Before the answer: once it has one, the downloader may ask again while this thread still ends.
        with server.lock:
            server.active -= 1
        behaviour(handler, before)

    return behave


GOOD = picture(0)
HTML = b"<!DOCTYPE html><html><body>Not here</body></html>"

# name: (what the server does, how the movie ends, how often it is asked in the first run)
FAULTS: dict[str, tuple[Behaviour, tuple[str, str], int]] = {
    "good": (always(picture(1)), ("kept", ""), 1),
    "png": (always(picture(2, "PNG")), ("kept", ""), 1),
    "chunked": (chunked(picture(3), whole=True), ("kept", ""), 1),
    "no-length": (always(picture(4), length=None), ("kept", ""), 1),
    "cut-once": (in_turn(always(GOOD[:400], length=len(GOOD)), always(GOOD)), ("kept", ""), 2),
    "error-twice": (
        in_turn(*[always(status="500 Oh")] * 2, always(picture(5))),
        ("kept", ""),
        3,
    ),
    "redirected": (redirect("good-too", "301 Moved"), ("kept", ""), 1),
    "silent": (silent, ("failed", "timeout"), 3),
    "stalling": (stalling(GOOD), ("failed", "timeout"), 3),
    "trickling": (trickling(GOOD, 0.05), ("failed", "timeout"), 3),
    "trickling-headers": (trickling_headers, ("failed", "timeout"), 3),
    "cut": (always(GOOD[:400], length=len(GOOD)), ("failed", "cut"), 3),
    "cut-by-a-byte": (always(GOOD[:-1], length=len(GOOD)), ("failed", "cut"), 3),
    "cut-without-length": (always(GOOD[:400], length=None), ("failed", "cut"), 3),
    "cut-chunked": (chunked(GOOD, whole=False), ("failed", "cut"), 3),
    "reset": (resetting, ("failed", "cut"), 3),
    "no-answer": (lambda handler, before: None, ("failed", "cut"), 3),
    "garbage": (garbage, ("failed", "bad_answer"), 3),
    "error": (always(status="502 Bad Gateway"), ("failed", "http_502"), 3),
    "missing": (always(HTML, "404 Not Found"), ("lost", "http_404"), 1),
    "gone": (always(HTML, "410 Gone"), ("lost", "http_410"), 1),
    "partial-content": (always(GOOD, "206 Partial Content"), ("lost", "http_206"), 1),
    "page.jpg": (always(HTML, headers="Content-Type: image/jpeg\r\n"), ("lost", "not_an_image"), 1),
    "announced-short": (always(GOOD, length=400), ("lost", "cut_file"), 3),
    "empty": (always(b""), ("lost", "empty_file"), 3),
    "announced-huge": (always(GOOD, length=10**12), ("lost", "too_big"), 1),
    "endless": (endless, ("lost", "too_big"), 1),
    "placeholder": (always(picture(99, "PNG")), ("lost", "placeholder"), 1),
    "loop": (redirect("loop"), ("lost", "too_many_redirects"), 6),
    "to-file": (redirect("file:///etc/hostname"), ("lost", "bad_address"), 1),
    "to-nowhere": (always(status="302 Found"), ("lost", "bad_redirect"), 1),
    "to-private": (redirect("http://10.1.2.3/poster.jpg"), ("lost", "refused_address"), 1),
    "to-metadata": (redirect("http://169.254.169.254/latest"), ("lost", "refused_address"), 1),
    "to-localhost": (redirect("http://localhost/secret"), ("lost", "refused_address"), 1),
    "to-mapped": (redirect("http://[::ffff:127.0.0.1]/secret"), ("lost", "refused_address"), 1),
}
