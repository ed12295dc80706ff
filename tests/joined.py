"""`python -m tests.joined FOLDER`: what one process of several sees, does and is told, written to FOLDER.

`tests/test_multiprocess.py` starts it, and does the same in its own process.
"""

import pathlib
import sys
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from poster_jax import config as config_lib
from poster_jax import errors, features, loop, losses, processes, runtime
from poster_jax import state as state_lib
from poster_jax import step as step_lib
from poster_jax.data import feed as feed_lib

ROOT = pathlib.Path(__file__).resolve().parents[1]
NUM_STEPS, BATCH_SIZE, SEED = 20, 12, 3


class Network(nn.Module):
    """BatchNorm, dropout, and a body that may be frozen; small enough to compile in a second."""

    num_genres: int
    input_range: tuple[float, float] = (-1.0, 1.0)
    pooling: str = "avg"

    def setup(self) -> None:
        self.stem, self.norm = nn.Conv(8, (3, 3), strides=4), nn.BatchNorm(momentum=0.9)
        self.drop, self.head = nn.Dropout(0.4), nn.Dense(self.num_genres)

    def features(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        last_map = nn.relu(self.norm(self.stem(x), use_running_average=not train))
        return last_map, last_map.mean((1, 2))

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return self.head(self.drop(self.features(x, train)[1], deterministic=not train))


def open_feed(path: str, shardings: runtime.Shardings) -> feed_lib.Feed:
    config = config_lib.load(f"{ROOT}/configs/cnn_onehot.py:smoke")
    return feed_lib.open_feed(config.data, shardings, (path, "the test asks for it"))


def read(feed: feed_lib.Feed) -> dict[str, np.ndarray]:
    """Batches of three training steps and of the test part, as all processes together hold them."""
    batches = [*feed.train_batches(BATCH_SIZE, SEED, 4, 7), *feed.eval_batches("test", BATCH_SIZE)]
    return {name: np.stack([loop.gather(batch[name]) for batch in batches]) for name in batches[0]}


def train(feed: feed_lib.Feed) -> dict[str, np.ndarray]:
    """The loss of every step, and test scores and their loss afterwards."""
    model = Network(feed.rows.num_outputs)
    counts = np.ones(feed.rows.num_outputs)
    loss = losses.build(**config_lib.base().loss, genre_counts=counts, num_rows=len(feed.rows.target))
    optimizer = state_lib.build_optimizer(
        name="adam", learning_rate=0.01, schedule="constant", warmup_steps=0, weight_decay=0.0, num_steps=NUM_STEPS
    )
    state = state_lib.create(model, optimizer, feed.image_size, SEED, feed.shardings.state)
    flip = {**config_lib.base().train.augment, "flip": True}
    step = jax.jit(step_lib.make_train_step(model, optimizer, loss, augment=flip), donate_argnums=0)
    told = []
    for batch in feed.train_batches(BATCH_SIZE, SEED, 0, NUM_STEPS):
        state, sums = step(state, batch, jax.random.key(SEED))
        told.append(float(sums["loss"][0]) / float(sums["loss"][1]))
    result = loop.evaluate(jax.jit(step_lib.make_eval_step(model, loss)), state.variables(), feed, "test", BATCH_SIZE)
    return {"loss": np.array(told), "test_score": result.scores, "test_loss": np.array(result.means["loss"])}


def extract(feed: feed_lib.Feed, folder: pathlib.Path) -> np.ndarray:
    """Features of every poster, from a network whose weights all processes draw alike."""
    model = Network(feed.rows.num_outputs)
    variables = model.init(jax.random.key(SEED), np.zeros((1, *feed.image_size, 3), np.float32), False)
    return features.extract(model, jax.device_get(variables), feed, BATCH_SIZE, str(folder)).array


def observe(shardings: runtime.Shardings, folder: pathlib.Path) -> dict[str, np.ndarray]:
    """All of it, by name."""
    resident, streaming = open_feed("resident", shardings), open_feed("streaming", shardings)
    seen: dict[str, Any] = {"features": extract(resident, folder)}
    for path, feed in (("resident", resident), ("streaming", streaming)):
        seen |= {f"{path}_{name}": value for name, value in read(feed).items()}
    return seen | train(resident)


def main(folder: pathlib.Path) -> None:
    runtime.initialize()
    shardings = runtime.make_shardings()
    seen = observe(shardings, folder / "features")
    try:
        processes.from_main(lambda: refuse(f"process {processes.index()}"))
    except errors.UserError as error:
        seen["refused"] = np.array(str(error))
    seen["agreed"] = np.array([processes.all_agree(True), processes.all_agree(processes.is_main())])
    # What must not be: every process reads the rows of process 0.
    runtime.local_slice = lambda size: slice(0, size // processes.count())
    seen |= {f"same_rows_{name}": value for name, value in train(open_feed("resident", shardings)).items()}
    np.savez(folder / f"process_{processes.index()}.npz", **seen)
    processes.wait()


def refuse(told: str) -> None:
    raise errors.UserError(told)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
