"""A source of posters: one table of movies, and their pictures as records on disk or as pixels."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from poster_jax.data import catalog

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
