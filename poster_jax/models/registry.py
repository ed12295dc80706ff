"""Networks by name: `build` turns `config.model` into a flax module, `load_pretrained` reads its initial weights."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from poster_jax import errors
from poster_jax.models import body, cnn, families, pretrained
from poster_jax.models.types import PosterModel
from poster_jax.runtime import alive

MODELS = {
    "cnn": cnn.CNN,
    **{name: family.network for name, family in families.FAMILIES.items()},
}


def load_pretrained(name: str, *, weights: str = "", weights_sha256: str = "", **fields: Any) -> pretrained.Pretrained | None:
    """`load_pretrained(**config.model)`: the weights that `model.weights` names, or None if it is empty."""
    if not weights:
        return None
    # Most runs start from random weights and need no reader of files.
    from poster_jax.models import weight_files

    with alive.doing(f"reading the weights {weights}"):
        return weight_files.load(weights, weights_sha256)


def build(
    name: str,
    *,
    num_genres: int,
    precision: str,
    weights: str = "",
    weights_sha256: str = "",
    loaded: pretrained.Pretrained | None = None,
    **fields: Any,
) -> PosterModel:
    """`build(**config.model, num_genres=K, precision="float32", loaded=load_pretrained(**config.model))`.

    Padding, epsilon, momentum and input range come with the weights; without weights they are those of the family's first
    source. `input_range` of the config takes precedence if it is given. Unknown fields raise TypeError; weights of another
    network or width raise UserError.
    """
    if name in families.FAMILIES:
        if loaded and loaded.model != name:
            raise errors.UserError(
                f"the weights {weights} are of {loaded.model} and config.model.name={name}: set --config.model.name="
                f"{loaded.model}, or give other weights."
            )
        first = next(iter(families.FAMILIES[name].sources.values()))
        given = loaded.fields() if loaded else {**first.fields, "width": fields["width"]}
        if given["width"] != fields["width"]:
            raise errors.UserError(
                f"config.model.width={fields['width']:g} and the weights {weights} are of width {given['width']:g}: "
                f"set --config.model.width={given['width']:g}, or give other weights."
            )
        fields = {**given, **fields, "input_range": fields["input_range"] or given["input_range"]}
    return MODELS[name](num_genres=num_genres, precision=precision, **fields)


def body_fields(model: PosterModel) -> dict[str, Any]:
    """The fields of a network that its pretrained weights determine; {} for a kind of network without such weights."""
    if not isinstance(model, body.Body):
        return {}
    return {name: getattr(model, name) for name in body.OF_WEIGHTS}


def first_steps(model: PosterModel, unfreeze_steps: int) -> Callable[[Mapping[str, Any]], dict[str, Any]] | None:
    """For `optimizers.build_optimizer`: the first step that updates each parameter, or None if all are updated from the start.

    Units of the body below `model.train_from` are never updated. Those from there on are unfrozen one after another, the last
    one first, evenly over `unfreeze_steps`. The head is updated from the start.
    """
    if not isinstance(model, body.Body) or (model.train_from == "stem" and not unfreeze_steps):
        return None
    starts = model.plan.first_steps(model.train_from, unfreeze_steps)
    return lambda params: {unit: jax.tree.map(lambda _, unit=unit: starts[unit], tree) for unit, tree in params.items()}
