"""What a stranger may bring, through `main` from the command to its end: a trained and measured run, or one right sentence."""

import json
import pathlib
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import Image

from poster_jax import main

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"
NAMES = ("Drama", "War", "Crime")
COLOURS = {"Drama": (200, 40, 40), "War": (40, 200, 40), "Crime": (40, 40, 200)}
NUM = 48
FAST = ("--config.eval.baselines=False", "--config.eval.bootstrap_samples=20", "--config.train.num_epochs=1.0")


def picture(path: pathlib.Path, seed: int, labels: Sequence[str]) -> None:
    """A poster of noise in the mixed colours of its labels, unlike every other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 110, (6, 4, 3))
    tint = np.mean([COLOURS.get(label, (90, 90, 90)) for label in labels] or [(90, 90, 90)], axis=0)
    pixels = np.clip(noise + tint / 2, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).resize((40, 60), Image.Resampling.NEAREST).save(path)


def labels_of(row: int, several: bool = True) -> list[str]:
    first = NAMES[row % 3]
    return [first, NAMES[(row + 1) % 3]] if several and row % 4 == 0 else [first]


def pictures(folder: pathlib.Path, name: str = "{}.png", several: bool = True) -> list[tuple[str, list[str]]]:
    """[(path, labels)] of NUM pictures in a folder."""
    found = [(name.format(row + 1), labels_of(row, several)) for row in range(NUM)]
    for row, (path, labels) in enumerate(found):
        picture(folder / path, row, labels)
    return found


def table(
    folder: pathlib.Path,
    header: str = "path,genres",
    line: Callable[[int, str, list[str]], str] = lambda row, path, labels: f"{path},{'|'.join(labels)}",
    encoding: str = "utf-8",
    several: bool = True,
) -> str:
    """Writes own.csv beside pictures and returns the flag that names it."""
    rows = [line(row, path, labels) for row, (path, labels) in enumerate(pictures(folder, several=several))]
    (folder / "own.csv").write_bytes("\n".join([header, *rows]).encode(encoding))
    return f"--config.data.csv={folder / 'own.csv'}"


def quoted(join: Callable[[list[str]], str]) -> Callable[[int, str, list[str]], str]:
    return lambda row, path, labels: f'{path},"{join(labels)}"'


def hub(folder: pathlib.Path, lines: bool) -> str:
    rows = pictures(folder, "train/{}.png")
    if lines:
        records = [json.dumps({"file_name": path, "labels": labels}) for path, labels in rows]
        (folder / "metadata.jsonl").write_text("\n".join(records))
        return f"--config.data.dir={folder}"
    (folder / "metadata.csv").write_text("\n".join(["file_name,label", *(f"{path},{labels[0]}" for path, labels in rows)]))
    return f"--config.data.csv={folder}"


def of_folders(folder: pathlib.Path, parts: Sequence[str] = ("",), comma: bool = False) -> str:
    for row in range(NUM):
        labels = labels_of(row, several=comma)
        picture(folder / parts[row // 3 % len(parts)] / ", ".join(labels) / f"{row}.png", row, labels)
    return f"--config.data.dir={folder}"


def kaggle(folder: pathlib.Path) -> str:
    rows = pictures(folder / "posters" / "posters", "tt{:07d}.png")
    text = "\n".join(["imdbId,Title,Genre", *(f"{row}.0,x,{'|'.join(labels)}" for row, (_, labels) in enumerate(rows, 1))])
    (folder / "MovieGenre.csv").write_bytes(text.encode("utf-8-sig"))
    return f"--config.data.dir={folder}"


def accents(folder: pathlib.Path) -> str:
    flag = table(folder, line=lambda row, path, labels: f"{'é' if row == 0 else ''}{path},{labels[0]}", several=False)
    (folder / "1.png").rename(folder / unicodedata.normalize("NFD", "é1.png"))
    return flag


SPLIT = ("train", "train", "train", "val", "test")
# {what is brought: (what makes it and gives the flags, what is said besides the result)}.
TRAINED: dict[str, tuple[Callable[[pathlib.Path], str], str]] = {
    "plain": (table, "0 refused"),
    "semicolons in UTF-16": (
        lambda at: table(at, " Path ;GENRES", lambda _, path, labels: f"{path};{'|'.join(labels)}", "utf-16"),
        "multi_hot",
    ),
    "tabs in Latin-1": (
        lambda at: table(at, "genres\tpath\tTitle", lambda _, path, labels: f"{labels[0]}\t{path}\té", "ISO-8859-1"),
        "encoding first",
    ),
    "labels with commas": (lambda at: table(at, line=quoted(", ".join)), "labels are separated by ','"),
    "lists of Python": (lambda at: table(at, line=quoted(str)), "labels are lists"),
    "JSON": (
        lambda at: table(at, line=quoted(lambda labels: json.dumps(labels).replace('"', '""'))),
        "labels are lists in 48 of 48 cells",
    ),
    "a column for each label": (
        lambda at: table(at, "path,Drama,War,Crime", lambda _, p, own: f"{p},{','.join(str(int(n in own)) for n in NAMES)}"),
        "labels are the 3 columns of zeros and ones",
    ),
    "metadata.csv of Hugging Face": (lambda at: hub(at, lines=False), "encoding first"),
    "metadata.jsonl of Hugging Face": (lambda at: hub(at, lines=True), "labels are lists"),
    "a folder for each label": (of_folders, "labels are the names of 3 folders"),
    "folders of parts": (lambda at: of_folders(at, ("train", "valid", "test")), "the parts are those of the folders"),
    "folders with commas": (lambda at: of_folders(at, comma=True), "labels are separated by ','"),
    "the Kaggle set": (kaggle, "0 refused"),
    "columns of other names": (
        lambda at: (
            table(at, "filename,Label,imdb,subset,film", lambda r, p, own: f"{p},{own[0]},tt{r + 1},{SPLIT[r % 5]},f{r}")
            + " --config.data.path_column=filename --config.data.label_column=label --config.data.id_column=imdb"
            + " --config.data.split_column=subset --config.data.movie_column=film"
        ),
        "the parts are those of the column subset",
    ),
    "some without a label": (
        lambda at: table(at, line=lambda row, path, own: f"{path},{'N/A' if row in (4, 9) else own[0]}"),
        "2 refused (2 no_genre)",
    ),
    "labels in several spellings": (
        lambda at: table(at, line=lambda row, path, own: f"{path},{own[0].upper() if row % 7 == 0 else own[0]}"),
        "labels that differ in case or spaces only are one",
    ),
    "names in another normal form": (accents, "0 refused"),
    "a given split with a movie in two parts": (
        lambda at: table(at, "path,genres,split,movie", lambda r, p, own: f"{p},{own[0]},{SPLIT[r % 5]},m{r // 4}"),
        "LEAK: the column split puts 12 movies of the column movie into two parts",
    ),
    "a label that nobody lacks": (
        lambda at: table(at, line=lambda _, path, own: f"{path},{'|'.join([*own, 'Poster'])}"),
        "every poster has the label Poster, so it teaches nothing",
    ),
}


def fewer(folder: pathlib.Path) -> str:
    return table(folder) + " --config.data.num_genres=2"


def bare(text: str) -> Callable[[pathlib.Path], str]:
    def make(folder: pathlib.Path) -> str:
        folder.mkdir()
        (folder / "own.csv").write_text(text)
        return f"--config.data.csv={folder / 'own.csv'}"

    return make


REFUSED: dict[str, tuple[Callable[[pathlib.Path], str], str]] = {
    "no file": (lambda at: f"--config.data.csv={at / 'none.csv'}", "there is no file"),
    "no folder": (lambda at: f"--config.data.dir={at / 'none'}", "there is no folder"),
    "nothing named": (lambda _: "--config.data.variant=own", "say where your posters are"),
    "unknown columns": (bare("image,tags\n1.png,War\n"), "--config.data.path_column=image --config.data.label_column=tags"),
    "a comma that is not quoted": (bare("path,genres\n1.png,War,Crime\n"), "write several labels as Drama|Crime"),
    "an empty file": (bare(""), "it is empty"),
    "a split without validation": (
        bare("path,genres,split\n1.png,War,train\n2.png,War,test\n"),
        "the column split names no validation row",
    ),
    "one movie": (bare("path,genres,movie\n1.png,War,x\n2.png,Drama,x\n"), "the column movie has the same text in every row"),
    "labels of labels": (bare("path,genres\n1.png,War/Crime\n2.png,War\n3.png,Crime\n"), "looks like several in one"),
    "no pictures": (bare("path,genres\nart/1.png,War\n"), "it looked for"),
    "ids that are none": (bare("id,path,genres\nx1,1.png,War\n"), "write ids as 1 or tt0000001"),
    "no labels at all": (
        lambda at: table(at, line=lambda _, path, own: f"{path},{('N/A', 'nan', '')[len(path) % 3]}"),
        "give each row a label (an empty cell, N/A, nan",
    ),
    "one label for all": (lambda at: table(at, line=lambda _, path, own: f"{path},War"), "there is nothing to tell apart"),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTER_JAX_CACHE", str(tmp_path / "cache"))


def run(tmp_path: pathlib.Path, flags: str, config: str = "own_posters") -> int:
    words = f"--config={CONFIGS / config}.py:{'small,smoke' if config == 'own_posters' else 'smoke'}"
    return main.main([words, *flags.split(), *FAST, f"--workdir={tmp_path / 'run'}"])


@pytest.mark.parametrize("brought", TRAINED)
def test_it_is_trained_and_measured(brought: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, words = TRAINED[brought]
    assert run(tmp_path, make(tmp_path / "own")) == 0
    said = capsys.readouterr().out
    assert words in said and "where chance is" in said
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert set(results["data"]["genres"]) - {"Poster"} == set(NAMES)
    assert results["splits"]["test"]["num_rows"] == results["data"]["num_rows"]["test"] > 0
    assert sum(results["data"]["num_rows"].values()) + results["data"]["num_refused"] == NUM


def test_what_another_config_leaves_out_is_told_with_its_flag(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, fewer(tmp_path / "own"), "cnn_onehot") == 0
    said = capsys.readouterr().out
    assert "2 of 3 labels kept; " in said and "posters have none of them: --config.data.num_genres=3" in said
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["data"]["balance"], config["data"]["genre_rank"], config["data"]["variant"]) == ("none", "any", "own")


@pytest.mark.parametrize("brought", REFUSED)
def test_it_is_refused_in_one_sentence(brought: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, words = REFUSED[brought]
    assert run(tmp_path, make(tmp_path / "own")) == 2
    said = capsys.readouterr().err
    last = [line for line in said.splitlines() if not line.startswith("checking pictures")]
    assert words in said and len(last) == 1 and last[0].startswith("poster_jax: ")
    assert not (tmp_path / "run" / "config.json").exists()
