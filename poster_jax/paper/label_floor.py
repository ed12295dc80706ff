"""Possible origins of "72.24 % accuracy": the score of "no" to every genre under each reading of the labels.

The movie paper (section III-C) does not say how a movie with several genres became a label, so the table has a row for every
reading that its text allows. Only genre texts are needed.
"""

import csv
import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from poster_jax import errors
from poster_jax.data import catalog, labels
from poster_jax.metrics import floors, scoring

CLAIM = 0.7224
GENRE_COLUMNS = ("Genre", "genres")
ID_COLUMNS = ("imdbId", "id")


@dataclasses.dataclass(frozen=True)
class Reading:
    """One way to make labels, and the scores it allows.

    Attributes:
        name: in the table.
        num_rows: number of examples.
        labels_per_row: mean number of genres in a label, in 1 .. K.
        all_zeros: binary accuracy of "no" to everything.
        binary_ceiling, top1_ceiling: the best that any function of the poster can reach on these labels.
    """

    name: str
    num_rows: int
    labels_per_row: float
    all_zeros: float
    binary_ceiling: float
    top1_ceiling: float


def load_texts(path: pathlib.Path) -> list[str]:
    """Genre texts of the movies of a CSV, as "Drama|Crime"; rows of one id are one movie with all their genres.

    The file is UTF-8, or else ISO-8859-1. Raises UserError for a missing file or column and if no row names a genre.
    """
    rows = _read_rows(path)
    header, body = rows[0], rows[1:]
    column = next((header.index(name) for name in GENRE_COLUMNS if name in header), None)
    if column is None:
        raise errors.UserError(
            f"{path} has no column {' or '.join(GENRE_COLUMNS)}, only {', '.join(header)}: name one of them so."
        )
    id_column = next((header.index(name) for name in ID_COLUMNS if name in header), None)
    movies: dict[str, str] = {}
    for number, row in enumerate(body):
        text = row[column] if column < len(row) else ""
        key = str(number) if id_column is None or id_column >= len(row) else row[id_column]
        movies[key] = f"{movies[key]}|{text}" if key in movies else text
    texts = ["|".join(names) for text in movies.values() if (names := catalog.split_genres(text))]
    if not texts:
        raise errors.UserError(f"{path} names no genre in its column {header[column]}: give a CSV that does, as Drama|Crime.")
    return texts


def _read_rows(path: pathlib.Path) -> list[list[str]]:
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise errors.UserError(f"the CSV {path} cannot be read ({error.strerror}): give one with genre texts.") from error
    try:
        text = encoded.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = encoded.decode("ISO-8859-1")
    try:
        rows = [row for row in csv.reader(text.splitlines()) if row]
    except csv.Error as error:
        raise errors.UserError(f"{path} is not a CSV ({error}): give one with genre texts.") from error
    if not rows:
        raise errors.UserError(f"{path} is empty: give a CSV with a column {' or '.join(GENRE_COLUMNS)}.")
    return rows


def readings(texts: Sequence[str], genres: Sequence[str]) -> list[Reading]:
    """All readings of the labels of movies with the given genre texts; `genres` are the classes."""
    first, exploded, multi_hot = (labels.encode(texts, genres, encoding) for encoding in labels.ENCODINGS)
    named = {
        "first genre (strict one-hot)": first,
        "first genre, equal per genre": _equal(first),
        "exploded: a row per genre": exploded,
        "exploded, equal per genre": _equal(exploded),
        "multi-hot: all genres": multi_hot,
        "multi-hot, movies drawn to equal": _equal(multi_hot),
    }
    # If no movie lists a genre first, equal draws are empty and their row is omitted.
    return [*(_reading(name, examples) for name, examples in named.items() if len(examples.poster)), _equal_draws(multi_hot)]


def _equal(examples: labels.Examples) -> labels.Examples:
    kept = labels.balance(examples, balance="equal", balance_limit=0, seed=0)
    return labels.Examples(examples.poster[kept], examples.label[kept], examples.genres)


def _reading(name: str, examples: labels.Examples) -> Reading:
    targets = labels.one_hot(examples.label, len(examples.genres)).astype(bool)
    best = floors.ceilings(targets, examples.poster, [""])
    explained = scoring.explain_labels(examples.label, len(examples.genres))
    zeros = explained["all_zeros_binary_accuracy"]
    return Reading(name, len(targets), explained["labels_per_row"], zeros, best["binary_accuracy"], best["top1_accuracy"])


def _equal_draws(multi_hot: labels.Examples) -> Reading:
    """The reading with equally many draws from every genre's movies, each with all labels of the movie.

    A movie of two genres can be drawn for both. The values are expectations over draws, so no seed is needed. Copies of a movie
    have equal labels, so the ceilings are 1.
    """
    targets = labels.one_hot(multi_hot.label, len(multi_hot.genres))
    counts = targets.sum(axis=0)
    per_row = float(np.mean([targets[targets[:, k] == 1].sum(axis=1).mean() for k in range(len(counts))]))
    zeros = 1 - per_row / len(counts)
    return Reading("multi-hot, equal draws per genre", int(counts.min() * len(counts)), per_row, zeros, 1.0, 1.0)


def describe(path: pathlib.Path, *, genres: Sequence[str], num_genres: int) -> str:
    """The table as text; the classes are `genres`, or else the `num_genres` most often listed first."""
    texts = load_texts(path)
    chosen = labels.choose_genres(texts, num_genres=num_genres, genre_rank="first", genres=genres)
    table = readings(texts, chosen)
    rows = [("labels", "rows", "genres per row", "all zeros", "best binary", "best top-1")]
    rows += [
        (
            reading.name,
            f"{reading.num_rows:,}",
            f"{reading.labels_per_row:.3f}",
            *(f"{100 * share:.1f} %" for share in (reading.all_zeros, reading.binary_ceiling, reading.top1_ceiling)),
        )
        for reading in table
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    nearest = min(table, key=lambda reading: abs(reading.all_zeros - CLAIM))
    lines = [f"{len(texts):,} movies; genres: {', '.join(chosen)}", ""]
    for row in rows:
        numbers = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *numbers]))
    lines += [
        "",
        'all zeros: binary accuracy (Keras\'s "accuracy" under binary cross entropy) of "no" to every genre',
        "best: the most that any function of the poster can score, as rows of one movie may contradict each other",
        f"{100 * CLAIM:.2f} % is what all zeros scores at {(1 - CLAIM) * len(chosen):.2f} genres per row; "
        f"nearest: {nearest.name} ({100 * nearest.all_zeros:.1f} %)",
    ]
    return "\n".join(lines) + "\n"
