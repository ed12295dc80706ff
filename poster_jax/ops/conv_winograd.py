"""Convolution by Winograd's minimal filtering over an image's rows (Lavin and Gray 2016, arXiv:1509.09308), with its gradients.

It needs half the multiplications for a 3x3 kernel. The gradients are its transposes: the filter's is plain matrix products, and
both passes and both gradients share the transformed tiles. `conv.conv2d` selects it.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from poster_jax.ops import dispatch

Rows = list[list[float]]

# Interpolation at 0, 1, -1, 2, -2 and infinity: six products for every tile of six input rows.
POINTS = (0, 1, -1, 2, -2)
TILE = len(POINTS) + 1


def count_tiles(height: int, kernel_height: int) -> int:
    """Tiles of six rows that give `height` rows of output."""
    return -(-height // (TILE + 1 - kernel_height))


def _matrices(length: int) -> tuple[Rows, Rows, Rows]:
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
    """[B, H, W, C] -> [B, H, W * C], so that operations on whole rows are one long loop."""
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
    input_rows, _, _ = _matrices(height)
    num_tiles = count_tiles(x.shape[1] - height + 1, height)
    rows = _every(_flat(x), TILE + 1 - height, TILE, num_tiles)
    return [lax.optimization_barrier(_image(_weighted_sum(weights, rows), x.shape[3])) for weights in input_rows]


def convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """VALID convolution with stride 1, float32, by Winograd over rows: six convolutions with a kernel one row high."""
    _, output_rows, filter_rows = _matrices(kernel.shape[0])
    products = [
        _flat(dispatch.native_conv2d(tile, _weighted_sum(weights, list(kernel))[None]))
        for weights, tile in zip(filter_rows, _input_tiles(x, kernel.shape[0]), strict=True)
    ]
    outputs = _interleaved([_weighted_sum(weights, products) for weights in output_rows])
    return _image(outputs[:, : x.shape[1] - kernel.shape[0] + 1], kernel.shape[3])


def _interleaved(rows: list[jax.Array]) -> jax.Array:
    """The i-th row of every tile, for every i, [B, tiles, W * C] each -> flat rows in their order."""
    stacked = jnp.stack(rows, axis=2)
    return stacked.reshape(stacked.shape[0], -1, stacked.shape[3])


def gradients(x: jax.Array, kernel: jax.Array, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Gradients of `convolution` with respect to `x` and `kernel`, float32.

    The forward form is linear in both, so its transposes give the gradients. Both start from output.T @ grad: the kernel's is
    filter.T @ ((input @ x) * (output.T @ grad)), the input's is input.T @ ((filter @ kernel) * (output.T @ grad)).
    """
    height, width, channels, features = kernel.shape
    input_rows, output_rows, filter_rows = _matrices(height)
    step = TILE + 1 - height
    num_tiles = count_tiles(grad.shape[1], height)
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
        x_products.append(_flat(dispatch.native_conv2d(grad_tile, filter_row[None, ::-1].transpose(0, 1, 3, 2))))
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
