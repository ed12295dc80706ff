"""The command: wrong labels of posters come first, with their pictures; the CSV, eighty columns, and every refusal."""

import contextlib
import csv
import io
import json
import pathlib
import re
from collections.abc import Sequence

import jax
import numpy as np
import pytest
from PIL import Image

from poster_jax import config as config_lib
from poster_jax import models, suspects
from poster_jax.models.types import Variables
from poster_jax.protocols import stages
from poster_jax.runtime import tables
from poster_jax.train import features
from tests.helpers import chromium
from tests.helpers.made_run import GENRES, cnn_config, make_workdir, mobilenet_config

NUM = 90
WRONG = (4, 31, 62)  # rows whose label is that of another
ODD = "=Sci-Fi & <b>"  # in place of the second genre: a formula to a spreadsheet, markup to a page


def draw(folder: pathlib.Path, names: Sequence[str], num: int = NUM) -> pathlib.Path:
    """A CSV of `num` noisy pictures, each with one label, which is the colour of it but in the rows of WRONG."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for row in range(num):
        pixels = rng.integers(0, 120, (90, 60, 3))
        pixels[..., row % 3] += 100
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{row:03}.png")
        rows.append([f"{row:03}.png", names[(row + (row in WRONG)) % 3]])
    with open(folder / "own.csv", "w", newline="") as file:
        csv.writer(file).writerows([["path", "genres"], *rows])
    return folder / "own.csv"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return draw(tmp_path_factory.mktemp("posters") / "odd", (GENRES[0], ODD, GENRES[2]))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A run on posters of a CSV of its own, whose body is as drawn."""
    folder = tmp_path_factory.mktemp("suspects")
    config = mobilenet_config()
    config.data.variant, config.data.csv = "csv", str(draw(folder / "own", GENRES))
    config.data.min_movies = 20
    return make_workdir(folder / "run", config)


