"""The index of a folder of runs: a line each, the newest first, links that lead somewhere, and what it refuses."""

import json
import pathlib
import re
import shutil
from collections.abc import Callable

import pytest

from poster_jax.report import __main__ as report
from poster_jax.report import index

WriteWorkdir = Callable[..., pathlib.Path]


def add_line(workdir: pathlib.Path, date: str) -> None:
    line = {"event": "run", "commit": "abc1234", "jax": "0.12.0", "machine": "2 cores", "secs": 61.2, "date": date}
    (workdir / "timings.jsonl").write_text(json.dumps(line) + "\n")


def rows(path: pathlib.Path) -> list[list[str]]:
    """The cells of every line as text."""
    body = path.read_text().split("<tbody>")[1].split("</tbody>")[0]
    lines = re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line, re.DOTALL) for line in lines]
    return [[re.sub(r"<[^>]+>", "", cell).strip() for cell in line] for line in cells]


def test_a_line_for_every_run_the_newest_first(tmp_path: pathlib.Path, write_workdir: WriteWorkdir) -> None:
    folder = tmp_path / "runs"
    for name, date in (("old", "2026-01-02 03:04 UTC"), ("new", "2026-03-01 00:00 UTC"), ("deep/er", "2026-02-01 00:00 UTC")):
        add_line(write_workdir(folder / name, seeds=(0, 1) if name == "new" else (0,)), date)
    shutil.copytree(folder / "old", folder / "unfinished")
    (folder / "unfinished" / "results.json").unlink()
    shutil.copytree(folder / "old", folder / "damaged")
    (folder / "damaged" / "results.json").write_text("{")
    (folder / "new" / "report.html").write_text("x")
    path = index.write(folder)
    found = rows(path)
    assert [line[0] for line in found] == ["new", "deep/er", "old", "damaged", "unfinished"]
    results = json.loads((folder / "old" / "results.json").read_text())
    entry = results["splits"]["test"]["metrics"]["mean_average_precision"]
    old = dict(zip(index.HEADER, found[2], strict=True))
    assert old["mAP"] == f"{entry['value']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"
    assert old["chance"] == f"{entry['chance']:.3f}" and old["floor"] == f"{entry['best_floor']:.3f}"
    assert old["commit"] == "abc1234" and old["seconds"] == "61" and old["what"] == "single: cnn, sigmoid, seed 0"
    assert "is damaged" in found[3][2] and found[4][2] == index.NOT_FINISHED
    assert str(tmp_path) not in path.read_text()
    assert path.read_text().count("<a ") == 1 and '<a href="new/report.html">' in path.read_text()
    assert index.write(folder).read_bytes() == path.read_bytes()


def test_the_command_and_what_it_refuses(
    tmp_path: pathlib.Path, write_workdir: WriteWorkdir, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = write_workdir(tmp_path / "runs" / "<b>run", samples=False)
    assert report.main([str(tmp_path / "runs"), "--index"]) == 0
    path = tmp_path / "runs" / "index.html"
    assert capsys.readouterr().out == f"index: {path}\n"
    assert "<b>run" not in path.read_text() and "&lt;b&gt;run" in path.read_text()
    (tmp_path / "empty").mkdir()
    for arguments, says in (
        ([str(tmp_path / "none"), "--index"], "is no folder"),
        ([str(tmp_path / "empty"), "--index"], "holds no run folder"),
        ([str(tmp_path), str(workdir), "--index"], "--index takes one folder"),
        ([str(tmp_path), "--index", "--markdown"], "--index takes one folder"),
        (["gs://bucket/runs", "--index"], "is written to a disk"),
    ):
        assert report.main(arguments) == 2
        said = capsys.readouterr().err
        assert says in said and said.count("\n") == 1
