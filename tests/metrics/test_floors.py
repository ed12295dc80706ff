"""Floors against all constant answers, ceilings against every answer that the rows of one movie can share."""

import itertools

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from poster_jax.metrics import definitions, floors


@pytest.mark.parametrize("seed", range(6))
def test_floors_are_the_best_of_all_constant_answers(seed):
    """All 2^K sets of yes answers, and as scores all that rank the genres; one label in a row, several, and none of a genre."""
    rng = np.random.default_rng(seed)
    num_rows, num_genres = 40, 5
    targets = rng.random((num_rows, num_genres)) < rng.random(num_genres) * 0.9
    if seed % 3 == 0:
        targets = definitions.make_targets(rng.choice(num_genres, num_rows, p=[0.5, 0.2, 0.2, 0.1, 0.0]), num_genres)
    if seed % 3 == 1:
        targets[:, 2] = False
    reached = []
    for answer in itertools.product([0.0, 1.0], repeat=num_genres):
        scores = np.tile(answer, (num_rows, 1))
        measured = definitions.plain(definitions.make_measure(scores, targets, {"": scores > 0.5}), num_rows)
        reached.append({name: value for name, value in measured.items() if np.ndim(value) == 0})
    found = floors.best_constants(targets, ("", "@tuned"))
    for name in reached[0]:
        if name != "calibration_error":  # of all scores, not of zeros and ones alone
            best = max(each[name] for each in reached)
            assert found[name] == pytest.approx(best), name
            assert found.get(f"{name}@tuned", best) == pytest.approx(best)
    scores = np.tile(targets.mean(axis=0), (num_rows, 1))
    measured = definitions.plain(definitions.make_measure(scores, targets, {}), num_rows)
    assert measured["calibration_error"] == pytest.approx(found["calibration_error"], abs=1e-12)


def test_no_labels_at_all_leave_floors_of_f1_and_of_ranking_undefined():
    found = floors.best_constants(np.zeros((4, 3), bool), ("",))
    assert {name for name, value in found.items() if np.isnan(value)} == {
        "macro_f1", "micro_f1", "mean_average_precision", "macro_auc"
    }  # fmt: skip


def test_ceilings_of_exploded_labels_by_hand():
    # Movie 0 carries genres 0, 1, 2 in three rows; movie 1 genres 0, 1; movies 2 and 3 genre 0 alone.
    labels = np.array([0, 1, 2, 0, 1, 0, 0])
    groups = np.array([0, 0, 0, 1, 1, 2, 3])
    targets = definitions.make_targets(labels, 3)
    best = floors.ceilings(targets, groups, ("",))
    assert best["top1_accuracy"] == best["exact_match"] == 4 / 7
    # Wrong cells: movie 0 one in each of three columns, movie 1 one in each of two.
    assert best["binary_accuracy"] == pytest.approx(16 / 21)
    # Genre 0: yes to all, 4 of 7; genre 1: yes to movie 1 (1 of 2) or to both (2 of 5); genre 2: movie 0.
    f1 = [max(2 * 2 / 6, 2 * 3 / 8, 2 * 4 / 11), max(2 * 1 / 4, 2 * 2 / 7), 2 * 1 / 4]
    assert best["macro_f1"] == pytest.approx(np.mean(f1))
    average_precision = [(1 + 1 + 3 / 4 + 4 / 7) / 4, (1 / 2 + 2 / 5) / 2, 1 / 3]
    assert best["mean_average_precision"] == pytest.approx(np.mean(average_precision))
    assert best["calibration_error"] == 0.0


def test_ceilings_are_the_best_of_all_shared_answers():
    sizes = [1, 2, 3, 2]
    groups = np.repeat(np.arange(4), sizes)
    labels = np.array([0, 0, 1, 0, 1, 2, 1, 2])
    targets = definitions.make_targets(labels, 3)
    best = floors.ceilings(targets, groups, ("",))
    # All 2^12 yes/no answers of four movies and three genres, [4096, 8, 3].
    answers = np.array(list(itertools.product([False, True], repeat=12))).reshape(-1, 4, 3)[:, groups]
    assert best["binary_accuracy"] == pytest.approx((answers == targets).mean(axis=(1, 2)).max())
    assert best["exact_match"] == pytest.approx((answers == targets).all(axis=2).mean(axis=1).max())
    hits, answered, positives = (answers & targets).sum(axis=1), answers.sum(axis=1), targets.sum(axis=0)
    assert best["macro_f1"] == pytest.approx((2 * hits / (answered + positives)).mean(axis=1).max())
    micro = 2 * hits.sum(axis=1) / (answered + positives).sum(axis=1)
    assert best["micro_f1"] == pytest.approx(micro.max())
    tops = np.array(list(itertools.product(range(3), repeat=4)))[:, groups]
    assert best["top1_accuracy"] == pytest.approx((tops == labels).mean(axis=1).max())
    # All rankings of the movies, ties included.
    rankings = np.array(list(itertools.product(range(4), repeat=4)))[:, groups]
    for name, reference in (
        ("mean_average_precision", sklearn_metrics.average_precision_score),
        ("macro_auc", sklearn_metrics.roc_auc_score),
    ):
        reached = [max(reference(targets[:, k], ranking) for ranking in rankings) for k in range(3)]
        assert best[name] == pytest.approx(np.mean(reached)), name


def test_ceilings_are_one_where_rows_of_a_movie_agree():
    targets = np.random.default_rng(1).random((300, 5)) < 0.25
    targets[:, 0] |= ~targets.any(axis=1)  # top-1 can only be right on a row that carries a genre
    best = floors.ceilings(targets, np.arange(len(targets)), ("", "@tuned"))
    assert best.pop("calibration_error") == 0.0
    assert set(best.values()) == {1.0}
    doubled = floors.ceilings(np.repeat(targets, 2, axis=0), np.repeat(np.arange(len(targets)), 2), ("",))
    assert doubled["mean_average_precision"] == doubled["exact_match"] == 1.0
