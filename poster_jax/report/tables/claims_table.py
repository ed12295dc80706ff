"""The tables of the paper's claims and of the facts that it prints, as plain text and as tables of the page."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from poster_jax.paper import verdicts
from poster_jax.report import blocks
from poster_jax.report.blocks import Table
from poster_jax.report.tables import cells

CLAIM_WIDTH, MEASURED_WIDTH, OUTCOME_WIDTH, LINE_WIDTH = 44, 44, 84, 150
# Rules of ledgers that were written before a row named its own.
ASKED = {
    "about": "= {target:g}",
    "above": "> {bound:g}",
    "abovechance": "p <= 0.025 under permuted labels",
    "below": "< {bound:g}",
    "within": "within {margin:g} of 0",
    "exactly": "= {target:,.0f}",
}
RULE = (
    "Every row names its rule; a count is its own interval. For all of them: what was not measured or has no interval cannot "
    "be told, and neither can a difference of exactly 0 over networks, unless both sides are shown to be one function. A value "
    "beside another gives no verdict."
)
WITHHELD = "-"
# {verdict: (words after a count, letter, name of the colour)}; the letter says the same without colour.
CHIPS = {
    verdicts.HOLDS: ("hold", "H", "yes"),
    verdicts.FAILS: ("do not", "N", "no"),
    verdicts.OPEN: ("cannot be told", "?", "open"),
    verdicts.SHORT: ("not run at this length", "S", "none"),
}
HEADER = ("claim", "verdict", "measured", "value [95 % interval]", "beside it", "rule", "note")
FACTS_HEADER = ("fact", "where", "report", "ours")
FACTS_CAPTION = "What the report prints as a setting or a count, beside ours; no verdicts."


def ledger_text(results: Mapping[str, Any]) -> str:
    """One block of lines per claim, then the facts; `results` are those of the protocol `reproduce`. Ends in a newline."""
    lines = [f"{'claim of the paper':<{CLAIM_WIDTH}}  {'what was measured':<{MEASURED_WIDTH}}  value and verdict"]
    for row in results["ledger"]:
        claim = textwrap.wrap(f"{row['claim']} ({row['where']})", CLAIM_WIDTH)
        measured = textwrap.wrap(row["measured"], MEASURED_WIDTH)
        outcome = [line for text in _outcome(row) for line in textwrap.wrap(text, OUTCOME_WIDTH, subsequent_indent="  ")]
        for number in range(max(map(len, (claim, measured, outcome)))):
            left, middle, right = (column[number] if number < len(column) else "" for column in (claim, measured, outcome))
            lines.append(f"{left:<{CLAIM_WIDTH}}  {middle:<{MEASURED_WIDTH}}  {right}".rstrip())
    counts = count_verdicts(results["ledger"])
    tail = [*([counts] if counts else []), *notes(results)]
    lines += ["", *(line for text in tail for line in textwrap.wrap(text, LINE_WIDTH))]
    facts = facts_table(results)
    if facts.rows:
        lines += ["", FACTS_CAPTION, ""]
        for fact, where, report, ours in facts.rows:
            left, middle = textwrap.wrap(f"{fact} ({where})", CLAIM_WIDTH), textwrap.wrap(report, MEASURED_WIDTH)
            right = textwrap.wrap(f"ours: {ours}", OUTCOME_WIDTH)
            for number in range(max(map(len, (left, middle, right)))):
                one, two, three = (column[number] if number < len(column) else "" for column in (left, middle, right))
                lines.append(f"{one:<{CLAIM_WIDTH}}  {two:<{MEASURED_WIDTH}}  {three}".rstrip())
    return "\n".join(lines) + "\n"


def ledger_table(results: Mapping[str, Any]) -> Table:
    """The claims as one table."""
    rows = [
        [
            f"{row['claim']} ({row['where']})",
            row["verdict"] or WITHHELD,
            row["measured"],
            _value(row) + (f", over {row['over']}" if row["over"] else ""),
            "; ".join(_beside(row)) or cells.NO_VALUE,
            _rule(row),
            "; ".join(_notes(row)) or cells.NO_VALUE,
        ]
        for row in results["ledger"]
    ]
    counts = count_verdicts(results["ledger"])
    caption = " ".join(
        ["Every claim of the paper, measured under its own protocol.", *([f"{counts}."] if counts else []), *notes(results)]
    )
    return Table(caption, HEADER, rows)


def claim_blocks(results: Mapping[str, Any]) -> list[blocks.Strip | blocks.Claims]:
    """How many claims have each verdict, where there are verdicts, and every claim in the report's order."""
    given = [row["verdict"] for row in results["ledger"]]
    parts = [(given.count(name), words, letter, colour) for name, (words, letter, colour) in CHIPS.items() if name in given]
    claims = []
    for row in results["ledger"]:
        _, letter, colour = CHIPS.get(row["verdict"], ("", "", ""))
        beside, said = "; ".join(_beside(row)), "; ".join(_notes(row))
        about = {"verdict": row["verdict"], "measured": row["measured"], "over": row["over"], "beside it": beside}
        about |= {"rule": _rule(row), "note": said}
        found = [(name, text) for name, text in about.items() if text]
        claims.append(blocks.Claim(row["claim"], row["where"], _value(row), letter, row["verdict"], colour, found))
    return [*([blocks.Strip(parts)] if parts else []), blocks.Claims(claims)]


