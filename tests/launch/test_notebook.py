"""The notebook on a machine without the project: it installs it, and every cell runs in turn.

Replaced are three settings, so that it ends in seconds: two configs by their `:smoke`, and the number of posters. Lent are the
packages that the project needs. What a notebook shows is the value of a cell's last line, here looked at instead.
"""

import ast
import json
import os
import pathlib
import subprocess
from typing import Any

import pytest

from tests.helpers import fresh_machine

NOTEBOOK = pathlib.Path(__file__).resolve().parents[2] / "launch" / "first_steps.ipynb"
SHORTER = {
    'CONFIG = "cnn_onehot"': 'CONFIG = "cnn_onehot:smoke"',
    'OWN_CONFIG = "own_posters:quick"': 'OWN_CONFIG = "own_posters:quick,smoke"',
    "NUM_POSTERS = 240": "NUM_POSTERS = 60",
}
# Runs the cells of the file that is named, in one namespace, and prints the type of each cell's last line.
RUN_CELLS = """
import ast, json, pathlib, sys
names = {}
for text in json.loads(pathlib.Path(sys.argv[1]).read_text()):
    *rest, last = ast.parse(text).body
    shown = isinstance(last, ast.Expr)
    exec(compile(ast.Module(rest if shown else [*rest, last], []), "cell", "exec"), names)
    value = eval(compile(ast.Expression(last.value), "cell", "eval"), names) if shown else None
    print(f"cell shows {type(value).__name__}", flush=True)
"""


def notebook() -> dict[str, Any]:
    return json.loads(NOTEBOOK.read_text())


def code_cells() -> list[str]:
    return ["".join(cell["source"]) for cell in notebook()["cells"] if cell["cell_type"] == "code"]


def run_cells(python: pathlib.Path, folder: pathlib.Path, cells: list[str], **variables: str) -> subprocess.CompletedProcess:
    """Runs the texts in an empty folder by another interpreter."""
    folder.mkdir()
    (folder.parent / "cells.json").write_text(json.dumps(cells))
    environment = {**fresh_machine.clean_environ(), **variables}
    command = [str(python), "-c", RUN_CELLS, str(folder.parent / "cells.json")]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=800)


def test_every_cell_runs_on_a_machine_without_the_project(tmp_path: pathlib.Path) -> None:
    python, site = fresh_machine.make_environment(tmp_path)
    source = fresh_machine.copy_project(tmp_path / "source")
    cells = code_cells()
    for given, shorter in SHORTER.items():
        assert sum(cell.count(given) for cell in cells) == 1, given
        cells = [cell.replace(given, shorter) for cell in cells]
    # pip asks no index: what the project needs is lent. NO_BUILD_ISOLATION=0 means none, by a quirk of pip's.
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0"}
    cache = {"POSTER_JAX_CACHE": str(tmp_path / "cache")}
    done = run_cells(python, tmp_path / "empty", cells, SOURCE=str(source), **offline, **cache)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"poster_jax lies in {site / 'poster_jax'}\n" in done.stdout
    shown = [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("cell shows ")]
    assert len(shown) == len(cells) and sum("Image" in kind for kind in shown) == 4
    assert done.stdout.count("where chance is") == 2 and "decided for: " in done.stdout
    assert (tmp_path / "empty" / "runs" / "first" / "report.html").is_file()


@pytest.mark.parametrize("source", ["..", "nowhere"])
def test_a_source_that_is_no_checkout_is_told(source: str, tmp_path: pathlib.Path) -> None:
    python, _ = fresh_machine.make_environment(tmp_path)
    done = run_cells(python, tmp_path / "empty", code_cells()[:1], SOURCE=source)
    assert (
        done.returncode == 1
        and done.stderr == f"{source!r} is no checkout of poster_jax: set SOURCE to one, or to git+https://...\n"
    )


def test_where_the_project_is_installed_the_first_cell_installs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", None)
    exec(compile(code_cells()[0], "cell", "exec"), {})
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setitem(os.environ, "SOURCE", str(NOTEBOOK.parents[1]))
    with pytest.raises(TypeError, match="not callable"):
        exec(compile(code_cells()[0], "cell", "exec"), {})


def test_cells_are_plain_python_and_no_output_is_stored() -> None:
    for cell in notebook()["cells"]:
        if cell["cell_type"] == "code":
            ast.parse("".join(cell["source"]))
            assert cell["outputs"] == [] and cell["execution_count"] is None
    assert len({cell["id"] for cell in notebook()["cells"]}) == len(notebook()["cells"])
