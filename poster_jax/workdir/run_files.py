"""The files that a run leaves in its folder: their names and formats, every writer beside its reader.

The folder is the interface between stages, so protocols write through this module, and `predict`, `compare`, `export` and
`report` read through it. Nothing here needs jax, the posters or the network.
"""

import io
import pathlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.metrics import definitions, paired, scoring
from poster_jax.runtime import storage, tables
from poster_jax.workdir import checks, forms, npz, run_folder

RESULTS = "results.json"
LABELS = "labels.json"
PREDICTIONS = "predictions.npz"
SAMPLES = "samples.npz"
METRICS = "metrics.jsonl"  # equal for equal runs
TIMINGS = "timings.jsonl"  # what differs between equal runs
REFUSED = "refused.csv"  # written by data.catalog.write_refused
TRIALS = "trials.csv"
NUM_SAMPLES = 1000  # resamples of the movies where older results are measured again
DIVERGED = "diverged.json"  # of a cell of an ablation
WINNER = "winner"  # a search's best network, as a run folder of its own

# The ways out of a damaged file, by who writes it.
MEASURE_AGAIN = "run its command again, which measures it from the checkpoint"
WRITE_AGAIN = "run its command again, which writes it"
ANOTHER_WORKDIR = "run the command again in another workdir"

# The table that only one protocol has. Folders written before results.json named its protocol are known by it.
TABLE_KEYS = {"ledger": "reproduce", "ablation": "ablation", "search": "search", "branches": "transfer"}
TABLE_KEYS |= {"probe": "probe", "splits": "single"}


def write_results(workdir: pathlib.Path, results: Mapping[str, Any]) -> None:
    """Writes results.json. A run has finished when this file exists, so it is written last."""
    storage.write_json(workdir / RESULTS, results)


def has_results(workdir: pathlib.Path) -> bool:
    """True for a folder whose run has finished."""
    return (workdir / RESULTS).exists()


def remove_results(workdir: pathlib.Path) -> None:
    """Makes a run unfinished again; the folder may be without results."""
    (workdir / RESULTS).unlink(missing_ok=True)


def read_results(workdir: pathlib.Path) -> dict[str, Any]:
    """results.json of a finished run, of one protocol or none; raises UserError where it is missing or damaged.

    `read_whole` looks at all of it.
    """
    path = workdir / RESULTS
    if not has_results(workdir):
        raise errors.UserError(f"the run in {workdir} has not finished: it has no results.json; run its command again first.")
    with checks.named(path, MEASURE_AGAIN):
        results = checks.read_json(path)
        forms.check_shape(results)
        protocol = find_protocol(results)
        checks.require(protocol in ("", *TABLE_KEYS.values()), "protocol", f"{protocol!r} is none")
    return results


def read_whole(workdir: pathlib.Path, protocol: str = "") -> dict[str, Any]:
    """As `read_results`, of a form that every table and figure can use, and of this protocol where one is given."""
    results = read_results(workdir)
    with checks.named(workdir / RESULTS, MEASURE_AGAIN):
        checks.require(protocol in ("", find_protocol(results)), "protocol", f"not {protocol}")
        forms.check_results(results, find_protocol(results))
    return results


