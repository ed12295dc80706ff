"""From a config to a network that trains: model, optimizer, loss, state and steps. The only place where they meet."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import optax

from poster_jax import config as config_lib
from poster_jax import models
from poster_jax.data import dataset, labels
from poster_jax.models import pretrained as pretrained_lib
from poster_jax.models.types import PosterModel
from poster_jax.runtime import alive, tracing
from poster_jax.train import losses, optimizers, steps, train_state
from poster_jax.train.run import Run

Step = TypeVar("Step", bound=Callable[..., Any])
COMPILE_SECS = {"cnn": 5.0, "body": 20.0}  # of a train step, by `config.kind`, on two CPU cores


@dataclasses.dataclass(frozen=True)
class Network:
    """A model with all that trains it; nothing in it knows a file.

    Attributes:
        state: at step 0, placed by the run's shardings.
        train_step: jitted; it donates the state that it is given.
        eval_step: jitted, in inference mode.
        pretrained: what the state began with; None for drawn weights.
    """

    model: PosterModel
    optimizer: optax.GradientTransformation
    loss: losses.Loss
    state: train_state.TrainState
    train_step: steps.TrainStep
    eval_step: steps.EvalStep
    pretrained: pretrained_lib.Pretrained | None = None

    def origin(self) -> dict[str, Any]:
        """What results.json says of the start: the settings that came with the weights, and where they came from."""
        weights = self.pretrained.origin() if self.pretrained else None
        return {"body": models.body_fields(self.model), "weights": weights}


def build(run: Run, *, pretrained: pretrained_lib.Pretrained | None = None, unfreeze_steps: int = 0) -> Network:
    """The network of `run.config` from `run.seed`; pretrained weights replace the arrays that they have.

    Args:
        unfreeze_steps: the stages of a pretrained body open over so many steps, the last one first.
    Raises:
        UserError: weights or sizes that do not fit.
    """
    config, rows = run.config, run.loader.rows
    model = models.build(**config.model, num_genres=rows.num_outputs, precision=config.train.precision, loaded=pretrained)
    optimizer = optimizers.build_optimizer(
        **config.optim, num_steps=run.cadence.total, first_steps=models.first_steps(model, unfreeze_steps)
    )
    with alive.doing("making the network"):
        state = train_state.create(
            model,
            optimizer,
            config.data.image_size,
            run.seed,
            run.loader.shardings.state,
            keeps_average=config.train.average_decay > 0,
            pretrained=pretrained,
        )
    loss = build_loss(config, rows)
    train_step, eval_step = make_steps(model, optimizer, loss, config)
    secs = COMPILE_SECS[config_lib.kind(config.model.name)]
    compiled = announced(jax.jit(train_step, donate_argnums=0), "compiling the train step", secs)
    compiled = tracing.traced(compiled, run.workdir / tracing.FOLDER)
    return Network(model, optimizer, loss, state, compiled, jax.jit(eval_step), pretrained)


def announced(step: Step, what: str, about_secs: float) -> Step:
    """The same function, whose first call, which compiles it, says so while it lasts."""
    called: list[bool] = []

    def call(*arguments: Any) -> Any:
        if called:
            return step(*arguments)
        called.append(True)
        with alive.doing(what, about_secs):
            return jax.block_until_ready(step(*arguments))

    return call  # type: ignore[return-value]


def build_loss(config: config_lib.Config, rows: dataset.Dataset) -> losses.Loss:
    """The config's loss, its positive weights from the training part."""
    target = rows.target[rows.parts["train"]]
    return losses.build(**config.loss, genre_counts=labels.genre_counts(target, rows.num_outputs), num_rows=len(target))


def make_steps(
    model: PosterModel, optimizer: optax.GradientTransformation, loss: losses.Loss, config: config_lib.Config
) -> tuple[steps.TrainStep, steps.EvalStep]:
    """The two steps of a config, pure and not jitted, so that a search can call them with traced hyperparameters."""
    train_step = steps.make_train_step(
        model,
        optimizer,
        loss,
        augment=config.train.augment.to_dict(),
        average_decay=config.train.average_decay,
        log_accuracy=config.train.log_accuracy,
    )
    return train_step, steps.make_eval_step(model, loss, mirror=config.eval.mirror)
