"""Whether a value of JSON has the form that its reader relies on: a form is a kind of value, or is made of forms.

A file of a run folder may be cut, edited by hand or of another run. Its form is checked once, where it is read, so that no
reader needs to: what has passed holds the keys, types and ranges that the tables and figures use.
"""

import contextlib
import csv
import io
import json
import pathlib
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from poster_jax import errors
from poster_jax.runtime import storage, tables

LARGEST_COUNT = 2**53  # beyond it a float64 is no whole number
LARGEST = 1e300  # beyond it sums and axes overflow
ROUNDING = 1e-9  # a mean of shares may be so far beyond 1


class Damaged(Exception):
    """A file does not hold what a run writes; the message says where, in a few words without the path."""


class DamagedFile(errors.UserError):
    """`Damaged`, or a file that is missing, as a sentence: what is wrong with which file, and the way out."""

    def __init__(self, wrong: str, way_out: str) -> None:
        super().__init__(f"{wrong}: {way_out}.")
        self.wrong = wrong


class Kind(NamedTuple):
    """A value without parts: what it is in words, and what is accepted."""

    words: str
    accepts: Callable[[Any], bool]


class Each(NamedTuple):
    """A mapping with any names, whose values have one form."""

    form: Any


class Many(NamedTuple):
    """A list of items of one form, at least so many."""

    form: Any
    least: int = 0


class Maybe(NamedTuple):
    """The form, or null."""

    form: Any


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= LARGEST


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_COUNT


ANYTHING = Kind("anything", lambda value: True)
TEXT = Kind("text", lambda value: isinstance(value, str) and bool(value))
WORDS = Kind("text, which may be empty", lambda value: isinstance(value, str))
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
NUMBER = Kind("a number", _is_number)
COUNT = Kind("a count", _is_count)
SHARE = Kind("a share from 0 to 1", lambda value: _is_number(value) and -ROUNDING <= value <= 1 + ROUNDING)
# (key, form) pairs; a key that ends in "?" may be missing, and keys that are not named may hold anything.
Fields = Mapping[str, Any]


def check(value: Any, form: Any, where: str = "") -> None:
    """Raises `Damaged` unless the value has the form: a Kind, Each, Many, Maybe, or {key: form} for a mapping."""
    if isinstance(form, Maybe):
        if value is not None:
            check(value, form.form, where)
    elif isinstance(form, Kind):
        require(form.accepts(value), where, f"{reprlib.repr(value)} is not {form.words}")
    elif isinstance(form, Many):
        require(isinstance(value, list) and len(value) >= form.least, where, f"not a list of {form.least} or more")
        for index, item in enumerate(value):
            check(item, form.form, f"{where}[{index}]")
    else:
        require(isinstance(value, dict), where, "not a mapping")
        if isinstance(form, Each):
            for key, item in value.items():
                check(item, form.form, _below(where, key))
        else:
            _check_fields(value, form, where)


def _check_fields(value: Mapping[str, Any], form: Fields, where: str) -> None:
    for name, inner in form.items():
        key = name.removesuffix("?")
        if key in value:
            check(value[key], inner, _below(where, key))
        else:
            require(name.endswith("?"), _below(where, key), "missing")


def _below(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def require(fact: bool, where: str, what: str) -> None:
    """Raises `Damaged` with the place and what is wrong there, unless `fact`."""
    if not fact:
        raise Damaged(f"{where}: {what}" if where else what)


@contextlib.contextmanager
def named(path: pathlib.Path, way_out: str) -> Iterator[None]:
    """Raises `DamagedFile` for what is `Damaged` inside the block, and for a file that the disk does not give."""
    try:
        yield
    except Damaged as error:
        raise DamagedFile(f"{path} is damaged ({error})", way_out) from error
    except OSError as error:
        raise DamagedFile(f"{path} cannot be read ({error.strerror})", way_out) from error


def read_text(path: pathlib.Path) -> str:
    """The text of a file, or of a log in parts; raises `Damaged` for one that is no UTF-8, and OSError."""
    # A stranger's file may be a pipe, or a link to a device without an end.
    require(storage.is_remote(path) or path.is_file() or not path.exists(), "", "it is no file")
    try:
        return storage.read(path)
    except UnicodeDecodeError as error:
        raise Damaged("it is not UTF-8 text") from error


def parse_json(text: str, where: str = "") -> Any:
    """The value of a text of JSON; raises `Damaged`."""
    try:
        return json.loads(text)
    # The first is of too deep nesting; the second of a number of thousands of digits too.
    except (RecursionError, ValueError) as error:
        reason = f"{error}" if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise Damaged(f"{where}: {reason}" if where else reason) from error


def read_json(path: pathlib.Path) -> Any:
    """The value of a JSON file; raises `Damaged` for one that is empty or cut, and OSError."""
    return parse_json(read_text(path))


def parse_lines(text: str) -> list[dict[str, Any]]:
    """The lines of a log: of steps, of a search's networks, or of timings; raises `Damaged` for any other."""
    lines = []
    for number, text_line in enumerate(text.splitlines(), 1):
        where = f"line {number}"
        line = parse_json(text_line, where)
        check(line, Each(ANYTHING), where)
        if "event" not in line:
            is_step = "trial" not in line
            check(line, {"part": TEXT, **({"step": COUNT} if is_step else {})}, where)
            others = {name: value for name, value in line.items() if name != "part"}
            check(others, Each(Maybe(NUMBER)), where)
        lines.append(line)
    return lines


def parse_table(text: str, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV that has the columns, each whole in them; raises `Damaged`."""
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        rows = list(reader)
    except csv.Error as error:
        raise Damaged(str(error)) from error
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    require(not missing, "", f"without the column {', '.join(missing)}")
    for number, row in enumerate(rows, 1):
        require(None not in [row[name] for name in columns], f"row {number}", "cut")
    return [{**row, **{name: tables.restore(row[name]) for name in columns}} for row in rows]
