"""Features that anybody computed, judged as a network is: logistic regression and nearest neighbours on the same rows.

A protocol of its own and not `transfer` with another source of features: there every stage is a network that takes pictures,
from the weights to the checkpoint, the maps and `predict`, and none of that can be made of numbers in a file.
"""

import hashlib
import pathlib
from typing import Any

import numpy as np

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.data import dataset, feature_files, input_pipeline
from poster_jax.metrics import baselines, scoring
from poster_jax.protocols import measure, stages
from poster_jax.runtime import alive, multihost, preemption, storage
from poster_jax.train import features as features_lib
from poster_jax.train.run import Cadence, Run
from poster_jax.workdir import finished, run_files, run_folder


def run(config: config_lib.Config, workdir: pathlib.Path, stop: preemption.StopRequest) -> dict[str, Any]:
    """Fits, chooses and measures; returns the results. What is finished is only read.

    Raises `UserError` for what the user can mend and `Interrupted` when a signal came; the same command begins again then.
    """
    with run_folder.opened(workdir, config):
        loader = stages.open_loader(config, workdir)
        features, origins = open_features(config, loader)
        stages.begin(config, workdir, loader)
        check_same(workdir, origins)
        fits = len(config.probe.inverse_penalties)
        done = finished.read(workdir, fits, protocol=config.protocol, genres=loader.rows.genres)
        return done or measured(Run(config, config.seed, workdir, loader, Cadence(fits, 1, 1, 1), stop), features, origins)


def measured(run: Run, features: features_lib.Features, origins: list[feature_files.Origin]) -> dict[str, Any]:
    """The results of one choice among the penalties, beside nearest neighbours and colours."""
    config, rows = run.config, run.loader.rows
    held = {part: features.of(at) for part, at in rows.parts.items()}
    label = {part: rows.label[at] for part, at in rows.parts.items()}
    path = multihost.from_main(lambda: follow_path(config, rows, held, label))
    # The strongest penalty among equals.
    best = max(path, key=lambda penalty: path[penalty] or 0.0)
    with alive.doing("the chosen logistic regression, and nearest neighbours"):
        arguments = held["train"], label["train"], held, len(rows.genres)
        scores = multihost.from_main(lambda: baselines.logistic_regression(*arguments, inverse_penalty=best))
        near = multihost.from_main(lambda: baselines.nearest_neighbours(held, label, len(rows.genres)))
    storage.write_atomic(run.workdir / run_files.METRICS, "")  # no step was taken
    found = measure.measure(run, scores)
    found["baselines"] |= {"feature_neighbours": measure.score_parts(config, rows, near)}
    results = {
        "title": f"logistic regression on {features.array.shape[1]:,} features, C = {best:g}",
        "protocol": config.protocol,
        "seed": run.seed,
        "num_seeds": 1,
        "num_steps": run.cadence.total,
        "probe": {
            "metric": config.eval.best_metric,
            "inverse_penalty": best,
            "path": [{"inverse_penalty": penalty, "value": value} for penalty, value in path.items()],
            "features": [origin._asdict() for origin in origins],
        },
        **found,
    }
    run_files.write_results(run.workdir, results)
    return results


def follow_path(
    config: config_lib.Config, rows: dataset.Dataset, held: dict[str, np.ndarray], label: dict[str, np.ndarray]
) -> dict[float, float | None]:
    """{inverse penalty: the config's best metric on validation}, in the order of the penalties."""
    penalties, path = config.probe.inverse_penalties, {}
    fits = baselines.logistic_path(held["train"], label["train"], held["validation"], len(rows.genres), penalties)
    with alive.doing(lambda: f"logistic regression: {len(path)} of {len(penalties)} penalties"):
        for inverse_penalty, scores in zip(penalties, fits, strict=True):
            path[inverse_penalty] = scoring.headline(scores, label["validation"])[config.eval.best_metric]
    return path


def open_features(
    config: config_lib.Config, loader: input_pipeline.Loader
) -> tuple[features_lib.Features, list[feature_files.Origin]]:
    """The features of `config.data.features` for the loader's posters, from files or by a run's body, and their origins."""
    text = config.data.features
    folder = feature_files.find_run(text)
    if folder is not None:
        features = features_lib.of_run(folder, loader, config.data.cache_dir)
        # Two networks have two results.
        digest = hashlib.sha256((folder / run_files.RESULTS).read_bytes()).hexdigest()
        origins = [feature_files.Origin(text, digest, features.array.shape[1])]
    else:
        _, first_rows, index = np.unique(loader.rows.poster, return_index=True, return_inverse=True)
        ids = loader.rows.movie_id[first_rows]
        array, origins = multihost.from_main(lambda: feature_files.read(text, ids))
        features = features_lib.Features(array, index)
    print("\n".join(f"features: {one.columns:,} of {one.source}, sha256 {one.sha256}" for one in origins), flush=True)
    return features, origins


def check_same(workdir: pathlib.Path, origins: list[feature_files.Origin]) -> None:
    """Raises UserError where the run had begun with other features, which the folder remembers beside what `auto` chose."""
    digests = ",".join(one.sha256 for one in origins)
    told = ", ".join(f"{one.columns:,} columns of {one.source}" for one in origins)
    earlier = run_folder.remember_choice(workdir, "features", (digests, told))
    if earlier is not None and earlier[0] != digests:
        raise errors.UserError(
            f"the run in {workdir} began with features of sha256 {earlier[0]} ({earlier[1]}), and those given have {digests} "
            f"({told}): give that file again, or another --workdir."
        )
