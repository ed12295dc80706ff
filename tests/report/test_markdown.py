"""Tables of run folders as Markdown: every row is whole, and says what made it."""

import json
import pathlib

import pytest

from poster_jax import errors
from poster_jax.paper import claims
from poster_jax.report import __main__ as report
from poster_jax.report.tables import markdown, page_tables
from tests.helpers import made_paper, written_run

MADE = {"event": "run", "commit": "abc1234", "jax": "0.12.0", "python": "3.12.3", "machine": "2 cores of a CPU", "secs": 1234.4}


def note_origin(workdir: pathlib.Path) -> pathlib.Path:
    (workdir / "timings.jsonl").write_text(json.dumps(MADE) + "\n")
    return workdir


def body(text: str) -> list[list[str]]:
    """Cells of the rows below the header of the only table."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert set(rows[1]) == {"---"} and len({len(row) for row in rows if row != rows[1]}) == 1
    return rows[2:]


def test_a_table_is_markdown_and_bars_are_escaped() -> None:
    shown = page_tables.Table("said", ("a", "b"), [["Drama|War", "1"]])
    assert markdown.table(shown) == "said\n\n| a | b |\n| --- | --- |\n| Drama\\|War | 1 |"


def test_single_runs_stand_in_one_table_with_what_made_them(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture) -> None:
    one = note_origin(written_run.write(tmp_path / "one", samples=False))
    three = written_run.write(tmp_path / "three", seeds=(0, 1, 2), samples=False)
    assert report.main([str(one), str(three), "--markdown"]) == 0
    first, second = body(capsys.readouterr().out)
    assert first[0] == "one" and first[-4:] == ["abc1234", "0.12.0", "2 cores of a CPU", "1,234"]
    results = json.loads((one / "results.json").read_text())["splits"]["test"]["metrics"]
    entry = results["mean_average_precision"]
    assert first[4] == f"{entry['value']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"
    assert first[3] == f"{results['binary_accuracy']['all_zeros']:.3f}" and first[1] == "40/30/60"
    assert second[0] == "three, 3 seeds" and second[-4:] == ["-"] * 4
    values = [
        json.loads((three / f"seed_{n}" / "results.json").read_text())["splits"]["test"]["metrics"]["top1_accuracy"]["value"]
        for n in range(3)
    ]
    assert second[8] == f"{sum(values) / 3:.3f} [{min(values):.3f}, {max(values):.3f}]"
    assert not list(tmp_path.rglob("*.html"))


def test_a_transfer_has_a_row_for_every_stage(tmp_path: pathlib.Path) -> None:
    made_paper.write_transfer(tmp_path / "transfer", num_ranges=2)
    rows = body(markdown.text([note_origin(tmp_path / "transfer")]))
    stages = ["frozen, start", "frozen", "fine-tuned"] * 2 + ["color histogram logistic"]
    assert [row[2] for row in rows] == stages
    assert [row[3] for row in rows[:3]] == ["0.0001", "0.01", "1e-05"]
    assert all(row[-4] == "abc1234" for row in rows)


def test_a_search_has_a_row_for_every_trial_best_first(tmp_path: pathlib.Path) -> None:
    made_paper.write_search(tmp_path / "search", [[0.3, 0.31], [0.4, 0.41]])
    text = markdown.text([note_origin(tmp_path / "search")])
    trials, _ = text.split("\n\nTest part")
    assert [row[:5] for row in body(trials)] == [
        ["2", "0.001", "0.25", "8, 80", "0.405 ± 0.050"],
        ["1", "0.001", "0.25", "8, 80", "0.305 ± 0.050"],
    ]


def test_a_reproduction_has_its_claims_its_facts_and_where_it_was_run(tmp_path: pathlib.Path) -> None:
    folder = made_paper.write(tmp_path / "reproduce")
    note_origin(folder / "search")
    printed = [{"fact": "steps of 32 an epoch", "where": "Table 1", "report": "449", "ours": "44"}]
    results = {
        "protocol": "reproduce",
        "experiments": ["transfer", "search"],
        "reductions": [],
        "printed": printed,
        "readings": list(claims.READINGS),
        "ledger": claims.build(folder, made_paper.FACTS),
    }
    (folder / "results.json").write_text(json.dumps(results))
    ledger, facts, where = (part for part in markdown.text([folder]).split("\n\n") if part.startswith("|"))
    assert len(body(ledger)) == len(claims.ENTRIES)
    assert body(facts) == [["steps of 32 an epoch", "Table 1", "449", "44"]]
    assert body(where) == [["transfer", "-", "-", "-", "-"], ["search", "abc1234", "0.12.0", "2 cores of a CPU", "1,234"]]


def test_a_ledger_without_verdicts_is_whole(tmp_path: pathlib.Path) -> None:
    folder = made_paper.write(tmp_path / "reproduce")
    results = {"protocol": "reproduce", "experiments": [], "reductions": [], "withheld": "No verdicts: the posters are drawn."}
    results["ledger"] = claims.build(folder, made_paper.FACTS, judged=False)
    (folder / "results.json").write_text(json.dumps(results))
    text = markdown.text([folder])
    assert {row[1] for row in body(text)} == {"-"} and text.count("No verdicts") == 1


def test_what_cannot_be_printed_is_told(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(errors.UserError, match="has not finished"):
        markdown.text([tmp_path])
    assert report.main([str(tmp_path), "--markdown", "--out=page.html"]) == 2
    assert "--out" in capsys.readouterr().err
