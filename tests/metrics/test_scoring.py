"""All results of a split: metrics by hand, floors of known labels, thresholds, refusals."""

import json
import time

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from poster_jax.metrics import scoring

GENRES = ("Action", "Comedy", "Drama")


def one_row(scores, labels, **changes):
    scores = np.asarray(scores, np.float64)
    keywords = {"genres": [f"g{k}" for k in range(scores.shape[1])], "thresholds": {}}
    keywords |= {"num_samples": 20, "seed": 0} | changes
    return scoring.score(scores, labels, np.arange(len(scores)), **keywords)


def tied_problem(seed, num_rows=300, num_genres=5):
    """Scores with 8 distinct values, multi-hot labels that they predict a little, integer weights with zeros."""
    rng = np.random.default_rng(seed)
    targets = rng.random((num_rows, num_genres)) < 0.25
    scores = np.round(np.clip(rng.random((num_rows, num_genres)) + 0.2 * targets, 0, 1) * 7) / 7
    weights = rng.poisson(1.0, size=num_rows).astype(np.float64)
    return scores, targets, weights


# Four movies, three genres; yes at 0.5 is [A], [C], [], [A, C].
HAND_SCORES = np.array([[0.9, 0.2, 0.1], [0.3, 0.6, 0.2], [0.4, 0.3, 0.2], [0.8, 0.7, 0.1]])
HAND_LABELS = np.array([[1, 0, 0], [0, 1, 1], [1, 0, 0], [0, 1, 0]])


def test_multi_hot_metrics_by_hand():
    result = one_row(HAND_SCORES, HAND_LABELS, genres=GENRES)
    value = {name: entry["value"] for name, entry in result["metrics"].items()}
    # Wrong cells of twelve: row 1 misses Drama, row 2 misses Action, row 3 says Action.
    assert value["binary_accuracy"] == pytest.approx(9 / 12)
    assert value["exact_match"] == 1 / 4
    # Top genres: Action (right), Comedy (right), Action (right), Action (wrong).
    assert value["top1_accuracy"] == 3 / 4
    # Action: tp 1 fp 1 fn 1; Comedy: tp 2; Drama: fn 1.
    assert value["macro_f1"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert value["micro_f1"] == pytest.approx(2 * 3 / (2 * 3 + 1 + 2))
    # Action ranks yes, no, yes, no; Comedy yes, yes, no, no; Drama ties its one yes with one no above two no.
    assert value["mean_average_precision"] == pytest.approx(((1 + 2 / 3) / 2 + 1 + 1 / 2) / 3)
    assert value["macro_auc"] == pytest.approx((3 / 4 + 1 + 2.5 / 3) / 3)
    action = result["per_genre"]["Action"]
    assert (action["count"], action["prevalence"], action["threshold"]) == (2, 0.5, 0.5)
    assert (action["precision"], action["recall"], action["f1"]["value"]) == (0.5, 0.5, 0.5)
    assert result["per_genre"]["Drama"]["precision"] is None  # never answered
    assert result["confusion"] == [[[1, 1], [1, 1]], [[2, 0], [0, 2]], [[3, 0], [1, 0]]]
    assert (result["num_rows"], result["num_movies"], result["labels_per_row"]) == (4, 4, 1.25)


def test_single_label_metrics_by_hand():
    scores = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.4, 0.4, 0.2], [0.1, 0.2, 0.7]])
    result = one_row(scores, np.array([0, 2, 1, 2]), genres=GENRES)
    value = {name: entry["value"] for name, entry in result["metrics"].items()}
    assert value["top1_accuracy"] == (1 + 0 + 0.5 + 1) / 4  # the tie of row 2 counts half
    assert value["exact_match"] == 2 / 4
    assert value["binary_accuracy"] == pytest.approx((3 + 1 + 2 + 3) / 12)
    assert result["confusion"] == [[1, 0, 0], [1, 0, 0], [0, 1, 1]]
    assert result["labels_per_row"] == 1.0


def test_calibration_error_by_hand():
    # Bins of width 1/15: 0.90 and 0.92 share one (13.5, 13.8), 0.10 is alone (1.5). |1 - 1.82| / 3 + |0 - 0.1| / 3.
    result = one_row([[0.90], [0.92], [0.10]], np.array([[1], [0], [0]]))
    assert result["metrics"]["calibration_error"]["value"] == pytest.approx((0.82 + 0.1) / 3)
    # 0.94 is in the bin above that of 0.90 (14.1): (|1 - 0.90| + |0 - 0.94|) / 2.
    result = one_row([[0.90], [0.94]], np.array([[1], [0]]))
    assert result["metrics"]["calibration_error"]["value"] == pytest.approx((0.1 + 0.94) / 2)
    assert one_row([[1.0], [0.0]], [[1], [0]])["metrics"]["calibration_error"]["value"] == 0.0


