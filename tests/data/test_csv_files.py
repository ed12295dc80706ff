"""Files that other programs write: read as they were meant, or refused before a row is lost."""

import bz2
import gzip
import json
import lzma
import pathlib
import pickle
import unicodedata

import pytest

from poster_jax import errors
from poster_jax.data import csv_files, listing, picture_files

USUAL = {"path": "", "genres": ""}


def rows_of(path: pathlib.Path, content: str | bytes) -> list[list[str]]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return csv_files.read(path).rows


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;;;"])
def test_the_first_line_of_a_spreadsheet_names_the_delimiter(tmp_path: pathlib.Path, first: str) -> None:
    # By the header alone it would be the comma.
    text = f"{first}\r\npath;a,b,c;genres\r\n1.jpg;x;Drama\r\n"
    assert rows_of(tmp_path / "own.csv", text) == [["1.jpg", "x", "Drama"]]


@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le", "utf-16", "cp1252", "utf-8-sig"])
@pytest.mark.parametrize("label", ["Kids’ TV", "Science – Fiction"])
def test_the_quotation_marks_of_spreadsheets_in_any_encoding(tmp_path: pathlib.Path, encoding: str, label: str) -> None:
    assert rows_of(tmp_path / "own.csv", f"path,genres\n1.jpg,{label}\n".encode(encoding)) == [["1.jpg", label]]


def test_a_quoted_cell_behind_a_space(tmp_path: pathlib.Path) -> None:
    text = 'path, genres\n1.jpg, "Drama, Crime"\n2.jpg, War\n'
    assert rows_of(tmp_path / "own.csv", text) == [["1.jpg", "Drama, Crime"], ["2.jpg", "War"]]
    assert rows_of(tmp_path / "own.tsv", "path\tnote\tgenres\n1.jpg\t\tWar\n") == [["1.jpg", "", "War"]]


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_quotation_mark_that_is_never_closed_is_named_by_its_line(tmp_path: pathlib.Path, end: str) -> None:
    text = f'path,genres\n1.jpg,War\n2.jpg,"Drama\n3.jpg,War\n4.jpg,War{end}'
    with pytest.raises(errors.UserError, match="opened in line 3 is never closed"):
        rows_of(tmp_path / "own.csv", text)
    # Neither two lines in one cell nor a mark within a cell is such a fault.
    assert rows_of(tmp_path / "own.csv", 'path,genres\n1.jpg,"Dra\nma"\n') == [["1.jpg", "Dra\nma"]]
    assert rows_of(tmp_path / "own.csv", 'path,genres\n1.jpg,The "A" of B\n2.jpg,"A" B\n')[0] == ["1.jpg", 'The "A" of B']


def test_a_line_separator_of_unicode_is_part_of_its_cell(tmp_path: pathlib.Path) -> None:
    assert rows_of(tmp_path / "own.csv", "path,genres\n1.jpg,Dra\u2028ma\n") == [["1.jpg", "Dra\u2028ma"]]


