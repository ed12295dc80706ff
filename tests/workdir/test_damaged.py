"""Damaged run folders get one sentence that names the file, or are measured again; our own bugs keep their traceback."""

import collections
import pathlib
import shutil
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from poster_jax import compare, errors, main, predict
from poster_jax.export import __main__ as export
from poster_jax.report import __main__ as report
from poster_jax.report.figures import style
from poster_jax.report.tables import cells
from poster_jax.workdir import run_files
from tests.helpers import damage, processes
from tests.workdir.old_run import make

OLD = pathlib.Path(__file__).with_name("old_run")
ROOT = pathlib.Path(__file__).resolve().parents[2]
NUM_DAMAGED, NUM_PROCESSES = 300, 10
MAIN = [argument.replace("configs/", f"{ROOT}/configs/") for argument in make.ARGUMENTS]
# {file: the commands that read it}; the last ones do the most where nothing is wrong, and get fewer of the folders.
READERS = {
    "results.json": ("report", "predict", "export", "report", "predict", "report", "predict", "main"),
    "predictions.npz": ("compare", "compare", "report", "compare", "report", "main"),
    "config.json": ("report", "predict", "main", "export"),
    "labels.json": ("compare", "predict", "export"),
    "samples.npz": ("report", "export", "report", "report", "main"),
    "metrics.jsonl": ("report",),
    "refused.csv": ("report",),
    "chosen.json": ("main",),
}
# As many of each as there is to damage in it.
FILES = ("results.json",) * 5 + ("predictions.npz",) * 4 + ("config.json",) * 3 + ("samples.npz",) * 2
FILES += ("labels.json", "metrics.jsonl", "refused.csv", "chosen.json")
MODULES = {"main": main, "report": report, "predict": predict, "compare": compare, "export": export}


@pytest.fixture(autouse=True)
def cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    for packed in OLD.glob("packed-*"):
        shutil.copytree(packed, tmp_path / "cache" / packed.name)
    monkeypatch.setenv("POSTER_JAX_CACHE", str(tmp_path / "cache"))
    Image.fromarray(np.zeros((30, 20, 3), np.uint8)).save(tmp_path / "poster.png")
    return tmp_path / "cache"


def arguments(command: str, folder: pathlib.Path) -> list[str]:
    place = folder.parent
    return {
        "main": [*MAIN, f"--workdir={folder}"],
        "report": [str(folder), f"--out={place / 'page.html'}"],
        "predict": [str(folder), str(place / "poster.png")],
        "compare": [str(folder), str(OLD / "finished"), "--samples=5"],
        "export": [str(folder), str(place / "bundle")],
    }[command]


def draw(number: int) -> tuple[str, str, int]:
    """(file, command that reads it, seed) of a damaged folder."""
    name = FILES[number % len(FILES)]
    seed = number // len(FILES) * FILES.count(name) + FILES[: number % len(FILES)].count(name)
    return name, READERS[name][seed % len(READERS[name])], seed


def check_answer(code: int, said: str, name: str, what: str) -> None:
    """One sentence that names the file, or an answer."""
    assert code in (0, 2), (what, code, said)
    if code == 2:
        assert said.startswith("poster_jax: ") and said.count("\n") == 1 and name in said, (what, said)


