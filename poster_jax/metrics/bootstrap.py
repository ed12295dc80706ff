"""Bootstrap over movies: how much a metric varies between samples of the same number of movies.

The rows of one movie are drawn together. Drawing single rows would treat the copies of an exploded movie as independent, and
the interval would be too narrow.

Percentiles of the resamples are the interval of every metric but average precision and its mean. Those lean upwards: a positive
that is drawn twice also raises the precision at its own step, so resamples are above the value as the value is above its
expectation, and percentiles lie to one side. Their interval is Student's around the value less the bias of the resamples, on
the logit scale. Its scale is the root mean square of the resamples' distance from the value: the bias is an estimate too, and
this way the interval always holds the value. `bench/coverage.py` shows what covers, and what does not.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import scipy.special

from poster_jax.metrics import definitions

PERCENTILES = (2.5, 97.5)
MIN_MOVIES = 20  # with fewer a share that is 0 or 1 by luck has an interval of no width
CHUNK_CELLS = 2**20  # rows x resamples at once: 8 MB of float64, which fits a cache


def draw_weights(groups: npt.NDArray, num_samples: int, seed: int) -> Iterator[npt.NDArray]:
    """Yields float64 [S, N], how often each row is drawn, in chunks of S that sum to num_samples resamples.

    groups: int [N], the movie of each row; each resample draws as many movies as there are, with replacement.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples is {num_samples}, a bootstrap needs at least 1")
    movies, row_movie = np.unique(groups, return_inverse=True)
    num_movies = len(movies)
    rng = np.random.default_rng(seed)
    chunk = max(1, CHUNK_CELLS // len(groups))
    for start in range(0, num_samples, chunk):
        size = min(chunk, num_samples - start)
        drawn = rng.integers(0, num_movies, size=(size, num_movies)) + np.arange(size)[:, None] * num_movies
        counts = np.bincount(drawn.ravel(), minlength=size * num_movies).reshape(size, num_movies)
        yield counts.astype(np.float64)[:, row_movie]


def resample(
    measure_all: Sequence[definitions.Measure], groups: npt.NDArray, *, num_samples: int, seed: int
) -> list[dict[str, npt.NDArray]]:
    """Every metric of every measure on the same resamples: one dict of [num_samples(, K)] per measure."""
    chunks: list[list[dict[str, npt.NDArray]]] = [[] for _ in measure_all]
    for weights in draw_weights(groups, num_samples, seed):
        for kept, measure in zip(chunks, measure_all, strict=True):
            kept.append(measure(weights))
    return [{name: np.concatenate([values[name] for values in kept]) for name in kept[0]} for kept in chunks]


def percentiles(value: float, samples: npt.NDArray) -> tuple[float, float]:
    """The 95 % percentile interval over the resamples with a defined metric; (NaN, NaN) without any.

    It is widened to hold the value, which few resamples may all miss.
    """
    defined = samples[~np.isnan(samples)]
    if not defined.size or np.isnan(value):
        return float("nan"), float("nan")
    low, high = np.percentile(defined, PERCENTILES)
    return min(float(low), value), max(float(high), value)


def ranked_interval(value: float, samples: npt.NDArray, *, freedom: float, num_rows: int) -> tuple[float, float]:
    """The 95 % interval of an average precision or of a mean of some; (NaN, NaN) below one degree of freedom.

    Args:
        value: in [0, 1], of the rows as they are; samples: [S] of the resamples, NaN where undefined.
        freedom: degrees of freedom of the spread: movies with the genre less one, or `joint_freedom` for a mean.
        num_rows: values within half a row of 0 and 1 count as that far from them, as their logits are infinite.
    """
    defined = samples[~np.isnan(samples)]
    freedom = min(freedom, len(defined) - 1)
    if np.isnan(value) or freedom < 1:
        return float("nan"), float("nan")
    if (defined == value).all():
        return value, value
    edge = 0.5 / num_rows
    centre, drawn = (scipy.special.logit(np.clip(given, edge, 1 - edge)) for given in (value, defined))
    bias = drawn.mean() - centre
    # Student's quantile without scipy.stats, which takes a second to load.
    half = scipy.special.stdtrit(freedom, 0.975) * np.sqrt(np.mean((drawn - centre) ** 2))
    low, high = scipy.special.expit([centre - bias - half, centre - bias + half])
    return min(float(low), value), max(float(high), value)


def joint_freedom(samples: npt.NDArray, freedom: npt.NDArray) -> float:
    """Degrees of freedom of a mean over genres, by Satterthwaite's formula; samples [S, K], freedom [K] of each genre."""
    kept = freedom >= 1
    if not kept.any():
        return 0.0
    variance = np.nanvar(samples[:, kept], axis=0)
    if not variance.any():
        return float(freedom[kept].min())
    return float(variance.sum() ** 2 / (variance**2 / freedom[kept]).sum())


def intervals(
    values: Mapping[str, npt.NDArray], samples: Mapping[str, npt.NDArray], targets: npt.NDArray, groups: npt.NDArray
) -> dict[str, npt.NDArray]:
    """{metric: [2] or [2, K]}, the ends of every interval, NaN where none can be had.

    Args:
        values: {metric: a number or [K]}; samples: {metric: [S] or [S, K]}, of `definitions` and `resample`.
        targets: bool [N, K]; groups: int [N], of which fewer than MIN_MOVIES give no interval.
    """
    if len(np.unique(groups)) < MIN_MOVIES:
        return {name: np.full((2, *np.shape(value)), np.nan) for name, value in values.items()}
    with_genre = np.array([len(np.unique(groups[has])) for has in targets.T])
    freedom = {"average_precision": with_genre - 1.0}
    freedom["mean_average_precision"] = np.asarray(joint_freedom(samples["average_precision"], with_genre - 1.0))

    def ends(name: str, column: tuple[int, ...]) -> tuple[float, float]:
        value, drawn = float(values[name][column]), samples[name][(slice(None), *column)]
        if name not in definitions.RANKED:
            return percentiles(value, drawn)
        return ranked_interval(value, drawn, freedom=float(freedom[name][column]), num_rows=len(targets))

    return {
        name: np.array([ends(name, column) for column in np.ndindex(np.shape(value))]).T.reshape(2, *np.shape(value))
        for name, value in values.items()
    }
