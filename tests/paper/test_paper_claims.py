"""The claims on workdirs made by hand: every claim has a row, and changed results change its verdict."""

import copy
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from poster_jax.paper import claims, estimates
from poster_jax.paper import verdicts as verdicts_lib
from poster_jax.report.tables import claims_table
from poster_jax.workdir import run_files

WriteWorkdir = Callable[..., pathlib.Path]
FACTS: dict[str, Any] = {
    "population": {"num_movies": 39515, "counts": {"Drama": 18000, "Comedy": 12000, "Horror": 4000}},
    "parameters": {"body": 2257984, "total": 2265670, "trainable": 7686},
    "softmax_gap": 1e-7,
}
SEEDS = (0, 1, 2)


def edit(path: pathlib.Path, change: Callable[[Any], None]) -> None:
    held = json.loads(path.read_text())
    change(held)
    path.write_text(json.dumps(held))


def transfer(folder: pathlib.Path, write_workdir: WriteWorkdir) -> None:
    """Rates of 1e-4 (smooth, better) and 1e-2 (erratic); fine-tuning improves training accuracy only."""

    def add(results: Any) -> None:
        for seed in results["seeds"]:
            curves = {1e-4: [0.30, 0.31, 0.32 + 0.001 * seed["seed"]], 1e-2: [0.2, 0.3, 0.2 + 0.001 * seed["seed"]]}
            frozen = [
                {
                    "learning_rate": rate,
                    "history": [{"epoch": n, "part": "validation", "top1_accuracy": value} for n, value in enumerate(curve)],
                    "splits": copy.deepcopy(seed["splits"]),
                }
                for rate, curve in curves.items()
            ]
            tuned = {"splits": copy.deepcopy(seed["splits"]), "learning_rate": 1e-5}
            tuned["splits"]["train"]["metrics"]["top1_accuracy"]["value"] += 0.3 + 0.001 * seed["seed"]
            tuned["splits"]["validation"]["metrics"]["top1_accuracy"]["value"] += 0.001 * seed["seed"]
            seed["branches"] = [{"frozen": frozen, "tuned": tuned, "chosen_learning_rate": 1e-4}] * 2

    write_workdir(folder, encoding="first", seeds=SEEDS, samples=False)
    edit(folder / "results.json", add)
    labels = {"genres": ["Drama", "Comedy", "Horror"]}
    (folder / "labels.json").write_text(json.dumps(labels))
    for seed in SEEDS:
        (folder / f"seed_{seed}" / "range_0").mkdir()
        shutil.copy(folder / f"seed_{seed}" / "predictions.npz", folder / f"seed_{seed}" / "range_0")


def search(folder: pathlib.Path, write_workdir: WriteWorkdir, folds: list[list[float]]) -> None:
    write_workdir(folder, encoding="first", samples=False)
    trials = [{"folds": row, "mean": sum(row) / len(row)} for row in folds]
    edit(folder / "results.json", lambda results: results.update(search={"trials": trials}))
    (folder / "labels.json").write_text(json.dumps({"genres": ["Drama", "Comedy", "Horror"]}))


