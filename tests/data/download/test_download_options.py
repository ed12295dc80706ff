"""What other options may keep is asked for again, and what servers and lists do that browsers understand is understood."""

import csv
import gzip
import json
import pathlib
import socket
import ssl
import tracemalloc
import zlib
from typing import Any

import pytest

from poster_jax import errors
from poster_jax.data.download import __main__ as download
from poster_jax.data.download import request
from tests.helpers import poster_server as faults

FAST = ("--timeout=5", "--idle=2", "--attempts=2", "--first-pause=0.02")
LOCAL = "--allow-host=127.0.0.1"
GOOD = faults.picture(0)


def run(place: pathlib.Path, urls: list[str], *options: str, encoding: str = "utf-8") -> int:
    """The exit code of a download of one movie for each address into PLACE/set."""
    with (place / "movies.csv").open("w", encoding=encoding, newline="") as file:
        csv.writer(file).writerows(
            [("imdbId", "Genre", "Poster"), *((f"tt{n:07}", "Drama", url) for n, url in enumerate(urls, 1))]
        )
    return download.main([str(place / "movies.csv"), str(place / "set"), *FAST, *options])


def kept(place: pathlib.Path) -> list[str]:
    return sorted(path.name for path in (place / "set" / "posters").iterdir())


def reasons(place: pathlib.Path) -> dict[str, int]:
    return json.loads((place / "set" / "losses.json").read_text())["lost_by_reason"]


def test_a_refused_host_is_asked_once_it_is_allowed(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    with faults.serving({"a.jpg": faults.always(GOOD)}) as server:
        assert run(tmp_path, [server.url("a.jpg")]) == 2
        said = capsys.readouterr().err
        assert "none of the 1 movies has a poster (1 refused_address)" in said and said.splitlines()[-1].startswith(
            "poster_jax: "
        )
        assert run(tmp_path, [server.url("a.jpg")], "--allow-host=other.example") == 2 and server.asked == {}
        assert run(tmp_path, [server.url("a.jpg")], LOCAL) == 0 and kept(tmp_path) == ["1.jpg"]
        assert run(tmp_path, [server.url("a.jpg")]) == 0 and server.asked == {"a.jpg": 1}


def test_what_was_too_big_is_asked_for_under_a_larger_limit_only(tmp_path: pathlib.Path) -> None:
    with faults.serving({"a": faults.always(GOOD), "big": faults.always(GOOD + bytes(200_000))}) as server:
        urls = [server.url("a"), server.url("big")]
        for limit, code, asked in (("0.1", 0, 1), ("0.1", 0, 1), ("0.05", 0, 1), ("1", 0, 2), ("1", 0, 2)):
            assert run(tmp_path, urls, LOCAL, f"--max-mb={limit}") == code
            assert server.asked == {"a": 1, "big": asked}, limit
    assert kept(tmp_path) == ["1.jpg", "2.jpg"]


def test_a_shared_picture_is_asked_for_where_more_may_share_it(tmp_path: pathlib.Path) -> None:
    behaviours = {f"{n}": faults.always(GOOD) for n in range(5)} | {"own": faults.always(faults.picture(9))}
    with faults.serving(behaviours) as server:
        urls = [server.url(f"{n}") for n in range(5)] + [server.url("own")]
        for shared_by, num_kept, asked in ((4, 1, 1), (5, 1, 1), (6, 6, 2)):
            assert run(tmp_path, urls, LOCAL, f"--shared-by={shared_by}") == 0
            assert len(kept(tmp_path)) == num_kept and server.asked["0"] == asked, shared_by
        assert server.asked["own"] == 1


def test_a_placeholder_that_is_not_given_any_more_is_asked_for(tmp_path: pathlib.Path) -> None:
    (tmp_path / "none.jpg").write_bytes(GOOD)
    given = f"--placeholder={tmp_path / 'none.jpg'}"
    with faults.serving({"a": faults.always(GOOD), "b": faults.always(faults.picture(1))}) as server:
        urls = [server.url("a"), server.url("b")]
        for options, num_kept, asked in (([given], 1, 1), ([given], 1, 1), ([], 2, 2)):
            assert run(tmp_path, urls, LOCAL, *options) == 0
            assert len(kept(tmp_path)) == num_kept and server.asked["a"] == asked


def test_a_line_of_a_journal_without_options_is_understood(tmp_path: pathlib.Path) -> None:
    with faults.serving({"a": faults.always(GOOD)}) as server:
        (tmp_path / "set").mkdir()
        line = {"id": 1, "url": server.url("a"), "state": "lost", "reason": "refused_address", "detail": "", "attempts": 1}
        (tmp_path / "set" / "downloads.jsonl").write_text(json.dumps(line) + "\n")
        assert run(tmp_path, [server.url("a")], LOCAL) == 0 and kept(tmp_path) == ["1.jpg"]


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("Example.COM", "example.com"),
        ("127.0.0.1:8765", "127.0.0.1:8765"),
        ("http://127.0.0.1:8765/a/b.jpg?c", "127.0.0.1:8765"),
        ("https://Example.com/", "example.com"),
        ("[::1]", "::1"),
        ("::1", "::1"),
        ("[::1]:80", "::1:80"),
        ("bücher.example", "xn--bcher-kva.example"),
        (" a.example ", "a.example"),
    ],
)
def test_allowed_hosts_as_people_write_them(text: str, host: str) -> None:
    assert request.parse_allowed(text) == host


