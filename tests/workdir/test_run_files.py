"""What is written to a run folder is what is read back, and what kind of run a folder holds."""

import json
import pathlib
from typing import Any

import numpy as np
import pytest

from poster_jax import errors
from poster_jax.workdir import finished, run_files
from tests.helpers import written_run


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
    def read(num_steps: int, protocol: str = "single", genres: tuple[str, ...] = written_run.GENRES) -> dict[str, Any] | None:
        return finished.read(tmp_path, num_steps, protocol=protocol, genres=genres)

    assert read(20) is None and not run_files.has_results(tmp_path)
    results = written_run.write_network(tmp_path, "multi_hot", 0, samples=True)
    assert read(20) == json.loads(json.dumps(results))
    assert read(21) is None and read(20, "transfer") is None and read(20, genres=("Drama",)) is None


def test_seeds_by_folder(tmp_path: pathlib.Path) -> None:
    written_run.write(tmp_path / "one")
    assert list(run_files.list_seeds(tmp_path / "one")) == [tmp_path / "one"]
    written_run.write(tmp_path / "two", seeds=(3, 4))
    seeds = run_files.list_seeds(tmp_path / "two")
    assert {folder.name: one["seed"] for folder, one in seeds.items()} == {"seed_3": 3, "seed_4": 4}


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
    line = {"step": 1, "part": "train", "loss": None}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + '\n{"step": ')
    assert run_files.read_lines(tmp_path) == [line]
    with pytest.raises(errors.UserError, match=r"metrics\.jsonl is damaged \(line 2: "):
        run_files.read_metrics(tmp_path)
    samples = {"image": np.zeros((2, 4, 3, 3), np.uint8), "id": np.arange(2), "label": np.eye(2), "score": np.eye(2)}
    samples |= {"genre": np.arange(2), "map": np.ones((2, 1, 1)), "spread": np.array([True, False])}
    run_files.write_samples(tmp_path, samples)
    assert run_files.read_samples(tmp_path)["id"].tolist() == [0, 1]
    run_files.write_samples(tmp_path, {**samples, "genre": np.array([0, 2])})
    with pytest.raises(errors.UserError, match=r"samples\.npz is damaged \(genre: not below 2\)"):
        run_files.read_samples(tmp_path)
    (tmp_path / "samples.npz").write_bytes(b"PK")
    with pytest.raises(errors.UserError, match=r"samples\.npz cannot be read"):
        run_files.read_samples(tmp_path)


def test_trials_with_an_undefined_score(tmp_path: pathlib.Path) -> None:
    run_files.write_trials(tmp_path, [{"trial": 1, "mean": None}, {"trial": 2, "mean": 0.5}])
    assert (tmp_path / "trials.csv").read_text() == "trial,mean\n1,\n2,0.5\n"
    run_files.write_trials(tmp_path, [])
    assert (tmp_path / "trials.csv").read_text() == ""
