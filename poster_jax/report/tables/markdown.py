"""The tables of the pages as Markdown, from run folders: every row with the commit, jax, machine and seconds that made it."""

import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from poster_jax.data import splits
from poster_jax.report.blocks import Table
from poster_jax.report.tables import ablation_table, cells, claims_table, transfer_table
from poster_jax.workdir import provenance, run_files

ORIGIN = ("commit", "jax", "machine", "seconds")
SINGLE = ("run", "rows", "binary accuracy", "all zeros", "mAP", "floor", "chance", "colour mAP", "top-1", "floor")
STAGES = ("run", "posters in", "stage", "rate", *splits.PARTS, "floor")
BINARY, MAP, TOP1 = "binary_accuracy", "mean_average_precision", "top1_accuracy"
COLOURS = "color_histogram_logistic"
Results = Mapping[str, Any]


def text(workdirs: Sequence[pathlib.Path]) -> str:
    """The tables of finished run folders, runs of one protocol in one table. Ends in a newline.

    Raises UserError for a folder whose run has not finished, or whose results are damaged.
    """
    read = [(workdir, run_files.read_whole(workdir)) for workdir in workdirs]
    blocks = []
    for protocol, make in TABLES.items():
        held = [(workdir, results) for workdir, results in read if run_files.find_protocol(results) == protocol]
        blocks += make(held) if held else []
    return "\n\n".join(blocks) + "\n"


