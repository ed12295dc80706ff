"""Grad-CAM: against its definition written out, with weights put at random, and on motifs whose place is known."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from poster_jax import errors, models
from poster_jax.data import synthetic
from poster_jax.models import grad_cam as grad_cam_lib
from poster_jax.models import layers, mobilenet_v2
from poster_jax.train import losses

SIZE = (48, 33)
MOTIFS = (0, 2, 5)  # runner, framed photograph, laughing face
BLOCKS = ((8, 3, 2, False, 0.0), (16, 3, 2, False, 0.0), (32, 3, 2, False, 0.0))


def build_cnn(**changed: Any) -> Any:
    fields = {
        "blocks": BLOCKS,
        "dense": ((32, False, 0.3),),
        "input_range": (0.0, 1.0),
        "num_genres": 3,
        "precision": "float32",
    }
    return models.build("cnn", **{**fields, **changed})


def build_mobilenet(pooling: str, style_from: str = "") -> mobilenet_v2.MobileNetV2:
    return mobilenet_v2.MobileNetV2(
        num_genres=3, width=0.35, padding="keras", epsilon=1e-3, momentum=0.999, input_range=(-1.0, 1.0),
        input_mean=(0.0, 0.0, 0.0), input_std=(1.0, 1.0, 1.0), pooling=pooling, dropout=0.0, bn_mode="frozen",
        style_from=style_from,
    )  # fmt: skip


def initial(model: Any, size: tuple[int, int] = SIZE, seed: int = 0) -> Any:
    """Variables of a fresh network, He normal kernels; drawn by numpy, since compiling `init` of MobileNetV2 takes seconds."""
    shapes = jax.eval_shape(lambda key: model.init(key, jnp.zeros((1, *size, 3)), False), jax.random.key(0))
    rng = np.random.default_rng(seed)

    def draw(path: Any, leaf: Any) -> np.ndarray:
        if len(leaf.shape) > 1:
            return rng.normal(0, np.sqrt(2 / np.prod(leaf.shape[:-1])), leaf.shape).astype(np.float32)
        return np.full(leaf.shape, path[-1].key in ("scale", "var"), np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def noise(size: tuple[int, int], count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, *size, 3), np.uint8)


def test_the_map_of_a_network_of_one_channel_by_hand() -> None:
    """One 1 x 1 convolution that takes red, no pool, one dense layer to two logits: +1 and -1 times the sum of all cells."""
    model = build_cnn(blocks=((1, 1, 1, False, 0.0),), dense=(), num_genres=2)
    image = np.zeros((1, 3, 2, 3), np.uint8)
    image[0, :, :, 0] = [[255, 0], [51, 102], [0, 0]]
    signs = np.tile([1.0, -1.0], (6, 1))
    params = {
        "Conv_0": {"kernel": np.array([1.0, 0, 0]).reshape(1, 1, 3, 1), "bias": np.zeros(1)},
        "Dense_0": {"kernel": signs, "bias": np.zeros(2)},
    }
    grad_cam = grad_cam_lib.make_grad_cam(model)
    np.testing.assert_allclose(grad_cam({"params": params}, image, np.array([0])), [[[1, 0], [0.2, 0.4], [0, 0]]], rtol=1e-6)
    assert not np.any(grad_cam({"params": params}, image, np.array([1])))  # nothing speaks for the second genre


@pytest.mark.parametrize(("pooling", "style_from"), [("max", ""), ("avg", ""), ("avg", "block_15")])
def test_mobilenet_against_the_derivative_of_the_whole_network(pooling: str, style_from: str) -> None:
    """With global pooling the logit is linear in the pooled map, so the weights are those of the head over the map's area."""
    model, size = build_mobilenet(pooling, style_from), (64, 48)
    variables, image = initial(model, size), noise(size, 3)
    genre = np.array([0, 2, 1], np.int32)
    maps = np.asarray(grad_cam_lib.make_grad_cam(model)(variables, image, genre))
    features = jax.jit(lambda v, x: model.apply(v, layers.normalise(x, (-1.0, 1.0)), False, method="features")[0])
    last_map = np.asarray(features(variables, image))
    weights = np.asarray(variables["params"]["head"]["kernel"])[: last_map.shape[3], genre].T
    evidence = np.maximum(np.einsum("bhwc,bc->bhw", last_map, weights), 0)
    largest = evidence.max((1, 2), keepdims=True)
    np.testing.assert_allclose(maps, evidence / np.where(largest > 0, largest, 1), atol=1e-4)
    assert maps.shape == (3, 2, 2) and maps.any()


