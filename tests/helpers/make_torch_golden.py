"""`python -m tests.helpers.make_torch_golden`: what torchvision's MobileNetV2 gives, for tests on machines without torch.

Run with torch 2.14.1 and torchvision 0.29.1 on Python 3.11, on CPU. Weights are drawn by numpy from their names and images from
their size, so a file holds only some outputs of every unit and block. What is imported from here needs numpy alone.
"""

import hashlib
import json
import pathlib
import zlib
from collections.abc import Callable, Iterable

import numpy as np

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "models" / "golden"
# Share of the channels, and [H, W] of the images in pixels; at even sizes Keras pads otherwise, at odd ones it does not.
CASES = ((0.35, (64, 96)), (1.0, (65, 96)))
NUM_IMAGES, NUM_PICKED = 2, 200


def path_of(width: float, size: tuple[int, int]) -> pathlib.Path:
    return FOLDER / f"torchvision_mobilenet_v2_{width}_{size[0]}x{size[1]}.npz"


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The array of one name in a state_dict, such that activations stay near 1 and no BatchNorm is the identity."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    leaf = name.rpartition(".")[2]
    draws: dict[str, Callable[[], np.ndarray]] = {
        "running_mean": lambda: rng.normal(0, 0.3, shape),
        "running_var": lambda: rng.uniform(0.2, 2, shape),
        "bias": lambda: rng.normal(0, 0.3, shape),
        "num_batches_tracked": lambda: np.array(7),
        "weight": lambda: rng.normal(0, np.sqrt(1 / np.prod(shape[1:])), shape) if shape[1:] else rng.uniform(0.5, 1.5, shape),
    }
    return draws[leaf]().astype(np.int64 if leaf.endswith("tracked") else np.float32)


def images(size: tuple[int, int]) -> np.ndarray:
    """[B, H, W, 3] in [0, 1]."""
    return np.random.default_rng(size).uniform(0, 1, (NUM_IMAGES, *size, 3)).astype(np.float32)


def picked(name: str, output: np.ndarray) -> np.ndarray:
    """Some entries of a unit's output [B, H, W, C], and behind them the mean size of all entries."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    places = rng.choice(output.size, min(NUM_PICKED, output.size), replace=False)
    return np.append(output.reshape(-1)[places], np.abs(output).mean(dtype=np.float64)).astype(np.float32)


def digest(names: Iterable[tuple[str, tuple[int, ...]]]) -> str:
    """One word for the names and shapes of a body, without the classifier."""
    kept = sorted((name, list(shape)) for name, shape in names if not name.startswith("classifier"))
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()


def units() -> dict[str, str]:
    """{our name of a unit or block: torchvision's module}; `map` is what leaves the body."""
    names = {"stem": "features.0", "last": "features.18", "map": "features"}
    for index in range(17):
        at, first = f"features.{index + 1}", 1 if index else 0
        names[f"block_{index}"] = at
        names[f"block_{index}/depthwise"] = f"{at}.conv.{first}"
        names[f"block_{index}/project"] = f"{at}.conv.{first + 2}"
        names |= {f"block_{index}/expand": f"{at}.conv.0"} if index else {}
    return names


def main() -> None:
    import torch
    import torchvision

    FOLDER.mkdir(exist_ok=True)
    weights = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1.transforms()
    mean, std = (np.float32(value) for value in (weights.mean, weights.std))
    for width, size in CASES:
        model = torchvision.models.mobilenet_v2(width_mult=width).eval()
        shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        model.load_state_dict({name: torch.from_numpy(draw(name, shape)) for name, shape in shapes.items()})
        modules, found = dict(model.named_modules()), {}

        def keep(name: str, found: dict = found) -> Callable:
            def hook(module: object, inputs: object, output: "torch.Tensor") -> None:
                found[name] = picked(name, np.moveaxis(output.numpy(), 1, 3))

            return hook

        for name, module in units().items():
            modules[module].register_forward_hook(keep(name))
        with torch.no_grad():
            model(torch.from_numpy(np.moveaxis((images(size) - mean) / std, 3, 1).copy()))
        versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
        np.savez_compressed(path_of(width, size), versions=versions, names=digest(shapes.items()), **found)
        print(f"{path_of(width, size).name}: {len(found)} outputs, {versions}")


if __name__ == "__main__":
    main()