def test_genres_without_positives_are_skipped_and_counted():
    scores = np.array([[0.9, 0.8], [0.1, 0.7], [0.6, 0.1]])
    result = one_row(scores, np.array([[1, 0], [0, 0], [1, 0]]))
    for name in ("macro_f1", "mean_average_precision", "macro_auc"):
        entry = result["metrics"][name]
        assert (entry["value"], entry["num_skipped"], entry["ceiling"]) == (1.0, 1, 1.0)
    empty = result["per_genre"]["g1"]
    nothing = {"value": None, "low": None, "high": None, "floor": None}
    assert empty["average_precision"] == nothing | {"chance": None, "p_value": None}
    assert empty["auc"] == empty["f1"] == nothing
    # Every row carries the genre: AUC has no negatives, F1 and average precision are defined.
    full = one_row([[0.9], [0.2]], np.array([[1], [1]]))
    assert full["metrics"]["macro_auc"]["value"] is None
    assert full["metrics"]["macro_auc"]["num_skipped"] == 1
    assert full["metrics"]["mean_average_precision"]["value"] == 1.0
    # Nothing anywhere: undefined, and still JSON without NaN.
    nowhere = one_row([[0.1], [0.2]], np.array([[0], [0]]))
    assert nowhere["metrics"]["micro_f1"]["ceiling"] is None
    assert nowhere["metrics"]["macro_auc"]["best_floor"] is None
    json.dumps(nowhere, allow_nan=False)


def test_thresholds_are_chosen_for_f1():
    scores = np.array([[0.9, 0.5, 0.3], [0.4, 0.5, 0.3], [0.3, 0.5, 0.9], [0.1, 0.2, 0.1]])
    labels = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]])
    # g1: a yes at 0.5 has F1 4/5, below it 4/6. g2 has no positives.
    assert scoring.choose_thresholds(scores, labels).tolist() == [0.4, 0.5, 0.5]
    # F1 is 2/3 at 0.8 (1 of 1, of 2 found) and 4/5 at 0.4 (2 of 3).
    apart = np.array([[0.8], [0.6], [0.4], [0.2]])
    assert scoring.choose_thresholds(apart, [[1], [0], [1], [0]]).tolist() == [0.4]
    # F1 is 2/3 both at 0.8 (1 of 1, of 2 found) and at 0.2 (2 of 4): the highest wins.
    tied = np.array([[0.8], [0.6], [0.4], [0.2]])
    assert scoring.choose_thresholds(tied, [[1], [0], [0], [1]]).tolist() == [0.8]


def test_thresholds_beat_every_other_candidate():
    scores, targets, _ = tied_problem(3)
    chosen = scoring.choose_thresholds(scores, targets)
    for k, threshold in enumerate(chosen):
        f1 = [sklearn_metrics.f1_score(targets[:, k], scores[:, k] >= candidate) for candidate in np.unique(scores)]
        assert sklearn_metrics.f1_score(targets[:, k], scores[:, k] >= threshold) == max(f1)
    half = np.full(5, 0.5)
    result = one_row(scores, targets.astype(int), thresholds={"tuned": chosen, "half": half})["metrics"]
    assert result["macro_f1@tuned"]["value"] > result["macro_f1"]["value"] == result["macro_f1@half"]["value"]


def test_floors_of_strict_one_hot_labels():
    labels = np.repeat(np.arange(6), [50, 10, 10, 10, 10, 10])
    scores = np.full((100, 6), 1 / 6)
    result = one_row(scores, labels, thresholds={"tuned": np.full(6, 0.5)})["metrics"]
    zeros = {name: entry["all_zeros"] for name, entry in result.items()}
    best = {name: entry["best_floor"] for name, entry in result.items()}
    assert best["binary_accuracy"] == zeros["binary_accuracy"] == pytest.approx(5 / 6)
    assert (zeros["top1_accuracy"], best["top1_accuracy"]) == (pytest.approx(1 / 6), 0.5)  # ties, and the most frequent genre
    assert (zeros["exact_match"], best["exact_match"]) == (0.0, 0.5)
    assert zeros["macro_auc"] == best["macro_auc"] == 0.5
    assert best["mean_average_precision"] == pytest.approx(1 / 6)
    always = (2 * 0.5 / 1.5 + 5 * 2 * 0.1 / 1.1) / 6
    assert (zeros["macro_f1"], best["macro_f1"]) == (0.0, pytest.approx(always))
    # A yes to the first genre alone: 50 right of 100 answers and 100 labels; yes to all: 100 of 600 and 100.
    assert best["micro_f1"] == pytest.approx(2 * 50 / 200)
    assert best["micro_f1"] > 2 * 100 / 700
    assert best["micro_f1@tuned"] == best["micro_f1"]
    assert best["calibration_error"] == 0.0 and zeros["calibration_error"] == pytest.approx(1 / 6)
    expected = {"labels_per_row": 1.0, "all_zeros_binary_accuracy": 1 - 1 / 6}
    assert scoring.explain_labels(labels, 6) == expected


