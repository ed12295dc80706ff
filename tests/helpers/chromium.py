"""A real browser for the tests of pages: what it fetches, what it complains of, and how a page fits its window."""

import json
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

HEIGHT = 900
# axe-core judges neither text on a gradient, as the cue of a scrolling box is, nor text that is scrolled or clamped away.
UNFOLDED = """.wide, .name, .clamp { background: none !important; overflow: visible !important; display: block !important; }
tr > :first-child { position: static !important; } body { max-width: none !important; }"""
NAMES = (("chromium", "chromium-browser", "google-chrome"), ("chromedriver",))


@contextmanager
def started() -> Iterator[Any]:
    """A headless Chromium; a test that asks for it skips where there is none, which CI does not allow."""
    browser, driver = (next(filter(None, map(shutil.which, names)), None) for names in NAMES)
    if browser is None or driver is None:
        pytest.skip("needs chromium and its chromedriver")
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    # Root may not use its sandbox, and containers have little of the shared memory that it would take.
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    session = webdriver.Chrome(options=options, service=Service(driver))
    session.set_script_timeout(120)
    try:
        yield session
    finally:
        session.quit()


def show(session: Any, page: pathlib.Path | str, width: int, theme: str) -> None:
    """Loads a file or an address in a window of this width, for a reader who likes "light" or "dark"."""
    size = {"width": width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
    session.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    session.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    session.get(page if isinstance(page, str) else page.resolve().as_uri())


def open_all(session: Any) -> int:
    """Opens everything that is folded, as a click on its line does, outer ones first; returns how many there are.

    Raises AssertionError for one that does not open or shows nothing.
    """
    return session.execute_script(
        """
        const all = [...document.querySelectorAll("details")];
        for (const each of all) {
          const height = () => each.getBoundingClientRect().height, folded = height();
          each.querySelector(":scope > summary").click();
          if (!each.open || height() <= folded) throw "does not open: " + each.textContent.slice(0, 80);
        }
        return all.length;
        """
    )


def overflow(session: Any) -> list[str]:
    """The elements that reach beyond the window and lie in no box that scrolls; none where the page fits."""
    return session.execute_script(
        """
        const wide = document.documentElement.scrollWidth > window.innerWidth ? ["the page"] : [];
        const boxed = each => each.closest(".wide, .sheet, .track") !== null;
        for (const each of document.body.querySelectorAll("*"))
          if (each.getBoundingClientRect().right > window.innerWidth + 1 && !boxed(each))
            wide.push(each.outerHTML.slice(0, 120));
        return wide;
        """
    )


def complaints(session: Any) -> list[str]:
    """What the console got since the last call."""
    return [line["message"] for line in session.get_log("browser")]


def fetched(session: Any) -> list[str]:
    """The addresses that were asked for since the last call, without what the page holds itself."""
    events = [json.loads(line["message"])["message"] for line in session.get_log("performance")]
    urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [url for url in urls if not url.startswith("data:")]


def low_contrast(session: Any) -> tuple[list[str], int]:
    """(texts whose contrast is below WCAG's AA, or unknown to axe-core; how many texts are above it)."""
    axe = pytest.importorskip("axe_selenium_python").Axe(session)
    axe.inject()
    script = "document.head.append(Object.assign(document.createElement('style'), {textContent: arguments[0]}))"
    session.execute_script(script, UNFOLDED)
    found = axe.run(options={"runOnly": ["color-contrast"]})
    return [*_texts(found["violations"]), *_texts(found["incomplete"])], len(_texts(found["passes"]))


def _texts(rules: Sequence[dict[str, Any]]) -> list[str]:
    return [f"{node['html'][:100]}: {node['any'][0]['message']}" for rule in rules for node in rule["nodes"]]
