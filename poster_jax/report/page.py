"""Workdirs -> one HTML page that needs no network, and its figures as PNG in a folder beside it.

A page answers first: the scores of a run beside floor, chance and colours, then posters, then genres. What few readers want is
folded. Several runs begin with their differences, a reproduction with its claims.
"""

import base64
import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from poster_jax import errors
from poster_jax.report import blocks, comparison, dots, gallery, headline, render
from poster_jax.report import runs as runs_lib
from poster_jax.report.figures import curves, distributions, histories, posters, style
from poster_jax.report.tables import (
    ablation_table,
    claims_table,
    confusion_table,
    page_tables,
    probe_table,
    run_table,
    search_table,
)
from poster_jax.runtime import alive, storage

NO_SAMPLES = (
    "Posters, mistakes and Grad-CAM are not shown: this run has no samples.npz. Remove results.json from its workdir and run "
    "its command again: the network is kept, only measuring is repeated, and the file is written."
)
MOST_NAMES = 3  # in the title
CLAIMS_TITLE = "The report's claims, measured"
POSTERS_EACH = 3  # hits, and mistakes, of every run of a reproduction, whose page stays under 3 MB
CELLS_ARE_RUNS = "Every cell is a run in the folder cells/CELL/seed_N of the workdir: give that for a page of its own."

Recipe = Sequence[runs_lib.FinishedRun]  # its seeds


@dataclasses.dataclass(frozen=True)
class _Writer:
    """Where the figures of a page go, and whether it is about the paper, whose figures are then named."""

    figures: pathlib.Path
    about_paper: bool

    def show(self, picture: style.Picture) -> blocks.Shown:
        """Writes the PNG of a figure and returns it for the page."""
        drawn = style.render(picture)
        self._write(picture, drawn.png)
        caption = f"{picture.caption} {picture.paper}." if self.about_paper and picture.paper else picture.caption
        return blocks.Shown(caption, _uri(drawn.light), _uri(drawn.dark))

    def keep(self, picture: style.Picture) -> None:
        """Writes the PNG of a figure that the page shows in another way."""
        self._write(picture, style.render(picture, png_only=True).png)

    def _write(self, picture: style.Picture, png: bytes) -> None:
        storage.write_atomic(self.figures / f"{picture.name}.png", png)


