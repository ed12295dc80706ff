"""The paper's networks as settings of one module: shapes, parameter counts, order of the layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from poster_jax import config as config_lib
from poster_jax import models
from poster_jax.models import layers


def count(blocks: tuple, dense: tuple) -> int:
    model = models.build("cnn", blocks=blocks, dense=dense, input_range=(0.0, 1.0), num_genres=6, precision="float32")
    shapes = jax.eval_shape(lambda key: model.init(key, jnp.zeros((1, 150, 101, 3)), False), jax.random.key(0))
    return layers.count_values(shapes["params"])


def test_table_6_has_the_papers_number_of_parameters() -> None:
    assert count(config_lib.TABLE_6_BLOCKS, config_lib.TABLE_6_DENSE) == 6_295_558


@pytest.mark.parametrize(("widths", "expected"), [((10, 30, 106), 2_636_798), ((8, 16, 92), 1_220_858)])
def test_table_2_is_another_setting(widths: tuple[int, int, int], expected: int) -> None:
    first, second, units = widths
    assert count(((first, 3, 2, False, 0.0), (second, 3, 2, False, 0.0)), ((units, False, 0.3),)) == expected


def test_batch_norm_adds_two_parameters_a_channel() -> None:
    plain = count(((10, 3, 2, False, 0.0),), ((7, False, 0.0),))
    assert count(((10, 3, 2, True, 0.0),), ((7, True, 0.0),)) == plain + 2 * 10 + 2 * 7


def test_the_forward_pass_is_convolution_relu_norm_pool_and_dense() -> None:
    """The same variables through flax's own layers, written out."""
    model = models.build(
        "cnn",
        blocks=((5, 3, 2, True, 0.2),),
        dense=((7, False, 0.5),),
        input_range=(0.0, 1.0),
        num_genres=4,
        precision="float32",
    )
    x = jax.random.uniform(jax.random.key(1), (3, 13, 10, 3))
    variables = model.init(jax.random.key(0), x, False)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(0.1, 0.5, leaf.shape), jnp.float32), variables)
    params, statistics = variables["params"], variables["batch_stats"]["BatchNorm_0"]
    norm = params["BatchNorm_0"]

    y = np.asarray(nn.relu(nn.Conv(5, (3, 3), padding="VALID").apply({"params": params["Conv_0"]}, x)))
    params, statistics, norm = jax.tree.map(np.asarray, (params, statistics, norm))
    y = (y - statistics["mean"]) / np.sqrt(statistics["var"] + 1e-3) * norm["scale"] + norm["bias"]
    y = np.asarray(nn.max_pool(y, (2, 2), (2, 2))).reshape(3, -1)
    y = np.maximum(0, y @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"])
    expected = y @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"]
    np.testing.assert_allclose(model.apply(variables, x, False), expected, rtol=2e-5)


def test_dropout_acts_in_training_only() -> None:
    model = models.build(
        "cnn",
        blocks=((5, 3, 2, False, 0.5),),
        dense=((7, False, 0.5),),
        input_range=(0.0, 1.0),
        num_genres=4,
        precision="float32",
    )
    x = jnp.ones((2, 9, 9, 3))
    variables = model.init(jax.random.key(0), x, False)
    training = [model.apply(variables, x, True, rngs={"dropout": jax.random.key(i)}) for i in range(2)]
    assert not np.array_equal(*training)
    assert np.array_equal(model.apply(variables, x, False), model.apply(variables, x, False))
