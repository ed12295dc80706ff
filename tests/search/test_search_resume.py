"""The search as a process: killed, stopped, and run again, it ends in the same table as an uninterrupted one."""

import csv
import pathlib
import signal
import subprocess

import numpy as np
import pytest

from tests.helpers import processes

ROOT = pathlib.Path(__file__).resolve().parents[2]
ARGUMENTS = (
    "--config=configs/search_cnn.py:smoke",
    "--config.search.num_trials=2",
    "--config.search.vectorize=folds",
    "--config.train.num_epochs=4",
    "--config.eval.baselines=False",
)


def start(workdir: pathlib.Path, *more: str) -> subprocess.Popen:
    return processes.start((*ARGUMENTS, *more), workdir)


def outcome(workdir: pathlib.Path) -> dict[str, object]:
    """What equal searches have in common; trials.csv without its seconds."""
    found: dict[str, object] = {
        name: (workdir / name).read_bytes() for name in ("results.json", "metrics.jsonl", "chosen.json")
    }
    with open(workdir / "trials.csv") as file:
        found["trials.csv"] = [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]
    with np.load(workdir / "predictions.npz") as arrays:
        found |= {name: arrays[name].tobytes() for name in arrays.files}
    return found


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    workdir = tmp_path_factory.mktemp("whole") / "run"
    code, said = processes.finish(start(workdir))
    assert code == 0, said
    return workdir


def test_killed_then_stopped_it_ends_in_the_same_table(uninterrupted: pathlib.Path, tmp_path: pathlib.Path) -> None:
    workdir = tmp_path / "run"
    first, second = (workdir / "search" / f"cohort_0004_000{index}.npz" for index in (0, 1))

    process = start(workdir)
    processes.wait_until(process, first.exists)
    process.kill()
    process.communicate()
    assert first.exists() and not (workdir / "trials.csv").exists(), "killed within the first trial, behind a saved epoch"

    process = start(workdir)
    processes.wait_until(process, second.exists)
    process.send_signal(signal.SIGTERM)
    code, said = processes.finish(process)
    assert code == 75, said
    assert "stopped by SIGTERM at step" in said and "Traceback" not in said
    assert len((workdir / "trials.csv").read_text().splitlines()) == 2, "the first trial has ended, the second has not"

    code, said = processes.finish(start(workdir))
    assert code == 0, said
    assert outcome(workdir) == outcome(uninterrupted)
    assert not list((workdir / "search").glob("cohort_*"))


def test_another_seed_ends_in_another_table(uninterrupted: pathlib.Path, tmp_path: pathlib.Path) -> None:
    code, said = processes.finish(start(tmp_path / "run", "--config.seed=1", "--config.train.num_epochs=1"))
    assert code == 0, said
    other, whole = outcome(tmp_path / "run"), outcome(uninterrupted)
    assert other["test_id"] == whole["test_id"]
    assert other["trials.csv"] != whole["trials.csv"] and other["test_score"] != whole["test_score"]
