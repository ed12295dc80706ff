"""Our networks in other frameworks, to be timed beside ours: Table 6 in Keras and PyTorch, the bodies in one of them each.

Each peer is built and compiled as its users would. It runs on one fixed batch that is already on the device, so that only the
step is timed.
"""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from poster_jax import errors

LEARNING_RATE = 1e-4  # Adam's, in the paper's section on Table 6
CONV_PARAMETERS = 896 + 18_496 + 73_856 + 73_792  # 3x3 kernels and biases: 3 -> 32 -> 64 -> 128 -> 64 channels
MOBILENET_PARAMETERS = 2_257_984  # MobileNetV2 without its head, batch statistics included: the movie paper's Figure 5
MOBILENET_FEATURES = 1280  # EfficientNet-Lite0 has as many
EFFICIENTNET_PARAMETERS = 3_371_008  # EfficientNet-Lite0 without its head and without batch statistics

# Keras and torch are optional and imported when a benchmark runs, so their types are not available to a type checker.
KerasModel: TypeAlias = Any
TorchModule: TypeAlias = Any
TorchTensor: TypeAlias = Any


@dataclasses.dataclass(frozen=True)
class Peer:
    """A network on a fixed batch. `run_train` does one step and returns the loss, `run_forward` returns the scores [B, K]."""

    name: str
    num_parameters: int
    run_train: Callable[[], float]
    run_forward: Callable[[], np.ndarray]


def flat_features(image_size: tuple[int, int]) -> int:
    """Number of inputs of the first dense layer: 47,872 for posters of 150x101."""
    height, width = (((side - 4) // 2 - 4) // 2 for side in image_size)
    return 64 * height * width


def checked(peer: Peer, expected: int) -> Peer:
    """Returns the peer after a check that it has as many parameters as our network."""
    assert peer.num_parameters == expected, f"{peer.name} has {peer.num_parameters} parameters, not {expected}"
    return peer


def cnn_parameters(num_genres: int, image_size: tuple[int, int]) -> int:
    """Number of parameters of Table 6's network: 6,295,558 for six genres and posters of 150x101."""
    return CONV_PARAMETERS + (flat_features(image_size) + 1) * 128 + 129 * num_genres


def fixed_batch(num_genres: int, image_size: tuple[int, int], batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """A random batch of seed 0: images [B, H, W, 3] uint8 and multi-hot labels [B, K] float32."""
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (batch_size, *image_size, 3), dtype=np.uint8)
    return image, generator.integers(0, 2, (batch_size, num_genres)).astype(np.float32)


def keras_on_tensorflow() -> Any:
    """The module `keras`, with TensorFlow's oneDNN kernels unless TF_ENABLE_ONEDNN_OPTS says otherwise.

    By default TensorFlow uses them only on CPUs with instructions for neural networks (AVX-512 VNNI and later). On other CPUs
    they are two to three times as fast as the default, and a peer should run at its best. TensorFlow reads the variable when it
    is imported, so call this before anything that imports it, for example reading posters.

    Raises `errors.UserError` when Keras or TensorFlow is missing, or Keras runs on another backend.
    """
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    try:
        import keras
        import tensorflow  # noqa: F401
    except ImportError as error:
        raise errors.UserError("Keras on TensorFlow is not installed: pip install tensorflow-cpu keras") from error
    if keras.backend.backend() != "tensorflow":
        raise errors.UserError("Keras runs on another backend than TensorFlow: set KERAS_BACKEND=tensorflow")
    return keras


def keras_peer(model: KerasModel, batch: tuple[np.ndarray, np.ndarray], expected: int) -> Peer:
    """A peer from a Keras model with Adam and binary cross-entropy; as in `fit`, each step is one `tf.function`."""
    import keras
    import tensorflow as tf

    model.compile(keras.optimizers.Adam(LEARNING_RATE), "binary_crossentropy")
    model.train_on_batch(*batch)  # builds the optimizer's and the metrics' variables
    image, label = (tf.constant(array) for array in batch)
    train_step = tf.function(model.train_step, jit_compile=model.jit_compile)
    forward = tf.function(lambda x: model(x, training=False), jit_compile=model.jit_compile)
    peer = Peer(
        "keras-tensorflow",
        model.count_params(),
        lambda: float(train_step((image, label))["loss"]),
        lambda: forward(image).numpy(),
    )
    return checked(peer, expected)


def keras_cnn(num_genres: int = 6, image_size: tuple[int, int] = (150, 101), batch_size: int = 32) -> Peer:
    """Table 6 in Keras on TensorFlow; raises as `keras_on_tensorflow` does."""
    keras = keras_on_tensorflow()
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((*image_size, 3), dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(128, 3, activation="relu"),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(num_genres, activation="sigmoid"),
        ]
    )
    return keras_peer(model, fixed_batch(num_genres, image_size, batch_size), cnn_parameters(num_genres, image_size))


def keras_mobilenet(num_genres: int = 6, image_size: tuple[int, int] = (128, 128), batch_size: int = 32) -> Peer:
    """Keras's own MobileNetV2 with global max pooling; all weights train and BatchNorm uses the batch, as `fit` does.

    Raises what `keras_on_tensorflow` does.
    """
    keras = keras_on_tensorflow()
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((*image_size, 3), dtype="uint8"),
            layers.Rescaling(1 / 127.5, offset=-1),
            keras.applications.MobileNetV2(input_shape=(*image_size, 3), alpha=1.0, include_top=False, weights=None),
            layers.GlobalMaxPooling2D(),
            layers.Dense(num_genres, activation="sigmoid"),
        ]
    )
    expected = MOBILENET_PARAMETERS + (MOBILENET_FEATURES + 1) * num_genres
    return keras_peer(model, fixed_batch(num_genres, image_size, batch_size), expected)


