"""`python -m tests.helpers.make_torch_golden`: what torch's libraries give for MobileNetV2, for tests without torch.

Run with torch 2.14.1, torchvision 0.29.1, timm 1.0.31 and transformers 5.24.0 on Python 3.11, on CPU. Weights are drawn by
numpy from their names and images from their size, so a file holds only some outputs of every unit and block. What is imported
from here needs numpy alone.
"""

import hashlib
import json
import pathlib
import zlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "models" / "golden"
NUM_IMAGES, NUM_PICKED = 2, 200


class Case(NamedTuple):
    """A library, the share of the channels, [H, W] of the images in pixels, and how many entries of each output are kept.

    At even sizes TensorFlow pads otherwise than torch, at odd ones it does not.
    """

    library: str
    width: float
    size: tuple[int, int]
    num_picked: int

    @property
    def path(self) -> pathlib.Path:
        return FOLDER / f"{self.library}_mobilenet_v2_{self.width}_{self.size[0]}x{self.size[1]}.npz"


CASES = (
    Case("torchvision", 0.35, (64, 96), NUM_PICKED),
    Case("torchvision", 1.0, (65, 96), NUM_PICKED),
    Case("timm", 0.5, (64, 65), 50),
    Case("huggingface", 0.35, (64, 65), 50),
)


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


def picked(name: str, output: np.ndarray, num_picked: int = NUM_PICKED) -> np.ndarray:
    """Some entries of a unit's output [B, H, W, C], and behind them the mean size of all entries."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    places = rng.choice(output.size, min(num_picked, output.size), replace=False)
    return np.append(output.reshape(-1)[places], np.abs(output).mean(dtype=np.float64)).astype(np.float32)


def digest(names: Iterable[tuple[str, tuple[int, ...]]]) -> str:
    """One word for the names and shapes of a body, without the classifier."""
    kept = sorted((name, list(shape)) for name, shape in names if not name.startswith("classifier"))
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()


def units(library: str) -> dict[str, str]:
    """{our name of a unit or block: the library's module that gives its output}; `map` is what leaves the body."""
    if library == "torchvision":
        names = {"stem": "features.0", "last": "features.18", "map": "features"}
    elif library == "timm":
        names = {"stem": "bn1", "last": "bn2", "map": "bn2"}
    else:
        names = {"stem": "conv_stem.first_conv", "last": "conv_1x1", "map": "conv_1x1"}
    places = [f"{row}.{place}" for row, repeats in enumerate((1, 2, 3, 4, 3, 3, 1)) for place in range(repeats)]
    for index in range(17):
        first = 1 if index else 0
        if library == "torchvision":
            at = f"features.{index + 1}"
            parts = {"expand": f"{at}.conv.0", "depthwise": f"{at}.conv.{first}", "project": f"{at}.conv.{first + 2}"}
        elif library == "timm":
            at = f"blocks.{places[index]}"
            parts = {"expand": f"{at}.bn1", "depthwise": f"{at}.bn{first + 1}", "project": f"{at}.bn{first + 2}"}
        else:
            at = f"layer.{index - 1}" if index else "conv_stem"
            parts = {"expand": f"{at}.expand_1x1", "depthwise": f"{at}.conv_3x3", "project": f"{at}.reduce_1x1"}
        names[f"block_{index}"] = at
        names |= {f"block_{index}/{part}": module for part, module in parts.items() if index or part != "expand"}
    return names


def build(case: Case) -> tuple["torch.nn.Module", np.ndarray, np.ndarray, str]:
    """(network, mean and deviation of its input, the library's version)."""
    if case.library == "torchvision":
        import torchvision

        weights = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1.transforms()
        model = torchvision.models.mobilenet_v2(width_mult=case.width)
        return model, np.float32(weights.mean), np.float32(weights.std), f"torchvision {torchvision.__version__}"
    if case.library == "timm":
        import timm

        model = timm.create_model(f"mobilenetv2_{100 * case.width:03.0f}")
        settings = model.default_cfg
        return model, np.float32(settings["mean"]), np.float32(settings["std"]), f"timm {timm.__version__}"
    import transformers

    model = transformers.MobileNetV2Model(transformers.MobileNetV2Config(depth_multiplier=case.width))
    settings = transformers.MobileNetV2ImageProcessor()
    mean, std = np.float32(settings.image_mean), np.float32(settings.image_std)
    return model, mean, std, f"transformers {transformers.__version__}"


def main() -> None:
    import torch

    FOLDER.mkdir(exist_ok=True)
    for case in CASES:
        model, mean, std, version = build(case)
        shapes = {name: tuple(tensor.shape) for name, tensor in model.eval().state_dict().items()}
        model.load_state_dict({name: torch.from_numpy(draw(name, shape)) for name, shape in shapes.items()})
        modules, found = dict(model.named_modules()), {}

        def keep(name: str, num_picked: int, found: dict = found) -> Callable:
            def hook(module: object, inputs: object, output: "torch.Tensor") -> None:
                found[name] = picked(name, np.moveaxis(output.numpy(), 1, 3), num_picked)

            return hook

        for name, module in units(case.library).items():
            modules[module].register_forward_hook(keep(name, case.num_picked))
        with torch.no_grad():
            model(torch.from_numpy(np.moveaxis((images(case.size) - mean) / std, 3, 1).copy()))
        versions = f"torch {torch.__version__}, {version}"
        np.savez_compressed(case.path, versions=versions, names=digest(shapes.items()), **found)
        print(f"{case.path.name}: {len(found)} outputs, {versions}, mean {mean}, deviation {std}")


if __name__ == "__main__":
    main()
