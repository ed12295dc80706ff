"""The examples of poster_jax/README.md as a reader would follow them: added to a copy of the project, and trained there."""

import json
import pathlib
import re
import shlex
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from poster_jax.data import synthetic
from poster_jax.data.dataset import PARTS
from poster_jax.workdir import logbook
from tests.helpers import fresh_machine

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = (ROOT / "poster_jax" / "README.md").read_text()
BLOCK = re.compile(r"^```python\n# (?P<file>[\w/]+\.py)(?:, in (?P<table>\w+))?\n(?P<lines>.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^```\n(python -m .*)\n```$", re.MULTILINE)
FAST = ["--config.eval.baselines=False", "--config.eval.bootstrap_samples=20"]


def section(title: str) -> str:
    """The part of the page below a heading of the third level."""
    return re.split(r"^##+ ", PAGE.split(f"### {title}\n")[1], flags=re.MULTILINE)[0]


def put_line(code: str, table: str, line: str) -> str:
    """The code with a line of its dict `table`, or an import, in place of the line of the same key or package, or added."""
    lines = code.split("\n")
    if line.startswith("from "):
        [at] = [place for place, each in enumerate(lines) if each.startswith(line.partition(" import ")[0] + " import ")]
        return "\n".join([*lines[:at], line, *lines[at + 1 :]])
    start = next(place for place, each in enumerate(lines) if re.match(rf"{table}\b[^=]*= \{{$", each))
    end = lines.index("}", start)
    key = line.partition(":")[0] + ":"
    at = next((place for place in range(start, end) if lines[place].startswith(key)), None)
    return "\n".join([*lines[:end], line, *lines[end:]] if at is None else [*lines[:at], line, *lines[at + 1 :]])


def follow(title: str, project: pathlib.Path, *, only_own: bool = False) -> list[str]:
    """Does to a copy of the project what the section says; returns the command and the names of the changed files.

    only_own: its whole files only.
    """
    changed = []
    for block in BLOCK.finditer(section(title)):
        path = project / block["file"]
        if block["table"] is None:
            assert not path.exists(), f"{block['file']} is there already"
            assert len(block["lines"].splitlines()) <= 45
            path.write_text(block["lines"])
        elif not only_own:
            changed.append(block["file"])
            for line in block["lines"].splitlines():
                path.write_text(put_line(path.read_text(), block["table"], line))
    assert only_own or 1 <= len(set(changed)) <= 2, changed
    return shlex.split(COMMAND.findall(section(title))[0])[3:]


def train(project: pathlib.Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "poster_jax.main",
        *arguments,
        *FAST,
        *([] if any(each.startswith("--workdir") for each in arguments) else ["--workdir=run"]),
    ]
    environment = {**fresh_machine.clean_environ(), "POSTER_JAX_CACHE": str(project / "cache")}
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture
def project(tmp_path: pathlib.Path) -> pathlib.Path:
    return fresh_machine.copy_project(tmp_path / "project")


