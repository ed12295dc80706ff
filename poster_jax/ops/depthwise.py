"""Depthwise convolution that is fast on CPUs, gradients included, and is left to the compiler on accelerators.

XLA on CPU computes a grouped convolution one output at a time. So on CPU the forward pass and both gradients are sums of
shifted products, one for every entry of the kernel, which XLA turns into loops over contiguous channels. The batch axis is
never merged with another one, so a sharded batch is not moved.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from poster_jax.ops import dispatch

Padding = tuple[tuple[int, int], ...]

# Rows of products that are added in one loop before the reduction.
ROWS = 8


def depthwise_conv2d(x: jax.Array, kernel: jax.Array, padding: Padding, stride: int) -> jax.Array:
    """Every channel of [B, H, W, C] with its own filter of [kh, kw, 1, C] -> [B, H', W', C] in the dtype of `x`.

    `padding` is ((top, bottom), (left, right)) zeros; `stride` is the same for rows and columns. `kernel` has
    the dtype of `x`. Differentiable once, in reverse mode. bfloat16 is summed in float32.
    """
    return _depthwise(x, kernel, padding, stride)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _depthwise(x: jax.Array, kernel: jax.Array, padding: Padding, stride: int) -> jax.Array:
    def shifted(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return _shifted_sums(_padded_once(x, padding), kernel, stride).astype(x.dtype)

    native = functools.partial(dispatch.native_conv2d, padding=padding, strides=(stride, stride))
    return dispatch.by_platform(x, kernel, cpu=shifted, default=native)


def _depthwise_forward(
    x: jax.Array, kernel: jax.Array, padding: Padding, stride: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _depthwise(x, kernel, padding, stride), (x, kernel)


def _depthwise_backward(
    padding: Padding, stride: int, saved: tuple[jax.Array, jax.Array], grad: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def native(x: jax.Array, kernel: jax.Array, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.vjp(functools.partial(dispatch.native_conv2d, padding=padding, strides=(stride, stride)), x, kernel)[1](grad)

    def shifted(x: jax.Array, kernel: jax.Array, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
        grad = lax.optimization_barrier(grad)
        x_gradient = _input_gradient(kernel, grad, x.shape[1:3], padding, stride)
        kernel_gradient = _kernel_gradient(_padded_once(x, padding), grad, kernel.shape[:2], stride)
        return x_gradient.astype(x.dtype), kernel_gradient.astype(kernel.dtype)

    return dispatch.by_platform(*saved, grad, cpu=shifted, default=native)


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def _padded(x: jax.Array, padding: Padding) -> jax.Array:
    """[B, H, W, C] with zeros around rows and columns, or fewer of them where `padding` is negative; float32."""
    config = [(0, 0, 0), *((before, after, 0) for before, after in padding), (0, 0, 0)]
    return lax.pad(x.astype(jnp.float32), jnp.float32(0), config)


def _padded_once(x: jax.Array, padding: Padding) -> jax.Array:
    """`_padded`, fused with the computation of `x`, and computed once for the forward and the backward pass.

    Without the barrier XLA computes it, and its operands, again for every offset of the kernel.
    """
    return lax.optimization_barrier(_padded(x, padding))


def _window(x: jax.Array, start: Sequence[int], size: Sequence[int], step: Sequence[int]) -> jax.Array:
    """`size` rows and columns of [B, H, W, C] from `start` on, `step` apart."""
    stop = [first + (count - 1) * gap + 1 for first, count, gap in zip(start, size, step, strict=True)]
    return x[:, start[0] : stop[0] : step[0], start[1] : stop[1] : step[1]]


def _shifted_sums(padded: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """The forward pass, float32: the input at every offset of the kernel times the kernel's entry there."""
    height, width = kernel.shape[:2]
    weights = kernel.astype(jnp.float32)[:, :, None, None]
    size = [(side - taps) // stride + 1 for side, taps in zip(padded.shape[1:3], (height, width), strict=True)]
    offsets = [(i, j) for i in range(height) for j in range(width)]
    terms = [_window(padded, offset, size, (stride, stride)) * weights[offset] for offset in offsets]
    return functools.reduce(jnp.add, terms)


def _input_gradient(kernel: jax.Array, grad: jax.Array, sides: Sequence[int], padding: Padding, stride: int) -> jax.Array:
    """Gradient with respect to the input of height and width `sides`, float32.

    Input row stride * m + phase contributes to output row m + offset by kernel row `tap`, where
    stride * offset = phase + top - tap; columns likewise. One loop computes all phases: for every offset the gradient, repeated
    over the phases, times the kernel entry of each phase, or zero if it has none.
    """
    size = [-(-side // stride) for side in sides]
    tables, ends = [], []
    for axis, (before, _) in enumerate(padding):
        pairs = [(phase + before - tap, phase, tap) for phase in range(stride) for tap in range(kernel.shape[axis])]
        table: dict[int, list[int | None]] = {}
        for distance, phase, tap in pairs:
            if distance % stride == 0:
                table.setdefault(distance // stride, [None] * stride)[phase] = tap
        tables.append(table)
        ends.append((max(0, -min(table)), max(0, size[axis] + max(table) - grad.shape[1 + axis])))
    padded, weights = _padded(grad, tuple(ends)), kernel.astype(jnp.float32)
    if any(side for pair in ends for side in pair):
        padded = lax.optimization_barrier(padded)
    nothing = jnp.zeros(kernel.shape[3])

    terms = []
    for down, rows in tables[0].items():
        for right, columns in tables[1].items():
            part = _window(padded, (ends[0][0] + down, ends[1][0] + right), size, (1, 1))
            met = [nothing if None in (i, j) else weights[i, j, 0] for i in rows for j in columns]
            entries = jnp.stack(met).reshape(1, 1, stride, 1, stride, -1)
            terms.append(part[:, :, None, :, None] * entries)
    whole = functools.reduce(jnp.add, terms).reshape(grad.shape[0], size[0] * stride, size[1] * stride, grad.shape[3])
    return whole[:, : sides[0], : sides[1]]


def _kernel_gradient(padded: jax.Array, grad: jax.Array, taps: Sequence[int], stride: int) -> jax.Array:
    """Gradient with respect to the kernel, float32 [kh, kw, 1, C]: sums over positions of input times gradient."""
    offsets = [(i, j) for i in range(taps[0]) for j in range(taps[1])]
    sums = [_sum_of_products(padded, grad.astype(jnp.float32), offset, stride) for offset in offsets]
    return jnp.stack(sums).reshape(*taps, 1, -1)


def _sum_of_products(x: jax.Array, grad: jax.Array, offset: tuple[int, int], stride: int) -> jax.Array:
    """Sum over batch, rows and columns of the input at one offset of the kernel times the gradient: [C]."""
    height, width = grad.shape[1:3]
    total = jnp.zeros(grad.shape[3])
    for first, count in ((0, height // ROWS * ROWS), (height // ROWS * ROWS, height % ROWS)):
        step = min(ROWS, count)
        terms = [
            _window(x, (offset[0] + row * stride, offset[1]), (count // step, width), (step * stride, stride))
            * _window(grad, (row, 0), (count // step, width), (step, 1))
            for row in range(first, first + step)
        ]
        if terms:
            total = total + lax.optimization_barrier(functools.reduce(jnp.add, terms)).sum((0, 1, 2))
    return total
