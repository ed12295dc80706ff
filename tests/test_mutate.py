"""The mutation script on a toy package: what is noticed, what is not, what is left alone, and the draw."""

import ast
import pathlib

import pytest

from tests.helpers import mutate

TOY = "SEEN = 2 + 3\nUNSEEN = 4 + 5\n"
TEST = "from poster_jax.room import toy\n\n\ndef test_it() -> None:\n    assert toy.SEEN == 5\n"


@pytest.fixture
def toy(tmp_path: pathlib.Path) -> pathlib.Path:
    """A checkout whose package has two lines, one of them tested."""
    files = {"poster_jax/room/toy.py": TOY, "tests/room/test_toy.py": TEST, "pyproject.toml": "[tool.pytest.ini_options]\n"}
    for name, text in files.items():
        path = tmp_path / "checkout" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "checkout"


def test_a_noticed_and_an_unnoticed_line_are_told_apart(toy: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mutate.main(["--num=2", "--timeout=60"], toy) == 0
    *lines, total = capsys.readouterr().out.splitlines()
    assert {line.split(" ")[0]: line.split(": ")[-1] for line in lines} == {
        "poster_jax/room/toy.py:1": "tests/room/test_toy.py::test_it",
        "poster_jax/room/toy.py:2": "UNSEEN",
    }
    assert total == "mutate: 1 of 2 noticed"
    assert (toy / "poster_jax/room/toy.py").read_text() == TOY


def test_a_test_that_fails_or_takes_long_by_itself_notices_nothing(toy: pathlib.Path) -> None:
    [mutant] = [m for m in mutate.draw(toy, 0, 2) if m.line == 1]
    copy, test = mutate.Copy(toy, toy.parent), "tests/room/test_toy.py"
    for broken, whole, noticed in [
        (("a test", 1.0), ("", 1.0), "a test"),
        (("a test", 1.0), ("a test", 1.0), ""),
        (("no end", 9.0), ("", 1.0), f"{test} (has no end)"),
        (("no end", 9.0), ("", 8.0), ""),
        (("no end", 9.0), ("no end", 9.0), ""),
        (("", 1.0), ("", 1.0), ""),
    ]:
        copy.run, copy.whole = (lambda *_, broken=broken: broken), (lambda *_, whole=whole: whole)
        assert copy.judge(mutant, [test], 60) == noticed


def test_a_run_that_takes_too_long_is_ended(toy: pathlib.Path) -> None:
    (toy / "tests/room/test_toy.py").write_text("import time\n\ntime.sleep(60)\n")
    failed, taken = mutate.Copy(toy, toy.parent).run("tests/room/test_toy.py", 1)
    assert failed == "no end" and taken < 30


@pytest.mark.parametrize(
    ("source", "operator", "afters"),
    [
        ("a < b", "comparison", {"(a >= b)", "(a <= b)"}),
        ("a is not b", "comparison", {"(a is b)"}),
        ("a + b", "arithmetic", {"(a - b)"}),
        ("a *= b", "arithmetic", {"a /= b"}),
        ("é + 3", "number", {"4"}),
        ("f(True)", "truth", {"False"}),
        ("a and not b", "truth", {"(a or not b)", "(b)"}),
        ("if a:\n    b", "truth", {"(not (a))"}),
        ("f(a, b, c=d)", "argument", {"f(b, a, c=d)", "f(a, b)"}),
        ("f(a, a)\nf(*a, b)\nf(a)", "argument", set()),
        ("def f():\n    return a", "removal", {"return None"}),
        ("a: int = b", "removal", {"a = None"}),
        ("raise A(3 + 4, x)", "removal", {"pass"}),
    ],
)
def test_every_operator(source: str, operator: str, afters: set[str]) -> None:
    found = mutate.find_mutants("a.py", source.encode())
    assert {mutant.after for mutant in found if mutant.operator == operator} == afters


@pytest.mark.parametrize(
    "source",
    [
        '"""A docstring of 3 > 2."""',
        "def f(a: Literal[3]) -> Literal[4]: ...",
        "a: Literal[5]",
        "Batch = dict[str, int]",
        'if __name__ == "__main__":\n    sys.exit(main(a, b))',
        "import a",
    ],
)
def test_what_is_left_as_it_is(source: str) -> None:
    assert not mutate.find_mutants("a.py", source.encode())


def test_messages_of_exceptions_are_left_as_they_are() -> None:
    found = mutate.find_mutants("a.py", b'raise A(f"{x + 3} of {not y}", 4)')
    assert [mutant.after for mutant in found] == ["pass"]


def test_the_draw_is_a_function_of_the_seed_over_all_rooms_and_can_be_compiled() -> None:
    drawn = mutate.draw(mutate.ROOT, 1, 200)
    assert drawn == mutate.draw(mutate.ROOT, 1, 200) != mutate.draw(mutate.ROOT, 2, 200)
    assert len({(mutant.path, mutant.line) for mutant in drawn}) == 200
    assert {mutant.operator for mutant in drawn} == set(mutate.OPERATORS)
    assert len({mutant.path.split("/")[1] for mutant in drawn}) > 10
    for mutant in drawn[:50]:
        source = (mutate.ROOT / mutant.path).read_bytes()
        broken = source[: mutant.start] + mutant.after.encode() + source[mutant.end :]
        assert ast.dump(ast.parse(broken)) != ast.dump(ast.parse(source)), mutant


def test_tests_come_mirrored_first_then_nearest() -> None:
    found = mutate.find_tests(mutate.ROOT, "poster_jax/metrics/floors.py")
    assert found[0] == "tests/metrics/test_floors.py"
    assert found.index("tests/metrics/test_scoring.py") < found.index("tests/export/test_export.py")
    assert mutate.find_tests(mutate.ROOT, "poster_jax/export/__main__.py")[0] == "tests/export/test_export.py"
