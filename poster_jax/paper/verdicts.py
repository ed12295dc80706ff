"""Claims, estimates, and the rule that gives a verdict from a claim's relation and an estimate's value, interval and floor.

Every relation has one rule, which `rule` puts in a sentence and `verdict` applies. Two rules are for all: what was not measured
or has no interval cannot be told, and neither can a difference of exactly zero over seeds, whose interval has no width, unless
both sides are shown to be one function: two ways to say the same thing do not differ, two networks that answer alike might.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.special

from poster_jax.metrics import chance

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"
SHORT = "not run at this length"
LEVEL = 0.95
# Two points of accuracy; a smaller difference counts as no difference.
MARGIN = 0.02
# Ten points of accuracy: the least that is called great, or tremendous.
GREATLY = 0.10
# "~30 %" is what rounds to it in tens.
ROUNDED = 0.05


@dataclasses.dataclass(frozen=True)
class About:
    """The value is `target`, as precisely as it is measured."""

    target: float


@dataclasses.dataclass(frozen=True)
class Near:
    """The value is at most `margin` away from `target`, which was given as a round number."""

    target: float
    margin: float


@dataclasses.dataclass(frozen=True)
class AtLeast:
    """The value is `bound` or more."""

    bound: float


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


@dataclasses.dataclass(frozen=True)
class Sufficient:
    """A count of `bound` or more is enough for the claim, and fewer say nothing, for the reason `otherwise`."""

    bound: float
    otherwise: str


@dataclasses.dataclass(frozen=True)
class Counted:
    """A count that is `target`; another one says nothing, for the reason `otherwise`."""

    target: float
    otherwise: str


Relation = About | Near | AtLeast | Above | AboveChance | Below | Within | Exactly | Sufficient | Counted


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
        same: of a difference, how its two sides were shown to be one function; empty where they were not.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    over: str = ""
    floor: float | None = None
    ceiling: float | None = None
    chance: float | None = None
    p_value: float | None = None
    same: str = ""


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sentence of the paper.

    Attributes:
        text: the claim in words.
        where: the section, figure or table.
        measured: the definition of our value in words.
        relation: the condition on the value for the claim to hold.
        rests_on: the experiments that it is measured on; a claim on none does not depend on how long anything was trained.
        note: what was chosen where the paper says nothing, and what else differs between the two sides.
    """

    text: str
    where: str
    measured: str
    relation: Relation
    rests_on: tuple[str, ...] = ()
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Beside:
    """Another reading of a claim's value, which stands beside it and gives no verdict."""

    text: str
    estimate: Estimate


@dataclasses.dataclass(frozen=True)
class Found:
    """What was measured for a claim: the value that is judged, and other readings of it."""

    estimate: Estimate
    also: tuple[Beside, ...] = ()


def rule(relation: Relation) -> str:
    """The rule of a relation in one sentence, all three outcomes in it."""
    match relation:
        case About(target):
            return (
                f"holds if the 95 % interval covers {target:g}, does not if it leaves {target:g} out, and cannot be told if it "
                "covers the best constant answer too"
            )
        case Near(target, margin):
            low, high = target - margin, target + margin
            return (
                f"holds if the 95 % interval is inside {low:g} .. {high:g}, does not if it is outside, and cannot be told if "
                "it is partly outside or covers the best constant answer"
            )
        case AtLeast(bound):
            return (
                f"holds if all of the 95 % interval is {bound:g} or more, does not if all of it is less, and cannot be told "
                "otherwise"
            )
        case Above(bound):
            return f"holds if all of the 95 % interval is above {bound:g}, does not if none is, and cannot be told otherwise"
        case Below(bound):
            return f"holds if all of the 95 % interval is below {bound:g}, does not if none is, and cannot be told otherwise"
        case AboveChance():
            return (
                f"holds if at most {100 * chance.LEVEL:g} % of permutations of the labels over movies reach the value, and "
                "cannot be told otherwise"
            )
        case Within(margin):
            return (
                f"holds if all of the 95 % interval is at most {margin:g} away from 0, does not if all of it is further away, "
                "and cannot be told otherwise"
            )
        case Exactly(target):
            return f"holds if the number is {target:,g}, and does not otherwise"
        case Sufficient(bound, otherwise):
            return f"holds if the number is {bound:,g} or more, and cannot be told otherwise, as {otherwise}"
        case Counted(target, otherwise):
            return f"holds if the number is {target:,g}, and cannot be told otherwise, as {otherwise}"


