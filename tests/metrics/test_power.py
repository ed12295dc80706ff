"""The smallest difference that a test part shows is found by the paired bootstrap in four cases of five."""

import numpy as np
import pytest
import scipy.stats
from sklearn import metrics as sklearn_metrics

from poster_jax.metrics import paired, power


def part(num_rows: int, num_genres: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((num_rows, num_genres)) < 0.3, np.arange(num_rows)


def test_drawn_scores_have_the_area_and_the_correlation_that_were_asked_for() -> None:
    targets, groups = part(4000)
    scores = power.draw_scores(np.random.default_rng(1), 3, targets, groups, (0.8, 0.6), correlation=0.7)
    for own, auc in zip(scores, (0.8, 0.6), strict=True):
        found = [sklearn_metrics.roc_auc_score(targets[:, k], own[k, draw]) for k in range(3) for draw in range(3)]
        assert np.mean(found) == pytest.approx(auc, abs=0.01)
    negatives = ~targets[:, 0]
    assert np.corrcoef(scores[0, 0, 0, negatives], scores[1, 0, 0, negatives])[0, 1] == pytest.approx(0.7, abs=0.04)


def test_average_precision_is_that_of_scikit_learn() -> None:
    targets, _ = part(50)
    scores = np.random.default_rng(2).normal(size=(4, 50))
    expected = [sklearn_metrics.average_precision_score(targets[:, 0], row) for row in scores]
    assert power._average_precision(scores, targets[:, 0]) == pytest.approx(expected)
    assert np.isnan(power._average_precision(scores, np.zeros(50, bool))).all()


def test_rows_of_a_movie_have_the_same_scores() -> None:
    targets, _ = part(20)
    targets[1::2] = targets[::2]
    scores = power.draw_scores(np.random.default_rng(0), 2, targets, np.arange(20) // 2, (0.7, 0.7), correlation=0.5)
    assert (scores[..., 1::2] == scores[..., ::2]).all() and len(np.unique(scores)) == scores.size / 2


@pytest.mark.parametrize("is_there", [True, False])
def test_the_paired_bootstrap_finds_it_in_four_cases_of_five(is_there: bool) -> None:
    targets, groups = part(240)
    smallest = power.smallest_difference(targets, groups)
    assert smallest is not None

    def gain(auc: float) -> float:
        drawn = power.draw_differences(targets, groups, (auc, power.AUC), correlation=power.CORRELATION, seed=3)
        return float(drawn.mean())

    aucs = np.linspace(power.AUC, 0.9, 12)
    better = float(np.interp(smallest, [gain(auc) for auc in aucs], aucs)) if is_there else power.AUC
    rng = np.random.default_rng(4)
    found, num_trials = 0, 60
    for trial in range(num_trials):
        scores = power.draw_scores(rng, 1, targets, groups, (better, power.AUC), correlation=power.CORRELATION)
        one, other = (scipy.stats.norm.cdf(own[:, 0].T) for own in scores)
        gap = paired.difference_between(one, other, targets, groups, num_samples=200, seed=trial)
        assert gap["low"] is not None
        found += gap["low"] > 0
    low, high = (0.65, 0.93) if is_there else (0.0, 0.1)
    assert low <= found / num_trials <= high, found


def test_more_rows_and_more_alike_networks_show_less() -> None:
    few, many = (power.smallest_difference(*part(rows)) for rows in (100, 1600))
    alike = power.smallest_difference(*part(100), correlation=0.9)
    assert few is not None and many is not None and alike is not None
    assert few / many == pytest.approx(4, rel=0.25) and alike / few == pytest.approx((0.1 / 0.5) ** 0.5, rel=0.25)


def test_a_part_in_which_nothing_can_be_told_has_none() -> None:
    targets, groups = part(30)
    assert power.smallest_difference(targets, np.zeros(30, int)) is None
    assert power.smallest_difference(np.zeros_like(targets), groups) is None
    assert power.smallest_difference(np.ones_like(targets), groups) is None
