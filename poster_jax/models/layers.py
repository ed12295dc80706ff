"""What the networks share: the convolution layer, and the mapping of pixels to a network's input range."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from poster_jax.models.types import Variables
from poster_jax.ops import conv, conv_pool


class Conv(nn.Module):
    """Convolution of [B, H, W, C] by `conv2d`, with parameters `kernel` [kh, kw, C, features] and `bias` [features].

    With `pool` above 1: the maximum of every `pool` x `pool` outputs, with padding VALID and stride 1. The bias is added after
    the pooling, which gives the same result.

    Parameters are float32, glorot uniform and zeros as in Keras; the computation and the result are in `dtype`.
    """

    features: int
    kernel_size: tuple[int, int]
    padding: conv.Padding
    stride: int = 1
    use_bias: bool = True
    pool: int = 1
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), shape, jnp.float32)
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        if self.pool > 1:
            x = conv_pool.conv_pool2d(x, kernel, self.pool)
        else:
            x = conv.conv2d(x, kernel, padding=self.padding, stride=self.stride)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            x = x + bias.astype(self.dtype).reshape(1, 1, 1, self.features)
        return x


def normalise(image: jax.Array, input_range: tuple[float, float]) -> jax.Array:
    """uint8 or float [..] in 0..255 -> float32 with 0 at `input_range[0]` and 255 at `input_range[1]`."""
    low, high = input_range
    return image.astype(jnp.float32) * ((high - low) / 255.0) + low


def count_values(tree: Variables) -> int:
    """Number of values in a tree of arrays or shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
