"""The plan of every protocol: counts that the run then has, time from its parts, and neither weights nor programs."""

import pathlib
import re
from typing import Any

import jax
import pytest

from poster_jax import config as config_lib
from poster_jax import main, models
from poster_jax.data import own
from poster_jax.protocols import costs, plan


def lines_of(name: str, *pairs: tuple[str, str]) -> list[str]:
    return list(plan.describe(own.settle(config_lib.load(name, pairs))))


@pytest.fixture(autouse=True)
def nothing_heavy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "load_pretrained", lambda *_, **__: pytest.fail("weights were read"))
    monkeypatch.setattr(jax.stages.Lowered, "compile", lambda *_, **__: pytest.fail("a program was compiled"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cnn_onehot:smoke", " an epoch), 2 evaluations, 1 seed(s)"),
        ("transfer_mobilenet:smoke", "2 input ranges, each 3 head(s) for"),
        ("finetune_mobilenet:smoke", "2 head(s) for "),
        ("finetune_efficientnet:smoke", "2 head(s) for "),
        ("probe_features:smoke", "probe: logistic regression at 17 penalties, on features of released:mobilenet_v2"),
        ("search_cnn:smoke", "search: 2 trials x 2 folds x 2 epochs of"),
        ("ablation_onehot:smoke", "ablation: "),
        ("reproduce:smoke", "one_hot_fast: "),
    ],
)
def test_every_protocol_has_a_plan_of_the_whole(name: str, words: str) -> None:
    lines = lines_of(name)
    assert lines[0].startswith("plan of ") and any(words in line for line in lines), lines
    (time_line,) = [line for line in lines if line.startswith("time: ")]
    assert re.search(r"about .* from .* to .* an estimate from .* operations \(counted\) at .* \(measured\)", time_line)


def test_the_time_is_that_of_the_operations_at_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "measure_rate", lambda: 10e9)
    monkeypatch.setattr(costs, "SHARES", {"cnn": (0.5, 0.25), "body": (1.0, 1.0)})
    cost = costs.Cost((), "", {"cnn": (600e9 * 5, 60e9 * 2.5), "body": (0.0, 120e9 * 10)}, 60.0, 0, 0)
    said = costs.time_line([cost, cost])
    # (600 + 60 + 120) s of work, twice, and two minutes of compilation.
    assert "about 28 minutes, from 10 minutes to 70 minutes" in said and "about 120 s of compilation" in said
    monkeypatch.setattr(costs.jax, "default_backend", lambda: "gpu")
    assert "TFLOP/s (stated, not measured)" in costs.time_line([cost])


def test_twice_the_seeds_epochs_and_trials_are_twice_the_work() -> None:
    def work(name: str, *pairs: tuple[str, str]) -> Any:
        config = config_lib.load(name, pairs)
        (pair,) = costs.find(config, plan._make_select(plan._make_opener())).work.values()
        return pair

    one, more = work("cnn_onehot:smoke"), work("cnn_onehot:smoke", ("num_seeds", "2"))
    assert more == (2 * one[0], 2 * one[1])
    assert work("cnn_onehot:smoke", ("train.num_epochs", "4.0"))[0] == 2 * one[0]
    quick, tuned = (work("finetune_mobilenet:smoke", ("transfer.tune", text)) for text in ("False", "True"))
    assert quick[0] == 0 < tuned[0] and 0 < quick[1]
    through = work("finetune_mobilenet:smoke", ("transfer.tune", "False"), ("transfer.cached", "False"))
    assert 0 < through[0]
    kinds = [costs._kind(config_lib.load(name)) for name in ("cnn_onehot", "search_cnn", "own_posters")]
    assert [*kinds, "probe"] == list(costs.SHARES)
    few, many = (work("search_cnn:smoke", ("search.trials", "()"), ("search.num_trials", text)) for text in ("2", "8"))
    assert 2 < many[0] / few[0] < 6


def test_what_only_a_plan_does_is_told(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--config=cnn_onehot:smoke", f"--write-split={tmp_path / 'split.csv'}"]
    assert main.main(given) == 2
    assert "add --plan" in capsys.readouterr().err
    assert main.main([*given, "--plan"]) == 2
    assert "--write-split is for posters in files" in capsys.readouterr().err
    assert main.main(["--config=reproduce:smoke", given[1], "--plan"]) == 2
    assert "a reproduction has several" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
