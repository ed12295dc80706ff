"""Several real processes as one run: what one process with as many devices sees, computes and writes, and nothing twice."""

import json
import pathlib
import signal
import subprocess
from collections.abc import Iterator

import jax
import numpy as np
import pytest

from poster_jax import config as config_lib
from poster_jax import logbook, runtime
from poster_jax.protocols import single
from tests import joined, processes

CONFIG = f"{processes.ROOT}/configs/cnn_onehot.py:smoke"
# Dropout and BatchNorm on; a line for every step.
OVERRIDES = {
    "model.blocks": "((4, 3, 2, True, 0.25), (6, 3, 2, True, 0.0))",
    "model.dense": "((8, False, 0.5),)",
    "train.num_epochs": "0.0",
    "train.log_every_steps": "1",
    "train.augment.flip": "True",
    "checkpoint.every_epochs": "0.0",
    "checkpoint.every_steps": "4",
    "eval.every_epochs": "0.0",
    "eval.every_steps": "1",
    "eval.bootstrap_samples": "5",
}
TOLERANCE = 1e-5


def arguments(workdir: pathlib.Path, num_steps: int) -> list[str]:
    overrides = {**OVERRIDES, "train.num_steps": str(num_steps)}
    flags = [f"--config.{key}={value}" for key, value in overrides.items()]
    return ["-m", "poster_jax.main", f"--config={CONFIG}", *flags, f"--workdir={workdir}"]


def run_here(workdir: pathlib.Path, num_steps: int) -> None:
    """The same run in this process."""
    config = config_lib.load(CONFIG, [*OVERRIDES.items(), ("train.num_steps", str(num_steps))])
    single.run(config, workdir, runtime.StopRequest())


@pytest.fixture(scope="module")
def four_devices() -> Iterator[runtime.Shardings]:
    """One process with four devices: four of the eight that tests have."""
    shardings = runtime.make_shardings(jax.devices()[:4])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "make_shardings", lambda: shardings)
        yield shardings


