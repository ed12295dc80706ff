"""Losses per example, built from `config.loss`, and the masked mean."""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax


def one_hot(label: jax.Array, num_genres: int) -> jax.Array:
    """int32 [B] -> float32 [B, K]; float32 [B, K] stays as it is."""
    return jax.nn.one_hot(label, num_genres) if label.ndim == 1 else label


def softmax_loss(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Cross entropy of one genre per row.

    Args:
        logits: float32 [B, K].
        label: int32 [B], or one-hot float32 [B, K]: the same function, which is a claim of the paper put to rest.
    Returns: float32 [B].
    """
    return -(one_hot(label, logits.shape[-1]) * jax.nn.log_softmax(logits)).sum(axis=-1)


def asymmetric_terms(logits: jax.Array, label: jax.Array, gammas: tuple[float, float], clip: float) -> jax.Array:
    """Focal loss with one exponent for genres that are there and one for the others (Ridnik et al. 2021, arXiv:2009.14119).

    Powers are exponentials of logarithms: the derivative of 0 to a power below 1 is infinite, and times a term that is 0 it is
    NaN, although the derivative of their product is 0.

    Args:
        logits, label: float32 [B, K].
        gammas: exponents for positives and for negatives.
        clip: taken off a negative's probability, so that easy negatives cost nothing.
    Returns: float32 [B, K].
    """
    positive, negative = gammas
    present = jax.nn.log_sigmoid(logits) * jnp.exp(positive * jax.nn.log_sigmoid(-logits))
    if clip == 0:
        absent = jax.nn.log_sigmoid(-logits) * jnp.exp(negative * jax.nn.log_sigmoid(logits))
        return -(label * present + (1 - label) * absent)
    shifted = jax.nn.sigmoid(logits) - clip
    costs = shifted > jnp.finfo(jnp.float32).tiny  # below it 1 / shifted, which the gradient has, may overflow
    safe = jnp.where(costs, shifted, 0.5)
    # Whichever of `shifted` and 1 - shifted is the smaller one is not rounded; both logarithms are taken from it.
    near_one = safe > 0.5
    rest = jnp.where(near_one, jax.nn.sigmoid(-logits) + clip, 0.5)
    log_rest = jnp.where(
        near_one,
        jnp.logaddexp(jax.nn.log_sigmoid(-logits), jnp.full_like(logits, math.log(clip))),
        jnp.log1p(-jnp.where(near_one, 0.5, safe)),
    )
    absent = log_rest * jnp.exp(negative * jnp.where(near_one, jnp.log1p(-rest), jnp.log(safe)))
    return -(label * present + (1 - label) * jnp.where(costs, absent, 0.0))


@dataclasses.dataclass(frozen=True)
class Loss:
    """`per_example(logits [B, K], label) -> float32 [B]`, and `probabilities(logits) -> [B, K]` that go with it."""

    per_example: Callable[[jax.Array, jax.Array], jax.Array]
    probabilities: Callable[[jax.Array], jax.Array]


def build(
    *,
    name: str,
    label_smoothing: float,
    positive_weights: bool,
    focal_gamma: float,
    asymmetric_gammas: tuple[float, float],
    asymmetric_clip: float,
    genre_counts: np.ndarray,
    num_rows: int,
) -> Loss:
    """`build(**config.loss, genre_counts=[K], num_rows=N)`: the loss of a config; counts are those of the training part.

    Label smoothing draws sigmoid targets towards 1/2 and softmax targets towards 1/K, as Keras does. Positive weights make the
    positives of every genre weigh as much as its negatives (softmax: every genre as much as every other), at a mean of 1.
    """
    counts = np.maximum(np.asarray(genre_counts, np.float64), 1)
    is_softmax = name == "softmax"
    if is_softmax:
        # Positive weights are those of rows here: one per genre.
        present, absent = num_rows / (len(counts) * counts), np.ones(len(counts))
    else:
        present, absent = num_rows / (2 * counts), num_rows / (2 * np.maximum(num_rows - counts, 1))

    def per_example(logits: jax.Array, label: jax.Array) -> jax.Array:
        logits = jnp.asarray(logits, jnp.float32)
        truth = one_hot(label, logits.shape[-1])
        target = truth + label_smoothing * ((1 / logits.shape[-1] if is_softmax else 0.5) - truth)
        if is_softmax:
            weight = truth @ jnp.asarray(present, jnp.float32) if positive_weights else 1.0
            return weight * softmax_loss(logits, target)
        if name == "focal":
            terms = optax.sigmoid_focal_loss(logits, target, gamma=focal_gamma)
        elif name == "asymmetric":
            terms = asymmetric_terms(logits, target, asymmetric_gammas, asymmetric_clip)
        else:
            terms = optax.sigmoid_binary_cross_entropy(logits, target)
        if positive_weights:
            rows = [jnp.asarray(values, jnp.float32)[None] for values in (present, absent)]
            terms = terms * jnp.where(truth > 0.5, *rows)
        return terms.mean(axis=-1)

    return Loss(per_example, probabilities_of(name))


def probabilities_of(name: str) -> Callable[[jax.Array], jax.Array]:
    """From logits to the probabilities that a loss of this name trains."""
    return jax.nn.softmax if name == "softmax" else jax.nn.sigmoid


def masked_sum(values: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(sum, count) over rows whose mask is 1; a padded row counts nothing, not even when its value is not finite."""
    return jnp.where(mask > 0, values, 0.0).sum(), mask.sum()
