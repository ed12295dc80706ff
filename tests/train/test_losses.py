"""The losses of `config.loss`, against hand computations and against each other where they must agree."""

from typing import Any

import jax
import numpy as np
import pytest

from poster_jax import config as config_lib
from poster_jax.train import losses

LOGITS = np.array([[2.0, -1.0, 0.5], [-0.3, 0.0, 1.0]], np.float32)
LABEL = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], np.float32)


def per_example(name: str, label: np.ndarray = LABEL, counts: tuple[int, ...] = (6, 3, 1), **changes: Any) -> np.ndarray:
    settings = {**config_lib.DEFAULTS["loss"], "name": name, **changes}
    loss = losses.build(**settings, genre_counts=np.array(counts), num_rows=12)
    return np.asarray(loss.per_example(LOGITS, label))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def cross_entropy(target: np.ndarray) -> np.ndarray:
    p = sigmoid(LOGITS)
    return -(target * np.log(p) + (1 - target) * np.log(1 - p))


def test_label_smoothing_draws_targets_towards_a_half_and_towards_one_kth() -> None:
    """Keras: `y * (1 - s) + s / 2` for binary, `y * (1 - s) + s / K` for categorical cross entropy."""
    expected = cross_entropy(LABEL * 0.9 + 0.05).mean(1)
    np.testing.assert_allclose(per_example("sigmoid", label_smoothing=0.1), expected, rtol=1e-5)
    integers = np.array([0, 2], np.int32)
    target = np.eye(3)[integers] * 0.9 + 0.1 / 3
    log_softmax = LOGITS - np.log(np.exp(LOGITS).sum(1, keepdims=True))
    np.testing.assert_allclose(per_example("softmax", integers, label_smoothing=0.1), -(target * log_softmax).sum(1), rtol=1e-5)


def test_positive_weights_make_both_sides_of_a_genre_weigh_the_same() -> None:
    """With 6, 3 and 1 positives in 12 rows: 12 / 12 for the first's positives, 12 / 22 for the last's others."""
    positive, negative = np.array([1.0, 2.0, 6.0]), np.array([1.0, 12 / 18, 12 / 22])
    expected = (cross_entropy(LABEL) * np.where(LABEL > 0, positive, negative)).mean(1)
    np.testing.assert_allclose(per_example("sigmoid", positive_weights=True), expected, rtol=1e-5)
    np.testing.assert_allclose(positive * [6, 3, 1], negative * [6, 9, 11])
    plain, weighted = (per_example("softmax", np.array([0, 2]), positive_weights=on) for on in (False, True))
    np.testing.assert_allclose(weighted / plain, [12 / 18, 4.0], rtol=1e-5)


def test_focal_loss_by_hand_and_at_gamma_zero() -> None:
    p = sigmoid(LOGITS)
    truth = np.where(LABEL > 0, p, 1 - p)
    np.testing.assert_allclose(per_example("focal"), ((1 - truth) ** 2 * -np.log(truth)).mean(1), rtol=1e-5)
    np.testing.assert_allclose(per_example("focal", focal_gamma=0.0), per_example("sigmoid"), rtol=1e-5)


def test_asymmetric_loss_by_hand_and_without_asymmetry() -> None:
    p = sigmoid(LOGITS)
    shifted = np.maximum(p - 0.05, 0)
    terms = np.where(LABEL > 0, -np.log(p) * (1 - p), -np.log(1 - shifted) * shifted**4)
    np.testing.assert_allclose(per_example("asymmetric"), terms.mean(1), rtol=1e-5)
    same = per_example("asymmetric", asymmetric_gammas=(0.0, 0.0), asymmetric_clip=0.0)
    np.testing.assert_allclose(same, per_example("sigmoid"), rtol=1e-5)


@pytest.mark.parametrize("name", ["sigmoid", "focal", "asymmetric"])
def test_integer_labels_are_one_hot_rows(name: str) -> None:
    np.testing.assert_allclose(per_example(name, np.array([0, 2])), per_example(name, np.eye(3, dtype=np.float32)[[0, 2]]))


@pytest.mark.parametrize("name", ["sigmoid", "focal", "asymmetric"])
def test_gradients_stay_finite_at_extreme_logits(name: str) -> None:
    settings = {**config_lib.DEFAULTS["loss"], "name": name, "label_smoothing": 0.1, "positive_weights": True}
    loss = losses.build(**settings, genre_counts=np.array([6, 0, 12]), num_rows=12)
    extreme = np.array([[80.0, -80.0, 80.0], [-80.0, 80.0, -80.0]], np.float32)
    gradient = jax.grad(lambda x: loss.per_example(x, LABEL).sum())(extreme)
    assert np.isfinite(gradient).all()
