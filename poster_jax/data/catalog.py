"""MovieGenre.csv, or any CSV of paths and genres -> a clean table, and a table of the refused rows.

Every row of the CSV is in exactly one of the two tables. Pictures that look the same share a `group`, so that a split can keep
them on one side. No picture is refused for looking like another.
"""

import os
import sys
from collections import Counter, deque
from collections.abc import Hashable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import tqdm

from poster_jax import errors
from poster_jax.data import csv_files, images, listing, picture_files
from poster_jax.runtime import storage, tables

Item = TypeVar("Item")
NUM_THREADS = 4  # Pillow releases the interpreter's lock; more threads were not faster on the machines tried
LOOK_AHEAD = 64  # pictures decoded ahead of the caller; bounds the memory to 64 posters of 20 KB


@dataclass(frozen=True)
class Pictures:
    """What tells pictures apart, a row for each: SHA-256 of the pixels, dHash uint64, thumbnail uint8 [12, 8, 3].

    `content_hash` is an array of text.
    """

    content_hash: np.ndarray
    dhash: np.ndarray
    thumbnail: np.ndarray

    def near_duplicates(self) -> np.ndarray:
        """int64 [P, 2], as `images.near_duplicates`; equal pictures are among them where they are not flat."""
        return images.near_duplicates(self.dhash, self.thumbnail)

    def save(self, path: Path) -> None:
        np.savez_compressed(path, content_hash=self.content_hash, dhash=self.dhash, thumbnail=self.thumbnail)

    @staticmethod
    def load(path: Path) -> "Pictures":
        with np.load(path, allow_pickle=False) as file:
            return Pictures(file["content_hash"], file["dhash"], file["thumbnail"])


@dataclass(frozen=True)
class Catalog:
    """The usable and the refused rows of a CSV.

    Attributes:
        table: sorted by id. Columns id int64 (unique, positive, fits int32), path str, genres str ("|"-joined, stripped, no
            repeats, listed order), group int64 (smallest id among the pictures of the same movie or that look the same),
            split str ("", train, validation or test).
        refused: columns id, reason, genres, detail, all str, in the order of the file.
        repaired: name of a repair, from `images.CheckedImage` -> number of pictures in the table.
        notes: sentences on what was found or assumed in the CSV.
        pictures: of the rows of the table; None for drawn ones.
    """

    table: pd.DataFrame
    refused: pd.DataFrame
    repaired: dict[str, int]
    notes: tuple[str, ...] = ()
    pictures: Pictures | None = None


def read_kaggle(data_dir: str | os.PathLike) -> Catalog:
    """The checked rows of `listing.read_kaggle`; raises `UserError` as it does, and if no row is usable."""
    return check(listing.read_kaggle(Path(data_dir)))


def read_csv(csv_path: str | os.PathLike) -> Catalog:
    """The checked rows of `listing.read_csv`; raises `UserError` as it does, and if no row is usable."""
    return check(listing.read_csv(Path(csv_path)))


def split_genres(text: str) -> list[str]:
    """The genres of a "|"-joined text in listed order: stripped, without empty ones and repeats."""
    return list(dict.fromkeys(name for part in text.split("|") if (name := part.strip())))


def load_checked(path: str | os.PathLike) -> images.CheckedImage:
    """Reads and checks one picture; raises `images.BadImage`."""
    return images.check(picture_files.read(path))


def load_encoded(path: str | os.PathLike) -> bytes:
    """The repaired bytes of a picture of the table, JPEG or RGB PNG; raises `images.BadImage`."""
    return load_checked(path).encoded


def checked(paths: Iterable[str]) -> Iterator[images.CheckedImage | images.BadImage]:
    """One result per path, in order; threads read at most LOOK_AHEAD pictures ahead of the caller."""

    def attempt(path: str) -> images.CheckedImage | images.BadImage:
        try:
            return load_checked(path)
        except images.BadImage as error:
            return error

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        pending = deque()
        for path in paths:
            pending.append(pool.submit(attempt, path))
            if len(pending) > LOOK_AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def write_refused(refused: pd.DataFrame, path: Path) -> None:
    """Writes the refused rows as UTF-8 CSV; an existing file is replaced atomically."""
    text = tables.csv_text(list(refused.columns), refused.to_numpy().tolist())
    if storage.is_remote(path):
        path.write_text(text)
        return
    # Not `storage.write_atomic`: every process writes its own cache.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def refusal_counts(refused: pd.DataFrame) -> dict[str, dict[str, int]]:
    """{"reason": {reason: rows}, "genre": {genre: rows}}, each in falling order.

    Rows refused as `repeated_row` are not counted by genre, because their movies are in the table.
    """
    lost = refused[refused["reason"] != "repeated_row"]
    genres = Counter(name for text in lost["genres"] for name in split_genres(text))
    return {"reason": _falling(Counter(refused["reason"])), "genre": _falling(genres)}


def _falling(counts: Counter) -> dict[str, int]:
    return {str(name): counts[name] for name in sorted(counts, key=lambda name: (-counts[name], name))}


