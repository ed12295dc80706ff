"""How every figure looks: colours that colour-blind readers tell apart, on light and on dark ground, without pyplot's state."""

import dataclasses
import io
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS_PER_INCH = 150
FULL_WIDTH_IN = 9.0
MIN_SPAN = 0.05  # of a score's axis, so that a single poster's change does not look like learning
PAD_IN = 0.08
MAX_LETTERS = 22  # of a name in a figure
# The first comes with matplotlib; the others have the letters of Chinese, Japanese and Korean, where one is installed.
FAMILIES = (
    "DejaVu Sans",
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "WenQuanYi Zen Hei",
    "Hiragino Sans",
    "Yu Gothic",
    "Microsoft YaHei",
    "Malgun Gothic",
    "Arial Unicode MS",
    "Droid Sans Fallback",
)


@dataclasses.dataclass(frozen=True)
class Theme:
    """Colours of one ground.

    `runs` are Okabe and Ito's (https://jfly.uni-koeln.de/color) where those stand out from the ground by 3:1, and a dark or
    light neutral; every two differ in every kind of colour blindness, which a test computes.
    """

    name: str
    foreground: str
    background: str
    grid: str
    quiet: str  # bars and boxes that carry no name
    runs: tuple[str, ...]

    def colours(self) -> tuple[str, ...]:
        """All of them, in one order for every theme; those of LIGHT differ, so that each has a partner in another theme."""
        return (self.foreground, self.background, self.grid, self.quiet, *self.runs)


LIGHT = Theme(
    "light",
    foreground="#1b1b1b",
    background="#ffffff",
    grid="#d9d9d9",
    quiet="#9aa5b1",
    runs=("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#6B5200", "#33302E"),
)
DARK = Theme(
    "dark",
    foreground="#e8e8e8",
    background="#16181c",
    grid="#3a3f47",
    quiet="#6b7683",
    runs=("#56B4E9", "#E69F00", "#009E73", "#E49AC4", "#F0E442", "#E8E8E8"),
)
LINES = ("-", "--", ":", "-.")


@dataclasses.dataclass(frozen=True)
class Picture:
    """One figure of the report.

    Attributes:
        name: its file's stem.
        caption: what it shows and how to read it, one or two sentences; also its text for those who do not see it.
        draw: theme -> matplotlib Figure.
        paper: the figures of the paper that it is like, for a page about the paper.
    """

    name: str
    caption: str
    draw: Callable[[Theme], "Figure"]
    paper: str = ""


def clamped(name: str) -> str:
    """A name of at most MAX_LETTERS letters."""
    return name if len(name) <= MAX_LETTERS else f"{name[: MAX_LETTERS - 1]}\N{HORIZONTAL ELLIPSIS}"


def undrawn(texts: Iterable[str]) -> str:
    """The letters of these texts that no font of FAMILIES on this machine has: a PNG shows a box for each."""
    from matplotlib import font_manager

    known: set[int] = set()
    for family in _installed():
        known |= set(font_manager.get_font(font_manager.findfont(family)).get_charmap())
    return "".join(sorted({letter for text in texts for letter in text if ord(letter) not in known}))


def _installed() -> list[str]:
    from matplotlib import font_manager

    names = set(font_manager.get_font_names())
    return [family for family in FAMILIES if family in names]


def run_line(theme: Theme, index: int) -> dict[str, Any]:
    """Colour and dashes of run number `index`; six colours, then the same ones dashed."""
    return {"color": theme.runs[index % len(theme.runs)], "linestyle": LINES[index // len(theme.runs) % len(LINES)]}


def new_figure(width_in: float, height_in: float) -> "Figure":
    """An empty figure that keeps its labels inside; to be called inside `Picture.draw`."""
    from matplotlib import figure

    made = figure.Figure(figsize=(width_in, height_in), layout="constrained")
    made.set_layout_engine("constrained", w_pad=PAD_IN, h_pad=PAD_IN)
    return made


def widen(axes: "Axes") -> None:
    """Makes the vertical axis at least MIN_SPAN long, around what it shows."""
    low, high = axes.get_ylim()
    missing = max(0.0, MIN_SPAN - (high - low))
    axes.set_ylim(low - missing / 2, high + missing / 2)


@contextmanager
def _applied(theme: Theme) -> Iterator[None]:
    import matplotlib

    settings: Any = {
        "font.size": 10,
        "font.family": _installed(),
        "text.parse_math": False,  # a genre may have a dollar in its name
        "axes.titlesize": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "svg.hashsalt": "poster_jax",
        "svg.fonttype": "none",
        "grid.color": theme.grid,
        "grid.linewidth": 0.6,
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), theme.foreground),
        **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), theme.background),
    }
    with matplotlib.rc_context(settings):
        yield


@dataclasses.dataclass(frozen=True)
class Drawn:
    """The files of one picture: a PNG and an SVG on light ground, and the SVG on dark ground."""

    png: bytes
    light: bytes
    dark: bytes


def render(picture: Picture, *, png_only: bool = False) -> Drawn:
    """The picture, drawn once; equal pictures give equal bytes. With `png_only` the SVGs are empty.

    The text of an SVG is text, which the reader's fonts draw, so that names of every script can be read in the page.
    """
    with _applied(LIGHT), warnings.catch_warnings():
        # `undrawn` knows of them.
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from font|Matplotlib currently does not support", UserWarning)
        figure = picture.draw(LIGHT)
        png = _saved(figure, "png")
        figure.set_layout_engine("none")  # all has its place
        light = b"" if png_only else _saved(figure, "svg")
    return Drawn(png, light, recolour(light))


def _saved(figure: "Figure", kind: str) -> bytes:
    # Without it the date, or matplotlib's version, is written.
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=DOTS_PER_INCH, metadata=metadata)
    return buffer.getvalue()


def recolour(svg: bytes) -> bytes:
    """An SVG in LIGHT's colours as one in DARK's; the text in it, which may name a colour, stays as it is."""
    partners = {
        one.lower().encode(): other.lower().encode() for one, other in zip(LIGHT.colours(), DARK.colours(), strict=True)
    }

    def partner(found: re.Match[bytes]) -> bytes:
        return partners.get(found[0].lower(), found[0])

    return re.sub(rb"<[^>]*>", lambda tag: re.sub(rb"#[0-9A-Fa-f]{6}\b", partner, tag[0]), svg)
