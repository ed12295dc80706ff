"""The one writer of CSVs, for names that anyone may have chosen: no cell is a formula, and every text becomes UTF-8."""

import csv
import io
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

# A spreadsheet runs a cell that begins so. The quotation mark in front makes it text; a cell that has one gets another.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")


def csv_text(header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """A CSV with "\\n" at the ends of its lines; None is an empty cell. `restore` gives a cell's text back.

    Bytes of a file's name that are no UTF-8 are written as `\\udcff`.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([*map(protect, row)] for row in (header, *rows))
    return text.getvalue().encode("utf-8", "backslashreplace").decode()


def protect(cell: Any) -> Any:
    """The cell, behind a quotation mark where a spreadsheet would take its text for a formula. A number stays."""
    text = os.fspath(cell) if isinstance(cell, os.PathLike) else cell
    if not isinstance(text, str) or not _FORMULA.match(text) or _is_number(text):
        return text
    return f"'{text}"


def restore(text: str) -> str:
    """The text that `protect` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text))
