"""Keras's files of every age: what is read, what is left out as a head, and what is refused in one sentence."""

import io
import json
import pathlib
import zipfile

import jax
import numpy as np
import pytest

from poster_jax.models import pretrained, weight_files
from tests.helpers.made_weights import WIDTH, keras_arrays, refusal, write_h5, write_weights_h5

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")


def equal(loaded: pretrained.Pretrained, body: pretrained.Pretrained) -> bool:
    return jax.tree.all(jax.tree.map(np.array_equal, loaded.variables, body.variables))


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> pretrained.Pretrained:
    return weight_files.load(write_h5(tmp_path_factory.mktemp("weights") / "body_kernels_0.35_128_no_top.h5", keras_arrays()))


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


def test_a_keras_archive_without_its_parts_is_refused(tmp_path: pathlib.Path) -> None:
    for names in (("config.json",), ("model.weights.h5",), ("config.json", "model.weights.h5")):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name in names:
                archive.writestr(name, "[1, {}]")
        (tmp_path / "part.keras").write_bytes(buffer.getvalue())
        assert "part.keras" in refusal(f"keras:{tmp_path / 'part.keras'}")


def test_a_keras_3_weights_file_is_read_by_the_names_it_keeps_or_by_position(
    tmp_path: pathlib.Path, body: pretrained.Pretrained
) -> None:
    """Alone, within another model under a head, and as versions before the attribute `name` wrote it."""
    for name, options in (
        ("alone", {}),
        ("inside", {"folder": "layers/functional/layers", "container": "mobilenetv2_0.35_160", "head": True}),
        ("subclassed", {"folder": "base/layers", "container": "mobilenetv2_0.35_160", "head": True}),
        ("nameless", {"named": False, "head": True}),
        ("keras_2_12", {"folder": "_layer_checkpoint_dependencies"}),
    ):
        loaded = weight_files.load(write_weights_h5(tmp_path / f"{name}.weights.h5", keras_arrays(), **options))
        assert equal(loaded, body), name
        assert loaded.provenance["left_out"] == (["dense/bias", "dense/kernel"] if options.get("head") else [])
        assert loaded.provenance["resolution"] == (160 if "container" in options else None)


def test_layers_of_unknown_place_that_could_change_the_picture_are_refused(tmp_path: pathlib.Path) -> None:
    """A weights file does not say what comes first: vectors of three numbers may be a Normalization before the body."""
    for name, arrays in {
        "normalization": {"0": np.ones(3), "1": np.ones(3), "2": np.array(0)},
        "dense": {"0": np.ones((3, 3)), "1": np.ones(3)},
        "conv2d_99": {"0": np.ones((3, 3, 1280, 4))},
    }.items():
        weights = write_weights_h5(tmp_path / f"{name}.weights.h5", keras_arrays(), extra={f"layers/{name}": arrays})
        assert f"{len(arrays)} extra ({name}/" in refusal(weights)
    head = {"layers/dense": {"0": np.ones((1280, 3)), "1": np.ones(3)}}
    loaded = weight_files.load(write_weights_h5(tmp_path / "three.weights.h5", keras_arrays(), extra=head))
    assert loaded.provenance["left_out"] == ["dense/bias", "dense/kernel"]


def test_bfloat16_is_read_with_and_without_its_attribute(tmp_path: pathlib.Path) -> None:
    import ml_dtypes

    halves = {name: array.astype(ml_dtypes.bfloat16) for name, array in keras_arrays().items()}
    for weights in (
        write_weights_h5(tmp_path / "half.weights.h5", halves),
        write_h5(tmp_path / "half.h5", halves),
    ):
        loaded = weight_files.load(weights)
        stem = loaded.variables["params"]["stem"]["kernel"]
        assert stem.dtype == np.float32
        np.testing.assert_array_equal(stem, halves["Conv1/kernel"].astype(np.float32))
    whole = {**keras_arrays(), "Conv_1/kernel": np.ones((1, 1, 112, 1280), np.int8)}
    assert "Conv_1/kernel as int8, not as floating point" in refusal(write_h5(tmp_path / "int8.h5", whole))


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_what_keras_itself_writes_in_a_model_with_dropout_and_an_optimizer_is_read(tmp_path: pathlib.Path, suffix: str) -> None:
    """Dropout and augmentation keep random seeds among the layers, Adam its moments beside them."""
    keras = pytest.importorskip("keras")
    base = keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(32, 32, 3), alpha=WIDTH)
    layers = [keras.layers.RandomFlip(), base, keras.layers.Dropout(0.5), keras.layers.GlobalMaxPooling2D()]
    model = keras.Sequential(
        [keras.Input((32, 32, 3)), *layers, keras.layers.BatchNormalization(name="norm"), keras.layers.Dense(2, name="dense")]
    )
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    path = tmp_path / f"model{suffix}"
    (model.save if suffix == ".keras" else model.save_weights)(path)
    loaded = weight_files.load(f"keras:{path}")
    left = ["dense/bias", "dense/kernel", *(f"norm/{leaf}" for leaf in ("beta", "gamma", "moving_mean", "moving_variance"))]
    assert loaded.provenance["left_out"] == left
    kernel = np.asarray(base.get_layer("block_3_project").kernel)
    np.testing.assert_array_equal(loaded.variables["params"]["block_3"]["project"]["kernel"], kernel)


@pytest.mark.parametrize("kind", ["external", "soft"])
@pytest.mark.parametrize("age", ["legacy", "keras_3"])
def test_no_link_is_followed_though_it_leads_to_the_right_array(tmp_path: pathlib.Path, kind: str, age: str) -> None:
    """A link can lead to any file of the machine, or to a place that is not what its name says."""
    h5py = pytest.importorskip("h5py")
    path, arrays = tmp_path / "linked.weights.h5", keras_arrays()
    weights = (write_weights_h5 if age == "keras_3" else write_h5)(path, arrays)
    place = "layers/conv2d/vars/0" if age == "keras_3" else "Conv1/Conv1/kernel:0"
    with h5py.File(tmp_path / "elsewhere.h5", "w") as file:
        file["kernel"] = arrays["Conv1/kernel"]
    with h5py.File(path, "a") as file:
        if kind == "soft":
            file.move(place, "optimizer/moved")
        else:
            del file[place]
        file[place] = h5py.ExternalLink("elsewhere.h5", "/kernel") if kind == "external" else h5py.SoftLink("/optimizer/moved")
        np.testing.assert_array_equal(file[place][()], arrays["Conv1/kernel"])
    assert f"has a link at {place} in place of an array" in refusal(weights)
