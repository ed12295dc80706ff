"""Of a person's own posters all labels are learnt, unless it is said which; a workdir that was begun otherwise goes on."""

import json
import pathlib
import subprocess
import sys

import pytest

from poster_jax import config as config_lib
from poster_jax import errors, main
from poster_jax.data import own

CONFIG = str(pathlib.Path(__file__).resolve().parents[2] / "configs" / "cnn_onehot.py")
KEYS = tuple(own.ALL_LABELS)


@pytest.fixture
def table(tmp_path: pathlib.Path) -> str:
    (tmp_path / "own.csv").write_text("path,genres\na.jpg,Drama|War\nb.jpg,War\n")
    (tmp_path / "own" / "Drama").mkdir(parents=True)
    (tmp_path / "own" / "Drama" / "a.jpg").write_bytes(b"x")
    return str(tmp_path / "own.csv")


def settled(words: str, *pairs: tuple[str, str], begun: config_lib.Config | None = None) -> dict[str, object]:
    config = config_lib.load(f"{CONFIG}{words}", pairs)
    flat = config_lib.flatten(own.settle(config, [key for key, _ in pairs], begun))
    return {key: flat[key] for key in (*KEYS, "data.variant")}


def test_all_labels_are_learnt_without_balance(table: str) -> None:
    expected = {**own.ALL_LABELS, "data.variant": "csv"}
    assert settled("", ("data.variant", "csv"), ("data.csv", table)) == expected
    assert settled("", ("data.csv", table)) == {**expected, "data.variant": "own"}, "a file is enough"
    folder = str(pathlib.Path(table).with_suffix(""))
    assert settled("", ("data.variant", "folder"), ("data.dir", folder)) == {**expected, "data.variant": "folder"}


def test_what_is_said_stays(table: str) -> None:
    given = [("data.num_genres", "6"), ("data.genre_rank", "first"), ("data.min_movies", "100"), ("data.balance", "equal")]
    for key, text in given:
        found = settled("", ("data.csv", table), (key, text))
        assert str(found[key]) == text and all(found[other] == own.ALL_LABELS[other] for other in KEYS if other != key)
    assert settled(":smoke", ("data.csv", table))["data.min_movies"] == 8, "the file says so"
    report = config_lib.flatten(config_lib.base())
    assert settled("", ("data.csv", table), ("data.genres", "Drama,War")) == {
        **{key: report[key] for key in KEYS},
        "data.variant": "own",
    }


def test_a_label_by_first_mention_is_ranked_by_it(table: str) -> None:
    assert settled(":strict", ("data.csv", table))["data.genre_rank"] == "first"


def test_drawn_posters_and_those_of_the_report_keep_its_choice(tmp_path: pathlib.Path) -> None:
    (tmp_path / "MovieGenre.csv").write_text("imdbId,Genre\n1,Drama\n")
    report = config_lib.flatten(config_lib.base())
    for pairs in ((), (("data.variant", "kaggle"), ("data.dir", str(tmp_path)))):
        found = settled("", *pairs)
        assert all(found[key] == report[key] for key in KEYS)
    reproduce = config_lib.derive(config_lib.load(CONFIG), {"protocol": "reproduce", "data.variant": "csv"})
    assert not own._all_labels(reproduce, (), None)


def test_a_workdir_that_was_begun_with_the_defaults_goes_on_with_them(table: str) -> None:
    pairs = (("data.variant", "csv"), ("data.csv", table))
    old = config_lib.load(CONFIG, pairs)
    report = config_lib.flatten(config_lib.base())
    assert all(settled("", *pairs, begun=old)[key] == report[key] for key in KEYS)
    fewer = settled("", *pairs, ("data.num_genres", "3"), begun=config_lib.derive(old, {"data.num_genres": 3}))
    assert fewer == {**{key: report[key] for key in KEYS}, "data.num_genres": 3, "data.variant": "csv"}
    # One that was begun with all labels has them again, and the drawn posters of another run say nothing.
    anew = own.settle(old, ["data.variant", "data.csv"])
    assert settled("", *pairs, begun=anew) == settled("", *pairs)
    assert settled("", *pairs, begun=config_lib.load(CONFIG)) == settled("", *pairs)


def test_what_is_missing_is_told_before_anything_is_read(tmp_path: pathlib.Path) -> None:
    for variant, key, words in (("csv", "csv", "no file"), ("folder", "dir", "no folder"), ("kaggle", "dir", "no file"),
                                ("packed", "dir", "not a packed cache")):  # fmt: skip
        config = config_lib.load(CONFIG, [("data.variant", variant), (f"data.{key}", str(tmp_path / "none"))])
        with pytest.raises(errors.UserError, match=f"{words}.*the folder {tmp_path} exists"):
            own.settle(config)


def test_an_old_workdir_of_a_csv_is_resumed_by_the_same_command(
    tmp_path: pathlib.Path, table: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the check of the folder: its pictures are none, which is told after it."""
    workdir = tmp_path / "run"
    (workdir / "checkpoints" / "last" / "4").mkdir(parents=True)
    old = config_lib.load(CONFIG, [("data.variant", "csv"), ("data.csv", table)])
    tree = json.loads(config_lib.to_json(old))
    for key in ("id_column", "movie_column", "split_column"):
        del tree["data"][key]
    (workdir / "config.json").write_text(json.dumps(tree))
    command = [f"--config={CONFIG}", "--config.data.variant=csv", f"--config.data.csv={table}", f"--workdir={workdir}"]
    assert main.main(command) == 2
    assert "none of the 2 rows" in capsys.readouterr().err, "the folder is accepted"
    monkeypatch.setattr(own, "_all_labels", lambda config, given, begun: dict(own.ALL_LABELS))
    assert main.main(command) == 2
    assert "was begun with another config" in capsys.readouterr().err


def test_mistakes_are_told_without_jax_and_tensorflow(tmp_path: pathlib.Path) -> None:
    """Loading them takes seconds; a mistake is answered in the time that Python and the config take."""
    mistakes = [["--config.data.csv=none.csv"], ["--config.data.dir=none"], ["--config.lr=1"], ["--config.data.balance=kap"]]
    code = "import sys\nfrom poster_jax import main\n"
    code += "".join(f"assert main.main(['--config={CONFIG}', *{words}]) == 2\n" for words in mistakes)
    code += "print(*{'jax', 'tensorflow', 'tensorflow_datasets', 'pandas', 'scipy'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "" and done.stderr.count("\n") == len(mistakes)
