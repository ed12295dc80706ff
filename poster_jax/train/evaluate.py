"""Scores of one part in inference mode; no example is dropped."""

import dataclasses

import jax
import numpy as np
from jax.experimental import multihost_utils

from poster_jax.data import input_pipeline
from poster_jax.models.types import Variables
from poster_jax.runtime import alive, preemption
from poster_jax.train import steps
from poster_jax.workdir import logbook


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """All rows of one part: scores float32 [N, K], and means over rows such as {"loss": 0.5}."""

    scores: np.ndarray
    means: dict[str, float]


def evaluate(
    eval_step: steps.EvalStep,
    variables: Variables,
    loader: input_pipeline.Loader,
    part: str,
    *,
    batch_size: int,
    stop: preemption.StopRequest | None = None,
) -> Evaluation:
    """Scores [N, K] of every row of a part, in the order of the part; padding is dropped by its mask, nothing else is.

    Raises `Interrupted` between batches when `stop` has received a signal.
    """
    scores, masks, window = [], [], logbook.Window()
    with alive.doing(f"scoring {part}, {len(loader.rows.parts[part]):,} rows"):
        for batch in loader.eval_batches(part, batch_size):
            if stop is not None:
                stop.check()
            batch_scores, sums = eval_step(variables, batch)
            window.add(sums)
            scores.append(batch_scores)
            masks.append(batch["mask"])
        measured = len(loader.rows.genres)
        kept = np.concatenate([gather(mask) for mask in masks]) > 0
        found = np.concatenate([gather(part_scores) for part_scores in scores])[kept, :measured]
    return Evaluation(found, window.take_means())


def gather(array: jax.Array | np.ndarray) -> np.ndarray:
    """A global array as numpy on every process."""
    if isinstance(array, np.ndarray) or array.is_fully_addressable:
        return np.asarray(array)
    return multihost_utils.process_allgather(array, tiled=True)
