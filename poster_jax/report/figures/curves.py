"""Curves over training, and over thresholds: learning, precision and recall, calibration; all runs in the same axes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn import metrics as sklearn_metrics

from poster_jax.metrics import definitions
from poster_jax.report import runs as runs_lib
from poster_jax.report.figures import style

WATCHED = ("loss", "mean_average_precision", "top1_accuracy", "binary_accuracy")
MAX_COLUMNS = 3
NUM_BINS = 10
MIN_IN_BIN = 5  # a share of fewer posters says nothing
# Room that a legend's line and a letter beside it take.
HANDLE_IN, LETTER_IN = 0.65, 0.085


def pictures(runs: Sequence[runs_lib.FinishedRun]) -> list[style.Picture]:
    """Learning curves, then precision-recall and calibration of every genre on the test part.

    Searches and transfer learning of several branches have learning curves of their own, and none here.
    """
    followed = [(number, run) for number, run in enumerate(runs) if _series(run, "validation", "loss")[0]]
    learning = style.Picture(
        "learning",
        "Learning curves: validation with a round point at each evaluation, training rows scored alike with a triangle where "
        "the run did that, the loss of training steps thin, with dropout and augmentation on. Dotted: the best constant answer "
        "on the same rows.",
        lambda theme: _learning(theme, followed),
    )
    return [
        *([learning] if followed else []),
        style.Picture(
            "precision-recall",
            "Precision and recall on the test part at every threshold, by genre. Dotted: the genre's share of the posters, "
            "which a random ranking has as its precision.",
            lambda theme: _per_genre(theme, runs, _draw_precision_recall, ("recall", "precision")),
        ),
        style.Picture(
            "calibration",
            f"Calibration on the test part: of the posters given about this probability, the share that have the genre; "
            f"{NUM_BINS} bins, those of fewer than {MIN_IN_BIN} posters left out, larger points for more posters. On the "
            "dotted line a probability means what it says.",
            lambda theme: _per_genre(theme, runs, _draw_calibration, ("probability", "share with the genre")),
        ),
    ]


def _learning(theme: style.Theme, followed: Sequence[tuple[int, runs_lib.FinishedRun]]) -> "style.Figure":
    figure = style.new_figure(style.FULL_WIDTH_IN, 6.0)
    for axes, name in zip(figure.subplots(2, 2).flat, WATCHED, strict=True):
        for number, run in followed:
            look = style.run_line(theme, number)
            axes.plot(*_series(run, "validation", name), **look, marker="o", markersize=4, label=run.name)
            axes.plot(*_series(run, "train_inference", name), **look, marker="^", markersize=4, linewidth=1.2)
            if name == "loss":
                axes.plot(*_series(run, "train", name), **look, linewidth=0.9, alpha=0.8)
            else:
                level = run.results["splits"]["validation"]["metrics"][name]["best_floor"]
                if level is not None:
                    axes.axhline(level, color=look["color"], linestyle=":", linewidth=1.2)
        axes.set(title=name, xlabel="step", ymargin=0.1)
        style.widen(axes)
    _legend(figure, figure.axes[0], [run for _, run in followed])
    return figure


def _series(run: runs_lib.FinishedRun, part: str, name: str) -> tuple[list[int], list[float]]:
    """Steps and values of the lines of a part that have the metric; none for a search, whose lines are of many networks."""
    lines = [line for line in run.lines if line["part"] == part and "step" in line and line.get(name) is not None]
    return [line["step"] for line in lines], [line[name] for line in lines]


def _per_genre(
    theme: style.Theme, runs: Sequence[runs_lib.FinishedRun], draw: Any, axis_names: tuple[str, str]
) -> "style.Figure":
    """One square per genre of the first run, every run's curve in it."""
    genres = runs[0].genres
    columns = min(MAX_COLUMNS, len(genres))
    rows = math.ceil(len(genres) / columns)
    figure = style.new_figure(style.FULL_WIDTH_IN, 0.9 + 3.1 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[len(genres) :]:
        axes.set_axis_off()
    for axes, genre in zip(grid.flat, genres, strict=False):
        for number, run in enumerate(runs):
            column = run.genres.index(genre)
            draw(axes, run.scores("test")[:, column], run.targets("test")[:, column], style.run_line(theme, number), run.name)
        axes.set(title=genre, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.tick_params(labelbottom=True)
    figure.supxlabel(axis_names[0], fontsize=10)
    figure.supylabel(axis_names[1], fontsize=10)
    _legend(figure, grid[0, 0], runs)
    return figure


def _draw_precision_recall(axes: "style.Axes", scores: np.ndarray, truth: np.ndarray, look: dict[str, Any], name: str) -> None:
    if truth.any():
        precision, recall, _ = sklearn_metrics.precision_recall_curve(truth, scores)
        # The last point is that of no yes at all, whose precision is 1 by convention.
        axes.plot(recall[:-1], precision[:-1], **look, label=name, drawstyle="steps-post")
        axes.axhline(truth.mean(), color=look["color"], linestyle=":", linewidth=1.2)


def calibration_bins(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean probability, share of the genre, posters) of bins with enough posters, scores [N] in [0, 1], truth bool [N]."""
    bins = np.minimum((scores * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    counts = np.bincount(bins, minlength=NUM_BINS)
    kept = counts >= MIN_IN_BIN
    sums = (np.bincount(bins, weights=weights, minlength=NUM_BINS) for weights in (scores, truth))
    mean, share = (definitions.ratio(total, counts)[kept] for total in sums)
    return mean, share, counts[kept]


def _draw_calibration(axes: "style.Axes", scores: np.ndarray, truth: np.ndarray, look: dict[str, Any], name: str) -> None:
    mean, share, counts = calibration_bins(scores, truth)
    axes.axline((0, 0), slope=1, color=axes.xaxis.label.get_color(), linestyle=":", linewidth=1.2)
    axes.plot(mean, share, **look, label=name)
    axes.scatter(mean, share, s=8 + 150 * counts / len(scores), color=look["color"], zorder=3)


def _legend(figure: "style.Figure", axes: "style.Axes", runs: Sequence[runs_lib.FinishedRun]) -> None:
    """Names above the axes; one run needs none."""
    if len(runs) > 1:
        name_in = HANDLE_IN + LETTER_IN * max(len(run.name) for run in runs)
        columns = max(1, min(len(runs), int(style.FULL_WIDTH_IN / name_in)))
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=columns)
