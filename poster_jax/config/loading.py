"""From a config file and the command line to a checked config, and from a config to JSON and back.

`config_flags` of ml_collections is not used: it loads files with a deprecated call, cannot override lists, and answers a
mistyped key with a traceback.
"""

import ast
import importlib.util
import json
import pathlib
import warnings
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import ml_collections

from poster_jax import errors
from poster_jax.config import defaults, grid, networks, spelling, types, validate, validate_probe, validate_search

BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
# {dotted key: value} of the keys that are younger than commit 8ca02b4. The config.json of an older workdir lacks them, and gets
# the value with which the code does what it did before the key came; that need not be the default. Add an entry with every new
# key: without one, an older workdir can no longer be resumed.
ADDED_KEYS: dict[str, Any] = {
    "data.path_column": "",
    "data.label_column": "",
    "data.id_column": "",
    "data.movie_column": "",
    "data.split_column": "",
    "data.label_separator": "",
    "model.weights_sha256": "",
    "transfer.start_rate": 0.0,
    "transfer.tune": True,
    "train.log_accuracy": False,
    "data.features": "",
    "probe.inverse_penalties": validate_probe.PROBE_DEFAULTS["inverse_penalties"],
    "optim.accumulate_steps": 1,
    "train.teacher": "",
    "train.teacher_share": 0.7,
}


def parse_arg(arg: str, **flags: bool) -> SimpleNamespace:
    """Reads the text after the colon of `--config=file.py:strict,smoke`: one boolean attribute for each known flag.

    Raises `UserError` for a word that is not among `flags`.
    """
    given = dict(flags)
    for word in filter(None, arg.split(",")):
        if word not in flags:
            raise errors.UserError(
                f"the config argument {word!r} is unknown{spelling.nearest(word, flags)}; "
                f"this file knows: {', '.join(sorted(flags))}."
            )
        given[word] = True
    return SimpleNamespace(**given)


def load(path_and_arg: str, overrides: Iterable[tuple[str, str]] = ()) -> types.Config:
    """Loads `file.py` or `file.py:arg`, applies overrides in order, checks and locks the result.

    Args:
        path_and_arg: the value of `--config`; for the file the name of one that comes with the project is enough.
        overrides: (dotted key, text) pairs, as `("train.batch_size", "64")` from `--config.train.batch_size=64`.
    Raises:
        UserError: no such file, an unknown key, a value of another type, or an invalid value.
    """
    path_text, _, arg = path_and_arg.partition(":")
    path = find_file(path_text)
    spec = importlib.util.spec_from_file_location(f"poster_jax_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise errors.UserError(f"the config file {path_text!r} is not a Python file; give one that defines get_config(arg).")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise errors.UserError(
            f"the config file {path_text!r} has no get_config(arg); see configs/cnn_onehot.py for one that has."
        )
    config = module.get_config(arg)
    config.lock()
    for key, text in overrides:
        override(config, key, text)
    _validate(config)
    return config


def config_folder() -> pathlib.Path:
    """The configs that come with the project: beside the package in a checkout, inside it when it is installed."""
    package = pathlib.Path(__file__).resolve().parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def find_file(text: str) -> pathlib.Path:
    """`configs/x.py`, `x.py` or `x` as a file: as it is written, or the project's own. Raises `UserError` for none."""
    path = pathlib.Path(text)
    own = config_folder() / f"{path.stem}.py"
    named_as_ours = path.parent in (pathlib.Path(), pathlib.Path("configs")) and path.suffix in ("", ".py")
    if path.is_file():
        return path
    if named_as_ours and own.is_file():
        return own
    known = sorted(file.stem for file in own.parent.glob("*.py"))
    raise errors.UserError(
        f"the config file {text!r} does not exist{spelling.nearest(path.stem, known)}; those of the project are "
        f"{', '.join(known)}."
    )


def _validate(config: types.Config) -> None:
    flat = flatten(config)
    validate.validate(flat)
    validate_probe.check_probe(flat)
    if config.protocol == "search":
        validate_search.check_search(flat)
    if config.protocol == "ablation":
        grid.check_axes(flat)


def parse_overrides(arguments: Iterable[str]) -> list[tuple[str, str]]:
    """(dotted key, text) of each `--config.KEY=VALUE`, in order; raises UserError for anything else.

    What follows a key without `=` may be its value, and is named in the message.
    """
    pairs, given = [], list(arguments)
    for index, argument in enumerate(given):
        key, equals, text = argument.removeprefix("--config.").partition("=")
        if not argument.startswith("--config.") or not key:
            raise errors.UserError(f"{argument} is unknown here: only --config.KEY=VALUE may follow the flags; see --help.")
        if not equals:
            following = given[index + 1] if index + 1 < len(given) and not given[index + 1].startswith("-") else "VALUE"
            raise errors.UserError(f"{argument} has no value: write it as {argument}={following}.")
        pairs.append((key, text))
    return pairs


