"""What is taken for what on the test part: a square of genres for single labels, answers per genre for several."""

import numpy as np

from poster_jax.report.blocks import Shades
from poster_jax.report.runs import FinishedRun

# Cells of [[true no, false yes], [false no, true yes]] in the order of the columns shown.
ANSWERS = ("has it, said yes", "has it, said no", "has it not, said yes", "has it not, said no")
SQUARE = "Confusion on the test part: rows are the true genre, columns the top-scored one; shaded by share of the row."
BY_GENRE = (
    "Answers on the test part at the threshold 0.5; the shade is the share of the posters that have the genre (left two) or "
    "have it not (right two)."
)


def confusion(run: FinishedRun) -> Shades:
    """Counts of the test part, shaded by their share of the row's posters."""
    counts = np.asarray(run.results["splits"]["test"]["confusion"])
    if counts.ndim == 2:
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        return _shaded(SQUARE, ("true genre", *run.genres), run.genres, counts, shares)
    (no, false_yes), (false_no, yes) = counts.transpose(1, 2, 0)
    ordered = np.stack([yes, false_no, false_yes, no], axis=1)
    pairs = ordered.reshape(-1, 2, 2)
    shares = (pairs / np.maximum(pairs.sum(2, keepdims=True), 1)).reshape(ordered.shape)
    return _shaded(BY_GENRE, ("genre", *ANSWERS), run.genres, ordered, shares)


def _shaded(caption: str, header: tuple[str, ...], genres: tuple[str, ...], counts: np.ndarray, shares: np.ndarray) -> Shades:
    rows = [
        (genre, [(f"{count:,} ({100 * share:.0f} %)", float(share)) for count, share in zip(*row, strict=True)])
        for genre, *row in zip(genres, counts, shares, strict=True)
    ]
    return Shades(caption, header, rows)
