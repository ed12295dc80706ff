"""What a file is, by its first bytes, the names in its archive and the names of its arrays, so that a refusal names it.

Only what no reader here takes is listed; the first line of a table that fits counts.
"""

import pathlib
import re
import stat
import zipfile
from collections.abc import Iterable

from poster_jax import errors
from poster_jax.models.files import torch_files

START_BYTES = 4096
LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch.serialization.MAGIC_NUMBER, pickled by protocol 2
WANTED = "give a .h5 or .keras of Keras, or a state_dict of torch as .safetensors or .pth"
# (pattern at the start of a file, what it is, the way out)
STARTS = (
    (rb"version https://git-lfs", "a Git LFS pointer, which only names the weights", "run git lfs pull, or download the file"),
    (rb"\s*(?i:<!doctype html|<html|<head)", "a web page", "download the file that the page leads to"),
    (rb"\s*<\?xml", "XML", WANTED),
    (rb"\x93NUMPY", "a single numpy array", WANTED),
    (rb".{4}TFL3", "a TFLite model", "give the Keras model that it was converted from"),
    (rb"GGUF|GGML", "a GGUF file of llama.cpp", WANTED),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf|Rar!", "a packed file", "unpack it and give the file in it"),
    (rb".{257}ustar", "a tar archive", "unpack it and give the file in it"),
    (rb"\xff\xd8\xff|\x89PNG|GIF8|RIFF|BM.{4}\0{4}", "a picture", WANTED),
    (rb"%PDF", "a PDF", WANTED),
    (rb"\x80[\x02-\x05]", "a Python pickle, which can run code", "save model.state_dict() by torch.save or as .safetensors"),
    (rb"\x08\x01\x12", "a SavedModel of TensorFlow", "load it in Keras and save it by model.save(FILE.keras)"),
    (rb"\x08[\x03-\x20](\x12|\x1a|:|B)", "an ONNX model", "give the model that it was exported from"),
    (rb"\s*[\[{]", "JSON", "give the file with the arrays, not the one that describes them"),
)
SUFFIXES = {
    ".onnx": ("an ONNX model", "give the model that it was exported from"),
    ".tflite": ("a TFLite model", "give the Keras model that it was converted from"),
    ".pb": ("a graph of TensorFlow", "load it in Keras and save it by model.save(FILE.keras)"),
    ".index": ("a checkpoint of TensorFlow", "load it in Keras and save it by model.save_weights(FILE.weights.h5)"),
    ".meta": ("a checkpoint of TensorFlow", "load it in Keras and save it by model.save_weights(FILE.weights.h5)"),
    ".msgpack": ("a msgpack file of Flax", WANTED),
    ".pkl": ("a Python pickle, which can run code", "save model.state_dict() by torch.save or as .safetensors"),
    ".mlmodel": ("a Core ML model", "give the model that it was converted from"),
    ".caffemodel": ("a model of Caffe", WANTED),
}
TENSORFLOW_SHARD = re.compile(r"\.data-\d{5}-of-\d{5}$")
# (a name in a zip archive, what it is, the way out)
MEMBERS = (
    (r"(^|/)saved_model\.pb$", "a SavedModel of TensorFlow", "load it in Keras and save it by model.save(FILE.keras)"),
    (r"^[^/]+/code/", "a TorchScript program", "save model.state_dict() of the model that it was made from"),
    (r"\.npy$", "an .npz of numpy arrays without the settings of a network", WANTED),
    (r"(^|/)word/|(^|/)xl/", "a document", WANTED),
)
# (network, names of arrays that our bodies do not have), the particular before the general.
NETWORKS = (
    ("a MobileNetV2 of timm with more blocks, as 110d or 120d", r"^blocks\.1\.2\.conv_pwl"),
    ("ConvNeXt", r"^features\.1\.0\.layer_scale|^(downsample_layers|stages)\.\d|(^|/)convnext_"),
    ("a Swin transformer", r"^features\.1\.0\.attn\.|^swin\.|^layers\.0\.blocks\.0\.attn"),
    ("MobileNetV3", r"^features\.1\.block\.0\.0\.|^conv_head\.bias$|(^|/)expanded_conv_(\d+_|squeeze_excite)"),
    (
        "EfficientNet",
        r"^_blocks\.\d+\._se_|^features\.1\.0\.block\.0\.0\.|(^|/)block1a_dwconv|^blocks\.\d+\.\d+\.se\.",
    ),
    ("EfficientNet-Lite under the names of timm, which are not known here", r"^blocks\.5\.3\.conv_pwl"),
    ("MobileNetV1", r"^mobilenet_v1\.|(^|/)conv_(pw|dw)_1/|^blocks\.3\.[45]\.conv_pw\."),
    ("ResNet", r"^(resnet\.)?layer1\.0\.conv1\.|(^|/)conv2_block1_1_conv|^resnet\.embedder|(^|/)res2a_branch2a"),
    ("DenseNet", r"^features\.denseblock1|(^|/)conv2_block1_0_bn"),
    ("Xception", r"(^|/)block[12]_sepconv1"),
    ("SqueezeNet", r"^features\.3\.squeeze\."),
    ("VGG or AlexNet", r"^features\.[03]\.weight$|(^|/)block1_conv1/"),
    ("Inception", r"Mixed_5b|^inception3a|(^|/)mixed0"),
    ("ShuffleNet", r"^stage2\.0\.branch1"),
    ("RegNet", r"^trunk_output\.block1"),
    ("MNASNet", r"^layers\.8\.0\.layers\."),
    ("NASNet", r"(^|/)stem_conv1/"),
    ("a vision transformer", r"^(patch_embed|conv_proj|vit|visual)\.|encoder_layer_0\."),
    ("a language model", r"(^|\.)(word_embeddings|wte|embed_tokens)\."),
)


