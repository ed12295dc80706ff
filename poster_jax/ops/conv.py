"""Convolution that is fast on CPUs, gradients included, and is left to the compiler on accelerators.

XLA on CPU computes a convolution's filter gradient as one product with two short sides and a very long one, at a quarter of the
rate of the forward pass. So on CPU there are other forms: `conv_winograd.py` for many channels, `conv_narrow.py` for few,
`conv_pool.py` for the first layer of an image with the pooling after it.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from poster_jax.ops import conv_narrow, conv_winograd, dispatch

Padding = Literal["VALID", "SAME"]
# `convolution(x, kernel)` and `gradients(x, kernel, grad)`, float32.
CpuForm = tuple[
    Callable[[jax.Array, jax.Array], jax.Array],
    Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
]

# The kernel height and the fewest channels, in and out, that were measured: 32 -> 64 gained least, fewer were not tried.
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
    native = functools.partial(dispatch.native_conv2d, padding=padding, strides=(stride, stride))
    form = _cpu_form(x, kernel, padding, stride)
    if form is None:
        return native(x, kernel)

    def rewritten(x: jax.Array, kernel: jax.Array) -> jax.Array:
        pads = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], (1, 1), padding)
        return form[0](_padded(x, pads), kernel.astype(jnp.float32)).astype(x.dtype)

    return dispatch.by_platform(x, kernel, cpu=rewritten, default=native)


def _conv2d_forward(
    x: jax.Array, kernel: jax.Array, padding: Padding, stride: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _conv2d(x, kernel, padding, stride), (x, kernel)


def _conv2d_backward(
    padding: Padding, stride: int, saved: tuple[jax.Array, jax.Array], grad: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def native(x: jax.Array, kernel: jax.Array, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.vjp(functools.partial(dispatch.native_conv2d, padding=padding, strides=(stride, stride)), x, kernel)[1](grad)

    form = _cpu_form(*saved, padding, stride)
    if form is None:
        return native(*saved, grad)

    def rewritten(x: jax.Array, kernel: jax.Array, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
        pads = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], (1, 1), padding)
        x_gradient, kernel_gradient = form[1](_padded(x, pads), kernel.astype(jnp.float32), grad.astype(jnp.float32))
        (top, _), (left, _) = pads
        x_gradient = x_gradient[:, top : top + x.shape[1], left : left + x.shape[2]]
        return x_gradient.astype(x.dtype), kernel_gradient.astype(kernel.dtype)

    return dispatch.by_platform(*saved, grad, cpu=rewritten, default=native)


_conv2d.defvjp(_conv2d_forward, _conv2d_backward)


def _cpu_form(x: jax.Array, kernel: jax.Array, padding: Padding, stride: int) -> CpuForm | None:
    """The form that is faster than XLA's own on CPU, for padded float32 input; None if there is none."""
    if _winograd_is_better(x, kernel, padding, stride):
        return conv_winograd.convolution, conv_winograd.gradients
    if (
        stride == 1
        and kernel.shape[:2] == conv_narrow.KERNEL
        and max(kernel.shape[2:]) < WINOGRAD_CHANNELS
        and is_rewritable(x)
    ):
        return conv_narrow.convolution, conv_narrow.gradients
    return None


def is_rewritable(x: jax.Array) -> bool:
    """False for float64, which stays with XLA: the other forms compute in float32."""
    return x.dtype in (jnp.float32, jnp.bfloat16)


def _winograd_is_better(x: jax.Array, kernel: jax.Array, padding: Padding, stride: int) -> bool:
    """True if the Winograd form is exact enough and needs fewer products than the direct one."""
    height = x.shape[1] - (kernel.shape[0] - 1 if padding == "VALID" else 0)
    return (
        stride == 1
        and kernel.shape[0] == WINOGRAD_HEIGHT
        and min(kernel.shape[2:]) >= WINOGRAD_CHANNELS
        and is_rewritable(x)
        and conv_winograd.TILE * conv_winograd.count_tiles(height, WINOGRAD_HEIGHT) < WINOGRAD_HEIGHT * height
    )


def _padded(x: jax.Array, pads: Sequence[tuple[int, int]]) -> jax.Array:
    """[B, H, W, C] with zeros around rows and columns, float32."""
    return jnp.pad(x.astype(jnp.float32), ((0, 0), *pads, (0, 0)))


@jax.custom_vjp
def pointwise_conv2d(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """1x1 convolution: [B, H, W, C] with [C, D] -> [B, H, W, D]. Differentiable once, in reverse mode.

    XLA on CPU computes the kernel's gradient, a product, several times faster with the narrower factor on the left.
    """
    if dispatch.is_portable():
        # The converter of TFLite rejects a product of four-dimensional arrays.
        return dispatch.native_conv2d(x, kernel[None, None])
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
