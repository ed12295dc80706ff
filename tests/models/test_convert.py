"""Weights files: what is read, what is refused in one sentence, and that nothing in them is ever run."""

import io
import json
import os
import pathlib
import pickle
import sys
import zipfile
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from flax import traverse_util

from poster_jax import errors
from poster_jax.models import body as body_lib
from poster_jax.models import convert, mobilenet_v2, pretrained, weight_files
from tests.models.test_mobilenet_v2_parity import state_dict

WIDTH = 0.35
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")


def keras_arrays(width: float = WIDTH) -> dict[str, np.ndarray]:
    """{"layer/leaf": array} of a random body in Keras's layout, in the order of the forward pass."""
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}

    def unit(conv: str, norm: str, shape: tuple[int, ...], filters: int) -> None:
        arrays[f"{conv}/kernel"] = rng.normal(0, 1, shape)
        for leaf in ("gamma", "beta", "moving_mean", "moving_variance"):
            arrays[f"{norm}/{leaf}"] = rng.uniform(0.5, 1.5, filters)

    plan = mobilenet_v2.plan(width, "keras")
    channels = plan.stem
    unit("Conv1", "bn_Conv1", (3, 3, 3, channels), channels)
    for index, row in enumerate(plan.blocks):
        prefix, hidden = f"block_{index}" if index else "expanded_conv", row.expansion * channels
        if index:
            unit(f"{prefix}_expand", f"{prefix}_expand_BN", (1, 1, channels, hidden), hidden)
        unit(f"{prefix}_depthwise", f"{prefix}_depthwise_BN", (3, 3, hidden, 1), hidden)
        unit(f"{prefix}_project", f"{prefix}_project_BN", (1, 1, hidden, row.filters), row.filters)
        channels = row.filters
    last = plan.last
    unit("Conv_1", "Conv_1_bn", (1, 1, channels, last), last)
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def write_h5(path: pathlib.Path, arrays: dict[str, np.ndarray], rename: Any = None) -> str:
    """A weights file as Keras 2 wrote it: a group per layer, layers in order, names with ":0"."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            layer, leaf = name.split("/")
            layer = rename(layer) if rename else layer
            leaf = "depthwise_kernel" if layer.endswith("depthwise") else leaf
            file[f"{layer}/{layer}/{leaf}:0"] = array
        layers = list(dict.fromkeys(name.split("/")[0] for name in arrays))
        file.attrs["layer_names"] = [
            (rename(layer) if rename else layer).encode() for layer in [*layers[:2], "input", *layers[2:]]
        ]
        file.create_group("input")
    return f"keras:{path}"


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> pretrained.Pretrained:
    return weight_files.load(write_h5(tmp_path_factory.mktemp("weights") / "body_kernels_0.35_128_no_top.h5", keras_arrays()))


def refusal(weights: str) -> str:
    with pytest.raises(errors.UserError) as caught:
        weight_files.load(weights)
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".")
    return message


def test_a_keras_2_weights_file_gives_every_array(body: pretrained.Pretrained) -> None:
    arrays = keras_arrays()
    params, statistics = body.variables["params"], body.variables["batch_stats"]
    np.testing.assert_array_equal(params["stem"]["kernel"], arrays["Conv1/kernel"])
    np.testing.assert_array_equal(
        params["block_3"]["depthwise"]["kernel"], arrays["block_3_depthwise/kernel"].transpose(0, 1, 3, 2)
    )
    np.testing.assert_array_equal(params["block_0"]["project"]["scale"], arrays["expanded_conv_project_BN/gamma"])
    np.testing.assert_array_equal(params["last"]["bias"], arrays["Conv_1_bn/beta"])
    np.testing.assert_array_equal(statistics["block_16"]["expand"]["var"], arrays["block_16_expand_BN/moving_variance"])
    total = sum(float(leaf.sum(dtype=np.float64)) for leaf in jax.tree.leaves(body.variables))
    np.testing.assert_allclose(total, sum(array.sum(dtype=np.float64) for array in arrays.values()), rtol=1e-9)
    assert body.fields() == {"width": WIDTH, **pretrained.FRAMEWORKS["keras"]}
    assert body.provenance["resolution"] == 128 and len(body.provenance["sha256"]) == 64


def test_layers_with_older_names_are_taken_in_their_order(tmp_path: pathlib.Path, body: pretrained.Pretrained) -> None:
    renamed = weight_files.load(write_h5(tmp_path / "old.h5", keras_arrays(), lambda layer: f"mobl_{layer}_1"))
    assert jax.tree.all(jax.tree.map(np.array_equal, renamed.variables, body.variables))


def test_a_head_is_left_out_and_named(tmp_path: pathlib.Path, body: pretrained.Pretrained) -> None:
    head = {"predictions/kernel": np.ones((1280, 1000), np.float32), "predictions/bias": np.ones(1000, np.float32)}
    loaded = weight_files.load(write_h5(tmp_path / "top.h5", {**keras_arrays(), **head}))
    assert loaded.provenance["left_out"] == ["predictions/bias", "predictions/kernel"]
    assert jax.tree.all(jax.tree.map(np.array_equal, loaded.variables, body.variables))
    assert "2 extra (predictions/bias, predictions/kernel)" in refusal(
        write_h5(tmp_path / "first.h5", {**head, **keras_arrays()})
    )


def test_every_array_is_accounted_for(tmp_path: pathlib.Path) -> None:
    arrays = keras_arrays()
    kernel = arrays.pop("block_5_project/kernel")
    arrays["block_4_expand_BN/gamma"] = np.ones(7, np.float32)
    wrong = {"Conv1/extra": np.ones(3, np.float32), **arrays, "convolution/kernel": np.ones((1, 1, 2, 2), np.float32)}
    message = refusal(write_h5(tmp_path / "wrong.h5", wrong))
    assert "of 260 arrays 1 missing (block_5_project/kernel)" in message
    assert "2 extra (Conv1/extra, convolution/kernel)" in message
    assert "1 misshaped (block_4_expand_BN/gamma (7,), not (96,))" in message
    arrays = {**keras_arrays(), "block_5_project/kernel": np.where(kernel == kernel.max(), np.nan, kernel)}
    assert "params/block_5/project/kernel that are not finite" in refusal(write_h5(tmp_path / "nan.h5", arrays))


def test_other_architectures_and_frameworks_are_refused(tmp_path: pathlib.Path) -> None:
    other = {f"conv_{i}/kernel": np.ones((3, 3, 2, 2), np.float32) for i in range(120)}
    assert "260 missing (Conv1/kernel" in refusal(write_h5(tmp_path / "vgg.h5", other))
    path = tmp_path / "body.h5"
    write_h5(path, keras_arrays())
    assert f"write keras:{path}" in refusal(f"torchvision:{path}")
    assert f"write keras:{path}" in refusal(f"poster_jax:{path}")
    assert "does not exist" in refusal(f"keras:{tmp_path}/none.h5")
    assert "is unknown" in refusal(str(path)) and "is unknown" in refusal("keras:") and "is unknown" in refusal("timm:x")
    (tmp_path / "text.safetensors").write_text("not weights at all, though long enough for a length")
    assert "cannot be read as one of torchvision" in refusal(f"torchvision:{tmp_path}/text.safetensors")
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "body.weights.h5", "w") as file:
        file["layers/conv2d/vars/0"] = np.ones(3)
    assert "save it by model.save(FILE.keras)" in refusal(f"keras:{tmp_path}/body.weights.h5")


def test_cut_files_are_refused(tmp_path: pathlib.Path, body: pretrained.Pretrained) -> None:
    write_h5(tmp_path / "whole.h5", keras_arrays())
    pretrained.save(tmp_path / "whole.npz", body)
    for name, framework in (("whole.h5", "keras"), ("whole.npz", "poster_jax")):
        content = (tmp_path / name).read_bytes()
        assert weight_files.load(f"{framework}:{tmp_path / name}").width == WIDTH
        for share in (0.0, 0.3, 0.7, 0.999):
            cut = tmp_path / f"cut_{name}"
            cut.write_bytes(content[: int(share * len(content))])
            refusal(f"{framework}:{cut}")
    flipped = bytearray((tmp_path / "whole.npz").read_bytes())
    flipped[len(flipped) // 2] ^= 1
    (tmp_path / "flipped.npz").write_bytes(flipped)
    assert "cannot be read" in refusal(f"poster_jax:{tmp_path}/flipped.npz")


def test_two_bodies_and_mixed_batch_norms_are_refused(tmp_path: pathlib.Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "two.h5"
    with h5py.File(path, "w") as file:
        for body in ("left", "right"):
            for name, array in keras_arrays().items():
                file[f"model_weights/{body}/{name}"] = array
        file["model_weights"].attrs["layer_names"] = ["left", "right"]
    assert "2 MobileNetV2 bodies" in refusal(f"keras:{path}")
    norms = [{"class_name": "BatchNormalization", "config": {"name": n, "epsilon": e, "momentum": 0.9}} for n, e in
             (("bn_Conv1", 1e-3), ("Conv_1_bn", 1e-5))]  # fmt: skip
    with h5py.File(path, "a") as file:
        del file["model_weights/right"]
        file["model_weights"].attrs["layer_names"] = ["left"]
        file.attrs["model_config"] = json.dumps({"config": {"layers": norms}})
    assert "BatchNorm layers of several kinds" in refusal(f"keras:{path}")
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = json.dumps({"config": {"layers": norms[:1] * 2}})
    loaded = weight_files.load(f"keras:{path}")
    assert (loaded.epsilon, loaded.momentum, loaded.provenance["resolution"]) == (1e-3, 0.9, None)
    with h5py.File(path, "a") as file:
        image = {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 192, 192, 3]}}
        file.attrs["model_config"] = json.dumps({"config": {"layers": [image]}})
    loaded = weight_files.load(f"keras:{path}")
    assert (loaded.epsilon, loaded.momentum, loaded.provenance["resolution"]) == (1e-3, 0.999, 192)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: pathlib.Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def test_no_pickle_is_ever_run(tmp_path: pathlib.Path, body: pretrained.Pretrained) -> None:
    marker = tmp_path / "ran"
    pretrained.save(tmp_path / "body.npz", body)
    with np.load(tmp_path / "body.npz") as file:
        arrays: dict[str, Any] = dict(file)
    arrays["params/stem/scale"] = np.array([Payload(marker)], object)
    np.savez(tmp_path / "armed.npz", **arrays)
    (tmp_path / "armed.pth").write_bytes(pickle.dumps(Payload(marker)))
    for weights in ("poster_jax:armed.npz", "torchvision:armed.pth", "keras:armed.pth", "poster_jax:armed.pth"):
        framework, name = weights.split(":")
        refusal(f"{framework}:{tmp_path / name}")
        assert not marker.exists()
    with np.load(tmp_path / "armed.npz", allow_pickle=True) as file:
        assert file["params/stem/scale"].shape == (1,)
    assert marker.exists(), "the payload is harmless, so the test shows nothing"


class Tensor(np.ndarray):
    """What a torch.Tensor has that the reader asks for."""

    def float(self) -> "Tensor":
        return self.astype(np.float32)

    def numpy(self) -> np.ndarray:
        return np.asarray(self)


def load_as_torch(path: pathlib.Path, *, map_location: str, weights_only: bool = False) -> Any:
    """torch.load: everything in a file is unpickled, or, with `weights_only`, nothing but tensors is."""

    class Arrays(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if module.split(".")[0] in ("numpy", __name__.split(".")[0]):
                return super().find_class(module, name)
            raise pickle.UnpicklingError(f"Weights only load failed: {module}.{name}")

    with open(path, "rb") as file:
        return (Arrays if weights_only else pickle.Unpickler)(file).load()


def test_a_pth_file_is_read_as_arrays_and_code_in_it_is_not_run(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for torch, whose `load` runs what it is not forbidden to run; the real one is below."""
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(load=load_as_torch, Tensor=Tensor))
    arrays = {name: array.view(Tensor) for name, array in state_dict(WIDTH, np.random.default_rng(0)).items()}
    good, armed, other = (tmp_path / f"{name}.pth" for name in ("good", "armed", "other"))
    good.write_bytes(pickle.dumps(arrays))
    loaded = weight_files.load(f"torchvision:{good}")
    kernel = np.asarray(arrays["features.0.0.weight"])
    np.testing.assert_array_equal(loaded.variables["params"]["stem"]["kernel"], kernel.transpose(2, 3, 1, 0))
    other.write_bytes(pickle.dumps([*arrays.values()]))
    assert "is not a state_dict" in refusal(f"torchvision:{other}")
    armed.write_bytes(pickle.dumps({**arrays, "features.0.0.weight": Payload(tmp_path / "ran")}))
    assert "could run code" in refusal(f"torchvision:{armed}")
    assert not (tmp_path / "ran").exists()
    load_as_torch(armed, map_location="cpu")
    assert (tmp_path / "ran").exists(), "the payload is harmless, so the test shows nothing"


