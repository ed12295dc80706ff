"""What a config would do, before anything starts: examples, steps, bytes, and the time that a few real steps point to."""

import dataclasses
import json
import pathlib
import time

import jax
import numpy as np

from poster_jax import config as config_lib
from poster_jax import errors, models
from poster_jax.data import builder, dataset, input_pipeline, resident, sampler
from poster_jax.protocols import ablation
from poster_jax.runtime import preemption, sharding
from poster_jax.train import network
from poster_jax.train import run as run_lib

TIMED_STEPS = 3


def describe(config: config_lib.Config) -> str:
    """The plan as text. Reads the catalog and times a few steps on blank posters; writes nothing."""
    if config.protocol in ("search", "reproduce"):
        raise errors.UserError(
            f"--plan is for one network or an ablation; config.protocol={config.protocol} trains many, and its progress says "
            "how long it takes."
        )
    if config.protocol == "ablation":
        return describe_ablation(config)
    data = config.data
    source = dataset.open_source(data, builder.preview_source)
    rows = dataset.select(source, data)
    path, why = input_pipeline.choose_path(data.path, len(source.table), data.image_size)
    shardings = sharding.make_shardings()
    cost = _estimate(config, rows, shardings, {})
    timed = cost.timed
    lines = [
        *rows.describe(),
        f"steps: {cost.num_steps} of {config.train.batch_size} rows ({cost.per_epoch} an epoch), "
        f"{cost.evaluations} evaluations, {config.num_seeds} seed(s), {shardings.mesh.size} device(s)",
        f"input: {path}, because {why}",
        f"disk: {resident.num_bytes(len(source.table), data.image_size) / 2**20:.0f} MB packed posters, "
        f"{timed['state_mb'] * 2 + timed['params_mb']:.0f} MB checkpoints a seed",
        f"device: {timed['state_mb'] + timed['params_mb']:.0f} MB state and gradients, "
        f"{resident.num_bytes(len(rows.poster), data.image_size) / 2**20 if path == 'resident' else 0:.0f} MB posters",
        f"time: about {config.num_seeds * cost.minutes:.1f} minutes ({timed['compile_secs']:.0f} s compilation, "
        f"{cost.train_secs:.0f} s training, {cost.eval_secs:.0f} s evaluation a seed), without preparing the posters and the "
        "baselines",
    ]
    return "\n".join(lines)


def describe_ablation(config: config_lib.Config) -> str:
    """The plan of every cell; networks that compute alike are timed once."""
    shardings = sharding.make_shardings()
    networks = ablation.make_networks(config, pathlib.Path())
    checked, selected = ablation.check_rows(networks, [None] * len(networks), builder.preview_source)
    timed: dict[str, dict[str, float]] = {}
    lines_of_cells, minutes, disk_mb = [], 0.0, 0.0
    for cell_run in networks[:: config.num_seeds]:
        cost = _estimate(cell_run.config, selected[ablation.data_key(cell_run.config)], shardings, timed)
        steps = f"{cost.num_steps} steps of {cell_run.config.train.batch_size} rows"
        lines_of_cells.append(f"{cell_run.cell.title}: {steps}, about {cost.minutes:.1f} minutes a seed")
        minutes += config.num_seeds * cost.minutes
        disk_mb += config.num_seeds * cost.timed["params_mb"]
    lines = [
        *next(iter(selected.values())).describe(),
        checked,
        *lines_of_cells,
        f"cells: {len(lines_of_cells)} from {config.num_seeds} seed(s) each, {shardings.mesh.size} device(s)",
        f"disk: {disk_mb:.0f} MB weights",
        f"time: about {minutes:.1f} minutes, without preparing the posters and the baselines",
    ]
    return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class StepCost:
    """What one network takes; `timed` holds the measured seconds and megabytes that it is computed from."""

    num_steps: int
    per_epoch: int
    evaluations: int
    train_secs: float
    eval_secs: float
    timed: dict[str, float]

    @property
    def minutes(self) -> float:
        return (self.timed["compile_secs"] + self.train_secs + self.eval_secs) / 60


