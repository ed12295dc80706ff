"""The ledger of the paper's claims, as plain text and as a table of the page."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from poster_jax.report.tables import page_tables

CLAIM_WIDTH, MEASURED_WIDTH, LINE_WIDTH = 44, 44, 150
ASKED = {
    "about": "= {target:g}",
    "above": "> {bound:g}",
    "below": "< {bound:g}",
    "within": "within {margin:g} of 0",
    "exactly": "= {target:,.0f}",
}
RULE = (
    "Rule: a claim of a number holds when the 95 % interval covers it, and cannot be told when it covers the floor too; a "
    "claim of more or less holds when the whole interval is on that side, does not when it is wholly on the other, and cannot "
    "be told otherwise."
)
HEADER = ("claim", "verdict", "measured", "value [95 % interval]", "floor, ceiling", "holds if")


def ledger_text(results: Mapping[str, Any]) -> str:
    """One block of lines per claim; `results` are those of the protocol `reproduce`. Ends in a newline."""
    lines = [f"{'claim of the paper':<{CLAIM_WIDTH}}  {'what was measured':<{MEASURED_WIDTH}}  value and verdict"]
    for row in results["ledger"]:
        claim = textwrap.wrap(f"{row['claim']} ({row['where']})", CLAIM_WIDTH)
        measured = textwrap.wrap(row["measured"], MEASURED_WIDTH)
        floor = f"; floor {_number(row['floor'])}, ceiling {_number(row['ceiling'])}" if row["floor"] is not None else ""
        over = f", over {row['over']}" if row["over"] else ""
        outcome = [f"{_value(row)}{over}{floor}", f"{row['verdict']} (asked: {_asked(row)})"]
        for at in range(max(map(len, (claim, measured, outcome)))):
            cells = [column[at] if at < len(column) else "" for column in (claim, measured, outcome)]
            lines.append(f"{cells[0]:<{CLAIM_WIDTH}}  {cells[1]:<{MEASURED_WIDTH}}  {cells[2]}".rstrip())
    counts = [f"{name}: {sum(row['verdict'] == name for row in results['ledger'])}" for name in _verdicts(results["ledger"])]
    told = [line for text in (*_reductions(results), RULE) for line in textwrap.wrap(text, LINE_WIDTH)]
    lines += ["", "; ".join(counts), *told]
    return "\n".join(lines) + "\n"


def ledger_table(results: Mapping[str, Any]) -> page_tables.Table:
    """The same as one table."""
    rows = [
        [
            f"{row['claim']} ({row['where']})",
            row["verdict"],
            row["measured"],
            _value(row) + (f", over {row['over']}" if row["over"] else ""),
            f"{_number(row['floor'])}, {_number(row['ceiling'])}" if row["floor"] is not None else page_tables.NO_VALUE,
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


def _asked(row: Mapping[str, Any]) -> str:
    return ASKED[row["asked"]["relation"]].format(**row["asked"])


def _value(row: Mapping[str, Any]) -> str:
    if row["value"] is None:
        return "not measured"
    if row["low"] is None or row["low"] == row["high"]:
        return _number(row["value"])
    return f"{_number(row['value'])} [{_number(row['low'])}, {_number(row['high'])}]"


def _number(value: float | None) -> str:
    """Counts whole, ratios with a decimal, shares with three, what would be 0.000 with two digits."""
    if value is None:
        return page_tables.NO_VALUE
    if 0 < abs(value) < 0.0005:
        return f"{value:.2g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 2 else f"{value:.3f}"
