"""References for a score: the best constant answer as floor, and the best that the labels allow as ceiling.

A constant answer ignores the poster: it gives the same yes or no for each genre, or the same scores, to every row. The floor of
a metric is the best of all of them on the rows that are measured, each metric by itself.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from poster_jax.metrics import definitions

Array = npt.NDArray


def best_constants(targets: Array, suffixes: Sequence[str]) -> dict[str, float]:
    """The floor of every headline metric: its best value over all constant answers to these rows, bool [N, K]; or NaN.

    Closed forms of the best of all 2^K sets of yes answers: cell by cell for binary accuracy, the most frequent set for exact
    match, a yes to every genre for macro F1, the best prefix of the genres by prevalence for micro F1. Equal scores rank
    nothing: average precision is the prevalence, AUC 0.5, top-1 the most frequent genre. Scores that equal the prevalences are
    calibrated. Metrics of yes/no answers have one floor for every suffix, as the answers are free.
    """
    prevalence = targets.mean(axis=0)
    defined = prevalence > 0
    _, set_counts = np.unique(targets, axis=0, return_counts=True)
    by_threshold = {
        "binary_accuracy": np.maximum(prevalence, 1 - prevalence).mean(),
        "exact_match": set_counts.max() / len(targets),
        "macro_f1": definitions.mean_defined(np.where(defined, 2 * prevalence / (1 + prevalence), np.nan)),
        "micro_f1": best_f1(targets.sum(axis=0).astype(np.float64), np.full(targets.shape[1], float(len(targets)))),
    }
    best = {name + suffix: float(value) for suffix in suffixes for name, value in by_threshold.items()}
    return best | {
        "top1_accuracy": float(prevalence.max()),
        "mean_average_precision": float(definitions.mean_defined(np.where(defined, prevalence, np.nan))),
        "macro_auc": 0.5 if (defined & (prevalence < 1)).any() else float("nan"),
        "calibration_error": 0.0,
    }


def all_zeros(targets: Array, suffixes: Sequence[str]) -> dict[str, float]:
    """Every headline metric of the answer "no" to every genre, on rows bool [N, K]; NaN where undefined.

    At 0.5 and at chosen thresholds alike every answer is a no. Top-1 of a row whose scores are tied is a random pick.
    """
    scores = np.zeros(targets.shape)
    decisions = dict.fromkeys(suffixes, np.zeros(targets.shape, bool))
    plain = definitions.plain(definitions.make_measure(scores, targets, decisions), len(targets))
    return {name: float(value) for name, value in plain.items() if np.ndim(value) == 0}


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
