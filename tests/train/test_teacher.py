"""Targets that a teacher draws: by hand, what is refused, and that a teacher who says the labels changes no bit of a run."""

import json
import pathlib
from typing import Any

import numpy as np
import pandas as pd
import pytest

from poster_jax import errors, main
from poster_jax.data import dataset
from poster_jax.train import teacher
from poster_jax.workdir import run_files

ROOT = pathlib.Path(__file__).resolve().parents[2]
PARTS = {"train": np.array([0, 2, 4]), "validation": np.array([1]), "test": np.array([3])}
IDS = [11, 12, 13, 14, 15]
SMOKE = (f"--config={ROOT}/configs/cnn_onehot.py:smoke", "--config.eval.baselines=False", "--config.train.num_epochs=1.0")


def make_rows(**changes: Any) -> dataset.Dataset:
    """Five rows, two genres and an auxiliary one."""
    target = np.array([[1, 0, 1], [0, 1, 0], [0, 1, 1], [1, 1, 0], [1, 0, 0]], np.float32)
    fields = {
        "name": "rows", "fingerprint": "", "genres": ("Drama", "War"), "poster": np.arange(5), "label": target[:, :2],
        "target": target, "movie_id": np.array(IDS, np.int32), "group": np.arange(5), "parts": PARTS,
        "summary": {"auxiliary_genres": ["Crime"]}, "refused": pd.DataFrame(),
    }  # fmt: skip
    return dataset.Dataset(**{**fields, **changes})


