"""Convolution and pooling that are fast on CPUs, gradients included, and left to the compiler on accelerators.

XLA on CPU computes a convolution's filter gradient as one product with two short sides and a very long one, and reaches a
quarter of the rate of the forward pass. On CPU alone, `conv2d` uses Winograd's minimal filtering over the image's rows (Lavin
and Gray 2016, arXiv:1509.09308) instead, transposed for the gradients: half the multiplications for a 3x3 kernel, the filter's
gradient as plain matrix products, and transformed tiles that the two passes and the two gradients share.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from poster_jax import forms, narrow

Padding = Literal["VALID", "SAME"]
Rows = list[list[float]]

DIMENSIONS = ("NHWC", "HWIO", "NHWC")

# Interpolation at 0, 1, -1, 2, -2 and infinity: six products for every tile of six input rows.
POINTS = (0, 1, -1, 2, -2)
TILE = len(POINTS) + 1

# The kernel height and the fewest channels, in and out, that were measured: 32 -> 64 gained least, narrower was not tried.
WINOGRAD_HEIGHT = 3
WINOGRAD_CHANNELS = 32


def conv2d(x: jax.Array, kernel: jax.Array, *, padding: Padding, stride: int = 1) -> jax.Array:
    """Convolution (cross-correlation, as everywhere in deep learning) of [B, H, W, C] with [kh, kw, C, D].

    Returns [B, H', W', D] in the dtype of `x`, which must be the kernel's. SAME pads as TensorFlow does. Differentiable once,
    in reverse mode. On CPU, float32 results and gradients agree with the direct sums to about 3e-5 of their largest entry;
    bfloat16 inputs are summed in float32.
    """
    return _conv2d(x, kernel, padding, stride)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv2d(x: jax.Array, kernel: jax.Array, padding: Padding, stride: int) -> jax.Array:
    native = functools.partial(_native, padding=padding, stride=stride)
    form = _cpu_form(x, kernel, padding, stride)
    if form is None:
        return native(x, kernel)

    def rewritten(x: jax.Array, kernel: jax.Array) -> jax.Array:
        pads = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], (1, 1), padding)
        return form[0](_padded(x, pads), kernel.astype(jnp.float32)).astype(x.dtype)

    return forms.choose(x, kernel, cpu=rewritten, default=native)


def _conv2d_forward(
    x: jax.Array, kernel: jax.Array, padding: Padding, stride: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _conv2d(x, kernel, padding, stride), (x, kernel)


def _conv2d_backward(
    padding: Padding, stride: int, saved: tuple[jax.Array, jax.Array], grad: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def native(x: jax.Array, kernel: jax.Array, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.vjp(functools.partial(_native, padding=padding, stride=stride), x, kernel)[1](grad)

    form = _cpu_form(*saved, padding, stride)
    if form is None:
        return native(*saved, grad)

    def rewritten(x: jax.Array, kernel: jax.Array, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
        pads = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], (1, 1), padding)
        x_gradient, kernel_gradient = form[1](_padded(x, pads), kernel.astype(jnp.float32), grad.astype(jnp.float32))
        (top, _), (left, _) = pads
        x_gradient = x_gradient[:, top : top + x.shape[1], left : left + x.shape[2]]
        return x_gradient.astype(x.dtype), kernel_gradient.astype(kernel.dtype)

    return forms.choose(*saved, grad, cpu=rewritten, default=native)


_conv2d.defvjp(_conv2d_forward, _conv2d_backward)


def _native(x: jax.Array, kernel: jax.Array, padding: Padding, stride: int) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=DIMENSIONS)


def _cpu_form(x: jax.Array, kernel: jax.Array, padding: Padding, stride: int) -> tuple[Any, Any] | None:
    """Forward pass and gradients that serve better than XLA's own on CPU, for padded float32 input; None where none does."""
    if _winograd_serves(x, kernel, padding, stride):
        return _row_convolution, _row_gradients
    if stride == 1 and kernel.shape[:2] == narrow.KERNEL and max(kernel.shape[2:]) < WINOGRAD_CHANNELS and _is_rewritable(x):
        return narrow.convolution, narrow.gradients
    return None


def _is_rewritable(x: jax.Array) -> bool:
    """Float64 stays with XLA: the rewritten forms compute in float32."""
    return x.dtype in (jnp.float32, jnp.bfloat16)


