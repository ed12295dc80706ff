"""samples.npz: which posters it holds by hand, and that posters, scores and maps belong together."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poster_jax import config as config_lib
from poster_jax import models
from poster_jax.data import input_pipeline
from poster_jax.models import grad_cam, layers
from poster_jax.protocols import samples
from poster_jax.runtime import sharding
from tests.helpers import runs

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIG = f"{ROOT}/configs/cnn_onehot.py:smoke"
# Top genres 0 1 0 1 0 1, with falling, rising and equal confidence.
SCORES = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.1, 0.8], [0.6, 0.2], [0.3, 0.4]])


def test_a_fair_sample_comes_first_then_mistakes_the_most_confident_first() -> None:
    label = np.array([1, 0, 0, 0, 1, 1])  # wrong at 0, 1, 3, 4; 1 and 3 are equally confident
    positions, truth, spread = samples.choose(SCORES, label, np.arange(6), 6)
    assert positions.tolist() == [0, 2, 5, 0, 1, 3]
    assert spread.tolist() == [True] * 3 + [False] * 3
    assert truth.argmax(1).tolist() == [1, 0, 1, 1, 0, 0]
    positions, _, spread = samples.choose(SCORES, label, np.arange(6), 24)
    assert positions.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 3, 4] and spread.sum() == 6


def test_a_movie_with_several_rows_stands_once_with_all_its_genres() -> None:
    label = np.array([1, 0, 0, 1, 1, 1])
    movie = np.array([7, 3, 7, 5, 5, 9])  # 7: rows 0 and 2, genres 1 and 0; 5: rows 3 and 4, genre 1
    positions, truth, spread = samples.choose(SCORES, label, movie, 8)
    assert positions.tolist() == [0, 1, 3, 5, 1]  # wrong at 1 alone
    assert truth.tolist() == [[True, True], [True, False], [False, True], [False, True], [True, False]]
    assert spread.tolist() == [True] * 4 + [False]


@pytest.fixture(scope="module")
def feeds() -> list[input_pipeline.Loader]:
    data = config_lib.load(CONFIG).data
    return [input_pipeline.open_loader(data, sharding.make_shardings(jax.devices()[:count])) for count in (1, 8)]


def build(num_genres: int) -> tuple[Any, Any]:
    blocks = ((4, 3, 2, False, 0.0), (6, 3, 2, False, 0.0))
    model = models.build("cnn", blocks=blocks, dense=(), input_range=(0.0, 1.0), num_genres=num_genres, precision="float32")
    return model, model.init(jax.random.key(0), jnp.zeros((1, 38, 26, 3)), False)


def predict(model: Any, variables: Any, image: Any) -> np.ndarray:
    return np.asarray(jax.nn.sigmoid(model.apply(variables, layers.normalise(image, model.input_range), False)))


def test_the_file_holds_what_belongs_together_on_one_and_on_eight_devices(
    feeds: list[input_pipeline.Loader], tmp_path: pathlib.Path
) -> None:
    one, config = feeds[0], config_lib.load(CONFIG)
    model, variables = build(len(one.rows.genres))
    batches = list(one.eval_batches("test", 16))
    kept = np.concatenate([batch["mask"] for batch in batches]) > 0
    scores = np.concatenate([predict(model, variables, batch["image"]) for batch in batches])[kept]
    written = []
    for number, each in enumerate(feeds):
        (tmp_path / str(number)).mkdir()
        samples.save(runs.make_run(config, each, tmp_path / str(number)), model, variables, scores, num=11)
        with np.load(tmp_path / str(number) / "samples.npz") as arrays:
            written.append(dict(arrays))
    held = written[0]
    assert {name: array.shape for name, array in held.items()} == {
        "image": (11, 38, 26, 3), "id": (11,), "label": (11, 6), "score": (11, 6), "genre": (11,), "map": (11, 16, 10),
        "spread": (11,), "true_genre": (11,), "true_map": (11, 16, 10),
    }  # fmt: skip
    np.testing.assert_allclose(predict(model, variables, held["image"]), held["score"], atol=1e-6)
    np.testing.assert_array_equal(held["genre"], held["score"].argmax(1))
    np.testing.assert_allclose(held["map"], grad_cam.make_grad_cam(model)(variables, held["image"], held["genre"]), atol=1e-6)
    test = one.rows.parts["test"]
    of_id = dict(zip(one.rows.movie_id[test].tolist(), one.rows.label[test], strict=True))
    np.testing.assert_array_equal(held["label"], [of_id[number] for number in held["id"].tolist()])
    for name, array in held.items():
        np.testing.assert_array_equal(array, written[1][name])