def test_torch_itself_reads_the_arrays_of_a_pth_file_and_refuses_its_code(tmp_path: pathlib.Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is too large to install for every run of the tests")
    arrays = state_dict(WIDTH, np.random.default_rng(0))
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, tmp_path / "good.pth")
    loaded = weight_files.load(f"torchvision:{tmp_path / 'good.pth'}")
    kernel = arrays["features.0.0.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(loaded.variables["params"]["stem"]["kernel"], kernel)
    torch.save({"features.0.0.weight": Payload(tmp_path / "ran")}, tmp_path / "armed.pth")
    assert "could run code" in refusal(f"torchvision:{tmp_path / 'armed.pth'}")
    assert not (tmp_path / "ran").exists()


def test_no_lambda_layer_is_ever_run(tmp_path: pathlib.Path) -> None:
    """The same file, in Keras with its guard off, makes the folder."""
    keras = pytest.importorskip("keras")
    marker = tmp_path / "ran"
    inputs = keras.Input((32, 32, 3))
    base = keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(32, 32, 3), alpha=WIDTH)
    path = tmp_path / "armed.keras"
    # The names in a Lambda's code are looked up when it runs, so it imports what it needs itself.
    text = str(marker)
    armed = keras.layers.Lambda(lambda x: (__import__("os").makedirs(text, exist_ok=True), x)[1], output_shape=(32, 32, 3))
    keras.Model(inputs, base(armed(inputs))).save(path)
    marker.rmdir() if marker.exists() else None
    loaded = weight_files.load(f"keras:{path}")
    assert loaded.width == WIDTH and not marker.exists()
    keras.saving.load_model(path, safe_mode=False, compile=False)(np.zeros((1, 32, 32, 3), np.float32))
    assert marker.exists(), "the payload is harmless, so the test shows nothing"


