"""What distinguishes one family of bodies from another: the table of its blocks, and the published weights it can take."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from poster_jax import errors


@dataclasses.dataclass(frozen=True)
class Row:
    """One block: the expansion of its input's channels, its filters, its stride and the side of its depthwise kernel."""

    expansion: int
    filters: int
    stride: int
    kernel_size: int = 3


@dataclasses.dataclass(frozen=True)
class Plan:
    """The table of a body: filters of the first convolution, the blocks, and filters of the last one: the features."""

    stem: int
    blocks: tuple[Row, ...]
    last: int

    def unit_names(self) -> tuple[str, ...]:
        """Paths of the convolutions with their BatchNorm, in the order of the forward pass, as `block_3/expand`."""
        names = ["stem"]
        for index, row in enumerate(self.blocks):
            parts = ("expand", "depthwise", "project") if row.expansion > 1 else ("depthwise", "project")
            names += [f"block_{index}/{part}" for part in parts]
        return (*names, "last")

    def stage_names(self) -> tuple[str, ...]:
        """Stages that can be frozen, in the order of the forward pass: stem, block_0, block_1, .., last, head."""
        return ("stem", *(f"block_{index}" for index in range(len(self.blocks))), "last", "head")

    def first_steps(self, train_from: str, unfreeze_steps: int) -> dict[str, int]:
        """{stage: first step that updates it}: never for stages below `train_from`, then in turn from the last one down.

        Raises UserError for an unknown stage.
        """
        names = self.stage_names()
        if train_from not in names:
            raise errors.UserError(f"config.model.train_from={train_from!r} is unknown; it is one of {', '.join(names)}.")
        first, body = names.index(train_from), len(names) - 1
        steps = {name: np.iinfo(np.int32).max for name in names[:first]}
        opened = names[first:body]
        # With n stages the last one opens after 1/n of the steps and the first one at their end; with 0 steps all are open.
        steps |= {name: unfreeze_steps * (len(opened) - place) // len(opened) for place, name in enumerate(opened)}
        return steps | {"head": 0}


@dataclasses.dataclass(frozen=True)
class Source:
    """Published weights of one origin: what they expect, and what they call our arrays.

    Attributes:
        layout: "keras" or "torch": kind of file, order of axes, and names of the arrays within a layer.
        fields: padding, BatchNorm's epsilon and momentum, and the input's range, mean and deviation; see `body.Body`.
        name_layers: (plan, unit) -> their names of its convolution and its BatchNorm.
        head: arrays of the classifier after the body, which are left out.
        package: the installed package whose one .pth file "imagenet" stands for; "" for none.
    """

    layout: str
    fields: Mapping[str, Any]
    name_layers: Callable[[Plan, str], tuple[str, str]]
    head: tuple[str, ...] = ()
    package: str = ""


def round_channels(channels: float) -> int:
    """The nearest multiple of 8, at least 8, and at most 10 % below `channels`: `_make_divisible` of both frameworks."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
