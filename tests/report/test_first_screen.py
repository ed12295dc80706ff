"""What a reader sees first: the headline, genres, posters and differences, held against results.json and hand calculation."""

import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from poster_jax.report import blocks, comparison, dots, gallery, headline, page, runs
from poster_jax.report.figures import curves, style
from poster_jax.report.tables import claims_table, closing, confusion_table

WriteWorkdir = Callable[..., pathlib.Path]
MEAN_AP = "mean_average_precision"


def edit(path: pathlib.Path, change: Callable[[Any], object]) -> None:
    held = json.loads(path.read_text())
    change(held)
    path.write_text(json.dumps(held))


def test_bars_are_the_scores_of_results_json(tmp_path: pathlib.Path, write_workdir: WriteWorkdir) -> None:
    workdir = write_workdir(tmp_path / "run")
    (run,) = runs.load([workdir])
    shown = headline.headline([run])
    for bar, name in zip(shown.bars, headline.SHOWN, strict=True):
        entry = run.results["splits"]["test"]["metrics"][name]
        colours = run.results["baselines"][closing.COLOURS]["test"]["metrics"][name]["value"]
        assert bar.value == f"{entry['value']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"
        marks = {mark.shape: mark for mark in bar.track.marks}
        assert marks["fill"].length == round(100 * entry["value"], 2)
        assert marks["range"].start == round(100 * entry["low"], 2)
        assert marks["range"].start + marks["range"].length == pytest.approx(100 * entry["high"], abs=0.02)
        assert marks["floor"].start == round(100 * entry["best_floor"], 2)
        assert marks["colours"].start == round(100 * colours, 2)
        assert ("chance" in marks) == ("chance" in entry)
        assert f"floor {entry['best_floor']:.3f}" in bar.beside and f"colours {colours:.3f}" in bar.track.text
    assert shown.meaning == f"On drawn posters: {closing.meaning([run.results])}" and shown.warning == headline.DRAWN


def test_real_posters_carry_no_banner(tmp_path: pathlib.Path, write_workdir: WriteWorkdir) -> None:
    workdir = write_workdir(tmp_path / "run")
    edit(workdir / "config.json", lambda config: config["data"].update(variant="kaggle", dir="posters"))
    shown = headline.headline(runs.load([workdir]))
    assert shown.warning == "" and not shown.meaning.startswith("On drawn")


def test_the_headline_of_seeds_is_their_mean_and_range(tmp_path: pathlib.Path, write_workdir: WriteWorkdir) -> None:
    seeds = runs.load([write_workdir(tmp_path / "run", seeds=(0, 1, 2))])
    bar = headline.headline(seeds).bars[0]
    values = [seed.results["splits"]["test"]["metrics"][MEAN_AP]["value"] for seed in seeds]
    assert bar.value == f"{np.mean(values):.3f} [{min(values):.3f}, {max(values):.3f}]"
    assert next(mark for mark in bar.track.marks if mark.shape == "range").start == round(100 * min(values), 2)


def test_what_made_the_run_is_told_and_what_is_not_recorded_says_so(
    tmp_path: pathlib.Path, write_workdir: WriteWorkdir
) -> None:
    workdir = write_workdir(tmp_path / "run")
    edit(workdir / "config.json", lambda config: config["optim"].update(learning_rate=0.25))
    before = dict(headline.headline(runs.load([workdir])).origin)
    assert before["commit"] == before["command"] == before["finished"] == headline.NOT_RECORDED
    line = {"event": "run", "commit": "abc1234", "jax": "0.12.0", "machine": "2 cores", "secs": 61.2}
    line |= {"date": "2026-05-04 03:02 UTC", "command": "python -m poster_jax.main --config=x"}
    (workdir / "timings.jsonl").write_text(json.dumps(line) + "\n")
    (run,) = runs.load([workdir])
    told = dict(headline.headline([run]).origin)
    assert told["finished"] == line["date"] and told["command"] == line["command"] and told["commit"] == "abc1234"
    assert told["device"] == "2 cores" and told["seconds"] == "61" and "40 train, 30 validation, 60 test" in told["data"]
    assert told["config"] == "single, 1 setting not at the default"
    assert headline.changed_settings(run.config) == {"optim.learning_rate": "0.25"}