def one_hot(folder: pathlib.Path, write_workdir: WriteWorkdir, seeds: tuple[int, ...], encoding: str = "multi_hot") -> None:
    write_workdir(folder, encoding=encoding, seeds=seeds, samples=False)
    (folder / "labels.json").write_text(json.dumps({"genres": ["Drama", "Comedy", "Horror"]}))
    for path in folder.rglob("metrics.jsonl"):
        with open(path, "a") as file:
            file.write(json.dumps({"step": 20, "part": "train_inference", "loss": 0.4}) + "\n")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, write_workdir: WriteWorkdir) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("claims")
    transfer(folder / "transfer", write_workdir)
    flat = [[0.30, 0.31, 0.30, 0.31]] * 10
    search(folder / "search", write_workdir, flat)
    search(folder / "search_batch_norm", write_workdir, [[0.30, 0.305, 0.31, 0.31 + 0.0001 * n] for n in range(10)])
    search(folder / "rates", write_workdir, [[0.20, 0.21, 0.20, 0.21], *flat[:4], [0.30, 0.32, 0.31, 0.31]])
    for name in ("one_hot", "one_hot_no_conv_dropout", "one_hot_no_dropout"):
        one_hot(folder / name, write_workdir, SEEDS)
    one_hot(folder / "one_hot_strict", write_workdir, SEEDS, encoding="first")
    for name in ("one_hot_long", "one_hot_split_1", "one_hot_split_2"):
        one_hot(folder / name, write_workdir, (0,))
    cells = []
    for network, labels, dropout in (
        ("table 6", "softmax integers", "kept"),
        ("table 6", "softmax one-hot", "kept"),
        ("table 6", "sigmoid one-hot", "kept"),
        ("table 6", "sigmoid one-hot", "removed"),
        ("table 2", "softmax integers", "kept"),
    ):
        cell = f"cells/{len(cells)}"
        one_hot(folder / "ablation" / cell, write_workdir, SEEDS, encoding="first")
        settings = {"network": network, "labels": labels, "dropout": dropout}
        cells.append({"folder": cell, "settings": settings, "seeds": [{"seed": seed} for seed in SEEDS]})
    (folder / "ablation" / "results.json").write_text(json.dumps({"ablation": {"cells": cells}}))
    return folder


def verdicts(folder: pathlib.Path, facts: dict[str, Any] = FACTS) -> dict[tuple[str, str], str]:
    return {(row["claim"], row["measured"]): row["verdict"] for row in claims.build(folder, facts)}


def find(found: dict[tuple[str, str], str], text: str) -> set[str]:
    chosen = {verdict for (claim, _), verdict in found.items() if text in claim}
    assert chosen, text
    return chosen


def test_every_claim_is_a_row_with_its_verdict(finished: pathlib.Path) -> None:
    found = verdicts(finished)
    assert len(found) > 25
    for text, expected in (
        ("39,515 posters", verdicts_lib.HOLDS),
        ("at least 1,000 posters", verdicts_lib.HOLDS),
        ("great imbalance", verdicts_lib.HOLDS),
        ("449 steps", verdicts_lib.HOLDS),
        ("7,686 train", verdicts_lib.HOLDS),
        ("0.0001 is the best rate", verdicts_lib.HOLDS),
        ("erratic", verdicts_lib.HOLDS),
        ("improves training accuracy", verdicts_lib.HOLDS),
        ("does not raise validation", verdicts_lib.HOLDS),
        ("set 1 is worse", verdicts_lib.HOLDS),
        ("its learning rate is what", verdicts_lib.HOLDS),
        ("batch norm", verdicts_lib.HOLDS),
        ("trains the model incorrectly", verdicts_lib.FAILS),
        ("one-hot instead of integer", verdicts_lib.FAILS),
        ("because of dropout", verdicts_lib.HOLDS),
        ("an easier sample", verdicts_lib.FAILS),
    ):
        assert find(found, text) == {expected}, text


def test_too_few_movies_of_a_genre_for_449_steps_are_told(finished: pathlib.Path) -> None:
    fewer = {"num_movies": 39515, "counts": {"Drama": 6000, "Comedy": 5000, "Horror": 3990}}
    found = verdicts(finished, {**FACTS, "population": fewer})
    assert find(found, "449 steps") == find(found, "great imbalance") == {verdicts_lib.FAILS}


def test_without_a_catalog_its_counts_are_not_told(finished: pathlib.Path) -> None:
    found = verdicts(finished, {**FACTS, "population": None})
    assert find(found, "39,515 posters") == find(found, "449 steps") == {verdicts_lib.OPEN}


