"""The two steps: masks, randomness, statistics, precision, and the same losses on any number of devices."""

from typing import Any

import jax
import numpy as np
import pytest

from poster_jax import config as config_lib
from poster_jax import models
from poster_jax.models import layers
from poster_jax.runtime import sharding
from poster_jax.train import losses, optimizers, steps, train_state

SIZE = (20, 14)
OFF = {"flip": False, "shift": 0.0, "zoom": 0.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0}
GOLDEN = [0.87117, 0.85121, 0.88057, 0.78041]
FIELDS = {"name": "cnn", "input_range": (0.0, 1.0)}


def build_loss(name: str = "sigmoid", **changes: Any) -> losses.Loss:
    """The loss of the config's defaults over three genres, of 6, 3 and 1 in 12 rows."""
    settings = {**config_lib.DEFAULTS["loss"], "name": name, **changes}
    return losses.build(**settings, genre_counts=np.array([6, 3, 1]), num_rows=12)


def build(
    num_devices: int = 1, *, precision: str = "float32", augment: dict = OFF, rate: float = 1e-3, decay: float = 0.0
) -> Any:
    """(shardings, state, train step, eval step) of a small network with batch norm and dropout on."""
    shardings = sharding.make_shardings(jax.devices()[:num_devices])
    model = models.build(**FIELDS, blocks=((6, 3, 2, True, 0.2),), dense=((8, True, 0.3),), num_genres=3, precision=precision)
    optimizer = optimizers.build_optimizer(
        name="adam", learning_rate=rate, schedule="constant", warmup_steps=0, weight_decay=0.0, num_steps=20
    )
    state = train_state.create(model, optimizer, SIZE, 0, shardings.state, keeps_average=decay > 0)
    train_step = jax.jit(steps.make_train_step(model, optimizer, build_loss(), augment=augment, average_decay=decay))
    return shardings, state, train_step, jax.jit(steps.make_eval_step(model, build_loss()))


def make_batch(seed: int, size: int = 16) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (size, *SIZE, 3), np.uint8),
        "label": rng.integers(0, 2, (size, 3)).astype(np.float32),
        "mask": np.ones(size, np.float32),
        "id": np.arange(size, dtype=np.int32),
    }


def train_losses(num_devices: int, *, seed: int = 0, augment: dict = OFF) -> list[float]:
    shardings, state, train_step, _ = build(num_devices, augment=augment)
    result = []
    for step in range(20):
        state, sums = train_step(state, sharding.put_batch(make_batch(step), shardings.batch), jax.random.key(seed))
        result.append(float(sums["loss"][0] / sums["loss"][1]))
    return result


@pytest.fixture(scope="module")
def one_device() -> list[float]:
    return train_losses(1)


@pytest.mark.parametrize("num_devices", [2, 4, 8])
def test_any_number_of_devices_gives_the_losses_of_one(num_devices: int, one_device: list[float]) -> None:
    np.testing.assert_allclose(train_losses(num_devices), one_device, rtol=0, atol=1e-5)


def test_other_dropout_masks_are_seen_by_that_comparison(one_device: list[float]) -> None:
    assert np.abs(np.subtract(train_losses(1, seed=1), one_device)).max() > 1e-3


def test_augmentation_is_the_same_on_several_devices() -> None:
    augment = OFF | {"flip": True, "shift": 0.1, "zoom": 0.2, "brightness": 0.1, "contrast": 0.1, "saturation": 0.1}
    # Adam multiplies rounding from step to step: the first ones show that the pictures are the same.
    four, one = (train_losses(num_devices, augment=augment)[:6] for num_devices in (4, 1))
    np.testing.assert_allclose(four, one, rtol=0, atol=1e-5)
    assert np.abs(np.subtract(one, train_losses(1)[:6])).max() > 1e-3


def test_batch_norm_is_over_the_global_batch() -> None:
    """Each device holds images of another brightness: statistics per device would differ widely."""
    batch = make_batch(0)
    batch["image"] = (batch["image"] // 8 + np.repeat([0, 60, 120, 200], 4)[:, None, None, None]).astype(np.uint8)
    statistics = []
    for num_devices in (1, 4):
        shardings, state, train_step, _ = build(num_devices)
        state, _ = train_step(state, sharding.put_batch(batch, shardings.batch), jax.random.key(0))
        statistics.append(state.batch_stats)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *statistics)


def test_the_key_is_folded_with_the_step() -> None:
    _, state, train_step, _ = build()
    batch, key = make_batch(0), jax.random.key(0)
    again = train_step(state, batch, key)[1]["loss"][0]
    assert train_step(state, batch, key)[1]["loss"][0] == again
    assert train_step(state.replace(step=state.step + 1), batch, key)[1]["loss"][0] != again


def test_evaluation_masks_padding_and_changes_nothing() -> None:
    _, state, _, eval_step = build()
    batch = make_batch(0)
    scores, sums = eval_step(state.variables(), batch)
    batch = make_batch(0)
    batch["mask"][10:] = 0
    batch["image"][10:] = 255
    padded_scores, padded_sums = eval_step(state.variables(), batch)
    np.testing.assert_array_equal(scores[:10], padded_scores[:10])
    short = {name: rows[:10] for name, rows in batch.items()}
    np.testing.assert_allclose(padded_sums["loss"], eval_step(state.variables(), short)[1]["loss"], rtol=1e-5)
    assert padded_sums["loss"][1] == 10
    assert float(padded_sums["loss"][0]) != pytest.approx(float(sums["loss"][0]))
    assert ((scores >= 0) & (scores <= 1)).all()


