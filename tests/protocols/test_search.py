"""A search in one process: who enters a fold, halving, divergence, groups, what is refused, and what the table says."""

import csv
import html
import json
import pathlib
import shutil
from typing import Any

import numpy as np
import pytest

from poster_jax import config as config_lib
from poster_jax import errors, predict
from poster_jax.data import builder, splits
from poster_jax.metrics import calibration
from poster_jax.protocols import search, search_rungs
from poster_jax.report import page
from poster_jax.report.figures import style
from poster_jax.report.tables import search_table
from poster_jax.runtime import preemption
from poster_jax.search import ensemble, groups, snapshots
from poster_jax.workdir import run_files, run_folder
from tests.helpers import runs

SEARCH = str(pathlib.Path(__file__).resolve().parents[2] / "configs/search_cnn.py")
# Learning rate, dropout, widths; the second one is beyond all reason.
GIVEN = ((0.003, 0.2, 2, 3, 5), (1e30, 0.3, 3, 4, 6), (0.001, 0.4, 4, 3, 5))


def load(**changed: Any) -> config_lib.Config:
    config = config_lib.load(f"{SEARCH}:smoke", [(f"search.{key}", str(value)) for key, value in changed.items()])
    config.eval.baselines = False
    return config


def run(config: config_lib.Config, workdir: pathlib.Path) -> dict[str, Any]:
    return search.run(config, workdir, preemption.StopRequest())


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], pathlib.Path]:
    """Three given trials one network at a time, halved after the first epoch."""
    workdir = tmp_path_factory.mktemp("lone") / "run"
    return run(load(trials=GIVEN, vectorize="none", halving=(1,)), workdir), workdir


def prepare(config: config_lib.Config, workdir: pathlib.Path) -> search_rungs.Search:
    return search.prepare(runs.open_run(config, workdir))


def test_no_test_row_and_no_movie_twice_enters_a_fold(tmp_path: pathlib.Path) -> None:
    config = load(num_folds=4, vectorize="none")
    # Every listed genre is a row, so that movies have several.
    config.data.encoding, config.data.balance = "exploded", "none"
    prepared = prepare(config, tmp_path)
    rows = prepared.run.loader.rows
    assert len(np.unique(rows.group)) < len(rows.group)
    test_movies = set(rows.group[rows.parts["test"]])
    seen: list[int] = []
    for train, validation in prepared.folds:
        entered = np.concatenate([train, validation])
        assert not set(rows.group[entered]) & test_movies
        assert not set(rows.group[train]) & set(rows.group[validation])
        assert not set(entered) & set(rows.parts["test"])
        seen += validation.tolist()
    assert sorted(seen) == sorted(prepared.pool.tolist())
    member = search_rungs.make_member(prepared, prepared.trials[0], 0, *prepared.folds[0])
    assert set(member.sample) <= set(prepared.folds[0][0]) and len(member.sample) == 32


def test_that_check_sees_rows_that_are_not_kept_together() -> None:
    label, group = np.zeros(40, np.int32), np.repeat(np.arange(20), 2)
    (train, validation), *_ = splits.k_folds(label, np.arange(40), np.arange(40), 4, seed=0)
    assert set(group[train]) & set(group[validation])


def test_halving_drops_the_worse_half_and_the_rest_train_on(lone: tuple[dict, pathlib.Path]) -> None:
    results, workdir = lone
    table = {row["trial"]: row for row in results["search"]["trials"]}
    assert sorted(row["epochs"] for row in table.values()) == [1, 2, 2]
    assert table[2]["epochs"] == 1, "the trial that diverges is the worse one"
    assert [len(row["curves"]["validation"]) for row in table.values()] == [row["epochs"] for row in table.values()]
    assert [row["other"] for row in results["search"]["comparisons"]] == [
        row for row in (1, 3) if row != results["search"]["winner"]
    ]
    assert results["search"]["ranking"][-1] == 2
    assert not list((workdir / "search").glob("cohort_*"))


