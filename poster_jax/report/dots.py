"""One line a genre: its average precision with interval and chance, the best genre first; every run on the same line."""

import dataclasses
from collections.abc import Sequence

from poster_jax.report import blocks
from poster_jax.report.runs import FinishedRun
from poster_jax.report.tables import cells

TICKS = (("0", 0.0), ("0.25", 25.0), ("0.5", 50.0), ("0.75", 75.0), ("1", 100.0))
CAPTION = (
    "Average precision by genre on the test part, the highest first: a point with its 95 % interval (bootstrap over movies), "
    "and a tick at chance, the mean when labels are permuted over movies."
)


def by_genre(runs: Sequence[FinishedRun]) -> blocks.Dots:
    """Genres sorted by the first run's average precision; those without a positive row come last."""
    found = [run.results["splits"]["test"]["per_genre"] for run in runs]
    order = sorted(found[0], key=lambda genre: (-(_value(found[0][genre]) or -1.0), genre))
    rows = []
    for genre in order:
        entries = [one[genre]["average_precision"] for one in found]
        texts = [cells.value(entry) for entry in entries]
        chance = entries[0]["chance"]
        marks = [] if chance is None else [blocks.Mark("chance", blocks.place(chance))]
        for series, entry in enumerate(entries):
            own = blocks.range_mark(entry["low"], entry["high"])
            own += [blocks.Mark("dot", blocks.place(entry["value"]))] if entry["value"] is not None else []
            top = round(100 * (series + 0.5) / len(runs), 2)
            marks += [dataclasses.replace(mark, series=series, top=top) for mark in own]
        names = [f"{run.name} {text}" if len(runs) > 1 else text for run, text in zip(runs, texts, strict=True)]
        track = blocks.Track(f"{genre}: {'; '.join(names)}; chance {cells.number(chance)}", marks, len(runs))
        shown = [*(texts if len(runs) == 1 else []), cells.number(chance)]
        rows.append(([genre, f"{found[0][genre]['count']:,}", *shown], track))
    header = ["genre", "posters", *(["average precision"] if len(runs) == 1 else []), "chance"]
    legend = [run.name for run in runs] if len(runs) > 1 else []
    return blocks.Dots(CAPTION, header, rows, TICKS, brief=0 if legend else 2, legend=legend)


def _value(entry: dict) -> float | None:
    return entry["average_precision"]["value"]