def test_training_moves_the_statistics_and_evaluation_reads_them() -> None:
    _, state, train_step, eval_step = build()
    batch = make_batch(0)
    trained, _ = train_step(state, batch, jax.random.key(0))
    before, after = (np.asarray(jax.tree.leaves(s.batch_stats)[0]) for s in (state, trained))
    assert not np.array_equal(before, after)
    mixed = {"params": state.params, "batch_stats": trained.batch_stats}
    assert not np.array_equal(eval_step(state.variables(), batch)[0], eval_step(mixed, batch)[0])


def test_bfloat16_keeps_weights_statistics_and_loss_in_float32() -> None:
    _, state, train_step, eval_step = build(precision="bfloat16")
    exact = build()[3](state.variables(), make_batch(0))[0]
    state_after, sums = train_step(state, make_batch(0), jax.random.key(0))
    floats = [leaf for leaf in jax.tree.leaves(state_after) if np.issubdtype(leaf.dtype, np.floating)]
    assert {leaf.dtype for leaf in floats} == {np.dtype("float32")}
    assert sums["loss"][0].dtype == np.float32
    rough = eval_step(state.variables(), make_batch(0))[0]
    assert 0 < np.abs(rough - exact).max() < 0.05


def test_a_tiny_set_can_be_learnt_by_heart() -> None:
    _, state, train_step, eval_step = build(rate=1e-2)
    batch = make_batch(0, 8)
    for _ in range(400):
        state, _ = train_step(state, batch, jax.random.key(0))
    scores, _ = eval_step(state.variables(), batch)
    assert ((scores > 0.5) == batch["label"]).mean() > 0.9


def test_normalise_maps_black_and_white_to_the_ends_of_the_range() -> None:
    pixels = np.array([0, 255], np.uint8)
    np.testing.assert_allclose(layers.normalise(pixels, (-1.0, 1.0)), [-1, 1], atol=1e-6)
    np.testing.assert_allclose(layers.normalise(pixels, (0.0, 1.0)), [0, 1], atol=1e-6)


def test_losses_by_hand() -> None:
    logits = np.log(np.array([[1.0, 2.0, 1.0]], np.float32))
    softmax = -np.log(0.5)
    np.testing.assert_allclose(losses.softmax_loss(logits, np.array([1])), [softmax], rtol=1e-6)
    np.testing.assert_allclose(losses.softmax_loss(logits, np.array([[0.0, 1.0, 0.0]])), [softmax], rtol=1e-6)
    sigmoid = -(np.log(1 / 2) + np.log(2 / 3) + np.log(1 / 2)) / 3
    np.testing.assert_allclose(build_loss().per_example(logits, np.array([1])), [sigmoid], rtol=1e-6)


def test_a_padded_row_counts_nothing_even_when_it_is_not_finite() -> None:
    total, count = losses.masked_sum(np.array([1.0, np.nan, 3.0], np.float32), np.array([1.0, 0.0, 1.0], np.float32))
    assert (total, count) == (4.0, 2.0)


def test_the_first_losses_are_what_they_were() -> None:
    """Golden numbers: another initialisation, loss, key or optimizer changes them."""
    np.testing.assert_allclose(train_losses(1)[:4], GOLDEN, rtol=2e-3)


@pytest.mark.parametrize("kind", ["multi_hot", "first"])
def test_the_accuracy_of_a_training_step_is_that_of_its_outputs_under_dropout(kind: str) -> None:
    model = models.build(**FIELDS, blocks=((6, 3, 2, False, 0.2),), dense=((8, False, 0.5),), num_genres=3, precision="float32")
    optimizer = optimizers.build_optimizer(
        name="adam", learning_rate=1e-3, schedule="constant", warmup_steps=0, weight_decay=0.0, num_steps=20
    )
    shardings = sharding.make_shardings(jax.devices()[:1])
    state = train_state.create(model, optimizer, SIZE, 0, shardings.state)
    plain, telling = (
        jax.jit(steps.make_train_step(model, optimizer, build_loss(), augment=OFF, log_accuracy=log)) for log in (False, True)
    )
    batch = make_batch(3)
    if kind == "first":
        batch["label"] = batch["label"].argmax(1).astype(np.int32)
    batch["mask"][-4:] = 0
    key = jax.random.key(5)
    _, sums = telling(state, sharding.put_batch(batch, shardings.batch), key)
    _, without = plain(state, sharding.put_batch(batch, shardings.batch), key)
    assert "binary_accuracy" not in without and float(without["loss"][0]) == pytest.approx(float(sums["loss"][0]), rel=1e-6)

    dropout_key, _ = jax.random.split(jax.random.fold_in(key, 0))
    x = layers.normalise(batch["image"], model.input_range)
    truth = np.eye(3)[batch["label"]] if kind == "first" else batch["label"]

    def right(train: bool) -> float:
        logits = model.apply(state.variables(), x, train, rngs={"dropout": dropout_key} if train else None)
        return float(((np.asarray(logits) > 0) == (truth > 0.5))[:-4].mean())

    assert float(sums["binary_accuracy"][0] / sums["binary_accuracy"][1]) == pytest.approx(right(True))
    assert right(True) != right(False), "dropout must be told apart"
