"""The training state, arrays only, and the optimizer and schedule that it starts from."""

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import NamedSharding

from poster_jax.models import pretrained as pretrained_lib
from poster_jax.models.types import Params, PosterModel, Variables

Tree = TypeVar("Tree")


@struct.dataclass
class TrainState:
    """What a step changes: arrays only, so a state can be stacked, donated, saved. Model and optimizer live in closures."""

    step: jax.Array  # int32 []: steps taken
    params: Params
    batch_stats: Params
    opt_state: optax.OptState
    average: Params | None  # moving average of params, or None where none is kept

    def variables(self) -> Variables:
        """What the model is evaluated with: the averaged weights where they are kept."""
        return {"params": self.params if self.average is None else self.average, "batch_stats": self.batch_stats}


def make_init(
    model: PosterModel, optimizer: optax.GradientTransformation, image_size: tuple[int, int], keeps_average: bool
) -> Callable[[jax.Array], TrainState]:
    """`init(key) -> TrainState` at step 0, to be jitted."""

    def init(key: jax.Array) -> TrainState:
        variables = model.init(key, jnp.zeros((1, *image_size, 3)), False)
        params = variables["params"]
        average = jax.tree.map(jnp.copy, params) if keeps_average else None
        return TrainState(jnp.int32(0), params, variables.get("batch_stats", {}), optimizer.init(params), average)

    return init


def create(
    model: PosterModel,
    optimizer: optax.GradientTransformation,
    image_size: tuple[int, int],
    seed: int,
    sharding: NamedSharding,
    *,
    keeps_average: bool = False,
    pretrained: pretrained_lib.Pretrained | None = None,
) -> TrainState:
    """A fresh state from `seed`, made in place on the devices of `sharding`: shapes before arrays.

    Pretrained weights replace those that they have; UserError when they do not fit.
    """
    init = make_init(model, optimizer, image_size, keeps_average)
    state = jax.jit(init, out_shardings=sharding)(jax.random.key(seed))
    if pretrained is None:
        return state
    return with_variables(state, pretrained_lib.merge({"params": state.params, "batch_stats": state.batch_stats}, pretrained))


def with_variables(state: TrainState, variables: Variables) -> TrainState:
    """The state with other weights and statistics; an average, where one is kept, starts from a copy of them."""
    params = variables["params"]
    average = None if state.average is None else jax.tree.map(jnp.copy, params)
    return dataclasses.replace(state, params=params, batch_stats=variables["batch_stats"], average=average)


def abstract(tree: Tree) -> Tree:
    """Shapes, dtypes and shardings of a tree of device arrays, to restore into."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), tree)