def check(listed: listing.Listing) -> Catalog:
    """Checks the pictures of a listing and fills the tables of usable and refused rows.

    Raises `UserError` without a usable one.
    """
    kept: list[tuple[listing.Movie, str, int, bytes]] = []
    repaired: Counter = Counter()
    refusals = dict(listed.refusals)
    for movie in listed.movies:
        if not movie.genres:
            refusals.update((row, ("no_genre", "the row lists no genre")) for row in movie.rows)
    with_genres = sorted((movie for movie in listed.movies if movie.genres), key=lambda movie: movie.id)
    results = show_progress(checked(movie.path for movie in with_genres), len(with_genres), "checking pictures")
    for movie, result in zip(with_genres, results, strict=True):
        if isinstance(result, images.BadImage):
            refusals.update((row, (result.reason, result.detail)) for row in movie.rows)
            continue
        if movie.content_hash and movie.content_hash != result.content_hash:
            detail = f"its pixels are not those of the column {listing.HASH_COLUMN}"
            refusals.update((row, ("other_picture", detail)) for row in movie.rows)
            continue
        repaired.update(result.repairs)
        kept.append((movie, result.content_hash, result.dhash, result.thumbnail))
        detail = f"the same movie as row {movie.rows[0] + 1}, where its genres are listed too"
        refusals.update((row, ("repeated_row", detail)) for row in movie.rows[1:])
    if not kept:
        raise errors.UserError(_nothing_usable(listed, refusals))
    pictures = _pictures(kept)
    refused = _refused(listed.id_texts, listed.genre_texts, refusals)
    return Catalog(_table(kept, pictures), refused, _falling(repaired), listed.notes, pictures)


def show_progress(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """The items, with a bar on stderr once they take longer than two seconds; elsewhere than on a terminal every eight."""
    interval = 0.1 if sys.stderr.isatty() else 8.0
    yield from tqdm.tqdm(items, what, total, unit="", delay=2.0, mininterval=interval, maxinterval=10.0)


def _nothing_usable(listed: listing.Listing, refusals: dict[int, tuple[str, str]]) -> str:
    """Why no row is usable: the counts, and what to do about the most frequent reason, with one example."""
    counts = Counter(reason for reason, _ in refusals.values()).most_common()
    message = f"none of the {len(listed.id_texts)} rows of {listed.place} is usable "
    message += f"({', '.join(f'{count} {reason}' for reason, count in counts) or 'it is empty'})"
    if not counts:
        return f"{message}; give one with rows."
    example = next(detail for reason, detail in refusals.values() if reason == counts[0][0])
    if counts[0][0] == "bad_id":
        return f"{message}: {example}; write ids as 1 or tt0000001, or leave the column out."
    if counts[0][0] == "no_genre":
        return f"{message}; give each row a label (an empty cell, N/A, nan, none and null are none)."
    if counts[0][0] == "missing_file":
        wanted = next((movie.path for movie in listed.movies if not os.path.lexists(movie.path)), "")
        where = f"; it looked for {wanted}{csv_files.nearest_existing(Path(wanted))}" if wanted else ""
        return f"{message}{where}; check that the pictures are where the CSV says."
    return f"{message}: {example}; check the pictures."


def _pictures(kept: list[tuple[listing.Movie, str, int, bytes]]) -> Pictures:
    width, height = images.THUMBNAIL_SIZE
    thumbnails = np.frombuffer(b"".join(thumbnail for *_, thumbnail in kept), np.uint8).reshape(-1, height, width, 3)
    hashes = np.array([content_hash for _, content_hash, _, _ in kept])
    return Pictures(hashes, np.array([dhash for _, _, dhash, _ in kept], np.uint64), thumbnails)


def _table(kept: list[tuple[listing.Movie, str, int, bytes]], pictures: Pictures) -> pd.DataFrame:
    movies = [movie for movie, *_ in kept]
    return pd.DataFrame(
        {
            "id": np.array([movie.id for movie in movies], np.int64),
            # Strings of pandas are UTF-8, which a file's name need not be.
            "path": pd.Series([movie.path for movie in movies], dtype=object),
            "genres": ["|".join(movie.genres) for movie in movies],
            "group": _groups(movies, pictures),
            "split": [movie.split for movie in movies],
        }
    )


def _refused(id_texts: list[str], genre_texts: list[str], refusals: dict[int, tuple[str, str]]) -> pd.DataFrame:
    rows = sorted(refusals)
    return pd.DataFrame(
        {
            "id": [id_texts[row].strip() for row in rows],
            "reason": [refusals[row][0] for row in rows],
            "genres": ["|".join(split_genres(genre_texts[row])) for row in rows],
            "detail": [refusals[row][1] for row in rows],
        },
        dtype=object,
    )


def _groups(movies: list[listing.Movie], pictures: Pictures) -> np.ndarray:
    """Group id int64 per movie: union-find over equal pictures, near duplicates and equal ties."""
    root = list(range(len(movies)))

    def find(row: int) -> int:
        while root[row] != row:
            root[row] = root[root[row]]
            row = root[row]
        return row

    def join(one: int, other: int) -> None:
        low, high = sorted((find(one), find(other)))
        root[high] = low  # rows are sorted by id, so the root of a group is its smallest id

    seen: dict[Hashable, int] = {}
    for row, (movie, content_hash) in enumerate(zip(movies, pictures.content_hash.tolist(), strict=True)):
        join(row, seen.setdefault(("picture", content_hash), row))
        if movie.tie is not None:
            join(row, seen.setdefault(("tie", movie.tie), row))
    for one, other in pictures.near_duplicates():
        join(int(one), int(other))
    return np.array([movies[find(row)].id for row in range(len(movies))], np.int64)
