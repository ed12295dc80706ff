"""The types that models and training share."""

from collections.abc import Mapping
from typing import Any, Protocol

Params = dict[str, Any]  # flax's nested dict of parameters: {layer: {name: array}}
Variables = Mapping[str, Any]  # {"params": Params, "batch_stats": ...}


class PosterModel(Protocol):
    """What training, evaluation and export need of a network: a flax module of posters to logits."""

    input_range: tuple[float, float]  # what black and white are mapped to
    num_genres: int  # K: logits, auxiliary genres among them

    def init(self, rngs: Any, x: Any, train: bool) -> Variables:
        """Draws the variables for posters of the shape of `x` [B, H, W, 3]."""
        ...

    def apply(self, variables: Variables, *inputs: Any, **options: Any) -> Any:
        """Logits float32 [B, K], with the changed collections where `mutable` names some."""
        ...
