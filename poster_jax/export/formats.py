"""A network as TFLite and as ONNX, for phones and runtimes without jax, held against the checkpoint; and its weights alone.

Both converters read a trace without our CPU forms (`dispatch.portable`), in float32. TFLite takes one poster a call, because a
batch of any size does not pass from jax to this TensorFlow. ONNX takes any number.
"""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from poster_jax import errors, predict
from poster_jax.ops import dispatch

# File names in a bundle.
FILES = {"tflite": "program.tflite", "onnx": "program.onnx"}
WEIGHTS = "weights.safetensors"
ONNX_OPSET = 21


class ConversionError(Exception):
    """A converter that failed on a network: one sentence without its full stop."""


def require(kind: str, precision: str) -> None:
    """Raises UserError where what makes or runs `kind` is not installed, and for bfloat16, which neither format has."""
    if precision != "float32":
        raise errors.UserError(f"a network of config.train.precision={precision!r} has no form in {kind}: leave --{kind} out.")
    GUESTS[kind]()


def build(kind: str, network: predict.Predictor) -> bytes:
    """The network as `kind` of FILES: uint8 [B, H, W, 3] -> float32 [B, K] in [0, 1], B = 1 for TFLite.

    Raises ConversionError where the converter cannot do this network with this jax.
    """
    try:
        return BUILDERS[kind](_posters_to_genres(network), network.image_size)
    except Exception as error:  # the converters raise anything
        told = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ConversionError(f"{FILES[kind]} could not be made ({told})") from error


def run(kind: str, program: bytes, image: np.ndarray) -> np.ndarray:
    """Scores float32 [B, K] of posters uint8 [B, H, W, 3] by the format's own runtime; raises UserError without one."""
    return RUNNERS[kind](program, image)


def build_weights(network: predict.Predictor) -> bytes:
    """The weights as safetensors, {"params/Conv_0/kernel": array} of the checkpoint's names, shapes and dtypes.

    Equal weights give equal bytes. Raises UserError without the package, and RuntimeError where what is read back differs.
    """
    with _installed("safetensors"):
        from safetensors import numpy as safetensors
    flat = traverse_util.flatten_dict(network.variables, sep="/")
    # The package writes the memory of an array, whatever its order.
    arrays = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in sorted(flat.items())}
    content = safetensors.save(arrays, {"format": "poster_jax weights 1"})
    read = safetensors.load(content)
    if read.keys() != arrays.keys() or any(read[name].tobytes() != array.tobytes() for name, array in arrays.items()):
        raise RuntimeError(f"{WEIGHTS} does not hold the weights of the checkpoint")
    return content


def _posters_to_genres(network: predict.Predictor) -> Callable[[jax.Array], jax.Array]:
    weights = jax.tree.map(np.asarray, network.variables)
    # The function without its jit, whose cached trace may contain CPU forms.
    score = network.score.__wrapped__

    def posters_to_genres(image: jax.Array) -> jax.Array:
        with dispatch.portable():
            return score(weights, image)

    return posters_to_genres


@contextlib.contextmanager
def _installed(kind: str) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the guests' own
            yield
    except ImportError as error:
        raise errors.UserError(f"--{kind} needs {error.name}: {INSTALL[kind]}.") from error


def _tflite_guests() -> tuple[Any, Any, Any]:
    """What makes TFLite (two modules) and what runs it."""
    with _installed("tflite"):
        import tensorflow
        from ai_edge_litert import interpreter
        from jax.experimental import jax2tf
    return tensorflow, jax2tf, interpreter


def _onnx_guests() -> tuple[Any, Any]:
    """What makes ONNX and what runs it."""
    with _installed("onnx"):
        import jax2onnx
        import onnxruntime
    return jax2onnx, onnxruntime


INSTALL = {
    "safetensors": "pip install safetensors",
    "tflite": "pip install 'poster_jax[tflite]'",
    "onnx": "pip install 'poster_jax[onnx]', then pip install --no-deps jax2onnx==0.17.1, which asks for an older orbax",
}


def _build_tflite(function: Callable[[Any], Any], image_size: tuple[int, int]) -> bytes:
    tf, jax2tf, _ = _tflite_guests()
    signature = [tf.TensorSpec((1, *image_size, 3), tf.uint8)]
    converted = tf.function(jax2tf.convert(function, with_gradient=False), input_signature=signature, autograph=False)
    concrete = converted.get_concrete_function()
    return tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert()


def _build_onnx(function: Callable[[Any], Any], image_size: tuple[int, int]) -> bytes:
    jax2onnx, _ = _onnx_guests()
    image = jax.ShapeDtypeStruct(("B", *image_size, 3), np.uint8)
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # it warns of every constant's shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its layouts
        model = jax2onnx.to_onnx(function, [image], opset=ONNX_OPSET)
    return model.SerializeToString()


def _run_tflite(program: bytes, image: np.ndarray) -> np.ndarray:
    _, _, interpreter = _tflite_guests()
    runtime = interpreter.Interpreter(model_content=program)
    runtime.allocate_tensors()
    [given], [found] = runtime.get_input_details(), runtime.get_output_details()
    rows = []
    for poster in image:
        runtime.set_tensor(given["index"], poster[None])
        runtime.invoke()
        rows.append(runtime.get_tensor(found["index"])[0].copy())
    return np.stack(rows)


def _run_onnx(program: bytes, image: np.ndarray) -> np.ndarray:
    _, onnxruntime = _onnx_guests()
    session = onnxruntime.InferenceSession(program, providers=["CPUExecutionProvider"])
    [given] = session.get_inputs()
    return session.run(None, {given.name: image})[0]


GUESTS = {"tflite": _tflite_guests, "onnx": _onnx_guests}
BUILDERS = {"tflite": _build_tflite, "onnx": _build_onnx}
RUNNERS = {"tflite": _run_tflite, "onnx": _run_onnx}
