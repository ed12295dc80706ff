"""`python -m poster_jax.bench.keras_heads --weights=FILE [--config=FILE[:ARG]] [--config.KEY=VALUE ...]`: frozen heads.

Times the frozen stage of a transfer config (every rate, every epoch): our protocol, which computes features first, against
Keras's `fit` through the frozen body. Keras's epochs take equally long, so only the first one, which also traces, and one more
are measured and then multiplied.
"""

import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence

from poster_jax import cli, errors, models
from poster_jax import config as config_lib
from poster_jax.bench import keras_finetune, peers
from poster_jax.data import input_pipeline
from poster_jax.models import mobilenet_v2
from poster_jax.protocols import transfer
from poster_jax.runtime import preemption, sharding
from poster_jax.train import features, network
from poster_jax.train import run as run_lib


def time_ours(config: config_lib.Config) -> float:
    """Seconds from posters in memory to trained and scored heads of all rates, with compilation."""
    loader = input_pipeline.open_loader(config.data, sharding.make_shardings(), ("resident", "the benchmark asks for it"))
    loaded = models.load_pretrained(**config.model)
    started = time.perf_counter()
    cadence = run_lib.Cadence(total=1, log=1, evaluate=1, save=1)
    run = run_lib.Run(config, config.seed, pathlib.Path(), loader, cadence, preemption.StopRequest())
    net = network.build(run, pretrained=loaded)
    model = net.model
    assert isinstance(model, mobilenet_v2.MobileNetV2)
    body = model.clone(train_from="head", bn_mode="frozen")
    with tempfile.TemporaryDirectory() as folder:
        pooled = features.extract(body, net.state.variables(), loader, config.eval.batch_size, folder)
        statistics = model.head_statistics(pooled.of(loader.rows.parts["train"]))
        transfer.cached_heads(run, net, statistics, pooled)
    return time.perf_counter() - started


def build_model(body: peers.KerasModel, config: config_lib.Config, num_genres: int) -> peers.KerasModel:
    """The frozen body with pooling and a softmax, compiled: float32 posters in [0, 255] to probabilities [B, K]."""
    layers = peers.keras_on_tensorflow().layers
    pool = {"max": layers.GlobalMaxPooling2D, "avg": layers.GlobalAveragePooling2D}[config.model.pooling]
    poster = layers.Input(body.input_shape[1:])
    body.trainable = False
    scaled = layers.Rescaling(1 / 127.5, offset=-1.0)(poster)
    keras = peers.keras_on_tensorflow()
    model = keras.Model(poster, layers.Dense(num_genres, activation="softmax")(pool()(body(scaled, training=False))))
    model.compile(keras.optimizers.Adam(config.transfer.learning_rates[0]), "sparse_categorical_crossentropy")
    return model


def time_keras(config: config_lib.Config, weights: str) -> tuple[float, float]:
    """(seconds of building, tracing and the first epoch, seconds of another epoch); each epoch includes validation."""
    posters = keras_finetune.load_posters(config.data, 0)
    held = {part: (posters.images[part], posters.labels(part)) for part in ("train", "validation")}
    started = time.perf_counter()
    body = keras_finetune.build_body(pathlib.Path(weights), config.data.image_size)
    model = build_model(body, config, len(posters.rows.genres))
    seconds = []
    for _ in range(2):
        model.fit(*held["train"], batch_size=config.train.batch_size, validation_data=held["validation"], epochs=1, verbose=0)
        seconds.append(time.perf_counter() - started)
        started = time.perf_counter()
    return seconds[0], seconds[1]


def whole_secs(first: float, epoch: float, config: config_lib.Config) -> float:
    """Seconds that Keras needs for all rates and epochs; each rate is a separate model that is built and traced."""
    rates, epochs = len(config.transfer.learning_rates), round(config.transfer.head_epochs)
    return rates * (first + (epochs - 1) * epoch)


def main(argv: Sequence[str] | None = None) -> int:
    """Times both in turn; returns the exit code, 2 for a mistake in the arguments."""
    return cli.run_command(_run, argv)


def _run(argv: list[str]) -> int:
    parser = cli.Parser("python -m poster_jax.bench.keras_heads", __doc__)
    parser.add_argument("--weights", required=True, help="Keras .h5 or .keras with a MobileNetV2 body of width 1")
    parser.add_argument("--config", default="configs/transfer_mobilenet.py", metavar="FILE[:ARG]")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    flags, rest = parser.parse_known_args(argv)
    if flags.repeats < 1:
        raise errors.UserError("--repeats must be 1 or more.")
    overrides = [("model.weights", f"keras:{flags.weights}"), *config_lib.parse_overrides(rest)]
    config = config_lib.load(flags.config, overrides)
    if config.protocol != "transfer" or config.loss.name != "softmax":
        raise errors.UserError(f"{flags.config} trains no softmax heads on a frozen body: give configs/transfer_mobilenet.py.")
    epochs = round(config.transfer.head_epochs) * len(config.transfer.learning_rates)
    peers.keras_on_tensorflow()
    ratios = []
    for number in range(flags.repeats):
        ours = time_ours(config)
        first, epoch = time_keras(config, flags.weights)
        theirs = whole_secs(first, epoch, config)
        ratios.append(ours / theirs)
        print(
            f"round {number + 1}: ours {ours:.1f} s; Keras {epoch:.1f} s an epoch, {theirs:.0f} s for {epochs} epochs; "
            f"ours over Keras {ratios[-1]:.3f}",
            flush=True,
        )
    print(f"median {statistics.median(ratios):.3f} of Keras's time ({min(ratios):.3f} to {max(ratios):.3f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
