"""Features of posters, of any network and any program, as files: ids beside numbers, joined by id with the posters of a run.

A file is trusted with nothing but numbers: it is read by `array_files`, and every way in which it cannot stand for the posters
is refused in a sentence, as a poster without features would change what is measured.
"""

import hashlib
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from poster_jax import errors
from poster_jax.data import array_files, csv_files, listing, predictions, splits
from poster_jax.runtime import storage

# Arrays [N, D], by their names in any case; the first that is there is taken.
FEATURES = ("features", "embeddings", "embedding")
# What `write` makes, by the suffix.
SUFFIXES = (".npz", ".safetensors", ".parquet")


class Origin(NamedTuple):
    """Where features come from: a name, the sha256 of what they depend on, and how many columns they are."""

    source: str
    sha256: str
    columns: int


def find_run(text: str) -> pathlib.Path | None:
    """The run folder, or the released network, that stands in the place of files; None where files are named."""
    place = storage.as_path(text)
    return place if text.startswith(storage.RELEASED) or place.is_dir() else None


def require(text: str) -> None:
    """Raises `UserError` for a file that is not there, before anything else is read; says nothing of a run's folder."""
    for path in map(pathlib.Path, csv_files.split_names(text) if find_run(text) is None else ()):
        if not path.is_file():
            raise errors.UserError(f"there is no file {path}{csv_files.nearest_existing(path)}; name a file of features.")


def read(text: str, ids: np.ndarray) -> tuple[np.ndarray, list[Origin]]:
    """(float32 [P, D], origins): the features of the posters with these ids [P], the columns of several files side by side.

    Raises `UserError` for a file that cannot be read, has no ids or no features, an id twice, a number that is missing or not
    finite, and for posters without a row.
    """
    blocks, origins = [], []
    for path in map(pathlib.Path, csv_files.split_names(text)):
        found, features = read_one(path)
        rows = [found.get(id_) for id_ in ids.tolist()]
        missing = [id_ for id_, row in zip(ids.tolist(), rows, strict=True) if row is None]
        if missing:
            example = f", whose first id is {next(iter(found))!r}" if found else ""
            told = f"{len(missing):,} of {len(ids):,} posters have no features in {path}{example}"
            raise errors.UserError(
                f"{told}: {predictions.some_of(missing)}; write features of all posters of the run, under the ids of its CSV."
            )
        blocks.append(features[np.array(rows, np.int64)])
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        origins.append(Origin(path.name, digest, features.shape[1]))
    return np.concatenate(blocks, axis=1), origins


def read_one(path: pathlib.Path) -> tuple[dict[int | str, int], np.ndarray]:
    """({id: row}, features float32 [N, D]) of a file; ids are numbers where they are such in any spelling of a catalog."""
    columns = array_files.read(path)
    ids = predictions.find_column(columns, predictions.IDS)
    if ids is None or columns[ids].ndim != 1:
        raise errors.UserError(f"{path} needs an array id of N ids, and has {_told(columns)}: name the ids of its posters so.")
    texts = [str(value).strip() for value in columns[ids].tolist()]
    features = _features(path, columns, ids)
    if not features.shape[1]:
        raise errors.UserError(f"{path} has no features beside its ids: give an array {FEATURES[0]} of ids x columns.")
    with np.errstate(over="ignore"):
        features = np.asarray(features, np.float32)
    wrong = np.argwhere(~np.isfinite(features))
    if len(wrong):
        row, column = wrong[0]
        raise errors.UserError(
            f"{path}: {len(wrong):,} of {features.size:,} features are missing or not finite in float32, the first in column "
            f"{column + 1} of the id {texts[row]}: give a number for each."
        )
    keys = [listing.parse_id(text) or text for text in texts]
    return predictions.index_ids(path, keys, "give each poster one row"), features


def _features(path: pathlib.Path, columns: Mapping[str, np.ndarray], ids: str) -> np.ndarray:
    """[N, D] of an array, or of all columns of numbers but ids, movies and parts; D may be 0."""
    num_rows = len(columns[ids])
    together = predictions.find_column(columns, FEATURES)
    if together is not None and columns[together].ndim != 1:
        found = columns[together]
        if found.ndim != 2 or len(found) != num_rows or found.dtype.kind not in "fiu":
            raise errors.UserError(
                f"{path} has {num_rows:,} ids and {_told({together: found})}: give numbers of ids x columns, a row for each id."
            )
        return found
    taken = {ids, *(predictions.find_column(columns, names) for names in (predictions.MOVIES, predictions.PARTS))}
    found = [
        values
        for name, column in columns.items()
        if name not in taken and (values := predictions.as_numbers(column, num_rows)) is not None
    ]
    return np.stack(found, axis=1) if found else np.empty((num_rows, 0))


def _told(columns: Mapping[str, np.ndarray]) -> str:
    """Names and shapes, for a message."""
    told = [f"{name} ({'x'.join(map(str, array.shape)) or 'one value'}, {array.dtype})" for name, array in columns.items()]
    return predictions.some_of(told) or "nothing"


def check_target(path: pathlib.Path) -> None:
    """Raises `UserError` for a file that `write` cannot make, before anything is computed for it."""
    if path.suffix.lower() not in SUFFIXES:
        raise errors.UserError(f"{path} ends in none of {', '.join(SUFFIXES)}: name the file of features so.")
    if not path.absolute().parent.is_dir():
        raise errors.UserError(f"there is no folder {path.parent}{csv_files.nearest_existing(path)}; make it, or name another.")
    array_files.require_package(path)


def write(path: pathlib.Path, ids: np.ndarray, features: np.ndarray, parts: np.ndarray) -> None:
    """Writes ids int [N], features float32 [N, D] and the part of each, as `read` has them back bit for bit."""
    array_files.write(path, {"id": ids, FEATURES[0]: features, "part": parts})


def part_names(positions: Mapping[str, np.ndarray], poster: np.ndarray, posters: np.ndarray) -> np.ndarray:
    """str [P]: the part of each of `posters` [P], several joined by "+" where rows of one poster are in more than one.

    positions: {part: positions in `poster` int [N]}, the poster of each row.
    """
    held = {part: np.isin(posters, poster[at]) for part, at in positions.items()}
    return np.array(["+".join(part for part in splits.PARTS if held[part][row]) for row in range(len(posters))], dtype=str)
