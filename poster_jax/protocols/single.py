"""One network, trained and measured: posters -> labels -> splits -> state -> fit -> best -> scores beside their floors."""

import io
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax

from poster_jax import baselines, checkpoint, errors, logbook, loop, losses, metrics, models, processes, runtime, samples
from poster_jax import config as config_lib
from poster_jax import state as state_lib
from poster_jax import step as step_lib
from poster_jax import workdir as workdir_lib
from poster_jax.data import catalog, dataset, labels, order
from poster_jax.data import feed as feed_lib
from poster_jax.models import pretrained as pretrained_lib

RunSeed = Callable[[config_lib.Config, int, pathlib.Path, feed_lib.Feed, runtime.StopRequest], dict[str, Any]]


def run(config: config_lib.Config, workdir: pathlib.Path, stop: runtime.StopRequest) -> dict[str, Any]:
    """Trains `config.num_seeds` networks on one split and returns the results; a finished one is only read.

    Raises `UserError` for what the user can mend and `Interrupted` when a signal came; the state is saved then.
    """
    with workdir_lib.opened(workdir, config):
        return run_seeds(config, workdir, open_feed(config, workdir), stop, run_seed)


def open_feed(config: config_lib.Config, workdir: pathlib.Path) -> feed_lib.Feed:
    """The input of a run, told in words and in the workdir's labels.json and refused.csv."""
    shardings = runtime.make_shardings()
    for name in ("train", "eval"):
        runtime.check_batch_size(f"{name}.batch_size", config[name].batch_size, shardings.mesh.size)
    feed = feed_lib.open_feed(config.data, shardings, workdir_lib.recall(workdir, "path"))
    workdir_lib.recall(workdir, "path", (feed.path, feed.why))
    print("\n".join([*dataset.describe(feed.rows), f"input: {feed.path}, because {feed.why}"]), flush=True)
    processes.from_main(lambda: catalog.write_refused(feed.rows.refused, workdir / "refused.csv"))
    auxiliary = feed.rows.summary["auxiliary_genres"]
    about = {"genres": feed.rows.genres, "auxiliary_genres": auxiliary, "encoding": config.data.encoding}
    workdir_lib.write_json(workdir / "labels.json", about)
    return feed


def run_seeds(
    config: config_lib.Config, workdir: pathlib.Path, feed: feed_lib.Feed, stop: runtime.StopRequest, run_one: RunSeed
) -> dict[str, Any]:
    """`run_one` for every seed of the config: in the workdir itself, or for several seeds in folders of it."""
    if config.num_seeds == 1:
        return run_one(config, config.seed, workdir, feed, stop)
    results = []
    for seed in range(config.seed, config.seed + config.num_seeds):
        (workdir / f"seed_{seed}").mkdir(exist_ok=True)
        results.append(run_one(config, seed, workdir / f"seed_{seed}", feed, stop))
    together = {"title": results[0]["title"], "data": results[0]["data"], "seeds": results}
    workdir_lib.write_json(workdir / "results.json", together)
    return together


def run_seed(
    config: config_lib.Config, seed: int, workdir: pathlib.Path, feed: feed_lib.Feed, stop: runtime.StopRequest
) -> dict[str, Any]:
    """One network from one seed: what the module's first line says."""
    cadence = make_cadence(config, len(feed.rows.parts["train"]))
    finished = read_finished(workdir, cadence)
    if finished is not None:
        return finished

    loaded = models.load_pretrained(**config.model)
    model, optimizer, state = start_network(config, config.model, feed, cadence.total, seed, loaded, unfreeze_steps=0)
    eval_step = jax.jit(step_lib.make_eval_step(model, build_loss(config, feed), mirror=config.eval.mirror))
    variables, best_step = train(config, model, optimizer, state, eval_step, feed, cadence, seed, workdir, stop)

    scores = score_all(config, feed, eval_step, variables)
    samples.save(workdir, model, variables, feed, scores["test"])
    results = {
        "title": f"{config.model.name}, {config.loss.name}, seed {seed}",
        "protocol": config.protocol,
        "seed": seed,
        "num_seeds": 1,
        "num_steps": cadence.total,
        "best_step": best_step,
        "body": models.body_fields(model),
        "num_parameters": state_lib.count_parameters(state.params),
        **measure(config, feed, scores, workdir),
    }
    workdir_lib.write_json(workdir / "results.json", results)
    return results


def start_network(
    config: config_lib.Config,
    fields: Mapping[str, Any],
    feed: feed_lib.Feed,
    num_steps: int,
    seed: int,
    loaded: pretrained_lib.Pretrained | None,
    unfreeze_steps: int,
) -> tuple[Any, optax.GradientTransformation, state_lib.TrainState]:
    """(model, optimizer, state) at step 0, from the pretrained weights where there are any; `fields` are a `config.model`."""
    model = models.build(**fields, num_genres=feed.rows.num_outputs, precision=config.train.precision, loaded=loaded)
    optimizer = state_lib.build_optimizer(
        **config.optim, num_steps=num_steps, first_steps=models.first_steps(model, unfreeze_steps)
    )
    state = state_lib.create(
        model,
        optimizer,
        config.data.image_size,
        seed,
        feed.shardings.state,
        keeps_average=config.train.average_decay > 0,
        pretrained=loaded,
    )
    return model, optimizer, state


def read_finished(workdir: pathlib.Path, cadence: loop.Cadence) -> dict[str, Any] | None:
    """The results of a run that has taken all its steps, or None."""
    path = workdir / "results.json"
    results = processes.from_main(lambda: json.loads(path.read_text()) if path.exists() else None)
    return results if results and results["num_steps"] == cadence.total else None


