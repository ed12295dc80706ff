"""The whole paper: every experiment in order, each in a folder of its own, then a verdict on every claim of the paper.

An experiment is an ordinary run of another protocol, from a config file of its own; one that is done is not started again.
"""

import contextlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.paper import claims, facts
from poster_jax.protocols import ablation, search, single, transfer
from poster_jax.runtime import multihost, preemption, storage
from poster_jax.workdir import finished, provenance, run_files, run_folder

EXPERIMENTS = {"single": single.run, "transfer": transfer.run, "search": search.run, "ablation": ablation.run}
# What every experiment takes from this config: where the posters and the pretrained weights come from.
SHARED = (
    "data.variant",
    "data.dir",
    "data.csv",
    "data.path_column",
    "data.label_column",
    "data.id_column",
    "data.movie_column",
    "data.split_column",
    "data.label_separator",
    "data.num_posters",
    "data.min_movies",
    "data.cache_dir",
    "data.path",
    "model.weights",
)

DEPTHWISE = "depthwise"  # the line of timings.jsonl that keeps its seconds
# Where posters are kept and how they are read changes no outcome.
NO_OUTCOME = ("data.path", "data.cache_dir", "train.tensorboard", "train.log_every_steps", "eval.batch_size")


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
                with provenance.recorded(workdir / name):
                    EXPERIMENTS[experiment.protocol](experiment, workdir / name, stop)
        found = measure_facts(config, workdir, population)
        withheld = why_withheld(config, experiments)
        results = {
            "title": "the paper, rebuilt",
            "protocol": config.protocol,
            "experiments": list(experiments),
            "reductions": list(config.reproduce.overrides),
            "withheld": withheld,
            "facts": found,
            "printed": printed_facts(workdir, experiments, found),
            "readings": list(claims.READINGS),
            "ledger": claims.build(workdir, found, reduced=find_reduced(config, experiments), judged=not withheld),
        }
        run_files.write_results(workdir, results)
        return results


def measure_facts(config: config_lib.Config, workdir: pathlib.Path, population: dict[str, Any] | None) -> dict[str, Any]:
    """What needs no training. Seconds are measured once in a workdir, and kept in its timings.jsonl."""
    timed = [line["rounds"] for line in run_files.read_lines(workdir, run_files.TIMINGS) if line["event"] == DEPTHWISE]
    if not timed:
        timed = [facts.time_depthwise()]
        with contextlib.closing(storage.Log(workdir / run_files.TIMINGS)) as log:
            log.append({"event": DEPTHWISE, "rounds": timed[0]})
    folder = pathlib.Path(config.data.dir) / "posters"
    return {
        "population": population,
        "parameters": facts.count_parameters(),
        "tuned": facts.count_tuned(),
        "last_map": list(facts.shape_of_last_map()),
        "flat": facts.count_flat_features(),
        "sizes": facts.describe_sizes(folder) if config.data.variant == "kaggle" else facts.NOT_KNOWN,
        "softmax_gap": facts.softmax_gap(config.seed),
        "depthwise": {**facts.count_depthwise(), "rounds": timed[0]},
    }


def printed_facts(
    workdir: pathlib.Path, experiments: Mapping[str, config_lib.Config], found: Mapping[str, Any]
) -> list[dict[str, str]]:
    """The table of facts, with the rows and steps of the first transfer experiment where there is one."""
    name = next((name for name, config in experiments.items() if config.protocol == "transfer"), None)
    if name is None:
        return facts.build_table(found, None, 0, 0)
    [data, *_] = [seed["data"] for seed in run_files.list_seeds(workdir / name).values()]
    config = experiments[name]
    return facts.build_table(found, data, config.train.batch_size, config.eval.validation_steps)


def why_withheld(config: config_lib.Config, experiments: Mapping[str, config_lib.Config]) -> str:
    """Why no claim gets a verdict, in one sentence; "" where claims get theirs."""
    if any("smoke" in file.partition(":")[2].split(",") for _, file, _ in config.reproduce.experiments):
        return "No verdicts: a smoke run only shows that every experiment runs to its end."
    if any(experiment.data.variant == "synthetic" for experiment in experiments.values()):
        return "No verdicts: the posters are drawn, and the claims are about real ones (config.data.variant)."
    return ""


def find_reduced(config: config_lib.Config, experiments: Mapping[str, config_lib.Config]) -> dict[str, list[str]]:
    """{experiment: "key: value -> value" of what `reproduce.overrides` changed in it}, without what changes no outcome."""
    whole = load_experiments(config_lib.derive(config, {"reproduce.overrides": ()}))
    changed = {name: config_lib.differences(whole[name], experiment) for name, experiment in experiments.items()}
    return {name: [line for line in lines if line.split(":")[0] not in NO_OUTCOME] for name, lines in changed.items()}


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
        # Weights are for one network.
        takes_weights = config_lib.load(file).model.name == config.model.name
        shared = [(key, str(flat[key])) for key in SHARED if key != "model.weights" or takes_weights]
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
