"""What the protocols share: opening the data, seeds one after another, fitting."""

import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

from poster_jax import config as config_lib
from poster_jax import errors, models
from poster_jax.data import catalog, dataset, input_pipeline, labels, sampler
from poster_jax.models import pretrained
from poster_jax.runtime import multihost, preemption, sharding, storage
from poster_jax.train import loop, losses, optimizers, steps, train_state
from poster_jax.train import run as run_lib
from poster_jax.workdir import checkpoint, logbook, run_folder

RunSeed = Callable[[config_lib.Config, int, pathlib.Path, input_pipeline.Loader, preemption.StopRequest], dict[str, Any]]


def open_loader(config: config_lib.Config, workdir: pathlib.Path) -> input_pipeline.Loader:
    """The input of a run, told in words and in the workdir's labels.json and refused.csv."""
    shardings = sharding.make_shardings()
    for name in ("train", "eval"):
        sharding.check_batch_size(f"{name}.batch_size", config[name].batch_size, shardings.mesh.size)
    feed = input_pipeline.open_loader(config.data, shardings, run_folder.remember_choice(workdir, "path"))
    run_folder.remember_choice(workdir, "path", (feed.path, feed.why))
    print("\n".join([*dataset.describe(feed.rows), f"input: {feed.path}, because {feed.why}"]), flush=True)
    multihost.from_main(lambda: catalog.write_refused(feed.rows.refused, workdir / "refused.csv"))
    auxiliary = feed.rows.summary["auxiliary_genres"]
    about = {"genres": feed.rows.genres, "auxiliary_genres": auxiliary, "encoding": config.data.encoding}
    storage.write_json(workdir / "labels.json", about)
    return feed


def run_seeds(
    config: config_lib.Config,
    workdir: pathlib.Path,
    feed: input_pipeline.Loader,
    stop: preemption.StopRequest,
    run_one: RunSeed,
) -> dict[str, Any]:
    """`run_one` for every seed of the config: in the workdir itself, or for several seeds in folders of it."""
    if config.num_seeds == 1:
        return run_one(config, config.seed, workdir, feed, stop)
    results = []
    for seed in range(config.seed, config.seed + config.num_seeds):
        (workdir / f"seed_{seed}").mkdir(exist_ok=True)
        results.append(run_one(config, seed, workdir / f"seed_{seed}", feed, stop))
    together = {"title": results[0]["title"], "data": results[0]["data"], "seeds": results}
    storage.write_json(workdir / "results.json", together)
    return together


def start_network(
    config: config_lib.Config,
    fields: config_lib.Model | Mapping[str, Any],
    feed: input_pipeline.Loader,
    num_steps: int,
    seed: int,
    loaded: pretrained.Pretrained | None,
    unfreeze_steps: int,
) -> tuple[Any, optax.GradientTransformation, train_state.TrainState]:
    """(model, optimizer, state) at step 0, from the pretrained weights where there are any; `fields` are a `config.model`."""
    model = models.build(**fields, num_genres=feed.rows.num_outputs, precision=config.train.precision, loaded=loaded)
    optimizer = optimizers.build_optimizer(
        **config.optim, num_steps=num_steps, first_steps=models.first_steps(model, unfreeze_steps)
    )
    state = train_state.create(
        model,
        optimizer,
        config.data.image_size,
        seed,
        feed.shardings.state,
        keeps_average=config.train.average_decay > 0,
        pretrained=loaded,
    )
    return model, optimizer, state


def read_finished(workdir: pathlib.Path, cadence: run_lib.Cadence) -> dict[str, Any] | None:
    """The results of a run that has taken all its steps, or None."""
    path = workdir / "results.json"
    results = multihost.from_main(lambda: json.loads(path.read_text()) if path.exists() else None)
    return results if results and results["num_steps"] == cadence.total else None


def make_cadence(config: config_lib.Config, num_train: int) -> run_lib.Cadence:
    """Durations of the config in steps; raises UserError when the training part does not fill one batch."""
    per_epoch = sampler.steps_per_epoch(num_train, config.train.batch_size)
    if not per_epoch:
        raise errors.UserError(
            f"config.train.batch_size={config.train.batch_size} is more than the {num_train} training rows: use a smaller one."
        )
    return run_lib.Cadence(
        total=config_lib.to_steps(config.train.num_steps, config.train.num_epochs, per_epoch),
        log=config.train.log_every_steps,
        evaluate=config_lib.to_steps(config.eval.every_steps, config.eval.every_epochs, per_epoch),
        save=config_lib.to_steps(config.checkpoint.every_steps, config.checkpoint.every_epochs, per_epoch),
    )


def build_loss(config: config_lib.Config, feed: input_pipeline.Loader) -> losses.Loss:
    """The config's loss, its positive weights from the training part."""
    target = feed.rows.target[feed.rows.parts["train"]]
    counts = labels.genre_counts(target, feed.rows.num_outputs)
    return losses.build(**config.loss, genre_counts=counts, num_rows=len(target))


def train(
    config: config_lib.Config,
    model: Any,
    optimizer: Any,
    state: train_state.TrainState,
    eval_step: Any,
    feed: input_pipeline.Loader,
    cadence: run_lib.Cadence,
    seed: int,
    workdir: pathlib.Path,
    stop: preemption.StopRequest,
) -> tuple[Any, int]:
    """Fits from `state`, or from the latest checkpoint in `workdir`; returns (variables, step) of the best by validation."""
    step = steps.make_train_step(
        model,
        optimizer,
        build_loss(config, feed),
        augment=config.train.augment.to_dict(),
        average_decay=config.train.average_decay,
    )
    fit_feed = feed.sampled_validation(config.eval.validation_steps * config.train.batch_size, seed)
    checkpoints = checkpoint.Checkpoints(workdir)
    try:
        restored = checkpoints.restore_latest(train_state.abstract(state))
        window: dict[str, list[float]] = {}
        if restored is not None:
            state, last_step, window = restored
            if last_step > cadence.total:
                raise errors.UserError(f"this run is at step {last_step}, beyond the {cadence.total} asked for: ask for more.")
        begun = int(state.step)
        log = logbook.Logbook(workdir, last_step=begun, total_steps=cadence.total, tensorboard=config.train.tensorboard)
        log.say(f"seed {seed}: step {begun} of {cadence.total}, {feed.shardings.mesh.size} device(s)")
        try:
            run = loop.Run(
                train_step=jax.jit(step, donate_argnums=0),
                eval_step=eval_step,
                feed=fit_feed,
                key=jax.random.key(seed),
                seed=seed,
                batch_size=config.train.batch_size,
                eval_batch_size=config.eval.batch_size,
                eval_parts=config.eval.parts,
                best_metric=config.eval.best_metric,
                cadence=cadence,
                checkpoints=checkpoints,
                log=log,
                stop=stop,
            )
            state = loop.fit(state, window, run)
        finally:
            log.close()
        return checkpoints.restore_best(train_state.abstract(state.variables()))
    finally:
        checkpoints.close()
