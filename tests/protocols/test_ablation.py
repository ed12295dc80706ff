"""An ablation on tiny networks: cut in the middle and gone on from, one cell beyond all reason, and what is refused."""

import csv
import json
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

from poster_jax import config as config_lib
from poster_jax import errors, main, predict
from poster_jax.config import grid
from poster_jax.protocols import ablation, ablation_cells, single
from poster_jax.report import page
from poster_jax.report.tables import ablation_table
from poster_jax.runtime import preemption, sharding
from poster_jax.train import evaluate
from poster_jax.workdir import run_files, run_folder

CONFIG = str(pathlib.Path(__file__).resolve().parents[2] / "configs/ablation_onehot.py") + ":smoke"
WAYS = (
    ("way", ("data.encoding", "loss.name", "optim.learning_rate"), (
        ("integers", "first", "softmax", 0.01),
        ("one-hot", "one_hot", "softmax", 0.01),
        ("sigmoid", "one_hot", "sigmoid", 0.01),
        ("beyond", "first", "softmax", 1e30),
    )),
)  # fmt: skip
TINY = {
    "data.image_size": "(12, 10)",
    "model.blocks": "((3, 3, 2, False, 0.2),)",
    "model.dense": "((4, False, 0.0),)",
    "train.num_epochs": "2",
    "eval.bootstrap_samples": "4",
}
FOLDERS = [f"cells/0{number}_{way}/seed_0" for number, way in enumerate(("integers", "one-hot", "sigmoid", "beyond"), 1)]


def load(axes: Any = WAYS, **more: str) -> config_lib.Config:
    return config_lib.load(CONFIG, [("ablation.axes", repr(axes)), *TINY.items(), *more.items()])


def run(workdir: pathlib.Path, config: config_lib.Config) -> dict[str, Any]:
    protocol = ablation if config.protocol == "ablation" else single
    return protocol.run(config, workdir, preemption.StopRequest())


@pytest.fixture(scope="module", autouse=True)
def one_device() -> Iterator[None]:
    """A fraction of the time of eight simulated ones."""
    with pytest.MonkeyPatch.context() as patch:
        whole = sharding.make_shardings
        patch.setattr(sharding, "make_shardings", lambda devices=None: whole(devices or jax.devices()[:1]))
        yield


def count_runs(patch: pytest.MonkeyPatch) -> list[str]:
    """The names of the cells whose networks are run from here on."""
    started: list[str] = []
    whole = single.run

    def counted(config: Any, folder: pathlib.Path, stop: Any) -> Any:
        started.append(folder.parent.name)
        return whole(config, folder, stop)

    patch.setattr(single, "run", counted)
    return started


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], pathlib.Path, list[str]]:
    """(results, workdir, cells run at the second start) of four cells, cut after the first epoch of the second one."""
    workdir = tmp_path_factory.mktemp("ablation") / "run"
    evaluations = iter(range(100))
    whole = evaluate.evaluate

    def cut(*arguments: Any, **more: Any) -> Any:
        # Two epochs and three parts of the first network, then one epoch of the second.
        if next(evaluations) == 2 + 3:
            raise RuntimeError("cut")
        return whole(*arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "evaluate", cut)
        with pytest.raises(RuntimeError, match="cut"):
            run(workdir, load())
    assert (workdir / FOLDERS[1] / "checkpoints" / "latest").is_dir() and not (workdir / "results.json").exists()
    assert [row["way"] for row in read_csv(workdir)] == ["integers"], "a row as each cell ends"
    with pytest.MonkeyPatch.context() as patch:
        started = count_runs(patch)
        return run(workdir, load()), workdir, started


def read_csv(workdir: pathlib.Path) -> list[dict[str, str]]:
    with open(workdir / "cells.csv") as file:
        return list(csv.DictReader(file))


def predictions(workdir: pathlib.Path) -> dict[str, np.ndarray]:
    with np.load(workdir / "predictions.npz") as arrays:
        return dict(arrays)


def test_what_has_ended_is_only_read_and_what_was_cut_goes_on(
    ended: tuple[dict, pathlib.Path, list], monkeypatch: pytest.MonkeyPatch
) -> None:
    results, workdir, started = ended
    assert started == ["02_one-hot", "03_sigmoid", "04_beyond"]
    before = {name: (workdir / name).read_bytes() for name in ("results.json", "cells.csv")}
    assert json.loads(before["results.json"]) == results
    (workdir / "results.json").unlink()
    again = count_runs(monkeypatch)
    assert run(workdir, load()) == results
    assert again == []
    assert {name: (workdir / name).read_bytes() for name in before} == before


