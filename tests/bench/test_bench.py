"""The bench of one config: a row for each step with its rate, its floor and its share of the floor."""

import pathlib
import re

import pytest

from poster_jax.bench import __main__ as bench

SMOKE = str(pathlib.Path(__file__).resolve().parents[2] / "configs" / "cnn_onehot.py") + ":smoke"


def test_every_step_has_a_rate_and_a_floor(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main([f"--config={SMOKE}", "--repeats=1", "--skip-inputs"]) == 0
    said = capsys.readouterr().out
    for step in ("train", "evaluate"):
        (row,) = re.findall(rf"^{step} +([\d. ]+)$", said, re.MULTILINE)
        middle, low, high, floor, share = map(float, row.split())
        assert 0 < low <= middle <= high and share == pytest.approx(middle / floor, abs=0.01)
    assert "matrix product" in said and "forward pass" in said
