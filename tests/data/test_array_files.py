"""Columns of every kind of file: equal content by each, and what cannot be read."""

import json
import pathlib
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from safetensors import numpy as safetensors_numpy

from poster_jax import errors
from poster_jax.data import array_files, predictions

IDS, NAMES = np.array([3, 1, 20]), ("Drama", "Film-Noir")
SCORES = np.array([[0.25, 0.5], [0.125, 1.0], [0.75, 0.0]], np.float32)


def files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """One table in every form."""
    columns: dict[str, Any] = {"id": IDS, **dict(zip(NAMES, SCORES.T, strict=True)), "movie": np.array(["x", "y", "x"])}
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*(c.tolist() for c in columns.values()), strict=True))]
    (folder / "a.csv").write_text("\n".join(lines))
    (folder / "b.csv").write_text("\n".join(line.replace(",", ";").replace(".", ",") for line in lines))
    records = [dict(zip(columns, row, strict=True)) for row in zip(*(c.tolist() for c in columns.values()), strict=True)]
    (folder / "c.jsonl").write_text("\n".join(json.dumps(record) for record in records))
    np.savez(folder / "d.npz", **columns)
    np.savez(folder / "e.npz", ids=IDS, scores=SCORES, labels=NAMES, movie=columns["movie"])
    parquet.write_table(pyarrow.table({name: column.tolist() for name, column in columns.items()}), folder / "f.parquet")
    about = {"labels": json.dumps(NAMES), "movie": json.dumps(columns["movie"].tolist())}
    safetensors_numpy.save_file({"ids": IDS, "scores": SCORES}, folder / "g.safetensors", metadata=about)
    return {path.name: path for path in sorted(folder.iterdir())}


def test_every_form_of_a_table_is_the_same_table(tmp_path: pathlib.Path) -> None:
    found = files(tmp_path)
    assert len(found) == 7
    for name, path in found.items():
        read = predictions.read(path)
        assert read.names == NAMES and read.ids == ["3", "1", "20"] and read.movies == ["x", "y", "x"], name
        assert read.scores.dtype == np.float64 and (read.scores == SCORES).all() and read.parts is None, name
    changed = SCORES.copy()
    changed[2, 1] = 0.1
    np.savez(tmp_path / "e.npz", ids=IDS, scores=changed, labels=NAMES)
    assert (predictions.read(tmp_path / "e.npz").scores != SCORES).sum() == 1


@pytest.mark.parametrize("suffix", ["npz", "parquet", "safetensors"])
def test_a_damaged_file_is_one_sentence(tmp_path: pathlib.Path, suffix: str) -> None:
    path = next(path for path in files(tmp_path).values() if path.suffix == f".{suffix}")
    whole = path.read_bytes()
    for content in (b"", b"PK\x03\x04 cut", whole[:40], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(errors.UserError, match=f"{path.name} cannot be read as") as told:
            array_files.read(path)
        assert "\n" not in str(told.value)


def test_objects_and_repeated_columns_are_refused(tmp_path: pathlib.Path) -> None:
    np.savez(tmp_path / "a.npz", id=np.array(["x", 1], object))
    with pytest.raises(errors.UserError, match="holds Python objects"):
        array_files.read(tmp_path / "a.npz")
    (tmp_path / "b.csv").write_text("id,Drama,Drama\n1,0.5,0.5\n")
    with pytest.raises(errors.UserError, match="the column 'Drama' twice"):
        array_files.read(tmp_path / "b.csv")
    np.savez(tmp_path / "c.npz", ids=IDS, scores=SCORES[:2], labels=NAMES)
    with pytest.raises(errors.UserError, match="has 3 ids, scores of 2x2 and 2 names"):
        predictions.read(tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", ids=IDS, Drama=SCORES[:, 0], movie=["x"])
    with pytest.raises(errors.UserError, match="3 ids and 1 of movie"):
        predictions.read(tmp_path / "d.npz")


def test_a_missing_package_names_the_extra(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = files(tmp_path)
    monkeypatch.setattr(array_files.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(errors.UserError, match=r"pip install 'poster_jax\[tables\]'"):
        array_files.read(found["f.parquet"])