def _estimate(
    config: config_lib.Config, rows: dataset.Dataset, shardings: sharding.Shardings, known: dict[str, dict[str, float]]
) -> StepCost:
    """The cost of one network; `known` keeps what was timed, by what the time depends on."""
    for name in ("train", "eval"):
        sharding.check_batch_size(f"{name}.batch_size", config[name].batch_size, shardings.mesh.size)
    per_epoch = sampler.steps_per_epoch(len(rows.parts["train"]), config.train.batch_size)
    total = config_lib.to_steps(config.train.num_steps, config.train.num_epochs, per_epoch)
    evaluations = max(1, total // config_lib.to_steps(config.eval.every_steps, config.eval.every_epochs, per_epoch))
    parts = [config.model.to_dict(), config.train.to_dict(), config.eval.to_dict()]
    alike = json.dumps([*parts, config.data.image_size, config.optim.name])
    if alike not in known:
        known[alike] = _time_steps(config, rows, shardings, total)
    num_eval = evaluations * len(rows.parts["validation"]) + len(rows.poster)
    eval_secs = num_eval / config.eval.batch_size * known[alike]["eval_step_secs"]
    train_secs = total * known[alike]["train_step_secs"]
    return StepCost(total, per_epoch, evaluations, train_secs, eval_secs, known[alike])


def _time_steps(
    config: config_lib.Config, rows: dataset.Dataset, shardings: sharding.Shardings, total: int
) -> dict[str, float]:
    """Seconds of compilation and of one step of each kind, and megabytes of the state."""
    loader = input_pipeline.Loader(
        rows, resident.make_host_stream(np.zeros((0, 1, 1, 3), np.uint8)), config.data.image_size, shardings, False, "", ""
    )
    cadence = run_lib.Cadence(total=total, log=total, evaluate=total, save=total)
    run = run_lib.Run(config, config.seed, pathlib.Path(), loader, cadence, preemption.StopRequest())
    net = network.build(run, pretrained=models.load_pretrained(**config.model))
    state = net.state
    megabytes = {
        f"{name}_mb": sum(leaf.nbytes for leaf in jax.tree.leaves(tree) if hasattr(leaf, "nbytes")) / 2**20
        for name, tree in (("state", state), ("params", state.params))
    }
    train_batch = _blank_batch(rows, config.train.batch_size, config.data.image_size, shardings)
    eval_batch = _blank_batch(rows, config.eval.batch_size, config.data.image_size, shardings)
    key = jax.random.key(config.seed)

    started = time.perf_counter()
    state, _ = net.train_step(state, train_batch, key)
    jax.block_until_ready((state, net.eval_step(state.variables(), eval_batch)))
    compile_secs = time.perf_counter() - started
    started = time.perf_counter()
    for _ in range(TIMED_STEPS):
        state, _ = net.train_step(state, train_batch, key)
        jax.block_until_ready(state)
    train_secs = (time.perf_counter() - started) / TIMED_STEPS
    started = time.perf_counter()
    for _ in range(TIMED_STEPS):
        jax.block_until_ready(net.eval_step(state.variables(), eval_batch))
    eval_secs = (time.perf_counter() - started) / TIMED_STEPS
    return {"compile_secs": compile_secs, "train_step_secs": train_secs, "eval_step_secs": eval_secs, **megabytes}


def _blank_batch(
    rows: dataset.Dataset, batch_size: int, image_size: tuple[int, int], shardings: sharding.Shardings
) -> input_pipeline.Batch:
    local = len(range(batch_size)[sharding.local_slice(batch_size)])
    batch = {
        "image": np.zeros((local, *image_size, 3), np.uint8),
        "label": np.zeros((local, *rows.target.shape[1:]), rows.target.dtype),
        "mask": np.ones(local, np.float32),
    }
    arrays = sharding.put_batch(batch, shardings.batch)
    return input_pipeline.Batch(image=arrays["image"], label=arrays["label"], mask=arrays["mask"])
