"""The bodies that start from published weights, by `config.model.name`; the config's side of the table is `config.networks`."""

import dataclasses
from collections.abc import Callable, Mapping

from poster_jax.models import body, body_plan, efficientnet_lite, mobilenet_v2


@dataclasses.dataclass(frozen=True)
class Family:
    """A body: its flax module, its table at a width and a padding, and where weights for it come from.

    Without weights a network has the fields of the first source. A source's name, as in "keras:FILE", has one family.
    """

    network: type[body.Body]
    plan: Callable[[float, str], body_plan.Plan]
    sources: Mapping[str, body_plan.Source]


FAMILIES = {
    "mobilenet_v2": Family(mobilenet_v2.MobileNetV2, mobilenet_v2.plan, mobilenet_v2.SOURCES),
    "efficientnet_lite0": Family(efficientnet_lite.EfficientNetLite0, efficientnet_lite.plan, efficientnet_lite.SOURCES),
}
