"""`fit` and `evaluate`: the only two loops over batches."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from poster_jax import errors
from poster_jax.data import dataset, input_pipeline
from poster_jax.metrics import scoring
from poster_jax.runtime import multihost, preemption
from poster_jax.train import evaluate
from poster_jax.train import run as run_lib
from poster_jax.train.train_state import TrainState
from poster_jax.workdir import logbook
from poster_jax.workdir.checkpoint import Checkpoints


@dataclasses.dataclass(frozen=True)
class Run:
    """What training needs besides its state: functions, input, durations, and where things are written."""

    train_step: Callable[..., Any]
    eval_step: Callable[..., Any]
    feed: input_pipeline.Loader
    key: jax.Array
    seed: int
    batch_size: int
    eval_batch_size: int
    eval_parts: tuple[str, ...]
    best_metric: str
    cadence: run_lib.Cadence
    checkpoints: Checkpoints
    log: logbook.Logbook
    stop: preemption.StopRequest


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
        result = evaluate.evaluate(run.eval_step, state.variables(), run.feed, part, run.eval_batch_size, run.stop)
        if not np.isfinite(result.scores).all():
            raise errors.Diverged(step)
        values = multihost.from_main(functools.partial(_measure, run.feed.rows, part, result))
        if part == "validation":
            best, value = multihost.from_main(run.checkpoints.best_value), values[run.best_metric]
            if value is not None and (best is None or value > best):
                run.checkpoints.save_best(step, state.variables(), value)
        run.log.metrics(step, name, values)
        run.log.timing("evaluate", step=step, secs=time.perf_counter() - started)


def _measure(rows: dataset.Dataset, part: str, result: evaluate.Evaluation) -> dict[str, Any]:
    return {**result.means, **scoring.headline(result.scores, rows.label[rows.parts[part]])}


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
