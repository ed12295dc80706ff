"""The script that holds the numbers of two commits against each other sees every kind of difference."""

import json
import pathlib

import numpy as np
import pytest

from tests.helpers import compare_runs


def write(folder: pathlib.Path, score: float = 0.5, steps: int = 3) -> pathlib.Path:
    (folder / "run").mkdir(parents=True)
    (folder / "run" / "metrics.jsonl").write_text(json.dumps({"step": steps}) + "\n")
    np.savez(folder / "run" / "predictions.npz", test_score=np.full((2, 3), score, np.float32))
    return folder


def test_equal_folders_are_equal(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare_runs.main(write(tmp_path / "old"), write(tmp_path / "new")) == 0
    assert "2 files compared, 0 differ" in capsys.readouterr().out


def test_one_bit_a_line_and_a_missing_file_are_seen(tmp_path: pathlib.Path) -> None:
    old = write(tmp_path / "old")
    bit = float(np.nextafter(np.float32(0.5), np.float32(1)))
    assert compare_runs.differences(old, write(tmp_path / "bit", score=bit)) == ["run/predictions.npz: differs"]
    assert compare_runs.differences(old, write(tmp_path / "line", steps=4)) == ["run/metrics.jsonl: differs"]
    lacking = write(tmp_path / "lacking")
    (lacking / "run" / "predictions.npz").unlink()
    assert compare_runs.differences(old, lacking) == ["run/predictions.npz: on one side only"]
    assert compare_runs.main(tmp_path / "empty", tmp_path / "empty") == 1
