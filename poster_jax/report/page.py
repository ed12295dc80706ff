"""Workdirs -> one HTML page that needs no network, and the same figures as PNG in a folder beside it."""

import base64
import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from poster_jax import errors
from poster_jax.report import runs as runs_lib
from poster_jax.report import template
from poster_jax.report.figures import confusions, curves, distributions, histories, posters, style
from poster_jax.report.tables import ablation_table, claims_table, page_tables, search_table
from poster_jax.runtime import storage

NO_SAMPLES = (
    "Posters, mistakes and Grad-CAM are not shown: this run has no samples.npz. Remove results.json from its workdir and run "
    "its command again: the network is kept, only measuring is repeated, and the file is written."
)
MOST_NAMES = 3  # in the title
CELLS_ARE_RUNS = "Every cell is a run in the folder cells/CELL/seed_N of the workdir: give that for a page of its own."


@dataclasses.dataclass(frozen=True)
class Shown:
    """A figure in the page: the same picture as data URIs on light and on dark ground."""

    caption: str
    light: str
    dark: str


@dataclasses.dataclass(frozen=True)
class Plain:
    """Text whose columns stay aligned."""

    plain: str


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and what follows it: texts, tables and figures."""

    title: str
    anchor: str
    items: Sequence[Any]


def write(workdirs: Sequence[pathlib.Path], out: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """Writes the page to `out` and its figures to the folder `<out's stem>_figures`; returns both.

    The workdir of a reproduction is shown alone: its table of claims, then the runs of its experiments.

    Raises UserError for what `runs.load` refuses and for an `out` that cannot be written.
    """
    reproduction = runs_lib.load_reproduction(workdirs)
    shown = workdirs if reproduction is None else reproduction.workdirs
    runs, many = runs_lib.load(shown, first_seed=reproduction is not None), runs_lib.load_many(shown)
    figures = out.with_name(f"{out.stem}_figures")
    try:
        figures.mkdir(parents=True, exist_ok=True)
        sections = []
        if reproduction is not None:
            sections = [_of_claims(reproduction.results)]
        sections += [_of_many(each, figures) for each in many]
        sections += [_together(runs, figures)] if runs else []
        sections += [_of_run(run, figures) for run in runs]
        names = [*(each.name for each in many), *(run.name for run in runs)]
        storage.write_atomic(out, _render(names, sections))
    except OSError as error:
        raise errors.UserError(f"{out} cannot be written ({error.strerror}): name another file with --out.") from error
    return out, figures


def _of_claims(results: Mapping[str, Any]) -> Section:
    """The table of claims, and that of the facts where the results have one."""
    shown = [claims_table.ledger_table(results), claims_table.facts_table(results)]
    return Section("The paper's claims", "claims", [table for table in shown if table.rows])


def _of_many(many: runs_lib.Many, figures: pathlib.Path) -> Section:
    """A search as its text and curves, an ablation as its table and the means by setting."""
    results, anchor = many.results, f"many-{_slug(many.name)}"
    if many.protocol == "search":
        curve = _show(histories.search_picture(many, _slug(many.name)), figures)
        return Section(f"Search: {many.name}", anchor, [Plain(search_table.search_table(results["search"])), curve])
    ablation = results["ablation"]
    cells = _to_table(ablation_table.ablation_caption(ablation), ablation_table.ablation_columns(ablation))
    effects = _to_table(
        "Means over the cells that have the setting; floors as in the table of cells", ablation_table.effect_columns(ablation)
    )
    about = f"{results['title']}, {results['data']['name']}. {CELLS_ARE_RUNS}"
    return Section(f"Ablation: {many.name}", anchor, [about, cells, *ablation_table.ablation_notes(ablation), effects])


def _to_table(caption: str, columns: Sequence[tuple[str, Sequence[str]]]) -> page_tables.Table:
    return page_tables.Table(
        caption, [header for header, _ in columns], list(zip(*(cells for _, cells in columns), strict=True))
    )


def _together(runs: Sequence[runs_lib.FinishedRun], figures: pathlib.Path) -> Section:
    shown = [_show(picture, figures) for picture in curves.pictures(runs)]
    title = "All runs" if len(runs) > 1 else "Learning, ranking, calibration"
    return Section(title, "together", [*([page_tables.side_by_side(runs)] if len(runs) > 1 else []), *shown])


def _of_run(run: runs_lib.FinishedRun, figures: pathlib.Path) -> Section:
    stem = _slug(run.name)
    boxed = style.boxed([run.name, *run.genres, *run.results["data"].get("genre_mentions", {})])
    told = [f"Figures draw a box for each of these letters, which their font {style.FONT} lacks: {boxed}"] if boxed else []
    items: list[Any] = [_describe(run), *told, page_tables.metrics(run), page_tables.per_genre(run)]
    items += [
        _show(picture, figures) for picture in (*histories.transfer_pictures(run, stem), *distributions.pictures(run, stem))
    ]
    items += [page_tables.encoding(run), page_tables.examples(run), _show(confusions.picture(run, stem), figures)]
    items += [_show(picture, figures) for picture in posters.pictures(run, stem)] or [NO_SAMPLES]
    items.append(page_tables.refused(run) if run.refused else "Nothing was refused from the data.")
    return Section(f"Run: {run.name}", f"run-{stem}", items)


def _describe(run: runs_lib.FinishedRun) -> str:
    """The run in two sentences: what was trained, on what."""
    results, data = run.results, run.results["data"]
    rows = ", ".join(f"{count:,} {part}" for part, count in data["num_rows"].items())
    leaked = sum(data["leaked_rows"].values())
    leak = f" {leaked:,} rows outside train show a movie that is also in train." if leaked else ""
    size = f"{results['num_parameters']:,} parameters, " if "num_parameters" in results else ""
    best = f"step {results['best_step']:,}" if "best_step" in results else "the last step"
    return (
        f"{results['title']}: {size}{results['num_steps']:,} steps, measured with the weights of "
        f"{best}. {data['name']}: {data['num_posters']:,} posters, {data['num_refused']:,} catalog rows "
        f"refused; {data['encoding']} labels, balance {data['balance']}, {data['labels_per_row']:.2f} genres per row; "
        f"rows: {rows}.{leak}"
    )


def _show(picture: style.Picture, figures: pathlib.Path) -> Shown:
    """Writes the PNG of a picture and returns it for the page, photographs as WebP, a tenth of their PNG."""
    storage.write_atomic(figures / f"{picture.name}.png", style.render(picture, style.LIGHT, "png"))
    kind, mime = ("webp", "webp") if picture.raster else ("svg", "svg+xml")
    return Shown(picture.caption, *(_uri(mime, style.render(picture, theme, kind)) for theme in (style.LIGHT, style.DARK)))


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _render(names: Sequence[str], sections: Sequence[Section]) -> str:
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(template.TEMPLATE).render(
        title=f"Movie genres from posters: {', '.join(names) if len(names) <= MOST_NAMES else f'{len(names)} runs'}",
        intro="Every score stands beside its floor: what the best constant answer, which never looks at a poster, gets on the "
        'same rows. Binary accuracy counts every genre of every poster, so "no" to everything scores high.',
        sections=sections,
        light=style.LIGHT,
        dark=style.DARK,
    )


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
