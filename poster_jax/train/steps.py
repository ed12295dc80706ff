"""The jitted functions: one training step and one evaluation step, both pure."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from poster_jax.data.input_pipeline import Batch
from poster_jax.models import layers
from poster_jax.models.types import Params, PosterModel, Variables
from poster_jax.train import augment as augment_lib
from poster_jax.train import losses
from poster_jax.train.train_state import TrainState

Sums = dict[str, tuple[jax.Array, jax.Array]]  # {name: (sum, count)}, scalars
TrainStep = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Sums]]
EvalStep = Callable[[Variables, Batch], tuple[jax.Array, Sums]]

YES_FROM = 0.5


def make_train_step(
    model: PosterModel,
    optimizer: optax.GradientTransformation,
    loss: losses.Loss,
    *,
    augment: Mapping[str, Any],
    average_decay: float = 0.0,
    log_accuracy: bool = False,
) -> TrainStep:
    """`step(state, batch, key) -> (state, {name: (sum, count)})`.

    The key is folded with `state.step`, so randomness is a function of (seed, step). Rows under mask 0 would still enter
    BatchNorm: training batches hold none. With `log_accuracy` the sums hold the binary accuracy of the step's own outputs,
    under dropout and before its update: what Keras prints as accuracy while it trains with binary cross entropy.
    """

    def train_step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Sums]:
        dropout_key, augment_key = jax.random.split(jax.random.fold_in(key, state.step))
        image = augment_lib.augment(batch["image"], augment_key, **augment)
        x = layers.normalise(image, model.input_range)

        def loss_fn(params: Params) -> tuple[jax.Array, tuple[Params, Sums]]:
            logits, updated = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                x,
                True,
                mutable=["batch_stats"],
                rngs={"dropout": dropout_key},
            )
            total, count = losses.masked_sum(loss.per_example(logits, batch["label"]), batch["mask"])
            sums = {"loss": (total, count)}
            if log_accuracy:
                sums["binary_accuracy"] = losses.masked_sum(_share_right(logits, batch["label"], loss), batch["mask"])
            return total / count, (updated.get("batch_stats", {}), sums)

        (_, (batch_stats, sums)), gradients = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        sums["gradient_norm"] = (optax.tree.norm(gradients), jnp.float32(1))
        params: Any = optax.apply_updates(state.params, updates)
        average = None if state.average is None else _averaged(state.average, params, average_decay, state.step)
        return TrainState(state.step + 1, params, batch_stats, opt_state, average), sums

    return train_step


def _share_right(logits: jax.Array, label: jax.Array, loss: losses.Loss) -> jax.Array:
    """float32 [B]: the share of a row's yes/no answers, yes from a probability of one half on, that are its labels."""
    answers = loss.probabilities(logits) >= YES_FROM
    return (answers == (losses.one_hot(label, logits.shape[-1]) > YES_FROM)).mean(axis=-1, dtype=jnp.float32)


def _averaged(average: Params, params: Params, decay: float, step: jax.Array) -> Params:
    """Moving average whose decay grows to `decay`, so that the first weights are forgotten early.

    TensorFlow's ExponentialMovingAverage with `num_updates` has the same schedule.
    """
    share = 1 - jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda old, new: old + share * (new - old), average, params)


def make_predict_step(
    model: PosterModel, probabilities: Callable[[jax.Array], jax.Array], *, mirror: bool
) -> Callable[[Variables, jax.Array], jax.Array]:
    """`step(variables, image uint8 [B, H, W, 3]) -> scores float32 [B, outputs] in [0, 1]`, in inference mode.

    With `mirror` the scores are the mean of the poster's and its mirror image's.
    """

    def predict_step(variables: Variables, image: jax.Array) -> jax.Array:
        return _mean([probabilities(logits) for logits in _view_logits(model, variables, image, mirror)])

    return predict_step


def _view_logits(model: PosterModel, variables: Variables, image: jax.Array, mirror: bool) -> list[jax.Array]:
    views = [image, image[:, :, ::-1]] if mirror else [image]
    return [model.apply(variables, layers.normalise(view, model.input_range), False) for view in views]


def _mean(views: list[jax.Array]) -> jax.Array:
    return functools.reduce(jnp.add, views) / len(views)


def make_eval_step(model: PosterModel, loss: losses.Loss, *, mirror: bool = False) -> EvalStep:
    """`step(variables, batch) -> (scores as of make_predict_step, {name: (sum, count)})`; no optimizer, no key.

    The loss is that of the logits' mean over the views.
    """

    def eval_step(variables: Variables, batch: Batch) -> tuple[jax.Array, Sums]:
        logits = _view_logits(model, variables, batch["image"], mirror)
        scores = _mean([loss.probabilities(one) for one in logits])
        return scores, {"loss": losses.masked_sum(loss.per_example(_mean(logits), batch["label"]), batch["mask"])}

    return eval_step
