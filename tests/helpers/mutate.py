"""`python -m tests.helpers.mutate [--seed=1] [--num=40] [--rooms=metrics,config] [--files=8] [--timeout=300]`: broken lines.

Draws lines of the package by the seed, each line as likely as any other, and breaks each by one of six operators, in a copy of
the tree in a temporary folder. Then tests run: the file that mirrors the module, then those that import it, nearest first, till
one fails or `--files` files or `--timeout` seconds are used up. A file that fails or takes long without the broken line as well
notices nothing. The last line is `mutate: N of M noticed`. Text, annotations, messages and `__main__` guards are left alone.
"""

import argparse
import ast
import collections
import dataclasses
import functools
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

ROOT = pathlib.Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", "runs", "build", "__pycache__", "*.egg-info", ".*_cache")
COMPARISONS = {ast.Lt: (ast.GtE, ast.LtE), ast.LtE: (ast.Gt, ast.Lt), ast.Gt: (ast.LtE, ast.GtE), ast.GtE: (ast.Lt, ast.Gt)}
COMPARISONS |= {ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,)}
COMPARISONS |= {ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,)}
ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult}
ARITHMETIC |= {ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult}
Edit = tuple[ast.AST, str]  # the node that goes, and the text that comes


def comparison(node: ast.AST) -> Iterator[Edit]:
    """`a < b` -> `a >= b`, its opposite, or `a <= b`, its neighbour; `a == b` -> `a != b`; `in` and `is` likewise."""
    if isinstance(node, ast.Compare):
        for other in COMPARISONS[type(node.ops[0])]:
            yield node, f"({ast.unparse(ast.Compare(node.left, [other(), *node.ops[1:]], node.comparators))})"


def arithmetic(node: ast.AST) -> Iterator[Edit]:
    """`a + b` -> `a - b`, `a * b` -> `a / b` and back; `//` and `**` -> `*`, `%` -> `//`; `a += b` likewise."""
    other = ARITHMETIC.get(type(getattr(node, "op", None)))
    if other and isinstance(node, ast.BinOp):
        yield node, f"({ast.unparse(ast.BinOp(node.left, other(), node.right))})"
    elif other and isinstance(node, ast.AugAssign):
        yield node, ast.unparse(ast.AugAssign(node.target, other(), node.value))


def number(node: ast.AST) -> Iterator[Edit]:
    """`3` -> `4`."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield node, repr(node.value + 1)


def truth(node: ast.AST) -> Iterator[Edit]:
    """`True` -> `False`, `not a` -> `a`, `a and b` -> `a or b` and back, `if a` -> `if not a`."""
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield node, repr(not node.value)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node, f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.BoolOp):
        yield node, f"({ast.unparse(ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values))})"
    elif isinstance(node, ast.If | ast.While | ast.IfExp):
        yield node.test, f"(not ({ast.unparse(node.test)}))"


def argument(node: ast.AST) -> Iterator[Edit]:
    """`f(a, b, c=d)` -> `f(b, a, c=d)` or `f(a, b)`."""
    if isinstance(node, ast.Call):
        for keyword in node.keywords:
            yield node, ast.unparse(ast.Call(node.func, node.args, [other for other in node.keywords if other is not keyword]))
        first, rest = node.args[:2], node.args[2:]
        if len({ast.dump(arg) for arg in first if not isinstance(arg, ast.Starred)}) == 2:
            yield node, ast.unparse(ast.Call(node.func, [*reversed(first), *rest], node.keywords))


def removal(node: ast.AST) -> Iterator[Edit]:
    """`return a` -> `return None`, `a = b` -> `a = None`; a call, `a += b`, `raise`, `break` or `continue` alone -> `pass`."""
    if isinstance(node, ast.Return | ast.Assign | ast.AnnAssign) and node.value and ast.unparse(node.value) != "None":
        targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
        kept = "return " if isinstance(node, ast.Return) else "".join(f"{ast.unparse(target)} = " for target in targets)
        yield node, f"{kept}None"
    alone = isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
    if alone or isinstance(node, ast.AugAssign | ast.Raise | ast.Break | ast.Continue):
        yield node, "pass"


OPERATORS = {operator.__name__: operator for operator in (comparison, arithmetic, number, truth, argument, removal)}


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One edit of one file: `source[start:end]`, in bytes, becomes `after`. `path` is relative to the root of the tree."""

    path: str
    line: int
    operator: str
    start: int
    end: int
    before: str
    after: str

    def __str__(self) -> str:
        before, after = (text if len(text) < 80 else f"{text[:77]}..." for text in (self.before, self.after))
        return f"{self.path}:{self.line} {self.operator}: {before} -> {after}"


def reachable(node: ast.AST) -> Iterator[ast.AST]:
    """A node and those below it, without annotations and type aliases, text, messages of exceptions and `__main__` guards."""
    alias = isinstance(node, ast.Assign) and re.fullmatch(r"[A-Z]\w*[a-z]\w*", ast.unparse(node.targets[0]))
    guard = isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)
    if alias or guard or isinstance(node, ast.JoinedStr | ast.arg):
        return
    yield node
    for child in () if isinstance(node, ast.Raise) else ast.iter_child_nodes(node):
        if child not in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            yield from reachable(child)


@functools.cache
def find_mutants(path: str, source: bytes) -> list[Mutant]:
    """Everything that the operators can do to a file."""
    lengths = [len(line) for line in source.splitlines(keepends=True)]
    starts = [sum(lengths[:index]) for index in range(len(lengths))]
    found = []
    for node in reachable(ast.parse(source)):
        for name, operator in OPERATORS.items():
            for old, after in operator(node):
                start, end = starts[old.lineno - 1] + old.col_offset, starts[old.end_lineno - 1] + old.end_col_offset
                before = " ".join(source[start:end].decode().split())
                found.append(Mutant(path, old.lineno, name, start, end, before, after))
    return found


