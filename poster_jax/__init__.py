"""Movie genres from posters, in JAX and Flax; `load` is the way in from Python, the commands are in `__main__`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from poster_jax.predict import Predictor


def load(run: str | os.PathLike[str]) -> Predictor:
    """The best network of a finished run's folder, ready for `load(run).predict("poster.jpg")`; of several seeds their mean.

    Raises `poster_jax.errors.UserError` for a folder that is no finished run of one recipe.
    """
    from poster_jax import predict
    from poster_jax.runtime import storage

    return predict.load(storage.as_path(os.fspath(run)))