def test_equal_inputs_give_equal_bits_and_json():
    scores, targets, _ = tied_problem(4)
    noisy = np.clip(scores + np.random.default_rng(0).normal(0, 0.01, scores.shape), 0, 1).astype(np.float32)
    thresholds = {"tuned": scoring.choose_thresholds(noisy, targets)}
    first, second = (
        json.dumps(one_row(noisy, targets.astype(np.float32), thresholds=thresholds), allow_nan=False) for _ in range(2)
    )
    assert first == second
    other = one_row(noisy, targets.astype(np.float32), thresholds=thresholds, seed=1)
    assert json.dumps(other, allow_nan=False) != first
    result = json.loads(first)
    assert list(result["metrics"]) == [
        "binary_accuracy", "binary_accuracy@tuned", "top1_accuracy", "exact_match", "exact_match@tuned", "macro_f1",
        "macro_f1@tuned", "micro_f1", "micro_f1@tuned", "mean_average_precision", "macro_auc", "calibration_error",
    ]  # fmt: skip
    assert "accuracy" not in result["metrics"]
    genre = result["per_genre"]["g0"]
    assert set(genre["f1@tuned"]) == set(genre["auc"]) == {"value", "low", "high", "floor"}
    assert genre["threshold@tuned"] == thresholds["tuned"][0]
    prevalence = genre["prevalence"]
    assert genre["average_precision"]["floor"] == prevalence
    assert genre["f1"]["floor"] == pytest.approx(2 * prevalence / (1 + prevalence))


def test_each_genre_has_its_own_interval():
    rng = np.random.default_rng(0)
    labels = (rng.random((200, 2)) < 0.5).astype(int)
    scores = np.stack([labels[:, 0] * 0.8 + 0.1, rng.random(200)], axis=1)  # the first genre is known, the second guessed
    per_genre = one_row(scores, labels, num_samples=200)["per_genre"]
    for name in ("average_precision", "auc", "f1"):
        known, guessed = per_genre["g0"][name], per_genre["g1"][name]
        assert known["low"] == known["value"] == known["high"] == 1.0
        assert guessed["low"] < guessed["value"] < guessed["high"] < 0.75


def test_a_thousand_resamples_take_seconds():
    rng = np.random.default_rng(0)
    labels = (rng.random((2000, 6)) < 0.2).astype(np.float32)
    start = time.perf_counter()
    one_row(rng.random((2000, 6)), labels, num_samples=1000, thresholds={"tuned": np.full(6, 0.3)})
    assert time.perf_counter() - start < 10  # about 0.7 s on an idle machine


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([[0.5, np.nan], [np.inf, 0.1]], [0, 1], "2 of 4 scores are NaN or infinite"),
        ([[0.5, 1.5], [0.2, 0.1]], [0, 1], "1 of 4 scores lie outside"),
        ([0.5, 0.2], [0, 1], r"scores have shape \(2,\)"),
        ([[0.5, 0.5]], [2], r"labels span \[2, 2\], outside \[0, 2\)"),
        ([[0.5, 0.5]], [[0, 2]], "must be 0 or 1"),
        ([[0.5, 0.5]], [0.0], "must be integers"),
        ([[0.5, 0.5]], [[0, 1, 0]], "labels have shape"),
        ([[0.5, 0.5]], [0, 1], "1 rows of scores beside 2"),
    ],
)
def test_refusals(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        scoring.choose_thresholds(scores, np.asarray(labels))


def test_refusals_of_score():
    with pytest.raises(ValueError, match="1 of 12 scores are NaN"):
        one_row(np.where(np.arange(12).reshape(4, 3) == 5, np.nan, HAND_SCORES), HAND_LABELS)
    with pytest.raises(ValueError, match="thresholds 'tuned' have shape"):
        one_row(HAND_SCORES, HAND_LABELS, thresholds={"tuned": np.zeros(2)})
    with pytest.raises(ValueError, match="num_samples is 0"):
        one_row(HAND_SCORES, HAND_LABELS, num_samples=0)
    with pytest.raises(ValueError, match="4 rows of scores beside 3"):
        scoring.score(
            HAND_SCORES, HAND_LABELS, np.arange(3), genres=GENRES, thresholds={},
            num_samples=5, seed=0,
        )  # fmt: skip


def test_genres_whose_score_is_the_same_for_every_row_are_counted() -> None:
    rng = np.random.default_rng(3)
    scores, labels = rng.random((40, 3)), rng.integers(0, 2, (40, 3))
    scores[:, 1] = 0.25 + 1e-8 * rng.random(40)
    for genre, expected in ((1, 1), (2, 2), (0, 3)):
        scores[:, genre] = scores[0, genre]
        found = scoring.score(scores, labels, np.arange(40), genres="abc", thresholds={}, num_samples=5, seed=0)
        assert found["num_constant"] == expected
