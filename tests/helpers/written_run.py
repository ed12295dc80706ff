"""A finished workdir made by hand, for the tests of what reads one: three genres, random scores, no training."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from poster_jax import config as config_lib
from poster_jax.metrics import calibration, scoring

GENRES = ("Drama", "Comedy", "Horror")
NUM_ROWS = {"train": 40, "validation": 30, "test": 60}


def draw(encoding: str, seed: int, num: int = 3) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(labels, scores) of every part; labels are the same for every seed, scores lean towards them."""
    drawn, rng = np.random.default_rng(7), np.random.default_rng(seed)
    labels, scores = {}, {}
    for part, rows in NUM_ROWS.items():
        first = drawn.integers(0, num, rows).astype(np.int32)
        truth = np.eye(num)[first]
        if encoding == "multi_hot":
            truth = np.maximum(truth, np.eye(num)[drawn.integers(0, num, rows)])
        labels[part] = truth.astype(np.float32) if encoding == "multi_hot" else first
        scores[part] = (0.5 * rng.random((rows, num)) + 0.4 * truth).astype(np.float32)
    return labels, scores


def results_of(encoding: str, labels: Any, scores: Any, seed: int, genres: Sequence[str]) -> dict[str, Any]:
    """results.json of one network."""
    tuned = scoring.choose_thresholds(scores["validation"], labels["validation"])
    splits = {
        part: scoring.score(
            scores[part], labels[part], np.arange(rows), genres=genres, thresholds={"tuned": tuned},
            num_samples=20, seed=0,
        )
        for part, rows in NUM_ROWS.items()
    }  # fmt: skip
    parts = {part: calibration.Rows(scores[part], labels[part], np.arange(rows)) for part, rows in NUM_ROWS.items()}
    counts = {part: [entry["count"] for entry in split["per_genre"].values()] for part, split in splits.items()}
    return {
        "title": f"cnn, sigmoid, seed {seed}", "protocol": "single", "seed": seed, "num_seeds": 1, "num_steps": 20,
        "best_step": 20, "body": {}, "num_parameters": 1234,
        "data": {
            "name": "synthetic posters", "fingerprint": "f" * 64, "genres": list(genres), "auxiliary_genres": [],
            "refused": {"reason": {"empty_file": 2, "no_genre": 1}, "genre": {}}, "encoding": encoding, "balance": "equal",
            "num_posters": 200, "num_refused": 3, "genre_counts": counts,
            "genre_counts_before_balance": [80 - number for number in range(len(genres))],
            "genre_mentions": {**{genre: 90 - number for number, genre in enumerate(genres)}, "War": 30}, "num_rows": NUM_ROWS,
            "labels_per_row": splits["test"]["labels_per_row"], "leaked_rows": {"validation": 0, "test": 0},
        },
        "splits": splits,
        "calibration": calibration.measure(parts, tuple(genres), num_samples=20, seed=0),
        "baselines": {"color_histogram_logistic": splits},
    }  # fmt: skip


def write_network(
    folder: pathlib.Path, encoding: str, seed: int, samples: bool, genres: Sequence[str] = GENRES
) -> dict[str, Any]:
    """The files of one network; returns its results."""
    folder.mkdir(parents=True, exist_ok=True)
    labels, scores = draw(encoding, seed, len(genres))
    arrays = {f"{part}_{name}": held[part] for name, held in (("label", labels), ("score", scores)) for part in NUM_ROWS}
    ids = {f"{part}_id": np.arange(rows, dtype=np.int32) + 7 for part, rows in NUM_ROWS.items()}
    np.savez(folder / "predictions.npz", **arrays, **ids)
    if samples:
        rng = np.random.default_rng(seed)
        truth = labels["test"][:10] if encoding == "multi_hot" else np.eye(len(genres), dtype=np.float32)[labels["test"][:10]]
        np.savez(
            folder / "samples.npz", image=rng.integers(0, 256, (10, 30, 20, 3), np.uint8), id=ids["test_id"][:10], label=truth,
            score=scores["test"][:10], genre=scores["test"][:10].argmax(1), map=rng.random((10, 5, 4)).astype(np.float32),
            true_genre=truth.argmax(1), true_map=rng.random((10, 5, 4)).astype(np.float32), spread=np.arange(10) < 5,
        )  # fmt: skip
    lines = [{"step": step, "part": "train", "loss": 0.7 - 0.01 * step} for step in (10, 20)]
    lines += [{"step": step, "part": "validation", "loss": 0.6, **scoring.headline(scores["validation"], labels["validation"])}
              for step in (10, 20)]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    results = results_of(encoding, labels, scores, seed, genres)
    (folder / "results.json").write_text(json.dumps(results))
    return results


def write(
    workdir: pathlib.Path,
    *,
    encoding: str = "multi_hot",
    seeds: tuple[int, ...] = (0,),
    samples: bool = True,
    genres: Sequence[str] = GENRES,
) -> pathlib.Path:
    """A workdir of one network, or of one per seed."""
    folders = {seed: workdir if len(seeds) == 1 else workdir / f"seed_{seed}" for seed in seeds}
    results = [write_network(folder, encoding, seed, samples, genres) for seed, folder in folders.items()]
    (workdir / "config.json").write_text(config_lib.to_json(config_lib.base()))
    about = {"genres": list(genres), "auxiliary_genres": [], "encoding": encoding}
    (workdir / "labels.json").write_text(json.dumps(about))
    (workdir / "refused.csv").write_text(
        "id,reason,genres,detail\n1,empty_file,Drama|War,0 bytes\n2,empty_file,Drama,0 bytes\n3,no_genre,,none listed\n"
    )
    if len(seeds) > 1:
        together = {"title": "cnn", "data": results[0]["data"], "seeds": results}
        (workdir / "results.json").write_text(json.dumps(together))
    return workdir
