"""A body of inverted residual blocks from one table, with its pooling and head: what the families of bodies share.

Published weights differ in the padding of strided convolutions, in BatchNorm's epsilon and momentum, and in the range of the
input. These are fields without defaults: `weight_files.load` returns them with the weights. BatchNorm at inference is folded
into the convolution before it, so that its gradients are sums over weights and need no stored activation.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from poster_jax import errors
from poster_jax.models import body_plan
from poster_jax.ops import batch_norm, conv
from poster_jax.ops import depthwise as depthwise_lib

PADDINGS = ("keras", "torchvision")
POOLINGS = ("max", "avg")
BN_MODES = {
    "frozen": "the running statistics normalise and stay as they are (inference)",
    "frozen_moving": "the batch's statistics normalise, the running ones follow, scale and bias get no gradient",
    "training": "the batch's statistics normalise, the running ones follow, scale and bias train",
}
# The fields of `Body` that pretrained weights determine.
OF_WEIGHTS = ("padding", "epsilon", "momentum", "input_range", "input_mean", "input_std", "width")
# The parts after the body, in `params` and `batch_stats`.
HEAD = ("head", "standardise")
# Added to variances under a square root, which has no gradient at 0.
SMALL_VARIANCE = 1e-5
# Below it the last block has less than one pixel; Keras has the same limit.
MIN_SIDE_PX = 32


def _kernel_init(key: jax.Array, shape: Sequence[int], dtype: jax.typing.DTypeLike) -> jax.Array:
    """Glorot uniform, the distribution of Keras, from a hash of the key and of each entry's index.

    XLA needs 0.3 s to compile one of `jax.random`'s draws on CPU, and a body has 52; this one costs a tenth.
    """
    # The mixer "lowbias32" of https://github.com/skeeto/hash-prospector, once under each word of the key.
    bits = lax.iota(jnp.uint32, math.prod(shape))
    for word in jax.random.key_data(key).reshape(-1)[:2]:
        bits = bits * np.uint32(0x9E3779B9) + word
        bits = (bits ^ (bits >> 16)) * np.uint32(0x7FEB352D)
        bits = (bits ^ (bits >> 15)) * np.uint32(0x846CA68B)
        bits = bits ^ (bits >> 16)
    uniform = (bits >> 8).astype(dtype) * (2 / 2**24) - 1
    return uniform.reshape(shape) * np.sqrt(6 / (math.prod(shape[:2]) * (shape[2] + shape[3])))


def _pads(size: Sequence[int], kernel: int, stride: int, padding: str) -> tuple[tuple[int, int], ...]:
    """Rows and columns added before and after. Keras's `correct_pad` adds one less before an even side of a strided layer."""
    half = kernel // 2
    less = [1 - side % 2 if padding == "keras" and stride > 1 else 0 for side in size]
    return tuple((half - fewer, half) for fewer in less)


