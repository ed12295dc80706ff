"""The grid of an ablation: axes over config keys -> cells, checked before anything starts.

An axis is (name, key, values), or (name, keys, settings) where several keys change together. A setting is then (label, one
value per key), or (label,) to leave the config as it is. `model.blocks.dropout` is that entry of every row of `model.blocks`,
so that one axis can choose a network and another one can remove its dropout.
"""

import dataclasses
import itertools
import re
import reprlib
from collections.abc import Mapping
from typing import Any

from poster_jax import errors
from poster_jax.config import spelling, validate

ABLATION_DEFAULTS = {
    "axes": (),  # (name, key, values) or (name, keys, settings), as (("rate", "optim.learning_rate", (1e-4, 1e-3)),)
}
# Keys that the protocol sets itself, and keys that a single network does not read.
NOT_AXES = ("protocol", "seed", "num_seeds", "ablation.", "search.", "transfer.")
FORM = (
    "each is (name, key, values) or (name, keys, ((label, value per key), ...)), "
    'as ("rate", "optim.learning_rate", (1e-4, 1e-3))'
)
LONGEST_NAME = 100


@dataclasses.dataclass(frozen=True)
class Axis:
    """`settings` are (label, one value per key); a setting without values changes nothing."""

    name: str
    keys: tuple[str, ...]
    settings: tuple[tuple[str, tuple[Any, ...]], ...]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One combination; `number` counts from 0, `settings` is {axis: label}, `values` {dotted config key: value}."""

    number: int
    settings: dict[str, str]
    values: dict[str, Any]

    @property
    def title(self) -> str:
        """The name of the cell in messages, counted from 1."""
        return f"cell {self.number + 1} ({', '.join(f'{axis} {label}' for axis, label in self.settings.items())})"

    @property
    def folder(self) -> str:
        """A name for its folder, as 03_table-2_sigmoid-one-hot_kept."""
        labels = (re.sub(r"[^a-z0-9.]+", "-", label.lower()).strip("-.") for label in self.settings.values())
        return "_".join([f"{self.number + 1:02d}", *filter(None, labels)])[:LONGEST_NAME]


def cells(flat: Mapping[str, Any]) -> list[Cell]:
    """All combinations of `ablation.axes`, the last axis fastest; `flat` is {dotted key: value} of the config.

    Raises `UserError` for a malformed axis, and for two equal cells.
    """
    axes = read_axes(flat)
    found: list[Cell] = []
    seen: dict[str, Cell] = {}
    for number, chosen in enumerate(itertools.product(*(axis.settings for axis in axes))):
        settings = {axis.name: label for axis, (label, _) in zip(axes, chosen, strict=True)}
        # A setting without values is shorter than its keys.
        given = {
            key: value
            for axis, (_, values) in zip(axes, chosen, strict=True)
            for key, value in zip(axis.keys, values, strict=False)
        }
        cell = Cell(number, settings, _values(flat, given))
        whole = repr({key: cell.values.get(key, value) for key, value in flat.items()})
        if whole in seen:
            raise errors.UserError(f"{seen[whole].title} and {cell.title} are the same: change config.ablation.axes.")
        seen[whole] = cell
        found.append(cell)
    return found


def check_axes(flat: Mapping[str, Any]) -> None:
    """Raises `UserError` for malformed axes, and for the first cell whose config cannot be used."""
    for cell in cells(flat):
        try:
            validate.validate({**flat, **cell.values, "protocol": "single"})
        except errors.UserError as error:
            raise errors.UserError(f"{cell.title}: {error}") from error


def read_axes(flat: Mapping[str, Any]) -> list[Axis]:
    """`ablation.axes`, checked one by one and against each other."""
    axes = [_read_axis(given, flat) for given in flat["ablation.axes"]]
    if not axes:
        raise errors.UserError(f"config.ablation.axes is empty, so there is nothing to compare: {FORM}.")
    for what, listed in (("name", [axis.name for axis in axes]), ("key", [key for axis in axes for key in axis.keys])):
        twice = [one for one in listed if listed.count(one) > 1]
        if twice:
            raise errors.UserError(f"config.ablation.axes has the {what} {twice[0]!r} twice: use it once.")
    return axes


def _read_axis(given: Any, flat: Mapping[str, Any]) -> Axis:
    if not (isinstance(given, tuple) and len(given) == 3 and isinstance(given[0], str) and given[0]):
        raise errors.UserError(f"config.ablation.axes holds {reprlib.repr(given)}, which is not an axis: {FORM}.")
    name, keys, settings = given
    together = isinstance(keys, tuple)
    keys = keys if together else (keys,)
    if not keys or not all(isinstance(key, str) for key in keys):
        raise errors.UserError(f"the axis {name!r} has no key of the config in {reprlib.repr(given[1])}: {FORM}.")
    examples = [_example(name, key, flat) for key in keys]
    if not isinstance(settings, tuple) or not settings:
        raise errors.UserError(f"the axis {name!r} has no values: give a tuple of one or more.")
    read = []
    for setting in settings:
        label, *values = setting if together and isinstance(setting, tuple) and setting else (_label(setting), setting)
        if together and (setting == () or not isinstance(label, str) or len(values) not in (0, len(keys))):
            raise errors.UserError(
                f"the axis {name!r} holds {reprlib.repr(setting)}; with {len(keys)} keys each setting is a label and "
                f"{len(keys)} values, or a label alone."
            )
        fitted = [validate.fit(key, old, value) for key, old, value in zip(keys, examples, values, strict=False)]
        for key, value in zip(keys, fitted, strict=False):
            if key in validate.ROWS:
                validate.validate_rows(key, value)
        read.append((label, tuple(fitted)))
    for position, what in enumerate(("the label", "the values")):
        listed = [setting[position] for setting in read]
        twice = [one for one in listed if listed.count(one) > 1]
        if twice:
            raise errors.UserError(f"the axis {name!r} has {what} {reprlib.repr(twice[0])} twice: use each once.")
    return Axis(name, keys, tuple(read))


def _example(name: str, key: str, flat: Mapping[str, Any]) -> Any:
    """A value of the key's type; raises UserError for a key that an axis cannot change."""
    if key.startswith(NOT_AXES) and key in flat:
        hint = "use --config.num_seeds for seeds" if key in ("seed", "num_seeds") else "a cell is one network of a single run"
        raise errors.UserError(f"the axis {name!r} cannot change {key}: {hint}.")
    if key in flat:
        return flat[key]
    rows, _, entry = key.rpartition(".")
    if rows in flat and entry in validate.ROWS.get(rows, ()):
        return {"batch_norm": False, "dropout": 0.0}.get(entry, 1)
    known = [*flat, *(f"{rows}.{entry}" for rows, entries in validate.ROWS.items() if rows in flat for entry in entries)]
    raise errors.UserError(f"the axis {name!r} names {key!r}, which the config does not have{spelling.nearest(key, known)}.")


def _values(flat: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Values of whole keys first; entries of rows are then set within them."""
    values = {key: value for key, value in given.items() if key in flat}
    for key in given:
        if key not in flat:
            rows, _, entry = key.rpartition(".")
            column = validate.ROWS[rows].index(entry)
            values[rows] = tuple((*row[:column], given[key], *row[column + 1 :]) for row in values.get(rows, flat[rows]))
    return values


def _label(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
