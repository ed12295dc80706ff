"""Keras's official weights from a server on this machine: whole, cut, too large, slow, of other content, and gone."""

import hashlib
import http.server
import os
import pathlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from poster_jax.models import weight_files
from poster_jax.models.files import official
from tests.helpers.made_weights import WIDTH, keras_arrays, refusal, write_h5

NAME = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_160_no_top.h5"
WEIGHTS = "keras:imagenet_0.35_160"


class Server(http.server.ThreadingHTTPServer):
    """Answers every request with `status`, `body` and `headers`, and keeps the paths asked for."""

    daemon_threads = True
    status, body = 200, b""
    headers: dict[str, str] = {}
    asked: list[str] = []
    pause = threading.Event()
    pauses = False


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(self.server.status)
        for name, value in ({"Content-Length": str(len(self.server.body))} | self.server.headers).items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        half = len(self.server.body) // 2
        try:
            self.wfile.write(self.server.body[:half])
            if self.server.pauses:
                self.server.pause.wait(30)
            self.wfile.write(self.server.body[half:])
        except OSError:
            pass  # the reader has seen enough

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def content(tmp_path: pathlib.Path) -> bytes:
    write_h5(tmp_path / NAME, keras_arrays())
    return (tmp_path / NAME).read_bytes()


@pytest.fixture
def server(content: bytes, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as each:
        each.body, each.headers, each.asked, each.pause = content, {}, [], threading.Event()
        thread = threading.Thread(target=each.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr(official, "IMAGENET_URL", f"http://127.0.0.1:{each.server_port}/")
        monkeypatch.setenv("POSTER_JAX_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            monkeypatch.delenv(name)
        yield each
        each.pause.set()
        each.shutdown()
        thread.join()


def test_one_request_fetches_the_file_and_the_next_run_none(server: Server, content: bytes, tmp_path: pathlib.Path) -> None:
    digest = hashlib.sha256(content).hexdigest()
    loaded = weight_files.load(WEIGHTS)
    assert loaded.width == WIDTH and loaded.provenance["resolution"] == 160
    assert loaded.file_sha256 == loaded.provenance["sha256"] == digest
    assert weight_files.load(WEIGHTS, digest).width == weight_files.load(f"{WEIGHTS}@{digest}").width == WIDTH
    assert server.asked == [f"/{NAME}"]
    assert [path.name for path in (tmp_path / "cache" / "weights").iterdir()] == [NAME]
    other = "0123456789abcdef" * 4
    assert f"has the sha256 {digest}, not {other}" in refusal(f"{WEIGHTS}@{other}")


def test_what_keras_has_fetched_already_is_taken(server: Server, content: bytes, tmp_path: pathlib.Path) -> None:
    (tmp_path / "keras" / "models").mkdir(parents=True)
    (tmp_path / "keras" / "models" / NAME).write_bytes(content)
    assert weight_files.load(WEIGHTS).width == WIDTH and not server.asked


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"headers": {"Content-Length": "10000000"}}, "of 10000000 bytes came"),
        ({"headers": {"Content-Length": str(1 << 40)}}, "1,099,511,627,776 bytes are announced"),
        ({"headers": {"Content-Length": ""}}, "its length is not announced"),
        ({"body": b"<!DOCTYPE html><html>sign in</html>"}, "is a web page"),
        ({"body": b"\x89HDF\r\n\x1a\n" + bytes(5000)}, "what came is no body"),
        ({"body": b""}, "is empty"),
        ({"status": 404}, "status 404"),
        ({"status": 302, "headers": {"Location": "http://127.0.0.1:9/other"}}, "status 302"),
        ({"pauses": True}, "timed out"),
    ],
)
def test_anything_but_the_whole_file_is_refused_and_nothing_is_kept(
    server: Server, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], told: str
) -> None:
    monkeypatch.setattr(official, "IDLE_SECS", 1.0)
    for name, value in change.items():
        setattr(server, name, value)
    message = refusal(WEIGHTS)
    assert told in message and f"fetch http://127.0.0.1:{server.server_port}/{NAME} where there is a network" in message
    assert server.asked == [f"/{NAME}"] and not [*(tmp_path / "cache" / "weights").iterdir()]


def test_a_server_that_sends_for_ever_is_left(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(official, "TOTAL_SECS", -1.0)
    assert "it took more than" in refusal(WEIGHTS)


def test_no_network_is_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(official, "IMAGENET_URL", f"http://127.0.0.1:{free.getsockname()[1]}/")
    assert "could not be fetched" in refusal(WEIGHTS) and "give keras:FILE" in refusal(WEIGHTS)


def test_widths_and_sizes_that_keras_has_not_are_refused_before_asking(server: Server) -> None:
    assert "the width is one of 0.35, 0.5" in refusal("keras:imagenet_0.36_160")
    assert "the size one of 96, 128" in refusal("keras:imagenet_1.0_150")
    assert not server.asked
    assert official.parse("imagenet").name.endswith("_1.0_224_no_top.h5") and official.parse("imagenet.h5") is None  # type: ignore[union-attr]
