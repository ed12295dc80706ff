"""A `Run` for tests of what is inside one."""

import pathlib

from poster_jax import config as config_lib
from poster_jax.data import input_pipeline
from poster_jax.protocols import stages
from poster_jax.runtime import preemption
from poster_jax.train.run import Cadence, Run, make_cadence


def make_run(config: config_lib.Config, loader: input_pipeline.Loader, workdir: pathlib.Path, seed: int = 0) -> Run:
    """The run of a config on an open loader."""
    cadence = make_cadence(config, len(loader.rows.parts["train"]))
    return Run(config, seed, workdir, loader, cadence, preemption.StopRequest())


def open_run(config: config_lib.Config, workdir: pathlib.Path) -> Run:
    """The run of a config, its data opened in `workdir`."""
    workdir.mkdir(exist_ok=True)
    return make_run(config, stages.open_loader(config, workdir), workdir, config.seed)


def short_cadence(total: int = 1) -> Cadence:
    """Log, evaluation and save at the end only."""
    return Cadence(total=total, log=total, evaluate=total, save=total)
