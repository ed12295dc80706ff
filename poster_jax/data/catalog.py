"""MovieGenre.csv, or any CSV of paths and genres -> a clean table, and a table of the refused rows.

Every row of the CSV is in exactly one of the two tables. Pictures that look the same share a `group`, so that a split can keep
them on one side. No picture is refused for looking like another.
"""

import os
import re
from collections import Counter, deque
from collections.abc import Hashable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from poster_jax import errors
from poster_jax.data import images
from poster_jax.runtime import storage

MAX_ID = 2**31 - 1  # ids are int32 in a batch
NUM_THREADS = 4  # Pillow releases the interpreter's lock; more threads were not faster on the machines tried
LOOK_AHEAD = 64  # pictures decoded ahead of the caller; bounds the memory to 64 posters of 20 KB
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}


@dataclass(frozen=True)
class Catalog:
    """The usable and the refused rows of a CSV.

    Attributes:
        table: sorted by id. Columns id int64 (unique, positive, fits int32), path str, genres str ("|"-joined, stripped, no
            repeats, listed order), group int64 (smallest id among the pictures of the same movie or that look the same),
            split str ("", train, validation or test).
        refused: columns id, reason, genres, detail, all str, in the order of the file.
        repaired: name of a repair, from `images.CheckedImage` -> number of pictures in the table.
    """

    table: pd.DataFrame
    refused: pd.DataFrame
    repaired: dict[str, int]


@dataclass
class _Movie:
    """One movie, merged from all CSV rows that name it."""

    id: int
    path: str
    genres: list[str]
    split: str
    tie: Hashable  # movies with an equal tie form one group; None ties to nothing
    rows: list[int]


def read_kaggle(data_dir: str | os.PathLike) -> Catalog:
    """Reads DIR/MovieGenre.csv (ISO-8859-1; columns imdbId, Genre) and DIR/posters/<imdbId>.jpg.

    Without a folder `posters`, the posters are read from beside the CSV. Rows that repeat an imdbId are merged: the genres are
    the union in listed order. Raises `UserError` for a missing file or column and if no row is usable.
    """
    csv_path = Path(data_dir) / "MovieGenre.csv"
    frame = load_csv(csv_path, ("ISO-8859-1",))
    require_columns(frame, ("imdbId", "Genre"), csv_path)
    posters_dir = Path(data_dir) / "posters"
    if not posters_dir.is_dir():
        posters_dir = Path(data_dir)
    refusals: dict[int, tuple[str, str]] = {}
    movies: dict[Hashable, _Movie] = {}
    for row, (text, genres) in enumerate(zip(frame["imdbId"], frame["Genre"], strict=True)):
        id_ = parse_id(text)
        if id_ is None:
            refusals[row] = ("bad_id", f"imdbId {text!r} is no whole number from 1 to {MAX_ID}")
            continue
        _merge(movies, id_, _Movie(id_, str(posters_dir / f"{id_}.jpg"), split_genres(genres), "", None, [row]))
    return _build(csv_path, frame["imdbId"].tolist(), frame["Genre"].tolist(), movies, refusals)


