"""MobileNetV2 against the arithmetic of Keras, torchvision, timm and Hugging Face, layer by layer."""

import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from safetensors import numpy as numpy_files

from poster_jax.models import body as body_lib
from poster_jax.models import mobilenet_v2, pretrained, weight_files
from tests.helpers import make_torch_golden
from tests.models.test_mobilenet_v2 import build, distance

TOLERANCE = 1e-4
# Keras 3.15 asks TensorFlow's tensors for what numpy 2 wants with a copy argument.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")


def outputs(model: body_lib.Body, variables: Any, x: Any, train: bool) -> tuple[dict[str, Any], Any]:
    """{unit or block: its output}, with `map` and `pooled`, and the batch statistics afterwards."""

    @jax.jit
    def run(variables: Any, x: jax.Array) -> Any:
        return model.apply(
            variables, x, train, method="features", capture_intermediates=True, mutable=["intermediates", "batch_stats"]
        )

    (last, pooled), changed = run({name: variables[name] for name in ("params", "batch_stats")}, jnp.asarray(x))
    found = {"map": last, "pooled": pooled}
    for name, tree in changed["intermediates"].items():
        found |= {name: tree["__call__"][0]} if "__call__" in tree else {}
        found |= {f"{name}/{part}": leaf["__call__"][0] for part, leaf in tree.items() if part != "__call__"}
    return found, changed["batch_stats"]


class KerasBody:
    """Keras's MobileNetV2 with random weights and statistics, and the path of the file it saved."""

    def __init__(
        self, keras: Any, folder: pathlib.Path, width: float, size: tuple[int, int], suffix: str, **norm: float
    ) -> None:
        self.model = keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(*size, 3), alpha=width)
        rng = np.random.default_rng(int(100 * width) + size[0])
        draws = {
            "kernel": lambda shape: rng.normal(0, 1, shape) * np.sqrt(1 / (9 if shape[-1] == 1 else np.prod(shape[:3]))),
            "gamma": lambda shape: rng.uniform(0.5, 1.5, shape),
            "beta": lambda shape: rng.normal(0, 0.3, shape),
            "moving_mean": lambda shape: rng.normal(0, 0.3, shape),
            "moving_variance": lambda shape: rng.uniform(0.2, 2, shape),
        }
        for layer in self.model.layers:
            layer.set_weights([draws[variable.name](variable.shape) for variable in layer.weights])
            if "moving_mean" in {variable.name for variable in layer.weights}:
                for name, value in norm.items():
                    setattr(layer, name, value)
        self.path = folder / f"body_{width}_{size[0]}x{size[1]}{suffix}"
        self.model.save(self.path)
        self.x = rng.uniform(-1, 1, (3, *size, 3)).astype(np.float32)
        self.run = _multi_output(keras, self.model)


def _multi_output(keras: Any, body: Any) -> Any:
    """`run(x, training) -> {our name: output}` for every block and every unit of a Keras body."""
    layers = {layer.name for layer in body.layers}
    names = {"stem": "Conv1_relu", "last": "out_relu", "map": "out_relu"}
    for index in range(17):
        prefix = f"block_{index}" if index else "expanded_conv"
        names[f"block_{index}"] = f"{prefix}_add" if f"{prefix}_add" in layers else f"{prefix}_project_BN"
        for part, last in (("expand", "relu"), ("depthwise", "relu"), ("project", "BN")):
            if f"{prefix}_{part}" in layers:
                names[f"block_{index}/{part}"] = f"{prefix}_{part}_{last}"
    model = keras.Model(body.input, {name.replace("/", "."): body.get_layer(layer).output for name, layer in names.items()})

    def run(x: np.ndarray, training: bool) -> dict[str, np.ndarray]:
        found = {name.replace(".", "/"): np.asarray(value) for name, value in model(x, training=training).items()}
        return {**found, "pooled": found["map"].max((1, 2))}

    return run


@pytest.fixture(scope="module")
def keras() -> Any:
    return pytest.importorskip("keras")


