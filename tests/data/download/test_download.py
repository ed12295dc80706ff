"""The downloader against a server with every fault: it loses no poster, keeps no false one and contacts no private address."""

import csv
import errno
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest

from poster_jax.data import catalog, images
from poster_jax.data.download import __main__ as download
from poster_jax.data.download import movies as movies_lib
from poster_jax.data.download.journal import Journal
from tests.helpers import poster_server as faults
from tests.helpers import processes

ROOT = pathlib.Path(__file__).resolve().parents[3]
FAST = ("--allow-host=127.0.0.1", "--timeout=2", "--idle=0.9", "--attempts=3", "--first-pause=0.02", "--max-mb=0.3")
GOOD = faults.picture(0)
FAULTS = faults.FAULTS
Rows = Sequence[tuple[int, str, str]]  # imdbId, Genre, Poster


def write_csv(path: pathlib.Path, rows: Rows) -> pathlib.Path:
    with path.open("w", encoding="ISO-8859-1", newline="") as file:
        csv.writer(file).writerows([("imdbId", "Title", "Genre", "Poster"), *((i, "T", g, url) for i, g, url in rows)])
    return path


def run(tmp_path: pathlib.Path, rows: Rows, *options: str) -> tuple[int, dict[int, tuple[str, str]], pathlib.Path]:
    """Exit code, {imdbId: (state, reason)} of the movies, and DIR; another call with equal rows continues the download."""
    out_dir = tmp_path / "set"
    code = download.main([str(write_csv(tmp_path / "movies.csv", rows)), str(out_dir), *FAST, *options])
    movies, _ = movies_lib.read_movies(out_dir / "MovieGenre.csv")
    journal = Journal(out_dir / "downloads.jsonl")
    statuses = {movie.id: movies_lib.find_status(movie, journal, out_dir / "posters") for movie in movies}
    journal.close()
    return code, {id_: (status.state, status.reason) for id_, status in statuses.items()}, out_dir


def posters(out_dir: pathlib.Path) -> dict[int, bytes]:
    """{number in the file name: content} of all files in posters/."""
    return {int(path.stem): path.read_bytes() for path in (out_dir / "posters").iterdir()}


