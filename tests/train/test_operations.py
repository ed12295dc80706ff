"""Operations of a step by its trace: hand counts of single operations, XLA's own count of a whole network, nothing compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from poster_jax import config as config_lib
from poster_jax import models
from poster_jax.models import layers
from poster_jax.ops import dispatch
from poster_jax.train import losses, network, operations, optimizers, train_state


def shape(*sizes: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, np.float32)


def test_single_operations_by_hand() -> None:
    assert operations.count(jnp.dot, shape(3, 5), shape(5, 7)) == 2 * 3 * 5 * 7
    assert operations.count(jnp.exp, shape(4, 6)) == 24
    assert operations.count(lambda x: x.reshape(6, 4).T[:2], shape(4, 6)) == 0, "what moves data computes nothing"
    assert operations.count(lambda x: x.sum(), shape(4, 6)) == 24
    x, kernel = shape(2, 9, 8, 6), shape(3, 3, 2, 12)
    assert operations.count(lambda x, k: dispatch.native_conv2d(x, k), x, kernel) == 2 * (2 * 7 * 6 * 12) * (3 * 3 * 2)


def test_what_is_inside_counts_as_often_as_it_runs() -> None:
    def loop(x: jax.Array) -> jax.Array:
        return lax.scan(lambda carry, _: (jnp.exp(carry), None), x, None, length=5)[0]

    assert operations.count(loop, shape(10)) == 50
    assert operations.count(jax.jit(jnp.exp), shape(10)) == 10
    branches = (lambda x: jnp.exp(x), lambda x: jnp.exp(jnp.exp(x)))
    assert operations.count(lambda x: lax.cond(x[0] > 0, *branches, x), shape(10)) >= 20, "the longer branch"


@pytest.mark.parametrize("name", ["cnn_onehot", "own_posters", "finetune_efficientnet"])
def test_a_forward_pass_has_as_many_as_xla_counts(name: str) -> None:
    config = config_lib.load(f"{name}:smoke")
    model = models.build(**config.model, num_genres=6, precision="float32")
    image = shape(2, *config.data.image_size, 3)

    def forward(variables: dict, x: jax.Array) -> jax.Array:
        return model.apply(variables, layers.normalise(x, model.input_range), False)

    with dispatch.portable():
        variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, False), image)
        counted = operations.count(forward, variables, image)
        analysis = jax.jit(forward).lower(variables, image).cost_analysis()
    assert analysis is not None
    assert counted == pytest.approx(analysis["flops"], rel=0.15)


def test_a_training_step_is_three_forward_passes_or_one_more() -> None:
    """By the trace of the whole step, with augmentation, loss, gradient and optimizer."""
    config = config_lib.load("cnn_onehot", [("data.image_size", "(64, 48)")])
    counted = operations.of_config(config, 6)
    model = models.build(**config.model, num_genres=6, precision="float32")
    optimizer = optimizers.build_optimizer(**config.optim, num_steps=1)
    loss = losses.build(**config.loss, genre_counts=np.ones(6), num_rows=6)
    batch = {
        "image": jax.ShapeDtypeStruct((config.train.batch_size, 64, 48, 3), np.uint8),
        "label": shape(config.train.batch_size, 6),
        "mask": shape(config.train.batch_size),
    }
    key = jax.eval_shape(lambda: jax.random.key(0))
    with dispatch.portable():
        state = jax.eval_shape(train_state.make_init(model, optimizer, (64, 48), False), key)
        whole = operations.count(network.make_steps(model, optimizer, loss, config)[0], state, batch, key)
    assert 0.95 < whole / counted.train < 1.45


def test_views_batches_and_bytes() -> None:
    config = config_lib.load("cnn_onehot:smoke")
    counted = operations.of_config(config, 6)
    assert counted.train / config.train.batch_size == 3 * counted.evaluate / config.eval.batch_size
    mirrored = operations.of_config(config_lib.derive(config, {"eval.mirror": True}), 6)
    assert (mirrored.train, mirrored.evaluate) == (counted.train, 2 * counted.evaluate)
    # Weights, two moments of Adam, and two counters of steps.
    assert counted.state_bytes == pytest.approx(3 * counted.params_bytes, abs=16)


def test_a_known_network_has_its_known_number() -> None:
    """MobileNetV2 of width 1 at 224 x 224 takes 300 million multiplications (its paper, Table 4)."""
    given = [("data.image_size", "(224, 224)"), ("model.style_from", ""), ("eval.mirror", "False"), ("eval.batch_size", "1")]
    counted = operations.of_config(config_lib.load("own_posters", given), 1000)
    assert counted.evaluate / 2 == pytest.approx(300e6, rel=0.08)
