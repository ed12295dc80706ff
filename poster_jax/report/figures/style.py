"""How every figure looks: colours that colour-blind readers tell apart, on light and on dark ground, without pyplot's state."""

import dataclasses
import io
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FONT = "DejaVu Sans"  # comes with matplotlib
DOTS_PER_INCH = 150
WEBP_QUALITY = 85
FULL_WIDTH_IN = 9.0
MIN_SPAN = 0.05  # of a score's axis, so that a single poster's change does not look like learning
PAD_IN = 0.08


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
    heat: str  # matplotlib's name of a colour map that grows in brightness away from the ground


LIGHT = Theme(
    "light",
    foreground="#1b1b1b",
    background="#ffffff",
    grid="#d9d9d9",
    quiet="#9aa5b1",
    runs=("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#6B5200", "#33302E"),
    heat="Blues",
)
DARK = Theme(
    "dark",
    foreground="#e8e8e8",
    background="#16181c",
    grid="#3a3f47",
    quiet="#6b7683",
    runs=("#56B4E9", "#E69F00", "#009E73", "#E49AC4", "#F0E442", "#E8E8E8"),
    heat="cividis",
)
LINES = ("-", "--", ":", "-.")


@dataclasses.dataclass(frozen=True)
class Picture:
    """One figure of the report.

    Attributes:
        name: its file's stem.
        caption: what it shows and how to read it, one or two sentences; also its text for those who do not see it.
        draw: theme -> matplotlib Figure.
        raster: True for photographs, which go into the page as WebP; others go in as SVG.
    """

    name: str
    caption: str
    draw: Callable[[Theme], "Figure"]
    raster: bool = False


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


def boxed(texts: Iterable[str]) -> str:
    """The letters of the texts that the font lacks, each once: a figure shows a box for each."""
    from matplotlib import font_manager

    known = font_manager.get_font(font_manager.findfont(FONT)).get_charmap()
    return "".join(dict.fromkeys(letter for text in texts for letter in text if ord(letter) not in known))


@contextmanager
def _applied(theme: Theme) -> Iterator[None]:
    import matplotlib

    settings: Any = {
        "font.size": 10,
        "font.family": FONT,
        "axes.titlesize": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "svg.hashsalt": "poster_jax",
        "text.parse_math": False,  # a genre may hold dollars
        "grid.color": theme.grid,
        "grid.linewidth": 0.6,
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), theme.foreground),
        **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), theme.background),
    }
    with matplotlib.rc_context(settings):
        yield


def render(picture: Picture, theme: Theme, kind: str) -> bytes:
    """The picture as "png", "webp" or "svg"; equal pictures give equal bytes."""
    # What the font lacks is told by `boxed`.
    with _applied(theme), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ |Matplotlib currently does not support", UserWarning)
        figure = picture.draw(theme)
        buffer = io.BytesIO()
        options: dict[str, Any] = {"pil_kwargs": {"quality": WEBP_QUALITY}} if kind == "webp" else {}
        if kind != "webp":
            # Without it the date, or matplotlib's version, is written.
            options = {"metadata": {"Date": None} if kind == "svg" else {"Software": None}}
        figure.savefig(buffer, format=kind, dpi=DOTS_PER_INCH, **options)
    return buffer.getvalue()
