"""Drawing trials, and what a search refuses."""

import pathlib
from typing import Any

import ml_collections
import numpy as np
import pytest

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.config import validate_search
from poster_jax.search import space

SEARCH = str(pathlib.Path(__file__).resolve().parents[2] / "configs/search_cnn.py")


def draw(num_trials: int, seed: int = 0, **changed: Any) -> list[space.Trial]:
    search = ml_collections.ConfigDict({**validate_search.SEARCH_DEFAULTS, "num_trials": num_trials, **changed})
    return space.draw_trials(search, seed)


def test_a_trial_is_the_same_whether_8_or_80_are_drawn() -> None:
    assert draw(8) == draw(80)[:8]
    assert draw(8, seed=1) != draw(8)
    assert len({trial.learning_rate for trial in draw(80)}) == 80


def test_draws_fill_the_paper_s_ranges_and_no_more() -> None:
    trials = draw(2000)
    exponents = np.log10([trial.learning_rate for trial in trials])
    assert -4 <= exponents.min() < -3.98 and -2.02 < exponents.max() < -2
    assert abs(exponents.mean() + 3) < 0.04
    dropouts = {trial.dropout for trial in trials}
    assert dropouts == {round(percent / 100, 2) for percent in range(20, 51)}
    assert {trial.filters[0] for trial in trials} == set(range(4, 13))
    assert {trial.filters[1] for trial in trials} == set(range(16, 32))
    assert {trial.units for trial in trials} == {(units,) for units in range(80, 116)}


def test_the_paper_s_printed_sets_are_configs_inside_the_ranges() -> None:
    for arg, first in (("table3", (0.00180133, 0.41, 10, 30, 106)), ("table4", (0.00088016, 0.37, 12, 17, 115))):
        config = config_lib.load(f"{SEARCH}:{arg}")
        trials = space.draw_trials(config.search, 0)
        assert len(trials) == 5
        assert (trials[0].learning_rate, trials[0].dropout, *trials[0].filters, *trials[0].units) == first
        assert [row[3] for row in config.model.blocks] == [arg == "table4"] * 2
        for trial in trials:
            assert 1e-4 <= trial.learning_rate < 1e-2 and 0.2 <= trial.dropout <= 0.5
            widths = zip(trial.filters + trial.units, config.search.filters + config.search.units, strict=True)
            assert all(low <= width <= high for width, (low, high) in widths)


def test_the_widest_is_as_wide_as_any_in_every_layer() -> None:
    trials = draw(5, trials=((1e-3, 0.2, 4, 31, 90), (1e-4, 0.3, 12, 16, 80)))
    assert len(trials) == 2
    assert (space.widest(trials).filters, space.widest(trials).units) == ((12, 31), (90,))


@pytest.mark.parametrize(
    ("key", "text", "says"),
    [
        ("search.learning_rate_exponent", "(-2.0, -4.0)", "empty range"),
        ("search.filters", "((4, 12), (31, 16))", "empty range"),
        ("search.filters", "((4, 12),)", "one (fewest, most) for each of the 2 rows"),
        ("search.units", "((0, 5),)", "at least 1"),
        ("search.units", "((80.5, 90),)", "not a pair"),
        ("search.dropout", "(0.2, 1.0)", "below 1"),
        ("search.num_folds", "0", "at least 2"),
        ("search.num_trials", "0", "at least 1"),
        ("search.vectorize", "fold", 'did you mean "folds"'),
        ("search.halving", "(5, 3)", "rising whole epochs"),
        ("search.halving", "(15,)", "from 1 to 14"),
        ("search.trials", "((0.001, 0.3, 8),)", "3 widths"),
        ("search.trials", "((0.0, 0.3, 8, 16, 80),)", "3 widths"),
        ("search.memory_mb", "-1", "at least 0"),
        ("train.num_epochs", "1.5", "whole number"),
        ("num_seeds", "2", "num_seeds=1"),
    ],
)
def test_a_search_that_cannot_be_is_refused_in_one_sentence(key: str, text: str, says: str) -> None:
    with pytest.raises(errors.UserError) as raised:
        config_lib.load(SEARCH, [(key, text)])
    assert says in str(raised.value)
    assert key.split(".")[-1] in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("dropout", "is_possible"), [("0.0", True), ("0.99", True), ("1.0", False), ("1", False), ("-0.1", False)]
)
def test_a_given_trial_has_a_dropout_from_0_to_below_1(dropout: str, is_possible: bool) -> None:
    given = [("search.trials", f"((0.001, {dropout}, 8, 16, 80),)")]
    if is_possible:
        assert space.draw_trials(config_lib.load(SEARCH, given).search, 0)[0].dropout == float(dropout)
        return
    with pytest.raises(errors.UserError, match="config.search.trials holds"):
        config_lib.load(SEARCH, given)
