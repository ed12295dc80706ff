"""Predictions that anybody made, matched by id with the labels of the same rows; what is left out is told with its count.

Rows are put in the order of their ids, so that the order in which a file has them changes no bit of what is measured.
"""

import dataclasses
import difflib
import pathlib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from poster_jax import errors
from poster_jax.data import array_files, csv_files, label_texts, listing

# Names of columns, in any case; the first that is there is taken.
IDS = ("id", "ids", "movie_id", "imdbid", "image_id", "path", "file_name", "filename", "image")
MOVIES = ("movie", "group")
PARTS = ("part", "split")
SCORES = ("scores", "score", "probabilities", "predictions", "logits")  # arrays [N, K], whose columns an array of NAMES names
NAMES = ("labels", "genres", "classes", "names")
NUM_TOLD = 3


@dataclasses.dataclass(frozen=True)
class Predictions:
    """A file's rows as they are: ids of N rows, K names, scores float64 [N, K]; a movie and a part of each row, or None."""

    path: pathlib.Path
    ids: list[str]
    names: tuple[str, ...]
    scores: np.ndarray
    movies: list[str] | None
    parts: list[str] | None
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Truth:
    """The labels of N rows: bool [N, L] of L names; `Predictions` has the rest."""

    path: pathlib.Path
    ids: list[str]
    names: tuple[str, ...]
    targets: np.ndarray
    movies: list[str] | None
    parts: list[str] | None
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Part:
    """Rows to measure: ids, scores float64 [N, K], labels int [N] or bool [N, K], and a number for each movie, int [N]."""

    ids: np.ndarray
    scores: np.ndarray
    label: np.ndarray
    group: np.ndarray


@dataclasses.dataclass(frozen=True)
class Matched:
    """Scores beside labels: the genres, {part: rows}, and sentences on what was found and left out."""

    genres: tuple[str, ...]
    parts: dict[str, Part]
    notes: tuple[str, ...] = ()

    @property
    def is_probability(self) -> bool:
        """Whether all scores are within [0, 1]; others can be ranked, but have no threshold and no calibration."""
        return all(bool(((part.scores >= 0) & (part.scores <= 1)).all()) for part in self.parts.values())


def read(path: pathlib.Path) -> Predictions:
    """Scores of a file that `array_files` reads: ids, one column a label, or an array [N, K] with an array of K names.

    Raises `UserError` for a file without ids or scores, and for scores that are missing or not finite.
    """
    columns = array_files.read(path)
    ids = find_column(columns, IDS)
    if ids is None or columns[ids].ndim != 1:
        raise errors.UserError(
            f"{path} needs a column id, and has {', '.join(map(str, columns))}: name the ids of its rows so."
        )
    num_rows = len(columns[ids])
    movies, parts = find_column(columns, MOVIES), find_column(columns, PARTS)
    together = find_column(columns, SCORES)
    if together is not None and columns[together].ndim == 2:
        named = find_column(columns, NAMES)
        names = tuple(map(str, columns[named].tolist())) if named is not None and columns[named].ndim == 1 else ()
        if columns[together].shape != (num_rows, len(names)):
            shown = "x".join(map(str, columns[together].shape))
            raise errors.UserError(
                f"{path} has {num_rows:,} ids, {together} of {shown} and {len(names)} names of labels: "
                f"give scores of ids x labels, and an array {NAMES[0]} with a text for each column."
            )
        scores, notes = columns[together], []
    else:
        taken = (ids, movies, parts)
        numbers = {
            name: values
            for name, column in columns.items()
            if name not in taken and (values := as_numbers(column, num_rows)) is not None
        }
        others = [name for name in columns if name not in (*taken, *numbers)]
        notes = [f"columns without numbers are left out: {some_of(others)}"] if others else []
        if not numbers:
            raise errors.UserError(f"{path} has no column of scores beside its ids: give one column of numbers a label.")
        names, scores = tuple(numbers), np.stack(list(numbers.values()), axis=1)
    texts = _texts(columns[ids])
    rest = [None if name is None else _texts(columns[name]) for name in (movies, parts)]
    for name, column in zip((movies, parts), rest, strict=True):
        if column is not None and len(column) != num_rows:
            raise errors.UserError(f"{path} has {num_rows:,} ids and {len(column):,} of {name}: give one for each row.")
    _check_finite(path, texts, names, scores := np.asarray(scores, np.float64))
    return Predictions(path, texts, names, scores, rest[0], rest[1], tuple(notes))


