"""Where a person's posters and labels are, read as rows before any picture is opened, and the name that their bytes give."""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable

from poster_jax import config as config_lib
from poster_jax.data import csv_files, listing, picture_files
from poster_jax.runtime import alive

# Parts of cache names. Raise the first when the written format changes, and the second, which is of variants that read files,
# when a picture or a row gets another verdict.
FORMAT, RULES = "1", "2"


@dataclasses.dataclass(frozen=True)
class Place:
    """Where posters and labels are: `config.data` without what is drawn from them.

    `columns` are (what it is for, its name in the CSV) of those that have another than the usual name.
    """

    folder: str = ""
    csv: str = ""
    columns: tuple[tuple[str, str], ...] = ()
    label_separator: str = ""


def find_place(data: config_lib.Data) -> Place:
    """The place of `config.data`, with absolute paths."""
    folder, csv = (os.path.abspath(path) if path else "" for path in (data.dir, data.csv))
    given = tuple((use, data[key]) for use, key in csv_files.COLUMN_KEYS.items() if data[key])
    return Place(folder, csv, given, data.label_separator)


def read_listing(variant: str, place: Place) -> listing.Listing:
    """The rows of a variant that reads files."""
    return READERS[variant](place)


def _read_own(place: Place) -> listing.Listing:
    """The CSV where there is one; else what stands in the folder says of which kind it is."""
    if place.csv:
        return READERS["csv"](place)
    folder = pathlib.Path(place.folder)
    kinds = {listing.KAGGLE_TABLE: "kaggle", **dict.fromkeys(listing.HUB_TABLES, "csv")}
    found = [kind for name, kind in kinds.items() if (folder / name).is_file()]
    return READERS[found[0] if found else "folder"](dataclasses.replace(place, csv=place.folder))


# By `data.variant`, of those that read files; `config.sources` has what else must be known of each.
READERS: dict[str, Callable[[Place], listing.Listing]] = {
    "kaggle": lambda place: listing.read_kaggle(pathlib.Path(place.folder), place.label_separator),
    "csv": lambda place: listing.read_csv(pathlib.Path(place.csv), dict(place.columns), place.label_separator),
    "folder": lambda place: listing.read_folder(pathlib.Path(place.folder), place.label_separator),
    "own": _read_own,
}


def fingerprint(variant: str, place: Place, *, num_posters: int, seed: int) -> str:
    """SHA-256 hex digest of the settings, of every listed row, and of the bytes of every listed picture.

    The rows are those of the one reader of CSVs, so that a picture under any name is among them. Raises UserError when the
    folder or the file does not exist, as `read_listing` does.
    """
    digest = hashlib.sha256(f"{FORMAT} {variant}".encode())
    if variant == "synthetic":
        digest.update(f"{num_posters} {seed}".encode())
        return digest.hexdigest()
    digest.update(f" rules {RULES}".encode())
    listed = read_listing(variant, place)
    with alive.doing(f"looking for changed pictures among {len(listed.movies):,}"):
        for movie in listed.movies:
            name = os.path.basename(movie.path)
            digest.update(repr((movie.id, name, movie.genres, movie.split, movie.tie, movie.rows)).encode())
            if movie.content_hash:
                digest.update(movie.content_hash.encode())
            digest.update(_digest_file(movie.path))
    digest.update(repr((listed.id_texts, listed.genre_texts, sorted(listed.refusals.items()))).encode())
    return digest.hexdigest()


def _digest_file(path: str) -> bytes:
    """SHA-256 of a file's bytes; of its error's number where it cannot be read."""
    try:
        with picture_files.open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").digest()
    except (OSError, ValueError) as error:
        return hashlib.sha256(f"error {getattr(error, 'errno', 0)}".encode()).digest()
