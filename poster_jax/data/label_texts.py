"""Label cells as people write them -> lists of labels: `A|B`, `A, B`, `A; B`, `['A', 'B']`, JSON, or a column for each label.

The internal form is the one of the Kaggle set, labels joined by "|", which no label may contain.
"""

import ast
import collections
import json
from collections.abc import Sequence

from poster_jax import errors
from poster_jax.data import csv_files

SEPARATORS = ("|", ";", ",")
# A cell, or a part of one, that says that there is no label.
NO_LABEL = {"", "n/a", "na", "nan", "none", "null", "<na>", "nil", "-", "\\n"}
TRUE, FALSE = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no", ""}
NUM_TOLD = 3


def split_cells(cells: Sequence[str], separator: str = "") -> tuple[list[list[str]], list[str]]:
    """(the labels of every cell in listed order, without repeats and without words for none; what was found, in sentences).

    Lists of Python and of JSON are taken apart as such. Other cells are split at `separator`, or without one at the first of
    | ; , that splits cells into labels that come again: a text with a comma that stands alone is one label. Labels that are
    equal but for case and spaces are one, in their most frequent spelling. Raises `UserError` for a list that cannot be read.
    """
    listed = {row: _parse_list(cell, row) for row, cell in enumerate(cells) if _is_list(cell)}
    plain = [cell for row, cell in enumerate(cells) if row not in listed]
    chosen = separator or _find_separator(plain)
    found = [listed[row] if row in listed else cell.split(chosen) if chosen else [cell] for row, cell in enumerate(cells)]
    notes = []
    if listed:
        notes.append(f"labels are lists in {len(listed):,} of {len(cells):,} cells")
    num_split = sum(chosen in cell for cell in plain) if chosen else 0
    if num_split and chosen != "|":
        notes.append(
            f"labels are separated by {chosen!r} in {num_split:,} of {len(cells):,} cells: "
            "--config.data.label_separator=CHARACTER for another"
        )
    unsplit = next((cell for cell in plain if any(each in cell for each in SEPARATORS)), "") if not chosen else ""
    if unsplit:
        notes.append(f"a label may hold a separator, as {unsplit.strip()!r}: --config.data.label_separator=, splits there")
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
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        items = list(value) if isinstance(value, (list, tuple, set, dict)) else [value]
        # The full set of TMDB has objects with a name.
        names = [item.get("name", "") if isinstance(item, dict) else item for item in items]
        if all(isinstance(name, (str, int, float)) or name is None for name in names):
            return ["" if name is None else str(name) for name in names]
    inner = text[1:-1].strip()
    if inner and not any(mark in inner for mark in "[]{}()\"'"):
        return inner.split(",")
    raise errors.UserError(f"row {row + 1}: the labels {text[:60]!r} are no list that can be read: write Drama|Crime.")


def _find_separator(cells: Sequence[str]) -> str:
    """The first separator that splits some cell into labels of which one comes again in another cell, or "" ."""
    for separator in SEPARATORS:
        with_it = [cell for cell in cells if separator in cell]
        if not with_it:
            continue
        parts = {cell: {part.strip().casefold() for part in cell.split(separator)} for cell in set(cells)}
        counts = collections.Counter(part for own in parts.values() for part in own)
        come_again = any(counts[part] > 1 for cell in with_it for part in parts[cell])
        all_differ = len({cell.strip().casefold() for cell in cells}) == len(cells) > 1
        if separator == "|" or come_again or all_differ:
            return separator
    return ""


def _tidy(labels: Sequence[str]) -> list[str]:
    names = (" ".join(label.split()) for label in labels)
    return list(dict.fromkeys(name for name in names if name.casefold() not in NO_LABEL))


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
    if len(hot) < 2:
        return None
    rows = [[name for name in hot if cells[name][row] in TRUE] for row in range(len(table.rows))]
    shown = ", ".join(hot[:NUM_TOLD]) + (" ..." if len(hot) > NUM_TOLD else "")
    return rows, [f"labels are the {len(hot)} columns of zeros and ones: {shown}"]


def join(labels: Sequence[str]) -> str:
    """The internal form; raises `UserError` for a label with a "|"."""
    wrong = next((label for label in labels if "|" in label), None)
    if wrong is not None:
        raise errors.UserError(f"the label {wrong!r} holds a '|', which separates labels here: rename it.")
    return "|".join(labels)
