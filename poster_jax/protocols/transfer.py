"""A pretrained body, first frozen under heads of several learning rates, then fine-tuned under the best of them.

The paper's sections II-A and III-A, and the way of every recipe that starts from pretrained weights. Several input ranges may
run side by side: the paper fed [0, 1] to weights made for [-1, 1].
"""

import pathlib
from typing import Any, NamedTuple

import jax

from poster_jax import config as config_lib
from poster_jax import models
from poster_jax.data import dataset, input_pipeline, sampler
from poster_jax.metrics import baselines
from poster_jax.models import pretrained
from poster_jax.protocols import measure, samples, stages
from poster_jax.runtime import multihost, preemption, storage
from poster_jax.train import features as features_lib
from poster_jax.train import heads, losses, optimizers, train_state
from poster_jax.train import run as run_lib
from poster_jax.train import steps as steps_lib
from poster_jax.workdir import logbook, run_folder


def run(config: config_lib.Config, workdir: pathlib.Path, stop: preemption.StopRequest) -> dict[str, Any]:
    """Runs the protocol for every seed and returns the results; a finished seed is only read.

    Raises `UserError` for what the user can mend and `Interrupted` when a signal came; the state is saved then.
    """
    with run_folder.opened(workdir, config):
        return stages.run_seeds(config, workdir, stages.open_loader(config, workdir), stop, run_seed)


def run_seed(
    config: config_lib.Config, seed: int, workdir: pathlib.Path, feed: input_pipeline.Loader, stop: preemption.StopRequest
) -> dict[str, Any]:
    """One seed: a branch for every input range, each from the pretrained weights; the last one is the result."""
    cadence = stages.make_cadence(config, len(feed.rows.parts["train"]))
    finished = stages.read_finished(workdir, cadence)
    if finished is not None:
        return finished

    loaded = models.load_pretrained(**config.model)
    branches: list[dict[str, Any]] = []
    tuned: Any = None
    for index, input_range in enumerate(config.transfer.input_ranges):
        folder = workdir if len(config.transfer.input_ranges) == 1 else workdir / f"range_{index}"
        folder.mkdir(exist_ok=True)
        branch, tuned = run_branch(config, seed, feed, folder, stop, loaded, tuple(input_range))
        branches.append(branch)

    samples.save(workdir, tuned.model, tuned.variables, feed, tuned.scores["test"])
    measure.save_predictions(workdir, feed.rows, tuned.scores)
    simple = measure.color_baseline(config, feed)
    if config.eval.baselines:
        simple |= feature_baselines(config, feed.rows, tuned.features)
    results = {
        "title": f"{config.model.name} fine-tuned, {config.loss.name}, seed {seed}",
        "protocol": config.protocol,
        "seed": seed,
        "num_seeds": 1,
        "num_steps": cadence.total,
        "best_step": branches[-1]["tuned"]["best_step"],
        "body": models.body_fields(tuned.model),
        "weights": loaded.provenance if loaded else None,
        "data": feed.rows.summary,
        "splits": branches[-1]["tuned"]["splits"],
        "baselines": simple,
        "branches": branches,
    }
    storage.write_json(workdir / "results.json", results)
    return results


class Tuned(NamedTuple):
    """A fine-tuned network, its scores of every part, and the features of the body that it started from."""

    model: Any
    variables: Any
    scores: dict[str, Any]
    features: features_lib.Features


def run_branch(
    config: config_lib.Config,
    seed: int,
    feed: input_pipeline.Loader,
    workdir: pathlib.Path,
    stop: preemption.StopRequest,
    loaded: pretrained.Pretrained | None,
    input_range: tuple[float, ...],
) -> tuple[dict[str, Any], Tuned]:
    """One input range: frozen heads, the best of them by validation, everything fine-tuned; and what results.json says."""
    rows, loss = feed.rows, stages.build_loss(config, feed)
    per_epoch = sampler.steps_per_epoch(len(rows.parts["train"]), config.train.batch_size)
    cadence = stages.make_cadence(config, len(rows.parts["train"]))
    fields = {**config.model, "input_range": input_range or config.model.input_range}
    unfreeze_steps = round(config.transfer.unfreeze_epochs * per_epoch)
    model, optimizer, state = stages.start_network(config, fields, feed, cadence.total, seed, loaded, unfreeze_steps)
    body = model.clone(train_from="head", bn_mode=config.transfer.bn_mode)
    pooled = features_lib.extract(body, state.variables(), feed, config.eval.batch_size, config.data.cache_dir)
    statistics = model.head_statistics(pooled.of(rows.parts["train"]))
    if config.transfer.cached:
        trained = cached_heads(config, seed, feed, model, loss, state.params["head"], statistics, pooled)
    else:
        trained = [
            head_through_body(config, seed, feed, body, loaded, statistics, rate, workdir, stop)
            for rate in config.transfer.learning_rates
        ]
    best = max(trained, key=lambda head: head.best_value)
    frozen = [
        {
            "learning_rate": head.learning_rate,
            "best_epoch": head.best_epoch,
            "history": head.history,
            "splits": measure.score_parts(config, rows, heads.score(model, head.params, statistics, pooled, rows, loss)),
        }
        for head in trained
    ]

    state = with_head(state, {"head": best.params}, statistics, feed)
    eval_step = jax.jit(steps_lib.make_eval_step(model, loss, mirror=config.eval.mirror))
    variables, best_step = stages.train(config, model, optimizer, state, eval_step, feed, cadence, seed, workdir, stop)
    scores = measure.score_all(config, feed, eval_step, variables)
    measure.save_predictions(workdir, rows, scores)
    outcome = {
        "input_range": list(model.input_range),
        "bn_mode": model.bn_mode,
        "frozen": frozen,
        "chosen_learning_rate": best.learning_rate,
        "tuned": {
            "learning_rate": config.optim.learning_rate,
            "best_step": best_step,
            "history": read_history(workdir, per_epoch),
            "splits": measure.score_parts(config, rows, scores),
        },
    }
    return outcome, Tuned(model, variables, scores, pooled)


