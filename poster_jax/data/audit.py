"""What is to be known of a data set before anything is trained: copies of pictures, leaks, floors, and what it can show.

Loads no jax. A split can be written as a CSV of one row a picture, which is read back as a data set of its own.
"""

import os
import pathlib
from collections.abc import Mapping

import numpy as np

from poster_jax import errors
from poster_jax.data import dataset, label_texts, listing, places
from poster_jax.data.source import Source
from poster_jax.metrics import definitions, floors, power
from poster_jax.runtime import storage, tables

NUM_SHOWN = 3
FEW = 5  # fewer test pictures of a label say next to nothing about it
COLUMNS = ("id", "path", "split", "genres", "movie", listing.HASH_COLUMN)


def lines(source: Source, rows: dataset.Dataset, paths: Mapping[int, str]) -> list[str]:
    """Lines of text: copies and leaks, floors and ceilings of validation and test, the smallest difference that test can show.

    paths: {id: path of the picture}, for those that are named.
    """
    found = [*_copies(source, rows, paths), *_references(rows)]
    target = _targets(rows, "test")
    counts = dict(zip(rows.genres, target.sum(axis=0).tolist(), strict=True))
    few = [f"{genre} ({count})" for genre, count in counts.items() if count < FEW]
    if few:
        found.append(f"fewer than {FEW} test rows: {', '.join(few)}; of these next to nothing can be said")
    smallest = power.smallest_difference(target, rows.group[rows.parts["test"]])
    if smallest is None:
        return [*found, "the test part can show no difference between networks"]
    return [
        *found,
        f"the smallest difference of mAP that the test part shows in 4 of 5 cases: {smallest:.3f} (paired, at 5 %; for two "
        f"networks of AUC {power.AUC:g} whose errors correlate by {power.CORRELATION:g})",
    ]


def _copies(source: Source, rows: dataset.Dataset, paths: Mapping[int, str]) -> list[str]:
    if source.pictures is None:
        return []
    equal, near = find_pairs(source)
    names = [os.path.basename(paths.get(id_, "")) or f"id {id_}" for id_ in source.table["id"].tolist()]
    texts = source.table["genres"].tolist()
    found = [f"copies: {len(equal):,} pairs of equal pictures, {len(near):,} of pictures that look the same"]
    pairs = np.concatenate([equal, near])
    other = [(one, two) for one, two in pairs.tolist() if set(texts[one].split("|")) != set(texts[two].split("|"))]
    if other:
        shown = "; ".join(f"{names[one]} {texts[one]}, {names[two]} {texts[two]}" for one, two in other[:NUM_SHOWN])
        found.append(f"copies with other labels: {len(other):,} pairs: {shown}")
    part_of = find_parts(source, rows)
    across = [(one, two) for one, two in pairs.tolist() if part_of[one] and part_of[two] and part_of[one] != part_of[two]]
    if across:
        held = {row for pair in across for row in pair if part_of[row] != "train"}
        shown = "; ".join(f"{names[one]} ({part_of[one]}) and {names[two]} ({part_of[two]})" for one, two in across[:NUM_SHOWN])
        found.append(
            f"LEAK: {len(held):,} pictures of validation and test have a copy in another part: {shown}"
            f"{' ...' if len(across) > NUM_SHOWN else ''}"
        )
        if rows.summary["given_split"]:
            found.append("without the column of parts they are drawn anew, copies on one side")
    return found


def find_pairs(source: Source) -> tuple[np.ndarray, np.ndarray]:
    """(pairs int64 [P, 2] of rows of the table with equal pixels, pairs that only look the same); each first < second.

    Of n equal pictures there are n - 1 pairs, with the first of them.
    """
    assert source.pictures is not None
    first: dict[str, int] = {}
    equal = []
    for row, content_hash in enumerate(source.pictures.content_hash.tolist()):
        if first.setdefault(content_hash, row) != row:
            equal.append((first[content_hash], row))
    near = source.pictures.near_duplicates()
    same = source.pictures.content_hash[near[:, 0]] == source.pictures.content_hash[near[:, 1]]
    return np.array(equal, np.int64).reshape(-1, 2), near[~same]


def find_parts(source: Source, rows: dataset.Dataset) -> list[str]:
    """The part of every row of the table, "" for one in none; of several rows of a movie in two parts, the last one's."""
    part_of = [""] * len(source.table)
    for part, at in rows.parts.items():
        for poster in rows.poster[at].tolist():
            part_of[poster] = part
    return part_of


def _targets(rows: dataset.Dataset, part: str) -> np.ndarray:
    return definitions.make_targets(rows.label[rows.parts[part]], len(rows.genres))


def _references(rows: dataset.Dataset) -> list[str]:
    """The floor and, where labels allow less than 1, the ceiling of the headline metrics on validation and test."""
    found = []
    for part in ("validation", "test"):
        target, group = _targets(rows, part), rows.group[rows.parts[part]]
        lowest, highest = floors.best_constants(target, [""]), floors.ceilings(target, group, [""])
        texts = []
        for name, short in (("mean_average_precision", "mAP"), ("top1_accuracy", "top-1"), ("binary_accuracy", "binary")):
            below = f" (at most {highest[name]:.3f})" if highest[name] < 1 else ""
            texts.append(f"{short} {lowest[name]:.3f}{below}")
        found.append(f"a constant answer has on {part}: {', '.join(texts)}")
    return found


def read_paths(variant: str, place: places.Place) -> dict[int, str]:
    """{id: path} of every picture that a data set lists."""
    return {movie.id: movie.path for movie in places.read_listing(variant, place).movies}


def write_split(path: pathlib.Path, source: Source, rows: dataset.Dataset, paths: Mapping[int, str]) -> str:
    """Writes the parts as a CSV of COLUMNS, a row for each picture that is in a part; returns how it is read back.

    Paths are relative to the file. `movie` is the group: rows of a movie and copies have the same one. Raises UserError where
    the file exists with other content, and for a split that puts rows of one picture into two parts.
    """
    if source.pictures is None:
        raise errors.UserError("the parts of drawn or packed posters follow from the config: --write-split is for files.")
    part_of = find_parts(source, rows)
    for part, at in rows.parts.items():
        if any(part_of[poster] != part for poster in rows.poster[at].tolist()):
            raise errors.UserError(
                "the split puts rows of one picture into two parts, which a file with a row a picture cannot say: "
                "set --config.data.split_grouped=True."
            )
    ids, all_texts, groups = (source.table[name].tolist() for name in ("id", "genres", "group"))
    texts = [text for text, part in zip(all_texts, part_of, strict=True) if part]
    # Written as lists where a reader could take a label for several.
    is_plain = not any(mark in text for text in texts for mark in label_texts.SEPARATORS[1:])
    lines = []
    for row in (row for row, part in enumerate(part_of) if part):
        place = os.path.relpath(paths[ids[row]], path.absolute().parent)
        genres = all_texts[row] if is_plain else label_texts.as_list(all_texts[row].split("|"))
        lines.append([ids[row], place, part_of[row], genres, groups[row], source.pictures.content_hash[row]])
    content = tables.csv_text(COLUMNS, lines).encode()
    if path.exists() and path.read_bytes() != content:
        raise errors.UserError(f"{path} exists already with another content: remove it or name another file.")
    try:
        storage.write_atomic(path, content)
    except OSError as error:
        raise errors.UserError(f"{path} cannot be written ({error.strerror}): name a file in a folder that can be.") from error
    whole = "" if is_plain else f" {label_texts.KEY}={label_texts.WHOLE}"
    return f"the split is in {path}: {len(texts):,} pictures, read with --config.data.csv={path}{whole}"
