"""`python -m poster_jax.compare RUN RUN [RUN ...] [--part=test] [--samples=2000] [--json=FILE]`: which run is better?

A paired bootstrap over the movies that all runs share: every run is measured on the same resamples, so that what makes a draw
of movies easy or hard cancels in the difference. A RUN is a workdir; one with seed_* folders is a recipe, whose metric is the
mean over its seeds, so its interval says what other movies would change, not what other seeds would.
"""

import argparse
import dataclasses
import functools
import json
import pathlib
import sys
import zipfile
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from poster_jax import bootstrap, errors, floors, measures, metrics, store
from poster_jax import workdir as workdir_lib

EXIT_MISTAKE = 2
BOOTSTRAP_SEED = 0
TUNED = "@tuned"
AVERAGE_PRECISION = "average_precision"
BETTER, WORSE, APART, UNDEFINED = "better", "worse", "cannot be told apart", "undefined"
NO_VALUE = "-"


@dataclasses.dataclass(frozen=True)
class Scores:
    """One network's scores [N, K] of one part, beside targets bool [N, K] and movie ids [N]; thresholds [K] from validation."""

    movie_id: npt.NDArray
    targets: npt.NDArray
    scores: npt.NDArray
    thresholds: npt.NDArray
    train_targets: npt.NDArray


@dataclasses.dataclass(frozen=True)
class Run:
    """A workdir: one network, or one for each of its seeds."""

    name: str
    genres: tuple[str, ...]
    seeds: tuple[Scores, ...]


def load_run(folder: pathlib.Path, part: str) -> Run:
    """Reads labels.json, and predictions.npz of the folder or of its seed_* folders.

    Raises UserError for a folder that is no finished run, a part it does not have, and scores that are not within [0, 1].
    """
    folders = sorted(path for path in folder.glob("seed_*") if path.is_dir()) or [folder]
    # A seed's folder leaves the genres to the folder above it.
    found = [path for place in (folder, folders[0], folder.parent) if (path := place / "labels.json").is_file()]
    if not found:
        raise errors.UserError(f"{folder} is not a run of poster_jax: it has no labels.json; name a workdir.")
    genres = tuple(json.loads(found[0].read_text())["genres"])
    return Run(str(folder), genres, tuple(load_scores(path, part, len(genres)) for path in folders))


def load_scores(folder: pathlib.Path, part: str, num_genres: int) -> Scores:
    """One network's predictions.npz; raises UserError where it is missing, damaged, or lacks a part."""
    path = folder / "predictions.npz"
    if not path.is_file():
        raise errors.UserError(f"{folder} has no predictions.npz: let its run finish, or name another workdir.")
    try:
        arrays = store.load_arrays(path)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise errors.UserError(f"{path} cannot be read ({error}): measure its run again.") from error
    known = [name.removesuffix("_id") for name in arrays if name.endswith("_id")]
    for wanted in (part, "train", "validation"):
        if wanted not in known:
            raise errors.UserError(f"{path} has no part {wanted!r}; it has: {', '.join(known)}.")
    try:
        return Scores(
            movie_id=arrays[f"{part}_id"],
            targets=measures.make_targets(arrays[f"{part}_label"], num_genres),
            scores=measures.check_scores(arrays[f"{part}_score"]),
            thresholds=metrics.choose_thresholds(arrays["validation_score"], arrays["validation_label"]),
            train_targets=measures.make_targets(arrays["train_label"], num_genres),
        )
    except ValueError as error:
        raise errors.UserError(f"{path} cannot be measured ({error}): measure its run again.") from error


def align(runs: Sequence[Run]) -> tuple[npt.NDArray, list[Run]]:
    """(sorted ids of the movies that all runs have, the runs with the rows of those movies, in one order).

    Raises UserError when the runs have other genres, no movie in common, or a movie with other labels.
    """
    first = runs[0]
    for run in runs[1:]:
        if run.genres != first.genres:
            raise errors.UserError(
                f"{run.name} has the genres {', '.join(run.genres)}, and {first.name} has {', '.join(first.genres)}: "
                "compare runs of the same genres in the same order."
            )
    shared = functools.reduce(np.intersect1d, [seed.movie_id for run in runs for seed in run.seeds])
    if not len(shared):
        raise errors.UserError(
            f"{', '.join(run.name for run in runs)} have no movie in common in this part: "
            "compare runs of one data set and split."
        )
    aligned = [dataclasses.replace(run, seeds=tuple(_shared_rows(seed, shared) for seed in run.seeds)) for run in runs]
    for run in aligned:
        for seed in run.seeds:
            differing = _first_difference(aligned[0].seeds[0], seed)
            if differing is not None:
                raise errors.UserError(
                    f"movie {differing} has other labels in {run.name} than in {first.name}: "
                    "compare runs whose labels are encoded and balanced alike."
                )
    return shared, aligned


