"""`python -m poster_jax.bench.keras_search --config=FILE[:ARG] [--config.KEY=VALUE ...] [--fits=2]`: a search by Keras's `fit`.

Trains the first networks of a search as a user of Keras would: one `fit` after another on posters in memory. Each is timed from
building the model to its last validation. The time of the whole search is the mean times the number of networks.
"""

import sys
import time
from collections.abc import Sequence

import numpy as np

from poster_jax import cli, errors
from poster_jax import config as config_lib
from poster_jax.bench import peers
from poster_jax.data import builder, dataset, resident, splits
from poster_jax.search import space


def build_model(config: config_lib.Config, trial: space.Trial, num_genres: int) -> peers.KerasModel:
    """Table 2's network with the trial's widths, from uint8 posters to a softmax, compiled as in the paper."""
    keras = peers.keras_on_tensorflow()
    layers = keras.layers
    stack = [keras.Input((*config.data.image_size, 3), dtype="uint8"), layers.Rescaling(1 / 255)]
    for width, (_, kernel, pool, norm, _) in zip(trial.filters, config.model.blocks, strict=True):
        stack.append(layers.Conv2D(width, kernel, activation="relu"))
        stack += [layers.BatchNormalization()] if norm else []
        stack.append(layers.MaxPooling2D(pool))
    stack.append(layers.Flatten())
    for width, (_, norm, _) in zip(trial.units, config.model.dense, strict=True):
        stack.append(layers.Dense(width, activation="relu"))
        stack += [layers.BatchNormalization()] if norm else []
        stack.append(layers.Dropout(trial.dropout))
    stack.append(layers.Dense(num_genres, activation="softmax"))
    model = keras.Sequential(stack)
    top1 = keras.metrics.SparseCategoricalAccuracy("top1_accuracy")
    model.compile(keras.optimizers.Adam(trial.learning_rate), "sparse_categorical_crossentropy", metrics=[top1])
    return model


def time_fits(config: config_lib.Config, num_fits: int) -> list[float]:
    """Seconds of each of the first `num_fits` fits, one per trial, all on the first fold."""
    peers.keras_on_tensorflow()
    source = builder.load_source(config.data)
    rows = dataset.select(source, config.data)
    images = resident.pack(source, config.data.image_size, config.data.cache_dir).pixels
    pool = np.sort(np.concatenate([rows.parts["train"], rows.parts["validation"]]))
    train, validation = splits.k_folds(rows.label, rows.group, pool, config.search.num_folds, config.data.seed)[0]
    parts = {"train": train, "validation": validation}
    held = {part: (images[rows.poster[positions]], rows.label[positions]) for part, positions in parts.items()}
    seconds = []
    for trial in space.draw_trials(config.search, config.seed)[:num_fits]:
        begun = time.perf_counter()
        model = build_model(config, trial, len(rows.genres))
        fitted = model.fit(
            *held["train"],
            batch_size=config.train.batch_size,
            epochs=int(config.train.num_epochs),
            validation_data=held["validation"],
            verbose=0,
        )
        seconds.append(time.perf_counter() - begun)
        print(
            f"trial {trial.number + 1}, {model.count_params():,} parameters: {seconds[-1]:.1f} s, "
            f"validation top-1 {fitted.history['val_top1_accuracy'][-1]:.3f}",
            flush=True,
        )
    return seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Times the fits; returns the exit code, 2 for a mistake in the arguments."""
    return cli.run_command(_run, argv)


def _run(argv: list[str]) -> int:
    parser = cli.Parser("python -m poster_jax.bench.keras_search", __doc__)
    parser.add_argument("--config", required=True, metavar="FILE[:ARG]", help="a search, as configs/search_cnn.py:batch_norm")
    parser.add_argument("--fits", type=int, default=2, help="networks to train")
    flags, rest = parser.parse_known_args(argv)
    if flags.fits < 1:
        raise errors.UserError("--fits must be 1 or more.")
    config = config_lib.load(flags.config, config_lib.parse_overrides(rest))
    if config.protocol != "search":
        raise errors.UserError(f"{flags.config} is no search: give configs/search_cnn.py.")
    seconds = time_fits(config, flags.fits)
    mean = float(np.mean(seconds))
    networks = len(space.draw_trials(config.search, config.seed)) * config.search.num_folds
    minutes = mean * networks / 60
    print(f"{networks} fits one after another: {minutes:.1f} minutes ({mean:.1f} s each, {len(seconds)} measured)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
