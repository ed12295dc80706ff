"""An image's convolution and max pool in one: against the two apart, in float64, and inside the network that it serves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from poster_jax import models
from poster_jax.ops import conv, conv_pool, dispatch, pool

# x shape, features: even and odd sides, a row and a column that fill no window, one window, one channel.
CASES = [((2, 12, 10, 3), 7), ((3, 11, 9, 3), 4), ((2, 12, 13, 1), 31), ((1, 4, 4, 4), 5), ((2, 5, 30, 2), 12)]


def drawn(shape, features):
    """x, kernel and a cotangent of the pooled map, float64, from seed 0."""
    rng = np.random.default_rng(0)
    pooled = (shape[0], (shape[1] - 2) // 2, (shape[2] - 2) // 2, features)
    return [rng.standard_normal(size) for size in (shape, (3, 3, shape[3], features), pooled)]


def apart(x, kernel):
    y = lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=dispatch.DIMENSIONS)
    return lax.reduce_window(y, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def passes(function, arrays):
    """(value, gradient of x, gradient of the kernel)."""

    def both(x, kernel, grad):
        value, pull = jax.vjp(function, x, kernel)
        return value, *pull(grad)

    return jax.jit(both)(*arrays)


def joined(x, kernel):
    return conv_pool.conv_pool2d(x, kernel, 2)


@pytest.mark.parametrize(("shape", "features"), CASES, ids=str)
def test_value_and_gradients_are_those_of_convolution_and_pool(shape, features):
    arrays = drawn(shape, features)
    with jax.enable_x64(True):
        exact = [np.asarray(a) for a in passes(apart, [jnp.asarray(a) for a in arrays])]
    narrow = [jnp.asarray(a, jnp.float32) for a in arrays]
    for found, reference in zip(passes(joined, narrow), exact, strict=True):
        np.testing.assert_allclose(found, reference, rtol=1e-4, atol=1e-5)
    # The comparison sees a tap of the kernel that is off by a column.
    shifted = [narrow[0], jnp.roll(narrow[1], 1, axis=1), narrow[2]]
    for found, reference in zip(passes(joined, shifted), exact, strict=True):
        assert np.abs(np.asarray(found) - reference).max() > 0.1


@pytest.mark.parametrize(("shape", "features"), CASES[:3], ids=str)
def test_the_form_for_accelerators_gives_the_same(shape, features):
    arrays = [jnp.asarray(a, jnp.float32) for a in drawn(shape, features)]
    ours = passes(joined, arrays)
    with dispatch.portable():
        plain = passes(lambda x, kernel: joined(x, kernel), arrays)
    for found, reference in zip(ours, plain, strict=True):
        np.testing.assert_allclose(found, reference, rtol=1e-4, atol=1e-5)


def test_it_is_taken_for_images_on_cpu_alone():
    x, kernel = jnp.zeros((2, 12, 10, 3)), jnp.zeros((3, 3, 3, 8))

    def lowered(x, kernel, window=2):
        return jax.jit(lambda x, k: conv_pool.conv_pool2d(x, k, window)).lower(x, kernel).as_text()

    assert "convolution" not in lowered(x, kernel), "it is one matrix product"
    for others in ((jnp.zeros((2, 12, 10, 8)), jnp.zeros((3, 3, 8, 8))), (x, jnp.zeros((5, 5, 3, 8)))):
        assert "convolution" in lowered(*others)
    assert "convolution" in jax.jit(joined).trace(x, kernel).lower(lowering_platforms=("cuda",)).as_text()
    np.testing.assert_allclose(
        conv_pool.conv_pool2d(x + 1, kernel + 1, 3), pool.max_pool(conv.conv2d(x + 1, kernel + 1, padding="VALID"), (3, 3))
    )


def test_the_first_of_equal_outputs_takes_the_gradient_and_nan_shows():
    x, kernel = jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1))
    place = conv_pool.joined_forward(x, kernel)[1]
    assert place.dtype == jnp.uint8 and place.ravel().tolist() == [0]
    later = x.at[0, 3, 3, 0].set(5.0)  # seen by the window's last output alone
    assert conv_pool.joined_forward(later, kernel)[1].ravel().tolist() == [3]
    assert np.isnan(conv_pool.conv_pool2d(later.at[0, 0, 0, 0].set(np.nan), kernel, 2)).all()


def test_a_network_that_pools_before_relu_is_the_one_that_pools_behind_it():
    rng = np.random.default_rng(0)
    fields = {"name": "cnn", "input_range": (-1.0, 1.0), "num_genres": 3, "precision": "float32", "dense": ((8, False, 0.0),)}
    model = models.build(**fields, blocks=((6, 3, 2, False, 0.0), (9, 3, 2, False, 0.0)))
    x = jnp.asarray(rng.standard_normal((4, 21, 18, 3)), jnp.float32)
    variables = model.init(jax.random.key(0), x, False)
    given = jax.tree.map(lambda leaf: leaf + 0.1 * rng.standard_normal(leaf.shape).astype(np.float32), variables["params"])

    def by_hand(params):
        y = x
        for index in range(2):
            kernel, bias = params[f"Conv_{index}"]["kernel"], params[f"Conv_{index}"]["bias"]
            y = lax.conv_general_dilated(y, kernel, (1, 1), "VALID", dimension_numbers=dispatch.DIMENSIONS) + bias.reshape(
                1, 1, 1, -1
            )
            y = lax.reduce_window(jax.nn.relu(y), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        y = y.reshape(4, -1)
        for index in range(2):
            y = y @ params[f"Dense_{index}"]["kernel"] + params[f"Dense_{index}"]["bias"].reshape(1, -1)
            y = jax.nn.relu(y) if index == 0 else y
        return y

    def total(logits):
        return (logits * jnp.arange(1.0, 13.0).reshape(4, 3)).sum()

    np.testing.assert_allclose(model.apply({"params": given}, x, False), by_hand(given), rtol=1e-4, atol=1e-5)
    ours = jax.grad(lambda params: total(model.apply({"params": params}, x, False)))(given)
    theirs = jax.grad(lambda params: total(by_hand(params)))(given)
    for found, reference in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(found, reference, rtol=1e-3, atol=1e-4)
    assert min(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(theirs)) > 0.01, "gradients of nothing show nothing"


@pytest.mark.parametrize(
    ("sides", "is_joined"),
    [((4, 4), True), ((4, 9), True), ((9, 4), True), ((5, 5), True), ((7, 5), True), ((3, 9), False), ((9, 3), False)],
)
def test_the_smallest_image_that_fills_a_window_is_joined_and_no_smaller_one(sides, is_joined, monkeypatch):
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((2, *sides, 3), (3, 3, 3, 4)))
    calls, block = [], conv_pool._conv_pool
    monkeypatch.setattr(conv_pool, "_conv_pool", lambda x, kernel: calls.append(x.shape) or block(x, kernel))
    expected = apart(x, kernel)
    assert expected.shape == (2, (sides[0] - 2) // 2, (sides[1] - 2) // 2, 4)
    grad = jnp.asarray(rng.standard_normal(expected.shape), jnp.float32)
    for found, reference in zip(passes(joined, (x, kernel, grad)), passes(apart, (x, kernel, grad)), strict=True):
        assert found.shape == reference.shape
        np.testing.assert_allclose(found, reference, rtol=1e-4, atol=1e-5)
    assert bool(calls) == is_joined
