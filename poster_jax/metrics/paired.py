"""The paired bootstrap: scores every run on the same resamples of the movies that all runs share."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from poster_jax import errors
from poster_jax.metrics import bootstrap, definitions, floors, power, ranks, scoring

TUNED = "@tuned"
AVERAGE_PRECISION = "average_precision"
BETTER, WORSE, APART, UNDEFINED = "better", "worse", "cannot be told apart", "undefined"


@dataclasses.dataclass(frozen=True)
class Scores:
    """One network's scores [N, K] of one part, with targets bool [N, K]; thresholds [K] of validation, or None.

    movie_id int [N] aligns runs; rows of one group, int [N], are resampled together. Scores that are no probabilities are
    compared by their order alone.
    """

    movie_id: npt.NDArray
    group: npt.NDArray
    targets: npt.NDArray
    scores: npt.NDArray
    thresholds: npt.NDArray | None
    is_probability: bool = True


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A workdir: one network, or one for each of its seeds."""

    name: str
    genres: tuple[str, ...]
    seeds: tuple[Scores, ...]


def align(runs: Sequence[Candidate]) -> tuple[npt.NDArray, list[Candidate]]:
    """(sorted ids of the movies that all runs share, the runs with those movies and the genres that all know, in one order).

    Genres stand in the order of the first run. Raises UserError if the runs share no genre or no movie, or differ in the labels
    of a movie.
    """
    first = runs[0]
    genres = tuple(genre for genre in first.genres if all(genre in run.genres for run in runs))
    if not genres:
        known = "; ".join(f"{run.name} knows {', '.join(run.genres)}" for run in runs)
        raise errors.UserError(f"the runs have no genre in common ({known}): compare runs that share some.")
    runs = [_with_genres(run, genres) for run in runs]
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


def _with_genres(run: Candidate, genres: tuple[str, ...]) -> Candidate:
    """The run with these of its genres alone, in this order."""
    if run.genres == genres:
        return run
    columns = [run.genres.index(genre) for genre in genres]

    def kept(seed: Scores) -> Scores:
        return dataclasses.replace(
            seed,
            targets=seed.targets[:, columns],
            scores=seed.scores[:, columns],
            thresholds=None if seed.thresholds is None else seed.thresholds[columns],
        )

    return dataclasses.replace(run, genres=genres, seeds=tuple(kept(seed) for seed in run.seeds))


def is_identical(one: Candidate, other: Candidate) -> bool:
    """Whether two aligned runs have the same scores and thresholds, seed by seed, to the last bit."""
    return len(one.seeds) == len(other.seeds) and all(
        np.array_equal(a.scores, b.scores)
        and (a.thresholds is b.thresholds is None or np.array_equal(a.thresholds, b.thresholds))  # type: ignore[arg-type]
        for a, b in zip(one.seeds, other.seeds, strict=True)
    )


def _shared_rows(seed: Scores, shared: npt.NDArray) -> Scores:
    """The rows of the shared movies, sorted by id and then by labels."""
    order = np.lexsort((*seed.targets.T, seed.movie_id))
    order = order[np.isin(seed.movie_id[order], shared)]
    rows = {name: getattr(seed, name)[order] for name in ("movie_id", "group", "targets", "scores")}
    return dataclasses.replace(seed, **rows)


def _first_difference(one: Scores, other: Scores) -> int | None:
    """The first movie whose label rows differ between the two, or None."""
    num_rows = min(len(one.movie_id), len(other.movie_id))
    ids = np.stack([one.movie_id[:num_rows], other.movie_id[:num_rows]])
    unlike = (ids[0] != ids[1]) | (one.targets[:num_rows] != other.targets[:num_rows]).any(axis=1)
    if unlike.any():
        return int(ids[:, unlike.argmax()].min())
    longer = one if len(one.movie_id) > num_rows else other
    return int(longer.movie_id[num_rows]) if len(longer.movie_id) > num_rows else None