def _winograd_serves(x: jax.Array, kernel: jax.Array, padding: Padding, stride: int) -> bool:
    """Whether the rewritten form is exact enough, and does fewer products than the direct one."""
    height = x.shape[1] - (kernel.shape[0] - 1 if padding == "VALID" else 0)
    return (
        stride == 1
        and kernel.shape[0] == WINOGRAD_HEIGHT
        and min(kernel.shape[2:]) >= WINOGRAD_CHANNELS
        and _is_rewritable(x)
        and TILE * _num_tiles(height, WINOGRAD_HEIGHT) < WINOGRAD_HEIGHT * height
    )


def _num_tiles(height: int, kernel_height: int) -> int:
    """Tiles of six rows that give `height` rows of output."""
    return -(-height // (TILE + 1 - kernel_height))


def _padded(x: jax.Array, pads: Sequence[tuple[int, int]]) -> jax.Array:
    """[B, H, W, C] with zeros around rows and columns, float32."""
    return jnp.pad(x.astype(jnp.float32), ((0, 0), *pads, (0, 0)))


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


def _flat(x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B, H, W * C]: what is done to whole rows is one long loop."""
    return x.reshape(*x.shape[:2], -1)


def _image(x: jax.Array, channels: int) -> jax.Array:
    """[B, H, W * C] -> [B, H, W, C]."""
    return x.reshape(*x.shape[:2], -1, channels)


def _every(x: jax.Array, step: int, count: int, num_tiles: int) -> list[jax.Array]:
    """The first `count` rows of every tile of flat rows, tiles `step` apart: arrays [B, tiles, W * C], zeros past the end."""
    rows = [x[:, i : i + (num_tiles - 1) * step + 1 : step] for i in range(count)]
    return [jnp.pad(row, ((0, 0), (0, num_tiles - row.shape[1]), (0, 0))) for row in rows]


def _input_tiles(x: jax.Array, height: int) -> list[jax.Array]:
    """The transformed input, one array [B, tiles, W, C] for every point.

    Forward and backward pass call it on the same `x`, and XLA computes it once for both. The barrier keeps XLA from computing
    it again for every column of the kernel.
    """
    input_rows, _, _ = _winograd_matrices(height)
    num_tiles = _num_tiles(x.shape[1] - height + 1, height)
    rows = _every(_flat(x), TILE + 1 - height, TILE, num_tiles)
    return [lax.optimization_barrier(_image(_weighted_sum(weights, rows), x.shape[3])) for weights in input_rows]


def _row_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """VALID convolution with stride 1, float32, by Winograd over rows: six convolutions with a kernel one row high."""
    _, output_rows, filter_rows = _winograd_matrices(kernel.shape[0])
    products = [
        _flat(_native(tile, _weighted_sum(weights, list(kernel))[None], "VALID", 1))
        for weights, tile in zip(filter_rows, _input_tiles(x, kernel.shape[0]), strict=True)
    ]
    outputs = _interleaved([_weighted_sum(weights, products) for weights in output_rows])
    return _image(outputs[:, : x.shape[1] - kernel.shape[0] + 1], kernel.shape[3])


def _interleaved(rows: list[jax.Array]) -> jax.Array:
    """The i-th row of every tile, for every i, [B, tiles, W * C] each -> flat rows in their order."""
    stacked = jnp.stack(rows, axis=2)
    return stacked.reshape(stacked.shape[0], -1, stacked.shape[3])


def _row_gradients(x: jax.Array, kernel: jax.Array, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Gradients of `_row_convolution` with respect to `x` and `kernel`, float32.

    The forward form is linear in both, so its transposes give the gradients. Both start from output.T @ grad: the kernel's is
    filter.T @ ((input @ x) * (output.T @ grad)), the input's is input.T @ ((filter @ kernel) * (output.T @ grad)).
    """
    height, width, channels, features = kernel.shape
    input_rows, output_rows, filter_rows = _winograd_matrices(height)
    step = TILE + 1 - height
    num_tiles = _num_tiles(grad.shape[1], height)
    # Zeros at both ends of a row, so that the columns of the kernel are shifts of the gradient.
    ends = (width - 1) * features
    flat_grad = _flat(grad)
    kernel_products: list[jax.Array] = []
    x_products = []
    for point, tile in enumerate(_input_tiles(x, height)):
        # One point after another, so that their tiles share memory; fresh pages cost as much as the sums.
        flat_grad, kernel_products = lax.optimization_barrier((flat_grad, kernel_products))
        weights = [row[point] for row in output_rows]
        grad_tile = _weighted_sum(weights, _every(flat_grad, step, step, num_tiles))
        grad_tile = lax.optimization_barrier(_image(jnp.pad(grad_tile, ((0, 0), (0, 0), (ends, ends))), features))
        kernel_products.append(_column_products(tile, grad_tile, width))
        filter_row = _weighted_sum(filter_rows[point], list(kernel))
        x_products.append(_flat(_native(grad_tile, filter_row[None, ::-1].transpose(0, 1, 3, 2), "VALID", 1)))
    kernel_gradient = [_weighted_sum([row[i] for row in filter_rows], kernel_products) for i in range(height)]
    # The last rows of a tile are the first rows of the next one.
    sums = [_weighted_sum([row[i] for row in input_rows], x_products) for i in range(TILE)]
    own = [jnp.pad(rows, ((0, 0), (0, 1), (0, 0))) for rows in sums[:step]]
    shared = [jnp.pad(rows, ((0, 0), (1, 0), (0, 0))) for rows in sums[step:]]
    rows = [jnp.add(*pair) for pair in zip(own, shared, strict=False)] + own[len(shared) :]
    return _image(_interleaved(rows)[:, : x.shape[1]], channels), jnp.stack(kernel_gradient)


def _column_products(tile: jax.Array, grad_tile: jax.Array, width: int) -> jax.Array:
    """Filter gradient [kw, C, D] of a convolution along W alone, from a gradient with kw - 1 zeros at both ends of its rows."""
    contract = (((0, 1, 2), (0, 1, 2)), ((), ()))
    columns = [grad_tile[:, :, width - 1 - j :][:, :, : tile.shape[2]] for j in range(width)]
    return jnp.stack([lax.dot_general(tile, column, contract) for column in columns])


@jax.custom_vjp
def pointwise_conv2d(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """1x1 convolution: [B, H, W, C] with [C, D] -> [B, H, W, D]. Differentiable once, in reverse mode.

    The kernel's gradient is a product that XLA on CPU computes several times faster with the narrower factor on the left.
    """
    if forms.is_plain():
        # TFLite's converter refuses a product of four-dimensional arrays.
        return _native(x, kernel[None, None], "VALID", 1)
    return lax.dot_general(x, kernel, (((3,), (0,)), ((), ())))


def _pointwise_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return lax.dot_general(x, kernel, (((3,), (0,)), ((), ()))), (x, kernel)


def _pointwise_backward(saved: tuple[jax.Array, jax.Array], grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    grad = lax.optimization_barrier(grad)
    pair = (x, grad) if kernel.shape[0] <= kernel.shape[1] else (grad, x)
    # Without the barrier XLA turns the transposed product back into the one with the wider factor on the left.
    product = lax.optimization_barrier(lax.dot_general(*pair, (((0, 1, 2), (0, 1, 2)), ((), ()))))
    x_gradient = lax.dot_general(grad, kernel, (((3,), (1,)), ((), ())))
    return x_gradient, product if pair[0] is x else product.T


pointwise_conv2d.defvjp(_pointwise_forward, _pointwise_backward)


def max_pool(x: jax.Array, window: tuple[int, int]) -> jax.Array:
    """Largest value of every `window` of [B, H, W, C]; the stride is the window, trailing rows and columns are dropped.

    The first of entries that tie for the largest takes the gradient, as in `nn.max_pool`, whose own gradient is a
    select-and-scatter, slow on CPU.
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


def _max_pool_forward(x: jax.Array, window: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """The backward pass is left the place of the largest entry, a number, and not the entries to look for it again.

    XLA computes a cheap x (BatchNorm's) anew wherever it is read, with other roundings, so that a search for entries equal to
    the largest would miss some and lose their gradient. Whatever the roundings, a place is one of the window's.
    """
    windows = _windows(x, window)
    entries = [windows[:, :, i, :, j] for i in range(window[0]) for j in range(window[1])]
    largest, place = entries[0], jnp.zeros(entries[0].shape, jnp.uint8)
    for index, entry in enumerate(entries[1:], 1):
        is_larger = (entry > largest) | jnp.isnan(entry)
        largest, place = jnp.where(is_larger, entry, largest), jnp.where(is_larger, jnp.uint8(index), place)
    return largest, place


def _max_pool_backward(window: tuple[int, int], place: jax.Array, grad: jax.Array) -> tuple[jax.Array]:
    batch, rows, columns, channels = place.shape
    index = jnp.arange(math.prod(window), dtype=jnp.uint8).reshape(1, 1, window[0], 1, window[1], 1)
    kept = jnp.where(place[:, :, None, :, None] == index, grad[:, :, None, :, None], 0)
    return (kept.reshape(batch, rows * window[0], columns * window[1], channels),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


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
