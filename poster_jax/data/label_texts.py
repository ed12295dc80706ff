"""Label cells as people write them -> lists of labels: `A|B`, `A, B`, `A; B`, `['A', 'B']`, JSON, or a column for each label.

The internal form is the one of the Kaggle set, labels joined by "|", which no label may contain.
"""

import ast
import collections
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from poster_jax import errors
from poster_jax.data import csv_files

SEPARATORS = ("|", ";", ",")
# Marks that also stand within a label, as in Sci-Fi/Fantasy: nothing is split at them unless the key asks for it.
DOUBTFUL = ("/", "+", "&", " and ", "_", "-", " ")
# Names of separators for `config.data.label_separator`, which a shell does not take for its own.
WORDS = {"pipe": "|", "semicolon": ";", "comma": ",", "slash": "/", "tab": "\t", "space": " ", "newline": "\n", "and": " and "}
WHOLE = "none"  # the value with which a cell is one label, whatever it holds
KEY = "--config.data.label_separator"
# A cell, or a part of one, that says that there is no label.
NO_LABEL = {"", "n/a", "na", "nan", "none", "null", "<na>", "nil", "-", "\\n"}
TRUE, FALSE = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no", ""}
NUM_TOLD = 3


def split_cells(cells: Sequence[str], separator: str = "") -> tuple[list[list[str]], list[str]]:
    """(the labels of every cell in listed order, without repeats and without words for none; what was found, in sentences).

    Lists of Python and of JSON are taken apart as such. Other cells are split at `separator`, or without one at the first of
    | ; , that splits cells into labels that come again: a text with a comma that stands alone is one label. Labels that are
    equal but for case, spaces and the form of their accents are one, in their most frequent spelling.

    separator: "" to find it, a character, a word of WORDS, several as "comma+slash", or WHOLE.
    Raises `UserError` for a list that cannot be read, and where labels that were found are made of others.
    """
    listed = {row: _parse_list(cell, row) for row, cell in enumerate(cells) if _is_list(cell)}
    plain = [cell for row, cell in enumerate(cells) if row not in listed]
    marks = () if separator == WHOLE else given_marks(separator) or _find_separator(plain)
    # Within a list only what was asked for separates.
    found = [
        _split(listed[row], marks if separator else ()) if row in listed else _split([cell], marks)
        for row, cell in enumerate(cells)
    ]
    if not separator:
        _refuse_combinations(found, marks, is_certain=bool(listed) or marks == ("|",))
    chosen = marks[0] if marks else ""
    notes = []
    words = collections.Counter(text for cell in cells if (text := cell.strip()) and text.casefold() in NO_LABEL)
    if words:
        notes.append(f"no label in {words.total():,} of {len(cells):,} cells: {', '.join(list(words)[:NUM_TOLD])}")
    if listed:
        notes.append(f"labels are lists in {len(listed):,} of {len(cells):,} cells")
    num_split = sum(any(mark in cell for mark in marks) for cell in plain)
    if num_split and chosen != "|":
        shown = " and ".join(map(repr, marks))
        notes.append(
            f"labels are separated by {shown} in {num_split:,} of {len(cells):,} cells: {KEY}={WHOLE} keeps cells whole"
        )
    unsplit = next((cell for cell in plain if any(each in cell for each in SEPARATORS)), "") if not separator + chosen else ""
    if unsplit:
        mark = next(each for each in SEPARATORS if each in unsplit)
        notes.append(f"a label may hold a separator, as {unsplit.strip()!r}: {KEY}={_word(mark)} splits there")
    tidy = [_tidy(labels) for labels in found]
    spelt, merged = _one_spelling(tidy)
    if merged:
        shown = "; ".join(f"{' = '.join(sorted(others))} -> {label}" for label, others in list(merged.items())[:NUM_TOLD])
        notes.append(f"labels that differ in case or spaces only are one: {shown}{' ...' if len(merged) > NUM_TOLD else ''}")
    return spelt, notes


def _is_list(cell: str) -> bool:
    return cell.strip()[:1] in ("[", "(", "{") and cell.strip()[-1:] in ("]", ")", "}")


def _parse_list(cell: str, row: int) -> list[str]:
    text = cell.strip()
    # numpy writes ['A' 'B'], which Python would read as one text.
    if re.fullmatch(r"""\[\s*('[^']*'|"[^"]*")(\s+('[^']*'|"[^"]*"))+\s*\]""", text):
        return [single or double for single, double in re.findall(r"""'([^']*)'|"([^"]*)\"""", text)]
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        items = _items(value)
        # The full set of TMDB has objects with a name.
        names = [item.get("name", "") if isinstance(item, dict) else item for item in items]
        if all(isinstance(name, (str, int, float)) or name is None for name in names):
            return ["" if name is None else str(name) for name in names]
    inner = text[1:-1].strip()
    if inner and not any(mark in inner for mark in "[]{}()\"'"):
        return inner.split(",")
    raise errors.UserError(f"row {row + 1}: the labels {text[:60]!r} are no list that can be read: write Drama|Crime.")


def _items(value: Any) -> list[Any]:
    if isinstance(value, dict):
        # {"Drama": 1, "Crime": 0} says which labels there are, {"name": "Drama"} is one.
        says_which = bool(value) and all(isinstance(given, (bool, int, float)) for given in value.values())
        return [name for name, given in value.items() if given] if says_which else [value]
    return sorted(value, key=str) if isinstance(value, set) else list(value) if isinstance(value, (list, tuple)) else [value]


def given_marks(separator: str) -> tuple[str, ...]:
    """What a value of `config.data.label_separator` other than WHOLE separates at."""
    words = separator.split("+")
    if all(word in WORDS for word in words):
        return tuple(WORDS[word] for word in words)
    return (separator,) if separator else ()


