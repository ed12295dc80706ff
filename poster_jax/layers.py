"""Convolution and pooling whose gradients are fast on CPUs and left to the compiler on accelerators.

XLA on CPU computes a convolution's filter gradient as one product with two short sides and a very long one, and reaches a
quarter of the rate of the forward pass. `conv2d` replaces that one product, on CPU alone, by Winograd's minimal filtering
over the image's rows (Lavin and Gray 2016, arXiv:1509.09308), transposed: half the multiplications for a 3x3 kernel, and
plain matrix products over contiguous rows. The forward pass and the input's gradient are XLA's own everywhere.
"""

import functools
import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

Padding = Literal["VALID", "SAME"]
Rows = list[list[float]]

DIMENSIONS = ("NHWC", "HWIO", "NHWC")

# Interpolation at 0, 1, -1, 2, -2 and infinity: six products for every tile of six input rows.
POINTS = (0, 1, -1, 2, -2)
TILE = len(POINTS) + 1

# Kernel heights that six points serve with fewer products than the direct form, and the fewest channels, in and out, for
# which the rewritten gradient was the faster (3 -> 32 channels was not, 32 -> 64 was).
WINOGRAD_HEIGHTS = (3,)
WINOGRAD_CHANNELS = 16


def conv2d(x: jax.Array, kernel: jax.Array, *, padding: Padding, stride: int = 1) -> jax.Array:
    """Convolution (cross-correlation, as everywhere in deep learning) of [B, H, W, C] with [kh, kw, C, D].

    Returns [B, H', W', D] in the dtype of `x`, which must be the kernel's. SAME pads as TensorFlow does. Differentiable once,
    in reverse mode; on CPU the filter's gradient agrees with the direct sum to about 1e-5 of its largest entry in float32,
    and is summed in float32 for bfloat16 inputs.
    """
    return _conv2d(x, kernel, padding, stride)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv2d(x: jax.Array, kernel: jax.Array, padding: Padding, stride: int) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=DIMENSIONS)


def _conv2d_forward(
    x: jax.Array, kernel: jax.Array, padding: Padding, stride: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _conv2d(x, kernel, padding, stride), (x, kernel)


def _conv2d_backward(
    padding: Padding, stride: int, saved: tuple[jax.Array, jax.Array], grad: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved

    def native(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=DIMENSIONS)

    def native_filter_gradient(x: jax.Array, grad: jax.Array) -> jax.Array:
        return jax.vjp(functools.partial(native, x), kernel)[1](grad)[0]

    def winograd_filter_gradient(x: jax.Array, grad: jax.Array) -> jax.Array:
        pads = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], (1, 1), padding)
        padded = jnp.pad(x, ((0, 0), *pads, (0, 0))).astype(jnp.float32)
        return _row_filter_gradient(padded, grad.astype(jnp.float32), kernel.shape[0]).astype(kernel.dtype)

    (x_gradient,) = jax.vjp(lambda x: native(x, kernel), x)[1](grad)
    if stride == 1 and kernel.shape[0] in WINOGRAD_HEIGHTS and min(kernel.shape[2:]) >= WINOGRAD_CHANNELS:
        kernel_gradient = lax.platform_dependent(x, grad, cpu=winograd_filter_gradient, default=native_filter_gradient)
    else:
        kernel_gradient = native_filter_gradient(x, grad)
    return x_gradient, kernel_gradient


_conv2d.defvjp(_conv2d_forward, _conv2d_backward)


def _winograd_matrices(length: int) -> tuple[Rows, Rows, Rows]:
    """Matrices of the filter `length` over six points: input [6, 6], output [7 - length, 6], filter [6, length].

    With d six inputs, g the filter and y the outputs, y = output @ ((filter @ g) * (input @ d)). Built as Toom and Cook do:
    a filter and an output are polynomials evaluated at the points, and the input's rows hold the Lagrange polynomials.
    """
    num_outputs = TILE + 1 - length
    input_rows: Rows = []
    filter_rows: Rows = []
    for point in POINTS:
        others = [float(other) for other in POINTS if other != point]
        scale = math.prod(point - other for other in others)
        input_rows.append([*_polynomial(others), 0.0])
        filter_rows.append([point**power / scale for power in range(length)])
    input_rows.append(_polynomial([float(point) for point in POINTS]))
    filter_rows.append([0.0] * (length - 1) + [1.0])
    output_rows = [[float(point**power) for point in POINTS] + [0.0] for power in range(num_outputs)]
    output_rows[-1][-1] = 1.0
    return input_rows, output_rows, filter_rows


def _polynomial(roots: list[float]) -> list[float]:
    """Coefficients, lowest power first, of the product of (t - root)."""
    coefficients = [1.0]
    for root in roots:
        shifted, scaled = [0.0, *coefficients], [*(-root * c for c in coefficients), 0.0]
        coefficients = [a + b for a, b in zip(shifted, scaled, strict=True)]
    return coefficients


