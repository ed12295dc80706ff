"""One parser and one way to answer a mistake, for every command; what importing the package loads."""

import importlib
import pathlib
import subprocess
import sys

import pytest

from poster_jax import cli, errors

ROOT = pathlib.Path(__file__).resolve().parents[1]
COMMANDS = "main compare predict export.__main__ report.__main__ models.convert data.download.__main__ bench.__main__".split()
COMMANDS += "bench.scaling bench.keras_finetune bench.keras_heads bench.keras_search".split()


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_a_mistake_is_one_sentence_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(argv: list[str]) -> int:
        raise errors.UserError(f"{argv[0]} is wrong: give another.")

    assert cli.run_command(refuse, ["this"]) == cli.EXIT_MISTAKE == 2
    assert capsys.readouterr() == ("", "poster_jax: this is wrong: give another.\n")
    assert cli.run_command(len, ["two", "arguments", "more"]) == 3


def test_a_bug_keeps_its_traceback() -> None:
    def bug(argv: list[str]) -> int:
        raise KeyError("missing")

    with pytest.raises(KeyError, match="missing"):
        cli.run_command(bug, [])


def test_the_process_has_the_arguments_where_none_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["command", "a", "b"])
    assert cli.run_command(lambda argv: {"a b": 7}[" ".join(argv)], None) == 7


def test_options_are_not_abbreviated() -> None:
    parser = cli.Parser("python -m poster_jax.x", "What it does.")
    parser.add_argument("--samples", type=int)
    with pytest.raises(errors.UserError, match=r"^unrecognized arguments: --sam=3; see python -m poster_jax.x --help\.$"):
        parser.parse_args(["--sam=3"])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_answers_a_wrong_argument_alike(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = importlib.import_module(f"poster_jax.{name}")
    # A value for a flag that has none: argparse refuses it before it asks for what is missing.
    assert command.main(["--help=3"]) == cli.EXIT_MISTAKE
    said = capsys.readouterr().err
    public = name.removesuffix(".__main__")
    assert said.startswith("poster_jax: ") and said.endswith(f"; see python -m poster_jax.{public} --help.\n")
    assert said.count("\n") == 1


def test_convert_starts_without_a_warning() -> None:
    asked = python("-W", "error", "-m", "poster_jax.models.convert", "--help")
    assert asked.returncode == 0 and not asked.stderr
    assert "FILE" in asked.stdout


def test_the_package_itself_loads_nothing_heavy() -> None:
    heavy = {"jax", "jaxlib", "flax", "numpy", "scipy", "sklearn", "tensorflow", "matplotlib", "ml_collections"}
    asked = python("-c", f"import sys, poster_jax; print(sorted({heavy} & set(sys.modules)))")
    assert asked.stdout == "[]\n", asked.stderr
