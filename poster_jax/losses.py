"""Losses per example and the masked mean; the two names that `config.train.loss` may have."""

import jax
import jax.numpy as jnp
import optax


def one_hot(label: jax.Array, num_genres: int) -> jax.Array:
    """int32 [B] -> float32 [B, K]; float32 [B, K] stays as it is."""
    return jax.nn.one_hot(label, num_genres) if label.ndim == 1 else label


def sigmoid_loss(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Binary cross entropy averaged over genres, as Keras `binary_crossentropy` does.

    Args:
        logits: float32 [B, K].
        label: int32 [B], read as one-hot, or float32 [B, K].
    Returns: float32 [B].
    """
    return optax.sigmoid_binary_cross_entropy(logits, one_hot(label, logits.shape[-1])).mean(axis=-1)


def softmax_loss(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Cross entropy of one genre per row.

    Args:
        logits: float32 [B, K].
        label: int32 [B], or one-hot float32 [B, K]: the same function, which is a claim of the paper put to rest.
    Returns: float32 [B].
    """
    return -(one_hot(label, logits.shape[-1]) * jax.nn.log_softmax(logits)).sum(axis=-1)


LOSSES = {"sigmoid": sigmoid_loss, "softmax": softmax_loss}
PROBABILITIES = {"sigmoid": jax.nn.sigmoid, "softmax": jax.nn.softmax}


def masked_sum(values: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(sum, count) over rows whose mask is 1; a padded row counts nothing, not even when its value is not finite."""
    return jnp.where(mask > 0, values, 0.0).sum(), mask.sum()