@pytest.fixture(scope="module")
def keras_body(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Built once per setting: building and saving a Keras model takes a second."""
    folder = tmp_path_factory.mktemp("keras")
    return functools.cache(functools.partial(KerasBody, keras, folder))


CASES = ((1.0, (128, 128), ".h5"), (0.35, (96, 96), ".keras"), (0.56, (160, 160), ".h5"), (1.3, (97, 65), ".keras"))


@pytest.mark.parametrize(("width", "size", "suffix"), CASES)
def test_every_output_agrees_with_keras(keras_body: Any, width: float, size: tuple[int, int], suffix: str) -> None:
    body = keras_body(width, size, suffix)
    loaded = weight_files.load(f"keras:{body.path}")
    assert loaded.width == width
    ours, _ = outputs(build(**loaded.fields()), loaded.variables, body.x, False)
    theirs = body.run(body.x, False)
    assert ours.keys() == theirs.keys() and len(ours) == 2 + 2 + 17 + 50
    reached = {name: distance(ours[name], theirs[name]) for name in theirs}
    print(f"Keras, width {width}, {size}: worst {max(reached.values()):.1e}, last map {reached['map']:.1e}")
    assert max(reached.values()) < TOLERANCE


@pytest.mark.parametrize("change", [{"epsilon": 1e-5}, {"padding": "torchvision"}])
def test_a_wrong_epsilon_or_padding_does_not_agree(keras_body: Any, change: dict[str, Any]) -> None:
    body = keras_body(*CASES[1])
    loaded = weight_files.load(f"keras:{body.path}")
    ours, _ = outputs(build(**{**loaded.fields(), **change}), loaded.variables, body.x, False)
    reached = distance(ours["map"], body.run(body.x, False)["map"])
    print(f"Keras against {change}: {reached:.1e}")
    assert reached > 2 * TOLERANCE


def test_training_mode_batch_norm_agrees_with_keras(keras_body: Any) -> None:
    """With a momentum of 0.5 a wrong batch statistic shows in the running one; both constants come from the file."""
    body = keras_body(0.5, (96, 65), ".keras", momentum=0.5, epsilon=2e-3)
    loaded = weight_files.load(f"keras:{body.path}")
    assert (loaded.momentum, loaded.epsilon) == (0.5, 2e-3)
    x = np.concatenate([body.x, body.x[:, ::-1]])
    ours, statistics = outputs(build(**loaded.fields(), bn_mode="training"), loaded.variables, x, True)
    theirs = body.run(x, True)
    reached = max(distance(ours[name], theirs[name]) for name in theirs)
    moved = body.path.with_name("moved.keras")
    body.model.save(moved)
    after = weight_files.load(f"keras:{moved}").variables["batch_stats"]
    drift = max(jax.tree.leaves(jax.tree.map(distance, statistics, after)))
    before = min(jax.tree.leaves(jax.tree.map(distance, loaded.variables["batch_stats"], after)))
    print(f"Keras in training, width 0.5, (96, 65): outputs {reached:.1e}, running statistics {drift:.1e}")
    assert reached < TOLERANCE and drift < TOLERANCE < before


def test_the_shared_file_agrees_with_keras(keras: Any, shared_dir: pathlib.Path) -> None:
    path = shared_dir / "weights" / "mobilenetv2_1.00_160_keras.h5"
    body = keras.models.load_model(path, compile=False).get_layer("mobilenetv2_1.00_160")
    x = np.random.default_rng(0).uniform(-1, 1, (2, 160, 160, 3)).astype(np.float32)
    loaded = weight_files.load(f"keras:{path}")
    assert loaded.provenance["resolution"] == 160 and loaded.provenance["left_out"] == ["dense/bias", "dense/kernel"]
    theirs = _multi_output(keras, body)(x, False)
    ours, _ = outputs(build(**loaded.fields()), loaded.variables, x, False)
    reached = max(distance(ours[name], theirs[name]) for name in theirs)
    print(f"the shared file, 160 x 160: worst {reached:.1e}")
    assert reached < TOLERANCE


def state_dict(width: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A random state_dict in torchvision's names and shapes, written down from its source, with the classifier."""
    arrays: dict[str, np.ndarray] = {}

    def unit(conv: str, norm: str, filters: int, channels: int, kernel: int) -> None:
        shape = (filters, channels, kernel, kernel)
        arrays[f"{conv}.weight"] = rng.normal(0, np.sqrt(1 / np.prod(shape[1:])), shape)
        arrays[f"{norm}.weight"] = rng.uniform(0.5, 1.5, filters)
        arrays[f"{norm}.bias"] = rng.normal(0, 0.3, filters)
        arrays[f"{norm}.running_mean"] = rng.normal(0, 0.3, filters)
        arrays[f"{norm}.running_var"] = rng.uniform(0.2, 2, filters)
        arrays[f"{norm}.num_batches_tracked"] = np.array(7)

    plan = mobilenet_v2.plan(width, "torchvision")
    filters = plan.stem
    unit("features.0.0", "features.0.1", filters, 3, 3)
    for index, row in enumerate(plan.blocks, 1):
        at, hidden, place = f"features.{index}.conv", filters * row.expansion, 0
        if row.expansion > 1:
            unit(f"{at}.0.0", f"{at}.0.1", hidden, filters, 1)
            place = 1
        unit(f"{at}.{place}.0", f"{at}.{place}.1", hidden, 1, 3)
        unit(f"{at}.{place + 1}", f"{at}.{place + 2}", row.filters, hidden, 1)
        filters = row.filters
    last = plan.last
    unit("features.18.0", "features.18.1", last, filters, 1)
    arrays |= {"classifier.1.weight": rng.normal(0, 1, (10, last)), "classifier.1.bias": np.zeros(10)}
    return {k: v.astype(np.int64 if k.endswith("tracked") else np.float32) for k, v in arrays.items()}


def torchvision_forward(arrays: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """torchvision's forward pass to the last map, in its own layout: [B, 3, H, W] in [0, 1] -> [B, D, h, w]."""

    def unit(x: jax.Array, conv: str, norm: str, stride: int, activate: bool) -> jax.Array:
        kernel = arrays[f"{conv}.weight"]
        pad = kernel.shape[-1] // 2
        groups = kernel.shape[0] if kernel.shape[1] == 1 else 1
        x = lax.conv_general_dilated(x, kernel, (stride, stride), [(pad, pad)] * 2, feature_group_count=groups)
        values = [arrays[f"{norm}.{leaf}"].reshape(1, -1, 1, 1) for leaf in ("running_mean", "running_var", "weight", "bias")]
        mean, var, weight, bias = values
        x = (x - mean) / jnp.sqrt(var + 1e-5) * weight + bias
        return jnp.clip(x, 0, 6) if activate else x

    mean, std = (np.float32(value).reshape(1, 3, 1, 1) for value in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    x = unit((x - mean) / std, "features.0.0", "features.0.1", 2, True)
    strides = [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]
    for index, stride in enumerate(strides, 1):
        at, place, y = f"features.{index}.conv", 0, x
        if index > 1:
            y, place = unit(y, f"{at}.0.0", f"{at}.0.1", 1, True), 1
        y = unit(y, f"{at}.{place}.0", f"{at}.{place}.1", stride, True)
        y = unit(y, f"{at}.{place + 1}", f"{at}.{place + 2}", 1, False)
        x = x + y if x.shape == y.shape else y
    return unit(x, "features.18.0", "features.18.1", 1, True)


def write_safetensors(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> pathlib.Path:
    numpy_files.save_file(arrays, path, {"format": "pt"})
    return path


def test_torchvision_weights_give_its_forward_pass(tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    arrays = state_dict(0.56, rng)
    loaded = weight_files.load(f"torchvision:{write_safetensors(tmp_path / 'body.safetensors', arrays)}")
    assert loaded.width == 0.56 and len(loaded.provenance["left_out"]) == 52 + 2
    # torch's BatchNorm2d: eps 1e-5, and a momentum of 0.1 that is the share of the new.
    assert (loaded.padding, loaded.epsilon, loaded.momentum, loaded.input_range) == ("torchvision", 1e-5, 0.9, (0.0, 1.0))
    x = rng.uniform(0, 1, (2, 65, 96, 3)).astype(np.float32)
    body = {name: array for name, array in arrays.items() if array.dtype == np.float32}
    theirs = np.moveaxis(np.asarray(jax.jit(torchvision_forward)(body, np.moveaxis(x, 3, 1))), 1, 3)
    ours, _ = outputs(build(**loaded.fields()), loaded.variables, x, False)
    print(f"torchvision's layout, width 0.56, (65, 96): {distance(ours['map'], theirs):.1e}")
    assert distance(ours["map"], theirs) < TOLERANCE


def write_state_dict(path: pathlib.Path, framework: str, width: float) -> dict[str, tuple[int, ...]]:
    """Writes the drawn body of a library under the names that are read of it, and returns {name: shape} with the counters."""
    origin = weight_files.ORIGINS[framework]
    if framework == "torchvision":
        shapes = {name: array.shape for name, array in state_dict(width, np.random.default_rng(0)).items()}
    else:
        ours = pretrained.body_shapes(origin.model, width, origin.source.fields["padding"])
        axes = {4: (3, 2, 0, 1), 1: (0,)}
        shapes = {
            theirs: tuple(ours[name][axis] for axis in axes[len(ours[name])])
            for name, theirs in weight_files.their_names(origin).items()
        }
        norms = [name.removesuffix("running_var") for name in shapes if name.endswith("running_var")]
        shapes |= {f"{name}num_batches_tracked": () for name in norms}
    write_safetensors(path, {name: make_torch_golden.draw(name, shape) for name, shape in shapes.items()})
    return shapes


class TorchBody:
    """What a library gave for drawn images, and the same weights as we read them."""

    def __init__(self, folder: pathlib.Path, case: make_torch_golden.Case) -> None:
        self.case = case
        with np.load(case.path) as file:
            self.outputs = dict(file)
        path = folder / f"{case.library}_{case.width}.safetensors"
        shapes = write_state_dict(path, case.library, case.width)
        names = self.outputs.pop("names")
        assert make_torch_golden.digest(shapes.items()) == names, "the names written down here are not the library's"
        assert str(self.outputs.pop("versions")).startswith("torch ")
        self.loaded = weight_files.load(f"{case.library}:{path}")
        self.x = make_torch_golden.images(case.size)
        if self.loaded.input_range[0] < 0:
            self.x = self.x * 2 - 1

    def distances(self, variables: Any, **changes: Any) -> dict[str, float]:
        """{unit or block: how far ours is from theirs}, of our network with these weights and changed fields."""
        ours, _ = outputs(build(**{**self.loaded.fields(), **changes}), variables, self.x, False)
        ours.pop("pooled")
        assert ours.keys() == self.outputs.keys() and len(ours) == 1 + 2 + 17 + 50
        num_picked = self.case.num_picked
        picked = {name: make_torch_golden.picked(name, np.asarray(value), num_picked) for name, value in ours.items()}
        return {name: distance(picked[name], theirs) for name, theirs in self.outputs.items()}


@pytest.fixture(scope="module")
def torch_body(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return functools.cache(functools.partial(TorchBody, tmp_path_factory.mktemp("torch")))


@pytest.mark.parametrize("case", make_torch_golden.CASES, ids=lambda case: f"{case.library}-{case.width}")
def test_every_output_agrees_with_the_library_itself(torch_body: Any, case: make_torch_golden.Case) -> None:
    body = torch_body(case)
    reached = body.distances(body.loaded.variables)
    print(f"{case.library}, width {case.width}, {case.size}: worst {max(reached.values()):.1e}")
    assert body.loaded.width == case.width and max(reached.values()) < TOLERANCE


@pytest.mark.parametrize(
    ("place", "change"),
    [
        (0, {"epsilon": 1e-3}),
        (0, {"padding": "keras"}),
        (0, {"input_std": (0.2, 0.2, 0.2)}),
        (2, {"padding": "keras"}),
        (3, {"padding": "torchvision"}),
        (3, {"epsilon": 1e-5}),
    ],
)
def test_other_constants_do_not_agree_with_the_library(torch_body: Any, place: int, change: dict[str, Any]) -> None:
    body = torch_body(make_torch_golden.CASES[place])
    reached = body.distances(body.loaded.variables, **change)
    print(f"{body.case.library} against {change}: {reached['map']:.1e}")
    assert reached["map"] > 2 * TOLERANCE


def test_filters_in_another_order_do_not_agree_with_torchvision(torch_body: Any) -> None:
    body = torch_body(make_torch_golden.CASES[0])
    params = dict(body.loaded.variables["params"])
    params["last"] = {**params["last"], "kernel": params["last"]["kernel"][..., ::-1]}
    reached = body.distances({**body.loaded.variables, "params": params})
    assert reached["block_16"] < TOLERANCE and reached["map"] > 2 * TOLERANCE
