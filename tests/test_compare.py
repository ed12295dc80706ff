"""Comparisons of run folders: hand-computed, against scikit-learn on drawn rows, and every refusal as one sentence."""

import json
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from poster_jax import compare
from poster_jax.metrics import bootstrap, paired, scoring
from poster_jax.workdir import run_files

GENRES = ("Drama", "Comedy", "Horror")
PARTS = ("train", "validation", "test")


def write_run(
    folder: pathlib.Path,
    scores: Any,
    targets: Any,
    movie_id: Any = None,
    *,
    genres: tuple[str, ...] = GENRES,
    labels_in: pathlib.Path | None = None,
) -> pathlib.Path:
    """A workdir whose three parts hold the same rows."""
    folder.mkdir(parents=True, exist_ok=True)
    movie_id = np.arange(len(scores)) if movie_id is None else np.asarray(movie_id)
    values = {"id": movie_id.astype(np.int32), "label": np.asarray(targets), "score": np.asarray(scores, np.float32)}
    np.savez(folder / "predictions.npz", **{f"{part}_{name}": value for part in PARTS for name, value in values.items()})
    ((labels_in or folder) / "labels.json").write_text(json.dumps({"genres": genres, "encoding": "multi_hot"}))
    return folder


def problem(seed: int, skill: float, num_rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Scores in tenths, which tie, and targets drawn from a seed of their own: runs of one `num_rows` share them."""
    targets = (np.random.default_rng(7).random((num_rows, 3)) < 0.3).astype(np.float32)
    noise = np.random.default_rng(seed).random((num_rows, 3))
    return np.round((noise + skill * targets) / (1 + skill), 1), targets


def found_in(*folders: pathlib.Path, num_samples: int = 200) -> dict[str, Any]:
    """What `compare` says of workdirs, as main asks it."""
    runs = [run_files.load_run(folder, "test") for folder in folders]
    return paired.compare(runs, num_samples=num_samples, seed=compare.BOOTSTRAP_SEED)


def test_a_tiny_case_by_hand(tmp_path: pathlib.Path) -> None:
    targets = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], np.float32)
    right = write_run(tmp_path / "right", 0.1 + 0.8 * targets, targets, genres=("Drama", "Comedy"))
    # Drama ranks movie 3, which is none, above movies 0 and 2: precision 1/2 and 2/3 at them. Three of its answers are wrong.
    scores = 0.1 + 0.8 * targets
    scores[:, 0] = [0.4, 0.1, 0.3, 0.9]
    wrong = write_run(tmp_path / "wrong", scores, targets, genres=("Drama", "Comedy"))
    found = found_in(right, wrong, num_samples=4000)
    assert found["metrics"]["binary_accuracy"]["values"] == pytest.approx([1.0, 5 / 8])
    assert found["metrics"]["binary_accuracy"]["floor"] == 0.5
    assert found["metrics"]["exact_match"]["values"] == pytest.approx([1.0, 1 / 4])
    drama = found["per_genre"]["Drama"]["average_precision"]
    assert found["per_genre"]["Drama"]["count"] == 2 and drama["floor"] == 0.5
    assert drama["values"] == pytest.approx([1.0, (1 / 2 + 2 / 3) / 2])
    assert drama["differences"][0]["value"] == pytest.approx(7 / 12 - 1)
    # No difference where movie 3 is not drawn but a positive is: (3^4 - 1) of the 4^4 - 2^4 draws that have a positive.
    assert drama["differences"][0]["other_sign"] == pytest.approx(80 / 240, abs=0.03)
    comedy = found["per_genre"]["Comedy"]["average_precision"]["differences"][0]
    assert (comedy["value"], comedy["low"], comedy["high"], comedy["other_sign"]) == (0.0, 0.0, 0.0, None)
    assert comedy["verdict"] == paired.APART
    mean = found["metrics"]["mean_average_precision"]
    assert mean["values"] == pytest.approx([1.0, (7 / 12 + 1) / 2])


def test_intervals_equal_scikit_learn_on_the_drawn_rows(tmp_path: pathlib.Path) -> None:
    movie_id = np.repeat(np.arange(100), 3)
    folders, tables = [], []
    for name, skill in (("a", 0.2), ("b", 0.5)):
        scores, targets = problem(len(name), skill)
        order = np.lexsort((*targets.T, movie_id))
        scores, targets = scores[order], targets[order]
        folders.append(write_run(tmp_path / name, scores, targets, movie_id))
        tables.append((scores, targets))
    gaps: dict[str, list[float]] = {"mean_average_precision": [], "macro_auc": [], "macro_f1": [], "Horror": []}
    for weights in np.concatenate(list(bootstrap.draw_weights(movie_id, 60, compare.BOOTSTRAP_SEED))):
        drawn = np.repeat(np.arange(300), weights.astype(int))
        values = []
        for scores, targets in tables:
            truth, score = targets[drawn], scores[drawn].astype(np.float32).astype(np.float64)
            average_precision = sklearn_metrics.average_precision_score(truth, score, average=None)
            f1 = sklearn_metrics.f1_score(truth, score >= 0.5, average="macro")
            auc = sklearn_metrics.roc_auc_score(truth, score)
            values.append([average_precision.mean(), auc, f1, average_precision[2]])
        for gap, before, after in zip(gaps.values(), *values, strict=True):
            gap.append(after - before)
    found = found_in(*folders, num_samples=60)
    assert found["num_movies"] == 100 and found["num_rows"] == 300
    assert found["per_genre"]["Horror"]["average_precision"]["floor"] == pytest.approx(tables[0][1][:, 2].mean())
    for name, samples in gaps.items():
        entry = found["per_genre"][name]["average_precision"] if name in GENRES else found["metrics"][name]
        [gap] = entry["differences"]
        assert [gap["low"], gap["high"]] == pytest.approx(np.percentile(samples, (2.5, 97.5)), abs=1e-9)
        assert gap["other_sign"] == pytest.approx((np.array(samples) * np.sign(gap["value"]) <= 0).mean())


def test_values_and_floors_are_those_of_the_runs_own_results(tmp_path: pathlib.Path) -> None:
    folders = [write_run(tmp_path / name, *problem(seed, 0.4)) for seed, name in enumerate(("a", "b"))]
    found = found_in(*folders, num_samples=2)
    for index in range(2):
        scores, targets = problem(index, 0.4)
        scores = scores.astype(np.float32)
        tuned = {"tuned": scoring.choose_thresholds(scores, targets)}
        keywords: dict[str, Any] = {"genres": GENRES, "thresholds": tuned, "num_samples": 2, "seed": 0}
        results = scoring.score(scores, targets, np.arange(300), **keywords)
        assert list(found["metrics"]) == list(results["metrics"])
        for name, entry in found["metrics"].items():
            assert entry["values"][index] == results["metrics"][name]["value"]
            assert entry["floor"] == results["metrics"][name]["best_floor"]


def test_a_run_compared_with_itself_differs_by_exactly_nothing(tmp_path: pathlib.Path) -> None:
    run = write_run(tmp_path / "run", *problem(0, 0.3))
    again = write_run(tmp_path / "again", *problem(0, 0.3))
    found = found_in(run, again, num_samples=50)
    for entry in [*found["metrics"].values(), *(genre["average_precision"] for genre in found["per_genre"].values())]:
        nothing = {"value": 0.0, "low": 0.0, "high": 0.0, "other_sign": None, "smallest": None, "verdict": paired.APART}
        assert entry["differences"] == [nothing]


def test_a_better_run_is_told_apart_and_an_equal_one_is_not(tmp_path: pathlib.Path) -> None:
    base = write_run(tmp_path / "base", *problem(0, 0.3))
    better = write_run(tmp_path / "better", *problem(1, 0.6))
    equal = write_run(tmp_path / "equal", *problem(2, 0.3))
    entry = found_in(base, better, equal)["metrics"]["mean_average_precision"]
    assert [gap["verdict"] for gap in entry["differences"]] == [paired.BETTER, paired.APART]
    assert entry["differences"][0]["low"] > 0 and entry["differences"][0]["other_sign"] == 0
    backwards = found_in(better, base)["metrics"]["mean_average_precision"]["differences"][0]
    assert backwards["verdict"] == paired.WORSE
    assert backwards["low"] == pytest.approx(-entry["differences"][0]["high"])


def test_a_paired_difference_is_narrower_than_its_parts(tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, 400)
    scores_b = np.clip(np.eye(3)[labels] * 0.3 + rng.random((400, 3)) * 0.7, 0, 1).astype(np.float32)
    scores_a = scores_b.copy()
    scores_a[:20] = np.eye(3)[labels[:20]]  # a is right on 20 rows more, or fewer where b already was
    one_hot = np.eye(3, dtype=np.float32)[labels]
    runs = [write_run(tmp_path / name, scores, one_hot) for name, scores in (("b", scores_b), ("a", scores_a))]
    [difference] = found_in(*runs, num_samples=1000)["metrics"]["top1_accuracy"]["differences"]
    keywords: Any = {"genres": GENRES, "thresholds": {}, "num_samples": 1000, "seed": 5}
    part_b, part_a = (
        scoring.score(scores, one_hot, np.arange(400), **keywords)["metrics"]["top1_accuracy"]
        for scores in (scores_b, scores_a)
    )
    assert difference["value"] == pytest.approx(part_a["value"] - part_b["value"])
    assert 0 < difference["value"] and difference["low"] <= difference["value"] <= difference["high"]
    assert difference["high"] - difference["low"] < 0.5 * (part_a["high"] - part_a["low"])
    [swapped] = found_in(*runs[::-1], num_samples=1000)["metrics"]["top1_accuracy"]["differences"]
    assert [swapped[name] for name in ("value", "low", "high")] == pytest.approx(
        [-difference["value"], -difference["high"], -difference["low"]]
    )


def test_of_calibration_error_less_is_better(tmp_path: pathlib.Path) -> None:
    targets = (np.random.default_rng(0).random((200, 3)) < 0.5).astype(np.float32)
    base = write_run(tmp_path / "base", np.where(targets > 0, 0.7, 0.3), targets)
    sure = write_run(tmp_path / "sure", np.where(targets > 0, 0.99, 0.01), targets)
    entry = found_in(base, sure, num_samples=50)["metrics"]["calibration_error"]
    assert entry["differences"][0]["value"] == pytest.approx(-0.29, abs=1e-6)
    assert entry["differences"][0]["verdict"] == paired.BETTER


def test_the_order_of_rows_does_not_matter(tmp_path: pathlib.Path) -> None:
    movie_id = np.repeat(np.arange(150), 2)
    scores, targets = problem(0, 0.3)
    other, _ = problem(1, 0.4)
    shuffled = np.random.default_rng(3).permutation(300)
    base = write_run(tmp_path / "base", scores, targets, movie_id)
    # Rows of one movie whose labels are equal may keep any order only if their scores are equal, as one poster's are.
    scores_of_movie = other[::2].repeat(2, axis=0)
    straight = write_run(tmp_path / "straight", scores_of_movie, targets, movie_id)
    mixed = write_run(tmp_path / "mixed", scores_of_movie[shuffled], targets[shuffled], movie_id[shuffled])
    one, other_way = found_in(base, straight), found_in(base, mixed)
    assert one["metrics"] == other_way["metrics"] and one["per_genre"] == other_way["per_genre"]
    unmatched = write_run(tmp_path / "unmatched", scores_of_movie[shuffled], targets, movie_id)
    assert found_in(base, unmatched)["metrics"] != one["metrics"]


def test_only_shared_movies_count_and_the_others_are_told(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores, targets = problem(0, 0.3)
    other, _ = problem(1, 0.3)
    whole = write_run(tmp_path / "whole", scores, targets)
    half = write_run(tmp_path / "half", other[:120], targets[:120])
    cut = write_run(tmp_path / "cut", scores[:120], targets[:120])
    found, expected = found_in(whole, half), found_in(cut, half)
    assert found["num_movies"] == 120
    assert [run["num_left_out"] for run in found["runs"]] == [180, 0]
    for name in ("mean_average_precision", "macro_f1"):
        assert found["metrics"][name] == expected["metrics"][name]
    assert compare.main([str(whole), str(half), "--samples=10"]) == 0
    assert "180 movies left out" in capsys.readouterr().out


def test_single_labels_are_measured_as_their_multi_hot_form(tmp_path: pathlib.Path) -> None:
    label = np.random.default_rng(0).integers(0, 3, 200)
    one_hot = np.eye(3, dtype=np.float32)[label]
    scores = np.random.default_rng(1).dirichlet((1, 1, 1), 200)
    single, multi = write_run(tmp_path / "single", scores, label), write_run(tmp_path / "multi", scores, one_hot)
    assert found_in(single, multi, num_samples=20)["metrics"]["macro_auc"]["differences"][0]["value"] == 0.0


def test_seeds_are_averaged_and_their_movies_drawn_together(tmp_path: pathlib.Path) -> None:
    tables = [problem(seed, 0.3 + 0.1 * (seed > 2)) for seed in range(5)]
    recipe, other = tmp_path / "recipe", tmp_path / "other"
    for seed in range(3):
        write_run(recipe / f"seed_{seed}", *tables[seed], labels_in=recipe)
    for seed in range(3, 5):
        write_run(other / f"seed_{seed}", *tables[seed])
    found = found_in(recipe, other, num_samples=40)
    entry = found["metrics"]["mean_average_precision"]
    expected = [sklearn_metrics.average_precision_score(targets, scores) for scores, targets in tables]
    assert entry["seeds"][0] == pytest.approx(expected[:3]) and entry["seeds"][1] == pytest.approx(expected[3:])
    assert entry["values"] == pytest.approx([np.mean(expected[:3]), np.mean(expected[3:])])
    gaps = []
    for weights in np.concatenate(list(bootstrap.draw_weights(np.arange(300), 40, compare.BOOTSTRAP_SEED))):
        each = [sklearn_metrics.average_precision_score(t, s, sample_weight=weights) for s, t in tables]
        gaps.append(np.mean(each[3:]) - np.mean(each[:3]))
    [gap] = entry["differences"]
    assert [gap["low"], gap["high"]] == pytest.approx(np.percentile(gaps, (2.5, 97.5)))
    # A movie that one seed lacks is left out of both.
    write_run(other / "seed_4", tables[4][0][:200], tables[4][1][:200])
    assert [run["num_left_out"] for run in found_in(recipe, other, num_samples=5)["runs"]] == [100, 100]
    # A seed's folder by itself is a run too, though its genres are told by the folder above it.
    lone = found_in(recipe / "seed_1", recipe, num_samples=5)
    assert lone["metrics"]["mean_average_precision"]["values"][0] == pytest.approx(expected[1])


def test_the_printed_table_and_the_json_say_the_same(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [write_run(tmp_path / name, *problem(seed, 0.3 * seed)) for seed, name in enumerate(("a", "b", "c"))]
    path = tmp_path / "out.json"
    assert compare.main([*map(str, folders), "--part=validation", "--samples=50", f"--json={path}"]) == 0
    text, found = capsys.readouterr().out, json.loads(path.read_text())
    assert found["part"] == "validation" and found["num_samples"] == 50
    assert text.count("cannot be told apart: the interval") == 1 and "with a single seed" in text
    assert "C - A" in text and "C - B" not in text
    for index, gap in enumerate(found["metrics"]["mean_average_precision"]["differences"]):
        lines = [line for line in text.splitlines() if line.startswith("mean_average_precision")]
        assert f"{gap['value']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]" in lines[index]
        assert lines[index].endswith(gap["verdict"])
    assert max(map(len, text.splitlines()[5:])) <= 110


def refusal(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    """Runs main and returns its one sentence."""
    assert compare.main([str(argument) for argument in arguments]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("poster_jax: ") and line.endswith(".")
    return line


def test_genres_in_another_order_or_fewer_are_aligned_by_name(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores, targets = problem(0, 0.3)
    other, _ = problem(1, 0.5)
    base = write_run(tmp_path / "base", scores, targets)
    straight = found_in(base, write_run(tmp_path / "straight", other, targets), num_samples=20)
    order = [2, 0, 1]
    names = tuple(GENRES[k] for k in order)
    turned = write_run(tmp_path / "turned", other[:, order], targets[:, order], genres=names)
    found = found_in(base, turned, num_samples=20)
    assert found["metrics"] == straight["metrics"] and found["per_genre"] == straight["per_genre"]
    fewer = write_run(tmp_path / "fewer", other[:, [2, 0]], targets[:, [2, 0]], genres=(GENRES[2], GENRES[0]))
    found = found_in(base, fewer, num_samples=20)
    assert found["genres"] == [GENRES[0], GENRES[2]] and list(found["per_genre"]) == found["genres"]
    for genre in found["genres"]:
        assert found["per_genre"][genre]["average_precision"] == straight["per_genre"][genre]["average_precision"]
    assert [run["genres_left_out"] for run in found["runs"]] == [[GENRES[1]], []]
    assert compare.main([str(base), str(fewer), "--samples=5"]) == 0
    assert f"left out, as not all runs know them: {GENRES[1]}" in capsys.readouterr().out


def test_identical_runs_are_told_to_be(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores, targets = problem(0, 0.3)
    runs = [write_run(tmp_path / name, scores, targets) for name in ("one", "same")]
    nearly = scores.copy()
    nearly[0, 0] = np.nextafter(np.float32(nearly[0, 0]), np.float32(0))
    runs.append(write_run(tmp_path / "nearly", nearly, targets))
    assert compare.main([*map(str, runs), "--samples=5"]) == 0
    said = capsys.readouterr().out
    assert "B is identical to A" in said and "C is identical" not in said and "C - A" in said and "B - A" not in said


def test_a_reader_that_has_seen_enough_ends_it_quietly(tmp_path: pathlib.Path) -> None:
    runs = [str(write_run(tmp_path / name, *problem(seed, 0.3))) for seed, name in enumerate("ab")]
    command = [sys.executable, "-u", "-m", "poster_jax.compare", *runs, "--samples=5"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.wait(timeout=120) == 0 and process.stderr.read() == b""
    process.stderr.close()


def test_every_refusal_is_one_sentence(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores, targets = problem(0, 0.3, num_rows=30)
    run = write_run(tmp_path / "run", scores, targets)

    swapped = write_run(tmp_path / "swapped", scores, targets, genres=("Comedy", "Drama", "Horror"))
    assert "has other labels" in refusal(capsys, run, swapped), "the same columns under other names"
    strange = write_run(tmp_path / "strange", scores, targets, genres=("War", "News", "Short"))
    assert "no genre in common" in refusal(capsys, run, strange)
    changed = targets.copy()
    changed[12, 1] = 1 - changed[12, 1]
    assert "movie 12 has other labels" in refusal(capsys, run, write_run(tmp_path / "changed", scores, changed))
    twice = write_run(tmp_path / "twice", scores[[*range(30), 29]], targets[[*range(30), 29]], [*range(30), 29])
    assert "movie 29 has other labels" in refusal(capsys, run, twice)
    assert "movie 29 has other labels" in refusal(capsys, twice, run)
    elsewhere = write_run(tmp_path / "elsewhere", scores, targets, np.arange(30) + 1000)
    assert "no movie in common" in refusal(capsys, run, elsewhere)
    assert "needs two runs" in refusal(capsys, run)
    assert "no part 'tset'; it has: train, validation, test" in refusal(capsys, run, run, "--part=tset")
    assert "has no labels.json" in refusal(capsys, run, tmp_path / "nowhere")
    unfinished = write_run(tmp_path / "unfinished", scores, targets)
    (unfinished / "predictions.npz").unlink()
    assert "unfinished has no predictions.npz" in refusal(capsys, run, unfinished)
    (unfinished / "predictions.npz").write_bytes(b"PK\x03\x04 cut")
    assert "cannot be read" in refusal(capsys, run, unfinished)
    beyond = write_run(tmp_path / "beyond", scores + 1, targets)
    assert "outside [0, 1]" in refusal(capsys, run, beyond)
    assert "--samples=0" in refusal(capsys, run, run, "--samples=0")
    assert "--help" in refusal(capsys, run, run, "--sample=10")
    assert "cannot be written" in refusal(capsys, run, run, "--samples=2", f"--json={tmp_path / 'none' / 'x.json'}")
