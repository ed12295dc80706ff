"""`python -m poster_jax.bench.keras_finetune a|b --weights=FILE --dir=POSTERS --workdir=DIR [--seed=0]`: MobileNetV2 in Keras.

It is fine-tuned on TensorFlow by `model.fit` with a tf.data pipeline, on the rows and parts of our own runs. Our metrics score
it, so that `compare` can compare our recipe with it. Recipe `a` is the plain one, `b` the strongest.
"""

import dataclasses
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from poster_jax import cli, errors
from poster_jax import config as config_lib
from poster_jax.bench import peers
from poster_jax.data import builder, dataset, resident
from poster_jax.metrics import scoring
from poster_jax.models.files import keras_files
from poster_jax.protocols import measure
from poster_jax.report.tables import run_table
from poster_jax.workdir import run_files

EVAL_BATCH_SIZE = 64


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Training settings; `image_size` is (height, width) in pixels; with `ema` 0 the last weights are kept."""

    image_size: tuple[int, int]
    num_epochs: int
    weight_decay: float
    ema: float
    label_smoothing: float
    jitter: float  # zoom, brightness and contrast, each by up to this share
    mirror: bool  # also measure the mean of the scores of a poster and of its mirror image
    num_head_epochs: int = 2
    head_learning_rate: float = 1e-3
    learning_rate: float = 2e-4
    shift: float = 0.08  # share of the side
    batch_size: int = 32


RECIPES = {
    "a": Recipe((128, 128), 7, weight_decay=0.01, ema=0.0, label_smoothing=0.0, jitter=0.0, mirror=False),
    "b": Recipe((208, 144), 9, weight_decay=0.05, ema=0.998, label_smoothing=0.05, jitter=0.1, mirror=True),
}


@dataclasses.dataclass(frozen=True)
class Posters:
    """Rows, and per part their images uint8 [N, H, W, 3] in the order of the part."""

    rows: dataset.Dataset
    images: dict[str, np.ndarray]

    def labels(self, part: str) -> np.ndarray:
        """Labels of a part, float32 [N, K]."""
        return self.rows.label[self.rows.parts[part]]


def make_config(posters_dir: str, recipe: Recipe) -> config_lib.Config:
    """A config with the rows of our transfer runs: six genres by any mention, every movie once, unbalanced, split by movie."""
    config = config_lib.base()
    config.data.variant, config.data.dir = "kaggle", posters_dir
    config.data.genre_rank, config.data.encoding, config.data.balance = "any", "multi_hot", "none"
    config.data.image_size = recipe.image_size
    return config


def load_posters(data: config_lib.Data, num_rows: int) -> Posters:
    """The posters of `config.data`; num_rows above 0 keeps only that many rows of each part, for a quick trial."""
    source = builder.load_source(data)
    rows = dataset.select(source, data)
    if num_rows:
        rows = dataclasses.replace(rows, parts={part: positions[:num_rows] for part, positions in rows.parts.items()})
    packed = resident.pack(source, data.image_size, data.cache_dir).pixels
    return Posters(rows, {part: packed[rows.poster[positions]] for part, positions in rows.parts.items()})


def build_body(weights: pathlib.Path, image_size: tuple[int, int]) -> peers.KerasModel:
    """Keras' MobileNetV2 without its top, with every array from the file by layer name.

    Raises UserError for an unreadable file and for a missing or extra array or one of another shape.
    """
    keras = peers.keras_on_tensorflow()
    body = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(*image_size, 3))
    required = {f"{layer.name}/{array.name}": array for layer in body.layers for array in layer.weights}
    try:
        with keras_files.opened(weights, [layer.name for layer in body.layers if layer.weights]) as found:
            stored = found.arrays
            wrong = sorted(
                name
                for name in required.keys() | stored.keys()
                if name not in required or name not in stored or required[name].shape != stored[name].shape
            )
            if wrong:
                raise errors.UserError(
                    f"the weights file {weights} does not hold MobileNetV2 of alpha 1: "
                    f"{len(wrong)} arrays are missing, extra or of another shape, as {wrong[0]}."
                )
            for name, variable in required.items():
                variable.assign(stored[name].read(weights, name))
    except OSError as error:
        raise errors.UserError(f"the weights file {weights} cannot be read ({error}): give a Keras .h5 or .keras.") from error
    return body


def build_models(body: peers.KerasModel, num_genres: int) -> tuple[peers.KerasModel, peers.KerasModel]:
    """(head, whole): two models of one network that share all arrays, from posters in [0, 255] to scores [B, K].

    `head` runs the body in inference mode. In `whole`, `fit` runs BatchNorm in training mode, on the statistics of the batch.
    """
    keras = peers.keras_on_tensorflow()
    poster = keras.Input(body.input_shape[1:])
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(poster)
    pool = keras.layers.GlobalAveragePooling2D()
    dense = keras.layers.Dense(num_genres, activation="sigmoid")
    head = keras.Model(poster, dense(pool(body(scaled, training=False))))
    return head, keras.Model(poster, dense(pool(body(scaled))))


def build_augmentation(recipe: Recipe, seed: int) -> peers.KerasModel:
    """A model that changes posters float32 [B, H, W, 3] in [0, 255] at random."""
    layers = peers.keras_on_tensorflow().layers
    steps = [
        layers.RandomFlip("horizontal", seed=seed),
        layers.RandomTranslation(recipe.shift, recipe.shift, fill_mode="nearest", seed=seed + 1),
    ]
    if recipe.jitter:
        steps += [
            layers.RandomZoom(recipe.jitter, fill_mode="nearest", seed=seed + 2),
            layers.RandomBrightness(recipe.jitter, value_range=(0, 255), seed=seed + 3),
            layers.RandomContrast(recipe.jitter, value_range=(0, 255), seed=seed + 4),
        ]
    return peers.keras_on_tensorflow().Sequential(steps)


def make_train_data(posters: Posters, recipe: Recipe, seed: int) -> Any:
    """A tf.data set of augmented batches (float32 [B, H, W, 3], float32 [B, K]); an epoch has all training rows, shuffled."""
    import tensorflow as tf

    # Row numbers are shuffled and the posters gathered from one uint8 tensor: shuffling images would copy them to a buffer.
    images, labels = tf.constant(posters.images["train"]), tf.constant(posters.labels("train"))
    augment = build_augmentation(recipe, seed)

    def load(rows: Any) -> tuple[Any, Any]:
        return augment(tf.cast(tf.gather(images, rows), tf.float32), training=True), tf.gather(labels, rows)

    data = tf.data.Dataset.range(len(images)).shuffle(len(images), seed=seed, reshuffle_each_iteration=True)
    return data.batch(recipe.batch_size).map(load, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def predict(model: peers.KerasModel, images: np.ndarray, mirrored: bool = False) -> np.ndarray:
    """Scores float32 [N, K], in inference mode, of images uint8 [N, H, W, 3] or of their mirror images."""
    scores = [
        model.predict_on_batch(images[start : start + EVAL_BATCH_SIZE, :, :: -1 if mirrored else 1].astype(np.float32))
        for start in range(0, len(images), EVAL_BATCH_SIZE)
    ]
    return np.concatenate(scores)


def train(body: peers.KerasModel, posters: Posters, recipe: Recipe, seed: int) -> peers.KerasModel:
    """Trains the head alone, then all weights; returns the whole model. With `ema`, `fit` ends with the averaged weights."""
    keras = peers.keras_on_tensorflow()
    keras.utils.set_random_seed(seed)
    head, whole = build_models(body, len(posters.rows.genres))
    data = make_train_data(posters, recipe, seed)
    loss = keras.losses.BinaryCrossentropy(label_smoothing=recipe.label_smoothing)
    cosine = keras.optimizers.schedules.CosineDecay(recipe.learning_rate, decay_steps=len(data) * recipe.num_epochs)
    average = {"use_ema": True, "ema_momentum": recipe.ema} if recipe.ema else {}
    phases = (
        ("head", head, keras.optimizers.Adam(recipe.head_learning_rate), recipe.num_head_epochs),
        ("all", whole, keras.optimizers.AdamW(cosine, weight_decay=recipe.weight_decay, **average), recipe.num_epochs),
    )
    for name, model, optimizer, num_epochs in phases:
        body.trainable = name == "all"
        model.compile(optimizer, loss)
        started = time.perf_counter()

        def report(
            epoch: int, logs: dict[str, float], name: str = name, model: peers.KerasModel = model, since: float = started
        ) -> None:
            found = scoring.headline(predict(model, posters.images["validation"]), posters.labels("validation"))
            print(
                f"{name} epoch {epoch + 1}: loss {logs['loss']:.4f}, validation mAP {found['mean_average_precision']:.4f}, "
                f"{time.perf_counter() - since:.0f} s",
                flush=True,
            )

        callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=report)]
        model.fit(data, epochs=num_epochs, shuffle=False, verbose=0, callbacks=callbacks)  # `data` shuffles
    return whole


def make_workdirs(folders: Sequence[pathlib.Path]) -> None:
    """Makes the folders before training; raises UserError if one cannot be made or already has results."""
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise errors.UserError(f"the workdir {folder} cannot be made ({error.strerror}): name another.") from error
        if run_files.has_results(folder):
            raise errors.UserError(f"the workdir {folder} holds results already: name another.")


def save(
    workdir: pathlib.Path, head: dict[str, Any], config: config_lib.Config, posters: Posters, scores: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Writes labels.json, predictions.npz and results.json as `protocols/single.py` does, and returns the results."""
    rows = posters.rows
    run_files.write_labels(workdir, genres=rows.genres, auxiliary_genres=(), encoding=config.data.encoding)
    run_files.write_predictions(workdir, rows.parts, rows.movie_id, rows.group, label=rows.label, scores=scores)
    results = {**head, "data": rows.summary, "splits": measure.score_parts(config, rows, scores), "baselines": {}}
    run_files.write_results(workdir, results)
    return results


