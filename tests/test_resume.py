"""The command as a process: killed or stopped at any moment and run again, it ends where an uninterrupted run ends."""

import hashlib
import json
import pathlib
import signal
import subprocess

import numpy as np
import pytest

from poster_jax import logbook
from tests import processes

ROOT = pathlib.Path(__file__).resolve().parents[1]
# 30 steps over 5 epochs with dropout on; a checkpoint every 3 steps, an evaluation every 6.
ARGUMENTS = (
    "--config=configs/cnn_onehot.py:smoke",
    "--config.train.num_epochs=0.0",
    "--config.train.num_steps=30",
    "--config.checkpoint.every_epochs=0.0",
    "--config.checkpoint.every_steps=3",
    "--config.eval.every_epochs=0.0",
    "--config.eval.every_steps=6",
    "--config.train.log_every_steps=4",
    "--config.train.augment.flip=True",
)


def start(workdir: pathlib.Path, *more: str) -> subprocess.Popen:
    return processes.start((*ARGUMENTS, *more), workdir)


def wait_for_step(process: subprocess.Popen, workdir: pathlib.Path, step: int) -> None:
    processes.wait_until(process, lambda: any(line["step"] >= step for line in logbook.read_lines(workdir / "metrics.jsonl")))


def fingerprint(workdir: pathlib.Path) -> dict[str, str]:
    """sha256 of what equal runs must have in common; the best weights speak through the scores."""
    files = {name: (workdir / name).read_bytes() for name in ("results.json", "metrics.jsonl")}
    with np.load(workdir / "predictions.npz") as arrays:
        files |= {name: arrays[name].tobytes() for name in arrays.files}
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    workdir = tmp_path_factory.mktemp("whole") / "run"
    code, said = processes.finish(start(workdir))
    assert code == 0, said
    return workdir


def test_metrics_hold_every_line_once(uninterrupted: pathlib.Path) -> None:
    lines = logbook.read_lines(uninterrupted / "metrics.jsonl")
    keys = [(line["step"], line["part"]) for line in lines]
    assert len(set(keys)) == len(keys)
    assert [step for step, part in keys if part == "validation"] == [6, 12, 18, 24, 30]


@pytest.mark.parametrize("step", [4, 12, 21])
def test_killed_and_run_again_ends_bit_for_bit_the_same(uninterrupted: pathlib.Path, tmp_path: pathlib.Path, step: int) -> None:
    process = start(tmp_path / "run")
    wait_for_step(process, tmp_path / "run", step)
    process.kill()
    process.communicate()
    assert not (tmp_path / "run" / "results.json").exists()
    code, said = processes.finish(start(tmp_path / "run"))
    assert code == 0, said
    assert "step 0 of 30" not in said or step <= 4
    assert fingerprint(tmp_path / "run") == fingerprint(uninterrupted)


def test_sigterm_saves_says_so_and_exits_75(uninterrupted: pathlib.Path, tmp_path: pathlib.Path) -> None:
    process = start(tmp_path / "run")
    wait_for_step(process, tmp_path / "run", 8)
    process.send_signal(signal.SIGTERM)
    code, said = processes.finish(process)
    assert code == 75, said
    assert "stopped by SIGTERM at step" in said
    assert "Traceback" not in said
    code, said = processes.finish(start(tmp_path / "run"))
    assert code == 0, said
    assert fingerprint(tmp_path / "run") == fingerprint(uninterrupted)


def test_another_seed_is_seen_by_that_comparison(uninterrupted: pathlib.Path, tmp_path: pathlib.Path) -> None:
    code, said = processes.finish(start(tmp_path / "run", "--config.seed=1"))
    assert code == 0, said
    other, whole = fingerprint(tmp_path / "run"), fingerprint(uninterrupted)
    assert other["test_id"] == whole["test_id"]
    assert other["test_score"] != whole["test_score"]
    assert other["metrics.jsonl"] != whole["metrics.jsonl"]


def test_a_finished_run_is_read_and_a_changed_key_refused(uninterrupted: pathlib.Path) -> None:
    before = fingerprint(uninterrupted)
    code, said = processes.finish(start(uninterrupted))
    assert code == 0
    assert "mean_average_precision" in said
    code, said = processes.finish(start(uninterrupted, "--config.optim.learning_rate=0.5", "--config.train.batch_size=8"))
    assert code == 2
    assert "optim.learning_rate: 0.0001 -> 0.5" in said
    assert "train.batch_size: 16 -> 8" in said
    assert fingerprint(uninterrupted) == before


def test_more_steps_may_be_asked_of_a_finished_run(uninterrupted: pathlib.Path, tmp_path: pathlib.Path) -> None:
    code, said = processes.finish(start(tmp_path / "run", "--config.train.num_steps=18"))
    assert code == 0, said
    code, said = processes.finish(start(tmp_path / "run"))
    assert code == 0, said
    assert "step 18 of 30" in said
    assert json.loads((tmp_path / "run" / "results.json").read_text())["num_steps"] == 30
    assert fingerprint(tmp_path / "run") == fingerprint(uninterrupted)