def torch_peer(
    model: TorchModule,
    batch: tuple[np.ndarray, np.ndarray],
    normalise: Callable[[TorchTensor], TorchTensor],
    expected: int,
    channels_last: bool,
) -> Peer:
    """A peer from an eager PyTorch module that gives logits, with Adam and binary cross-entropy; `normalise` maps 0..255."""
    import torch

    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    model = model.to(memory_format=memory_format)
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    loss_of = torch.nn.BCEWithLogitsLoss()
    image, label = batch
    x, y = torch.from_numpy(image.transpose(0, 3, 1, 2).copy()), torch.from_numpy(label)

    def scaled() -> TorchTensor:
        return normalise(x.float()).contiguous(memory_format=memory_format)

    def run_train() -> float:
        model.train()
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(model(scaled()), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    def run_forward() -> np.ndarray:
        model.eval()
        with torch.inference_mode():
            return torch.sigmoid(model(scaled())).numpy()

    name = "pytorch-channels-last" if channels_last else "pytorch"
    return checked(Peer(name, sum(p.numel() for p in model.parameters()), run_train, run_forward), expected)


def torch_cnn(
    num_genres: int = 6,
    image_size: tuple[int, int] = (150, 101),
    batch_size: int = 32,
    channels_last: bool = True,
) -> Peer:
    """Table 6 in eager PyTorch; to find the faster memory format, build both and time them.

    Raises `errors.UserError` when torch is missing.
    """
    try:
        import torch
    except ImportError as error:
        raise errors.UserError("PyTorch is not installed: pip install torch") from error
    nn = torch.nn
    model = nn.Sequential(
        *(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 128, 3), nn.ReLU(), nn.Conv2d(128, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Dropout(0.25), nn.Flatten(), nn.Linear(flat_features(image_size), 128), nn.ReLU()),
        *(nn.Dropout(0.5), nn.Linear(128, num_genres)),
    )
    batch = fixed_batch(num_genres, image_size, batch_size)
    return torch_peer(model, batch, lambda x: x / 255, cnn_parameters(num_genres, image_size), channels_last)


def torch_efficientnet(
    num_genres: int = 6,
    image_size: tuple[int, int] = (256, 176),
    batch_size: int = 32,
    channels_last: bool = True,
) -> Peer:
    """EfficientNet-Lite0 of `efficientnet-lite-pytorch`, mean pooling; all weights train and BatchNorm uses the batch.

    Blocks are not dropped, as in ours. Raises `errors.UserError` when torch or the package is missing.
    """
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise errors.UserError(
            "EfficientNet-Lite0 in PyTorch is not installed: pip install torch efficientnet-lite-pytorch"
        ) from error
    size = {"image_size": image_size, "num_classes": num_genres}
    model = EfficientNet.from_name("efficientnet-lite0", drop_connect_rate=0.0, **size)
    expected = EFFICIENTNET_PARAMETERS + (MOBILENET_FEATURES + 1) * num_genres
    batch = fixed_batch(num_genres, image_size, batch_size)
    return torch_peer(model, batch, lambda x: (x - 127) / 128, expected, channels_last)


# By framework and `config.model.name`.
PEERS = {
    ("keras", "cnn"): keras_cnn,
    ("torch", "cnn"): torch_cnn,
    ("keras", "mobilenet_v2"): keras_mobilenet,
    ("torch", "efficientnet_lite0"): torch_efficientnet,
}


def start(
    framework: str, model: str, *, num_genres: int, image_size: tuple[int, int], batch_size: int
) -> Callable[[str], None]:
    """Builds a peer in a separate process; returns a function that runs one batch, `call("train")` or `call("forward")`.

    In one process two runtimes would share threads and memory and slow each other down. The peer's environment is that of its
    users, without the huge pages of ours. Raises UserError if there is no such peer or it cannot be built.
    """
    if (framework, model) not in PEERS:
        known = ", ".join(sorted(name for name, other in PEERS if other == model)) or "none"
        raise errors.UserError(
            f"config.model.name={model} cannot be timed --against={framework}: frameworks that have this network: {known}."
        )
    environment = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
    arguments = [framework, model, str(num_genres), *map(str, image_size), str(batch_size)]
    process = subprocess.Popen(
        [sys.executable, "-m", "poster_jax.bench.peers", *arguments],
        env=environment | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    pipes = (process.stdin, process.stdout)

    def answer() -> None:
        line = pipes[1].readline().strip()
        if line != "done":
            raise errors.UserError(line or f"the process of {framework} ended; see what it printed above.")

    def call(kind: str) -> None:
        pipes[0].write(f"{kind}\n")
        pipes[0].flush()
        answer()

    answer()
    return call


def serve(framework: str, model: str, num_genres: int, image_size: tuple[int, int], batch_size: int) -> None:
    """Runs in the process of `start`: one batch for every line on stdin, then the line "done" on stdout."""
    try:
        peer = PEERS[framework, model](num_genres=num_genres, image_size=image_size, batch_size=batch_size)
    except errors.UserError as error:
        print(error, flush=True)
        return
    print("done", flush=True)
    for line in sys.stdin:
        {"train": peer.run_train, "forward": peer.run_forward}[line.strip()]()
        print("done", flush=True)


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[3:]]
    serve(sys.argv[1], sys.argv[2], numbers[0], (numbers[1], numbers[2]), numbers[3])
