"""The training state, arrays only, and the optimizer and schedule that it starts from."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import NamedSharding


@struct.dataclass
class TrainState:
    """What a step changes: arrays only, so a state can be stacked, donated, saved. Model and optimizer live in closures."""

    step: jax.Array  # int32 []: steps taken
    params: Any
    batch_stats: Any
    opt_state: Any

    def variables(self) -> dict[str, Any]:
        """What the model is applied with."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def build_schedule(*, schedule: str, learning_rate: float, warmup_steps: int, num_steps: int) -> optax.Schedule:
    """The learning rate as a function of the step: constant or cosine to 0, after a linear warm-up from 0."""
    after = max(1, num_steps - warmup_steps)
    body = optax.cosine_decay_schedule(learning_rate, after) if schedule == "cosine" else optax.constant_schedule(learning_rate)
    warmup = optax.linear_schedule(0.0, learning_rate, max(1, warmup_steps))
    return optax.join_schedules([warmup, body], [warmup_steps])


def build_optimizer(
    *, name: str, learning_rate: float, schedule: str, warmup_steps: int, weight_decay: float, num_steps: int
) -> optax.GradientTransformation:
    """`build_optimizer(**config.optim, num_steps=N)`: adam and sgd as Keras has them (epsilon 1e-7).

    adamw decays kernels only, not biases or BatchNorm.
    """
    rate = build_schedule(schedule=schedule, learning_rate=learning_rate, warmup_steps=warmup_steps, num_steps=num_steps)
    if name == "sgd":
        return optax.sgd(rate, momentum=0.9)
    if name == "adamw":
        return optax.adamw(rate, eps=1e-7, weight_decay=weight_decay, mask=_is_kernel)
    return optax.adam(rate, eps=1e-7)


def _is_kernel(params: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def make_init(model: Any, optimizer: optax.GradientTransformation, image_size: tuple[int, int]) -> Any:
    """`init(key) -> TrainState` at step 0, to be jitted."""

    def init(key: jax.Array) -> TrainState:
        variables = model.init(key, jnp.zeros((1, *image_size, 3)), False)
        params = variables["params"]
        return TrainState(jnp.int32(0), params, variables.get("batch_stats", {}), optimizer.init(params))

    return init


def create(
    model: Any,
    optimizer: optax.GradientTransformation,
    image_size: tuple[int, int],
    seed: int,
    sharding: NamedSharding,
) -> TrainState:
    """A fresh state from `seed`, made in place on the devices of `sharding`: shapes before arrays."""
    init = make_init(model, optimizer, image_size)
    return jax.jit(init, out_shardings=sharding)(jax.random.key(seed))


def abstract(tree: Any) -> Any:
    """Shapes, dtypes and shardings of a tree of device arrays, to restore into."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), tree)


def count_parameters(params: Any) -> int:
    """Number of trainable values."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
