"""A folder of runs -> index.html in it: one line a run, the newest first, sorted by the click of a header."""

import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from poster_jax import errors
from poster_jax.report import render
from poster_jax.report.tables import cells, claims_table, closing
from poster_jax.runtime import storage
from poster_jax.workdir import provenance, run_files

MAX_DEPTH = 4  # folders between the named one and a run
HEADER = ("run", "finished", "what", "posters", "mAP", "chance", "floor", "top-1", "binary accuracy", "commit", "seconds")
SORTED_BY = "finished"
ABOUT = (
    "Test part: value [95 % interval, bootstrap over movies], of several seeds the mean [range]. Chance and floor are those of "
    "mAP. A header sorts; a name leads to the run's page where there is one."
)
NOT_FINISHED = "not finished"


def write(folder: pathlib.Path) -> pathlib.Path:
    """Writes FOLDER/index.html over every run folder below it and returns it; raises UserError where there is none."""
    if not folder.is_dir():
        raise errors.UserError(f"{folder} is no folder: name one that holds runs.")
    runs = list(_find(folder, MAX_DEPTH))
    if not runs:
        raise errors.UserError(f"{folder} holds no run folder, which has a config.json: name the folder of your runs.")
    rows = sorted((_row(folder, run) for run in runs), key=lambda row: row["cells"][0])
    rows.sort(key=lambda row: row["sort"][HEADER.index(SORTED_BY)], reverse=True)
    about = {
        "title": f"Runs in {folder.resolve().name}",
        "about": ABOUT,
        "header": HEADER,
        "sorted_by": SORTED_BY,
        "rows": rows,
    }
    out = folder / "index.html"
    try:
        storage.write_atomic(out, render.index({**about, "rows": rows}))
    except OSError as error:
        raise errors.UserError(f"{out} cannot be written ({error.strerror}): copy the runs to a folder that can.") from error
    return out


def _find(folder: pathlib.Path, depth: int) -> Iterator[pathlib.Path]:
    """Run folders below, without those inside of one: the networks of a search or an ablation belong to it."""
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        if (path / "config.json").is_file():
            yield path
        elif depth > 1:
            yield from _find(path, depth - 1)


def _row(folder: pathlib.Path, run: pathlib.Path) -> dict[str, Any]:
    """A line of the table: {"cells", "sort" to sort by, "page" to lead to or ""}."""
    found = {"run": (run.relative_to(folder).as_posix(), "")}
    try:
        found |= _measured(run)
    except errors.UserError as error:
        found["what"] = (NOT_FINISHED if not run_files.has_results(run) else f"{error}".replace(f"{run}", run.name), "")
    texts = [found.get(name, (cells.NO_VALUE, "")) for name in HEADER]
    page = run / "report.html"
    return {
        "cells": [text for text, _ in texts],
        "sort": [key or ("" if text == cells.NO_VALUE else text) for text, key in texts],
        "page": page.relative_to(folder).as_posix() if page.is_file() else "",
    }


def _measured(run: pathlib.Path) -> dict[str, tuple[str, str]]:
    """{column: (text, key to sort by)} of a finished run; raises UserError for one that is not, and for damaged files."""
    results = run_files.read_whole(run)
    protocol, about = run_files.find_protocol(results), provenance.read(run)
    date = about.get("date") or time.strftime(provenance.DATE, time.gmtime((run / run_files.RESULTS).stat().st_mtime))
    secs = about.get("secs")
    found = {"finished": (date, date), "commit": (about.get("commit", cells.NO_VALUE), "")}
    found["seconds"] = (cells.NO_VALUE, "") if secs is None else (f"{secs:,.0f}", f"{secs:.0f}")
    if protocol == "reproduce":
        return {**found, "what": (f"{results['title']}: {claims_table.count_verdicts(results['ledger']) or 'no verdicts'}", "")}
    found["what"] = (f"{protocol}: {results['title']}", "")
    if protocol == "ablation":
        return {**found, "posters": (results["data"]["name"], "")}
    seeds = list(run_files.list_seeds(run).values())
    return {**found, "posters": (seeds[0]["data"]["name"], ""), **_scores([one["splits"]["test"]["metrics"] for one in seeds])}


def _scores(tests: list[Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    columns = {"mAP": "mean_average_precision", "top-1": "top1_accuracy", "binary accuracy": "binary_accuracy"}
    entries = {column: [test[name] for test in tests] for column, name in columns.items()}
    found = {column: (closing.value(each), cells.mean(each, "value")) for column, each in entries.items()}
    for column, key in (("chance", "chance"), ("floor", "best_floor")):
        text = cells.mean(entries["mAP"], key)
        found[column] = (text, text)
    return {column: (text, "" if key == cells.NO_VALUE else key) for column, (text, key) in found.items()}
