"""The probe of features from files, and the command that writes them: the bits of `transfer`, and what is refused."""

import contextlib
import html
import json
import pathlib
import re
import shlex
import shutil
import signal
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from poster_jax import __main__ as commands
from poster_jax import compare, errors, features, main, predict
from poster_jax import config as config_lib
from poster_jax.data import feature_files
from poster_jax.metrics import baselines
from poster_jax.protocols import transfer
from poster_jax.report import __main__ as report
from poster_jax.report import page
from poster_jax.train import features as features_lib
from poster_jax.train import network
from poster_jax.workdir import run_files
from tests.helpers import processes, runs
from tests.protocols import test_own_posters

ROOT = pathlib.Path(__file__).resolve().parents[2]
FROZEN = (("transfer.tune", "False"), ("transfer.input_ranges", "((),)"), ("eval.bootstrap_samples", "10"))
TRANSFER = f"{ROOT}/configs/transfer_mobilenet.py:smoke"
# On the rows of the transfer above.
PROBE = (
    f"--config={ROOT}/configs/probe_features.py:smoke",
    "--config.eval.bootstrap_samples=10",
    "--config.data.encoding=first",
)
# The one penalty at which it fits its baseline.
SAME = ("--config.probe.inverse_penalties=(0.001,)",)


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A transfer without fine-tuning."""
    workdir = tmp_path_factory.mktemp("frozen") / "run"
    overrides = [f"--config.{key}={text}" for key, text in FROZEN]
    assert main.main([f"--config={TRANSFER}", *overrides, f"--workdir={workdir}"]) == 0
    return workdir


@pytest.fixture(scope="module")
def written(frozen: pathlib.Path) -> pathlib.Path:
    """The features of its body."""
    file = frozen.parent / "features.npz"
    assert features.main([str(frozen), f"--out={file}"]) == 0
    return file


@pytest.fixture(scope="module")
def probed(frozen: pathlib.Path, written: pathlib.Path) -> pathlib.Path:
    workdir = frozen.parent / "probe"
    assert main.main([*PROBE, *SAME, f"--config.data.features={written}", f"--workdir={workdir}"]) == 0
    return workdir


def read(workdir: pathlib.Path) -> dict[str, Any]:
    return json.loads((workdir / "results.json").read_text())


def test_the_file_has_every_poster_of_the_run_in_its_part(frozen: pathlib.Path, written: pathlib.Path) -> None:
    predictions = run_files.read_predictions(frozen)
    with np.load(written) as arrays:
        part = dict(zip(arrays["id"].tolist(), arrays["part"].tolist(), strict=True))
        assert arrays["features"].dtype == np.float32 and arrays["features"].shape == (len(part), 1280)
    wanted = {id_: name for name in ("train", "validation", "test") for id_ in predictions[f"{name}_id"].tolist()}
    assert part == wanted


def test_heads_on_what_was_written_have_the_bits_of_the_transfer(
    frozen: pathlib.Path, written: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    run = runs.open_run(config_lib.load(TRANSFER, FROZEN), tmp_path / "run")
    _, first_rows, index = np.unique(run.loader.rows.poster, return_index=True, return_inverse=True)
    array, _ = feature_files.read(str(written), run.loader.rows.movie_id[first_rows])
    net: Any = network.build(run)

    def histories(array: np.ndarray) -> list[Any]:
        held = features_lib.Features(array, index)
        statistics = net.model.head_statistics(held.of(run.loader.rows.parts["train"]))
        return [head.history for head in transfer.cached_heads(run, net, statistics, held)]

    [branch] = read(frozen)["branches"]
    assert histories(array) == [head["history"] for head in branch["frozen"]]
    changed = array.copy()
    changed[0, 0] += 1
    assert histories(changed) != [head["history"] for head in branch["frozen"]]


def test_the_probe_has_the_bits_of_what_the_transfer_makes_of_the_same_features(
    frozen: pathlib.Path, probed: pathlib.Path
) -> None:
    theirs, ours = read(frozen), read(probed)
    assert ours["splits"] == theirs["baselines"]["feature_logistic"]
    for name in ("feature_neighbours", "color_histogram_logistic"):
        assert ours["baselines"][name] == theirs["baselines"][name]
    assert ours["data"] == theirs["data"]
    assert ours["splits"] != theirs["splits"]


def test_validation_chooses_the_penalty_and_the_table_says_which(
    written: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*PROBE, "--verbose", f"--config.data.features={written}", f"--workdir={tmp_path / 'run'}"]
    assert main.main([*arguments, "--config.probe.inverse_penalties=(1e-4,1e-2,1.0)"]) == 0
    said, probe = capsys.readouterr().out, read(tmp_path / "run")["probe"]
    values = {fit["inverse_penalty"]: fit["value"] for fit in probe["path"]}
    assert list(values) == [1e-4, 1e-2, 1.0] and values[probe["inverse_penalty"]] == max(values.values())
    assert f"{probe['inverse_penalty']:>9g}{max(values.values()):>12.3f}  chosen" in said
    assert "features: 1,280 columns of features.npz" in said and ("better than" in said or "cannot be told" in said)
    # What is measured is the fit at the chosen penalty, not at another.
    rows = run_files.read_predictions(tmp_path / "run")
    held = {part: feature_files.read(str(written), rows[f"{part}_id"])[0] for part in ("train", "test")}
    for penalty in values:
        fit = baselines.logistic_regression(held["train"], rows["train_label"], held, 6, inverse_penalty=penalty)
        assert np.allclose(fit["test"], rows["test_score"], atol=1e-4) == (penalty == probe["inverse_penalty"])
    text = html.unescape(page.write([tmp_path / "run"], tmp_path / "page.html")[0].read_text())
    assert f"{probe['inverse_penalty']:>9g}{max(values.values()):>12.3f}  chosen" in text
    assert "a logistic regression, chosen by validation of fits at 3 penalties" in text and "the weights of" not in text
    digest = probe["features"][0]["sha256"]
    assert len(digest) == 64 and f"features: 1,280 of features.npz, sha256 {digest}" in said


def test_the_path_is_that_of_lone_fits() -> None:
    """Against a fit of its own in float64 at each penalty, for one label and for several, some of them in no row or in all."""
    rng = np.random.default_rng(0)
    train, held = rng.normal(size=(200, 12)), rng.normal(size=(50, 12))
    several = (train[:, :4] + rng.normal(size=(200, 4)) > 0).astype(int)
    several[:, 2], several[:, 3] = 0, 1
    one = np.where(train[:, 0] > 0, 3, train[:, 1] > 0)
    penalties = (1e-3, 1e-1, 10.0)
    for labels in (several, one):
        path = list(baselines.logistic_path(train, labels, held, 4, penalties))
        alone = [
            baselines.logistic_regression(train, labels, {"held": held}, 4, inverse_penalty=penalty)["held"]
            for penalty in penalties
        ]
        np.testing.assert_allclose(path, alone, atol=0.01)
        assert np.abs(path[0] - alone[-1]).max() > 0.1


def test_a_run_of_its_own_reads_nothing_but_is_refused_other_features(
    written: pathlib.Path, probed: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, workdir = tmp_path / "features.npz", tmp_path / "run"
    shutil.copy(written, file)
    arguments = [*PROBE, *SAME, f"--config.data.features={file}", f"--workdir={workdir}"]
    assert main.main(arguments) == 0
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    assert read(workdir)["splits"] == read(probed)["splits"]
    assert main.main(arguments) == 0
    assert (workdir / "results.json").read_bytes() == before[workdir / "results.json"]
    with np.load(file) as arrays:
        np.savez(file, id=arrays["id"], features=arrays["features"][:, :7])
    capsys.readouterr()
    assert main.main(arguments) == 2
    said = capsys.readouterr().err
    assert "began with features of sha256 " in said and "(1,280 columns of features.npz)" in said
    assert "(7 columns of features.npz): give that file again, or another --workdir." in said
    stay = {path: content for path, content in before.items() if path.name != "timings.jsonl"}
    assert {path: path.read_bytes() for path in stay} == stay


def test_features_of_other_posters_leave_no_run_behind(
    written: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(written) as arrays:
        np.savez(tmp_path / "few.npz", id=arrays["id"][3:], features=arrays["features"][3:])
    arguments = [*PROBE, *SAME, f"--config.data.features={tmp_path / 'few.npz'}"]
    assert main.main([*arguments, f"--workdir={tmp_path / 'run'}"]) == 2
    assert "3 of 150 posters have no features in " in capsys.readouterr().err
    assert not (tmp_path / "run" / "config.json").exists()
    assert main.main([*arguments, "--plan"]) == 2
    assert "3 of 150 posters have no features in " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ((("data.features", ""),), "config.data.features is empty: give a file"),
        ((("num_seeds", "2"),), "the same from every seed: set num_seeds=1"),
        ((("probe.inverse_penalties", "()"),), "one or more rising numbers above zero"),
        ((("probe.inverse_penalties", "(1.0, 0.1)"),), "one or more rising numbers above zero"),
        ((("probe.inverse_penalties", "(0.0, 0.1)"),), "one or more rising numbers above zero"),
    ],
)
def test_what_a_probe_cannot_be(pairs: tuple[tuple[str, str], ...], says: str) -> None:
    with pytest.raises(errors.UserError, match=says):
        config_lib.load("probe_features", pairs)


def test_features_that_nobody_would_read_are_refused() -> None:
    with pytest.raises(errors.UserError, match="read by protocol=probe alone: take configs/probe_features.py"):
        config_lib.load("cnn_onehot", [("data.features", "a.npz")])


def test_a_run_is_no_network_and_is_judged_like_one(
    frozen: pathlib.Path, probed: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict.main([str(probed), str(probed)]) == 2
    assert compare.main([str(probed), str(frozen), "--part=test"]) == 0
    assert report.main([str(probed)]) == 0
    assert report.main([str(probed), "--markdown"]) == 0
    page = (probed / "report.html").read_text()
    assert "a logistic regression, chosen by validation of fits at 1 penalties" in page
    assert features.main([str(probed), f"--out={probed / 'a.npz'}"]) == 2
    assert "is a probe of features, which knows no pictures" in capsys.readouterr().err


def test_a_network_stands_in_the_place_of_a_file(frozen: pathlib.Path, probed: pathlib.Path, tmp_path: pathlib.Path) -> None:
    arguments = [*PROBE, *SAME, f"--config.data.features={frozen}", "--config.data.image_size=(40,32)"]
    assert main.main([*arguments, f"--workdir={tmp_path / 'run'}"]) == 0
    assert read(tmp_path / "run")["splits"] == read(probed)["splits"]


def test_a_probe_that_was_killed_ends_where_another_does(written: pathlib.Path, tmp_path: pathlib.Path) -> None:
    arguments = [*PROBE, f"--config.data.features={written}", "--config.probe.inverse_penalties=(1e-4,1e-3)"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert processes.finish(processes.start(arguments, whole))[0] == 0
    process = processes.start(arguments, killed)
    processes.wait_until(process, lambda: (killed / "predictions.npz").exists())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (killed / "results.json").exists()
    code, said = processes.finish(processes.start(arguments, killed))
    assert code == 0, said
    for name in ("results.json", "predictions.npz", "metrics.jsonl"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


def test_the_command_is_refused_before_it_computes(frozen: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert features.main([str(frozen), f"--out={tmp_path / 'a.csv'}"]) == 2
    assert features.main([str(tmp_path), f"--out={tmp_path / 'a.npz'}"]) == 2
    assert features.main([str(frozen), f"--out={tmp_path / 'a.npz'}", "--config.seed=1"]) == 2
    assert not list(tmp_path.iterdir())


def test_the_released_network_takes_the_posters_that_are_named(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert features.main(["released:mobilenet_v2", "--out=a.npz"]) == 2
    assert "the posters of released:mobilenet_v2 are not here" in capsys.readouterr().err
    drawn = ("--config.data.variant=synthetic", "--config.data.num_posters=20")
    file = tmp_path / "features.safetensors"
    assert features.main(["released:mobilenet_v2", f"--out={file}", *drawn, "--config.data.min_movies=2"]) == 0
    found, [origin] = feature_files.read(str(file), np.array([1]))
    assert origin.columns == found.shape[1] == 4288


def test_the_commands_of_the_page_judge_somebody_s_own_posters(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As they are printed, on a CSV of drawn posters, which are scaled down to take less time."""
    page = (ROOT / "configs" / "README.md").read_text().partition("## probe_features.py")[2]
    printed = [line for line in page.partition("```\n")[2].partition("```")[0].splitlines() if line]
    assert len(printed) == 2
    test_own_posters.draw(tmp_path / "own", 60, several=True)
    monkeypatch.setenv("POSTER_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path / "own")
    for line in printed:
        command = shlex.split(line.replace("FILE", "own.csv"), comments=True)
        assert command[0] == "poster-jax"
        smaller = ["--config.data.min_movies=5"]
        if command[1] == "train":
            smaller += [
                f"--config.{key}" for key in ("data.image_size=(40,32)", "eval.bootstrap_samples=10", "eval.baselines=False")
            ]
        assert commands.main([*command[1:], *smaller]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "features.npz: 60 posters, 4,288 features of released:mobilenet_v2" in said
    assert re.search(r"mAP 0\.\d+ where chance is", said) and (tmp_path / "own" / "runs" / "probe_features").is_dir()


def test_the_script_of_the_page_writes_what_a_probe_reads(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """open_clip and torch are stand-ins with the calls that the script makes of them; the pictures and the file are real."""
    [script] = re.findall(r"```python\n(.*?)```", (ROOT / "poster_jax" / "data" / "README.md").read_text(), re.DOTALL)
    compiled = compile(script, "script", "exec")
    assert len(script.splitlines()) <= 22
    table = test_own_posters.draw(tmp_path / "own", 5, several=True)
    numbers = SimpleNamespace(
        eval=lambda: None,
        encode_image=lambda batch: SimpleNamespace(float=lambda: SimpleNamespace(numpy=lambda: batch.mean(axis=(1, 2)))),
    )
    made = (numbers, None, lambda picture: np.asarray(picture.resize((4, 6)), np.float32))
    fake = SimpleNamespace(create_model_and_transforms=lambda name, pretrained: made)
    monkeypatch.setitem(sys.modules, "open_clip", fake)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(inference_mode=contextlib.nullcontext, stack=np.stack))
    monkeypatch.setattr(sys, "argv", ["script.py", table.name, "clip.npz"])
    monkeypatch.chdir(table.parent)
    exec(compiled, {})
    found, [origin] = feature_files.read("clip.npz", np.arange(1, 6))
    assert origin.columns == 3 and len(np.unique(found[:, 0])) == 5
