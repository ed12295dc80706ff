"""Names that people and file systems make: they flow into paths, tables, pages, figures and cards, and break none."""

import csv
import html.parser
import io
import json
import os
import pathlib
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from poster_jax import cli, compare, predict
from poster_jax.data import catalog, label_texts, listing, resident, source
from poster_jax.export import __main__ as export
from poster_jax.report import __main__ as report
from poster_jax.report.figures import style
from poster_jax.report.tables import cells
from poster_jax.runtime import tables
from poster_jax.workdir import run_files

ROOT = pathlib.Path(__file__).resolve().parents[1]
GENRES = ("Sci-Fi/Fantasy", "=1+1", r"$\cost{$ <u>x</u> 日本 %s", '"A" \\ \N{FILM PROJECTOR} ..', "@x'{y}|z".replace("|", "_"))
CELLS = (
    "=1+1",
    "+1 more",
    "-x.jpg",
    "@cmd",
    "\t=1",
    "\r=1",
    "\n=1",
    "'=1",
    "''=1",
    "'quoted'",
    "plain",
    "",
    "-0.5",
    "'-0.5",
    "1e5",
)
CELLS += ('say "no"', "a,b", "a\nb", "日本", "=", "-", "'")


def picture(path: pathlib.Path, number: int, genre: int) -> None:
    """A poster whose colour tells its genre."""
    rng = np.random.default_rng(number)
    pixels = (
        rng.integers(0, 60, (45, 30, 3))
        + np.array([[180, 0, 0], [0, 180, 0], [0, 0, 180], [180, 180, 0], [0, 180, 180]])[genre]
    )
    Image.fromarray(pixels.astype(np.uint8)).save(path, quality=90)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A finished run on genres of such names; its pictures have such names too."""
    place = tmp_path_factory.mktemp("names")
    posters = place / "posters"
    posters.mkdir()
    lines = []
    for number in range(60):
        name = f"{('=', '-', '@', '+', 'p')[number % 5]}{number}.jpg"
        picture(posters / name, number, number % 5)
        lines.append((f"posters/{name}", GENRES[number % 5]))
    (posters / "=bad.jpg").write_text("<html>")
    with (place / "own.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "genres"), *lines, ("posters/=bad.jpg", GENRES[1])])
    command = [
        sys.executable,
        "-m",
        "poster_jax.main",
        f"--config={ROOT}/configs/cnn_onehot.py:smoke",
        f"--workdir={place}/run",
    ]
    settings = ("data.variant=csv", f"data.csv={place}/own.csv", f"data.num_genres={len(GENRES)}", "data.balance=none")
    settings += ("data.min_movies=2", "eval.baselines=False", "eval.bootstrap_samples=2", "data.label_separator=none")
    command += [f"--config.{setting}" for setting in settings]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr[-2000:]
    return place / "run"


class Reader(html.parser.HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_shows_the_names_as_text_and_tells_the_boxes(
    workdir: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = workdir.parent / "page.html"
    assert report.main([str(workdir), f"--out={out}"]) == 0, capsys.readouterr().err
    read = Reader(out.read_text(encoding="utf-8"))
    assert not {"u"} & read.tags
    assert all(genre in read.text for genre in GENRES)
    lacking = style.undrawn(GENRES)
    assert not lacking or f"has a box for each of {lacking}" in read.text
    assert len(list((workdir.parent / "page_figures").glob("*.png"))) > 5


def test_predict_writes_maps_and_tables_for_any_genre_and_file(
    workdir: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    names = ["=a.jpg", "-b.jpg", "n\newline.jpg", "\udcff.jpg", "a" * 240 + ".jpg", "日本.jpg", "$(x).jpg", "c|d'e\".jpg"]
    for number, name in enumerate(names):
        picture(folder / name, 100 + number, number % 5)
    (folder / "z\n\udcfe.jpg").write_text("<html>")
    given = [str(workdir), str(folder), f"--explain={tmp_path / 'maps'}", f"--csv={tmp_path / 'a.csv'}"]
    assert predict.main([*given, f"--json={tmp_path / 'a.json'}"]) == 0
    said = capsys.readouterr()
    assert r"z\n\udcfe.jpg is left out" in said.err and said.err.count("\n") == 1
    maps = sorted(path.name for path in (tmp_path / "maps").iterdir())
    assert len(maps) == len(names) and all(path.is_file() for path in (tmp_path / "maps").iterdir())
    assert any(name.endswith(("Sci-Fi_Fantasy.png", "=1+1.png", "%s.png", "...png", "z.png")) for name in maps)
    rows = list(csv.reader(io.StringIO((tmp_path / "a.csv").read_bytes().decode("utf-8"))))
    genres = json.loads((workdir / "labels.json").read_text())["genres"]
    assert [tables.restore(cell) for cell in rows[0]] == ["path", *genres, "decision"] and len(rows) == len(names) + 1
    assert not [cell for row in rows for cell in row if cell[:1] in tuple("=+-@\t\r\n")]
    told = json.loads((tmp_path / "a.json").read_text())
    assert {os.path.basename(each["path"]) for each in told["pictures"]} == set(names)
    assert predict.main([str(workdir), str(folder)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(names)


def test_predict_by_relative_names_that_begin_as_options_and_formulas(
    workdir: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("-a.jpg", "=b.jpg"):
        picture(tmp_path / name, 1, 1)
    assert predict.main([str(workdir), "--csv=out.csv", "--", "-a.jpg", "=b.jpg"]) == 0
    rows = list(csv.reader((tmp_path / "out.csv").open()))
    assert [row[0] for row in rows[1:]] == ["'-a.jpg", "'=b.jpg"]


def test_the_model_card_and_the_bundle_hold_the_names(
    workdir: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert export.main([str(workdir), str(tmp_path / "bundle")]) == 0, capsys.readouterr().err
    card = (tmp_path / "bundle" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "<u>" not in card and r"\$\\cost\{\$ &lt;u&gt;x" in card
    labels = json.loads((tmp_path / "bundle" / "labels.json").read_text())
    assert set(labels["genres"]) == set(GENRES)
    for name in ("=b.jpg", "-\udcff.jpg"):
        picture(tmp_path / name, 1, 1)
    (tmp_path / "zero.jpg").write_bytes(b"")
    given = ["--csv=a.csv", "--", "zero.jpg", "=b.jpg", "-\udcff.jpg"]
    command = [sys.executable, "bundle/predict.py", *given]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stderr.count("\n") == 1 and "zero.jpg is left out: empty file" in done.stderr
    of_bundle = (tmp_path / "a.csv").read_bytes()
    monkeypatch.chdir(tmp_path)
    assert predict.main([str(workdir), *given]) == 0
    ours, theirs = (list(csv.reader(io.StringIO(text.decode()))) for text in ((tmp_path / "a.csv").read_bytes(), of_bundle))
    assert [row[:1] + row[-1:] for row in ours] == [row[:1] + row[-1:] for row in theirs]
    assert ours[0] == theirs[0] and [row[0] for row in ours[1:]] == ["'=b.jpg", r"'-\udcff.jpg"]


def test_compare_and_what_was_refused_know_the_names(workdir: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main([str(workdir), str(workdir), "--samples=5"]) == 0, capsys.readouterr().err
    assert run_files.read_refused(workdir)["not_an_image"].genres == {"=1+1": 1}
    assert ",'=1+1," in (workdir / "refused.csv").read_text()


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_is_no_formula_and_comes_back(cell: str) -> None:
    (header, row) = csv.reader(io.StringIO(tables.csv_text(["=x", "y"], [[cell, "next"]]), newline=""))
    assert header == ["'=x", "y"] and row[1] == "next"
    assert tables.restore(row[0]) == cell
    assert not row[0].startswith(("=", "+", "-", "@", "\t", "\r", "\n")) or re.fullmatch(r"-?[0-9.e]+", row[0])


def test_numbers_paths_and_what_is_no_utf_8_in_a_table() -> None:
    text = tables.csv_text(["a"], [[-1.5], [None], [pathlib.Path("-x/y")], ["a\udcff"], ["-1.5"]])
    assert text == 'a\n-1.5\n""\n\'-x/y\na\\udcff\n-1.5\n'


def test_a_cache_gives_labels_back_as_they_are(tmp_path: pathlib.Path) -> None:
    table = pd.DataFrame({"id": [1, 2], "genres": ["=1+1|'=2", '"q", 日本'], "group": [1, 1], "split": ["", "train"]})
    columns = {"id": ["-3", "=4"], "reason": ["x", "x"], "genres": ["@a", "'b"], "detail": ["no \udcff", "a\nb"]}
    refused = pd.DataFrame(columns, dtype=object)
    source.write_table(table, tmp_path)
    catalog.write_refused(refused, tmp_path / "refused.csv")
    held, gone = source.read_tables(tmp_path)
    assert held.to_dict("list") == table.to_dict("list")
    assert gone.to_dict("list") == {**refused.to_dict("list"), "detail": [r"no \udcff", "a\nb"]}
    assert resident.read_tables is source.read_tables


def test_folders_that_are_no_utf_8_are_labels(tmp_path: pathlib.Path) -> None:
    for number, name in enumerate((b"Com\xe9die", b"a\nb", b"=1")):
        place = os.path.join(os.fsencode(tmp_path), name)
        os.mkdir(place)
        picture(pathlib.Path(os.fsdecode(place)) / "1.jpg", number, number)
    found = listing.read_folder(tmp_path)
    assert sorted(movie.genres[0] for movie in found.movies) == ["=1", "Comédie", "a b"]
    assert label_texts.tidy_name("a\x1b[31m\x00b  c\u2028d") == "a [31m b c d"


def test_formulas_and_other_scripts_are_text_in_a_figure() -> None:
    def draw(theme: style.Theme) -> Any:
        figure = style.new_figure(3, 2)
        figure.subplots().set(title="日本 $\\cost{$", xlabel="$a_1$", ylabel="مرحبا")
        return figure

    assert style.render(style.Picture("x", "x", draw)).light


def test_markdown_of_a_name_is_no_markup() -> None:
    assert cells.markdown("a|b <i> *c*\n# [d](e) `f` $g$ ~h") == r"a\|b &lt;i&gt; \*c\* \# \[d\](e) \`f\` \$g\$ \~h"
    assert cli.one_line("a\nb\x1b[1m\udcff é 日") == r"a\nb\x1b[1m\udcff é 日"
