"""Labels that the pictures contradict: every row is scored by a fit that has not seen it, then (row, label) pairs are ranked.

The idea is confident learning (Northcutt et al. 2021, arXiv:1911.00068), with a yes or no for each label. Every label has a
scale of its own, whose zero is what is usual: the mean score of the rows with the label, or of those without it. Ranked by the
scores alone all rows of rare labels come first, as these have low scores: of 5 % moved labels on 3 to 50 % of the rows that
order finds 9 in 100, this one 75 to 80 (`tests/metrics/test_suspects.py`).
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from poster_jax.metrics import baselines

Array = npt.NDArray

TINY = 1e-12  # no score that a fit gives is 0 or 1


def out_of_fold(features: Array, targets: Array, folds: Iterable[tuple[Array, Array]]) -> Array:
    """Scores float64 [N, K] by logistic regression, each row's from the fit of the fold that does not train on it.

    Args:
        features: float [N, D].
        targets: bool [N, K].
        folds: (rows to train on, rows to score) as int arrays; the second ones cover all rows once.
    """
    scores = np.full(targets.shape, np.nan)
    for train, held in folds:
        fitted = baselines.logistic_regression(
            features[train], targets[train].astype(np.float64), {"held": features[held]}, targets.shape[1]
        )
        scores[held] = fitted["held"]
    if np.isnan(scores).any():
        raise ValueError("the folds do not cover all rows")
    return scores


def usual(scores: Array, targets: Array) -> Array:
    """The mean score of the rows whose label is alike, float64 [N, K].

    scores float [N, K] in [0, 1], targets bool [N, K] with rows of both kinds for every label, or ValueError.
    """
    if not (targets.any(axis=0) & ~targets.all(axis=0)).all():
        raise ValueError("a label that all rows have, or none, cannot be contradicted")
    with_it = np.where(targets, scores, 0.0).sum(axis=0) / targets.sum(axis=0)
    without = np.where(targets, 0.0, scores).sum(axis=0) / (~targets).sum(axis=0)
    return np.where(targets, with_it[None], without[None])


def contradiction(scores: Array, targets: Array) -> Array:
    """How far each score contradicts its label, float64 [N, K]: 0 for a usual score, 1 where it says the opposite outright.

    Below 0 the score agrees with the label more than is usual. Arguments as of `usual`.
    """
    expected = usual(scores, targets)
    # The part of the way from the usual score to 0 where the label is there, and to 1 where it is not.
    return np.where(targets, expected - scores, scores - expected) / np.where(targets, expected, 1 - expected).clip(TINY)


def rank(scores: Array, targets: Array) -> Array:
    """All (row, label) pairs, int64 [N * K, 2], the most contradicted first; ties keep their order."""
    order = np.argsort(-contradiction(scores, targets), axis=None, kind="stable")
    return np.stack(np.unravel_index(order, targets.shape), axis=1)


def turn_round(targets: Array, share: float, seed: int) -> Array:
    """bool [N, K]: the targets after `share` of the rows of each label, at least one, have passed it on to rows without it."""
    rng = np.random.default_rng(seed)
    turned = targets.copy()
    for column in range(targets.shape[1]):
        has, lacks = np.flatnonzero(targets[:, column]), np.flatnonzero(~targets[:, column])
        count = min(max(1, round(share * len(has))), len(has), len(lacks))
        turned[rng.choice(has, count, replace=False), column] = False
        turned[rng.choice(lacks, count, replace=False), column] = True
    return turned


def share_found(scores: Array, targets: Array, share: float, num_draws: int, seed: int) -> tuple[float, float]:
    """(the share of labels set wrong that head the list, the same of a list at random), a mean over draws of `turn_round`.

    As many pairs are looked at as labels were set wrong. Labels are set wrong beside scores that are there already: a label has
    no part in the score of its own row, and fits that have seen the wrong ones find at most 0.04 less (on drawn features).
    What is wrong in `targets` already counts as not found, so the share is a little low.
    """
    found = []
    for draw in range(num_draws):
        turned = turn_round(targets, share, seed + draw)
        wrong = turned != targets
        found.append(precision(rank(scores, turned)[: int(wrong.sum())], turned, wrong))
    ours, chance = np.mean(found, axis=0).tolist()
    return ours, chance


def precision(pairs: Array, targets: Array, wrong: Array) -> tuple[float, float]:
    """(the share of the pairs [P, 2] that are wrong, the same of as many pairs of each label and kind drawn at random).

    targets and wrong bool [N, K]. A label that is there may be wrong far more often than one that is not there, so a list of
    the former would seem good without looking at a picture.
    """
    rows, columns = pairs.T
    rates = np.where(targets, (wrong & targets).sum(axis=0) / targets.sum(axis=0).clip(1), 0.0)
    rates += np.where(targets, 0.0, (wrong & ~targets).sum(axis=0) / (~targets).sum(axis=0).clip(1))
    return float(wrong[rows, columns].mean()), float(rates[rows, columns].mean())