def read_measured(folder: pathlib.Path, results: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """predictions.npz of one network, of the rows and genres of its results; raises as `read_predictions` does."""
    found = read_predictions(folder, len(results["data"]["genres"]))
    with checks.named(folder / PREDICTIONS, MEASURE_AGAIN):
        npz.check_rows(found, {part: split["num_rows"] for part, split in results["splits"].items()})
    return found


def complete(folder: pathlib.Path, results: Mapping[str, Any]) -> dict[str, Any]:
    """The results of one network, its "splits" measured again from predictions.npz where they lack chance.

    Folders of older versions do, and have other floors and other intervals of average precision. The folder stays as it is.
    Raises UserError where predictions.npz is needed and cannot be read.
    """
    if "splits" not in results or "chance" in results["splits"]["test"]["metrics"]["mean_average_precision"]:
        return dict(results)
    arrays = read_measured(folder, results)
    tuned = scoring.choose_thresholds(arrays["validation_score"], arrays["validation_label"])
    about = {"genres": results["data"]["genres"], "thresholds": {"tuned": tuned}}
    about |= {"num_samples": NUM_SAMPLES, "seed": results["seed"]}
    splits = {
        part: scoring.score(arrays[f"{part}_score"], arrays[f"{part}_label"], find_groups(arrays, part), **about)
        for part in list_parts(arrays)
    }
    return {**results, "splits": splits}


def find_protocol(results: Mapping[str, Any]) -> str:
    """The protocol that wrote these results; that of the first seed where there are several; "" for other JSON."""
    first = results["seeds"][0] if results.get("seeds") else results
    if "protocol" in first:
        return first["protocol"]
    return next((protocol for key, protocol in TABLE_KEYS.items() if key in first), "")


def list_seeds(workdir: pathlib.Path) -> dict[pathlib.Path, dict[str, Any]]:
    """{folder: its results} of every seed of a finished run: the workdir itself, or its seed_N where it has several."""
    results = read_results(workdir)
    if "seeds" not in results:
        return {workdir: complete(workdir, results)}
    folders = {workdir / f"seed_{one['seed']}": one for one in results["seeds"]}
    return {folder: complete(folder, one) for folder, one in folders.items()}


def read_diverged(folder: pathlib.Path) -> int:
    """The step at which a cell's scores were not finite; raises UserError for a damaged file."""
    with checks.named(folder / DIVERGED, "remove it and run the command again, which trains the network anew"):
        about = checks.read_json(folder / DIVERGED)
        checks.check(about, {"step": checks.COUNT})
    return about["step"]


def write_labels(workdir: pathlib.Path, *, genres: Sequence[str], auxiliary_genres: Sequence[str], encoding: str) -> None:
    """Writes labels.json: the K genres in label order, those learnt beside them, and the name of the encoding."""
    about = {"genres": genres, "auxiliary_genres": auxiliary_genres, "encoding": encoding}
    storage.write_json(workdir / LABELS, about)


def find_genres(folder: pathlib.Path) -> tuple[str, ...]:
    """The K genres of a run folder, in label order; raises UserError where no labels.json can be read.

    labels.json is in the workdir. So it is looked for in the folder, in its first seed_* folder, and in the two folders above:
    a seed is one level below the workdir, a branch of a seed two.
    """
    places = [folder, *sorted(folder.glob("seed_*"))[:1], folder.parent, folder.parent.parent]
    path = next((path for place in places if (path := place / LABELS).is_file()), None)
    if path is None:
        raise errors.UserError(f"{folder} is not a run of poster_jax: it has no labels.json; name a workdir.")
    with checks.named(path, WRITE_AGAIN):
        about = checks.read_json(path)
        checks.check(about, {"genres": checks.Many(checks.TEXT, 1)})
        checks.require(len(set(about["genres"])) == len(about["genres"]), "genres", "a name is there twice")
    return tuple(about["genres"])


def write_predictions(
    workdir: pathlib.Path,
    parts: Mapping[str, np.ndarray],
    movie_id: np.ndarray,
    group: np.ndarray,
    *,
    label: np.ndarray,
    scores: Mapping[str, np.ndarray],
) -> None:
    """Writes predictions.npz: PART_id and PART_group [n], PART_label [n] or [n, K] and PART_score [n, K] of every part.

    Args:
        parts: {part: positions [n] in `movie_id`, `group` [N] and `label` [N] or [N, K]}; scores: {part: [n, K]}.
    """
    arrays = {}
    for part, positions in parts.items():
        arrays[f"{part}_id"] = movie_id[positions]
        arrays[f"{part}_group"] = group[positions]
        arrays[f"{part}_label"] = label[positions]
        arrays[f"{part}_score"] = scores[part]
    _write_arrays(workdir / PREDICTIONS, arrays)


def read_predictions(folder: pathlib.Path, num_genres: int | None = None) -> dict[str, np.ndarray]:
    """The arrays of `write_predictions`, of `num_genres` genres where it is given; raises UserError where they are missing or
    damaged."""
    path = folder / PREDICTIONS
    if not path.is_file():
        raise checks.DamagedFile(f"{folder} has no predictions.npz", "let its run finish, or name another workdir")
    found = _read_arrays(path)
    with checks.named(path, MEASURE_AGAIN):
        npz.check_predictions(found, num_genres)
    return found


def list_parts(predictions: Mapping[str, np.ndarray]) -> list[str]:
    """The parts that predictions have: train, validation and test, of a run of ours."""
    return [name.removesuffix("_id") for name in predictions if name.endswith("_id")]


def find_groups(predictions: Mapping[str, np.ndarray], part: str) -> np.ndarray:
    """int [n], equal for rows of one movie and of duplicate posters; older predictions know movies alone."""
    return predictions.get(f"{part}_group", predictions[f"{part}_id"])


def write_samples(workdir: pathlib.Path, samples: Mapping[str, np.ndarray]) -> None:
    """Writes samples.npz; `protocols/samples.py` says what is in it."""
    _write_arrays(workdir / SAMPLES, samples)


def read_samples(folder: pathlib.Path, num_genres: int | None = None) -> dict[str, np.ndarray]:
    """The arrays of samples.npz; none for a run that has kept none. Raises UserError for a damaged file."""
    path = folder / SAMPLES
    if not path.is_file():
        return {}
    found = _read_arrays(path)
    with checks.named(path, MEASURE_AGAIN):
        npz.check_samples(found, num_genres)
    return found


def _write_arrays(path: pathlib.Path, content: Mapping[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **content)
    storage.write_atomic(path, buffer.getvalue())


def _read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        storage.refuse_bomb(path)
        return storage.load_arrays(path)
    except Exception as error:  # numpy, zipfile and zlib have no common class for a damaged file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise checks.DamagedFile(f"{path} cannot be read ({reason})", MEASURE_AGAIN) from error


def read_lines(workdir: pathlib.Path, name: str = METRICS) -> list[dict[str, Any]]:
    """The whole lines of metrics.jsonl or timings.jsonl; none where there is no file. A last line cut by a crash is dropped.

    Raises UserError for a damaged line before it.
    """
    with checks.named(workdir / name, ANOTHER_WORKDIR):
        text = checks.read_text(workdir / name)
        return checks.parse_lines(text[: text.rfind("\n") + 1])


def read_metrics(folder: pathlib.Path, metric: str = "") -> list[dict[str, Any]]:
    """The lines of a finished run's metrics.jsonl, none of which may be cut; raises UserError for a damaged file.

    Args:
        metric: of a search, whose lines of validation have it.
    """
    with checks.named(folder / METRICS, ANOTHER_WORKDIR):
        lines = checks.parse_lines(checks.read_text(folder / METRICS))
        for number, line in enumerate(lines, 1):
            if metric:
                checks.check(line, {**dict.fromkeys(("trial", "fold", "epoch"), checks.COUNT)}, f"line {number}")
                checks.require(line["part"] != "validation" or metric in line, f"line {number}", f"without {metric}")
    return lines


def read_train_loss(folder: pathlib.Path) -> dict[str, float | None]:
    """{"first", "last"} of the losses that a run has logged while training; None for both where it has logged none."""
    losses = [line["loss"] for line in read_metrics(folder) if line["part"] == "train" and "loss" in line]
    return {"first": losses[0], "last": losses[-1]} if losses else {"first": None, "last": None}


class Refusals(NamedTuple):
    """Catalog rows refused for one reason, and how many of them list each genre, the most frequent first."""

    num_rows: int
    genres: dict[str, int]


def read_refused(workdir: pathlib.Path) -> dict[str, Refusals]:
    """{reason: refusals} of refused.csv, the most frequent reason first; raises UserError where there is no such file."""
    path = workdir / REFUSED
    if not path.is_file():
        raise errors.UserError(f"{path} is missing: the folder is no whole workdir; copy all of it.")
    reasons: Counter[str] = Counter()
    genres: dict[str, Counter[str]] = {}
    with checks.named(path, WRITE_AGAIN):
        for row in checks.parse_table(checks.read_text(path), ("reason", "genres")):
            reasons[row["reason"]] += 1
            genres.setdefault(row["reason"], Counter()).update(name for name in row["genres"].split("|") if name)
    return {reason: Refusals(count, dict(genres[reason].most_common())) for reason, count in reasons.most_common()}


def write_trials(workdir: pathlib.Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes trials.csv, one row for each trial of a search that has ended; an undefined score is an empty cell."""
    text = tables.csv_text(list(rows[0]), [[row[name] for name in rows[0]] for row in rows]) if rows else ""
    storage.write_atomic(workdir / TRIALS, text)


def load_run(folder: pathlib.Path, part: str) -> paired.Candidate:
    """The scores of a run folder, of each of its seed_* folders where it has some.

    Raises UserError for a folder that is no finished run, a part it does not have, and scores that are not within [0, 1].
    """
    folders = sorted(path for path in folder.glob("seed_*") if path.is_dir()) or [folder]
    genres = find_genres(folder)
    return paired.Candidate(str(folder), genres, tuple(load_scores(path, part, len(genres)) for path in folders))


def load_scores(folder: pathlib.Path, part: str, num_genres: int) -> paired.Scores:
    """One network's predictions of a part; raises UserError where they are missing, damaged, or lack a part."""
    arrays, path = read_predictions(folder, num_genres), folder / PREDICTIONS
    known = list_parts(arrays)
    for needed in (part, "validation"):
        if needed not in known:
            raise errors.UserError(f"{path} has no part {needed!r}; it has: {', '.join(known)}.")
    try:
        return paired.Scores(
            movie_id=arrays[f"{part}_id"],
            group=find_groups(arrays, part),
            targets=definitions.make_targets(arrays[f"{part}_label"], num_genres),
            scores=definitions.check_scores(arrays[f"{part}_score"]),
            thresholds=scoring.choose_thresholds(arrays["validation_score"], arrays["validation_label"]),
        )
    except ValueError as error:
        raise errors.UserError(f"{path} cannot be measured ({error}): measure its run again.") from error


def read_run(workdir: pathlib.Path) -> tuple[config_lib.Config, dict[str, Any], tuple[str, ...]]:
    """(config, results, K genres) of one network's finished run; WORKDIR/seed_N of a run of several seeds.

    Raises UserError for a folder that is no workdir, a run that has not finished, or one of several networks.
    """
    # The folder of one seed has its config in the folder above.
    above = workdir.name.startswith("seed_") and not (workdir / "config.json").is_file()
    config = run_folder.load_config(workdir.parent if above else workdir)
    results = read_results(workdir)
    protocol = find_protocol(results)
    if "seeds" in results:
        folders = ", ".join(str(workdir / f"seed_{one['seed']}") for one in results["seeds"])
        raise errors.UserError(f"{workdir} holds several networks, and one is needed here: give one of {folders}.")
    if protocol == "search":
        raise errors.UserError(f"{workdir} holds a search: give its best network, {workdir / WINNER}.")
    if protocol == "probe":
        raise errors.UserError(f"{workdir} is a probe of features, which knows no pictures: give a run that trained a network.")
    if protocol in ("ablation", "reproduce", ""):
        raise errors.UserError(f"{workdir} holds no single network, as its results.json says: give the workdir of a run in it.")
    genres = find_genres(workdir)
    with checks.named(workdir / RESULTS, MEASURE_AGAIN):
        forms.check_results(results, protocol)
        checks.require(list(genres) == results["data"]["genres"], "data.genres", "not those of labels.json")
    return config, {"protocol": protocol, **complete(workdir, results)}, genres