def write(path: pathlib.Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_targets_by_hand(tmp_path: pathlib.Path) -> None:
    rows = make_rows()
    one = write(tmp_path / "one.csv", "id,war,Drama\n15,0.25,0.5\n11,0,1\n13,1,0.5\n")
    other = write(tmp_path / "other.csv", "id,Drama,War,Crime\ntt0000011,0.5,0.5,0.5\n13,0,0,1\n15,1,1,0.75\n99,0,0,0\n")
    expected = rows.target.copy()
    found = teacher.soften(rows, one, 0.75)
    assert found.dtype == np.float32
    expected[[0, 2, 4], :2] = [[0.25 + 0.75, 0], [0.375, 0.25 + 0.75], [0.25 + 0.375, 0.1875]]
    np.testing.assert_allclose(found, expected)
    both = teacher.soften(rows, f"{one}, {other}", 1.0)
    expected[[0, 2, 4]] = [[0.75, 0.25, 0.5], [0.25, 0.5, 1], [0.75, 0.625, 0.75]]
    np.testing.assert_allclose(both, expected)
    np.testing.assert_array_equal(rows.target[0], [1, 0, 1])  # the rows are not changed


def test_integer_labels_become_shares(tmp_path: pathlib.Path) -> None:
    label = np.array([0, 1, 1, 0, 0], np.int32)
    rows = make_rows(label=label, target=label, summary={"auxiliary_genres": []})
    path = write(tmp_path / "one.csv", "id,Drama,War\n11,0.5,0.5\n13,0.5,0.5\n15,0,1\n")
    np.testing.assert_allclose(teacher.soften(rows, path, 0.5), [[0.75, 0.25], [0, 1], [0.25, 0.75], [1, 0], [0.5, 0.5]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,Drama\n11,1\n13,0\n15,0\n", "has no scores for War, only for Drama"),
        ("id,Drama,War\n11,1,0\n15,0,1\n", "no scores for 1 of 3 training posters, as 13"),
        ("id,Drama,War\n11,1,0\n13,2.5,0\n15,0,1\n", "scores outside"),
        ("id,Drama,War\n11,1,0\n11,1,0\n13,0,0\n15,0,1\n", "1 ids are there twice"),
        (
            "id,Drama,War,part\n11,1,0,train\n13,0,0,train\n15,0,1,train\n14,1,1,train\n",
            "learnt from 1 posters of this run's test",
        ),
        ("id,Drama,War,part\n11,1,0,test\n13,0,0,test\n15,0,1,test\n12,1,1,Train\n", "learnt from 1 .* validation part"),
    ],
)
def test_what_no_teacher_is(tmp_path: pathlib.Path, text: str, words: str) -> None:
    with pytest.raises(errors.UserError, match=words):
        teacher.soften(make_rows(), write(tmp_path / "scores.csv", text), 0.5)
    with pytest.raises(errors.UserError, match="no-such"):
        teacher.soften(make_rows(), str(tmp_path / "no-such.csv"), 0.5)


def test_scores_of_its_own_parts_are_no_leak(tmp_path: pathlib.Path) -> None:
    parts = "id,Drama,War,part\n11,1,0,train\n13,0,0,train\n15,0,1,train\n14,1,1,test\n12,1,1,validation\n"
    assert teacher.soften(make_rows(), write(tmp_path / "scores.csv", parts), 0.5).shape == (5, 3)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    workdir = tmp_path_factory.mktemp("plain") / "run"
    assert main.main([*SMOKE, f"--workdir={workdir}"]) == 0
    return workdir


def test_a_run_on_other_posters_is_refused(
    plain: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Drawn posters have the same ids whatever is drawn."""
    command = [*SMOKE, "--config.data.seed=1", f"--config.train.teacher={plain}", f"--workdir={tmp_path / 'run'}"]
    assert main.main(command) == 2
    assert "is a run on other posters than these" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


@pytest.mark.parametrize("name", ["one, two.csv", "one.csv"])
def test_a_name_with_a_comma_can_be_given_alone(tmp_path: pathlib.Path, name: str) -> None:
    path = write(tmp_path / name, "id,Drama,War\n11,1,0\n13,0,1\n15,1,0\n")
    assert teacher.soften(make_rows(), path, 1.0)[2].tolist() == [0, 1, 1]


def losses_of(workdir: pathlib.Path) -> list[Any]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_teacher_that_says_the_labels_changes_no_bit_and_a_run_does(
    plain: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = run_files.read_predictions(plain)
    names = run_files.find_genres(plain)
    label = arrays["train_label"]
    truth = np.asarray(label if label.ndim == 2 else np.eye(len(names))[label], np.float64)
    np.savez(tmp_path / "labels.npz", ids=arrays["train_id"], scores=truth, labels=np.array(names))
    same, taught = tmp_path / "same", tmp_path / "taught"
    assert main.main([*SMOKE, f"--config.train.teacher={tmp_path / 'labels.npz'}", f"--workdir={same}"]) == 0
    assert losses_of(same) == losses_of(plain)
    command = [*SMOKE, f"--config.train.teacher={plain}", f"--workdir={taught}"]
    assert main.main(command) == 0
    assert losses_of(taught) != losses_of(plain)
    chosen = json.loads((taught / "chosen.json").read_text())
    assert chosen["teacher"][1] == str(plain) and len(chosen["teacher"][0]) == 64

    capsys.readouterr()
    assert main.main(command) == 0  # finished: it is read
    before = (taught / "chosen.json").read_bytes()
    with np.load(plain / "predictions.npz") as held:
        spoilt = {name: 1 - held[name] if name == "train_score" else held[name] for name in held.files}
    whole = (plain / "predictions.npz").read_bytes()
    np.savez(plain / "predictions.npz", **spoilt)
    capsys.readouterr()
    assert main.main(command) == 2
    assert "are not those that the run in" in capsys.readouterr().err
    assert (taught / "chosen.json").read_bytes() == before
    (plain / "predictions.npz").write_bytes(whole)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.teacher_share=0.0", "must be above zero"),
        ("train.teacher_share=1.5", "at most 1"),
        ("loss.positive_weights=True", "needs targets of 0 and 1"),
        ("train.log_accuracy=True", "needs targets of 0 and 1"),
        ("protocol=search", "has none"),
    ],
)
def test_settings_that_do_not_go_with_it(override: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([*SMOKE, "--config.train.teacher=x.csv", f"--config.{override}"]) == 2
    assert words in capsys.readouterr().err
