"""The command as a process: killed or stopped at any moment and run again, it ends where an uninterrupted run ends."""

import json
import pathlib
import shutil
import signal

import numpy as np
import pytest

from poster_jax.workdir import run_files
from tests.helpers import faults, staged


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def single(folder: pathlib.Path) -> faults.Whole:
    return faults.run_whole("single", folder)


@pytest.fixture(scope="module")
def transfer(folder: pathlib.Path) -> faults.Whole:
    return faults.run_whole("transfer", folder)


@pytest.fixture(scope="module")
def search(folder: pathlib.Path) -> faults.Whole:
    return faults.run_whole("search", folder)


def test_metrics_hold_every_line_once(single: faults.Whole, folder: pathlib.Path) -> None:
    lines = run_files.read_lines(folder / "single" / "run")
    keys = [(line["step"], line["part"]) for line in lines]
    assert len(set(keys)) == len(keys)
    assert [step for step, part in keys if part == "validation"] == [6, 12, 18, 24, 30]


@pytest.mark.parametrize(
    ("kind", "stage"),
    [
        ("single", "prepare"),
        ("single", "training"),
        ("single", "evaluation"),
        ("single", "saving"),
        ("transfer", "features"),
        ("search", "search"),
    ],
)
def test_killed_and_run_again_ends_bit_for_bit_the_same(
    kind: str, stage: str, request: pytest.FixtureRequest, tmp_path: pathlib.Path
) -> None:
    rng = np.random.default_rng()
    fault = faults.kill_and_resume(request.getfixturevalue(kind), stage, tmp_path, rng)
    assert fault.survived, f"killed at step {fault.step}: {fault.said[-3000:]}"


@pytest.mark.parametrize("stage", ["compile", "training", "evaluation", "saving"])
def test_sigterm_saves_says_so_and_exits_75(single: faults.Whole, tmp_path: pathlib.Path, stage: str) -> None:
    step, code, said = faults.end_in(single, stage, tmp_path, np.random.default_rng(), signal.SIGTERM)
    assert code == 75, said
    # Behind the last step, where every part is scored, there is no step to tell.
    assert ("stopped by SIGTERM at step" in said or step == 30) and "stopped by SIGTERM" in said and "Traceback" not in said
    saved = max(int(path.name) for path in (tmp_path / "run" / "checkpoints" / "latest").iterdir())
    assert step <= saved <= step + 1
    code, said = faults.resume("single", tmp_path / "run", tmp_path / "cache")
    assert code == 0, said
    assert faults.ended_alike(single, tmp_path)


def test_another_seed_or_a_leftover_is_seen_by_that_comparison(single: faults.Whole, tmp_path: pathlib.Path) -> None:
    shutil.copytree(single.cache, tmp_path / "cache")
    code, said = faults.resume("single", tmp_path / "run", tmp_path / "cache", ["--config.seed=1"])
    assert code == 0, said
    other = faults.fingerprint(tmp_path / "run", tmp_path / "cache")
    assert not faults.ended_alike(single, tmp_path)
    changed = {name for name in single.fingerprint if other.get(name) != single.fingerprint[name]}
    assert {"results.json", "metrics.jsonl", "test_score", "checkpoints/latest/30"} <= changed
    assert not {"test_id", "test_label"} & changed and not any(name.endswith("images.npy") for name in changed)


def test_a_process_is_where_its_notes_say() -> None:
    text = "enter prepare 0 1.0\nleave prepare 0 2.0\nenter compile 3 3.0\nleave compile 4 4.0\nenter training 4 4.0\n"
    assert staged.active("") == ([], 0)
    assert staged.active(text) == (["training"], 4)
    assert staged.active(text + "enter saving 6 5.0\nenter evaluation 6 6.0\n") == (["training", "saving", "evaluation"], 6)
    assert staged.active(text + "enter saving 6 5.0\nleave saving 7 6.0\nenter eval") == (["training"], 7)


def test_a_finished_run_is_read_and_a_changed_key_refused(single: faults.Whole, folder: pathlib.Path) -> None:
    run = folder / "single" / "run"
    code, said = faults.resume("single", run, single.cache)
    assert code == 0
    assert "mean average precision" in said
    code, said = faults.resume("single", run, single.cache, ["--config.optim.learning_rate=0.5", "--config.train.batch_size=8"])
    assert code == 2
    assert "optim.learning_rate: 0.0001 -> 0.5" in said
    assert "train.batch_size: 16 -> 8" in said
    assert faults.fingerprint(run, single.cache) == single.fingerprint


def test_more_steps_may_be_asked_of_a_finished_run(single: faults.Whole, tmp_path: pathlib.Path) -> None:
    shutil.copytree(single.cache, tmp_path / "cache")
    code, said = faults.resume("single", tmp_path / "run", tmp_path / "cache", ["--config.train.num_steps=18"])
    assert code == 0, said
    code, said = faults.resume("single", tmp_path / "run", tmp_path / "cache")
    assert code == 0, said
    assert "step 18 of 30" in said
    assert json.loads((tmp_path / "run" / "results.json").read_text())["num_steps"] == 30
    assert faults.ended_alike(single, tmp_path)
