"""Reading MovieGenre.csv and a user's CSV: kept, merged, refused and grouped rows."""

import io
import os
import pathlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from poster_jax import errors
from poster_jax.data import catalog, images


def poster(seed: int, size: tuple[int, int] = images.POSTER_SIZE, **options) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def write_kaggle(folder, rows: list[str], files: dict[str, bytes], posters: str = "posters"):
    """Writes MovieGenre.csv from `imdbId,Title,Genre` lines, and the posters."""
    (folder / posters).mkdir(exist_ok=True)
    (folder / "MovieGenre.csv").write_bytes("\n".join(["imdbId,Title,Genre", *rows]).encode("ISO-8859-1"))
    for name, encoded in files.items():
        (folder / posters / name).write_bytes(encoded)
    return folder


@pytest.fixture
def kaggle_dir(tmp_path):
    rows = [
        "30,Amélie, Comedy | Drama|Comedy",  # row 1
        "20,B,Horror",
        "30,Amélie,Romance|Drama",  # row 3 repeats row 1 with another genre
        "40,No genre, | ",
        "x50,Bad id,Drama",
        "0,Bad id,Drama",
        "2147483648,Too big for int32,Drama",
        "60,Missing,Drama|Crime",
        "60,Missing again,Drama|Crime",
        "70,Empty,Drama",
        "80,Cut,Drama",
        "90,Page,Drama",
        "10,Same picture as 20,Action",
    ]
    files = {
        "10.jpg": poster(2, comment=b"another file, the same pixels"),
        "20.jpg": poster(2),
        "30.jpg": poster(3, (100, 150)),
        "40.jpg": poster(4),
        "70.jpg": b"",
        "80.jpg": poster(8)[:2000],
        "90.jpg": b"<html><body>404</body></html>",
    }
    return write_kaggle(tmp_path, rows, files)


def test_kaggle_table(kaggle_dir):
    table = catalog.read_kaggle(kaggle_dir).table
    assert table.columns.tolist() == ["id", "path", "genres", "group", "split"]
    assert table["id"].tolist() == [10, 20, 30] and table["id"].dtype == np.int64
    assert table["genres"].tolist() == ["Action", "Horror", "Comedy|Drama|Romance"]
    assert table["group"].tolist() == [10, 10, 30] and table["group"].dtype == np.int64
    assert table["split"].tolist() == ["", "", ""]
    assert table.index.tolist() == [0, 1, 2]
    assert [os.path.basename(path) for path in table["path"]] == ["10.jpg", "20.jpg", "30.jpg"]


def test_kaggle_ledger(kaggle_dir):
    read = catalog.read_kaggle(kaggle_dir)
    assert read.refused.columns.tolist() == ["id", "reason", "genres", "detail"]
    assert list(zip(read.refused["id"], read.refused["reason"], strict=True)) == [
        ("30", "repeated_row"),
        ("40", "no_genre"),
        ("x50", "bad_id"),
        ("0", "bad_id"),
        ("2147483648", "bad_id"),
        ("60", "missing_file"),
        ("60", "missing_file"),
        ("70", "empty_file"),
        ("80", "cut_file"),
        ("90", "not_an_image"),
    ]
    assert len(read.table) + len(read.refused) == 13
    assert read.refused["genres"].tolist()[:2] == ["Romance|Drama", ""]
    assert "row 1" in read.refused["detail"][0]
    assert read.repaired == {"resized": 1}


def test_refusal_counts(kaggle_dir):
    counts = catalog.refusal_counts(catalog.read_kaggle(kaggle_dir).refused)
    assert counts["reason"] == {
        "bad_id": 3,
        "missing_file": 2,
        "cut_file": 1,
        "empty_file": 1,
        "no_genre": 1,
        "not_an_image": 1,
        "repeated_row": 1,
    }
    assert list(counts["reason"])[:3] == ["bad_id", "missing_file", "cut_file"]
    assert counts["genre"] == {"Drama": 8, "Crime": 2}


