"""What people type for a key or a value, and what they are answered."""

import pathlib
from typing import Any

import pytest

from poster_jax import config as config_lib
from poster_jax import errors, main
from poster_jax.config import loading, spelling

CONFIG = str(pathlib.Path(__file__).resolve().parents[2] / "configs" / "finetune_mobilenet.py")


def load(*overrides: tuple[str, str]) -> config_lib.Config:
    return config_lib.load(CONFIG, overrides)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("lr", '"optim.learning_rate"'),
        ("learning_rate", '"optim.learning_rate"'),
        ("train.lr", '"optim.learning_rate"'),
        ("epochs", '"train.num_epochs"'),
        ("num_epoch", '"train.num_epochs"'),
        ("batch_size", '"train.batch_size" or "eval.batch_size"'),
        ("trian.batch_size", '"train.batch_size"'),
        ("evel.batch_size", '"eval.batch_size"'),
        ("optim.weight-decay", '"optim.weight_decay"'),
        ("data.genre", '"data.genres"'),
        ("pretrained", '"model.weights"'),
    ],
)
def test_the_key_that_is_meant_is_named(typed: str, meant: str) -> None:
    with pytest.raises(errors.UserError) as refused:
        load((typed, "1"))
    assert f"did you mean {meant}?" in str(refused.value)


def test_every_alias_leads_to_a_key_that_exists_and_hides_none() -> None:
    known = {key for model in config_lib.MODELS for key in loading.flatten(config_lib.base(model))}
    leaves = {key.rpartition(".")[2] for key in known}
    assert set(spelling.ALIASES.values()) <= known
    assert not set(spelling.ALIASES) & leaves, "an alias that is a key's own name"


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("eval.mirror", "true", True),
        ("eval.mirror", "Yes", True),
        ("eval.mirror", "1", True),
        ("eval.baselines", "off", False),
        ("eval.baselines", "0", False),
        ("transfer.learning_rates", "1e-3", (1e-3,)),
        ("transfer.learning_rates", "(1e-3,)", (1e-3,)),
        ("transfer.learning_rates", "1e-3,1e-2", (1e-3, 1e-2)),
        ("eval.parts", "train,validation", ("train", "validation")),
        ("eval.parts", "validation", ("validation",)),
        ("data.genres", "Drama, Film-Noir", ("Drama", "Film-Noir")),
        ("train.num_epochs", "1", 1.0),
    ],
)
def test_values_as_people_write_them(key: str, text: str, value: Any) -> None:
    found = loading.flatten(load((key, text)))[key]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(("key", "text"), [("eval.mirror", "2"), ("eval.mirror", "maybe"), ("num_seeds", "true")])
def test_other_values_do_not_fit(key: str, text: str) -> None:
    with pytest.raises(errors.UserError, match="does not fit"):
        load((key, text))


def test_a_value_behind_a_space_is_named_with_the_equals_sign(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([f"--config={CONFIG}", "--config.train.batch_size", "64", "--plan"]) == 2
    assert "write it as --config.train.batch_size=64." in capsys.readouterr().err
    assert main.main([f"--config={CONFIG}", "--config.train.batch_size", "--plan"]) == 2
    assert "write it as --config.train.batch_size=VALUE." in capsys.readouterr().err
