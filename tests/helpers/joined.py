"""`python -m tests.helpers.joined FOLDER WORKDIR STEPS`: one process of several resumes the run in WORKDIR, up to STEPS.

It writes to FOLDER what it sees and does. `tests/runtime/test_multiprocess.py` starts it, and does the same by itself.
"""

import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from flax import linen as nn

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.data import input_pipeline
from poster_jax.protocols import search, single
from poster_jax.runtime import distributed, multihost, preemption, sharding
from poster_jax.search import groups
from poster_jax.train import evaluate, losses, optimizers, steps, train_state
from poster_jax.train import features as features_lib
from poster_jax.workdir import run_files

ROOT = pathlib.Path(__file__).resolve().parents[2]
NUM_STEPS, BATCH_SIZE, SEED = 20, 12, 3
CONFIG = f"{ROOT}/configs/cnn_onehot.py:smoke"
# Dropout and BatchNorm on; every step has a line and an evaluation.
OVERRIDES = {
    "model.blocks": "((4, 3, 2, True, 0.25), (6, 3, 2, True, 0.0))",
    "model.dense": "((8, False, 0.5),)",
    "train.num_epochs": "0.0",
    "train.log_every_steps": "1",
    "train.augment.flip": "True",
    "checkpoint.every_epochs": "0.0",
    "checkpoint.every_steps": "4",
    "eval.every_epochs": "0.0",
    "eval.every_steps": "1",
    "eval.bootstrap_samples": "5",
}


