"""What made a run: a line in timings.jsonl for every start that did something, and none for one that only read."""

import json
import pathlib
import re

import pytest

from poster_jax import cli
from poster_jax.workdir import provenance


def lines(workdir: pathlib.Path) -> list[dict]:
    path = workdir / "timings.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_start_that_ran_something_leaves_a_line(tmp_path: pathlib.Path) -> None:
    with provenance.recorded(tmp_path):
        (tmp_path / "config.json").write_text("{}")
        (tmp_path / "results.json").write_text("{}")
    [line] = lines(tmp_path)
    assert line["event"] == "run" and line["secs"] >= 0
    assert re.fullmatch(r"[0-9a-f]{7,}\+?|\d+\.\d+.*", line["commit"])
    assert line["version"] == cli.version_of("poster_jax") != line["jax"]
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", line["jax"]) and "cores of" in line["machine"]


def test_a_start_that_only_reads_leaves_none(tmp_path: pathlib.Path) -> None:
    for name in ("config.json", "results.json"):
        (tmp_path / name).write_text("{}")
    with provenance.recorded(tmp_path):
        (tmp_path / "results.json").read_text()
    assert not lines(tmp_path) and provenance.read(tmp_path) == {}


def test_a_stopped_start_counts_and_a_refused_one_does_not(tmp_path: pathlib.Path) -> None:
    (tmp_path / "run" / "seed_0").mkdir(parents=True)
    with pytest.raises(KeyError), provenance.recorded(tmp_path / "none"):
        raise KeyError
    assert not (tmp_path / "none").exists()
    with pytest.raises(KeyError), provenance.recorded(tmp_path / "run"):
        (tmp_path / "run" / "config.json").write_text("{}")
        (tmp_path / "run" / "seed_0" / "metrics.jsonl").write_text('{"step": 1}\n')
        raise KeyError
    with provenance.recorded(tmp_path / "run"):
        (tmp_path / "run" / "results.json").write_text("{}")
    first, second = lines(tmp_path / "run")
    assert provenance.read(tmp_path / "run")["secs"] == first["secs"] + second["secs"]


def test_the_last_start_says_what_made_the_run(tmp_path: pathlib.Path) -> None:
    told = [{"event": "run", "commit": commit, "jax": "0.12.0", "secs": 2.5} for commit in ("aaaaaaa", "bbbbbbb")]
    text = "".join(json.dumps(line) + "\n" for line in ({"event": "evaluate", "secs": 9}, *told))
    (tmp_path / "timings.jsonl").write_text(text)
    assert provenance.read(tmp_path) == {"commit": "bbbbbbb", "jax": "0.12.0", "secs": 5.0}
