"""Dense heads on cached features: one for every learning rate, trained together by one program.

Each head goes through the steps that `loop.fit` would take through the frozen body with Adam: the same order of examples,
the same dropout, the same updates. There is no convolution in it, so an epoch may be one `lax.scan` and the rates one `vmap`.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from poster_jax.data import dataset, sampler
from poster_jax.metrics import scoring
from poster_jax.models.types import Params, PosterModel
from poster_jax.train import features as features_lib
from poster_jax.train import losses, train_state

# (state, learning rate, pooled [B, D], label, key) -> state
HeadStep = Callable[[train_state.TrainState, jax.Array, jax.Array, jax.Array, jax.Array], train_state.TrainState]
# What is scored after every epoch, validation last: it chooses the epoch. Test is measured once.
WATCHED = ("train", "validation")


@dataclasses.dataclass(frozen=True)
class Head:
    """One learning rate's outcome.

    Attributes:
        params: {kernel [D, K], bias [K]} after the epoch that was best on validation.
        last_params: the same after the last epoch.
        best_value: what it reached there.
        history: a row per epoch and part: {"epoch", "part", "loss", metric: value, ...}, in inference mode.
    """

    learning_rate: float
    params: Params
    last_params: Params
    best_epoch: int
    best_value: float
    history: list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Settings:
    """How heads are trained.

    Attributes:
        num_steps: in all; the last epoch may be cut.
        seed: of order and dropout, as in `loop.fit`.
    """

    learning_rates: Sequence[float]
    num_steps: int
    batch_size: int
    seed: int
    best_metric: str


@dataclasses.dataclass(frozen=True)
class Scorer:
    """What turns pooled features into scores, for any head.

    Attributes:
        model: a network whose `classify(pooled, train)` is the head.
        statistics: the `batch_stats` that `classify` needs, or {}.
    """

    model: PosterModel
    statistics: Params
    loss: losses.Loss

    def logits(self, head: Params, pooled: jax.Array, train: bool = False, **rngs: jax.Array) -> jax.Array:
        """float32 [B, outputs] of features [B, D]."""
        variables = {"params": {"head": head}, "batch_stats": self.statistics}
        return self.model.apply(variables, pooled, train, method="classify", rngs=rngs or None)

    def score(self, head: Params, features: features_lib.Features, rows: dataset.Dataset) -> dict[str, np.ndarray]:
        """{part: scores float32 [N, K] in [0, 1]} of one head, in inference mode."""
        scored = jax.jit(_make_score(self))
        scores = {part: np.asarray(scored(head, features.of(at), rows.target[at])[0]) for part, at in rows.parts.items()}
        return {part: values[:, : len(rows.genres)] for part, values in scores.items()}


def train(
    scorer: Scorer, params: Params, features: features_lib.Features, rows: dataset.Dataset, settings: Settings
) -> list[Head]:
    """Trains a head per rate from the same `params` ({kernel, bias}); training and validation are scored after each epoch."""
    learning_rates, batch_size, seed = settings.learning_rates, settings.batch_size, settings.seed
    held = {part: jnp.asarray(features.of(rows.parts[part])) for part in WATCHED}
    target = {part: jnp.asarray(rows.target[rows.parts[part]]) for part in WATCHED}
    count, measured = len(held["train"]), len(rows.genres)
    per_epoch = sampler.steps_per_epoch(count, batch_size)
    rates = jnp.asarray(learning_rates, jnp.float32)
    step = make_step(scorer)
    run_steps = jax.jit(functools.partial(_run_steps, step, (held["train"], target["train"], jax.random.key(seed))))
    scored = jax.jit(jax.vmap(_make_score(scorer), in_axes=(0, None, None)))

    states = jax.vmap(make_state)(jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)] * len(rates)), params))
    histories: list[list[dict[str, Any]]] = [[] for _ in learning_rates]
    best: list[Head | None] = [None] * len(learning_rates)
    for start in range(0, settings.num_steps, per_epoch):
        taken = range(start, min(start + per_epoch, settings.num_steps))
        states = run_steps(states, rates, np.stack([sampler.batch_positions(count, batch_size, seed, at) for at in taken]))
        for part in WATCHED:
            scores, mean_losses = (np.asarray(out) for out in scored(states.params, held[part], target[part]))
            for index, history in enumerate(histories):
                values = scoring.headline(scores[index][:, :measured], rows.label[rows.parts[part]])
                history.append({"epoch": taken.stop / per_epoch, "part": part, "loss": float(mean_losses[index]), **values})
        for index, rate in enumerate(learning_rates):
            value = histories[index][-1][settings.best_metric]
            earlier = best[index]
            if earlier is None or value > earlier.best_value:
                kept = _params_of(states, index)
                best[index] = Head(float(rate), kept, kept, -(-taken.stop // per_epoch), value, histories[index])
    found = enumerate(best)
    return [dataclasses.replace(head, last_params=_params_of(states, index)) for index, head in found if head is not None]


def _params_of(states: train_state.TrainState, index: int) -> Params:
    """The host arrays of one of several heads that train together."""
    return jax.tree.map(lambda leaf: np.asarray(leaf[index]), states.params)


def make_state(params: Params) -> train_state.TrainState:
    """A head's state at step 0."""
    return train_state.TrainState(jnp.int32(0), params, {}, _adam().init(params), None)


def make_step(scorer: Scorer) -> HeadStep:
    """`step(state, learning_rate, pooled [B, D], label, key) -> state`: Adam on the head alone, the rate traced."""

    def step(
        state: train_state.TrainState, rate: jax.Array, pooled: jax.Array, label: jax.Array, key: jax.Array
    ) -> train_state.TrainState:
        dropout_key, _ = jax.random.split(jax.random.fold_in(key, state.step))

        def loss_fn(head: Params) -> jax.Array:
            return scorer.loss.per_example(scorer.logits(head, pooled, True, dropout=dropout_key), label).mean()

        updates, opt_state = _adam().update(jax.grad(loss_fn)(state.params), state.opt_state, state.params)
        params = jax.tree.map(lambda value, update: value - rate * update, state.params, updates)
        return train_state.TrainState(state.step + 1, params, {}, opt_state, None)

    return step


def _adam() -> optax.GradientTransformation:
    return optax.scale_by_adam(eps=1e-7)


def _run_steps(
    step: HeadStep,
    rows: tuple[jax.Array, jax.Array, jax.Array],
    states: train_state.TrainState,
    rates: jax.Array,
    positions: jax.Array,
) -> train_state.TrainState:
    """States after the steps on the rows at `positions` int [S, B]; `rows` are features, labels and the key."""
    held, label, key = rows
    every = jax.vmap(step, in_axes=(0, 0, None, None, None))

    def one(carried: train_state.TrainState, chosen: jax.Array) -> tuple[train_state.TrainState, None]:
        return every(carried, rates, held[chosen], label[chosen], key), None

    return jax.lax.scan(one, states, positions)[0]


def _make_score(scorer: Scorer) -> Callable[[Params, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    def score(head: Params, pooled: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = scorer.logits(head, pooled)
        return scorer.loss.probabilities(logits), scorer.loss.per_example(logits, label).mean()

    return score
