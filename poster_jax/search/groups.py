"""The training loop of a search: a group of networks that train together, epoch by epoch, from its latest snapshot."""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from poster_jax import errors
from poster_jax.data import input_pipeline, sampler
from poster_jax.metrics import scoring
from poster_jax.runtime import multihost, preemption, sharding
from poster_jax.search import ensemble, snapshots, space, workers
from poster_jax.search.space import Trial
from poster_jax.train import steps

# Share of a device's memory that networks may plan with.
MEMORY_SHARE = 0.8
# (positions of rows [M, B], mask float32 [M, B]) of batches.
Rows = Iterator[tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Member:
    """One network: a trial on a fold, with positions [n] of its training rows, its validation rows, a sample of the former."""

    trial: Trial
    fold: int
    train: np.ndarray
    validation: np.ndarray
    sample: np.ndarray


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long members train; every fold takes as many steps an epoch, so that members stay in step."""

    steps_per_epoch: int
    num_epochs: int
    save_epochs: int


@dataclasses.dataclass(frozen=True)
class GroupContext:
    """What a group needs besides its members; `on_epoch_end(group, records)` is called after every epoch."""

    task: ensemble.SearchTask
    loader: input_pipeline.Loader
    plan: Plan
    stop: preemption.StopRequest
    on_epoch_end: Callable[["Group", Sequence[snapshots.Record]], None]


@dataclasses.dataclass(frozen=True)
class Group:
    """Members and the functions that move them; `widest` is what they are padded to, None where they are not."""

    members: list[Member]
    step: ensemble.EnsembleStep
    widest: Trial | None

    def names(self) -> list[tuple[int, int]]:
        """(trial, fold) of every member, both counted from 0."""
        return [(member.trial.number, member.fold) for member in self.members]


def train(
    group: Group, end_epoch: int, path: pathlib.Path, start: Callable[[], snapshots.Snapshot], context: GroupContext
) -> tuple[list[snapshots.Record], ensemble.Members]:
    """Trains from the snapshot at `path`, or where there is none from `start()`, to the end of an epoch.

    Returns the records and the members on the devices. A snapshot is saved before evaluation every `plan.save_epochs`, and at
    `end_epoch` unless the training ends there. Raises `Interrupted`, with a snapshot saved, when `context.stop` has received
    a signal.
    """
    per_epoch, last = context.plan.steps_per_epoch, end_epoch * context.plan.steps_per_epoch
    snapshot = multihost.from_main(lambda: snapshots.load_snapshot(path) or start())
    step, names, records, losses = snapshot.step, snapshot.names, snapshot.records, snapshot.losses
    structure = jax.tree.structure(jax.eval_shape(ensemble.make_init(context.task, group.members[0].trial), jax.random.key(0)))
    members = group.step.to_device([structure.unflatten(leaves) for leaves in snapshot.leaves])
    keys, rates = _keys(group.members, context.task.config.seed), _rates(group.members)
    clock = time.perf_counter()
    pending: list[tuple[jax.Array, jax.Array]] = []

    def save(step: int) -> None:
        nonlocal clock, losses
        losses, clock = _drain(losses, pending), _share_time(records, clock)
        leaves = [jax.tree.leaves(state) for state in group.step.to_host(members)]
        snapshots.save_snapshot(path, snapshots.Snapshot(step, names, leaves, records, losses))

    with context.stop.deferred():
        for batch in _train_batches(group, context, step, last):
            if step % per_epoch == 0 and len(records[0].history) < step // per_epoch:
                losses = _close_epoch(group, members, records, losses / per_epoch, context)
            if batch is None:
                break
            members, sums = group.step.train(members, batch, keys, rates)
            pending.append(sums["loss"])
            step += 1
            if step % per_epoch == 0:
                losses = _drain(losses, pending)
                epoch = step // per_epoch
                if epoch < context.plan.num_epochs and (epoch % context.plan.save_epochs == 0 or epoch == end_epoch):
                    save(step)
            try:
                context.stop.check()
            except errors.Interrupted as interrupted:
                save(step)
                raise errors.Interrupted(f"{interrupted} at step {step} of {last}") from None
    _share_time(records, clock)
    return records, members


def make_group(members: list[Member], task: ensemble.SearchTask, widest: Trial | None, shardings: sharding.Shardings) -> Group:
    """Members padded to `widest` and stacked, or of equal widths side by side."""
    if widest is None:
        return Group(members, ensemble.make_unrolled(task, members[0].trial), None)
    unroll = jax.default_backend() == "cpu"
    return Group(members, ensemble.make_stacked(task, widest, len(members), shardings, unroll=unroll), widest)


def begin(group: Group, task: ensemble.SearchTask) -> snapshots.Snapshot:
    """Networks at step 0: each from a key of its own, drawn at its own widths, then padded where the group is."""
    states, inits = [], {}
    for member in group.members:
        if member.trial not in inits:
            inits[member.trial] = jax.jit(ensemble.make_init(task, member.trial))
        states.append(jax.device_get(inits[member.trial](member_key(member, task.config.seed, 0))))
    if group.widest is not None:
        shapes = jax.eval_shape(ensemble.make_init(task, group.widest), jax.random.key(0))
        states = [ensemble.pad_state(state, member.trial, shapes) for state, member in zip(states, group.members, strict=True)]
    records = [snapshots.Record([], np.zeros((0, 0), np.float32), 0.0) for _ in states]
    return snapshots.Snapshot(0, group.names(), [jax.tree.leaves(state) for state in states], records, np.zeros(len(states)))


def gather(group: Group, paths: dict[tuple[int, int], pathlib.Path]) -> snapshots.Snapshot:
    """Assembles the group's snapshot from the earlier snapshots that hold its members."""
    names = group.names()
    parts = {path: snapshots.load_snapshot(path) for path in {paths[name] for name in names}}
    leaves, records, losses, step = [], [], [], 0
    for name in names:
        part = parts[paths[name]]
        if part is None:
            raise FileNotFoundError(paths[name])
        index, step = part.names.index(name), part.step
        leaves.append(part.leaves[index])
        records.append(part.records[index])
        losses.append(part.losses[index])
    return snapshots.Snapshot(step, names, leaves, records, np.array(losses))


def _keys(members: Sequence[Member], seed: int) -> jax.Array:
    return jnp.stack([member_key(member, seed, 1) for member in members])


def member_key(member: Member, seed: int, purpose: int) -> jax.Array:
    """A key of one network: purpose 0 draws its weights, 1 its dropout and augmentation."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), member.trial.number), member.fold)
    return jax.random.fold_in(key, purpose)


def _rates(members: Sequence[Member]) -> ensemble.Hyperparams:
    return {
        name: jnp.array([getattr(member.trial, name) for member in members], jnp.float32)
        for name in ("learning_rate", "dropout")
    }


def _train_batches(group: Group, context: GroupContext, start: int, end: int) -> Iterator[steps.Batch | None]:
    """Batches of steps start .. end - 1 with arrays [M, B, ...], then None; all trials of a fold see the same ones."""
    config, per_epoch, members = context.task.config, context.plan.steps_per_epoch, group.members
    size = config.train.batch_size

    mask = np.ones((len(members), size), np.float32)

    def plan() -> Rows:
        for step in range(start, end):
            epoch, index = divmod(step, per_epoch)
            here = slice(index * size, (index + 1) * size)
            orders = [sampler.epoch_order(len(member.train), config.seed, epoch)[here] for member in members]
            yield np.stack([member.train[at] for member, at in zip(members, orders, strict=True)]), mask

    yield from _batches(context.loader, plan, group.step.local_members)
    yield None


def _batches(loader: input_pipeline.Loader, plan: Callable[[], Rows], local_members: np.ndarray | None) -> Iterator[Any]:
    """Batches of the rows that a plan names; it is walked twice, because tf.data reads it from a thread of its own.

    Where `local_members` names members, only their posters are read; the other ones stay black.
    """
    read = slice(None) if local_members is None or loader.on_device else local_members
    images = loader.images(loader.rows.poster[rows[read].reshape(-1)] for rows, _ in plan())
    for (rows, mask), image in zip(plan(), images, strict=True):
        image = image.reshape(*rows[read].shape, *image.shape[1:])
        if len(image) < len(rows):
            whole = np.zeros((len(rows), *image.shape[1:]), np.uint8)
            whole[read] = image
            image = whole
        yield {"image": image, "label": loader.rows.label[rows], "mask": mask}


def score(
    group: Group, members: ensemble.Members, parts: Sequence[np.ndarray], loader: input_pipeline.Loader, size: int
) -> list[tuple[np.ndarray, float]]:
    """(scores [n, K], mean loss) of each member on rows of its own, in inference mode; `parts` holds positions per member."""
    longest = max(len(part) for part in parts)
    padded = [np.pad(part, (0, longest - len(part)), mode="edge") for part in parts]
    real = np.stack([np.arange(longest) < len(part) for part in parts]).astype(np.float32)
    columns = sampler.padded_positions(longest, size)
    rows = np.stack(padded)
    scores, losses, counts = [], np.zeros(len(parts)), np.zeros(len(parts))
    for batch in _batches(
        loader, lambda: ((rows[:, at], real[:, at] * mask) for at, mask in columns), group.step.local_members
    ):
        batch_scores, sums = group.step.evaluate(members, batch)
        total, count = (np.asarray(value, np.float64) for value in sums["loss"])
        scores.append(np.asarray(batch_scores))
        losses, counts = losses + total, counts + count
    joined = np.concatenate(scores, axis=1)
    return [(joined[index, : len(part)], losses[index] / counts[index]) for index, part in enumerate(parts)]


def _close_epoch(
    group: Group, members: ensemble.Members, records: list[snapshots.Record], losses: np.ndarray, context: GroupContext
) -> np.ndarray:
    """Scores every member on its validation part and its sample and adds the epoch to its record; returns losses of zero.

    Args:
        losses: mean training losses [M] of the epoch.
    """
    epoch = len(records[0].history) + 1
    size, label = context.task.config.eval.batch_size, context.loader.rows.label
    entries: list[dict[str, Any]] = [{"epoch": epoch, "train": {}, "validation": {}} for _ in records]
    for part, name in (("sample", "train"), ("validation", "validation")):
        rows = [getattr(member, part) for member in group.members]
        if not all(len(positions) for positions in rows):
            continue
        scored = score(group, members, rows, context.loader, size)
        for entry, record, positions, (scores, loss) in zip(entries, records, rows, scored, strict=True):
            entry[name] = _values(scores, label[positions], loss)
            if name == "validation":
                record.scores = scores
    for record, entry, loss in zip(records, entries, losses, strict=True):
        record.history.append({**entry, "loss": _finite(loss)})
    context.on_epoch_end(group, records)
    return np.zeros(len(records))


def _values(scores: np.ndarray, label: np.ndarray, loss: float) -> dict[str, float | None]:
    """Headline metrics and loss; None for all where a network has diverged to scores that are not numbers."""
    if np.isfinite(scores).all():
        return {"loss": _finite(loss), **scoring.headline(scores, label)}
    return {"loss": None, **dict.fromkeys(scoring.HEADLINES)}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _drain(losses: np.ndarray, pending: list[tuple[jax.Array, jax.Array]]) -> np.ndarray:
    """Adds mean losses [M] of the steps taken, in their order; waits for the devices."""
    for total, count in pending:
        losses = losses + np.asarray(total, np.float64) / np.asarray(count, np.float64)
    pending.clear()
    return losses


def _share_time(records: list[snapshots.Record], since: float) -> float:
    """Adds the time since then to the members, in equal parts; returns the time now."""
    now = time.perf_counter()
    for record in records:
        record.secs += (now - since) / len(records)
    return now


def choose_vectorize(asked: str) -> tuple[str, str]:
    """(none, folds or all; the reason): `auto` is what was measured to be fastest on this kind of device."""
    if asked == workers.PROCESSES:
        return "folds", "processes train a trial each"
    if asked != "auto":
        return asked, "the config asks for it"
    if jax.default_backend() != "cpu" or len(jax.devices()) > 1:
        return "all", "several devices, or an accelerator, are kept busy by many networks only"
    return "folds", "a trial's folds side by side were measured on CPU at 0.71 to 0.99 of the time of one after another"


def choose_group(
    task: ensemble.SearchTask, trials: list[Trial], vectorize: str, loader: input_pipeline.Loader, num_workers: int = 1
) -> tuple[str, str]:
    """(most networks in one program, why): as many as fit beside each other, by the compiler's plan for the widest one.

    Each of `num_workers` processes has an equal share of the memory.

    Raises `UserError` when not even one fits.
    """
    config, rows = task.config, loader.rows
    size = config.train.batch_size
    batch: Any = {
        "image": jax.ShapeDtypeStruct((size, *config.data.image_size, 3), np.uint8),
        "label": jax.ShapeDtypeStruct((size, *rows.label.shape[1:]), rows.label.dtype),
        "mask": jax.ShapeDtypeStruct((size,), np.float32),
    }
    needed_mb = ensemble.member_bytes(task, space.widest(trials), batch) / 2**20
    room_mb = (config.search.memory_mb or MEMORY_SHARE * input_pipeline.memory_mb()) / num_workers
    if loader.on_device:
        room_mb -= len(np.unique(rows.poster)) * int(np.prod(config.data.image_size)) * 3 / 2**20
    wanted = {"none": 1, "folds": config.search.num_folds, "all": config.search.num_folds * len(trials)}[vectorize]
    fitting = int(room_mb / needed_mb) * (loader.shardings.mesh.size if vectorize == "all" else 1)
    if fitting < 1:
        raise errors.UserError(
            f"one network of this search needs {needed_mb:.0f} MB and there are {room_mb:.0f} MB: "
            "use a smaller train.batch_size, narrower ranges, or more search.memory_mb."
        )
    message = f"{needed_mb:.0f} MB a network, {room_mb:.0f} MB of room on a device"
    if fitting >= wanted:
        return str(wanted), f"{message}: {wanted} at a time, as asked for"
    return str(fitting), f"{message}: {wanted} do not fit together, so {fitting} at a time"
