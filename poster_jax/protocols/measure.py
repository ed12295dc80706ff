"""Scores of a trained network beside its floors and baselines."""

from typing import Any

import numpy as np

from poster_jax import config as config_lib
from poster_jax.data import dataset
from poster_jax.metrics import baselines, calibration, definitions, paired, scoring
from poster_jax.models.types import Variables
from poster_jax.runtime import alive, devices, multihost
from poster_jax.train import evaluate
from poster_jax.train.network import Network
from poster_jax.train.run import Run
from poster_jax.workdir import run_files

Scores = dict[str, np.ndarray]  # {part: float32 [N, K]}


def score_all(run: Run, network: Network, variables: Variables) -> Scores:
    """Scores of all parts in inference mode, alike."""
    size = run.config.eval.batch_size
    return {
        part: evaluate.evaluate(network.eval_step, variables, run.loader, part, batch_size=size).scores
        for part in dataset.PARTS
    }


def measure(run: Run, scores: Scores) -> dict[str, Any]:
    """Metrics of the scores, before and after calibration, beside the colour baseline; writes predictions.npz.

    And what changes numbers here.
    """
    rows = run.loader.rows
    save_predictions(run, scores)
    measured = {"data": rows.summary, "splits": score_parts(run.config, rows, scores), **calibrate(run.config, rows, scores)}
    measured |= color_baseline(run, scores)
    return {"numerics": devices.numerics(), "train_loss": run_files.read_train_loss(run.workdir), **measured}


def calibrate(config: config_lib.Config, rows: dataset.Dataset, scores: Scores) -> dict[str, Any]:
    """{"calibration": temperatures of validation, and what they change on test}."""
    parts = {part: calibration.Rows(scores[part], rows.label[at], rows.group[at]) for part, at in rows.parts.items()}
    samples = {"num_samples": config.eval.bootstrap_samples, "seed": config.seed}
    return {"calibration": multihost.from_main(lambda: calibration.measure(parts, rows.genres, **samples))}


def save_predictions(run: Run, scores: Scores) -> None:
    """Writes predictions.npz: ids, labels and scores of every part."""
    rows = run.loader.rows
    run_files.write_predictions(run.workdir, rows.parts, rows.movie_id, rows.group, label=rows.label, scores=scores)


def color_baseline(run: Run, scores: Scores) -> dict[str, Any]:
    """The logistic regression on colour histograms beside a network's scores; empty without `config.eval.baselines`.

    {"baselines": {name: metrics per part}, "against_baselines": {name: the network's mean average precision on test minus its
    own, with a paired interval}}.
    """
    rows = run.loader.rows
    if not run.config.eval.baselines:
        return {"baselines": {}, "against_baselines": {}}
    train_labels = rows.label[rows.parts["train"]]
    with alive.doing("what colours alone give"):
        colors = {part: _color_histograms(run, part) for part in dataset.PARTS}
        arguments = colors["train"], train_labels, colors, len(rows.genres)
        fitted = multihost.from_main(lambda: baselines.logistic_regression(*arguments))
        gap = multihost.from_main(lambda: _gap(run, scores["test"], fitted["test"]))
    name = "color_histogram_logistic"
    return {"baselines": {name: score_parts(run.config, rows, fitted)}, "against_baselines": {name: gap}}


def _gap(run: Run, scores: np.ndarray, baseline: np.ndarray) -> dict[str, float | None]:
    rows, at = run.loader.rows, run.loader.rows.parts["test"]
    targets = definitions.make_targets(rows.label[at], len(rows.genres))
    one, other = (definitions.check_scores(each) for each in (scores, baseline))
    samples = run.config.eval.bootstrap_samples
    return paired.difference_between(one, other, targets, rows.group[at], num_samples=samples, seed=run.config.seed)


def _color_histograms(run: Run, part: str) -> np.ndarray:
    batches = run.loader.eval_batches(part, run.config.eval.batch_size)
    kept = (evaluate.gather(batch["image"])[evaluate.gather(batch["mask"]) > 0] for batch in batches)
    return np.concatenate([baselines.color_histograms(images) for images in kept])


def score_parts(config: config_lib.Config, rows: dataset.Dataset, scores: Scores) -> dict[str, Any]:
    """Every metric of every part, with floors, ceilings and intervals; thresholds are chosen on validation."""
    with alive.doing("intervals and permutations of the scores"):
        return multihost.from_main(lambda: _score_parts(config, rows, scores))


def _score_parts(config: config_lib.Config, rows: dataset.Dataset, scores: Scores) -> dict[str, Any]:
    label = {part: rows.label[at] for part, at in rows.parts.items()}
    tuned = scoring.choose_thresholds(scores["validation"], label["validation"])
    return {
        part: scoring.score(
            scores[part],
            label[part],
            rows.group[rows.parts[part]],
            genres=rows.genres,
            thresholds={"tuned": tuned},
            num_samples=config.eval.bootstrap_samples,
            seed=config.seed,
        )
        for part in dataset.PARTS
    }