def framework_of(path: pathlib.Path) -> str:
    """ "keras", "torch" or "poster_jax"; raises UserError, which says what the file is, for any other.

    OSError where it cannot be opened and BadZipFile for a damaged archive pass through.
    """
    _check_is_file(path)
    with open(path, "rb") as file:
        start = file.read(START_BYTES)
    size = path.stat().st_size
    if not size:
        raise errors.UserError(f"the weights file {path} is empty: fetch it again.")
    if start[:8] == b"\x89HDF\r\n\x1a\n":
        return "keras"
    if start[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        marks = {"model.weights.h5": "keras", "provenance.npy": "poster_jax"}
        known = next((framework for mark, framework in marks.items() if mark in names), "")
        what = _first(MEMBERS, "\n".join(names)) if not known else None
        if known or what is None and any(name.rpartition("/")[2] == "data.pkl" for name in names):
            return known or "torch"
        raise _refusal(path, what or ("a zip archive without weights that are known here", WANTED))
    if start.startswith(LEGACY_TORCH) or torch_files.is_safetensors(start, size):
        return "torch"
    raise _refusal(path, _describe(path, start))


def _check_is_file(path: pathlib.Path) -> None:
    """Raises UserError for what is no regular file; a folder is named as what its files say."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise errors.UserError(f"the weights file {path} does not exist: give the path of one.") from error
    except OSError as error:
        raise errors.UserError(
            f"the weights file {path} cannot be opened ({error.strerror}): give the path of another."
        ) from error
    if stat.S_ISREG(mode):
        return
    if not stat.S_ISDIR(mode):
        raise errors.UserError(f"{path} is no regular file: give the path of a file of weights.")
    inside = {entry.name for entry in path.iterdir()}
    kinds = {
        "saved_model.pb": "a SavedModel of TensorFlow",
        "checkpoint": "a checkpoint of TensorFlow",
        "_METADATA": "a checkpoint of orbax",
    }
    what = next((kind for name, kind in kinds.items() if name in inside), "a folder")
    weights = sorted(name for name in inside if name.endswith((".safetensors", ".h5", ".keras", ".pth", ".bin")))
    raise errors.UserError(f"{path} is {what}: give a file of weights" + (f", as {path / weights[0]}." if weights else "."))


def _describe(path: pathlib.Path, start: bytes) -> tuple[str, str]:
    """(what a file is, the way out)."""
    for pattern, *rest in STARTS:
        if re.match(pattern, start, re.DOTALL):
            return rest[0], rest[1]
    if TENSORFLOW_SHARD.search(path.name):
        return SUFFIXES[".index"]
    is_text = not re.search(rb"[^\t\n\r\x20-\x7e\x80-\xff]", start)
    return SUFFIXES.get(path.suffix.lower()) or ("text" if is_text else "of no kind that is known here", WANTED)


def _first(table: Iterable[tuple[str, str, str]], text: str) -> tuple[str, str] | None:
    return next(((what, way) for pattern, what, way in table if re.search(pattern, text, re.MULTILINE)), None)


def _refusal(path: pathlib.Path, described: tuple[str, str]) -> errors.UserError:
    what, way = described
    return errors.UserError(f"the weights file {path} is {what}: {way}.")


def network_of(names: Iterable[str]) -> str:
    """The network that arrays of these names are known to be of; "" for none."""
    text = "\n".join(torch_files.WRAPPERS.sub("", name) for name in names)
    return next((network for network, pattern in NETWORKS if re.search(pattern, text, re.MULTILINE)), "")
