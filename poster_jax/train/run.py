"""One training run: what every stage reads and none changes."""

import dataclasses
import pathlib

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.data import input_pipeline, sampler
from poster_jax.runtime import preemption


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
class Run:
    """One seed of one config; a variant is `dataclasses.replace(run, ...)`.

    Attributes:
        seed: of initial weights, order of examples, dropout and augmentation.
        workdir: this seed's folder.
        loader: rows, labels and batches.
        cadence: durations in steps.
        stop: asks for the end of training when a signal came.
    """

    config: config_lib.Config
    seed: int
    workdir: pathlib.Path
    loader: input_pipeline.Loader
    cadence: Cadence
    stop: preemption.StopRequest

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of the training part."""
        return sampler.steps_per_epoch(len(self.loader.rows.parts["train"]), self.config.train.batch_size)


def make_cadence(config: config_lib.Config, num_train: int) -> Cadence:
    """Durations of the config in steps.

    Raises UserError when the training part does not fill one batch, and when no weight would move.
    """
    per_epoch = sampler.steps_per_epoch(num_train, config.train.batch_size)
    if not per_epoch:
        raise errors.UserError(
            f"config.train.batch_size={config.train.batch_size} is more than the {num_train} training rows: use a smaller one."
        )
    total = config_lib.to_steps(config.train.num_steps, config.train.num_epochs, per_epoch)
    if config.optim.accumulate_steps > total:
        raise errors.UserError(
            f"config.optim.accumulate_steps={config.optim.accumulate_steps} is more than the {total} steps of the run, so no "
            "weight would move: use a smaller one, or train for longer."
        )
    return Cadence(
        total=total,
        log=config.train.log_every_steps,
        evaluate=config_lib.to_steps(config.eval.every_steps, config.eval.every_epochs, per_epoch),
        save=config_lib.to_steps(config.checkpoint.every_steps, config.checkpoint.every_epochs, per_epoch),
    )