class ConvNorm(nn.Module):
    """Convolution without bias, BatchNorm, and relu6 where `activate`.

    Parameters `kernel` [k, k, C, features] ([k, k, 1, C] if depthwise), `scale` and `bias` [features]; batch statistics `mean`
    and `var` [features]; all float32. The convolution is in `dtype`, the batch's statistics are computed in float32.
    """

    features: int
    kernel_size: int
    stride: int
    depthwise: bool
    activate: bool
    padding: str
    epsilon: float
    momentum: float
    bn_mode: str
    dtype: jax.typing.DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, H, W, C] -> [B, H', W', features] in `dtype`."""
        shape = (self.kernel_size, self.kernel_size, 1 if self.depthwise else x.shape[-1], self.features)
        kernel = self.param("kernel", _kernel_init, shape, jnp.float32)
        scale = self.param("scale", nn.initializers.ones, (self.features,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (self.features,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (self.features,), jnp.float32)
        if self.bn_mode == "frozen_moving":
            scale, bias = lax.stop_gradient((scale, bias))
        wide = (1, 1, 1, self.features)
        if not train or self.bn_mode == "frozen":
            factor = scale * lax.rsqrt(running_var.value + self.epsilon)
            y = self._convolve(x, (kernel * factor.reshape(wide)).astype(self.dtype))
            y = y + (bias - running_mean.value * factor).astype(self.dtype).reshape(wide)
        else:
            y = self._convolve(x, kernel.astype(self.dtype)).astype(jnp.float32)
            y, mean, var = batch_norm.batch_norm(y, scale.reshape(wide), bias.reshape(wide), self.epsilon)
            running_mean.value = self._moved(running_mean.value, mean)
            running_var.value = self._moved(running_var.value, var)
            y = y.astype(self.dtype)
        return nn.relu6(y) if self.activate else y

    def _moved(self, running: jax.Array, batch: jax.Array) -> jax.Array:
        return self.momentum * running + (1 - self.momentum) * batch.reshape(-1)

    def _convolve(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        if self.kernel_size == 1:
            return conv.pointwise_conv2d(x, kernel[0, 0])
        pads = _pads(x.shape[1:3], self.kernel_size, self.stride, self.padding)
        if self.depthwise:
            return depthwise_lib.depthwise_conv2d(x, kernel, pads, self.stride)
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
        return conv.conv2d(x, kernel, padding="VALID", stride=self.stride)


class Block(nn.Module):
    """Inverted residual: expand 1x1 (not at expansion 1), depthwise, project 1x1; the input is added where shapes allow."""

    row: body_plan.Row
    unit: Callable[..., ConvNorm]  # with the arguments that all units share

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, H, W, C] -> [B, H', W', row.filters]."""
        row, hidden = self.row, self.row.expansion * x.shape[-1]
        point = functools.partial(self.unit, kernel_size=1, stride=1, depthwise=False)
        y = x if row.expansion == 1 else point(hidden, activate=True, name="expand")(x, train)
        y = self.unit(hidden, row.kernel_size, row.stride, depthwise=True, activate=True, name="depthwise")(y, train)
        y = point(row.filters, activate=False, name="project")(y, train)
        return x + y if row.stride == 1 and x.shape == y.shape else y


