"""The audit of a data set: planted copies are found, and a split that is written is read back as it was; without jax."""

import csv
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.data import audit, dataset, own, places, preview, synthetic
from poster_jax.data.source import Source
from poster_jax.metrics import floors

CONFIG = str(pathlib.Path(__file__).resolve().parents[2] / "configs" / "own_posters.py")
PARTS = ("train", "train", "train", "validation", "test")


def draw(folder: pathlib.Path, num_posters: int = 100, split: bool = True) -> pathlib.Path:
    """A CSV of drawn posters, of which every fifth is a test row."""
    folder.mkdir()
    drawn = synthetic.draw_table(num_posters, 0)
    lines = ["path,genres" + ",split" * split]
    for index, (id_, genres) in enumerate(zip(drawn["id"], drawn["genres"], strict=True)):
        (folder / f"{id_}.jpg").write_bytes(synthetic.draw_poster(0, int(id_), tuple(str(genres).split("|"))))
        lines.append(f"{id_}.jpg,{genres}" + f",{PARTS[index % 5]}" * split)
    (folder / "own.csv").write_text("\n".join(lines))
    return folder / "own.csv"


def opened(table: pathlib.Path, *pairs: tuple[str, str]) -> tuple[Source, dataset.Dataset, dict[int, str]]:
    given = [("data.csv", str(table)), ("data.min_movies", "5"), *pairs]
    config = own.settle(config_lib.load(f"{CONFIG}:small", given), [key for key, _ in given])
    source = preview.preview_source(config.data)
    return source, dataset.select(source, config.data), audit.read_paths("own", places.find_place(config.data))


