"""Many networks of a search in one program; each is a pure function of its state, batch, key, learning rate and dropout.

On CPU members are unrolled in one jit: vmapped convolutions become grouped ones, which XLA there runs up to 3 times slower, and
loops around convolution gradients are slower still (jax#12868). On accelerators they are stacked and vmapped, narrower ones
zero-padded to the widest; several devices, of one process or of several, take their shares of the stack by `shard_map`, and
only scores and losses are gathered.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec

from poster_jax import config as config_lib
from poster_jax import models
from poster_jax.models.types import PosterModel
from poster_jax.runtime import multihost, sharding
from poster_jax.search.space import Trial
from poster_jax.train import losses, network, optimizers, steps, train_state
from poster_jax.train.train_state import TrainState

# {"learning_rate", "dropout"}: float32 scalars, or [M] for M members.
Hyperparams = dict[str, jax.Array]
# The states of M networks on the devices: a tuple of them, or one with a leading axis [M].
Members: TypeAlias = Any
MemberStep = Callable[[TrainState, steps.Batch, jax.Array, Hyperparams], tuple[TrainState, steps.Sums]]
Tree = TypeVar("Tree")


@dataclasses.dataclass(frozen=True)
class SearchTask:
    """What all members share: config, number of genres, loss, and the steps of a full training (for schedules)."""

    config: config_lib.Config
    num_genres: int
    loss: losses.Loss
    num_steps: int


def build_model(task: SearchTask, widths: Trial, dropout: float | jax.Array) -> PosterModel:
    """The config's network with a trial's widths; `dropout` may be a traced scalar."""
    config = task.config
    blocks = tuple((width, *row[1:]) for width, row in zip(widths.filters, config.model.blocks, strict=True))
    dense = tuple((units, norm, dropout) for units, (_, norm, _) in zip(widths.units, config.model.dense, strict=True))
    fields = {**config.model, "blocks": blocks, "dense": dense}
    return models.build(**fields, num_genres=task.num_genres, precision=config.train.precision)


def _build_optimizer(task: SearchTask, learning_rate: float | jax.Array) -> optax.GradientTransformation:
    return optimizers.build_optimizer(**{**task.config.optim, "learning_rate": learning_rate}, num_steps=task.num_steps)


def make_init(task: SearchTask, widths: Trial) -> Callable[[jax.Array], TrainState]:
    """`init(key) -> TrainState` of a network of these widths, weights drawn with its own fan-in; to be jitted."""
    average = task.config.train.average_decay > 0
    return train_state.make_init(
        build_model(task, widths, 0.0), _build_optimizer(task, 1.0), task.config.data.image_size, average
    )


def make_train_step(task: SearchTask, widths: Trial) -> MemberStep:
    """`step(state, batch, key, rates)`: the step of a single run whose learning rate and dropout are arguments."""

    def train_step(state: TrainState, batch: steps.Batch, key: jax.Array, rates: Hyperparams) -> tuple[TrainState, steps.Sums]:
        model = build_model(task, widths, rates["dropout"])
        step, _ = network.make_steps(model, _build_optimizer(task, rates["learning_rate"]), task.loss, task.config)
        return step(state, batch, key)

    return train_step


def pad_state(state: TrainState, widths: Trial, widest: TrainState) -> TrainState:
    """Zero-pads a host state of `widths` to the shapes of `widest`, which is at least as wide in every layer.

    The zeros stay zero under training: a channel of zeros feeds nothing forward, so nothing comes back to it.
    """

    def pad(path: tuple[Any, ...], leaf: np.ndarray, wide: np.ndarray) -> np.ndarray:
        leaf = np.asarray(leaf)
        if leaf.shape == wide.shape:
            return leaf
        names = [getattr(key, "key", "") for key in path]
        if "Dense_0" in names and leaf.ndim == 2:
            # Its rows are pixels x channels.
            leaf = leaf.reshape(-1, widths.filters[-1], leaf.shape[1])
            channels = wide.shape[0] // leaf.shape[0]
            more = [(0, 0), (0, channels - leaf.shape[1]), (0, wide.shape[1] - leaf.shape[2])]
            return np.pad(leaf, more).reshape(wide.shape)
        return np.pad(leaf, [(0, after - before) for before, after in zip(leaf.shape, wide.shape, strict=True)])

    return jax.tree_util.tree_map_with_path(pad, state, widest)


@dataclasses.dataclass(frozen=True)
class EnsembleStep:
    """Functions over the states of M members.

    Attributes:
        to_device: host states -> members on the devices.
        train: `(members, batch, keys [M], rates) -> (members, {name: (sum [M], count [M])})`; batch arrays are [M, B, ...].
            Donates `members`.
        evaluate: `(members, batch) -> (scores [M, B, K], sums)`; inference mode.
        to_host: members -> host states, on every process.
        local_members: the members that this process trains, None for all; a batch may hold anything for the others.
    """

    to_device: Callable[[Sequence[TrainState]], Members]
    train: Callable[[Members, steps.Batch, jax.Array, Hyperparams], tuple[Members, steps.Sums]]
    evaluate: Callable[[Members, steps.Batch], tuple[jax.Array, steps.Sums]]
    to_host: Callable[[Members], list[TrainState]]
    local_members: np.ndarray | None


def make_unrolled(task: SearchTask, widths: Trial) -> EnsembleStep:
    """Members of equal widths side by side in one jit, each with its own arrays; of several processes all train all."""
    train_step, eval_step = make_train_step(task, widths), _make_eval_step(task, widths)

    def train(
        members: tuple[TrainState, ...], batch: steps.Batch, keys: jax.Array, rates: Hyperparams
    ) -> tuple[tuple[TrainState, ...], steps.Sums]:
        shares = [_member((batch, keys, rates), index) for index in range(len(members))]
        moved = [train_step(state, *share) for state, share in zip(members, shares, strict=True)]
        return tuple(state for state, _ in moved), _stack([sums for _, sums in moved])

    def evaluate(members: tuple[TrainState, ...], batch: steps.Batch) -> tuple[jax.Array, steps.Sums]:
        return _stack([eval_step(state.variables(), _member(batch, index)) for index, state in enumerate(members)])

    def to_device(states: Sequence[TrainState]) -> tuple[TrainState, ...]:
        return tuple(jax.tree.map(jnp.array, state) for state in states)

    def to_host(members: tuple[TrainState, ...]) -> list[TrainState]:
        return jax.device_get(list(members))

    return EnsembleStep(to_device, jax.jit(train, donate_argnums=0), jax.jit(evaluate), to_host, None)


def make_stacked(
    task: SearchTask, widest: Trial, num_members: int, shardings: sharding.Shardings, *, unroll: bool
) -> EnsembleStep:
    """Members of one padded shape along the first axis of every array, cut over the devices.

    Where M does not divide over the devices the last member is repeated; what the repetitions do is dropped.
    """
    train_step, eval_step = make_train_step(task, widest), _make_eval_step(task, widest)
    num_rows = -(-num_members // shardings.mesh.size) * shardings.mesh.size
    rows = np.minimum(np.arange(num_rows), num_members - 1)
    here = rows[sharding.local_slice(num_rows)]

    def each(function: Callable[..., Any]) -> Callable[..., Any]:
        def unrolled(*stacked: Any) -> Any:
            count = len(jax.tree.leaves(stacked)[0])
            return _stack([function(*_member(stacked, index)) for index in range(count)])

        share = PartitionSpec("data")
        mapped = jax.shard_map(
            unrolled if unroll else jax.vmap(function), mesh=shardings.mesh, in_specs=share, out_specs=share, check_vma=False
        )
        return jax.jit(mapped, donate_argnums=0 if function is train_step else ())

    def put(leaf: Any) -> jax.Array:
        is_global = isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
        if is_global or multihost.count() == 1:
            return jax.device_put(leaf[rows], shardings.batch)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(leaf)))
        return jax.make_array_from_process_local_data(shardings.batch, np.asarray(leaf)[here])

    def spread(tree: Tree) -> Tree:
        return jax.tree.map(put, tree)

    @functools.partial(jax.jit, out_shardings=shardings.replicated)
    def only_members(tree: Tree) -> Tree:
        return jax.tree.map(lambda leaf: leaf[:num_members], tree)

    train, evaluate = each(train_step), each(lambda state, batch: eval_step(state.variables(), batch))

    def train_members(
        members: TrainState, batch: steps.Batch, keys: jax.Array, rates: Hyperparams
    ) -> tuple[TrainState, steps.Sums]:
        members, sums = train(members, spread(batch), spread(keys), spread(rates))
        return members, only_members(sums)

    def to_device(states: Sequence[TrainState]) -> TrainState:
        return spread(jax.tree.map(lambda *leaves: np.stack(leaves), *states))

    def to_host(members: TrainState) -> list[TrainState]:
        host = jax.device_get(members if multihost.count() == 1 else only_members(members))
        return [_member(host, index) for index in range(num_members)]

    def evaluate_members(members: TrainState, batch: steps.Batch) -> tuple[jax.Array, steps.Sums]:
        return only_members(evaluate(members, spread(batch)))

    local_members = np.unique(here) if multihost.count() > 1 else None
    return EnsembleStep(to_device, train_members, evaluate_members, to_host, local_members)


def member_bytes(task: SearchTask, widest: Trial, batch: steps.Batch) -> int:
    """Bytes that training one network takes, state included, as the compiler plans them; `batch` is of one member."""
    state = jax.eval_shape(make_init(task, widest), jax.random.key(0))
    rates = {name: jax.ShapeDtypeStruct((), jnp.float32) for name in ("learning_rate", "dropout")}
    compiled = jax.jit(make_train_step(task, widest)).lower(state, batch, jax.random.key(0), rates).compile()
    plan: Any = compiled.memory_analysis()
    return plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes


def _make_eval_step(task: SearchTask, widths: Trial) -> steps.EvalStep:
    return steps.make_eval_step(build_model(task, widths, 0.0), task.loss, mirror=task.config.eval.mirror)


def _member(tree: Tree, index: int) -> Tree:
    return jax.tree.map(lambda leaf: leaf[index], tree)


def _stack(trees: Sequence[Tree]) -> Tree:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
