"""Calibrated probabilities: the logit of every probability is divided by a temperature, fitted on the validation part.

Guo et al. 2017, "On Calibration of Modern Neural Networks", genre by genre. One temperature for all genres, and one of its own
for a genre with enough positives. A temperature changes no order within a genre, so that average precision and AUC stay as they
are; it does change which genre of a row is the highest, and what is at 0.5 or above.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.optimize
import scipy.special

from poster_jax.metrics import definitions, paired, scoring

MIN_POSITIVES = 20  # and as many negatives, for a temperature of a genre's own
# Below 0.5 two probabilities of float32 next to 1 would become one number of float64, and their order would be lost.
LOWEST, HIGHEST = 0.5, 20.0
# The logit of the float32 next to 1; probabilities of 0 and 1 stay what they are.
LARGEST_LOGIT = 16.7
# What `before and after` is told of.
TOLD = (
    "calibration_error",
    "top1_accuracy",
    *(name + suffix for suffix in ("", paired.TUNED) for name in scoring.THRESHOLDED),
    "mean_average_precision",
    "macro_auc",
)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Scores [N, K] in [0, 1] of a part with its labels int [N] or 0/1 [N, K] and the movie of each row, int [N]."""

    scores: npt.NDArray
    label: npt.NDArray
    group: npt.NDArray


def fit_temperature(scores: npt.NDArray, targets: npt.NDArray) -> float:
    """The temperature with the least log loss, in [LOWEST, HIGHEST], of any scores in [0, 1] with as many targets, bool.

    The loss is convex in 1 / temperature, so there is one minimum. 1.0 where all targets are equal.
    """
    if targets.all() or not targets.any():
        return 1.0
    logits = np.clip(scipy.special.logit(scores.astype(np.float64)), -LARGEST_LOGIT, LARGEST_LOGIT)
    signed = np.where(targets, -logits, logits).ravel()

    def loss(inverse: float) -> float:
        return float(np.logaddexp(0, inverse * signed).mean())

    found = scipy.optimize.minimize_scalar(loss, bounds=(1 / HIGHEST, 1 / LOWEST), method="bounded", options={"xatol": 1e-9})
    return float(np.clip(1 / found.x, LOWEST, HIGHEST))


def fit(scores: npt.NDArray, targets: npt.NDArray) -> tuple[float, npt.NDArray, npt.NDArray]:
    """(the temperature of all genres, that of each [K], whether it is the genre's own, bool [K]) of the validation part."""
    common = fit_temperature(scores, targets)
    positives = targets.sum(axis=0)
    own = (positives >= MIN_POSITIVES) & (len(targets) - positives >= MIN_POSITIVES)
    each = [fit_temperature(scores[:, k], targets[:, k]) if own[k] else common for k in range(targets.shape[1])]
    return common, np.array(each), own


def apply(scores: npt.NDArray, temperatures: npt.ArrayLike) -> npt.NDArray:
    """Calibrated probabilities, float64 [N, K] of scores [N, K] in [0, 1] and temperatures [K]; 0 and 1 stay.

    Scores of float32 keep their order within a genre, ties included.
    """
    return scipy.special.expit(scipy.special.logit(np.asarray(scores, np.float64)) / np.asarray(temperatures))


def of_results(results: Mapping[str, Any], genres: Sequence[str]) -> tuple[npt.NDArray | None, npt.NDArray]:
    """(temperatures float32 [K] or None, thresholds float64 [K]) of results.json; without any, probabilities are the scores."""
    if "calibration" in results:
        found = results["calibration"]
        temperatures = np.array([found["temperatures"][genre] for genre in genres], np.float32)
        return temperatures, np.array([found["thresholds"][genre] for genre in genres])
    per_genre = results["splits"]["validation"]["per_genre"]
    return None, np.array([per_genre[genre]["threshold@tuned"] for genre in genres])


def measure(parts: Mapping[str, Rows], genres: Sequence[str], *, num_samples: int, seed: int) -> dict[str, Any]:
    """What the temperatures of the validation part do to the test part, ready for JSON.

    {"temperature", "temperatures", "own": genres with one of their own, "thresholds": chosen on validation afterwards,
    "test": {metric: {"before", "after", "difference": {"value", "low", "high"}}}}; the difference has a paired 95 % interval.
    """
    validation, test = parts["validation"], parts["test"]
    common, temperatures, own = fit(validation.scores, definitions.make_targets(validation.label, len(genres)))
    after = {part: dataclasses.replace(rows, scores=apply(rows.scores, temperatures)) for part, rows in parts.items()}
    thresholds = {"before": scoring.choose_thresholds(validation.scores, validation.label)}
    thresholds["after"] = scoring.choose_thresholds(after["validation"].scores, validation.label)

    def candidate(name: str, rows: Rows) -> paired.Candidate:
        targets, scores = definitions.make_targets(test.label, len(genres)), definitions.check_scores(rows.scores)
        # Rows are their own movies here: both have the same, in the same order.
        one = paired.Scores(np.arange(len(scores)), test.group, targets, scores, thresholds[name])
        return paired.Candidate(name, tuple(genres), (one,))

    runs = [candidate("before", test), candidate("after", after["test"])]
    found = paired.compare(runs, num_samples=num_samples, seed=seed)["metrics"]
    return {
        "temperature": common,
        "temperatures": dict(zip(genres, temperatures.tolist(), strict=True)),
        "own": [genre for genre, has in zip(genres, own, strict=True) if has],
        "thresholds": dict(zip(genres, thresholds["after"].tolist(), strict=True)),
        "test": {name: _before_and_after(found[name]) for name in TOLD},
    }


def _before_and_after(entry: Mapping[str, Any]) -> dict[str, Any]:
    [difference] = entry["differences"]
    before, after = entry["values"]
    return {"before": before, "after": after, "difference": {key: difference[key] for key in ("value", "low", "high")}}
