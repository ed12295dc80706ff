"""The losses of `config.loss`, against hand computations and against each other where they must agree."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.config import validate
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


EXPONENTS = (0.0, 1e-3, 0.1, 0.5, 0.999, 1.0, 1.5, 2.0, 4.0, 30.0, float(validate.LARGEST_EXPONENT))
CLIPS = (0.0, 1e-300, 1e-30, 1e-8, 0.05, 0.5, 0.999)
# Around the clips 0.05 and 0.5 too, where the cost of a negative begins.
FAR = (-1e4, -200.0, -104.0, -90.0, -88.0, -30.0, -3.0, -2.9445, -2.9, -1.0, 0.0, 1e-3, 2.0, 7.0, 17.0, 40.0, 90.0, 200.0, 1e4)


def asymmetric_gradient(x: np.ndarray, gammas: tuple[float, float], clip: float) -> tuple[np.ndarray, np.ndarray]:
    """The derivatives of the positive's and of the negative's term in float64, from the formula on paper."""
    log_p, log_q = -np.logaddexp(0, -x), -np.logaddexp(0, x)
    p, q = np.exp(log_p), np.exp(log_q)
    present = -np.exp(gammas[0] * log_q) * (q - gammas[0] * log_p * p)
    if clip == 0:
        return present, np.exp(gammas[1] * log_p) * (p - gammas[1] * log_q * q)
    shifted = np.maximum(p - clip, 0)
    safe = np.where(shifted > 0, shifted, 0.5)
    log_rest = np.where(safe < 0.5, np.log1p(-np.minimum(safe, 0.5)), np.logaddexp(log_q, np.log(clip)))
    absent = np.exp(log_p + gammas[1] * np.log(safe)) * (np.exp(log_q - log_rest) - gammas[1] * q * log_rest / safe)
    return present, np.where(shifted > 0, absent, 0.0)


def gradients(loss: Callable[[jax.Array, jax.Array], jax.Array], dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives at FAR where the genre is there and where it is not."""
    logits = jnp.asarray(FAR, dtype)[:, None]
    both = [jax.grad(lambda x, y=y: loss(x, jnp.full((len(FAR), 1), y)).sum())(logits) for y in (1.0, 0.0)]
    return tuple(np.asarray(one, np.float64)[:, 0] for one in both)  # type: ignore[return-value]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("clip", CLIPS)
def test_asymmetric_gradients_are_those_of_float64_for_every_accepted_value(clip: float, dtype: str) -> None:
    flat = config_lib.flatten(config_lib.base())
    x = np.asarray(jnp.asarray(FAR, dtype), np.float64)
    for gamma in EXPONENTS:
        validate.validate({**flat, "loss.asymmetric_gammas": (gamma, gamma), "loss.asymmetric_clip": clip})
        settings = {**config_lib.DEFAULTS["loss"], "name": "asymmetric", "asymmetric_gammas": (gamma, gamma)}
        loss = losses.build(**{**settings, "asymmetric_clip": clip}, genre_counts=np.array([6]), num_rows=12)
        expected = asymmetric_gradient(x, (gamma, gamma), clip)
        # A probability that is rounded to 24 bits moves the power by its exponent.
        tolerance = 1e-2 if dtype == "bfloat16" else 2e-5 + 4e-7 * gamma
        for ours, theirs in zip(gradients(loss.per_example, dtype), expected, strict=True):
            assert np.isfinite(ours).all(), (gamma, ours)
            # Near the clip the probability's excess is itself a rounding error: it is compared where it is above 1e-4.
            excess = 1 / (1 + np.exp(-np.clip(x, -700, 700))) - clip
            sure = (clip == 0) | (np.abs(excess) > 1e-4)
            np.testing.assert_allclose(ours[sure], theirs[sure], rtol=tolerance, atol=1e-5, err_msg=str((gamma, clip)))


def powers_of_zero(logits: jax.Array, label: jax.Array, gamma: float, clip: float) -> jax.Array:
    shifted = jnp.maximum(jax.nn.sigmoid(logits) - clip, 0.0)
    present = jax.nn.log_sigmoid(logits) * jax.nn.sigmoid(-logits) ** gamma
    return -(label * present + (1 - label) * jnp.log1p(-jnp.minimum(shifted, 1 - 1e-7)) * shifted**gamma)


@pytest.mark.parametrize(("gamma", "clip"), list(itertools.product((0.1, 0.5, 0.999), (0.0, 0.05))))
def test_the_formula_as_it_is_printed_has_no_gradient_at_easy_examples(gamma: float, clip: float) -> None:
    both = gradients(lambda x, y: powers_of_zero(x, y, gamma, clip), "float32")
    assert all(np.isnan(one).any() for one in both)


@pytest.mark.parametrize("name", ["sigmoid", "softmax", "focal"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_other_losses_have_finite_gradients_too(name: str, dtype: str) -> None:
    for gamma, smoothing in itertools.product(EXPONENTS, (0.0, 0.1)):
        settings = {**config_lib.DEFAULTS["loss"], "name": name, "focal_gamma": gamma, "label_smoothing": smoothing}
        loss = losses.build(**settings, genre_counts=np.array([6]), num_rows=12)
        assert all(np.isfinite(one).all() for one in gradients(loss.per_example, dtype)), (gamma, smoothing)


@pytest.mark.parametrize(
    ("key", "text"), [("asymmetric_gammas", "(1.0, 3e38)"), ("asymmetric_gammas", "(1001, 1)"), ("focal_gamma", "1e9")]
)
def test_an_exponent_without_use_is_refused(key: str, text: str) -> None:
    with pytest.raises(errors.UserError, match=f"loss.{key}=.* at most 1000"):
        config_lib.load("configs/cnn_onehot.py", [("loss." + key, text)])