def read_labels(path: pathlib.Path, separator: str = "") -> Truth:
    """Labels of a CSV or of JSON lines: ids, and a column of label texts or a column of zeros and ones for each label.

    Raises `UserError` where there is no such column.
    """
    table = csv_files.read(path)
    ids, movies, parts = (find_column(table.columns, names) for names in (IDS, MOVIES, PARTS))
    if ids is None:
        table.require(("id",))
        raise AssertionError("the table has an id")
    listed = find_column(table.columns, csv_files.ALIASES["genres"])
    if listed is not None:
        rows, notes = label_texts.split_cells(table.column(listed), separator)
    else:
        found = label_texts.from_columns(table, [name for name in (ids, movies, parts) if name is not None])
        if found is None:
            raise errors.UserError(
                f"{path} has no column of labels among {', '.join(table.columns)}: give a column genres with texts as "
                "Drama|Crime, or a column of zeros and ones for each label."
            )
        rows, notes = found
    names = tuple(sorted({name for labels in rows for name in labels}))
    targets = np.array([[name in set(labels) for name in names] for labels in rows], bool).reshape(len(rows), len(names))
    cells = [None if name is None else [cell.strip() for cell in table.column(name)] for name in (ids, movies, parts)]
    assert cells[0] is not None
    return Truth(path, cells[0], names, targets, cells[1], cells[2], tuple(notes))


def match(predicted: Predictions, truth: Truth) -> Matched:
    """The rows that both have, in order of their ids, and the labels that both have, in the order of the predictions.

    Raises `UserError` for an id that is there twice, labels that go by other names, and fewer than two rows.
    """
    is_number = all(listing.parse_id(text) is not None for text in (*predicted.ids, *truth.ids))
    mine, theirs = (_positions(each.path, each.ids, is_number) for each in (predicted, truth))
    shared = sorted(mine.keys() & theirs.keys())
    notes = [*predicted.notes, *truth.notes]
    for one, other, path, words in ((mine, theirs, predicted.path, "labels"), (theirs, mine, truth.path, "scores")):
        alone = [key for key in one if key not in other]
        if alone:
            notes.append(
                f"{len(alone):,} of {len(one):,} ids of {path} have no {words} and are left out: {some_of(sorted(alone))}"
            )
    if len(shared) < 2:
        raise errors.UserError(
            f"{predicted.path} and {truth.path} have {len(shared)} ids in common "
            f"({_example(predicted)} beside {_example(truth)}): give labels of the same rows, two or more."
        )
    genres, left, right, told = _match_names(predicted, truth)
    rows, labelled = [mine[key] for key in shared], [theirs[key] for key in shared]
    scores, targets = predicted.scores[rows][:, left], truth.targets[labelled][:, right]
    for name, column in zip(genres, scores.T, strict=True):
        if (column == column[0]).all():
            told.append(f"all scores of {name} are {column[0]:g}: they rank nothing")
    movies = _joined(predicted.movies, truth.movies, rows, labelled)
    words = _joined(predicted.parts, truth.parts, rows, labelled)
    part_of = _parts(words, predicted.path if predicted.parts is not None else truth.path) if words else ["test"] * len(rows)
    group = _groups(movies or [""] * len(rows))
    told += _leaks(group, part_of)
    label = targets.argmax(axis=1) if (targets.sum(axis=1) == 1).all() else targets
    parts = {}
    for part in dict.fromkeys(listing.SPLIT_NAMES.values()):
        at = np.flatnonzero(np.array(part_of) == part)
        if len(at):
            parts[part] = Part(np.array(shared)[at], scores[at], label[at], group[at])
    return Matched(genres, parts, (*notes, *told))


def find_column(columns: Sequence[str] | Mapping[str, np.ndarray], names: Sequence[str]) -> str | None:
    """The column of one of these names in any case, the first that is there; None for none of them."""
    folded = {str(column).casefold(): column for column in columns}
    return next((folded[name] for name in names if name in folded), None)


def _texts(column: np.ndarray) -> list[str]:
    return [str(value).strip() for value in column.tolist()]


def as_numbers(column: np.ndarray, num_rows: int) -> np.ndarray | None:
    """A column as float64 [N], NaN for a cell that is no number; None for one of another length or without any number."""
    if column.shape != (num_rows,) or column.dtype.kind not in "fiubU":
        return None
    if column.dtype.kind != "U":
        return column.astype(np.float64)
    values = np.array([_number(text) for text in column.tolist()])
    return values if np.isfinite(values).any() else None


def _number(text: str) -> float:
    try:
        # Spreadsheets of many languages write 0,93.
        return float(text.strip().replace(",", "."))
    except ValueError:
        return float("nan")


def _check_finite(path: pathlib.Path, ids: list[str], names: tuple[str, ...], scores: np.ndarray) -> None:
    wrong = np.argwhere(~np.isfinite(scores))
    if len(wrong):
        row, column = wrong[0]
        raise errors.UserError(
            f"{path}: {len(wrong):,} of {scores.size:,} scores are missing or not finite, the first that of {names[column]} "
            f"for the id {ids[row]}: give a number for every row and label."
        )


