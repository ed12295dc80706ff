"""What is written to a run folder is what is read back, and what kind of run a folder holds."""

import pathlib

import numpy as np
import pytest

from poster_jax import errors
from poster_jax.workdir import run_files


def test_predictions_come_back_by_part(tmp_path: pathlib.Path) -> None:
    movie_id, label = np.arange(10, 15, dtype=np.int32), np.array([0, 1, 2, 1, 0], np.int32)
    parts = {"train": np.array([4, 0]), "validation": np.array([2]), "test": np.array([3, 1])}
    scores = {part: np.full((len(rows), 3), 0.25, np.float32) for part, rows in parts.items()}
    run_files.write_predictions(tmp_path, parts, movie_id, movie_id % 3, label=label, scores=scores)
    read = run_files.read_predictions(tmp_path)
    assert run_files.list_parts(read) == ["train", "validation", "test"]
    assert read["train_id"].tolist() == [14, 10] and read["train_label"].tolist() == [0, 0]
    assert read["test_label"].tolist() == [1, 1] and read["test_score"].shape == (2, 3)
    found = run_files.load_scores(tmp_path, "test", 3)
    assert found.group.tolist() == [1, 2], "duplicates of a poster stay together"
    assert found.movie_id.tolist() == [13, 11] and found.targets.tolist() == [[False, True, False]] * 2


def test_labels_are_found_from_a_seed_a_branch_and_above_seeds(tmp_path: pathlib.Path) -> None:
    run, gathered = tmp_path / "run", tmp_path / "gathered"
    for folder in (run / "seed_1" / "range_0", gathered / "seed_0"):
        folder.mkdir(parents=True)
    run_files.write_labels(run, genres=("Drama", "War"), auxiliary_genres=(), encoding="first")
    run_files.write_labels(gathered / "seed_0", genres=("War",), auxiliary_genres=("Drama",), encoding="first")
    for folder in (run, run / "seed_1", run / "seed_1" / "range_0"):
        assert run_files.find_genres(folder) == ("Drama", "War")
    assert run_files.find_genres(gathered) == ("War",)
    deep = run / "a" / "b" / "c"
    deep.mkdir(parents=True)
    with pytest.raises(errors.UserError, match=r"no labels\.json"):
        run_files.find_genres(deep)
    (run / "labels.json").write_text("{")
    with pytest.raises(errors.UserError, match=r"labels\.json is damaged"):
        run_files.find_genres(run / "seed_1")


def test_finished_is_a_run_with_all_of_its_steps(tmp_path: pathlib.Path) -> None:
    assert run_files.read_finished(tmp_path, 5) is None and not run_files.has_results(tmp_path)
    run_files.write_results(tmp_path, {"num_steps": 5})
    assert run_files.read_finished(tmp_path, 5) == {"num_steps": 5}
    assert run_files.read_finished(tmp_path, 6) is None


def test_seeds_by_folder(tmp_path: pathlib.Path) -> None:
    run_files.write_results(tmp_path, {"seed": 3})
    assert run_files.list_seeds(tmp_path) == {tmp_path: {"seed": 3}}
    run_files.write_results(tmp_path, {"seeds": [{"seed": 3}, {"seed": 4}]})
    assert run_files.list_seeds(tmp_path) == {tmp_path / "seed_3": {"seed": 3}, tmp_path / "seed_4": {"seed": 4}}


@pytest.mark.parametrize(
    ("results", "protocol"),
    [
        ({"protocol": "transfer", "splits": {}}, "transfer"),
        ({"seeds": [{"protocol": "transfer"}, {"protocol": "transfer"}]}, "transfer"),
        ({"ledger": []}, "reproduce"),
        ({"ablation": {}}, "ablation"),
        ({"search": {}, "splits": {}}, "search"),
        ({"branches": [], "splits": {}}, "transfer"),
        ({"splits": {}}, "single"),
        ({"seeds": [{"branches": [], "splits": {}}]}, "transfer"),
        ({"trials": []}, ""),
    ],
)
def test_the_protocol_of_new_and_old_results(results: dict, protocol: str) -> None:
    assert run_files.find_protocol(results) == protocol


def test_lines_and_samples_of_a_run_without_any(tmp_path: pathlib.Path) -> None:
    assert run_files.read_lines(tmp_path) == [] and run_files.read_samples(tmp_path) == {}
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": ')
    assert run_files.read_lines(tmp_path) == [{"step": 1}]
    with pytest.raises(errors.UserError, match=r"metrics\.jsonl is damaged"):
        run_files.read_metrics(tmp_path)
    run_files.write_samples(tmp_path, {"id": np.arange(2)})
    assert run_files.read_samples(tmp_path)["id"].tolist() == [0, 1]
    (tmp_path / "samples.npz").write_bytes(b"PK")
    with pytest.raises(errors.UserError, match=r"samples\.npz cannot be read"):
        run_files.read_samples(tmp_path)


def test_trials_with_an_undefined_score(tmp_path: pathlib.Path) -> None:
    run_files.write_trials(tmp_path, [{"trial": 1, "mean": None}, {"trial": 2, "mean": 0.5}])
    assert (tmp_path / "trials.csv").read_text() == "trial,mean\n1,\n2,0.5\n"
    run_files.write_trials(tmp_path, [])
    assert (tmp_path / "trials.csv").read_text() == ""
