"""Bootstrap over movies: how much a metric varies between samples of the same number of movies.

The rows of one movie are drawn together. Drawing single rows would treat the copies of an exploded movie as independent, and
the interval would be too narrow.

Percentile intervals of average precision are biased upwards if a genre has few positives: a positive that is drawn twice also
raises the precision at its own step. So the plain value can be near the lower end.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from poster_jax.metrics import definitions

PERCENTILES = (2.5, 97.5)
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


def interval(samples: npt.NDArray) -> tuple[float, float]:
    """The 95 % percentile interval over the resamples with a defined metric; (NaN, NaN) without any."""
    defined = samples[~np.isnan(samples)]
    if not defined.size:
        return float("nan"), float("nan")
    low, high = np.percentile(defined, PERCENTILES)
    return float(low), float(high)
