"""One network, trained and measured: posters -> labels -> splits -> network -> fit -> best -> scores beside their floors."""

import pathlib
from typing import Any

from poster_jax import config as config_lib
from poster_jax.models import layers
from poster_jax.protocols import measure, samples, stages
from poster_jax.runtime import preemption
from poster_jax.train import loop, network
from poster_jax.train.run import Run
from poster_jax.workdir import finished, run_files, run_folder


def run(config: config_lib.Config, workdir: pathlib.Path, stop: preemption.StopRequest) -> dict[str, Any]:
    """Trains `config.num_seeds` networks on one split and returns the results; a finished one is only read.

    Raises `UserError` for what the user can mend and `Interrupted` when a signal came; the state is saved then.
    """
    with run_folder.opened(workdir, config):
        return stages.run_seeds(config, workdir, stages.open_loader(config, workdir), stop, run_seed)


def run_seed(run: Run) -> dict[str, Any]:
    """One network from one seed, as the module's first line says."""
    done = finished.read(run.workdir, run.cadence.total, protocol=run.config.protocol, genres=run.loader.rows.genres)
    if done is not None:
        return done

    net = network.build(run, pretrained=stages.load_weights(run))
    best = loop.fit(run, net)
    scores = measure.score_all(run, net, best.variables)
    samples.save(run, net.model, best.variables, scores["test"])
    results = {
        "title": f"{run.config.model.name}, {run.config.loss.name}, seed {run.seed}",
        "protocol": run.config.protocol,
        "seed": run.seed,
        "num_seeds": 1,
        "num_steps": run.cadence.total,
        "best_step": best.step,
        **net.origin(),
        "num_parameters": layers.count_values(net.state.params),
        **measure.measure(run, scores),
    }
    run_files.write_results(run.workdir, results)
    return results
