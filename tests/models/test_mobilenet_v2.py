"""MobileNetV2's counts, its BatchNorm modes, its weights at the start, and what it refuses."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poster_jax import errors
from poster_jax.models import body, layers, mobilenet_v2, pretrained, summary
from poster_jax.ops import batch_norm

KERAS_FIELDS = {"width": 1.0, **pretrained.FRAMEWORKS["keras"]}


def build(**changes: Any) -> mobilenet_v2.MobileNetV2:
    fields = {"num_genres": 6, "pooling": "max", "dropout": 0.0, "bn_mode": "frozen", **KERAS_FIELDS, **changes}
    return mobilenet_v2.MobileNetV2(**fields)


def distance(ours: Any, theirs: Any) -> float:
    """Largest difference as a share of the largest entry."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def test_the_two_frameworks_round_channels_differently() -> None:
    """32 * 0.56 = 17.92 becomes 16 where it is cut to 17 first; else 16 is more than 10 % below, and it becomes 24."""
    filters = {padding: mobilenet_v2.plan(0.56, padding).blocks[3].filters for padding in body.PADDINGS}
    assert filters == {"keras": 16, "torchvision": 24}


def test_the_papers_counts() -> None:
    """Figure 5: 2,257,984 in the body with its batch statistics, 7,686 in the six-way head."""
    variables = body.shapes(build())
    head, trainable = layers.count_values(variables["params"]["head"]), layers.count_values(variables["params"])
    assert (head, trainable, layers.count_values(variables)) == (7_686, 2_231_558, 2_265_670)
    assert layers.count_values(variables) - head == 2_257_984
    assert layers.count_values(body.shapes(build(width=0.5))) - head == 706_224  # Keras at alpha 0.5


def test_the_summary_is_the_papers_figure_5() -> None:
    lines = summary.body_table(build(bn_mode="frozen_moving"), (128, 128)).splitlines()
    assert [line.split("  ") for line in (" ".join(line.split()) for line in lines[1:4])] == [
        ["mobilenetv2_1.00_128 (Model) (None, 4, 4, 1280) 2257984"],
        ["global_max_pooling2d (Global) (None, 1280) 0"],
        ["dense (Dense) (None, 6) 7686"],
    ]
    assert lines[4:7] == [
        "Total params: 2,265,670",
        "Body frozen: trainable params 7,686, non-trainable 2,257,984",
        "All weights: trainable params 2,231,558, non-trainable 34,112",
    ]
    assert "frozen_moving" in lines[7]
    other = summary.body_table(build(pooling="avg", dropout=0.2, num_genres=3), (208, 144))
    assert "(None, 7, 5, 1280)" in other and "global_average_pooling2d" in other and "dropout 0.2" in other


UNIT = {
    "kernel_size": 3,
    "stride": 1,
    "depthwise": True,
    "activate": False,
    "padding": "keras",
    "epsilon": 0.5,
    "momentum": 0.75,
}


def unit_run(bn_mode: str, train: bool) -> tuple[np.ndarray, Any, Any]:
    """Output, batch statistics afterwards and gradients of one 1 x 1 x 2-channel unit whose kernel is 1 in the middle."""
    x = jnp.array([[1.0, 10.0], [3.0, 30.0], [5.0, 50.0]]).reshape(3, 1, 1, 2)
    params = {
        "kernel": jnp.zeros((3, 3, 1, 2)).at[1, 1].set(1.0),
        "scale": jnp.array([1.0, 2.0]),
        "bias": jnp.array([0.5, -1.0]),
    }
    statistics = {"mean": jnp.array([1.0, 2.0]), "var": jnp.array([3.5, 8.5])}
    unit = body.ConvNorm(2, **UNIT, bn_mode=bn_mode, dtype=jnp.float32)

    def loss(params: Any) -> tuple[jax.Array, Any]:
        y, changed = unit.apply({"params": params, "batch_stats": statistics}, x, train, mutable=["batch_stats"])
        return (y * jnp.array([1.0, 2.0, 4.0]).reshape(3, 1, 1, 1)).sum(), (y, changed["batch_stats"])

    gradients, (y, changed) = jax.grad(loss, has_aux=True)(params)
    return np.asarray(y).reshape(3, 2), changed, gradients


