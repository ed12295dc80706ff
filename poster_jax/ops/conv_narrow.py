"""3x3 convolutions of few channels in forms that are fast on CPU, with their gradients; `conv.conv2d` selects them.

XLA on CPU computes a convolution as one matrix product whose short side is the number of channels or features. With 3 channels
or 11 features that side is too short or too odd for its inner loops. Here several columns of the output are computed at once,
with a kernel that holds a shifted copy of the filter for each column: more multiplications, in less time.
"""

import jax
import jax.numpy as jnp
from jax import lax

from poster_jax.ops import dispatch

# Measured on 3 -> 4 to 12 and 4 to 12 -> 16 to 31 channels, the widths of the paper's search.
KERNEL = (3, 3)
# An input of up to so many channels counts as an image: its patches are small enough to be materialised.
IMAGE_CHANNELS = 4
# Columns at once in the first layer (which has 99) and in the input's gradient.
IMAGE_COLUMNS, GRADIENT_COLUMNS = 3, 2
# Numbers of features for which XLA's filter gradient is fast: 11 take twice as long as 16, and 24 half as long again as 32.
FEATURES = (8, 16, 32)


def convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """VALID convolution with stride 1 of float32 [B, H, W, C] with [kh, kw, C, D]."""
    if x.shape[3] > IMAGE_CHANNELS:
        return dispatch.native_conv2d(x, kernel)
    shifted = _shifted(kernel, IMAGE_COLUMNS)
    planes = lax.dot_general(shifted.reshape(-1, shifted.shape[3]), _patches(x, kernel), (((0,), (0,)), ((), ())))
    # Without the barrier XLA merges product and transposition into one product, which is slower than the two.
    columns = lax.optimization_barrier(planes).transpose(1, 2, 3, 0)
    return _apart(columns, kernel.shape[3])[:, :, : x.shape[2] - kernel.shape[1] + 1]


def gradients(x: jax.Array, kernel: jax.Array, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Gradients of `convolution` with respect to `x` and `kernel`, float32."""
    product = _patch_gradient if x.shape[3] <= IMAGE_CHANNELS else _padded_gradient
    return _input_gradient(x, kernel, grad), product(x, kernel, grad)


def _input_gradient(x: jax.Array, kernel: jax.Array, grad: jax.Array) -> jax.Array:
    """Convolution of the gradient with the flipped filter, two columns at once."""
    height, width = kernel.shape[:2]
    turned = _shifted(kernel[::-1, ::-1].transpose(0, 1, 3, 2), GRADIENT_COLUMNS)
    odd = -x.shape[2] % GRADIENT_COLUMNS
    grad = jnp.pad(grad, ((0, 0), (height - 1, height - 1), (width - 1, width - 1 + odd), (0, 0)))
    return _apart(dispatch.native_conv2d(grad, turned, strides=(1, GRADIENT_COLUMNS)), kernel.shape[2])[:, :, : x.shape[2]]


def _padded_gradient(x: jax.Array, kernel: jax.Array, grad: jax.Array) -> jax.Array:
    """XLA's own filter gradient, zero-padded to a number of features for which it is fast."""
    features = kernel.shape[3]
    more = ((0, 0), (0, 0), (0, 0), (0, next(count for count in FEATURES if count >= features) - features))
    transposed = jax.linear_transpose(lambda k: dispatch.native_conv2d(x, k), jnp.pad(kernel, more))
    return transposed(jnp.pad(grad, more))[0][..., :features]


def _patch_gradient(x: jax.Array, kernel: jax.Array, grad: jax.Array) -> jax.Array:
    """The filter gradient as one matrix product of the patches with the gradient."""
    height, width, channels, features = kernel.shape
    patches = _patches(x, kernel)
    tiles = patches.shape[3]
    grad = jnp.pad(grad, ((0, 0), (0, 0), (0, tiles * IMAGE_COLUMNS - grad.shape[2]), (0, 0)))
    grad = lax.optimization_barrier(grad.reshape(*grad.shape[:2], tiles, -1))
    products = lax.dot_general(patches, grad, (((1, 2, 3), (0, 1, 2)), ((), ())))
    products = products.reshape(height, -1, channels, IMAGE_COLUMNS, features)
    return jnp.stack([products[:, i : i + width, :, i] for i in range(IMAGE_COLUMNS)]).sum(0)


def _shifted(kernel: jax.Array, count: int) -> jax.Array:
    """[kh, kw, C, D] -> [kh, kw + count - 1, C, count * D]: the filter for `count` adjacent columns at once."""
    copies = [jnp.pad(kernel, ((0, 0), (i, count - 1 - i), (0, 0), (0, 0))) for i in range(count)]
    return jnp.concatenate(copies, axis=3)


def _apart(columns: jax.Array, channels: int) -> jax.Array:
    """[B, H, W / count, count * C] -> [B, H, W, C]."""
    return columns.reshape(*columns.shape[:2], -1, channels)


def _patches(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Input patches of IMAGE_COLUMNS adjacent outputs, [kh * (kw + 2) * C, B, H', W' / 3], zeros past the right edge.

    Values come before pixels, so that every piece is copied in long runs. Forward and backward pass call it on the same `x`,
    and XLA computes it once for both.
    """
    (height, width), channels = kernel.shape[:2], x.shape[3]
    tiles = -(-(x.shape[2] - width + 1) // IMAGE_COLUMNS)
    more = -(-(width - 1) // IMAGE_COLUMNS)
    x = jnp.pad(x, ((0, 0), (0, 0), (0, (tiles + more) * IMAGE_COLUMNS - x.shape[2]), (0, 0)))
    planes = lax.optimization_barrier(x.reshape(*x.shape[:2], tiles + more, -1).transpose(3, 0, 1, 2))
    rows = x.shape[1] - height + 1
    pieces = []
    for i in range(height):
        remaining = (IMAGE_COLUMNS + width - 1) * channels
        for j in range(more + 1):
            pieces.append(planes[: min(remaining, len(planes)), :, i : i + rows, j : j + tiles])
            remaining -= len(planes)
    return lax.optimization_barrier(jnp.concatenate(pieces))