def table(shown: Table) -> str:
    """A table as Markdown, its caption above; a bar inside a cell is escaped."""
    rows = [shown.header, ["---"] * len(shown.header), *shown.rows]
    lines = [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    return "\n".join([*([shown.caption, ""] if shown.caption else []), *lines])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def origin(workdir: pathlib.Path) -> list[str]:
    """Cells of ORIGIN; those of a run whose folder does not say are empty."""
    about = provenance.read(workdir)
    if not about:
        return [cells.NO_VALUE] * len(ORIGIN)
    return [about["commit"], about["jax"], about["machine"], f"{about['secs']:,.0f}"]


def _single(runs: Sequence[tuple[pathlib.Path, Results]]) -> list[str]:
    """One row per run: its value with its interval, or the mean and the range over its seeds."""
    rows = []
    for workdir, results in runs:
        seeds = list(run_files.list_seeds(workdir).values())
        tests = [seed["splits"]["test"]["metrics"] for seed in seeds]
        counts = "/".join(f"{count:,}" for count in results["data"]["num_rows"].values()) if "data" in results else ""
        first, colours = tests[0], seeds[0]["baselines"].get(COLOURS)
        rows.append(
            [
                _name(workdir, seeds),
                counts,
                _spread([test[BINARY] for test in tests]),
                cells.number(first[BINARY]["all_zeros"]),
                _spread([test[MAP] for test in tests]),
                cells.number(first[MAP]["best_floor"]),
                cells.number(first[MAP].get("chance")),
                cells.number(colours["test"]["metrics"][MAP]["value"]) if colours else cells.NO_VALUE,
                _spread([test[TOP1] for test in tests]),
                cells.number(first[TOP1]["best_floor"]),
                *origin(workdir),
            ]
        )
    caption = "Test part: value [95 % interval, bootstrap over movies], of several seeds the mean [range]."
    return [table(Table(caption, (*SINGLE, *ORIGIN), rows))]


def _transfer(runs: Sequence[tuple[pathlib.Path, Results]]) -> list[str]:
    rows = []
    for workdir, _ in runs:
        seeds = list(run_files.list_seeds(workdir).values())
        about, name = origin(workdir), _name(workdir, seeds)
        for index, branch in enumerate(seeds[0]["branches"]):
            low, high = branch["input_range"]
            of_seeds = [seed["branches"][index] for seed in seeds]
            stages = [
                (f"{'frozen, start' if head['learning_rate'] == branch['chosen_learning_rate'] else 'frozen'}", head, place)
                for place, head in enumerate(branch["frozen"])
            ]
            for stage, head, place in stages:
                measured = [one["frozen"][place]["splits"] for one in of_seeds]
                cell = [name, f"[{low:g}, {high:g}]", stage, f"{head['learning_rate']:g}"]
                rows.append([*cell, *_parts(measured), *about])
            tuned = [one["tuned"]["splits"] for one in of_seeds]
            stage, rate = transfer_table.last_stage(branch)
            cell = [name, f"[{low:g}, {high:g}]", stage.partition(",")[0], rate]
            rows.append([*cell, *_parts(tuned), *about])
        for baseline in seeds[0]["baselines"]:
            measured = [seed["baselines"][baseline] for seed in seeds]
            rows.append([name, "", baseline.replace("_", " "), "", *_parts(measured), *about])
    caption = "Top-1 accuracy of each part at the epoch chosen by validation; test with its 95 % interval or range over seeds."
    return [table(Table(caption, (*STAGES, *ORIGIN), rows))]


def _parts(measured: Sequence[Results]) -> list[str]:
    """Cells of training, validation and test, and the floor on test."""
    means = [statistics.mean(one[part]["metrics"][TOP1]["value"] for one in measured) for part in splits.PARTS[:2]]
    tests = [one["test"]["metrics"][TOP1] for one in measured]
    return [*(cells.number(mean) for mean in means), _spread(tests), cells.number(tests[0]["best_floor"])]


def _search(runs: Sequence[tuple[pathlib.Path, Results]]) -> list[str]:
    blocks = []
    for workdir, results in runs:
        search, about = results["search"], origin(workdir)
        trials = {trial["trial"]: trial for trial in search["trials"]}
        rows = []
        for number in search["ranking"]:
            trial = trials[number]
            widths = ", ".join(str(trial[name]) for name in trial if name.startswith(("filters_", "units_")))
            half = None if trial["mean"] is None else trial["high"] - trial["mean"]
            score = f"{cells.number(trial['mean'])} ± {cells.number(half)}"
            rows.append([str(number), f"{trial['learning_rate']:.2g}", f"{trial['dropout']:g}", widths, score, *about])
        header = ("trial", "rate", "dropout", "widths", f"{search['metric']} (floor {cells.number(search['floor'])})", *ORIGIN)
        caption = f"{workdir.name}: mean over {search['num_folds']} folds with its corrected 95 % interval, best first."
        blocks.append(table(Table(caption, header, rows)))
    return [*blocks, *_single(runs)]


def _ablation(runs: Sequence[tuple[pathlib.Path, Results]]) -> list[str]:
    blocks = []
    for workdir, results in runs:
        columns = ablation_table.ablation_columns(results["ablation"])
        rows = [[*row, *origin(workdir)] for row in zip(*(column for _, column in columns), strict=True)]
        caption = f"{workdir.name}: {ablation_table.ablation_caption(results['ablation'])}."
        blocks.append(table(Table(caption, (*(header for header, _ in columns), *ORIGIN), rows)))
    return blocks


def _reproduce(runs: Sequence[tuple[pathlib.Path, Results]]) -> list[str]:
    """The claims, the facts, and where each experiment was run."""
    blocks = []
    for workdir, results in runs:
        made = [[name, *origin(workdir / name)] for name in results["experiments"]]
        where = Table("Where each experiment was run.", ("experiment", *ORIGIN), made)
        shown = [claims_table.ledger_table(results), claims_table.facts_table(results), where]
        blocks += [table(one) for one in shown if one.rows]
    return blocks


def _name(workdir: pathlib.Path, seeds: Sequence[Results]) -> str:
    return workdir.name if len(seeds) == 1 else f"{workdir.name}, {len(seeds)} seeds"


def _spread(entries: Sequence[Results]) -> str:
    """A value with its interval, or the mean of several with their range."""
    if len(entries) == 1:
        return cells.value(entries[0])
    values = cells.defined(entries, "value")
    if not values:
        return cells.NO_VALUE
    return f"{cells.number(statistics.mean(values))} {cells.interval(min(values), max(values))}"


TABLES = {
    "single": _single,
    "transfer": _transfer,
    "probe": _single,
    "search": _search,
    "ablation": _ablation,
    "reproduce": _reproduce,
}