def override(config: types.Config, key: str, text: str) -> None:
    """Sets one dotted key from text, converted to the type of its value."""
    flat = flatten(config)
    if key not in flat:
        raise errors.UserError(f"the config has no key {key!r}{spelling.nearest_key(key, flat)}; `poster-jax keys` lists them.")
    old = flat[key]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a backslash in the text, which would print a second line
            value = text if isinstance(old, str) else ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # what literal_eval raises for odd texts
        value = text
    if isinstance(old, bool) and text.strip().lower() in BOOLEANS:
        value = BOOLEANS[text.strip().lower()]
    if isinstance(old, tuple) and isinstance(value, (str, int, float)):
        # Texts are separated by commas, and a single number is a tuple of one.
        if key == "data.genres" or (old and isinstance(old[0], str)):
            value = tuple(part.strip() for part in text.split(",") if part.strip())
        elif old and isinstance(old[0], (int, float)) and validate.is_number(value):
            value = (value,)
    _assign(config, key, validate.fit(key, old, value))


def derive(config: types.Config, values: Mapping[str, Any]) -> types.Config:
    """A copy of a config with other values of some dotted keys."""
    derived = config.copy_and_resolve_references()
    for key, value in values.items():
        _assign(derived, key, value)
    return derived


def _assign(config: types.Config, key: str, value: Any) -> None:
    parent, _, leaf = key.rpartition(".")
    node = config
    for part in filter(None, parent.split(".")):
        node = node[part]
    node[leaf] = value


def flatten(config: types.Section | Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{dotted key: value} of a nested config, in order."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, (Mapping, ml_collections.ConfigDict)):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def to_json(config: types.Config) -> str:
    """Readable JSON; tuples become lists and come back as tuples through `from_json`."""
    return json.dumps(config.to_dict(), indent=2)


def from_json(text: str) -> types.Config:
    """The inverse of `to_json`: `from_json(to_json(c)) == c`; raises as `from_tree` does."""
    return from_tree(json.loads(text))


def from_tree(tree: Any) -> types.Config:
    """The config of a value of JSON. Keys of `ADDED_KEYS` that it lacks are added.

    Raises `UserError` for a missing key, a value that cannot be, and an unknown key: what it meant is not known, so the run
    cannot be read or resumed.
    """
    if not isinstance(tree, dict):
        raise errors.UserError("it is no mapping of keys: put a copy of the file in its place.")
    nested = to_tuples(tree)
    flat = flatten(nested)
    known = {key for model in networks.MODELS for key in flatten(defaults.base(model))}
    for key in flat:
        if key not in known:
            raise errors.UserError(
                f"the key {key!r} is unknown to this version of poster_jax{spelling.nearest(key, known)}: "
                "use the version that wrote it."
            )
    name = flat.get("model.name")
    config = defaults.base(name if isinstance(name, str) and name in networks.MODELS else "cnn")
    expected = flatten(config)
    for key, default in expected.items():
        if key not in flat and key not in ADDED_KEYS:
            raise errors.UserError(f"the key {key!r} is missing: put a copy of the file in its place.")
        _assign(config, key, validate.fit(key, default, flat[key]) if key in flat else ADDED_KEYS[key])
    foreign = next((key for key in flat if key not in expected), None)
    if foreign is not None:
        raise errors.UserError(f"the key {foreign!r} is none of model.name={name!r}: put a copy of the file in its place.")
    _validate(config)
    return config


def to_tuples(value: Any) -> Any:
    """A value of JSON with tuples for its lists, at every depth."""
    if isinstance(value, list):
        return tuple(to_tuples(item) for item in value)
    return {key: to_tuples(item) for key, item in value.items()} if isinstance(value, dict) else value


def differences(old: types.Config, new: types.Config) -> list[str]:
    """`key: old -> new` for every key whose value differs."""
    before, after = flatten(old), flatten(new)
    absent = "(absent)"
    return [
        f"{key}: {before.get(key, absent)!r} -> {after.get(key, absent)!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key, absent) != after.get(key, absent)
    ]


def to_steps(num_steps: int, num_epochs: float, steps_per_epoch: int) -> int:
    """The one conversion of a duration given as steps or as epochs; at least 1 step."""
    return max(1, num_steps or round(num_epochs * steps_per_epoch))
