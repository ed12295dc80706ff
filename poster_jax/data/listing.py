"""What a data set lists: its rows as movies with a picture's path, labels and part, before any picture is opened.

`MovieGenre.csv` of Kaggle with its posters, a person's own CSV or JSON lines, or a folder with a folder for each label.
"""

import dataclasses
import os
import pathlib
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence

from poster_jax import errors
from poster_jax.data import csv_files, label_texts, picture_files

MAX_ID = 2**31 - 1  # ids are int32 in a batch
OPTIONAL = ("id", "movie", "split")
KAGGLE_TABLE = "MovieGenre.csv"
HUB_TABLES = ("metadata.csv", "metadata.jsonl")  # of a folder of Hugging Face
HASH_COLUMN = "picture_sha256"  # of the pixels, as `audit` writes it
# Where copies of the Kaggle set have their pictures, below the folder of its CSV; the first that holds some is taken.
POSTER_FOLDERS = ("posters", "posters/posters", "SampleMoviePosters", "SampleMoviePosters/SampleMoviePosters", "images", ".")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


@dataclasses.dataclass
class Movie:
    """One movie, merged from all rows that name it."""

    id: int
    path: str
    genres: list[str]
    split: str
    tie: Hashable  # movies with an equal tie form one group; None ties to nothing
    rows: list[int]
    content_hash: str = ""  # that the picture must have; "" for any


@dataclasses.dataclass(frozen=True)
class Listing:
    """The rows of a data set.

    Attributes:
        place: the file or folder that lists them.
        id_texts, genre_texts: of every row, the labels joined by "|".
        movies: in the order of their first row.
        refusals: {row: (reason, detail)} of the rows that are no movie.
        notes: sentences on what was found or assumed.
    """

    place: pathlib.Path
    id_texts: list[str]
    genre_texts: list[str]
    movies: list[Movie]
    refusals: dict[int, tuple[str, str]]
    notes: tuple[str, ...] = ()


def read_kaggle(folder: pathlib.Path, separator: str = "") -> Listing:
    """DIR/MovieGenre.csv (columns imdbId, Genre) and the pictures by imdbId in DIR/posters or another of POSTER_FOLDERS.

    Ids may be written 1, 0000001, tt0000001 or 1.0, pictures likewise with any suffix of a picture. Rows that repeat an imdbId
    are merged: the genres are the union in listed order.
    """
    table = csv_files.read(folder / KAGGLE_TABLE)
    table.require(("imdbId", "Genre"))
    ids = table.column("imdbId")
    genres, notes = label_texts.split_cells(table.column("Genre"), separator)
    pictures, posters = _find_pictures(folder)
    refusals: dict[int, tuple[str, str]] = {}
    movies: dict[Hashable, Movie] = {}
    for row, text in enumerate(ids):
        id_ = parse_id(text)
        if id_ is None:
            refusals[row] = ("bad_id", f"imdbId {text!r} is no whole number from 1 to {MAX_ID}")
            continue
        _merge(movies, id_, Movie(id_, pictures.get(id_, str(posters / f"{id_}.jpg")), genres[row], "", None, [row]))
    if posters.name != "posters":
        notes = [*notes, f"the pictures are in {posters.name or posters}"]
    return Listing(table.path, ids, _joined(genres), list(movies.values()), refusals, tuple(notes))


def _find_pictures(folder: pathlib.Path) -> tuple[dict[int, str], pathlib.Path]:
    """({id: path of its picture}, the folder of the pictures)."""
    for name in POSTER_FOLDERS:
        place = folder / name if name != "." else folder
        if not place.is_dir():
            continue
        with os.scandir(place) as entries:
            named = {entry.name: parse_id(pathlib.PurePath(entry.name).stem) for entry in entries}
        named = {name: id_ for name, id_ in named.items() if id_ is not None and picture_files.is_picture(place / name)}
        # Of several pictures of one movie the one with the plain name is taken.
        in_order = sorted(named.items(), key=lambda item: (item[0] == f"{item[1]}.jpg", item[0]))
        by_id = {id_: str(place / file) for file, id_ in in_order}
        if by_id:
            return by_id, place
    return {}, folder / "posters" if (folder / "posters").is_dir() else folder


