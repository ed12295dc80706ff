"""What a page is made of. A block says what is shown; `template` says how."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, TypeAlias


@dataclasses.dataclass(frozen=True)
class Mark:
    """A sign on a track, placed in percent of the track's width and height.

    Attributes:
        shape: "fill", "range", "dot", "floor", "chance", "colours" or "zero".
        start: where it begins, or its middle where it has no length.
        length: of a fill or a range.
        series: the run it belongs to, which gives its colour.
        top: its middle.
    """

    shape: str
    start: float
    length: float = 0.0
    series: int = 0
    top: float = 50.0


@dataclasses.dataclass(frozen=True)
class Track:
    """A line with signs on it; `text` says the same for those who do not see it. `lines`: how many runs it has room for."""

    text: str
    marks: Sequence[Mark]
    lines: int = 1


@dataclasses.dataclass(frozen=True)
class Table:
    """A caption, column headers, and rows of as many cells, of which the first names the row."""

    kind: ClassVar[str] = "table"
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Bar:
    """One score: its name, its value with interval, what stands beside it in words, and all of them on a track."""

    name: str
    value: str
    beside: str
    track: Track


@dataclasses.dataclass(frozen=True)
class Headline:
    """The answer of a run: scores as bars, what they mean in a sentence, and (name, text) of what made them."""

    kind: ClassVar[str] = "headline"
    warning: str
    about: str
    bars: Sequence[Bar]
    key: str
    meaning: str
    origin: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Dots:
    """A table whose last column is a track, with a scale below.

    Attributes:
        rows: (cells, track).
        brief: the number of the cell that stays beside the first one and the track where there is little room; 0 for none.
        ticks: (text, place in percent) of the scale.
        legend: the runs in the order of their colours; none for a single one.
    """

    kind: ClassVar[str] = "dots"
    caption: str
    header: Sequence[str]
    rows: Sequence[tuple[Sequence[str], Track]]
    ticks: Sequence[tuple[str, float]]
    brief: int
    legend: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Poster:
    """A poster, its labels and what was said of it; `overlay` is a second picture, "" where there is none.

    `right` is whether what was said is among the labels; None where that is not judged.
    """

    number: str
    image: str
    overlay: str
    overlay_text: str
    truth: str
    said: str
    right: bool | None


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Posters under a heading."""

    kind: ClassVar[str] = "gallery"
    title: str
    caption: str
    posters: Sequence[Poster]


@dataclasses.dataclass(frozen=True)
class Shown:
    """A figure: the same picture as data URIs on light and on dark ground."""

    kind: ClassVar[str] = "figure"
    caption: str
    light: str
    dark: str


@dataclasses.dataclass(frozen=True)
class Plain:
    """Text whose columns stay aligned."""

    kind: ClassVar[str] = "plain"
    plain: str


@dataclasses.dataclass(frozen=True)
class Note:
    """A paragraph that must not be overlooked."""

    kind: ClassVar[str] = "note"
    text: str


@dataclasses.dataclass(frozen=True)
class Shades:
    """A table of counts, each with its share of the row in [0, 1], which shades the cell."""

    kind: ClassVar[str] = "shades"
    caption: str
    header: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[str, float]]]]


@dataclasses.dataclass(frozen=True)
class Strip:
    """How many claims have each verdict: (count, words, letter, name of the colour)."""

    kind: ClassVar[str] = "strip"
    parts: Sequence[tuple[int, str, str, str]]


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim that unfolds to its measurement: (name, text) of each part of it."""

    text: str
    where: str
    value: str
    letter: str
    verdict: str
    colour: str
    parts: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Claims:
    """Claims in order."""

    kind: ClassVar[str] = "claims"
    claims: Sequence[Claim]


Item: TypeAlias = "str | Table | Headline | Dots | Gallery | Shown | Plain | Note | Shades | Strip | Claims | Fold"


@dataclasses.dataclass(frozen=True)
class Fold:
    """Items behind a line that opens them."""

    kind: ClassVar[str] = "fold"
    title: str
    items: Sequence[Item]


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and what follows it; a text is a paragraph."""

    title: str
    anchor: str
    items: Sequence[Item]


def place(value: float, ends: tuple[float, float] = (0.0, 1.0)) -> float:
    """Where a value lies on a track, in percent of its width; what is beyond an end lies at the end."""
    low, high = ends
    return round(100 * min(1.0, max(0.0, (value - low) / (high - low))), 2)


def range_mark(low: float | None, high: float | None, ends: tuple[float, float] = (0.0, 1.0)) -> list[Mark]:
    """The mark of an interval; none where it is undefined."""
    if low is None or high is None:
        return []
    start = place(low, ends)
    return [Mark("range", start, round(place(high, ends) - start, 2))]
