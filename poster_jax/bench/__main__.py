"""`python -m poster_jax.bench [--config=FILE] [--against=keras|torch] [--repeats=5]`: speed of steps and of the input.

The floor of a step's time is its operations divided by the rate of a square matrix product, measured in the same run. Input
paths are measured alone, and by the time of a step with real posters relative to a step on one fixed batch.
"""

import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence

import jax
import numpy as np
import pandas as pd

from poster_jax import cli
from poster_jax import config as config_lib
from poster_jax.bench import peers, timing
from poster_jax.config import types
from poster_jax.data import dataset, input_pipeline, resident
from poster_jax.runtime import hugepages, preemption, sharding
from poster_jax.train import network
from poster_jax.train import run as run_lib

# The paper's narrowest Table 2 network (4, 16, 80): the shortest step, so the one that needs the fastest input.
NARROW_BLOCKS = ((4, 3, 2, False, 0.0), (16, 3, 2, False, 0.0))
NARROW_DENSE = ((80, False, 0.3),)


class Steps:
    """The jitted steps of one config on blank rows, and their current state."""

    def __init__(self, config: config_lib.Config, shardings: sharding.Shardings, num_genres: int) -> None:
        rows = blank_rows(num_genres)
        stream = resident.make_host_stream(np.zeros((len(rows.poster), *config.data.image_size, 3), np.uint8))
        loader = input_pipeline.Loader(rows, stream, config.data.image_size, shardings, False, "resident", "of blank posters")
        cadence = run_lib.Cadence(total=1, log=1, evaluate=1, save=1)
        run = run_lib.Run(config, 0, pathlib.Path(), loader, cadence, preemption.StopRequest())
        self.network = network.build(run)
        self.state = self.network.state
        self._key = jax.random.key(0)

    def train(self, batch: input_pipeline.Batch) -> None:
        """Runs one training step and waits for it."""
        self.state, sums = self.network.train_step(self.state, batch, self._key)
        jax.block_until_ready(sums)

    def evaluate(self, batch: input_pipeline.Batch) -> None:
        """Runs one evaluation step and waits for it."""
        jax.block_until_ready(self.network.eval_step(self.state.variables(), batch))

    def train_all(self, batches: Iterable[input_pipeline.Batch]) -> float:
        """Seconds per step over batches; as in `loop.fit` the host waits only for the last step."""
        started, count, sums = time.perf_counter(), 0, None
        for batch in batches:
            self.state, sums = self.network.train_step(self.state, batch, self._key)
            count += 1
        jax.block_until_ready(sums)
        return (time.perf_counter() - started) / count

    def forward_operations(self, batch: input_pipeline.Batch) -> float:
        """Floating-point operations of one forward pass by direct convolution, counted by XLA.

        The program is lowered for CUDA, because on CPU `ops/conv.py` chooses a form with fewer operations.
        """
        image = jax.numpy.asarray(batch["image"], jax.numpy.float32)
        traced = jax.jit(lambda v, x: self.network.model.apply(v, x, False)).trace(self.state.variables(), image)
        analysis = traced.lower(lowering_platforms=("cuda",)).cost_analysis()
        assert analysis is not None
        return float(analysis["flops"])


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the measurements; returns the exit code, 2 for a mistake in the arguments."""
    return cli.run_command(_run, argv)


def _run(argv: list[str]) -> int:
    parser = cli.Parser("python -m poster_jax.bench", __doc__)
    parser.add_argument("--config", default="configs/cnn_onehot.py")
    parser.add_argument("--against", choices=("keras", "torch"))
    parser.add_argument("--repeats", type=int, default=5, help="rounds; every candidate runs once per round")
    parser.add_argument("--steps", type=int, default=20, help="training steps per round of the input measurement")
    parser.add_argument("--skip-inputs", action="store_true")
    flags, rest = parser.parse_known_args(argv)
    config = config_lib.load(flags.config, config_lib.parse_overrides(rest))
    shardings = sharding.make_shardings()
    device = jax.devices()[0]
    print(f"{len(jax.devices())} x {device.device_kind} ({jax.default_backend()}), jax {jax.__version__}")
    bench_steps(config, shardings, flags.repeats, flags.against)
    if not flags.skip_inputs:
        bench_inputs(config, shardings, flags.repeats, flags.steps)
    return 0


def fixed_batch(config: config_lib.Config, shardings: sharding.Shardings, num_genres: int) -> input_pipeline.Batch:
    """One batch of random pixels and labels on the devices."""
    rng = np.random.default_rng(0)
    size = config.train.batch_size
    batch = {
        "image": rng.integers(0, 256, (size, *config.data.image_size, 3), np.uint8),
        "label": (rng.random((size, num_genres)) < 0.3).astype(np.float32),
        "mask": np.ones(size, np.float32),
        "id": np.arange(size, dtype=np.int32),
    }
    arrays = sharding.put_batch(batch, shardings.batch)
    return input_pipeline.Batch(image=arrays["image"], label=arrays["label"], mask=arrays["mask"], id=arrays["id"])


def blank_rows(num_genres: int) -> dataset.Dataset:
    """Two multi-hot rows per genre, one with it and one without; every part has all rows."""
    num_rows = 2 * num_genres
    label = np.zeros((num_rows, num_genres), np.float32)
    label[np.arange(num_genres), np.arange(num_genres)] = 1
    positions = np.arange(num_rows)
    return dataset.Dataset(
        name="blank posters",
        fingerprint="",
        genres=tuple(f"genre {index}" for index in range(num_genres)),
        poster=positions,
        label=label,
        target=label,
        movie_id=positions.astype(np.int32),
        group=positions,
        parts=dict.fromkeys(dataset.PARTS, positions),
        summary={},
        refused=pd.DataFrame(),
    )


def bench_steps(config: config_lib.Config, shardings: sharding.Shardings, repeats: int, against: str | None) -> None:
    """Prints the rates of the train and evaluation step beside their floor and, with `against`, a peer; they run in turn."""
    num_genres, size = config.data.num_genres, config.train.batch_size
    steps = Steps(config, shardings, num_genres)
    batch = fixed_batch(config, shardings, num_genres)
    started = time.perf_counter()
    steps.train(batch)
    steps.evaluate(batch)
    print(f"compilation of both steps: {time.perf_counter() - started:.1f} s")
    calls: dict[str, Callable[[], object]] = {
        "matrix product": timing.matrix_rate(),
        "train": lambda: steps.train(batch),
        "evaluate": lambda: steps.evaluate(batch),
    }
    if against:
        shape = {"num_genres": num_genres, "image_size": config.data.image_size, "batch_size": size}
        peer = peers.start(against, config.model.name, **shape)
        calls |= {f"{against} train": lambda: peer("train"), f"{against} forward": lambda: peer("forward")}
    rounds = timing.take_turns(calls, repeats=repeats, seconds=3.0)
    rate = 2 * timing.MATRIX_SIZE**3 / statistics.median(rounds["matrix product"])
    forward = steps.forward_operations(batch)
    # The backward pass has two products for each product of the forward pass.
    operations = {"train": 3 * forward, "evaluate": forward}
    print(f"matrix product: {rate / 1e9:.0f} GFLOP/s; forward pass: {forward / size / 1e6:.0f} MFLOP an image")
    print(f"{'step, batch ' + str(size):<24}{'images/s':>10}{'min':>9}{'max':>9}{'floor':>10}{'of floor':>10}")
    for name, times in rounds.items():
        if name == "matrix product":
            continue
        middle = statistics.median(times)
        line = f"{name:<24}{size / middle:>10.1f}{size / max(times):>9.1f}{size / min(times):>9.1f}"
        if name in operations:
            floor = rate / operations[name] * size
            line += f"{floor:>10.1f}{size / middle / floor:>10.2f}"
        print(line)
    if against:
        for ours, theirs in (("train", f"{against} train"), ("evaluate", f"{against} forward")):
            low, middle, high = timing.ratio(rounds, ours, theirs)
            print(f"{ours} against {theirs}, round by round: {middle:.2f} times its rate ({low:.2f} to {high:.2f})")


def bench_inputs(config: config_lib.Config, shardings: sharding.Shardings, repeats: int, num_steps: int) -> None:
    """Prints the rate of each input path alone, and with the config's network and the narrowest Table 2 network."""
    narrow_model = {**config_lib.MODELS["cnn"], "blocks": NARROW_BLOCKS, "dense": NARROW_DENSE}
    narrow = types.make({**config.to_dict(), "model": narrow_model})
    print(f"{'input':<12}{'alone images/s':>16}{'network':>12}{'fixed batch ms':>16}{'real data ms':>14}{'ratio':>8}")
    for path in ("resident", "streaming"):
        loader = input_pipeline.open_loader(config.data, shardings, (path, "the benchmark asks for it"))
        size, genres = config.train.batch_size, len(loader.rows.genres)
        # Streaming decodes only in the first epoch, which is therefore reported apart.
        first_epoch = _drain(loader.train_batches(size, 0, 0, len(loader.rows.parts["train"]) // size)) / size
        print(f"{path:<12}{1 / first_epoch:>16.0f}  in the first epoch")
        for name, one in (("configured", config), ("narrow", narrow)):
            count = num_steps if name == "configured" else 10 * num_steps
            steps, batch = Steps(one, shardings, genres), fixed_batch(one, shardings, genres)
            steps.train(batch)
            fixed, real, alone = [], [], []
            for turn in range(repeats):
                fixed.append(steps.train_all(batch for _ in range(count)))
                real.append(steps.train_all(loader.train_batches(size, turn, 0, count)))
                alone.append(_drain(loader.train_batches(size, turn, 0, 10 * num_steps)) / size)
            ratios = [b / a for a, b in zip(fixed, real, strict=True)]
            print(
                f"{path:<12}{1 / statistics.median(alone):>16.0f}{name:>12}{1e3 * statistics.median(fixed):>16.1f}"
                f"{1e3 * statistics.median(real):>14.1f}{statistics.median(ratios):>8.3f}"
            )


def _drain(batches: Iterable[input_pipeline.Batch]) -> float:
    """Seconds per batch of an input path without a network."""
    started, count = time.perf_counter(), 0
    for batch in batches:
        jax.block_until_ready(batch)
        count += 1
    return (time.perf_counter() - started) / count


if __name__ == "__main__":
    hugepages.restart_with_huge_pages()
    sys.exit(main())
