"""The reproduction's plan: which experiments run with what; the experiments themselves are other protocols' tests."""

import pathlib

import pytest

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.paper import facts
from poster_jax.protocols import reproduce

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / "configs" / "reproduce.py")


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Experiments name their config files as a user does, from where configs/ lies."""
    monkeypatch.chdir(ROOT)


def test_every_experiment_of_the_paper_is_there_with_three_seeds_where_noise_is_claimed() -> None:
    experiments = reproduce.load_experiments(config_lib.load(CONFIG))
    assert {config.protocol for config in experiments.values()} == {"transfer", "search", "single", "ablation"}
    for name in ("transfer", "one_hot", "one_hot_no_conv_dropout", "one_hot_no_dropout", "ablation"):
        assert experiments[name].num_seeds == 3, name
    assert not experiments["search"].model.blocks[0][3] and experiments["search_batch_norm"].model.blocks[0][3]
    assert experiments["one_hot_long"].train.num_epochs == 4 * experiments["one_hot_no_dropout"].train.num_epochs
    assert len(experiments["rates"].search.trials) == 6


def test_posters_weights_and_reductions_reach_every_experiment_that_takes_them() -> None:
    given = [("data.variant", "kaggle"), ("data.dir", "posters"), ("model.weights", "keras:file.h5"), ("seed", "5")]
    experiments = reproduce.load_experiments(config_lib.load(f"{CONFIG}:quick", given))
    for name, config in experiments.items():
        assert (config.data.variant, config.data.dir, config.seed) == ("kaggle", "posters", 5), name
        assert config.data.balance_limit == 200, name
        assert config.train.num_epochs == (16 if name == "one_hot_long" else 3), name
    assert experiments["transfer"].model.weights == "keras:file.h5"
    # For one experiment, after its own settings.
    assert (experiments["ablation"].num_seeds, experiments["one_hot"].num_seeds, experiments["transfer"].num_seeds) == (1, 3, 3)
    # At least 1,200 posters, all trials and folds.
    assert experiments["search"].search.num_trials == 10 and experiments["search"].search.num_folds == 4


@pytest.mark.parametrize(
    ("key", "text", "says"),
    [
        ("train.num_epochs", "3", "config.train.num_epochs has no effect here"),
        ("reproduce.overrides", "('train.num_epochs',)", "train.num_epochs=VALUE"),
        ("reproduce.overrides", "('train.num_epoch=3',)", "did you mean"),
        ("reproduce.overrides", "('one_hat:train.num_epochs=3',)", "names 'one_hat', which is no experiment"),
        ("reproduce.experiments", "(('one', 'configs/none.py', ()),)", "does not exist"),
        ("reproduce.catalog", "none.csv", "cannot be read"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(key: str, text: str, says: str, tmp_path: pathlib.Path) -> None:
    config = config_lib.load(f"{CONFIG}:smoke", [(key, text)])
    with pytest.raises(errors.UserError, match=says):
        reproduce.run(config, tmp_path / "run", stop=None)  # pyright: ignore[reportArgumentType]
    assert not (tmp_path / "run").exists()


def test_what_is_done_is_known_by_its_config(tmp_path: pathlib.Path) -> None:
    config = reproduce.load_experiments(config_lib.load(f"{CONFIG}:smoke"))["one_hot"]
    assert not reproduce.is_finished(config, tmp_path)
    (tmp_path / "results.json").write_text("{}")
    (tmp_path / "config.json").write_text(config_lib.to_json(config))
    assert reproduce.is_finished(config, tmp_path)
    config.train.num_epochs = 9.0
    assert not reproduce.is_finished(config, tmp_path)


def test_the_facts_are_those_of_the_paper(tmp_path: pathlib.Path) -> None:
    assert facts.count_parameters() == {"body": 2_257_984, "total": 2_265_670, "trainable": 7_686}
    assert facts.softmax_gap(0) < 1e-6
    catalog = tmp_path / "catalog.csv"
    names = ("Drama", "Comedy", "Action", "Crime", "Horror", "Documentary")
    rows = [f"{number},{names[number % 6]}{'|Drama' if number % 6 == 1 else ''}" for number in range(12)]
    catalog.write_text("\n".join(["id,genres", *rows]) + "\n")
    assert facts.describe_population("") is None
    found = facts.describe_population(str(catalog))
    assert found is not None and found["num_movies"] == 12 and list(found["counts"].items())[0] == ("Drama", 4)