def _positions(path: pathlib.Path, ids: list[str], is_number: bool) -> dict[int | str, int]:
    """{id: row}; numbers in any spelling where all are such. Raises `UserError` for an id that is there twice."""
    return index_ids(path, [listing.parse_id(text) or 0 for text in ids] if is_number else ids, "give each row its own")


def index_ids(path: pathlib.Path, keys: Sequence[int | str], advice: str) -> dict[int | str, int]:
    """{id: row}. Raises `UserError` with the advice for an id that is there twice."""
    twice = [key for key, count in Counter(keys).items() if count > 1]
    if twice:
        raise errors.UserError(f"{path}: {len(twice):,} ids are there twice or more: {some_of(twice)}; {advice}.")
    return {key: row for row, key in enumerate(keys)}


def _match_names(predicted: Predictions, truth: Truth) -> tuple[tuple[str, ...], list[int], list[int], list[str]]:
    """(genres, their columns in the scores, and in the targets, notes)."""
    folded = {fold(name): at for at, name in enumerate(truth.names)}
    left = [at for at, name in enumerate(predicted.names) if fold(name) in folded]
    right = [folded[fold(predicted.names[at])] for at in left]
    genres = tuple(truth.names[at] for at in right)
    if len(set(right)) < len(right):
        raise errors.UserError(f"{predicted.path} has two columns for one label among {', '.join(predicted.names)}: keep one.")
    unknown = [name for at, name in enumerate(predicted.names) if at not in left]
    lacking = [name for name in truth.names if name not in genres]
    for name in unknown:
        near = difflib.get_close_matches(fold(name), list(map(fold, lacking)), n=1, cutoff=0.7)
        if near or not genres:
            close = lacking[list(map(fold, lacking)).index(near[0])] if near else ", ".join(truth.names) or "none"
            raise errors.UserError(
                f"the label names differ: {predicted.path} has {name!r} where {truth.path} has {close}: rename the column."
            )
    notes = []
    if unknown:
        notes.append(
            f"{len(unknown)} columns of {predicted.path} are no label of {truth.path} and are left out: {some_of(unknown)}"
        )
    if lacking:
        notes.append(f"{len(lacking)} of {len(truth.names)} labels have no scores and are left out: {some_of(lacking)}")
    return genres, left, right, notes


def fold(name: str) -> str:
    """A label's name as it is compared: in any case, and with any number of spaces."""
    return " ".join(unicodedata.normalize("NFC", name).split()).casefold()


def _joined(one: list[str] | None, other: list[str] | None, rows: list[int], labelled: list[int]) -> list[str] | None:
    """The words of the matched rows: those of the predictions, else those of the labels."""
    if one is not None:
        return [one[row] for row in rows]
    return None if other is None else [other[row] for row in labelled]


def _parts(words: list[str], path: pathlib.Path) -> list[str]:
    unknown = [word for word in words if word.lower() not in listing.SPLIT_NAMES]
    if unknown:
        raise errors.UserError(
            f"{path}: the part of {len(unknown):,} rows is none, as {unknown[0]!r}: write one of "
            f"{', '.join(listing.SPLIT_NAMES)}, or leave the column out and all rows are the test part."
        )
    parts = [listing.SPLIT_NAMES[word.lower()] for word in words]
    if "test" not in parts:
        raise errors.UserError(
            f"{path}: no row is of the part test, which is what is measured: name some, or leave the column out."
        )
    return parts


def _groups(movies: list[str]) -> np.ndarray:
    """int64 [N], equal for rows of one movie and in the order of the movies; a row without one is a movie of its own."""
    is_number = all(text == "" or text.isdecimal() for text in movies)

    def key(row: int) -> tuple[bool, int, str]:
        text = movies[row]
        return (True, row, "") if not text else (False, int(text), "") if is_number else (False, 0, text)

    keys = [key(row) for row in range(len(movies))]
    number = {key: at for at, key in enumerate(sorted(set(keys)))}
    return np.array([number[key] for key in keys], np.int64)


def _leaks(group: np.ndarray, part_of: list[str]) -> list[str]:
    parts: dict[int, set[str]] = {}
    for movie, part in zip(group.tolist(), part_of, strict=True):
        parts.setdefault(movie, set()).add(part)
    across = sum(len(found) > 1 for found in parts.values())
    return [f"LEAK: {across:,} of {len(parts):,} movies have rows in two parts"] if across else []


def _example(each: Predictions | Truth) -> str:
    return repr(each.ids[0]) if each.ids else "no row"


def some_of(names: Sequence[object]) -> str:
    """The first few of them as text."""
    return ", ".join(map(str, names[:NUM_TOLD])) + (" ..." if len(names) > NUM_TOLD else "")
