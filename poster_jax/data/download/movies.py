"""The movies of MovieGenre.csv with their poster addresses, their status in a download, and losses by genre."""

import dataclasses
import os
import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd

from poster_jax.data import catalog, csv_files, listing
from poster_jax.data.download.journal import FAILED, KEPT, LOST, Journal

NOT_ASKED = "not_asked"


@dataclasses.dataclass(frozen=True)
class Movie:
    """A movie and the possible addresses of its poster, without repeats, in listed order."""

    id: int
    genres: tuple[str, ...]
    urls: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Status:
    """The status of a movie: `state` as in the journal; `url` is the address to request next, "" if there is none."""

    state: str
    reason: str = ""
    detail: str = ""
    url: str = ""


def read_movies(csv_path: str | os.PathLike) -> tuple[list[Movie], int]:
    """(the movies of a MovieGenre.csv in order of id, the number of rows without a valid imdbId).

    Columns imdbId, Genre and Poster, in any encoding of `csv_files`. Rows that repeat an imdbId are merged: genres and
    addresses are unions. Raises `UserError`.
    """
    table = csv_files.read(pathlib.Path(csv_path))
    table.require(("imdbId", "Genre", "Poster"))
    genres: dict[int, dict[str, None]] = {}
    urls: dict[int, dict[str, None]] = {}
    num_bad = 0
    for text, genre_text, url in zip(*map(table.column, ("imdbId", "Genre", "Poster")), strict=True):
        id_ = listing.parse_id(text)
        if id_ is None:
            num_bad += 1
            continue
        genres.setdefault(id_, {}).update(dict.fromkeys(catalog.split_genres(genre_text)))
        urls.setdefault(id_, {}).update(dict.fromkeys(filter(None, [url.strip()])))
    return [Movie(id_, tuple(genres[id_]), tuple(urls[id_])) for id_ in sorted(genres)], num_bad


def poster_path(posters_dir: pathlib.Path, id_: int) -> pathlib.Path:
    """The path of a movie's poster."""
    return posters_dir / f"{id_}.jpg"


def find_status(movie: Movie, journal: Journal, posters_dir: pathlib.Path) -> Status:
    """The status of a movie by the journal; an entry `kept` counts only if the file exists with its size.

    A poster from an address that is no longer in the CSV stays valid.
    """
    entries = journal.of_movie(movie.id)
    for entry in entries.values():
        if entry.state == KEPT and _has_size(poster_path(posters_dir, movie.id), entry.size):
            return Status(KEPT)
    if not movie.urls:
        return Status(LOST, "no_address", "the column Poster is empty")
    for url in movie.urls:
        entry = entries.get(url)
        if entry is None or entry.state == KEPT:
            return Status(FAILED, NOT_ASKED, "", url)
        if entry.state == FAILED:
            return Status(FAILED, entry.reason, entry.detail, url)
    last = entries[movie.urls[-1]]
    return Status(LOST, last.reason, last.detail)


def _has_size(path: pathlib.Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def summarize(movies: Sequence[Movie], statuses: Sequence[Status], num_bad_rows: int) -> dict[str, Any]:
    """Counts, ready for JSON: movies by state, losses and failures by reason, states by genre (most missing first)."""
    genres: dict[str, Counter] = {}
    for movie, status in zip(movies, statuses, strict=True):
        for genre in movie.genres:
            genres.setdefault(genre, Counter()).update((status.state, "movies"))
    rows = [
        {
            "genre": genre,
            **{name: counts[name] for name in ("movies", KEPT, LOST, FAILED)},
            "share_missing": 1 - counts[KEPT] / counts["movies"],
        }
        for genre, counts in sorted(genres.items(), key=lambda item: (item[1][KEPT] - item[1]["movies"], item[0]))
    ]
    states = Counter(status.state for status in statuses)
    return {
        "movies": len(movies),
        "rows_with_a_bad_id": num_bad_rows,
        **{state: states[state] for state in (KEPT, LOST, FAILED)},
        "lost_by_reason": _count_reasons(statuses, LOST),
        "failed_by_reason": _count_reasons(statuses, FAILED),
        "genres": rows,
    }


def _count_reasons(statuses: Sequence[Status], state: str) -> dict[str, int]:
    return dict(Counter(status.reason for status in statuses if status.state == state).most_common())


def missing_table(movies: Sequence[Movie], statuses: Sequence[Status]) -> pd.DataFrame:
    """The movies without a poster, with the columns of `catalog.Catalog.refused`: id, reason, genres, detail."""
    rows = [
        (str(movie.id), status.reason, "|".join(movie.genres), status.detail)
        for movie, status in zip(movies, statuses, strict=True)
        if status.state != KEPT
    ]
    return pd.DataFrame(rows, columns=["id", "reason", "genres", "detail"], dtype=object)


def describe(summary: dict[str, Any]) -> list[str]:
    """A summary as lines of text."""
    lines = [f"{summary[KEPT]} of {summary['movies']} movies have their poster"]
    if summary["rows_with_a_bad_id"]:
        lines[0] += f"; {summary['rows_with_a_bad_id']} rows have no usable imdbId"
    for state, words in ((LOST, "lost for good"), (FAILED, "to be requested again")):
        if summary[state]:
            reasons = ", ".join(f"{count} {reason}" for reason, count in summary[f"{state}_by_reason"].items())
            lines.append(f"{summary[state]} {words}: {reasons}")
    missing = [row for row in summary["genres"] if row["movies"] > row[KEPT]]
    if missing:
        width = max(len(row["genre"]) for row in missing)
        lines.append(f"  {'missing by genre':<{max(width, 16)}}{'movies':>9}{'lost':>9}{'again':>9}{'share':>9}")
        for row in missing:
            counts = f"{row['movies']:>9}{row[LOST]:>9}{row[FAILED]:>9}{row['share_missing']:>9.1%}"
            lines.append(f"  {row['genre']:<{max(width, 16)}}{counts}")
    return lines
