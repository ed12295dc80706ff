"""The demo's page: bars and maps of a poster, for its own page alone, and a sentence for what it cannot read."""

import base64
import http.client
import io
import json
import pathlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from poster_jax import demo, predict
from poster_jax.data import synthetic
from tests.helpers import chromium
from tests.helpers.made_run import GENRES, cnn_config, make_workdir

NOISE = np.random.default_rng(5).integers(0, 256, (90, 60, 3), np.uint8)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return make_workdir(tmp_path_factory.mktemp("demo") / "run", cnn_config())


@pytest.fixture(scope="module")
def port(workdir: pathlib.Path) -> Iterator[int]:
    with demo.make_server(demo.load(str(workdir)), 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def ask(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, str]:
    """(status, text) of a request with the header Host of the page itself unless another is given."""
    connection = http.client.HTTPConnection(demo.HOST, port, timeout=60)
    connection.putrequest(method, path, skip_host=True)
    for name, value in ({"Host": f"{demo.HOST}:{port}", "Content-Length": str(len(body))} | headers).items():
        connection.putheader(name, value)
    connection.endheaders(body)
    with connection.getresponse() as reply:
        return reply.status, reply.read().decode()


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def test_a_poster_gets_the_probabilities_of_predict_with_base_rates_and_maps(port: int, workdir: pathlib.Path) -> None:
    status, text = ask(port, "POST", "/predict", encoded(NOISE))
    assert status == 200
    found = json.loads(text)["genres"]
    (workdir.parent / "poster.png").write_bytes(encoded(NOISE))
    answer = predict.load_network(workdir).predict(workdir.parent / "poster.png")
    wanted = dict(zip(answer.labels, answer.probabilities.tolist(), strict=True))
    assert {one["genre"]: pytest.approx(one["probability"], abs=1e-5) for one in found} == wanted
    assert [one["probability"] for one in found] == sorted(wanted.values(), reverse=True)
    assert {one["genre"] for one in found if one["decided"]} == set(answer.decision)
    per_genre = json.loads((workdir / "results.json").read_text())["splits"]["test"]["per_genre"]
    assert {one["genre"]: one["rate"] for one in found} == {genre: per_genre[genre]["count"] / 60 for genre in GENRES}
    maps = [np.asarray(Image.open(io.BytesIO(base64.b64decode(one["map"].partition(",")[2])))) for one in found]
    assert all(each.shape == (40, 32, 3) for each in maps) and len({each.tobytes() for each in maps}) == len(GENRES)


def test_the_page_is_whole_and_names_its_network(port: int) -> None:
    status, page = ask(port, "GET", "/")
    assert status == 200 and "trained on" in page and "test rows." in page and "ABOUT" not in page
    assert "http" not in page  # nothing is asked of another machine
    assert ask(port, "GET", "/other")[0] == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example:80"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Content-Length": "10000001"}, 413),
        ({"Content-Length": "0"}, 413),
        ({"Content-Length": "many"}, 400),
    ],
)
def test_what_is_not_of_its_page_is_refused(port: int, headers: dict[str, str], status: int) -> None:
    assert ask(port, "POST", "/predict", **headers)[0] == status
    for ours in (f"http://localhost:{port}", f"http://{demo.HOST}:{port}"):
        assert ask(port, "POST", "/predict", encoded(NOISE), Origin=ours)[0] == 200


@pytest.mark.parametrize("body", [b"no picture", encoded(NOISE)[:600], b"<html></html>", encoded(NOISE[:4, :4])])
def test_a_bad_picture_is_one_sentence_and_the_next_one_is_answered(port: int, body: bytes) -> None:
    status, text = ask(port, "POST", "/predict", body)
    assert status == 400 and json.loads(text)["error"].startswith("this cannot be read: ")
    assert ask(port, "POST", "/predict", encoded(NOISE, "JPEG"))[0] == 200


