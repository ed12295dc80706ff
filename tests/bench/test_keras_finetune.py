"""Keras fine-tuning: the body's weights, the trained arrays of each phase, and the files that `compare` reads."""

import dataclasses
import pathlib
from typing import Any

import numpy as np
import pytest

from poster_jax import errors
from poster_jax.bench import keras_finetune
from poster_jax.workdir import run_files

pytest.importorskip("tensorflow")
keras: Any = pytest.importorskip("keras")

SIZE = (48, 32)  # Keras takes no side below 32
SMALL = dataclasses.replace(keras_finetune.RECIPES["b"], image_size=SIZE, num_head_epochs=1, num_epochs=2, batch_size=16)


@pytest.fixture(scope="module")
def config() -> Any:
    config = keras_finetune.make_config("", SMALL)
    config.data.variant, config.data.num_posters, config.data.min_movies = "synthetic", 180, 8
    config.eval.bootstrap_samples = 20
    return config


@pytest.fixture(scope="module")
def posters(config: Any) -> keras_finetune.Posters:
    return keras_finetune.load_posters(config.data, 0)


def build_stand_in() -> Any:
    """A body small enough to train in a test: one convolution and a BatchNorm."""
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((*SIZE, 3)), keras.layers.Conv2D(8, 3), keras.layers.BatchNormalization(name="norm")])


def arrays(model: Any) -> list[np.ndarray]:
    return [weight.numpy().copy() for weight in model.weights]


# Raised by Keras' own saving under numpy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
def test_every_array_of_the_body_comes_from_the_file(tmp_path: pathlib.Path) -> None:
    body = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(*SIZE, 3))
    for number, weight in enumerate(body.weights):
        weight.assign(weight + number / 1000)
    body.save(tmp_path / "body.keras")
    loaded = keras_finetune.build_body(tmp_path / "body.keras", SIZE)
    assert len(loaded.weights) == 260
    for held, weight in zip(arrays(body), arrays(loaded), strict=True):
        np.testing.assert_array_equal(held, weight)
    build_stand_in().save(tmp_path / "other.keras")
    with pytest.raises(errors.UserError, match="arrays are missing, extra or of another shape"):
        keras_finetune.build_body(tmp_path / "other.keras", SIZE)
    with pytest.raises(errors.UserError, match="cannot be read"):
        keras_finetune.build_body(tmp_path / "none.h5", SIZE)


def test_both_phases_share_their_arrays_and_only_the_second_moves_the_body() -> None:
    body = build_stand_in()
    head, whole = keras_finetune.build_models(body, 6)
    image = np.random.default_rng(0).uniform(0, 255, (16, *SIZE, 3)).astype(np.float32)
    label = np.zeros((16, 6), np.float32)
    expected = body(image / 127.5 - 1, training=False).numpy().mean(axis=(1, 2)) @ head.layers[-1].kernel.numpy()
    np.testing.assert_allclose(head.predict_on_batch(image), 1 / (1 + np.exp(-expected)), atol=1e-5)
    np.testing.assert_allclose(whole.predict_on_batch(image), head.predict_on_batch(image), atol=1e-6)
    for model, moves in ((head, False), (whole, True)):
        body.trainable = moves
        model.compile("sgd", "binary_crossentropy")
        before = arrays(body)
        model.train_on_batch(image, label)
        assert [not np.array_equal(old, new) for old, new in zip(before, arrays(body), strict=True)] == [moves] * len(before)


def test_an_epoch_shows_every_training_row_once_with_its_own_labels(posters: keras_finetune.Posters) -> None:
    num_rows = len(posters.labels("train"))
    # The grey level of each uniform poster is its row number; flips and shifts do not change it.
    images = np.broadcast_to(np.arange(num_rows, dtype=np.uint8)[:, None, None, None], (num_rows, *SIZE, 3))
    named = dataclasses.replace(posters, images={**posters.images, "train": np.ascontiguousarray(images)})
    recipe = dataclasses.replace(SMALL, jitter=0.0)
    data = keras_finetune.make_train_data(named, recipe, 0)
    orders = []
    for _ in range(2):
        batches = [(image.numpy(), label.numpy()) for image, label in data]
        rows = np.concatenate([image for image, _ in batches])[:, 5, 5, 0].round().astype(int)
        np.testing.assert_array_equal(np.concatenate([label for _, label in batches]), posters.labels("train")[rows])
        assert sorted(rows) == list(range(num_rows))
        orders.append(rows.tolist())
    assert orders[0] != orders[1]


