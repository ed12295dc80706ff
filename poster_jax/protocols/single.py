"""One network, trained and measured: posters -> labels -> splits -> state -> fit -> best -> scores beside their floors."""

import io
import json
import pathlib
from typing import Any

import jax
import numpy as np

from poster_jax import baselines, checkpoint, errors, logbook, loop, metrics, models, runtime
from poster_jax import config as config_lib
from poster_jax import state as state_lib
from poster_jax import step as step_lib
from poster_jax import workdir as workdir_lib
from poster_jax.data import catalog, dataset, order
from poster_jax.data import feed as feed_lib


def run(config: config_lib.Config, workdir: pathlib.Path, stop: runtime.StopRequest) -> dict[str, Any]:
    """Trains `config.num_seeds` networks on one split and returns the results; a finished one is only read.

    Raises `UserError` for what the user can mend and `Interrupted` when a signal came; the state is saved then.
    """
    with workdir_lib.opened(workdir, config):
        shardings = runtime.make_shardings()
        for name in ("train", "eval"):
            runtime.check_batch_size(f"{name}.batch_size", config[name].batch_size, shardings.mesh.size)
        feed = feed_lib.open_feed(config.data, shardings, workdir_lib.recall(workdir, "path"))
        workdir_lib.recall(workdir, "path", (feed.path, feed.why))
        print("\n".join([*dataset.describe(feed.rows), f"input: {feed.path}, because {feed.why}"]), flush=True)
        catalog.write_refused(feed.rows.refused, workdir / "refused.csv")
        workdir_lib.write_json(workdir / "labels.json", {"genres": feed.rows.genres, "encoding": config.data.encoding})

        if config.num_seeds == 1:
            return run_seed(config, config.seed, workdir, feed, stop)
        results = []
        for seed in range(config.seed, config.seed + config.num_seeds):
            (workdir / f"seed_{seed}").mkdir(exist_ok=True)
            results.append(run_seed(config, seed, workdir / f"seed_{seed}", feed, stop))
        together = {"title": results[0]["title"], "data": results[0]["data"], "seeds": results}
        workdir_lib.write_json(workdir / "results.json", together)
        return together


def run_seed(
    config: config_lib.Config, seed: int, workdir: pathlib.Path, feed: feed_lib.Feed, stop: runtime.StopRequest
) -> dict[str, Any]:
    """One network from one seed: what the module's first line says."""
    cadence = make_cadence(config, len(feed.rows.parts["train"]))
    results_path = workdir / "results.json"
    if results_path.exists():
        results = json.loads(results_path.read_text())
        if results["num_steps"] == cadence.total:
            return results

    model = models.build(**config.model, num_genres=len(feed.rows.genres), precision=config.train.precision)
    optimizer = state_lib.build_optimizer(**config.optim, num_steps=cadence.total)
    state = state_lib.create(model, optimizer, config.data.image_size, seed, feed.shardings.state)
    train_step = jax.jit(
        step_lib.make_train_step(model, optimizer, loss=config.train.loss, augment=config.train.augment.to_dict()),
        donate_argnums=0,
    )
    eval_step = jax.jit(step_lib.make_eval_step(model, loss=config.train.loss))

    checkpoints = checkpoint.Checkpoints(workdir)
    try:
        restored = checkpoints.restore_latest(state_lib.abstract(state))
        window: dict[str, list[float]] = {}
        if restored is not None:
            state, last_step, window = restored
            if last_step > cadence.total:
                raise errors.UserError(f"this run is at step {last_step}, beyond the {cadence.total} asked for: ask for more.")
        log = logbook.Logbook(
            workdir, last_step=int(state.step), total_steps=cadence.total, tensorboard=config.train.tensorboard
        )
        log.say(f"seed {seed}: step {int(state.step)} of {cadence.total}, {feed.shardings.mesh.size} device(s)")
        try:
            run = loop.Run(
                train_step=train_step,
                eval_step=eval_step,
                feed=feed,
                key=jax.random.key(seed),
                seed=seed,
                batch_size=config.train.batch_size,
                eval_batch_size=config.eval.batch_size,
                best_metric=config.eval.best_metric,
                cadence=cadence,
                checkpoints=checkpoints,
                log=log,
                stop=stop,
            )
            state = loop.fit(state, window, run)
        finally:
            log.close()
        variables, best_step = checkpoints.restore_best(state_lib.abstract(state.variables()))
    finally:
        checkpoints.close()

    results = measure(config, feed, eval_step, variables, workdir)
    head = {
        "title": f"{config.model.name}, {config.train.loss}, seed {seed}",
        "protocol": "single",
        "seed": seed,
        "num_seeds": 1,
        "num_steps": cadence.total,
        "best_step": best_step,
    }
    results = {**head, "num_parameters": state_lib.count_parameters(state.params), **results}
    workdir_lib.write_json(results_path, results)
    return results


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


def measure(
    config: config_lib.Config, feed: feed_lib.Feed, eval_step: Any, variables: Any, workdir: pathlib.Path
) -> dict[str, Any]:
    """Scores of all parts in inference mode, alike; thresholds from validation; predictions.npz and the results."""
    rows = feed.rows
    scores = {part: loop.evaluate(eval_step, variables, feed, part, config.eval.batch_size).scores for part in dataset.PARTS}
    labels = {part: rows.label[rows.parts[part]] for part in dataset.PARTS}
    results: dict[str, Any] = {
        "data": rows.summary,
        "splits": score_parts(config, rows, scores, labels),
        "baselines": {},
    }
    if config.eval.baselines:
        features = {
            part: np.concatenate(
                [
                    baselines.color_histograms(np.asarray(batch["image"])[np.asarray(batch["mask"]) > 0])
                    for batch in feed.eval_batches(part, config.eval.batch_size)
                ]
            )
            for part in dataset.PARTS
        }
        colour = baselines.logistic_regression(features["train"], labels["train"], features, len(rows.genres))
        results["baselines"]["color_histogram_logistic"] = score_parts(config, rows, colour, labels)

    arrays = {}
    for part in dataset.PARTS:
        arrays[f"{part}_id"] = rows.movie_id[rows.parts[part]]
        arrays[f"{part}_label"] = labels[part]
        arrays[f"{part}_score"] = scores[part]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    workdir_lib.write_atomic(workdir / "predictions.npz", buffer.getvalue())
    return results


def score_parts(
    config: config_lib.Config,
    rows: dataset.Dataset,
    scores: dict[str, np.ndarray],
    labels: dict[str, np.ndarray],
) -> dict[str, Any]:
    """Every metric of every part, with floors, ceilings and intervals; thresholds are chosen on validation."""
    tuned = metrics.choose_thresholds(scores["validation"], labels["validation"])
    return {
        part: metrics.score(
            scores[part],
            labels[part],
            rows.group[rows.parts[part]],
            genres=rows.genres,
            thresholds={"tuned": tuned},
            train_labels=labels["train"],
            num_samples=config.eval.bootstrap_samples,
            seed=config.seed,
        )
        for part in dataset.PARTS
    }
