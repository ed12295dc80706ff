"""Finished workdirs -> estimates for the table of claims: scores over seeds, paired differences, folds, curves."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from poster_jax.metrics import chance, cross_validation, definitions, paired
from poster_jax.paper.verdicts import Estimate
from poster_jax.workdir import run_files

MAP = "mean_average_precision"
NUM_SAMPLES = 1000  # resamples of the movies for a difference between two runs


def count(value: float | None) -> Estimate:
    """An estimate of a number without noise, with an interval of width zero; undefined if `value` is None."""
    return Estimate(None) if value is None else Estimate(float(value), float(value), float(value))


def score(splits: Sequence[Mapping[str, Any]], metric: str, part: str = "test") -> Estimate:
    """A metric of one network; for several the means of value, interval, floor and ceiling."""
    entries = [split[part]["metrics"][metric] for split in splits]
    means = {
        name: None if any(entry[name] is None for entry in entries) else float(np.mean([entry[name] for entry in entries]))
        for name in ("value", "low", "high", "best_floor", "ceiling")
    }
    over = "movies" if len(entries) == 1 else f"movies, mean of {len(entries)} seeds"
    return Estimate(means["value"], means["low"], means["high"], over, means["best_floor"], means["ceiling"])


def against_chance(folders: Sequence[pathlib.Path], splits: Sequence[Mapping[str, Any]]) -> Estimate:
    """Mean average precision on test, the mean over networks, beside the same mean under permuted labels.

    The labels are permuted alike for all networks, from the predictions.npz of their folders; splits as in `score`.
    """
    estimate = score(splits, MAP)
    if estimate.value is None:
        return estimate
    permuted = []
    for folder in folders:
        predictions = run_files.read_predictions(folder)
        scores = np.asarray(predictions["test_score"], np.float64)
        targets = definitions.make_targets(predictions["test_label"], scores.shape[1])
        groups = run_files.find_groups(predictions, "test")
        drawn = chance.permute(scores, targets, groups, num_permutations=chance.NUM_PERMUTATIONS, seed=chance.SEED)
        permuted.append(drawn[MAP])
    mean = np.mean(permuted, axis=0)
    return dataclasses.replace(estimate, chance=float(mean.mean()), p_value=chance.p_value(estimate.value, mean))


def difference(ones: Sequence[pathlib.Path], others: Sequence[pathlib.Path], metric: str, part: str = "test") -> Estimate:
    """The mean of `ones` minus the mean of `others`, by a paired bootstrap over the movies that all networks share.

    Raises UserError if the networks share no movie, or differ in a movie's labels.
    """
    genres = run_files.find_genres(ones[0])
    runs = [
        paired.Candidate(name, genres, tuple(run_files.load_scores(folder, part, len(genres)) for folder in folders))
        for name, folders in (("others", others), ("ones", ones))
    ]
    gap = paired.compare(runs, num_samples=NUM_SAMPLES, seed=0)["metrics"][metric]["differences"][0]
    return Estimate(gap["value"], gap["low"], gap["high"], f"movies, {len(ones)} and {len(others)} networks")


def over_folds(ones: Sequence[float | None], others: Sequence[float | None]) -> Estimate:
    """The mean paired difference over folds, with the interval of Nadeau and Bengio; undefined if a fold has no value."""
    pairs = [None if one is None or other is None else one - other for one, other in zip(ones, others, strict=True)]
    found = cross_validation.summarise(pairs, share=1 / (len(pairs) - 1))
    return Estimate(found["mean"], found["low"], found["high"], f"{len(pairs)} folds")


def find_head(branch: Mapping[str, Any], learning_rate: float) -> Mapping[str, Any]:
    """The frozen stage of a transfer branch trained at this learning rate."""
    return next(head for head in branch["frozen"] if head["learning_rate"] == learning_rate)


def find_cell(workdir: pathlib.Path, **settings: str) -> list[pathlib.Path]:
    """The folders, one per seed, of the cell of a finished ablation with these settings; KeyError if there is none."""
    table = run_files.read_results(workdir)["ablation"]
    for cell in table["cells"]:
        if cell["settings"] == settings:
            return [workdir / cell["folder"] / f"seed_{seed['seed']}" for seed in cell["seeds"]]
    raise KeyError(f"no cell of {workdir} has the settings {settings}")


def curve(history: Sequence[Mapping[str, Any]], part: str, metric: str) -> list[float]:
    """Values of a metric, epoch by epoch."""
    return [row[metric] for row in history if row["part"] == part]


def last_losses(folder: pathlib.Path) -> dict[str, float]:
    """{"train": mean loss of the last epoch's steps, "train_inference", "validation": losses at its end}."""
    lines = run_files.read_metrics(folder)
    ends = [line["step"] for line in lines if line["part"] == "validation"]
    begin = ends[-2] if len(ends) > 1 else 0
    steps = [line["loss"] for line in lines if line["part"] == "train" and line["step"] > begin]
    scored = {line["part"]: line["loss"] for line in lines if line["part"] != "train"}
    return {**scored, "train": float(np.mean(steps))}
