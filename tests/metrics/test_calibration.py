"""Temperatures: against scikit-learn, the order of every genre to the bit, and what changes on test and what must not."""

import numpy as np
import pytest
import scipy.special
from sklearn import linear_model
from sklearn import metrics as sklearn_metrics

from poster_jax.metrics import calibration, scoring

GENRES = ("a", "b", "c")


def draw(seed: int, num_rows: int, temperature: float, share: tuple[float, ...] = (0.5, 0.3, 0.4)) -> calibration.Rows:
    """Scores whose logits are `temperature` times too large, of labels that follow the right ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (num_rows, len(share))) + scipy.special.logit(share)
    targets = rng.random(logits.shape) < scipy.special.expit(logits)
    return calibration.Rows(scipy.special.expit(temperature * logits).astype(np.float32), targets, np.arange(num_rows))


def test_the_temperature_is_the_slope_of_a_logistic_regression_on_the_logit() -> None:
    for seed, wrong in ((0, 3.0), (1, 0.8), (2, 1.0)):
        rows = draw(seed, 3000, wrong)
        logits = scipy.special.logit(rows.scores[:, 0].astype(np.float64))
        reference = linear_model.LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10)
        slope = reference.fit(logits[:, None], rows.label[:, 0]).coef_[0, 0]
        found = calibration.fit_temperature(rows.scores[:, 0], rows.label[:, 0])
        assert found == pytest.approx(1 / slope, rel=1e-4) and found == pytest.approx(wrong, rel=0.15)
    assert calibration.fit_temperature(np.array([0.2, 0.7]), np.array([True, True])) == 1.0
    right = np.array([0.01, 0.02, 0.98, 0.99])
    assert calibration.fit_temperature(right, right > 0.5) == pytest.approx(calibration.LOWEST, rel=1e-6), "a bound"
    assert calibration.fit_temperature(right, right < 0.5) == pytest.approx(calibration.HIGHEST, rel=1e-6)
    # Scores of 0 and 1 that are wrong cost much, not everything.
    assert 1 < calibration.fit_temperature(np.array([0, 0, 1, 1, 1, 0.0]), np.array([0, 0, 1, 1, 0, 1], bool)) < 20


def test_the_order_within_a_genre_stays_to_the_bit() -> None:
    rng = np.random.default_rng(0)
    near_one = 1 - np.arange(1, 60, dtype=np.float32) * np.float32(2**-24)
    near_half = np.float32(0.5) + np.arange(-30, 30, dtype=np.float32) * np.float32(2**-24)
    tiny = np.float32(1e-30) * np.arange(1, 20, dtype=np.float32)
    column = np.concatenate([near_one, near_half, tiny, rng.random(200).astype(np.float32), [0, 1, 0.25, 0.25]]).astype(
        np.float32
    )
    place = np.unique(column, return_inverse=True)[1]
    for temperature in (calibration.LOWEST, 0.7, 1.0, 3.0, calibration.HIGHEST):
        found = calibration.apply(column[:, None], [temperature])[:, 0]
        assert (np.unique(found, return_inverse=True)[1] == place).all(), temperature
        assert found[column == 0] == 0 and (found[column == 1] == 1).all()
    merged = calibration.apply(column[:, None], [calibration.LOWEST / 2])[:, 0]
    assert len(np.unique(merged)) < len(np.unique(column)), "a lower bound would lose an order"


def test_only_a_genre_with_enough_positives_and_negatives_has_one_of_its_own() -> None:
    rng = np.random.default_rng(1)
    targets = np.zeros((100, 4), bool)
    for k, count in enumerate((19, 20, 80, 81)):
        targets[rng.permutation(100)[:count], k] = True
    scores = 0.8 * rng.random((100, 4)) + 0.2 * targets
    common, each, own = calibration.fit(scores, targets)
    assert own.tolist() == [False, True, True, False]
    assert each[0] == each[3] == common == calibration.fit_temperature(scores, targets)
    assert each[1] == calibration.fit_temperature(scores[:, 1], targets[:, 1]) != common


def test_an_overconfident_network_is_mended_and_its_ranking_stays() -> None:
    parts = {"validation": draw(2, 1500, 3.0), "test": draw(3, 1500, 3.0)}
    found = calibration.measure(parts, GENRES, num_samples=100, seed=0)
    assert found["temperature"] == pytest.approx(3.0, rel=0.1) and found["own"] == list(GENRES)
    error = found["test"]["calibration_error"]
    assert error["after"] < 0.4 * error["before"] and error["difference"]["high"] < 0
    assert error["difference"]["low"] <= error["difference"]["value"] == pytest.approx(error["after"] - error["before"])
    for name in ("mean_average_precision", "macro_auc", *(f"{name}@tuned" for name in scoring.THRESHOLDED)):
        entry = found["test"][name]
        assert entry["before"] == entry["after"] and entry["difference"]["value"] == 0, name
    assert found["test"]["top1_accuracy"]["before"] != found["test"]["top1_accuracy"]["after"]
    # Before and after are what the scores themselves give.
    test, temperatures = parts["test"], list(found["temperatures"].values())
    about = {"genres": GENRES, "thresholds": {}, "num_samples": 2, "seed": 0}
    for key, scores in (("before", test.scores), ("after", calibration.apply(test.scores, temperatures))):
        metrics = scoring.score(scores, test.label, test.group, **about)["metrics"]  # type: ignore[arg-type]
        for name in ("calibration_error", "top1_accuracy", "binary_accuracy"):
            assert found["test"][name][key] == metrics[name]["value"]
    before, after = (
        sum(sklearn_metrics.log_loss(test.label[:, k], scores[:, k]) for k in range(3))
        for scores in (test.scores, calibration.apply(test.scores, temperatures))
    )
    assert after < before, "a proper score agrees"
    thresholds = np.array(list(found["thresholds"].values()))
    calibrated = calibration.apply(parts["validation"].scores, temperatures)
    assert thresholds.tolist() == scoring.choose_thresholds(calibrated, parts["validation"].label).tolist()


def test_a_calibrated_network_is_left_as_it_is() -> None:
    parts = {"validation": draw(4, 1500, 1.0), "test": draw(5, 1500, 1.0)}
    found = calibration.measure(parts, GENRES, num_samples=100, seed=0)
    assert found["temperature"] == pytest.approx(1.0, abs=0.08)
    difference = found["test"]["calibration_error"]["difference"]
    assert difference["low"] <= 0 <= difference["high"]


def test_single_labels_and_equal_inputs() -> None:
    rows = draw(6, 300, 2.0)
    single = calibration.Rows(rows.scores, rows.scores.argmax(axis=1), rows.group // 3)
    parts = {"validation": single, "test": single}
    one, other = (calibration.measure(parts, GENRES, num_samples=20, seed=1) for _ in range(2))
    assert one == other
    assert one != calibration.measure(parts, GENRES, num_samples=20, seed=2)
