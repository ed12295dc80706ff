"""The body of a network that comes with the package, as weights to start from: `released:NAME`."""

import hashlib
import json
import pathlib
from typing import Any

from flax import traverse_util

from poster_jax.models import pretrained
from poster_jax.models.files import half_weights


def read(folder: pathlib.Path) -> pretrained.Pretrained:
    """The body, without its head, of a folder that `export --release` wrote. Raises ValueError for a damaged one."""
    config, results = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("config.json", "results.json"))
    body: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in results["body"].items()}
    model, content = config["model"]["name"], (folder / half_weights.NAME).read_bytes()
    flat = half_weights.from_bytes(content, pretrained.body_shapes(model, body["width"], body["padding"]), more=True)
    digest = hashlib.sha256(content).hexdigest()
    return pretrained.Pretrained(
        model,
        traverse_util.unflatten_dict(flat, sep="/"),
        **body,
        provenance={
            "source": f"released:{folder.name}",
            "sha256": digest,
            "framework": "poster_jax",
            "resolution": None,
            "left_out": ["head"],
        },
        file_sha256=digest,
    )