def test_a_cell_is_the_single_run_of_its_config_to_the_bit(
    ended: tuple[dict, pathlib.Path, list], tmp_path: pathlib.Path
) -> None:
    """The second cell, which was cut after its first epoch, against a run that knows of no ablation."""
    workdir = ended[1] / FOLDERS[1]
    overrides = {
        **TINY,
        "protocol": "single",
        "data.encoding": "one_hot",
        "loss.name": "softmax",
        "optim.learning_rate": "0.01",
    }
    run(tmp_path / "lone", config_lib.load(CONFIG, [*overrides.items(), ("ablation.axes", "()")]))
    for name in ("metrics.jsonl", "results.json", "config.json"):
        assert (workdir / name).read_bytes() == (tmp_path / "lone" / name).read_bytes(), name
    for name, array in predictions(tmp_path / "lone").items():
        np.testing.assert_array_equal(array, predictions(workdir)[name])
    assert not (workdir / "checkpoints" / "latest").exists(), "only what is measured is kept"


def test_softmax_on_integers_and_on_one_hot_is_the_same_function(ended: tuple[dict, pathlib.Path, list]) -> None:
    integers, one_hot, sigmoid = (predictions(ended[1] / folder) for folder in FOLDERS[:3])
    for name in integers:
        np.testing.assert_allclose(one_hot[name], integers[name], rtol=1e-5, atol=1e-7)
        assert np.allclose(sigmoid[name], integers[name], rtol=1e-5, atol=1e-7) != name.endswith("score")
    assert integers["test_score"].std(0).min() > 1e-4, "posters are told apart"
    losses = [[line["loss"] for line in run_files.read_lines(ended[1] / folder)] for folder in FOLDERS[:3]]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] != pytest.approx(losses[0], rel=1e-5)


def test_divergence_is_that_cell_s_result(ended: tuple[dict, pathlib.Path, list]) -> None:
    results, workdir, _ = ended
    row = results["ablation"]["cells"][3]
    assert [row["metrics"][name]["value"] for name in ablation_cells.METRICS] == [None] * 3
    assert [(seed["diverged_at"], seed["values"]) for seed in row["seeds"]] == [(5, None)]
    assert read_csv(workdir)[3]["diverged"] == "1" and read_csv(workdir)[3]["top1_accuracy"] == ""
    assert [(effect["num_measured"], effect["num_cells"]) for effect in results["ablation"]["effects"]] == [(1, 1)] * 3 + [
        (0, 1)
    ]
    assert "cell 4 diverged from seed 0: scores that are not finite at step 5" in ablation_table.ablation_table(results)


