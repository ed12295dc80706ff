"""Members of a population against lone networks: padded or not, stacked or side by side, one diverging among them."""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from poster_jax import config as config_lib
from poster_jax.models import cnn, layers
from poster_jax.runtime import sharding
from poster_jax.search import ensemble, space
from poster_jax.search.space import Trial
from poster_jax.train import losses

SEARCH = str(pathlib.Path(__file__).resolve().parents[2] / "configs/search_cnn.py")
# Widths, rates and dropouts all differ; the last two share the widest layers between them.
TRIALS = [
    Trial(0, 3e-3, 0.2, (2, 5), (6,)),
    Trial(1, 1e-2, 0.5, (4, 3), (9,)),
    Trial(2, 1e-3, 0.35, (3, 6), (5,)),
]
WIDEST = space.widest(TRIALS)
NUM_STEPS, BATCH = 5, 8


def make_task(arg: str, optimizer: str) -> ensemble.SearchTask:
    # Frozen, so that a task can be a key.
    config = ml_collections.FrozenConfigDict(config_lib.load(f"{SEARCH}:{arg}", [("optim.name", optimizer)]))
    loss = losses.build(**config.loss, genre_counts=np.full(6, 10), num_rows=60)
    return ensemble.SearchTask(config, 6, loss, NUM_STEPS)


# With BatchNorm some gradients are zero but for rounding, and adam divides them by their own size: such networks are compared
# under sgd, where rounding stays rounding.
TASKS = {"plain": make_task("smoke", "adam"), "batch_norm": make_task("batch_norm,smoke", "sgd")}
BOTH = make_task("batch_norm,smoke", "adam")


def batch(step: int, members: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(step)
    return {
        "image": rng.integers(0, 256, (members, BATCH, 38, 26, 3), np.uint8),
        "label": rng.integers(0, 6, (members, BATCH)).astype(np.int32),
        "mask": np.ones((members, BATCH), np.float32),
    }


def rates(trials: list[Trial]) -> dict[str, jax.Array]:
    return {name: jnp.array([getattr(t, name) for t in trials], jnp.float32) for name in ("learning_rate", "dropout")}


@functools.cache
def begin(task: ensemble.SearchTask, trial: Trial) -> Any:
    return jax.device_get(jax.jit(ensemble.make_init(task, trial))(jax.random.key(trial.number)))


def padded_to(state: Any, task: ensemble.SearchTask, trial: Trial, widest: Trial = WIDEST) -> Any:
    return ensemble.pad_state(state, trial, jax.eval_shape(ensemble.make_init(task, widest), jax.random.key(0)))


def train(together: ensemble.EnsembleStep, states: list[Any], trials: list[Trial], rows: list[int]) -> tuple[list[Any], Any]:
    """Host states after all steps, and the scores of one evaluation batch; `rows` say whose batches each member sees."""
    members = together.to_device(states)
    keys = jnp.stack([jax.random.key(100 + trial.number) for trial in trials])
    for step in range(NUM_STEPS):
        own = {name: value[rows] for name, value in batch(step, 3).items()}
        members, _ = together.train(members, own, keys, rates(trials))
    scores, _ = together.evaluate(members, {name: value[rows] for name, value in batch(99, 3).items()})
    return together.to_host(members), np.asarray(scores)


@functools.cache
def stack(task: ensemble.SearchTask, unroll: bool, devices: int) -> ensemble.EnsembleStep:
    """Compiled once for all tests: rates are arguments."""
    return ensemble.make_stacked(task, WIDEST, len(TRIALS), sharding.make_shardings(jax.devices()[:devices]), unroll=unroll)


def stacked(task: ensemble.SearchTask, trials: list[Trial], *, unroll: bool, devices: int) -> tuple[list[Any], np.ndarray]:
    states = [padded_to(begin(task, trial), task, trial) for trial in trials]
    return train(stack(task, unroll, devices), states, trials, [trial.number for trial in trials])


@pytest.fixture(scope="module", params=list(TASKS))
def task(request: pytest.FixtureRequest) -> ensemble.SearchTask:
    return TASKS[request.param]


@pytest.fixture(scope="module")
def lone(task: ensemble.SearchTask) -> list[tuple[Any, np.ndarray]]:
    """Each trial alone, at its own widths: (host state, scores [B, K])."""
    found = []
    for trial in TRIALS:
        states, scores = train(ensemble.make_unrolled(task, trial), [begin(task, trial)], [trial], [trial.number])
        found.append((states[0], scores[0]))
    return found


@pytest.fixture(scope="module")
def padded(task: ensemble.SearchTask) -> tuple[list[Any], np.ndarray]:
    return stacked(task, TRIALS, unroll=True, devices=2)


def distance(state: Any, other: Any) -> float:
    """Largest difference of parameters and statistics."""
    pairs = zip(jax.tree.leaves(state.variables()), jax.tree.leaves(other.variables()), strict=True)
    return max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)