def test_genres_are_sorted_by_average_precision_and_lie_where_their_numbers_say(
    tmp_path: pathlib.Path, write_workdir: WriteWorkdir
) -> None:
    (run,) = runs.load([write_workdir(tmp_path / "run", genres=tuple("ABCDEFGH"))])
    per_genre = run.results["splits"]["test"]["per_genre"]
    per_genre["C"]["average_precision"] = dict.fromkeys(("value", "low", "high", "floor", "chance", "p_value"))
    shown = dots.by_genre([run])
    names = [cells[0] for cells, _ in shown.rows]
    known = [per_genre[name]["average_precision"]["value"] for name in names[:-1]]
    assert names[-1] == "C" and known == sorted(known, reverse=True) and set(names) == set("ABCDEFGH")
    for cells, track in shown.rows[:-1]:
        entry = per_genre[cells[0]]["average_precision"]
        marks = {mark.shape: mark.start for mark in track.marks}
        expected = {"dot": entry["value"], "chance": entry["chance"], "range": entry["low"]}
        assert marks == {shape: round(100 * value, 2) for shape, value in expected.items() if value is not None}
    assert not shown.rows[-1][1].marks
    both = dots.by_genre([run, run])
    assert both.legend == [run.name] * 2 and both.rows[0][1].lines == 2
    assert [mark.top for mark in both.rows[0][1].marks if mark.shape == "dot"] == [25.0, 75.0]


def test_posters_show_hits_then_mistakes_with_the_map_of_their_own_genre(
    tmp_path: pathlib.Path, write_workdir: WriteWorkdir
) -> None:
    (run,) = runs.load([write_workdir(tmp_path / "run")])
    held = run.samples
    held["label"][:] = (1, 0, 0)
    held["genre"][:], held["true_genre"][:] = [0, 0, 1, 0, 0, 1, 2, 1, 2, 1], 0
    held["map"][1] = 0.01
    held["map"][5:], held["true_map"][6] = 0.0, 0.0
    hits, mistakes, misses = gallery.galleries(run)
    assert hits.caption.startswith("Of 5 posters evenly spaced over the test part, 4 have")
    assert [poster.number for poster in hits.posters] == ["7", "8", "10", "11"]
    assert [bool(poster.overlay) for poster in hits.posters] == [True, False, True, True]
    assert [poster.number for poster in mistakes.posters] == ["12", "13", "14", "15", "16"]
    assert [bool(poster.overlay) for poster in mistakes.posters] == [True, False, True, True, True]
    assert [poster.number for poster in misses.posters] == ["9"] and not misses.posters[0].right
    assert mistakes.posters[0].overlay_text == "Grad-CAM of Drama" and mistakes.posters[0].said.startswith("Comedy ")
    # A run of older code kept maps of the top-scored genre alone.
    del held["true_map"], held["true_genre"]
    assert not any(poster.overlay for poster in gallery.galleries(run)[1].posters)
    assert len(gallery.galleries(run, limit=2)[0].posters) == 2


def test_differences_settings_and_equal_runs(tmp_path: pathlib.Path, write_workdir: WriteWorkdir) -> None:
    folders = [write_workdir(tmp_path / name, seeds=(seed,)) for name, seed in (("a", 0), ("b", 1), ("c", 0))]
    edit(folders[1] / "config.json", lambda config: config["optim"].update(learning_rate=0.25))
    loaded = runs.load(folders)
    forest, same, settings = comparison.compared([[run] for run in loaded], list("abc"))
    values = [run.results["splits"]["test"]["metrics"][MEAN_AP]["value"] for run in loaded]
    cells, track = next((cells, track) for cells, track in forest.rows if cells[0] == MEAN_AP)
    assert cells[1:3] == [f"{values[0]:.3f}", f"{values[1]:.3f}"] and cells[3].startswith(f"{values[1] - values[0]:+.3f} [")
    dot = next(mark.start for mark in track.marks if mark.shape == "dot")
    assert dot < 50 and values[1] < values[0] and {mark.start for mark in track.marks if mark.shape == "zero"} == {50.0}
    assert same.text.startswith("c is identical to a")
    assert list(settings.rows) == [["optim.learning_rate", "0.0001", "0.25", "0.0001"]]
    notes = comparison.equal_curves(loaded)
    assert [note.text for note in notes] == ["a, c have the same test scores: one curve covers the others."]
    assert comparison.equal_curves(loaded[:2]) == []


def test_runs_that_cannot_be_compared_say_why_by_their_names(tmp_path: pathlib.Path, write_workdir: WriteWorkdir) -> None:
    folders = [write_workdir(tmp_path / name, encoding=kind) for name, kind in (("a", "multi_hot"), ("b", "first"))]
    note, same = comparison.compared([[run] for run in runs.load(folders)], ["a", "b"])
    assert "other labels in b than in a" in note.text and str(tmp_path) not in note.text
    assert same == "The configs are the same in every setting."


