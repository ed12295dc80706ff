"""Posters of a run with what is true and what was said: hits, confident mistakes, and where the evidence for the truth lies."""

import base64
import io

import numpy as np
from PIL import Image

from poster_jax.report import blocks
from poster_jax.report.figures import overlay, posters
from poster_jax.report.runs import FinishedRun

NUM_SHOWN = 6  # of hits, and of mistakes
MAX_WIDTH_PX = 176  # as wide as a poster is shown, a little more on sharp screens
WEBP_QUALITY = 80
NOTHING = 0.05  # a map that is nowhere above this shows nothing
GLOW = (
    "Beside a poster: Grad-CAM of its own genre, which glows where the evidence for it lies; a poster without one has "
    "a map that shows nothing."
)


def galleries(run: FinishedRun, limit: int = NUM_SHOWN) -> list[blocks.Gallery]:
    """Hits of the fair sample, the most confident mistakes, then what else the fair sample holds; none without samples.npz."""
    if not run.samples:
        return []
    spread = np.flatnonzero(run.samples["spread"]).tolist()
    hits = [index for index in spread if not posters.is_wrong(run, index)]
    misses = [index for index in spread if posters.is_wrong(run, index)]
    mistakes = np.flatnonzero(~run.samples["spread"]).tolist()
    share = f"Of {len(spread)} posters evenly spaced over the test part, {len(hits)} have the genre that is scored highest."
    worst = "Posters whose highest-scored genre is not theirs, the highest score first."
    found = [
        blocks.Gallery("Hits", f"{share} {GLOW}", [_poster(run, index) for index in hits[:limit]]),
        blocks.Gallery("Confident mistakes", worst, [_poster(run, index) for index in mistakes[:limit]]),
        blocks.Gallery("Misses of the fair sample", "", [_poster(run, index) for index in misses[:limit]]),
    ]
    return [each for each in found if each.posters]


def _poster(run: FinishedRun, index: int) -> blocks.Poster:
    held = run.samples
    number, truth, said = posters.texts(run, index)
    glow, genre = _true_map(run, index)
    text = f"Grad-CAM of {genre}" if glow is not None else ""
    laid = as_webp(overlay.blend(held["image"][index], glow)) if glow is not None else ""
    return blocks.Poster(number, as_webp(held["image"][index]), laid, text, truth, said, not posters.is_wrong(run, index))


def _true_map(run: FinishedRun, index: int) -> tuple[np.ndarray | None, str]:
    """The map of the poster's own genre that is scored highest, None where it shows nothing or was not kept; its name."""
    held = run.samples
    kept, genre = ("map", "genre") if not posters.is_wrong(run, index) else ("true_map", "true_genre")
    if kept not in held or held[kept][index].max() <= NOTHING or not held["label"][index].any():
        return None, ""
    return held[kept][index], run.genres[held[genre][index]]


def as_webp(image: np.ndarray) -> str:
    """uint8 [H, W, 3] as a data URI, at most MAX_WIDTH_PX wide."""
    shown = Image.fromarray(image)
    if shown.width > MAX_WIDTH_PX:
        shown = shown.resize((MAX_WIDTH_PX, round(shown.height * MAX_WIDTH_PX / shown.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    shown.save(buffer, "webp", quality=WEBP_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