def read_csv(csv_path: str | os.PathLike) -> Catalog:
    """Reads a user's own CSV: columns path (relative to the CSV's folder, or absolute) and genres (separated by "|").

    Optional columns: id; split (train, validation or test; val, valid, dev and training are aliases); movie (rows with an equal
    text belong to one movie and stay on one side of a split). Without ids the row number from 1 is the id. Rows that repeat an
    id, or without ids a path, are merged as in `read_kaggle`. The text is UTF-8, with or without a byte order mark; a file that
    is not UTF-8 is read as ISO-8859-1. Raises `UserError`.
    """
    csv_path = Path(csv_path)
    frame = load_csv(csv_path, ("utf-8-sig", "ISO-8859-1"))
    require_columns(frame, ("path", "genres"), csv_path)
    ids = frame["id"].tolist() if "id" in frame else [str(row + 1) for row in range(len(frame))]
    refusals: dict[int, tuple[str, str]] = {}
    movies: dict[Hashable, _Movie] = {}
    for row, cells in enumerate(frame.to_dict("records")):
        id_, path = parse_id(ids[row]), cells["path"].strip()
        if id_ is None:
            refusals[row] = ("bad_id", f"id {ids[row]!r} is no whole number from 1 to {MAX_ID}")
            continue
        if not path:
            refusals[row] = ("missing_file", "the path is empty")
            continue
        split = _parse_split(cells["split"], row, csv_path) if "split" in cells else ""
        tie = (cells["movie"].strip() or None) if "movie" in cells else None
        full_path = str(csv_path.parent / path)
        movie = _Movie(id_, full_path, split_genres(cells["genres"]), split, tie, [row])
        _merge(movies, id_ if "id" in frame else full_path, movie)
    return _build(csv_path, ids, frame["genres"].tolist(), movies, refusals)


def split_genres(text: str) -> list[str]:
    """The genres of a "|"-joined text in listed order: stripped, without empty ones and repeats."""
    return list(dict.fromkeys(name for part in text.split("|") if (name := part.strip())))


def load_checked(path: str | os.PathLike) -> images.CheckedImage:
    """Reads and checks one picture; raises `images.BadImage`."""
    try:
        encoded = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise images.BadImage("missing_file", f"there is no {path}") from error
    except (OSError, ValueError) as error:  # a folder, no permission, a name with a NUL
        raise images.BadImage("unreadable_file", f"{type(error).__name__}: {error}") from error
    return images.check(encoded)


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
    if storage.is_remote(path):
        path.write_text(refused.to_csv(index=False))
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        refused.to_csv(partial, index=False, encoding="utf-8")
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


def load_csv(csv_path: Path, encodings: tuple[str, ...]) -> pd.DataFrame:
    """All cells as text, "" for a missing one; names stripped. The last encoding must fit any bytes. Raises `UserError`."""
    for encoding in encodings:
        try:
            frame = pd.read_csv(csv_path, encoding=encoding, dtype=str, keep_default_na=False, na_values=[])
        except UnicodeDecodeError:
            continue
        except FileNotFoundError as error:
            message = f"there is no file {csv_path}; name the folder or file of the data set"
            raise errors.UserError(message) from error
        except (pd.errors.ParserError, pd.errors.EmptyDataError, OSError) as error:
            raise errors.UserError(f"{csv_path} cannot be read as a CSV: {str(error).strip()}") from error
        if not isinstance(frame.index, pd.RangeIndex):  # pandas used the first cells as an index
            raise errors.UserError(f"{csv_path} has rows with more cells than its header; quote the commas")
        # pandas fills a row with fewer cells than the header with NaN, whatever na_values is
        return frame.fillna("").rename(columns=lambda name: str(name).strip())
    raise AssertionError(encodings)


def require_columns(frame: pd.DataFrame, needed: tuple[str, ...], csv_path: Path) -> None:
    """Raises `UserError` that names the missing columns."""
    missing = [name for name in needed if name not in frame]
    if missing:
        found = ", ".join(frame.columns)
        raise errors.UserError(
            f"{csv_path} needs the columns {', '.join(needed)}; {', '.join(missing)} is not among those found: {found}"
        )


def parse_id(text: str) -> int | None:
    """`text` as a whole number from 1 to MAX_ID, or None if it is not one."""
    text = text.strip()
    if not re.fullmatch(r"[0-9]{1,12}", text):
        return None
    return int(text) if 1 <= int(text) <= MAX_ID else None


def _parse_split(text: str, row: int, csv_path: Path) -> str:
    name = text.strip().lower()
    if name and name not in SPLIT_NAMES:
        raise errors.UserError(f"{csv_path}, row {row + 1}: split {text!r} is unknown; write one of {', '.join(SPLIT_NAMES)}")
    return SPLIT_NAMES[name] if name else ""