def test_a_guess_names_a_column_once_and_columns_of_labels_ask_for_no_other(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "own.csv"
    for text, flags in (
        ("image_name,class_name\na.jpg,Drama\n", ("path_column=image_name", "label_column=class_name")),
        ("filename,Drama,Crime\na.jpg,1,0\nb.jpg,0,1\n", ("path_column=filename",)),
        # Numbers of classes are no columns of zeros and ones.
        ("path,label,adult\na.jpg,0,1\nb.jpg,1,0\n", ("label_column=label",)),
    ):
        path.write_text(text)
        with pytest.raises(errors.UserError) as refused:
            listing.read_csv(path, USUAL)
        assert [part.split("data.")[1] for part in str(refused.value).split() if part.startswith("--")] == list(flags)


def test_a_folder_in_place_of_a_csv(tmp_path: pathlib.Path) -> None:
    def refusal() -> str:
        with pytest.raises(errors.UserError, match="is a folder, not a CSV: give ") as refused:
            listing.read_csv(tmp_path, USUAL)
        return str(refused.value)

    assert f"--config.data.variant=folder --config.data.dir={tmp_path}" in refusal()
    (tmp_path / "own.csv").write_text("path,genres\na.jpg,Drama\n")
    assert f"--config.data.csv={tmp_path / 'own.csv'}" in refusal()
    (tmp_path / "MovieGenre.csv").write_text("imdbId,Genre\n1,Drama\n")
    assert f"--config.data.variant=kaggle --config.data.dir={tmp_path}" in refusal()
    (tmp_path / "metadata.csv").write_text("file_name,label\na.jpg,Drama\n")
    assert [movie.genres for movie in listing.read_csv(tmp_path, USUAL).movies] == [["Drama"]]


def test_a_file_in_place_of_the_folder_is_named(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "MovieGenre.csv"
    file.write_text("imdbId,Genre\n1,Drama\n")
    with pytest.raises(errors.UserError, match=f"{file} is a file, and its folder is {tmp_path};"):
        listing.read_kaggle(file)


@pytest.mark.parametrize("separator", ["|", ", ", ";"])
def test_the_kaggle_set_with_another_separator(tmp_path: pathlib.Path, separator: str) -> None:
    lines = [f'{row},"{genres.replace("|", separator)}"' for row, genres in enumerate(("Drama|Crime", "Crime|War", "War"), 1)]
    (tmp_path / "MovieGenre.csv").write_text("\n".join(["imdbId,Genre", *lines]))
    assert [movie.genres for movie in listing.read_kaggle(tmp_path).movies] == [["Drama", "Crime"], ["Crime", "War"], ["War"]]
    # A separator that is asked for counts for this set too.
    if separator != "|":
        listed = listing.read_kaggle(tmp_path, "none")
        assert listed.movies[0].genres == [f"Drama{separator}Crime"]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_folders_with_accents_in_either_form(tmp_path: pathlib.Path, form: str) -> None:
    file = tmp_path / unicodedata.normalize(form, "Amélie") / "é" / unicodedata.normalize(form, "ü.jpg")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    for written in ("NFC", "NFD"):
        text = unicodedata.normalize(written, "Amélie") + "\\é\\" + unicodedata.normalize(written, "ü.jpg")
        (tmp_path / "own.csv").write_text(f"path,genres\n{text},Drama\n")
        [movie] = listing.read_csv(tmp_path / "own.csv", USUAL).movies
        assert pathlib.Path(movie.path) == file


def test_folders_of_parts_are_not_called_a_column(tmp_path: pathlib.Path) -> None:
    for part in ("train", "test"):
        (tmp_path / part / "Drama").mkdir(parents=True)
        (tmp_path / part / "Drama" / "1.jpg").write_bytes(b"x")
    with pytest.raises(errors.UserError, match="the folders hold no validation picture") as refused:
        listing.read_folder(tmp_path)
    assert "column" not in str(refused.value)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (gzip.compress(b"path,genres\na.jpg,Drama\n", mtime=0), "is packed by gzip: unpack it"),
        (b"PK\x03\x04" + bytes(60), "is a spreadsheet .* save it as CSV"),
        (b"PAR1" + bytes(60), "is a Parquet file: save it as CSV"),
        (lzma.compress(b"path,genres\na.jpg,Drama\n"), "is packed by xz: unpack it"),
        (bz2.compress(b"path,genres\na.jpg,Drama\n"), "is packed by bzip2: unpack it"),
        (pickle.dumps({"path": ["a.jpg"]}, 4), "is a pickle, which is not read"),
        (b"<!DOCTYPE html><title>Sign in</title>", "is a web page: download the table itself"),
    ],
    ids=["gzip", "spreadsheet", "Parquet", "xz", "bzip2", "pickle", "web page"],
)
def test_a_file_that_is_no_text_is_named_as_what_it_is(tmp_path: pathlib.Path, start: bytes, words: str) -> None:
    (tmp_path / "own.csv").write_bytes(start)
    with pytest.raises(errors.UserError, match=words):
        listing.read_csv(tmp_path / "own.csv", USUAL)


def test_a_list_of_objects_is_read_as_lines_are_and_a_broken_one_refused(tmp_path: pathlib.Path) -> None:
    records = [{"path": "a.jpg", "genres": ["Drama", "War"]}, {"genres": "Crime", "path": "b.jpg"}]
    (tmp_path / "own.json").write_text(json.dumps(records, indent=2))
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, records)))
    assert csv_files.read(tmp_path / "own.json").rows == csv_files.read(tmp_path / "own.jsonl").rows
    (tmp_path / "own.json").write_text(json.dumps(records)[:-3])
    with pytest.raises(errors.UserError, match="own.json is no JSON .*write a list of objects"):
        csv_files.read(tmp_path / "own.json")


def test_a_table_without_a_header_and_a_last_column_are_told(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("a.jpg,Drama\nb.jpg,War\n")
    with pytest.raises(errors.UserError, match="path, genres are not among .* put a line path,genres above it"):
        listing.read_csv(path, USUAL)
    path.write_text("file,kind\na.jpg,Drama\n")
    with pytest.raises(errors.UserError, match="path_column=file --config.data.label_column=kind$"):
        listing.read_csv(path, USUAL)


def test_names_without_a_suffix_or_in_another_case_are_found_and_told(tmp_path: pathlib.Path) -> None:
    for name in ("a.jpg", "B.JPG", "c.png", "c.jpg", "d.txt", "E.jpg", "e.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    path = tmp_path / "own.csv"
    path.write_text("path,genres\na,War\nb.jpg,War\nc,War\nd,War\ne.JPG,War\nE.jpg,War\n")
    found = listing.read_csv(path, USUAL)
    # Of two pictures that a name may mean neither is taken, and a text is no picture.
    assert [pathlib.Path(movie.path).name for movie in found.movies] == ["a.jpg", "B.JPG", "c", "d", "e.JPG", "E.jpg"]
    assert (
        f"1 of 6 paths {picture_files.NO_SUFFIX}" in found.notes and f"1 of 6 paths {picture_files.OTHER_CASE}" in found.notes
    )


def test_rows_that_name_a_poster_again_are_told(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("path,genres\na.jpg,War\na.jpg,Drama\nb.jpg,War\n")
    found = listing.read_csv(path, USUAL)
    assert [movie.genres for movie in found.movies] == [["War", "Drama"], ["War"]]
    assert any(note.startswith("rows that name a poster again") and note.endswith(": 1 of 3") for note in found.notes)
