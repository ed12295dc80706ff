"""What the figures show, by hand; and that their colours can be told apart."""

import dataclasses
import itertools
import pathlib
import re
from collections.abc import Callable

import numpy as np
import pytest

from poster_jax.report import runs
from poster_jax.report.figures import curves, distributions, histories, overlay, posters, style
from poster_jax.report.tables import cells, page_tables

# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
SIGHTS = {
    "full": np.eye(3),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]),
    "tritanopia": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]]),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> np.ndarray:
    shares = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    xyz = TO_XYZ @ rgb.clip(0, 1) / (0.9505, 1, 1.089)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("theme", [style.LIGHT, style.DARK], ids=lambda theme: theme.name)
def test_runs_differ_in_every_kind_of_sight_and_stand_out_from_the_ground(theme: style.Theme) -> None:
    for sight, matrix in SIGHTS.items():
        for one, other in itertools.combinations(theme.runs, 2):
            distance = np.linalg.norm(lab(matrix @ linear(one)) - lab(matrix @ linear(other)))
            assert distance > 12, (sight, one, other)
    for colour, least in [*((run, 3.0) for run in theme.runs), (theme.foreground, 7.0)]:
        light = sorted(float(linear(each) @ TO_XYZ[1]) + 0.05 for each in (colour, theme.background))
        assert light[1] / light[0] >= least, colour


def test_the_sight_test_itself_sees_red_and_green_fall_together() -> None:
    red, green = (lab(SIGHTS["deuteranopia"] @ linear(colour)) for colour in ("#D03030", "#708000"))
    assert np.linalg.norm(red - green) < 12 < np.linalg.norm(lab(linear("#D03030")) - lab(linear("#708000")))


def in_order(svg: bytes) -> list[bytes]:
    """The tags of an SVG without ids, and without definitions: those of two colours that are one on dark ground are one."""
    return re.findall(rb"<(?!/?defs|path id)[^>]*>", re.sub(rb"[a-z]?[0-9a-f]{10}\b", b"", svg))


def test_a_picture_on_dark_ground_is_the_one_that_is_drawn_in_those_colours(
    tmp_path: pathlib.Path, write_workdir: Callable[..., pathlib.Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    many = runs.load([write_workdir(tmp_path / f"run{number}") for number in range(7)])
    pictures = [*curves.learning(many), *curves.by_threshold(many), *distributions.pictures(many[0], "run")]
    drawn = [style.render(picture) for picture in pictures]
    assert len(drawn) == 5
    monkeypatch.setattr(style, "LIGHT", style.DARK)
    for one, picture in zip(drawn, pictures, strict=True):
        anew = style.render(picture).light
        assert in_order(one.dark) == in_order(anew), picture.name
        assert in_order(one.light) != in_order(anew)


def test_colours_have_one_partner_each_and_a_name_is_no_colour() -> None:
    assert len({colour.lower() for colour in style.LIGHT.colours()}) == len(style.LIGHT.colours())
    svg = b'<g style="fill: #FFFFFF; stroke: #0072b2"><text fill="#123456">#ffffff</text></g>'
    assert style.recolour(svg) == b'<g style="fill: #16181c; stroke: #56b4e9"><text fill="#123456">#ffffff</text></g>'


def test_calibration_bins_by_hand() -> None:
    scores = np.array([0.0, 0.05, 0.05, 0.1 - 1e-9, 0.05, 0.35, 0.95, 1.0, 1.0, 1.0, 1.0])
    truth = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 1], bool)
    mean, share, counts = curves.calibration_bins(scores, truth)
    np.testing.assert_allclose(mean, [0.05, 0.99], atol=1e-6)  # the lone score of 0.35 is left out
    np.testing.assert_allclose(share, [0.2, 0.8])
    assert counts.tolist() == [5, 5]


def test_an_overlay_is_grey_where_the_map_is_zero_and_bright_where_it_is_one() -> None:
    image = np.full((40, 20, 3), (200, 100, 0), np.uint8)
    np.testing.assert_array_equal(overlay.blend(image, np.zeros((4, 2))), 75)
    heat = np.zeros((4, 2))
    heat[3] = 1
    blended = overlay.blend(image, heat)
    np.testing.assert_array_equal(blended[:10], 75)
    assert blended.shape == image.shape and blended[-1].min(0)[0] > 200 and blended[-1].min(0)[1] > 180


