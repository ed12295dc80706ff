"""Tables as people have them -> rows of text cells: CSV with commas, semicolons or tabs, in any usual encoding, and JSON lines.

Every reader of a CSV in the project reads through `read`, so that what one finds in a file another finds too.
"""

import csv
import dataclasses
import difflib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from poster_jax import errors

DELIMITERS = (",", ";", "\t")
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

    def require(self, names: Sequence[str], flags: Sequence[str] = ()) -> None:
        """Raises `UserError` that names the missing columns; `flags` are the keys that give another name, one for each."""
        missing = [name for name in names if self.find(name) is None]
        if not missing:
            return
        message = f"{self.path} needs the columns {', '.join(names)}; {', '.join(missing)} is not among those found: "
        message += ", ".join(self.columns)
        if flags:
            guesses = [f"--config.{flags[names.index(name)]}={_guess(name, self.columns)}" for name in missing]
            message += f"; if they are there under other names, add {' '.join(guesses)}"
        raise errors.UserError(message)


# What people call a column of pictures and one of labels.
ALIASES = {
    "path": ("file_name", "filename", "file", "image", "image_path", "img", "picture", "poster", "filepath", "name"),
    "genres": ("label", "labels", "genre", "class", "classes", "category", "categories", "target", "tags"),
}


def _guess(name: str, columns: Sequence[str]) -> str:
    folded = {column.casefold(): column for column in columns}
    known = next((folded[alias] for alias in ALIASES.get(name, ()) if alias in folded), None)
    close = difflib.get_close_matches(name, list(folded), n=1, cutoff=0.5)
    return known or (folded[close[0]] if close else "NAME")


def read(path: pathlib.Path) -> Table:
    """A CSV, or JSON lines where the name ends so.

    UTF-8 with or without a byte order mark, UTF-16, else ISO-8859-1. The delimiter is the one of comma, semicolon and tab that
    makes most columns. Raises `UserError` for a file that is missing, empty, or whose rows have more cells than the header.
    """
    text = decode(_read_bytes(path))
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return _read_json_lines(path, text)
    if not text.strip():
        raise errors.UserError(f"{path} cannot be read as a CSV: it is empty; give a file with a header and rows.")
    lines = text.splitlines(keepends=True)
    delimiter = max(DELIMITERS, key=lambda each: len(next(csv.reader(lines, delimiter=each))))
    try:
        found = list(csv.reader(lines, delimiter=delimiter))
    except csv.Error as error:
        raise errors.UserError(f"{path} cannot be read as a CSV: {error}; save it as one.") from error
    header, *rows = [row for row in found if any(cell.strip() for cell in row)]
    for number, row in enumerate(rows, 1):
        if any(cell.strip() for cell in row[len(header) :]):
            advice = "write several labels as Drama|Crime, or quote the cell" if delimiter == "," else "quote the cell"
            raise errors.UserError(
                f"{path}, row {number}: {len(row)} cells, more cells than its header has columns ({len(header)}); {advice}."
            )
    width = len(header)
    return Table(path, tuple(name.strip() for name in header), [(row + [""] * width)[:width] for row in rows])


def _read_bytes(path: pathlib.Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise errors.UserError(f"there is no file {path}{nearest_existing(path)}; name the file or its folder.") from error
    except IsADirectoryError as error:
        raise errors.UserError(f"{path} is a folder, not a CSV: name a file in it{_listing(path)}.") from error
    except OSError as error:
        raise errors.UserError(f"{path} cannot be read as a CSV: {error.strerror}; give another file.") from error


def decode(encoded: bytes) -> str:
    """Text of any usual encoding; ISO-8859-1 fits whatever is left."""
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if encoded.startswith(mark):
            return encoded.decode(encoding, errors="replace")
    if encoded[1:200:2].count(0) > 40 or (encoded[:200].count(0) and not encoded[1:200:2].strip(b"\0")):
        return encoded.decode("utf-16-le", errors="replace")
    try:
        return encoded.decode("utf-8")
    except UnicodeDecodeError:
        return encoded.decode("ISO-8859-1")


def nearest_existing(path: pathlib.Path) -> str:
    """`; DIR exists and holds A, B` of the nearest folder above a path that does not exist, or ""."""
    above = next((parent for parent in path.parents if parent.is_dir()), None)
    return f"; the folder {above} exists{_listing(above)}" if above is not None else ""


def _listing(folder: pathlib.Path) -> str:
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir() if not entry.name.startswith("."))
    return f" and holds {', '.join(names[:4])}{' ...' if len(names) > 4 else ''}" if names else " and is empty"


def _read_json_lines(path: pathlib.Path, text: str) -> Table:
    records: list[dict[str, Any]] = []
    for number, line in enumerate(filter(str.strip, text.splitlines()), 1):
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