def test_divergence_is_that_trial_s_result(lone: tuple[dict, pathlib.Path]) -> None:
    results, workdir = lone
    table = {row["trial"]: row for row in results["search"]["trials"]}
    assert table[2]["mean"] is None and table[2]["folds"] == [None, None]
    assert all(table[number]["mean"] is not None for number in (1, 3))
    with open(workdir / "trials.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == ["1", "2", "3"]
    assert rows[1]["fold_1"] == rows[1]["mean_top1_accuracy"] == ""
    assert float(rows[0]["fold_2"]) == table[1]["folds"][1] and float(rows[0]["seconds"]) > 0
    assert "diverged on some fold: trial 2" in search_table.search_table(results["search"])


def test_every_epoch_of_every_network_has_its_lines(lone: tuple[dict, pathlib.Path]) -> None:
    lines = run_files.read_lines(lone[1])
    keys = [(line["trial"], line["fold"], line["epoch"], line["part"]) for line in lines]
    assert len(keys) == len(set(keys)) == (2 + 1 + 2) * 2 * 2
    assert all(0 <= line["top1_accuracy"] <= 1 and line["loss"] > 0 for line in lines if line["trial"] != 2)


def test_stacked_and_padded_in_groups_it_gives_the_same_table(
    lone: tuple[dict, pathlib.Path], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
    """Eight devices, one of which has room for one network: 6 networks as 8 of which the last is repeated."""
    results = run(load(trials=GIVEN, vectorize="all", halving=(1,)), tmp_path / "run")
    assert "6 at a time" in capsys.readouterr().out
    for ours, theirs in zip(results["search"]["trials"], lone[0]["search"]["trials"], strict=True):
        assert ours["epochs"] == theirs["epochs"]
    for name in ("metrics.jsonl",):
        for ours, theirs in zip(*(run_files.read_lines(w, name) for w in (tmp_path / "run", lone[1])), strict=True):
            assert ours.keys() == theirs.keys()
            if ours["loss"] is not None:
                assert ours["loss"] == pytest.approx(theirs["loss"], abs=2e-4)


def test_the_winner_is_measured_beside_floors_and_kept_as_a_network(lone: tuple[dict, pathlib.Path]) -> None:
    results, workdir = lone
    rows = {part: split["num_rows"] for part, split in results["splits"].items()}
    assert rows["train"] == rows["validation"] == 120 and rows["test"] == 30
    assert results["splits"]["test"]["metrics"]["top1_accuracy"]["best_floor"] == pytest.approx(1 / 6)
    assert results["search"]["floor"] == pytest.approx(1 / 6)
    with np.load(workdir / "predictions.npz") as arrays:
        out_of_fold, ids = arrays["validation_score"], arrays["validation_id"]
    np.testing.assert_allclose(out_of_fold.sum(1), 1, atol=1e-5)
    prepared = prepare(load(trials=GIVEN, vectorize="none", halving=(1,)), workdir)
    for fold, (_, validation) in enumerate(prepared.folds):
        record = snapshots.load_record(snapshots.member_path(workdir, results["search"]["winner"] - 1, fold))
        at = np.searchsorted(prepared.pool, validation)
        np.testing.assert_array_equal(out_of_fold[at], record.scores)
        np.testing.assert_array_equal(ids[at], prepared.run.loader.rows.movie_id[validation])
    config = json.loads((workdir / "winner" / "config.json").read_text())
    given = GIVEN[results["search"]["winner"] - 1]
    assert [row[0] for row in config["model"]["blocks"]] == list(given[2:4])
    assert config["model"]["dense"][0] == [given[4], False, given[1]]


def test_the_winner_s_folder_is_a_finished_run_that_predicts_what_was_measured(
    lone: tuple[dict, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    folder = lone[1] / "winner"
    own = json.loads((folder / "results.json").read_text())
    for name in ("title", "data", "splits", "baselines", "num_steps", "num_parameters", "seed", "num_seeds"):
        assert own[name] == lone[0][name]
    assert (own["protocol"], own["best_step"], own["body"]) == ("single", own["num_steps"], {})
    with np.load(folder / "predictions.npz") as arrays:
        measured = dict(zip(arrays["test_id"].tolist(), arrays["test_score"], strict=True))
    source = builder.load_source(run_folder.load_config(folder).data)
    rows = np.flatnonzero(np.isin(source.table["id"], list(measured)))[:5]
    for row, encoded in zip(rows, source.encoded(rows), strict=True):
        (tmp_path / f"{source.table['id'][row]}.jpg").write_bytes(encoded)
    network = predict.load_network(folder)
    found = predict.predict(network, sorted(tmp_path.iterdir()), with_maps=False)
    pictures = [each for each in found if isinstance(each, predict.Prediction)]
    ours = np.stack([each.scores for each in pictures])
    temperatures, _ = calibration.of_results(own, network.genres)
    assert temperatures is not None
    wanted = calibration.apply(np.stack([measured[int(each.path.stem)] for each in pictures]), temperatures)
    np.testing.assert_allclose(ours, wanted, atol=1e-5)
    assert len(ours) == 5 and np.ptp(ours, axis=0).min() > 1e-4, "a mixed-up order would show"
    with np.load(folder / "samples.npz") as samples:
        for number, score in zip(samples["id"].tolist(), samples["score"], strict=True):
            np.testing.assert_array_equal(score, measured[number])
        assert np.isfinite(samples["map"]).all()


def test_the_page_of_a_search_is_its_table_and_its_winner(
    lone: tuple[dict, pathlib.Path], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(style, "render", lambda *_, **__: style.Drawn(b"", b"", b""))
    text = page.write([lone[1]], tmp_path / "page.html")[0].read_text()
    assert search_table.search_table(lone[0]["search"]) in html.unescape(text)
    assert "Search: run" in text and "Run: winner" in text and "trial 2" in text


def test_a_finished_search_is_only_read_and_keeps_its_epochs(lone: tuple[dict, pathlib.Path]) -> None:
    config = load(trials=GIVEN, vectorize="none", halving=(1,))
    before = (lone[1] / "results.json").stat().st_mtime_ns
    assert run(config, lone[1]) == lone[0]
    assert (lone[1] / "results.json").stat().st_mtime_ns == before
    config.train.num_epochs = 3.0
    with pytest.raises(errors.UserError, match=r"train.num_epochs: 2.0 -> 3.0, but the trials of a search are compared after"):
        run(config, lone[1])


def test_a_damaged_result_is_made_again_and_its_winner_too(
    lone: tuple[dict, pathlib.Path], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = shutil.copytree(lone[1], tmp_path / "run")
    (workdir / "results.json").write_text((workdir / "results.json").read_text()[:-900])
    assert run(load(trials=GIVEN, vectorize="none", halving=(1,)), workdir) == lone[0]
    assert "results.json is damaged" in capsys.readouterr().err
    assert (workdir / "results.json").read_bytes() == (lone[1] / "results.json").read_bytes()


def members(workdir: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (workdir / "search").glob("member_*")}


@pytest.mark.parametrize(("vectorize", "group"), [("folds", "2"), ("all", "3")])
def test_added_trials_leave_the_earlier_ones_as_they_are(
    vectorize: str, group: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With groups of three, the second one holds a network that had ended and two that are new."""
    monkeypatch.setattr(groups, "choose_group", lambda *_: (group, "the test asks for it"))
    few, more = load(num_trials=2, vectorize=vectorize), load(num_trials=3, vectorize=vectorize)
    results = run(few, tmp_path / "run")
    if vectorize == "all":
        # Trained again it would have another score.
        path = snapshots.member_path(tmp_path / "run", 1, 1)
        record = snapshots.load_record(path)
        assert record is not None
        record.history[-1]["validation"]["top1_accuracy"] = results["search"]["trials"][1]["folds"][1] = 0.125
        snapshots.save_record(path, record)
    earlier = members(tmp_path / "run")
    (tmp_path / "run" / "search" / "cohort_0002_0001.npz").write_text("of a group that had not ended")
    longer = run(more, tmp_path / "run")
    later = members(tmp_path / "run")
    assert len(earlier) == 4 and len(later) == 6 and {name: later[name] for name in earlier} == earlier
    for row, before in zip(longer["search"]["trials"], results["search"]["trials"], strict=False):
        assert row["folds"] == before["folds"]
    assert config_lib.differences(run_folder.load_config(tmp_path / "run"), more) == []
    if vectorize == "folds":
        assert longer == run(more, tmp_path / "fresh")
        assert (tmp_path / "run" / "winner" / "results.json").read_bytes() == (
            tmp_path / "fresh" / "winner" / "results.json"
        ).read_bytes()
    with pytest.raises(errors.UserError, match=r"search.num_trials: 3 -> 2, but trials can be added"):
        run(few, tmp_path / "run")


def test_results_of_fewer_trials_go_before_more_are_asked_for(lone: tuple[dict, pathlib.Path], tmp_path: pathlib.Path) -> None:
    workdir = shutil.copytree(lone[1], tmp_path / "run")
    config = load(trials=GIVEN, vectorize="none")
    (workdir / "config.json").write_text(config_lib.to_json(config))
    run_folder.begin(workdir, load(trials=(*GIVEN, GIVEN[0]), vectorize="none"))
    assert not (workdir / "results.json").exists() and not (workdir / "winner" / "results.json").exists()
    assert members(workdir) == members(lone[1])


def test_before_the_first_snapshot_any_key_may_change(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> Any:
        raise errors.Interrupted("SIGTERM")

    with monkeypatch.context() as patch, pytest.raises(errors.Interrupted):
        patch.setattr(groups, "train", stop)
        run(load(vectorize="none"), tmp_path / "run")
    assert '"none"' in (tmp_path / "run" / "chosen.json").read_text()
    with monkeypatch.context() as patch, pytest.raises(errors.Interrupted):
        patch.setattr(groups, "train", stop)
        run(load(vectorize="folds", num_folds=3), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "chosen.json").read_text())["vectorize"][0] == "folds"
    assert run_folder.load_config(tmp_path / "run").search.num_folds == 3


def test_the_table_says_which_trials_cannot_be_told_apart(lone: tuple[dict, pathlib.Path]) -> None:
    summary = json.loads(json.dumps(lone[0]["search"]))
    text = search_table.search_table(summary)
    other = summary["comparisons"][0]["other"]
    assert f"trial {summary['winner']} cannot be told apart from trial {other}" in text
    assert "floor (best constant answer): 0.167" in text
    assert "dropped by halving, and compared with nothing: trial 2" in text
    summary["comparisons"][0]["apart"] = True
    assert f"trial {summary['winner']} is better than trial {other}" in search_table.search_table(summary)
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize(
    ("changed", "says"),
    [({"num_folds": 50}, "use fewer folds"), ({"memory_mb": 1, "vectorize": "none"}, "one network of this search needs")],
)
def test_folds_and_memory_that_cannot_be_are_one_sentence(
    changed: dict[str, Any], says: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What XLA counts for so small a network is less than 1 MB with some versions.
    monkeypatch.setattr(ensemble, "member_bytes", lambda *_, **__: 2 * 2**20)
    with pytest.raises(errors.UserError, match=says) as raised:
        run(load(**changed), tmp_path / "run")
    assert "\n" not in str(raised.value)


def test_what_does_not_fit_is_split_and_says_so(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ensemble, "member_bytes", lambda *_, **__: 2 * 2**20)
    prepared = prepare(load(vectorize="folds", memory_mb=3, num_folds=3), tmp_path)
    assert prepared.group == 1
    assert "3 do not fit together, so 1 at a time" in (tmp_path / "chosen.json").read_text()
    assert [len(group.members) for group in search_rungs.make_groups(prepared, prepared.trials)] == [1] * 6


def test_auto_is_what_the_devices_call_for_and_a_wish_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert groups.choose_vectorize("none") == ("none", "the config asks for it")
    assert groups.choose_vectorize("auto")[0] == "all"
    monkeypatch.setattr(groups.jax, "devices", lambda: ["one"])
    assert groups.choose_vectorize("auto")[0] == "folds"
