"""Every key, override, check and round trip of the config tree; every config file loads."""

import pathlib

import pytest

from poster_jax import config as config_lib
from poster_jax import errors

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
ONEHOT = str(ROOT / "configs/cnn_onehot.py")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("arg", ["", ":smoke"])
def test_every_config_file_loads_and_overrides_only_known_keys(path: pathlib.Path, arg: str) -> None:
    config = config_lib.load(f"{path}{arg}")
    assert config.is_locked
    assert config_lib.flatten(config).keys() == config_lib.flatten(config_lib.base(config.model.name)).keys()
    assert "--config=" in path.read_text()


def test_onehot_arguments_are_the_paper_s_three_runs() -> None:
    plain, removed, none = (config_lib.load(ONEHOT + arg) for arg in ("", ":no_conv_dropout", ":no_dropout"))
    assert [config.optim.learning_rate for config in (plain, removed, none)] == [1e-4, 1e-4, 1e-3]
    assert [config.model.blocks[-1][-1] for config in (plain, removed, none)] == [0.25, 0.0, 0.0]
    assert [config.model.dense[-1][-1] for config in (plain, removed, none)] == [0.5, 0.5, 0.0]
    assert config_lib.load(ONEHOT + ":strict").data.encoding == "first"


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("train.batch_size", "64", 64),
        ("optim.learning_rate", "1", 1.0),
        ("data.image_size", "(32, 48)", (32, 48)),
        ("data.image_size", "[32, 48]", (32, 48)),
        ("data.genres", "Drama,Film-Noir", ("Drama", "Film-Noir")),
        ("data.genres", "('Drama',)", ("Drama",)),
        ("data.dir", "0123", "0123"),
        ("data.split_grouped", "False", False),
        ("model.blocks", "((8, 3, 2, True, 0.1),)", ((8, 3, 2, True, 0.1),)),
    ],
)
def test_override_takes_the_type_of_the_key(key: str, text: str, value: object) -> None:
    loaded = config_lib.flatten(config_lib.load(ONEHOT, [(key, text)]))[key]
    assert loaded == value
    assert type(loaded) is type(value)


@pytest.mark.parametrize(
    ("key", "text", "says"),
    [
        ("train.batchsize", "64", 'did you mean "train.batch_size"'),
        ("train.batch_size", "many", "of type int"),
        ("train.batch_size", "0", "above zero"),
        ("train.batch_size", "True", "of type int"),
        ("data.encoding", "multihot", 'did you mean "multi_hot"'),
        ("data.split", "(0.5, 0.2, 0.2)", "add up to 1"),
        ("data.split", "(0.8, 0.2, 0.0)", "above zero"),
        ("data.image_size", "(150,)", "two whole numbers"),
        ("optim.learning_rate", "1e999", "finite"),
        ("optim.learning_rate", "-0.1", "above zero"),
        ("optim.weight_decay", "0.1", "adamw"),
        ("train.num_steps", "5", "exactly one"),
        ("loss.name", "softmax", "one genre per row"),
        ("loss.asymmetric_gammas", "(1.0,)", "two exponents"),
        ("eval.parts", "('test',)", "measured once"),
        ("model.name", "mobilenet_v2", "another network"),
        ("data.train_share", "1.5", "at most 1"),
        ("train.average_decay", "1.0", "below 1"),
        ("data.variant", "kaggle", "--config.data.dir"),
        ("data.variant", "csv", "--config.data.csv"),
        ("model.blocks", "((8, 3, 2, True),)", "filters, kernel"),
        ("model.blocks", "(8, 3)", "filters, kernel"),
        ("model.dense", "((8, False, 1.5),)", "units"),
        ("model.input_range", "(1.0, 0.0)", "low below high"),
        ("train.augment.shift", "1.5", "below 1"),
        ("seed", "-1", "below zero"),
    ],
)
def test_a_wrong_override_is_refused_with_its_reason(key: str, text: str, says: str) -> None:
    with pytest.raises(errors.UserError, match=says.replace("(", r"\(")) as raised:
        config_lib.load(ONEHOT, [(key, text)])
    assert key.split(".")[-1] in str(raised.value)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("configs/none.py", "does not exist"),
        (ONEHOT + ":smok", 'did you mean "smoke"'),
        (str(ROOT / "README.md"), "not a"),
    ],
)
def test_a_wrong_file_or_argument_is_refused(path: str, says: str) -> None:
    with pytest.raises(errors.UserError, match=says):
        config_lib.load(path)


def test_json_round_trip_keeps_tuples_and_types() -> None:
    config = config_lib.load(ONEHOT)
    again = config_lib.from_json(config_lib.to_json(config))
    assert config_lib.flatten(again) == config_lib.flatten(config)
    assert config_lib.differences(config, again) == []
    assert isinstance(again.model.blocks[0], tuple)


def test_differences_name_every_key_that_differs() -> None:
    old, new = config_lib.load(ONEHOT), config_lib.load(ONEHOT, [("train.batch_size", "64"), ("seed", "3")])
    assert config_lib.differences(old, new) == ["seed: 0 -> 3", "train.batch_size: 32 -> 64"]


@pytest.mark.parametrize(("steps", "epochs", "expected"), [(7, 0.0, 7), (0, 2.0, 20), (0, 0.25, 2), (0, 0.01, 1)])
def test_a_duration_is_converted_once(steps: int, epochs: float, expected: int) -> None:
    assert config_lib.to_steps(steps, epochs, steps_per_epoch=10) == expected
