"""Facts that claims of the paper are checked against and that need no training."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from poster_jax import config as config_lib
from poster_jax import models
from poster_jax.data import labels
from poster_jax.paper import label_floor
from poster_jax.train import losses


def describe_population(catalog: str) -> dict[str, Any] | None:
    """The number of movies in a catalog and how many list each of its six top genres; None without a catalog."""
    if not catalog:
        return None
    texts = label_floor.load_texts(pathlib.Path(catalog))
    genres = labels.choose_genres(texts, num_genres=6, genre_rank="first", genres=())
    counts = labels.genre_counts(labels.encode(texts, genres, "multi_hot").label, len(genres))
    named = sorted(zip(genres, (int(number) for number in counts), strict=True), key=lambda pair: -pair[1])
    return {"num_movies": len(texts), "counts": dict(named)}


def count_parameters() -> dict[str, int]:
    """Parameters of the body, in total and of the head, for the paper's Figure 5; as in Keras with batch statistics."""
    fields = {**config_lib.base("mobilenet_v2").model, "weights": ""}
    model = models.build(**fields, num_genres=6, precision="float32")
    shapes = jax.eval_shape(lambda key: model.init(key, jnp.zeros((1, 128, 128, 3)), False), jax.random.key(0))
    total = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))
    head = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes["params"]["head"]))
    return {"body": total - head, "total": total, "trainable": head}


def softmax_gap(seed: int) -> float:
    """The largest difference between our softmax loss on one-hot labels and optax's on integers, in values and gradients."""
    rng = np.random.default_rng(seed)
    logits = jnp.asarray(rng.normal(size=(64, 6)), jnp.float32)
    integers = jnp.asarray(rng.integers(0, 6, 64))
    one_hot = jax.nn.one_hot(integers, 6)
    outcomes = [
        jax.value_and_grad(lambda given, loss=loss, label=label: loss(given, label).mean())(logits)
        for loss, label in (
            (losses.softmax_loss, one_hot),
            (optax.softmax_cross_entropy_with_integer_labels, integers),
        )
    ]
    return float(max(jnp.abs(one - other).max() for one, other in zip(*outcomes, strict=True)))
