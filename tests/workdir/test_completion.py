"""Results without chance are measured again from predictions.npz, to the very digits of results that have it."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from poster_jax import errors
from poster_jax.report import terminal
from poster_jax.workdir import run_files

WriteWorkdir = Callable[..., pathlib.Path]


def make_older(folder: pathlib.Path) -> dict[str, Any]:
    """Takes from results.json what older versions did not write; returns the results before."""
    results = json.loads((folder / "results.json").read_text())
    older = json.loads(json.dumps(results))
    for part in older["splits"].values():
        for entry in part["metrics"].values():
            for key in ("chance", "p_value", "all_zeros"):
                entry.pop(key, None)
            entry["floors"] = {"all_zeros": 0.1}
            entry["best_floor"] = 0.1
        for genre in part["per_genre"].values():
            for key in ("chance", "p_value"):
                genre["average_precision"].pop(key)
    (folder / "results.json").write_text(json.dumps(older))
    return results


def test_an_older_folder_gets_floors_chance_and_p_values(tmp_path: pathlib.Path, write_workdir: WriteWorkdir) -> None:
    folder = write_workdir(tmp_path / "run")
    expected = make_older(folder)
    before = (folder / "results.json").read_bytes()
    found = run_files.list_seeds(folder)[folder]
    for part, split in expected["splits"].items():
        for name, entry in split["metrics"].items():
            for key in ("value", "all_zeros", "best_floor", "ceiling", "chance", "p_value"):
                assert found["splits"][part]["metrics"][name].get(key) == entry.get(key), (part, name, key)
    assert "better than a constant answer (p = 0.0005)" in terminal.text(found, verbose=True)
    assert (folder / "results.json").read_bytes() == before, "the folder stays as it is"


def test_several_seeds_are_completed_each_from_its_own_folder(tmp_path: pathlib.Path, write_workdir: WriteWorkdir) -> None:
    folder = write_workdir(tmp_path / "run", seeds=(0, 1))
    together = json.loads((folder / "results.json").read_text())
    values = [make_older(folder / f"seed_{seed}") for seed in (0, 1)]
    together["seeds"] = [json.loads((folder / f"seed_{seed}" / "results.json").read_text()) for seed in (0, 1)]
    (folder / "results.json").write_text(json.dumps(together))
    for seed, results in enumerate(run_files.list_seeds(folder).values()):
        own = values[seed]["splits"]["test"]["metrics"]["mean_average_precision"]
        found = results["splits"]["test"]["metrics"]["mean_average_precision"]
        assert (found["value"], found["chance"]) == (own["value"], own["chance"])


def test_complete_results_are_taken_as_they_are(tmp_path: pathlib.Path, write_workdir: WriteWorkdir) -> None:
    folder = write_workdir(tmp_path / "run")
    (folder / "predictions.npz").unlink()
    assert run_files.list_seeds(folder)[folder] == json.loads((folder / "results.json").read_text())
    make_older(folder)
    with pytest.raises(errors.UserError, match=r"no predictions\.npz"):
        run_files.list_seeds(folder)


def test_duplicates_are_grouped_where_the_predictions_say_so() -> None:
    arrays = {"test_id": np.array([4, 5, 6])}
    assert run_files.find_groups(arrays, "test").tolist() == [4, 5, 6]
    assert run_files.find_groups(arrays | {"test_group": np.array([0, 0, 1])}, "test").tolist() == [0, 0, 1]
