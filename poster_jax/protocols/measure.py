"""Scores of a trained network beside its floors and baselines."""

import io
import pathlib
from typing import Any

import numpy as np

from poster_jax import config as config_lib
from poster_jax.data import dataset, input_pipeline
from poster_jax.metrics import baselines, scoring
from poster_jax.runtime import multihost, storage
from poster_jax.train import evaluate


def score_all(config: config_lib.Config, feed: input_pipeline.Loader, eval_step: Any, variables: Any) -> dict[str, np.ndarray]:
    """Scores of all parts in inference mode, alike."""
    return {part: evaluate.evaluate(eval_step, variables, feed, part, config.eval.batch_size).scores for part in dataset.PARTS}


def measure(
    config: config_lib.Config, feed: input_pipeline.Loader, scores: dict[str, np.ndarray], workdir: pathlib.Path
) -> dict[str, Any]:
    """Metrics of the scores beside the colour baseline; writes predictions.npz."""
    save_predictions(workdir, feed.rows, scores)
    return {
        "data": feed.rows.summary,
        "splits": score_parts(config, feed.rows, scores),
        "baselines": color_baseline(config, feed),
    }


def color_baseline(config: config_lib.Config, feed: input_pipeline.Loader) -> dict[str, Any]:
    """{name: metrics per part} of the logistic regression on colour histograms; empty where the config wants no baselines."""
    if not config.eval.baselines:
        return {}
    colors = {part: _color_histograms(config, feed, part) for part in dataset.PARTS}
    train_labels = feed.rows.label[feed.rows.parts["train"]]
    fitted = multihost.from_main(
        lambda: baselines.logistic_regression(colors["train"], train_labels, colors, len(feed.rows.genres))
    )
    return {"color_histogram_logistic": score_parts(config, feed.rows, fitted)}


def save_predictions(workdir: pathlib.Path, rows: dataset.Dataset, scores: dict[str, np.ndarray]) -> None:
    """Writes predictions.npz: ids, labels and scores of every part."""
    arrays = {}
    for part, at in rows.parts.items():
        arrays[f"{part}_id"] = rows.movie_id[at]
        arrays[f"{part}_label"] = rows.label[at]
        arrays[f"{part}_score"] = scores[part]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    storage.write_atomic(workdir / "predictions.npz", buffer.getvalue())


def _color_histograms(config: config_lib.Config, feed: input_pipeline.Loader, part: str) -> np.ndarray:
    batches = feed.eval_batches(part, config.eval.batch_size)
    return np.concatenate(
        [baselines.color_histograms(evaluate.gather(batch["image"])[evaluate.gather(batch["mask"]) > 0]) for batch in batches]
    )


def score_parts(config: config_lib.Config, rows: dataset.Dataset, scores: dict[str, np.ndarray]) -> dict[str, Any]:
    """Every metric of every part, with floors, ceilings and intervals; thresholds are chosen on validation."""
    return multihost.from_main(lambda: _score_parts(config, rows, scores))


def _score_parts(config: config_lib.Config, rows: dataset.Dataset, scores: dict[str, np.ndarray]) -> dict[str, Any]:
    label = {part: rows.label[at] for part, at in rows.parts.items()}
    tuned = scoring.choose_thresholds(scores["validation"], label["validation"])
    return {
        part: scoring.score(
            scores[part],
            label[part],
            rows.group[rows.parts[part]],
            genres=rows.genres,
            thresholds={"tuned": tuned},
            train_labels=label["train"],
            num_samples=config.eval.bootstrap_samples,
            seed=config.seed,
        )
        for part in dataset.PARTS
    }
