"""What of the parameters an optimizer changes, and from when; the moving average of weights."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poster_jax import models
from poster_jax.train import optimizers, steps, train_state
from tests.train import test_steps

SETTINGS = {"learning_rate": 0.1, "schedule": "constant", "warmup_steps": 0, "num_steps": 10}
PARAMS = {"early": {"kernel": jnp.ones((2, 2))}, "late": {"kernel": jnp.ones((2, 2))}, "frozen": {"kernel": jnp.ones((2, 2))}}


def run(num_steps: int, first_steps: Any = None, weight_decay: float = 0.5) -> list[Any]:
    optimizer = optimizers.build_optimizer(name="adamw", weight_decay=weight_decay, **SETTINGS, first_steps=first_steps)
    state, params, seen = optimizer.init(PARAMS), PARAMS, []
    for _ in range(num_steps):
        updates, state = optimizer.update(jax.tree.map(jnp.ones_like, params), state, params)
        params = jax.tree.map(lambda p, u: p + u, params, updates)
        seen.append(params)
    return seen


def test_a_parameter_is_held_bit_for_bit_until_its_first_step_and_for_ever() -> None:
    starts = {"early": {"kernel": 0}, "late": {"kernel": 3}, "frozen": {"kernel": optimizers.NEVER}}
    held, free = run(5, lambda params: starts), run(5)
    for step, params in enumerate(held):
        assert (np.asarray(params["frozen"]["kernel"]) == 1).all(), "weight decay and updates must not reach it"
        assert bool((np.asarray(params["late"]["kernel"]) == 1).all()) == (step < 3)
        np.testing.assert_array_equal(params["early"]["kernel"], free[step]["early"]["kernel"])
    # Warm moments: the first step of a late starter is as long as everybody's.
    moved = [
        float((after["late"]["kernel"] - before["late"]["kernel"])[0, 0])
        for before, after in zip(held[:-1], held[1:], strict=True)
    ]
    assert moved[2] == pytest.approx(float((free[0]["late"]["kernel"] - 1)[0, 0]), rel=0.01)


def test_the_head_moves_at_a_rate_of_its_own() -> None:
    params = {"head": {"kernel": jnp.ones((2, 2))}, "last": {"kernel": jnp.ones((2, 2))}}
    moved = {}
    for factor in (1.0, 0.1):
        optimizer = optimizers.build_optimizer(name="adamw", weight_decay=0.5, head_factor=factor, **SETTINGS)
        updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, params), optimizer.init(params), params)
        moved[factor] = {name: float(tree["kernel"][0, 0]) for name, tree in updates.items()}
    assert moved[1.0]["head"] == moved[1.0]["last"] == moved[0.1]["last"] != 0
    assert moved[0.1]["head"] == pytest.approx(0.1 * moved[1.0]["head"])


def test_stages_of_a_body_open_from_the_last_one_down() -> None:
    model = models.build(
        name="mobilenet_v2", num_genres=3, precision="float32", width=0.35, input_range=(), pooling="avg", dropout=0.0,
        bn_mode="frozen", train_from="block_15",
    )  # fmt: skip
    assert models.first_steps(model.clone(train_from="stem"), 0) is None
    first_steps = models.first_steps(model, 30)
    assert first_steps is not None
    stages = {name: {"kernel": 0} for name in ("stem", "block_14", "block_15", "block_16", "last", "head")}
    starts = {stage: tree["kernel"] for stage, tree in first_steps(stages).items()}
    never = optimizers.NEVER
    assert starts == {"stem": never, "block_14": never, "block_15": 30, "block_16": 20, "last": 10, "head": 0}


def test_a_frozen_body_stays_bit_for_bit_and_sends_no_gradient() -> None:
    """Parameters and statistics of frozen stages after steps with weight decay and dropout; those above do move."""
    fields = {"width": 0.35, "input_range": (), "pooling": "avg", "dropout": 0.2, "bn_mode": "training"}
    model = models.build(name="mobilenet_v2", num_genres=3, precision="float32", train_from="block_16", **fields)
    optimizer = optimizers.build_optimizer(name="adamw", weight_decay=0.1, **SETTINGS, first_steps=models.first_steps(model, 0))
    sharding = test_steps.build()[0].state
    state = train_state.create(model, optimizer, (32, 32), 0, sharding)
    train_step = jax.jit(steps.make_train_step(model, optimizer, test_steps.build_loss(), augment=test_steps.OFF))
    batch = {**test_steps.make_batch(0, 4), "image": np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)}
    after = state
    for _ in range(2):
        after, _ = train_step(after, batch, jax.random.key(0))
    for before, now in ((state.params, after.params), (state.batch_stats, after.batch_stats)):
        for stage in before:
            same = [np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (before[stage], now[stage])), strict=True)]
            assert any(same) != (stage in ("block_16", "last", "head")), stage


def test_the_average_is_what_is_evaluated_and_follows_its_schedule() -> None:
    _, state, train_step, eval_step = test_steps.build(decay=0.9)
    batch, key = test_steps.make_batch(0), jax.random.key(0)
    expected = state.params
    for step in range(3):
        state, _ = train_step(state, batch, key)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = jax.tree.map(lambda old, new, d=decay: d * old + (1 - d) * new, expected, state.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), state.average, expected)
    averaged, raw = (eval_step({**state.variables(), "params": params}, batch)[0] for params in (state.average, state.params))
    np.testing.assert_array_equal(eval_step(state.variables(), batch)[0], averaged)
    assert not np.array_equal(averaged, raw)


def test_mirrored_evaluation_is_the_mean_of_both_views() -> None:
    _, state, _, eval_step = test_steps.build()
    model = models.build(
        **test_steps.FIELDS, blocks=((6, 3, 2, True, 0.2),), dense=((8, True, 0.3),), num_genres=3, precision="float32"
    )
    both = jax.jit(steps.make_eval_step(model, test_steps.build_loss(), mirror=True))
    batch = test_steps.make_batch(0)
    mirrored = {**batch, "image": batch["image"][:, :, ::-1]}
    views = [np.asarray(eval_step(state.variables(), one)[0]) for one in (batch, mirrored)]
    np.testing.assert_allclose(both(state.variables(), batch)[0], (views[0] + views[1]) / 2, rtol=1e-5)
    assert not np.allclose(*views)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize(("schedule", "warmup"), [("constant", 4), ("cosine", 4), ("cosine", 0)])
def test_updates_follow_the_warm_up_and_the_schedule(name: str, schedule: str, warmup: int) -> None:
    settings = {"learning_rate": 0.1, "schedule": schedule, "warmup_steps": warmup, "num_steps": 10}
    optimizer = optimizers.build_optimizer(name=name, weight_decay=0.0, **settings)
    params = {"kernel": jnp.ones((2, 2))}
    opt_state, moved = optimizer.init(params), []
    for _ in range(11):
        updates, opt_state = optimizer.update(jax.tree.map(jnp.ones_like, params), opt_state, params)
        moved.append(-float(updates["kernel"][0, 0]))
    steps = np.arange(11)
    body = 0.05 * (1 + np.cos(np.pi * (steps - warmup) / (10 - warmup))) if schedule == "cosine" else np.full(11, 0.1)
    rates = np.where(steps < warmup, 0.1 * steps / 4, body)
    # A constant gradient of 1 is a step of 1 for Adam; with a momentum of 0.9 it adds up.
    strides = (1 - 0.9 ** (steps + 1)) / (1 - 0.9) if name == "sgd" else np.ones(11)
    np.testing.assert_allclose(moved, rates * strides, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("network", ["cnn", "mobilenet_v2"])
def test_kernels_decay_and_biases_and_batch_norm_do_not(network: str) -> None:
    if network == "cnn":
        fields: Any = {**test_steps.FIELDS, "blocks": ((6, 3, 2, True, 0.2),), "dense": ((8, True, 0.3),)}
    else:
        fields = {"name": network, "width": 0.35, "input_range": (), "pooling": "avg", "dropout": 0.0, "bn_mode": "frozen"}
        fields["train_from"] = "stem"
    model = models.build(**fields, num_genres=3, precision="float32")
    shapes = jax.eval_shape(lambda key: model.init(key, jnp.zeros((1, 32, 32, 3)), False), jax.random.key(0))["params"]
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 2.0, np.float32), shapes)
    optimizer = optimizers.build_optimizer(name="adamw", weight_decay=0.3, **SETTINGS)
    nothing = jax.tree.map(np.zeros_like, params)
    updates = jax.jit(lambda: optimizer.update(nothing, optimizer.init(params), params)[0])()
    found: dict[str, set[float]] = {}
    for path, update in jax.tree_util.tree_leaves_with_path(updates):
        found.setdefault(path[-1].key, set()).update(np.unique(np.round(update, 6)).tolist())
    assert {name: [pytest.approx(value) for value in values] for name, values in found.items()} == {
        "kernel": [-0.1 * 0.3 * 2],
        "bias": [0.0],
        "scale": [0.0],
    }
