"""Which config files there are, and every key with its default and comment, for a person who looks for one."""

import ast
import inspect
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from poster_jax import errors
from poster_jax.config import defaults, grid, loading, networks, validate_search

COMMENT = re.compile(r'"(\w+)": .*?#\s*(.*)$')
WITH_DEFAULTS = (defaults, networks, grid, validate_search)


def config_lines() -> list[str]:
    """`name  what it is` of every config file that comes with the project."""
    files = sorted(path for path in loading.config_folder().glob("*.py"))
    width = max(len(path.stem) for path in files) + 2
    return [f"{path.stem:<{width}}{_first_sentence(path)}" for path in files]


def _first_sentence(path: pathlib.Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(text.split("\n\n")[0].split())


def key_lines(words: Sequence[str]) -> list[str]:
    """`key = default  # comment` of every key whose name or comment has all the words, whatever their case.

    Raises UserError where there is none.
    """
    found = []
    comments = _comments()
    for model, section in networks.MODELS.items():
        for key, value in loading.flatten({**defaults.DEFAULTS, "model": section}).items():
            leaf, of_model = key.rpartition(".")[2], key.startswith("model.") and key != "model.name"
            known = comments.get(leaf, {})
            comment = known.get(model, known.get("body", "")) if of_model else known.get(_section(key), "")
            owners = [name for name, other in networks.MODELS.items() if other.get(leaf) == value]
            comment = "; ".join(filter(None, (f"{' and '.join(owners)} only" if of_model else "", comment)))
            line = f"{key} = {_shortened(value)}" + (f"  # {comment}" if comment else "")
            if line not in found and all(word.lower() in line.lower() for word in words):
                found.append(line)
    if not found:
        raise errors.UserError(f"no config key has {' and '.join(words)} in its name or comment: try a shorter word.")
    return found


def _section(key: str) -> str:
    return key.rpartition(".")[0].rpartition(".")[2]


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _comments() -> dict[str, dict[str, str]]:
    """{leaf key: {name of its section: comment}}, read from the source lines of the defaults."""
    found: dict[str, dict[str, str]] = {}
    for module in WITH_DEFAULTS:
        sections = [""]
        for line in inspect.getsource(module).splitlines():
            opened = re.match(r'\s*"?(\w+)"?(?::| =) \{', line)
            if opened:
                name = opened[1].removesuffix("_DEFAULTS").lower()
                sections.append("" if name == "defaults" else name)
            elif line.strip().startswith("}"):
                sections = sections[:-1] or [""]
            elif match := COMMENT.search(line):
                found.setdefault(match[1], {})[sections[-1]] = match[2]
    return found
