"""The table of the paper's claims, as plain text and as a table of the page."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from poster_jax.report.tables import cells, page_tables

CLAIM_WIDTH, MEASURED_WIDTH, LINE_WIDTH = 44, 44, 150
ASKED = {
    "about": "= {target:g}",
    "above": "> {bound:g}",
    "abovechance": "p <= 0.025 under permuted labels",
    "below": "< {bound:g}",
    "within": "within {margin:g} of 0",
    "exactly": "= {target:,.0f}",
}
RULE = (
    "Rule: a claim of a number holds when the 95 % interval covers it, and cannot be told when it covers the floor too; a "
    "claim of more or less holds when the whole interval is on that side, does not when it is wholly on the other, and cannot "
    "be told otherwise; a claim of better than chance holds when at most 2.5 % of permutations of the labels over movies "
    "reach the value, and cannot be told otherwise."
)
HEADER = ("claim", "verdict", "measured", "value [95 % interval]", "beside it", "holds if")


def ledger_text(results: Mapping[str, Any]) -> str:
    """One block of lines per claim; `results` are those of the protocol `reproduce`. Ends in a newline."""
    lines = [f"{'claim of the paper':<{CLAIM_WIDTH}}  {'what was measured':<{MEASURED_WIDTH}}  value and verdict"]
    for row in results["ledger"]:
        claim = textwrap.wrap(f"{row['claim']} ({row['where']})", CLAIM_WIDTH)
        measured = textwrap.wrap(row["measured"], MEASURED_WIDTH)
        beside = "; ".join(f"{name} {text}" for name, text in _references(row).items())
        over = f", over {row['over']}" if row["over"] else ""
        outcome = [f"{_value(row)}{over}", *([beside] if beside else []), f"{row['verdict']} (asked: {_asked(row)})"]
        for number in range(max(map(len, (claim, measured, outcome)))):
            left, middle, right = (column[number] if number < len(column) else "" for column in (claim, measured, outcome))
            lines.append(f"{left:<{CLAIM_WIDTH}}  {middle:<{MEASURED_WIDTH}}  {right}".rstrip())
    counts = [f"{name}: {sum(row['verdict'] == name for row in results['ledger'])}" for name in _verdicts(results["ledger"])]
    notes = [line for text in (*_reductions(results), RULE) for line in textwrap.wrap(text, LINE_WIDTH)]
    lines += ["", "; ".join(counts), *notes]
    return "\n".join(lines) + "\n"


def ledger_table(results: Mapping[str, Any]) -> page_tables.Table:
    """The same as one table."""
    rows = [
        [
            f"{row['claim']} ({row['where']})",
            row["verdict"],
            row["measured"],
            _value(row) + (f", over {row['over']}" if row["over"] else ""),
            ", ".join(f"{name} {text}" for name, text in _references(row).items()) or cells.NO_VALUE,
            _asked(row),
        ]
        for row in results["ledger"]
    ]
    caption = " ".join(["Every claim of the paper, measured under its own protocol.", *_reductions(results), RULE])
    return page_tables.Table(caption, HEADER, rows)


def _verdicts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["verdict"] for row in rows))


def _reductions(results: Mapping[str, Any]) -> list[str]:
    """What was reduced, in words; nothing where nothing was."""
    given = results["reductions"]
    return [f"Reduced, so not the paper's own scale: {', '.join(given)}."] if given else []


def _references(row: Mapping[str, Any]) -> dict[str, str]:
    """What stands beside the value; ledgers of older runs lack chance."""
    names = {"floor": "floor", "chance": "chance", "p": "p_value", "ceiling": "ceiling"}
    return {name: cells.rounded(row[key]) for name, key in names.items() if row.get(key) is not None}


def _asked(row: Mapping[str, Any]) -> str:
    return ASKED[row["asked"]["relation"]].format(**row["asked"])


def _value(row: Mapping[str, Any]) -> str:
    if row["value"] is None:
        return "not measured"
    if row["low"] is None or row["low"] == row["high"]:
        return cells.rounded(row["value"])
    return f"{cells.rounded(row['value'])} [{cells.rounded(row['low'])}, {cells.rounded(row['high'])}]"
