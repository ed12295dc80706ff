"""Facts that claims of the paper are checked against and that need no training, and the table of the facts that it prints."""

import contextlib
import math
import pathlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from poster_jax import config as config_lib
from poster_jax import models
from poster_jax.data import images, labels
from poster_jax.models import body, mobilenet_v2
from poster_jax.ops import conv, depthwise
from poster_jax.paper import label_floor
from poster_jax.train import losses

SIDE_PX = 128  # of the paper's posters in transfer learning
NUM_LOOKED_AT = 500  # posters whose size is read
NUM_ROUNDS, ROUND_SECS, NUM_IMAGES = 7, 0.3, 8
KERNEL = 3
# {name: (fact, where, what the paper prints)}
PRINTED = {
    "size": ("size of a poster, width x height", "I-A", "182 x 268"),
    "top": ("the six most frequent genres", "I-A, Figure 2", "Action, Comedy, Crime, Documentary, Drama, Horror"),
    "lead": ("the two genres that lead", "I-A, Figure 2", "Drama, Comedy"),
    "balanced": ("rows of each genre after balancing", "I-A, Figure 3", "about equal; no number is printed"),
    "map": ("the body's last map at 128 x 128", "II-A, Figure 5", "4 x 4 x 1280"),
    "body": ("parameters of the body", "II-A, Figure 5", "2,257,984"),
    "total": ("parameters with the head", "II-A, Figure 5", "2,265,670"),
    "trainable": ("parameters that train when the body is frozen", "II-A, Figure 5", "7,686"),
    "tuned": ("parameters that train in fine-tuning", "III-A", "approximately 2 million"),
    "steps": ("steps of 32 an epoch", "II-A, Table 1", "449"),
    "validation_steps": ("validation steps of 32", "II-A, Table 1", "20"),
    "flat": ("features before the dense layer of Table 6", "III-C, Table 6", "not printed (VALID: 47,872; SAME: 59,200)"),
}
NOT_KNOWN = "not known here"


def describe_population(catalog: str) -> dict[str, Any] | None:
    """The number of movies in a catalog and how many list each of its six top genres; None without a catalog."""
    if not catalog:
        return None
    texts = label_floor.load_texts(pathlib.Path(catalog))
    genres = labels.choose_genres(texts, num_genres=6, genre_rank="first", genres=())
    counts = labels.genre_counts(labels.encode(texts, genres, "multi_hot").label, len(genres))
    named = sorted(zip(genres, (int(number) for number in counts), strict=True), key=lambda pair: -pair[1])
    return {"num_movies": len(texts), "counts": dict(named)}


def count_parameters() -> dict[str, int]:
    """Parameters of the body, in total and of the head, for the paper's Figure 5; as in Keras with batch statistics."""
    shapes = _transfer_shapes()
    total, head = (_count(tree) for tree in (shapes, shapes["params"]["head"]))
    return {"body": total - head, "total": total, "trainable": head}


def count_tuned() -> int:
    """Parameters that train once all of the network is unfrozen: those of body and head without batch statistics."""
    return _count(_transfer_shapes()["params"])


def _transfer_model() -> Any:
    fields = {**config_lib.base("mobilenet_v2").model, "weights": ""}
    return models.build(**fields, num_genres=6, precision="float32")


def _transfer_shapes() -> Any:
    return body.shapes(_transfer_model(), (SIDE_PX, SIDE_PX))


