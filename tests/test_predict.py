"""Prediction from a workdir: the same scores as the run's own evaluation, every kind of output, and what it refuses."""

import csv
import dataclasses
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from poster_jax import errors, predict
from poster_jax.data import builder, images
from poster_jax.export import __main__ as export
from poster_jax.export import bundle
from poster_jax.metrics import calibration
from poster_jax.workdir import run_folder

ROOT = pathlib.Path(__file__).resolve().parents[1]
SETTINGS = ("eval.baselines=False", "eval.bootstrap_samples=2")


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A finished smoke run, of another process: on one device, a fraction of the time of eight simulated ones."""
    folder = tmp_path_factory.mktemp("predict") / "run"
    command = [sys.executable, "-m", "poster_jax.main", f"--config={ROOT}/configs/cnn_onehot.py:smoke"]
    command += [*(f"--config.{setting}" for setting in SETTINGS), f"--workdir={folder}"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def posters(workdir: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The posters of the run's test part, as a user has them: <id>.jpg in a folder."""
    folder = tmp_path_factory.mktemp("posters")
    source = builder.load_source(run_folder.load_config(workdir).data)
    wanted = np.isin(source.table["id"].to_numpy(), predictions(workdir)["test_id"]).nonzero()[0]
    for row, encoded in zip(wanted, source.encoded(wanted), strict=True):
        (folder / f"{source.table['id'][row]}.jpg").write_bytes(encoded)
    return folder


def predictions(workdir: pathlib.Path) -> dict[str, np.ndarray]:
    with np.load(workdir / "predictions.npz") as arrays:
        return dict(arrays)


def test_scores_are_those_of_the_runs_own_evaluation(workdir: pathlib.Path, posters: pathlib.Path) -> None:
    held = predictions(workdir)
    network = predict.load_network(workdir)
    found = list(predict.predict(network, predict.list_pictures([posters])[0], with_maps=False))
    assert len(found) == len(held["test_id"]) > 20  # more than one batch of 16
    scores = {int(each.path.stem): each.scores for each in found if isinstance(each, predict.Prediction)}
    ours = np.stack([scores[number] for number in held["test_id"].tolist()])
    results = json.loads((workdir / "results.json").read_text())
    calibrated = calibration.apply(held["test_score"], list(results["calibration"]["temperatures"].values()))
    np.testing.assert_allclose(ours, calibrated, atol=1e-6)
    assert np.abs(ours - held["test_score"]).max() > 1e-3, "they are calibrated"
    assert held["test_score"].std(0).min() > 1e-4  # posters differ, so a mixed-up order would show
    assert network.thresholds.tolist() == list(results["calibration"]["thresholds"].values())
    tuned = np.array([entry["threshold@tuned"] for entry in results["splits"]["test"]["per_genre"].values()])
    assert ((held["test_score"] >= tuned) == (calibrated >= network.thresholds)).all(), "no answer changes"


