"""The types of the config tree have the keys of the tree, and its values fit them: the two cannot drift apart."""

import types
import typing
from typing import Any

import pytest

from poster_jax import config as config_lib
from poster_jax.config import types as config_types

OF_BASE = set(typing.get_type_hints(config_types.Section))


def fits(value: Any, hint: Any) -> bool:
    """Whether a value fits an annotation made of bool, int, float, str, Any, tuples and unions; 1 is a float."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in arguments)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if arguments[-1:] == (...,):
            return all(fits(item, arguments[0]) for item in value)
        return len(value) == len(arguments) and all(map(fits, value, arguments))
    return hint is Any or type(value) is hint or (hint is float and type(value) is int)


def check(section: Any, hints: dict[str, Any], where: str) -> list[str]:
    """Every way in which a section is not what its protocol says."""
    wrong = [f"{where}{key} has no type" for key in section.keys() - hints.keys()]
    for key in section.keys() & hints.keys():
        hint = hints[key]
        if getattr(hint, "__module__", "") == config_types.__name__:
            wrong += check(section[key], typing.get_type_hints(hint), f"{where}{key}.")
        elif not fits(section[key], hint):
            wrong.append(f"{where}{key}={section[key]!r} is no {hint}")
    missing = hints.keys() - section.keys()
    return wrong + [f"{where}{key} is no key" for key in missing if where != "model."]


@pytest.mark.parametrize("model", list(config_lib.MODELS))
def test_types_and_defaults_have_the_same_keys(model: str) -> None:
    assert not OF_BASE
    assert not check(config_lib.base(model).to_dict(), typing.get_type_hints(config_lib.Config), "")


def test_the_model_s_keys_are_those_of_all_networks() -> None:
    of_all = {key for fields in config_lib.MODELS.values() for key in fields}
    assert set(typing.get_type_hints(config_lib.Model)) == of_all


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("train", "new_key", 1),
        ("train", "batch_size", None),
        ("train", "batch_size", 1.5),
        ("train", "tensorboard", 1),
        ("data", "image_size", (1, 2, 3)),
        ("data", "split", (0.5, "a", 0.2)),
        ("model", "blocks", ((1, 2),)),
    ],
)
def test_a_key_without_type_and_a_value_of_another_type_are_seen(section: str, key: str, value: object) -> None:
    tree = config_lib.base().to_dict()
    tree[section][key] = value
    assert check(tree, typing.get_type_hints(config_lib.Config), "")


@pytest.mark.parametrize(("section", "key"), [("train", "batch_size"), ("search", "halving")])
def test_a_type_without_key_is_seen(section: str, key: str) -> None:
    tree = config_lib.base().to_dict()
    del tree[section][key]
    assert check(tree, typing.get_type_hints(config_lib.Config), "") == [f"{section}.{key} is no key"]


def test_a_config_is_a_mapping_and_has_attributes() -> None:
    config = config_lib.base()
    config.train.num_epochs = 2.0
    assert config["train"]["num_epochs"] == {**config.train}["num_epochs"] == config.train.to_dict()["num_epochs"] == 2.0
    assert "augment" in config.train
    assert dict(config.train.augment.items()) == config.train.augment.to_dict()
