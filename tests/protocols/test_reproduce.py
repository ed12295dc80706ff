"""The reproduction's plan: which experiments run with what; the experiments themselves are other protocols' tests."""

import math
import pathlib
from collections.abc import Callable

import pytest
from PIL import Image

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
    one_shot = {"search", "search_batch_norm", "rates", "table4", "one_hot_long", "one_hot_split_1", "one_hot_split_2"}
    for name, config in experiments.items():
        assert config.num_seeds == (1 if name in one_shot else 3), name
    assert not experiments["search"].model.blocks[0][3] and experiments["search_batch_norm"].model.blocks[0][3]
    assert len(experiments["rates"].search.trials) == 6
    assert len(experiments["table4"].search.trials) == 5 and experiments["table4"].model.blocks[0][3]


def test_the_one_hot_networks_take_the_reports_steps_and_one_four_times_as_many() -> None:
    experiments = reproduce.load_experiments(config_lib.load(CONFIG))
    one_hot = {name: config for name, config in experiments.items() if name.startswith("one_hot")}
    assert len(one_hot) == 11
    for name, config in one_hot.items():
        assert config.train.num_steps == (4 * 1796 if name == "one_hot_long" else 4 * 449), name
        assert (config.train.num_epochs, config.eval.every_steps) == (0.0, 449), name


def test_dropout_and_rate_are_a_two_by_two() -> None:
    experiments = reproduce.load_experiments(config_lib.load(CONFIG))
    cells = {}
    for name in ("one_hot", "one_hot_fast", "one_hot_no_dropout", "one_hot_no_dropout_slow"):
        config = experiments[name]
        dropouts = tuple(row[-1] for row in (*config.model.blocks, *config.model.dense))
        cells[any(dropouts), config.optim.learning_rate] = name
        plain = config_lib.derive(config, {"model.blocks": (), "model.dense": (), "optim.learning_rate": 1.0})
        plain = config_lib.derive(plain, {"eval.parts": (), "train.log_accuracy": False})
        cells.setdefault("rest", config_lib.to_json(plain))
        assert cells["rest"] == config_lib.to_json(plain), f"{name} differs in more than dropout and rate"
    assert set(cells) == {"rest", *((dropout, rate) for dropout in (True, False) for rate in (1e-4, 1e-3))}


def test_fine_tuning_starts_from_run_1_and_once_from_drawn_weights() -> None:
    given = [("model.weights", "keras:file.h5")]
    experiments = reproduce.load_experiments(config_lib.load(CONFIG, given))
    drawn, pretrained = experiments["transfer_drawn"], experiments["transfer"]
    assert drawn.transfer.start_rate == pretrained.transfer.start_rate == 1e-4
    assert (drawn.model.weights, pretrained.model.weights) == ("", "keras:file.h5")
    changed = [line.split(":")[0] for line in config_lib.differences(pretrained, drawn)]
    assert changed == ["model.weights", "transfer.input_ranges"]


def test_posters_weights_and_reductions_reach_every_experiment_that_takes_them() -> None:
    given = [("data.variant", "kaggle"), ("data.dir", "posters"), ("model.weights", "keras:file.h5"), ("seed", "5")]
    experiments = reproduce.load_experiments(config_lib.load(f"{CONFIG}:quick", given))
    for name, config in experiments.items():
        assert (config.data.variant, config.data.dir, config.seed) == ("kaggle", "posters", 5), name
        assert config.data.balance_limit == 200, name
        assert config.train.num_epochs == (12 if name == "one_hot_long" else 3), name
        assert (config.train.num_steps, config.eval.every_epochs) == (0, 1.0), name
    assert experiments["transfer"].model.weights == "keras:file.h5"
    # For one experiment, after its own settings.
    assert (experiments["ablation"].num_seeds, experiments["one_hot"].num_seeds, experiments["transfer"].num_seeds) == (1, 3, 3)
    # At least 1,200 posters, all trials and folds.
    assert experiments["search"].search.num_trials == 10 and experiments["search"].search.num_folds == 4


def find_reduced(arg: str, *given: tuple[str, str]) -> dict[str, list[str]]:
    config = config_lib.load(f"{CONFIG}{arg}", given)
    return reproduce.find_reduced(config, reproduce.load_experiments(config))


def test_what_was_reduced_is_told_by_experiment() -> None:
    assert not any(find_reduced("").values())
    quick = find_reduced(":quick")
    assert all(quick.values())
    assert "train.num_epochs: 20.0 -> 3.0" in quick["transfer"] and "num_seeds: 3 -> 1" in quick["ablation"]
    one = find_reduced("", ("reproduce.overrides", "('search:train.num_epochs=3.0', 'data.path=resident')"))
    assert {name: lines for name, lines in one.items() if lines} == {"search": ["train.num_epochs: 15.0 -> 3.0"]}


def test_drawn_posters_and_smoke_runs_withhold_verdicts_in_one_sentence() -> None:
    for arg, given, says in (
        (":smoke", [("data.variant", "kaggle"), ("data.dir", "posters")], "smoke run"),
        ("", [], "the posters are drawn"),
        ("", [("data.variant", "kaggle"), ("data.dir", "posters")], ""),
    ):
        config = config_lib.load(f"{CONFIG}{arg}", given)
        told = reproduce.why_withheld(config, reproduce.load_experiments(config))
        assert says in told and bool(told) == bool(says) and told.count(". ") == 0


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


