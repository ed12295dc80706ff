"""Workdirs, a bundle and packed posters that commit 8ca02b4 made (old_run/make.py): the present code goes on with them."""

import csv
import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from poster_jax import compare, main, predict
from poster_jax.export import __main__ as export
from poster_jax.report import __main__ as report
from tests.workdir.old_run import make

OLD = pathlib.Path(__file__).with_name("old_run")
(PACKED,) = OLD.glob("packed-*")
CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"
# All that a run leaves and that a second start must not change; timings.jsonl gets a line from every step that is taken.
LEFT = ("metrics.jsonl", "timings.jsonl", "predictions.npz", "samples.npz", "results.json", "labels.json", "refused.csv")


def start(workdir: pathlib.Path, *more: str) -> int:
    arguments = [argument.replace("configs/", f"{CONFIGS}/") for argument in make.ARGUMENTS]
    return main.main([*arguments, *more, f"--workdir={workdir}"])


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A cache that holds the packed posters of the old code, and not the records that they were made from."""
    folder = tmp_path_factory.mktemp("cache")
    shutil.copytree(PACKED, folder / PACKED.name)
    monkeypatch.setenv("POSTER_JAX_CACHE", str(folder))
    return folder


@pytest.fixture
def finished(tmp_path: pathlib.Path) -> pathlib.Path:
    return shutil.copytree(OLD / "finished", tmp_path / "finished")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The same run by the present code, uninterrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert start(folder) == 0
    return folder


def arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def check_equal(one: pathlib.Path, other: pathlib.Path, *, bits: bool) -> None:
    """Compares metrics.jsonl and all arrays of the first run's predictions.npz: to the last bit, or to 1 in 1,000."""
    if bits:
        assert (one / "metrics.jsonl").read_text() == (other / "metrics.jsonl").read_text()
    lines = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (one, other)]
    assert [(line["step"], line["part"]) for line in lines[0]] == [(line["step"], line["part"]) for line in lines[1]]
    losses = [[line["loss"] for line in each] for each in lines]
    np.testing.assert_allclose(losses[0], losses[1], rtol=0 if bits else 1e-3)
    ours, theirs = (arrays(run / "predictions.npz") for run in (one, other))
    assert ours.keys() <= theirs.keys() and len(ours) >= 9
    for name, array in ours.items():
        assert array.dtype == theirs[name].dtype
        np.testing.assert_allclose(array, theirs[name], rtol=1e-3 if not bits and name.endswith("_score") else 0)


def same_machine() -> bool:
    """Whether the last bits of this machine's sums are those of the machine that made the folders."""
    return make.machine() == json.loads((OLD / "machine.json").read_text())


def test_the_folders_are_small_and_whole() -> None:
    files = [path for path in OLD.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) < 300_000
    assert {path.name for path in (OLD / "finished").iterdir()} >= {*LEFT, "config.json", "chosen.json", "checkpoints"}
    assert not (OLD / "stopped" / "results.json").exists()
    assert {path.name for path in (OLD / "stopped" / "checkpoints" / "latest").iterdir()} == {"2", "3"}


