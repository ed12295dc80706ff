"""The pages in a real browser: they fit phones and screens, fetch nothing, complain of nothing, can be read and unfold."""

import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from poster_jax.paper import claims
from poster_jax.report import index, page
from poster_jax.report.figures import style
from tests.helpers import chromium
from tests.helpers.made_paper import FACTS

WriteWorkdir = Callable[..., pathlib.Path]
WIDTHS = (390, 800, 1400)
THEMES = ("light", "dark")
ODD = ("ドラマ", "$\\cost{$", "Sci-Fi & <Fantasy>", "_hidden", "Supercalifragilisticexpialidocious" * 3, "A long name " * 9)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 90 30"><rect width="90" height="30" fill="#888"/></svg>'
SPOILED = """<!DOCTYPE html><title>x</title><style>:root { color-scheme: light dark; }</style>
<p style="color: #999; background: #aaa">faint</p><div style="width: 3000px">wide</div>
<details><summary>empty</summary></details><img src="http://127.0.0.1:9/x.png"><script>console.error("broken")</script>"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium.started() as session:
        yield session


def write_reproduction(folder: pathlib.Path, write_workdir: WriteWorkdir) -> pathlib.Path:
    """A reproduction of one experiment, whose claims have every verdict."""
    one = write_workdir(folder / "one_hot")
    config = json.loads((one / "config.json").read_text())
    config["data"] |= {"variant": "kaggle", "dir": "posters"}
    (one / "config.json").write_text(json.dumps(config))
    ledger = claims.build(folder / "none", FACTS)
    ledger[0]["verdict"], ledger[1]["verdict"], ledger[2]["verdict"] = "holds", "does not hold", "cannot be told"
    results = {"title": "the paper, rebuilt", "protocol": "reproduce", "experiments": ["one_hot"], "reductions": []}
    results |= {"withheld": "", "facts": {}, "printed": [], "readings": ["A reading."], "ledger": ledger}
    (folder / "results.json").write_text(json.dumps(results))
    return folder


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, write_workdir: WriteWorkdir) -> dict[str, pathlib.Path]:
    """One run of 40 genres with names that no one expects, three runs side by side, a reproduction, and an index of runs."""
    folder = tmp_path_factory.mktemp("browser")
    genres = (*ODD, *(f"Genre {number}" for number in range(40 - len(ODD))))
    made = {"one": page.write([write_workdir(folder / "forty", genres=genres)], folder / "one.html")[0]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "render", lambda *_, **__: style.Drawn(b"", SVG, SVG))
        runs = folder / "runs"
        three = [write_workdir(runs / name, seeds=seeds) for name, seeds in (("a", (0,)), ("b", (1,)), ("c" * 60, (0, 1)))]
        made["several"] = page.write(three, folder / "several.html")[0]
        page.write(three[:1], runs / "a" / "report.html")
        made["reproduction"] = page.write([write_reproduction(folder / "all", write_workdir)], folder / "all.html")[0]
        made["index"] = index.write(runs)
    return made


@pytest.mark.parametrize("name", ["one", "several", "reproduction", "index"])
def test_a_page_fits_fetches_nothing_complains_of_nothing_and_unfolds(
    name: str, browser: Any, pages: dict[str, pathlib.Path]
) -> None:
    chromium.complaints(browser), chromium.fetched(browser)
    for width in WIDTHS:
        chromium.show(browser, pages[name], width, "light")
        assert chromium.overflow(browser) == []
        assert (chromium.open_all(browser) > 0) == (name != "index")
        assert chromium.overflow(browser) == [], f"with everything open, at {width}"
    assert chromium.complaints(browser) == []
    assert set(chromium.fetched(browser)) == {pages[name].as_uri()}


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", ["one", "several", "reproduction", "index"])
def test_every_text_has_the_contrast_of_aa(name: str, theme: str, browser: Any, pages: dict[str, pathlib.Path]) -> None:
    chromium.show(browser, pages[name], 3 * WIDTHS[-1], theme)
    chromium.open_all(browser)
    low, good = chromium.low_contrast(browser)
    assert low == [] and good > 20
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 28)"}[theme]


def test_a_spoiled_page_is_seen_by_every_check(browser: Any, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "spoiled.html"
    path.write_text(SPOILED)
    chromium.complaints(browser), chromium.fetched(browser)
    chromium.show(browser, path, 390, "light")
    assert chromium.overflow(browser)[0] == "the page"
    assert any("broken" in text for text in chromium.complaints(browser))
    assert "http://127.0.0.1:9/x.png" in chromium.fetched(browser)
    low, _ = chromium.low_contrast(browser)
    assert len(low) == 1 and "faint" in low[0]
    with pytest.raises(Exception, match="does not open"):
        chromium.open_all(browser)


def test_forty_genres_take_three_screens_and_what_scrolls_says_so(browser: Any, pages: dict[str, pathlib.Path]) -> None:
    chromium.show(browser, pages["one"], 1400, "light")
    height = browser.execute_script("return document.querySelector('.dots').getBoundingClientRect().height")
    assert 40 * 16 < height < 3 * chromium.HEIGHT
    chromium.show(browser, pages["one"], 800, "light")
    cut = browser.execute_script(
        """
        const names = [...document.querySelectorAll(".dots thead .name")];
        return names.filter(name => name.scrollHeight > name.clientHeight + 1).length;
        """
    )
    assert cut == 0, "a header is broken within a word"
    chromium.show(browser, pages["one"], 390, "light")
    chromium.open_all(browser)
    found = browser.execute_script(
        """
        const wide = [...document.querySelectorAll(".wide")].filter(box => box.scrollWidth > box.clientWidth);
        wide.forEach(box => box.scrollLeft = 200);
        return wide.map(box => [getComputedStyle(box).backgroundImage.split("gradient").length - 1, box.tabIndex,
          box.querySelector("tbody th") ? box.querySelector("tbody th").getBoundingClientRect().left : 0]);
        """
    )
    assert len(found) > 2
    for gradients, tab, left in found:
        assert gradients == 4 and tab == 0 and abs(left) < 30, "the first column stays"


def test_figures_follow_the_theme(browser: Any, pages: dict[str, pathlib.Path]) -> None:
    shown = "return [...document.querySelectorAll('figure img')].filter(each => getComputedStyle(each).display !== 'none')"
    for theme in THEMES:
        chromium.show(browser, pages["one"], 1400, theme)
        kinds = {image.get_attribute("class") for image in browser.execute_script(shown)}
        assert kinds == {theme}


def test_the_index_sorts_by_a_click(browser: Any, pages: dict[str, pathlib.Path]) -> None:
    chromium.show(browser, pages["index"], 1400, "light")
    values = "return [...document.querySelectorAll('tbody tr')].map(row => row.children[arguments[0]].dataset.key)"
    click = "document.querySelectorAll('thead button')[arguments[0]].click()"
    column = index.HEADER.index("mAP")
    before = [float(value) for value in browser.execute_script(values, column)]
    browser.execute_script(click, column)
    assert [float(value) for value in browser.execute_script(values, column)] == sorted(before)
    browser.execute_script(click, column)
    assert [float(value) for value in browser.execute_script(values, column)] == sorted(before, reverse=True)
    sorted_by = browser.execute_script("return [...document.querySelectorAll('th')].map(each => each.ariaSort)")
    assert sorted_by[column] == "descending" and sum(value is not None for value in sorted_by) == 1
