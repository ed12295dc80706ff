"""The first layers of a small network on CPU: a 3x3 convolution of an image and the 2x2 max pool behind it, as one.

The four outputs that a window pools are computed at once from the 4x4 pixels that they see, by a matrix product with a kernel
that holds one shifted copy of the filter for each: 16/9 of the multiplications of the convolution. Channels come before
pixels, so that pooling and its gradient are long loops, which they are not over a handful of channels; `layers.conv_pool2d`
picks this form.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

# Kernel and window side, and the pixels that a window's outputs see.
KERNEL, WINDOW = 3, 2
SEEN = KERNEL + WINDOW - 1


def forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
    """float32 [B, H, W, C] with [3, 3, C, D] -> largest of every window [B, h, w, D] and its place uint8 [D, B, h, w].

    A place counts the window's outputs row by row.
    """
    patches = _patches(x)
    planes = lax.dot_general(_shifted(kernel), patches, (((0,), (0,)), ((), ())))
    outputs = planes.reshape(WINDOW * WINDOW, kernel.shape[3], *patches.shape[1:])
    # Without the barrier XLA walks the planes in the order of the transposed result, a value at a time.
    largest, place = lax.optimization_barrier(largest_and_place(list(outputs)))
    return largest.transpose(1, 2, 3, 0), place


def largest_and_place(entries: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """The largest of equally shaped entries, value by value, and which one it is, uint8.

    The first of equal ones is taken, and a NaN is larger than everything.
    """
    largest, place = entries[0], jnp.zeros(entries[0].shape, jnp.uint8)
    for index, entry in enumerate(entries[1:], 1):
        is_larger = (entry > largest) | jnp.isnan(entry)
        largest, place = jnp.where(is_larger, entry, largest), jnp.where(is_larger, jnp.uint8(index), place)
    return largest, place


def kernel_gradient(x: jax.Array, place: jax.Array, grad: jax.Array) -> jax.Array:
    """The gradient [3, 3, C, D] of the kernel, from the places of `forward` and the gradient float32 [B, h, w, D]."""
    patches = _patches(x)
    planes = lax.optimization_barrier(grad.transpose(3, 0, 1, 2))
    index = jnp.arange(WINDOW * WINDOW, dtype=jnp.uint8).reshape(-1, 1, 1, 1, 1)
    outputs = jnp.where(place[None] == index, planes[None], 0).reshape(-1, *patches.shape[1:])
    pixels = (1, 2, 3)
    products = lax.dot_general(patches, outputs, ((pixels, pixels), ((), ())))
    products = products.reshape(SEEN, SEEN, x.shape[3], WINDOW, WINDOW, -1)
    shifts = [products[i : i + KERNEL, j : j + KERNEL, :, i, j] for i in range(WINDOW) for j in range(WINDOW)]
    return jnp.stack(shifts).sum(0)


def _shifted(kernel: jax.Array) -> jax.Array:
    """[3, 3, C, D] -> [16 * C, 4 * D]: the filter for each output of a window, over the pixels that all of them see."""
    copies = [
        jnp.pad(kernel, ((i, WINDOW - 1 - i), (j, WINDOW - 1 - j), (0, 0), (0, 0)))
        for i in range(WINDOW)
        for j in range(WINDOW)
    ]
    return jnp.stack(copies, axis=3).reshape(SEEN * SEEN * kernel.shape[2], -1)


def _patches(x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [16 * C, B, h, w], what the outputs of each window see; pixels that no whole window needs are left out.

    Forward and backward pass call it on the same `x`, and XLA computes it once for both.
    """
    batch, height, width, channels = x.shape
    rows, columns = (height - KERNEL + 1) // WINDOW, (width - KERNEL + 1) // WINDOW
    x = x[:, : (rows + 1) * WINDOW, : (columns + 1) * WINDOW]
    x = x.reshape(batch, rows + 1, WINDOW, columns + 1, WINDOW, channels)
    # By parity of row and column: so every piece is copied in runs of a row.
    parities = lax.optimization_barrier(x.transpose(2, 4, 5, 0, 1, 3))
    pieces = [
        parities[i % WINDOW, j % WINDOW, :, :, i // WINDOW : i // WINDOW + rows, j // WINDOW : j // WINDOW + columns]
        for i in range(SEEN)
        for j in range(SEEN)
    ]
    return lax.optimization_barrier(jnp.concatenate(pieces))