@pytest.mark.parametrize(
    ("widths", "expected"),
    [
        ((10, 30, 106), 2_636_798),
        ((8, 16, 92), 1_220_858),
        ((4, 24, 84), 1_670_842),
        ((9, 31, 115), 2_955_425),
        ((12, 31, 81), 2_083_396),
        ((12, 17, 115), 1_621_740),
        ((10, 24, 80), 1_592_790),
        ((8, 18, 84), 1_254_068),
        ((9, 25, 85), 1_762_403),
        ((9, 18, 89), 1_328_813),
    ],
)
def test_the_paper_s_ten_sets_have_their_numbers_of_parameters(widths: tuple[int, int, int], expected: int) -> None:
    config = config_lib.load(SEARCH)
    task = dataclasses.replace(BOTH, config=config)
    state = jax.eval_shape(ensemble.make_init(task, Trial(0, 1e-3, 0.3, widths[:2], widths[2:])), jax.random.key(0))
    assert layers.count_values(state.params) == expected


def test_a_padded_member_equals_the_same_trial_alone(task: ensemble.SearchTask, lone: Any, padded: Any) -> None:
    for trial, (state, scores), member, member_scores in zip(TRIALS, lone, *padded, strict=True):
        assert distance(padded_to(state, task, trial), member) < 2e-5
        np.testing.assert_allclose(scores, member_scores, atol=2e-5)


def test_vmapped_over_eight_devices_it_does_too(task: ensemble.SearchTask, lone: Any) -> None:
    states, all_scores = stacked(task, TRIALS, unroll=False, devices=8)
    assert len(states) == len(TRIALS)
    for trial, (state, scores), member, member_scores in zip(TRIALS, lone, states, all_scores, strict=True):
        assert distance(padded_to(state, task, trial), member) < 2e-5
        np.testing.assert_allclose(scores, member_scores, atol=2e-5)


def test_another_trial_or_another_dropout_is_seen_by_that_comparison(task: ensemble.SearchTask, lone: Any, padded: Any) -> None:
    assert distance(padded_to(lone[0][0], task, TRIALS[0]), padded[0][1]) > 1e-2
    changed = dataclasses.replace(TRIALS[0], dropout=0.25)
    states, _ = train(ensemble.make_unrolled(task, changed), [begin(task, changed)], [changed], [0])
    assert distance(padded_to(states[0], task, changed), padded[0][0]) > 1e-4


def test_members_side_by_side_equal_each_alone(task: ensemble.SearchTask, lone: Any) -> None:
    trials = [TRIALS[0], dataclasses.replace(TRIALS[0], learning_rate=1e-2, dropout=0.4)]
    together = ensemble.make_unrolled(task, TRIALS[0])
    states, scores = train(together, [begin(task, trial) for trial in trials], trials, [0, 0])
    assert distance(states[0], lone[0][0]) < 2e-5
    np.testing.assert_allclose(scores[0], lone[0][1], atol=2e-5)
    assert distance(states[1], lone[0][0]) > 1e-3


def test_padding_stays_exactly_zero_under_training() -> None:
    members, _ = stacked(BOTH, TRIALS, unroll=False, devices=1)
    for trial, member in zip(TRIALS, members, strict=True):
        ones = jax.tree.map(np.ones_like, begin(BOTH, trial))
        rows = list(zip(jax.tree.leaves(padded_to(ones, BOTH, trial)), jax.tree.leaves(member), strict=True))
        assert sum(int((inside == 0).sum()) for inside, _ in rows) > 100
        for inside, values in rows:
            assert not np.asarray(values)[inside == 0].any()
        assert distance(member, padded_to(begin(BOTH, trial), BOTH, trial)) > 1e-3, "it did train"