@pytest.mark.parametrize(("bn_mode", "train"), [("frozen", True), ("frozen", False), ("training", False)])
def test_inference_uses_the_running_statistics(bn_mode: str, train: bool) -> None:
    """(x - mean) / sqrt(var + 0.5) * scale + bias, by hand: the roots are 2 and 3."""
    y, statistics, gradients = unit_run(bn_mode, train)
    expected = [[0.5, (10 - 2) / 3 * 2 - 1], [1.5, (30 - 2) / 3 * 2 - 1], [2.5, (50 - 2) / 3 * 2 - 1]]
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    np.testing.assert_array_equal(statistics["mean"], [1.0, 2.0])
    np.testing.assert_array_equal(statistics["var"], [3.5, 8.5])
    np.testing.assert_allclose(gradients["scale"], [(0 + 2 * 2 + 4 * 4) / 2, (8 + 2 * 28 + 4 * 48) / 3], rtol=1e-6)
    np.testing.assert_allclose(gradients["bias"], [7, 7], rtol=1e-6)


@pytest.mark.parametrize("bn_mode", ["frozen_moving", "training"])
def test_moving_modes_use_the_batch(bn_mode: str) -> None:
    """Batch means 3 and 30, variances 8 / 3 and 800 / 3; a quarter of them goes into the running ones."""
    y, statistics, gradients = unit_run(bn_mode, True)
    steps = np.array([-2.0, 0.0, 2.0])
    expected = np.stack([steps / np.sqrt(8 / 3 + 0.5) + 0.5, 10 * steps / np.sqrt(800 / 3 + 0.5) * 2 - 1], 1)
    np.testing.assert_allclose(y, expected, rtol=1e-5)
    np.testing.assert_allclose(statistics["mean"], [0.75 * 1 + 0.25 * 3, 0.75 * 2 + 0.25 * 30], rtol=1e-6)
    np.testing.assert_allclose(statistics["var"], [0.75 * 3.5 + 2 / 3, 0.75 * 8.5 + 200 / 3], rtol=1e-6)
    trains = bn_mode == "training"
    np.testing.assert_allclose(gradients["bias"], [7 * trains] * 2, rtol=1e-6)
    assert bool(np.abs(gradients["scale"]).min() > 1) == trains
    assert np.abs(gradients["kernel"]).max() > 0.01


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_batch_norm_and_its_gradients_equal_autodiff_in_float64(offset: float) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=size) for size in ((3, 4, 5, 6), (1, 1, 1, 6), (1, 1, 1, 6))]
    arrays[0] += offset
    cotangent = rng.normal(size=(3, 4, 5, 6))

    def plain(y: Any, scale: Any, bias: Any) -> Any:
        mean, var = y.mean((0, 1, 2), keepdims=True), y.var((0, 1, 2), keepdims=True)
        return (y - mean) / jnp.sqrt(var + 1e-3) * scale + bias, mean, var

    def run(function: Any, dtype: Any) -> Any:
        y, pull = jax.vjp(function, *(jnp.asarray(a, dtype) for a in arrays))
        return *y, *pull((jnp.asarray(cotangent, dtype), jnp.zeros((1, 1, 1, 6), dtype), jnp.zeros((1, 1, 1, 6), dtype)))

    with jax.enable_x64(True):
        exact = [np.asarray(value) for value in run(plain, np.float64)]
    values = run(lambda *a: batch_norm.batch_norm(*a, 1e-3), np.float32)
    assert all(distance(*pair) < 1e-6 * (1 + offset) for pair in zip(values, exact, strict=True))


def random_variables(model: mobilenet_v2.MobileNetV2) -> Any:
    """Drawn by numpy, which needs no compilation, so that activations stay near 1."""
    rng = np.random.default_rng(0)

    def draw(path: tuple[Any, ...], leaf: Any) -> np.ndarray:
        name = path[-1].key
        if name == "kernel":
            return rng.normal(0, 1 / np.sqrt(np.prod(leaf.shape[:-1])), leaf.shape).astype(np.float32)
        return (rng.uniform(0.5, 1.5, leaf.shape) if name in ("scale", "var") else rng.normal(0, 0.3, leaf.shape)).astype(
            np.float32
        )

    return jax.tree_util.tree_map_with_path(draw, body.shapes(model))


