"""Draws small film posters from (seed, id, genres): a data set without a download, for first runs and tests.

The cues of a genre are the lighting, the motif, the title's position and, weakly, the palette. Every cue sometimes comes from
another genre. The lighting is rank-normalised, so every background has the same amount of dark and light: colour histograms
predict the genre a little, shapes predict it well, and nothing predicts it perfectly.
"""

import dataclasses
import functools
import io
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from PIL import Image, ImageChops, ImageDraw, ImageFont

from poster_jax import errors

GENRES: tuple[str, ...] = ("Action", "Crime", "Documentary", "Drama", "Horror", "Comedy")
WIDTH_PX, HEIGHT_PX = 182, 268

# Shares of the first-listed genre: unequal, as in the real catalogue, but no class is rare in 1,500 posters.
_FIRST_SHARE = np.array([0.165, 0.15, 0.145, 0.20, 0.15, 0.19])
_TWO_GENRES_SHARE = 0.38
# Weights of the second genre (columns) by the first-listed one (rows). Pairs are unequal, too.
_SECOND_WEIGHT = (
    (0, 5, 1, 3, 2, 3),
    (3, 0, 1, 4, 2, 2),
    (2, 4, 0, 1, 1, 4),
    (2, 3, 1, 0, 2, 4),
    (3, 3, 1, 3, 0, 1),
    (3, 2, 2, 4, 1, 0),
)
_TABLE_STREAM, _POSTER_STREAM = 0, 1

# Cue noise: the share of posters whose cue comes from a genre drawn at random.
_STRAY_LIGHTING, _STRAY_MOTIF, _STRAY_TITLE, _STRAY_PALETTE = 0.22, 0.34, 0.4, 0.75
_SECOND_LIGHTING = (0.35, 0.55)  # weight of the second genre in the lighting, drawn uniformly
_CLOUD_SPREAD = (0.5, 1.2)  # of smooth noise, added to a lighting of unit spread

_GRID = (67, 46)  # lighting is computed at a quarter of the poster's height and width
_SCALE = 2  # shapes are drawn this much larger and then reduced, for smooth edges

# dark, middle, light, accent
_PALETTES = (
    ((18, 24, 46), (52, 96, 140), (206, 226, 236), (240, 140, 48)),
    ((40, 16, 18), (150, 52, 44), (244, 212, 178), (250, 196, 60)),
    ((14, 34, 32), (46, 120, 104), (214, 232, 204), (232, 92, 72)),
    ((26, 22, 22), (112, 104, 98), (232, 228, 220), (196, 40, 40)),
    ((34, 18, 50), (118, 70, 140), (236, 208, 228), (250, 220, 110)),
    ((44, 28, 12), (176, 116, 52), (250, 232, 184), (40, 110, 130)),
    ((12, 30, 58), (40, 130, 178), (224, 240, 214), (244, 84, 120)),
    ((30, 36, 16), (116, 128, 60), (236, 232, 190), (184, 64, 32)),
)
_GENRE_PALETTES = ((1, 5), (3, 0), (7, 3), (0, 2), (4, 1), (6, 5))

_TITLE_STARTS = ("THE LAST", "A QUIET", "MIDNIGHT", "BEYOND", "SUMMER OF", "NO MORE", "ALL OUR", "THE LONG")
_TITLE_ENDS = ("HARBOR", "WINTER", "STRANGERS", "RIVER", "SECRETS", "SUNDAY", "KINGDOM", "SHADOWS", "HOTEL")
_NAMES = ("ADA MOREL", "J. T. KANE", "INES OKORO", "LEO BRANDT", "MINA SATO", "PAUL RIVERA", "NORA LIND")
_TAGLINES = ("Nobody leaves twice", "It begins at dusk", "Some doors stay open", "Hold your breath")

