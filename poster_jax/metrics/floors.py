"""References for a score: constant predictors as floors, and the best that the labels allow as ceiling.

A constant predictor ignores the poster. Its answers come from the training labels, its values from the evaluated split.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from poster_jax.metrics import definitions

Array = npt.NDArray


def most_common_set(targets: Array) -> Array:
    """The most common row of bool [N, K]; of equally common ones, the one with the first-listed genre."""
    rows, counts = np.unique(~targets, axis=0, return_counts=True)
    return ~rows[counts.argmax()]


def constant_scores(train_targets: Array) -> dict[str, Array]:
    """The score [K] that each constant predictor gives to every row, from the training labels, bool [M, K].

    `majority` is the most common label (single label) or set of labels (multi-hot); `priors` is the share of training rows with
    each genre.
    """
    num_genres = train_targets.shape[1]
    return {
        "all_zeros": np.zeros(num_genres),
        "all_ones": np.ones(num_genres),
        "majority": most_common_set(train_targets).astype(np.float64),
        "priors": train_targets.mean(axis=0),
    }


def constant_values(targets: Array, train_targets: Array, suffixes: Sequence[str]) -> dict[str, dict[str, float]]:
    """Every headline metric of every constant predictor: {predictor: {metric: value}}, NaN where undefined.

    targets bool [N, K] are those of the split, train_targets bool [M, K] those of the training split. A
    constant ranks nothing: average precision is the prevalence and AUC 0.5, and top-1 of a row whose top
    scores are tied is a random pick among them (all_zeros: the mean prevalence). At 0.5 (suffix "") a score
    of at least 0.5 is a yes. At thresholds chosen for F1 a constant above zero is a yes for every row,
    because a constant no has F1 zero.
    """
    values = {}
    for predictor, constant in constant_scores(train_targets).items():
        scores = np.broadcast_to(constant, targets.shape)
        decisions = {suffix: scores > 0 if suffix else scores >= 0.5 for suffix in suffixes}
        plain = definitions.plain(definitions.make_measure(scores, targets, decisions), len(targets))
        values[predictor] = {name: float(value) for name, value in plain.items() if np.ndim(value) == 0}
    return values


def best_f1(positives: Array, sizes: Array) -> float:
    """The largest F1 of yes/no answers given to whole cells with `positives` among `sizes` rows, or NaN.

    The best answer is a yes for the cells with the largest shares of positives, so trying every prefix is exact (Lipton et al.
    2014, "Optimal Thresholding of Classifiers to Maximize F1 Measure").
    """
    if not positives.sum():
        return float("nan")
    order = np.argsort(-positives / sizes, kind="stable")
    found, answered = np.cumsum(positives[order]), np.cumsum(sizes[order])
    return float((2 * found / (answered + positives.sum())).max())


def best_ranking(positives: Array, sizes: Array, row_movie: Array, targets: Array) -> tuple[float, float]:
    """Average precision and AUC of one genre with movies ranked by share of positives, then by fewer rows.

    It is the best ranking for AUC, and for average precision wherever a movie carries a genre in at most
    one of its rows (exploded labels); with repeated labels average precision can be slightly higher.
    """
    order = np.lexsort((sizes, -positives / sizes))
    rank = np.empty(len(sizes))
    rank[order] = np.arange(len(sizes))
    scores = 1 - rank / len(sizes)
    average_precision, auc, _ = definitions.make_ranking(scores[row_movie], targets)(np.ones((1, len(targets))))
    return float(average_precision[0]), float(auc[0])


def ceilings(targets: Array, groups: Array, suffixes: Sequence[str]) -> dict[str, float]:
    """The best headline metrics when all rows of a movie must share one row of scores; NaN where undefined.

    targets bool [N, K]; groups int [N], the movie of each row. Rows of one movie have the same poster, so if their labels
    differ (exploded encoding) no model can be right on all of them. If they agree, ceilings are 1.0 (0.0 for
    calibration_error).
    """
    _, row_movie, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    num_rows, num_genres = targets.shape
    positives = np.zeros((len(sizes), num_genres))
    np.add.at(positives, row_movie, targets)
    per_genre = [best_ranking(positives[:, k], sizes, row_movie, targets[:, k]) for k in range(num_genres)]
    labelled, labelled_counts = np.unique(np.column_stack([row_movie, targets]), axis=0, return_counts=True)
    most_alike = np.zeros(len(sizes), np.int64)
    np.maximum.at(most_alike, labelled[:, 0], labelled_counts)
    by_threshold = {
        "binary_accuracy": np.maximum(positives, sizes[:, None] - positives).sum() / (num_rows * num_genres),
        "exact_match": most_alike.sum() / num_rows,
        "macro_f1": definitions.mean_defined(np.array([best_f1(positives[:, k], sizes) for k in range(num_genres)])),
        "micro_f1": best_f1(positives.ravel(), np.repeat(sizes, num_genres)),
    }
    best = {
        "top1_accuracy": positives.max(axis=1).sum() / num_rows,
        "mean_average_precision": definitions.mean_defined(np.array([ap for ap, _ in per_genre])),
        "macro_auc": definitions.mean_defined(np.array([auc for _, auc in per_genre])),
        "calibration_error": 0.0,  # reached by scoring each movie with its share of positives
    }
    best |= {name + suffix: value for suffix in suffixes for name, value in by_threshold.items()}
    return {name: float(value) for name, value in best.items()}