def compare(runs: Sequence[Candidate], *, num_samples: int, seed: int) -> dict[str, Any]:
    """Every metric of every run, and its difference to the first run with a 95 % interval, ready for JSON.

    Raises UserError as `align` does. Thresholds named @tuned are each network's own, chosen on its validation part, and left
    out where one has none; where one has no probabilities, all are compared by order alone. The floor is the best constant
    answer on these rows, "smallest" the true difference that such a test set shows in four of five cases. Undefined values are
    None.
    """
    shared, aligned = align(runs)
    rows = aligned[0].seeds[0]
    networks = [network for run in aligned for network in run.seeds]
    suffixes = _suffixes(networks)
    measured = [_make_measure(network, suffixes) for network in networks]
    plain = [definitions.plain(measure, len(rows.targets)) for measure in measured]
    resampled = bootstrap.resample(measured, rows.group, num_samples=num_samples, seed=seed)
    ends = np.cumsum([len(run.seeds) for run in aligned])
    owned = [slice(end - len(run.seeds), end) for run, end in zip(aligned, ends, strict=True)]

    def entry(name: str, column: tuple[int, ...], floor: float | npt.NDArray) -> dict[str, Any]:
        by_seed = [[float(values[name][column]) for values in plain[own]] for own in owned]
        samples = [np.mean([drawn[name][(slice(None), *column)] for drawn in resampled[own]], axis=0) for own in owned]
        values = [float(np.mean(each)) for each in by_seed]
        better = -1 if name in definitions.LOWER_IS_BETTER else 1
        return {
            "floor": _number(floor),
            "values": [_number(value) for value in values],
            "seeds": [[_number(value) for value in each] for each in by_seed],
            "differences": [_difference(values[i] - values[0], samples[i] - samples[0], better) for i in range(1, len(runs))],
        }

    constants = floors.best_constants(rows.targets, suffixes)
    names = scoring.headline_names(suffixes) if suffixes else ranks.BY_ORDER
    headlines = {name: entry(name, (), constants[name]) for name in names}
    counts = rows.targets.sum(axis=0)
    return {
        "num_movies": len(shared),
        "num_rows": len(rows.targets),
        "num_samples": num_samples,
        "genres": list(aligned[0].genres),
        "runs": [
            {
                "name": run.name,
                "num_seeds": len(run.seeds),
                "num_left_out": _num_movies(run) - len(shared),
                "genres_left_out": [genre for genre in run.genres if genre not in aligned[0].genres],
                "identical_to_first": is_identical(aligned[0], own),
            }
            for run, own in zip(runs, aligned, strict=True)
        ],
        "metrics": headlines,
        "per_genre": {
            genre: {"count": int(counts[k]), AVERAGE_PRECISION: entry(AVERAGE_PRECISION, (k,), counts[k] / len(rows.targets))}
            for k, genre in enumerate(aligned[0].genres)
        },
    }


def difference_between(
    one: npt.NDArray, other: npt.NDArray, targets: npt.NDArray, groups: npt.NDArray, *, num_samples: int, seed: int
) -> dict[str, float | None]:
    """{"value", "low", "high"}: mean average precision of scores `one` [N, K] minus that of `other`, on the same resamples."""
    measured = [definitions.make_measure(scores, targets, {}) for scores in (one, other)]
    name = definitions.MEAN_AP
    value = float(np.subtract(*(definitions.plain(measure, len(targets))[name] for measure in measured)))
    drawn = bootstrap.resample(measured, groups, num_samples=num_samples, seed=seed)
    low, high = bootstrap.percentiles(value, drawn[0][name] - drawn[1][name])
    return {"value": _number(value), "low": _number(low), "high": _number(high)}


def _suffixes(networks: Sequence[Scores]) -> list[str]:
    """The thresholds that all networks have: 0.5 and @tuned, 0.5 alone, or none for scores that are no probabilities."""
    if not all(network.is_probability for network in networks):
        return []
    return [""] if any(network.thresholds is None for network in networks) else ["", TUNED]


def _make_measure(network: Scores, suffixes: Sequence[str]) -> definitions.Measure:
    limits = {"": scoring.UNTUNED_THRESHOLD, TUNED: network.thresholds}
    decisions = {suffix: network.scores >= limits[suffix] for suffix in suffixes}
    return definitions.make_measure(network.scores, network.targets, decisions)


def _num_movies(run: Candidate) -> int:
    return len(functools.reduce(np.union1d, [seed.movie_id for seed in run.seeds]))


def _number(value: float | npt.NDArray) -> float | None:
    return None if np.isnan(value) else float(value)


def _difference(value: float, samples: npt.NDArray, better: int) -> dict[str, Any]:
    """`smallest` as `compare` says; `other_sign`: share of resamples in which the difference is zero or has the other sign.

    Both are None for runs without any difference.
    """
    low, high = bootstrap.percentiles(value, samples)
    if np.isnan(value) or np.isnan(low):
        return {"value": None, "low": None, "high": None, "other_sign": None, "smallest": None, "verdict": UNDEFINED}
    defined = samples[~np.isnan(samples)]
    verdict = APART if low <= 0 <= high else BETTER if value * better > 0 else WORSE
    other_sign = float((defined * np.sign(value) <= 0).mean()) if value else None
    smallest = power.detectable(float(defined.std(ddof=1))) if len(defined) > 1 else None
    return {
        "value": value,
        "low": low,
        "high": high,
        "other_sign": other_sign,
        "smallest": smallest or None,
        "verdict": verdict,
    }
