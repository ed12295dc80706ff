"""Claims, estimates, and the rule that gives a verdict from a claim's relation and an estimate's value, interval and floor.

The rule by relation. `About(x)` holds if the 95 % interval contains x; if it also contains the floor, the verdict is OPEN,
because a network that learnt nothing would have scored the same. `Above(x)` and `Below(x)` hold if the whole interval is on
that side, fail if it is on the other side, and are OPEN otherwise. `AboveChance()` holds if the permutation test of
`metrics/chance` tells the value from a constant answer, and is OPEN otherwise. `Within(m)` holds if the interval is inside -m
.. m, fails if it is completely outside, and is OPEN otherwise. `Exactly(x)` compares numbers without noise.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.stats

from poster_jax.metrics import chance

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"
LEVEL = 0.95
# Two points of accuracy; a smaller difference counts as no difference.
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
class AboveChance:
    """The value, of a ranking, is better than that of a constant answer."""


@dataclasses.dataclass(frozen=True)
class Within:
    """The value, a difference, is at most `margin` away from 0."""

    margin: float


@dataclasses.dataclass(frozen=True)
class Exactly:
    """The value is a count or an identity, which has no interval."""

    target: float


Relation = About | Above | AboveChance | Below | Within | Exactly


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A measured value with its context.

    Attributes:
        value: None if it is undefined or was not measured.
        low, high: the 95 % interval, of width zero for a count; None without an interval.
        over: the units of the interval ("movies", "3 seeds", ...); empty without an interval.
        floor: the best constant answer on the same rows; None for a difference or a count.
        ceiling: the highest value that the labels allow; None for a difference or a count.
        chance, p_value: the mean over permutations of the labels and the share that reaches the value; None where not permuted.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    over: str = ""
    floor: float | None = None
    ceiling: float | None = None
    chance: float | None = None
    p_value: float | None = None


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sentence of the paper.

    Attributes:
        text: the claim in words.
        where: the section, figure or table.
        measured: the definition of our value in words.
        relation: the condition on the value for the claim to hold.
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
    if isinstance(relation, AboveChance):
        return HOLDS if estimate.p_value is not None and estimate.p_value <= chance.LEVEL else OPEN
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
    """The mean of independent repeats (seeds, splits) with Student's interval; without one for fewer than three repeats."""
    if not values or any(value is None for value in values):
        return Estimate(None)
    given = np.array(values, np.float64)
    mean = float(given.mean())
    if len(given) < 3:
        return Estimate(mean)
    half = float(scipy.stats.t.ppf((1 + LEVEL) / 2, len(given) - 1) * given.std(ddof=1) / np.sqrt(len(given)))
    return Estimate(mean, mean - half, mean + half, f"{len(given)} {over}")


def as_row(claim: Claim, estimate: Estimate) -> dict[str, Any]:
    """A claim with its estimate and verdict, ready for JSON."""
    relation = claim.relation
    required = {"relation": type(relation).__name__.lower(), **dataclasses.asdict(relation)}
    return {
        "claim": claim.text,
        "where": claim.where,
        "measured": claim.measured,
        "asked": required,
        **dataclasses.asdict(estimate),
        "verdict": verdict(relation, estimate),
    }
