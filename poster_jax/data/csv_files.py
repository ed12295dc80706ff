"""Tables as people have them -> rows of text cells: CSV with commas, semicolons or tabs, in any usual encoding, and JSON lines.

Every reader of a CSV in the project reads through `read`, so that what one finds in a file another finds too.
"""

import csv
import dataclasses
import difflib
import json
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from poster_jax import errors
from poster_jax.data import picture_files
from poster_jax.runtime import tables

DELIMITERS = (",", ";", "\t")
# What is no text, by its first bytes, and what to do about it.
NO_TEXT = {
    b"\x1f\x8b": "is packed by gzip: unpack it",
    b"BZh": "is packed by bzip2: unpack it",
    b"\x28\xb5\x2f\xfd": "is packed by zstd: unpack it",
    b"\xfd7zXZ": "is packed by xz: unpack it",
    b"7z\xbc\xaf": "is a 7z archive: unpack it",
    b"PK\x03\x04": "is a spreadsheet (.xlsx) or a ZIP file: save it as CSV, or unpack it",
    b"\xd0\xcf\x11\xe0": "is a spreadsheet (.xls): save it as CSV",
    b"PAR1": "is a Parquet file: save it as CSV, as pandas.read_parquet(FILE).to_csv(NAME) does",
    b"ARROW1": "is a Feather file: save it as CSV, as pandas.read_feather(FILE).to_csv(NAME) does",
    b"\x80\x04\x95": "is a pickle, which is not read: save it as CSV",
    b"<!DOCTYPE": "is a web page: download the table itself",
    b"<!doctype": "is a web page: download the table itself",
    b"<html": "is a web page: download the table itself",
    b"SQLite format 3": "is a database: save a table of it as CSV",
}
BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


@dataclasses.dataclass(frozen=True)
class Table:
    """A header and the cells below it.

    Attributes:
        path: the file.
        columns: stripped names, as they are written.
        rows: one text per column; "" for a missing cell.
        numbers: of the row in the file, counted from 1 below the header; empty lines are no rows.
    """

    path: pathlib.Path
    columns: tuple[str, ...]
    rows: list[list[str]]

    def find(self, name: str) -> int | None:
        """The position of a column, whatever the case of its letters; None where there is none."""
        folded = [column.casefold() for column in self.columns]
        return folded.index(name.casefold()) if name.casefold() in folded else None

    def column(self, name: str) -> list[str]:
        """The cells of a column that `find` finds."""
        position = self.find(name)
        assert position is not None, name
        return [row[position] for row in self.rows]

    def require(self, names: Sequence[str], uses: Sequence[str] = ()) -> None:
        """Raises `UserError` that names the missing columns, with a guess at those that are meant.

        uses: words of COLUMN_KEYS, what each column is for; without them no other name can be given.
        """
        missing = [(name, use) for name, use in zip(names, uses or names, strict=True) if self.find(name) is None]
        if not missing:
            return
        verb = "is" if len(missing) == 1 else "are"
        message = (
            f"{self.path} needs the columns {', '.join(names)}; {', '.join(name for name, _ in missing)} {verb} not among "
        )
        message += f"those found: {', '.join(self.columns)}"
        if uses:
            free = [column for column in self.columns if column.casefold() not in map(str.casefold, names)]
            flags = []
            for name, use in missing:
                guess = _guess(use, name, free)
                flags.append(f"--config.data.{COLUMN_KEYS[use]}={guess}")
                free = [column for column in free if column != guess]
            if len(free) == 1 and sum(flag.endswith("=NAME") for flag in flags) == 1:
                flags = [flag.replace("=NAME", f"={free[0]}") for flag in flags]
            message += f"; if they are there under other names, add {' '.join(flags)}"
        if any(column.lower().endswith(picture_files.SUFFIXES) for column in self.columns):
            message += f"; if the first line is a picture and not a header, put a line {','.join(names)} above it"
        raise errors.UserError(message)


# {what a column of a person's own CSV is for: the key of `config.data` that gives its name}.
COLUMN_KEYS = {
    "path": "path_column",
    "genres": "label_column",
    "id": "id_column",
    "movie": "movie_column",
    "split": "split_column",
}
# What people call them.
ALIASES = {
    "path": "file_name filename file filepath path image image_path image_name img picture poster poster_path name".split(),
    "genres": "label labels genre genres class classes class_name category categories target targets tag tags".split(),
    "id": "imdbid imdb_id movie_id film_id tmdb_id number no nr key index".split(),
    "movie": "movie_id film title group group_id imdbid imdb_id series name".split(),
    "split": "subset part partition set fold phase usage dataset".split(),
}


def _guess(use: str, name: str, columns: Sequence[str]) -> str:
    """The column that is meant by a name that is none: one like it, one of a usual name for its use, or NAME."""
    folded = {column.casefold(): column for column in columns}
    like = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.75)
    known = [alias for alias in ALIASES[use] if alias in folded]
    close = difflib.get_close_matches(use, folded, n=1, cutoff=0.5)
    return folded[found[0]] if (found := (name != use and like) or known or close) else "NAME"


