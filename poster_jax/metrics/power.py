"""What a test part can show, before there is a network: the smallest difference of two networks that it would tell.

Scores of both are drawn for the part's own labels and movies, many times, and the spread of the paired difference is measured.
How good and how alike the networks are is an assumption, and stands beside the number: more alike ones can be told apart by
less, and so can better ones.
"""

import numpy as np
import numpy.typing as npt
import scipy.special

from poster_jax.metrics import definitions

Array = npt.NDArray

AUC = 0.75  # of the networks: between colour histograms and a fine-tuned network on real posters
CORRELATION = 0.5  # of two networks' errors on a poster
POWER, LEVEL = 0.8, 0.05
NUM_DRAWS = 200  # the spread is then known within 5 %
CHUNK_CELLS = 2**20
MAX_CELLS = 2**25  # rows x genres x draws: a few seconds; beyond it there are fewer draws
MIN_DRAWS = 40


def smallest_difference(
    targets: Array, groups: Array, *, auc: float = AUC, correlation: float = CORRELATION, seed: int = 0
) -> float | None:
    """The difference of mean average precision that a paired test at 5 % finds in 80 % of cases; None where nothing can be.

    Args:
        targets: bool [N, K]; groups: int [N], the movie of each row: its rows have the same scores.
        auc: of both networks on every genre; correlation: of their errors, from 0 to below 1.
    """
    if len(np.unique(groups)) < 2 or not (targets.any(axis=0) & ~targets.all(axis=0)).any():
        return None
    spread = np.std(draw_differences(targets, groups, (auc, auc), correlation=correlation, seed=seed), ddof=1)
    return detectable(float(spread))


def detectable(spread: float) -> float:
    """The true difference that an interval tells from 0 with probability POWER, for the difference's spread over test sets."""
    return float(spread * (scipy.special.ndtri(1 - LEVEL / 2) + scipy.special.ndtri(POWER)))


def draw_differences(
    targets: Array, groups: Array, aucs: tuple[float, float], *, correlation: float, seed: int
) -> npt.NDArray[np.float64]:
    """[S] differences of mean average precision, first minus second, of drawn scores with these areas under the curve."""
    num_draws = int(np.clip(MAX_CELLS // (2 * targets.size), MIN_DRAWS, NUM_DRAWS))
    rng = np.random.default_rng(seed)
    chunk = max(1, CHUNK_CELLS // len(targets))
    found = []
    for start in range(0, num_draws, chunk):
        scores = draw_scores(rng, min(chunk, num_draws - start), targets, groups, aucs, correlation=correlation)
        means = []
        for one in scores:
            ranked = [_average_precision(genre_scores, targets[:, k]) for k, genre_scores in enumerate(one)]
            means.append(definitions.mean_defined(np.stack(ranked, axis=1)))
        found.append(means[0] - means[1])
    return np.concatenate(found)


def draw_scores(
    rng: np.random.Generator, num_draws: int, targets: Array, groups: Array, aucs: tuple[float, float], *, correlation: float
) -> Array:
    """float64 [2, K, S, N]: scores of two networks, normal with a mean that is higher on rows with the genre (binormal)."""
    _, movie = np.unique(groups, return_inverse=True)
    shape = (targets.shape[1], num_draws, movie.max() + 1)
    shared = np.sqrt(correlation) * rng.standard_normal(shape)
    noise = [shared + np.sqrt(1 - correlation) * rng.standard_normal(shape) for _ in aucs]
    gains = [np.sqrt(2) * scipy.special.ndtri(auc) for auc in aucs]
    return np.stack([own[:, :, movie] + gain * targets.T[:, None] for own, gain in zip(noise, gains, strict=True)])


def _average_precision(scores: Array, target: Array) -> npt.NDArray[np.float64]:
    """[S] of scores [S, N] without ties and one target bool [N]; NaN without positives."""
    if not target.any():
        return np.full(len(scores), np.nan)
    hits = target[np.argsort(-scores, axis=1)]
    precision = np.cumsum(hits, axis=1) / np.arange(1, len(target) + 1)
    return (precision * hits).sum(axis=1) / target.sum()
