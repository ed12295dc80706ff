"""Numbers of the pages that need no training are computed again: a page that has another one fails."""

import pathlib
import re
from typing import Any

import jax
import numpy as np
import pytest

from poster_jax import config as config_lib
from poster_jax import models
from poster_jax.bench import scaling
from poster_jax.data import builder, dataset, labels, preview
from poster_jax.metrics import floors
from poster_jax.models import layers
from poster_jax.paper import claims, facts, label_floor

ROOT = pathlib.Path(__file__).resolve().parents[1]
FIRST, PAPER, CONFIGS, BENCH = (
    ROOT / name for name in ("README.md", "poster_jax/paper/README.md", "configs/README.md", "poster_jax/bench/README.md")
)


def flat(page: pathlib.Path) -> str:
    """The page with its line ends as spaces."""
    return " ".join(page.read_text().split())


def check(page: pathlib.Path, *texts: str) -> None:
    """Fails for a text that the page does not have as a whole number or word."""
    for text in texts:
        assert re.search(rf"(?<![\d.,]){re.escape(text)}(?![\d%])", flat(page)), f"{page.relative_to(ROOT)} lacks {text!r}"


def select(file: str, given: list[tuple[str, str]]) -> dataset.Dataset:
    data = config_lib.load(str(ROOT / "configs" / file), given).data
    return dataset.select(builder.open_source(data, preview.preview_source), data)


def floors_of(rows: dataset.Dataset, part: str = "test") -> dict[str, str]:
    """The score of "no" to everything and the best constant answers on a part, as the pages write them."""
    targets = labels.one_hot(rows.label[rows.parts[part]], len(rows.genres)).astype(bool)
    best = floors.best_constants(targets, [""])
    found = {"zeros": 1 - targets.mean(), "map": best["mean_average_precision"], "top1": best["top1_accuracy"]}
    return {name: f"{float(value):.3f}" for name, value in found.items()}


def rows_of_table(page: pathlib.Path, begin: str) -> list[list[str]]:
    """Cells of the table rows whose first cell begins with a text."""
    lines = [line.strip("| ").split(" | ") for line in page.read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines if line[0].startswith(begin)]


