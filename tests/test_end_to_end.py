"""The default command as a user gives it: the paper's network on the embedded posters, at full size."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, str, pathlib.Path]:
    workdir = tmp_path_factory.mktemp("default") / "run"
    command = [sys.executable, "-m", "poster_jax.main", "--config=configs/cnn_onehot.py", f"--workdir={workdir}"]
    command.append("--config.train.tensorboard=True")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((workdir / "results.json").read_text()), done.stdout, workdir


def test_the_network_learns_what_colour_alone_does_not_tell_and_does_not_solve_it(run: tuple) -> None:
    results, _, _ = run
    test = results["splits"]["test"]["metrics"]["mean_average_precision"]
    colour = results["baselines"]["color_histogram_logistic"]["test"]["metrics"]["mean_average_precision"]
    assert 0.6 < test["value"] < 0.95
    assert test["low"] > colour["high"] + 0.1
    assert colour["value"] > test["best_floor"]


def test_it_is_the_papers_network(run: tuple) -> None:
    assert run[0]["num_parameters"] == 6_295_558
    assert run[0]["num_steps"] == 84


def test_every_score_has_its_floor_and_every_table_its_data(run: tuple) -> None:
    results, said, _ = run
    assert "synthetic posters" in said
    for part in results["splits"].values():
        for name, entry in part["metrics"].items():
            assert entry["best_floor"] is not None, name
            assert entry["all_zeros"] is not None, name
            better = entry["all_zeros"] >= entry["best_floor"] - 1e-12 if name == "calibration_error" else None
            assert better or entry["all_zeros"] <= entry["best_floor"] + 1e-12, "all zeros is a constant answer too"
    binary = results["splits"]["test"]["metrics"]["binary_accuracy"]
    labels_per_row = results["splits"]["test"]["labels_per_row"]
    assert binary["all_zeros"] == pytest.approx(1 - labels_per_row / 6)


def test_the_workdir_holds_what_later_stages_read(run: tuple) -> None:
    results, _, workdir = run
    names = {path.name for path in workdir.iterdir()}
    assert names >= {"config.json", "labels.json", "refused.csv", "metrics.jsonl", "timings.jsonl", "predictions.npz"}
    assert list((workdir / "tensorboard").iterdir())
    with np.load(workdir / "predictions.npz") as arrays:
        for part, rows in results["data"]["num_rows"].items():
            assert arrays[f"{part}_score"].shape == (rows, 6)
            assert len(set(arrays[f"{part}_id"])) == rows
        scores, labels = arrays["test_score"], arrays["test_label"]
    right = ((scores >= 0.5) == labels).mean()
    assert right == pytest.approx(results["splits"]["test"]["metrics"]["binary_accuracy"]["value"])
