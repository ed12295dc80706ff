"""One network, trained and measured: posters -> labels -> splits -> state -> fit -> best -> scores beside their floors."""

import pathlib
from typing import Any

import jax

from poster_jax import config as config_lib
from poster_jax import models
from poster_jax.data import input_pipeline
from poster_jax.models import layers
from poster_jax.protocols import measure, samples, stages
from poster_jax.runtime import preemption, storage
from poster_jax.train import steps
from poster_jax.workdir import run_folder


def run(config: config_lib.Config, workdir: pathlib.Path, stop: preemption.StopRequest) -> dict[str, Any]:
    """Trains `config.num_seeds` networks on one split and returns the results; a finished one is only read.

    Raises `UserError` for what the user can mend and `Interrupted` when a signal came; the state is saved then.
    """
    with run_folder.opened(workdir, config):
        return stages.run_seeds(config, workdir, stages.open_loader(config, workdir), stop, run_seed)


def run_seed(
    config: config_lib.Config, seed: int, workdir: pathlib.Path, feed: input_pipeline.Loader, stop: preemption.StopRequest
) -> dict[str, Any]:
    """One network from one seed: what the module's first line says."""
    cadence = stages.make_cadence(config, len(feed.rows.parts["train"]))
    finished = stages.read_finished(workdir, cadence)
    if finished is not None:
        return finished

    loaded = models.load_pretrained(**config.model)
    model, optimizer, state = stages.start_network(config, config.model, feed, cadence.total, seed, loaded, unfreeze_steps=0)
    eval_step = jax.jit(steps.make_eval_step(model, stages.build_loss(config, feed), mirror=config.eval.mirror))
    variables, best_step = stages.train(config, model, optimizer, state, eval_step, feed, cadence, seed, workdir, stop)

    scores = measure.score_all(config, feed, eval_step, variables)
    samples.save(workdir, model, variables, feed, scores["test"])
    results = {
        "title": f"{config.model.name}, {config.loss.name}, seed {seed}",
        "protocol": config.protocol,
        "seed": seed,
        "num_seeds": 1,
        "num_steps": cadence.total,
        "best_step": best_step,
        "body": models.body_fields(model),
        "num_parameters": layers.count_values(state.params),
        **measure.measure(config, feed, scores, workdir),
    }
    storage.write_json(workdir / "results.json", results)
    return results
