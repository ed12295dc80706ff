"""The search as a process: killed, stopped, and run again, it ends in the same table as an uninterrupted one."""

import csv
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
ARGUMENTS = (
    "--config=configs/search_cnn.py:smoke",
    "--config.search.num_trials=2",
    "--config.search.vectorize=folds",
    "--config.train.num_epochs=4",
    "--config.eval.baselines=False",
)


def start(workdir: pathlib.Path, *more: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "poster_jax.main", *ARGUMENTS, f"--workdir={workdir}", *more]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> tuple[int, str]:
    out, err = process.communicate(timeout=600)
    return process.returncode, out + err


def wait_until(process: subprocess.Popen, seen: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if seen():
            return
        time.sleep(0.002)
    pytest.fail(f"it was not seen; the process said: {finish(process)[1][-2000:]}")


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
    code, said = finish(start(workdir))
    assert code == 0, said
    return workdir


def test_killed_then_stopped_it_ends_in_the_same_table(uninterrupted: pathlib.Path, tmp_path: pathlib.Path) -> None:
    workdir = tmp_path / "run"
    first, second = (workdir / "search" / f"cohort_0004_000{index}.npz" for index in (0, 1))

    process = start(workdir)
    wait_until(process, first.exists)
    process.kill()
    process.communicate()
    assert first.exists() and not (workdir / "trials.csv").exists(), "killed within the first trial, behind a saved epoch"

    process = start(workdir)
    wait_until(process, second.exists)
    process.send_signal(signal.SIGTERM)
    code, said = finish(process)
    assert code == 75, said
    assert "stopped by SIGTERM at step" in said and "Traceback" not in said
    assert len((workdir / "trials.csv").read_text().splitlines()) == 2, "the first trial has ended, the second has not"

    code, said = finish(start(workdir))
    assert code == 0, said
    assert outcome(workdir) == outcome(uninterrupted)
    assert not list((workdir / "search").glob("cohort_*"))


def test_another_seed_ends_in_another_table(uninterrupted: pathlib.Path, tmp_path: pathlib.Path) -> None:
    code, said = finish(start(tmp_path / "run", "--config.seed=1", "--config.train.num_epochs=1"))
    assert code == 0, said
    other, whole = outcome(tmp_path / "run"), outcome(uninterrupted)
    assert other["test_id"] == whole["test_id"]
    assert other["trials.csv"] != whole["trials.csv"] and other["test_score"] != whole["test_score"]