def _shared_rows(seed: Scores, shared: npt.NDArray) -> Scores:
    """The rows of the shared movies by id, and those of one movie by their labels."""
    order = np.lexsort((*seed.targets.T, seed.movie_id))
    order = order[np.isin(seed.movie_id[order], shared)]
    return dataclasses.replace(seed, movie_id=seed.movie_id[order], targets=seed.targets[order], scores=seed.scores[order])


def _first_difference(one: Scores, other: Scores) -> int | None:
    """The first movie whose rows of labels are not the same in both, None where there is no such movie."""
    num_rows = min(len(one.movie_id), len(other.movie_id))
    ids = np.stack([one.movie_id[:num_rows], other.movie_id[:num_rows]])
    unlike = (ids[0] != ids[1]) | (one.targets[:num_rows] != other.targets[:num_rows]).any(axis=1)
    if unlike.any():
        return int(ids[:, unlike.argmax()].min())
    longer = one if len(one.movie_id) > num_rows else other
    return int(longer.movie_id[num_rows]) if len(longer.movie_id) > num_rows else None


def compare(runs: Sequence[Run], *, num_samples: int, seed: int) -> dict[str, Any]:
    """Every metric of every run, and its difference to the first run with a 95 % interval, ready for JSON.

    Raises UserError as `align` does. Thresholds named @tuned are each network's own, chosen on its validation part. The floor
    is the best constant answer, which knows the training labels of the first run. None where a value is undefined.
    """
    shared, aligned = align(runs)
    rows = aligned[0].seeds[0]
    networks = [network for run in aligned for network in run.seeds]
    measured = [_make_measure(network) for network in networks]
    plain = [measures.plain(measure, len(rows.targets)) for measure in measured]
    resampled = bootstrap.resample(measured, rows.movie_id, num_samples=num_samples, seed=seed)
    ends = np.cumsum([len(run.seeds) for run in aligned])
    owned = [slice(end - len(run.seeds), end) for run, end in zip(aligned, ends, strict=True)]

    def entry(name: str, column: Any, floor: float | npt.NDArray) -> dict[str, Any]:
        by_seed = [[float(values[name][column]) for values in plain[own]] for own in owned]
        samples = [np.mean([drawn[name][(slice(None), *column)] for drawn in resampled[own]], axis=0) for own in owned]
        values = [float(np.mean(each)) for each in by_seed]
        better = -1 if name in measures.LOWER_IS_BETTER else 1
        return {
            "floor": _number(floor),
            "values": [_number(value) for value in values],
            "seeds": [[_number(value) for value in each] for each in by_seed],
            "differences": [_difference(values[i] - values[0], samples[i] - samples[0], better) for i in range(1, len(runs))],
        }

    constants = floors.constant_values(rows.targets, rows.train_targets, ["", TUNED]).values()
    headlines = {}
    for name in metrics.headline_names(["", TUNED]):
        best = np.min if name in measures.LOWER_IS_BETTER else np.max
        headlines[name] = entry(name, (), best([constant[name] for constant in constants]))
    counts = rows.targets.sum(axis=0)
    return {
        "num_movies": len(shared),
        "num_rows": len(rows.targets),
        "num_samples": num_samples,
        "genres": list(aligned[0].genres),
        "runs": [
            {"name": run.name, "num_seeds": len(run.seeds), "num_left_out": _num_movies(run) - len(shared)} for run in runs
        ],
        "metrics": headlines,
        "per_genre": {
            genre: {"count": int(counts[k]), AVERAGE_PRECISION: entry(AVERAGE_PRECISION, (k,), counts[k] / len(rows.targets))}
            for k, genre in enumerate(aligned[0].genres)
        },
    }


def _make_measure(network: Scores) -> measures.Measure:
    decisions = {"": network.scores >= metrics.UNTUNED_THRESHOLD, TUNED: network.scores >= network.thresholds}
    return measures.make_measure(network.scores, network.targets, decisions)


def _num_movies(run: Run) -> int:
    return len(functools.reduce(np.union1d, [seed.movie_id for seed in run.seeds]))


def _number(value: float | npt.NDArray) -> float | None:
    return None if np.isnan(value) else float(value)


def _difference(value: float, samples: npt.NDArray, better: int) -> dict[str, Any]:
    """`other_sign` is the share of resamples in which the difference has the other sign, or none; None for no difference."""
    low, high = bootstrap.interval(samples)
    if np.isnan(value) or np.isnan(low):
        return {"value": None, "low": None, "high": None, "other_sign": None, "verdict": UNDEFINED}
    defined = samples[~np.isnan(samples)]
    verdict = APART if low <= 0 <= high else BETTER if value * better > 0 else WORSE
    other_sign = float((defined * np.sign(value) <= 0).mean()) if value else None
    return {"value": value, "low": low, "high": high, "other_sign": other_sign, "verdict": verdict}