def run(
    name: str, recipe: Recipe, config: config_lib.Config, weights: pathlib.Path, workdir: pathlib.Path, *, num_rows: int
) -> None:
    """Trains one recipe from `config.seed`, scores it and prints its table; mirrored scores go to `<workdir>_mirror`."""
    posters = load_posters(config.data, num_rows)
    mirror_workdir = workdir.with_name(f"{workdir.name}_mirror")
    make_workdirs([workdir, mirror_workdir] if recipe.mirror else [workdir])
    print("\n".join(posters.rows.describe()), flush=True)
    started = time.perf_counter()
    body = build_body(weights, recipe.image_size)
    model = train(body, posters, recipe, config.seed)
    scores = {part: predict(model, images) for part, images in posters.images.items()}
    head = {
        "title": f"Keras recipe {name.upper()}, seed {config.seed}",
        "protocol": "keras_finetune",
        "recipe": dataclasses.asdict(recipe),
        "seed": config.seed,
        "num_seeds": 1,
        "num_parameters": model.count_params(),
        "wall_secs": time.perf_counter() - started,
    }
    print(run_table.results_table(save(workdir, head, config, posters, scores)), flush=True)
    if recipe.mirror:
        both = {part: (scores[part] + predict(model, images, mirrored=True)) / 2 for part, images in posters.images.items()}
        head["title"] += ", mirrored too"
        print(run_table.results_table(save(mirror_workdir, head, config, posters, both)), flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one recipe; returns the exit code, 2 for a mistake in the arguments."""
    return cli.run_command(_run, argv)


def _run(argv: list[str]) -> int:
    parser = cli.Parser("python -m poster_jax.bench.keras_finetune", __doc__)
    parser.add_argument("recipe", choices=sorted(RECIPES))
    parser.add_argument("--weights", required=True, type=pathlib.Path, help="Keras .h5 or .keras with a MobileNetV2 body")
    parser.add_argument("--dir", required=True, help="folder of MovieGenre.csv and posters/")
    parser.add_argument("--workdir", required=True, type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=0, help="rows of each part, for a quick trial; 0 is all")
    flags = parser.parse_args(argv)
    recipe = RECIPES[flags.recipe]
    config = make_config(flags.dir, recipe)
    config.seed = flags.seed
    peers.keras_on_tensorflow()
    run(flags.recipe, recipe, config, flags.weights, flags.workdir, num_rows=flags.rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
