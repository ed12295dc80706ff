"""Blocks -> the text of a page, by the files in templates/; jinja2 escapes every name that comes from a run."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from poster_jax.report import blocks
from poster_jax.report.figures import style

TEMPLATES = pathlib.Path(__file__).parent / "templates"
# {theme: its colours beside those of the figures}: quiet text, bands, shaded cells, the cue of a scrolling box, warnings.
COLOURS = {
    style.LIGHT: {"quiet": "#55606c", "soft": "#eef1f4", "shade": "#7fb8e6", "shadow": "#00000038", "warm": "#fff3d6"},
    style.DARK: {"quiet": "#a5afba", "soft": "#252a31", "shade": "#23618f", "shadow": "#000000c0", "warm": "#3d3115"},
}


def page(title: str, sections: Sequence[blocks.Section]) -> str:
    """A page of sections."""
    return _fill("page.html", {"title": title, "sections": sections})


def index(about: Mapping[str, Any]) -> str:
    """A page of one sortable table; `about` has what templates/index.html names."""
    return _fill("index.html", about)


def _fill(name: str, about: Mapping[str, Any]) -> str:
    import jinja2

    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, loader=loader, trim_blocks=False)
    return environment.get_template(name).render(light=_variables(style.LIGHT), dark=_variables(style.DARK), **about)


def _variables(theme: style.Theme) -> str:
    """The theme's colours as custom properties of CSS."""
    named = {"ink": theme.foreground, "ground": theme.background, "line": theme.grid, **COLOURS[theme]}
    named |= {f"run{number}": colour for number, colour in enumerate(theme.runs)}
    return " ".join(f"--{name}: {colour};" for name, colour in named.items())
