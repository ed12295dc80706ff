"""The definition of every metric, evaluated for many weightings of the same rows at once.

Weights are a matrix [S, N]: ones give the plain value, and the number of times that each row was drawn gives a bootstrap
resample. The scores are sorted once per genre, not once per resample. The tests compare with scikit-learn, whose definitions
are the same; it would take seconds instead of milliseconds.
"""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

Array = npt.NDArray
Measure = Callable[[Array], dict[str, Array]]

NUM_CALIBRATION_BINS = 15  # Guo et al. 2017, "On Calibration of Modern Neural Networks"
LOWER_IS_BETTER = ("calibration_error",)
MEAN_AP = "mean_average_precision"
RANKED = ("average_precision", MEAN_AP)  # whose resamples lean upwards, and whose verdict is a permutation test
MACRO_METRICS = {"macro_f1": "f1", "mean_average_precision": "average_precision", "macro_auc": "auc"}


def make_targets(labels: npt.ArrayLike, num_genres: int) -> Array:
    """Labels as bool [N, K]: int [N] becomes one-hot, [N, K] of zeros and ones is checked.

    Raises ValueError for a label outside [0, K), a cell that is neither 0 nor 1, or another shape.
    """
    labels = np.asarray(labels)
    if labels.ndim == 1:
        if not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"labels of shape [N] must be integers, these are {labels.dtype}")
        if labels.size and (labels.min() < 0 or labels.max() >= num_genres):
            raise ValueError(f"labels span [{labels.min()}, {labels.max()}], outside [0, {num_genres})")
        return labels[:, None] == np.arange(num_genres)
    if labels.ndim != 2 or labels.shape[1] != num_genres:
        raise ValueError(f"labels have shape {labels.shape}, expected [N] or [N, {num_genres}]")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("multi-hot labels must be 0 or 1")
    return labels == 1


def check_scores(scores: npt.ArrayLike) -> Array:
    """Scores as float64 [N, K]; raises ValueError with the number of scores outside [0, 1]."""
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 2 or not scores.size:
        raise ValueError(f"scores have shape {scores.shape}, expected [N, K] with at least one row and one genre")
    num_bad = int((~np.isfinite(scores)).sum())
    if num_bad:
        raise ValueError(f"{num_bad} of {scores.size} scores are NaN or infinite")
    num_outside = int(((scores < 0) | (scores > 1)).sum())
    if num_outside:
        raise ValueError(f"{num_outside} of {scores.size} scores lie outside [0, 1]")
    return scores


def top1_credit(scores: Array, targets: Array) -> Array:
    """Share of the top-scored genres of each row that are right, float64 [N].

    Without ties it is 0 or 1. With ties it is the chance that a random pick among the tied genres is right:
    taking the first index would reward a constant predictor for the order in which the genres are listed.
    """
    top = scores == scores.max(axis=1, keepdims=True)
    return (top & targets).sum(axis=1) / top.sum(axis=1)


def ratio(numerator: Array, denominator: Array) -> Array:
    """numerator / denominator in float64, NaN where the denominator is zero."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    quotient = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=quotient, where=denominator != 0)


def mean_defined(values: Array) -> Array:
    """Mean over the genres (last axis) whose value is not NaN; NaN if all are."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1).astype(np.float64))


