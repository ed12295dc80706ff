"""A pretrained body, first frozen under heads of several learning rates, then fine-tuned under one of them.

The paper's sections II-A and III-A, and the way of every recipe that starts from pretrained weights. Several input ranges may
run side by side: the paper fed [0, 1] to weights made for [-1, 1].
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from poster_jax import config as config_lib
from poster_jax import models
from poster_jax.data import dataset
from poster_jax.metrics import baselines
from poster_jax.models import pretrained
from poster_jax.models.types import Params, PosterModel, Variables
from poster_jax.protocols import measure, samples, stages
from poster_jax.runtime import alive, devices, multihost, preemption, storage
from poster_jax.train import features as features_lib
from poster_jax.train import heads, loop, network, train_state
from poster_jax.train.run import Cadence, Run
from poster_jax.workdir import checkpoint, finished, run_files, run_folder


def run(config: config_lib.Config, workdir: pathlib.Path, stop: preemption.StopRequest) -> dict[str, Any]:
    """Runs the protocol for every seed and returns the results; a finished seed is only read.

    Raises `UserError` for what the user can mend and `Interrupted` when a signal came; the state is saved then.
    """
    with run_folder.opened(workdir, config):
        return stages.run_seeds(config, workdir, stages.open_loader(config, workdir), stop, run_seed)


def run_seed(run: Run) -> dict[str, Any]:
    """One seed: a branch for every input range, each from the pretrained weights; the last one is the result."""
    done = finished.read(run.workdir, run.cadence.total, protocol=run.config.protocol, genres=run.loader.rows.genres)
    if done is not None:
        return done

    config = run.config
    loaded = stages.load_weights(run)
    branches, tuned = [], None
    for index, input_range in enumerate(config.transfer.input_ranges):
        folder = run.workdir if len(config.transfer.input_ranges) == 1 else run.workdir / f"range_{index}"
        folder.mkdir(exist_ok=True)
        chosen = {"model.input_range": tuple(input_range) or config.model.input_range}
        branch, tuned = run_branch(dataclasses.replace(run, workdir=folder, config=config_lib.derive(config, chosen)), loaded)
        branches.append(branch)
    assert tuned is not None  # the config holds at least one range

    samples.save(run, tuned.model, tuned.variables, tuned.scores["test"])
    measure.save_predictions(run, tuned.scores)
    simple = measure.calibrate(config, run.loader.rows, tuned.scores) | measure.color_baseline(run, tuned.scores)
    if config.eval.baselines:
        simple["baselines"] |= feature_baselines(config, run.loader.rows, tuned.features)
    results = {
        "title": f"{config.model.name} {'fine-tuned' if config.transfer.tune else 'under a head'}, {config.loss.name}, "
        f"seed {run.seed}",
        "protocol": config.protocol,
        "seed": run.seed,
        "num_seeds": 1,
        "num_steps": run.cadence.total,
        "best_step": branches[-1]["tuned"]["best_step"],
        "body": models.body_fields(tuned.model),
        "numerics": devices.numerics(),
        "train_loss": run_files.read_train_loss(folder),
        "weights": loaded.origin() if loaded else None,
        "data": run.loader.rows.summary,
        "splits": branches[-1]["tuned"]["splits"],
        **simple,
        "branches": branches,
    }
    run_files.write_results(run.workdir, results)
    return results


class Tuned(NamedTuple):
    """A fine-tuned network, its scores of every part, and the features of the body that it started from."""

    model: PosterModel
    variables: Variables
    scores: measure.Scores
    features: features_lib.Features


def run_branch(run: Run, loaded: pretrained.Pretrained | None) -> tuple[dict[str, Any], Tuned]:
    """One input range: frozen heads, the start among them, everything fine-tuned; and what results.json says."""
    config, rows, per_epoch = run.config, run.loader.rows, run.steps_per_epoch
    unfreeze_steps = round(config.transfer.unfreeze_epochs * per_epoch)
    net = network.build(run, pretrained=loaded, unfreeze_steps=unfreeze_steps)
    model: Any = net.model
    body = model.clone(train_from="head", bn_mode=config.transfer.bn_mode)
    features = features_lib.extract(body, net.state.variables(), run.loader, config.eval.batch_size, config.data.cache_dir)
    statistics = model.head_statistics(features.of(rows.parts["train"]))
    if config.transfer.cached:
        trained = cached_heads(run, net, statistics, features)
    else:
        trained = [head_through_body(run, loaded, statistics, rate) for rate in config.transfer.learning_rates]
    start, start_params = choose_start(trained, config.transfer.start_rate)
    scorer = heads.Scorer(model, statistics, net.loss)
    frozen = [
        {
            "learning_rate": head.learning_rate,
            "best_epoch": head.best_epoch,
            "history": head.history,
            "splits": measure.score_parts(config, rows, scorer.score(head.params, features, rows)),
        }
        for head in trained
    ]

    net = dataclasses.replace(net, state=with_head(net.state, {"head": start_params}, statistics, run))
    fitted = loop.fit(run, net) if config.transfer.tune else keep_head(run, net, start.best_value)
    scores = measure.score_all(run, net, fitted.variables)
    measure.save_predictions(run, scores)
    outcome = {
        "input_range": list(model.input_range),
        "bn_mode": model.bn_mode,
        "frozen": frozen,
        "chosen_learning_rate": start.learning_rate,
        "tuned": {
            "learning_rate": config.optim.learning_rate,
            "best_step": fitted.step,
            "history": read_history(run.workdir, per_epoch),
            "splits": measure.score_parts(config, rows, scores),
        },
    }
    return outcome, Tuned(model, fitted.variables, scores, features)


def keep_head(run: Run, net: network.Network, value: float) -> loop.Best:
    """The head on the frozen body as the result: its weights are kept as the best ones, of step 0; nothing is trained."""
    variables = net.state.variables()
    storage.write_atomic(run.workdir / run_files.METRICS, "")
    with contextlib.closing(checkpoint.Checkpoints(run.workdir)) as checkpoints:
        checkpoints.save_best(0, variables, value)
    return loop.Best(variables, 0)


def choose_start(trained: Sequence[heads.Head], start_rate: float) -> tuple[heads.Head, Params]:
    """The head that fine-tuning starts from, with its parameters.

    With `start_rate` the head of that rate after its last epoch, else the best one by validation at its best epoch.
    """
    if not start_rate:
        best = max(trained, key=lambda head: head.best_value)
        return best, best.params
    given = next(head for head in trained if head.learning_rate == start_rate)
    return given, given.last_params


def with_head(state: train_state.TrainState, params: Params, statistics: Params, run: Run) -> train_state.TrainState:
    """The state with these host arrays of a head, {"head": ...} or {}, in the place of its own."""
    params, statistics = jax.device_put((params, statistics), run.loader.shardings.state)
    variables = {"params": {**state.params, **params}, "batch_stats": {**state.batch_stats, **statistics}}
    return train_state.with_variables(state, variables)


def cached_heads(run: Run, net: network.Network, statistics: Params, features: features_lib.Features) -> list[heads.Head]:
    """A head per learning rate on the cached features, all in one program."""
    config = run.config
    sampled = run.loader.sampled_validation(config.eval.validation_steps * config.train.batch_size, run.seed)
    scorer = heads.Scorer(net.model, statistics, net.loss)
    settings = heads.Settings(
        learning_rates=config.transfer.learning_rates,
        num_steps=config_lib.to_steps(0, config.transfer.head_epochs, run.steps_per_epoch),
        batch_size=config.train.batch_size,
        seed=run.seed,
        best_metric=config.eval.best_metric,
    )
    params = net.state.params["head"]
    with alive.doing(f"training {len(settings.learning_rates)} heads on the features, {settings.num_steps} steps"):
        return multihost.from_main(lambda: heads.train(scorer, jax.device_get(params), features, sampled.rows, settings))


def head_through_body(run: Run, loaded: pretrained.Pretrained | None, statistics: Params, learning_rate: float) -> heads.Head:
    """The slow way to the same head, which may see augmented posters and a moving BatchNorm."""
    config = run.config
    augment = config.train.augment.to_dict()
    off = {name: type(value)(0) for name, value in augment.items()}
    values = {
        **{f"train.augment.{name}": value for name, value in (augment if config.transfer.augment else off).items()},
        "train.average_decay": 0.0,
        "eval.mirror": False,
        "model.train_from": "head",
        "model.bn_mode": config.transfer.bn_mode,
        "optim.name": "adam",
        "optim.learning_rate": learning_rate,
        "optim.schedule": "constant",
        "optim.warmup_steps": 0,
        "optim.weight_decay": 0.0,
        "optim.head_factor": 1.0,
        "optim.accumulate_steps": 1,
    }
    folder, per_epoch = run.workdir / f"head_{learning_rate:g}", run.steps_per_epoch
    folder.mkdir(exist_ok=True)
    num_steps = config_lib.to_steps(0, config.transfer.head_epochs, per_epoch)
    stage = dataclasses.replace(
        run,
        config=config_lib.derive(config, values),
        workdir=folder,
        cadence=Cadence(total=num_steps, log=config.train.log_every_steps, evaluate=per_epoch, save=per_epoch),
    )
    net = network.build(stage, pretrained=loaded)
    best = loop.fit(stage, dataclasses.replace(net, state=with_head(net.state, {}, statistics, run)))
    with contextlib.closing(checkpoint.Checkpoints(folder)) as checkpoints:
        last = checkpoints.restore_latest(train_state.abstract(net.state))
    assert last is not None  # the cadence saves at the last step
    history = read_history(folder, per_epoch)
    value = max(row[config.eval.best_metric] for row in history if row["part"] == "validation")
    params, last_params = best.variables["params"]["head"], last[0].params["head"]
    return heads.Head(learning_rate, params, last_params, -(-best.step // per_epoch), value, history)


def read_history(workdir: pathlib.Path, per_epoch: int) -> list[dict[str, Any]]:
    """{"epoch", "part", "loss", metric: value, ...} of every evaluation of a finished fit, in inference mode."""
    names = {"train_inference": "train", "validation": "validation"}
    return [
        {"epoch": line["step"] / per_epoch, "part": names[line["part"]]}
        | {name: value for name, value in line.items() if name not in ("step", "part")}
        for line in multihost.from_main(lambda: run_files.read_lines(workdir))
        if line["part"] in names
    ]


def feature_baselines(config: config_lib.Config, rows: dataset.Dataset, features: features_lib.Features) -> dict[str, Any]:
    """What the frozen features give without a trained network: nearest neighbours, and a logistic regression."""
    held = {part: features.of(at) for part, at in rows.parts.items()}
    label = {part: rows.label[at] for part, at in rows.parts.items()}
    with alive.doing("what the frozen features give without a network"):
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