def verdict(relation: Relation, estimate: Estimate) -> str:
    """HOLDS, FAILS or OPEN by `rule` and the two rules for all of this module."""
    value, low, high = estimate.value, estimate.low, estimate.high
    if value is None:
        return OPEN
    match relation:
        case Exactly(target):
            return HOLDS if value == target else FAILS
        case Sufficient(bound):
            return HOLDS if value >= bound else OPEN
        case Counted(target):
            return HOLDS if value == target else OPEN
        case AboveChance():
            return HOLDS if estimate.p_value is not None and estimate.p_value <= chance.LEVEL else OPEN
    if low is None or high is None:
        return OPEN
    is_count = not estimate.over
    if value == low == high == 0 and not (is_count or estimate.same):
        return OPEN
    return _by_interval(relation, low, high, estimate.floor)


def _by_interval(relation: Relation, low: float, high: float, floor: float | None) -> str:
    is_floor = floor is not None and low <= floor <= high
    match relation:
        case About(target):
            return FAILS if not low <= target <= high else OPEN if is_floor else HOLDS
        case Near(target, margin):
            if high < target - margin or low > target + margin:
                return FAILS
            return HOLDS if target - margin <= low and high <= target + margin and not is_floor else OPEN
        case AtLeast(bound):
            return HOLDS if low >= bound else FAILS if high < bound else OPEN
        case Above(bound):
            return HOLDS if low > bound else FAILS if high <= bound else OPEN
        case Below(bound):
            return HOLDS if high < bound else FAILS if low >= bound else OPEN
        case Within(margin):
            return HOLDS if -margin <= low and high <= margin else FAILS if low > margin or high < -margin else OPEN
    raise TypeError(f"{relation} is not judged by an interval")


def over_repeats(values: Sequence[float | None], over: str) -> Estimate:
    """The mean of independent repeats (seeds, splits) with Student's interval; without one for fewer than three repeats."""
    if not values or any(value is None for value in values):
        return Estimate(None)
    given = np.array(values, np.float64)
    mean = float(given.mean())
    if len(given) < 3:
        return Estimate(mean)
    half = float(scipy.special.stdtrit(len(given) - 1, (1 + LEVEL) / 2) * given.std(ddof=1) / np.sqrt(len(given)))
    return Estimate(mean, mean - half, mean + half, f"{len(given)} {over}")


def as_row(
    claim: Claim, found: Found, reduced: Mapping[str, Sequence[str]] | None = None, *, judged: bool = True
) -> dict[str, Any]:
    """A claim with its estimate and verdict, ready for JSON.

    Args:
        reduced: {experiment: what was changed in it, as "key: value -> value"}. A claim that rests on one is SHORT.
        judged: False leaves the verdict empty, as for posters that are drawn.
    """
    relation = claim.relation
    required = {"relation": type(relation).__name__.lower(), **dataclasses.asdict(relation)}
    changed = {name: (reduced or {}).get(name) for name in claim.rests_on}
    reduction = "; ".join(f"{name} with {', '.join(lines)}" for name, lines in changed.items() if lines)
    decided = SHORT if reduction else verdict(relation, found.estimate)
    return {
        "claim": claim.text,
        "where": claim.where,
        "measured": claim.measured,
        "asked": required,
        "rule": rule(relation),
        **dataclasses.asdict(found.estimate),
        "also": [{"text": other.text, **dataclasses.asdict(other.estimate)} for other in found.also],
        "note": claim.note,
        "rests_on": list(claim.rests_on),
        "reduction": reduction,
        "verdict": decided if judged else "",
    }