def test_the_augmentation_changes_posters_and_stays_in_their_range(posters: keras_finetune.Posters) -> None:
    image = posters.images["train"][:32].astype(np.float32)
    for recipe in (dataclasses.replace(SMALL, jitter=0.0), SMALL):
        changed = keras_finetune.build_augmentation(recipe, 0)(image, training=True).numpy()
        assert changed.shape == image.shape and changed.min() >= -0.01 and changed.max() <= 255.01
        assert (np.abs(changed - image).mean(axis=(1, 2, 3)) > 1).mean() > 0.9


def test_scores_are_of_every_row_and_mirrored_ones_of_its_mirror_image(posters: keras_finetune.Posters) -> None:
    head, _ = keras_finetune.build_models(build_stand_in(), 6)
    images = posters.images["train"][:70]  # one batch of 64 and a rest
    scores = keras_finetune.predict(head, images)
    assert scores.shape == (70, 6)
    np.testing.assert_allclose(scores[69:], head.predict_on_batch(images[69:].astype(np.float32)), atol=1e-6)
    np.testing.assert_allclose(
        keras_finetune.predict(head, images, mirrored=True), keras_finetune.predict(head, images[:, :, ::-1]), atol=1e-6
    )


def test_a_run_ends_with_averaged_weights_and_files_that_compare_reads(
    config: Any, posters: keras_finetune.Posters, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    trained = []
    train = keras_finetune.train
    monkeypatch.setattr(keras_finetune, "build_body", lambda *_: build_stand_in())
    monkeypatch.setattr(keras_finetune, "train", lambda *given: trained.append(train(*given)) or trained[0])
    keras_finetune.run("b", SMALL, config, pathlib.Path("unused.h5"), tmp_path / "run", num_rows=0)
    [model] = trained
    assert model.optimizer.ema_momentum == SMALL.ema
    averages = model.optimizer._model_variables_moving_average
    assert len(averages) == 6  # kernel and bias, scale and shift, and those of the head
    for average, weight in zip(averages, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(average.numpy(), weight.numpy())
    assert float(model.optimizer.learning_rate) == pytest.approx(0.0, abs=1e-9)  # the cosine has come down
    printed = capsys.readouterr().out
    assert "head epoch 1:" in printed and "all epoch 2:" in printed and "Keras recipe B, seed 0" in printed

    plain, mirrored = (run_files.load_run(tmp_path / name, "test") for name in ("run", "run_mirror"))
    assert plain.genres == posters.rows.genres
    [scores] = plain.seeds
    np.testing.assert_array_equal(scores.movie_id, posters.rows.movie_id[posters.rows.parts["test"]])
    np.testing.assert_array_equal(scores.targets, posters.labels("test") == 1)
    test = posters.images["test"]
    both = (keras_finetune.predict(model, test) + keras_finetune.predict(model, test[:, :, ::-1])) / 2
    np.testing.assert_allclose(mirrored.seeds[0].scores, both, atol=1e-6)
    assert not np.allclose(scores.scores, both, atol=1e-6)


def test_results_are_not_written_over(tmp_path: pathlib.Path) -> None:
    keras_finetune.make_workdirs([tmp_path / "run"])
    keras_finetune.make_workdirs([tmp_path / "run"])
    (tmp_path / "run" / "results.json").write_text("{}")
    with pytest.raises(errors.UserError, match="holds results already"):
        keras_finetune.make_workdirs([tmp_path / "run_mirror", tmp_path / "run"])
    with pytest.raises(errors.UserError, match="cannot be made"):
        keras_finetune.make_workdirs([tmp_path / "run" / "results.json" / "deeper"])


def test_a_missing_folder_is_one_sentence(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [f"--weights={tmp_path / 'w.h5'}", f"--dir={tmp_path / 'none'}", f"--workdir={tmp_path / 'run'}"]
    assert keras_finetune.main(["a", *arguments]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("poster_jax: ") and "MovieGenre.csv" in line
    assert not (tmp_path / "run").exists()
