"""The jitted functions: one training step and one evaluation step, both pure."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from poster_jax import losses
from poster_jax.data import augment as augmentation
from poster_jax.state import TrainState

Batch = dict[str, jax.Array]
Sums = dict[str, tuple[jax.Array, jax.Array]]


def normalise(image: jax.Array, input_range: tuple[float, float]) -> jax.Array:
    """uint8 or float [..] in 0..255 -> float32 with 0 at `input_range[0]` and 255 at `input_range[1]`."""
    low, high = input_range
    return image.astype(jnp.float32) * ((high - low) / 255.0) + low


def make_train_step(
    model: Any, optimizer: optax.GradientTransformation, *, loss: str, augment: dict[str, Any]
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Sums]]:
    """`step(state, batch, key) -> (state, {name: (sum, count)})`.

    The key is folded with `state.step`, so randomness is a function of (seed, step). Rows under mask 0 would still enter
    BatchNorm: training batches hold none.
    """

    def train_step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Sums]:
        dropout_key, augment_key = jax.random.split(jax.random.fold_in(key, state.step))
        image = augmentation.augment(batch["image"], augment_key, **augment)
        x = normalise(image, model.input_range)

        def loss_fn(params: Any) -> tuple[jax.Array, tuple[Any, Sums]]:
            logits, updated = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                x,
                True,
                mutable=["batch_stats"],
                rngs={"dropout": dropout_key},
            )
            total, count = losses.masked_sum(losses.LOSSES[loss](logits, batch["label"]), batch["mask"])
            return total / count, (updated.get("batch_stats", {}), {"loss": (total, count)})

        (_, (batch_stats, sums)), gradients = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        sums["gradient_norm"] = (optax.tree.norm(gradients), jnp.float32(1))
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, batch_stats, opt_state), sums

    return train_step


def make_eval_step(model: Any, *, loss: str) -> Callable[[dict[str, Any], Batch], tuple[jax.Array, Sums]]:
    """`step(variables, batch) -> (scores float32 [B, K] in [0, 1], {name: (sum, count)})`; inference mode, no optimizer."""

    def eval_step(variables: dict[str, Any], batch: Batch) -> tuple[jax.Array, Sums]:
        logits = model.apply(variables, normalise(batch["image"], model.input_range), False)
        sums = {"loss": losses.masked_sum(losses.LOSSES[loss](logits, batch["label"]), batch["mask"])}
        return losses.PROBABILITIES[loss](logits), sums

    return eval_step
