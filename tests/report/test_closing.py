"""The end of a run in 80 columns: its five rows, and the sentence that says what they mean."""

import copy
import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from poster_jax.report import terminal
from poster_jax.report.tables import closing

WriteWorkdir = Callable[..., pathlib.Path]


@pytest.fixture
def results(tmp_path: pathlib.Path, write_workdir: WriteWorkdir) -> dict[str, Any]:
    return json.loads((write_workdir(tmp_path / "run") / "results.json").read_text())


def altered(results: dict[str, Any], *, p: float = 0.0005, gap: tuple[float, float] | None = (0.01, 0.05)) -> dict[str, Any]:
    """The results with another p-value of the mean, and another interval of the difference to colours."""
    made = copy.deepcopy(results)
    made["splits"]["test"]["metrics"]["mean_average_precision"]["p_value"] = p
    if gap is not None:
        made["against_baselines"] = {closing.COLOURS: {"value": sum(gap) / 2, "low": gap[0], "high": gap[1]}}
    return made


def test_five_rows_with_floor_chance_and_colours_in_80_columns(results: dict[str, Any]) -> None:
    text = terminal.text(results)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    for metric, name in closing.ROWS.items():
        entry = results["splits"]["test"]["metrics"][metric]
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        assert (
            f"{entry['value']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]" in line and f"{entry['best_floor']:.3f}" in line
        )
        colours = results["baselines"][closing.COLOURS]["test"]["metrics"][metric]["value"]
        assert line.endswith(f"{colours:.3f}")
        if "chance" in entry:
            assert f"{entry['chance']:.3f}" in line
    assert "calibration_error" not in text and "calibration_error" in terminal.text(results, verbose=True)


@pytest.mark.parametrize(
    ("p", "gap", "words"),
    [
        (0.0005, (0.01, 0.05), "it has learnt to tell genres; weakest: "),
        (0.025, (0.01, 0.05), "it has learnt to tell genres"),
        (0.0255, (0.01, 0.05), "no better than chance, so nothing was learnt that these 60 test rows can show"),
        (0.0005, (-0.01, 0.05), "no better than colours alone (difference +0.020 [-0.010, +0.050])"),
        (0.0005, (0.0, 0.05), "no better than colours alone"),
        (0.5, (-0.01, 0.05), "no better than chance"),
        (0.0005, None, "it has learnt to tell genres"),
    ],
)
def test_the_sentence(results: dict[str, Any], p: float, gap: tuple[float, float] | None, words: str) -> None:
    said = closing.meaning([altered(results, p=p, gap=gap)])
    assert words in said
    for other in ("it has learnt", "no better than chance", "no better than colours"):
        assert (other in said) == (other in words), "one verdict alone"


def test_of_several_seeds_the_worst_p_and_all_differences_count(results: dict[str, Any]) -> None:
    good, no_better, noise = altered(results), altered(results, gap=(-0.01, 0.02)), altered(results, p=0.03)
    assert "it has learnt" in closing.meaning([good, no_better])
    assert "no better than colours" in closing.meaning([no_better, no_better])
    assert "no better than chance" in closing.meaning([good, noise]) and "0.0300" in closing.meaning([good, noise])
    text = closing.closing_text([good, noise])
    assert "mean [range of 2 seeds]" in text and max(map(len, text.splitlines())) <= 80


def test_the_weakest_genre_is_least_above_its_chance(results: dict[str, Any]) -> None:
    per_genre = results["splits"]["test"]["per_genre"]
    for number, entry in enumerate(per_genre.values()):
        entry["average_precision"] |= {"value": 0.5, "chance": 0.2 + 0.1 * number}
    assert f"weakest: {list(per_genre)[-1]} (0.500, chance 0.400)" in closing.meaning([results])


def test_undefined_scores_are_told(results: dict[str, Any]) -> None:
    results["splits"]["test"]["metrics"]["mean_average_precision"] |= {"value": None, "p_value": None, "chance": None}
    assert "undefined" in closing.meaning([results])


def test_a_network_that_training_has_broken_is_said_to_have_learnt_nothing(results: dict[str, Any]) -> None:
    num_genres = len(results["splits"]["test"]["per_genre"])
    for constant, first, last, words in (
        (
            num_genres,
            0.7,
            0.6,
            "gives every test poster the same scores: nothing was learnt; lower config.optim",
        ),
        (num_genres - 1, 0.7, 0.6, ""),
        (0, 0.7, 701.0, "rose from 0.7 to 701: it has diverged, and nothing was learnt"),
        (0, 0.7, 699.0, ""),
        (0, 0.0, 0.9, ""),
        (0, 0.0, 1.1, "has diverged"),
        (0, None, None, ""),
    ):
        made = altered(results)
        made["splits"]["test"]["num_constant"], made["train_loss"] = constant, {"first": first, "last": last}
        said = closing.meaning([altered(results), made])
        assert words in said and ("network of seed" in said) == bool(words), said
        assert ("it has learnt to tell genres" in said) == (not words)
