"""The finished workdirs of a reproduction, made by hand, and what alters them; three genres, random scores, no training."""

import json
import pathlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tests.helpers import written_run

SEEDS = (0, 1, 2)
GENRES = {"genres": ["Drama", "Comedy", "Horror"]}
FACTS: dict[str, Any] = {
    "population": {"num_movies": 39515, "counts": {"Drama": 18000, "Comedy": 12000, "Horror": 4000}},
    "softmax_gap": 1e-7,
    "depthwise": {
        "parameters": {"separable": 10, "full": 80},
        "operations": {"separable": 100, "full": 700},
        "rounds": [[1.0, 2.0], [1.1, 2.3], [0.9, 1.9]],
    },
}
WITH_SEEDS = ("one_hot", "one_hot_fast", "one_hot_no_conv_dropout", "one_hot_no_dropout", "one_hot_no_dropout_slow")
WITH_SEEDS += ("one_hot_half", "one_hot_augmented")
CELLS = (
    ("table 6", "softmax integers", "kept"),
    ("table 6", "softmax one-hot", "kept"),
    ("table 6", "sigmoid one-hot", "kept"),
    ("table 6", "sigmoid one-hot", "removed"),
    ("table 2", "softmax integers", "kept"),
)
FLAT = [0.30, 0.31, 0.30, 0.31]


def edit(path: pathlib.Path, change: Callable[[Any], object]) -> None:
    """Changes the JSON of a file in place."""
    held = json.loads(path.read_text())
    change(held)
    path.write_text(json.dumps(held))


def write(folder: pathlib.Path) -> pathlib.Path:
    """A folder for every experiment that a claim rests on."""
    write_transfer(folder / "transfer", num_ranges=2)
    write_transfer(folder / "transfer_drawn", num_ranges=1, shift=-0.25)
    write_search(folder / "search", [FLAT] * 10)
    write_search(folder / "search_batch_norm", [[0.30, 0.305, 0.31, 0.31 + 0.0001 * n] for n in range(10)])
    write_search(folder / "rates", [[0.20, 0.21, 0.20, 0.21], *[FLAT] * 4, [0.30, 0.32, 0.31, 0.31]])
    write_search(folder / "table4", [FLAT] * 5)
    for name in WITH_SEEDS:
        write_networks(folder / name, SEEDS)
    write_networks(folder / "one_hot_strict", SEEDS, encoding="first")
    for name in ("one_hot_long", "one_hot_split_1", "one_hot_split_2"):
        write_networks(folder / name, (0,))
    cells = []
    for network, labels, dropout in CELLS:
        cell = f"cells/{len(cells)}"
        write_networks(folder / "ablation" / cell, SEEDS, encoding="first")
        settings = {"network": network, "labels": labels, "dropout": dropout}
        cells.append({"folder": cell, "settings": settings, "seeds": [{"seed": seed} for seed in SEEDS]})
    (folder / "ablation" / "results.json").write_text(json.dumps({"ablation": {"cells": cells}}))
    return folder


def cell(network: str, labels: str, dropout: str = "kept") -> str:
    """The folder of a cell of the ablation, below the workdir."""
    return f"ablation/cells/{CELLS.index((network, labels, dropout))}"