def test_a_run_without_temperatures_gives_the_scores_of_its_network(workdir: pathlib.Path, tmp_path: pathlib.Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(workdir, old)
    results = json.loads((old / "results.json").read_text())
    temperatures = list(results.pop("calibration")["temperatures"].values())
    (old / "results.json").write_text(json.dumps(results))
    before, after = predict.load_network(old), predict.load_network(workdir)
    image = np.random.default_rng(0).integers(0, 256, (16, *before.image_size, 3), np.uint8)
    plain, calibrated = (np.asarray(each.score(each.variables, image)) for each in (before, after))
    np.testing.assert_allclose(calibrated, calibration.apply(plain, temperatures), atol=1e-6)
    tuned = results["splits"]["test"]["per_genre"]
    assert before.thresholds.tolist() == [entry["threshold@tuned"] for entry in tuned.values()]
    assert before.thresholds.tolist() != after.thresholds.tolist()


def test_a_batch_size_that_does_not_divide_and_unreadable_files_leave_the_others_as_they_are(
    workdir: pathlib.Path, posters: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    network = predict.load_network(workdir)
    good = sorted(posters.iterdir())[:5]
    bad = tmp_path / "bad.jpg"
    bad.write_text("<html>")
    alone = [next(predict.predict(network, [path], with_maps=False)) for path in good]
    together = list(
        predict.predict(
            dataclasses.replace(network, batch_size=3), [*good[:2], bad, tmp_path / "no.jpg", *good[2:]], with_maps=False
        )
    )
    assert [isinstance(each, predict.Unreadable) for each in together] == [False, False, True, True, False, False, False]
    assert [each.reason for each in together if isinstance(each, predict.Unreadable)] == ["not_an_image", "missing_file"]
    kept = [each for each in together if isinstance(each, predict.Prediction)]
    for one, other in zip(alone, kept, strict=True):
        assert isinstance(one, predict.Prediction) and one.path == other.path
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)


def test_a_genre_is_decided_for_at_its_threshold_and_not_below() -> None:
    network = predict.Predictor(None, {}, ("A", "B", "C"), np.array([0.5, 0.2, 0.9]), (1, 1), 1, None)
    assert predict.decide(network, np.array([0.5, 0.6, 0.89])) == ["B", "A"]
    assert predict.decide(network, np.array([0.4, 0.1, 0.0])) == []


def test_csv_json_table_and_overlays_say_the_same(
    workdir: pathlib.Path, posters: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = sorted(posters.iterdir())[:2]
    twin = tmp_path / "twin" / first.name
    twin.parent.mkdir()
    shutil.copy(first, twin)
    (tmp_path / "broken.png").write_bytes(first.read_bytes()[:300])
    named = [str(first), str(second), str(tmp_path / "broken.png"), str(twin)]
    targets = [f"--csv={tmp_path / 'a.csv'}", f"--explain={tmp_path / 'maps'}"]
    assert predict.main([str(workdir), *named, *targets]) == 0
    said = capsys.readouterr()
    assert "broken.png is left out: cut file" in said.err and said.err.count("\n") == 1
    assert said.out.splitlines() == [f"{tmp_path / 'a.csv'}: 3 of 4 pictures", f"{tmp_path / 'maps'}: 3 maps"]
    assert predict.main([str(workdir), *named, f"--json={tmp_path / 'a.json'}"]) == 0
    capsys.readouterr()
    assert predict.main([str(workdir), *named]) == 0
    table = capsys.readouterr().out.splitlines()

    rows = list(csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text())))
    told = json.loads((tmp_path / "a.json").read_text())
    genres = json.loads((workdir / "labels.json").read_text())["genres"]
    assert list(rows[0]) == ["path", *genres, "decision"]
    assert [row["path"] for row in rows] == [str(first), str(second), str(twin)] == [each["path"] for each in told["pictures"]]
    assert [each["reason"] for each in told["unreadable"]] == ["cut_file"]
    for row, each, line in zip(rows, told["pictures"], table, strict=True):
        assert {genre: float(row[genre]) for genre in genres} == pytest.approx(each["probabilities"], abs=1e-6)
        reached = [genre for genre in genres if each["probabilities"][genre] >= told["thresholds"][genre]]
        assert set(each["decision"]) == set(reached) and row["decision"] == "|".join(each["decision"])
        assert line.endswith(", ".join(each["decision"]) or "none")
    assert rows[0]["decision"] == rows[2]["decision"]

    maps = sorted((tmp_path / "maps").iterdir())
    assert len(maps) == 3  # the two of one name do not overwrite each other
    assert all(Image.open(path).size == Image.open(first).size for path in maps)
    tops = [max(each["probabilities"], key=each["probabilities"].get) for each in told["pictures"]]
    names = (f"{first.stem}-{tops[0]}", f"{second.stem}-{tops[1]}", f"{first.stem}-{tops[0]}-2")
    assert {path.stem for path in maps} == set(names)