def test_every_fault_ends_where_it_should_and_only_failures_are_asked_again(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    placeholder = tmp_path / "no_picture.png"
    placeholder.write_bytes(faults.picture(99, "PNG"))
    names = list(FAULTS)
    behaviours = {name: behaviour for name, (behaviour, _, _) in FAULTS.items()}
    behaviours["good-too"] = faults.always(faults.picture(6))
    options = ("--per-host=40", "--jobs=40", f"--placeholder={placeholder}")
    with faults.serving(behaviours) as server:
        rows = [(1 + n, "Drama", server.url(name)) for n, name in enumerate(names)]
        code, ends, out_dir = run(tmp_path, rows, *options)
        assert {name: ends[1 + n] for n, name in enumerate(names)} == {name: end for name, (_, end, _) in FAULTS.items()}
        assert {name: server.asked[name] for name in names} == {name: asked for name, (_, _, asked) in FAULTS.items()}
        assert code == 75
        right = {"good": 1, "chunked": 3, "no-length": 4, "cut-once": 0, "error-twice": 5, "redirected": 6}
        expected = {1 + names.index(name): faults.picture(seed) for name, seed in right.items()}
        expected[1 + names.index("png")] = faults.picture(2, "PNG")
        assert posters(out_dir) == expected
        assert "run the same command again" in capsys.readouterr().err

        failed = {name for name, (_, (state, _), _) in FAULTS.items() if state == "failed"}
        server.asked.clear()
        for n, name in enumerate(names):
            server.behaviours[name] = faults.always(faults.picture(100 + n))
        code, ends, out_dir = run(tmp_path, rows, *options)
        assert code == 0
        assert server.asked == dict.fromkeys(failed, 1)
        expected |= {1 + names.index(name): faults.picture(100 + names.index(name)) for name in failed}
        assert posters(out_dir) == expected
        assert catalog.read_kaggle(out_dir).table["id"].tolist() == sorted(expected)


def test_what_is_lost_is_counted_by_genre(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    behaviours = {
        "a": faults.always(faults.picture(1)),
        "b": faults.always(status="404 Not Found"),
        "c": faults.always(status="500 Oh"),
    }
    with faults.serving(behaviours) as server:
        a, b, c = map(server.url, "abc")
        rows = [(1, "Drama|Horror", b), (1, "Crime", a), (2, "Drama", b), (3, "Drama", c), (4, "Horror", ""), (0, "Drama", a)]
        code, ends, out_dir = run(tmp_path, rows)
    assert code == 75
    # Of movie 1 the first row has a dead link, the second one has not.
    assert ends == {
        1: ("kept", ""),
        2: ("lost", "http_404"),
        3: ("failed", "http_500"),
        4: ("lost", "no_address"),
    }
    assert json.loads((out_dir / "losses.json").read_text()) == {
        "movies": 4,
        "rows_with_a_bad_id": 1,
        "kept": 1,
        "lost": 2,
        "failed": 1,
        "lost_by_reason": {"http_404": 1, "no_address": 1},
        "failed_by_reason": {"http_500": 1},
        "genres": [
            {"genre": "Drama", "movies": 3, "kept": 1, "lost": 1, "failed": 1, "share_missing": 1 - 1 / 3},
            {"genre": "Horror", "movies": 2, "kept": 1, "lost": 1, "failed": 0, "share_missing": 0.5},
            {"genre": "Crime", "movies": 1, "kept": 1, "lost": 0, "failed": 0, "share_missing": 0.0},
        ],
    }
    message = capsys.readouterr().out
    assert "1 of 4 movies have their poster; 1 rows" in message
    assert "66.7%" in message and "Crime" not in message
    with (out_dir / "lost.csv").open() as file:
        assert [(row["id"], row["reason"], row["genres"]) for row in csv.DictReader(file)] == [
            ("2", "http_404", "Drama"),
            ("3", "http_500", "Drama"),
            ("4", "no_address", "Horror"),
        ]


@pytest.mark.parametrize("as_date", [False, True])
def test_a_host_that_asks_for_a_pause_gets_it(as_date: bool, tmp_path: pathlib.Path) -> None:
    # The server's clock is a year behind. Only the difference of its two dates matters.
    now = datetime(2025, 1, 1, tzinfo=UTC)
    dates = f"Retry-After: {format_datetime(now.replace(second=1), usegmt=True)}\r\nDate: {format_datetime(now, usegmt=True)}"
    busy = faults.always(status="429 Too Many Requests", headers=(dates if as_date else "Retry-After: 1") + "\r\n")
    behaviours = {str(n): faults.always(faults.picture(n)) for n in range(6)}
    behaviours["0"] = faults.in_turn(busy, behaviours["0"])
    with faults.serving(behaviours) as server:
        code, ends, _ = run(tmp_path, [(1 + n, "Drama", server.url(str(n))) for n in range(6)], "--per-host=1")
    assert code == 0 and set(ends.values()) == {("kept", "")}
    assert server.times[0][0] == "0"
    assert server.times[1][1] - server.times[0][1] >= 0.95  # not one other request in between


def test_who_asks_for_a_longer_pause_is_left_alone_until_another_run(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    busy = faults.always(status="503 Busy", headers="Retry-After: 3600\r\n")
    behaviours = {str(n): faults.in_turn(busy, faults.always(faults.picture(n))) for n in range(4)}
    with faults.serving(behaviours) as server:
        rows = [(1 + n, "Drama", server.url(str(n))) for n in range(4)]
        code, ends, _ = run(tmp_path, rows, "--per-host=1")
        assert code == 75
        assert set(ends.values()) == {("failed", "not_asked")}
        assert sum(server.asked.values()) == 1
        assert "127.0.0.1 is left alone" in capsys.readouterr().out


def test_a_host_is_never_asked_more_at_once_than_allowed(tmp_path: pathlib.Path) -> None:
    behaviours = {str(n): faults.slowly(faults.always(faults.picture(n)), 0.2) for n in range(20)}
    with faults.serving(behaviours) as server:
        rows = [(1 + n, "Drama", server.url(str(n))) for n in range(20)]
        code, _, out_dir = run(tmp_path, rows, "--per-host=3", "--jobs=10")
    assert code == 0 and len(posters(out_dir)) == 20
    assert server.most_active == 3


def test_a_host_that_is_down_is_left_alone(tmp_path: pathlib.Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        code, ends, out_dir = run(tmp_path, [(n, "Drama", f"{url}{n}") for n in range(1, 40)], "--patience=5", "--per-host=1")
    assert code == 75
    assert {state for state, _ in ends.values()} == {"failed"}
    assert len((out_dir / "downloads.jsonl").read_text().splitlines()) <= 5


def test_one_picture_for_many_movies_is_a_placeholder(tmp_path: pathlib.Path) -> None:
    behaviours = {str(n): faults.always(faults.picture(0 if n < 4 else n)) for n in range(8)}
    behaviours["mine"] = faults.always(status="404 Not Found")
    with faults.serving(behaviours) as server:
        rows = [(1 + n, "Drama", server.url(str(n))) for n in range(7)] + [(50, "Drama", server.url("mine"))]
        (tmp_path / "set" / "posters").mkdir(parents=True)
        (tmp_path / "set" / "posters" / "50.jpg").write_bytes(faults.picture(0))
        code, ends, out_dir = run(tmp_path, rows, "--shared-by=5")
        assert code == 0 and len(posters(out_dir)) == 8  # four share it: fewer than five
        shutil.rmtree(tmp_path / "set")
        code, ends, out_dir = run(tmp_path, rows, "--shared-by=4")
        assert {id_ for id_, end in ends.items() if end == ("lost", "placeholder")} == {1, 2, 3, 4}
        assert set(posters(out_dir)) == {5, 6, 7}


def test_a_picture_that_lay_there_is_taken_and_never_asked_for_or_removed(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "set" / "posters"
    folder.mkdir(parents=True)
    (folder / "1.jpg").write_bytes(GOOD)
    (folder / "2.jpg").write_bytes(GOOD[:400])
    (folder / ".3.partial").write_bytes(GOOD[:400])
    with faults.serving({"2": faults.always(faults.picture(2))}) as server:
        rows = [(1, "Drama", server.url("1")), (2, "Drama", server.url("2"))]
        code, _, out_dir = run(tmp_path, rows, "--shared-by=1")
        assert code == 0
        assert server.asked == {"2": 1}
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"1.jpg": GOOD}
        assert "placeholder" in (out_dir / "downloads.jsonl").read_text()  # --shared-by=1: every downloaded picture


def test_a_lost_file_is_asked_for_again(tmp_path: pathlib.Path) -> None:
    with faults.serving({str(n): faults.always(faults.picture(n)) for n in range(3)}) as server:
        rows = [(1 + n, "Drama", server.url(str(n))) for n in range(3)]
        _, _, out_dir = run(tmp_path, rows)
        (out_dir / "posters" / "1.jpg").unlink()
        (out_dir / "posters" / "2.jpg").write_bytes(b"")  # a machine that lost power
        server.asked.clear()
        code, _, _ = run(tmp_path, rows)
        assert code == 0 and server.asked == {"0": 1, "1": 1}
        assert posters(out_dir) == {1 + n: faults.picture(n) for n in range(3)}


def start(csv_path: pathlib.Path, out_dir: pathlib.Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "poster_jax.data.download", str(csv_path), str(out_dir), *FAST, "--per-host=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_killed_or_stopped_in_the_middle_it_goes_on(kind: signal.Signals, tmp_path: pathlib.Path) -> None:
    behaviours = {str(n): faults.slowly(faults.always(faults.picture(n)), 0.03) for n in range(60)}
    journal_path = tmp_path / "set" / "downloads.jsonl"
    with faults.serving(behaviours) as server:
        rows = [(1 + n, "Drama", server.url(str(n))) for n in range(60)]
        process = start(write_csv(tmp_path / "movies.csv", rows), tmp_path / "set")
        processes.wait_until(process, lambda: journal_path.exists() and journal_path.read_bytes().count(b"\n") >= 10)
        process.send_signal(kind)
        code, message = processes.finish(process)
        done = {json.loads(line)["id"] for line in journal_path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")}
        assert 10 <= len(done) < 60
        if kind == signal.SIGTERM:
            assert code == 75 and "stopped by SIGTERM; run the same command to go on" in message
            assert "Traceback" not in message
        else:
            assert code == -signal.SIGKILL
            with journal_path.open("ab") as file:
                file.write(b'{"id": 60, "url": "http://12')
        server.asked.clear()
        code, ends, out_dir = run(tmp_path, rows, "--per-host=20")
    assert code == 0 and set(ends.values()) == {("kept", "")}
    assert posters(out_dir) == {1 + n: faults.picture(n) for n in range(60)}
    asked_again = {1 + int(name) for name in server.asked} & done
    # The line is written before the file is renamed, so a kill between the two costs one request.
    assert len(asked_again) <= (1 if kind == signal.SIGKILL else 0)


def test_a_stop_is_heard_while_a_server_is_silent(tmp_path: pathlib.Path) -> None:
    stop = threading.Event()
    with faults.serving({"a": faults.silent}) as server:
        csv_path = write_csv(tmp_path / "movies.csv", [(1, "Drama", server.url("a"))])
        options = download.parse_options([str(csv_path), str(tmp_path / "set"), "--allow-host=127.0.0.1"])
        threading.Timer(0.3, stop.set).start()
        began = time.monotonic()
        assert download.download(csv_path, tmp_path / "set", options, stop) == 1
        assert time.monotonic() - began < 5
    assert (tmp_path / "set" / "downloads.jsonl").read_text() == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere.csv", "set"], "nowhere.csv"),
        (["other.csv", "set"], "Poster"),
        (["good.csv", "taken"], "another table"),
        (["good.csv", "good.csv"], "good.csv"),
        (["good.csv", "set", "--jobs=0"], "above zero"),
        (["good.csv", "set", "--timeout=nan"], "above zero"),
        (["good.csv", "set", "--jobs=many"], "invalid int"),
        (["good.csv", "set", "--placeholder=other.csv"], "--placeholder=other.csv"),
        (["good.csv"], "--help"),
    ],
)
def test_a_mistake_gets_one_sentence(
    arguments: list[str], says: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "good.csv", [(1, "Drama", "")])
    (tmp_path / "other.csv").write_text("imdbId,Genre\n1,Drama\n")
    (tmp_path / "taken").mkdir()
    write_csv(tmp_path / "taken" / "MovieGenre.csv", [(2, "Drama", "")])
    assert download.main(arguments) == 2
    message = capsys.readouterr().err
    assert says in message and message.startswith("poster_jax: ") and message.count("\n") == 1


def test_a_full_disk_is_reported_and_a_bug_of_ours_keeps_its_traceback(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with faults.serving({str(n): faults.always(GOOD) for n in range(20)}) as server:
        csv_path = write_csv(tmp_path / "movies.csv", [(1 + n, "Drama", server.url(str(n))) for n in range(20)])
        arguments = [str(csv_path), str(tmp_path / "set"), *FAST]

        def full(*_: Any) -> Any:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "posters/1.jpg")

        with monkeypatch.context() as patched:
            patched.setattr(pathlib.Path, "write_bytes", full)
            assert download.main(arguments) == 2
        assert "posters/1.jpg" in capsys.readouterr().err

        def bug(_: bytes) -> Any:
            return {}["missing"]

        with monkeypatch.context() as patched:
            patched.setattr(images, "check", bug)
            with pytest.raises(KeyError, match="missing"):
                download.main(arguments)
        assert download.main([*arguments, "--shared-by=21"]) == 0
    assert len(posters(tmp_path / "set")) == 20


def test_a_pause_is_also_asked_for_by_an_error_of_the_server(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = faults.always(status="500 Oh", headers="Retry-After: 3600\r\n")
    with faults.serving({str(n): broken for n in range(4)}) as server:
        rows = [(1 + n, "Drama", server.url(str(n))) for n in range(4)]
        code, ends, _ = run(tmp_path, rows, "--per-host=1")
        assert code == 75
        assert set(ends.values()) == {("failed", "not_asked")}
        assert sum(server.asked.values()) == 1
        assert "127.0.0.1 is left alone in this run: it asked for a pause of 3600 s" in capsys.readouterr().out
