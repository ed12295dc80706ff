"""The types that models and training share."""

from collections.abc import Mapping
from typing import Any, Protocol, Self

import jax

Params = dict[str, Any]  # flax's nested dict of parameters: {layer: {name: array}}
Variables = Mapping[str, Any]  # collections of arrays, or of their shapes: {"params": Params, "batch_stats": ...}


class PosterModel(Protocol):
    """What training and prediction need of a network: a flax module, float [B, H, W, 3] in `input_range` -> logits [B, K]."""

    @property
    def input_range(self) -> tuple[float, float]: ...
    @property
    def num_genres(self) -> int: ...
    def init(self, rngs: jax.Array, /, *args: Any, **kwargs: Any) -> Any: ...
    def apply(self, variables: Variables, /, *args: Any, **kwargs: Any) -> Any: ...
    def tabulate(self, rngs: jax.Array, /, *args: Any, **kwargs: Any) -> str: ...
    def clone(self, **updates: Any) -> Self: ...