def facts_table(results: Mapping[str, Any]) -> Table:
    """What the report prints beside ours; without rows for results that were written before there were facts."""
    rows = [[row[name] for name in FACTS_HEADER] for row in results.get("printed", [])]
    return Table(FACTS_CAPTION, FACTS_HEADER, rows)


def count_verdicts(rows: Sequence[Mapping[str, Any]]) -> str:
    """`holds: 12; cannot be told: 3`, in the order in which they come; "" where none was given."""
    given = [row["verdict"] for row in rows if row["verdict"]]
    return "; ".join(f"{name}: {given.count(name)}" for name in dict.fromkeys(given))


def notes(results: Mapping[str, Any]) -> list[str]:
    """Why there are no verdicts, what was reduced, the rule for all rows, and how the report was read; what applies."""
    withheld, reductions = results.get("withheld", ""), results["reductions"]
    reduced = [f"Reduced, so not the paper's own scale: {', '.join(reductions)}."] if reductions else []
    return [*([withheld] if withheld else []), *reduced, RULE, *results.get("readings", [])]


def _outcome(row: Mapping[str, Any]) -> list[str]:
    """The value, what stands beside it, the verdict with its rule, and notes."""
    over = f", over {row['over']}" if row["over"] else ""
    decided = [f"{row['verdict']}; rule: {_rule(row)}" if row["verdict"] else f"rule: {_rule(row)}"]
    return [f"{_value(row)}{over}", *_beside(row), *decided, *_notes(row)]


def _rule(row: Mapping[str, Any]) -> str:
    return row.get("rule") or f"holds if {ASKED[row['asked']['relation']].format(**row['asked'])}"


def _notes(row: Mapping[str, Any]) -> list[str]:
    reduction = row.get("reduction")
    return [text for text in (f"reduced: {reduction}" if reduction else "", row.get("note")) if text]


def _beside(row: Mapping[str, Any]) -> list[str]:
    """Floor, chance and ceiling in one text, then every other reading."""
    references = ", ".join(f"{name} {text}" for name, text in _references(row).items())
    same = row.get("same")
    others = [f"{other['text']}: {_other(other)}" for other in row.get("also", [])]
    return [text for text in (references, same, *others) if text]


def _other(other: Mapping[str, Any]) -> str:
    references = ", ".join(f"{name} {text}" for name, text in _references(other).items())
    shown = f", {other['same']}" if other["same"] else ""
    return f"{_value(other)}{f' ({references})' if references else ''}{shown}"


def _references(row: Mapping[str, Any]) -> dict[str, str]:
    """What stands beside the value; ledgers of older runs lack chance."""
    names = {"floor": "floor", "chance": "chance", "p": "p_value", "ceiling": "ceiling"}
    return {name: cells.rounded(row[key]) for name, key in names.items() if row.get(key) is not None}


def _value(row: Mapping[str, Any]) -> str:
    if row["value"] is None:
        return "not measured"
    if row["low"] is None or row["low"] == row["high"]:
        return cells.rounded(row["value"])
    return f"{cells.rounded(row['value'])} [{cells.rounded(row['low'])}, {cells.rounded(row['high'])}]"
