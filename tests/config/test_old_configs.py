"""A config.json of an older version: keys that came later get the value that means what that version did."""

import json
import pathlib

import pytest

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.config import defaults, loading, networks
from poster_jax.workdir import run_folder

# Every key of both networks at commit 8ca02b4.
OLD_KEYS = pathlib.Path(__file__).with_name("keys_8ca02b4.txt").read_text().split()


def unaccounted(base: set[str]) -> set[str]:
    """Keys that are new without an entry in ADDED_KEYS, and old ones that are gone or renamed."""
    return base ^ {*OLD_KEYS, *config_lib.ADDED_KEYS}


def all_keys() -> set[str]:
    return {key for model in config_lib.MODELS for key in config_lib.flatten(config_lib.base(model))}


def test_every_key_is_of_the_old_version_or_in_the_table() -> None:
    assert not unaccounted(all_keys()), "see ADDED_KEYS in config/loading.py; a workdir with a key that is gone is refused"


def test_a_key_without_entry_and_one_that_is_gone_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(defaults.DEFAULTS["train"], "planted", 1)
    assert unaccounted(all_keys()) == {"train.planted"}
    monkeypatch.setitem(loading.ADDED_KEYS, "train.planted", 0)
    assert not unaccounted(all_keys())
    monkeypatch.delitem(defaults.DEFAULTS["eval"], "mirror")
    assert unaccounted(all_keys()) == {"eval.mirror"}


def old_text(model: str = "cnn") -> str:
    return config_lib.to_json(config_lib.base(model))


def test_a_text_of_today_is_read_as_it_is() -> None:
    for model in config_lib.MODELS:
        assert json.loads(config_lib.to_json(config_lib.from_json(old_text(model)))) == json.loads(old_text(model))


def test_an_old_config_gets_the_value_that_means_what_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    old = old_text()
    monkeypatch.setitem(defaults.DEFAULTS["train"], "planted", 1)
    monkeypatch.setitem(loading.ADDED_KEYS, "train.planted", 0)
    assert config_lib.from_json(old).train["planted"] == 0
    # What a text gives is kept.
    assert config_lib.from_json(config_lib.to_json(config_lib.base())).train["planted"] == 1


def test_a_key_of_one_network_is_added_to_its_configs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    old = {model: old_text(model) for model in config_lib.MODELS}
    monkeypatch.setitem(networks.MODELS["mobilenet_v2"], "planted", 1)
    monkeypatch.setitem(loading.ADDED_KEYS, "model.planted", 0)
    assert config_lib.from_json(old["mobilenet_v2"]).model["planted"] == 0
    assert "planted" not in config_lib.from_json(old["cnn"]).model


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"train.planted": 1}, ""),
        ({}, "config.json cannot be used: the key 'train.planted' is missing"),
        ({"train.planted": 0}, "begun with another config .*train.planted: 0 -> 1"),
    ],
)
def test_an_old_workdir_goes_on_where_the_new_key_means_what_it_did(
    entry: dict[str, int], says: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_folder.begin(tmp_path, config_lib.base())
    (tmp_path / "checkpoints" / "latest" / "3").mkdir(parents=True)
    monkeypatch.setitem(defaults.DEFAULTS["train"], "planted", 1)
    for key, value in entry.items():
        monkeypatch.setitem(loading.ADDED_KEYS, key, value)
    if says:
        with pytest.raises(errors.UserError, match=says):
            run_folder.opened(tmp_path, config_lib.base()).__enter__()
    else:
        with run_folder.opened(tmp_path, config_lib.base()):
            run_folder.begin(tmp_path, config_lib.base())
            assert json.loads((tmp_path / "config.json").read_text())["train"]["planted"] == 1


def test_a_key_that_no_config_has_is_refused_by_name(tmp_path: pathlib.Path) -> None:
    tree = config_lib.base().to_dict()
    tree["data"]["num_poster"] = 7
    (tmp_path / "config.json").write_text(json.dumps(tree))
    with pytest.raises(errors.UserError) as raised:
        run_folder.load_config(tmp_path)
    for part in (str(tmp_path / "config.json"), "'data.num_poster'", 'did you mean "data.num_posters"'):
        assert part in str(raised.value)
    assert "\n" not in str(raised.value)