def make_cadence(config: config_lib.Config, num_train: int) -> loop.Cadence:
    """Durations of the config in steps; raises UserError when the training part does not fill one batch."""
    per_epoch = order.steps_per_epoch(num_train, config.train.batch_size)
    if not per_epoch:
        raise errors.UserError(
            f"config.train.batch_size={config.train.batch_size} is more than the {num_train} training rows: use a smaller one."
        )
    return loop.Cadence(
        total=config_lib.to_steps(config.train.num_steps, config.train.num_epochs, per_epoch),
        log=config.train.log_every_steps,
        evaluate=config_lib.to_steps(config.eval.every_steps, config.eval.every_epochs, per_epoch),
        save=config_lib.to_steps(config.checkpoint.every_steps, config.checkpoint.every_epochs, per_epoch),
    )


def build_loss(config: config_lib.Config, feed: feed_lib.Feed) -> losses.Loss:
    """The config's loss, its positive weights from the training part."""
    target = feed.rows.target[feed.rows.parts["train"]]
    counts = labels.genre_counts(target, feed.rows.num_outputs)
    return losses.build(**config.loss, genre_counts=counts, num_rows=len(target))


def train(
    config: config_lib.Config,
    model: Any,
    optimizer: Any,
    state: state_lib.TrainState,
    eval_step: Any,
    feed: feed_lib.Feed,
    cadence: loop.Cadence,
    seed: int,
    workdir: pathlib.Path,
    stop: runtime.StopRequest,
) -> tuple[Any, int]:
    """Fits from `state`, or from the latest checkpoint in `workdir`; returns (variables, step) of the best by validation."""
    step = step_lib.make_train_step(
        model,
        optimizer,
        build_loss(config, feed),
        augment=config.train.augment.to_dict(),
        average_decay=config.train.average_decay,
    )
    fit_feed = feed.sampled_validation(config.eval.validation_steps * config.train.batch_size, seed)
    checkpoints = checkpoint.Checkpoints(workdir)
    try:
        restored = checkpoints.restore_latest(state_lib.abstract(state))
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
        return checkpoints.restore_best(state_lib.abstract(state.variables()))
    finally:
        checkpoints.close()


def score_all(config: config_lib.Config, feed: feed_lib.Feed, eval_step: Any, variables: Any) -> dict[str, np.ndarray]:
    """Scores of all parts in inference mode, alike."""
    return {part: loop.evaluate(eval_step, variables, feed, part, config.eval.batch_size).scores for part in dataset.PARTS}


def measure(
    config: config_lib.Config, feed: feed_lib.Feed, scores: dict[str, np.ndarray], workdir: pathlib.Path
) -> dict[str, Any]:
    """Metrics of the scores beside the colour baseline; writes predictions.npz."""
    save_predictions(workdir, feed.rows, scores)
    return {
        "data": feed.rows.summary,
        "splits": score_parts(config, feed.rows, scores),
        "baselines": color_baseline(config, feed),
    }


def color_baseline(config: config_lib.Config, feed: feed_lib.Feed) -> dict[str, Any]:
    """{name: metrics per part} of the logistic regression on colour histograms; empty where the config wants no baselines."""
    if not config.eval.baselines:
        return {}
    colors = {part: _color_histograms(config, feed, part) for part in dataset.PARTS}
    train_labels = feed.rows.label[feed.rows.parts["train"]]
    fitted = processes.from_main(
        lambda: baselines.logistic_regression(colors["train"], train_labels, colors, len(feed.rows.genres))
    )
    return {"color_histogram_logistic": score_parts(config, feed.rows, fitted)}


def save_predictions(workdir: pathlib.Path, rows: dataset.Dataset, scores: dict[str, np.ndarray]) -> None:
    """Writes predictions.npz: ids, labels and scores of every part."""
    arrays = {}
    for part, at in rows.parts.items():
        arrays[f"{part}_id"] = rows.movie_id[at]
        arrays[f"{part}_label"] = rows.label[at]
        arrays[f"{part}_score"] = scores[part]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    workdir_lib.write_atomic(workdir / "predictions.npz", buffer.getvalue())


def _color_histograms(config: config_lib.Config, feed: feed_lib.Feed, part: str) -> np.ndarray:
    batches = feed.eval_batches(part, config.eval.batch_size)
    return np.concatenate(
        [baselines.color_histograms(loop.gather(batch["image"])[loop.gather(batch["mask"]) > 0]) for batch in batches]
    )


def score_parts(config: config_lib.Config, rows: dataset.Dataset, scores: dict[str, np.ndarray]) -> dict[str, Any]:
    """Every metric of every part, with floors, ceilings and intervals; thresholds are chosen on validation."""
    return processes.from_main(lambda: _score_parts(config, rows, scores))


def _score_parts(config: config_lib.Config, rows: dataset.Dataset, scores: dict[str, np.ndarray]) -> dict[str, Any]:
    label = {part: rows.label[at] for part, at in rows.parts.items()}
    tuned = metrics.choose_thresholds(scores["validation"], label["validation"])
    return {
        part: metrics.score(
            scores[part],
            label[part],
            rows.group[rows.parts[part]],
            genres=rows.genres,
            thresholds={"tuned": tuned},
            train_labels=label["train"],
            num_samples=config.eval.bootstrap_samples,
            seed=config.seed,
        )
        for part in dataset.PARTS
    }