def finish(job: list[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """(exit code, stdout, stderr) of every process; all are gone afterwards."""
    try:
        told = [process.communicate(timeout=processes.PATIENCE_SECS) for process in job]
    finally:
        for process in job:
            process.kill()
    return [(process.returncode, *texts) for process, texts in zip(job, told, strict=True)]


def lines(workdir: pathlib.Path, part: str) -> dict[int, dict[str, float]]:
    return {line["step"]: line for line in logbook.read_lines(workdir / "metrics.jsonl") if line["part"] == part}


class TestJoined:
    """Two processes with two devices each, `tests/joined.py`."""

    @pytest.fixture(scope="class")
    def theirs(self, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, np.ndarray]]:
        pytest.importorskip("tensorflow", reason="the streaming path needs TensorFlow")
        folder = tmp_path_factory.mktemp("joined")
        for code, _, err in finish(processes.start_joined(["-m", "tests.joined", str(folder)], 2, 2)):
            assert code == 0, err[-3000:]
        told = []
        for number in range(2):
            with np.load(folder / f"process_{number}.npz") as arrays:
                told.append(dict(arrays))
        assert len(list((folder / "features").glob("features-*.npy"))) == 1
        return told

    @pytest.fixture(scope="class")
    def ours(
        self, theirs: list, four_devices: runtime.Shardings, tmp_path_factory: pytest.TempPathFactory
    ) -> dict[str, np.ndarray]:
        return joined.observe(four_devices, tmp_path_factory.mktemp("ours"))

    def test_they_hold_the_batches_of_one_process_on_both_paths(self, ours: dict, theirs: list) -> None:
        for path in ("resident", "streaming"):
            for name in ("id", "label", "mask", "image"):
                for seen in theirs:
                    np.testing.assert_array_equal(seen[f"{path}_{name}"], ours[f"{path}_{name}"])

    def test_losses_and_scores_are_those_of_one_process(self, ours: dict, theirs: list) -> None:
        for seen in theirs:
            np.testing.assert_allclose(seen["loss"], ours["loss"], rtol=0, atol=TOLERANCE)
            np.testing.assert_allclose(seen["test_score"], ours["test_score"], rtol=0, atol=TOLERANCE)
            np.testing.assert_allclose(seen["test_loss"], ours["test_loss"], rtol=0, atol=TOLERANCE)
        assert len(ours["loss"]) == 20 and np.ptp(ours["loss"]) > 0.01

    def test_processes_that_read_the_same_part_are_seen_by_that(self, ours: dict, theirs: list) -> None:
        for seen in theirs:
            assert np.abs(seen["same_rows_loss"] - ours["loss"]).max() > 0.01
            assert np.abs(seen["same_rows_test_score"] - ours["test_score"]).max() > 0.01

    def test_frozen_features_are_those_of_one_process(self, ours: dict, theirs: list) -> None:
        for seen in theirs:
            np.testing.assert_allclose(seen["features"], ours["features"], rtol=0, atol=TOLERANCE)
        assert ours["features"].std(0).min() > 100 * TOLERANCE

    def test_what_process_0_says_is_told_to_all(self, theirs: list) -> None:
        for seen in theirs:
            assert str(seen["refused"]) == "process 0"
            assert seen["agreed"].tolist() == [True, False]


class TestStopped:
    """A run of two processes, stopped by a signal to the second one; gone on with in one process; ended in two again."""

    @pytest.fixture(scope="class")
    def stopped(self, tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, int, list[tuple[int, str, str]]]:
        workdir = tmp_path_factory.mktemp("stopped") / "run"
        job = processes.start_joined(arguments(workdir, 1_000_000), 2, 2)
        processes.wait_until(job[0], lambda: 3 in lines(workdir, "train"))
        job[1].send_signal(signal.SIGTERM)
        told = finish(job)
        saved = max(int(path.name) for path in (workdir / "checkpoints" / "latest").iterdir())
        return workdir, saved, told

    def test_all_save_together_say_so_and_exit_75(self, stopped: tuple) -> None:
        _, saved, told = stopped
        assert [code for code, _, _ in told] == [75, 75], told[0][2][-3000:] + told[1][2][-3000:]
        assert f"poster_jax: stopped by a signal to another process at step {saved} of" in told[0][2]
        assert f"poster_jax, process 1 of 2: stopped by SIGTERM at step {saved} of" in told[1][2]
        assert "process 1 of 2, 2 devices of 4" in told[1][2]

    def test_only_process_0_writes(self, stopped: tuple) -> None:
        workdir, saved, told = stopped
        assert "step      3 train" in told[0][2] and "step      3 train" not in told[1][2]
        assert "6 genres" not in told[1][1] and "input: resident" in told[0][1]
        keys = [(line["step"], line["part"]) for line in logbook.read_lines(workdir / "metrics.jsonl")]
        assert len(set(keys)) == len(keys)
        compiled = [line for line in logbook.read_lines(workdir / "timings.jsonl") if line["event"].startswith("first step")]
        assert len(compiled) == 1
        assert sorted(path.name for path in workdir.iterdir()) == [
            ".lock",
            "checkpoints",
            "chosen.json",
            "config.json",
            "labels.json",
            "metrics.jsonl",
            "refused.csv",
            "timings.jsonl",
        ]

    def test_other_topologies_go_on_from_it_and_end_in_the_same_losses(
        self, stopped: tuple, four_devices: runtime.Shardings, tmp_path: pathlib.Path
    ) -> None:
        workdir, saved, _ = stopped
        run_here(workdir, saved + 7)
        assert json.loads((workdir / "results.json").read_text())["num_steps"] == saved + 7
        for code, _, err in finish(processes.start_joined(arguments(workdir, saved + 20), 2, 2)):
            assert code == 0, err[-3000:]
        run_here(tmp_path / "whole", saved + 20)

        ours, theirs = (lines(folder, "train") for folder in (tmp_path / "whole", workdir))
        assert sorted(ours) == sorted(theirs) == list(range(1, saved + 21))
        for step, line in ours.items():
            assert theirs[step]["loss"] == pytest.approx(line["loss"], abs=TOLERANCE)
        ours, theirs = (lines(folder, "validation") for folder in (tmp_path / "whole", workdir))
        for step, line in ours.items():
            assert theirs[step]["loss"] == pytest.approx(line["loss"], abs=TOLERANCE)
        with np.load(tmp_path / "whole/predictions.npz") as whole, np.load(workdir / "predictions.npz") as cut:
            assert sorted(whole.files) == sorted(cut.files)
            for name in whole.files:
                np.testing.assert_allclose(cut[name], whole[name], rtol=0, atol=TOLERANCE)
        scores = [
            json.loads((folder / "results.json").read_text())["baselines"]["color_histogram_logistic"]["test"]
            for folder in (tmp_path / "whole", workdir)
        ]
        assert scores[0]["metrics"] == scores[1]["metrics"]