def test_a_finished_run_is_read_as_finished_and_its_packed_posters_are_found(
    finished: pathlib.Path, cache: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = cache / PACKED.name / "images.npy"
    before = packed.stat()
    assert start(finished) == 0
    said = capsys.readouterr().out
    assert "mean average precision" in said and "chance" in said
    for name in LEFT:
        assert (finished / name).read_bytes() == (OLD / "finished" / name).read_bytes(), name
    assert [path.name for path in cache.glob("packed-*")] == [PACKED.name]
    assert (packed.stat().st_ino, packed.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_stopped_run_goes_on_and_ends_as_an_uninterrupted_one(whole: pathlib.Path, tmp_path: pathlib.Path) -> None:
    resumed = shutil.copytree(OLD / "stopped", tmp_path / "stopped")
    assert start(resumed) == 0
    steps = [json.loads(line).get("step") for line in (resumed / "timings.jsonl").read_text().splitlines()]
    assert 4 in steps
    check_equal(resumed, whole, bits=same_machine())
    if same_machine():
        assert (resumed / "results.json").read_text() == (whole / "results.json").read_text()
    # The present code computes what the old code did.
    check_equal(OLD / "finished", whole, bits=same_machine())


def test_another_run_is_not_taken_for_the_same(whole: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert start(tmp_path / "other", "--config.seed=1") == 0
    with pytest.raises(AssertionError):
        check_equal(tmp_path / "other", whole, bits=False)


@pytest.fixture
def posters(tmp_path: pathlib.Path) -> pathlib.Path:
    """The posters of the test part as the network saw them, <id>.png."""
    (tmp_path / "posters").mkdir()
    with open(PACKED / "table.csv", newline="") as file:
        row_of = {int(row["id"]): number for number, row in enumerate(csv.DictReader(file))}
    images = np.load(PACKED / "images.npy")
    for movie in set(arrays(OLD / "finished" / "predictions.npz")["test_id"].tolist()):
        Image.fromarray(images[row_of[movie]]).save(tmp_path / "posters" / f"{movie}.png")
    return tmp_path / "posters"


def test_it_predicts_what_it_scored(finished: pathlib.Path, posters: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert predict.main([str(finished), str(posters), f"--csv={tmp_path / 'out.csv'}"]) == 0
    held = arrays(OLD / "finished" / "predictions.npz")
    genres = json.loads((finished / "labels.json").read_text())["genres"]
    with open(tmp_path / "out.csv", newline="") as file:
        found = {int(pathlib.Path(row["path"]).stem): [float(row[genre]) for genre in genres] for row in csv.DictReader(file)}
    np.testing.assert_allclose([found[movie] for movie in held["test_id"].tolist()], held["test_score"], atol=1e-5)


def test_it_is_exported_reported_and_compared(
    finished: pathlib.Path, tmp_path: pathlib.Path, whole: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export.main([str(finished), str(tmp_path / "bundle")]) == 0
    before, after = ({path.name for path in bundle.iterdir()} for bundle in (OLD / "bundle", tmp_path / "bundle"))
    assert after == before | set(export.MODULES)
    assert (tmp_path / "bundle" / "labels.json").read_bytes() == (OLD / "bundle" / "labels.json").read_bytes()
    assert report.main([str(finished), str(whole), f"--out={tmp_path / 'page.html'}"]) == 0
    assert "mean_average_precision" in (tmp_path / "page.html").read_text()
    capsys.readouterr()
    assert compare.main([str(finished), str(whole)]) == 0
    said = capsys.readouterr().out
    assert "B is identical to A" in said if same_machine() else "shared movies" in said


def test_a_bundle_goes_on_working_without_poster_jax(
    finished: pathlib.Path, posters: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    made_with = json.loads((OLD / "machine.json").read_text())["jax"]
    if [int(part) for part in jax.__version__.split(".")[:2]] < [int(part) for part in made_with.split(".")[:2]]:
        pytest.skip(f"jax {jax.__version__} is older than the bundle's {made_with}, and jax reads no later version's programs")
    bundle = shutil.copytree(OLD / "bundle", tmp_path / "bundle")
    held = arrays(OLD / "finished" / "predictions.npz")
    pictures = [posters / f"{movie}.png" for movie in held["test_id"].tolist()]
    command = [sys.executable, "-I", str(bundle / "predict.py"), *map(str, pictures)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [list(json.loads(line.split("\t")[1]).values()) for line in done.stdout.splitlines()]
    np.testing.assert_allclose(rows, held["test_score"], atol=1e-5)
    # And the present loader reads it, with the modules that it finds beside itself in a bundle of its own.
    assert export.main([str(finished), str(tmp_path / "own")]) == 0
    for name in export.MODULES:
        shutil.copy(tmp_path / "own" / name, bundle / name)
    spec = importlib.util.spec_from_file_location("loader", pathlib.Path(export.__file__).with_name("bundle.py"))
    assert spec is not None and spec.loader is not None
    loader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loader)
    score, labels, reader = loader.load(bundle)
    image = np.stack([loader.read(str(path), labels["image_size"], reader) for path in pictures])
    np.testing.assert_allclose(np.asarray(score(image)), held["test_score"], atol=1e-5)