Colour = tuple[int, int, int]
Points = Sequence[tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class _Cues:
    """The cues of one poster: `lighting` has a weight per genre; `palette` is a position in _PALETTES, the others in GENRES."""

    lighting: np.ndarray
    motif: int
    title: int
    palette: int


def draw_table(num_posters: int, seed: int) -> pd.DataFrame:
    """Draws ids 1..n and their genres: columns `id` (int) and `genres` (text, "Crime|Drama").

    The first name is the first-listed genre. Row i depends only on (seed, i), so a shorter table is the start of a longer one.
    """
    if num_posters < 1:
        raise errors.UserError(f"The synthetic set needs at least one poster, not {num_posters}.")
    ids = range(1, num_posters + 1)
    return pd.DataFrame({"id": list(ids), "genres": ["|".join(_draw_genres(seed, i)) for i in ids]})


def _draw_genres(seed: int, poster_id: int) -> tuple[str, ...]:
    rng = np.random.default_rng((seed, poster_id, _TABLE_STREAM))
    first = int(rng.choice(len(GENRES), p=_FIRST_SHARE))
    if rng.random() >= _TWO_GENRES_SHARE:
        return (GENRES[first],)
    weights = np.array(_SECOND_WEIGHT[first], np.float64)
    return GENRES[first], GENRES[int(rng.choice(len(GENRES), p=weights / weights.sum()))]


def draw_poster(seed: int, poster_id: int, genres: tuple[str, ...]) -> bytes:
    """Draws one RGB poster of 182 x 268 px as JPEG bytes.

    `genres` holds one or two different names of GENRES, first-listed first; anything else raises UserError.
    Equal arguments give equal bytes as long as the releases of Pillow and numpy are the same.
    """
    unknown = [genre for genre in genres if genre not in GENRES]
    if unknown or len(set(genres)) != len(genres) or len(genres) not in (1, 2):
        raise errors.UserError(
            f"A synthetic poster has one or two different genres of {', '.join(GENRES)}, not {list(genres)}."
        )
    rng = np.random.default_rng((seed, poster_id, _POSTER_STREAM))
    cues = _draw_cues(rng, [GENRES.index(genre) for genre in genres])
    dark, middle, light, accent = _draw_palette(rng, cues.palette)
    image = _paint_light(_draw_lighting(rng, cues.lighting), (dark, middle, light))
    # Smoothed at the poster's size, then enlarged by repeating pixels, which takes less than half the time.
    image = image.resize((WIDTH_PX, HEIGHT_PX), Image.Resampling.BILINEAR)
    image = image.resize((WIDTH_PX * _SCALE, HEIGHT_PX * _SCALE), Image.Resampling.NEAREST)
    pen = _Pen(image, rng, dark, light, accent)
    _draw_distractors(pen)
    _MOTIFS[cues.motif](pen)
    image = image.reduce(_SCALE)
    _draw_lettering(image, rng, cues.title, pen)
    stream = io.BytesIO()
    _add_grain(image, rng).save(stream, "JPEG", quality=88)
    return stream.getvalue()


def _draw_cues(rng: np.random.Generator, genres: list[int]) -> _Cues:
    def stray(share: float, own: int) -> int:
        return int(rng.integers(len(GENRES))) if rng.random() < share else own

    first, last = genres[0], genres[-1]
    second_weight = rng.uniform(*_SECOND_LIGHTING) if len(genres) == 2 else 0.0
    lighting = np.zeros(len(GENRES))
    lighting[stray(_STRAY_LIGHTING, first)] += 1 - second_weight
    lighting[stray(_STRAY_LIGHTING, last)] += second_weight
    # Of two genres, one determines the motif and the other the position of the title.
    order = (first, last) if rng.random() < 0.5 else (last, first)
    motif, title = stray(_STRAY_MOTIF, order[0]), stray(_STRAY_TITLE, order[1])
    preferred = _GENRE_PALETTES[first][int(rng.integers(2))]
    palette = int(rng.integers(len(_PALETTES))) if rng.random() < _STRAY_PALETTE else preferred
    return _Cues(lighting, motif, title, palette)


def _draw_palette(rng: np.random.Generator, index: int) -> list[Colour]:
    """The palette's four colours, with noise on each channel and one common factor of brightness."""
    colours = np.array(_PALETTES[index]) * rng.uniform(0.85, 1.1) + rng.normal(0, 9, (4, 3))
    return [tuple(int(v) for v in colour) for colour in np.clip(colours, 4, 250)]  # type: ignore[misc]


def _draw_lighting(rng: np.random.Generator, weights: np.ndarray) -> np.ndarray:
    """The lighting: float [67, 46], a permutation of equally spaced values from 0 (dark) to 1 (light)."""
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, _GRID[1]), np.linspace(-0.5, 0.5, _GRID[0]))
    x, y = x - rng.normal(0, 0.08), y - rng.normal(0, 0.08)
    tilt = rng.normal(0, 0.2)
    u, v = x * math.cos(tilt) - y * math.sin(tilt), x * math.sin(tilt) + y * math.cos(tilt)
    radius = np.hypot(u, v)
    scores = (-np.abs(u + v), -u, v, -v, -radius, radius)  # in the order of GENRES
    total = np.zeros(_GRID)
    for weight, score in zip(weights, scores, strict=True):
        if weight:
            total += weight * (score - score.mean()) / score.std()
    clouds = Image.fromarray(rng.standard_normal((4, 3)).astype(np.float32))
    clouds = np.asarray(clouds.resize((_GRID[1], _GRID[0]), Image.Resampling.BICUBIC), np.float64)
    total = total / total.std() + rng.uniform(*_CLOUD_SPREAD) * clouds / clouds.std()
    ranks = np.empty(total.size)
    ranks[np.argsort(total, axis=None, kind="stable")] = np.linspace(0, 1, total.size)
    return ranks.reshape(_GRID)