def read(path: pathlib.Path) -> Table:
    """A CSV, or JSON where the name ends so: an object on each line, or one list of them.

    UTF-8 with or without a byte order mark, UTF-16, else Windows-1252. The delimiter is the one of comma, semicolon and tab
    that makes most columns, or that a first line `sep=;` of a spreadsheet names. What `tables.csv_text` has put in front of a
    cell is taken off. Raises `UserError` for a file that is missing, empty, or whose rows have more cells than the header.
    """
    encoded = _read_bytes(path)
    for start, advice in NO_TEXT.items():
        if encoded.startswith(start):
            raise errors.UserError(f"{path} {advice}.")
    text = decode(encoded)
    if path.suffix.lower() in (".json", ".jsonl", ".ndjson"):
        return _read_json_lines(path, text)
    if not text.strip():
        raise errors.UserError(f"{path} cannot be read as a CSV: it is empty; give a file with a header and rows.")
    # Only the line ends of a CSV: others, such as U+2028, may stand within a cell.
    lines = re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", text.lstrip("\r\n"))
    named = re.fullmatch(r'"?sep=(.)"?[;,\t]*\s*', lines[0], re.IGNORECASE)
    if named:
        lines = lines[1:]
    delimiter = named[1] if named else max(DELIMITERS, key=lambda each: len(next(csv.reader(lines, delimiter=each))))
    found = _parse(lines, delimiter, path)
    header, *rows = [row for row in found if any(cell.strip() for cell in row)] or [[]]
    for number, row in enumerate(rows, 1):
        if any(cell.strip() for cell in row[len(header) :]):
            advice = "write several labels as Drama|Crime, or quote the cell" if delimiter == "," else "quote the cell"
            raise errors.UserError(
                f"{path}, row {number}: {len(row)} cells, more cells than its header has columns ({len(header)}); {advice}."
            )
    width = len(header)
    rows = [[*map(tables.restore, row + [""] * width)][:width] for row in rows]
    return Table(path, tuple(tables.restore(name.strip()) for name in header), rows)


def _parse(lines: list[str], delimiter: str, path: pathlib.Path) -> list[list[str]]:
    options: dict[str, Any] = {"delimiter": delimiter, "skipinitialspace": True}
    try:
        list(csv.reader(lines, strict=True, **options))
    except csv.Error as error:
        # Otherwise the reader takes all the rest of the file for one cell. It forgives the other faults, such as "A" B.
        if "unexpected end of data" in str(error):
            last = list(csv.reader(lines, **options))[-1]
            number = len(lines) - "".join(last).rstrip("\r\n").count("\n")
            raise errors.UserError(
                f"{path} cannot be read as a CSV: the quotation mark opened in line {number} is never closed; close it."
            ) from error
    try:
        return list(csv.reader(lines, **options))
    except csv.Error as error:
        raise errors.UserError(f"{path} cannot be read as a CSV: {error}; save it as one.") from error


def _read_bytes(path: pathlib.Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise errors.UserError(f"there is no file {path}{nearest_existing(path)}; name the file or its folder.") from error
    except IsADirectoryError as error:
        raise errors.UserError(f"{path} is a folder, not a CSV: name a file in it{_listing(path)}.") from error
    except OSError as error:
        raise errors.UserError(f"{path} cannot be read as a CSV: {error.strerror}; give another file.") from error


def decode(encoded: bytes) -> str:
    """Text of any usual encoding; ISO-8859-1 fits whatever is left.

    Windows-1252 is the same but for the quotation marks and dashes of spreadsheets.
    """
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if encoded.startswith(mark):
            return encoded.decode(encoding, errors="replace")
    start = encoded[:200]
    if 4 * start.count(0) > len(start):  # UTF-16 without a mark: every second byte of Latin letters is zero
        is_little = start[1::2].count(0) > start[::2].count(0)
        return encoded.decode("utf-16-le" if is_little else "utf-16-be", errors="replace")
    for encoding in ("utf-8", "cp1252"):
        try:
            return encoded.decode(encoding)
        except UnicodeDecodeError:
            continue
    return encoded.decode("ISO-8859-1")


def split_names(text: str) -> list[str]:
    """The places of a text that separates them by commas; one whose own name has a comma can be given alone."""
    if "," in text and pathlib.Path(text).exists():
        return [text]
    return [name for part in text.split(",") if (name := part.strip())]


def nearest_existing(path: pathlib.Path) -> str:
    """`; DIR exists and holds A, B` of the nearest folder above a path that does not exist, or ""."""
    above = next((parent for parent in path.parents if parent.is_dir()), None)
    if path.parent.is_file():
        return f"; {path.parent} is a file, and its folder is {path.parent.parent}"
    return f"; the folder {above} exists{_listing(above)}" if above is not None else ""


def _listing(folder: pathlib.Path) -> str:
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir() if not entry.name.startswith("."))
    return f" and holds {', '.join(names[:4])}{' ...' if len(names) > 4 else ''}" if names else " and is empty"


def _read_json_lines(path: pathlib.Path, text: str) -> Table:
    records: list[dict[str, Any]] = []
    lines: Iterable[str] = filter(str.strip, text.splitlines())
    if text.lstrip().startswith("["):
        try:
            lines = [json.dumps(record) for record in json.loads(text)]
        except (ValueError, RecursionError) as error:
            raise errors.UserError(f"{path} is no JSON ({error}); write a list of objects, or one object a line.") from error
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise errors.UserError(f"{path}, line {number}: no JSON ({error}); write one object a line.") from error
        if not isinstance(record, dict):
            raise errors.UserError(f"{path}, line {number}: no object of JSON; write one a line, with its keys.")
        records.append(record)
    columns = tuple(dict.fromkeys(str(key).strip() for record in records for key in record))
    if not columns:
        raise errors.UserError(f"{path} cannot be read as JSON lines: it is empty; give a file with one object a line.")
    rows = [[_as_text({str(k).strip(): v for k, v in record.items()}.get(column)) for column in columns] for record in records]
    return Table(path, columns, rows)


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
