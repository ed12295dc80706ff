"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381), for the weights of Keras and of torchvision.

The two round channels differently at a width other than 1: Keras cuts the scaled channels to a whole number first.
"""

import functools

from poster_jax.models import body, body_plan

# Table 2 of the paper: (expansion t, channels c, repeats n, stride of the first s).
TABLE = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
STEM_CHANNELS, LAST_CHANNELS = 32, 1280


@functools.cache
def plan(width: float, padding: str) -> body_plan.Plan:
    """The table at a width multiplier, which scales every convolution but does not shrink the features."""
    rows = []
    for expansion, channels, repeats, stride in TABLE:
        scaled = channels * width
        filters = body_plan.round_channels(int(scaled) if padding == "keras" else scaled)
        rows += [body_plan.Row(expansion, filters, stride if repeat == 0 else 1) for repeat in range(repeats)]
    features = body_plan.round_channels(LAST_CHANNELS * max(1.0, width))
    return body_plan.Plan(body_plan.round_channels(STEM_CHANNELS * width), tuple(rows), features)


class MobileNetV2(body.Body):
    """See `body.Body`."""

    @property
    def plan(self) -> body_plan.Plan:
        return plan(self.width, self.padding)


def _keras_layers(plan: body_plan.Plan, unit: str) -> tuple[str, str]:
    block, _, part = unit.partition("/")
    if not part:
        return {"stem": ("Conv1", "bn_Conv1"), "last": ("Conv_1", "Conv_1_bn")}[unit]
    layer = f"expanded_conv_{part}" if block == "block_0" else f"{block}_{part}"
    return layer, f"{layer}_BN"


def _torchvision_layers(plan: body_plan.Plan, unit: str) -> tuple[str, str]:
    block, _, part = unit.partition("/")
    if not part:
        index = 0 if unit == "stem" else len(plan.blocks) + 1
        return f"features.{index}.0", f"features.{index}.1"
    index = int(block.removeprefix("block_"))
    # A block that does not expand has its other layers one place earlier.
    place = ("expand", "depthwise", "project").index(part) - (plan.blocks[index].expansion == 1)
    stage = f"features.{index + 1}.conv.{place}"
    return (stage, f"features.{index + 1}.conv.{place + 1}") if part == "project" else (f"{stage}.0", f"{stage}.1")


def _timm_layers(plan: body_plan.Plan, unit: str) -> tuple[str, str]:
    block, _, part = unit.partition("/")
    if not part:
        return {"stem": ("conv_stem", "bn1"), "last": ("conv_head", "bn2")}[unit]
    index = int(block.removeprefix("block_"))
    # Blocks are numbered within the rows of the table, and a block that does not expand calls its layers otherwise.
    row, place = [(row, place) for row, (_, _, repeats, _) in enumerate(TABLE) for place in range(repeats)][index]
    names = ("conv_pw", "conv_dw", "conv_pwl") if plan.blocks[index].expansion > 1 else ("", "conv_dw", "conv_pw")
    layer = ("expand", "depthwise", "project").index(part)
    norm = layer + (names[0] != "")
    return f"blocks.{row}.{place}.{names[layer]}", f"blocks.{row}.{place}.bn{norm}"


def _huggingface_layers(plan: body_plan.Plan, unit: str) -> tuple[str, str]:
    block, _, part = unit.partition("/")
    if unit == "stem":
        layer = "conv_stem.first_conv"
    elif unit == "last":
        layer = "conv_1x1"
    else:
        index = int(block.removeprefix("block_"))
        # The first block is part of what they call the stem.
        stage = f"layer.{index - 1}" if index else "conv_stem"
        layer = f"{stage}.{ {'expand': 'expand_1x1', 'depthwise': 'conv_3x3', 'project': 'reduce_1x1'}[part] }"
    return f"{layer}.convolution", f"{layer}.normalization"


# keras/src/applications/mobilenet_v2.py; torchvision/models/mobilenetv2.py with torch's BatchNorm2d, whose momentum is the
# share of the new. torchvision normalises [0, 1] per channel (ImageClassification in torchvision/transforms/_presets.py),
# and so do timm/models/efficientnet.py's mobilenetv2_*. Hugging Face converted TensorFlow's weights, of slim's batch_norm with
# a decay of 0.997 (research/slim/nets/mobilenet/mobilenet.py); its torch module gives that number to torch, which takes it for
# the share of the new.
TORCHVISION_FIELDS = {
    "padding": "torchvision",
    "epsilon": 1e-5,
    "momentum": 0.9,
    "input_range": (0.0, 1.0),
    "input_mean": (0.485, 0.456, 0.406),
    "input_std": (0.229, 0.224, 0.225),
}
SOURCES = {
    "keras": body_plan.Source(
        layout="keras",
        fields={
            "padding": "keras",
            "epsilon": 1e-3,
            "momentum": 0.999,
            "input_range": (-1.0, 1.0),
            "input_mean": (0.0, 0.0, 0.0),
            "input_std": (1.0, 1.0, 1.0),
        },
        name_layers=_keras_layers,
    ),
    "torchvision": body_plan.Source(layout="torch", fields=TORCHVISION_FIELDS, name_layers=_torchvision_layers),
    "timm": body_plan.Source(layout="torch", fields=TORCHVISION_FIELDS, name_layers=_timm_layers),
    "huggingface": body_plan.Source(
        layout="torch",
        fields={
            "padding": "keras",
            "epsilon": 1e-3,
            "momentum": 0.997,
            "input_range": (-1.0, 1.0),
            "input_mean": (0.0, 0.0, 0.0),
            "input_std": (1.0, 1.0, 1.0),
        },
        name_layers=_huggingface_layers,
    ),
}
