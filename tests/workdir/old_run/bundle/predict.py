"""Genres of posters from an exported network, in its own folder: `python predict.py POSTER...`; needs jax, numpy and Pillow."""

import hashlib
import json
import pathlib
import sys
from typing import Any

import jax
import numpy as np
from jax import export
from PIL import Image, ImageOps


def load(folder: pathlib.Path) -> tuple[Any, dict[str, Any]]:
    """(score: uint8 [B, H, W, 3] -> float32 [B, K], labels.json); raises ValueError for a file that was changed."""
    for name, written in json.loads((folder / "manifest.json").read_text())["sha256"].items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != written:
            raise ValueError(f"{folder / name} is not the file that was exported: export again")
    program = export.deserialize(bytearray((folder / "program.jax_export").read_bytes()))
    return jax.jit(program.call), json.loads((folder / "labels.json").read_text())


def read(path: str, image_size: tuple[int, int]) -> np.ndarray:
    """A poster as uint8 [H, W, 3]: upright, RGB on white, squeezed to the size (bilinear with antialiasing)."""
    picture: Image.Image = ImageOps.exif_transpose(Image.open(path))
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    height, width = image_size
    return np.asarray(picture.convert("RGB").resize((width, height), Image.Resampling.BILINEAR))


if __name__ == "__main__":
    score, labels = load(pathlib.Path(__file__).resolve().parent)
    for path in sys.argv[1:] or sys.exit(__doc__):
        [row] = np.asarray(score(read(path, labels["image_size"])[None]))
        decision = [genre for genre, p, least in zip(labels["genres"], row, labels["thresholds"], strict=True) if p >= least]
        print(path, json.dumps(dict(zip(labels["genres"], row.tolist(), strict=True))), "|".join(decision), sep="\t")
