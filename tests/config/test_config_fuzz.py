"""Hundreds of wrong overrides, drawn at random: each is one sentence and exit code 2 before anything is read; bugs are not."""

import os
import pathlib
import random
import string
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from poster_jax import config as config_lib
from poster_jax import errors, main, models
from poster_jax.config import validate
from poster_jax.models import body, families, weight_files

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIGS = tuple(f"{ROOT}/configs/{name}" for name in ("cnn_onehot.py", "finetune_mobilenet.py:smoke", "transfer_mobilenet.py"))
SEARCH = f"{ROOT}/configs/search_cnn.py"
NUM_DRAWN = 500
# Any text is right for these, as far as can be told without reading files.
FREE_TEXTS = ("data.dir", "data.csv", "data.cache_dir", "reproduce.catalog", "data.path_column", "data.label_column")
FREE_TEXTS += ("data.label_separator", "data.id_column", "data.movie_column", "data.split_column", "data.features")
# Texts that are no Python value of any type, or none that a config holds.
NO_VALUES = (
    "",
    "many",
    "1,2",
    "(1,",
    "nan?",
    "0x",
    "None",
    "{}",
    "{1: 2}",
    "{[]: 1}",
    "b'x'",
    "1j",
    "...",
    "((((",
    "'",
    "\\d",
    "'\\d'",
    "=",
    "(" * 150 + ")" * 150,
    "-" * 9999 + "1",
)
NO_TUPLES = ("3", "0.5", "True", "Drama+", *(t for t in NO_VALUES if t != "1,2" and (not t or t.strip("()"))))
BAD_SIDES = ("-1", "0", "1.5", "True", "'a'", "None", "(1,)", "99999")
ABOVE_ZERO = ("num_seeds", "num_posters", "min_movies", "train_share", "width", "learning_rate", "batch_size")
ABOVE_ZERO += ("accumulate_steps",)
ABOVE_ZERO += ("log_every_steps", "bootstrap_samples", "head_epochs", "head_factor", "num_trials", "num_folds", "train_sample")
SHARES = ("dropout", "label_smoothing", "asymmetric_clip", "average_decay", "shift", "zoom", "brightness", "contrast")
# What each tuple cannot be, whatever else the config says.
WRONG_TUPLES = {
    "data.image_size": (
        "()", "(8,)", "(8, 8, 8)",
        *(f"({side}, 64)" for side in BAD_SIDES), *(f"(64, {side})" for side in BAD_SIDES),
    ),
    "data.genres": ("(1, 2)", "(None,)", "(('Drama',),)", "('Drama', 2)", "('Drama', 'Drama')", "('',)"),
    "data.split": (
        "()", "(0.5, 0.5)", "(1, 0, 0)", "(0.6, 0.2, 'a')", "(0.6, 0.6, -0.2)", "(None, 0.2, 0.2)",
        "(0.6, 0.2, (0.2,))",
    ),
    "model.blocks": (
        "(1, 2)",
        "((8, 3, 2, False),)",
        "((8, 3, 2, False, 0.1, 1),)",
        "((0, 3, 2, False, 0.1),)",
        "((8, 3, 2, False, 'a'),)",
        "((8, 3, 2, False, None),)",
        "((8, 3, 2, 0, 0.1),)",
        "((8, 3, 2, False, 1.0),)",
        "((8, 3, 2, False, 1e999),)",
        "((8.0, 3, 2, False, 0.1),)",
        "((True, 3, 2, False, 0.1),)",
        "('abcde',)",
        "((),)",
        "(None,)",
    ),
    "model.dense": (
        "(128,)", "((128,),)", "((128, False),)", "((0, False, 0.5),)", "((8, False, (1,)),)",
        "((8, 'no', 0.5),)", "((),)",
    ),
    "model.input_range": (
        "('ab')", "(0.0,)", "(1.0, 0.0)", "(0.0, 0.0)", "('a', 'b')", "(0, None)", "((0,), (1,))",
        "(0, 1e999)", "(0, 1, 2)",
    ),
    "loss.asymmetric_gammas": ("()", "(1,)", "(1, -1)", "('a', 'b')", "(None, 1)", "(1, 2, 3)", "((1,), (2,))", "(0, 1e999)"),
    "eval.parts": ("()", "('test',)", "('train',)", "('validation', 'test')", "(1,)", "((),)", "([1],)", "('validation', [])"),
    "transfer.input_ranges": ("()", "(0.0, 1.0)", "((1.0, 0.0),)", "((0,),)", "('ab',)", "(None,)", "(('a', 'b'),)"),
    "transfer.learning_rates": ("()", "(0.0,)", "(-1e-3,)", "('a',)", "(None,)", "((1e-3,),)", "(True,)", "(1e999,)"),
    "search.learning_rate_exponent": ("()", "(-2,)", "(-2, -4)", "('a', 'b')", "(None, 1)", "(-4, 1e999)"),
    "search.dropout": ("()", "(0.5, 0.2)", "(0.2, 1.0)", "(-0.1, 0.5)", "('a', 'b')", "(0.2,)"),
    "search.filters": (
        "()", "((4, 12),)", "(4, 12)", "((4, 12), (31, 16))", "((0, 12), (16, 31))",
        "((4.0, 12), (16, 31))", "('ab', 'cd')",
    ),
    "search.units": ("()", "(80,)", "((115, 80),)", "((0, 5),)", "(('a', 'b'),)", "((80, 115), (80, 115))"),
    "search.trials": (
        "(1, 2)", "((1e-3, 0.3),)", "((0, 0.3, 4, 16, 80),)", "(('a', 0.3, 4, 16, 80),)",
        "((1e-3, None, 4, 16, 80),)",
    ),
    # Only their own protocols read these: test_grid.py, protocols/test_reproduce.py and test_probe.py have what they refuse.
    "ablation.axes": (),
    "reproduce.experiments": (),
    "reproduce.overrides": (),
    "probe.inverse_penalties": (),
    "search.halving": ("(0,)", "(5, 3)", "(99,)", "('a',)", "(1.5,)", "(None, 2)", "((1,),)", "(True,)"),
}  # fmt: skip