def test_a_confusion_is_shaded_by_the_share_of_its_row(tmp_path: pathlib.Path, write_workdir: WriteWorkdir) -> None:
    (run,) = runs.load([write_workdir(tmp_path / "run", encoding="first")])
    run.results["splits"]["test"]["confusion"] = [[3, 1, 0], [0, 0, 0], [2, 2, 6]]
    shown = confusion_table.confusion(run)
    assert shown.rows[0] == ("Drama", [("3 (75 %)", 0.75), ("1 (25 %)", 0.25), ("0 (0 %)", 0.0)])
    assert shown.rows[1][1] == [("0 (0 %)", 0.0)] * 3 and shown.rows[2][1][2] == ("6 (60 %)", 0.6)
    run.results["splits"]["test"]["confusion"] = [[[5, 1], [2, 2]]] * 3  # [[true no, false yes], [false no, true yes]]
    assert [text for text, _ in confusion_table.confusion(run).rows[0][1]] == ["2 (50 %)", "2 (50 %)", "1 (17 %)", "5 (83 %)"]


def test_curves_are_of_twelve_genres_and_tell_their_lines_apart(tmp_path: pathlib.Path, write_workdir: WriteWorkdir) -> None:
    genres = ("$\\cost{$", "X" * 60, *(f"G{number}" for number in range(18)))
    (run,) = runs.load([write_workdir(tmp_path / "run", genres=genres)])
    counts = {genre: entry["count"] for genre, entry in run.results["splits"]["test"]["per_genre"].items()}
    for picture in curves.by_threshold([run]):
        panels = [axes.get_title() for axes in picture.draw(style.LIGHT).axes if axes.axison]
        kept = sorted(counts, key=lambda genre: -counts[genre])[:12]
        assert panels == [style.clamped(genre) for genre in genres if genre in kept] and "12 genres" in picture.caption
    (picture,) = curves.learning([run])
    told = [text.get_text() for legend in picture.draw(style.LIGHT).legends for text in legend.get_texts()]
    assert told == ["validation", "training steps", "best constant answer"]
    assert style.clamped("X" * 60) == "X" * 21 + "\N{HORIZONTAL ELLIPSIS}" and style.clamped("Drama") == "Drama"
    assert style.undrawn(["Drama", "Žánr", "Ж"]) == "" and "\U0001fae8" in style.undrawn(["Drama\U0001fae8"])


def test_claims_have_a_letter_and_a_strip_counts_them() -> None:
    row = {"claim": "it works", "where": "I", "measured": "x", "over": "", "rule": "a rule", "note": "", "value": 0.5}
    row |= {"low": 0.4, "high": 0.6, "same": ""}
    given = ("holds", "does not hold", "cannot be told", "holds", "")
    results = {"ledger": [{**row, "verdict": verdict} for verdict in given]}
    strip, listed = claims_table.claim_blocks(results)
    assert [part[:3] for part in strip.parts] == [(2, "hold", "H"), (1, "do not", "N"), (1, "cannot be told", "?")]
    assert [claim.letter for claim in listed.claims] == ["H", "N", "?", "H", ""]
    assert listed.claims[0].value == "0.500 [0.400, 0.600]" and ("rule", "a rule") in listed.claims[0].parts
    withheld = claims_table.claim_blocks({"ledger": [{**row, "verdict": ""}] * 2})
    assert len(withheld) == 1 and isinstance(withheld[0], blocks.Claims)


def test_words_of_the_report_are_on_its_own_page_alone(
    tmp_path: pathlib.Path, write_workdir: WriteWorkdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(style, "render", lambda *_, **__: style.Drawn(b"", b"", b""))
    workdir = write_workdir(tmp_path / "all" / "one_hot")
    text = page.write([workdir], tmp_path / "page.html")[0].read_text()
    assert "paper" not in text.split("</style>")[1] and "claims" not in text
    results = {"title": "the paper, rebuilt", "protocol": "reproduce", "experiments": ["one_hot"], "reductions": []}
    results |= {"withheld": "No verdicts: drawn.", "facts": {}, "printed": [], "readings": [], "ledger": []}
    (tmp_path / "all" / "results.json").write_text(json.dumps(results))
    text = page.write([tmp_path / "all"], tmp_path / "page.html")[0].read_text()
    assert "Figure 1 of the paper" in text and "No verdicts: drawn." in text and headline.DRAWN in text
    assert 'class="strip"' not in text and len(text) < 3e6


def test_a_page_does_not_depend_on_where_its_runs_lie(
    tmp_path: pathlib.Path, write_workdir: WriteWorkdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(style, "render", lambda *_, **__: style.Drawn(b"", b"", b""))
    for name, encoding in (("a", "multi_hot"), ("b", "first")):
        write_workdir(tmp_path / "one" / name, encoding=encoding)
    shutil.copytree(tmp_path / "one", tmp_path / "elsewhere")
    texts = []
    for home in ("one", "elsewhere"):
        path, _ = page.write([tmp_path / home / name for name in "ab"], tmp_path / "page.html")
        texts.append(path.read_text())
    assert texts[0] == texts[1]
