"""`fit` and `evaluate`: the only two loops over batches."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from poster_jax import errors, logbook, metrics, processes, runtime
from poster_jax.checkpoint import Checkpoints
from poster_jax.data import dataset
from poster_jax.data import feed as feed_lib
from poster_jax.state import TrainState


@dataclasses.dataclass(frozen=True)
class Cadence:
    """When things happen, in steps; `total` is also a moment for each of them."""

    total: int
    log: int
    evaluate: int
    save: int

    def is_due(self, every: int, step: int) -> bool:
        """True at multiples of `every` and at the last step."""
        return step % every == 0 or step == self.total


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """All rows of one part: scores float32 [N, K], and means over rows such as {"loss": 0.5}."""

    scores: np.ndarray
    means: dict[str, float]


def evaluate(
    eval_step: Callable[..., Any],
    variables: dict[str, Any],
    feed: feed_lib.Feed,
    part: str,
    batch_size: int,
    stop: runtime.StopRequest | None = None,
) -> Evaluation:
    """Scores [N, K] of every row of a part, in the order of the part; padding is dropped by its mask, nothing else is.

    Raises `Interrupted` between batches when `stop` has been asked for.
    """
    scores, masks, window = [], [], logbook.Window()
    for batch in feed.eval_batches(part, batch_size):
        if stop is not None:
            stop.check()
        batch_scores, sums = eval_step(variables, batch)
        window.add(sums)
        scores.append(batch_scores)
        masks.append(batch["mask"])
    measured = len(feed.rows.genres)
    kept = np.concatenate([gather(mask) for mask in masks]) > 0
    return Evaluation(np.concatenate([gather(part_scores) for part_scores in scores])[kept, :measured], window.take_means())


def gather(array: jax.Array | np.ndarray) -> np.ndarray:
    """A global array as numpy on every process."""
    if isinstance(array, np.ndarray) or array.is_fully_addressable:
        return np.asarray(array)
    return multihost_utils.process_allgather(array, tiled=True)


@dataclasses.dataclass(frozen=True)
class Run:
    """What training needs besides its state: functions, input, durations, and where things are written."""

    train_step: Callable[..., Any]
    eval_step: Callable[..., Any]
    feed: feed_lib.Feed
    key: jax.Array
    seed: int
    batch_size: int
    eval_batch_size: int
    eval_parts: tuple[str, ...]
    best_metric: str
    cadence: Cadence
    checkpoints: Checkpoints
    log: logbook.Logbook
    stop: runtime.StopRequest


def fit(state: TrainState, window_sums: dict[str, list[float]], run: Run) -> TrainState:
    """Trains from `state.step` to `cadence.total`: step, log, save, evaluate, in this order at every step.

    Saving comes before evaluation, so that an evaluation that fails loses nothing. Raises `Interrupted`, with the state
    saved, when `run.stop` has been asked for.
    """
    cadence, log = run.cadence, run.log
    start = saved = int(state.step)
    window = logbook.Window(window_sums)
    clock = _Clock(log, run.batch_size)
    with run.stop.deferred():
        try:
            if start and cadence.is_due(cadence.evaluate, start):
                _validate(run, start, state)
            batches = run.feed.train_batches(run.batch_size, run.seed, start, cadence.total)
            for step, batch in enumerate(batches, start + 1):
                state, sums = run.train_step(state, batch, run.key)
                window.add(sums)
                clock.stepped(step, sums)
                save_due, evaluate_due = cadence.is_due(cadence.save, step), cadence.is_due(cadence.evaluate, step)
                if save_due or evaluate_due or cadence.is_due(cadence.log, step):
                    log.metrics(step, "train", window.take_means())
                    clock.report(step)
                    log.advance(step)
                if save_due:
                    run.checkpoints.save(step, state, window.sums())
                    saved = step
                if evaluate_due:
                    _validate(run, step, state)
                if save_due or evaluate_due:
                    clock.restart(step)
                run.stop.check()
        except errors.Interrupted as interrupted:
            step = int(state.step)
            if saved != step or not step:
                run.checkpoints.save(step, state, window.sums())
            raise errors.Interrupted(f"{interrupted} at step {step} of {cadence.total}") from None
    return state


def _validate(run: Run, step: int, state: TrainState) -> None:
    """Scores the parts asked for, keeps the weights if they are the best on validation, and writes the lines not yet there.

    Raises `Diverged` for scores that are not finite.
    """
    for part in run.eval_parts:
        # Training rows scored in inference mode are another thing than the losses of training steps.
        name = "train_inference" if part == "train" else part
        if run.log.has(step, name):
            continue
        started = time.perf_counter()
        result = evaluate(run.eval_step, state.variables(), run.feed, part, run.eval_batch_size, run.stop)
        if not np.isfinite(result.scores).all():
            raise errors.Diverged(step)
        values = processes.from_main(functools.partial(_measure, run.feed.rows, part, result))
        if part == "validation":
            best, value = processes.from_main(run.checkpoints.best_value), values[run.best_metric]
            if value is not None and (best is None or value > best):
                run.checkpoints.save_best(step, state.variables(), value)
        run.log.metrics(step, name, values)
        run.log.timing("evaluate", step=step, secs=time.perf_counter() - started)


def _measure(rows: dataset.Dataset, part: str, result: Evaluation) -> dict[str, Any]:
    return {**result.means, **metrics.headline(result.scores, rows.label[rows.parts[part]])}


class _Clock:
    """Images per second of the train step alone: compilation, evaluation and saving are left out."""

    def __init__(self, log: logbook.Logbook, batch_size: int) -> None:
        self._log, self._batch_size = log, batch_size
        self._since, self._step, self._began = None, 0, time.perf_counter()

    def stepped(self, step: int, sums: Any) -> None:
        if self._since is None:
            jax.block_until_ready(sums)
            self._log.timing("first step, with compilation", secs=time.perf_counter() - self._began)
            self.restart(step)

    def report(self, step: int) -> None:
        if self._since is not None and step > self._step:
            rate = (step - self._step) * self._batch_size / (time.perf_counter() - self._since)
            self._log.timing("train", step=step, images_per_sec=rate)
        self.restart(step)

    def restart(self, step: int) -> None:
        self._since, self._step = time.perf_counter(), step
