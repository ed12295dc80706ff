"""A search in Keras: the same networks as ours, and the total time."""

import pathlib

import pytest

from poster_jax import config as config_lib
from poster_jax.bench import keras_search
from poster_jax.search import space

pytest.importorskip("keras")
ROOT = pathlib.Path(__file__).resolve().parents[2]
SEARCH = str(ROOT / "configs" / "search_cnn.py")


@pytest.mark.parametrize(("arg", "parameters"), [("table3", 2_636_798), ("table4", 1_621_740 + 4 * (12 + 17 + 115))])
def test_it_is_the_papers_network(arg: str, parameters: int) -> None:
    config = config_lib.load(f"{SEARCH}:{arg}")
    trial = space.draw_trials(config.search, config.seed)[0]
    assert keras_search.build_model(config, trial, 6).count_params() == parameters


def test_all_networks_are_accounted_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert keras_search.main([f"--config={SEARCH}:smoke", "--fits=1"]) == 0
    said = capsys.readouterr().out
    assert "trial 1, 754 parameters" in said and "4 fits one after another" in said  # two trials, two folds


def test_a_mistake_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        [f"--config={SEARCH}", "--fits=0"],
        [f"--config={ROOT / 'configs' / 'cnn_onehot.py'}"],
        [f"--config={SEARCH}", "--config.search.num_folds"],
    ):
        assert keras_search.main(arguments) == 2
        assert capsys.readouterr().err.count("\n") == 1