def test_the_text_under_a_poster(tmp_path: pathlib.Path, write_workdir: Callable[..., pathlib.Path]) -> None:
    (run,) = runs.load([write_workdir(tmp_path / "run")])
    run.samples["label"][0], run.samples["genre"][0], run.samples["score"][0] = (1, 0, 1), 2, (0.1, 0.2, 0.849)
    assert posters.describe(run, 0) == "7\nDrama, Horror\n\N{CHECK MARK} Horror 0.85"
    run.samples["genre"][0] = 1
    assert posters.describe(run, 0).splitlines()[2] == "\N{BALLOT X} Comedy 0.20"
    assert posters.is_wrong(run, 0)


def test_tables_say_what_the_labels_are(tmp_path: pathlib.Path, write_workdir: Callable[..., pathlib.Path]) -> None:
    (run,) = runs.load([write_workdir(tmp_path / "run", encoding="first", samples=False)])
    assert [list(row) for row in page_tables.encoding(run).rows] == [
        ["Drama", "0", "1", "0", "0"], ["Comedy", "1", "0", "1", "0"], ["Horror", "2", "0", "0", "1"],
    ]  # fmt: skip
    first = run.predictions["test_label"][0]
    assert page_tables.examples(run).rows[0] == ["7", *("1" if k == first else "0" for k in range(3))]
    assert cells.value({"value": None, "low": None, "high": None}) == "-"
    assert cells.value({"value": 0.12345, "low": None, "high": None}) == "0.123"


def add_lines(workdir: pathlib.Path, **found: object) -> runs.FinishedRun:
    """The first run of a workdir with more in its results."""
    run = runs.load([workdir])[0]
    return dataclasses.replace(run, results={**run.results, **found})


def test_a_search_has_a_panel_per_trial_and_a_line_per_fold() -> None:
    trials = [{"trial": number, "learning_rate": 1e-3} for number in (1, 2, 3)]
    search = {"metric": "top1_accuracy", "num_folds": 2, "floor": 0.2, "winner": 2, "trials": trials}
    lines = [
        {"trial": trial, "fold": fold, "epoch": epoch, "part": "validation", "top1_accuracy": trial + 0.1 * fold + 0.01 * epoch}
        for trial in (1, 2, 3)
        for fold in (1, 2)
        for epoch in (1, 2)
    ]
    picture = histories.search_picture(runs.Many("run", "search", {"search": search}, lines), "run")
    panels = [axes for axes in picture.draw(style.LIGHT).axes if axes.axison]
    assert [axes.get_title() for axes in panels] == ["1: rate 0.001", "2: rate 0.001, best", "3: rate 0.001"]
    drawn = [[list(line.get_ydata()) for line in axes.lines] for axes in panels]
    np.testing.assert_allclose(drawn[1][:2], [[2.11, 2.12], [2.21, 2.22]])
    assert drawn[1][2] == [0.2, 0.2]  # the floor


def test_transfer_has_a_row_per_input_range(tmp_path: pathlib.Path, write_workdir: Callable[..., pathlib.Path]) -> None:
    workdir = write_workdir(tmp_path / "run", encoding="first")
    run = add_lines(workdir)
    history = [
        {"epoch": epoch, "part": part, "top1_accuracy": 0.1 * epoch} for part in ("train", "validation") for epoch in (1.0, 2.0)
    ]
    frozen = [{"learning_rate": rate, "history": history} for rate in (1e-4, 1e-3)]
    tuned = {"learning_rate": 1e-5, "history": history, "splits": run.results["splits"]}
    branches = [{"input_range": bounds, "frozen": frozen, "tuned": tuned} for bounds in ([0.0, 1.0], [-1.0, 1.0])]
    (picture,) = histories.transfer_pictures(add_lines(workdir, protocol="transfer", branches=branches), "run")
    panels = picture.draw(style.LIGHT).axes
    assert [axes.get_title() for axes in panels] == [
        "posters in [0, 1], frozen body",
        "posters in [0, 1], fine-tuned at 1e-05",
        "posters in [-1, 1], frozen body",
        "posters in [-1, 1], fine-tuned at 1e-05",
    ]
    assert len(panels[0].lines) == 2 * 2 + 1 and list(panels[1].lines[1].get_ydata()) == [0.1, 0.2]


def test_a_single_network_has_no_such_figure(tmp_path: pathlib.Path, write_workdir: Callable[..., pathlib.Path]) -> None:
    assert histories.transfer_pictures(add_lines(write_workdir(tmp_path / "run")), "run") == []
