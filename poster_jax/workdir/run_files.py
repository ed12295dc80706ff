"""Names and formats of the files of a run folder: the only place that reads and writes them."""

import json
import pathlib
import zipfile
from typing import Any

import numpy as np

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.metrics import definitions, paired, scoring
from poster_jax.runtime import storage
from poster_jax.workdir import run_folder


def load_run(folder: pathlib.Path, part: str) -> paired.Candidate:
    """Reads labels.json, and predictions.npz of the folder or of its seed_* folders.

    Raises UserError for a folder that is no finished run, a part it does not have, and scores that are not within [0, 1].
    """
    folders = sorted(path for path in folder.glob("seed_*") if path.is_dir()) or [folder]
    # A seed's folder leaves the genres to the folder above it.
    found = [path for place in (folder, folders[0], folder.parent) if (path := place / "labels.json").is_file()]
    if not found:
        raise errors.UserError(f"{folder} is not a run of poster_jax: it has no labels.json; name a workdir.")
    genres = tuple(json.loads(found[0].read_text())["genres"])
    return paired.Candidate(str(folder), genres, tuple(load_scores(path, part, len(genres)) for path in folders))


def load_scores(folder: pathlib.Path, part: str, num_genres: int) -> paired.Scores:
    """One network's predictions.npz; raises UserError where it is missing, damaged, or lacks a part."""
    path = folder / "predictions.npz"
    if not path.is_file():
        raise errors.UserError(f"{folder} has no predictions.npz: let its run finish, or name another workdir.")
    try:
        arrays = storage.load_arrays(path)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise errors.UserError(f"{path} cannot be read ({error}): measure its run again.") from error
    known = [name.removesuffix("_id") for name in arrays if name.endswith("_id")]
    for wanted in (part, "train", "validation"):
        if wanted not in known:
            raise errors.UserError(f"{path} has no part {wanted!r}; it has: {', '.join(known)}.")
    try:
        return paired.Scores(
            movie_id=arrays[f"{part}_id"],
            targets=definitions.make_targets(arrays[f"{part}_label"], num_genres),
            scores=definitions.check_scores(arrays[f"{part}_score"]),
            thresholds=scoring.choose_thresholds(arrays["validation_score"], arrays["validation_label"]),
            train_targets=definitions.make_targets(arrays["train_label"], num_genres),
        )
    except ValueError as error:
        raise errors.UserError(f"{path} cannot be measured ({error}): measure its run again.") from error


def read_run(workdir: pathlib.Path) -> tuple[config_lib.Config, dict[str, Any], tuple[str, ...]]:
    """(config, results.json, K genres) of one network's finished run; WORKDIR/seed_N of a run of several seeds.

    Raises UserError for a folder that is none, a run that has not finished, or one of several networks.
    """
    # The folder of one seed has its config in the folder above.
    home = workdir if (workdir / "config.json").is_file() or not workdir.name.startswith("seed_") else workdir.parent
    config = run_folder.load_config(home)
    try:
        results = json.loads((workdir / "results.json").read_text())
        labels = json.loads((home / "labels.json").read_text()) if "splits" in results else {}
    except (OSError, ValueError) as error:
        raise errors.UserError(f"the run in {workdir} has not finished: run its command again first.") from error
    if "seeds" in results:
        folders = ", ".join(str(workdir / f"seed_{one['seed']}") for one in results["seeds"])
        raise errors.UserError(f"{workdir} holds several networks: give one of {folders}.")
    if (workdir / "winner").is_dir():
        raise errors.UserError(f"{workdir} holds a search: give its best network, {workdir / 'winner'}.")
    if "splits" not in results:
        raise errors.UserError(f"{workdir} holds no single network: give the workdir of a run in it.")
    return config, results, tuple(labels["genres"])


def load_seeds(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """The results of each seed of a finished workdir."""
    results = json.loads((workdir / "results.json").read_text())
    return results.get("seeds", [results])


def list_networks(workdir: pathlib.Path) -> list[pathlib.Path]:
    """The folders that hold predictions.npz: one per seed."""
    seeds = load_seeds(workdir)
    return [workdir] if len(seeds) == 1 else [workdir / f"seed_{seed['seed']}" for seed in seeds]


def find_genres(folder: pathlib.Path) -> tuple[str, ...]:
    # A seed's folder, and a branch's in it, leave the genres to the folder above.
    path = next(place / "labels.json" for place in (folder, *folder.parents) if (place / "labels.json").is_file())
    return tuple(json.loads(path.read_text())["genres"])


def has_results(workdir: pathlib.Path) -> bool:
    """True for a folder whose run has finished."""
    return (workdir / RESULTS).exists()


def read_results(workdir: pathlib.Path) -> dict[str, Any]:
    return json.loads((workdir / "results.json").read_text())


def read_finished(workdir: pathlib.Path, num_steps: int) -> dict[str, Any] | None:
    """The results of a run that has taken all its steps, or None."""
    from poster_jax.runtime import multihost

    results = multihost.from_main(lambda: read_results(workdir) if has_results(workdir) else None)
    return results if results and results["num_steps"] == num_steps else None


def write_results(workdir: pathlib.Path, results: dict[str, Any]) -> None:
    storage.write_json(workdir / "results.json", results)


def write_predictions(workdir, parts, movie_id, label, scores) -> None:
    import io

    arrays = {}
    for part, at in parts.items():
        arrays[f"{part}_id"] = movie_id[at]
        arrays[f"{part}_label"] = label[at]
        arrays[f"{part}_score"] = scores[part]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    storage.write_atomic(workdir / "predictions.npz", buffer.getvalue())


def read_lines(workdir):
    from poster_jax.workdir import logbook

    return logbook.read_lines(workdir / "metrics.jsonl")


RESULTS = "results.json"
