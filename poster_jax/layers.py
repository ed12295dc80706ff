"""Convolution and pooling that are fast on CPUs, gradients included, and left to the compiler on accelerators.

XLA on CPU computes a convolution's filter gradient as one product with two short sides and a very long one, and reaches a
quarter of the rate of the forward pass. On CPU alone, convolutions take forms of their own: `winograd.py` with many channels,
`narrow.py` with few, `image_block.py` for an image's first layer and the pooling behind it.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from poster_jax import forms, image_block, narrow, winograd

Padding = Literal["VALID", "SAME"]

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
    native = functools.partial(forms.native_conv2d, padding=padding, strides=(stride, stride))
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
        return jax.vjp(functools.partial(forms.native_conv2d, padding=padding, strides=(stride, stride)), x, kernel)[1](grad)

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


def _cpu_form(x: jax.Array, kernel: jax.Array, padding: Padding, stride: int) -> tuple[Any, Any] | None:
    """Forward pass and gradients that serve better than XLA's own on CPU, for padded float32 input; None where none does."""
    if _winograd_serves(x, kernel, padding, stride):
        return winograd.convolution, winograd.gradients
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
        and winograd.TILE * winograd.count_tiles(height, WINOGRAD_HEIGHT) < WINOGRAD_HEIGHT * height
    )


def _padded(x: jax.Array, pads: Sequence[tuple[int, int]]) -> jax.Array:
    """[B, H, W, C] with zeros around rows and columns, float32."""
    return jnp.pad(x.astype(jnp.float32), ((0, 0), *pads, (0, 0)))


@jax.custom_vjp
def pointwise_conv2d(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """1x1 convolution: [B, H, W, C] with [C, D] -> [B, H, W, D]. Differentiable once, in reverse mode.

    The kernel's gradient is a product that XLA on CPU computes several times faster with the narrower factor on the left.
    """
    if forms.is_plain():
        # TFLite's converter refuses a product of four-dimensional arrays.
        return forms.native_conv2d(x, kernel[None, None])
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
    return image_block.largest_and_place([windows[:, :, i, :, j] for i in range(window[0]) for j in range(window[1])])


def _max_pool_backward(window: tuple[int, int], place: jax.Array, grad: jax.Array) -> tuple[jax.Array]:
    batch, rows, columns, channels = place.shape
    index = jnp.arange(math.prod(window), dtype=jnp.uint8).reshape(1, 1, window[0], 1, window[1], 1)
    kept = jnp.where(place[:, :, None, :, None] == index, grad[:, :, None, :, None], 0)
    return (kept.reshape(batch, rows * window[0], columns * window[1], channels),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def conv_pool2d(x: jax.Array, kernel: jax.Array, window: int) -> jax.Array:
    """`max_pool(conv2d(x, kernel, padding="VALID"), (window, window))`, in one where that is faster."""
    is_image = kernel.shape[2] <= narrow.IMAGE_CHANNELS and kernel.shape[3] < WINOGRAD_CHANNELS and _is_rewritable(x)
    if (
        is_image
        and kernel.shape[:2] == narrow.KERNEL
        and window == image_block.WINDOW
        and min(x.shape[1:3]) >= image_block.SEEN
    ):
        return _image_block(x, kernel)
    return max_pool(conv2d(x, kernel, padding="VALID"), (window, window))


@jax.custom_vjp
def _image_block(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _image_block_forward(x, kernel)[0]


def _image_block_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, Any]:
    def joined(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        largest, place = image_block.forward(x.astype(jnp.float32), kernel.astype(jnp.float32))
        return largest.astype(x.dtype), place

    def apart(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        largest, place = _max_pool_forward(_whole_windows(forms.native_conv2d(x, kernel)), _IMAGE_WINDOW)
        return largest, place.transpose(3, 0, 1, 2)

    largest, place = forms.choose(x, kernel, cpu=joined, default=apart)
    return largest, (x, kernel, place)


def _image_block_backward(saved: tuple[jax.Array, ...], grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    def spread(x: jax.Array, kernel: jax.Array, place: jax.Array, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
        def outputs(x: jax.Array, kernel: jax.Array) -> jax.Array:
            return _whole_windows(forms.native_conv2d(x, kernel))

        return jax.vjp(outputs, x, kernel)[1](_max_pool_backward(_IMAGE_WINDOW, place.transpose(1, 2, 3, 0), grad)[0])

    def joined(x: jax.Array, kernel: jax.Array, place: jax.Array, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
        kernel_gradient = image_block.kernel_gradient(x.astype(jnp.float32), place, grad.astype(jnp.float32))
        # Not computed where nobody asks for it, as for posters.
        return spread(x, kernel, place, grad)[0], kernel_gradient.astype(kernel.dtype)

    return forms.choose(*saved, grad, cpu=joined, default=spread)


_image_block.defvjp(_image_block_forward, _image_block_backward)
_IMAGE_WINDOW = (image_block.WINDOW, image_block.WINDOW)


def _whole_windows(x: jax.Array) -> jax.Array:
    """Without the rows and columns that fill no window."""
    rows, columns = (side - side % image_block.WINDOW for side in x.shape[1:3])
    return x[:, :rows, :columns]


class Conv(nn.Module):
    """Convolution of [B, H, W, C] by `conv2d`, with parameters `kernel` [kh, kw, C, features] and `bias` [features].

    With `pool` above 1 the largest of every `pool` x `pool` outputs, padding VALID and stride 1; the bias is added afterwards,
    which is the same.

    Parameters are float32, glorot uniform and zeros as in Keras; the computation and the result are in `dtype`.
    """

    features: int
    kernel_size: tuple[int, int]
    padding: Padding
    stride: int = 1
    use_bias: bool = True
    pool: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), shape, jnp.float32)
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        if self.pool > 1:
            x = conv_pool2d(x, kernel, self.pool)
        else:
            x = conv2d(x, kernel, padding=self.padding, stride=self.stride)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            x = x + bias.astype(self.dtype).reshape(1, 1, 1, self.features)
        return x