def test_a_model(project: pathlib.Path) -> None:
    arguments = follow("A model", project)
    done = train(project, arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads((project / "run" / "results.json").read_text())
    assert results["title"] == "strided, sigmoid, seed 0"
    assert results["num_parameters"] == (75 * 16 + 16) + (9 * 16 * 32 + 32) + (32 * 6 + 6)
    # Its own files alone are not enough.
    alone = fresh_machine.copy_project(project.parent / "alone")
    follow("A model", alone, only_own=True)
    assert train(alone, arguments).returncode != 0


def test_a_data_source(project: pathlib.Path) -> None:
    folder = project / "posters"
    folder.mkdir()
    table = synthetic.draw_table(90, seed=0)
    for number, genres in zip(table["id"], table["genres"], strict=True):
        (folder / f"{number:03}.jpg").write_bytes(synthetic.draw_poster(0, int(number), tuple(genres.split("|"))))
        (folder / f"{number:03}.txt").write_text(genres.replace("|", "\n") + "\n")
    (folder / "090.txt").unlink()
    arguments = [argument.replace("FOLDER", "posters") for argument in follow("A data source", project)]
    done = train(project, arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads((project / "run" / "results.json").read_text())
    assert results["data"]["name"] == "own posters" and results["data"]["num_posters"] == 89
    assert results["data"]["refused"]["reason"] == {"no_genre": 1}
    assert set(results["data"]["genres"]) == set(synthetic.GENRES)
    told = train(project, [argument.replace("=posters", "=nowhere") for argument in arguments])
    assert told.returncode == 2 and "has no picture: name another with --config.data.dir" in told.stderr
    assert train(fresh_machine.copy_project(project.parent / "alone"), arguments).returncode == 2


def test_a_protocol(project: pathlib.Path) -> None:
    arguments = follow("A protocol", project)
    done = train(project, arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    path = project / "run" / "results.json"
    written, results = path.read_bytes(), json.loads(path.read_text())
    assert results["title"] == "cnn, labels shuffled, seed 0"
    assert train(project, arguments).returncode == 0 and path.read_bytes() == written, "the second start only reads"
    # On labels that are not shuffled the rows are the same, and the network is another one.
    assert train(project, [*arguments, "--config.protocol=single", "--workdir=usual"]).returncode == 0
    usual = json.loads((project / "usual" / "results.json").read_text())
    assert usual["data"] == results["data"] and usual["train_loss"] != results["train_loss"]


class Tracker:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.kept: list[tuple[int, dict[str, float]]] = []

    def log(self, values: dict[str, float], *, step: int) -> None:
        self.kept.append((step, values))


def test_a_tracker_gets_every_number_of_the_metrics(tmp_path: pathlib.Path) -> None:
    log = logbook.Logbook(tmp_path, last_step=0, total_steps=4, tensorboard=False)
    log.metrics(2, "train", {"loss": 0.5})
    log.metrics(2, "validation", {"loss": 0.25, "macro_auc": None})
    log.metrics(4, "train", {"loss": 0.125})
    log.close()
    [code] = re.findall(r"^```python\n(import json\n.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(code.splitlines()) <= 12
    names: dict[str, Any] = {}
    exec(compile(code, "page", "exec"), names)
    tracker = Tracker()
    names["send"](tmp_path, tracker)
    assert tracker.kept == [(2, {"train/loss": 0.5}), (2, {"validation/loss": 0.25}), (4, {"train/loss": 0.125})]


def test_what_stays_is_in_the_run_of_an_older_version() -> None:
    page = re.split(r"^## ", PAGE.split("## What stays\n")[1], flags=re.MULTILINE)[0]
    run = ROOT / "tests" / "workdir" / "old_run" / "finished"
    files = {name for name in re.findall(r"`(\w+\.\w+)`", page) if name != "predict.py"}
    assert len(files) == 7 and all((run / name).is_file() for name in files)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines and all({"step", "part"} <= line.keys() for line in lines)
    with np.load(run / "predictions.npz") as arrays:
        assert {f"{part}_{name}" for part in PARTS for name in ("id", "label", "score")} <= {*arrays.files}
    splits = json.loads((run / "results.json").read_text())["splits"]
    entries = [entry for part in PARTS for entry in splits[part]["metrics"].values()]
    assert entries and all({"value", "low", "high", "best_floor"} <= entry.keys() for entry in entries)
    for word in ("step", "part", "test_id", "test_label", "test_score", "value", "low", "high", "best_floor"):
        assert f"`{word}`" in page


def test_a_line_takes_the_place_of_its_key_or_is_added() -> None:
    code = 'from a import b\n\nTABLE: dict[str, int] = {\n    "x": 1,\n}\nOTHER = {\n    "x": 2,\n}\n'
    assert put_line(code, "OTHER", '    "x": 3,') == code.replace("2", "3")
    assert put_line(code, "TABLE", '    "y": 3,') == code.replace("1,\n}", '1,\n    "y": 3,\n}')
    assert put_line(code, "TABLE", "from a import b, c") == code.replace("import b", "import b, c")
    with pytest.raises(ValueError, match="not enough values"):
        put_line(code, "TABLE", "from z import b")
    with pytest.raises(StopIteration):
        put_line(code, "NONE", '    "y": 3,')
