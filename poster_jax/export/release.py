"""A finished run as a folder small enough to come with the package: half-precision weights and all that reads a run needs.

The folder is a run folder without checkpoints: `predict`, `export`, `report` and `compare` take it as they take a run, and
`released:NAME` names it wherever a run or weights may stand. No poster is in it, and no path of the machine that made it.
"""

import hashlib
import json
import pathlib
from typing import Any

import numpy as np
from flax import traverse_util

from poster_jax import config as config_lib
from poster_jax import errors, predict
from poster_jax.export import model_card
from poster_jax.models.files import half_weights
from poster_jax.workdir import run_files

FORMAT = "poster_jax release 1"
MAX_BYTES = 10_000_000
# Largest difference of a probability that half-precision weights may make on posters that the run has kept.
TOLERANCE = 0.01


USE = """`poster-jax predict released:{name} POSTER...`, or in a program of your own:

```python
import poster_jax

answer = poster_jax.load("released:{name}").predict("poster.jpg")
print(dict(zip(answer.labels, answer.probabilities)), answer.decision)
```"""


def build(workdir: pathlib.Path, name: str, origin: str) -> dict[str, bytes]:
    """{file name: content} of a finished run's release. Equal runs give equal bytes.

    Args:
        name: what stands after `released:`.
        origin: where posters and starting weights come from and under which licences, in Markdown; part of the card.

    Raises UserError for what `predict.load_network` refuses, and where half precision or MAX_BYTES is not enough.
    """
    config, results, _ = run_files.read_run(workdir)
    network = predict.load_network(workdir)
    posters = run_files.read_samples(workdir).get("image", np.empty(0))
    if not len(posters):
        raise errors.UserError(f"{workdir} has no samples.npz, on which weights are compared: {run_files.MEASURE_AGAIN}.")
    flat = {name: np.asarray(array) for name, array in traverse_util.flatten_dict(network.variables, sep="/").items()}
    weights = half_weights.to_bytes(flat)
    read = half_weights.from_bytes(weights, {name: array.shape for name, array in flat.items()})
    halved = traverse_util.unflatten_dict(read, sep="/")
    scores = [np.asarray(network.score(variables, posters)) for variables in (network.variables, halved)]
    difference = float(np.abs(scores[0] - scores[1]).max())
    if not difference <= TOLERANCE:
        raise errors.UserError(
            f"half-precision weights change a probability of {workdir} by {difference:.3f}, more than {TOLERANCE}: "
            "export the run without --release."
        )
    config = _without_paths(config)
    card = model_card.write(
        config,
        results,
        thresholds=network.thresholds.tolist(),
        use=[
            USE.format(name=name),
            f"`{half_weights.NAME}` has the kernels in half precision: on {len(posters)} posters no probability is further "
            f"than {difference:.4f} from the network that was measured.",
        ],
        licence=origin,
    )
    files = {
        half_weights.NAME: weights,
        "config.json": (config_lib.to_json(config) + "\n").encode(),
        "results.json": (workdir / run_files.RESULTS).read_bytes(),
        "labels.json": (workdir / "labels.json").read_bytes(),
        "predictions.npz": (workdir / "predictions.npz").read_bytes(),
        "metrics.jsonl": (workdir / run_files.METRICS).read_bytes(),
        "MODEL_CARD.md": card.encode(),
    }
    about = {
        "format": FORMAT,
        "largest_difference": difference,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    files["release.json"] = (json.dumps(about, indent=2) + "\n").encode()
    size = sum(map(len, files.values()))
    if size > MAX_BYTES:
        raise errors.UserError(
            f"the release has {size / 1e6:.1f} MB, more than {MAX_BYTES / 1e6:.0f}: release a smaller network."
        )
    return files


def _without_paths(config: config_lib.Config) -> config_lib.Config:
    """The config with the last part of every path: where files lay is of no use elsewhere."""

    def shorten(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shorten(each) for key, each in value.items()}
        source, colon, path = value.rpartition(":") if isinstance(value, str) else ("", "", "")
        return f"{source}{colon}{pathlib.Path(path).name}" if "/" in path else value

    return config_lib.from_tree(shorten(config.to_dict()))
