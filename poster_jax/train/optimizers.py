"""Optimizer and learning-rate schedule, as Keras has them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from poster_jax.models.types import Params

# A first step that never comes: what starts there is frozen.
NEVER = np.iinfo(np.int32).max


def build_schedule(*, schedule: str, learning_rate: float, warmup_steps: int, num_steps: int) -> optax.Schedule:
    """The learning rate as a function of the step: constant or cosine to 0, after a linear warm-up from 0."""
    after = max(1, num_steps - warmup_steps)
    body = optax.cosine_decay_schedule(learning_rate, after) if schedule == "cosine" else optax.constant_schedule(learning_rate)
    warmup = optax.linear_schedule(0.0, learning_rate, max(1, warmup_steps))
    return optax.join_schedules([warmup, body], [warmup_steps])


def build_optimizer(
    *,
    num_steps: int,
    warmup_steps: int,
    accumulate_steps: int = 1,
    first_steps: Callable[[Params], Params] | None = None,
    **settings: Any,
) -> optax.GradientTransformation:
    """`build_optimizer(**config.optim, num_steps=N)`; `settings` are the other keys of the section, see `_build_changes`.

    `first_steps` gives, for a tree of parameters, the step from which each is changed; before it a parameter stays bit for bit
    as it is, `NEVER` freezes it. With `accumulate_steps` weights change at every so many-th step, by the mean of the gradients
    since the last change, and the schedule is over the changes: that of a run whose steps are as few and batches as large.
    """
    if accumulate_steps == 1:
        return _build_changes(num_steps=num_steps, warmup_steps=warmup_steps, first_steps=first_steps, **settings)

    def first_changes(params: Params) -> Params:
        assert first_steps is not None
        return jax.tree.map(lambda first: -(-first // accumulate_steps), first_steps(params))

    changes = _build_changes(
        num_steps=max(1, num_steps // accumulate_steps),
        warmup_steps=-(-warmup_steps // accumulate_steps),
        first_steps=first_changes if first_steps is not None else None,
        **settings,
    )
    # It conditions the update alone: a gradient within a condition takes twenty times as long on CPUs (jax#12868).
    return optax.MultiSteps(changes, accumulate_steps).gradient_transformation()


def _build_changes(
    *,
    name: str,
    learning_rate: float,
    schedule: str,
    warmup_steps: int,
    weight_decay: float,
    num_steps: int,
    head_factor: float = 1.0,
    first_steps: Callable[[Params], Params] | None = None,
) -> optax.GradientTransformation:
    """adam and sgd as Keras has them (epsilon 1e-7), over `num_steps` changes of the weights.

    adamw decays kernels only, not biases or BatchNorm. What is called `head` moves at `head_factor` times the rate.
    """
    rate = build_schedule(schedule=schedule, learning_rate=learning_rate, warmup_steps=warmup_steps, num_steps=num_steps)
    if name == "sgd":
        optimizer = optax.sgd(rate, momentum=0.9)
    elif name == "adamw":
        optimizer = optax.adamw(rate, eps=1e-7, weight_decay=weight_decay, mask=_is_kernel)
    else:
        optimizer = optax.adam(rate, eps=1e-7)
    if head_factor != 1:
        optimizer = optax.chain(optimizer, _scale_head(head_factor))
    return optimizer if first_steps is None else optax.chain(optimizer, _hold_until(first_steps))


def _is_kernel(params: Params) -> Params:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _scale_head(factor: float) -> optax.GradientTransformation:
    def scale(updates: Any, params: optax.Params | None) -> optax.Updates:
        return {**updates, "head": jax.tree.map(lambda update: factor * update, updates["head"])}

    return optax.stateless(scale)


class _HoldState(NamedTuple):
    count: jax.Array


def _hold_until(first_steps: Callable[[Params], Params]) -> optax.GradientTransformation:
    """Zeroes updates before their first step. Moments run from the start, so that a late starter's are warm."""

    def init(params: optax.Params) -> _HoldState:
        return _HoldState(jnp.int32(0))

    def update(updates: Any, state: Any, params: optax.Params | None = None) -> tuple[optax.Updates, _HoldState]:
        held = jax.tree.map(
            lambda update, first: update if first == 0 else jnp.where(state.count < first, 0.0, update),
            updates,
            first_steps(updates),
        )
        return held, _HoldState(state.count + 1)

    return optax.GradientTransformation(init, update)