def test_groups_of_equal_blank_and_of_resaved_pictures(tmp_path):
    blank = io.BytesIO()
    Image.new("RGB", images.POSTER_SIZE, (9, 9, 9)).save(blank, "JPEG")
    files = {
        "1.jpg": blank.getvalue(),
        "2.jpg": poster(1),
        "3.jpg": poster(1, quality=40),
        "4.jpg": blank.getvalue(),
        "5.jpg": poster(5),
    }
    rows = [f"{number},A,Drama" for number in range(1, 6)]
    table = catalog.read_kaggle(write_kaggle(tmp_path, rows, files)).table
    assert table["group"].tolist() == [1, 2, 2, 1, 5]


def test_posters_beside_the_csv(tmp_path):
    write_kaggle(tmp_path, ["5,A,Drama"], {"5.jpg": poster(5)}, posters=".")
    assert catalog.read_kaggle(tmp_path).table["id"].tolist() == [5]


def test_a_folder_in_place_of_a_poster(tmp_path):
    write_kaggle(tmp_path, ["5,A,Drama", "6,B,Drama"], {"5.jpg": poster(5)})
    (tmp_path / "posters" / "6.jpg").mkdir()
    assert catalog.read_kaggle(tmp_path).refused["reason"].tolist() == ["unreadable_file"]


def test_kaggle_refusals(tmp_path):
    with pytest.raises(errors.UserError, match="there is no file .*MovieGenre.csv"):
        catalog.read_kaggle(tmp_path)
    csv_path = tmp_path / "MovieGenre.csv"
    csv_path.write_text("id,Genre\n1,Drama\n")
    with pytest.raises(errors.UserError, match="needs the columns imdbId, Genre; imdbId is not among .*: id, Genre"):
        catalog.read_kaggle(tmp_path)
    csv_path.write_text("imdbId,Genre\n1,Drama\nx,Drama\n")
    with pytest.raises(errors.UserError, match=r"none of the 2 rows .* \(1 bad_id, 1 missing_file\)"):
        catalog.read_kaggle(tmp_path)
    csv_path.write_text("imdbId,Genre\n")
    with pytest.raises(errors.UserError, match="it is empty"):
        catalog.read_kaggle(tmp_path)
    csv_path.write_text("")
    with pytest.raises(errors.UserError, match="cannot be read as a CSV"):
        catalog.read_kaggle(tmp_path)
    csv_path.write_text("imdbId,Genre\n1,Drama,more\n2,Drama,more\n")
    with pytest.raises(errors.UserError, match="more cells than its header"):
        catalog.read_kaggle(tmp_path)


def write_own(folder, lines: list[str], num_files: int, encoding: str = "utf-8"):
    (folder / "art").mkdir()
    for number in range(num_files):
        (folder / "art" / f"{number}.jpg").write_bytes(poster(number))
    path = folder / "mine.csv"
    path.write_bytes("\n".join(lines).encode(encoding))
    return path


def test_own_csv_without_ids(tmp_path):
    absolute = tmp_path / "art" / "1.jpg"
    lines = ["genres, path ,note", "Crime,art/0.jpg,x", f"Drama,{absolute},y", "War,art/0.jpg,z", "Drama,,"]
    read = catalog.read_csv(write_own(tmp_path, lines, 2, "utf-8-sig"))
    assert read.table["id"].tolist() == [1, 2]
    assert read.table["path"].tolist() == [str(tmp_path / "art" / "0.jpg"), str(absolute)]
    assert read.table["genres"].tolist() == ["Crime|War", "Drama"]
    assert list(zip(read.refused["id"], read.refused["reason"], strict=True)) == [
        ("3", "repeated_row"),
        ("4", "missing_file"),
    ]


def test_own_csv_with_ids_splits_and_movies(tmp_path):
    lines = ["id,path,genres,split,movie"]
    words = ["train", " Training", "val", "valid", "dev", "validation", "TEST", ""]
    movies = ["a", "b", "c", "d", "a", "", "", "b"]
    for number, (word, movie) in enumerate(zip(words, movies, strict=True)):
        lines.append(f"{70 - number},art/{number}.jpg,Drama,{word},{movie}")
    table = catalog.read_csv(write_own(tmp_path, lines, 8)).table
    assert table["id"].tolist() == list(range(63, 71))
    assert table["split"].tolist()[::-1] == ["train"] * 2 + ["validation"] * 4 + ["test", ""]
    assert table["group"].tolist()[::-1] == [66, 63, 68, 67, 66, 65, 64, 63]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "ISO-8859-1"])
