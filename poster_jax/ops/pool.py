"""Max pooling of windows that do not overlap, with a gradient that is fast on CPUs."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp


def largest_and_place(entries: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """The elementwise maximum of equally shaped entries, and its index, uint8.

    Of equal values the first one counts; NaN is larger than every number.
    """
    largest, place = entries[0], jnp.zeros(entries[0].shape, jnp.uint8)
    for index, entry in enumerate(entries[1:], 1):
        is_larger = (entry > largest) | jnp.isnan(entry)
        largest, place = jnp.where(is_larger, entry, largest), jnp.where(is_larger, jnp.uint8(index), place)
    return largest, place


def max_pool(x: jax.Array, window: tuple[int, int]) -> jax.Array:
    """Largest value of every `window` of [B, H, W, C]; the stride is the window, trailing rows and columns are dropped.

    Of equal largest values the first one gets the gradient, as in `nn.max_pool`, whose own gradient is a select-and-scatter,
    slow on CPU.
    """
    rows, columns = x.shape[1] // window[0], x.shape[2] // window[1]
    return _max_pool(x[:, : rows * window[0], : columns * window[1]], window)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(x: jax.Array, window: tuple[int, int]) -> jax.Array:
    return _windows(x, window).max((2, 4))


def _windows(x: jax.Array, window: tuple[int, int]) -> jax.Array:
    """[B, H, W, C] -> [B, H / h, h, W / w, w, C]."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // window[0], window[0], width // window[1], window[1], channels)


def max_pool_forward(x: jax.Array, window: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """Saves the place of the largest entry for the backward pass, rather than the entries themselves.

    XLA recomputes a cheap x (of BatchNorm) wherever it is read, with other roundings, so a search for entries equal to the
    largest would miss some and lose their gradient. A place is within the window whatever the roundings.
    """
    windows = _windows(x, window)
    return largest_and_place([windows[:, :, i, :, j] for i in range(window[0]) for j in range(window[1])])


def max_pool_backward(window: tuple[int, int], place: jax.Array, grad: jax.Array) -> tuple[jax.Array]:
    batch, rows, columns, channels = place.shape
    index = jnp.arange(math.prod(window), dtype=jnp.uint8).reshape(1, 1, window[0], 1, window[1], 1)
    kept = jnp.where(place[:, :, None, :, None] == index, grad[:, :, None, :, None], 0)
    return (kept.reshape(batch, rows * window[0], columns * window[1], channels),)


_max_pool.defvjp(max_pool_forward, max_pool_backward)
