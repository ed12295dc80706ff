"""The first convolution of an image and the max pool after it, fused on CPU.

The four outputs of a pooling window are computed at once from the 4x4 pixels that they depend on, by a matrix product with a
kernel that holds a shifted copy of the filter for each output: 16/9 of the multiplications of the convolution. Channels come
before pixels, so that pooling and its gradient are long loops rather than loops over a few channels.
"""

import jax
import jax.numpy as jnp
from jax import lax

from poster_jax.ops import conv, conv_narrow, dispatch, pool

# Side of the kernel, of the window, and of the pixels that the outputs of a window depend on.
KERNEL, WINDOW = 3, 2
SEEN = KERNEL + WINDOW - 1


def joined_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
    """float32 [B, H, W, C] with [3, 3, C, D] -> largest of every window [B, h, w, D] and its place uint8 [D, B, h, w].

    A place counts the window's outputs row by row.
    """
    patches = _patches(x)
    planes = lax.dot_general(_shifted(kernel), patches, (((0,), (0,)), ((), ())))
    outputs = planes.reshape(WINDOW * WINDOW, kernel.shape[3], *patches.shape[1:])
    # Without the barrier XLA walks the planes in the order of the transposed result, a value at a time.
    largest, place = lax.optimization_barrier(pool.largest_and_place(list(outputs)))
    return largest.transpose(1, 2, 3, 0), place


def joined_kernel_gradient(x: jax.Array, place: jax.Array, grad: jax.Array) -> jax.Array:
    """The gradient [3, 3, C, D] of the kernel, from the places of `joined_forward` and the gradient float32 [B, h, w, D]."""
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
    """[3, 3, C, D] -> [16 * C, 4 * D]: the filter for each output of a window, over the pixels of all four."""
    copies = [
        jnp.pad(kernel, ((i, WINDOW - 1 - i), (j, WINDOW - 1 - j), (0, 0), (0, 0)))
        for i in range(WINDOW)
        for j in range(WINDOW)
    ]
    return jnp.stack(copies, axis=3).reshape(SEEN * SEEN * kernel.shape[2], -1)


def _patches(x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [16 * C, B, h, w], the pixels of each window; those that belong to no whole window are dropped.

    Forward and backward pass call it on the same `x`, and XLA computes it once for both.
    """
    batch, height, width, channels = x.shape
    rows, columns = (height - KERNEL + 1) // WINDOW, (width - KERNEL + 1) // WINDOW
    x = x[:, : (rows + 1) * WINDOW, : (columns + 1) * WINDOW]
    x = x.reshape(batch, rows + 1, WINDOW, columns + 1, WINDOW, channels)
    # Sorted by parity of row and column, so that every piece is copied in runs of a row.
    parities = lax.optimization_barrier(x.transpose(2, 4, 5, 0, 1, 3))
    pieces = [
        parities[i % WINDOW, j % WINDOW, :, :, i // WINDOW : i // WINDOW + rows, j // WINDOW : j // WINDOW + columns]
        for i in range(SEEN)
        for j in range(SEEN)
    ]
    return lax.optimization_barrier(jnp.concatenate(pieces))


def conv_pool2d(x: jax.Array, kernel: jax.Array, window: int) -> jax.Array:
    """`max_pool(conv2d(x, kernel, padding="VALID"), (window, window))`, fused if that is faster."""
    is_image = (
        kernel.shape[2] <= conv_narrow.IMAGE_CHANNELS and kernel.shape[3] < conv.WINOGRAD_CHANNELS and conv.is_rewritable(x)
    )
    if is_image and kernel.shape[:2] == conv_narrow.KERNEL and window == WINDOW and min(x.shape[1:3]) >= SEEN:
        return _conv_pool(x, kernel)
    return pool.max_pool(conv.conv2d(x, kernel, padding="VALID"), (window, window))


@jax.custom_vjp
def _conv_pool(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _conv_pool_forward(x, kernel)[0]


def _conv_pool_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    def joined(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        largest, place = joined_forward(x.astype(jnp.float32), kernel.astype(jnp.float32))
        return largest.astype(x.dtype), place

    def apart(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        largest, place = pool.max_pool_forward(_whole_windows(dispatch.native_conv2d(x, kernel)), _IMAGE_WINDOW)
        return largest, place.transpose(3, 0, 1, 2)

    largest, place = dispatch.by_platform(x, kernel, cpu=joined, default=apart)
    return largest, (x, kernel, place)


def _conv_pool_backward(saved: tuple[jax.Array, ...], grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    def spread(x: jax.Array, kernel: jax.Array, place: jax.Array, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
        def outputs(x: jax.Array, kernel: jax.Array) -> jax.Array:
            return _whole_windows(dispatch.native_conv2d(x, kernel))

        return jax.vjp(outputs, x, kernel)[1](pool.max_pool_backward(_IMAGE_WINDOW, place.transpose(1, 2, 3, 0), grad)[0])

    def joined(x: jax.Array, kernel: jax.Array, place: jax.Array, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
        kernel_gradient = joined_kernel_gradient(x.astype(jnp.float32), place, grad.astype(jnp.float32))
        # XLA drops the gradient of `x` if it is unused, as for posters.
        return spread(x, kernel, place, grad)[0], kernel_gradient.astype(kernel.dtype)

    return dispatch.by_platform(*saved, grad, cpu=joined, default=spread)


_conv_pool.defvjp(_conv_pool_forward, _conv_pool_backward)
_IMAGE_WINDOW = (WINDOW, WINDOW)


def _whole_windows(x: jax.Array) -> jax.Array:
    """Drops the rows and columns that fill no window."""
    rows, columns = (side - side % WINDOW for side in x.shape[1:3])
    return x[:, :rows, :columns]