def test_what_is_done_is_known_by_its_config_and_its_whole_results(
    tmp_path: pathlib.Path, write_workdir: Callable[..., pathlib.Path]
) -> None:
    config = reproduce.load_experiments(config_lib.load(f"{CONFIG}:smoke"))["one_hot"]
    assert not reproduce.is_finished(config, tmp_path)
    folder = write_workdir(tmp_path / "run")
    (folder / "config.json").write_text(config_lib.to_json(config))
    assert reproduce.is_finished(config, folder)
    longer = config_lib.derive(config, {"train.num_epochs": 9.0})
    assert not reproduce.is_finished(longer, folder)
    (folder / "results.json").write_text("{}")
    assert not reproduce.is_finished(config, folder)


def test_the_facts_are_those_of_the_paper(tmp_path: pathlib.Path) -> None:
    assert facts.count_parameters() == {"body": 2_257_984, "total": 2_265_670, "trainable": 7_686}
    assert facts.count_tuned() == 2_231_558 and facts.shape_of_last_map() == (4, 4, 1280)
    assert facts.count_flat_features() == 47_872
    assert facts.softmax_gap(0) < 1e-6
    catalog = tmp_path / "catalog.csv"
    names = ("Drama", "Comedy", "Action", "Crime", "Horror", "Documentary")
    rows = [f"{number},{names[number % 6]}{'|Drama' if number % 6 == 1 else ''}" for number in range(12)]
    catalog.write_text("\n".join(["id,genres", *rows]) + "\n")
    assert facts.describe_population("") is None
    found = facts.describe_population(str(catalog))
    assert found is not None and found["num_movies"] == 12 and list(found["counts"].items())[0] == ("Drama", 4)


def test_depthwise_pairs_are_counted_over_the_blocks_as_the_network_has_them() -> None:
    variables = facts._transfer_shapes()["params"]
    kernels = [variables[f"block_{index}"][part]["kernel"].shape for index in range(17) for part in ("depthwise", "project")]
    counts = facts.count_depthwise()
    assert counts["parameters"]["separable"] == sum(math.prod(shape) for shape in kernels)
    # The first block by hand: 32 channels to 16 on 64 x 64.
    assert facts.block_shapes()[0] == (64, 32, 16, 1) and facts.block_shapes()[-1] == (4, 960, 320, 1)
    assert counts["parameters"]["full"] == sum(9 * channels * filters for _, channels, filters, _ in facts.block_shapes())
    assert counts["operations"]["full"] > 5 * counts["operations"]["separable"]


def test_depthwise_times_are_taken_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[bool] = []
    monkeypatch.setattr(facts, "_make_pass", lambda separable: lambda: called.append(separable))
    monkeypatch.setattr(facts, "ROUND_SECS", 0.0)
    rounds = facts.time_depthwise(4)
    assert [len(pair) for pair in rounds] == [2] * 4 and all(secs > 0 for pair in rounds for secs in pair)
    # Two calls a measurement, one of them not timed, after the two that set the number of repeats.
    assert called[4:] == [True, True, False, False, False, False, True, True] * 2


def test_the_facts_stand_beside_what_the_report_prints() -> None:
    population = {"num_movies": 10, "counts": {"Drama": 5, "Comedy": 4, "War": 1}}
    found = {"population": population, "parameters": facts.count_parameters(), "tuned": facts.count_tuned()}
    found |= {"sizes": "182 x 268, 9 of 9 looked at", "last_map": [4, 4, 1280], "flat": 47872}
    data = {"genres": ["Drama", "War"], "num_rows": {"train": 1428, "validation": 477, "test": 477}}
    data["genre_counts"] = {"train": [714, 714], "validation": [238, 239], "test": [239, 238]}
    table = {row["fact"]: row for row in facts.build_table(found, data, 32, 0)}
    for fact, report, ours in (
        ("steps of 32 an epoch", "449", "44 of 32 (1,428 training rows)"),
        ("validation steps of 32", "20", "15 (all of 477 rows)"),
        ("parameters that train when the body is frozen", "7,686", "7,686"),
        ("parameters that train in fine-tuning", "approximately 2 million", "2,231,558"),
        ("the body's last map at 128 x 128", "4 x 4 x 1280", "4 x 4 x 1280"),
        ("the two genres that lead", "Drama, Comedy", "catalog: Drama 5, Comedy 4"),
        (
            "the six most frequent genres",
            "Action, Comedy, Crime, Documentary, Drama, Horror",
            "catalog: Comedy, Drama, War; posters: Drama, War",
        ),
        ("rows of each genre after balancing", "about equal; no number is printed", "1,191"),
        ("size of a poster, width x height", "182 x 268", "182 x 268, 9 of 9 looked at"),
    ):
        assert (table[fact]["report"], table[fact]["ours"]) == (report, ours)
    sampled = {row["fact"]: row["ours"] for row in facts.build_table(found, data, 32, 20)}
    assert sampled["validation steps of 32"] == "20 (a sample of 477 rows)"
    alone = {row["fact"]: row["ours"] for row in facts.build_table({**found, "population": None}, None, 0, 0)}
    assert alone["the two genres that lead"] == alone["steps of 32 an epoch"] == facts.NOT_KNOWN


def test_the_size_of_posters_is_read_from_their_files(tmp_path: pathlib.Path) -> None:
    assert facts.describe_sizes(tmp_path) == facts.describe_sizes(tmp_path / "none") == facts.NOT_KNOWN
    for number, size in enumerate([(182, 268), (182, 268), (100, 150)]):
        Image.new("RGB", size, (number, 9, 9)).save(tmp_path / f"{number}.jpg")
    (tmp_path / "broken.jpg").write_bytes(b"")
    assert facts.describe_sizes(tmp_path) == "182 x 268, 2 of 3 looked at"