class Network(nn.Module):
    """BatchNorm, dropout, and a body that may be frozen; small enough to compile in a second."""

    num_genres: int
    input_range: tuple[float, float] = (-1.0, 1.0)
    pooling: str = "avg"

    def setup(self) -> None:
        # A bias in front of BatchNorm has no gradient but rounding, which Adam makes steps of.
        self.stem, self.norm = nn.Conv(8, (3, 3), strides=4, use_bias=False), nn.BatchNorm(momentum=0.9)
        self.drop, self.head = nn.Dropout(0.4), nn.Dense(self.num_genres)

    def features(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        last_map = nn.relu(self.norm(self.stem(x), use_running_average=not train))
        return last_map, last_map.mean((1, 2))

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return self.head(self.drop(self.features(x, train)[1], deterministic=not train))


def open_feed(path: str, shardings: sharding.Shardings) -> input_pipeline.Loader:
    config = config_lib.load(CONFIG)
    return input_pipeline.open_loader(config.data, shardings, (path, "the test asks for it"))


def read(feed: input_pipeline.Loader) -> dict[str, np.ndarray]:
    """Batches of three training steps and of the test part, as all processes together hold them."""
    batches = [*feed.train_batches(BATCH_SIZE, SEED, 4, 7), *feed.eval_batches("test", BATCH_SIZE)]
    return {name: np.stack([evaluate.gather(batch[name]) for batch in batches]) for name in batches[0]}


def make_train(feed: input_pipeline.Loader) -> Callable[[], dict[str, np.ndarray]]:
    """A training from scratch: the loss of every step, and test scores and their loss afterwards."""
    model = Network(feed.rows.num_outputs)
    counts = np.ones(feed.rows.num_outputs)
    loss = losses.build(**config_lib.base().loss, genre_counts=counts, num_rows=len(feed.rows.target))
    optimizer = optimizers.build_optimizer(
        name="adam", learning_rate=0.01, schedule="constant", warmup_steps=0, weight_decay=0.0, num_steps=NUM_STEPS
    )
    flip = {**config_lib.base().train.augment, "flip": True}
    step = jax.jit(steps.make_train_step(model, optimizer, loss, augment=flip), donate_argnums=0)
    eval_step = jax.jit(steps.make_eval_step(model, loss))

    def train() -> dict[str, np.ndarray]:
        state = train_state.create(model, optimizer, feed.image_size, SEED, feed.shardings.state)
        told = []
        for batch in feed.train_batches(BATCH_SIZE, SEED, 0, NUM_STEPS):
            state, sums = step(state, batch, jax.random.key(SEED))
            told.append(float(sums["loss"][0]) / float(sums["loss"][1]))
        result = evaluate.evaluate(eval_step, state.variables(), feed, "test", batch_size=BATCH_SIZE)
        return {"loss": np.array(told), "test_score": result.scores, "test_loss": np.array(result.means["loss"])}

    return train


def extract(feed: input_pipeline.Loader, folder: pathlib.Path) -> np.ndarray:
    """Features of every poster, from a network whose weights all processes draw alike."""
    model = Network(feed.rows.num_outputs)
    variables = model.init(jax.random.key(SEED), np.zeros((1, *feed.image_size, 3), np.float32), False)
    return features_lib.extract(model, jax.device_get(variables), feed, BATCH_SIZE, str(folder)).array


def find(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Losses and scores of every trial on every fold, and test scores of the best one: four networks at once, then one."""
    # Plain gradient steps: Adam makes steps of the rounding that is the gradient of a bias in front of BatchNorm.
    overrides = {"search.vectorize": "all", "train.num_epochs": "7", "optim.name": "sgd", "model.dense": "((96, True, 0.3),)"}
    config = config_lib.load(f"{ROOT}/configs/search_cnn.py:smoke", [*overrides.items(), ("eval.baselines", "False")])
    workdir = folder / "search"
    with pytest.MonkeyPatch.context() as patch:
        # It compiles the widest network to see how much memory it takes.
        patch.setattr(groups, "choose_group", lambda *_: ("4", "the test asks for it"))
        table = search.run(config, workdir, preemption.StopRequest())["search"]
    with np.load(workdir / "predictions.npz") as arrays:
        found = {name: arrays[f"test_{name}"] for name in ("id", "score")}
    return {
        "search_folds": np.array([trial["folds"] for trial in table["trials"]]),
        "search_loss": np.array([line["loss"] for line in run_files.read_lines(workdir)]),
        "search_id": found["id"],
        "search_score": found["score"],
    }


def observe(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """All of it, by name; `same_rows` is what must not be: every process reads the rows of process 0."""
    shardings = sharding.make_shardings()
    resident, streaming = open_feed("resident", shardings), open_feed("streaming", shardings)
    seen: dict[str, Any] = {"features": extract(resident, folder / "features"), **find(folder)}
    for path, feed in (("resident", resident), ("streaming", streaming)):
        seen |= {f"{path}_{name}": value for name, value in read(feed).items()}
    train = make_train(resident)
    seen |= train()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "local_slice", lambda size: slice(0, size // multihost.count()))
        return seen | {f"same_rows_{name}": value for name, value in train().items()}


def run(workdir: pathlib.Path, num_steps: int) -> None:
    """The run of `arguments`, in this process."""
    config = config_lib.load(CONFIG, [*OVERRIDES.items(), ("train.num_steps", str(num_steps))])
    single.run(config, workdir, preemption.StopRequest())


def arguments(workdir: pathlib.Path, num_steps: int) -> list[str]:
    """The command line of a run."""
    overrides = {**OVERRIDES, "train.num_steps": str(num_steps)}
    flags = [f"--config.{key}={value}" for key, value in overrides.items()]
    return ["-m", "poster_jax.main", f"--config={CONFIG}", *flags, f"--workdir={workdir}"]


def main(folder: pathlib.Path, workdir: pathlib.Path, num_steps: int) -> None:
    distributed.initialize()
    run(workdir, num_steps)
    seen = observe(folder)
    try:
        multihost.from_main(lambda: refuse(f"process {multihost.index()}"))
    except errors.UserError as error:
        seen["refused"] = np.array(str(error))
    seen["agreed"] = np.array([multihost.all_agree(True), multihost.all_agree(multihost.is_main())])
    arrays: Any = seen
    np.savez(folder / f"process_{multihost.index()}.npz", **arrays)
    multihost.wait()


def refuse(told: str) -> None:
    raise errors.UserError(told)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3]))
