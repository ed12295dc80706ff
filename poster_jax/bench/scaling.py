"""`python -m poster_jax.bench.scaling [--device=h100] [--batch=32]`: estimated step time on 1 to 256 devices.

Operations and bytes are counted from the traced network; rates are the vendor's. Nothing is run. The table shows where data
parallelism stops paying off, and why. It assumes that gradients are summed after the backward pass, without overlap, so the
true times are a little better.
"""

import dataclasses
import math
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from poster_jax import cli, models
from poster_jax import config as config_lib
from poster_jax.ops import dispatch

NUM_DEVICES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONFIGS = {"Table 6": "configs/cnn_onehot.py", "MobileNetV2": "configs/finetune_mobilenet.py"}
# Training rows: the real posters drawn equal, and all of them.
NUM_ROWS = {"Table 6": 1586, "MobileNetV2": 5245}
FLOAT_BYTES = 4
# The forward pass writes and reads a convolution's output once; the backward pass does so with its gradient.
ACTIVATION_PASSES = 4
# Adam reads weight, gradient and two moments, and writes weight and moments.
ADAM_PASSES = 7
# The factor from the forward pass to a step: the backward pass has two products for each product of the forward pass.
BACKWARD = 3
# Share of the peak rate that convolutions of so few channels reach; an assumption.
PEAK_SHARE = 0.3
# Posters decoded and resized per second on one core (measured with Pillow on an AMD EPYC).
DECODED_PER_CORE = 1800


@dataclasses.dataclass(frozen=True)
class Device:
    """Rates of a device.

    Attributes:
        name: in the table.
        peak: operations per second.
        memory: bytes per second.
        host_size: devices per host.
        within: bytes per second between devices of a host.
        between: bytes per second between hosts.
        hop_secs: latency of a hop.
    """

    name: str
    peak: float
    memory: float
    host_size: int
    within: float
    between: float
    hop_secs: float


DEVICES = {
    # NVIDIA's data sheets: TF32 dense, HBM, NVLink one way, one 400 (200) Gb/s InfiniBand port per GPU.
    "h100": Device("H100 SXM", 495e12, 3.35e12, 8, 450e9, 50e9, 5e-6),
    "a100": Device("A100 SXM", 156e12, 2.04e12, 8, 300e9, 25e9, 5e-6),
    # Google's page of TPU v5e: bfloat16, HBM, 1,600 Gb/s of interconnect over a pod of 256 chips.
    "tpu_v5e": Device("TPU v5e", 197e12, 0.82e12, 256, 100e9, 100e9, 2e-6),
}


@dataclasses.dataclass(frozen=True)
class Cost:
    """Per image: operations and float32 activations of one forward pass, uint8 bytes of input. Per network: parameters."""

    operations: float
    activations: int
    image_bytes: int
    parameters: int


@dataclasses.dataclass(frozen=True)
class Step:
    """Seconds of computation and all-reduce on `num_devices`, and the posters per second that the input must deliver."""

    num_devices: int
    compute_secs: float
    reduce_secs: float
    posters_per_sec: float

    @property
    def efficiency(self) -> float:
        """Share of the time spent on computation."""
        return self.compute_secs / (self.compute_secs + self.reduce_secs)


def count(config: config_lib.Config) -> Cost:
    """The cost of a config's network, from a trace of one image; reads no weights."""
    fields = {**config.model, "weights": ""} if "weights" in config.model else config.model
    num_genres = (len(config.data.genres) or config.data.num_genres) + config.data.num_auxiliary
    model = models.build(**fields, num_genres=num_genres, precision="float32")
    image = jax.ShapeDtypeStruct((1, *config.data.image_size, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, False), image)
    with dispatch.portable():
        traced = jax.make_jaxpr(lambda v, x: model.apply(v, x, False))(variables, image)
    operations, activations = count_products(traced.jaxpr)
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
    return Cost(operations, activations, math.prod(image.shape), parameters)


