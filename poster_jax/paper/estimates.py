"""Finished workdirs -> estimates for the table of claims: scores over seeds, paired differences, folds, curves."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.special

from poster_jax.metrics import chance, cross_validation, definitions, paired
from poster_jax.paper.verdicts import LEVEL, Estimate
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


def of_groups(ones: Sequence[float | None], others: Sequence[float | None], unit: str) -> Estimate:
    """The difference of the means of two independent samples, with Welch's interval; undefined if a sample lacks a value."""
    if None in (*ones, *others) or min(len(ones), len(others)) < 2:
        return Estimate(None)
    one, other = (np.array(values, np.float64) for values in (ones, others))
    gap = float(one.mean() - other.mean())
    parts = [float(values.var(ddof=1)) / len(values) for values in (one, other)]
    if not sum(parts):
        return Estimate(gap)
    freedom = sum(parts) ** 2 / sum(part**2 / (len(values) - 1) for part, values in zip(parts, (one, other), strict=True))
    half = float(scipy.special.stdtrit(freedom, (1 + LEVEL) / 2) * np.sqrt(sum(parts)))
    return Estimate(gap, gap - half, gap + half, f"{len(one)} and {len(other)} {unit}")


def smallest(estimates: Sequence[Estimate]) -> Estimate:
    """The estimate of the lowest value, for a claim that has to hold for each of them; undefined if one of them is."""
    if any(estimate.value is None for estimate in estimates):
        return Estimate(None)
    return min(estimates, key=lambda estimate: (estimate.value, estimate.low))


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


def read_splits(folder: pathlib.Path) -> Mapping[str, Any]:
    """The scores of one network's folder."""
    return run_files.read_results(folder)["splits"]


def curve(history: Sequence[Mapping[str, Any]], part: str, metric: str) -> list[float]:
    """Values of a metric, epoch by epoch."""
    return [row[metric] for row in history if row["part"] == part]


def first_reaching(values: Sequence[float], target: float) -> int:
    """The first epoch, counted from 1, whose value is at least `target`; one more than there are if none is."""
    return next((epoch for epoch, value in enumerate(values, 1) if value >= target), len(values) + 1)


def last_epoch(folder: pathlib.Path, name: str = "loss") -> dict[str, float | None]:
    """{"train": mean over the steps of the last epoch, "train_inference", "validation": the values at its end} of a metric.

    A training line is the mean of the steps since the line before it, so it counts as many times as it has steps of the epoch.
    The mean is None where steps were logged without this metric.
    """
    lines = run_files.read_metrics(folder)
    ends = [line["step"] for line in lines if line["part"] == "validation"]
    begin = ends[-2] if len(ends) > 1 else 0
    logged = [line for line in lines if line["part"] == "train"]
    befores = [0, *(line["step"] for line in logged)]
    windows = [(line["step"] - max(before, begin), line.get(name)) for before, line in zip(befores, logged, strict=False)]
    windows = [(steps, value) for steps, value in windows if steps > 0]
    scored: dict[str, float | None] = {line["part"]: line.get(name) for line in lines if line["part"] != "train"}
    if not windows or any(value is None for _, value in windows):
        return {**scored, "train": None}
    steps, values = zip(*windows, strict=True)
    return {**scored, "train": float(np.average(values, weights=steps))}