def _merge(movies: dict[Hashable, _Movie], key: Hashable, movie: _Movie) -> None:
    """Adds a row's movie, or merges it into the movie that an earlier row named."""
    first = movies.setdefault(key, movie)
    if first is movie:
        return
    if first.split != movie.split:
        raise errors.UserError(
            f"movie {first.id} is in split {first.split!r} by row {first.rows[0] + 1} "
            f"and in {movie.split!r} by row {movie.rows[0] + 1}; give it one split"
        )
    first.genres = list(dict.fromkeys(first.genres + movie.genres))
    first.tie = movie.tie if first.tie is None else first.tie
    first.rows += movie.rows


def _build(
    csv_path: Path,
    id_texts: list[str],
    genre_texts: list[str],
    movies: dict[Hashable, _Movie],
    refusals: dict[int, tuple[str, str]],
) -> Catalog:
    """Checks the movies' pictures and fills the tables of usable and refused rows."""
    kept: list[tuple[_Movie, str, int, bytes]] = []
    repaired: Counter = Counter()
    for movie in movies.values():
        if not movie.genres:
            refusals.update((row, ("no_genre", "the row lists no genre")) for row in movie.rows)
    with_genres = sorted((movie for movie in movies.values() if movie.genres), key=lambda movie: movie.id)
    for movie, result in zip(with_genres, checked(movie.path for movie in with_genres), strict=True):
        if isinstance(result, images.BadImage):
            refusals.update((row, (result.reason, result.detail)) for row in movie.rows)
            continue
        repaired.update(result.repairs)
        kept.append((movie, result.content_hash, result.dhash, result.thumbnail))
        detail = f"the same movie as row {movie.rows[0] + 1}, where its genres are listed too"
        refusals.update((row, ("repeated_row", detail)) for row in movie.rows[1:])
    if not kept:
        counts = ", ".join(f"{n} {reason}" for reason, n in Counter(r for r, _ in refusals.values()).items())
        raise errors.UserError(
            f"none of the {len(id_texts)} rows of {csv_path} is usable ({counts or 'it is empty'}); "
            "check that the pictures are where the CSV says"
        )
    return Catalog(_table(kept), _refused(id_texts, genre_texts, refusals), _falling(repaired))


def _table(kept: list[tuple[_Movie, str, int, bytes]]) -> pd.DataFrame:
    movies = [movie for movie, *_ in kept]
    return pd.DataFrame(
        {
            "id": np.array([movie.id for movie in movies], np.int64),
            "path": [movie.path for movie in movies],
            "genres": ["|".join(movie.genres) for movie in movies],
            "group": _groups(kept),
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


def _groups(kept: list[tuple[_Movie, str, int, bytes]]) -> np.ndarray:
    """Group id int64 per kept movie: union-find over equal pictures, near duplicates and equal ties."""
    root = list(range(len(kept)))

    def find(row: int) -> int:
        while root[row] != row:
            root[row] = root[root[row]]
            row = root[row]
        return row

    def join(one: int, other: int) -> None:
        low, high = sorted((find(one), find(other)))
        root[high] = low  # rows are sorted by id, so the root of a group is its smallest id

    seen: dict[Hashable, int] = {}
    for row, (movie, content_hash, _, _) in enumerate(kept):
        join(row, seen.setdefault(("picture", content_hash), row))
        if movie.tie is not None:
            join(row, seen.setdefault(("tie", movie.tie), row))
    thumbnails = np.frombuffer(b"".join(thumbnail for *_, thumbnail in kept), np.uint8)
    width, height = images.THUMBNAIL_SIZE
    pairs = images.near_duplicates(
        np.array([dhash for _, _, dhash, _ in kept], np.uint64), thumbnails.reshape(-1, height, width, 3)
    )
    for one, other in pairs:
        join(int(one), int(other))
    return np.array([kept[find(row)][0].id for row in range(len(kept))], np.int64)