def read(path: pathlib.Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def listed(workdir: pathlib.Path, table: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, pathlib.Path]:
    """(what the command said of other posters, the folder with its out.csv and page.html)."""
    folder, said = tmp_path_factory.mktemp("listed"), io.StringIO()
    arguments = [f"--config.data.csv={table}", f"--out={folder / 'out.csv'}", f"--page={folder / 'page.html'}", "--num=40"]
    with contextlib.redirect_stdout(said):
        assert suspects.main([str(workdir), *arguments]) == 0
    return said.getvalue(), folder


def test_wrong_labels_of_other_posters_come_first(listed: tuple[str, pathlib.Path]) -> None:
    said, folder = listed
    out, page = folder / "out.csv", folder / "page.html"
    rows = read(out)
    assert len(rows) == 40 and [int(row["rank"]) for row in rows] == list(range(1, 41))
    first = rows[: 2 * len(WRONG)]
    # The label that a picture has, and the one that it lacks.
    assert {(int(pathlib.Path(row["path"]).stem), row["kind"]) for row in first} == {
        (row, kind) for row in WRONG for kind in ("wrong", "missing")
    }
    names = (GENRES[0], ODD, GENRES[2])
    for row in first:
        number, label = int(pathlib.Path(row["path"]).stem), tables.restore(row["label"])
        assert label == names[(number + (row["kind"] == "wrong")) % 3]
        assert tables.restore(row["labels"]) == names[(number + 1) % 3]
        assert (float(row["score"]) < float(row["usual"])) == (row["kind"] == "wrong")
        assert row["part"] in ("train", "validation", "test")
    assert all(len(line) <= 80 for line in said.splitlines() if str(folder) not in line)
    assert said.index("1   ") < said.index(suspects.NO_ERROR[:30]) and "error" not in said.replace(suspects.NO_ERROR[:24], "")
    assert int(re.search(r"purpose, (\d+)%", " ".join(said.split())).group(1)) > 30  # type: ignore[union-attr]
    assert "learnt from the labels" not in " ".join(said.split()), "of other posters the network has seen no label"
    text = page.read_text()
    assert text.count("data:image/webp;base64") == 2 * suspects.NUM_PICTURES and "Perhaps wrong" in text
    assert "<b>" + ODD not in text and "&lt;b&gt;" in text and "http" not in text and "✗" not in text
    assert "'=" in out.read_text(), "no cell is a formula"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_its_page_fits_fetches_nothing_and_can_be_read(theme: str, listed: tuple[str, pathlib.Path]) -> None:
    page = listed[1] / "page.html"
    with chromium.started() as browser:
        for width in (390, 800, 1400):
            chromium.show(browser, page, width, theme)
            assert chromium.overflow(browser) == []
        assert chromium.complaints(browser) == [] and set(chromium.fetched(browser)) == {page.as_uri()}
        low, good = chromium.low_contrast(browser)
        assert low == [] and good > 20


def test_of_its_own_posters_a_run_tells_that_it_has_learnt_their_labels(
    workdir: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert suspects.main([str(workdir)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"{NUM} posters, 3 labels" in said and "learnt from the labels of the training part" in said
    assert not (workdir / "suspects.csv").exists()
    config = json.loads((workdir / "config.json").read_text())
    frozen = workdir.with_name("frozen")
    frozen.mkdir()
    config["transfer"]["tune"] = False
    for name in ("results.json", "labels.json"):
        (frozen / name).write_bytes((workdir / name).read_bytes())
    (frozen / "config.json").write_text(json.dumps(config))
    assert suspects.has_learnt(workdir) and not suspects.has_learnt(frozen)


def test_features_of_a_network_without_a_body_are_what_its_last_layer_is_given(tmp_path: pathlib.Path) -> None:
    config = cnn_config()
    model = models.build(**config.model, num_genres=3, precision="float32")
    image = np.random.default_rng(0).integers(0, 256, (2, 40, 32, 3), np.uint8)
    variables: Variables = model.init(jax.random.key(0), np.zeros((1, 40, 32, 3)), False)
    variables = {name: tree for name, tree in variables.items() if name in ("params", "batch_stats")}
    found = np.asarray(features.make_features(model)(variables, image))  # type: ignore[arg-type]
    assert found.shape == (2, config.model.dense[-1][0]) and (found[0] != found[1]).any()
    low, high = model.input_range
    last = variables["params"]["Dense_1"]
    logits = model.apply(variables, image.astype(np.float32) / 255 * (high - low) + low, False)
    np.testing.assert_allclose(found @ last["kernel"] + last["bias"][None], logits, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "is not a workdir"),
        (["released:none"], "does not come with poster_jax"),
        (["released:mobilenet_v2"], "the posters of released:mobilenet_v2 are not here, as posters does not exist"),
        (["RUN", "--config.train.num_epochs=2"], "--config.train.num_epochs cannot be given here"),
        (["RUN", "--config.data.image_size=(64,64)"], "--config.data.image_size cannot be given here"),
        (["RUN", "--config.data.csv=nothing.csv"], "nothing.csv"),
        (["RUN", "--config.data.cvs=nothing.csv"], "data.csv"),
        (["RUN", "--num=0"], "--num=0 cannot be"),
        (["RUN", "--out=none/out.csv"], "none is no folder"),
        (["RUN", "--page=none/page.html"], "none is no folder"),
        (["RUN", "more"], "unrecognized arguments: more"),
        (["RUN", "--config.data.csv=FEW"], "no label has 5 movies with it and 5 without it (Drama (1), Comedy (2))"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str],
    says: str,
    workdir: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if "FEW" in arguments[-1]:
        arguments = [*arguments, "--config.data.min_movies=1", "--config.data.split=(0.4,0.3,0.3)"]
        few = draw(tmp_path / "few", ("Drama", "Comedy", "Drama|Comedy"), 6)
        arguments = [text.replace("FEW", str(few)) for text in arguments]
    assert suspects.main([text.replace("RUN", str(workdir)) for text in arguments]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("poster_jax: ")]
    assert len(said) == 1 and says in said[0], said


def test_rare_labels_are_named_and_left_out() -> None:
    rng = np.random.default_rng(0)
    targets = np.zeros((40, 3), bool)
    targets[:20, 0], targets[:3, 1], targets[:, 2] = True, True, True
    every = [""] * 40
    group = np.arange(40)
    posters = suspects.Posters(
        list(range(40)), every, every, ("Drama", "War", "Film"), targets, group, rng.normal(size=(40, 4)), group
    )
    kept, [told] = suspects.choose_labels(posters)
    assert kept.labels == ("Drama",) and kept.targets.shape == (40, 1)
    assert told.endswith("War (3), Film (0)")
    # Twenty pictures of two movies are two.
    with pytest.raises(Exception, match=r"Drama \(2\)"):
        suspects.choose_labels(suspects.dataclasses.replace(posters, group=np.repeat([0, 1, 2, 3], 10)))


def test_a_config_of_other_posters_takes_the_size_of_the_network(workdir: pathlib.Path, table: pathlib.Path) -> None:
    data = stages.find_data(workdir, "run", [("data.csv", str(table)), ("data.seed", "3")])
    assert (data.image_size, data.seed, data.encoding, data.variant) == ((40, 32), 3, "first", "own")
    assert (
        stages.find_data(workdir, "run", []).to_dict()
        == config_lib.from_json((workdir / "config.json").read_text()).data.to_dict()
    )