class Standardise(nn.Module):
    """(x - mean) / deviation of features [B, D], with batch statistics `mean` and `var` [D] that training does not change.

    They are 0 and 1 until a protocol sets them from the features of all training posters.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """float32 [B, D] -> float32 [B, D]."""
        mean = self.variable("batch_stats", "mean", jnp.zeros, x.shape[-1:], jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, x.shape[-1:], jnp.float32)
        return (x - mean.value[None]) * lax.rsqrt(var.value + SMALL_VARIANCE)[None]


class Body(nn.Module):
    """A body, global pooling, dropout, and one logit per genre; a family of bodies gives it `plan`.

    Attributes:
        width: multiplier of the channels.
        padding: "keras" (`correct_pad`, then VALID) or "torchvision" (1 on every side).
        epsilon, momentum: BatchNorm's; running = momentum * running + (1 - momentum) * batch.
        input_range: what 0 and 255 are mapped to before the model.
        input_mean, input_std: subtracted and divided by in the model, per channel, in units of `input_range`.
        pooling: "max" (the movie paper, section II-A) or "avg".
        style_from: the first of the blocks whose output's mean and deviation per channel are features beside the pooled ones;
            "" for none. They give the look of a picture rather than its content: Huang and Belongie (2017, arXiv:1703.06868)
            transfer a style by them alone. All features are then standardised before the head.
        bn_mode: what BatchNorm does in training steps, see BN_MODES; elsewhere it always uses its running statistics.
        train_from: the first of `stage_names()` that trains; no gradient reaches those below it, and their BatchNorm is in
            inference mode, except that it follows the batches in "frozen_moving".
        precision: dtype of the activations; parameters and statistics are float32.

    With `capture_intermediates=True` `apply` returns the output of every unit and block too, as `block_3`.
    """

    num_genres: int
    width: float
    padding: str
    epsilon: float
    momentum: float
    input_range: tuple[float, float]
    input_mean: tuple[float, float, float]
    input_std: tuple[float, float, float]
    pooling: str
    dropout: float
    bn_mode: str
    train_from: str = "stem"
    style_from: str = ""
    precision: str = "float32"

    @property
    def plan(self) -> body_plan.Plan:
        """The table at this width."""
        raise NotImplementedError

    def setup(self) -> None:
        stages = self.plan.stage_names()
        choices = {"padding": PADDINGS, "pooling": POOLINGS, "bn_mode": tuple(BN_MODES), "train_from": stages}
        choices["style_from"] = ("", *stages[1:-2])
        for field, known in choices.items():
            if getattr(self, field) not in known:
                raise errors.UserError(
                    f"config.model.{field}={getattr(self, field)!r} is unknown; it is one of {', '.join(known)}."
                )
        shared = {name: getattr(self, name) for name in ("padding", "epsilon", "momentum", "bn_mode")}
        dtype = jnp.dtype(self.precision)
        unit = functools.partial(ConvNorm, dtype=dtype, **shared)
        self.stem = unit(self.plan.stem, 3, 2, depthwise=False, activate=True)
        self.block = [Block(row, unit) for row in self.plan.blocks]
        self.last = unit(self.plan.last, 1, 1, depthwise=False, activate=True)
        self.standardise = Standardise()
        self.drop = nn.Dropout(self.dropout)
        # With thousands of standardised features a random head is noise that training first has to remove.
        head_init = nn.initializers.zeros if self.style_from else nn.initializers.glorot_uniform()
        self.head = nn.Dense(self.num_genres, dtype=dtype, kernel_init=head_init)

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """float [B, H, W, 3] in `input_range` -> float32 logits [B, K]."""
        return self.classify(self.features(x, train)[1], train)

    def features(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """float [B, H, W, 3] in `input_range` -> the last map [B, ceil(H / 32), ceil(W / 32), D] and features for the head.

        These are the map pooled [B, D], or, float32 [B, D + E], that and the style of the blocks from `style_from` on.
        Raises UserError for a side under 32.
        """
        if min(x.shape[1:3]) < MIN_SIDE_PX:
            raise errors.UserError(
                f"config.data.image_size={x.shape[1:3]} is too small for {type(self).__name__}: use {MIN_SIDE_PX} px a side "
                "or more."
            )
        mean, std = (jnp.asarray(value, jnp.float32).reshape(1, 1, 1, 3) for value in (self.input_mean, self.input_std))
        x = ((x.astype(jnp.float32) - mean) / std).astype(jnp.dtype(self.precision))
        stages = self.plan.stage_names()
        first = stages.index(self.train_from)
        styled = range(stages.index(self.style_from), len(self.block) + 1) if self.style_from else range(0)
        style: list[jax.Array] = []
        for index, stage in enumerate((self.stem, *self.block, self.last)):
            x = stage(x, train and (index >= first or self.bn_mode == "frozen_moving"))
            if index < first:
                x = lax.stop_gradient(x)
            if index in styled:
                style += _mean_and_deviation(x)
        pooled = self.pool(x)
        return x, jnp.concatenate([pooled.astype(jnp.float32), *style], axis=1) if style else pooled

    def pool(self, last_map: jax.Array) -> jax.Array:
        """The last map [B, h, w, D] -> [B, D]."""
        return last_map.max((1, 2)) if self.pooling == "max" else last_map.mean((1, 2))

    def head_statistics(self, features: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        """The `batch_stats` of the head from the features [N, D] of all training posters; {} without `style_from`."""
        if not self.style_from:
            return {}
        mean, var = (np.asarray(value, np.float32) for value in (features.mean(0, np.float64), features.var(0, np.float64)))
        return {"standardise": {"mean": mean, "var": var}}

    def classify(self, pooled: jax.Array, train: bool) -> jax.Array:
        """Features [B, D] -> float32 logits [B, K]; needs only `head` and, with `style_from`, `standardise`."""
        if self.style_from:
            pooled = self.standardise(pooled)
        return self.head(self.drop(pooled, deterministic=not train)).astype(jnp.float32)


def _mean_and_deviation(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[B, H, W, C] -> float32 [B, C] twice, over the positions of each map."""
    x = x.astype(jnp.float32)
    return x.mean((1, 2)), jnp.sqrt(x.var((1, 2)) + SMALL_VARIANCE)


def shapes(model: Body, image_size: tuple[int, int] = (MIN_SIDE_PX, MIN_SIDE_PX)) -> dict[str, Any]:
    """`params` and `batch_stats` as trees of ShapeDtypeStruct, nothing computed; they do not depend on `image_size`."""
    return jax.eval_shape(lambda key: model.init(key, jnp.zeros((1, *image_size, 3)), False), jax.random.key(0))