def write_networks(folder: pathlib.Path, seeds: tuple[int, ...], encoding: str = "multi_hot") -> None:
    """Networks with a line of training rows in inference mode."""
    written_run.write(folder, encoding=encoding, seeds=seeds, samples=False)
    (folder / "labels.json").write_text(json.dumps(GENRES))
    for path in folder.rglob("metrics.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        lines = [{**line, "binary_accuracy": 0.6} if line["part"] == "train" else line for line in lines]
        lines.append({"step": 20, "part": "train_inference", "loss": 0.4, "binary_accuracy": 0.9})
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_search(folder: pathlib.Path, folds: list[list[float]]) -> None:
    """A search with these scores of its trials."""
    written_run.write(folder, encoding="first", samples=False)
    set_folds(folder, folds)
    (folder / "labels.json").write_text(json.dumps(GENRES))


def set_folds(folder: pathlib.Path, folds: Sequence[Sequence[float]]) -> None:
    """Other scores of a search's trials."""
    trials = [
        {
            "trial": number,
            "learning_rate": 1e-3,
            "dropout": 0.25,
            "filters_1": 8,
            "units_1": 80,
            "epochs": 1,
            "folds": list(row),
            "mean": sum(row) / len(row),
            "deviation": 0.01,
            "low": sum(row) / len(row) - 0.05,
            "high": sum(row) / len(row) + 0.05,
            "curves": {"train": [0.3], "validation": [0.3]},
        }
        for number, row in enumerate(folds, 1)
    ]
    ranking = sorted(range(1, len(trials) + 1), key=lambda number: -trials[number - 1]["mean"])
    search = {"metric": "top1_accuracy", "num_folds": len(folds[0]), "num_rows": {"train": 60, "validation": 20}}
    search |= {"floor": 0.167, "trials": trials, "ranking": ranking, "winner": ranking[0], "comparisons": []}
    edit(folder / "results.json", lambda results: results.update(protocol="search", num_epochs=1, search=search))


def write_transfer(folder: pathlib.Path, num_ranges: int, shift: float = 0.0) -> None:
    """Rates of 1e-4 (smooth, better) and 1e-2 (erratic); fine-tuning improves training accuracy only."""
    written_run.write(folder, encoding="first", seeds=SEEDS, samples=False)
    (folder / "labels.json").write_text(json.dumps(GENRES))
    edit(folder / "results.json", lambda results: [_add_branches(seed, num_ranges, shift) for seed in results["seeds"]])
    if num_ranges > 1:
        for seed in SEEDS:
            (folder / f"seed_{seed}" / "range_0").mkdir()
            shutil.copy(folder / f"seed_{seed}" / "predictions.npz", folder / f"seed_{seed}" / "range_0")


def _add_branches(seed: dict[str, Any], num_ranges: int, shift: float) -> None:
    small = 0.001 * seed["seed"]
    validation = {1e-4: [0.27, 0.28, 0.29 + small], 1e-2: [0.2, 0.3, 0.2 + small]}
    frozen = [
        {
            "learning_rate": rate,
            "history": [*as_history("validation", curve), *as_history("train", [value + shift for value in curve])],
            "splits": seed["splits"],
        }
        for rate, curve in validation.items()
    ]
    history = [*as_history("validation", [0.29, 0.291 + 2 * small]), *as_history("train", [0.4 + shift, 0.6 + small + shift])]
    tuned = {"splits": seed["splits"], "learning_rate": 1e-5, "best_step": 20, "history": history}
    branch = {"frozen": frozen, "tuned": tuned, "chosen_learning_rate": 1e-4, "input_range": [0.0, 1.0], "bn_mode": "training"}
    seed |= {"protocol": "transfer", "branches": [branch] * num_ranges}


def as_history(part: str, values: Sequence[float]) -> list[dict[str, Any]]:
    """Top-1 accuracy of a part, epoch by epoch."""
    rest = {"part": part, "mean_average_precision": None}
    return [{"epoch": epoch, "top1_accuracy": value, **rest} for epoch, value in enumerate(values, 1)]


def set_curve(folder: pathlib.Path, part: str, values: Sequence[float], rate: float = 0.0) -> None:
    """Another history of every seed's first branch: of the head of `rate`, or of fine-tuning."""

    def change(results: Any) -> None:
        for seed in results["seeds"]:
            branch = seed["branches"][0]
            stage = next(head for head in branch["frozen"] if head["learning_rate"] == rate) if rate else branch["tuned"]
            others = [row for row in stage["history"] if row["part"] != part]
            stage["history"] = others + as_history(part, [value + 0.0001 * seed["seed"] for value in values])

    edit(folder / "results.json", change)


def set_scores(folder: pathlib.Path, quality: float) -> None:
    """Other scores in every predictions.npz of a folder: 1 is the truth, 0 is noise."""
    for number, path in enumerate(sorted(folder.rglob("predictions.npz"))):
        rng = np.random.default_rng(number)
        with np.load(path) as held:
            arrays = dict(held)
        for part in written_run.NUM_ROWS:
            label = arrays[f"{part}_label"]
            truth = np.eye(3)[label] if label.ndim == 1 else label
            noise = rng.random(truth.shape)
            arrays[f"{part}_score"] = (quality * truth + (1 - quality) * noise).astype(np.float32)
        np.savez(path, **arrays)


def set_metric(folder: pathlib.Path, metric: str, values: Mapping[str, float], branch: int | None = None) -> None:
    """Other numbers of a metric on test, of every seed or of a branch of every seed."""

    def change(results: Any) -> None:
        for seed in results.get("seeds", [results]):
            splits = seed["splits"] if branch is None else seed["branches"][branch]["tuned"]["splits"]
            splits["test"]["metrics"][metric].update(values)

    for path in [folder / "results.json", *folder.glob("seed_*/results.json")]:
        if branch is None or "branches" in path.read_text():
            edit(path, change)


def set_last_epoch(workdir: pathlib.Path, values: Mapping[str, float]) -> None:
    """Another binary accuracy of the parts of metrics.jsonl, in every run of the first seed that claims look at."""
    for number, folder in enumerate(("one_hot/seed_0", "one_hot_split_1", "one_hot_split_2")):
        path = workdir / folder / "metrics.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            line["binary_accuracy"] = values[line["part"]] + 0.0001 * number
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def shuffle_labels(folder: pathlib.Path) -> None:
    """Test scores of every network in another order, so that they know nothing; the values in results.json follow."""
    for path in folder.rglob("predictions.npz"):
        with np.load(path) as held:
            arrays = dict(held)
        arrays["test_score"] = np.random.default_rng(1).random(arrays["test_score"].shape).astype(np.float32)
        np.savez(path, **arrays)
    set_metric(folder, "mean_average_precision", {"value": 0.4, "low": 0.3, "high": 0.5})