def test_the_exported_run_predicts_what_predict_does(
    workdir: pathlib.Path, posters: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export.main([str(workdir), str(tmp_path / "bundle")]) == 0
    assert "checked against the checkpoint" in capsys.readouterr().out
    score, labels, pictures = bundle.load(tmp_path / "bundle")
    names = [posters / f"{number}.jpg" for number in predictions(workdir)["test_id"].tolist()]
    scores = np.asarray(score(np.stack([bundle.read(str(path), labels["image_size"], pictures) for path in names])))
    temperatures = json.loads((workdir / "results.json").read_text())["calibration"]["temperatures"]
    wanted = calibration.apply(predictions(workdir)["test_score"], list(temperatures.values()))
    np.testing.assert_allclose(scores, wanted, atol=1e-6)
    assert "**Trained on posters that a program drew" in (tmp_path / "bundle" / "MODEL_CARD.md").read_text()


def test_a_folder_gives_its_pictures_in_order_and_nothing_else(tmp_path: pathlib.Path) -> None:
    for name in ("b.PNG", "a.jpg", "notes.txt", "sub/c.webp", "sub.jpg/d.jpg", "e.jfif", "README", ".hidden.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    found, others = predict.list_pictures([tmp_path / "notes.txt", tmp_path])
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "notes.txt", "a.jpg", "b.PNG", "e.jfif", "sub/c.webp", "sub.jpg/d.jpg"
    ]  # fmt: skip
    assert others == {".txt": 1, "without a suffix": 1}


def test_a_folder_is_predicted_to_both_files_at_once_and_what_is_left_out_is_told(
    workdir: pathlib.Path, posters: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    first = sorted(posters.glob("*.jpg"))[0]
    shutil.copy(first, folder / "old.jfif")
    for name in ("list.txt", "b.pdf", "c.pdf"):
        (folder / name).write_text("x")
    files = [tmp_path / "out.csv", tmp_path / "out.json"]
    capsys.readouterr()
    assert predict.main([str(workdir), str(folder), f"--csv={files[0]}", f"--json={files[1]}"]) == 0
    said = capsys.readouterr()
    assert "3 files are left out, as they are no pictures: 2 .pdf, 1 .txt" in said.err
    assert said.out == f"{files[0]}: 1 of 1 pictures\n{files[1]}: 1 of 1 pictures\n"
    (row,) = csv.DictReader(io.StringIO(files[0].read_text()))
    (picture,) = json.loads(files[1].read_text())["pictures"]
    assert row["path"] == picture["path"] and row["decision"] == "|".join(picture["decision"])


def test_mistakes_are_one_sentence_and_exit_code_2(
    workdir: pathlib.Path, posters: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoilt(name: str, *gone: str) -> str:
        shutil.copytree(workdir, tmp_path / name)
        for path in gone:
            (shutil.rmtree if (tmp_path / name / path).is_dir() else pathlib.Path.unlink)(tmp_path / name / path)
        return str(tmp_path / name)

    several = spoilt("several")
    results = json.loads((workdir / "results.json").read_text())
    (tmp_path / "several" / "results.json").write_text(json.dumps({"seeds": [results]}))
    (tmp_path / "empty").mkdir()
    (tmp_path / "page.jpg").write_text("<html>")
    picture = str(next(posters.iterdir()))
    for arguments, says in (
        ([str(posters), picture], "is not a workdir"),
        ([spoilt("unfinished", "results.json"), picture], "has not finished"),
        ([spoilt("bare", "checkpoints/best"), picture], "checkpoints/best"),
        ([several, picture], "seed_0"),
        ([str(workdir), str(tmp_path / "empty")], "holds no picture"),
        ([str(workdir), picture, f"--csv={tmp_path / 'no' / 'a.csv'}"], "cannot be written"),
        ([str(workdir)], "no picture is named"),
    ):
        assert predict.main(arguments) == 2, arguments
        said = capsys.readouterr().err
        assert says in said and said.count("\n") == 1, said
    assert predict.main([str(workdir), str(tmp_path / "page.jpg")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert "page.jpg is left out: not an image" in told[0] and "none of the 1 pictures" in told[1]


def test_the_folder_of_one_seed_is_a_network_too(workdir: pathlib.Path, posters: pathlib.Path, tmp_path: pathlib.Path) -> None:
    seed = shutil.copytree(workdir, tmp_path / "run" / "seed_0")
    for name in ("config.json", "labels.json"):
        shutil.move(seed / name, tmp_path / "run" / name)
    picture = next(posters.iterdir())
    one, other = (next(predict.predict(predict.load_network(each), [picture], with_maps=False)) for each in (workdir, seed))
    assert isinstance(one, predict.Prediction) and isinstance(other, predict.Prediction)
    np.testing.assert_array_equal(one.scores, other.scores)


def test_the_table_tells_the_three_most_probable_genres_and_the_decision() -> None:
    network = predict.Predictor(None, {}, ("A", "B", "C", "D", "E"), np.array([0.5, 0.9, 0.05, 0.5, 0.5]), (1, 1), 1, None)
    checked = images.CheckedImage(b"", 1, 1, (), "", 0, b"")
    scores = np.array([0.25, 0.8, 0.1, 0.625, 0.3])
    one = predict.Prediction(pathlib.Path("poster.jpg"), checked, scores, None)
    assert predict.table_line(network, one) == f"{'poster.jpg':<48}  B 0.80, D 0.62, E 0.30  ->  D, C"
    none = predict.Prediction(pathlib.Path("x" * 60 + ".jpg"), checked, np.zeros(5), None)
    assert predict.table_line(network, none) == f"...{'x' * 41}.jpg  A 0.00, B 0.00, C 0.00  ->  none"


@pytest.mark.parametrize(
    ("given", "run", "pictures"),
    [
        (["run", "a.png"], "run", ["a.png"]),
        (["run", "a.png", "folder"], "run", ["a.png", "folder"]),
        (["a.png"], predict.DEFAULT_RUN, ["a.png"]),
        (["a.png", "folder"], predict.DEFAULT_RUN, ["a.png", "folder"]),
        (["folder"], predict.DEFAULT_RUN, ["folder"]),
        (["missing.png"], predict.DEFAULT_RUN, ["missing.png"]),
        (["missing", "a.png"], "missing", ["a.png"]),
        (["released:other", "a.png"], "released:other", ["a.png"]),
        (["gs://bucket/run", "a.png"], "gs://bucket/run", ["a.png"]),
    ],
)
def test_without_a_run_the_released_network_is_taken(
    given: list[str], run: str, pictures: list[str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("run", "folder"):
        (tmp_path / name).mkdir()
    (tmp_path / "run" / "config.json").touch()
    (tmp_path / "a.png").touch()
    monkeypatch.chdir(tmp_path)
    assert predict.split_run(given) == (run, pictures)
    for lone in ("run", "released:other"):
        with pytest.raises(errors.UserError, match=f"no picture is named beside {lone}"):
            predict.split_run([lone])