def _weighted_sum(weights: list[float], parts: list[jax.Array]) -> jax.Array:
    """Sum of weight * part over the weights that are not zero."""
    terms = [p if w == 1 else w * p for w, p in zip(weights, parts, strict=True) if w != 0]
    return functools.reduce(jnp.add, terms)


def _row_filter_gradient(x: jax.Array, grad: jax.Array, height: int) -> jax.Array:
    """Filter gradient [height, kw, C, D] of a VALID convolution with stride 1, float32, by Winograd over rows.

    The forward form is linear in the filter, so its transpose gives the gradient: filter.T @ ((input @ x) * (output.T @ grad)).
    Rows are cut in tiles of six that overlap by height - 1; a tile's rows lie contiguous in memory. The barriers keep XLA from
    computing a tile again inside every product that reads it.
    """
    input_rows, output_rows, filter_rows = _winograd_matrices(height)
    step = TILE + 1 - height
    num_tiles = -(-grad.shape[1] // step)
    x = jnp.pad(x, ((0, 0), (0, num_tiles * step + height - 1 - x.shape[1]), (0, 0), (0, 0)))
    grad = jnp.pad(grad, ((0, 0), (0, num_tiles * step - grad.shape[1]), (0, 0), (0, 0)))
    products: list[jax.Array] = []
    for point in range(TILE):
        # One point after another: their tiles can share memory.
        x, grad, products = lax.optimization_barrier((x, grad, products))
        x_rows = [x[:, i : i + (num_tiles - 1) * step + 1 : step] for i in range(TILE)]
        grad_rows = [grad[:, i::step] for i in range(step)]
        tile = lax.optimization_barrier(_weighted_sum(input_rows[point], x_rows))
        weights = [row[point] for row in output_rows]
        grad_tile = lax.optimization_barrier(_weighted_sum(weights, grad_rows))
        products.append(_column_products(tile, grad_tile))
    return jnp.stack([_weighted_sum([row[i] for row in filter_rows], products) for i in range(height)])


def _column_products(x: jax.Array, grad: jax.Array) -> jax.Array:
    """Filter gradient [kw, C, D] of a convolution along W alone: one matrix product for every column of the kernel."""
    width = grad.shape[2]
    contract = (((0, 1, 2), (0, 1, 2)), ((), ()))
    columns = [x[:, :, j : j + width] for j in range(x.shape[2] - width + 1)]
    return jnp.stack([lax.dot_general(column, grad, contract) for column in columns])


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool(x: jax.Array, window: tuple[int, int]) -> jax.Array:
    """Largest value of every `window` of [B, H, W, C]; the stride is the window, trailing rows and columns are dropped.

    Entries that tie for the largest share the gradient equally, on every platform: it sums to the incoming gradient, and needs
    no scatter (`nn.max_pool`'s gradient is a select-and-scatter, slow on CPU, which takes the first).
    """
    return _windows(x, window).max((2, 4))


def _windows(x: jax.Array, window: tuple[int, int]) -> jax.Array:
    """[B, H, W, C] -> [B, H // h, h, W // w, w, C], the remainder dropped."""
    batch, height, width, channels = x.shape
    rows, columns = height // window[0], width // window[1]
    kept = x[:, : rows * window[0], : columns * window[1]]
    return kept.reshape(batch, rows, window[0], columns, window[1], channels)


def _max_pool_forward(x: jax.Array, window: tuple[int, int]) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    largest = max_pool(x, window)
    return largest, (x, largest)


def _max_pool_backward(window: tuple[int, int], saved: tuple[jax.Array, jax.Array], grad: jax.Array) -> tuple[jax.Array]:
    x, largest = saved
    ties = _windows(x, window) == largest[:, :, None, :, None, :]
    share = grad / ties.sum((2, 4), dtype=grad.dtype)
    kept = jnp.where(ties, share[:, :, None, :, None, :], 0)
    kept = kept.reshape(x.shape[0], largest.shape[1] * window[0], largest.shape[2] * window[1], x.shape[3])
    dropped = [(0, whole - part) for whole, part in zip(x.shape[1:3], kept.shape[1:3], strict=True)]
    return (jnp.pad(kept, ((0, 0), *dropped, (0, 0))),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


class Conv(nn.Module):
    """Convolution of [B, H, W, C] by `conv2d`, with parameters `kernel` [kh, kw, C, features] and `bias` [features].

    Parameters are float32, glorot uniform and zeros as in Keras; the computation and the result are in `dtype`.
    """

    features: int
    kernel_size: tuple[int, int]
    padding: Padding
    stride: int = 1
    use_bias: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), shape, jnp.float32)
        x = conv2d(x.astype(self.dtype), kernel.astype(self.dtype), padding=self.padding, stride=self.stride)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            x = x + bias.astype(self.dtype).reshape(1, 1, 1, self.features)
        return x