def find_steps(scores: Array) -> tuple[Array, Array]:
    """(order, last): rows of scores [N] from the highest down, and the places in it where each of the distinct scores ends."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    return order, np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))


def make_ranking(scores: Array, targets: Array) -> Callable[[Array], tuple[Array, Array, Array]]:
    """A function of weights [S, N] giving average precision, AUC and calibration error [S] of one genre.

    scores [N] in [0, 1], targets bool [N]. Rows of equal score are one step of the curve, as in
    sklearn.metrics.average_precision_score and roc_auc_score. Average precision is NaN without positives, AUC also without
    negatives. Only steps with a positive contribute to either sum, so only those are kept.
    """
    order, last = find_steps(scores)
    ranked, hits = scores[order], targets[order]
    first = np.append(0, last[:-1] + 1)
    num_found = np.cumsum(hits)[last]
    kept = np.diff(num_found, prepend=0) > 0
    first, last, found_at = first[kept], last[kept], num_found[kept] - 1
    hit_rows = order[hits]
    gaps = hits - ranked
    bins = np.minimum((ranked * NUM_CALIBRATION_BINS).astype(np.int64), NUM_CALIBRATION_BINS - 1)
    bin_starts = np.flatnonzero(np.append(True, bins[1:] != bins[:-1]))

    def ranking(weights: Array) -> tuple[Array, Array, Array]:
        sorted_weights = weights[:, order]
        above = np.cumsum(sorted_weights, axis=1)
        total = above[:, -1]
        calibration = np.abs(np.add.reduceat(sorted_weights * gaps, bin_starts, axis=1)).sum(axis=1) / total
        if not hit_rows.size:
            undefined = np.full(len(weights), np.nan)
            return undefined, undefined, calibration
        found = np.cumsum(weights[:, hit_rows], axis=1)[:, found_at]
        positives, negatives = found[:, -1], total - found[:, -1]
        gained = np.diff(found, axis=1, prepend=0.0)
        through = above[:, last]
        before = np.where(first > 0, above[:, first - 1], 0.0)
        precision = found / np.where(through > 0, through, 1.0)  # nothing drawn so far, so nothing gained
        # A positive beats the negatives below its step, and half of those within it.
        beaten = negatives[:, None] - ((through - found) + (before - (found - gained))) / 2
        average_precision = ratio((gained * precision).sum(axis=1), positives)
        return average_precision, ratio((gained * beaten).sum(axis=1), positives * negatives), calibration

    return ranking


def precision_recall(scores: Array, targets: Array) -> tuple[Array, Array]:
    """(precision, recall), float64 [T] each, of a yes from every distinct score on, the highest first.

    scores [N], targets bool [N] with at least one positive. As sklearn.metrics.precision_recall_curve, whose order is the
    other one, and which ends with a precision of 1 at no recall.
    """
    order, last = find_steps(scores)
    found = np.cumsum(targets[order])[last]
    return found / (last + 1), found / found[-1]


def make_measure(scores: Array, targets: Array, decisions: Mapping[str, Array]) -> Measure:
    """A function of weights [S, N] giving every metric: [S] for a headline metric, [S, K] for one per genre.

    scores float64 [N, K], targets bool [N, K]. decisions maps a suffix ("" or "@tuned") to the yes/no answers, bool [N, K]; the
    names of metrics that depend on them end with that suffix. F1, average precision and AUC of a genre without positives are
    NaN.
    """
    num_genres = scores.shape[1]
    rankings = [make_ranking(scores[:, k], targets[:, k]) for k in range(num_genres)]
    credit = top1_credit(scores, targets)
    truth = targets.astype(np.float64)
    answers = {suffix: decided.astype(np.float64) for suffix, decided in decisions.items()}
    hits = {suffix: (decided & targets).astype(np.float64) for suffix, decided in decisions.items()}
    num_right = {suffix: (decided == targets).sum(axis=1).astype(np.float64) for suffix, decided in decisions.items()}

    def measure(weights: Array) -> dict[str, Array]:
        total = weights.sum(axis=1)
        positives = weights @ truth
        values = {"top1_accuracy": weights @ credit / total}
        for suffix in decisions:
            answered, hit = weights @ answers[suffix], weights @ hits[suffix]
            f1 = np.where(positives > 0, ratio(2 * hit, answered + positives), np.nan)
            values["binary_accuracy" + suffix] = weights @ num_right[suffix] / (total * num_genres)
            values["exact_match" + suffix] = weights @ (num_right[suffix] == num_genres).astype(np.float64) / total
            values["macro_f1" + suffix] = mean_defined(f1)
            values["micro_f1" + suffix] = ratio(2 * hit.sum(axis=1), (answered + positives).sum(axis=1))
            values["f1" + suffix] = f1
            values["precision" + suffix] = ratio(hit, answered)
            values["recall" + suffix] = ratio(hit, positives)
        ranked = [ranking(weights) for ranking in rankings]
        average_precision, auc, calibration = (np.stack(column, axis=1) for column in zip(*ranked, strict=True))
        values |= {"average_precision": average_precision, "auc": auc}
        values["mean_average_precision"] = mean_defined(average_precision)
        values["macro_auc"] = mean_defined(auc)
        values["calibration_error"] = calibration.mean(axis=1)
        return values

    return measure


def plain(measure: Measure, num_rows: int) -> dict[str, Array]:
    """The metrics with every row counted once: a number for each headline metric, [K] for those per genre."""
    return {name: value[0] for name, value in measure(np.ones((1, num_rows))).items()}
