"""What the pages point to exists: files that are linked or named, headings, modules of commands."""

import pathlib
import re
import urllib.parse

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
COMMAND = re.compile(r"python -m ((?:poster_jax|tests)(?:\.\w+)*)")
ROOTED = re.compile(r"(?<![\w/.])(?:poster_jax|configs|tests|launch)/[\w/]+\.\w+")
NAMED = re.compile(r"`([\w/]+\.py)(?::\w+)?`")
MADE = re.compile(r"^```python\n# ([\w/]+\.py)$", re.MULTILINE)
FENCED = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)


def anchors(page: str) -> set[str]:
    """What a link may have behind its #, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_link(path: pathlib.Path, target: str) -> bool:
    """Whether a relative link of a page leads nowhere; addresses of other hosts are not looked at."""
    place, _, heading = urllib.parse.unquote(target).partition("#")
    if re.match(r"\w+:", target):
        return False
    led = (path.parent / place) if place else path
    return not led.exists() or bool(heading) and heading not in anchors(led.read_text())


def has_module(root: pathlib.Path, name: str) -> bool:
    """Whether `python -m name` finds something to run."""
    path = root.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


def faults(root: pathlib.Path, path: pathlib.Path) -> list[str]:
    """What a page names and the tree has not. A lone `room/file.py` counts from the root, the package or the page's folder.

    A file whose code is in a block of the page is one that the reader makes.
    """
    page = path.read_text()
    found = [f"links to {target}" for target in LINK.findall(FENCED.sub("", page)) if broken_link(path, target)]
    found += [f"runs {name}" for name in COMMAND.findall(page) if not has_module(root, name)]
    made = MADE.findall(page)
    found += [f"names {name}" for name in ROOTED.findall(page) if not (root / name).exists() and name not in made]
    places = (root, root / "poster_jax", path.parent)
    named = NAMED.findall(FENCED.sub("", page))
    return found + [f"names {name}" for name in named if not any((place / name).is_file() for place in places)]


def pages() -> list[pathlib.Path]:
    """Every page of the tree, outside of environments and of what runs left."""
    skipped = {"runs", "build", "node_modules"}
    # A bundle that a test keeps has a page of its own.
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*.md") if path.relative_to(ROOT).parts[0] != "tests")
    return sorted(path for path in found if not any(part in skipped or part.startswith(".") for part in path.parts))


@pytest.mark.parametrize("page", pages(), ids=str)
def test_all_that_a_page_points_to_exists(page: pathlib.Path) -> None:
    assert not faults(ROOT, ROOT / page)


def test_the_first_page_leads_to_every_other() -> None:
    linked = LINK.findall((ROOT / "README.md").read_text())
    assert {target.partition("#")[0] for target in linked} >= {str(page) for page in pages()} - {"README.md"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[a](poster_jax/train/lop.py)", "links to poster_jax/train/lop.py"),
        ("[a](README.md#nothing)", "links to README.md#nothing"),
        ("[a](#nothing)", "links to #nothing"),
        ("`poster_jax/loop.py`", "names poster_jax/loop.py"),
        ("`train/step.py`", "names train/step.py"),
        ("```\nrun --config=configs/none.py:smoke\n```", "names configs/none.py"),
        ("`python -m poster_jax.reprt runs/a`", "runs poster_jax.reprt"),
        ("`python -m poster_jax.data`", "runs poster_jax.data"),
    ],
)
def test_what_is_not_there_is_seen(tmp_path: pathlib.Path, text: str, says: str) -> None:
    for name in ("poster_jax/train/loop.py", "poster_jax/report/__main__.py", "poster_jax/data/sampler.py", "configs/cnn.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    page = tmp_path / "README.md"
    right = "# A page\n[a](poster_jax/train/loop.py) [b](#a-page) [c](https://example.org/x) `train/loop.py`\n"
    right += "```python\n# configs/own.py\n```\n```\nrun --config=configs/own.py:smoke\n```\n"
    right += "`configs/cnn.py:smoke` `python -m poster_jax.report` `python -m poster_jax.train.loop` `models/<name>.py`\n"
    page.write_text(right)
    assert not faults(tmp_path, page)
    page.write_text(right + text)
    assert says in faults(tmp_path, page)