def test_a_value_in_the_padding_would_not_stay_alone() -> None:
    """What the padding is zero for: something in it trains, and changes the others."""
    trial, task = TRIALS[0], TASKS["plain"]
    state, clean = (padded_to(begin(task, trial), task, trial) for _ in range(2))
    first, second = (state.params[name]["kernel"] for name in ("Conv_0", "Conv_1"))
    first[..., trial.filters[0]] = 0.1
    second[:, :, trial.filters[0], 0] = 0.1
    together = ensemble.make_unrolled(task, WIDEST)
    moved, unmoved = (train(together, [one], [trial], [0])[0][0].params["Conv_0"]["kernel"] for one in (state, clean))
    assert moved[..., trial.filters[0]].any() and not unmoved[..., trial.filters[0]].any()
    assert np.abs(moved - unmoved)[..., : trial.filters[0]].max() > 1e-4


@pytest.mark.parametrize("unroll", [True, False])
def test_a_member_that_diverges_does_not_touch_the_others(unroll: bool) -> None:
    sick = [TRIALS[0], dataclasses.replace(TRIALS[1], learning_rate=float("nan")), TRIALS[2]]
    states, scores = stacked(BOTH, sick, unroll=unroll, devices=1)
    well, well_scores = stacked(BOTH, TRIALS, unroll=unroll, devices=1)
    assert np.isnan(states[1].params["Dense_1"]["kernel"]).any() and np.isnan(scores[1]).all()
    for index in (0, 2):
        jax.tree.map(np.testing.assert_array_equal, states[index], well[index])
        np.testing.assert_array_equal(scores[index], well_scores[index])


def test_weights_are_drawn_with_their_own_fan_in() -> None:
    """Glorot's bound is sqrt(6 / (fan in + fan out)) of the network's own widths, not of the widest."""
    task, trial, wide = TASKS["plain"], Trial(0, 1e-3, 0.2, (2, 4), (500,)), Trial(0, 1e-3, 0.2, (30, 40), (500,))
    kernel = begin(task, trial).params["Dense_0"]["kernel"]
    bound = np.sqrt(6 / (kernel.shape[0] + 500))
    assert 0.99 * bound < np.abs(kernel).max() < bound
    grown = padded_to(begin(task, trial), task, trial, wide).params["Dense_0"]["kernel"]
    assert len(grown) == 10 * len(kernel)
    # Pixel by pixel: the first 4 of its 40 rows.
    np.testing.assert_array_equal(grown.reshape(-1, 40, 500)[:, :4].reshape(kernel.shape), kernel)


def test_dropout_masks_of_shared_channels_do_not_depend_on_the_width() -> None:
    key = jax.random.key(3)
    drop = lambda width, rate: cnn.ChannelDropout(jnp.float32(rate)).apply(  # noqa: E731
        {}, jnp.ones((400, width)), rngs={"dropout": key}
    )
    narrow, wide = drop(7, 0.3), drop(19, 0.3)
    np.testing.assert_array_equal(narrow, wide[:, :7])
    assert set(np.unique(wide)) == {0.0, np.float32(1 / np.float32(0.7))}
    assert abs(float((wide == 0).mean()) - 0.3) < 0.02
    # Channels differ from each other, and a rate that is a little higher drops a little more.
    assert not np.array_equal(wide[:, 0], wide[:, 1])
    more = np.asarray(drop(7, 0.31) == 0)
    assert more[np.asarray(narrow == 0)].all() and 0 < (more & np.asarray(narrow > 0)).mean() < 0.03


def test_the_bytes_of_a_network_hold_its_state_before_and_after_and_more() -> None:
    task = TASKS["plain"]
    structs = {name: jax.ShapeDtypeStruct(value.shape[1:], value.dtype) for name, value in batch(0, 1).items()}
    state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(begin(task, WIDEST)))
    image_bytes = BATCH * 38 * 26 * 3
    # Patches of the first layer are 15 floats a pixel, 5 a byte of the image.
    assert 2 * state_bytes + 5 * 4 * image_bytes < ensemble.member_bytes(task, WIDEST, structs) < 60 * 4 * image_bytes
