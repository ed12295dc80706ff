"""Permutations of the labels: which ones are drawn, their metrics against scikit-learn, and what they decide."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from sklearn import metrics as sklearn_metrics

from poster_jax.metrics import chance, definitions


def problem(seed, num_rows=120, num_genres=4, levels=0):
    rng = np.random.default_rng(seed)
    targets = rng.random((num_rows, num_genres)) < 0.3
    scores = np.clip(rng.random((num_rows, num_genres)) + 0.2 * targets, 0, 1)
    return (np.round(scores * levels) / levels if levels else scores), targets


@pytest.mark.parametrize("levels", [0, 5])
def test_permuted_metrics_equal_scikit_learn_with_the_labels_moved(levels):
    scores, targets = problem(0, levels=levels)
    groups = np.arange(len(targets))
    found = chance.permute(scores, targets, groups, num_permutations=7, seed=3)
    places = np.concatenate(list(chance.draw_places(groups, 7, 3)))
    assert found["average_precision"].shape == (7, 4) and len(np.unique(places, axis=0)) == 7
    for draw, place in enumerate(places):
        moved = np.empty_like(targets)
        moved[place] = targets
        expected = [sklearn_metrics.average_precision_score(moved[:, k], scores[:, k]) for k in range(4)]
        assert found["average_precision"][draw] == pytest.approx(expected, abs=1e-12)
        assert found["mean_average_precision"][draw] == pytest.approx(np.mean(expected), abs=1e-12)
        assert found["top1_accuracy"][draw] == pytest.approx(definitions.top1_credit(scores, moved).mean(), abs=1e-12)


def test_the_labels_of_a_movie_stay_together_and_go_to_a_movie_of_as_many_rows():
    groups = np.array([7, 3, 7, 5, 5, 1, 2, 9, 9, 9])
    rows_of = {movie: np.flatnonzero(groups == movie) for movie in groups}
    seen = set()
    for place in np.concatenate(list(chance.draw_places(groups, 200, 0))):
        assert sorted(place) == list(range(10))
        for rows in rows_of.values():
            (to,) = set(groups[place[rows]])
            assert place[rows].tolist() == rows_of[to].tolist() and len(rows_of[to]) == len(rows)
        assert place[[7, 8, 9]].tolist() == [7, 8, 9], "no other movie has three rows"
        seen.add(tuple(place))
    assert len(seen) == math.factorial(2) * math.factorial(3), "two movies of two rows, three of one, every order"


def test_chunks_do_not_change_the_permutations(monkeypatch):
    whole = np.concatenate(list(chance.draw_places(np.arange(40), 25, 9)))
    monkeypatch.setattr(chance, "CHUNK_CELLS", 280)
    chunks = list(chance.draw_places(np.arange(40), 25, 9))
    assert [len(chunk) for chunk in chunks] == [7, 7, 7, 4]
    np.testing.assert_array_equal(np.concatenate(chunks), whole)


def test_the_p_value_is_the_share_of_all_arrangements_for_few_rows():
    scores, targets = np.array([[0.9], [0.7], [0.6], [0.4], [0.1]]), np.array([[1], [0], [1], [0], [0]], bool)
    value = sklearn_metrics.average_precision_score(targets[:, 0], scores[:, 0])
    all_values = [
        sklearn_metrics.average_precision_score(np.isin(np.arange(5), pair), scores[:, 0])
        for pair in itertools.combinations(range(5), 2)
    ]
    exact = np.mean([other >= value - 1e-12 for other in all_values])
    permuted = chance.permute(scores, targets, np.arange(5), num_permutations=20_000, seed=1)["average_precision"][:, 0]
    assert chance.p_value(value, permuted) == pytest.approx(exact, abs=0.01)
    assert permuted.mean() == pytest.approx(np.mean(all_values), abs=0.01)
    assert permuted.mean() > targets.mean() + 0.05, "chance is above the floor"


def test_the_p_value_counts_the_sample_itself_and_equal_values():
    assert chance.p_value(0.5, np.array([0.1, 0.2, 0.3])) == 1 / 4
    assert chance.p_value(0.5, np.array([0.5 - 1e-15, 0.6, 0.3])) == 3 / 4
    # Constant scores: every permutation gives the same, so nothing is told.
    permuted = chance.permute(np.full((30, 2), 0.4), np.eye(2, dtype=bool)[np.arange(30) % 2], np.arange(30),
                              num_permutations=99, seed=0)  # fmt: skip
    assert chance.p_value(0.5, permuted["mean_average_precision"]) == 1.0


def test_p_values_of_random_scores_are_uniform_and_those_of_a_signal_are_small():
    values = {0.0: [], 0.6: []}
    for seed in range(150):
        rng = np.random.default_rng(seed)
        targets = definitions.make_targets(rng.integers(0, 4, 80), 4)
        for shift, kept in values.items():
            scores = scipy.stats.norm.cdf(rng.normal(size=(80, 4)) + shift * targets)
            measured = definitions.plain(definitions.make_measure(scores, targets, {}), 80)["mean_average_precision"]
            drawn = chance.permute(scores, targets, np.arange(80), num_permutations=199, seed=0)
            kept.append(chance.p_value(float(measured), drawn["mean_average_precision"]))
    assert scipy.stats.kstest(values[0.0], "uniform").pvalue > 0.01
    assert np.mean(np.array(values[0.6]) <= 0.025) > 0.8


def test_copies_of_a_movie_are_no_further_evidence():
    """Random scores whose rows are repeated: permuting rows instead of movies would call them better than chance."""
    rng = np.random.default_rng(5)
    by_movie = by_row = 0
    for _ in range(200):
        scores, targets = rng.random((30, 1)), rng.random((30, 1)) < 0.4
        targets[:2] = [[True], [False]]
        scores, targets, groups = (np.repeat(each, 6, axis=0) for each in (scores, targets, np.arange(30)))
        value = float(definitions.plain(definitions.make_measure(scores, targets, {}), 180)["mean_average_precision"])
        for given in (groups, np.arange(180)):
            drawn = chance.permute(scores, targets, given, num_permutations=99, seed=0)["mean_average_precision"]
            told = chance.p_value(value, drawn) <= 0.025
            by_movie, by_row = by_movie + (told and given is groups), by_row + (told and given is not groups)
    assert by_movie <= 12 < 40 < by_row


def test_what_is_better_than_a_constant_answer():
    ranked = {"value": 0.5, "low": 0.4, "high": 0.6, "best_floor": 0.3, "p_value": 0.3}
    assert chance.beats_constant("mean_average_precision", ranked) is False, "its interval does not decide"
    assert chance.beats_constant("mean_average_precision", ranked | {"p_value": 0.025}) is True
    assert chance.beats_constant("average_precision", {"p_value": None}) is None
    other = {"low": 0.4, "high": 0.6, "best_floor": 0.3}
    assert chance.beats_constant("top1_accuracy", other) is True
    assert chance.beats_constant("top1_accuracy", other | {"best_floor": 0.4}) is False
    assert chance.beats_constant("auc", {"low": 0.6, "high": 0.7, "floor": 0.5}) is True
    assert chance.beats_constant("calibration_error", other | {"best_floor": 0.7}) is True
    assert chance.beats_constant("top1_accuracy", other | {"low": None}) is None


def test_the_expected_average_precision_is_the_mean_over_all_orders():
    for num_rows, num_positives in ((6, 1), (6, 3), (7, 7), (5, 2)):
        values = [
            sklearn_metrics.average_precision_score(np.isin(np.arange(num_rows), chosen), -np.arange(num_rows))
            for chosen in itertools.combinations(range(num_rows), num_positives)
        ]
        assert chance.expected_average_precision(num_rows, num_positives) == pytest.approx(np.mean(values), abs=1e-12)
    assert np.isnan(chance.expected_average_precision(5, np.array([0, 2]))).tolist() == [True, False]


def test_levels_are_the_means_over_permutations():
    scores, targets = np.random.default_rng(1).random((200, 4)), problem(4, num_rows=200)[1]  # without ties
    found = chance.levels(scores, targets)
    permuted = chance.permute(scores, targets, np.arange(200), num_permutations=4000, seed=2)
    for name, level in found.items():
        assert level == pytest.approx(permuted[name].mean(), abs=0.002), name