@pytest.mark.parametrize("family", ["cnn", "mobilenet_v2"])
def test_rows_do_not_mix_genres_differ_and_random_weights_change_the_map(family: str) -> None:
    model, size = (build_cnn(), SIZE) if family == "cnn" else (build_mobilenet("avg"), (96, 64))
    grad_cam, variables, image = grad_cam_lib.make_grad_cam(model), initial(model, size), noise(size, 3)
    maps = np.asarray(grad_cam(variables, image, np.array([0, 1, 1], np.int32)))
    assert maps.dtype == np.float32 and maps.min() >= 0 and maps.max() <= 1
    alone = np.asarray(grad_cam(variables, image[1:2], np.array([1], np.int32)))
    np.testing.assert_allclose(maps[1:2], alone, atol=1e-5)
    assert np.abs(maps[:1] - np.asarray(grad_cam(variables, image[:1], np.array([2], np.int32)))).max() > 0.05
    other = np.asarray(grad_cam(initial(model, size, seed=7), image, np.array([0, 1, 1], np.int32)))
    assert np.abs(maps - other).max() > 0.1


def test_naming_the_map_leaves_the_network_as_it_was() -> None:
    model = build_cnn()
    variables = initial(model)
    assert set(variables) == {"params"}
    logits, changed = model.apply(variables, jnp.ones((2, *SIZE, 3)), False, mutable=["batch_stats"])
    assert not changed
    np.testing.assert_array_equal(logits, model.apply(variables, jnp.ones((2, *SIZE, 3)), False))


def test_a_network_without_convolution_is_refused() -> None:
    with pytest.raises(errors.UserError, match="convolution"):
        grad_cam_lib.make_grad_cam(build_cnn(blocks=()))


def draw(rng: np.random.Generator, motif: int) -> tuple[np.ndarray, np.ndarray]:
    """A poster uint8 [H, W, 3] whose motif alone tells the genre, anywhere on it, and the motif's pixels, bool [H, W].

    The light behind it is that of any genre, and there is no lettering.
    """
    backdrop = (127, 3, 99)
    canvas = Image.new("RGB", (synthetic.WIDTH_PX * synthetic._SCALE, synthetic.HEIGHT_PX * synthetic._SCALE), backdrop)
    dark, middle, light, accent = synthetic._draw_palette(rng, int(rng.integers(len(synthetic._PALETTES))))
    synthetic._MOTIFS[motif](synthetic._Pen(canvas, rng, dark, light, accent))
    layer = np.asarray(canvas.resize(SIZE[::-1], Image.Resampling.NEAREST))
    covered = (layer != backdrop).any(-1)
    lighting = synthetic._draw_lighting(rng, rng.dirichlet(np.ones(len(synthetic.GENRES))))
    behind = np.asarray(synthetic._paint_light(lighting, (dark, middle, light)).resize(SIZE[::-1]))
    shift = tuple(rng.integers(SIZE))
    poster = np.where(covered[..., None], layer, behind).astype(np.uint8)
    return np.roll(poster, shift, (0, 1)), np.roll(covered, shift, (0, 1))


@functools.cache
def posters() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    label = rng.integers(0, len(MOTIFS), 600).astype(np.int32)
    drawn = [draw(rng, MOTIFS[genre]) for genre in label]
    return np.stack([poster for poster, _ in drawn]), np.stack([covered for _, covered in drawn]), label


def share_on_the_motif(model: Any, variables: Any, held_out: slice) -> tuple[float, float]:
    """Mean share of a map that lies on the motif, and of maps whose peak does; maps are enlarged to the poster."""
    image, covered, label = (array[held_out] for array in posters())
    maps = np.asarray(grad_cam_lib.make_grad_cam(model)(variables, image, label))
    large = np.stack([np.asarray(Image.fromarray(one).resize(SIZE[::-1], Image.Resampling.BILINEAR)) for one in maps])
    share = (large * covered).sum((1, 2)) / np.maximum(large.sum((1, 2)), 1e-9)
    peak = large.reshape(len(large), -1).argmax(1)
    return float(share.mean()), float(covered.reshape(len(large), -1)[np.arange(len(large)), peak].mean())


def test_after_training_it_points_at_the_motif_and_before_it_does_not() -> None:
    image, covered, label = posters()
    model, optimizer = build_cnn(), optax.adam(3e-3)
    start = initial(model)

    @jax.jit
    def train(params: Any, state: Any, image: Any, label: Any, key: Any) -> tuple[Any, Any]:
        def loss(params: Any) -> jax.Array:
            x = layers.normalise(image, model.input_range)
            return losses.softmax_loss(model.apply({"params": params}, x, True, rngs={"dropout": key}), label).mean()

        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    held_out, rng = slice(500, 600), np.random.default_rng(3)
    params, state = start["params"], optimizer.init(start["params"])
    for number in range(200):
        batch = rng.permutation(500)[:32]
        params, state = train(params, state, image[batch], label[batch], jax.random.key(number))
    logits = model.apply({"params": params}, layers.normalise(image[held_out], model.input_range), False)
    assert (np.asarray(logits).argmax(1) == label[held_out]).mean() > 0.75

    by_chance = float(covered[held_out].mean())
    share, peak = share_on_the_motif(model, {"params": params}, held_out)
    assert share > 1.4 * by_chance and peak > 2 * by_chance, (share, peak, by_chance)
    untrained, _ = share_on_the_motif(model, start, held_out)
    assert untrained < 1.15 * by_chance, (untrained, by_chance)