def describe(found: dict[str, Any], part: str) -> str:
    """The result of `compare` as text: one table for each run after the first, which it is compared with."""
    lines = [
        f"{part}: {found['num_movies']:,} shared movies in {found['num_rows']:,} rows, "
        f"{found['num_samples']:,} resamples of movies"
    ]
    mean_ap = found["metrics"]["mean_average_precision"]["seeds"]
    for index, run in enumerate(found["runs"]):
        by_seed = ", ".join(_cell(value) for value in mean_ap[index])
        lines.append(
            f"  {_letter(index)} = {run['name']}: {run['num_left_out']:,} movies left out because they are not shared; "
            f"seeds {run['num_seeds']}, mean average precision {by_seed}"
        )
    for index in range(1, len(found["runs"])):
        lines += ["", *_table(found, index)]
    total = len(found["metrics"]) + len(found["per_genre"])
    lines += [
        "",
        "difference [95 % interval over movies]; sign: share of resamples where it has the other sign, or none",
        f"{APART}: the interval covers 0; of {total} intervals between equal runs about {total / 20:.0f} would miss it",
        f"floor: the best constant answer; {TUNED}: thresholds from validation; "
        f"{', '.join(measures.LOWER_IS_BETTER)}: lower is better",
    ]
    if min(run["num_seeds"] for run in found["runs"]) < 2:
        lines.append("with a single seed: another seed may differ by more than the interval, which is over movies alone")
    return "\n".join(lines)


def _table(found: dict[str, Any], index: int) -> list[str]:
    names = [*found["metrics"], *found["per_genre"]]
    entries = [*found["metrics"].values(), *(genre[AVERAGE_PRECISION] for genre in found["per_genre"].values())]
    width = max(map(len, names)) + 2
    head = f"{'':<{width}}{'floor':>7}{'A':>8}{_letter(index):>8}  {f'{_letter(index)} - A':<25}{'sign':>7}"
    lines = [head]
    for row, (name, entry) in enumerate(zip(names, entries, strict=True)):
        if row == len(found["metrics"]):
            lines.append("average precision by genre")
        gap = entry["differences"][index - 1]
        interval = NO_VALUE
        if gap["value"] is not None:
            interval = f"{gap['value']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]"
        values = f"{_cell(entry['values'][0]):>8}{_cell(entry['values'][index]):>8}"
        lines.append(
            f"{name:<{width}}{_cell(entry['floor']):>7}{values}  {interval:<25}{_cell(gap['other_sign']):>7}  {gap['verdict']}"
        )
    return lines


def _letter(index: int) -> str:
    return chr(ord("A") + index)


def _cell(value: float | None) -> str:
    return NO_VALUE if value is None else f"{value:.3f}"


class _Parser(argparse.ArgumentParser):
    """argparse that answers a mistake as everything else here does."""

    def error(self, message: str) -> NoReturn:
        raise errors.UserError(f"{message}; see python -m poster_jax.compare --help.")


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the comparison; returns the exit code, 2 for a mistake in what was asked."""
    parser = _Parser(prog="python -m poster_jax.compare", description=__doc__, allow_abbrev=False)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a workdir; the others are compared with the first")
    parser.add_argument("--part", default="test", help="train, validation or test")
    parser.add_argument("--samples", type=int, default=2000, help="resamples of the movies")
    parser.add_argument("--json", type=pathlib.Path, help="write the same here")
    try:
        flags = parser.parse_args(argv)
        if len(flags.runs) < 2:
            raise errors.UserError(f"a comparison needs two runs and {flags.runs[0]} is one: name another workdir.")
        if flags.samples < 1:
            raise errors.UserError(f"--samples={flags.samples} cannot be: a bootstrap needs at least 1, better 1000.")
        runs = [load_run(store.as_path(folder), flags.part) for folder in flags.runs]
        found = {"part": flags.part, **compare(runs, num_samples=flags.samples, seed=BOOTSTRAP_SEED)}
        print(describe(found, flags.part))
        if flags.json:
            _write_json(flags.json, found)
    except errors.UserError as error:
        print(f"poster_jax: {error}", file=sys.stderr)
        return EXIT_MISTAKE
    return 0


def _write_json(path: pathlib.Path, found: dict[str, Any]) -> None:
    try:
        workdir_lib.write_json(path, found)
    except OSError as error:
        raise errors.UserError(f"--json={path} cannot be written ({error.strerror}): name another file.") from error


if __name__ == "__main__":
    sys.exit(main())