def _word(mark: str) -> str:
    return next((word for word, known in WORDS.items() if known == mark), f"'{mark}'")


def _split(labels: Iterable[str], marks: Sequence[str]) -> list[str]:
    # N/A is no list of N and A.
    kept = [label for label in labels if label.strip().casefold() not in NO_LABEL]
    # A space of a separator stands for any that people type, also for one that does not break.
    pattern = "|".join(r"\s+".join(map(re.escape, mark.split(" "))) for mark in marks)
    return [part for label in kept for part in re.split(pattern, label)] if marks else kept


def _refuse_combinations(rows: Sequence[Sequence[str]], marks: tuple[str, ...], is_certain: bool) -> None:
    """Raises `UserError` for a label that is made of other labels: as it stands, every combination would be a label.

    is_certain: labels are known to be separated by "|" or written as lists, so that only another of SEPARATORS within one is a
    mistake.
    """
    spelt = {name.casefold(): name for labels in rows for name in _tidy(labels)}
    for mark in SEPARATORS if is_certain else (*SEPARATORS, *DOUBTFUL):
        parts = {name: [part.strip() for part in name.split(mark)] for name in spelt if mark in name}
        parts = {name: own for name, own in parts.items() if len(own) > 1 and all(own)}
        made = [name for name, own in parts.items() if all(part in spelt for part in own)]
        # A/B, B/C and C/A, without an A alone. The words of a label come again in others, so a space is no sign of it.
        counts = collections.Counter(part for own in parts.values() for part in set(own))
        if mark in ("/", "+", "&") and len(parts) > 2 and all(counts[part] > 1 for own in parts.values() for part in own):
            made = made or list(parts)
        if made:
            splits = "+".join(_word(each) for each in (*marks, mark))
            keeps = "+".join(map(_word, marks)) or WHOLE
            raise errors.UserError(
                f"the label {spelt[made[0]]!r} looks like several in one: {KEY}={splits} splits it, {KEY}={keeps} keeps it."
            )


def _find_separator(cells: Sequence[str]) -> tuple[str, ...]:
    """The first separator that splits some cell into labels of which one comes again in another cell; () if none does."""
    for separator in SEPARATORS:
        with_it = [cell for cell in cells if separator in cell]
        if not with_it:
            continue
        parts = {cell: {part.strip().casefold() for part in cell.split(separator)} for cell in set(cells)}
        counts = collections.Counter(part for own in parts.values() for part in own)
        come_again = any(counts[part] > 1 for cell in with_it for part in parts[cell])
        all_differ = len({cell.strip().casefold() for cell in cells}) == len(cells) > 1
        if separator == "|" or come_again or all_differ:
            return (separator,)
    return ()


def _tidy(labels: Iterable[str]) -> list[str]:
    names = map(tidy_name, labels)
    return list(dict.fromkeys(name for name in names if name.casefold() not in NO_LABEL))


def tidy_name(text: str) -> str:
    """A label on one line: composed accents, single spaces, no control characters; the bytes of a folder's name as text."""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        text = csv_files.decode(text.encode("utf-8", "surrogateescape"))
    visible = "".join(" " if unicodedata.category(letter) == "Cc" else letter for letter in text)
    return " ".join(unicodedata.normalize("NFC", visible).split())


def _one_spelling(rows: Sequence[Sequence[str]]) -> tuple[list[list[str]], dict[str, set[str]]]:
    """(rows with one spelling for each label, {label: its other spellings})."""
    counts = collections.Counter(label for labels in rows for label in labels)
    spellings: dict[str, list[str]] = {}
    for label in counts:
        spellings.setdefault(label.casefold(), []).append(label)
    chosen = {folded: min(known, key=lambda label: (-counts[label], label)) for folded, known in spellings.items()}
    merged = {chosen[folded]: set(known) - {chosen[folded]} for folded, known in spellings.items() if len(known) > 1}
    return [list(dict.fromkeys(chosen[label.casefold()] for label in labels)) for labels in rows], merged


def from_columns(table: csv_files.Table, others: Sequence[str]) -> tuple[list[list[str]], list[str]] | None:
    """The labels of a table with a column of zeros and ones for each, told in a sentence; None where there are none such.

    others: columns that are no labels.
    """
    taken = {name.casefold() for name in others}
    names = [name for name in table.columns if name.casefold() not in taken]
    cells = {name: [cell.strip().casefold() for cell in table.column(name)] for name in names}
    hot = [name for name in names if set(cells[name]) <= TRUE | FALSE and set(cells[name]) & TRUE]
    # A column of class numbers is no label.
    if any(name.casefold() in csv_files.ALIASES["genres"] for name in names):
        return None
    if len(hot) < 2:
        return None
    rows = [[name for name in hot if cells[name][row] in TRUE] for row in range(len(table.rows))]
    shown = ", ".join(hot[:NUM_TOLD]) + (" ..." if len(hot) > NUM_TOLD else "")
    return rows, [f"labels are the {len(hot)} columns of zeros and ones: {shown}"]


def as_list(labels: Sequence[str]) -> str:
    """A cell that `split_cells` reads as exactly these labels, whatever they hold."""
    return json.dumps(list(labels), ensure_ascii=False)


def join(labels: Sequence[str]) -> str:
    """The internal form; raises `UserError` for a label with a "|"."""
    wrong = next((label for label in labels if "|" in label), None)
    if wrong is not None:
        raise errors.UserError(f"the label {wrong!r} holds a '|', which separates labels here: rename it.")
    return "|".join(labels)