@pytest.mark.parametrize("text", ["", "http://", "a b", "127.0.0.1/24", "ftp://a.example", "a:port", "a:99999", "//a.example"])
def test_what_is_no_host_is_refused(text: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(errors.UserError, match="names no host"):
        request.parse_allowed(text)
    assert run(tmp_path, ["http://127.0.0.1:1/a"], f"--allow-host={text}") == 2
    assert f"--allow-host={text} names no host" in capsys.readouterr().err and not (tmp_path / "set").exists()


def test_a_host_is_allowed_on_its_port_alone(tmp_path: pathlib.Path) -> None:
    with faults.serving({"a": faults.always(GOOD)}) as server:
        assert run(tmp_path, [server.url("a")], f"--allow-host=127.0.0.1:{server.port + 1}") == 2 and not server.asked
        assert run(tmp_path, [server.url("a")], f"--allow-host=http://127.0.0.1:{server.port}/") == 0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_an_address_with_an_accent_is_asked_for_as_utf_8(encoding: str, tmp_path: pathlib.Path) -> None:
    names = ["caf%C3%A9.jpg", "a%20b.jpg", "c%2Fd.jpg"]
    with faults.serving({name: faults.always(faults.picture(n)) for n, name in enumerate(names)}) as server:
        urls = [server.url(name) for name in ("café.jpg", "a b.jpg", "c%2Fd.jpg")]
        assert run(tmp_path, urls, LOCAL, encoding=encoding) == 0
        assert server.asked == dict.fromkeys(names, 1) and kept(tmp_path) == ["1.jpg", "2.jpg", "3.jpg"]


def interim(*statuses: str, count: int = 1) -> faults.Behaviour:
    """Answers of 1xx, and then the poster."""

    def behave(handler: Any, before: int) -> None:
        for status in statuses * count:
            handler.wfile.write(f"HTTP/1.1 {status}\r\nLink: </style.css>; rel=preload\r\n\r\n".encode())
        handler.send(GOOD)

    return behave


def packed(content: bytes, encoding: str = "gzip") -> faults.Behaviour:
    return faults.always(content, headers=f"Content-Encoding: {encoding}\r\n")


ZIPPED = gzip.compress(GOOD)
# What a server does, and the reason of the failure, "" for none.
ANSWERS = {
    "early hints": (interim("103 Early Hints"), ""),
    "several": (interim("100 Continue", "102 Processing", "103 Early Hints"), ""),
    "without an end": (interim("103 Early Hints", count=50), "http_103"),
    "another protocol": (interim("101 Switching Protocols"), "http_101"),
    "transformed": (faults.always(GOOD, "203 Non-Authoritative Information"), ""),
    "no content": (faults.always(b"", "204 No Content"), "http_204"),
    "gzip": (packed(ZIPPED), ""),
    "x-gzip": (packed(ZIPPED, "x-gzip"), ""),
    "deflate": (packed(zlib.compress(GOOD), "deflate"), ""),
    "identity": (packed(GOOD, "identity"), ""),
    "gzip, cut": (packed(ZIPPED[:-20]), "cut"),
    "gzip, damaged": (packed(b"no gzip at all"), "bad_answer"),
    "gzip, a bomb": (packed(gzip.compress(bytes(50_000_000))), "too_big"),
    "brotli": (packed(b"\x0b\x02\x80", "br"), "unknown_encoding"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_that_browsers_understand(name: str) -> None:
    behaviour, reason = ANSWERS[name]
    limits = request.Limits(5.0, 2.0, 10**6, frozenset({"127.0.0.1"}))
    with faults.serving({"a": behaviour}) as server:
        if not reason:
            assert request.fetch(server.url("a"), limits).body == GOOD
            return
        with pytest.raises(request.Failure) as raised:
            request.fetch(server.url("a"), limits)
    assert raised.value.reason == reason
    assert raised.value.transient == (reason in ("cut", "bad_answer"))


def test_a_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    limits = request.Limits(5.0, 2.0, 10**6, frozenset())
    tracemalloc.start()
    try:
        with pytest.raises(request.Failure, match="too_big"):
            request._unpack(bomb, "gzip", limits)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_a_certificate_that_fails_is_lost_and_asked_again_when_the_command_is(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed certificate")
    error.verify_message = "self-signed certificate"
    asked: list[Any] = []

    def connect(*given: Any) -> None:
        asked.append(given)
        raise error

    monkeypatch.setattr(request, "_connect", connect)
    for number in (1, 2):
        assert run(tmp_path, ["https://127.0.0.1/a"], LOCAL) == 2
        said = capsys.readouterr().err
        assert "run the same command" not in said and "1 bad_certificate" in said and len(asked) == number
    assert reasons(tmp_path) == {"bad_certificate": 1}
    assert "self-signed certificate" in (tmp_path / "set" / "lost.csv").read_text()


@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY"])
def test_a_proxy_is_said_to_be_ignored(
    name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as closed, faults.serving({"a": faults.always(GOOD)}) as server:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed.getsockname()[1]}")
        assert run(tmp_path, [server.url("a")], LOCAL) == 0
    assert f"{name.lower()} of the environment is ignored" in capsys.readouterr().out
