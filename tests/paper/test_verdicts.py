"""The rule of verdicts against verdicts by hand, and intervals over repeats."""

import dataclasses

import numpy as np
import pytest
import scipy.stats

from poster_jax.paper import estimates, verdicts
from poster_jax.paper.verdicts import (
    FAILS,
    HOLDS,
    OPEN,
    About,
    Above,
    AboveChance,
    AtLeast,
    Below,
    Counted,
    Estimate,
    Exactly,
    Near,
    Sufficient,
    Within,
)


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
    row = verdicts.as_row(claim, verdicts.Found(Estimate(0.31, 0.29, 0.33, "movies", 0.167, 1.0)))
    assert row["asked"] == {"relation": "about", "target": 0.3}
    assert row["verdict"] == HOLDS and row["floor"] == 0.167


@pytest.mark.parametrize(
    ("relation", "low", "high", "floor", "expected"),
    [
        (AtLeast(0.30), 0.30, 0.36, 0.167, HOLDS),
        (AtLeast(0.30), 0.50, 0.60, 0.167, HOLDS),
        (AtLeast(0.30), 0.28, 0.36, 0.167, OPEN),
        (AtLeast(0.30), 0.20, 0.29, 0.167, FAILS),
        (Near(0.30, 0.05), 0.26, 0.34, 0.167, HOLDS),
        (Near(0.30, 0.05), 0.24, 0.34, 0.167, OPEN),
        (Near(0.30, 0.05), 0.36, 0.40, 0.167, FAILS),
        (Near(0.30, 0.05), 0.20, 0.24, 0.167, FAILS),
        (Near(0.30, 0.05), 0.26, 0.34, 0.28, OPEN),
    ],
)
def test_round_numbers_and_lower_bounds_have_rules_of_their_own(
    relation: verdicts.Relation, low: float, high: float, floor: float, expected: str
) -> None:
    assert verdicts.verdict(relation, Estimate((low + high) / 2, low, high, "3 seeds", floor)) == expected


def test_a_count_that_cannot_speak_against_the_claim_is_open() -> None:
    assert verdicts.verdict(Sufficient(3991, "why"), Estimate(3991.0)) == HOLDS
    assert verdicts.verdict(Sufficient(3991, "why"), Estimate(3990.0)) == OPEN
    assert verdicts.verdict(Counted(39515, "why"), Estimate(39515.0)) == HOLDS
    assert {verdicts.verdict(Counted(39515, "why"), Estimate(value)) for value in (36917.0, 40108.0)} == {OPEN}


@pytest.mark.parametrize("relation", [Above(0.0), Below(0.0), Within(0.02), AtLeast(0.1), Above(-0.02)])
def test_a_difference_of_exactly_zero_is_open_unless_both_sides_are_one_function(relation: verdicts.Relation) -> None:
    none = Estimate(0.0, 0.0, 0.0, "movies, 3 and 3 networks")
    assert verdicts.verdict(relation, none) == OPEN
    shown = dataclasses.replace(none, same="one function: their losses and gradients agree to 1e-09")
    assert verdicts.verdict(relation, shown) != OPEN
    # A count of zero has no noise.
    assert verdicts.verdict(relation, Estimate(0.0, 0.0, 0.0)) != OPEN


@pytest.mark.parametrize(
    "relation",
    [About(0.3), Near(0.3, 0.05), AtLeast(0.3), Above(0.0), AboveChance(), Below(0.0), Within(0.02), Exactly(7686)]
    + [Sufficient(3991, "a cap gives it too"), Counted(39515, "the catalog is a part")],
)
def test_every_relation_has_a_rule_in_one_sentence(relation: verdicts.Relation) -> None:
    told = verdicts.rule(relation)
    assert told.startswith("holds if ") and "\n" not in told and not told.endswith(".")
    for number in dataclasses.asdict(relation).values():
        assert isinstance(number, str) or f"{number:,g}" in told or isinstance(relation, Near)


def test_a_row_on_a_reduced_experiment_says_its_reduction() -> None:
    claim = verdicts.Claim("30 %", "III-A", "test top-1", About(0.3), ("transfer", "search"))
    found = verdicts.Found(Estimate(0.31, 0.29, 0.33, "movies", 0.167, 1.0))
    reduced = {"transfer": ["train.num_epochs: 20.0 -> 3.0", "seed: 0 -> 1"], "search": [], "rates": ["seed: 0 -> 1"]}
    row = verdicts.as_row(claim, found, reduced)
    assert row["verdict"] == verdicts.SHORT
    assert row["reduction"] == "transfer with train.num_epochs: 20.0 -> 3.0, seed: 0 -> 1"
    assert verdicts.as_row(claim, found, {"rates": ["seed: 0 -> 1"]})["verdict"] == HOLDS
    assert verdicts.as_row(claim, found, judged=False)["verdict"] == ""


def test_two_samples_have_welchs_interval() -> None:
    ones, others = [0.3, 0.32, 0.35, 0.31], [0.2, 0.25, 0.22]
    found = estimates.of_groups(ones, others, "sets")
    low, high = scipy.stats.ttest_ind(ones, others, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.value == pytest.approx(np.mean(ones) - np.mean(others)) and found.over == "4 and 3 sets"
    assert estimates.of_groups(ones, [0.2, None, 0.1], "sets").value is None
    assert estimates.of_groups([0.3, 0.3], [0.2, 0.2], "sets").low is None


def test_the_first_epoch_that_reaches_a_value_counts_from_one() -> None:
    assert [estimates.first_reaching([0.1, 0.3, 0.2, 0.4], target) for target in (0.1, 0.3, 0.35, 0.5)] == [1, 2, 4, 5]
