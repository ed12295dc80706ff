"""State dicts as people have them: wrapped, half as wide, beside an optimizer, under another head or of another network."""

import pathlib

import jax
import ml_dtypes
import numpy as np
import pytest

from poster_jax.models import pretrained, weight_files
from tests.helpers.made_weights import WIDTH, Payload, Tensor, load_as_torch, refusal, stand_in_for_torch, write_pth
from tests.models.test_mobilenet_v2_parity import state_dict, write_safetensors, write_state_dict


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return state_dict(WIDTH, np.random.default_rng(0))


@pytest.fixture(scope="module")
def body(arrays: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> pretrained.Pretrained:
    return weight_files.load(f"torchvision:{write_safetensors(tmp_path_factory.mktemp('torch') / 'body.safetensors', arrays)}")


def equal(loaded: pretrained.Pretrained, body: pretrained.Pretrained) -> bool:
    return loaded.fields() == body.fields() and jax.tree.all(jax.tree.map(np.array_equal, loaded.variables, body.variables))


PREFIXES = (
    "module.",
    "_orig_mod.",
    "model.",
    "backbone.",
    "module._orig_mod.",
    "_orig_mod.module.model.",
    "model.backbone.",
    "net.0.",
)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_words_before_every_name_are_taken_off(
    tmp_path: pathlib.Path, arrays: dict[str, np.ndarray], body: pretrained.Pretrained, prefix: str
) -> None:
    wrapped = {f"{prefix}{name}": array for name, array in arrays.items()}
    loaded = weight_files.load(f"torchvision:{write_safetensors(tmp_path / 'wrapped.safetensors', wrapped)}")
    assert equal(loaded, body) and f"{prefix}classifier.1.weight" in loaded.provenance["left_out"]


def test_the_bare_features_are_a_body(
    tmp_path: pathlib.Path, arrays: dict[str, np.ndarray], body: pretrained.Pretrained
) -> None:
    bare = {name.removeprefix("features."): array for name, array in arrays.items() if name.startswith("features.")}
    inner = {f"0.{name}": array for name, array in bare.items()} | {"3.weight": np.ones((5, 1280), np.float32)}
    for name, each in (("bare", bare), ("sequential", inner)):
        assert equal(weight_files.load(f"torchvision:{write_safetensors(tmp_path / f'{name}.safetensors', each)}"), body)
    bare["5.extra.weight"] = np.ones(7, np.float32)
    assert "1 extra (features.5.extra.weight)" in refusal(f"torchvision:{write_safetensors(tmp_path / 'x.safetensors', bare)}")


def test_a_replaced_head_is_left_out_and_what_could_change_the_picture_is_not(
    tmp_path: pathlib.Path, arrays: dict[str, np.ndarray], body: pretrained.Pretrained
) -> None:
    trunk = {name: array for name, array in arrays.items() if name.startswith("features.")}
    path = tmp_path / "head.safetensors"
    linear = {"classifier.weight": np.ones((3, 1280)), "classifier.bias": np.ones(3)}
    mlp = {
        "fc.0.weight": np.ones((64, 1280)),
        "fc.0.bias": np.ones(64),
        "fc.1.running_mean": np.ones(64),
        "fc.3.weight": np.ones((1, 64)),
    }
    for head in (linear, mlp):
        loaded = weight_files.load(f"torchvision:{write_safetensors(path, trunk | head)}")
        assert equal(loaded, body) and set(head) < set(loaded.provenance["left_out"])
    for extra in (
        {"normalize.mean": np.ones(3)},
        {"colors.weight": np.ones((8, 3))},
        {"neck.weight": np.ones((4, 1280, 1, 1))},
        {"features.19.weight": np.ones(1280)},
    ):
        assert f"1 extra ({next(iter(extra))})" in refusal(f"torchvision:{write_safetensors(path, trunk | extra)}")


def test_narrow_floats_are_read_exactly_and_integers_refused(tmp_path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    for dtype in (ml_dtypes.bfloat16, np.float16, np.float64):
        narrow = {name: array.astype(dtype) if array.ndim else array for name, array in arrays.items()}
        loaded = weight_files.load(f"torchvision:{write_safetensors(tmp_path / 'narrow.safetensors', narrow)}")
        stem = narrow["features.0.0.weight"].astype(np.float32).transpose(2, 3, 1, 0)
        np.testing.assert_array_equal(loaded.variables["params"]["stem"]["kernel"], stem)
    whole = {**arrays, "features.18.0.weight": np.ones((1280, 112, 1, 1), np.int8)}
    assert "features.18.0.weight as I8" in refusal(f"torchvision:{write_safetensors(tmp_path / 'q.safetensors', whole)}")


@pytest.mark.parametrize("framework", ["torchvision", "timm", "huggingface"])
def test_a_file_under_another_word_is_told_the_right_one(tmp_path: pathlib.Path, framework: str) -> None:
    path = tmp_path / "body.safetensors"
    write_state_dict(path, framework, WIDTH)
    assert weight_files.find_source(path) == framework
    loaded = weight_files.load(f"{framework}:{path}")
    assert loaded.width == WIDTH and loaded.provenance["framework"] == framework
    for other in {"torchvision", "timm", "huggingface", "keras", "poster_jax"} - {framework}:
        assert refusal(f"{other}:{path}").endswith(f"write {framework}:{path}.")


def test_two_bodies_and_names_twice_are_refused(tmp_path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    two = {f"{who}.{name}": array for who in ("student", "teacher") for name, array in arrays.items()}
    assert "2 bodies, under 'student.' and 'teacher.'" in refusal(
        f"torchvision:{write_safetensors(tmp_path / 'a.safetensors', two)}"
    )
    twice = arrays | {f"module.{name}": array for name, array in arrays.items()}
    assert "the same names twice" in refusal(f"torchvision:{write_safetensors(tmp_path / 'b.safetensors', twice)}")


@pytest.mark.parametrize(
    ("network", "name"),
    [
        ("ResNet", "layer1.0.conv1.weight"),
        ("ResNet", "module.layer1.0.conv1.weight"),
        ("MobileNetV3", "features.1.block.0.0.weight"),
        ("EfficientNet", "features.1.0.block.0.0.weight"),
        ("EfficientNet", "blocks.0.0.se.conv_reduce.weight"),
        ("MobileNetV1", "mobilenet_v1.conv_stem.convolution.weight"),
        ("a MobileNetV2 of timm with more blocks, as 110d or 120d", "blocks.1.2.conv_pwl.weight"),
        ("VGG or AlexNet", "features.0.weight"),
        ("a vision transformer", "patch_embed.proj.weight"),
        ("a language model", "model.embed_tokens.weight"),
    ],
)
@pytest.mark.parametrize("stem", ["features.0.0.weight", "conv_stem.weight", "other.weight"])
def test_another_network_is_named(tmp_path: pathlib.Path, network: str, name: str, stem: str) -> None:
    """Also where its first convolution has the name of one of ours."""
    few = {stem: np.ones((8, 3, 3, 3), np.float32), name: np.ones((8, 8), np.float32)}
    message = refusal(f"torchvision:{write_safetensors(tmp_path / 'other.safetensors', few)}")
    assert f"is of {network}: give weights of MobileNetV2 or " in message


def test_a_pth_file_is_read_as_arrays_and_code_in_it_is_not_run(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for torch, whose `load` runs what it is not forbidden to run; the real one is below."""
    stand_in_for_torch(monkeypatch)
    arrays = {name: array.view(Tensor) for name, array in state_dict(WIDTH, np.random.default_rng(0)).items()}
    good, armed, other = (tmp_path / f"{name}.pth" for name in ("good", "armed", "other"))
    write_pth(good, arrays)
    loaded = weight_files.load(f"torchvision:{good}")
    kernel = np.asarray(arrays["features.0.0.weight"])
    np.testing.assert_array_equal(loaded.variables["params"]["stem"]["kernel"], kernel.transpose(2, 3, 1, 0))
    write_pth(other, [*arrays.values()])
    assert "is not a state_dict" in refusal(f"torchvision:{other}")
    for key, beside in (
        ("state_dict", {"epoch": 3, "optimizer": {"state": {}}}),
        ("model", {"args": "x"}),
        ("model_state_dict", {}),
    ):
        checkpoint = {**beside, key: {f"model.{name}": array for name, array in arrays.items()}}
        again = weight_files.load(f"torchvision:{write_pth(other, checkpoint)}")
        assert jax.tree.all(jax.tree.map(np.array_equal, again.variables, loaded.variables))
    assert "is not a state_dict" in refusal(f"torchvision:{write_pth(other, {'epoch': 3, 'weights': [1.0]})}")
    write_pth(armed, {**arrays, "features.0.0.weight": Payload(tmp_path / "ran")})
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
