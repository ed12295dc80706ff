"""A source of posters: one table of movies, and their pictures as records on disk or as pixels."""

import dataclasses
import functools
import io
import pathlib
import unicodedata
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from poster_jax.data import catalog, picture_files
from poster_jax.runtime import storage, tables

SPLIT = "posters"


def encoded_decoders() -> dict[str, Any]:
    """What makes TFDS give a record's picture as JPEG or PNG bytes."""
    import tensorflow_datasets as tfds

    return {"image": tfds.decode.SkipDecoding()}


@dataclasses.dataclass(frozen=True)
class Records:
    """A TFDS folder of encoded posters, read by index."""

    directory: pathlib.Path

    @functools.cached_property
    def _data_source(self) -> Any:
        import tensorflow_datasets as tfds

        builder: Any = tfds.builder_from_directory(self.directory)
        return builder.as_data_source(SPLIT, decoders=encoded_decoders())

    def encoded(self, posters: Sequence[int] | np.ndarray) -> list[bytes]:
        """JPEG or PNG bytes of the given rows."""
        return [record["image"] for record in self._data_source.__getitems__([int(i) for i in posters])]


@dataclasses.dataclass(frozen=True)
class Source:
    """A checked set of posters.

    Attributes:
        name: of the data set in tables, for example "synthetic posters".
        fingerprint: hash of everything the posters depend on.
        table: columns id, genres, group, split; row i is poster i.
        refused: one row per refused poster.
        repaired: how many posters were repaired, by kind.
        images: the posters as encoded records, or as the pixels uint8 [N, H, W, 3] of a packed cache.
        notes: sentences on what was found or assumed when the table was read.
        pictures: what tells the pictures apart, in the order of the table; None where it is not known.
    """

    name: str
    fingerprint: str
    table: pd.DataFrame
    refused: pd.DataFrame
    repaired: dict[str, int]
    images: Records | np.ndarray
    notes: tuple[str, ...] = ()
    pictures: catalog.Pictures | None = None

    def encoded(self, posters: Sequence[int] | np.ndarray) -> list[bytes]:
        """JPEG or PNG bytes of the given rows of `table`; raises TypeError for a packed source."""
        if isinstance(self.images, np.ndarray):
            raise TypeError("a packed source has pixels, not encoded pictures")
        return self.images.encoded(posters)

    @property
    def pixels(self) -> np.ndarray:
        """uint8 [N, H, W, 3]; raises TypeError for a source that is not packed."""
        if not isinstance(self.images, np.ndarray):
            raise TypeError("a source of records has no pixels: pack it first")
        return self.images


def write_table(table: pd.DataFrame, directory: pathlib.Path) -> None:
    """Writes DIR/table.csv, as `read_tables` reads it."""
    (directory / "table.csv").write_text(tables.csv_text(list(table.columns), table.to_numpy().tolist()), encoding="utf-8")


def read_tables(directory: pathlib.Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(DIR/table.csv, DIR/refused.csv): the posters of a cache, and the rows that were refused.

    Raises ValueError, or OSError, for what no cache holds.
    """
    kinds: dict[Hashable, type] = {"genres": str, "split": str}
    table = pd.read_csv(io.BytesIO(read_part(directory / "table.csv")), dtype=kinds, keep_default_na=False)
    refused = pd.read_csv(io.BytesIO(read_part(directory / "refused.csv")), dtype=str, keep_default_na=False)
    if [*table.columns] != ["id", "genres", "group", "split"] or [*refused.columns] != ["id", "reason", "genres", "detail"]:
        raise ValueError("table.csv or refused.csv has other columns")
    for frame, names in ((table, ("genres", "split")), (refused, refused.columns)):
        for name in names:
            frame[name] = [*map(tables.restore, frame[name])]
    ids = table["id"]
    if not len(table) or any(table[name].dtype.kind != "i" for name in ("id", "group")):
        raise ValueError("table.csv has no posters, or ids that are no numbers")
    if not (ids.is_monotonic_increasing and ids.is_unique and ids.iloc[0] > 0 and ids.iloc[-1] < 2**31):
        raise ValueError("table.csv has ids that are not in order")
    if not {*table["split"]} <= {"", "train", "validation", "test"}:
        raise ValueError("table.csv has an unknown split")
    if any(unicodedata.category(letter) == "Cc" for letter in "".join({*table["genres"]})):
        raise ValueError("table.csv has a label with control characters")
    return table, refused


def read_part(path: pathlib.Path) -> bytes:
    """The bytes of a cache's file; on a disk only of a regular one, as a stranger's may be a link to a device."""
    if storage.is_remote(path):
        return path.read_bytes()
    with picture_files.open_regular(path) as file:
        return file.read()