def with_head(
    state: train_state.TrainState, params: Any, statistics: Any, feed: input_pipeline.Loader
) -> train_state.TrainState:
    """The state with these host arrays of a head, {"head": ...} or {}, in the place of its own."""
    params, statistics = jax.device_put((params, statistics), feed.shardings.state)
    variables = {"params": {**state.params, **params}, "batch_stats": {**state.batch_stats, **statistics}}
    return train_state.with_variables(state, variables)


def cached_heads(
    config: config_lib.Config,
    seed: int,
    feed: input_pipeline.Loader,
    model: Any,
    loss: losses.Loss,
    params: Any,
    statistics: Any,
    pooled: features_lib.Features,
) -> list[heads.Head]:
    """A head per learning rate on the cached features, all in one program."""
    fit_feed = feed.sampled_validation(config.eval.validation_steps * config.train.batch_size, seed)
    per_epoch = sampler.steps_per_epoch(len(feed.rows.parts["train"]), config.train.batch_size)
    return multihost.from_main(
        lambda: heads.train(
            model,
            jax.device_get(params),
            statistics,
            pooled,
            fit_feed.rows,
            loss,
            learning_rates=config.transfer.learning_rates,
            num_steps=config_lib.to_steps(0, config.transfer.head_epochs, per_epoch),
            batch_size=config.train.batch_size,
            seed=seed,
            best_metric=config.eval.best_metric,
        )
    )


def head_through_body(
    config: config_lib.Config,
    seed: int,
    feed: input_pipeline.Loader,
    body: Any,
    loaded: pretrained.Pretrained | None,
    statistics: Any,
    learning_rate: float,
    workdir: pathlib.Path,
    stop: preemption.StopRequest,
) -> heads.Head:
    """The slow way to the same head, which may see augmented posters and a moving BatchNorm."""
    stage = config.copy_and_resolve_references()
    if not config.transfer.augment:
        for name, value in config.train.augment.items():
            stage.train.augment[name] = type(value)(0)
    stage.train.average_decay = 0.0
    folder = workdir / f"head_{learning_rate:g}"
    folder.mkdir(exist_ok=True)
    per_epoch = sampler.steps_per_epoch(len(feed.rows.parts["train"]), config.train.batch_size)
    steps = config_lib.to_steps(0, config.transfer.head_epochs, per_epoch)
    cadence = run_lib.Cadence(total=steps, log=config.train.log_every_steps, evaluate=per_epoch, save=per_epoch)
    optimizer = optimizers.build_optimizer(
        name="adam",
        learning_rate=learning_rate,
        schedule="constant",
        warmup_steps=0,
        weight_decay=0.0,
        num_steps=steps,
        first_steps=models.first_steps(body, 0),
    )
    state = train_state.create(body, optimizer, config.data.image_size, seed, feed.shardings.state, pretrained=loaded)
    state = with_head(state, {}, statistics, feed)
    eval_step = jax.jit(steps_lib.make_eval_step(body, stages.build_loss(config, feed)))
    variables, best_step = stages.train(stage, body, optimizer, state, eval_step, feed, cadence, seed, folder, stop)
    history = read_history(folder, per_epoch)
    value = max(row[config.eval.best_metric] for row in history if row["part"] == "validation")
    return heads.Head(learning_rate, variables["params"]["head"], -(-best_step // per_epoch), value, history)


def read_history(workdir: pathlib.Path, per_epoch: int) -> list[dict[str, Any]]:
    """{"epoch", "part", "loss", metric: value, ...} of every evaluation of a finished fit, in inference mode."""
    names = {"train_inference": "train", "validation": "validation"}
    return [
        {"epoch": line["step"] / per_epoch, "part": names[line["part"]]}
        | {name: value for name, value in line.items() if name not in ("step", "part")}
        for line in multihost.from_main(lambda: logbook.read_lines(workdir / "metrics.jsonl"))
        if line["part"] in names
    ]


def feature_baselines(config: config_lib.Config, rows: dataset.Dataset, pooled: features_lib.Features) -> dict[str, Any]:
    """What the frozen features give without a trained network: nearest neighbours, and a logistic regression."""
    held = {part: pooled.of(at) for part, at in rows.parts.items()}
    label = {part: rows.label[at] for part, at in rows.parts.items()}
    neighbours, linear = multihost.from_main(
        lambda: (
            baselines.nearest_neighbours(held, label, len(rows.genres)),
            baselines.logistic_regression(held["train"], label["train"], held, len(rows.genres)),
        )
    )
    return {
        "feature_neighbours": measure.score_parts(config, rows, neighbours),
        "feature_logistic": measure.score_parts(config, rows, linear),
    }
