"""Predictions of anybody in our table: our own run's digits, scikit-learn's values, any order of rows, every refusal."""

import csv
import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from sklearn import linear_model
from sklearn import metrics as sklearn_metrics

from poster_jax import compare, score
from poster_jax.data import predictions
from poster_jax.metrics import power, scoring
from tests.helpers import written_run

GENRES = ("Drama", "Comedy", "Horror")
ROOT = pathlib.Path(__file__).resolve().parents[1]


def draw(num_rows: int = 120, seed: int = 0) -> tuple[list[str], np.ndarray, np.ndarray]:
    """(ids, scores [N, K], targets [N, K])."""
    rng = np.random.default_rng(seed)
    targets = rng.random((num_rows, len(GENRES))) < 0.4
    return [f"a{row:04}" for row in range(num_rows)], 0.7 * rng.random(targets.shape) + 0.3 * targets, targets


def write_table(path: pathlib.Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> pathlib.Path:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_scores(
    path: pathlib.Path, ids: Sequence[str], scores: Any, names: Sequence[str] = GENRES, **more: Sequence[str]
) -> pathlib.Path:
    rows = [
        [id_, *map(repr, row), *rest] for id_, row, *rest in zip(ids, np.asarray(scores).tolist(), *more.values(), strict=True)
    ]
    return write_table(path, ["id", *names, *more], rows)


def write_labels(path: pathlib.Path, ids: Sequence[str], targets: np.ndarray, names: Sequence[str] = GENRES) -> pathlib.Path:
    texts = ["|".join(name for name, has in zip(names, row, strict=True) if has) for row in targets]
    return write_table(path, ["id", "genres"], list(zip(ids, texts, strict=True)))


def scored(tmp_path: pathlib.Path, *arguments: Any, samples: int = 30) -> dict[str, Any]:
    """The JSON of the command."""
    out = tmp_path / "out.json"
    assert score.main([*map(str, arguments), f"--samples={samples}", f"--json={out}"]) == 0
    return json.loads(out.read_text())


@pytest.mark.parametrize("encoding", ["multi_hot", "first"])
def test_a_run_of_ours_gives_the_bits_of_its_results(tmp_path: pathlib.Path, encoding: str) -> None:
    run = written_run.write(tmp_path / "run", encoding=encoding)
    (run / "labels.json").write_text(json.dumps({"genres": written_run.GENRES}))
    results = json.loads((run / "results.json").read_text())
    for given in (run, run / "predictions.npz"):
        assert scored(tmp_path, given, samples=20)["splits"] == results["splits"]
    assert scored(tmp_path, run, samples=21)["splits"] != results["splits"], "a single resample more is seen"


def test_the_test_part_of_a_run_as_a_csv_gives_its_bits_too(tmp_path: pathlib.Path) -> None:
    run = written_run.write(tmp_path / "run")
    results = json.loads((run / "results.json").read_text())["splits"]["test"]
    labels, scores = written_run.draw("multi_hot", 0)
    ids = [str(7 + row) for row in range(len(scores["test"]))]
    given = write_scores(tmp_path / "p.csv", ids, scores["test"].astype(np.float64))
    truth = write_labels(tmp_path / "l.csv", ids, labels["test"] > 0)
    found = scored(tmp_path, given, truth, samples=20)["splits"]["test"]
    assert found["metrics"] == {name: entry for name, entry in results["metrics"].items() if not name.endswith("@tuned")}
    assert found["confusion"] == results["confusion"]
    for genre, entry in found["per_genre"].items():
        assert entry == {name: value for name, value in results["per_genre"][genre].items() if not name.endswith("@tuned")}


def test_a_classifier_of_scikit_learn_gets_scikit_learns_values(tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(size=(300, 5))
    label = (features[:, :3] + rng.normal(size=(300, 3))).argmax(axis=1)
    model = linear_model.LogisticRegression().fit(features[:150], label[:150])
    ids, chances = [f"{row}.jpg" for row in range(300)], model.predict_proba(features)
    parts = np.array(["validation"] * 150 + ["test"] * 150)
    path = tmp_path / "p.npz"
    np.savez(path, ids=ids, scores=chances.astype(np.float32), labels=GENRES, part=parts)
    truth = write_labels(tmp_path / "l.csv", ids, np.eye(3)[label] > 0)
    found = scored(tmp_path, path, truth)
    test, held, hot = found["splits"]["test"], chances[150:].astype(np.float32), np.eye(3)[label[150:]]
    values = {name: test["metrics"][name]["value"] for name in test["metrics"]}
    assert values["mean_average_precision"] == pytest.approx(sklearn_metrics.average_precision_score(hot, held), abs=1e-12)
    assert values["macro_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(hot, held), abs=1e-12)
    assert values["top1_accuracy"] == sklearn_metrics.accuracy_score(label[150:], held.argmax(axis=1))
    assert values["macro_f1"] == pytest.approx(sklearn_metrics.f1_score(hot, held >= 0.5, average="macro"))
    tuned = scoring.choose_thresholds(chances[:150].astype(np.float32), label[:150])
    assert values["micro_f1@tuned"] == pytest.approx(sklearn_metrics.f1_score(hot, held >= tuned, average="micro"))
    assert np.shape(test["confusion"]) == (3, 3), "one label a row"


def test_the_order_of_rows_changes_no_bit(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids, scores, targets = draw()
    rng = np.random.default_rng(9)
    # Scores that tie, movies of several rows, and parts.
    scores = np.round(scores, 1)
    movie, part = [f"m{row // 3}" for row in range(120)], ["validation" if row < 60 else "test" for row in range(120)]

    def table(order: np.ndarray, name: str, shift: float = 0.0) -> pathlib.Path:
        more = {"movie": [movie[row] for row in order], "part": [part[row] for row in order]}
        return write_scores(tmp_path / name, [ids[row] for row in order], scores[order] + shift, **more)

    straight = table(np.arange(120), "p.csv")
    (tmp_path / "other").mkdir()
    mixed = table(rng.permutation(120), "other/p.csv")
    order = rng.permutation(120)
    truth = write_labels(tmp_path / "l.csv", ids, targets)
    turned = write_labels(tmp_path / "l2.csv", [ids[row] for row in order], targets[order])
    first = scored(tmp_path, straight, truth)["splits"]
    assert first["test"]["num_movies"] == 20 and first["test"]["num_rows"] == 60
    assert json.dumps(scored(tmp_path, mixed, turned)["splits"]) == json.dumps(first)
    changed = write_scores(tmp_path / "q.csv", ids, scores[::-1], movie=movie, part=part)
    assert scored(tmp_path, changed, truth)["splits"] != first
    # Three columns in another order are other columns of the same numbers.
    columns = [2, 0, 1]
    moved = write_scores(tmp_path / "r.csv", ids, scores[:, columns], [GENRES[k] for k in columns], movie=movie, part=part)
    again = scored(tmp_path, moved, truth)["splits"]["test"]["per_genre"]
    assert list(again) == [GENRES[k] for k in columns]
    assert again["Drama"]["average_precision"] == first["test"]["per_genre"]["Drama"]["average_precision"]


def test_logits_are_ranked_and_nothing_else(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids, scores, targets = draw()
    part = ["validation" if row < 40 else "test" for row in range(120)]
    truth = write_labels(tmp_path / "l.csv", ids, targets)
    plain = scored(tmp_path, write_scores(tmp_path / "p.csv", ids, scores, part=part), truth)["splits"]["test"]
    logits = np.log(scores / (1 - scores))
    capsys.readouterr()
    results = scored(tmp_path, write_scores(tmp_path / "q.csv", ids, logits, part=part), truth)
    found = results["splits"]["test"]
    for name in ("mean_average_precision", "top1_accuracy", "macro_auc"):
        assert found["metrics"][name] == plain["metrics"][name]
    for name in ("binary_accuracy", "macro_f1", "calibration_error"):
        assert found["metrics"][name]["value"] is None
    assert "macro_f1@tuned" not in found["metrics"] and found["per_genre"]["Drama"]["f1"]["value"] is None
    assert found["per_genre"]["Drama"]["auc"] == plain["per_genre"]["Drama"]["auc"]
    assert "ranked, and have no thresholds and no calibration" in capsys.readouterr().out


def test_what_is_left_out_is_told_with_its_count(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids, scores, targets = draw()
    wide = np.column_stack([scores, np.full(120, 0.25), scores[:, 0]])
    movie = ["one" if row in (0, 119) else f"m{row}" for row in range(120)]
    part = ["validation" if row < 50 else "test" for row in range(120)]
    names = (*GENRES, "Western", "quality")
    given = write_scores(tmp_path / "p.csv", ids, wide, names, movie=movie, part=part)
    more = np.column_stack([targets, np.arange(120) % 9 == 0, np.arange(120) % 7 == 0])
    truth = write_labels(
        tmp_path / "l.csv", [*ids[5:], "b1", "b2"], np.vstack([more[5:], more[:2]]), (*GENRES, "Western", "War")
    )
    found = scored(tmp_path, given, truth)
    told = "\n".join(found["notes"])
    assert "5 of 120 ids" in told and "have no labels and are left out: a0000, a0001, a0002 ..." in told
    assert "2 of 117 ids" in told and "have no scores and are left out: b1, b2" in told
    assert "1 columns of" in told and "quality" in told
    assert "1 of 5 labels have no scores and are left out: War" in told
    assert "all scores of Western are 0.25" in told
    assert "LEAK" not in told, "the row of the other part has no labels"
    assert found["data"]["genres"] == ["Drama", "Comedy", "Horror", "Western"]
    whole = scored(tmp_path, given, write_labels(tmp_path / "l2.csv", ids, more, (*GENRES, "Western", "War")))
    assert "LEAK: 1 of 119 movies have rows in two parts" in whole["notes"]
    assert "LEAK: 1 of 119" in capsys.readouterr().out


def refusal(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    capsys.readouterr()
    assert score.main([*map(str, arguments)]) == 2
    said = capsys.readouterr()
    [line] = said.err.splitlines()
    assert line.startswith("poster_jax: ") and line.endswith(".") and not said.out
    return line


def test_every_refusal_is_one_sentence(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids, scores, targets = draw(30)
    good, truth = write_scores(tmp_path / "p.csv", ids, scores), write_labels(tmp_path / "l.csv", ids, targets)

    def says(words: str, given: Any, labels: Any = truth) -> None:
        assert words in refusal(capsys, given, *([labels] if labels else []))

    says("2 ids are there twice or more: a0000, a0001", write_scores(tmp_path / "a.csv", [*ids[:28], *ids[:2]], scores))
    says("1 ids are there twice or more: a0007", good, write_labels(tmp_path / "b.csv", [*ids[:29], "a0007"], targets))
    says("1 ids are there twice or more: 7", write_scores(tmp_path / "c.csv", ["7", "tt0000007"], scores[:2]), write_labels(
        tmp_path / "d.csv", ["7", "8"], targets[:2]))  # fmt: skip
    missing = scores.astype(object)
    missing[[2, 5], [1, 0]] = "nan"
    rows = [[id_, *row] for id_, row in zip(ids, missing.tolist(), strict=True)]
    holes = write_table(tmp_path / "e.csv", ["id", *GENRES], rows)
    says("2 of 90 scores are missing or not finite, the first that of Comedy for the id a0002", holes)
    says(
        "have 0 ids in common ('x0' beside 'a0000')", write_scores(tmp_path / "f.csv", [f"x{row}" for row in range(30)], scores)
    )
    says("have 1 ids in common", write_scores(tmp_path / "g.csv", ids[:1], scores[:1]))
    says("has 'Dramma' where", write_scores(tmp_path / "h.csv", ids, scores, ("Dramma", *GENRES[1:])))
    says("the label names differ", write_scores(tmp_path / "i.csv", ids, scores, ("x", "y", "z")))
    says("two columns for one label", write_scores(tmp_path / "j.csv", ids, scores, ("Drama", "drama", "Horror")))
    says("needs a column id", write_table(tmp_path / "k.csv", GENRES, scores.tolist()))
    says("no column of scores", write_table(tmp_path / "m.csv", ["id", "title"], [[id_, "x"] for id_ in ids]))
    says("the part of 30 rows is none, as 'hold'", write_scores(tmp_path / "n.csv", ids, scores, part=["hold"] * 30))
    says("no row is of the part test", write_scores(tmp_path / "o.csv", ids, scores, part=["train"] * 30))
    says("holds scores alone", good, None)
    says("no column of labels", good, write_table(tmp_path / "q.csv", ["id", "title"], [[id_, "x"] for id_ in ids]))
    says("there is no file", tmp_path / "none.npz")
    says("ends in none of", tmp_path / "p.xlsx")
    says("has no labels.json", tmp_path)
    assert "--samples=0" in refusal(capsys, good, truth, "--samples=0")
    assert "--seed=-1" in refusal(capsys, good, truth, "--seed=-1")
    assert "cannot be written" in refusal_after(capsys, good, truth, f"--json={tmp_path / 'no' / 'x.json'}")


def refusal_after(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    assert score.main([*map(str, arguments), "--samples=5"]) == 2
    return capsys.readouterr().err


def test_the_text_ends_as_a_training_does_and_names_the_smallest_difference(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids, scores, targets = draw(200)
    given, truth = write_scores(tmp_path / "p.csv", ids, scores), write_labels(tmp_path / "l.csv", ids, targets)
    found = scored(tmp_path, given, truth, samples=200)
    text = capsys.readouterr().out
    auc = found["splits"]["test"]["metrics"]["macro_auc"]["value"]
    assert found["smallest_difference"]["value"] == power.smallest_difference(targets, np.arange(200), auc=auc)
    assert f"paired: {found['smallest_difference']['value']:.3f}" in " ".join(text.split())
    assert "it has learnt to tell genres; weakest: " in text
    assert max(len(line) for line in text.splitlines() if str(tmp_path) not in line) <= 110
    noise = write_scores(tmp_path / "q.csv", ids, np.random.default_rng(5).random((200, 3)))
    scored(tmp_path, noise, truth)
    assert "no better than chance, so nothing was learnt" in " ".join(capsys.readouterr().out.split())


def test_two_files_are_compared_and_a_file_with_a_run(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = written_run.write(tmp_path / "run")
    (run / "labels.json").write_text(json.dumps({"genres": written_run.GENRES}))
    _, scores = written_run.draw("multi_hot", 0)
    ids = [str(7 + row) for row in range(60)]
    same = write_scores(tmp_path / "same.csv", ids, scores["test"].astype(np.float64))
    # Labels of all parts of this made run go by the same ids, so the labels of the test part are written.
    labels, _ = written_run.draw("multi_hot", 0)
    truth = write_labels(tmp_path / "l.csv", ids, labels["test"] > 0)
    logits = write_scores(tmp_path / "logits.csv", ids, 1e30 * scores["test"].astype(np.float64))
    out = tmp_path / "c.json"
    more = [f"--labels={truth}", "--samples=20", f"--json={out}"]
    assert compare.main([str(run), str(same), *more]) == 0
    found, said = json.loads(out.read_text()), capsys.readouterr().out
    assert found["num_movies"] == 60 and "no tuned thresholds" in said and "macro_f1@tuned" not in found["metrics"]
    assert found["metrics"]["macro_f1"]["differences"][0]["value"] == 0
    assert compare.main([str(same), str(logits), *more]) == 0
    found, said = json.loads(out.read_text()), capsys.readouterr().out
    assert list(found["metrics"]) == ["top1_accuracy", "mean_average_precision", "macro_auc"] and "order alone" in said
    assert found["metrics"]["macro_auc"]["differences"][0]["value"] == 0
    assert compare.main([str(same), str(logits)]) == 2
    assert "holds scores alone" in capsys.readouterr().err
    # Ids of texts are one table for all files, and other texts are other movies.
    names = [f"p{id_}.jpg" for id_ in ids]
    named, other = (
        write_scores(tmp_path / "n.csv", names, scores["test"]),
        write_scores(tmp_path / "o.csv", names[::-1], scores["test"]),
    )
    texts = write_labels(tmp_path / "t.csv", names, labels["test"] > 0)
    assert compare.main([str(named), str(other), f"--labels={texts}", "--samples=20", f"--json={out}"]) == 0
    assert json.loads(out.read_text())["metrics"]["macro_auc"]["differences"][0]["value"] != 0
    capsys.readouterr()
    assert compare.main([str(run), str(named), f"--labels={texts}"]) == 2
    assert "no movie in common" in capsys.readouterr().err
    assert compare.main([str(same), str(same), f"--labels={truth}", "--part=train"]) == 2
    assert "no part 'train'; it has: test" in capsys.readouterr().err


def test_it_loads_no_jax_and_is_fast(tmp_path: pathlib.Path) -> None:
    ids, scores, targets = draw(2000)
    given, truth = write_scores(tmp_path / "p.csv", ids, scores), write_labels(tmp_path / "l.csv", ids, targets)
    code = "import resource, sys; from poster_jax import score; assert score.main(sys.argv[1:]) == 0; "
    code += "print([n for n in ('jax', 'pandas', 'sklearn') if n in sys.modules], "
    code += "resource.getrusage(resource.RUSAGE_SELF).ru_utime)"
    command = [sys.executable, "-c", code, str(given), str(truth)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    loaded, _, seconds = done.stdout.splitlines()[-1].rpartition(" ")
    assert loaded == "[]"
    # Processor time: the wall clock of a busy machine says nothing of the command.
    assert float(seconds) < 5


def test_labels_of_a_run_serve_for_a_file(tmp_path: pathlib.Path) -> None:
    ids, scores, targets = draw(40)
    numbers = np.arange(40, dtype=np.int32)
    run = tmp_path / "run"
    run.mkdir()
    (run / "labels.json").write_text(json.dumps({"genres": GENRES}))
    arrays = {}
    for part, rows in (("validation", slice(0, 15)), ("test", slice(15, 40))):
        arrays |= {f"{part}_id": numbers[rows] + 1, f"{part}_label": targets[rows].astype(np.float32)}
        arrays |= {f"{part}_score": scores[rows].astype(np.float32), f"{part}_group": numbers[rows] // 2}
    np.savez(run / "predictions.npz", **arrays)
    theirs = write_scores(
        tmp_path / "p.csv", [f"tt{row + 1:07}" for row in range(40)], scores.astype(np.float32).astype(np.float64)
    )
    found, ours = scored(tmp_path, theirs, run), scored(tmp_path, run)
    assert found["splits"] == ours["splits"] and found["splits"]["test"]["num_movies"] == 13
    assert (
        scored(tmp_path, run, write_labels(tmp_path / "l.csv", list(map(str, numbers + 1)), ~targets))["splits"]
        != ours["splits"]
    )


def test_matched_rows_are_sorted_by_number_where_ids_are_numbers(tmp_path: pathlib.Path) -> None:
    _, scores, targets = draw(12)
    ids = [str(row) for row in range(1, 13)]
    predicted = predictions.read(write_scores(tmp_path / "p.csv", ids[::-1], scores))
    found = predictions.match(predicted, predictions.read_labels(write_labels(tmp_path / "l.csv", ids, targets)))
    assert found.parts["test"].ids.tolist() == list(range(1, 13))
    assert (found.parts["test"].scores == scores[::-1]).all()
