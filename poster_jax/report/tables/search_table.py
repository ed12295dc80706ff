"""A search as plain text: its hyperparameters with fold scores (the paper's Tables 3 and 4), its curves (Figures 9 and 10), and
which trials can be told apart; within 80 columns."""

from collections.abc import Mapping, Sequence
from typing import Any

from poster_jax.report.tables import cells


def search_table(search: Mapping[str, Any]) -> str:
    """The text of `results["search"]`, as `search.summary.summarise` makes it, scores beside their floor. Ends in a newline."""
    trials = {row["trial"]: row for row in search["trials"]}
    ranked = [trials[number] for number in search["ranking"]]
    rows = search["num_rows"]
    lines = [
        *cells.wrapped(
            f"{len(trials)} trials, best first: validation {search['metric']} after the last epoch, "
            f"{search['num_folds']} folds of {rows['train']:,} + {rows['validation']:,} rows"
        ),
        f"floor (best constant answer): {cells.number(search['floor'])}",
        "",
        *_hyperparameters(ranked, search["num_folds"]),
        *cells.wrapped("+-: standard deviation over folds; 95%: half of the mean's interval, corrected for folds that overlap"),
        "",
        *_verdict(search, ranked),
        "",
        *cells.wrapped(
            f"mean {search['metric']} over folds by epoch (floor {cells.number(search['floor'])}), all in inference mode"
        ),
        "",
        *_curves(ranked),
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _hyperparameters(ranked: Sequence[Mapping[str, Any]], num_folds: int) -> list[str]:
    widths = [name for name in ranked[0] if name.startswith(("filters_", "units_"))]
    columns = [
        ("trial", [str(row["trial"]) for row in ranked]),
        (
            "rate",
            [f"{row['learning_rate']:.6f}" if row["learning_rate"] < 1 else f"{row['learning_rate']:.1e}" for row in ranked],
        ),
        ("drop", [f"{row['dropout']:.2f}" for row in ranked]),
        ("widths", ["-".join(str(row[name]) for name in widths) for row in ranked]),
    ]
    if len({row["epochs"] for row in ranked}) > 1:
        columns.append(("epochs", [str(row["epochs"]) for row in ranked]))
    columns += [(f"fold {fold + 1}", [cells.number(row["folds"][fold]) for row in ranked]) for fold in range(num_folds)]
    columns += [
        ("mean", [cells.number(row["mean"]) for row in ranked]),
        ("+-", [cells.number(row["deviation"]) for row in ranked]),
        ("95%", [cells.number(None if row["mean"] is None else row["high"] - row["mean"]) for row in ranked]),
    ]
    return cells.block(columns, 1, cells.TERMINAL_WIDTH)


def _rate(value: float) -> str:
    return f"{value:.6f}" if value < 1 else f"{value:.1e}"


def _verdict(search: Mapping[str, Any], ranked: Sequence[Mapping[str, Any]]) -> list[str]:
    comparisons = search["comparisons"]
    alike = [str(row["other"]) for row in comparisons if not row["apart"]]
    apart = [str(row["other"]) for row in comparisons if row["apart"]]
    lines = []
    if comparisons:
        num_pairs = (len(comparisons) + 1) * len(comparisons) // 2
        many = "1 pair" if num_pairs == 1 else f"all {num_pairs} pairs"
        how = f"Nadeau and Bengio, Bonferroni for {many}"
        told = [f"cannot be told apart from {_listed(alike)}"] * bool(alike) + [f"is better than {_listed(apart)}"] * bool(
            apart
        )
        told[-1] += f" ({how})"
        lines += [line for text in told for line in cells.wrapped(f"trial {search['winner']} {text}")]
        lines += [
            "",
            *cells.aligned(["best minus", "difference", "low", "high", "apart"], [_comparison(row) for row in comparisons]),
        ]
    diverged = [str(row["trial"]) for row in ranked if row["mean"] is None]
    if diverged:
        lines.append(f"diverged on some fold: {_listed(diverged)}")
    fewer = [str(row["trial"]) for row in ranked if row["epochs"] < ranked[0]["epochs"]]
    if fewer:
        lines.append(f"dropped by halving, and compared with nothing: {_listed(fewer)}")
    return lines or ["a single trial: nothing to compare"]


def _comparison(row: Mapping[str, Any]) -> list[str]:
    return [
        f"trial {row['other']}",
        *(cells.number(row[name], "+.3f") for name in ("difference", "low", "high")),
        "yes" if row["apart"] else "no",
    ]


def _curves(ranked: Sequence[Mapping[str, Any]]) -> list[str]:
    parts = ("validation", "train")
    # Without the leading zero 12 epochs fit a line; later ones go below.
    curves = [[cells.number(value).removeprefix("0") for value in row["curves"][part]] for row in ranked for part in parts]
    columns = [
        ("trial", [str(row["trial"]) for row in ranked for _ in parts]),
        ("part", [part for _ in ranked for part in parts]),
    ]
    for epoch in range(max(row["epochs"] for row in ranked)):
        columns.append((str(epoch + 1), [curve[epoch] if epoch < len(curve) else "" for curve in curves]))
    return cells.block(columns, 2, cells.TERMINAL_WIDTH)


def _listed(numbers: Sequence[str]) -> str:
    return f"trial{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"
