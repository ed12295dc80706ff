"""Posters with what is true and what was said (the paper's Figure 8), the most confident mistakes, and Grad-CAM over them."""

import math
import textwrap

import numpy as np

from poster_jax.report import runs
from poster_jax.report.figures import overlay, style

NUM_IN_GRID = 12
NUM_OVERLAYS = 6  # of the fair sample, and of the mistakes
COLUMNS = 6
PAIR_COLUMNS = 4
TEXT_WIDTH = 22  # characters under a poster
GAP_IN, LINE_IN = 0.05, 0.15
RIGHT, WRONG = "\N{CHECK MARK}", "\N{BALLOT X}"


def pictures(run: runs.FinishedRun, stem: str) -> list[style.Picture]:
    """Nothing for a run without samples.npz."""
    if not run.samples:
        return []
    spread = np.flatnonzero(run.samples["spread"])
    mistakes = np.flatnonzero(~run.samples["spread"])
    found = [
        style.Picture(
            f"posters-{stem}",
            "Test posters, evenly spaced over the test part: the poster's id, its genres, then the top-scored genre and its "
            f"score, with {RIGHT} where the poster has it and {WRONG} where it has not.",
            lambda theme: _grid(theme, run, spread[:NUM_IN_GRID]),
            "Figure 8 of the paper",
        ),
        style.Picture(
            f"mistakes-{stem}",
            "The most confident mistakes of the test part: posters whose top-scored genre is not theirs, the highest score "
            "first.",
            lambda theme: _grid(theme, run, mistakes[:NUM_IN_GRID]),
        ),
        style.Picture(
            f"grad-cam-{stem}",
            "Grad-CAM of the same posters, the first of each: it glows where the evidence for the top-scored genre lies and is "
            "grey where none does, which may be everywhere: the channels' sum is negative then. A map is as coarse as the "
            "network's last convolution.",
            lambda theme: _overlays(theme, run, np.concatenate([spread[:NUM_OVERLAYS], mistakes[:NUM_OVERLAYS]])),
        ),
    ]
    return [picture for picture in found if len(mistakes) or not picture.name.startswith("mistakes")]


def is_wrong(run: runs.FinishedRun, index: int) -> bool:
    """True where the top-scored genre of a sample is not the poster's."""
    return not run.samples["label"][index, run.samples["genre"][index]]


def texts(run: runs.FinishedRun, index: int) -> tuple[str, str, str]:
    """(id, its genres, the top-scored genre with its score) of a sample."""
    held = run.samples
    truth = ", ".join(name for name, has in zip(run.genres, held["label"][index], strict=True) if has)
    genre = int(held["genre"][index])
    return f"{held['id'][index]}", truth, f"{run.genres[genre]} {held['score'][index, genre]:.2f}"


def describe(run: runs.FinishedRun, index: int) -> str:
    """The three texts under a poster, with a mark for right or wrong."""
    number, truth, said = texts(run, index)
    mark = WRONG if is_wrong(run, index) else RIGHT
    return "\n".join([number, *textwrap.wrap(truth, TEXT_WIDTH), f"{mark} {said}"])


def _grid(theme: style.Theme, run: runs.FinishedRun, chosen: np.ndarray) -> "style.Figure":
    images = [[run.samples["image"][index]] for index in chosen]
    return _placed(theme, run, chosen, images, COLUMNS)


def _overlays(theme: style.Theme, run: runs.FinishedRun, chosen: np.ndarray) -> "style.Figure":
    """Pairs of a poster and the same poster under its map."""
    held = run.samples
    pairs = [[held["image"][index], overlay.blend(held["image"][index], held["map"][index])] for index in chosen]
    return _placed(theme, run, chosen, pairs, PAIR_COLUMNS)


def _placed(
    theme: style.Theme, run: runs.FinishedRun, chosen: np.ndarray, images: list[list[np.ndarray]], columns: int
) -> "style.Figure":
    """Rows of posters, or of pairs, each with its text below; placed by hand, since a layout engine stretches the gaps."""
    texts = [describe(run, index) for index in chosen]
    rows = math.ceil(len(images) / columns)
    cell_in = style.FULL_WIDTH_IN / columns
    image_in = (cell_in - 2 * GAP_IN) / len(images[0])
    high_in = image_in * images[0][0].shape[0] / images[0][0].shape[1]
    row_in = high_in + LINE_IN * max(text.count("\n") + 1 for text in texts) + 4 * GAP_IN
    figure = style.new_figure(style.FULL_WIDTH_IN, rows * row_in)
    figure.set_layout_engine("none")
    for number, (shown, index, text) in enumerate(zip(images, chosen, texts, strict=True)):
        row, column = divmod(number, columns)
        left, bottom = column * cell_in + GAP_IN, (rows - row) * row_in - GAP_IN - high_in
        for place, image in enumerate(shown):
            width_in, height_in = figure.get_size_inches()
            x, y = (left + place * image_in) / width_in, bottom / height_in
            axes = figure.add_axes((x, y, image_in / width_in, high_in / height_in))
            axes.imshow(image, aspect="auto")
            axes.set_axis_off()
        middle = (left + len(shown) * image_in / 2) / style.FULL_WIDTH_IN
        colour = theme.runs[1] if is_wrong(run, index) else theme.foreground
        figure.text(middle, (bottom - GAP_IN) / (rows * row_in), text, ha="center", va="top", fontsize=8, color=colour)
    return figure
