"""MobileNetV2's one table and what follows from it: the widths of its layers, their names, and when each begins to train."""

import dataclasses

import numpy as np

from poster_jax import errors

# Table 2 of the paper: (expansion t, channels c, repeats n, stride of the first s).
TABLE = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
STEM_CHANNELS, LAST_CHANNELS = 32, 1280


@dataclasses.dataclass(frozen=True)
class Row:
    """One block: the expansion of its input's channels, its filters and its stride."""

    expansion: int
    filters: int
    stride: int


def round_channels(channels: float) -> int:
    """The nearest multiple of 8, at least 8, and at most 10 % below `channels`: `_make_divisible` of both frameworks."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def stem_filters(width: float) -> int:
    """Filters of the first convolution."""
    return round_channels(STEM_CHANNELS * width)


def last_filters(width: float) -> int:
    """Filters of the last convolution: the number of features, which a width below 1 does not shrink."""
    return round_channels(LAST_CHANNELS * max(1.0, width))


def block_rows(width: float, padding: str) -> tuple[Row, ...]:
    """The 17 blocks at a width multiplier. Keras cuts the scaled channels to a whole number before it rounds them."""
    rows = []
    for expansion, channels, repeats, stride in TABLE:
        scaled = channels * width
        filters = round_channels(int(scaled) if padding == "keras" else scaled)
        rows += [Row(expansion, filters, stride if repeat == 0 else 1) for repeat in range(repeats)]
    return tuple(rows)


def unit_names() -> tuple[str, ...]:
    """Paths of the 52 convolutions with their BatchNorm, in the order of the forward pass, as `block_3/expand`."""
    names = ["stem"]
    for index, row in enumerate(block_rows(1.0, "keras")):
        names += [
            f"block_{index}/{part}" for part in ("expand", "depthwise", "project") if row.expansion > 1 or part != "expand"
        ]
    return (*names, "last")


def stage_names() -> tuple[str, ...]:
    """What can be frozen as one, in the order of the forward pass: stem, block_0 .. block_16, last, head."""
    return ("stem", *(f"block_{index}" for index in range(len(block_rows(1.0, "keras")))), "last", "head")


def first_steps(train_from: str, unfreeze_steps: int) -> dict[str, int]:
    """{stage: first step that changes it}: a step that never comes below `train_from`, then from the last one down in turn.

    Raises UserError for a stage that there is none of.
    """
    names = stage_names()
    if train_from not in names:
        raise errors.UserError(f"config.model.train_from={train_from!r} is unknown; it is one of {', '.join(names)}.")
    first, body = names.index(train_from), len(names) - 1
    steps = {name: np.iinfo(np.int32).max for name in names[:first]}
    opened = names[first:body]
    # With n stages the last opens after 1/n of the time and the first one at its end; without any time all are open.
    return (
        steps | {name: unfreeze_steps * (len(opened) - place) // len(opened) for place, name in enumerate(opened)} | {"head": 0}
    )