def write(workdirs: Sequence[pathlib.Path], out: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """Writes the page to `out` and its figures to the folder `<out's stem>_figures`; returns both.

    The workdir of a reproduction is shown alone: its claims, then the runs of its experiments.

    Raises UserError for what `runs.load` refuses and for an `out` that cannot be written.
    """
    reproduction = runs_lib.load_reproduction(workdirs)
    shown = workdirs if reproduction is None else reproduction.workdirs
    runs, many = runs_lib.load(shown, first_seed=reproduction is not None), runs_lib.load_many(shown)
    recipes = _by_recipe(runs)
    writer = _Writer(out.with_name(f"{out.stem}_figures"), about_paper=reproduction is not None)
    names = [*(each.name for each in many), *recipes]
    title = f"Movie genres from posters: {', '.join(names) if len(names) <= MOST_NAMES else f'{len(names)} runs'}"
    try:
        writer.figures.mkdir(parents=True, exist_ok=True)
        with alive.doing(f"drawing the figures of {len(runs) + len(many)} runs"):
            if reproduction is not None:
                title, sections = CLAIMS_TITLE, _of_reproduction(reproduction, many, recipes, writer)
            else:
                sections = [_of_many(each, writer) for each in many]
                several = len(recipes) != 1
                sections += _of_several(recipes, writer) if several else _of_one(next(iter(recipes.values())), writer)
        storage.write_atomic(out, render.page(title, sections))
    except OSError as error:
        raise errors.UserError(f"{out} cannot be written ({error.strerror}): name another file with --out.") from error
    return out, writer.figures


def _by_recipe(runs: Sequence[runs_lib.FinishedRun]) -> dict[str, Recipe]:
    """{name: its seeds} of every workdir, in order; a workdir that was named twice is there twice."""
    groups: list[list[runs_lib.FinishedRun]] = []
    for run in runs:
        if groups and groups[-1][0].recipe == run.recipe and run.workdir not in [other.workdir for other in groups[-1]]:
            groups[-1].append(run)
        else:
            groups.append([run])
    names = runs_lib.unique_names([group[0].recipe for group in groups])
    return dict(zip(names, groups, strict=True))


def _of_reproduction(
    reproduction: runs_lib.Reproduction, many: Sequence[runs_lib.Many], recipes: Mapping[str, Recipe], writer: _Writer
) -> list[blocks.Section]:
    """The claims with their verdicts, then every run behind a line of its own."""
    results = reproduction.results
    withheld = results.get("withheld", "")
    facts = claims_table.facts_table(results)
    drawn = any(headline.is_drawn(seeds[0]) for seeds in recipes.values())
    items = [
        *([blocks.Note(headline.DRAWN)] if drawn else []),
        *([blocks.Note(withheld)] if withheld else []),
        *claims_table.claim_blocks(results),
        blocks.Fold("How claims are judged, and how the report was read", claims_table.notes(results)),
        *([blocks.Fold("What the report prints as a setting or a count", [facts])] if facts.rows else []),
    ]
    runs: list[Any] = [blocks.Fold(section.title, section.items) for section in (_of_many(each, writer) for each in many)]
    for name, seeds in recipes.items():
        own = [item for section in _of_one(seeds[:1], writer, POSTERS_EACH) for item in section.items]
        runs.append(blocks.Fold(f"Run: {name}", own))
    return [blocks.Section("Claims", "claims", items), blocks.Section("Runs", "runs", runs)]


def _of_many(many: runs_lib.Many, writer: _Writer) -> blocks.Section:
    """A search as its text and curves, an ablation as its table and the means by setting."""
    results, anchor = many.results, f"many-{_slug(many.name)}"
    if many.protocol == "search":
        curve = writer.show(histories.search_picture(many, _slug(many.name)))
        return blocks.Section(
            f"Search: {many.name}", anchor, [blocks.Plain(search_table.search_table(results["search"])), curve]
        )
    ablation = results["ablation"]
    cells = _to_table(ablation_table.ablation_caption(ablation), ablation_table.ablation_columns(ablation))
    effects = _to_table(
        "Means over the cells that have the setting; floors as in the table of cells", ablation_table.effect_columns(ablation)
    )
    about = f"{results['title']}, {results['data']['name']}. {CELLS_ARE_RUNS}"
    return blocks.Section(f"Ablation: {many.name}", anchor, [about, cells, *ablation_table.ablation_notes(ablation), effects])


def _to_table(caption: str, columns: Sequence[tuple[str, Sequence[str]]]) -> blocks.Table:
    return blocks.Table(caption, [header for header, _ in columns], list(zip(*(cells for _, cells in columns), strict=True)))


def _of_one(seeds: Recipe, writer: _Writer, num_posters: int = gallery.NUM_SHOWN) -> list[blocks.Section]:
    """One network, or the seeds of one recipe together: the answer, posters, genres, scores, and the rest folded."""
    first, stem = seeds[0], _slug(seeds[0].name)
    several = len(seeds) > 1
    scores: list[Any] = [page_tables.side_by_side(seeds) if several else page_tables.test_scores(first), *_together(seeds)]
    suffix = f"-{stem}" if writer.about_paper else ""
    scores += [writer.show(picture) for picture in curves.learning(seeds, suffix)]
    scores += [writer.show(picture) for picture in histories.transfer_pictures(first, stem)]
    scores += [*comparison.equal_curves(seeds), *_folds(seeds, writer, suffix)]
    for seed in seeds if several else []:
        scores.append(blocks.Fold(f"Run: {seed.name}", [_describe(seed), *_details(seed, writer)]))
    if not several:
        scores += _details(first, writer)
    return [
        blocks.Section(f"Run: {first.name}" if not several else "All runs", f"run-{stem}", [headline.headline(seeds)]),
        blocks.Section("Posters", f"posters-{stem}", _posters(first, writer, num_posters)),
        blocks.Section("Genres", f"genres-{stem}", [dots.by_genre(seeds)]),
        blocks.Section("Scores", f"scores-{stem}", scores),
    ]


def _of_several(recipes: Mapping[str, Recipe], writer: _Writer) -> list[blocks.Section]:
    """What differs between workdirs on top, then each with its own answer and the rest of it folded."""
    if not recipes:
        return []
    runs = [seed for seeds in recipes.values() for seed in seeds]
    together: list[Any] = [
        *comparison.compared(list(recipes.values()), list(recipes)),
        page_tables.side_by_side(runs),
        dots.by_genre(runs),
        *comparison.equal_curves(runs),
        *(writer.show(picture) for picture in curves.learning(runs)),
        *_folds(runs, writer, ""),
    ]
    sections = [blocks.Section("All runs", "together", together)]
    for name, seeds in recipes.items():
        own = [headline.headline(seeds), *_together(seeds)]
        own.append(blocks.Fold("Posters", _posters(seeds[0], writer, gallery.NUM_SHOWN)))
        for seed in seeds:
            shown = [writer.show(picture) for picture in histories.transfer_pictures(seed, _slug(seed.name))]
            own.append(blocks.Fold(f"All of {seed.name}", [_describe(seed), *shown, *_details(seed, writer)]))
        sections.append(blocks.Section(f"Run: {name}", f"run-{_slug(name)}", own))
    return sections


def _together(seeds: Recipe) -> list[blocks.Table]:
    """What the mean of the scores of several seeds is worth."""
    mean = runs_lib.read_mean_of_scores(seeds[0].recipe) if len(seeds) > 1 else None
    return [page_tables.mean_of_scores(mean, len(seeds))] if mean else []


def _folds(runs: Sequence[runs_lib.FinishedRun], writer: _Writer, suffix: str) -> list[blocks.Fold]:
    ranking, calibration = (writer.show(picture) for picture in curves.by_threshold(runs, suffix))
    return [blocks.Fold("Precision and recall", [ranking]), blocks.Fold("Calibration", [calibration])]


def _posters(run: runs_lib.FinishedRun, writer: _Writer, limit: int) -> list[Any]:
    for picture in posters.pictures(run, _slug(run.name)):
        writer.keep(picture)
    return list(gallery.galleries(run, limit)) or [NO_SAMPLES]


def _details(run: runs_lib.FinishedRun, writer: _Writer) -> list[blocks.Fold]:
    """What one network has beside its headline: answers, every table, the labels and the data."""
    pictures = [writer.show(picture) for picture in distributions.pictures(run, _slug(run.name))]
    names = [*run.genres, *run.results["data"].get("genre_mentions", {})]
    missing = style.undrawn(names)
    note = f"The PNG beside this page has a box for each of {missing}: no font that matplotlib finds has them."
    refused = page_tables.refused(run) if run.refused else "Nothing was refused from the data."
    data = [
        _describe(run),
        *pictures,
        *([note] if missing else []),
        page_tables.encoding(run),
        page_tables.examples(run),
        refused,
    ]
    probe = [blocks.Plain(probe_table.probe_table(run.results["probe"]))] if "probe" in run.results else []
    return [
        *([blocks.Fold("Validation by penalty", probe)] if probe else []),
        blocks.Fold("Answers by genre", [confusion_table.confusion(run)]),
        blocks.Fold("Every metric of every part", [page_tables.metrics(run)]),
        blocks.Fold("Every score by genre", [page_tables.per_genre(run)]),
        *_calibrated(run),
        blocks.Fold("Labels and data", data),
        blocks.Fold("Settings that are not at the default", [page_tables.settings(headline.changed_settings(run.config))]),
    ]


def _calibrated(run: runs_lib.FinishedRun) -> list[blocks.Fold]:
    if "calibration" not in run.results:
        return []
    found = run.results["calibration"]
    table = _to_table(run_table.calibration_caption(found), run_table.calibration_columns(found))
    return [blocks.Fold("Calibrated probabilities", [table])]


def _describe(run: runs_lib.FinishedRun) -> str:
    """The run in two sentences: what was trained, on what."""
    results, data = run.results, run.results["data"]
    rows = ", ".join(f"{count:,} {part}" for part, count in data["num_rows"].items())
    leaked = sum(data["leaked_rows"].values())
    leak = f" {leaked:,} rows outside train show a movie that is also in train." if leaked else ""
    size = f"{results['num_parameters']:,} parameters, " if "num_parameters" in results else ""
    best = f"step {results['best_step']:,}" if "best_step" in results else "the last step"
    trained = f"{results['num_steps']:,} steps, measured with the weights of {best}"
    if "probe" in results:
        trained = f"a logistic regression, chosen by validation of fits at {results['num_steps']:,} penalties"
    if results.get("best_step") == 0:  # of protocol transfer without fine-tuning
        trained = "a head on a frozen body, which took no step"
    return (
        f"{results['title']}: {size}{trained}. {data['name']}: {data['num_posters']:,} posters, {data['num_refused']:,} "
        f"catalog rows refused; {data['encoding']} labels, balance {data['balance']}, {data['labels_per_row']:.2f} genres per "
        f"row; rows: {rows}.{leak}"
    )


def _uri(content: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(content).decode()}"


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
