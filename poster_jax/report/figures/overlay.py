"""A Grad-CAM map laid over its poster: grey where nothing speaks for the genre, glowing where much does."""

import numpy as np
from PIL import Image

COLORS = "inferno"  # grows in brightness evenly, so it reads without hue
STRONGEST = 0.8  # how much of the glow covers the poster where the map is 1
DARKEST = 0.25  # of the colour map's range, so that weak evidence is not black


def blend(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] from a poster of that shape and a map float [h, w] in [0, 1] of any size, enlarged bilinearly."""
    import matplotlib

    height, width = image.shape[:2]
    large = np.asarray(Image.fromarray(heat.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR))
    large = large.clip(0, 1)
    glow = matplotlib.colormaps[COLORS](DARKEST + (1 - DARKEST) * large)[..., :3] * 255
    grey = image.mean(-1, keepdims=True) * 0.75
    cover = STRONGEST * large[..., None]
    return ((1 - cover) * grey + cover * glow).round().astype(np.uint8)
