"""Corrected intervals by hand, and which trials differ."""

import numpy as np
import pytest
import scipy.stats

from poster_jax.metrics import cross_validation


def test_the_half_width_is_nadeau_and_bengio_s_by_hand() -> None:
    # Variance 5/3, corrected by 1/4 + 1/3: sqrt(35/36); the 97.5 % point of Student's t with 3 degrees is 3.18245.
    assert cross_validation.corrected_half_width([1, 2, 3, 4], share=1 / 3) == pytest.approx(
        3.18245 * np.sqrt(35 / 36), rel=1e-5
    )


def test_without_correction_it_is_student_s_interval() -> None:
    values = [0.31, 0.28, 0.35, 0.30]
    low, high = scipy.stats.ttest_1samp(values, 0).confidence_interval()
    assert cross_validation.corrected_half_width(values, share=0) == pytest.approx((high - low) / 2)
    assert cross_validation.corrected_half_width(values, share=1 / 3) > (high - low) / 2


def test_many_comparisons_widen_each_as_bonferroni_does() -> None:
    values = [1.0, 2, 3, 5]
    wide = cross_validation.corrected_half_width(values, share=1 / 3, num_comparisons=9)
    one = cross_validation.corrected_half_width(values, share=1 / 3)
    assert wide / one == pytest.approx(scipy.stats.t.isf(0.025 / 9, 3) / scipy.stats.t.isf(0.025, 3))


def test_the_correction_keeps_its_promise_where_the_plain_interval_does_not() -> None:
    """2,000 draws of ten trials that are equal in truth; a fold's noise is shared by its training rows (correlation 1/4)."""
    rng = np.random.default_rng(0)
    corrected = plain = 0
    for _ in range(2000):
        differences = rng.normal(size=1) * 0.5 + rng.normal(size=4) * np.sqrt(0.75)
        corrected += abs(differences.mean()) > cross_validation.corrected_half_width(differences.tolist(), share=1 / 3)
        plain += abs(differences.mean()) > cross_validation.corrected_half_width(differences.tolist(), share=0)
    assert corrected / 2000 < 0.06 < 0.08 < plain / 2000


@pytest.mark.parametrize("deviations", [np.ones(10), np.repeat([1.0, 2.0], 5), np.append(np.ones(9), 3.0)])
def test_the_best_of_ten_equal_trials_is_seldom_told_apart_from_any(deviations: np.ndarray) -> None:
    """The best is chosen from the scores: correcting for its nine comparisons alone tells equal trials apart too often."""
    rng = np.random.default_rng(1)
    told = told_by_nine = 0
    for _ in range(1000):
        noise = 0.5 * rng.normal(size=(10, 1)) + np.sqrt(0.75) * rng.normal(size=(10, 4))
        scores = rng.normal(size=4) + deviations[:, None] * noise
        told += any(row["apart"] for row in cross_validation.compare_with_best(scores.tolist(), share=1 / 3))
        differences = scores[scores.mean(axis=1).argmax()] - scores
        told_by_nine += any(
            row.mean() > cross_validation.corrected_half_width(row.tolist(), share=1 / 3, num_comparisons=9)
            for row in differences
            if row.any()
        )
    assert told / 1000 <= 0.05 < told_by_nine / 1000


def test_a_large_difference_among_ten_trials_is_told() -> None:
    rng = np.random.default_rng(2)
    scores = 0.01 * rng.normal(size=(10, 4)) + np.append(0.5, np.zeros(9))[:, None]
    assert all(row["apart"] for row in cross_validation.compare_with_best(scores.tolist(), share=1 / 3))


def test_only_a_difference_beyond_its_interval_tells_two_apart() -> None:
    scores = [[0.50, 0.52, 0.51, 0.53], [0.20, 0.22, 0.21, 0.235], [0.49, 0.53, 0.50, 0.52], [0.3, None, 0.3, 0.3]]
    found = cross_validation.compare_with_best(scores, share=1 / 3)
    assert [(row["other"], row["apart"]) for row in found] == [(2, False), (1, True)]
    assert found[1]["difference"] == pytest.approx(0.29875)
    half = cross_validation.corrected_half_width([0.01, -0.01, 0.01, 0.01], share=1 / 3, num_comparisons=3)
    assert found[0]["high"] - found[0]["difference"] == pytest.approx(half), "three pairs, each as wide as all need"
    for row in found:
        assert row["low"] < row["difference"] < row["high"]
        assert row["apart"] == (row["low"] > 0)


def test_a_trial_without_all_scores_has_no_mean_and_comes_last() -> None:
    assert set(cross_validation.summarise([0.1, None], share=1.0).values()) == {None}
    assert cross_validation.summarise([0.1, 0.3], share=1.0)["mean"] == pytest.approx(0.2)
    assert cross_validation.order([0.2, None, 0.5, 0.2]) == [2, 0, 3, 1]
