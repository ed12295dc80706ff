"""Our own format and the command that writes it: what is read, what is refused in one sentence, and that no pickle is run."""

import pathlib
import pickle
from typing import Any

import jax
import numpy as np
import pytest
from flax import traverse_util

from poster_jax import errors
from poster_jax.models import body as body_lib
from poster_jax.models import convert, mobilenet_v2, pretrained, weight_files
from tests.helpers.made_weights import WIDTH, Payload, keras_arrays, refusal, write_h5


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> pretrained.Pretrained:
    return weight_files.load(write_h5(tmp_path_factory.mktemp("weights") / "body_kernels_0.35_128_no_top.h5", keras_arrays()))


def test_other_architectures_and_frameworks_are_refused(tmp_path: pathlib.Path) -> None:
    other = {f"conv_{i}/kernel": np.ones((3, 3, 2, 2), np.float32) for i in range(120)}
    assert "260 missing (Conv1/kernel" in refusal(write_h5(tmp_path / "vgg.h5", other))
    path = tmp_path / "body.h5"
    write_h5(path, keras_arrays())
    assert f"write keras:{path}" in refusal(f"torchvision:{path}")
    assert f"write keras:{path}" in refusal(f"poster_jax:{path}")
    assert "does not exist" in refusal(f"keras:{tmp_path}/none.h5")
    assert "is unknown" in refusal(str(path)) and "is unknown" in refusal("keras:") and "is unknown" in refusal("tensorflow:x")


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
        ([str(tmp_path / "notes.txt"), str(tmp_path / "new.npz")], "is text: give"),
        ([str(tmp_path / "none.h5"), str(tmp_path / "new.npz")], "does not exist"),
        ([f"torchvision:{source}", str(tmp_path / "new.npz")], "write keras:"),
        ([str(source), str(tmp_path / "no" / "new.npz")], "cannot be written"),
        ([str(source)], "required"),
    ):
        assert convert.main(argv) == 2
        told = capsys.readouterr()
        assert sentence in told.err and told.err.count("\n") == 1 and not told.out
    assert sorted(tmp_path.iterdir()) == before and out.read_bytes() == written


def test_flat_names_cover_the_network_once() -> None:
    fields = {**pretrained.FRAMEWORKS["keras"], "width": WIDTH, "pooling": "max", "dropout": 0.0, "bn_mode": "frozen"}
    shapes = traverse_util.flatten_dict(body_lib.shapes(mobilenet_v2.MobileNetV2(num_genres=6, **fields)), sep="/")
    body = {name for name in shapes if not name.startswith("params/head")}
    for framework in ("keras", "torchvision", "timm", "huggingface"):
        names = weight_files.their_names(weight_files.ORIGINS[framework])
        assert names.keys() == body and len(set(names.values())) == len(body) == 260
