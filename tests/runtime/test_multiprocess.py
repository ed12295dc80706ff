"""Several real processes as one run: what one process with as many devices sees, computes and writes, and nothing twice."""

import dataclasses
import json
import pathlib
import signal
import subprocess
from collections.abc import Iterator

import jax
import numpy as np
import pytest

from poster_jax.runtime import sharding
from poster_jax.workdir import run_files
from tests.helpers import joined, processes

TOLERANCE = 1e-5
# After the epochs of a search: the processes are compiled without optimising, and how that rounds depends on the processor. On
# one with AVX-512 4 of 56 losses of about 1.8 differ by more than 1e-5, the most by 2.2e-5.
SEARCH_TOLERANCE = 5e-5
LOGS = ("metrics", "timings")


@pytest.fixture(scope="module")
def four_devices() -> Iterator[sharding.Shardings]:
    """One process with four devices: four of the eight that tests have."""
    shardings = sharding.make_shardings(jax.devices()[:4])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "make_shardings", lambda: shardings)
        yield shardings


def finish(job: list[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """(exit code, stdout, stderr) of every process; all are gone afterwards."""
    try:
        told = [process.communicate(timeout=3 * processes.PATIENCE_SECS) for process in job]
    finally:
        for process in job:
            process.kill()
    return [(process.returncode, *texts) for process, texts in zip(job, told, strict=True)]


def lines(workdir: pathlib.Path, part: str) -> dict[int, dict[str, float]]:
    return {line["step"]: line for line in run_files.read_lines(workdir) if line["part"] == part}


@dataclasses.dataclass(frozen=True)
class Stopped:
    """What a run of two processes left and said when one of them got a signal."""

    workdir: pathlib.Path
    step: int
    ended: list[tuple[int, str, str]]
    files: list[str]
    metrics: list[dict[str, float]]
    timings: list[dict[str, float | str]]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    """Two processes with two devices each, SIGTERM to the second one."""
    workdir = tmp_path_factory.mktemp("stopped") / "run"
    job = processes.start_joined(joined.arguments(workdir, 1_000_000), 2, 2)
    processes.wait_until(job[0], lambda: 3 in lines(workdir, "train"))
    job[1].send_signal(signal.SIGTERM)
    ended = finish(job)
    step = max(int(path.name) for path in (workdir / "checkpoints" / "latest").iterdir())
    files = sorted(path.name for path in workdir.iterdir())
    return Stopped(workdir, step, ended, files, *(run_files.read_lines(workdir, f"{name}.jsonl") for name in LOGS))


@pytest.fixture(scope="module")
def theirs(
    stopped: Stopped, four_devices: sharding.Shardings, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, np.ndarray]]:
    """The run is gone on with here, then ended by two processes again, which do the rest of `tests/helpers/joined.py` too."""
    pytest.importorskip("tensorflow", reason="the streaming path needs TensorFlow")
    joined.run(stopped.workdir, stopped.step + 7)
    folder = tmp_path_factory.mktemp("joined")
    arguments = ["-m", "tests.helpers.joined", str(folder), str(stopped.workdir), str(stopped.step + 20)]
    for code, _, err in finish(processes.start_joined(arguments, 2, 2)):
        assert code == 0, err[-3000:]
    told = []
    for number in range(2):
        with np.load(folder / f"process_{number}.npz") as arrays:
            told.append(dict(arrays))
    assert len(list((folder / "features").glob("features-*.npy"))) == 1
    return told


@pytest.fixture(scope="module")
def ours(theirs: list, four_devices: sharding.Shardings, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    return joined.observe(tmp_path_factory.mktemp("ours"))


class TestJoined:
    """Two processes with two devices each, `tests/helpers/joined.py`."""

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
            assert seen["same_rows_test_score"].shape != ours["test_score"].shape
        np.testing.assert_array_equal(ours["same_rows_loss"], ours["loss"])

    def test_frozen_features_are_those_of_one_process(self, ours: dict, theirs: list) -> None:
        for seen in theirs:
            np.testing.assert_allclose(seen["features"], ours["features"], rtol=0, atol=TOLERANCE)
        assert ours["features"].std(0).min() > 100 * TOLERANCE

    def test_a_search_with_two_networks_in_each_finds_what_one_process_finds(self, ours: dict, theirs: list) -> None:
        for seen in theirs:
            for name in ("folds", "loss", "id", "score"):
                np.testing.assert_allclose(seen[f"search_{name}"], ours[f"search_{name}"], rtol=0, atol=SEARCH_TOLERANCE)
        assert ours["search_folds"].shape == (2, 2)

    def test_what_process_0_says_is_told_to_all(self, theirs: list) -> None:
        for seen in theirs:
            assert str(seen["refused"]) == "process 0"
            assert seen["agreed"].tolist() == [True, False]


class TestStopped:
    """A run of two processes, stopped by a signal to the second one; gone on with in one process; ended in two again."""

    def test_all_save_together_say_so_and_exit_75(self, stopped: Stopped) -> None:
        (first, _, said), (second, _, other) = stopped.ended
        assert [first, second] == [75, 75], said[-3000:] + other[-3000:]
        assert f"poster_jax: stopped by a signal to another process at step {stopped.step} of" in said
        assert f"poster_jax, process 1 of 2: stopped by SIGTERM at step {stopped.step} of" in other
        assert "process 1 of 2, 2 devices of 4" in other

    def test_only_process_0_writes(self, stopped: Stopped) -> None:
        (_, out, said), (_, other_out, other) = stopped.ended
        assert "step      3 train" in said and "step      3 train" not in other
        assert "input: resident" in out and "input: resident" not in other_out
        keys = [(line["step"], line["part"]) for line in stopped.metrics]
        assert len(set(keys)) == len(keys)
        assert [line["event"] for line in stopped.timings].count("first step, with compilation") == 1
        made = ["checkpoints", "chosen.json", "config.json", "labels.json", "metrics.jsonl", "refused.csv", "timings.jsonl"]
        assert stopped.files == [".lock", *made]

    def test_other_topologies_go_on_from_it_and_end_in_the_same_losses(
        self, theirs: list, stopped: Stopped, tmp_path: pathlib.Path
    ) -> None:
        num_steps = stopped.step + 20
        joined.run(tmp_path / "whole", num_steps)
        folders = (tmp_path / "whole", stopped.workdir)
        for part in ("train", "validation"):
            whole, cut = (lines(folder, part) for folder in folders)
            assert sorted(whole) == sorted(cut) == list(range(1, num_steps + 1))
            for step, line in whole.items():
                assert cut[step]["loss"] == pytest.approx(line["loss"], abs=TOLERANCE)
        with np.load(folders[0] / "predictions.npz") as whole, np.load(folders[1] / "predictions.npz") as cut:
            assert sorted(whole.files) == sorted(cut.files)
            for name in whole.files:
                np.testing.assert_allclose(cut[name], whole[name], rtol=0, atol=TOLERANCE)
        results = [json.loads((folder / "results.json").read_text()) for folder in folders]
        simple = [one["baselines"]["color_histogram_logistic"]["test"]["metrics"] for one in results]
        assert results[1]["num_steps"] == num_steps and simple[0] == simple[1]