def test_when_every_cell_diverges_there_is_no_table(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def diverge(*_: Any) -> Any:
        raise errors.Diverged(5)

    monkeypatch.setattr(single, "run", diverge)
    with pytest.raises(errors.UserError, match="every cell has diverged"):
        run(tmp_path / "run", load((("rate", "optim.learning_rate", (1e30,)),)))
    assert "the network has diverged, its scores at step 5 are not finite" in capsys.readouterr().err
    assert [row["diverged"] for row in read_csv(tmp_path / "run")] == ["1"]


def test_every_number_of_the_table_is_its_cell_s_and_stands_beside_its_floor(ended: tuple[dict, pathlib.Path, list]) -> None:
    results, workdir, _ = ended
    text = ablation_table.ablation_table(results)
    for row, folder, line in zip(results["ablation"]["cells"][:3], FOLDERS, read_csv(workdir), strict=False):
        own = json.loads((workdir / folder / "results.json").read_text())["splits"]["test"]["metrics"]
        for name in ("top1_accuracy", "binary_accuracy", "mean_average_precision"):
            assert row["metrics"][name] == {key: own[name][key] for key in row["metrics"][name]}
            assert float(line[name]) == own[name]["value"] and float(line[f"{name}_floor"]) == own[name]["best_floor"]
            assert f"{own[name]['value']:.3f} [{own[name]['low']:.3f}, {own[name]['high']:.3f}] / " in text
    assert results["ablation"]["cells"][0]["metrics"]["binary_accuracy"]["best_floor"] == pytest.approx(5 / 6)
    assert "on the same 30 validation and 30 test rows; trained on 90" in text
    assert max(map(len, text.splitlines())) <= 110


def test_a_cell_s_folder_is_read_by_what_reads_a_run(ended: tuple[dict, pathlib.Path, list], tmp_path: pathlib.Path) -> None:
    network = predict.load_network(ended[1] / FOLDERS[2])
    assert len(network.genres) == 6 and network.variables["params"]
    runs = [run_files.load_run(ended[1] / folder, "test") for folder in FOLDERS[:2]]
    assert [len(seed.scores) for one in runs for seed in one.seeds] == [30, 30]
    for whole, says in (
        (predict.load_network, "holds no single network"),
        (lambda path: run_files.load_run(path, "test"), "run"),
    ):
        with pytest.raises(errors.UserError, match=says):
            whole(ended[1])


def test_the_page_shows_the_table(ended: tuple[dict, pathlib.Path, list], tmp_path: pathlib.Path) -> None:
    results, workdir, _ = ended
    text = page.write([workdir], tmp_path / "page.html")[0].read_text()
    entry = results["ablation"]["cells"][2]["metrics"]["mean_average_precision"]
    assert f"<td>{entry['value']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}] / 0.167</td>" in text
    assert "Ablation: run" in text and "cell 4 diverged" in text and "<td>0 of 1</td>" in text


def test_more_epochs_are_trained_and_the_shorter_results_do_not_pass_for_them(
    ended: tuple[dict, pathlib.Path, list], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ended[1] / FOLDERS[0]
    assert ablation_cells.read_outcome(folder, 0, (0, 2.0)) is not None
    assert ablation_cells.read_outcome(folder, 0, (0, 3.0)) is None
    assert ablation_cells.read_outcome(folder, 0, (7, 0.0)) is None
    assert ablation_cells.read_outcome(tmp_path, 0, (0, 2.0)) is None

    shutil.copytree(ended[1], tmp_path / "run")
    network = ablation.make_networks(load(**{"train.num_epochs": "3"}), tmp_path / "run")[0]

    def stop(config: config_lib.Config, folder: pathlib.Path, *_: Any) -> None:
        (folder / "config.json").write_text(config_lib.to_json(config))
        raise errors.Interrupted("SIGTERM")

    monkeypatch.setattr(single, "run", stop)
    with pytest.raises(errors.Interrupted):
        ablation.train(network, preemption.StopRequest())
    assert ablation_cells.read_outcome(network.folder, 0, (0, 3.0)) is None


def test_cells_begin_a_folder_and_longer_is_for_constant_rates_alone(
    ended: tuple[dict, pathlib.Path, list], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise errors.Interrupted("SIGTERM")

    monkeypatch.setattr(single, "run", stop)
    with pytest.raises(errors.Interrupted):
        run(tmp_path / "run", load())
    with pytest.raises(errors.Interrupted):
        run(tmp_path / "run", load(seed="3"))
    assert run_folder.load_config(tmp_path / "run").seed == 3
    assert [path.name for path in (tmp_path / "run" / "cells").glob("*/seed_*")] == ["seed_3"]

    begun = shutil.copytree(ended[1], tmp_path / "begun")
    with pytest.raises(errors.UserError, match=r"begun with another config \(seed: 0 -> 3\)"):
        run(begun, load(seed="3"))
    with pytest.raises(errors.UserError, match="is at step 10, beyond the 5 asked for"):
        run(begun, load(**{"train.num_epochs": "1"}))
    assert (begun / "results.json").exists() and run_folder.load_config(begun).train.num_epochs == 2
    with pytest.raises(errors.Interrupted):
        run(begun, load(**{"train.num_epochs": "3"}))
    assert not (begun / "results.json").exists() and run_folder.load_config(begun).train.num_epochs == 3


def test_a_damaged_cell_is_named(ended: tuple[dict, pathlib.Path, list], tmp_path: pathlib.Path) -> None:
    for name, cell in (("diverged.json", FOLDERS[3]), ("predictions.npz", FOLDERS[1]), ("results.json", FOLDERS[0])):
        begun = shutil.copytree(ended[1], tmp_path / name)
        (begun / cell / name).write_text('{"step": -1}')
        with pytest.raises(errors.UserError, match=f"{name} (is damaged|cannot be read)"):
            run(begun, load())


def test_over_seeds_a_value_is_the_mean_with_its_range_and_none_where_one_diverged() -> None:
    def outcome(seed: int, value: float | None) -> ablation_cells.Outcome:
        entry = {"value": value, "low": 0.0, "high": 1.0, "best_floor": 0.25, "all_zeros": 0.2}
        results = {
            "num_parameters": 7,
            "best_step": 5,
            "data": {"num_rows": {"train": 9, "validation": 3, "test": 3}},
            "splits": {"test": {"metrics": dict.fromkeys(ablation_cells.METRICS, entry)}},
        }
        return {"seed": seed, "results": None if value is None else results, "diverged_at": 5 if value is None else None}

    cell = grid.Cell(0, {"rate": "1"}, {"optim.learning_rate": 1.0})
    good = ablation_cells.summarise_cell(cell, [outcome(0, 0.5), outcome(1, 0.25), outcome(2, 0.75)])
    assert good["metrics"]["top1_accuracy"] == {"value": 0.5, "low": 0.25, "high": 0.75, "best_floor": 0.25}
    sick = ablation_cells.summarise_cell(cell, [outcome(0, 0.5), outcome(1, None)])
    assert [sick["metrics"]["top1_accuracy"][key] for key in ("value", "low", "high", "best_floor")] == [None] * 3 + [0.25]
    alone = ablation_cells.summarise_cell(cell, [outcome(0, 0.5)])
    assert [alone["metrics"]["top1_accuracy"][key] for key in ("value", "low", "high")] == [0.5, 0.0, 1.0]


def refused(capsys: pytest.CaptureFixture[str], workdir: pathlib.Path, axes: Any, *more: str) -> str:
    arguments = [f"--config={CONFIG}", f"--config.ablation.axes={axes!r}", *more]
    arguments += [f"--config.{key}={value}" for key, value in TINY.items()]
    assert main.main([*arguments, f"--workdir={workdir}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("poster_jax: ") and said.count("\n") == 1, said
    assert not (workdir / "cells").exists(), "before anything is trained"
    return said


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        (("way", ("data.encoding", "loss.name"), (("a", "one_hot", "sigmoid"), ("b", "multi_hot", "sigmoid"))), "other rows"),
        (("split", "data.seed", (0, 1)), "cell 1 (split 0) and cell 2 (split 1) would be measured on other rows"),
        (("net", "model.blocks", (((3, 3, 2, False, 0.0),), ((3, 3, 9, False, 0.0),))), "no pixel left"),
        (("batch", "train.batch_size", (16, 512)), "cell 2 (batch 512): config.train.batch_size=512 is more than"),
        (("rate", "optim.learning_rates", (1.0,)), "did you mean"),
    ],
)
def test_cells_that_cannot_be_compared_or_trained_are_one_sentence(
    axes: Any, says: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in refused(capsys, tmp_path / "run", (axes,))


def test_an_axis_may_change_the_training_rows_and_it_is_said(tmp_path: pathlib.Path) -> None:
    def check(config: config_lib.Config) -> tuple[str, list[ablation.CellRun]]:
        networks = ablation.make_networks(config, tmp_path)
        return ablation.check_rows(networks, [None] * len(networks), ablation.select_rows)[0], networks

    assert "training rows that an axis changes" in check(load((("share", "data.train_share", (0.5, 1.0)),)))[0]
    told, networks = check(load(num_seeds="2"))
    assert "8 networks" in told and "the same training rows too (checked)" in told
    assert [(network.folder.name, network.config.seed) for network in networks] == [("seed_0", 0), ("seed_1", 1)] * 4


def test_rows_of_cells_that_have_ended_count_too(ended: tuple[dict, pathlib.Path, list], tmp_path: pathlib.Path) -> None:
    """The posters changed between two starts: what has ended was measured on other rows than the rest would be."""
    shutil.copytree(ended[1], tmp_path / "run")
    networks = ablation.make_networks(load(), tmp_path / "run")
    outcomes = [ablation_cells.read_outcome(network.folder, 0, (0, 2.0)) for network in networks]
    assert "(checked)" in ablation.check_rows(networks, [outcomes[0], None, None, None], ablation.select_rows)[0]
    arrays = predictions(networks[0].folder)
    np.savez(networks[0].folder / "predictions.npz", **{**arrays, "test_id": arrays["test_id"][::-1]})
    with pytest.raises(
        errors.UserError, match=r"cell 1 \(way integers\) and cell 2 \(way one-hot\) would be measured on other"
    ):
        ablation.check_rows(networks, [outcomes[0], None, None, None], ablation.select_rows)
