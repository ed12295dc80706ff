"""What a config costs: steps, bytes, and operations counted from traces; seconds are an estimate from them, and say so.

The rate is not known before a step has been compiled and run. On a CPU it is estimated from a matrix product, measured in a
moment, and the share of its rate that steps of this kind of network had where they were measured; elsewhere a rate is stated.
"""

import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np

from poster_jax import config as config_lib
from poster_jax.data import dataset, feature_files, sampler
from poster_jax.protocols import ablation, search
from poster_jax.runtime import sharding
from poster_jax.search import progress, space
from poster_jax.train import network, operations
from poster_jax.train.run import make_cadence
from poster_jax.workdir import run_files

Select = Callable[[config_lib.Data], dataset.Dataset]
# Of the rate of a matrix product with 1,024 rows and columns, measured on two CPU cores: training and evaluation steps of each
# kind of network. The recipe of MobileNetV2 took 43 to 50 minutes for 92e12 operations on a core of 92e9 a second.
# Logistic regression waits for memory: 7 s for 5,245 rows of 1,280 features, six genres and twenty penalties.
SHARES = {"cnn": (0.8, 1.0), "narrow cnn": (0.23, 0.2), "body": (0.36, 0.36), "probe": (0.07, 0.07)}
ITERATIONS = 15  # of a fit that starts from the one before, in the mean
BODY_FEATURES = 1280  # of the last map of either body
WIDE = 32  # filters of some layer, from which a CNN is not narrow
CPU_FACTOR = 2.5  # the estimate may be off by this factor, either way
STATED_RATE = 5e12  # operations a second of an accelerator in float32, for small convolutions; a guess within STATED_FACTOR
STATED_FACTOR = 5.0
MATRIX_SIDE, MATRIX_SECS = 1024, 0.3


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one config takes.

    Attributes:
        lines: what it does, for its own plan; summary: the same in a phrase.
        work: {kind of SHARES: (operations of training steps, of evaluation steps)}.
        compile_secs: of all its programs.
    """

    lines: tuple[str, ...]
    summary: str
    work: dict[str, tuple[float, float]]
    compile_secs: float
    disk_mb: float
    device_mb: float


def find(config: config_lib.Config, select: Select) -> Cost:
    """The cost of a config of any protocol but `reproduce`; nothing is compiled."""
    return PROTOCOLS[config.protocol](config, select)


def _single(config: config_lib.Config, select: Select) -> Cost:
    rows = select(config.data)
    for name in ("train", "eval"):
        sharding.check_batch_size(f"{name}.batch_size", config[name].batch_size, sharding.make_shardings().mesh.size)
    cadence = make_cadence(config, len(rows.parts["train"]))
    per_epoch = sampler.steps_per_epoch(len(rows.parts["train"]), config.train.batch_size)
    counted = _count(config, rows)
    steps = f"{cadence.total} of {config.train.batch_size} rows ({per_epoch} an epoch)"
    evaluations = max(1, cadence.total // cadence.evaluate)
    evaluated = evaluations * len(rows.parts["validation"]) + len(rows.poster)
    train, evaluate = cadence.total * counted.train, evaluated / config.eval.batch_size * counted.evaluate
    if config.protocol == "transfer":
        head_steps = config_lib.to_steps(0, config.transfer.head_epochs, per_epoch)
        train, evaluate, steps = _transfer(config, rows, counted, (train, evaluate, steps, head_steps))
    state_mb, params_mb = counted.state_bytes / 2**20, counted.params_bytes / 2**20
    return Cost(
        (f"steps: {steps}, {evaluations} evaluations, {config.num_seeds} seed(s), {jax.device_count()} device(s)",),
        f"{steps}, {config.num_seeds} seed(s)",
        {_kind(config): (config.num_seeds * train, config.num_seeds * evaluate)},
        config.num_seeds * 2 * network.COMPILE_SECS[config_lib.kind(config.model.name)],
        config.num_seeds * (2 * state_mb + params_mb),
        state_mb + params_mb,
    )


def _transfer(
    config: config_lib.Config,
    rows: dataset.Dataset,
    counted: operations.StepOperations,
    tuning: tuple[float, float, str, int],
) -> tuple[float, float, str]:
    """(operations of training, of evaluation, the steps in words) with the heads and the features that they see."""
    train, evaluate, steps, head_steps = tuning
    num_heads, num_ranges = len(config.transfer.learning_rates), len(config.transfer.input_ranges)
    features = len(np.unique(rows.poster)) / config.eval.batch_size * counted.evaluate
    # A head through the frozen body takes its forward pass, about a third of a step; on cached features next to nothing.
    heads = 0 if config.transfer.cached else num_heads * head_steps * counted.train / 3
    told = f"{num_heads} head(s) for {head_steps} steps, then {steps}" if config.transfer.tune else f"{num_heads} head(s) for "
    told += "" if config.transfer.tune else f"{head_steps} steps of {config.train.batch_size} rows, and none of the body"
    if num_ranges > 1:
        told = f"{num_ranges} input ranges, each {told}"
    train = train if config.transfer.tune else 0
    return num_ranges * (heads + train), num_ranges * (features + evaluate), told


def _probe(config: config_lib.Config, select: Select) -> Cost:
    rows, run = select(config.data), feature_files.find_run(config.data.features)
    posters, first_rows = np.unique(rows.poster, return_index=True)
    work, compile_secs, columns = {}, 0.0, BODY_FEATURES
    if run is None:
        _, origins = feature_files.read(config.data.features, rows.movie_id[first_rows])
        columns = sum(one.columns for one in origins)
    else:
        own = config_lib.derive(run_files.read_run(run)[0], {"data.image_size": config.data.image_size})
        work["body"] = (0.0, len(posters) / own.eval.batch_size * _count(own, rows).evaluate)
        compile_secs = network.COMPILE_SECS["body"]
    penalties = len(config.probe.inverse_penalties)
    fits = penalties * ITERATIONS * 4 * len(rows.parts["train"]) * columns * len(rows.genres)
    words = f"logistic regression at {penalties} penalties, on features of {config.data.features}"
    disk_mb = 0.0 if run is None else 4 * len(posters) * columns / 2**20
    return Cost((f"probe: {words}",), words, {**work, "probe": (fits, 0.0)}, compile_secs, disk_mb, 0.0)


def _search(config: config_lib.Config, select: Select) -> Cost:
    rows = select(config.data)
    trials = space.draw_trials(config.search, config.seed)
    pool = len(rows.parts["train"]) + len(rows.parts["validation"])
    folds = config.search.num_folds
    plan = search.make_plan(config, pool - -(-pool // folds))
    epochs = progress.count_epochs(config, len(trials), folds)
    counts = [_count(space.with_widths(config, trial), rows) for trial in trials]
    train, evaluate = (float(np.mean([getattr(one, name) for one in counts])) for name in ("train", "evaluate"))
    scored = pool // folds + min(config.search.train_sample, pool)
    one_mb = max(one.state_bytes for one in counts) / 2**20
    words = f"{len(trials)} trials x {folds} folds x {plan.num_epochs} epochs of {plan.steps_per_epoch} steps"
    return Cost(
        (f"search: {words} of {config.train.batch_size} rows, then the best on train + validation",),
        words,
        {
            _kind(config): (
                epochs * plan.steps_per_epoch * train,
                (epochs * scored + len(rows.poster)) / config.eval.batch_size * evaluate,
            )
        },
        4 * network.COMPILE_SECS[config_lib.kind(config.model.name)],
        2 * one_mb * len(trials) * folds,
        2 * one_mb,
    )


def _ablation(config: config_lib.Config, select: Select) -> Cost:
    networks = ablation.make_networks(config, pathlib.Path())
    checked, _ = ablation.check_rows(networks, [None] * len(networks), select)
    costs = [_single(one.config, select) for one in networks]
    lines = [checked]
    lines += [
        f"{one.cell.title}: {cost.summary.partition(', ')[0]}"
        for one, cost in list(zip(networks, costs, strict=True))[:: config.num_seeds]
    ]
    num_cells = len(networks) // config.num_seeds
    lines.append(f"cells: {num_cells} from {config.num_seeds} seed(s) each, {jax.device_count()} device(s)")
    return Cost(
        tuple(lines),
        f"{num_cells} cells from {config.num_seeds} seed(s) each, {costs[0].summary.partition(', ')[0]}",
        _together([cost.work for cost in costs]),
        sum(cost.compile_secs for cost in costs),
        sum(cost.disk_mb for cost in costs) / 2,  # the state of a network that has ended is dropped
        max(cost.device_mb for cost in costs),
    )


PROTOCOLS: dict[str, Callable[[config_lib.Config, Select], Cost]] = {
    "single": _single,
    "transfer": _single,
    "probe": _probe,
    "search": _search,
    "ablation": _ablation,
}
_COUNTED: dict[str, operations.StepOperations] = {}


def _kind(config: config_lib.Config) -> str:
    is_narrow = "blocks" in config.model and max(filters for filters, *_ in config.model.blocks) < WIDE
    return "narrow cnn" if is_narrow else config_lib.kind(config.model.name)


def _count(config: config_lib.Config, rows: dataset.Dataset) -> operations.StepOperations:
    """The counts of a network; those that compute alike are traced once."""
    sizes = [config.data.image_size, config.train.batch_size, config.eval.batch_size, config.eval.mirror, rows.num_outputs]
    alike = json.dumps([config.model.to_dict(), config.optim.to_dict(), config.train.average_decay > 0, *sizes])
    if alike not in _COUNTED:
        _COUNTED[alike] = operations.of_config(config, rows.num_outputs)
    return _COUNTED[alike]


def _together(works: Sequence[dict[str, tuple[float, float]]]) -> dict[str, tuple[float, float]]:
    names = dict.fromkeys(name for work in works for name in work)
    return {name: tuple(map(sum, zip(*(work[name] for work in works if name in work), strict=True))) for name in names}  # type: ignore[misc]


def time_line(costs: Sequence[Cost]) -> str:
    """The time of all together, with its uncertainty, and what it is an estimate from."""
    work = _together([cost.work for cost in costs])
    total = sum(sum(pair) for pair in work.values())
    on_cpu = jax.default_backend() == "cpu"
    rate = measure_rate() if on_cpu else STATED_RATE
    shares = SHARES if on_cpu else dict.fromkeys(SHARES, (1.0, 1.0))
    secs = sum(amount / (rate * share) for name, pair in work.items() for amount, share in zip(pair, shares[name], strict=True))
    compile_secs = sum(cost.compile_secs for cost in costs)
    factor = CPU_FACTOR if on_cpu else STATED_FACTOR
    source = (
        f"{total:.2g} operations (counted) at {total / secs / 1e9:.0f} GFLOP/s, the share of a matrix product's "
        f"{rate / 1e9:.0f} (measured) that such steps had elsewhere"
        if on_cpu
        else f"{total:.2g} operations (counted) at {rate / 1e12:g} TFLOP/s (stated, not measured)"
    )
    minutes = [secs / factor / 60, (secs + compile_secs) / 60, (factor * (secs + compile_secs)) / 60]
    low, about, high = map(_minutes, minutes)
    return (
        f"time: about {about}, from {low} to {high}: an estimate from {source}, "
        f"with about {compile_secs:.0f} s of compilation; reading the pictures, baselines and intervals come on top"
    )


def _minutes(minutes: float) -> str:
    if minutes >= 120:
        return f"{minutes / 60:.1f} hours"
    return f"{minutes:.0f} minutes" if minutes >= 10 else f"{minutes:.1f} minutes"


def measure_rate() -> float:
    """Operations a second of a float32 matrix product on this CPU, as numpy does it."""
    matrix = np.ones((MATRIX_SIDE, MATRIX_SIDE), np.float32)
    np.matmul(matrix, matrix)
    began, number = time.perf_counter(), 0
    while (secs := time.perf_counter() - began) < MATRIX_SECS:
        np.matmul(matrix, matrix)
        number += 1
    return 2 * MATRIX_SIDE**3 * number / secs
