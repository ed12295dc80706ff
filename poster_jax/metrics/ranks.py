"""Scores that are no probabilities, as logits or distances: what their order alone says."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

# Headline metrics that depend on the order of scores alone.
BY_ORDER = ("top1_accuracy", "mean_average_precision", "macro_auc")
OF_GENRE = ("average_precision", "auc")


def to_unit(scores: npt.NDArray) -> npt.NDArray:
    """Scores [N, K] as float64 in [0, 1] of the same order, ties included, within genres and across them."""
    values, place = np.unique(scores, return_inverse=True)
    return place.reshape(scores.shape) / max(1, len(values) - 1)


def without_values(split: Mapping[str, Any]) -> dict[str, Any]:
    """`scoring.score` of such scores with None for all that would need probabilities: thresholds, answers, calibration."""
    found = copy.deepcopy(dict(split))
    for name, entry in found["metrics"].items():
        if name not in BY_ORDER:
            found["metrics"][name] = dict.fromkeys(entry)
    for entry in found["per_genre"].values():
        for name in entry:
            if name not in ("count", "prevalence", *OF_GENRE):
                entry[name] = dict.fromkeys(entry[name]) if isinstance(entry[name], dict) else None
    found["confusion"] = None
    return found
