"""Chance: what these very scores get when the labels are dealt anew to the movies, and how often that reaches the value.

Two references stand beside a score. The *floor* (`floors`) is the best constant answer on the same rows. *Chance* is the mean
of the metric over permutations of the labels. For average precision chance is above the floor: the curve of a finite sample is
steeper than its expectation, so that random scores get more than the share of positives. An interval that is above the floor is
therefore no proof, and whether a ranking is better than a constant answer is decided by the permutations themselves.

All labels of a movie move together, among movies with as many rows, so labels keep the genres that come together and the
repeats of exploded movies.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from poster_jax.metrics import definitions

Array = npt.NDArray

NUM_PERMUTATIONS = 1999
SEED = 0  # one for all runs, so that equal predictions have equal p-values wherever they are read
LEVEL = 0.025  # one-sided: as often as an interval of 95 % lies above the true value
CHUNK_CELLS = 2**20
# Equal arrangements of the labels may differ in the last bits of their sums.
ROUNDING = 1e-12


def draw_places(groups: Array, num_permutations: int, seed: int) -> Iterator[Array]:
    """Yields int [S, N], the row that gets the labels of each row, in chunks of S that sum to num_permutations.

    groups: int [N], the movie of each row. Rows of a movie go to the rows of one other movie with as many, in order.
    """
    movies, row_movie, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    by_movie = np.argsort(row_movie, kind="stable")
    first = np.cumsum(sizes) - sizes
    blocks = [by_movie[first[sizes == size][:, None] + np.arange(size)] for size in np.unique(sizes)]  # [movies, rows] each
    rng = np.random.default_rng(seed)
    chunk = max(1, CHUNK_CELLS // len(groups))
    for start in range(0, num_permutations, chunk):
        count = min(chunk, num_permutations - start)
        places = np.empty((count, len(groups)), np.int64)
        for rows in blocks:
            order = rng.permuted(np.broadcast_to(np.arange(len(rows)), (count, len(rows))), axis=1)
            places[:, rows] = rows[order]
        yield places


def permute(scores: Array, targets: Array, groups: Array, *, num_permutations: int, seed: int) -> dict[str, Array]:
    """The metrics of permuted labels: [P, K] for average_precision, [P] for mean_average_precision and top1_accuracy.

    scores float64 [N, K], targets bool [N, K], groups int [N]. A genre without positives is NaN and left out of the mean.
    """
    num_genres = scores.shape[1]
    rankings = [_make_ranking(scores[:, k]) for k in range(num_genres)]
    top = scores == scores.max(axis=1, keepdims=True)
    credit = top / top.sum(axis=1, keepdims=True)
    positives = [np.flatnonzero(targets[:, k]) for k in range(num_genres)]
    ranked, right = [], []
    for places in draw_places(groups, num_permutations, seed):
        dealt = [places[:, rows] for rows in positives]
        ranked.append(np.stack([ranking(rows) for ranking, rows in zip(rankings, dealt, strict=True)], axis=1))
        right.append(sum(credit[rows, k].sum(axis=1) for k, rows in enumerate(dealt)) / len(scores))
    average_precision = np.concatenate(ranked)
    return {
        "average_precision": average_precision,
        "mean_average_precision": definitions.mean_defined(average_precision),
        "top1_accuracy": np.concatenate(right),
    }


def _make_ranking(scores: Array) -> Any:
    """A function of the rows of the positives, int [S, P], giving average precision [S]; ties are one step of the curve."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(scores[order][1:] != scores[order][:-1], True)
    through = np.flatnonzero(last) + 1  # rows ranked in or above each step
    step_rows = np.empty(len(scores), np.int64)
    step_rows[order] = through[np.cumsum(last) - last]

    def ranking(rows: Array) -> Array:
        num_positives = rows.shape[1]
        if not num_positives:
            return np.full(len(rows), np.nan)
        ends = np.sort(step_rows[rows], axis=1)
        found = np.broadcast_to(np.arange(1, num_positives + 1), ends.shape)
        if len(through) < len(scores):
            ends_step = np.append(ends[:, 1:] != ends[:, :-1], np.ones((len(ends), 1), bool), axis=1)
            found = np.minimum.accumulate(np.where(ends_step, found, num_positives)[:, ::-1], axis=1)[:, ::-1]
        return (found / ends).mean(axis=1)

    return ranking


def expected_average_precision(num_rows: int, num_positives: Array) -> Array:
    """The mean of average precision over all orders of num_rows untied rows, for counts of positives [K]; NaN for none.

    Bestgen 2015, "Exact Expected Average Precision of the Random Baseline for System Evaluation".
    """
    positives = np.asarray(num_positives, np.float64)
    harmonic = float((1 / np.arange(1, num_rows + 1)).sum())
    others = (positives - 1) / max(num_rows - 1, 1)
    expected = (others * (num_rows - harmonic) + harmonic) / num_rows
    return np.where(positives > 0, expected, np.nan)


def levels(scores: npt.ArrayLike, labels: npt.ArrayLike) -> dict[str, float]:
    """What mean average precision and top-1 have by chance, without drawing permutations; for lines during training.

    scores [N, K], labels int [N] or 0/1 [N, K]. Ties of scores are left out of account in average precision.
    """
    scores = np.asarray(scores, np.float64)
    targets = definitions.make_targets(labels, scores.shape[1])
    top = scores == scores.max(axis=1, keepdims=True)
    credit = (top / top.sum(axis=1, keepdims=True)).mean(axis=0)
    expected = expected_average_precision(len(targets), targets.sum(axis=0))
    return {
        "mean_average_precision": float(definitions.mean_defined(expected)),
        "top1_accuracy": float(credit @ targets.mean(axis=0)),
    }


def p_value(value: float, permuted: Array) -> float:
    """(1 + permutations that reach the value) / (1 + permutations), of samples [P] without NaN."""
    return float((1 + (permuted >= value - ROUNDING).sum()) / (1 + len(permuted)))


def beats_constant(metric: str, entry: Mapping[str, Any]) -> bool | None:
    """Whether a metric's entry of results.json shows that the network is better than a constant answer; None if undefined.

    Average precision and its mean by their permutation test; every other metric by an interval beyond the floor.
    """
    if metric in definitions.RANKED:
        return None if entry["p_value"] is None else entry["p_value"] <= LEVEL
    floor = entry["best_floor"] if "best_floor" in entry else entry["floor"]
    if entry["low"] is None or floor is None:
        return None
    return entry["high"] < floor if metric in definitions.LOWER_IS_BETTER else entry["low"] > floor