def _paint_light(lighting: np.ndarray, colours: tuple[Colour, Colour, Colour]) -> Image.Image:
    stops = np.array(colours, np.float64)
    channels = [np.interp(lighting, (0.1, 0.5, 0.9), stops[:, c]) for c in range(3)]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


class _Pen:
    """Draws with the poster's colours on the enlarged canvas; coordinates are poster pixels until `move` is called."""

    def __init__(self, image: Image.Image, rng: np.random.Generator, dark: Colour, light: Colour, accent: Colour):
        self._draw, self.rng = ImageDraw.Draw(image), rng
        self.light, self.accent = light, accent
        self.ink: Colour = (dark[0] // 2, dark[1] // 2, dark[2] // 2)
        self._x, self._y, self._size = 0.0, 0.0, 1.0

    def move(self, x: float, y: float, size: float) -> None:
        """Makes (x, y) the origin and `size` pixels the unit, both with noise."""
        self._x, self._y = x + self.rng.normal(0, 9), y + self.rng.normal(0, 10)
        self._size = size * self.rng.uniform(0.8, 1.2)

    def _points(self, points: Points) -> list[tuple[float, float]]:
        return [((self._x + x * self._size) * _SCALE, (self._y + y * self._size) * _SCALE) for x, y in points]

    def any_colour(self) -> Colour:
        return (self.light, self.accent, self.ink)[int(self.rng.integers(3))]

    def polygon(self, points: Points, colour: Colour) -> None:
        self._draw.polygon(self._points(points), fill=colour)

    def disc(self, x: float, y: float, radius: float, colour: Colour, squash: float = 1.0) -> None:
        box = [(x - radius, y - radius * squash), (x + radius, y + radius * squash)]
        self._draw.ellipse(self._points(box), fill=colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        self._draw.rectangle(self._points([(left, top), (right, bottom)]), fill=colour)

    def stroke(self, points: Points, width: float, colour: Colour) -> None:
        width_px = max(1, round(width * self._size * _SCALE))
        self._draw.line(self._points(points), fill=colour, width=width_px, joint="curve")


def _draw_distractors(pen: _Pen) -> None:
    """Up to three shapes that do not depend on the genre."""
    for _ in range(int(pen.rng.integers(0, 4))):
        x, y, size = pen.rng.uniform((0, 0, 6), (WIDTH_PX, HEIGHT_PX, 24))
        kind = pen.rng.integers(3)
        if kind == 0:
            pen.disc(x, y, size, pen.any_colour())
        elif kind == 1:
            pen.box(x - size, y - size / 3, x + size, y + size / 3, pen.any_colour())
        else:
            pen.polygon([(x, y - size), (x + size, y + size), (x - size, y + size)], pen.any_colour())


def _draw_action(pen: _Pen) -> None:
    """A burst and a runner before it."""
    pen.move(96, 138, 62)
    rays = [(math.pi * k / 11, 1.0 if k % 2 else pen.rng.uniform(0.5, 0.7)) for k in range(22)]
    pen.polygon([(r * math.cos(a), r * math.sin(a)) for a, r in rays], pen.accent)
    for k in range(4):
        pen.stroke([(-1.5, 0.9 + 0.13 * k), (-0.4, 0.1 + 0.13 * k)], 0.025, pen.light)
    pen.stroke([(0.1, -0.35), (-0.08, 0.2)], 0.3, pen.ink)
    pen.stroke([(-0.08, 0.2), (0.35, 0.45), (0.25, 0.95)], 0.18, pen.ink)
    pen.stroke([(-0.08, 0.2), (-0.3, 0.6), (-0.8, 0.7)], 0.18, pen.ink)
    pen.stroke([(0.1, -0.3), (0.45, -0.1), (0.75, -0.35)], 0.13, pen.ink)
    pen.stroke([(0.1, -0.3), (-0.35, -0.25), (-0.5, 0.1)], 0.13, pen.ink)
    pen.disc(0.2, -0.62, 0.19, pen.ink)


def _draw_crime(pen: _Pen) -> None:
    """The shadow of a blind and a bust in a hat."""
    pen.move(122, 150, 50)
    for k in range(9):
        top = -2.2 + 0.42 * k
        pen.polygon([(-3, top - 0.02), (-0.2, top + 0.12), (-0.2, top + 0.22), (-3, top + 0.08)], pen.ink)
    pen.disc(0, 1.25, 0.95, pen.ink, squash=0.9)
    pen.disc(0, 0, 0.42, pen.ink, squash=1.25)
    pen.disc(0, -0.25, 0.78, pen.ink, squash=0.16)
    pen.polygon([(-0.42, -0.25), (-0.34, -0.8), (0.34, -0.8), (0.42, -0.25)], pen.ink)
    pen.stroke([(-0.4, -0.36), (0.4, -0.36)], 0.06, pen.accent)


def _draw_documentary(pen: _Pen) -> None:
    """A framed photograph of hills with a caption."""
    pen.move(91, 88, 66)
    pen.box(-1, -0.72, 1, 0.72, pen.light)
    pen.box(-0.93, -0.65, 0.93, 0.65, pen.accent)
    pen.disc(pen.rng.uniform(-0.5, 0.5), -0.3, 0.16, pen.light)
    ridge = [(-0.93 + 0.31 * k, pen.rng.uniform(-0.15, 0.35)) for k in range(7)]
    pen.polygon([(-0.93, 0.65), *ridge, (0.93, 0.65)], pen.ink)
    for k, width in enumerate((1.5, 1.8, 1.1)):
        pen.box(-0.93, 0.9 + 0.15 * k, -0.93 + width, 0.94 + 0.15 * k, pen.ink)


def _draw_drama(pen: _Pen) -> None:
    """A low hill, a tree and two small figures."""
    pen.move(91, 205, 56)
    side = 1 if pen.rng.random() < 0.5 else -1
    pen.disc(0, 1.3, 2.4, pen.ink, squash=0.5)
    pen.stroke([(0.8 * side, 0.3), (0.75 * side, -0.8)], 0.07, pen.ink)
    for dx, dy in pen.rng.normal(0, 0.28, (6, 2)):
        pen.disc(0.8 * side + dx, dy - 1, 0.27, pen.ink)
    for x, colour in ((-0.35 * side, pen.ink), (-0.67 * side, pen.accent)):
        pen.disc(x, -0.42, 0.09, pen.ink)
        pen.polygon([(x - 0.1, -0.3), (x + 0.1, -0.3), (x + 0.14, 0.25), (x - 0.14, 0.25)], colour)


def _draw_horror(pen: _Pen) -> None:
    """Dark running down from the top, a moon and a house with lit windows."""
    drips = [(WIDTH_PX * k / 14, pen.rng.uniform(4, 40) if k % 2 else 3.0) for k in range(15)]
    pen.polygon([(0, 0), *drips, (WIDTH_PX, 0)], pen.ink)
    pen.move(91, 150, 56)
    pen.disc(pen.rng.uniform(-0.5, 0.5), -0.75, 0.5, pen.light)
    for x, half, top in ((-0.45, 0.3, -0.5), (0.1, 0.4, -0.15), (0.6, 0.2, -0.8)):
        pen.box(x - half, top, x + half, 0.9, pen.ink)
        pen.polygon([(x - half - 0.07, top), (x, top - 0.65), (x + half + 0.07, top)], pen.ink)
        pen.box(x - 0.07, top + 0.2, x + 0.07, top + 0.38, pen.accent)


def _draw_comedy(pen: _Pen) -> None:
    """A laughing face among confetti."""
    for x, y, radius in pen.rng.uniform((0, 0, 3), (WIDTH_PX, HEIGHT_PX, 6), (12, 3)):
        pen.disc(x, y, radius, pen.any_colour())
    pen.move(91, 140, 54)
    pen.disc(0, 0, 1, pen.accent)
    for side in (-1, 1):
        pen.disc(0.36 * side, -0.25, 0.24, pen.light, squash=1.2)
        pen.disc(0.32 * side, -0.2, 0.11, pen.ink)
    angles = np.linspace(0, math.pi, 12)
    pen.polygon([(0.62 * math.cos(a), 0.2 + 0.5 * math.sin(a)) for a in angles], pen.ink)
    pen.box(-0.5, 0.2, 0.5, 0.3, pen.light)


_MOTIFS = (_draw_action, _draw_crime, _draw_documentary, _draw_drama, _draw_horror, _draw_comedy)
# Height of the title's centre in px, and whether it is on a plate; in the order of GENRES.
_TITLES = ((206, True), (50, False), (200, False), (66, False), (210, False), (46, True))


@functools.lru_cache(maxsize=64)
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)


def _draw_lettering(image: Image.Image, rng: np.random.Generator, title: int, pen: _Pen) -> None:
    """Tagline, title, names, credits and border."""
    draw = ImageDraw.Draw(image)

    def write(text: str, y: float, size_px: int) -> None:
        under = (40, max(y - 4, 0), 142, min(y + 4, HEIGHT_PX))
        ground = image.resize((1, 1), Image.Resampling.BOX, box=under).getpixel((0, 0))
        ink = pen.light if sum(ground) < 360 else pen.ink  # type: ignore[arg-type]
        draw.text((WIDTH_PX / 2, y), text, ink, _font(size_px), "mm")

    middle, plate = _TITLES[title]
    size = int(rng.integers(21, 28))
    middle = int(np.clip(middle + rng.normal(0, 8), 18 + size, 240 - size))
    if plate:
        draw.rectangle((14, middle - size, WIDTH_PX - 15, middle + size), fill=pen.accent)
    names = [_NAMES[k] for k in rng.permutation(len(_NAMES))[:4]]
    write(_TAGLINES[int(rng.integers(len(_TAGLINES)))], 11, 9)
    write(_TITLE_STARTS[int(rng.integers(len(_TITLE_STARTS)))], middle - size * 0.45, int(size * 0.6))
    write(_TITLE_ENDS[int(rng.integers(len(_TITLE_ENDS)))], middle + size * 0.35, size)
    write("   ".join(names[:2]), 249, 8)
    write("   ".join(names[2:]), 258, 8)
    border = int(rng.integers(0, 5))
    if border:
        colour = (pen.ink, pen.light)[int(rng.integers(2))]
        draw.rectangle((0, 0, WIDTH_PX - 1, HEIGHT_PX - 1), outline=colour, width=border)


def _add_grain(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Film grain: -7..8 grey levels per pixel, the same in all channels."""
    levels = np.frombuffer(rng.bytes(WIDTH_PX * HEIGHT_PX), np.uint8).reshape(HEIGHT_PX, WIDTH_PX) & 15
    grain = Image.fromarray(levels)
    return ImageChops.add(image, Image.merge("RGB", (grain, grain, grain)), 1.0, -7)
