"""How many posters each genre has: the paper's Figures 1 to 3, and what was refused."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from poster_jax.data import splits
from poster_jax.report import runs
from poster_jax.report.figures import style

TOP = 15  # the paper's Figure 1
HATCHES = ("", "///", "...")


def pictures(run: runs.FinishedRun, stem: str) -> list[style.Picture]:
    """The genres of one run's posters: in the catalog, among those chosen, and after balancing, per part."""
    data = run.results["data"]
    found = []
    if "genre_mentions" in data:
        found.append(
            style.Picture(
                f"genres-catalog-{stem}",
                f"The {min(TOP, len(data['genre_mentions']))} most frequent genres of the catalog, counting every genre that a "
                "movie lists. Those in colour are told apart.",
                lambda theme: _catalog(theme, data),
                "Figure 1 of the paper",
            )
        )
    found.append(
        style.Picture(
            f"genres-{stem}",
            f"The chosen genres before balancing ({data['encoding']} labels) and after it ({data['balance']}), by part. "
            "A poster of several genres counts for each of them.",
            lambda theme: _chosen(theme, data),
            "Figures 2 and 3 of the paper",
        )
    )
    return found


def _catalog(theme: style.Theme, data: Mapping[str, Any]) -> "style.Figure":
    ranked = sorted(data["genre_mentions"].items(), key=lambda item: (-item[1], item[0]))[:TOP]
    figure = style.new_figure(style.FULL_WIDTH_IN, 0.8 + 0.27 * len(ranked))
    axes = figure.subplots()
    colours = [theme.runs[0] if name in data["genres"] else theme.quiet for name, _ in ranked]
    _bars(axes, [name for name, _ in ranked], [count for _, count in ranked], colours)
    axes.set_xlabel("movies that list the genre")
    return figure


def _chosen(theme: style.Theme, data: Mapping[str, Any]) -> "style.Figure":
    genres = data["genres"]
    figure = style.new_figure(style.FULL_WIDTH_IN, 1.7 + 0.32 * len(genres))
    before, after = figure.subplots(1, 2, sharey=True)
    _bars(before, genres, data["genre_counts_before_balance"], [theme.runs[0]] * len(genres))
    before.set(title="before balancing", xlabel="posters")
    left = np.zeros(len(genres))
    for number, part in enumerate(splits.PARTS):
        counts = np.asarray(data["genre_counts"][part])
        after.barh(
            range(len(genres)),
            counts,
            left=left,
            color=theme.runs[number],
            hatch=HATCHES[number],
            edgecolor=theme.background,
            label=part,
        )
        left += counts
    _write_counts(after, left)
    after.set(title="after balancing", xlabel="posters")
    after.grid(axis="y", visible=False)
    figure.legend(*after.get_legend_handles_labels(), loc="outside lower center", ncols=len(splits.PARTS))
    return figure


def _bars(axes: "style.Axes", names: Sequence[str], counts: Sequence[int], colours: Sequence[str]) -> None:
    """Horizontal bars from the top down, each with its number."""
    # By number: two names may be one when clamped.
    axes.barh(range(len(names)), counts, color=colours)
    axes.set_yticks(range(len(names)), [style.clamped(name) for name in names])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    _write_counts(axes, counts)


def _write_counts(axes: "style.Axes", counts: Sequence[float] | np.ndarray) -> None:
    for row, count in enumerate(counts):
        axes.annotate(f"{int(count):,}", (count, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_xlim(0, max(counts) * 1.15)
