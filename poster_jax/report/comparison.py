"""Several runs side by side: paired differences to the first with their intervals, and the settings that differ."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.metrics import paired
from poster_jax.report import blocks
from poster_jax.report.headline import written
from poster_jax.report.runs import FinishedRun
from poster_jax.report.tables import cells
from poster_jax.workdir import run_files

NUM_SAMPLES = 1000
BOOTSTRAP_SEED = 0
LEAST_SPAN = 0.05  # of the axis of differences, so that nothing looks large


def compared(recipes: Sequence[Sequence[FinishedRun]], names: Sequence[str]) -> list[Any]:
    """The differences of every recipe to the first, then the settings that differ; a sentence where they cannot be compared.

    recipes: the seeds of each workdir; names: what each is called.
    """
    folders = [seeds[0].recipe for seeds in recipes]
    try:
        found = paired.compare(
            [run_files.load_run(folder, "test") for folder in folders], num_samples=NUM_SAMPLES, seed=BOOTSTRAP_SEED
        )
    except errors.UserError as error:
        shown: list[Any] = [blocks.Note(f"No paired differences: {_in_names(f'{error}', folders, names)}")]
    else:
        shown = _differences(found, names)
    return [*shown, *_settings([seeds[0] for seeds in recipes], names)]


def _in_names(text: str, folders: Sequence[pathlib.Path], names: Sequence[str]) -> str:
    """The text with the names of the page for the folders, so that a page does not depend on where the folders lie."""
    for folder, name in sorted(zip(folders, names, strict=True), key=lambda pair: -len(str(pair[0]))):
        text = text.replace(str(folder), name)
    return text


def _differences(found: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    shown: list[Any] = []
    for index, run in enumerate(found["runs"][1:], 1):
        if run["identical_to_first"]:
            shown.append(
                blocks.Note(f"{names[index]} is identical to {names[0]}: equal scores for every row, so every difference is 0.")
            )
        else:
            shown.append(_forest(found, index, names))
    return shown


def _forest(found: Mapping[str, Any], index: int, names: Sequence[str]) -> blocks.Dots:
    """One row a metric, then one a genre, with the difference on an axis around 0."""
    entries = {**found["metrics"]}
    entries |= {f"AP, {genre}": each[paired.AVERAGE_PRECISION] for genre, each in found["per_genre"].items()}
    gaps = {name: entry["differences"][index - 1] for name, entry in entries.items()}
    reach = max(LEAST_SPAN, *(abs(gap[key]) for gap in gaps.values() for key in ("low", "high") if gap[key] is not None))
    ends = (-reach, reach)
    rows = []
    for name, gap in gaps.items():
        marks = [blocks.Mark("zero", 50.0), *blocks.range_mark(gap["low"], gap["high"], ends)]
        marks += [blocks.Mark("dot", blocks.place(gap["value"], ends))] if gap["value"] is not None else []
        values = [cells.number(entries[name]["values"][at]) for at in (0, index)]
        difference = cells.value(gap, "+.3f")
        track = blocks.Track(f"{name}: {difference}, {gap['verdict']}", marks)
        rows.append(([cells.direction(name), *values, difference, gap["verdict"]], track))
    caption = (
        f"{names[index]} minus {names[0]} on the test part: {found['num_movies']:,} movies that both have, "
        f"{found['num_samples']:,} paired resamples of them, 95 % intervals. Runs {paired.APART} where the interval covers 0."
    )
    if min(run["num_seeds"] for run in found["runs"]) < 2:
        caption += " With a single seed another seed may differ by more than the interval, which is over movies alone."
    header = ["metric", names[0], names[index], "difference", "verdict"]
    ticks = [(f"{-reach:+.2f}", 0.0), ("0", 50.0), (f"{reach:+.2f}", 100.0)]
    return blocks.Dots(caption, header, rows, ticks, brief=3)


def _settings(firsts: Sequence[FinishedRun], names: Sequence[str]) -> list[Any]:
    """The keys whose values are not the same in all configs."""
    flat = [config_lib.flatten(run.config) for run in firsts]
    keys = sorted({key for one in flat for key in one})
    rows = []
    for key in keys:
        values = [written(one[key]) if key in one else cells.NO_VALUE for one in flat]
        if len(set(values)) > 1:
            rows.append([key, *values])
    if not rows:
        return ["The configs are the same in every setting."]
    return [blocks.Table("Settings that differ", ["setting", *names], rows)]


def equal_curves(runs: Sequence[FinishedRun]) -> list[Any]:
    """A sentence for runs whose logs or test scores are the same, so that one curve lies on the other."""
    groups: list[list[FinishedRun]] = []
    for run in runs:
        home = next((group for group in groups if _same(group[0], run)), None)
        if home is None:
            groups.append([run])
        else:
            home.append(run)
    alike = [", ".join(run.name for run in group) for group in groups if len(group) > 1]
    return [blocks.Note(f"{names} have the same test scores: one curve covers the others.") for names in alike]


def _same(one: FinishedRun, other: FinishedRun) -> bool:
    return one.genres == other.genres and all(
        np.array_equal(one.predictions[f"test_{name}"], other.predictions[f"test_{name}"]) for name in ("score", "label")
    )
