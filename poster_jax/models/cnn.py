"""The parametric CNN: the paper's three networks are three settings of `blocks` and `dense`.

BatchNorm stands after the activation: the paper puts it "after each convolutional layer and dense layer" (section II-B), and
its layers have their activation inside (Tables 2 and 6).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from poster_jax import errors, layers


class CNN(nn.Module):
    """Blocks of convolution, relu, BatchNorm, max pool, dropout; then dense layers; then one logit per genre.

    Attributes:
        blocks: rows of (filters, kernel, pool, batch norm, dropout); VALID padding, pool 1 is none.
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
        for filters, kernel, pool, batch_norm, dropout in self.blocks:
            if min(x.shape[1:3]) < kernel:
                raise errors.UserError(
                    f"config.model.blocks has no pixel left for a kernel of {kernel} in {x.shape[1:3]}: use fewer blocks."
                )
            x = nn.relu(layers.Conv(filters, (kernel, kernel), padding="VALID", dtype=dtype)(x))
            x = self._norm(x, train) if batch_norm else x
            if min(x.shape[1:3]) < pool:
                raise errors.UserError(
                    f"config.model.blocks has no pixel left for a pool of {pool} in {x.shape[1:3]}: use smaller pools."
                )
            x = layers.max_pool(x, (pool, pool)) if pool > 1 else x
            x = nn.Dropout(dropout, deterministic=not train)(x) if dropout else x
        x = x.reshape(x.shape[0], -1)
        for units, batch_norm, dropout in self.dense:
            x = nn.relu(nn.Dense(units, dtype=dtype, kernel_init=nn.initializers.glorot_uniform())(x))
            x = self._norm(x, train) if batch_norm else x
            x = nn.Dropout(dropout, deterministic=not train)(x) if dropout else x
        return nn.Dense(self.num_genres, dtype=dtype, kernel_init=nn.initializers.glorot_uniform())(x).astype(jnp.float32)

    def _norm(self, x: jax.Array, train: bool) -> jax.Array:
        # Keras's defaults (keras/src/layers/normalization/batch_normalization.py), which the paper's code relied on.
        return nn.BatchNorm(use_running_average=not train, momentum=0.99, epsilon=1e-3, dtype=x.dtype)(x)