def test_mistakes_are_one_sentence(port: int, workdir: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, says in (
        ([str(workdir), f"--port={port}"], f"port {port} of 127.0.0.1 cannot be opened"),
        ([str(workdir), "--port=99999"], "port 99999 of 127.0.0.1 cannot be opened"),
        ([str(workdir.parent)], "is not a workdir"),
        ([str(workdir), "--port=many"], "--port"),
    ):
        assert demo.main(arguments) == 2, arguments
        said = capsys.readouterr().err
        assert says in said and said.count("\n") == 1, said


DROP = """
const held = new DataTransfer(), bytes = Uint8Array.from(atob(arguments[0]), letter => letter.charCodeAt(0));
held.items.add(new File([bytes], arguments[1]));
for (const kind of ["dragover", "drop"])
  document.getElementById("drop").dispatchEvent(new DragEvent(kind, {dataTransfer: held, bubbles: true, cancelable: true}));
"""
SHOWN = """
const all = name => [...document.querySelectorAll(name)], said = document.getElementById("said").textContent;
const widths = all(".bar").map(each => each.firstChild.getBoundingClientRect().width / each.clientWidth);
const wanted = all(".genre > :nth-child(2)").map(each => Number(each.textContent));
const loaded = all("#poster, #maps img").map(each => each.complete && each.naturalWidth);
return [said, all(".genre > :first-child").map(each => each.textContent), widths, wanted, loaded];
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium.started() as session:
        yield session


def shown(browser: Any) -> tuple[str, list[str], list[float], list[float], list[int]]:
    """(what is said, genres, lengths of their bars, their probabilities, widths of the pictures) once an answer is there."""
    for _ in range(600):
        said, *rest = browser.execute_script(SHOWN)
        if said != "looking ..." and (said or all(rest[-1]) and rest[0]):
            return said, *rest
        time.sleep(0.1)
    raise AssertionError(f"no answer: {said}")


def check_answer(browser: Any, port: int, encoded_poster: bytes) -> None:
    """The page shows what the server says of a poster, a bar and a map each."""
    said, genres, lengths, probabilities, pictures = shown(browser)
    wanted = json.loads(ask(port, "POST", "/predict", encoded_poster)[1])["genres"]
    assert said == "" and genres == [one["genre"] for one in wanted]
    assert probabilities == [round(one["probability"], 2) for one in wanted]
    assert lengths == pytest.approx([one["probability"] for one in wanted], abs=0.02)
    assert len(pictures) == 1 + len(GENRES) and min(pictures) > 0, "the poster and a map of each genre"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_in_a_browser_a_poster_is_chosen_or_dropped_and_judged(
    browser: Any, port: int, theme: str, tmp_path: pathlib.Path
) -> None:
    posters = [synthetic.draw_poster(0, number, ("Drama",)) for number in (1, 2)]
    path = tmp_path / "a long name of a poster, as files from elsewhere have it, without an end.jpg"
    path.write_bytes(posters[0])
    address = f"http://{demo.HOST}:{port}/"
    chromium.complaints(browser), chromium.fetched(browser)
    for width in (390, 800, 1400):
        chromium.show(browser, address, width, theme)
        assert chromium.overflow(browser) == [] and browser.execute_script(SHOWN)[1] == []
        browser.find_element("id", "file").send_keys(str(path))
        check_answer(browser, port, posters[0])
        assert chromium.overflow(browser) == [], f"with an answer, at {width}"
        browser.execute_script(DROP, base64.b64encode(posters[1]).decode(), "dropped.jpg")
        check_answer(browser, port, posters[1])
    assert chromium.complaints(browser) == []
    blobs = f"blob:{address}"
    assert {url for url in chromium.fetched(browser) if not url.startswith(blobs)} == {address, f"{address}predict"}
    low, good = chromium.low_contrast(browser)
    assert low == [] and good > 2 * len(GENRES)
    grounds = {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 27)"}
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == grounds[theme]


def test_in_a_browser_a_bad_picture_is_one_sentence_and_the_next_one_is_judged(browser: Any, port: int) -> None:
    chromium.show(browser, f"http://{demo.HOST}:{port}/", 390, "light")
    browser.execute_script(DROP, base64.b64encode(b"<html>no picture</html>").decode(), "page.html")
    said, genres, *_ = shown(browser)
    assert said.startswith("this cannot be read: ") and genres == []
    assert chromium.overflow(browser) == []
    browser.execute_script(DROP, base64.b64encode(encoded(NOISE)).decode(), "noise.png")
    check_answer(browser, port, encoded(NOISE))
