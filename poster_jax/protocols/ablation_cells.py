"""From the folders of an ablation's cells to the rows of cells.csv and the JSON of its table."""

import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from poster_jax.config import grid
from poster_jax.runtime import storage, tables
from poster_jax.workdir import run_files, run_folder

METRICS = ("top1_accuracy", "binary_accuracy", "mean_average_precision")
PART = "test"
# Equal in all cells, or their scores could not be compared.
SHARED_PARTS = ("validation", "test")

Outcome = dict[str, Any]  # {"seed", "results": results.json or None where it diverged, "diverged_at": step or None}


def read_outcome(folder: pathlib.Path, seed: int, length: tuple[int, float]) -> Outcome | None:
    """How one network ended; None where it has not, or where it ended after another `length` (num_steps, num_epochs)."""
    if (folder / run_files.DIVERGED).exists():
        return {"seed": seed, "results": None, "diverged_at": run_files.read_diverged(folder)}
    if not run_files.has_results(folder):
        return None
    train = run_folder.load_config(folder).train
    if (train.num_steps, train.num_epochs) != length:
        return None
    return {"seed": seed, "results": run_files.read_whole(folder, "single"), "diverged_at": None}


def write_diverged(folder: pathlib.Path, step: int) -> None:
    """Notes in the folder of a network that its scores were not finite at this step."""
    storage.write_json(folder / run_files.DIVERGED, {"step": step})


def digest(movie_id: np.ndarray, label: np.ndarray) -> str:
    """Equal for equal rows in equal order: movies int32 [N] with what is measured on them, int [N] or 0/1 [N, K]."""
    sha = hashlib.sha256(f"{label.shape} {label.dtype}".encode())
    sha.update(np.ascontiguousarray(movie_id).tobytes())
    sha.update(np.ascontiguousarray(label).tobytes())
    return sha.hexdigest()


def measured_digests(folder: pathlib.Path) -> dict[str, str]:
    """The digest of every part's rows as a finished network was measured on them."""
    arrays = run_files.read_predictions(folder)
    return {part: digest(arrays[f"{part}_id"], arrays[f"{part}_label"]) for part in run_files.list_parts(arrays)}


def summarise_cell(cell: grid.Cell, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """One row of the table, of one seed or of several.

    A metric is {"value", "low", "high", "best_floor"}: with its bootstrap interval for one seed, mean and range for several;
    None for all but the floor where a seed diverged.
    """
    measured = [outcome["results"] for outcome in outcomes if outcome["results"] is not None]
    return {
        "cell": cell.number + 1,
        "settings": cell.settings,
        "folder": f"cells/{cell.folder}",
        "num_parameters": measured[0]["num_parameters"] if measured else None,
        "num_rows": measured[0]["data"]["num_rows"] if measured else None,
        "metrics": {name: _metric(name, measured, len(outcomes)) for name in METRICS},
        "seeds": [
            {
                "seed": outcome["seed"],
                "diverged_at": outcome["diverged_at"],
                "best_step": outcome["results"]["best_step"] if outcome["results"] else None,
                "values": {name: _entry(outcome["results"], name)["value"] for name in METRICS} if outcome["results"] else None,
            }
            for outcome in outcomes
        ],
    }


def _metric(name: str, measured: Sequence[Mapping[str, Any]], num_seeds: int) -> dict[str, Any]:
    entries = [_entry(results, name) for results in measured]
    values = [entry["value"] for entry in entries]
    spread: dict[str, Any] = dict.fromkeys(("value", "low", "high"))
    if len(entries) == num_seeds and None not in values:
        if num_seeds == 1:
            spread = {key: entries[0][key] for key in spread}
        else:
            spread = {"value": float(np.mean(values)), "low": min(values), "high": max(values)}
    # Rows, and so floors, are those of every seed.
    return {**spread, "best_floor": entries[0]["best_floor"] if entries else None}


def _entry(results: Mapping[str, Any], name: str) -> dict[str, Any]:
    return results["splits"][PART]["metrics"][name]


def summarise(axes: Sequence[grid.Axis], rows: Sequence[Mapping[str, Any]], best_metric: str) -> dict[str, Any]:
    """results["ablation"] from the rows of all cells, the same for equal runs.

    `effects` are means over the cells that have a setting and did not diverge: over a full grid the other axes are balanced
    in them.
    """
    effects = []
    for axis in axes:
        for label, _ in axis.settings:
            own = [row for row in rows if row["settings"][axis.name] == label]
            kept = [row for row in own if None not in [row["metrics"][name]["value"] for name in METRICS]]
            means = {
                name: float(np.mean([row["metrics"][name]["value"] for row in kept])) if kept else None for name in METRICS
            }
            effects.append(
                {"axis": axis.name, "setting": label, "num_cells": len(own), "num_measured": len(kept), "means": means}
            )
    return {
        "part": PART,
        "best_metric": best_metric,
        "seeds": [seed["seed"] for seed in rows[0]["seeds"]],
        "axes": [
            {"name": axis.name, "keys": list(axis.keys), "settings": [label for label, _ in axis.settings]} for axis in axes
        ],
        "cells": list(rows),
        "effects": effects,
    }


def write_cells(workdir: pathlib.Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """cells.csv, one row per cell that has ended; a score that is not defined is an empty cell."""
    keys = {"": "value", "_low": "low", "_high": "high", "_floor": "best_floor"}
    names = [f"{name}{suffix}" for name in METRICS for suffix in keys]
    header = ["cell", *rows[0]["settings"], "num_parameters", "seeds", "diverged", *names] if rows else []
    lines = []
    for row in rows:
        diverged = sum(seed["diverged_at"] is not None for seed in row["seeds"])
        scores = [row["metrics"][name][key] for name in METRICS for key in keys.values()]
        lines.append([row["cell"], *row["settings"].values(), row["num_parameters"], len(row["seeds"]), diverged, *scores])
    storage.write_atomic(workdir / "cells.csv", tables.csv_text(header, lines) if rows else "")
