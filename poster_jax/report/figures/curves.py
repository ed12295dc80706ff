"""Curves over training, and over thresholds: learning, precision and recall, calibration; all runs in the same axes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from poster_jax.metrics import definitions
from poster_jax.report import runs as runs_lib
from poster_jax.report.figures import style

WATCHED = {
    "loss": "loss",
    "mean_average_precision": "mean average precision",
    "top1_accuracy": "top-1 accuracy",
    "binary_accuracy": "binary accuracy",
}
# How each part's line looks, in the curves and in the legend; the training steps have a loss alone.
PARTS: dict[str, dict[str, Any]] = {
    "validation": {"marker": "o", "markersize": 4},
    "train_inference": {"marker": "^", "markersize": 4, "linewidth": 1.2},
    "train": {"linewidth": 0.9, "alpha": 0.8},
}
PART_NAMES = {"validation": "validation", "train_inference": "training rows", "train": "training steps"}
FLOOR: dict[str, Any] = {"linestyle": ":", "linewidth": 1.2}
MAX_COLUMNS = 4
MAX_PANELS = 12
MAX_POINTS = 200  # of a curve; more cannot be seen in a panel
NUM_BINS = 10
MIN_IN_BIN = 5  # a share of fewer posters says nothing
# Room that a legend's line and a letter beside it take.
HANDLE_IN, LETTER_IN = 0.65, 0.085


def learning(runs: Sequence[runs_lib.FinishedRun], suffix: str = "") -> list[style.Picture]:
    """Learning curves; none of searches and of transfer learning of several branches, which have their own.

    suffix: ends the figure's name, where a page has several.
    """
    followed = [(number, run) for number, run in enumerate(runs) if _series(run, "validation", "loss")[0]]
    caption = (
        "Learning curves. The loss of training steps has dropout and augmentation on, the other curves have not; the best "
        "constant answer is that on the validation rows."
    )
    return [style.Picture(f"learning{suffix}", caption, lambda theme: _learning(theme, followed))] if followed else []


def by_threshold(runs: Sequence[runs_lib.FinishedRun], suffix: str = "") -> tuple[style.Picture, style.Picture]:
    """Precision and recall, and calibration, on the test part, of the genres with the most test posters."""
    genres = _most_frequent(runs[0])
    some = f" The {MAX_PANELS} genres with the most test posters." if len(genres) < len(runs[0].genres) else ""
    return (
        style.Picture(
            f"precision-recall{suffix}",
            "Precision and recall on the test part at every threshold, by genre. Dotted: the genre's share of the posters, "
            f"which a random ranking has as its precision.{some}",
            lambda theme: _per_genre(theme, runs, genres, _draw_precision_recall, ("recall", "precision")),
        ),
        style.Picture(
            f"calibration{suffix}",
            f"Calibration on the test part: of the posters given about this probability, the share that have the genre; "
            f"{NUM_BINS} bins, those of fewer than {MIN_IN_BIN} posters left out, larger points for more posters. On the "
            f"dotted line a probability means what it says.{some}",
            lambda theme: _per_genre(theme, runs, genres, _draw_calibration, ("probability", "share with the genre")),
        ),
    )


def _most_frequent(run: runs_lib.FinishedRun) -> list[str]:
    """MAX_PANELS genres or fewer, in label order."""
    counts = {genre: entry["count"] for genre, entry in run.results["splits"]["test"]["per_genre"].items()}
    kept = set(sorted(run.genres, key=lambda genre: -counts[genre])[:MAX_PANELS])
    return [genre for genre in run.genres if genre in kept]


def _learning(theme: style.Theme, followed: Sequence[tuple[int, runs_lib.FinishedRun]]) -> "style.Figure":
    figure = style.new_figure(style.FULL_WIDTH_IN, 3.1)
    for axes, (name, title) in zip(figure.subplots(1, len(WATCHED)).flat, WATCHED.items(), strict=True):
        for number, run in followed:
            look = style.run_line(theme, number)
            for part, drawn in PARTS.items():
                if name == "loss" or part != "train":
                    axes.plot(*_series(run, part, name), **look, **drawn, label=run.name if part == "validation" else None)
            if name != "loss":
                level = run.results["splits"]["validation"]["metrics"][name]["best_floor"]
                if level is not None:
                    axes.axhline(level, **{**FLOOR, "color": look["color"]})
        axes.set_title(title, fontsize=10)
        axes.set(xlabel="step", ymargin=0.1)
        axes.locator_params(axis="x", nbins=4, integer=True)
        style.widen(axes)
    _legend(figure, figure.axes[0], [run for _, run in followed])
    _legend_of_parts(theme, figure, [run for _, run in followed])
    return figure


def _legend_of_parts(theme: style.Theme, figure: "style.Figure", runs: Sequence[runs_lib.FinishedRun]) -> None:
    """Below the axes, what each kind of line is; a part that no run has followed is not named."""
    from matplotlib import lines

    had = [part for part in PARTS if any(_series(run, part, "loss")[0] for run in runs)]
    handles = [lines.Line2D([], [], color=theme.foreground, label=PART_NAMES[part], **PARTS[part]) for part in had]
    handles.append(lines.Line2D([], [], color=theme.foreground, label="best constant answer", **FLOOR))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9)


def _series(run: runs_lib.FinishedRun, part: str, name: str) -> tuple[list[int], list[float]]:
    """Steps and values of the lines of a part that have the metric; none for a search, whose lines are of many networks."""
    lines = [line for line in run.lines if line["part"] == part and "step" in line and line.get(name) is not None]
    return [line["step"] for line in lines], [line[name] for line in lines]


def _per_genre(
    theme: style.Theme,
    runs: Sequence[runs_lib.FinishedRun],
    genres: Sequence[str],
    draw: Any,
    axis_names: tuple[str, str],
) -> "style.Figure":
    """One square per genre, every run's curve in it."""
    columns = min(MAX_COLUMNS, len(genres))
    rows = math.ceil(len(genres) / columns)
    figure = style.new_figure(style.FULL_WIDTH_IN, 0.9 + 2.4 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[len(genres) :]:
        axes.set_axis_off()
    for axes, genre in zip(grid.flat, genres, strict=False):
        for number, run in enumerate(runs):
            column = run.genres.index(genre)
            draw(axes, run.scores("test")[:, column], run.targets("test")[:, column], style.run_line(theme, number), run.name)
        axes.set_title(style.clamped(genre), fontsize=10)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.tick_params(labelbottom=True)
    figure.supxlabel(axis_names[0], fontsize=10)
    figure.supylabel(axis_names[1], fontsize=10)
    _legend(figure, grid[0, 0], runs)
    return figure


def _draw_precision_recall(axes: "style.Axes", scores: np.ndarray, truth: np.ndarray, look: dict[str, Any], name: str) -> None:
    if truth.any():
        precision, recall = definitions.precision_recall(scores, truth)
        shown = np.unique(np.linspace(0, len(recall) - 1, MAX_POINTS).round().astype(np.int64))
        axes.plot(recall[shown], precision[shown], **look, label=name, drawstyle="steps-pre")
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
