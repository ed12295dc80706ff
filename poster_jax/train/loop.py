"""The training loop: step, log, save, evaluate, from the latest checkpoint to the best weights."""

import contextlib
import dataclasses
import functools
import time
from typing import NamedTuple

import jax
import numpy as np

from poster_jax import errors
from poster_jax.data import dataset
from poster_jax.metrics import chance, scoring
from poster_jax.models.types import Variables
from poster_jax.runtime import alive, multihost
from poster_jax.train import evaluate, steps, train_state
from poster_jax.train.network import Network
from poster_jax.train.run import Run
from poster_jax.train.train_state import TrainState
from poster_jax.workdir import checkpoint, logbook


class Best(NamedTuple):
    """The weights and statistics that were best on validation, and the step at which they were."""

    variables: Variables
    step: int


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Where a fit writes."""

    checkpoints: checkpoint.Checkpoints
    log: logbook.Logbook


def fit(run: Run, network: Network) -> Best:
    """Trains from `network.state`, or from the latest checkpoint in `run.workdir`, to `run.cadence.total`.

    Raises `Interrupted`, with the state saved, when `run.stop` has received a signal, and `UserError` for a workdir that is
    beyond the last step.
    """
    config = run.config
    num_validation = config.eval.validation_steps * config.train.batch_size
    run = dataclasses.replace(run, loader=run.loader.sampled_validation(num_validation, run.seed))
    with contextlib.closing(checkpoint.Checkpoints(run.workdir)) as checkpoints:
        state, begun, window = network.state, 0, {}
        restored = checkpoints.restore_latest(train_state.abstract(state))
        if restored is not None:
            state, begun, window = restored
            if begun > run.cadence.total:
                raise errors.UserError(f"this run is at step {begun}, beyond the {run.cadence.total} asked for: ask for more.")
        log = logbook.Logbook(run.workdir, last_step=begun, total_steps=run.cadence.total, tensorboard=config.train.tensorboard)
        with contextlib.closing(log):
            log.say(f"seed {run.seed}: step {begun} of {run.cadence.total}, {run.loader.shardings.mesh.size} device(s)")
            state = take_steps(state, window, run, network, Outputs(checkpoints, log))
        return Best(*checkpoints.restore_best(train_state.abstract(state.variables())))


def take_steps(
    state: TrainState, window_sums: dict[str, list[float]], run: Run, network: Network, outputs: Outputs
) -> TrainState:
    """Trains from `state.step` to `cadence.total`: step, log, save, evaluate, in this order at every step.

    Saving comes before evaluation, so that an evaluation that fails loses nothing. Raises `Interrupted`, with the state
    saved, when `run.stop` has received a signal.
    """
    cadence, log, batch_size = run.cadence, outputs.log, run.config.train.batch_size
    start = saved = int(state.step)
    key = jax.random.key(run.seed)
    window = logbook.Window(window_sums)
    clock = _Clock(log, batch_size)
    with run.stop.deferred(), alive.doing(lambda: f"training: step {clock.taken} of {cadence.total}"):
        try:
            if start and cadence.is_due(cadence.evaluate, start):
                _validate(start, state, run, network, outputs)
            batches = run.loader.train_batches(batch_size, run.seed, start, cadence.total)
            for step, batch in enumerate(batches, start + 1):
                state, sums = network.train_step(state, batch, key)
                window.add(sums)
                clock.stepped(step, sums)
                save_due, evaluate_due = cadence.is_due(cadence.save, step), cadence.is_due(cadence.evaluate, step)
                if save_due or evaluate_due or cadence.is_due(cadence.log, step):
                    log.metrics(step, "train", window.take_means())
                    clock.report(step)
                    log.advance(step)
                if save_due:
                    outputs.checkpoints.save(step, state, window.sums())
                    saved = step
                if evaluate_due:
                    _validate(step, state, run, network, outputs)
                if save_due or evaluate_due:
                    clock.restart(step)
                run.stop.check()
        except errors.Interrupted as interrupted:
            step = int(state.step)
            if saved != step or not step:
                outputs.checkpoints.save(step, state, window.sums())
            raise errors.Interrupted(f"{interrupted} at step {step} of {cadence.total}") from None
    return state


def _validate(step: int, state: TrainState, run: Run, network: Network, outputs: Outputs) -> None:
    """Scores the parts of `config.eval.parts`, keeps the weights if they are the best on validation, writes missing lines.

    Raises `Diverged` for scores that are not finite.
    """
    config = run.config.eval
    for part in config.parts:
        # Training rows scored in inference mode are another thing than the losses of training steps.
        name = "train_inference" if part == "train" else part
        if outputs.log.has(step, name):
            continue
        started = time.perf_counter()
        result = evaluate.evaluate(
            network.eval_step, state.variables(), run.loader, part, batch_size=config.batch_size, stop=run.stop
        )
        if not np.isfinite(result.scores).all():
            raise errors.Diverged(step)
        values = multihost.from_main(functools.partial(_measure, run.loader.rows, part, result))
        if part == "validation":
            best, value = multihost.from_main(outputs.checkpoints.best_value), values[config.best_metric]
            if value is not None and (best is None or value > best):
                outputs.checkpoints.save_best(step, state.variables(), value)
        by_chance = chance.levels(result.scores, run.loader.rows.label[run.loader.rows.parts[part]])
        outputs.log.metrics(step, name, values, by_chance)
        outputs.log.timing("evaluate", step=step, secs=time.perf_counter() - started)


def _measure(rows: dataset.Dataset, part: str, result: evaluate.Evaluation) -> dict[str, float | None]:
    return {**result.means, **scoring.headline(result.scores, rows.label[rows.parts[part]])}


class _Clock:
    """Images per second of the train step alone: compilation, evaluation and saving are left out."""

    def __init__(self, log: logbook.Logbook, batch_size: int) -> None:
        self._log, self._batch_size = log, batch_size
        self._since, self._step, self._began = None, 0, time.perf_counter()
        self.taken = 0

    def stepped(self, step: int, sums: steps.Sums) -> None:
        self.taken = step
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
