"""The parametric CNN: the paper's three networks are three settings of `blocks` and `dense`.

BatchNorm comes after the activation: the paper puts it "after each convolutional layer and dense layer" (section II-B), and its
layers include their activation (Tables 2 and 6).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from poster_jax import errors
from poster_jax.models import layers
from poster_jax.ops import pool as pool_lib

# Names under which `grad_cam` finds the activation of the last convolution, and its gradient.
LAST_MAP, PERTURBATIONS = "last_map", "perturbations"


class ChannelDropout(nn.Module):
    """Dropout with an array as rate, which may be traced; the mask of a channel depends only on the key and the channel.

    So networks of different widths, and those padded to the widest, drop the same values of the channels that they share.
    """

    rate: jax.Array

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """float [..., C]; each channel has its own key."""
        keys = jax.vmap(jax.random.fold_in, (None, 0))(self.make_rng("dropout"), jnp.arange(x.shape[-1]))
        keep = 1.0 - self.rate
        kept = jax.vmap(lambda key: jax.random.uniform(key, x.shape[:-1]) < keep, out_axes=-1)(keys)
        return jnp.where(kept, x / keep.astype(x.dtype), jnp.zeros_like(x))


class CNN(nn.Module):
    """Blocks of convolution, relu, BatchNorm, max pool, dropout; then dense layers; then one logit per genre.

    Attributes:
        blocks: rows of (filters, kernel, pool, batch norm, dropout); VALID padding, pool 1 is none. A dropout that is an array
            becomes a `ChannelDropout`.
        dense: rows of (units, batch norm, dropout).
        input_range: what 0 and 255 are mapped to.
        precision: dtype of the activations; parameters and statistics are float32.
    """

    blocks: tuple[tuple[int, int, int, bool, float], ...]
    dense: tuple[tuple[int, bool, float], ...]
    input_range: tuple[float, float]
    num_genres: int
    precision: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """float [B, H, W, 3] in `input_range` -> float32 logits [B, K]."""
        dtype = jnp.dtype(self.precision)
        x = x.astype(dtype)
        for index, (filters, kernel, pool, batch_norm, dropout) in enumerate(self.blocks):
            if min(x.shape[1:3]) < kernel:
                raise errors.UserError(
                    f"config.model.blocks has no pixel left for a kernel of {kernel} in {x.shape[1:3]}: use fewer blocks."
                )
            size = tuple(side - kernel + 1 for side in x.shape[1:3])
            if min(size) < pool:
                raise errors.UserError(
                    f"config.model.blocks has no pixel left for a pool of {pool} in {size}: use smaller pools."
                )
            is_last = index == len(self.blocks) - 1
            # Pooling before relu gives the same with fewer values. BatchNorm and Grad-CAM need the map before pooling.
            pooled = pool > 1 and not batch_norm and not is_last
            x = nn.relu(layers.Conv(filters, (kernel, kernel), padding="VALID", pool=pool if pooled else 1, dtype=dtype)(x))
            if is_last and not self.is_initializing():
                x = self.perturb(LAST_MAP, x, PERTURBATIONS)
                self.sow("intermediates", LAST_MAP, x)
            x = self._norm(x, train) if batch_norm else x
            x = pool_lib.max_pool(x, (pool, pool)) if pool > 1 and not pooled else x
            x = self._drop(x, dropout, train)
        x = x.reshape(x.shape[0], -1)
        for units, batch_norm, dropout in self.dense:
            x = nn.relu(nn.Dense(units, dtype=dtype, kernel_init=nn.initializers.glorot_uniform())(x))
            x = self._norm(x, train) if batch_norm else x
            x = self._drop(x, dropout, train)
        return nn.Dense(self.num_genres, dtype=dtype, kernel_init=nn.initializers.glorot_uniform())(x).astype(jnp.float32)

    def _drop(self, x: jax.Array, dropout: float | jax.Array, train: bool) -> jax.Array:
        if isinstance(dropout, jax.Array):
            return ChannelDropout(dropout)(x) if train else x
        return nn.Dropout(dropout, deterministic=not train)(x) if dropout else x

    def _norm(self, x: jax.Array, train: bool) -> jax.Array:
        # Keras's defaults (keras/src/layers/normalization/batch_normalization.py), which the paper's code relied on.
        return nn.BatchNorm(use_running_average=not train, momentum=0.99, epsilon=1e-3, dtype=x.dtype)(x)
