"""The order of training examples, a function of (seed, epoch). The step alone is the input position; nothing else is saved."""

import functools

import numpy as np


@functools.lru_cache(maxsize=4)
def epoch_order(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation of range(num_examples), int64 [N]; read-only because callers share it."""
    order = np.random.default_rng((seed, epoch)).permutation(num_examples)
    order.setflags(write=False)
    return order


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Full batches in an epoch. The remaining examples differ from epoch to epoch, so that none is never trained on."""
    return num_examples // batch_size


def batch_positions(num_examples: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """Positions in [0, num_examples) of training step `step` (from 0), int64 [B]."""
    epoch, index = divmod(step, steps_per_epoch(num_examples, batch_size))
    return epoch_order(num_examples, seed, epoch)[index * batch_size : (index + 1) * batch_size]


def padded_positions(num_examples: int, batch_size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(positions int64 [B], mask float32 [B]) of every evaluation batch; the last one is padded with position 0, mask 0."""
    batches = []
    for start in range(0, num_examples, batch_size):
        positions = np.arange(start, min(start + batch_size, num_examples))
        mask = np.zeros(batch_size, np.float32)
        mask[: len(positions)] = 1
        batches.append((np.pad(positions, (0, batch_size - len(positions))), mask))
    return batches
