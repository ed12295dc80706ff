"""How a score, its interval and its floor are written in a text table."""

import html
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from poster_jax.metrics import chance, definitions

WIDTH = 110  # of a run's full table
TERMINAL_WIDTH = 80
GAP = "  "
MAX_GENRE_WIDTH = 20
NO_VALUE = "-"
REFERENCES_NOTE = "floor: the best constant answer on the same rows; chance: the mean when labels are permuted over movies"
LOWER_NOTE = f"{', '.join(definitions.LOWER_IS_BETTER)}: lower is better"

Column = list[str]  # the cells of one column, without its header


def block(columns: Sequence[tuple[str, Column]], num_fixed: int, width: int = WIDTH) -> list[str]:
    """Lines of aligned columns; those that would pass the width go below, behind the first num_fixed ones."""
    fixed = [_stacked(header, cells) for header, cells in columns[:num_fixed]]
    blocks, current = [], list(fixed)
    for header, cells in columns[num_fixed:]:
        column = _stacked(header, cells)
        if len(current) > num_fixed and sum(len(kept[0]) + len(GAP) for kept in current) + len(column[0]) > width:
            blocks.append(current)
            current = list(fixed)
        current.append(column)
    blocks.append(current)
    lines: list[str] = []
    for block in blocks:
        height = max(len(column) for column in block)
        raised = [[" " * len(column[0])] * (height - len(column)) + column for column in block]
        lines += ([""] if lines else []) + [GAP.join(row) for row in zip(*raised, strict=True)]
    return lines


def _stacked(header: str, cells: Column) -> Column:
    """Header and cells, padded; a header wider than its cells is broken at underscores and spaces."""
    width = max(map(len, cells), default=0)
    words = [header] if len(header) <= width else header.replace("_", " ").split()
    width = max(width, *map(len, words))
    return [text.ljust(width) for text in (*words, *cells)]


def wrapped(text: str) -> list[str]:
    """A sentence as lines of a terminal."""
    return textwrap.wrap(text, TERMINAL_WIDTH)


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of right-aligned columns, however wide."""
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    return [GAP.join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in (header, *rows)]


def values(split: Mapping, metrics: Sequence[str]) -> Column:
    """A metric that the split lacks (a baseline without tuned thresholds) is shown as having no value."""
    return [number(split["metrics"][metric]["value"]) if metric in split["metrics"] else NO_VALUE for metric in metrics]


def values_and_floors(split: Mapping, metrics: Sequence[str]) -> Column:
    """A balanced training split has other floors than the test split, so each value of it carries its own."""
    entries = [split["metrics"][metric] for metric in metrics]
    return [f"{number(entry['value'])}/{number(entry['best_floor'])}" for entry in entries]


def defined(entries: Sequence[Mapping], key: str) -> list[float]:
    return [entry[key] for entry in entries if entry.get(key) is not None]


def mean(entries: Sequence[Mapping], key: str) -> str:
    """The mean over the entries that have the key and a value for it."""
    known = defined(entries, key)
    return number(sum(known) / len(known)) if known else NO_VALUE


def counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def shortened(genre: str) -> str:
    return genre if len(genre) <= MAX_GENRE_WIDTH else genre[: MAX_GENRE_WIDTH - 1] + "~"


def markdown(text: str) -> str:
    """A name as text of Markdown on one line: nothing in it is markup, HTML, a formula or the end of a cell."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_{}\[\]#|~$])", r"\\\1", escaped)


def number(value: float | None, spec: str = ".3f") -> str:
    """A score by Python's format specification."""
    return NO_VALUE if value is None else format(value, spec)


def rounded(value: float | None) -> str:
    """Numbers of any size: counts whole, ratios with one decimal, shares with three, what would be 0.000 with two digits."""
    if value is None:
        return NO_VALUE
    if 0 < abs(value) < 0.0005:
        return f"{value:.2g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 2 else f"{value:.3f}"


def interval(low: float | None, high: float | None, spec: str = ".3f") -> str:
    """The ends of an interval or a range."""
    return f"[{number(low, spec)}, {number(high, spec)}]"


def value(entry: Mapping[str, Any], spec: str = ".3f") -> str:
    """A value with its interval, where it has one."""
    if entry["value"] is None or entry["low"] is None:
        return number(entry["value"], spec)
    return f"{number(entry['value'], spec)} {interval(entry['low'], entry['high'], spec)}"


def p_value(entry: Mapping[str, Any]) -> str:
    """The share of permutations that reach the value, to the resolution that they have."""
    return number(entry["p_value"], ".4f")


def verdict(tests: Sequence[Mapping]) -> str:
    """In words, whether the networks of one or several seeds rank better than a constant answer.

    tests: `scoring.score` of the test part of each seed.
    """
    entries = [test["metrics"]["mean_average_precision"] for test in tests]
    decided = [chance.beats_constant("mean_average_precision", entry) for entry in entries]
    if None in decided:
        return "mean_average_precision is undefined: no genre has a positive row"
    words = "better than a constant answer" if all(decided) else "cannot be told from a constant answer"
    largest = max(entry["p_value"] for entry in entries)
    p = "p" if len(tests) == 1 else f"largest of {len(tests)} p"
    return f"mean_average_precision {mean(entries, 'value')}, chance {mean(entries, 'chance')}: {words} ({p} = {largest:.4f})"


def direction(name: str) -> str:
    return f"{name} (lower is better)" if name in definitions.LOWER_IS_BETTER else name
