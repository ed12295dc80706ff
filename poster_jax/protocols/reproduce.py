"""The whole paper: every experiment in order, each in a folder of its own, then a verdict on every claim of the paper.

An experiment is an ordinary run of another protocol, from a config file of its own; one that is done is not started again.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.paper import claims, facts
from poster_jax.protocols import ablation, search, single, transfer
from poster_jax.runtime import multihost, preemption
from poster_jax.workdir import finished, run_files, run_folder

EXPERIMENTS = {"single": single.run, "transfer": transfer.run, "search": search.run, "ablation": ablation.run}
# What every experiment takes from this config: where the posters and the pretrained weights come from.
SHARED = (
    "data.variant",
    "data.dir",
    "data.csv",
    "data.num_posters",
    "data.min_movies",
    "data.cache_dir",
    "data.path",
    "model.weights",
)


def run(config: config_lib.Config, workdir: pathlib.Path, stop: preemption.StopRequest) -> dict[str, Any]:
    """Runs what is not done, builds the ledger and returns the results.

    Raises `UserError` for what the user can mend and `Interrupted` when a signal came; what was done is saved then.
    """
    if multihost.count() > 1:
        raise errors.UserError("a reproduction runs in one process, on all of its devices: start it once.")
    experiments = load_experiments(config)
    population = facts.describe_population(config.reproduce.catalog)
    with run_folder.opened(workdir, config):
        run_folder.begin(workdir, config)
        for number, (name, experiment) in enumerate(experiments.items(), 1):
            done = is_finished(experiment, workdir / name)
            print(f"\n{name}: {number} of {len(experiments)}{', done' if done else ''}", flush=True)
            if not done:
                EXPERIMENTS[experiment.protocol](experiment, workdir / name, stop)
        found = {
            "population": population,
            "parameters": facts.count_parameters(),
            "softmax_gap": facts.softmax_gap(config.seed),
        }
        results = {
            "title": "the paper, rebuilt",
            "protocol": config.protocol,
            "experiments": list(experiments),
            "reductions": list(config.reproduce.overrides),
            "facts": found,
            "ledger": claims.build(workdir, found),
        }
        run_files.write_results(workdir, results)
        return results


def load_experiments(config: config_lib.Config) -> dict[str, config_lib.Config]:
    """{name: config} in order: the file's, then shared keys, `reproduce.overrides`, the experiment's own, and its overrides.

    Raises UserError for a key of this config that no experiment would take, and for what `config.load` refuses.
    """
    plain = config_lib.base("mobilenet_v2")
    idle = [
        line.split(":")[0]
        for line in config_lib.differences(plain, config)
        if not line.startswith((*SHARED, "reproduce.", "protocol", "seed"))
    ]
    if idle:
        raise errors.UserError(
            f"config.{idle[0]} has no effect here, as each experiment has its own config: "
            f"add {idle[0]}=VALUE to config.reproduce.overrides, which all of them take."
        )
    flat = config_lib.flatten(config)
    names = [name for name, _, _ in config.reproduce.experiments]
    reductions = [(*split_target(target, names), value) for target, value in parse_settings(config.reproduce.overrides)]
    experiments = {}
    for name, file, own in config.reproduce.experiments:
        shared = [(key, str(flat[key])) for key in SHARED if key != "model.weights" or "mobilenet" in file]
        of_all, of_this = ([(key, value) for to, key, value in reductions if to == wanted] for wanted in ("", name))
        overrides = [*shared, ("seed", str(config.seed)), *of_all, *parse_settings(own), *of_this]
        experiments[name] = config_lib.load(file, overrides)
    return experiments


def parse_settings(texts: Sequence[str]) -> list[tuple[str, str]]:
    """`key=value` -> (key, value). Raises UserError for one without a value."""
    unset = next((text for text in texts if "=" not in text), None)
    if unset is not None:
        raise errors.UserError(f"config.reproduce.overrides holds {unset!r} without a value: write it as {unset}=VALUE.")
    return [(key, value) for key, _, value in (text.partition("=") for text in texts)]


def split_target(target: str, names: Sequence[str]) -> tuple[str, str]:
    """`key` -> ("", key); `name:key`, of one experiment, -> (name, key). Raises UserError for a name that is none of them."""
    name, _, key = target.rpartition(":")
    if name and name not in names:
        known = ", ".join(names)
        raise errors.UserError(f"config.reproduce.overrides names {name!r}, which is no experiment: take one of {known}.")
    return name, key


def is_finished(config: config_lib.Config, folder: pathlib.Path) -> bool:
    """True for a folder that holds the results of this very config, undamaged."""
    if not run_files.has_results(folder) or config_lib.differences(run_folder.load_config(folder), config):
        return False
    return finished.is_whole(folder, config.protocol)
