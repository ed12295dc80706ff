"""The arithmetic of scaling: counts by hand, and the all-reduces of the compiled step on 1 to 8 devices."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poster_jax import config as config_lib
from poster_jax import models
from poster_jax.bench import scaling
from poster_jax.ops import dispatch
from poster_jax.runtime import sharding
from poster_jax.train import losses, optimizers, steps, train_state

SMALL = scaling.Device("small", peak=1e9, memory=1e12, host_size=4, within=1e6, between=1e5, hop_secs=1e-3)


def test_table_6_is_counted_as_by_hand() -> None:
    cost = scaling.count(config_lib.load("configs/cnn_onehot.py"))
    maps = ((148, 99, 3, 32), (146, 97, 32, 64), (71, 46, 64, 128), (69, 44, 128, 64))
    dense = 34 * 22 * 64 * 128 + 128 * 6
    assert cost.operations == 2 * (sum(h * w * 9 * c * d for h, w, c, d in maps) + dense)
    assert cost.activations == sum(h * w * d for h, w, _, d in maps) + 128 + 6
    assert (cost.parameters, cost.image_bytes) == (6_295_558, 150 * 101 * 3)


def test_mobilenet_is_counted_as_its_paper_does() -> None:
    """Sandler et al. 2018, Table 4: 300 million multiply-adds at 224 x 224, with a head of 1,000 classes."""
    config = config_lib.load("configs/transfer_mobilenet.py", [("data.image_size", "(224, 224)")])
    assert scaling.count(config).operations / 2 == pytest.approx(300e6, rel=0.01)


def test_groups_calls_and_batches_are_counted() -> None:
    def network(x: jax.Array) -> jax.Array:
        kernel = jnp.ones((3, 3, 1, 8))
        x = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=8
        )
        return jax.jit(lambda y: y.reshape(len(y), -1) @ jnp.ones((5 * 4 * 8, 3)))(x)

    for batch in (1, 6):
        traced = jax.make_jaxpr(network)(jnp.ones((batch, 5, 4, 8)))
        expected = batch * 2 * (5 * 4 * 8 * 9 + 5 * 4 * 8 * 3)
        assert scaling.count_products(traced.jaxpr) == (expected, batch * (5 * 4 * 8 + 3))


def test_a_step_is_the_longer_of_computing_and_moving_and_a_ring_of_the_slowest_link() -> None:
    cost = scaling.Cost(operations=1e6, activations=100, image_bytes=10, parameters=1000)
    one, four, eight = (scaling.predict(cost, SMALL, number, 2) for number in (1, 4, 8))
    assert one.compute_secs == four.compute_secs == pytest.approx(3 * 1e6 * 2 / 0.3e9)
    assert one.reduce_secs == 0 and one.efficiency == 1 and one.posters_per_sec == pytest.approx(2 / one.compute_secs)
    assert four.reduce_secs == pytest.approx(1.5 * 4000 / 1e6 + 2 * 2 * 1e-3)
    assert eight.reduce_secs == pytest.approx(1.75 * 4000 / 1e5 + 2 * 3 * 1e-3)
    assert eight.efficiency == pytest.approx(eight.compute_secs / (eight.compute_secs + eight.reduce_secs))
    slow = scaling.Device("slow", peak=1e15, memory=1e3, host_size=8, within=1.0, between=1.0, hop_secs=0.0)
    assert scaling.predict(cost, slow, 1, 2).compute_secs == pytest.approx((4 * 4 * 100 * 2 + 7 * 4000) / 1e3)


def summed_floats(num_devices: int, norm: bool) -> tuple[int, int]:
    """(float32 entries that the all-reduces of a compiled train step sum, trained parameters)."""
    shardings = sharding.make_shardings(jax.devices()[:num_devices])
    config = config_lib.load(
        "configs/cnn_onehot.py:smoke", [("model.blocks", f"((8, 3, 2, {norm}, 0.0),)"), ("model.dense", "((16, False, 0.5),)")]
    )
    model = models.build(**config.model, num_genres=6, precision="float32")
    optimizer = optimizers.build_optimizer(**config.optim, num_steps=1)
    state = train_state.create(model, optimizer, config.data.image_size, 0, shardings.state)
    loss = losses.build(**config.loss, genre_counts=np.ones(6), num_rows=12)
    step = jax.jit(steps.make_train_step(model, optimizer, loss, augment=config.train.augment.to_dict()), donate_argnums=0)
    batch = {
        "image": np.zeros((16, *config.data.image_size, 3), np.uint8),
        "label": np.zeros((16, 6), np.float32),
        "mask": np.ones(16, np.float32),
        "id": np.arange(16, dtype=np.int32),
    }
    placed = sharding.put_batch(batch, shardings.batch)
    # The CPU form of a narrow convolution sums an array larger than its gradient.
    with dispatch.portable():
        text = step.lower(state, placed, jax.random.key(0)).compile().as_text()
    entries = 0
    for shapes in re.findall(r"= (.*?) all-reduce(?:-start)?\(", text):
        for dims in re.findall(r"f32\[([\d,]*)\]", shapes):
            entries += math.prod(int(dim) for dim in dims.split(",") if dim)
    return entries, sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state.params))


@pytest.mark.parametrize("num_devices", [1, 2, 4, 8])
def test_a_step_sums_its_gradients_once_and_next_to_nothing_else(num_devices: int) -> None:
    entries, parameters = summed_floats(num_devices, norm=False)
    if num_devices == 1:
        assert entries == 0
    else:
        # In addition to the gradients: the loss and its number of rows.
        assert parameters <= entries <= parameters + 8
        assert parameters > 5000


def test_batch_norm_over_the_global_batch_sums_its_statistics_too() -> None:
    plain, _ = summed_floats(4, norm=False)
    normed, parameters = summed_floats(4, norm=True)
    # Scale and bias are trained; mean and mean square forward, and two sums of the backward pass, are summed per channel.
    assert plain < parameters <= normed
    assert 2 * 8 + 2 * 8 <= normed - plain <= 2 * 8 + 6 * 8
