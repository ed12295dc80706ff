"""Which posters MovieGenre.csv points to, how each of them stands in the ledger of a download, and what is lost by genre."""

import dataclasses
import os
import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd

from poster_jax.data import catalog
from poster_jax.data.download.journal import FAILED, KEPT, LOST, Journal

NOT_ASKED = "not_asked"


@dataclasses.dataclass(frozen=True)
class Movie:
    """A movie and the addresses its poster may be at, without repeats, in listed order."""

    id: int
    genres: tuple[str, ...]
    urls: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Standing:
    """How a movie stands: `state` as in the ledger; `url` is what to ask next, "" when there is nothing to ask."""

    state: str
    reason: str = ""
    detail: str = ""
    url: str = ""


def read_movies(csv_path: str | os.PathLike) -> tuple[list[Movie], int]:
    """The movies of a MovieGenre.csv by id, and the number of rows whose imdbId is none.

    Columns imdbId, Genre and Poster, ISO-8859-1. Rows that repeat an imdbId are merged: genres and addresses are unions. Raises
    `UserError`.
    """
    frame = catalog.load_csv(pathlib.Path(csv_path), ("ISO-8859-1",))
    catalog.require_columns(frame, ("imdbId", "Genre", "Poster"), pathlib.Path(csv_path))
    genres: dict[int, dict[str, None]] = {}
    urls: dict[int, dict[str, None]] = {}
    num_bad = 0
    for text, genre_text, url in zip(frame["imdbId"], frame["Genre"], frame["Poster"], strict=True):
        id_ = catalog.parse_id(text)
        if id_ is None:
            num_bad += 1
            continue
        genres.setdefault(id_, {}).update(dict.fromkeys(catalog.split_genres(genre_text)))
        urls.setdefault(id_, {}).update(dict.fromkeys(filter(None, [url.strip()])))
    return [Movie(id_, tuple(genres[id_]), tuple(urls[id_])) for id_ in sorted(genres)], num_bad


def poster_path(posters_dir: pathlib.Path, id_: int) -> pathlib.Path:
    """Where the poster of a movie lies."""
    return posters_dir / f"{id_}.jpg"


def standing(movie: Movie, ledger: Journal, posters_dir: pathlib.Path) -> Standing:
    """What the ledger says of a movie; a kept file that is gone, or of another size, is not kept.

    A poster that came from an address which the CSV no longer names stays.
    """
    entries = ledger.of_movie(movie.id)
    for entry in entries.values():
        if entry.state == KEPT and _has_size(poster_path(posters_dir, movie.id), entry.size):
            return Standing(KEPT)
    if not movie.urls:
        return Standing(LOST, "no_address", "the column Poster is empty")
    for url in movie.urls:
        entry = entries.get(url)
        if entry is None or entry.state == KEPT:
            return Standing(FAILED, NOT_ASKED, "", url)
        if entry.state == FAILED:
            return Standing(FAILED, entry.reason, entry.detail, url)
    last = entries[movie.urls[-1]]
    return Standing(LOST, last.reason, last.detail)


def _has_size(path: pathlib.Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def summarize(movies: Sequence[Movie], standings: Sequence[Standing], num_bad_rows: int) -> dict[str, Any]:
    """Counts ready for JSON: movies by state, losses and failures by reason, and all of it by genre, most losses first."""
    genres: dict[str, Counter] = {}
    for movie, at in zip(movies, standings, strict=True):
        for genre in movie.genres:
            genres.setdefault(genre, Counter()).update((at.state, "movies"))
    rows = [
        {
            "genre": genre,
            **{name: counts[name] for name in ("movies", KEPT, LOST, FAILED)},
            "share_missing": 1 - counts[KEPT] / counts["movies"],
        }
        for genre, counts in sorted(genres.items(), key=lambda item: (item[1][KEPT] - item[1]["movies"], item[0]))
    ]
    states = Counter(at.state for at in standings)
    return {
        "movies": len(movies),
        "rows_with_a_bad_id": num_bad_rows,
        **{state: states[state] for state in (KEPT, LOST, FAILED)},
        "lost_by_reason": dict(Counter(at.reason for at in standings if at.state == LOST).most_common()),
        "failed_by_reason": dict(Counter(at.reason for at in standings if at.state == FAILED).most_common()),
        "genres": rows,
    }


def missing_table(movies: Sequence[Movie], standings: Sequence[Standing]) -> pd.DataFrame:
    """The movies without a poster in the columns of a catalog's ledger: id, reason, genres, detail."""
    rows = [
        (str(movie.id), at.reason, "|".join(movie.genres), at.detail)
        for movie, at in zip(movies, standings, strict=True)
        if at.state != KEPT
    ]
    return pd.DataFrame(rows, columns=["id", "reason", "genres", "detail"], dtype=object)


def describe(summary: dict[str, Any]) -> list[str]:
    """A summary as lines for a person."""
    lines = [f"{summary[KEPT]} of {summary['movies']} movies have their poster"]
    if summary["rows_with_a_bad_id"]:
        lines[0] += f"; {summary['rows_with_a_bad_id']} rows have no usable imdbId"
    for state, words in ((LOST, "lost for good"), (FAILED, "to be asked again")):
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
