"""The rule of verdicts against verdicts by hand, and intervals over repeats."""

import dataclasses

import numpy as np
import pytest
import scipy.stats

from poster_jax.paper import verdicts
from poster_jax.paper.verdicts import FAILS, HOLDS, OPEN, About, Above, AboveChance, Below, Estimate, Exactly, Within


@pytest.mark.parametrize(
    ("relation", "low", "high", "floor", "expected"),
    [
        (About(0.30), 0.28, 0.33, 0.167, HOLDS),
        (About(0.30), 0.31, 0.36, 0.167, FAILS),
        (About(0.30), 0.20, 0.29, 0.167, FAILS),
        # A network that learnt nothing would score within the interval, too.
        (About(0.7224), 0.71, 0.74, 0.73, OPEN),
        (About(0.7224), 0.71, 0.74, None, HOLDS),
        (Above(0.0), 0.01, 0.03, None, HOLDS),
        (Above(0.0), -0.01, 0.03, None, OPEN),
        (Above(0.0), -0.03, -0.01, None, FAILS),
        (Below(0.0), -0.03, -0.01, None, HOLDS),
        (Below(0.0), -0.03, 0.01, None, OPEN),
        (Below(0.0), 0.01, 0.03, None, FAILS),
        (Within(0.02), -0.01, 0.015, None, HOLDS),
        (Within(0.02), -0.03, 0.015, None, OPEN),
        (Within(0.02), 0.021, 0.05, None, FAILS),
        (Within(0.02), -0.05, -0.021, None, FAILS),
    ],
)
def test_the_verdict_follows_from_the_interval_and_the_floor(
    relation: verdicts.Relation, low: float, high: float, floor: float | None, expected: str
) -> None:
    assert verdicts.verdict(relation, Estimate((low + high) / 2, low, high, "movies", floor)) == expected


def test_a_count_is_right_or_wrong() -> None:
    assert verdicts.verdict(Exactly(7686), Estimate(7686.0)) == HOLDS
    assert verdicts.verdict(Exactly(7686), Estimate(7685.0)) == FAILS


def test_what_was_not_measured_or_has_no_interval_cannot_be_told() -> None:
    for relation in (About(0.3), Above(0.0), Exactly(1)):
        assert verdicts.verdict(relation, Estimate(None)) == OPEN
    assert verdicts.verdict(Above(0.0), Estimate(0.5)) == OPEN


def test_better_than_chance_is_what_the_permutations_say_and_not_the_interval() -> None:
    above_the_floor = Estimate(0.5, 0.45, 0.55, "movies", floor=0.3, chance=0.45, p_value=0.026)
    assert verdicts.verdict(AboveChance(), above_the_floor) == OPEN
    assert verdicts.verdict(AboveChance(), dataclasses.replace(above_the_floor, p_value=0.025)) == HOLDS
    assert verdicts.verdict(AboveChance(), Estimate(0.5, 0.45, 0.55)) == OPEN


def test_repeats_have_students_interval() -> None:
    values = np.random.default_rng(5).normal(size=4)
    found = verdicts.over_repeats(values.tolist(), "seeds")
    low, high = scipy.stats.t.interval(0.95, 3, values.mean(), scipy.stats.sem(values))
    assert (found.value, found.low, found.high) == pytest.approx((values.mean(), low, high))
    assert found.over == "4 seeds"


def test_two_repeats_have_a_mean_and_no_interval() -> None:
    found = verdicts.over_repeats([0.1, 0.3], "seeds")
    assert found.value == pytest.approx(0.2) and found.low is None
    assert verdicts.over_repeats([0.1, None, 0.2], "seeds").value is None


def test_a_row_says_what_was_asked() -> None:
    claim = verdicts.Claim("30 %", "III-A", "test top-1", About(0.3))
    row = verdicts.as_row(claim, Estimate(0.31, 0.29, 0.33, "movies", 0.167, 1.0))
    assert row["asked"] == {"relation": "about", "target": 0.3}
    assert row["verdict"] == HOLDS and row["floor"] == 0.167
