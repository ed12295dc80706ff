"""Every package that is imported is declared in pyproject.toml, and what the tests need has a pinned version."""

import ast
import pathlib
import re
import sys
import tomllib
from collections.abc import Mapping

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Imports whose distribution has another name. TensorFlow is declared under both of its names.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "absl": "absl-py",
    "ai_edge_litert": "ai-edge-litert",
    "axe_selenium_python": "axe-selenium-python",
    "gcp_storage_emulator": "gcp-storage-emulator",
    "ml_collections": "ml-collections",
    "orbax": "orbax-checkpoint",
    "sklearn": "scikit-learn",
    "tensorflow_datasets": "tensorflow-datasets",
    "yaml": "pyyaml",
}
# jax2onnx asks for an orbax older than ours: launch/install.sh adds it with --no-deps, which no extra can say.
UNDECLARED = {"jax2onnx"}
OURS = {"poster_jax", "configs", "tests", "launcher"}


def declared_name(requirement: str) -> str:
    """The name in "etils[epath]>=1; python_version > '3.11'", with one spelling for -, _ and capitals."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()  # type: ignore[index]


def imports(source: str) -> tuple[set[str], set[str]]:
    """First names of the foreign modules that a file imports: as soon as it is loaded, and later or if they are there."""
    tree = ast.parse(source)
    at_once = {id(node) for node in tree.body}
    found: tuple[set[str], set[str]] = (set(), set())
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        if (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) == "pytest.importorskip"
            and isinstance(node.args[0], ast.Constant)
        ):
            names = [str(node.args[0].value)]
        found[id(node) not in at_once].update(name.split(".")[0] for name in names)
    foreign = sys.stdlib_module_names | OURS
    return found[0] - foreign, found[1] - foreign


def missing(files: Mapping[str, str], plain: set[str], extra: set[str]) -> list[str]:
    """Imports in {path: source} that are not declared: extras are for what is imported inside functions, and for tests."""
    found = []
    for path, source in files.items():
        at_once, later = imports(source)
        enough = plain | extra if path.startswith("tests/") else plain
        for names, allowed in ((at_once, enough), (later - UNDECLARED, plain | extra)):
            wanted = {name: DISTRIBUTIONS.get(name, declared_name(name)) for name in names}
            found += [f"{path}: {name}" for name in sorted(names) if wanted[name] not in allowed]
    return found


def sources() -> dict[str, str]:
    paths = (path for folder in ("poster_jax", "configs", "tests") for path in (ROOT / folder).rglob("*.py"))
    return {str(path.relative_to(ROOT)): path.read_text() for path in paths}


PLAIN = {declared_name(requirement) for requirement in PROJECT["dependencies"]}
EXTRA = {declared_name(requirement) for extra in PROJECT["optional-dependencies"].values() for requirement in extra}


def test_what_is_imported_is_declared() -> None:
    assert not missing(sources(), PLAIN, EXTRA)


@pytest.mark.parametrize(
    ("path", "source", "found"),
    [
        ("poster_jax/a.py", "import seaborn.objects", ["poster_jax/a.py: seaborn"]),
        ("poster_jax/a.py", "def f():\n    from seaborn import objects", ["poster_jax/a.py: seaborn"]),
        ("poster_jax/a.py", "import h5py", ["poster_jax/a.py: h5py"]),
        ("tests/test_a.py", "pytest.importorskip('seaborn')", ["tests/test_a.py: seaborn"]),
        ("poster_jax/a.py", "import json\nimport numpy\nfrom PIL import Image\ndef f():\n    import h5py", []),
        ("tests/test_a.py", "import yaml\nfrom tests.helpers import staged", []),
    ],
)
def test_an_import_that_is_not_declared_is_seen(path: str, source: str, found: list[str]) -> None:
    assert missing({path: source}, PLAIN, EXTRA) == found


def test_an_import_is_seen_when_its_declaration_goes() -> None:
    assert {line.split(": ")[1] for line in missing(sources(), PLAIN - {"scipy"}, EXTRA)} == {"scipy"}


def test_what_is_declared_has_a_pin() -> None:
    lines = (ROOT / "launch" / "constraints.txt").read_text().splitlines()
    pinned = {declared_name(line) for line in lines if line and not line.startswith("#")}
    needed = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"], *PROJECT["optional-dependencies"]["onnx"]]
    assert {declared_name(requirement) for requirement in needed} <= pinned
    assert "scipy" in pinned and "seaborn" not in pinned
