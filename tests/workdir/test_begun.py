"""When a workdir has begun: what may change before and after its first checkpoint, and that a refusal changes nothing."""

import json
import pathlib
import shutil

import pytest

from poster_jax import config as config_lib
from poster_jax import errors, main
from poster_jax.protocols import reproduce
from poster_jax.report import __main__ as report
from poster_jax.report.figures import style
from poster_jax.workdir import leftovers, run_folder
from tests.helpers import processes
from tests.workdir.old_run import make

OLD = pathlib.Path(__file__).with_name("old_run")
CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"
ARGUMENTS = [argument.replace("configs/", f"{CONFIGS}/") for argument in make.ARGUMENTS]
LONGER = "--config.train.num_epochs=3.0"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("cache")
    for packed in OLD.glob("packed-*"):
        shutil.copytree(packed, folder / packed.name)
    monkeypatch.setenv("POSTER_JAX_CACHE", str(folder))


def start(workdir: pathlib.Path, *more: str) -> int:
    return main.main([*ARGUMENTS, *more, f"--workdir={workdir}"])


def load(*more: str) -> config_lib.Config:
    file, *overrides = [*ARGUMENTS, *more]
    return config_lib.load(file.removeprefix("--config="), config_lib.parse_overrides(overrides))


def held(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_damaged_experiment_is_not_done(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    workdir = shutil.copytree(OLD / "finished", tmp_path / "run")
    assert reproduce.is_finished(load(), workdir)
    for name, content in (("predictions.npz", "x"), ("results.json", "{}"), ("results.json", "[]")):
        (workdir / name).write_text(content)
        assert not reproduce.is_finished(load(), workdir)
        assert f"{name} " in capsys.readouterr().err
        shutil.copy(OLD / "finished" / name, workdir / name)
    (workdir / "config.json").write_text("")
    with pytest.raises(errors.UserError, match="config.json is damaged"):
        reproduce.is_finished(load(), workdir)


def write_page(workdir: pathlib.Path, folder: pathlib.Path) -> bytes:
    folder.mkdir()
    assert report.main([str(workdir), f"--out={folder / 'page.html'}"]) == 0
    return (folder / "page.html").read_bytes()


@pytest.mark.parametrize(
    ("begun", "asked", "says"),
    [
        (["--config.optim.schedule=cosine"], [LONGER], "train.num_epochs: 2.0 -> 3.0, but optim.schedule=cosine is spread"),
        ([], ["--config.train.num_epochs=1.0"], "is at step 4, beyond the 2 asked for"),
        ([], ["--config.data.seed=5"], "data.seed: 0 -> 5"),
        ([], [LONGER, "--config.data.cache_dir=small"], "name another folder"),
    ],
)
def test_what_is_refused_leaves_the_folder_to_the_byte(
    begun: list[str],
    asked: list[str],
    says: str,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    workdir = tmp_path / "run"
    monkeypatch.chdir(tmp_path)
    if begun:
        assert start(workdir, *begun) == 0
    else:
        shutil.copytree(OLD / "finished", workdir)
    before = held(workdir)
    capsys.readouterr()
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    assert start(workdir, *begun, *asked) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1
    assert held(workdir) == before
    assert reproduce.is_finished(load(*begun), workdir) and not reproduce.is_finished(load(*begun, *asked), workdir)


def test_the_page_of_a_run_tells_the_run_after_a_refusal_as_before(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        style, "render", lambda *_, **__: style.Drawn(b"", b"", b"")
    )  # its figures are drawn from the files that did not change
    workdir = shutil.copytree(OLD / "finished", tmp_path / "run")
    page = write_page(workdir, tmp_path / "before")
    assert start(workdir, "--config.train.num_epochs=1.0") == start(workdir, "--config.seed=3") == 2
    assert write_page(workdir, tmp_path / "after") == page
    (workdir / "results.json").write_text((workdir / "results.json").read_text().replace("sigmoid", "softmax"))
    assert write_page(workdir, tmp_path / "changed") != page


def test_what_is_accepted_is_not_taken_for_the_shorter_run_that_has_ended(tmp_path: pathlib.Path) -> None:
    workdir = shutil.copytree(OLD / "finished", tmp_path / "run")
    run_folder.begin(workdir, load("--config.train.tensorboard=True"))
    assert (workdir / "results.json").exists() and '"tensorboard": true' in (workdir / "config.json").read_text()
    run_folder.begin(workdir, load(LONGER))
    assert not (workdir / "results.json").exists() and (workdir / "checkpoints" / "latest" / "4").exists()
    assert not reproduce.is_finished(load(LONGER), workdir)
    assert start(workdir, LONGER) == 0
    assert json.loads((workdir / "results.json").read_text())["num_steps"] == 6
    assert reproduce.is_finished(load(LONGER), workdir)


def test_an_attempt_that_fails_on_its_data_leaves_no_config_and_its_correction_is_taken(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.csv").write_text("path,genres\na.jpg,Drama\n")
    workdir = tmp_path / "run"
    assert start(workdir, "--config.data.variant=csv", f"--config.data.csv={tmp_path / 'own.csv'}") == 2
    assert "it looked for" in capsys.readouterr().err
    assert [path.name for path in workdir.iterdir()] == [".lock"]
    assert start(workdir) == 0
    assert config_lib.differences(run_folder.load_config(workdir), load()) == []


def test_before_the_first_checkpoint_any_key_may_change_and_nothing_of_the_attempt_is_left(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir, asked = tmp_path / "run", ["--config.data.num_genres=2", "--config.seed=3"]
    assert start(workdir, "--config.model.blocks=((4, 3, 40, False, 0.0),)") == 2
    assert "no pixel left" in capsys.readouterr().err and (workdir / "labels.json").exists()
    (workdir / "chosen.json").write_text('{"path": ["streaming", "it was chosen by the attempt"]}')
    (workdir / "metrics.jsonl").write_text('{"step": 1, "part": "train", "loss": 9}\n')
    (workdir / "seed_0" / "checkpoints" / "latest" / "4.orbax-checkpoint-tmp-1").mkdir(parents=True)
    (workdir / "notes.txt").write_text("of the user")
    assert start(workdir, *asked) == 0
    assert start(tmp_path / "fresh", *asked) == 0
    assert not (workdir / "seed_0").exists() and (workdir / "notes.txt").exists()
    found, fresh = held(workdir), held(tmp_path / "fresh")
    for name in ("config.json", "chosen.json", "labels.json", "refused.csv", "metrics.jsonl", "results.json"):
        assert found[name] == fresh[name], name


BEGUN = (
    "checkpoints/latest/0/_METADATA",
    "seed_1/checkpoints/best/4/_METADATA",
    "seed_0/range_1/checkpoints/latest/2/_METADATA",
    "head_0.001/checkpoints/latest/2/_METADATA",
    "cells/01_a/seed_0/checkpoints/latest/2/_METADATA",
    "cells/01_a/seed_0/diverged.json",
    "search/cohort_0001_0000.npz",
    "search/member_0000_00.npz",
    "one_hot/checkpoints/latest/2/_METADATA",
    "results.json",
    "predictions.npz",
)


@pytest.mark.parametrize("proof", BEGUN)
def test_a_checkpoint_of_any_member_cell_or_seed_is_a_beginning(proof: str, tmp_path: pathlib.Path) -> None:
    run_folder.begin(tmp_path, load())
    if "checkpoints" in proof:
        (tmp_path / proof).parent.with_suffix(".orbax-checkpoint-tmp-3").mkdir(parents=True)
    assert not leftovers.has_begun(tmp_path)
    (tmp_path / proof).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / proof).write_text("")
    before = held(tmp_path)
    with (
        pytest.raises(errors.UserError, match="begun with another config .seed: 0 -> 3., as its config.json says: use those"),
        run_folder.opened(tmp_path, load("--config.seed=3")),
    ):
        pytest.fail("it was opened")
    assert {name: content for name, content in held(tmp_path).items() if name != ".lock"} == before
    (tmp_path / proof).unlink()
    if "checkpoints" in proof:
        (tmp_path / proof).parent.rmdir()
    if proof.startswith("one_hot"):
        (tmp_path / "one_hot" / "config.json").write_text("")
    with run_folder.opened(tmp_path, load("--config.seed=3")):
        run_folder.begin(tmp_path, load("--config.seed=3"))
    assert run_folder.load_config(tmp_path).seed == 3
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "config.json"}


def test_a_write_that_was_killed_does_not_make_the_folder_somebody_else_s(tmp_path: pathlib.Path) -> None:
    (tmp_path / ".config.json.1234").write_text('{"da')
    with run_folder.opened(tmp_path, load()):
        pass
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(errors.UserError, match="holds other things"), run_folder.opened(tmp_path, load()):
        pytest.fail("it was opened")


TOGETHER = """
import pathlib, sys
from poster_jax import config as config_lib, errors
from poster_jax.runtime import distributed, multihost
from poster_jax.report.figures import style
from poster_jax.workdir import leftovers, run_folder
distributed.initialize()
workdir = pathlib.Path(sys.argv[1])
if multihost.index():  # what process 0 decides counts, whatever the others see
    leftovers.has_begun = leftovers.clear = leftovers.forget_outcome = lambda *_: sys.exit("process 1 looked by itself")
for seed in (1, 2):
    config = config_lib.derive(config_lib.base(), {"seed": seed})
    try:
        with run_folder.opened(workdir, config):
            run_folder.begin(workdir, config)
            if multihost.is_main() and seed == 1:
                (workdir / "checkpoints" / "latest" / "0").mkdir(parents=True)
            multihost.wait()
        print("begun with seed", seed, flush=True)
    except errors.UserError as error:
        print("refused:", error, flush=True)
multihost.wait()
"""


def test_two_processes_agree(tmp_path: pathlib.Path) -> None:
    with run_folder.opened(tmp_path / "run", load()):
        run_folder.begin(tmp_path / "run", load())
    job = processes.start_joined(["-c", TOGETHER, str(tmp_path / "run")], 2, 1)
    told = [processes.finish(process) for process in job]
    for code, said in told:
        assert code == 0, said[-3000:]
        assert "begun with seed 1\n" in said and "seed: 1 -> 2" in said and "begun with seed 2" not in said, said
    assert run_folder.load_config(tmp_path / "run").seed == 1