def read_csv(path: pathlib.Path, columns: Mapping[str, str] | None = None, separator: str = "") -> Listing:
    """A person's own CSV: columns path (relative to its folder, or absolute) and genres, in any order and case.

    `file_name` stands for path, and then `label` or `labels` for genres, as in the metadata of Hugging Face; a column of zeros
    and ones for each label takes the place of genres. Optional columns: id; split (words of SPLIT_NAMES); movie (rows with an
    equal text stay on one side of a split); HASH_COLUMN. Without ids the row number from 1 is the id. Rows that repeat an id,
    or without ids a path, are merged.

    Args:
        columns: {a word of `csv_files.COLUMN_KEYS`: the name of its column} where it has another; "" is the usual one.
        separator: of labels in a cell; "" to find it.
    Raises `UserError` for a missing file or column.
    """
    if path.is_dir():
        path = _table_in(path)
    table = csv_files.read(path)
    names = _column_names(table, columns or {})
    optional = [use for use in OPTIONAL if use in names]
    hot = None
    if table.find(names["genres"]) is None:
        hot = label_texts.from_columns(table, [*(names[use] for use in ("path", *optional)), HASH_COLUMN])
    needed = ["path", *([] if hot else ["genres"]), *optional]
    table.require([names[use] for use in needed], needed)
    genres, notes = hot or label_texts.split_cells(table.column(names["genres"]), separator)
    cells = {use: [cell.strip() for cell in table.column(names[use])] for use in ("path", *optional)}
    nothing = [""] * len(table.rows)
    ids = table.column(names["id"]) if "id" in names else [str(row + 1) for row in range(len(table.rows))]
    parts, ties = cells.get("split", nothing), cells.get("movie", nothing)
    hashes = table.column(HASH_COLUMN) if table.find(HASH_COLUMN) is not None else nothing
    found_as: Counter[str] = Counter()
    find = picture_files.path_finder(path.parent, found_as)
    refusals: dict[int, tuple[str, str]] = {}
    movies: dict[Hashable, Movie] = {}
    for row, text in enumerate(ids):
        id_ = parse_id(text)
        if id_ is None:
            refusals[row] = ("bad_id", f"{names['id']} {text!r} is no whole number from 1 to {MAX_ID}")
        elif not cells["path"][row]:
            refusals[row] = ("missing_file", "the path is empty")
        else:
            part, place = _parse_split(parts[row], row, path), find(cells["path"][row])
            movie = Movie(id_, place, genres[row], part, ties[row] or None, [row], hashes[row].strip().lower())
            _merge(movies, id_ if "id" in names else movie.path, movie)
    found = list(movies.values())
    notes += [f"{count:,} of {len(ids):,} paths {way}" for way, count in sorted(found_as.items())]
    if again := sum(len(movie.rows) - 1 for movie in found):
        notes.append(f"rows that name a poster again add their labels to its first row: {again:,} of {len(ids):,}")
    notes += check_columns(found, names, path)
    if "split" not in names:
        notes += _like_a_split(table)
    return Listing(path, ids, _joined(genres), found, refusals, tuple(notes))


def _column_names(table: csv_files.Table, given: Mapping[str, str]) -> dict[str, str]:
    """{what it is for: name} of path, genres, and of the optional columns that are given or have the usual name."""
    is_hub = table.find("path") is None and table.find("file_name") is not None
    path_column = given.get("path") or ("file_name" if is_hub else "path")
    names = {"path": path_column, "genres": given.get("genres") or _label_column(table, path_column)}
    for use in OPTIONAL:
        if given.get(use) or table.find(use) is not None:
            names[use] = given.get(use) or use
    return names


def _like_a_split(table: csv_files.Table) -> list[str]:
    """A sentence on a column under another name whose words are those of parts."""
    for name in table.columns:
        words = {SPLIT_NAMES.get(cell.strip().lower()) for cell in table.column(name)}
        if {"train", "test"} <= words and None not in words:
            return [f"the column {name} names parts and is not used: --config.data.split_column={name} takes them"]
    return []


def _table_in(folder: pathlib.Path) -> pathlib.Path:
    """The metadata of a folder of Hugging Face; raises `UserError` that names what can be given in place of another folder."""
    for name in HUB_TABLES:
        if (folder / name).is_file():
            return folder / name
    tables = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".csv", ".tsv", ".jsonl"))
    kaggle = next((path for path in tables if path.name.lower() == "moviegenre.csv"), None)
    if kaggle is not None:
        way = f"--config.data.variant=kaggle --config.data.dir={folder}"
    elif tables:
        way = f"--config.data.csv={tables[0]}"
    else:
        way = f"a file in it, or for a folder for each label --config.data.variant=folder --config.data.dir={folder}"
    raise errors.UserError(f"{folder} is a folder, not a CSV: give {way}.")


def _label_column(table: csv_files.Table, path_column: str) -> str:
    known = ("genres", *(("label", "labels", "genre") if path_column == "file_name" else ()))
    return next((name for name in known if table.find(name) is not None), "genres")


