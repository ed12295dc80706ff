"""configs/own_posters.py on drawn posters of a stranger: trained, measured and judged without another setting."""

import csv
import json
import pathlib

import pytest

from poster_jax import config as config_lib
from poster_jax import main, predict
from poster_jax.data import own, synthetic
from poster_jax.report import terminal

CONFIG = str(pathlib.Path(__file__).resolve().parents[2] / "configs" / "own_posters.py")
FAST = ("--config.eval.baselines=False", "--config.eval.bootstrap_samples=20")


def draw(folder: pathlib.Path, num_posters: int, *, several: bool) -> pathlib.Path:
    """A CSV of drawn posters, under their first label or all of them."""
    folder.mkdir()
    with open(folder / "own.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "genres"])
        for row in zip(*(synthetic.draw_table(num_posters, 0)[name] for name in ("id", "genres")), strict=True):
            id_, genres = int(row[0]), str(row[1])
            (folder / f"{id_}.jpg").write_bytes(synthetic.draw_poster(0, id_, tuple(genres.split("|"))))
            writer.writerow([f"{id_}.jpg", genres if several else genres.split("|")[0]])
    return folder / "own.csv"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTER_JAX_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.mark.parametrize(("several", "encoding", "loss"), [(False, "first", "softmax"), (True, "multi_hot", "sigmoid")])
def test_labels_decide_the_encoding_and_the_loss(tmp_path: pathlib.Path, several: bool, encoding: str, loss: str) -> None:
    table = draw(tmp_path / "own", 60, several=several)
    config = config_lib.load(f"{CONFIG}:small", [("data.csv", str(table))])
    assert (config.data.encoding, config.loss.name) == ("auto", "auto")
    settled = own.settle(config)
    assert (settled.data.encoding, settled.loss.name) == (encoding, loss)
    given = config_lib.load(
        f"{CONFIG}:small", [("data.csv", str(table)), ("data.encoding", "exploded"), ("loss.name", "focal")]
    )
    assert own.settle(given) is given, "what is given stays"


@pytest.mark.parametrize("words", ["small,smoke", "quick,smoke", "smoke"])
def test_a_csv_is_all_that_must_be_said(words: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = draw(tmp_path / "own", 120, several=words != "smoke")
    workdir = tmp_path / "run"
    assert main.main([f"--config={CONFIG}:{words}", f"--config.data.csv={table}", *FAST, f"--workdir={workdir}"]) == 0
    said = capsys.readouterr().out
    assert "mAP " in said and "where chance is" in said and "the paper" not in said
    results = json.loads((workdir / "results.json").read_text())
    config = json.loads((workdir / "config.json").read_text())
    assert config["data"]["encoding"] == ("first" if words == "smoke" else "multi_hot")
    assert results["data"]["balance"] == "none" and len(results["data"]["genres"]) >= 4
    if "quick" in words:
        assert results["best_step"] == 0 and "under a head" in results["title"]
        text = terminal.text(results, verbose=True)
        assert "the head, in the network" in text and "fine-tuned" not in text
    assert predict.main([str(workdir), str(tmp_path / "own" / "1.jpg")]) == 0
    # The same command again only reads.
    before = (workdir / "results.json").read_bytes()
    assert main.main([f"--config={CONFIG}:{words}", f"--config.data.csv={table}", *FAST, f"--workdir={workdir}"]) == 0
    assert (workdir / "results.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "say where your posters are"),
        (("--config.data.csv=a.csv", "--config.data.dir=b"), "say where your posters are"),
        (("--config.data.csv=no/such.csv",), "no/such.csv; the folder"),
        (("--config.data.dir=no_such_folder",), "no_such_folder"),
    ],
)
def test_what_is_missing_is_said(
    arguments: tuple[str, ...], words: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = tmp_path / "run"
    assert main.main([f"--config={CONFIG}:small", *arguments, f"--workdir={workdir}"]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1 and not workdir.exists()


def test_too_few_pictures_of_every_label_are_told(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = draw(tmp_path / "own", 24, several=False)
    assert main.main([f"--config={CONFIG}:small", f"--config.data.csv={table}", f"--workdir={tmp_path / 'run'}"]) == 2
    assert "no label has 20 pictures (the most frequent is" in capsys.readouterr().err
