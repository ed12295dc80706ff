"""Scores and labels -> every metric with its floors, its ceiling and its interval, as one JSON-ready dict.

The definitions are in `definitions`, the best constant answers and the ceilings in `floors`, permutations of the labels in
`chance`, resampling in `bootstrap`. There is no bare "accuracy": with one label in six genres, answering "no" to everything has
a binary accuracy of 0.83.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from poster_jax.metrics import bootstrap, chance, definitions, floors

HEADLINES = (
    "binary_accuracy",
    "top1_accuracy",
    "exact_match",
    "macro_f1",
    "micro_f1",
    "mean_average_precision",
    "macro_auc",
    "calibration_error",
)
THRESHOLDED = ("binary_accuracy", "exact_match", "macro_f1", "micro_f1")
UNTUNED_THRESHOLD = 0.5
CONSTANT = 1e-6  # scores that differ by less are the same but for rounding


def headline_names(suffixes: Sequence[str]) -> list[str]:
    """The headline metrics in the order of tables; those with a threshold appear once per suffix."""
    return [name + suffix for name in HEADLINES for suffix in (suffixes if name in THRESHOLDED else ("",))]


def choose_thresholds(scores: npt.ArrayLike, labels: npt.ArrayLike) -> npt.NDArray:
    """The threshold [K], float64, that maximises each genre's F1 when a score at or above it is a yes.

    scores [N, K] in [0, 1], labels int [N] or 0/1 [N, K]: those of the validation split. Candidates are the
    scores themselves. Of thresholds with equal F1 the highest is used (fewest yes answers); a genre without
    positives keeps 0.5.
    """
    scores = definitions.check_scores(scores)
    targets = definitions.make_targets(labels, scores.shape[1])
    _check_rows(scores, targets)
    thresholds = np.full(scores.shape[1], UNTUNED_THRESHOLD)
    for k in range(scores.shape[1]):
        if not targets[:, k].any():
            continue
        order, last = definitions.find_steps(scores[:, k])
        hits = np.cumsum(targets[order, k])
        f1 = 2 * hits[last] / (last + 1 + hits[-1])
        thresholds[k] = scores[order[last[f1.argmax()]], k]
    return thresholds


def headline(scores: npt.ArrayLike, labels: npt.ArrayLike) -> dict[str, float | None]:
    """Every headline metric at threshold 0.5, without intervals, for use during training.

    scores [N, K] in [0, 1], labels int [N] or 0/1 [N, K]; None if a metric is undefined.
    """
    scores = definitions.check_scores(scores)
    targets = definitions.make_targets(labels, scores.shape[1])
    _check_rows(scores, targets)
    measure = definitions.make_measure(scores, targets, {"": scores >= UNTUNED_THRESHOLD})
    values = definitions.plain(measure, len(scores))
    return {name: _number(values[name]) for name in HEADLINES}


def explain_labels(labels: npt.ArrayLike, num_genres: int) -> dict[str, float]:
    """Genres per row, k, and the binary accuracy that a model gets by answering no to everything: 1 - k / K."""
    targets = definitions.make_targets(labels, num_genres)
    labels_per_row = float(targets.sum(axis=1).mean())
    return {"labels_per_row": labels_per_row, "all_zeros_binary_accuracy": 1 - labels_per_row / num_genres}


def confusion(scores: npt.ArrayLike, labels: npt.ArrayLike) -> list:
    """Confusion matrices of counts.

    Single label: [K][K], the row is the true genre, the column the top-scored one (the first of tied ones). Multi-hot: per
    genre [[true no, false yes], [false no, true yes]] at the threshold 0.5.
    """
    scores = definitions.check_scores(scores)
    num_genres = scores.shape[1]
    targets = definitions.make_targets(labels, num_genres)
    if np.ndim(labels) == 1:
        cells = targets.argmax(axis=1) * num_genres + scores.argmax(axis=1)
        return np.bincount(cells, minlength=num_genres**2).reshape(num_genres, num_genres).tolist()
    cells = 2 * targets + (scores >= UNTUNED_THRESHOLD)
    return [np.bincount(cells[:, k], minlength=4).reshape(2, 2).tolist() for k in range(num_genres)]


def score(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    groups: npt.ArrayLike,
    *,
    genres: Sequence[str],
    thresholds: Mapping[str, npt.ArrayLike],
    num_samples: int,
    seed: int,
) -> dict:
    """Every metric of one split, as plain floats; undefined values are None.

    Args:
        scores: [N, K] in [0, 1].
        labels: int [N] or 0/1 [N, K].
        groups: int [N], the movie of each row.
        thresholds: {key: [K]} from `choose_thresholds` on validation; their metrics are named name@key, beside those at 0.5.
        num_samples: resamples of the movies for the 95 % intervals.

    A metric is {"value", "low", "high", "all_zeros", "best_floor", "ceiling"}. Average precision, its mean and top-1 also have
    "chance", their mean over permutations of the labels, and the first two "p_value", as `chance` says. `num_constant` counts
    the genres whose score is the same for every row.

    Equal inputs give equal bits. Raises ValueError for NaN scores and for shapes that do not match.
    """
    scores = definitions.check_scores(scores)
    num_genres = len(genres)
    targets = definitions.make_targets(labels, num_genres)
    groups = np.asarray(groups)
    _check_rows(scores, targets, groups)
    limits = _limits(thresholds, num_genres)
    measure = definitions.make_measure(scores, targets, {suffix: scores >= limit for suffix, limit in limits.items()})
    values = definitions.plain(measure, len(scores))
    (samples,) = bootstrap.resample([measure], groups, num_samples=num_samples, seed=seed)
    ends = bootstrap.intervals(values, samples, targets, groups)
    permuted = chance.permute(scores, targets, groups, num_permutations=chance.NUM_PERMUTATIONS, seed=chance.SEED)
    return {
        "num_rows": len(scores),
        "num_movies": len(np.unique(groups)),
        "labels_per_row": float(targets.sum(axis=1).mean()),
        "num_constant": int((np.ptp(scores, axis=0) <= CONSTANT).sum()),
        "metrics": _headlines(values, ends, permuted, _references(targets, groups, list(limits))),
        "per_genre": _per_genre(values, ends, permuted, targets, genres=genres, limits=limits),
        "confusion": confusion(scores, labels),
    }


def _check_rows(scores: npt.NDArray, *others: npt.NDArray) -> None:
    for other in others:
        if len(other) != len(scores):
            raise ValueError(f"{len(scores)} rows of scores beside {len(other)} rows of labels or groups")


def _limits(thresholds: Mapping[str, npt.ArrayLike], num_genres: int) -> dict[str, npt.NDArray]:
    limits = {"": np.full(num_genres, UNTUNED_THRESHOLD)}
    for key, chosen in thresholds.items():
        limits[f"@{key}"] = np.asarray(chosen, np.float64)
        if limits[f"@{key}"].shape != (num_genres,):
            raise ValueError(f"thresholds {key!r} have shape {limits[f'@{key}'].shape}, expected [{num_genres}]")
    return limits


def _number(value: float | npt.NDArray) -> float | None:
    return None if np.isnan(value) else float(value)


def _with_interval(value: float | npt.NDArray, ends: npt.NDArray) -> dict[str, float | None]:
    return {"value": _number(value), "low": _number(ends[0]), "high": _number(ends[1])}


def _against_chance(value: float | npt.NDArray, permuted: npt.NDArray) -> dict[str, float | None]:
    if np.isnan(value):
        return {"chance": None, "p_value": None}
    return {"chance": float(permuted.mean()), "p_value": chance.p_value(float(value), permuted)}


def _references(targets: npt.NDArray, groups: npt.NDArray, suffixes: list[str]) -> dict[str, dict[str, float | None]]:
    """{metric: {"all_zeros", "best_floor", "ceiling"}} of every headline metric."""
    zeros, best = floors.all_zeros(targets, suffixes), floors.best_constants(targets, suffixes)
    ceilings = floors.ceilings(targets, groups, suffixes)
    return {
        name: {"all_zeros": _number(zeros[name]), "best_floor": _number(best[name]), "ceiling": _number(ceilings[name])}
        for name in headline_names(suffixes)
    }


def _headlines(values: dict, ends: dict, permuted: dict, references: dict[str, dict]) -> dict[str, dict]:
    headlines = {}
    for name, reference in references.items():
        entry = _with_interval(values[name], ends[name])
        if name == "calibration_error":
            # Bins of a resample are noisier than those of the sample: its error is larger, and percentiles miss the value.
            entry |= {"low": None, "high": None}
        entry |= reference
        if name in definitions.RANKED:
            entry |= _against_chance(values[name], permuted[name])
        elif name in permuted:
            entry["chance"] = float(permuted[name].mean())
        metric, _, key = name.partition("@")
        if metric in definitions.MACRO_METRICS:
            averaged = values[definitions.MACRO_METRICS[metric] + ("@" + key if key else "")]
            entry["num_skipped"] = int(np.isnan(averaged).sum())
        headlines[name] = entry
    return headlines


def _per_genre(
    values: dict,
    ends: dict,
    permuted: dict,
    targets: npt.NDArray,
    *,
    genres: Sequence[str],
    limits: dict[str, npt.NDArray],
) -> dict[str, dict]:
    """Metrics per genre; floors are prevalence p for average precision, 0.5 for AUC, 2p / (1 + p), a constant yes, for F1."""
    prevalence = targets.mean(axis=0)
    floor = {"average_precision": prevalence, "auc": np.full(len(genres), 0.5)}
    floor |= {"f1" + suffix: 2 * prevalence / (1 + prevalence) for suffix in limits}
    table = {}
    for k, genre in enumerate(genres):
        entry: dict = {"count": int(targets[:, k].sum()), "prevalence": float(prevalence[k])}
        for name, floor_values in floor.items():
            entry[name] = _with_interval(values[name][k], ends[name][:, k])
            entry[name]["floor"] = None if entry[name]["value"] is None else float(floor_values[k])
            if name in definitions.RANKED:
                entry[name] |= _against_chance(values[name][k], permuted[name][:, k])
        for suffix, limit in limits.items():
            entry["precision" + suffix] = _number(values["precision" + suffix][k])
            entry["recall" + suffix] = _number(values["recall" + suffix][k])
            entry["threshold" + suffix] = float(limit[k])
        table[genre] = entry
    return table