def _count(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def shape_of_last_map() -> tuple[int, int, int]:
    """(height, width, channels) of the body's last map at 128 x 128."""
    model, image = _transfer_model(), jax.ShapeDtypeStruct((1, SIDE_PX, SIDE_PX, 3), jnp.float32)
    last = jax.eval_shape(lambda v, x: model.apply(v, x, False, method="features")[0], _transfer_shapes(), image)
    return last.shape[1:]


def count_flat_features() -> int:
    """Features before the dense layer of the paper's Table 6, as its kernel has them."""
    config = config_lib.base("cnn")
    model = models.build(**config.model, num_genres=6, precision="float32")
    image = jnp.zeros((1, *config.data.image_size, 3))
    shapes = jax.eval_shape(lambda key: model.init(key, image, False), jax.random.key(0))
    return max(leaf.shape[0] for leaf in jax.tree.leaves(shapes["params"]) if leaf.ndim == 2)


def softmax_gap(seed: int) -> float:
    """The largest difference between our softmax loss on one-hot labels and optax's on integers, in values and gradients."""
    rng = np.random.default_rng(seed)
    logits = jnp.asarray(rng.normal(size=(64, 6)), jnp.float32)
    integers = jnp.asarray(rng.integers(0, 6, 64))
    one_hot = jax.nn.one_hot(integers, 6)
    outcomes = [
        jax.value_and_grad(lambda given, loss=loss, label=label: loss(given, label).mean())(logits)
        for loss, label in (
            (losses.softmax_loss, one_hot),
            (optax.softmax_cross_entropy_with_integer_labels, integers),
        )
    ]
    return float(max(jnp.abs(one - other).max() for one, other in zip(*outcomes, strict=True)))


def describe_sizes(folder: pathlib.Path) -> str:
    """The most frequent width x height among the first posters of a folder, and its share; NOT_KNOWN where there are none."""
    sizes: Counter[tuple[int, int]] = Counter()
    for path in sorted(folder.glob("*.jpg"))[:NUM_LOOKED_AT]:
        with contextlib.suppress(images.BadImage):
            checked = images.check(path.read_bytes())
            sizes[checked.width, checked.height] += 1
    if not sizes:
        return NOT_KNOWN
    [((width, height), number)] = sizes.most_common(1)
    return f"{width} x {height}, {number:,} of {sum(sizes.values()):,} looked at"


def block_shapes() -> list[tuple[int, int, int, int]]:
    """(side of the input, channels, filters, stride) of the depthwise and pointwise pair of each block at 128 x 128."""
    plan = mobilenet_v2.plan(1.0, "keras")
    side, channels, shapes = SIDE_PX // 2, plan.stem, []
    for row in plan.blocks:
        shapes.append((side, row.expansion * channels, row.filters, row.stride))
        side, channels = -(-side // row.stride), row.filters
    return shapes


def count_depthwise() -> dict[str, dict[str, int]]:
    """{"parameters", "operations"}: {"separable", "full"} over the blocks of MobileNetV2, one image forward, without bias.

    "separable" is a depthwise 3x3 and a pointwise convolution, "full" one 3x3 convolution between the same channels.
    """
    counts = {what: {"separable": 0, "full": 0} for what in ("parameters", "operations")}
    for side, channels, filters, stride in block_shapes():
        pixels = (-(-side // stride)) ** 2
        for kind, weights in (
            ("separable", channels * (KERNEL**2 + filters)),
            ("full", channels * filters * KERNEL**2),
        ):
            counts["parameters"][kind] += weights
            counts["operations"][kind] += 2 * pixels * weights
    return counts


def time_depthwise(num_rounds: int = NUM_ROUNDS) -> list[list[float]]:
    """[separable, full] seconds of a forward pass through all blocks' convolutions, one pair a round, compilation left out.

    Both are measured in every round, in turn first, so that a machine that slows down slows both.
    """
    calls = [_make_pass(separable) for separable in (True, False)]
    repeats = [max(1, round(ROUND_SECS / _seconds(call, 1))) for call in calls]
    rounds = []
    for number in range(num_rounds):
        found = {at: _seconds(calls[at], repeats[at]) for at in ((0, 1) if number % 2 == 0 else (1, 0))}
        rounds.append([found[0], found[1]])
    return rounds


def _seconds(call: Callable[[], object], repeats: int) -> float:
    call()  # compilation, and memory that the other one freed
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - started) / repeats


def _make_pass(separable: bool) -> Callable[[], object]:
    rng = np.random.default_rng(0)
    pads = ((1, 1), (1, 1))

    def draw(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    shapes = block_shapes()
    inputs = [draw(NUM_IMAGES, side, side, channels) for side, channels, _, _ in shapes]
    depths = [draw(KERNEL, KERNEL, 1, channels) for _, channels, _, _ in shapes]
    points = [draw(channels, filters) for _, channels, filters, _ in shapes]
    kernels = [draw(KERNEL, KERNEL, channels, filters) for _, channels, filters, _ in shapes]
    strides = [stride for *_, stride in shapes]

    @jax.jit
    def pairs(inputs: Sequence[jax.Array], depths: Sequence[jax.Array], points: Sequence[jax.Array]) -> list[jax.Array]:
        given = zip(inputs, depths, points, strides, strict=True)
        return [
            conv.pointwise_conv2d(depthwise.depthwise_conv2d(x, deep, pads, stride), point) for x, deep, point, stride in given
        ]

    @jax.jit
    def full(inputs: Sequence[jax.Array], kernels: Sequence[jax.Array]) -> list[jax.Array]:
        padded = [jnp.pad(x, ((0, 0), *pads, (0, 0))) for x in inputs]
        given = zip(padded, kernels, strides, strict=True)
        return [conv.conv2d(x, kernel, padding="VALID", stride=stride) for x, kernel, stride in given]

    if separable:
        return lambda: jax.block_until_ready(pairs(inputs, depths, points))
    return lambda: jax.block_until_ready(full(inputs, kernels))


def build_table(
    found: Mapping[str, Any], data: Mapping[str, Any] | None, batch_size: int, validation_steps: int
) -> list[dict[str, str]]:
    """Rows {"fact", "where", "report", "ours"} of what the paper prints beside ours, without verdicts.

    Args:
        found: "population", "parameters", "tuned", "sizes", "last_map" and "flat" of the functions of this module.
        data: the summary of the rows of the transfer experiment; None where it has not been run.
        batch_size, validation_steps: of that experiment; 0 validation steps are all rows.
    """
    population, parameters = found["population"], found["parameters"]
    ours = {"size": found["sizes"], "map": " x ".join(map(str, found["last_map"])), "flat": f"{found['flat']:,}"}
    ours |= {name: f"{number:,}" for name, number in {**parameters, "tuned": found["tuned"]}.items()}
    if population:
        ours["top"] = f"catalog: {', '.join(sorted(population['counts']))}"
        ours["lead"] = "catalog: " + ", ".join(f"{name} {count:,}" for name, count in list(population["counts"].items())[:2])
    if data is not None:
        rows = data["num_rows"]
        counts = np.sum(list(data["genre_counts"].values()), axis=0)
        posters = f"posters: {', '.join(sorted(data['genres']))}"
        ours["top"] = "; ".join(filter(None, (ours.get("top"), posters)))
        ours["balanced"] = f"{counts.min():,}" if counts.min() == counts.max() else f"{counts.min():,} to {counts.max():,}"
        ours["steps"] = f"{rows['train'] // batch_size:,} of {batch_size} ({rows['train']:,} training rows)"
        batches = validation_steps or -(-rows["validation"] // batch_size)
        ours["validation_steps"] = f"{batches:,} ({'a sample' if validation_steps else 'all'} of {rows['validation']:,} rows)"
    return [
        {"fact": text, "where": where, "report": printed, "ours": ours.get(name, NOT_KNOWN)}
        for name, (text, where, printed) in PRINTED.items()
    ]