def test_a_number_that_differs_is_seen(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("the head has 7,686\nparameters, 83.3 %")
    check(page, "7,686", "83.3 %", "7,686 parameters")
    for other in ("7,68", "686", "3.3 %", "7,687"):
        with pytest.raises(AssertionError, match="lacks"):
            check(page, other)


def test_parameters_and_shapes() -> None:
    counted = facts.count_parameters()
    check(
        PAPER, *(f"{number:,}" for number in counted.values()), f"{facts.count_tuned():,}", f"{facts.count_flat_features():,}"
    )
    check(PAPER, " x ".join(map(str, facts.shape_of_last_map())))
    model = models.build(**config_lib.base().model, num_genres=6, precision="float32")
    shapes = jax.eval_shape(lambda key: model.init(key, np.zeros((1, 150, 101, 3), np.float32), False), jax.random.key(0))
    kernel = next(leaf for leaf in jax.tree.leaves(shapes["params"]) if leaf.shape == (facts.count_flat_features(), 128))
    assert layers.count_values(shapes["params"]) > kernel.size
    # SAME keeps the sides, and each pool halves them.
    check(PAPER, f"{(150 // 4) * (101 // 4) * 64:,}")


def test_depthwise_pairs_against_full_convolutions() -> None:
    counts = facts.count_depthwise()
    sizes, operations = counts["parameters"], counts["operations"]
    check(
        PAPER,
        f"{sizes['separable']:,} for {sizes['full']:,}",
        f"{sizes['full'] / sizes['separable']:.1f} times fewer parameters",
    )
    check(PAPER, f"{operations['full'] / operations['separable']:.1f} times fewer operations")


def test_the_number_of_claims() -> None:
    assert len(claims.ENTRIES) == 40
    assert "Forty claims" in PAPER.read_text()
    check(FIRST, "40 claims")


def test_the_counts_of_the_shared_genre_strings(shared_dir: pathlib.Path) -> None:
    path = shared_dir / "data" / "genres_all.csv"
    population = facts.describe_population(str(path))
    assert population is not None
    (most, largest), *_, (least, smallest) = population["counts"].items()
    check(PAPER, f"{population['num_movies']:,} movies", f"{largest:,} movies list {most}, {smallest:,} {least}")
    check(PAPER, f"{largest / smallest:.1f} times", f"{smallest:,} of the rarest", f"the rarest has {smallest:,}")
    check(PAPER, f"needs {round(449 * 32 / 0.6 / 6):,} movies")
    assert sorted(population["counts"]) == rows_of_table(PAPER, "the six most frequent")[0][1].split(", ")
    assert list(population["counts"])[:2] == rows_of_table(PAPER, "the two that lead")[0][1].split(", ")


def test_the_score_of_no_under_every_reading_of_the_shared_genre_strings(shared_dir: pathlib.Path) -> None:
    texts = label_floor.load_texts(shared_dir / "data" / "genres_all.csv")
    genres = labels.choose_genres(texts, num_genres=6, genre_rank="first", genres=())
    table = {reading.name: reading for reading in label_floor.readings(texts, genres)}
    zeros = {name: f"{100 * reading.all_zeros:.1f}" for name, reading in table.items()}
    named = ("first genre (strict one-hot)", "multi-hot: all genres", "multi-hot, movies drawn to equal")
    quoted = [zeros[name] for name in (*named, "multi-hot, equal draws per genre")]
    check(PAPER, *(f"{share} %" for share in quoted))
    check(FIRST, f"{quoted[-1]} to {quoted[0]} %")
    check(PAPER, f"{100 * table['exploded: a row per genre'].top1_ceiling:.1f} % is then the best top-1")


def check_row(row: list[str], rows: dataset.Dataset) -> None:
    """A row of the one-hot table: run, binary accuracy, all zeros, mAP, floor, colour, top-1, floor."""
    found = floors_of(rows)
    assert (row[2], row[4], row[7]) == (found["zeros"], found["map"], found["top1"]), row


def test_the_rows_and_floors_of_the_synthetic_posters() -> None:
    rows = select("cnn_onehot.py", [])
    [row] = rows_of_table(CONFIGS, "synthetic posters, `cnn_onehot.py`")
    check_row(row, rows)
    check(CONFIGS, ", ".join(f"{len(rows.parts[part]):,}" for part in dataset.PARTS) + " synthetic")
    assert rows_of_table(FIRST, "the report's CNN, drawn posters")[0][3] == floors_of(rows)["map"]


def test_the_rows_and_floors_of_the_shared_posters(shared_dir: pathlib.Path) -> None:
    given = [("data.variant", "kaggle"), ("data.dir", str(shared_dir / "data" / "posters"))]
    # The catalog checks every picture, so it is read once.
    source: Any = preview.preview_source(config_lib.load(str(ROOT / "configs" / "cnn_onehot.py"), given).data)
    check(CONFIGS, f"{len(source.table):,} of the Kaggle set", f"{len(source.refused)} of 9,305 catalog rows refused")

    def chosen(file: str) -> dataset.Dataset:
        return dataset.select(source, config_lib.load(str(ROOT / "configs" / file), given).data)

    one_hot, strict, all_genres = (chosen(file) for file in ("cnn_onehot.py", "cnn_onehot.py:strict", "finetune_mobilenet.py"))
    for row in rows_of_table(CONFIGS, "real posters"):
        check_row(row, strict if ":strict" in row[0] else one_hot)
    counts = {
        name: [len(rows.parts[part]) for part in dataset.PARTS] for name, rows in (("one_hot", one_hot), ("strict", strict))
    }
    train, validation, test = counts["one_hot"]
    check(CONFIGS, f"{train:,}, {validation}, {test} real", "{:,}, {}, {} with a single genre".format(*counts["strict"]))
    check(CONFIGS, "{:,}, {} and {} real posters of one genre each".format(*counts["strict"]))
    assert floors_of(strict, "validation")["top1"] == floors_of(strict)["top1"]
    check(CONFIGS, f"Top-1, floor {floors_of(strict)['top1']} on validation and test")
    train, validation, test = counts["strict"]
    check(CONFIGS, f"{train + validation:,} rows in the folds, {test} to test")
    check(PAPER, f"{train // 32}, of {train:,} training rows", f"{-(-validation // 32)} (`:paper_validation`")
    parts = all_genres.parts
    check(CONFIGS, f"{len(parts['train']):,} posters to train on, {len(parts['test']):,} to test")
    found = floors_of(all_genres)
    for row in rows_of_table(CONFIGS, "`finetune_mobilenet.py` (256 x 176"):
        assert (row[2], row[4], row[6]) == (found["map"], found["zeros"], found["top1"])
    for begin, rows in (("the report's CNN, real", one_hot), ("a recipe that predicts", all_genres)):
        assert rows_of_table(FIRST, begin)[0][3] == floors_of(rows)["map"]
    for begin in ("the best of the report's random search", "the report's transfer learning"):
        assert rows_of_table(FIRST, begin)[0][3] == floors_of(strict)["top1"]
    check(FIRST, f'"no" to everything scores {floors_of(one_hot)["zeros"]}')
    check(PAPER, f'"no" to everything scores {floors_of(one_hot)["zeros"]}', f"constant answer has {floors_of(one_hot)['map']}")


def test_the_scaling_table_is_what_its_command_counts() -> None:
    costs = {name: scaling.count(config_lib.load(str(ROOT / path))) for name, path in scaling.CONFIGS.items()}
    sizes = [" x ".join(map(str, config_lib.load(str(ROOT / path)).data.image_size)) for path in scaling.CONFIGS.values()]
    [header] = rows_of_table(BENCH, "devices")
    assert [cell.split(":")[0] for cell in header[1::3]] == [f"{name}, {size}" for name, size in zip(costs, sizes, strict=True)]
    for number in scaling.NUM_DEVICES:
        expected = []
        for cost in costs.values():
            step = scaling.predict(cost, scaling.DEVICES["h100"], number, 32)
            secs = step.compute_secs + step.reduce_secs
            expected += [f"{1e3 * secs:.2f}", f"{step.efficiency:.2f}", f"{step.posters_per_sec:,.0f}"]
        [row] = [row for row in rows_of_table(BENCH, str(number)) if row[0] == str(number)]
        assert row[1:] == expected
    check(BENCH, *(f"{scaling.gradient_bytes(cost) / 1e6:.1f} MB" for cost in costs.values()))
