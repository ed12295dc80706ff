"""The HTML page: alone in the world, whole, equal for equal runs, no score without its floor; what it refuses."""

import html.parser
import io
import json
import pathlib
import shutil
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from poster_jax.report import __main__ as report
from poster_jax.report import page, runs
from poster_jax.report.figures import curves, style

WriteWorkdir = Callable[..., pathlib.Path]
PICTURES = {"learning", "precision-recall", "calibration"}
OF_A_RUN = {"genres-catalog", "genres", "posters", "mistakes", "grad-cam"}


class Reader(html.parser.HTMLParser):
    """Every address that the page would load, every tag, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.broken = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.broken = tag == "wbr"
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag == "img":
            assert dict(attrs)["alt"]

    def handle_data(self, data: str) -> None:
        if self.broken:  # a place where a long name may go to the next line
            self.texts[-1] += data
            self.broken = False
        else:
            self.texts.append(data)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, write_workdir: WriteWorkdir) -> tuple[pathlib.Path, pathlib.Path, str]:
    """Two runs in one page: multi-hot labels and single ones."""
    folder = tmp_path_factory.mktemp("page")
    workdirs = [write_workdir(folder / "many"), write_workdir(folder / "one", encoding="first", samples=False)]
    path, figures = page.write(workdirs, folder / "out" / "all.html")
    return path, figures, path.read_text()


def test_the_page_needs_nothing_but_itself(written: tuple[pathlib.Path, pathlib.Path, str]) -> None:
    read = Reader(written[2])
    assert len(read.addresses) > 20
    assert all(address.startswith(("data:image/", "#")) for address in read.addresses)
    assert not {"script", "link", "iframe", "object"} & set(read.tags)
    assert "@import" not in written[2] and "url(" not in written[2]
    posters = written[2].count("data:image/webp")
    assert posters and read.tags.count("img") - posters == 2 * read.tags.count("figure")  # light and dark
    assert "prefers-color-scheme: dark" in written[2] and "@media print" in written[2]


def test_every_figure_is_also_a_png_and_nothing_touches_its_edge(written: tuple[pathlib.Path, pathlib.Path, str]) -> None:
    names = {path.stem for path in written[1].glob("*.png")}
    without_posters = {"genres-catalog", "genres"}
    assert names == PICTURES | {f"{name}-many" for name in OF_A_RUN} | {f"{name}-one" for name in without_posters}
    for name in names:
        pixels = np.asarray(Image.open(written[1] / f"{name}.png").convert("RGB"))
        assert pixels.std() > 5, name
        edge = np.concatenate([pixels[:3].reshape(-1, 3), pixels[-3:].reshape(-1, 3), pixels[:, :3].reshape(-1, 3)])
        assert (edge == 255).all(), f"{name} is cut"
        assert (pixels[:, -3:] == 255).all(), f"{name} is cut on the right"


def test_no_score_stands_without_its_floor_and_both_runs_are_there(written: tuple[pathlib.Path, pathlib.Path, str]) -> None:
    path, _, text = written
    read = Reader(text)
    results = json.loads((path.parent.parent / "many" / "results.json").read_text())
    entry = results["splits"]["test"]["metrics"]["mean_average_precision"]
    value = f"{entry['value']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"
    assert f"{value} / {entry['best_floor']:.3f}" in read.texts
    for part in ("train", "validation", "test"):
        zeros = results["splits"][part]["metrics"]["binary_accuracy"]
        assert f"{zeros['best_floor']:.3f}" in read.texts
    assert f"{entry['chance']:.3f}" in read.texts and f"{entry['p_value']:.4f}" in read.texts
    assert {"Run: many", "Run: one", "All runs"} <= set(read.texts)
    assert page.NO_SAMPLES in read.texts
    assert "calibration_error (lower is better)" in read.texts
    assert "empty file" in read.texts and "Drama 2, War 1" in read.texts


def test_equal_runs_give_equal_pages(tmp_path: pathlib.Path, write_workdir: WriteWorkdir) -> None:
    workdir = write_workdir(tmp_path / "run")
    pages = [page.write([workdir], tmp_path / name / "page.html")[0].read_bytes() for name in "ab"]
    assert pages[0] == pages[1]
    pngs = [{path.name: path.read_bytes() for path in (tmp_path / name).glob("*/*.png")} for name in "ab"]
    assert pngs[0] == pngs[1] and len(pngs[0]) == len(PICTURES | OF_A_RUN)


def test_names_cannot_break_out_of_the_page(
    tmp_path: pathlib.Path, write_workdir: WriteWorkdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(style, "render", lambda *_, **__: style.Drawn(b"", b"", b""))
    workdir = write_workdir(tmp_path / "<b>run")
    results = json.loads((workdir / "results.json").read_text())
    results["title"] = "<script>alert(1)</script>"
    (workdir / "results.json").write_text(json.dumps(results))
    text = page.write([workdir], tmp_path / "page.html")[0].read_text()
    assert "<script>" not in text and "<b>run" not in text and "&lt;script&gt;" in text


def test_seeds_are_runs_and_equal_names_are_told_apart(tmp_path: pathlib.Path, write_workdir: WriteWorkdir) -> None:
    several = write_workdir(tmp_path / "a" / "run", seeds=(0, 1))
    alone, other = write_workdir(tmp_path / "b" / "run"), write_workdir(tmp_path / "c" / "run")
    assert [run.name for run in runs.load([several, alone])] == ["seed_0", "seed_1", "run"]
    assert [run.name for run in runs.load([other, alone])] == ["c/run", "b/run"]
    assert [run.name for run in runs.load([alone, alone])] == ["run (1)", "run (2)"]
    assert all(run.refused == {"empty_file": (2, {"Drama": 2, "War": 1}), "no_genre": (1, {})} for run in runs.load([several]))


def test_a_run_of_another_order_of_genres_is_not_mixed_up(tmp_path: pathlib.Path, write_workdir: WriteWorkdir) -> None:
    """The same run with its genres in reverse order must draw the same curves."""
    workdir = write_workdir(tmp_path / "run", samples=False)
    turned = shutil.copytree(workdir, tmp_path / "turned")
    results = json.loads((turned / "results.json").read_text())
    results["data"]["genres"].reverse()
    for split in results["splits"].values():
        split["per_genre"] = dict(reversed(split["per_genre"].items()))
    for key in ("temperatures", "thresholds"):
        results["calibration"][key] = dict(reversed(results["calibration"][key].items()))
    (turned / "results.json").write_text(json.dumps(results))
    with np.load(turned / "predictions.npz") as arrays:
        flipped = {name: array[:, ::-1] if array.ndim == 2 else array for name, array in arrays.items()}
    np.savez(turned / "predictions.npz", **flipped)
    drawn = []
    for second in (workdir, turned):
        shown = runs.load([workdir, second])
        png = style.render(curves.by_threshold(shown)[0]).png
        drawn.append(np.asarray(Image.open(io.BytesIO(png)))[80:])  # the legend above holds the names of the folders
    np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda workdir: shutil.rmtree(workdir), "is not a workdir"),
        (lambda workdir: (workdir / "config.json").unlink(), "is not a workdir"),
        (lambda workdir: (workdir / "results.json").unlink(), "has not finished"),
        (lambda workdir: (workdir / "results.json").write_text("{"), "is damaged"),
        (lambda workdir: (workdir / "results.json").write_text('{"trials": []}'), "holds no single network"),
        (lambda workdir: (workdir / "predictions.npz").write_bytes(b"PK"), "predictions.npz"),
        (lambda workdir: (workdir / "metrics.jsonl").write_text("{"), "metrics.jsonl"),
        (lambda workdir: (workdir / "refused.csv").unlink(), "refused.csv"),
    ],
)
def test_a_bad_workdir_is_one_sentence_and_exit_code_2(
    spoil: Callable[[pathlib.Path], None],
    says: str,
    tmp_path: pathlib.Path,
    write_workdir: WriteWorkdir,
    capsys: pytest.CaptureFixture[str],
) -> None:
    workdir = write_workdir(tmp_path / "run")
    spoil(workdir)
    assert report.main([str(workdir), f"--out={tmp_path / 'page.html'}"]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1 and said.startswith("poster_jax: ")
    assert not (tmp_path / "page.html").exists()


def test_mixed_genres_no_workdir_and_a_bad_target_are_refused(
    tmp_path: pathlib.Path,
    write_workdir: WriteWorkdir,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(style, "render", lambda *_, **__: style.Drawn(b"", b"", b""))
    one, other = write_workdir(tmp_path / "one"), write_workdir(tmp_path / "other")
    (other / "results.json").write_text((other / "results.json").read_text().replace('"Drama"', '"Western"'))
    (tmp_path / "file").write_text("x")
    for arguments, says in (
        ([str(one), str(other)], "different genres"),
        ([], "WORKDIR"),
        ([str(one), f"--out={tmp_path / 'file' / 'page.html'}"], "--out"),
        ([str(one), "--colour=red"], "--colour"),
    ):
        assert report.main(arguments) == 2
        said = capsys.readouterr().err
        assert says in said and said.count("\n") == 1
    assert report.main([str(one)]) == 0
    assert str(one / "report.html") in capsys.readouterr().out and (one / "report.html").is_file()
