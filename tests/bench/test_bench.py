"""The bench of one config: a row for each step beside its floor, and for each input path beside a fixed batch."""

import pathlib
import re

import pytest

from poster_jax.bench import __main__ as bench

SMOKE = str(pathlib.Path(__file__).resolve().parents[2] / "configs" / "cnn_onehot.py") + ":smoke"


def test_every_step_has_a_floor_and_every_input_path_a_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main([f"--config={SMOKE}", "--repeats=1", "--steps=1"]) == 0
    said = capsys.readouterr().out
    for step in ("train", "evaluate"):
        (row,) = re.findall(rf"^{step} +([\d. ]+)$", said, re.MULTILINE)
        middle, low, high, floor, share = map(float, row.split())
        assert 0 < low <= middle <= high and share == pytest.approx(middle / floor, abs=0.01)
    assert "matrix product" in said and "forward pass" in said
    for path in ("resident", "streaming"):
        for network in ("configured", "narrow"):
            (row,) = re.findall(rf"^{path} +(\d+) +{network} +([\d. ]+)$", said, re.MULTILINE)
            fixed, real, ratio = map(float, row[1].split())
            assert int(row[0]) > 0 and fixed > 0 and ratio == pytest.approx(real / fixed, rel=0.1)