def test_own_csv_encodings(tmp_path, encoding):
    path = write_own(tmp_path, ["path,genres", "art/0.jpg,Comédie"], 1, encoding)
    assert catalog.read_csv(path).table["genres"].tolist() == ["Comédie"]


def test_own_csv_refusals(tmp_path):
    path = write_own(tmp_path, ["file,genre"], 1)
    with pytest.raises(errors.UserError, match="needs the columns path, genres; path, genres .* found: file, genre"):
        catalog.read_csv(path)
    path.write_text("path,genres,split\nart/0.jpg,Drama,holdout\n")
    with pytest.raises(errors.UserError, match="row 1: split 'holdout' is unknown; write one of train"):
        catalog.read_csv(path)
    path.write_text("path,genres,split\nart/0.jpg,Drama,train\nart/0.jpg,War,test\n")
    with pytest.raises(errors.UserError, match="column split puts movie 1 into 'train' by row 1 and into 'test' by row 2"):
        catalog.read_csv(path)


def test_checked_keeps_order_and_reads_little_ahead(tmp_path):
    paths = []
    for number in range(6):
        paths.append(str(tmp_path / f"{number}.jpg"))
        if number != 3:
            (tmp_path / f"{number}.jpg").write_bytes(poster(number, (30 + number, 40)))
    results = list(catalog.checked(paths))
    widths = [each.width if isinstance(each, images.CheckedImage) else each.reason for each in results]
    assert widths == [30, 31, 32, "missing_file", 34, 35]

    num_requested = 0

    def endless():
        nonlocal num_requested
        while True:
            num_requested += 1
            yield paths[0]

    stream = catalog.checked(endless())
    for _ in range(5):
        next(stream)
    stream.close()
    assert num_requested == catalog.LOOK_AHEAD + 5


def test_load_encoded_repairs_again(tmp_path):
    plain, lying = tmp_path / "plain.jpg", tmp_path / "lying.jpg"
    exif = Image.Exif()
    exif[0x0112] = 8
    plain.write_bytes(poster(1))
    lying.write_bytes(poster(1, (268, 182), exif=exif))
    assert catalog.load_encoded(plain) == poster(1)
    assert Image.open(io.BytesIO(catalog.load_encoded(lying))).size == images.POSTER_SIZE
    with pytest.raises(images.BadImage, match="missing_file"):
        catalog.load_encoded(tmp_path / "none.jpg")


def test_write_refused_replaces_whole_or_not_at_all(tmp_path, kaggle_dir, monkeypatch):
    refused = catalog.read_kaggle(kaggle_dir).refused
    path = tmp_path / "refused.csv"
    catalog.write_refused(refused, path)
    pd.testing.assert_frame_equal(pd.read_csv(path, dtype=object, keep_default_na=False), refused, check_dtype=False)
    catalog.write_refused(refused[:3], path)
    before = path.read_bytes()
    assert len(pd.read_csv(path)) == 3

    def fail(self, text, **options):
        self.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(pathlib.Path, "write_text", fail)
    with pytest.raises(OSError, match="disk full"):
        catalog.write_refused(refused, path)
    assert path.read_bytes() == before
    assert [name for name in os.listdir(tmp_path) if "partial" in name] == []


def test_the_real_posters(shared_dir):
    read = catalog.read_kaggle(shared_dir / "data" / "posters")
    # 42 rows name 40 movies without a file, so two of the 133 repeated rows count as missing_file
    assert catalog.refusal_counts(read.refused)["reason"] == {
        "repeated_row": 131,
        "missing_file": 42,
        "empty_file": 12,
        "cut_file": 6,
        "not_an_image": 3,
    }
    assert len(read.table) == 9111 and len(read.table) + len(read.refused) == 9305
    assert read.repaired == {"grey": 4}
    sizes = read.table.groupby("group").size()
    # eight pairs of movies with the same file, and Riget I and II, whose posters differ in compression only
    assert len(sizes) == 9102 and sizes.value_counts().to_dict() == {1: 9093, 2: 9}
    assert sizes[108906] == 2