def draw(root: pathlib.Path, seed: int, num: int, rooms: Sequence[str] = ()) -> list[Mutant]:
    """`num` lines of the package below `root`, or of some of its rooms, and one edit of each by an operator that fits."""
    lines = collections.defaultdict(list)
    for file in sorted((root / "poster_jax").rglob("*.py")):
        path = file.relative_to(root)
        if not rooms or path.parts[1].removesuffix(".py") in rooms:
            for mutant in find_mutants(path.as_posix(), file.read_bytes()):
                lines[mutant.path, mutant.line].append(mutant)
    rng, drawn = random.Random(seed), []
    for line in rng.sample(sorted(lines), min(num, len(lines))):
        operator = rng.choice(sorted({mutant.operator for mutant in lines[line]}))
        drawn.append(rng.choice([mutant for mutant in lines[line] if mutant.operator == operator]))
    return drawn


@functools.cache
def find_importers(root: pathlib.Path) -> dict[str, set[str]]:
    """{file: the files of package and tests that import it}; every file is there, by its path from the root."""
    files = {p.relative_to(root).as_posix(): p for folder in ("poster_jax", "tests") for p in (root / folder).rglob("*.py")}
    names = {file.removesuffix(".py").removesuffix("/__init__").replace("/", "."): file for file in files}
    importers: dict[str, set[str]] = {file: set() for file in files}
    for file, full in files.items():
        for node in ast.walk(ast.parse(full.read_bytes())):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                imported = [n if (n := f"{node.module}.{alias.name}") in names else str(node.module) for alias in node.names]
            for name in names.keys() & set(imported):
                importers[names[name]].add(file)
    return importers


def find_tests(root: pathlib.Path, path: str) -> list[str]:
    """Test files for a module: the one that mirrors it, then the nearest by imports, its own room first, the bench's last."""
    importers, distance, waiting = find_importers(root), {path: 0}, collections.deque([path])
    while waiting:
        for file in importers[near := waiting.popleft()] - distance.keys():
            distance[file] = distance[near] + 1
            waiting.append(file)
    inside = pathlib.PurePosixPath(path).relative_to("poster_jax")
    stem = inside.parent.name if inside.stem.startswith("__") else inside.stem
    mirror, room = f"tests/{(inside.parent / f'test_{stem}.py').as_posix()}", f"tests/{inside.parts[0]}/"
    tests = {file for file in (*distance, mirror) if file in importers and "/test_" in file}
    return sorted(tests, key=lambda f: (f != mirror, distance.get(f), not f.startswith(room), "/bench/" in f, f))


class Copy:
    """A copy of a tree in a temporary folder, in which one line at a time is broken and mended."""

    def __init__(self, root: pathlib.Path, folder: pathlib.Path) -> None:
        self.root = folder / "tree"
        shutil.copytree(root, self.root, ignore=LEFT_OUT)
        if (root.parent / "shared").is_dir():
            (folder / "shared").symlink_to(root.parent / "shared")
        # Compiled files are taken for fresh when a mutant has the size and the second of the one before.
        self.environment = {**os.environ, "PYTHONPATH": str(self.root), "PYTHONDONTWRITEBYTECODE": "1"}
        self.environment |= {"HOME": str(folder), "TMPDIR": str(folder)}  # what a broken line may write to
        self.whole = functools.cache(self.run)

    def run(self, test: str, seconds: float) -> tuple[str, float]:
        """The first test of a file that fails, "" where none does or "no end" where time is up; and the seconds taken."""
        command = [sys.executable, "-m", "pytest", "-xq", "-p", "no:cacheprovider", test]
        began = time.monotonic()
        with tempfile.TemporaryFile("w+", dir=self.root.parent) as said:
            process = subprocess.Popen(command, cwd=self.root, env=self.environment, stdout=said, stderr=said, process_group=0)
            try:
                code = process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                return "no end", time.monotonic() - began
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            said.seek(0)
            failed = re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", said.read(), re.MULTILINE)
        return ("" if code in (0, 5) else (failed or [test])[0]), time.monotonic() - began

    def judge(self, mutant: Mutant, tests: Sequence[str], seconds: float) -> str:
        """The test that notices a mutant, or "" after all of them or when time is up."""
        file = self.root / mutant.path
        source, ends = file.read_bytes(), time.monotonic() + seconds
        for test in tests:
            file.write_bytes(source[: mutant.start] + mutant.after.encode() + source[mutant.end :])
            failed, taken = self.run(test, max(ends - time.monotonic(), 1))
            file.write_bytes(source)
            if failed:
                failed_whole, taken_whole = self.whole(test, seconds)
                if not failed_whole and (failed != "no end" or taken > 3 * taken_whole):
                    return failed if failed != "no end" else f"{test} (has no end)"
            if time.monotonic() > ends:
                break
        return ""


def main(argv: Sequence[str] | None = None, root: pathlib.Path = ROOT) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.helpers.mutate")
    for name, default in (("seed", 1), ("num", 40), ("files", 8), ("timeout", 300), ("rooms", "")):
        parser.add_argument(f"--{name}", type=type(default), default=default)
    args = parser.parse_args(argv)
    mutants = draw(root, args.seed, args.num, args.rooms.split(",") if args.rooms else ())
    noticed = 0
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        copy = Copy(root, pathlib.Path(folder))
        for mutant in mutants:
            test = copy.judge(mutant, find_tests(root, mutant.path)[: args.files], args.timeout)
            noticed += bool(test)
            print(f"{mutant}: {test or 'UNSEEN'}", flush=True)
    print(f"mutate: {noticed} of {len(mutants)} noticed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
