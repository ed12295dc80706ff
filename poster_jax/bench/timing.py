"""Rates that can be compared: candidates take turns in one run, medians are quoted, compilation is timed apart."""

import statistics
import time
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

MATRIX_SIZE = 2048


def take_turns(calls: Mapping[str, Callable[[], object]], *, repeats: int, seconds: float = 1.0) -> dict[str, list[float]]:
    """Seconds per call of each candidate, one value per round; in a round every candidate runs for about `seconds`,
    after one call that is not counted.

    The machine's speed drifts: only values of one round may be divided by each other.
    """
    counts = {}
    for name, call in calls.items():
        call()  # compilation and first touch
        started = time.perf_counter()
        call()
        counts[name] = max(1, round(seconds / (time.perf_counter() - started)))
    rounds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            call()  # memory that a candidate freed before its pause has to be found again
            started = time.perf_counter()
            for _ in range(counts[name]):
                call()
            rounds[name].append((time.perf_counter() - started) / counts[name])
    return rounds


def ratio(rounds: Mapping[str, list[float]], ours: str, theirs: str) -> tuple[float, float, float]:
    """(minimum, median, maximum) over rounds of theirs over ours: above 1, ours is the faster."""
    ratios = sorted(b / a for a, b in zip(rounds[ours], rounds[theirs], strict=True))
    return ratios[0], statistics.median(ratios), ratios[-1]


def matrix_rate() -> Callable[[], object]:
    """A call of one square float32 product: 2 * 2048^3 operations at the best rate that this backend gives."""
    a = jnp.ones((MATRIX_SIZE, MATRIX_SIZE))
    product = jax.jit(lambda x: x @ x)
    return lambda: jax.block_until_ready(product(a))