@pytest.mark.parametrize(
    ("name", "change", "text", "turned"),
    [
        ("rates", lambda results: results["search"]["trials"][0].update(folds=[0.4] * 4), "set 1 is worse", verdicts_lib.FAILS),
        (
            "search_batch_norm",
            lambda results: [trial.update(mean=trial["mean"] + 0.1) for trial in results["search"]["trials"]],
            "batch norm",
            verdicts_lib.FAILS,
        ),
        (
            "transfer",
            lambda results: [
                seed["branches"][0]["tuned"]["splits"]["test"]["metrics"]["top1_accuracy"].update(
                    value=0.3, low=0.28, high=0.32, best_floor=0.17
                )
                for seed in results["seeds"]
            ],
            "transfer learning reaches 30 %",
            verdicts_lib.HOLDS,
        ),
        (
            "transfer",
            lambda results: [
                seed["branches"][0]["frozen"][0]["history"][2].update(top1_accuracy=0.9) for seed in results["seeds"]
            ],
            "erratic",
            verdicts_lib.FAILS,
        ),
    ],
)
def test_altered_results_turn_the_verdict(
    name: str, change: Callable[[Any], None], text: str, turned: str, finished: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    folder = shutil.copytree(finished, tmp_path / "altered")
    edit(folder / name / "results.json", change)
    before, after = find(verdicts(finished), text), find(verdicts(folder), text)
    assert turned in after and turned not in before


def test_a_difference_between_equal_networks_is_none(finished: pathlib.Path) -> None:
    networks = list(run_files.list_seeds(finished / "one_hot"))
    gap = estimates.difference(networks, networks, "mean_average_precision")
    assert (gap.value, gap.low, gap.high) == (0.0, 0.0, 0.0)
    other = estimates.difference(networks[:1], networks[1:], "mean_average_precision")
    assert other.low is not None and other.high is not None and other.low < (other.value or 0.0) < other.high


def test_the_last_losses_are_those_of_the_last_epoch(tmp_path: pathlib.Path) -> None:
    lines = [("train", 5, 9.0), ("validation", 10, 8.0), ("train", 15, 3.0), ("train", 20, 5.0), ("validation", 20, 2.0)]
    text = "".join(json.dumps({"step": step, "part": part, "loss": loss}) + "\n" for part, step, loss in lines)
    (tmp_path / "metrics.jsonl").write_text(text)
    assert estimates.last_losses(tmp_path) == {"train": 4.0, "validation": 2.0}


def test_the_text_and_the_table_say_all_of_it(finished: pathlib.Path) -> None:
    rows = claims.build(finished, FACTS)
    results = {"ledger": rows, "reductions": ["train.num_epochs=3.0"]}
    text, table = claims_table.ledger_text(results), claims_table.ledger_table(results)
    assert "Reduced, so not the paper's own scale: train.num_epochs=3.0." in text and "train.num_epochs=3.0" in table.caption
    assert len(table.rows) == len(rows) and {row[1] for row in table.rows} == {row["verdict"] for row in rows}
    assert all(len(line) <= 180 for line in text.splitlines())
    for row in rows:
        if row["floor"] is not None:
            assert f"floor {row['floor']:.3f}" in text
    assert "Reduced" not in claims_table.ledger_text({**results, "reductions": []})


@pytest.mark.parametrize(
    ("evaluations", "expected"),
    # The training line at an evaluation's step is about the steps before it.
    [((10, 20), 4.0), ((20,), 19 / 4), ((5, 10, 20), 4.0), ((10, 15, 20), 5.0)],
)
def test_the_last_training_loss_is_of_the_steps_since_the_evaluation_before(
    evaluations: tuple[int, ...], expected: float, tmp_path: pathlib.Path
) -> None:
    lines = []
    for step, loss in ((5, 9.0), (10, 2.0), (15, 3.0), (20, 5.0)):
        lines.append({"step": step, "part": "train", "loss": loss})
        if step in evaluations:
            lines += [{"step": step, "part": part, "loss": loss / 2} for part in ("train_inference", "validation")]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert estimates.last_losses(tmp_path) == {"train": expected, "train_inference": 2.5, "validation": 2.5}
