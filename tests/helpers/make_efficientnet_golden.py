"""`python -m tests.helpers.make_efficientnet_golden`: what `efficientnet-lite-pytorch` gives, for tests without torch.

Run with efficientnet-lite-pytorch 0.1.0, torch 2.14.1 and safetensors on Python 3.11, on CPU. Weights are drawn as in
`make_torch_golden`, so a file holds only some outputs of every unit and block. What is imported from here needs numpy alone.
"""

import collections
import hashlib
import importlib.metadata
import json
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tests.helpers import make_torch_golden

# The width, and [H, W] of the images in pixels: 64 and 96 halve to even sides and then to a 3, a 65 always to odd ones.
CASES = ((0.35, (64, 96)), (1.0, (65, 96)))
# The last map under the published weights, at the recipe's size.
PUBLISHED = make_torch_golden.FOLDER.parents[3] / "shared" / "weights" / "efficientnet_lite0.safetensors"
PUBLISHED_SIZE = (256, 176)


def path_of(name: object, size: tuple[int, int]) -> pathlib.Path:
    """The file of a width, or of the published weights under their name."""
    return make_torch_golden.FOLDER / f"efficientnet_lite0_{name}_{size[0]}x{size[1]}.npz"


def images(size: tuple[int, int]) -> np.ndarray:
    """uint8 [B, H, W, 3]."""
    return np.random.default_rng(size).integers(0, 256, (make_torch_golden.NUM_IMAGES, *size, 3), np.uint8)


def digest(names: Iterable[tuple[str, tuple[int, ...]]]) -> str:
    """One word for the names and shapes of a body, without the classifier."""
    kept = sorted((name, list(shape)) for name, shape in names if not name.startswith("_fc"))
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()


def main() -> None:
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    for width, size in CASES:
        # With the size that it is given, the port pads as TensorFlow's SAME does for it.
        model = EfficientNet.from_name("efficientnet-lite0", width_coefficient=width, image_size=size).eval()
        shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        drawn = {name: torch.from_numpy(make_torch_golden.draw(name, shape)) for name, shape in shapes.items()}
        model.load_state_dict(drawn)
        found, calls = {}, collections.Counter()

        def keep(names: list[str], found: dict = found, calls: collections.Counter = calls) -> Callable:
            """A module that is called several times in a pass gives the outputs of these names in turn."""

            def hook(module: object, inputs: object, output: "torch.Tensor") -> None:
                name = names[calls[names[0]]]
                calls[names[0]] += 1
                found[name] = make_torch_golden.picked(name, np.moveaxis(output.numpy(), 1, 3))

            return hook

        model._swish.register_forward_hook(keep(["stem", "last"]))
        for index, block in enumerate(model._blocks):
            parts = ("expand", "depthwise") if index else ("depthwise",)
            block._swish.register_forward_hook(keep([f"block_{index}/{part}" for part in parts]))
            block._bn2.register_forward_hook(keep([f"block_{index}/project"]))
            block.register_forward_hook(keep([f"block_{index}"]))
        found["map"] = last_map(model, size)
        save(path_of(width, size), names=digest(shapes.items()), **found)
    if PUBLISHED.exists():
        from safetensors.torch import load_file

        model = EfficientNet.from_name("efficientnet-lite0", image_size=PUBLISHED_SIZE).eval()
        model.load_state_dict(load_file(PUBLISHED))
        save(path_of("published", PUBLISHED_SIZE), map=last_map(model, PUBLISHED_SIZE))


def last_map(model: Any, size: tuple[int, int]) -> np.ndarray:
    """What is kept of the port's last map of `images`."""
    import torch

    x = torch.from_numpy(np.moveaxis((images(size).astype(np.float32) - 127) / 128, 3, 1).copy())
    with torch.no_grad():
        return make_torch_golden.picked("map", np.moveaxis(model.extract_features(x).numpy(), 1, 3))


def save(path: pathlib.Path, **found: Any) -> None:
    import torch

    port = importlib.metadata.version("efficientnet-lite-pytorch")
    versions = f"efficientnet-lite-pytorch {port}, torch {torch.__version__}"
    np.savez_compressed(path, versions=versions, **found)
    print(f"{path.name}: {len(found)} arrays, {versions}")


if __name__ == "__main__":
    main()
