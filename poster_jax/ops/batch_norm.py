"""BatchNorm over a batch with a custom gradient, which needs half of autodiff's passes over the activations."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Normalised = tuple[jax.Array, jax.Array, jax.Array]  # values, mean, variance
Saved = tuple[jax.Array, jax.Array, jax.Array, jax.Array]  # input, scale, mean, 1 / deviation


def batch_norm(y: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> Normalised:
    """Normalises float32 [B, H, W, C] with `scale` and `bias` [1, 1, 1, C]; returns it with the batch's mean and variance.

    No gradient flows through the returned statistics.
    """
    # jax 0.10 does not type what a function with a gradient of its own returns.
    normalised: Any = _batch_norm(y, scale, bias, epsilon)
    return normalised


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _batch_norm(y: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> Normalised:
    return _batch_norm_forward(y, scale, bias, epsilon)[0]


def _batch_norm_forward(y: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> tuple[Normalised, Saved]:
    mean = y.mean((0, 1, 2), keepdims=True)
    var = jnp.square(y - mean).mean((0, 1, 2), keepdims=True)
    inverse = lax.rsqrt(var + epsilon)
    return ((y - mean) * (scale * inverse) + bias, mean, var), (y, scale, mean, inverse)


def _batch_norm_backward(epsilon: float, saved: Saved, gradients: Normalised) -> tuple[jax.Array, jax.Array, jax.Array]:
    y, scale, mean, inverse = saved
    grad = lax.optimization_barrier(gradients[0])
    bias_gradient = grad.sum((0, 1, 2), keepdims=True)
    scale_gradient = (grad * (y - mean)).sum((0, 1, 2), keepdims=True) * inverse
    count = math.prod(y.shape[:3])
    centred = grad - bias_gradient / count - (y - mean) * (inverse * scale_gradient / count)
    return centred * (scale * inverse), scale_gradient, bias_gradient


_batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)
