"""Which keys a begun workdir lets change, and the reason that is told for those it does not."""

import pathlib
from typing import Any

import pytest

from poster_jax import config as config_lib

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"
GIVEN = ((0.003, 0.2, 2, 3, 5), (0.001, 0.3, 3, 4, 6))
AXIS = ("schedule", "optim.schedule", ("constant", "cosine"))


def load(name: str, **changed: Any) -> config_lib.Config:
    return config_lib.derive(
        config_lib.load(f"{CONFIGS}/{name}.py:smoke"), {key.replace("__", "."): value for key, value in changed.items()}
    )


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("cnn_onehot", {}, {"data__cache_dir": "elsewhere", "train__tensorboard": True}),
        ("cnn_onehot", {}, {"train__num_epochs": 9.0}),
        ("cnn_onehot", {}, {"train__num_epochs": 0.0, "train__num_steps": 90}),
        ("ablation_onehot", {}, {"train__num_epochs": 9.0}),
        ("transfer_mobilenet", {"optim__schedule": "constant"}, {"train__num_epochs": 9.0}),
        ("search_cnn", {}, {"search__num_trials": 9}),
        ("search_cnn", {"search__vectorize": "folds"}, {"search__vectorize": "processes"}),
        ("search_cnn", {"search__vectorize": "processes"}, {"search__vectorize": "folds"}),
        ("search_cnn", {"search__trials": GIVEN[:1]}, {"search__trials": GIVEN}),
    ],
)
def test_what_leaves_earlier_steps_and_trials_as_they_are_may_change(name: str, before: dict, after: dict) -> None:
    old, new = load(name, **before), load(name, **{**before, **after})
    assert config_lib.differences(old, new)
    assert config_lib.refused_changes(old, new) == []


@pytest.mark.parametrize(
    ("name", "before", "after", "says"),
    [
        ("cnn_onehot", {"optim__schedule": "cosine"}, {"train__num_epochs": 9.0}, "optim.schedule=cosine is spread over"),
        ("finetune_mobilenet", {}, {"train__num_steps": 9}, "optim.schedule=cosine is spread over"),
        (
            "ablation_onehot",
            {"ablation__axes": (AXIS,)},
            {"train__num_epochs": 9.0},
            "optim.schedule=cosine is spread over all",
        ),
        ("transfer_mobilenet", {}, {"transfer__head_epochs": 9.0}, "fine-tuned from the heads"),
        ("search_cnn", {}, {"train__num_epochs": 9.0}, "compared after equally many epochs"),
        ("search_cnn", {}, {"search__num_trials": 1}, "added to a search, not taken away"),
        ("search_cnn", {"search__halving": (1,)}, {"search__num_trials": 9}, "search.halving has dropped trials"),
        ("search_cnn", {"search__trials": GIVEN}, {"search__trials": GIVEN[::-1]}, "behind the earlier ones"),
        ("search_cnn", {"search__trials": GIVEN}, {"search__trials": GIVEN[:1]}, "behind the earlier ones"),
        ("search_cnn", {}, {"search__trials": GIVEN}, "behind the earlier ones"),
        ("search_cnn", {"search__vectorize": "folds"}, {"search__vectorize": "all"}, ""),
        ("cnn_onehot", {}, {"seed": 3}, ""),
        ("cnn_onehot", {}, {"search__num_trials": 99}, ""),
    ],
)
def test_what_would_change_them_is_refused_with_key_and_reason(name: str, before: dict, after: dict, says: str) -> None:
    old, new = load(name, **before), load(name, **{**before, **after})
    [line] = config_lib.refused_changes(old, new)
    [key] = after
    assert line.startswith(f"{key.replace('__', '.')}: ") and says in line and (", but " in line) == bool(says)


def test_a_moved_cache_changes_no_outcome_and_a_longer_run_does() -> None:
    old = load("cnn_onehot")
    assert not config_lib.changes_outcome(old, load("cnn_onehot", data__cache_dir="elsewhere"))
    assert config_lib.changes_outcome(old, load("cnn_onehot", train__num_epochs=9.0))
