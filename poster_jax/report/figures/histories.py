"""Curves of the protocols that train several networks: a search's trials and folds, transfer's frozen heads and fine-tuning."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from poster_jax.report import runs
from poster_jax.report.figures import style
from poster_jax.workdir import run_files

COLUMNS = 5
PARTS = (("train", 0.9), ("validation", 2.0))  # line widths


def search_picture(many: runs.Many, stem: str) -> style.Picture:
    """A search's validation curves (the paper's Figures 9 and 10)."""
    return style.Picture(
        f"trials-{stem}",
        f"Validation {many.results['search']['metric']} by epoch, a panel per trial and a line per fold. Dotted: the mean "
        "floor of the folds.",
        lambda theme: _search(theme, many),
        "Figures 9 and 10 of the paper",
    )


def transfer_pictures(run: runs.FinishedRun, stem: str) -> list[style.Picture]:
    """Frozen heads and fine-tuning (the paper's Figures 6 and 7); none for a run of another protocol."""
    if run_files.find_protocol(run.results) != "transfer":
        return []
    caption = (
        "Transfer by input range: heads on the frozen body at each rate, then fine-tuning. Thick: validation; thin: training "
        "rows in inference mode, where the run scored them. Dotted: the best constant answer on validation."
    )
    return [style.Picture(f"transfer-{stem}", caption, lambda theme: _transfer(theme, run), "Figures 6 and 7 of the paper")]


def _search(theme: style.Theme, many: runs.Many) -> "style.Figure":
    search = many.results["search"]
    trials = [row["trial"] for row in search["trials"]]
    columns = min(COLUMNS, len(trials))
    rows = math.ceil(len(trials) / columns)
    figure = style.new_figure(style.FULL_WIDTH_IN, 0.7 + 1.9 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[len(trials) :]:
        axes.set_axis_off()
    for axes, row in zip(grid.flat, search["trials"], strict=False):
        for fold in range(1, search["num_folds"] + 1):
            wanted = (row["trial"], fold, "validation")
            own = [line for line in many.lines if (line["trial"], line["fold"], line["part"]) == wanted]
            look = style.run_line(theme, fold - 1)
            axes.plot([line["epoch"] for line in own], [line[search["metric"]] for line in own], **look, linewidth=1.2)
        axes.axhline(search["floor"], color=theme.foreground, linestyle=":", linewidth=1.2)
        best = ", best" if row["trial"] == search["winner"] else ""
        axes.set_title(f"{row['trial']}: rate {row['learning_rate']:.2g}{best}", fontsize=9)
        axes.tick_params(labelbottom=True)
    figure.supxlabel("epoch", fontsize=10)
    figure.supylabel(search["metric"], fontsize=10)
    return figure


def _transfer(theme: style.Theme, run: runs.FinishedRun) -> "style.Figure":
    branches: Sequence[Mapping[str, Any]] = run.results["branches"]
    data = run.results["data"]
    metric = "top1_accuracy" if data["encoding"] == "first" else "mean_average_precision"
    figure = style.new_figure(style.FULL_WIDTH_IN, 0.6 + 2.9 * len(branches))
    grid = figure.subplots(len(branches), 2, squeeze=False, sharey=True)
    for (heads, tuned), branch in zip(grid, branches, strict=True):
        low, high = branch["input_range"]
        for number, head in enumerate(branch["frozen"]):
            _draw(heads, head["history"], metric, style.run_line(theme, number), f"{head['learning_rate']:g}")
        heads.legend(title="rate", fontsize=8, title_fontsize=8)
        _draw(tuned, branch["tuned"]["history"], metric, style.run_line(theme, 0), "")
        floor = branch["tuned"]["splits"]["validation"]["metrics"][metric]["best_floor"]
        for axes, stage in ((heads, "frozen body"), (tuned, f"fine-tuned at {branch['tuned']['learning_rate']:g}")):
            axes.axhline(floor, color=theme.foreground, linestyle=":", linewidth=1.2)
            axes.set(title=f"posters in [{low:g}, {high:g}], {stage}", xlabel="epoch")
            axes.locator_params(axis="x", integer=True)
            style.widen(axes)
        heads.set_ylabel(metric)
    return figure


def _draw(axes: "style.Axes", history: Sequence[Mapping[str, Any]], metric: str, look: Mapping[str, Any], name: str) -> None:
    for part, width in PARTS:
        rows = [row for row in history if row["part"] == part]
        label = name if part == "validation" else None
        axes.plot([row["epoch"] for row in rows], [row[metric] for row in rows], **look, linewidth=width, label=label)
