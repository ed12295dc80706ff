"""Comparable timings: candidates take turns in one run, and compilation is not counted."""

import statistics
import time
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

MATRIX_SIZE = 2048


def take_turns(calls: Mapping[str, Callable[[], object]], *, repeats: int, seconds: float = 1.0) -> dict[str, list[float]]:
    """Seconds per call of each candidate, one value per round.

    In a round every candidate runs for about `seconds`, after one call that is not counted. The machine's speed drifts, so
    compare only values of the same round.
    """
    counts = {}
    for name, call in calls.items():
        call()  # compilation and first use of memory
        started = time.perf_counter()
        call()
        counts[name] = max(1, round(seconds / (time.perf_counter() - started)))
    rounds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            call()  # allocates again the memory that the candidate freed before
            started = time.perf_counter()
            for _ in range(counts[name]):
                call()
            rounds[name].append((time.perf_counter() - started) / counts[name])
    return rounds


def ratio(rounds: Mapping[str, list[float]], ours: str, theirs: str) -> tuple[float, float, float]:
    """(minimum, median, maximum) over rounds of their time divided by ours; above 1 ours is faster."""
    ratios = sorted(b / a for a, b in zip(rounds[ours], rounds[theirs], strict=True))
    return ratios[0], statistics.median(ratios), ratios[-1]


def matrix_rate() -> Callable[[], object]:
    """A function that runs one square float32 matrix product: 2 * 2048^3 operations at this backend's best rate."""
    a = jnp.ones((MATRIX_SIZE, MATRIX_SIZE))
    product = jax.jit(lambda x: x @ x)
    return lambda: jax.block_until_ready(product(a))