def check_columns(movies: Sequence[Movie], names: Mapping[str, str], path: pathlib.Path) -> list[str]:
    """Sentences on the columns of parts and movies; raises `UserError` where they cannot be meant, naming the column.

    names: {"split": ..., "movie": ...} of those that there are.
    """
    if "movie" in names and len(movies) > 1:
        ties = {movie.tie for movie in movies}
        if len(ties) == 1 and None not in ties:
            raise errors.UserError(
                f"{path}: the column {names['movie']} has the same text in every row, so that all pictures would be of one "
                "movie and none could be held back: give each movie its own text, or leave the column out."
            )
    if "split" not in names or not any(movie.split for movie in movies):
        return []
    counts = Counter(movie.split for movie in movies)
    missing = [part for part in ("train", "validation", "test") if not counts[part]]
    if missing:
        raise errors.UserError(
            f"{path}: the folders hold no {' and no '.join(missing)} picture: make such a folder, or give a folder "
            "without parts and --config.data.split draws them."
            if path.is_dir()
            else f"{path}: the column {names['split']} names no {' and no '.join(missing)} row: name some, or leave the column "
            "out and --config.data.split draws the parts."
        )
    parts_of: dict[Hashable, set[str]] = {}
    for movie in movies:
        parts_of.setdefault(movie.tie, set()).add(movie.split)
    across = [tie for tie, parts in parts_of.items() if tie is not None and len(parts) > 1]
    notes = ["the parts are those of the folders" if path.is_dir() else f"the parts are those of the column {names['split']}"]
    if across:
        shown = ", ".join(sorted(map(str, across))[:3])
        notes.append(
            f"LEAK: the column {names['split']} puts {len(across):,} movies of the column {names['movie']} into two parts: "
            f"{shown}"
        )
    return notes


def read_folder(folder: pathlib.Path, separator: str = "") -> Listing:
    """A folder with a folder of pictures for each label, or with those in folders train, validation and test.

    The name of a folder is read as a cell of labels: `Drama, Crime` beside `Drama` and `Crime` has both.
    """
    if not folder.is_dir():
        raise errors.UserError(f"there is no folder {folder}{csv_files.nearest_existing(folder)}; name a folder of folders.")
    below = _folders(folder)
    parts = {place: SPLIT_NAMES.get(place.name.lower(), "") for place in below}
    given = bool(below) and all(parts.values()) and any(_folders(place) for place in below)
    places = [(part if given else "", label) for top, part in parts.items() for label in (_folders(top) if given else [top])]
    files: list[tuple[pathlib.Path, str, str]] = []
    others: Counter[str] = Counter()
    for part, place in places:
        for file in picture_files.files_below(place):
            if picture_files.is_picture(file):
                files.append((file, part, place.name))
            else:
                others[file.suffix.lower() or "without a suffix"] += 1
    if not files:
        raise errors.UserError(
            f"the folder {folder} has no folder with pictures in it: make one for each label, as {folder / 'Drama' / '1.jpg'}, "
            "or give a CSV with --config.data.variant=csv --config.data.csv=FILE."
        )
    genres, found = label_texts.split_cells([name for *_, name in files], separator)
    movies = [Movie(row + 1, str(file), genres[row], part, None, [row]) for row, (file, part, _) in enumerate(files)]
    notes = [f"labels are the names of {len({name for *_, name in files})} folders", *found]
    notes += [picture_files.left_out(others)] if others else []
    notes += check_columns(movies, {"split": ""} if given else {}, folder)
    return Listing(folder, [str(movie.id) for movie in movies], _joined(genres), movies, {}, tuple(notes))


def _folders(place: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))


def parse_id(text: str) -> int | None:
    """1 for 1, 0000001, tt0000001 and 1.0; None for what is no whole number from 1 to MAX_ID."""
    match = re.fullmatch(r"(?:tt)?([0-9]{1,12})(?:\.0+)?", text.strip(), re.IGNORECASE)
    number = int(match[1]) if match else 0
    return number if 1 <= number <= MAX_ID else None


def _parse_split(text: str, row: int, path: pathlib.Path) -> str:
    name = text.lower()
    if name and name not in SPLIT_NAMES:
        raise errors.UserError(f"{path}, row {row + 1}: split {text!r} is unknown; write one of {', '.join(SPLIT_NAMES)}")
    return SPLIT_NAMES[name] if name else ""


def _merge(movies: dict[Hashable, Movie], key: Hashable, movie: Movie) -> None:
    """Adds a row's movie, or merges it into the movie that an earlier row named."""
    first = movies.setdefault(key, movie)
    if first is movie:
        return
    if first.split != movie.split:
        raise errors.UserError(
            f"the column split puts movie {first.id} into {first.split!r} by row {first.rows[0] + 1} "
            f"and into {movie.split!r} by row {movie.rows[0] + 1}; give it one split"
        )
    first.genres = list(dict.fromkeys(first.genres + movie.genres))
    first.tie = movie.tie if first.tie is None else first.tie
    first.rows += movie.rows


def _joined(genres: Iterable[Sequence[str]]) -> list[str]:
    return [label_texts.join(labels) for labels in genres]