def plant(table: pathlib.Path, number: int) -> None:
    """Copies of `number` training posters as test rows: half of them byte for byte, half saved again and smaller."""
    rows = list(csv.reader(table.read_text().splitlines()))
    training = [row for row in rows[1:] if row[2] == "train"][:number]
    for index, (path, genres, _) in enumerate(training):
        copy = table.parent / f"copy_{index}.jpg"
        if index % 2:
            copy.write_bytes((table.parent / path).read_bytes())
        else:
            with Image.open(table.parent / path) as image:
                image.resize((image.width // 2, image.height // 2)).save(copy, quality=60)
        rows.append([copy.name, genres, "test"])
    with open(table, "w", newline="") as file:
        csv.writer(file).writerows(rows)


def test_a_planted_leak_is_found_whole(tmp_path: pathlib.Path) -> None:
    table = draw(tmp_path / "own")
    assert "LEAK" not in "\n".join(audit.lines(*opened(table)))
    plant(table, 10)
    source, rows, paths = opened(table)
    equal, near = audit.find_pairs(source)
    assert len(equal) == 5 and len(near) == 5
    said = audit.lines(source, rows, paths)
    assert "copies: 5 pairs of equal pictures, 5 of pictures that look the same" in said
    (leak,) = [line for line in said if "LEAK" in line]
    assert leak.startswith("LEAK: 10 pictures of validation and test have a copy in another part")
    assert "2.jpg (train) and copy_1.jpg (test)" in leak
    # Without the column of parts copies stay on one side.
    (tmp_path / "own" / "free.csv").write_text("\n".join(line.rpartition(",")[0] for line in table.read_text().splitlines()))
    said = audit.lines(*opened(tmp_path / "own" / "free.csv"))
    assert "copies: 5 pairs" in said[0] and "LEAK" not in "\n".join(said)


def test_copies_with_other_labels_are_named(tmp_path: pathlib.Path) -> None:
    table = draw(tmp_path / "own")
    plant(table, 2)
    lines = table.read_text().splitlines()
    path, genres, part = next(csv.reader([lines[-1]]))
    other = next(line.split(",")[1] for line in lines[1:] if set(line.split(",")[1].split("|")) != set(genres.split("|")))
    table.write_text("\n".join([*lines[:-1], f"{path},{other},{part}"]))
    said = "\n".join(audit.lines(*opened(table)))
    assert "copies with other labels: 1 pairs" in said and f"{path} {other}" in said


def test_references_are_those_of_the_parts(tmp_path: pathlib.Path) -> None:
    source, rows, paths = opened(draw(tmp_path / "own"))
    said = "\n".join(audit.lines(source, rows, paths))
    for part in ("validation", "test"):
        floor = floors.best_constants(rows.label[rows.parts[part]] > 0, [""])
        assert f"on {part}: mAP {floor['mean_average_precision']:.3f}, top-1 {floor['top1_accuracy']:.3f}" in said
    assert "the smallest difference of mAP that the test part shows in 4 of 5 cases: 0." in said
    assert "fewer than 5 test rows" in said


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("comma", [False, True])
def test_a_written_split_is_read_back_to_the_same_bits(tmp_path: pathlib.Path, split: bool, comma: bool) -> None:
    table = draw(tmp_path / "own", split=split)
    pairs: tuple[tuple[str, str], ...] = ()
    if comma:
        pairs = (("data.label_separator", "pipe"),)
        table.write_text(
            "\n".join(
                f"{line.replace('Drama', chr(34) + 'Drama, sad' + chr(34), 1)}" if line.count("|") == 0 else line
                for line in table.read_text().splitlines()
            )
        )
    source, rows, paths = opened(table, *pairs)
    written = tmp_path / "kept" / "split.csv"
    written.parent.mkdir()
    told = audit.write_split(written, source, rows, paths)
    assert str(written) in told and f"{sum(map(len, rows.parts.values())):,} pictures" in told
    assert (label := "label_separator=none" in told) == comma
    again = opened(written, *((("data.label_separator", "none"),) if label else ()))
    assert again[1].genres == rows.genres
    for part, at in rows.parts.items():
        for name in ("movie_id", "label", "target", "group"):
            one, other = getattr(rows, name)[at], getattr(again[1], name)[again[1].parts[part]]
            assert one.dtype == other.dtype and one.tobytes() == other.tobytes(), (part, name)
    before = written.read_bytes()
    audit.write_split(written, *again)
    assert written.read_bytes() == before
    with open(written, newline="") as file:
        first = next(csv.DictReader(file))
    assert first["picture_sha256"] == source.pictures.content_hash[0] and first["path"] == "../own/1.jpg"  # type: ignore[union-attr]
    # Another picture in a place is refused, not taken.
    (tmp_path / "own" / "1.jpg").write_bytes((tmp_path / "own" / "2.jpg").read_bytes())
    assert opened(written, *((("data.label_separator", "none"),) if label else ()))[0].refused["reason"].tolist() == [
        "other_picture"
    ]


def test_what_cannot_be_written_is_told(tmp_path: pathlib.Path) -> None:
    source, rows, paths = opened(draw(tmp_path / "own"))
    (tmp_path / "other.csv").write_text("id\n")
    with pytest.raises(errors.UserError, match="exists already with another content"):
        audit.write_split(tmp_path / "other.csv", source, rows, paths)
    with pytest.raises(errors.UserError, match="cannot be written"):
        audit.write_split(tmp_path / "none" / "split.csv", source, rows, paths)
    twice: Any = {**rows.parts, "test": np.concatenate([rows.parts["test"], rows.parts["train"][:1]])}
    with pytest.raises(errors.UserError, match="split_grouped=True"):
        audit.write_split(tmp_path / "split.csv", source, dataset.dataclasses.replace(rows, parts=twice), paths)


def test_the_audit_loads_no_jax(tmp_path: pathlib.Path) -> None:
    table = draw(tmp_path / "own", 60)
    code = f"""
import sys
from poster_jax import config as config_lib
from poster_jax.data import audit, dataset, own, places, preview
config = own.settle(config_lib.load({CONFIG + ":small"!r}, [("data.csv", {str(table)!r}), ("data.min_movies", "5")]))
source = preview.preview_source(config.data)
rows = dataset.select(source, config.data)
print(*audit.lines(source, rows, audit.read_paths("own", places.find_place(config.data))), sep="\\n")
print(*{{"jax", "tensorflow", "tensorflow_datasets"}} & sys.modules.keys())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "copies: 0 pairs" in done.stdout and done.stdout.splitlines()[-1] == ""


def test_real_posters_hold_the_copies_that_are_planted(shared_dir: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """300 of the shared posters with a given split; ten test rows are made copies of training posters."""
    found = sorted(path for path in (shared_dir / "data" / "posters").rglob("*.jpg") if path.stat().st_size > 2000)[:300]
    assert len(found) == 300
    lines = [f"{path},{'AB'[index % 2]},{PARTS[index % 5]}" for index, path in enumerate(found)]
    (tmp_path / "own.csv").write_text("\n".join(["path,genres,split", *lines]))
    before = audit.find_pairs(opened(tmp_path / "own.csv")[0])
    plant(tmp_path / "own.csv", 10)
    after = audit.find_pairs(opened(tmp_path / "own.csv")[0])
    assert len(after[0]) - len(before[0]) == 5 and len(after[1]) - len(before[1]) == 5
