"""What the protocols share, and commands on finished runs: finding and opening the data, and one seed after another."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from poster_jax import config as config_lib
from poster_jax import errors, models
from poster_jax.data import catalog, input_pipeline, own
from poster_jax.models import pretrained
from poster_jax.protocols import measure
from poster_jax.runtime import multihost, preemption, sharding
from poster_jax.train import teacher
from poster_jax.train.run import Run, make_cadence
from poster_jax.workdir import checks, finished, run_files, run_folder


def find_data(workdir: pathlib.Path, name: str, given: Sequence[tuple[str, str]]) -> config_lib.Data:
    """The run's own data, or where keys are given that of `own_posters` with them, at the size that the network takes.

    Raises UserError for keys that are not about posters, and for data of the run that is not on this machine.
    """
    config = run_files.read_run(workdir)[0]
    for key, _ in given:
        if not key.startswith("data.") or key == "data.image_size":
            raise errors.UserError(
                f"--config.{key} cannot be given here: only what says where posters and labels are, as --config.data.csv=FILE."
            )
    if given:
        other = own.settle(config_lib.load("own_posters", given), [key for key, _ in given])
        return config_lib.derive(other, {"data.image_size": config.data.image_size}).data
    place = config.data.csv or config.data.dir
    if place and "://" not in place and not pathlib.Path(place).exists():
        raise errors.UserError(
            f"the posters of {name} are not here, as {place} does not exist: name posters with labels by "
            "--config.data.csv=FILE or --config.data.dir=FOLDER."
        )
    return config.data


def open_loader(config: config_lib.Config, workdir: pathlib.Path) -> input_pipeline.Loader:
    """Opens the run's input and prints a summary; nothing is written yet."""
    shardings = sharding.make_shardings()
    for name in ("train", "eval"):
        sharding.check_batch_size(f"{name}.batch_size", config[name].batch_size, shardings.mesh.size)
    loader = input_pipeline.open_loader(config.data, shardings, run_folder.remember_choice(workdir, "path"))
    named, share = config.train.teacher, config.train.teacher_share
    if named:
        target = multihost.from_main(lambda: teacher.soften(loader.rows, named, share))
        loader = dataclasses.replace(loader, rows=dataclasses.replace(loader.rows, target=target))
    told = [f"teacher: {named}, whose scores are {share:g} of each training target"] if named else []
    print("\n".join([*loader.rows.describe(), *told, f"input: {loader.path}, because {loader.why}"]), flush=True)
    return loader


def begin(config: config_lib.Config, workdir: pathlib.Path, loader: input_pipeline.Loader) -> None:
    """Writes config.json, and what is known of the data: chosen.json, refused.csv and labels.json."""
    # The config is first: a folder without one is taken for somebody else's.
    run_folder.begin(workdir, config)
    run_folder.remember_choice(workdir, "path", (loader.path, loader.why))
    if config.train.teacher:
        _remember_teacher(config, workdir, loader)
    multihost.from_main(lambda: catalog.write_refused(loader.rows.refused, workdir / run_files.REFUSED))
    auxiliary = loader.rows.summary["auxiliary_genres"]
    run_files.write_labels(workdir, genres=loader.rows.genres, auxiliary_genres=auxiliary, encoding=config.data.encoding)


def _remember_teacher(config: config_lib.Config, workdir: pathlib.Path, loader: input_pipeline.Loader) -> None:
    """Raises UserError where the run had begun with other scores of its teacher."""
    found = teacher.fingerprint(loader.rows)
    earlier = run_folder.remember_choice(workdir, "teacher", (found, config.train.teacher))
    if earlier is not None and earlier[0] != found:
        raise errors.UserError(
            f"the scores of {config.train.teacher} on the training posters are not those that the run in {workdir} began with: "
            "give the same teacher again, or another --workdir."
        )


def load_weights(run: Run) -> pretrained.Pretrained | None:
    """The weights that the run begins with, None for drawn ones, and a line with their sha256.

    Raises UserError where the run had begun with another file, which the folder remembers beside what `auto` chose.
    """
    loaded = models.load_pretrained(**run.config.model)
    if loaded is None:
        return None
    source = loaded.provenance["source"]
    earlier = run_folder.remember_choice(run.workdir, "weights", (loaded.file_sha256, source))
    if earlier is not None and earlier[0] != loaded.file_sha256:
        raise errors.UserError(
            f"the run in {run.workdir} began with weights of sha256 {earlier[0]} ({earlier[1]}), and {source} has "
            f"{loaded.file_sha256}: give that file again, or another --workdir."
        )
    print(f"weights: {source}, sha256 {loaded.file_sha256}", flush=True)
    return loaded


def run_seeds(
    config: config_lib.Config,
    workdir: pathlib.Path,
    loader: input_pipeline.Loader,
    stop: preemption.StopRequest,
    run_seed: Callable[[Run], dict[str, Any]],
) -> dict[str, Any]:
    """`run_seed` for every seed of the config: in the workdir itself, or for several seeds in folders of it.

    The results of several have the results of each, and what the mean of their scores is worth.
    """
    cadence = make_cadence(config, len(loader.rows.parts["train"]))
    seeds = range(config.seed, config.seed + config.num_seeds)
    folders = [workdir] if config.num_seeds == 1 else [workdir / f"seed_{seed}" for seed in seeds]
    multihost.from_main(lambda: finished.check_length(folders, cadence.total))
    begin(config, workdir, loader)
    if config.num_seeds == 1:
        return run_seed(Run(config, config.seed, workdir, loader, cadence, stop))
    results, trained = [], False
    for seed, folder in zip(seeds, folders, strict=True):
        folder.mkdir(exist_ok=True)
        trained = trained or not run_files.has_results(folder)
        results.append(run_seed(Run(config, seed, folder, loader, cadence, stop)))
    together = {"title": results[0]["title"], "data": results[0]["data"], "seeds": results}
    known = None if trained else multihost.from_main(lambda: _read_mean(workdir))
    together["mean_of_scores"] = known or measure_mean(config, loader, folders)
    if known is None:
        run_files.write_results(workdir, together)
    return together


def measure_mean(config: config_lib.Config, loader: input_pipeline.Loader, folders: Sequence[pathlib.Path]) -> dict[str, Any]:
    """{"splits", "calibration"} of the mean of the scores that the networks in these folders gave each row."""
    rows = loader.rows

    def mean() -> measure.Scores:
        found = [run_files.read_predictions(folder, len(rows.genres)) for folder in folders]
        for part, at in rows.parts.items():
            if any(not np.array_equal(one[f"{part}_id"], rows.movie_id[at]) for one in found):
                raise ValueError(f"the rows of part {part} in {folders[0].parent} are not those of its data")
        scores = {part: [one[f"{part}_score"] for one in found] for part in rows.parts}
        return {part: np.mean(each, axis=0, dtype=np.float64).astype(np.float32) for part, each in scores.items()}

    scores = multihost.from_main(mean)
    return {"splits": measure.score_parts(config, rows, scores), **measure.calibrate(config, rows, scores)}


def _read_mean(workdir: pathlib.Path) -> dict[str, Any] | None:
    """What `measure_mean` found at an earlier start; None where it has not been measured, or is damaged."""
    try:
        return run_files.read_whole(workdir).get("mean_of_scores") if run_files.has_results(workdir) else None
    except checks.DamagedFile:
        return None