def test_300_damaged_folders_get_an_answer_or_one_sentence(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = 0

    def render(picture: style.Picture, *, png_only: bool = False) -> style.Drawn:
        """Every third page has its figures drawn; they are not made into pictures."""
        nonlocal drawn
        if number % 3 == 0 and not png_only:
            picture.draw(style.LIGHT)
            drawn += 1
        return style.Drawn(b"", b"", b"")

    monkeypatch.setattr(style, "render", render)
    codes: collections.Counter[tuple[str, int]] = collections.Counter()
    for number in range(NUM_DAMAGED):
        name, command, seed = draw(number)
        folder = shutil.copytree(OLD / "finished", tmp_path / "run")
        what = f"{command} {damage.damage(folder, name, seed)}"
        try:
            code = MODULES[command].main(arguments(command, folder))
        except BaseException as error:
            pytest.fail(f"{what}: {error!r}")
        check_answer(code, capsys.readouterr().err, name, what)
        codes[command, code] += 1
        for left in (folder, tmp_path / "bundle"):
            shutil.rmtree(left, ignore_errors=True)
    assert all(codes[command, 2] > 5 for command in MODULES) and drawn > 50, codes


def test_damaged_folders_as_processes(tmp_path: pathlib.Path) -> None:
    for number in range(NUM_PROCESSES):
        name, command, seed = draw(7 * number)
        folder = shutil.copytree(OLD / "finished", tmp_path / f"run_{number}")
        what = f"{command} {damage.damage(folder, name, seed)}"
        module = f"poster_jax.{command}"
        code, said = processes.finish(processes.start_python(["-m", module, *arguments(command, folder)]))
        assert "Traceback" not in said and code in (0, 2), (what, said)
        assert code == 0 or name in said, (what, said)
        shutil.rmtree(tmp_path / "bundle", ignore_errors=True)


@pytest.mark.parametrize(
    ("name", "spoil", "says"),
    [
        ("results.json", lambda path: path.write_bytes(path.read_bytes()[:-50]), "results.json is damaged"),
        ("results.json", lambda path: path.write_text("[]"), "results.json is damaged (not a mapping)"),
        ("predictions.npz", lambda path: path.write_bytes(path.read_bytes()[:-50]), "predictions.npz cannot be read"),
        ("predictions.npz", lambda path: path.unlink(), "has no predictions.npz"),
        ("samples.npz", lambda path: path.write_bytes(b""), "samples.npz cannot be read"),
    ],
)
def test_what_was_measured_is_measured_again_from_the_checkpoint(
    name: str,
    spoil: Callable[[pathlib.Path], None],
    says: str,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = shutil.copytree(OLD / "finished", tmp_path / "run")
    spoil(folder / name)
    assert main.main(arguments("main", folder)) == 0
    said = capsys.readouterr().err
    assert says in said and "so it is measured again" in said and "step 4 of 4" in said
    found, old = (run_files.read_predictions(place, 3) for place in (folder, OLD / "finished"))
    assert len(old) >= 9
    for array_name, earlier in old.items():
        np.testing.assert_allclose(found[array_name], earlier, rtol=1e-3)
    values = [run_files.read_whole(place)["splits"]["test"]["num_rows"] for place in (folder, OLD / "finished")]
    assert values[0] == values[1] and (folder / "metrics.jsonl").read_bytes() == (OLD / "finished/metrics.jsonl").read_bytes()
    assert main.main(arguments("main", folder)) == 0
    assert "measured again" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "spoil", "says"),
    [
        ("test_score", lambda array: np.where(array == array.max(), np.nan, array), "outside [0, 1]"),
        ("train_score", lambda array: array - 1, "outside [0, 1]"),
        ("test_score", lambda array: array + 1, "outside [0, 1]"),
        ("test_score", lambda array: array[:, :2], "where (8, 3) is due"),
        ("test_label", lambda array: array[:, :2], "where (8, 3) is due"),
        ("test_label", lambda array: array + 1, "not of zeros and ones"),
        ("test_label", lambda array: np.arange(len(array)), "not below 3"),
        ("test_id", lambda array: array[1:], "where (8,) is due"),
        ("test_id", lambda array: array + 0.5, "where (8,) is due"),
        ("test_id", None, "missing"),
    ],
)
def test_predictions_that_do_not_fit_are_told(
    name: str, spoil: Callable[[np.ndarray], np.ndarray] | None, says: str, tmp_path: pathlib.Path
) -> None:
    arrays = run_files.read_predictions(OLD / "finished", 3)
    if spoil is None:
        del arrays[name]
    else:
        arrays[name] = spoil(arrays[name])
    np.savez(tmp_path / "predictions.npz", **arrays)
    with pytest.raises(errors.UserError) as raised:
        run_files.read_predictions(tmp_path, 3)
    assert f"predictions.npz is damaged ({name}: " in str(raised.value) and says in str(raised.value)


def test_scores_of_another_run_are_not_taken_for_those_of_the_results(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(OLD / "finished", tmp_path / "run")
    with np.load(folder / "predictions.npz") as file:
        arrays = {name: array[:-1] if name.startswith("test_") else array for name, array in file.items()}
    np.savez(folder / "predictions.npz", **arrays)
    assert report.main(arguments("report", folder)) == 2
    assert "predictions.npz is damaged (test: 7 rows where results.json has 8)" in capsys.readouterr().err


def test_a_bug_of_ours_keeps_its_traceback(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(OLD / "finished", tmp_path / "run")
    monkeypatch.setattr(style, "render", lambda *_, **__: style.Drawn(b"", b"", b""))

    def bug(*_: object) -> str:
        return {}["missing"]

    for module, name, commands in (
        (cells, "value", ("main", "report")),
        (run_files.checks, "check", ("main", "report", "predict", "export", "compare")),
        (run_files.npz, "check_predictions", ("main", "report", "compare")),
    ):
        for command in commands:
            with monkeypatch.context() as patch, pytest.raises(KeyError, match="missing"):
                patch.setattr(module, name, bug)
                MODULES[command].main(arguments(command, folder))


def test_the_damage_is_damage_and_reaches_every_file() -> None:
    drawn = [draw(number) for number in range(NUM_DAMAGED)]
    assert len(set(drawn)) == NUM_DAMAGED and {name for name, _, _ in drawn} == set(READERS)
    assert {(name, command) for name, command, _ in drawn} == {(name, one) for name, all_ in READERS.items() for one in all_}


@pytest.mark.parametrize("command", ["report"])
@pytest.mark.parametrize("seed", range(8))
def test_damaged_runs_of_several_seeds(
    command: str,
    seed: int,
    tmp_path: pathlib.Path,
    write_workdir: Callable[..., pathlib.Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(style, "render", lambda *_, **__: style.Drawn(b"", b"", b""))
    folder = write_workdir(tmp_path / "run", encoding="first" if seed % 2 else "multi_hot", seeds=(0, 1))
    what = damage.damage(folder, "results.json", 1000 + seed)
    check_answer(MODULES[command].main(arguments(command, folder)), capsys.readouterr().err, "results.json", what)
