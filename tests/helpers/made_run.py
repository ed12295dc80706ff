"""A finished run without its training, for what reads one: random weights, and results of random scores."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from poster_jax import config as config_lib
from poster_jax import models
from poster_jax.metrics import calibration, scoring
from poster_jax.runtime import storage
from poster_jax.workdir import checkpoint

GENRES = ("Drama", "Comedy", "Film-Noir")
AUXILIARY = ("War", "Western")
TEMPERATURES = (1.1, 1.05, 1.25)  # under which no score of random weights is next to 0 or 1
SHARES = (0.9, 0.5, 0.2)  # of the genres, in the made-up truth


def cnn_config() -> config_lib.Config:
    """Wide enough for the Winograd form, with BatchNorm, mirrored scores and auxiliary genres."""
    config = config_lib.base("cnn")
    config.model.blocks = ((32, 3, 2, False, 0.0), (32, 3, 2, True, 0.25))
    config.model.dense = ((8, True, 0.5),)
    config.eval.mirror = True
    config.data.num_auxiliary = len(AUXILIARY)
    return config


def mobilenet_config() -> config_lib.Config:
    config = config_lib.base("mobilenet_v2")
    config.model.width, config.model.weights = 0.35, "keras:imagenet"
    config.protocol = "transfer"
    config.loss.name, config.data.encoding = "softmax", "first"
    return config


def make_workdir(folder: pathlib.Path, config: config_lib.Config) -> pathlib.Path:
    """A finished run without its training: random weights, and results of random scores."""
    config.data.image_size, config.data.genres, config.data.balance = (40, 32), GENRES, "none"
    folder.mkdir(parents=True)
    auxiliary = AUXILIARY[: config.data.num_auxiliary]
    rng = np.random.default_rng(3)
    fields = {**config.model.to_dict(), "weights": ""}
    model = models.build(**fields, num_genres=len(GENRES) + len(auxiliary), precision=config.train.precision)
    image = jnp.zeros((1, *config.data.image_size, 3))
    shapes = jax.eval_shape(lambda key: model.init(key, image, False), jax.random.key(0))
    shapes = {"params": shapes["params"], "batch_stats": shapes["batch_stats"]}
    checkpoints = checkpoint.Checkpoints(folder)
    checkpoints.save_best(12, jax.tree_util.tree_map_with_path(lambda path, leaf: random_leaf(rng, path, leaf), shapes), 0.5)
    checkpoints.close()

    label = rng.random((60, len(GENRES))) < SHARES
    scores = (0.7 * rng.random(label.shape) + 0.3 * label).astype(np.float32)
    about: dict[str, Any] = {"genres": GENRES, "thresholds": {"tuned": scoring.choose_thresholds(scores, label)}}
    about |= {"num_samples": 10, "seed": 0}
    splits = {part: scoring.score(scores, label, np.arange(60) // 2, **about) for part in ("train", "validation", "test")}
    counts = {part: label.sum(0).tolist() for part in splits}
    data = {"name": "posters of a test", "fingerprint": "f" * 64, "genres": GENRES, "auxiliary_genres": auxiliary}
    data |= {"num_posters": 180, "num_refused": 3, "refused": {"reason": {"cut_file": 2, "empty_file": 1}, "genre": {}}}
    data |= {"genre_counts": counts, "num_rows": dict.fromkeys(splits, 60), "labels_per_row": float(label.sum(1).mean())}
    data |= {"leaked_rows": {"validation": 0, "test": 4}, "encoding": config.data.encoding, "balance": config.data.balance}
    data |= {"genre_counts_before_balance": label.sum(0).tolist()}
    results = {
        "title": f"{config.model.name} of a test",
        "protocol": config.protocol,
        "seed": 7,
        "num_seeds": 1,
        "num_steps": 20,
        "best_step": 12,
    }
    results |= {"body": models.body_fields(model), "data": data, "splits": splits, "baselines": {"colours": splits}}
    if config.protocol == "transfer":
        stage: dict[str, Any] = {"learning_rate": 0.001, "best_step": 12, "history": [], "splits": splits}
        branch = {"input_range": [-1.0, 1.0], "bn_mode": "training", "frozen": [stage], "chosen_learning_rate": 0.001}
        results |= {"branches": [{**branch, "tuned": stage}]}
        parts = dict.fromkeys(splits, calibration.Rows(scores, label, np.arange(60) // 2))
        measured = calibration.measure(parts, GENRES, num_samples=10, seed=0)
        results |= {"calibration": {**measured, "temperatures": dict(zip(GENRES, TEMPERATURES, strict=True))}}
        results |= {"weights": {"source": "body.h5", "sha256": "ab" * 32, "resolution": 160}}
    storage.write_json(folder / "labels.json", {"genres": GENRES, "auxiliary_genres": auxiliary})
    storage.write_json(folder / "results.json", results)
    (folder / "config.json").write_text(config_lib.to_json(config))
    return folder


def random_leaf(rng: np.random.Generator, path: Any, leaf: Any) -> jax.Array:
    """Weights under which every layer matters and no score is 0 or 1."""
    if leaf.ndim > 1:
        return jnp.asarray(rng.normal(0, (1.5 / np.prod(leaf.shape[:-1])) ** 0.5, leaf.shape), leaf.dtype)
    positive = path[-1].key in ("scale", "var")
    return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape) if positive else rng.normal(0, 0.2, leaf.shape), leaf.dtype)