def misspelt(rng: random.Random, keys: list[str]) -> str:
    """A key with a letter too many, too few, doubled or exchanged, or in another section; never a key there is."""
    while True:
        key = rng.choice(keys)
        at = rng.randrange(len(key))
        letter = rng.choice(string.ascii_letters + "._- é")
        wrong = rng.choice(
            [
                key[:at] + letter + key[at:],
                key[:at] + key[at + 1 :],
                key[:at] + key[at : at + 1] + key[at:],
                key[:at] + letter + key[at + 1 :],
                key.upper(),
                key.partition(".")[2] or f"data.{key}",
                key.rpartition(".")[0],
                f"{key}.{key}",
                f"{key}.",
            ]
        )
        if wrong not in keys and "=" not in wrong:
            return wrong


def wrong_number(rng: random.Random, key: str, whole: bool) -> str:
    """Text that is no number of the key's kind, or one that cannot be: no number of a config may be negative."""
    texts = ["'3'", "True", "(3,)", "[]", "1e999", "-1e999", "10" * 400, *NO_VALUES]
    texts += ["-1", str(-rng.randrange(1, 10**9))]
    texts += [str(10**30), str(2**31), "1.5", "1e3", "3.0"] if whole else [str(10**39), "-0.5", "1e39"]
    name = key.rpartition(".")[2]
    if name in ABOVE_ZERO:
        texts += ["0", "-0"]
    if name in SHARES:
        texts += ["1", "1.0", str(rng.uniform(1, 100))]
    return rng.choice(texts)


def wrong_value(rng: random.Random, key: str, old: Any) -> str:
    """Text that the key cannot take, whatever the config."""
    if isinstance(old, bool):
        return rng.choice(["2", "-1", "tru", "y", "'True'", "(True,)", "1.0", "of", *NO_VALUES])
    if isinstance(old, int):
        return wrong_number(rng, key, whole=True)
    if isinstance(old, float):
        return wrong_number(rng, key, whole=False)
    if isinstance(old, tuple):
        texts = [text for text in NO_TUPLES if key != "data.genres"] + list(WRONG_TUPLES[key])
        return rng.choice(texts)
    known = [*validate.CHOICES.get(key, ()), "none", "folds", "all", "processes", "auto"]
    return rng.choice(
        [text for text in (*(rng.choice(known)[:-1] + letter for letter in "#xQ"), "0", "()") if text not in known]
    )


def wrong_override(rng: random.Random, flat: dict[str, Any]) -> str:
    keys = [key for key in flat if key not in FREE_TEXTS]
    kind = rng.random()
    if kind < 0.2:
        return f"--config.{misspelt(rng, list(flat))}={rng.choice(('1', 'x', '', '()'))}"
    if kind < 0.25:
        return f"--config.{rng.choice(list(flat))}"
    key = rng.choice(keys)
    return f"--config.{key}={wrong_value(rng, key, flat[key])}"