def test_frozen_and_moving_bodies_in_a_training_step() -> None:
    x = jax.random.uniform(jax.random.key(1), (2, 33, 40, 3), minval=-1.0)
    variables = random_variables(build(width=0.35))

    @jax.jit
    def run(variables: Any) -> Any:
        trained = {
            name: build(width=0.35, bn_mode=name).apply(variables, x, True, mutable=["batch_stats"])
            for name in ("frozen", "frozen_moving")
        }
        return trained, build(width=0.35, bn_mode="training").apply(variables, x, False)

    trained, inference = run(variables)
    np.testing.assert_array_equal(trained["frozen"][0], inference)
    assert jax.tree.all(jax.tree.map(np.array_equal, trained["frozen"][1]["batch_stats"], variables["batch_stats"]))
    assert np.abs(trained["frozen_moving"][0] - inference).max() > 1e-3
    moved = trained["frozen_moving"][1]["batch_stats"]
    assert jax.tree.all(jax.tree.map(lambda a, b: not np.array_equal(a, b), moved, variables["batch_stats"]))


def test_poolings_and_bfloat16_activations() -> None:
    x = jax.random.uniform(jax.random.key(1), (2, 40, 40, 3), minval=-1.0)
    variables = random_variables(build(width=0.35))

    @jax.jit
    def run(variables: Any) -> Any:
        features = [build(width=0.35, pooling=name).apply(variables, x, False, method="features") for name in ("max", "avg")]
        logits = [build(width=0.35, precision=name).apply(variables, x, False) for name in ("float32", "bfloat16")]
        return features, logits

    ((last, largest), (_, average)), (wide, narrow) = run(variables)
    np.testing.assert_array_equal(largest, np.asarray(last).max((1, 2)))
    np.testing.assert_allclose(average, np.asarray(last).mean((1, 2)), rtol=1e-5, atol=1e-6)
    assert (largest - average).max() > 0.1
    assert narrow.dtype == wide.dtype == jnp.float32
    assert 1e-4 < distance(narrow, wide) < 0.1


def test_the_head_runs_alone_on_pooled_features() -> None:
    model = build(dropout=0.5)
    head = {"params": {"head": {"kernel": jnp.ones((1280, 6)), "bias": jnp.arange(6.0)}}}
    pooled = jnp.ones((2, 1280))
    logits = model.apply(head, pooled, False, method="classify")
    np.testing.assert_array_equal(logits, np.tile(1280 + np.arange(6.0), (2, 1)))
    dropped = model.apply(head, pooled, True, method="classify", rngs={"dropout": jax.random.key(0)})
    assert 1 < np.abs(dropped - logits).max() < 300


def test_fresh_weights_are_glorot_uniform_and_differ_by_layer_and_seed() -> None:
    """Limits by hand; a 3 x 3 depthwise kernel of 144 channels has fans of 9 and 9 * 144."""
    model = build(num_genres=200)
    init = jax.jit(lambda key: model.init(key, jnp.zeros((1, 32, 32, 3)), False))
    first, second = init(jax.random.key(0)), init(jax.random.key(1))
    assert {leaf.dtype for leaf in jax.tree.leaves(first)} == {jnp.dtype("float32")}
    kernels = {name: np.asarray(first["params"][name]["expand"]["kernel"]) for name in ("block_11", "block_12")}
    for kernel in kernels.values():
        limit = np.sqrt(6 / (96 + 576))
        assert 0.999 * limit < kernel.max() <= limit and -limit <= kernel.min() < -0.999 * limit
        np.testing.assert_allclose([kernel.mean() / limit, kernel.var() / limit**2], [0, 1 / 3], atol=0.01)
    assert abs(np.corrcoef(kernels["block_11"].ravel(), kernels["block_12"].ravel())[0, 1]) < 0.02
    other = np.asarray(second["params"]["block_11"]["expand"]["kernel"])
    assert abs(np.corrcoef(kernels["block_11"].ravel(), other.ravel())[0, 1]) < 0.02
    depthwise = np.asarray(first["params"]["block_2"]["depthwise"]["kernel"])
    limit = np.sqrt(6 / (9 * (1 + 144)))
    assert 0.98 * limit < np.abs(depthwise).max() <= limit
    assert np.ptp(first["params"]["last"]["scale"]) == 0 and first["batch_stats"]["last"]["var"][0] == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"padding": "same"}, "config.model.padding='same'"),
        ({"pooling": "min"}, "max, avg"),
        ({"bn_mode": ""}, "frozen_moving"),
    ],
)
def test_unknown_settings_are_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(errors.UserError, match=sentence):
        body.shapes(build(**change))


def test_a_small_image_is_refused() -> None:
    with pytest.raises(errors.UserError, match=r"image_size=\(31, 64\)"):
        body.shapes(build(), (31, 64))