def test_our_format_gives_back_everything(tmp_path: pathlib.Path, body: pretrained.Pretrained) -> None:
    head = {"kernel": np.ones((1280, 6), np.float32), "bias": np.arange(6, dtype=np.float32)}
    tuned = pretrained.Pretrained(
        body.model,
        {**body.variables, "params": {**body.variables["params"], "head": head}},
        **body.fields(),
        provenance=body.provenance,
    )
    for name, weights in (("body", body), ("tuned", tuned)):
        path = tmp_path / f"{name}.npz"
        pretrained.save(path, weights)
        again = weight_files.load(f"poster_jax:{path}")
        assert again.fields() == weights.fields() and again.provenance == weights.provenance
        assert jax.tree.structure(again.variables) == jax.tree.structure(weights.variables)
        assert jax.tree.all(jax.tree.map(np.array_equal, again.variables, weights.variables))
        pretrained.save(tmp_path / "twice.npz", again)
        assert (tmp_path / "twice.npz").read_bytes() == path.read_bytes()
        (tmp_path / "twice.npz").unlink()
    with pytest.raises(errors.UserError, match="exists already"):
        pretrained.save(path, body)
    assert weight_files.load(f"poster_jax:{path}").variables["params"].keys() == tuned.variables["params"].keys()


def test_the_command_writes_once_and_refuses_in_one_sentence(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "body.h5", tmp_path / "out.npz"
    write_h5(source, keras_arrays())
    assert convert.main([str(source), str(out)]) == 0
    written = out.read_bytes()
    loaded = weight_files.load(f"poster_jax:{out}")
    assert loaded.provenance["source"] == "body.h5" and loaded.provenance["framework"] == "keras"
    (tmp_path / "cut.h5").write_bytes(source.read_bytes()[:50_000])
    (tmp_path / "notes.txt").write_text("no weights")
    capsys.readouterr()
    before = sorted(tmp_path.iterdir())
    for argv, sentence in (
        ([str(source), str(out)], "exists already"),
        ([str(tmp_path / "cut.h5"), str(tmp_path / "new.npz")], "cut short"),
        ([str(tmp_path / "notes.txt"), str(tmp_path / "new.npz")], "of no kind known"),
        ([str(tmp_path / "none.h5"), str(tmp_path / "new.npz")], "cannot be read"),
        ([f"torchvision:{source}", str(tmp_path / "new.npz")], "write keras:"),
        ([str(source), str(tmp_path / "no" / "new.npz")], "cannot be written"),
        ([str(source)], "required"),
    ):
        assert convert.main(argv) == 2
        told = capsys.readouterr()
        assert sentence in told.err and told.err.count("\n") == 1 and not told.out
    assert sorted(tmp_path.iterdir()) == before and out.read_bytes() == written


def test_official_weights_come_through_keras_s_downloader(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keras = pytest.importorskip("keras")
    path = tmp_path / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_160_no_top.h5"
    write_h5(path, keras_arrays())
    asked: list[Any] = []

    def answer(name: str, url: str, **options: Any) -> str:
        asked.append((name, url, options))
        return str(path)

    monkeypatch.setattr(keras.utils, "get_file", answer)
    sha256 = "0123456789abcdef" * 4
    assert weight_files.load(f"keras:imagenet_0.35_160@{sha256}").provenance["resolution"] == 160
    assert weight_files.load("keras:imagenet").width == WIDTH
    base = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/"
    assert asked[0] == (path.name, base + path.name, {"cache_subdir": "models", "file_hash": sha256})
    assert asked[1][0] == "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"

    def fail(*_: Any, **__: Any) -> None:
        raise Exception("URL fetch failure on ...: None -- [Errno -2] Name or service not known\nmore")

    monkeypatch.setattr(keras.utils, "get_file", fail)
    assert "could not be fetched (URL fetch failure" in refusal("keras:imagenet")


def test_a_keras_archive_without_its_parts_is_refused(tmp_path: pathlib.Path) -> None:
    for names in (("config.json",), ("model.weights.h5",), ("config.json", "model.weights.h5")):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name in names:
                archive.writestr(name, "[1, {}]")
        (tmp_path / "part.keras").write_bytes(buffer.getvalue())
        assert "part.keras" in refusal(f"keras:{tmp_path / 'part.keras'}")


def test_flat_names_cover_the_network_once() -> None:
    fields = {**pretrained.FRAMEWORKS["keras"], "width": WIDTH, "pooling": "max", "dropout": 0.0, "bn_mode": "frozen"}
    shapes = traverse_util.flatten_dict(body_lib.shapes(mobilenet_v2.MobileNetV2(num_genres=6, **fields)), sep="/")
    body = {name for name in shapes if not name.startswith("params/head")}
    for framework in ("keras", "torchvision"):
        names = weight_files.their_names(weight_files.ORIGINS[framework])
        assert names.keys() == body and len(set(names.values())) == len(body) == 260