def count_products(jaxpr: Any) -> tuple[float, int]:
    """(operations, output entries) of all convolutions and matrix products of a jaxpr and of its nested jaxprs.

    A multiplication and its addition are two operations. Operations on zeros of the padding count as well.
    """
    operations, entries = 0.0, 0
    for equation in jaxpr.eqns:
        out = math.prod(equation.outvars[0].aval.shape)
        if equation.primitive.name == "conv_general_dilated":
            numbers = equation.params["dimension_numbers"]
            kernel = equation.invars[1].aval.shape
            operations += 2 * out * math.prod(kernel) / kernel[numbers.rhs_spec[0]]
            entries += out
        elif equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            operations += 2 * out * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            entries += out
        else:
            for value in equation.params.values():
                inner = getattr(value, "jaxpr", value)
                if hasattr(inner, "eqns"):
                    more = count_products(inner)
                    operations, entries = operations + more[0], entries + more[1]
    return operations, entries


def gradient_bytes(cost: Cost) -> int:
    """Bytes that the all-reduce of a step sums: a float32 for each trained parameter."""
    return FLOAT_BYTES * cost.parameters


def predict(cost: Cost, device: Device, num_devices: int, batch_size: int) -> Step:
    """The estimated step with `batch_size` posters on each device.

    Computation takes the longer of the times for operations and for memory traffic. The all-reduce is a ring: each link carries
    2 (n - 1) / n of the gradient, the slowest link counts, and 2 log2(n) hops add latency.
    """
    arithmetic = BACKWARD * cost.operations * batch_size / (PEAK_SHARE * device.peak)
    moved = ACTIVATION_PASSES * FLOAT_BYTES * cost.activations * batch_size + ADAM_PASSES * gradient_bytes(cost)
    compute = max(arithmetic, moved / device.memory)
    link = device.within if num_devices <= device.host_size else device.between
    share = 2 * (num_devices - 1) / num_devices
    reduce = share * gradient_bytes(cost) / link + 2 * math.log2(num_devices) * device.hop_secs
    return Step(num_devices, compute, reduce, num_devices * batch_size / (compute + reduce))


def table(name: str, cost: Cost, device: Device, batch_size: int) -> str:
    """Markdown text: the counts, and a table with a row per number of devices."""
    lines = [
        f"{name} on {device.name}, {batch_size} posters a device: {cost.operations / 1e6:,.0f} MFLOP forward a poster, "
        f"{BACKWARD * cost.operations * batch_size / 1e9:,.0f} GFLOP a step and device; {gradient_bytes(cost) / 1e6:.1f} MB of "
        f"gradients; {FLOAT_BYTES * cost.activations / 1e6:.1f} MB of activations a poster; "
        f"{cost.image_bytes / 1e3:.0f} kB of uint8 a poster",
        "",
        "| devices | compute, ms | all-reduce, ms | efficiency | posters/s | input, MB/s | decoding cores | steps an epoch |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for number in NUM_DEVICES:
        step = predict(cost, device, number, batch_size)
        rate = step.posters_per_sec
        cells = (
            f"{number}",
            f"{1e3 * step.compute_secs:.2f}",
            f"{1e3 * step.reduce_secs:.2f}",
            f"{step.efficiency:.2f}",
            f"{rate:,.0f}",
            f"{rate * cost.image_bytes / 1e6:,.0f}",
            f"{math.ceil(rate / DECODED_PER_CORE):,}",
            f"{NUM_ROWS[name] // (number * batch_size)}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the tables of both networks; returns the exit code, 2 for a mistake in the arguments."""
    return cli.run_command(_run, argv)


def _run(argv: list[str]) -> int:
    parser = cli.Parser("python -m poster_jax.bench.scaling", __doc__)
    parser.add_argument("--device", choices=sorted(DEVICES), default="h100")
    parser.add_argument("--batch", type=int, default=32, help="posters on each device")
    flags = parser.parse_args(argv)
    for name, path in CONFIGS.items():
        print(table(name, count(config_lib.load(path)), DEVICES[flags.device], flags.batch))
    return 0


if __name__ == "__main__":
    sys.exit(main())
