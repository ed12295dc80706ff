"""What is taken for what on the test part: a square of genres for single labels, answers per genre for several."""

from collections.abc import Sequence

import numpy as np

from poster_jax.report import runs
from poster_jax.report.figures import style

# Cells of [[true no, false yes], [false no, true yes]] in the order of the columns drawn.
ANSWERS = ("has it,\nsaid yes", "has it,\nsaid no", "has it not,\nsaid yes", "has it not,\nsaid no")


def picture(run: runs.FinishedRun, stem: str) -> style.Picture:
    """Counts of the test part, shaded by their share of the row's posters."""
    counts = np.asarray(run.results["splits"]["test"]["confusion"])
    if counts.ndim == 2:
        caption = "Confusion on the test part: rows are the true genre, columns the top-scored one; shaded by share of the row."
        return style.Picture(f"confusion-{stem}", caption, lambda theme: _square(theme, run, counts))
    caption = (
        "Answers on the test part at the threshold 0.5; the shade is the share of the posters that have the genre (left two) "
        "or have it not (right two)."
    )
    return style.Picture(f"confusion-{stem}", caption, lambda theme: _answers(theme, run, counts))


def _square(theme: style.Theme, run: runs.FinishedRun, counts: np.ndarray) -> "style.Figure":
    side = 1.6 + 0.75 * len(counts)
    figure = style.new_figure(min(style.FULL_WIDTH_IN, side + 1.2), side)
    axes = figure.subplots()
    _cells(theme, axes, counts, counts / np.maximum(counts.sum(1, keepdims=True), 1), names=(run.genres, run.genres))
    axes.set(xlabel="top-scored genre", ylabel="true genre")
    axes.tick_params(axis="x", rotation=30)
    return figure


def _answers(theme: style.Theme, run: runs.FinishedRun, counts: np.ndarray) -> "style.Figure":
    (no, false_yes), (false_no, yes) = counts.transpose(1, 2, 0)
    ordered = np.stack([yes, false_no, false_yes, no], axis=1)
    pairs = ordered.reshape(-1, 2, 2)
    shares = (pairs / np.maximum(pairs.sum(2, keepdims=True), 1)).reshape(ordered.shape)
    figure = style.new_figure(7.0, 1.1 + 0.48 * len(ordered))
    _cells(theme, figure.subplots(), ordered, shares, names=(ANSWERS, run.genres))
    return figure


def _cells(
    theme: style.Theme,
    axes: "style.Axes",
    counts: np.ndarray,
    shares: np.ndarray,
    *,
    names: tuple[Sequence[str], Sequence[str]],
) -> None:
    """A heat map with its numbers written on it, dark on light cells and light on dark ones; `names` of columns and rows."""
    import matplotlib

    image = axes.imshow(shares, cmap=theme.heat, vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        red, green, blue, _ = matplotlib.colormaps[theme.heat](float(shares[row, column]))
        # Relative luminance, ITU-R BT.709.
        ink = "#000000" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.45 else "#ffffff"
        text = f"{count:,}\n{100 * shares[row, column]:.0f} %"
        axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=9)
    for ticks, labels in zip((axes.set_xticks, axes.set_yticks), names, strict=True):
        ticks(range(len(labels)), labels)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.figure.colorbar(image, ax=axes, shrink=0.8, label="share")
