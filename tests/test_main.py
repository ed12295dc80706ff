"""The command line: what each mistake gets, that our own bugs keep their traceback, that every config key is read."""

import contextlib
import errno
import importlib
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import ml_collections
import numpy as np
import pytest
from PIL import Image

from poster_jax import config as config_lib
from poster_jax import main
from poster_jax.config import validate
from poster_jax.data import cache
from poster_jax.protocols import single
from poster_jax.report import terminal
from poster_jax.runtime import preemption
from poster_jax.workdir import run_folder

ROOT = pathlib.Path(__file__).resolve().parents[1]
SMOKE = f"--config={ROOT}/configs/cnn_onehot.py:smoke"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_csv(folder: pathlib.Path, header: str, rows: list[str]) -> pathlib.Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)).save(folder / "a.jpg")
    (folder / "own.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder / "own.csv"


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Runs main in process and returns its one sentence."""
    assert main.main([SMOKE, *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("poster_jax: ")
    assert said.count("\n") == 1, said
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--config.train.batch_sise=3"], 'did you mean "train.batch_size"'),
        (["--config.train.batch_size=0"], "above zero"),
        (["--config.train.batch_size"], "has no value"),
        (["--config.train.batch_size=7"], "use a multiple of 8"),
        (["--config.train.batch_size=8000"], "is more than the"),
        (["--config.data.genres=Drama,Commedy"], "Comedy"),
        (["--config.data.min_movies=1000"], "1000"),
        (["--config.data.variant=kaggle", "--config.data.dir=nowhere"], "nowhere"),
        (["--config.data.variant=packed", "--config.data.dir=."], "packed.json"),
        (["--config.data.variant=csv", "--config.data.csv=nowhere.csv"], "nowhere.csv"),
        (["--config.model.blocks=((4, 3, 40, False, 0.0),)"], "no pixel left"),
        (["--workdri=x"], "--workdri"),
        (["--plan", "--config.data.balance=kap"], 'did you mean "cap"'),
    ],
)
def test_a_mistake_gets_one_sentence_and_leaves_nothing(
    arguments: list[str], says: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in refused(capsys, *arguments, "--workdir=run")
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left <= {".lock", "config.json", "chosen.json", "refused.csv", "labels.json"}


def test_a_csv_with_other_columns_names_them(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_csv(tmp_path, "file,kind", ["a.jpg,Drama"])
    said = refused(capsys, "--config.data.variant=csv", f"--config.data.csv={path}")
    assert "path, genres" in said
    assert "file, kind" in said


def test_an_empty_part_of_a_given_split_is_refused(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_csv(tmp_path, "path,genres,split", ["a.jpg,Drama,train"])
    arguments = [f"--config.data.csv={path}", "--config.data.num_genres=1", "--config.data.min_movies=1"]
    assert "empty" in refused(capsys, "--config.data.variant=csv", *arguments)


def test_a_folder_of_other_things_is_refused_and_left_alone(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    assert "thesis.txt" in refused(capsys, "--workdir=mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_file_in_place_of_the_workdir_is_refused(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("x")
    assert "--workdir" in refused(capsys, "--workdir=mine")


def test_a_workdir_in_use_is_refused_and_a_dead_lock_is_not(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_lib.load(SMOKE.removeprefix("--config="))
    with run_folder.opened(tmp_path / "run", config):
        assert "in use" in refused(capsys, "--workdir=run")
    with run_folder.opened(tmp_path / "run", config):
        pass


def test_the_process_restarts_once_with_huge_pages() -> None:
    code = "import os, poster_jax.runtime.hugepages as h; h.restart_with_huge_pages(); print(os.environ['GLIBC_TUNABLES'])"
    for before, after in (({}, "glibc.malloc.hugetlb=1"), ({"GLIBC_TUNABLES": ""}, "")):
        environment = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
        environment |= {"PYTHONPATH": str(ROOT), **before}
        told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
        assert told.stdout.strip() == after, told.stderr


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_read_only_disk_is_one_sentence(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> Any:
        raise OSError(number, os.strerror(number), "cache/images.npy")

    monkeypatch.setattr(single, "run", fail)
    assert "cache/images.npy" in refused(capsys)


def test_too_little_room_for_the_cache_is_told_before_anything_is_written(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    said = refused(capsys, f"--config.data.cache_dir={tmp_path / 'cache'}", "--workdir=run")
    assert "--config.data.cache_dir" in said
    assert not list((tmp_path / "cache").glob("packed*"))


def test_a_planted_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: Any) -> Any:
        return {}["missing"]

    monkeypatch.setattr(single, "run", bug)
    with pytest.raises(KeyError, match="missing"):
        main.main([SMOKE])


def test_help_and_module_start() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    told = subprocess.run(
        [sys.executable, "-m", "poster_jax.main", "--help"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert told.returncode == 0
    assert "--config" in told.stdout


def test_import_and_config_need_neither_tensorflow_nor_jax() -> None:
    code = "import sys, poster_jax, poster_jax.config; print(sorted({'jax', 'tensorflow'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert told.stdout.strip() == "[]"


def test_the_resident_path_does_not_import_tensorflow() -> None:
    code = (
        "import sys; from poster_jax import main; "
        f"code = main.main(['{SMOKE}', '--workdir=run']); print('tensorflow' in sys.modules, code)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert told.stdout.splitlines()[-1] == "False 0", told.stderr[-2000:]
    assert "synthetic posters" in told.stdout


class Recorder(ml_collections.ConfigDict):
    """A config that notes which of its keys are read."""

    def __init__(self, tree: Any, prefix: str, read: set[str]) -> None:
        # What a copy holds was not read by the code that is watched.
        tree = tree.__dict__["_fields"] if isinstance(tree, Recorder) else dict(tree.items())
        super().__init__({key: value for key, value in tree.items() if not isinstance(value, ml_collections.ConfigDict)})
        object.__setattr__(self, "_prefix", prefix)
        object.__setattr__(self, "_read", read)
        for key, value in tree.items():
            if isinstance(value, ml_collections.ConfigDict):
                super().__setitem__(key, Recorder(value, f"{prefix}{key}.", read))

    def __getitem__(self, key: str) -> Any:
        if "_read" in self.__dict__:
            self.__dict__["_read"].add(self.__dict__["_prefix"] + key)
        return super().__getitem__(key)

    def to_dict(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {key: self[key] for key in self}

    def copy_and_resolve_references(self, *_: Any) -> "Recorder":
        return Recorder(self, self.__dict__["_prefix"], self.__dict__["_read"])


@contextlib.contextmanager
def unlocked(workdir: pathlib.Path, config: Any) -> Iterator[None]:
    """`run_folder.opened` without a look at the config; `begin`, which writes it, reads every key."""
    workdir.mkdir()
    yield


@pytest.mark.parametrize(
    ("name", "overrides", "of_others"),
    [
        ("cnn_onehot", [], ("transfer.", "probe.", "data.features", "search.", "ablation.", "reproduce.")),
        # Heads that see augmented posters do not train on cached features: tests/test_heads.py has them.
        (
            "transfer_mobilenet",
            [("transfer.input_ranges", "((),)"), ("train.num_epochs", "1.0")],
            ("transfer.augment", "probe.", "data.features", "search.", "ablation.", "reproduce."),
        ),
    ],
)
def test_every_config_key_is_read(
    name: str,
    overrides: list[tuple[str, str]],
    of_others: tuple[str, ...],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_folder, "opened", unlocked)
    monkeypatch.setattr(run_folder, "begin", lambda *_: None)
    read: set[str] = set()
    path = SMOKE.removeprefix("--config=").replace("cnn_onehot", name)
    config = config_lib.load(path, [("eval.bootstrap_samples", "2"), ("num_seeds", "1"), *overrides])
    recorder = Recorder(config, "", read)
    importlib.import_module(f"poster_jax.protocols.{recorder.protocol}").run(
        recorder, tmp_path / "run", preemption.StopRequest()
    )
    unread = {key for key in config_lib.flatten(config) if key not in read and not key.startswith(of_others)}
    assert not unread
    assert "data.no_such_key" not in read


def test_two_seeds_make_two_folders_and_one_table(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([SMOKE, "--config.num_seeds=2", "--config.train.num_epochs=1.0", "--workdir=run"]) == 0
    said = capsys.readouterr().out
    assert "synthetic posters" in said
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [seed["seed"] for seed in results["seeds"]] == [0, 1]
    assert results["seeds"][0]["splits"] != results["seeds"][1]["splits"]
    with np.load(tmp_path / "run" / "seed_1" / "predictions.npz") as arrays:
        assert len(arrays["test_score"]) == results["data"]["num_rows"]["test"]


def test_the_plan_says_what_the_run_then_does_and_writes_nothing(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [SMOKE, f"--config.data.cache_dir={tmp_path / 'cache'}", "--config.data.seed=5"]
    assert main.main([*arguments, "--plan"]) == 0
    told = capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    assert main.main([*arguments, "--workdir=run"]) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert f"steps: {results['num_steps']} of 16 rows" in told
    rows = results["data"]["num_rows"]
    assert f"{rows['train']:>12}{rows['validation']:>12}{rows['test']:>12}" in told
    packed = next((tmp_path / "cache").glob("packed-*/images.npy")).stat().st_size / 2**20
    assert f"{packed:.0f} MB packed posters" in told


def test_the_cache_is_not_half_written(tmp_path: pathlib.Path) -> None:
    with pytest.raises(RuntimeError, match="cut"), cache.atomic_directory(tmp_path / "cache") as unfinished:
        (unfinished / "images.npy").write_text("half")
        raise RuntimeError("cut")
    assert not list(tmp_path.iterdir())
    with cache.atomic_directory(tmp_path / "cache") as unfinished:
        (unfinished / "images.npy").write_text("whole")
    assert (tmp_path / "cache" / "images.npy").read_text() == "whole"


def test_every_protocol_has_a_module_and_a_table() -> None:
    for name in validate.CHOICES["protocol"]:
        assert callable(importlib.import_module(f"poster_jax.protocols.{name}").run)
    assert list(terminal.TABLES) == list(validate.CHOICES["protocol"])


def test_a_run_loads_no_other_protocol_and_no_report_before_its_table(tmp_path: pathlib.Path) -> None:
    code = (
        "import sys\n"
        "from poster_jax import main\n"
        "from poster_jax.protocols import single\n"
        "run = single.run\n"
        "def noted(*arguments):\n"
        "    results = run(*arguments)\n"
        "    print('loaded:', *(name for name in sys.modules if name.startswith('poster_jax.')))\n"
        "    return results\n"
        "single.run = noted\n"
        "sys.exit(main.main(sys.argv[1:]))\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, SMOKE, f"--workdir={tmp_path / 'run'}"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    loaded = next(line for line in told.stdout.splitlines() if line.startswith("loaded:")).split()[1:]
    absent = "report search paper bench export compare predict models.summary models.weight_files".split()
    absent += [f"protocols.{name}" for name in ("transfer", "search", "ablation", "reproduce", "plan")]
    assert "poster_jax.train.loop" in loaded
    assert not [name for name in loaded if any(f"{name}.".startswith(f"poster_jax.{part}.") for part in absent)]
