"""Labels that were set wrong are found, by noise none are; folds against scikit-learn; the ranking against another."""

import numpy as np
import pytest
from sklearn import linear_model, model_selection, pipeline, preprocessing

from poster_jax.data import splits
from poster_jax.metrics import baselines, suspects

EVEN, SKEWED = (0.25,) * 5, (0.03, 0.05, 0.1, 0.3, 0.5)
NUM = 1500


def draw(shares: tuple[float, ...], seed: int, sharpness: float = 25.0) -> tuple[np.ndarray, np.ndarray]:
    """(features [N, D], true labels bool [N, K]) of a linear model that is known; the sharper it is the less is chance."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(NUM, 12))
    evidence = sharpness * features @ rng.normal(size=(12, len(shares))) / 12**0.5
    cut = np.array([np.quantile(column, 1 - share) for column, share in zip(evidence.T, shares, strict=True)])
    return features, rng.random(evidence.shape) < 1 / (1 + np.exp(cut[None] - evidence))


def fold(targets: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    rows = np.arange(len(targets))
    return splits.k_folds(targets.astype(np.float32), rows, rows, 5, 0)


def flip(targets: np.ndarray, seed: int) -> np.ndarray:
    """The targets with 5 % of all cells turned over."""
    flipped = targets.copy()
    cells = np.random.default_rng(seed).choice(targets.size, round(0.05 * targets.size), replace=False)
    flipped.flat[cells] ^= True
    return flipped


def precision(pairs: np.ndarray, given: np.ndarray, wrong: np.ndarray) -> tuple[float, float]:
    """As `suspects.precision` of as many pairs as are wrong."""
    return suspects.precision(pairs[: int(wrong.sum())], given, wrong)


@pytest.mark.parametrize("seed", [0, 1])
def test_of_labels_turned_over_most_are_found_and_by_noise_as_many_as_by_chance(seed: int) -> None:
    features, truth = draw(EVEN, seed)
    given = flip(truth, seed)
    wrong = given != truth
    noise = np.random.default_rng(seed + 10).normal(size=features.shape)
    found = {
        name: precision(suspects.rank(suspects.out_of_fold(seen, given, fold(given)), given), given, wrong)
        for name, seen in {"features": features, "noise": noise}.items()
    }
    assert wrong.sum() == round(0.05 * wrong.size)
    assert found["features"][0] >= 0.6 and found["features"][0] > 4 * found["features"][1], found
    # 375 pairs of which 5 to 14 % are wrong by chance: a deviation of at most 0.018.
    assert abs(found["noise"][0] - found["noise"][1]) < 0.054 and found["noise"][1] < 0.15, found


@pytest.mark.parametrize("seed", [0, 1])
def test_of_unequal_labels_far_more_are_found_than_by_the_score_alone(seed: int) -> None:
    features, truth = draw(SKEWED, seed)
    given = suspects.turn_round(truth, 0.05, seed)
    wrong = given != truth
    scores = suspects.out_of_fold(features, given, fold(given))
    alone = np.argsort(np.where(given, scores, 1 - scores), axis=None, kind="stable")
    by_score = np.stack(np.unravel_index(alone, given.shape), axis=1)
    ours, theirs = (precision(pairs, given, wrong)[0] for pairs in (suspects.rank(scores, given), by_score))
    assert ours > 0.6 and ours > 4 * theirs, (ours, theirs)


def test_contradiction_by_hand_and_its_order() -> None:
    scores = np.array([[0.9, 0.2], [0.1, 0.6], [0.2, 0.4]])
    targets = np.array([[True, False], [True, True], [False, False]])
    # Label 0: usual 0.5 with it, 0.2 without; label 1: 0.6 with it, 0.3 without.
    np.testing.assert_allclose(suspects.usual(scores, targets), [[0.5, 0.3], [0.5, 0.6], [0.2, 0.3]])
    wanted = [[-0.8, -1 / 7], [0.8, 0.0], [0.0, 1 / 7]]
    np.testing.assert_allclose(suspects.contradiction(scores, targets), wanted, atol=1e-12)
    assert suspects.rank(scores, targets)[[0, 1, -2, -1]].tolist() == [[1, 0], [2, 1], [0, 1], [0, 0]]
    for column in (True, False):
        with pytest.raises(ValueError, match="all rows have, or none"):
            suspects.contradiction(scores, np.array([[column, False], [column, True], [column, False]]))


def test_scores_are_those_of_scikit_learn_on_the_same_folds() -> None:
    features, truth = draw(EVEN, 3)
    features, truth = features[:200], truth[:200]
    folds = fold(truth)
    regression = linear_model.LogisticRegression(C=baselines.INVERSE_REGULARIZATION, max_iter=baselines.MAX_ITERATIONS)
    reference = pipeline.make_pipeline(preprocessing.StandardScaler(), regression)
    found = suspects.out_of_fold(features, truth, folds)
    for column in range(truth.shape[1]):
        wanted = model_selection.cross_val_predict(reference, features, truth[:, column], cv=folds, method="predict_proba")
        np.testing.assert_allclose(found[:, column], wanted[:, 1], atol=1e-6)


def test_a_label_has_no_part_in_its_own_score() -> None:
    features, truth = draw(EVEN, 4)
    folds = fold(truth)
    before = suspects.out_of_fold(features, truth, folds)
    row, other = folds[0][1][0], folds[1][1][0]
    changed = truth.copy()
    changed[row] ^= True
    after = suspects.out_of_fold(features, changed, folds)
    np.testing.assert_array_equal(before[folds[0][1]], after[folds[0][1]])
    assert (before[other] != after[other]).all(), "the other folds have learnt from it"
    with pytest.raises(ValueError, match="cover all rows"):
        suspects.out_of_fold(features, truth, folds[1:])


def test_turning_round_keeps_how_many_rows_have_a_label() -> None:
    _, truth = draw(SKEWED, 5)
    turned = suspects.turn_round(truth, 0.05, 0)
    np.testing.assert_array_equal(turned.sum(0), truth.sum(0))
    lost = (truth & ~turned).sum(0)
    np.testing.assert_array_equal(lost, np.maximum(1, np.round(0.05 * truth.sum(0))))
    np.testing.assert_array_equal(turned, suspects.turn_round(truth, 0.05, 0))
    assert (turned != suspects.turn_round(truth, 0.05, 1)).any()
    few = np.array([[True], [False], [True]])
    np.testing.assert_array_equal(suspects.turn_round(few, 0.9, 0).sum(0), few.sum(0))


@pytest.mark.parametrize("shares", [EVEN, SKEWED])
def test_the_share_that_is_found_is_that_of_fits_which_have_seen_the_wrong_labels(shares: tuple[float, ...]) -> None:
    features, truth = draw(shares, 6)
    scores = suspects.out_of_fold(features, truth, fold(truth))
    found, chance = suspects.share_found(scores, truth, 0.05, 10, 0)
    again = []
    for seed in range(4):
        turned = suspects.turn_round(truth, 0.05, seed)
        wrong = turned != truth
        pairs = suspects.rank(suspects.out_of_fold(features, turned, fold(truth)), turned)
        again.append(precision(pairs, turned, wrong)[0])
    assert abs(found - np.mean(again)) < 0.04, (found, again)
    assert found > 0.5 and chance < 0.06
    by_noise, by_chance = suspects.share_found(np.random.default_rng(0).random(truth.shape), truth, 0.05, 10, 0)
    assert by_noise == pytest.approx(by_chance, abs=0.02)


def test_precision_by_hand_beside_pairs_of_the_same_labels_and_kinds() -> None:
    targets = np.array([[True, False], [True, False], [False, False], [False, True]])
    wrong = np.array([[True, False], [False, False], [False, True], [False, False]])
    # Of label 0 half of those that are there are wrong, of label 1 a third of those that are not there.
    assert suspects.precision(np.array([[0, 0], [2, 1]]), targets, wrong) == (1.0, pytest.approx((1 / 2 + 1 / 3) / 2))
    assert suspects.precision(np.array([[3, 1], [2, 0]]), targets, wrong) == (0.0, 0.0)
