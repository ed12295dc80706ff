"""A claim, what was measured for it, and the verdict that one stated rule draws from value, interval and floor.

The rule: a claim names a relation. `About(x)` holds when the 95 % interval covers x, and cannot be told when it covers the
floor as well, because a network that learnt nothing would have scored the same. `Above(x)` and `Below(x)` hold when the whole
interval lies there, do not hold when it lies wholly on the other side, and cannot be told otherwise. `Within(m)` holds when
the interval lies within -m .. m, and does not when it lies wholly outside. `Exactly(x)` has no noise.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.stats

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"
LEVEL = 0.95
# Two points of accuracy: a smaller difference is called none.
MARGIN = 0.02


@dataclasses.dataclass(frozen=True)
class About:
    """The value is `target`."""

    target: float


@dataclasses.dataclass(frozen=True)
class Above:
    """The value is above `bound`."""

    bound: float


@dataclasses.dataclass(frozen=True)
class Below:
    """The value is below `bound`."""

    bound: float


@dataclasses.dataclass(frozen=True)
class Within:
    """The value, a difference, is at most `margin` away from 0."""

    margin: float


@dataclasses.dataclass(frozen=True)
class Exactly:
    """The value is a count or an identity, which has no interval."""

    target: float


Relation = About | Above | Below | Within | Exactly


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What was measured.

    Attributes:
        value: None where it is undefined or was not measured.
        low, high: the 95 % interval, of no width for a count; None where there is none.
        over: what the interval is over ("movies", "3 seeds", ...); empty without one.
        floor: the best constant answer on the same rows; None for a difference or a count.
        ceiling: the most that the labels allow; None for a difference or a count.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    over: str = ""
    floor: float | None = None
    ceiling: float | None = None


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sentence of the paper.

    Attributes:
        text: what it says.
        where: the section, figure or table.
        measured: what our value is, in words.
        relation: what the value must be for the claim to hold.
    """

    text: str
    where: str
    measured: str
    relation: Relation


def verdict(relation: Relation, estimate: Estimate) -> str:
    """HOLDS, FAILS or OPEN by the rule of this module."""
    if estimate.value is None:
        return OPEN
    if isinstance(relation, Exactly):
        return HOLDS if estimate.value == relation.target else FAILS
    if estimate.low is None or estimate.high is None:
        return OPEN
    low, high = estimate.low, estimate.high
    match relation:
        case About(target):
            if not low <= target <= high:
                return FAILS
            return OPEN if estimate.floor is not None and low <= estimate.floor <= high else HOLDS
        case Above(bound):
            return HOLDS if low > bound else FAILS if high <= bound else OPEN
        case Below(bound):
            return HOLDS if high < bound else FAILS if low >= bound else OPEN
        case Within(margin):
            return HOLDS if -margin <= low and high <= margin else FAILS if low > margin or high < -margin else OPEN


def over_repeats(values: Sequence[float | None], over: str) -> Estimate:
    """The mean of independent repeats (seeds, splits) with Student's interval; no interval for fewer than three."""
    if not values or any(value is None for value in values):
        return Estimate(None)
    given = np.array(values, np.float64)
    mean = float(given.mean())
    if len(given) < 3:
        return Estimate(mean)
    half = float(scipy.stats.t.ppf((1 + LEVEL) / 2, len(given) - 1) * given.std(ddof=1) / np.sqrt(len(given)))
    return Estimate(mean, mean - half, mean + half, f"{len(given)} {over}")


def as_row(claim: Claim, estimate: Estimate) -> dict[str, Any]:
    """A row of the ledger, ready for JSON."""
    relation = claim.relation
    asked = {"relation": type(relation).__name__.lower(), **dataclasses.asdict(relation)}
    return {
        "claim": claim.text,
        "where": claim.where,
        "measured": claim.measured,
        "asked": asked,
        **dataclasses.asdict(estimate),
        "verdict": verdict(relation, estimate),
    }