@pytest.fixture
def out_of_reach(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a mark in the place of every protocol: it is reached only if the override passed."""
    monkeypatch.chdir(tmp_path)

    def reached(*_: Any) -> Any:
        raise AssertionError("the run has begun")

    for name in validate.CHOICES["protocol"]:
        monkeypatch.setattr(f"poster_jax.protocols.{name}.run", reached)
    return reached


def test_every_wrong_override_is_one_sentence_and_exit_code_2(
    out_of_reach: Any, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(20240607)
    flats = {}
    for path in (*CONFIGS, SEARCH):
        flat = config_lib.flatten(config_lib.load(path))
        # A search's keys count only where there is a search, a transfer's only where there is one.
        others = {"single": ("search.", "transfer."), "transfer": ("search.",), "search": ("transfer.",)}[flat["protocol"]]
        flats[path] = {key: value for key, value in flat.items() if not key.startswith(others)}
    wrong = []
    for _ in range(NUM_DRAWN):
        path = rng.choice(list(flats))
        override = wrong_override(rng, flats[path])
        try:
            code = main.main([f"--config={path}", override])
        except BaseException as error:
            wrong.append(f"{override}: {type(error).__name__}: {error}")
            capsys.readouterr()
            continue
        told = capsys.readouterr()
        one_sentence = told.err.startswith("poster_jax: ") and told.err.count("\n") == 1 and told.err.rstrip().endswith(".")
        if code != 2 or not one_sentence or told.out:
            wrong.append(f"{override}: {code} {told.err!r}")
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", [CONFIGS[0], CONFIGS[2], SEARCH], ids=["single", "transfer", "search"])
def test_every_listed_wrong_tuple_is_refused_by_name(path: str) -> None:
    flat = config_lib.flatten(config_lib.load(path))
    refused = 0
    for key, texts in WRONG_TUPLES.items():
        if key not in flat or (key.startswith(("search.", "transfer.")) and not key.startswith(flat["protocol"])):
            continue
        for text in texts:
            with pytest.raises(errors.UserError) as raised:
                config_lib.load(path, [(key, text)])
            assert key.rpartition(".")[2] in str(raised.value), text
            refused += 1
    assert refused > 50


@pytest.mark.parametrize(
    ("path", "key", "text"),
    [
        (SEARCH, "search.trials", "((1e-3, 0.3, 4, 16, 80),)"),
        (SEARCH, "search.halving", "(5, 10)"),
        (CONFIGS[0], "data.genres", "Drama"),
        (CONFIGS[0], "seed", "2147483647"),
        (CONFIGS[0], "loss.asymmetric_gammas", "(0, 4)"),
        (CONFIGS[2], "model.weights", "keras:no such file"),
        (CONFIGS[2], "transfer.input_ranges", "((), (-1, 1))"),
    ],
)
def test_what_is_right_begins_the_run(path: str, key: str, text: str, out_of_reach: Any) -> None:
    with pytest.raises(AssertionError, match="the run has begun"):
        main.main([f"--config={path}", f"--config.{key}={text}"])


def test_what_the_checks_list_is_what_the_models_know() -> None:
    assert config_lib.BODIES.keys() == families.FAMILIES.keys() == config_lib.MODELS.keys() - {"cnn"}
    assert validate.CHOICES["model.name"] == tuple(config_lib.MODELS) == tuple(models.MODELS)
    for name, file in config_lib.CONFIGS.items():
        assert config_lib.load(file).model.name == name
    assert config_lib.CONFIGS.keys() == config_lib.MODELS.keys()
    for name, known in config_lib.BODIES.items():
        family = families.FAMILIES[name]
        released = (weight_files.RELEASED,) if name == "mobilenet_v2" else ()
        assert known.sources == (*family.sources, weight_files.OURS, *released)
        for padding in body.PADDINGS:
            stages = family.plan(1.0, padding).stage_names()
            assert known.choices() == {"model.train_from": stages, "model.style_from": ("", *stages[1:-2])}


@pytest.mark.parametrize("error", [KeyError("planted"), ValueError("planted"), TypeError("planted"), OSError("planted")])
def test_a_planted_bug_is_not_taken_for_a_mistake(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def bug(flat: Any) -> None:
        raise error

    monkeypatch.setattr(validate, "validate", bug)
    with pytest.raises(type(error), match="planted"):
        main.main([f"--config={CONFIGS[0]}", "--config.train.batch_size=16"])
    assert not capsys.readouterr().err


def test_a_planted_bug_ends_the_command_with_a_traceback_and_another_code(tmp_path: pathlib.Path) -> None:
    code = (
        "import sys; from poster_jax import main; from poster_jax.config import validate; "
        "validate.validate = lambda flat: flat['planted']; "
        f"sys.exit(main.main(['--config={CONFIGS[0]}', '--config.train.batch_size=many' if sys.argv[1:] else '--plan']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for arguments, expected in (([], 1), (["mistake"], 2)):
        told = subprocess.run(
            [sys.executable, "-c", code, *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert told.returncode == expected
        assert ("Traceback" in told.stderr) == (expected == 1)
        assert ("planted" in told.stderr) == (expected == 1)
