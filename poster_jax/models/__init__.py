"""`build` turns `config.model` into a flax module."""

from typing import Any

from poster_jax.models import cnn

MODELS = {"cnn": cnn.CNN}


def build(name: str, *, num_genres: int, precision: str, **fields: Any) -> Any:
    """`build(**config.model, num_genres=K, precision="float32")`; fields that the model does not have raise TypeError."""
    return MODELS[name](num_genres=num_genres, precision=precision, **fields)
