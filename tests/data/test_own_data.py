"""Tables, labels and folders as people have them: read right, or refused in a sentence that names the thing."""

import json
import pathlib
import unicodedata
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from poster_jax import errors
from poster_jax.data import catalog, csv_files, images, label_texts, listing, places

USUAL = {"path": "", "genres": ""}


def picture(path: pathlib.Path, seed: int = 0) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((60, 90)).save(path)
    return path


def write(path: pathlib.Path, text: str, encoding: str = "utf-8") -> pathlib.Path:
    path.write_bytes(text.encode(encoding))
    return path


def labels_of(file: pathlib.Path, **columns: str) -> list[list[str]]:
    return [movie.genres for movie in listing.read_csv(file, {**USUAL, **columns}).movies]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "ISO-8859-1"])
@pytest.mark.parametrize("header", ["path{}genres", "Path{} Genres ", "GENRES{}note{}PATH"])
def test_delimiters_encodings_and_headers(tmp_path: pathlib.Path, delimiter: str, encoding: str, header: str) -> None:
    names = header.replace("{}", delimiter).split(delimiter)
    cells = {"path": "é 1.jpg", "genres": "Comédie|Drame", "note": "x"}
    lines = [delimiter.join(names), delimiter.join(cells[name.strip().lower()] for name in names), "", ""]
    path = write(tmp_path / "own.csv", "\r\n".join(lines), encoding)
    (movie,) = listing.read_csv(path, USUAL).movies
    assert movie.genres == ["Comédie", "Drame"] and pathlib.Path(movie.path).name == "é 1.jpg"


@pytest.mark.parametrize(
    ("cells", "expected", "told"),
    [
        (["Drama|Crime", "Crime"], [["Drama", "Crime"], ["Crime"]], ""),
        (["Drama, Crime", "Crime", "Drama"], [["Drama", "Crime"], ["Crime"], ["Drama"]], "separated by ',' in 1 of 3"),
        (["Drama;Crime", "Crime"], [["Drama", "Crime"], ["Crime"]], "separated by ';'"),
        (["Drama, Crime", "War, News"], [["Drama", "Crime"], ["War", "News"]], "separated by ','"),
        (["Washington, D.C.", "Paris", "Paris", "Washington, D.C."],
         [["Washington, D.C."], ["Paris"], ["Paris"], ["Washington, D.C."]], "may hold a separator"),
        (["['Drama', 'Crime']", "['Crime']", "[]"], [["Drama", "Crime"], ["Crime"], []], "lists in 3 of 3"),
        (['["Drama", "Sci-Fi, hard"]', '["Crime"]'], [["Drama", "Sci-Fi, hard"], ["Crime"]], "lists"),
        (["[{'id': 18, 'name': 'Drama'}, {'id': 80, 'name': 'Crime'}]", "[]"], [["Drama", "Crime"], []], "lists"),
        (["[Drama, Crime]", "[Crime]"], [["Drama", "Crime"], ["Crime"]], "lists"),
        (["N/A", "nan", "None", "null", "", " NaN ", "Drama|N/A", "\\N"], [[], [], [], [], [], [], ["Drama"], []],
         "no label in 6 of 8 cells: N/A, nan, None"),
        (["Drama", "drama ", "DRAMA", "Sci  Fi", "sci fi", "Drama"],
         [["Drama"], ["Drama"], ["Drama"], ["Sci Fi"], ["Sci Fi"], ["Drama"]], "case or spaces only are one"),
        (["Sci-Fi/Fantasy", "Sci-Fi/Fantasy", "War"], [["Sci-Fi/Fantasy"]] * 2 + [["War"]], ""),
        (["Drama|drama|War", "War"], [["Drama", "War"], ["War"]], "are one"),
    ],
)  # fmt: skip
def test_label_cells(cells: list[str], expected: list[list[str]], told: str) -> None:
    found, notes = label_texts.split_cells(cells)
    assert found == expected
    assert told in " ".join(notes) and (notes == [] if not told else True)


def test_a_given_separator_is_taken_and_a_broken_list_is_named() -> None:
    assert label_texts.split_cells(["Washington, D.C."], ",")[0] == [["Washington", "D.C."]]
    assert label_texts.split_cells(["a/b"], "/")[0] == [["a", "b"]]
    with pytest.raises(errors.UserError, match=r"row 2: the labels \"\['Drama\" are no list|row 2: the labels"):
        label_texts.split_cells(["Drama", "['Drama', 'Cri]"])


def test_a_column_for_each_label(tmp_path: pathlib.Path) -> None:
    text = "id,path,Drama,Crime,War\n1,a.jpg,1,0,0\n2,b.jpg,1,1,\n3,c.jpg,0,0,0\n4,d.jpg,0,true,0\n"
    listed = listing.read_csv(write(tmp_path / "own.csv", text), USUAL)
    assert [movie.genres for movie in listed.movies] == [["Drama"], ["Drama", "Crime"], [], ["Crime"]]
    assert "columns of zeros and ones: Drama, Crime" in listed.notes[0] and "War" not in listed.notes[0]


def test_metadata_of_hugging_face(tmp_path: pathlib.Path) -> None:
    records = [{"file_name": "a.jpg", "label": "Drama"}, {"file_name": "b.jpg", "label": ["War", "Crime"]}]
    lines = [json.dumps(record) for record in records]
    assert labels_of(write(tmp_path / "metadata.jsonl", "\n".join(lines))) == [["Drama"], ["War", "Crime"]]
    assert labels_of(write(tmp_path / "metadata.csv", "file_name,labels\na.jpg,Drama\nb.jpg,War|Crime\n")) == [
        ["Drama"],
        ["War", "Crime"],
    ]
    with pytest.raises(errors.UserError, match="line 2: no JSON"):
        labels_of(write(tmp_path / "broken.jsonl", lines[0] + "\n{file"))


def test_ids_movies_and_parts_under_other_names(tmp_path: pathlib.Path) -> None:
    rows = [("tt7", "train", "x", "a"), ("8", "val", "y", "b"), ("9", "test", "z", "c"), ("10", "train", "x", "d")]
    lines = [f"{id_},{part},{film},{name}.jpg,Drama" for id_, part, film, name in rows]
    path = write(tmp_path / "own.csv", "\n".join(["IMDb_ID,Subset,Film,path,genres", *lines]))
    (plain, *_) = (found := listing.read_csv(path)).movies
    assert (plain.id, plain.split, plain.tie) == (1, "", None), "columns of other names are not taken unasked"
    assert "the column Subset names parts and is not used: --config.data.split_column=Subset takes them" in found.notes
    named = {"id": "imdb_id", "split": "subset", "movie": "FILM"}
    found = listing.read_csv(path, named)
    assert [movie.id for movie in found.movies] == [7, 8, 9, 10]
    assert [movie.split for movie in found.movies] == ["train", "validation", "test", "train"]
    assert [movie.tie for movie in found.movies] == ["x", "y", "z", "x"]
    assert "the parts are those of the column subset" in found.notes and not any("is not used" in note for note in found.notes)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"id": "id"}, "--config.data.id_column=imdb_id"),
        ({"id": "imdbid"}, "--config.data.id_column=imdb_id"),
        ({"movie": "title"}, "--config.data.movie_column=film"),
        ({"split": "part"}, "--config.data.split_column=subset"),
        ({"split": "subsets", "id": "x"}, "--config.data.id_column=imdb_id --config.data.split_column=subset"),
    ],
)
def test_a_named_column_that_is_missing_is_guessed(tmp_path: pathlib.Path, columns: dict[str, str], words: str) -> None:
    path = write(tmp_path / "own.csv", "imdb_id,subset,film,path,genres\n1,train,x,a.jpg,Drama\n")
    with pytest.raises(errors.UserError, match=f"needs the columns path, genres, .*{words}"):
        listing.read_csv(path, columns)


def test_columns_of_other_names_are_named_in_what_is_refused(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path / "own.csv", "nr,part,film,path,genres\n1,train,x,a.jpg,War\n2,test,x,b.jpg,War\n")
    with pytest.raises(errors.UserError, match="the column part names no validation row"):
        listing.read_csv(path, {"split": "part"})
    with pytest.raises(errors.UserError, match="the column film has the same text in every row"):
        listing.read_csv(path, {"movie": "film"})
    assert listing.read_csv(path, {"id": "part"}).refusals[0] == (
        "bad_id",
        "part 'train' is no whole number from 1 to 2147483647",
    )


def test_a_picture_that_is_another_than_its_hash_says_is_refused(tmp_path: pathlib.Path) -> None:
    content_hash = images.check(picture(tmp_path / "a.png").read_bytes()).content_hash
    picture(tmp_path / "b.png", 1)
    lines = [f"a.png,Drama,{content_hash.upper()}", f"b.png,War,{content_hash}", "b.png,War,"]
    path = write(
        tmp_path / "own.csv", "\n".join(["id,path,genres,picture_sha256", *(f"{n},{line}" for n, line in enumerate(lines, 1))])
    )
    found = catalog.read_csv(path)
    assert found.table["id"].tolist() == [1, 3]
    assert found.refused[["id", "reason"]].to_numpy().tolist() == [["2", "other_picture"]]


@pytest.mark.parametrize(
    ("names", "expected", "told"),
    [
        (["Drama, Crime", "Drama", "Crime"], [["Crime"], ["Drama"], ["Drama", "Crime"]], "separated by ','"),
        (["Washington, D.C.", "Paris"], [["Paris"], ["Washington, D.C."]], "may hold a separator"),
        (["['Drama', 'Crime']", "Drama"], [["Drama"], ["Drama", "Crime"]], "lists in 2 of 4"),
        (["Drama; War", "War"], [["Drama", "War"], ["War"]], "separated by ';'"),
    ],
)
def test_names_of_folders_are_read_as_cells_are(
    tmp_path: pathlib.Path, names: list[str], expected: list[list[str]], told: str
) -> None:
    for number, name in enumerate(names):
        for copy in range(2):
            picture(tmp_path / name / f"{number}{copy}.jpg")
    listed = listing.read_folder(tmp_path)
    assert sorted(movie.genres for movie in listed.movies) == sorted(genres for genres in expected for _ in range(2))
    assert told in " ".join(listed.notes)
    whole = listing.read_folder(tmp_path, "none")
    assert {genre for movie in whole.movies for genre in movie.genres} >= {name for name in names if "[" not in name}


def test_a_folder_name_that_may_be_several_labels_is_refused(tmp_path: pathlib.Path) -> None:
    for name in ("Drama_War", "Drama", "War"):
        picture(tmp_path / name / "1.jpg")
    with pytest.raises(errors.UserError, match="'Drama_War' looks like several in one: .*label_separator=none keeps it"):
        listing.read_folder(tmp_path)


@pytest.mark.parametrize(
    ("table", "variant"), [("MovieGenre.csv", "kaggle"), ("metadata.csv", "csv"), ("metadata.jsonl", "csv")]
)
def test_a_folder_with_a_known_table_is_read_by_it(tmp_path: pathlib.Path, table: str, variant: str) -> None:
    picture(tmp_path / "posters" / "7.jpg")
    texts = {"MovieGenre.csv": "imdbId,Genre\n7,Drama\n", "metadata.csv": "file_name,label\nposters/7.jpg,Drama\n"}
    write(tmp_path / table, texts.get(table, '{"file_name": "posters/7.jpg", "label": "Drama"}\n'))
    (movie,) = places.read_listing("own", places.Place(folder=str(tmp_path))).movies
    assert movie.genres == ["Drama"] and pathlib.Path(movie.path).is_file()


def test_columns_of_other_names_are_guessed_in_the_refusal_and_taken_when_given(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path / "own.csv", "filename,Label\na.jpg,Drama\nb.jpg,War\n")
    with pytest.raises(errors.UserError) as refused:
        labels_of(path)
    for words in ("path, genres", "--config.data.path_column=filename", "--config.data.label_column=Label"):
        assert words in str(refused.value)
    assert labels_of(path, path="filename", genres="label") == [["Drama"], ["War"]]
    with pytest.raises(errors.UserError, match="needs the columns file, label"):
        labels_of(path, path="file", genres="label")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is empty"),
        ("\n\n", "it is empty"),
        ("path,genres\na.jpg,Drama,Crime\n", r"row 1: 3 cells, more cells than its header .* Drama\|Crime, or quote"),
        ("path,genres\na.jpg,Drama\nb.jpg,Drama,Crime\n", "row 2"),
        ("path,genres,split\na.jpg,Drama,train\nb.jpg,War,test\n", "column split names no validation row"),
        ("path,genres,movie\na.jpg,Drama,x\nb.jpg,War,x\n", "column movie has the same text in every row"),
        ("path,genres,split\na.jpg,Drama,holdout\n", "split 'holdout' is unknown"),
    ],
)
def test_what_is_refused(tmp_path: pathlib.Path, text: str, words: str) -> None:
    with pytest.raises(errors.UserError, match=words):
        labels_of(write(tmp_path / "own.csv", text))


def test_wrong_places_are_shown_with_what_is_there(tmp_path: pathlib.Path) -> None:
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "own.csv", "path,genres\n")
    with pytest.raises(errors.UserError, match=r"no file .*wrong/own.csv; the folder .* exists and holds data/"):
        csv_files.read(tmp_path / "wrong" / "own.csv")
    with pytest.raises(errors.UserError, match=r"data is a folder, not a CSV: name a file in it and holds own.csv"):
        csv_files.read(tmp_path / "data")
    write(tmp_path / "data" / "own.csv", "path,genres\nart/1.jpg,Drama\n")
    with pytest.raises(errors.UserError, match=r"1 missing_file.*it looked for .*data/art/1.jpg; the folder .*data exists"):
        catalog.read_csv(tmp_path / "data" / "own.csv")
    write(tmp_path / "data" / "own.csv", "id,path,genres\nabc,art/1.jpg,Drama\n")
    with pytest.raises(errors.UserError, match=r"1 bad_id.*write ids as 1 or tt0000001, or leave the column out"):
        catalog.read_csv(tmp_path / "data" / "own.csv")


@pytest.mark.parametrize("folder", ["posters", "posters/posters", "SampleMoviePosters", "images", "."])
@pytest.mark.parametrize("name", ["{}.jpg", "{}.jpeg", "{}.JPG", "{}.png", "{:07d}.jpg", "tt{:07d}.jpg", "tt{}.Jpeg"])
@pytest.mark.parametrize("text", ["{}", "{:07d}", "tt{:07d}", "{}.0"])
def test_layouts_of_the_kaggle_set(tmp_path: pathlib.Path, folder: str, name: str, text: str) -> None:
    ids = (7, 114709)
    for id_ in ids:
        picture(tmp_path / folder / name.format(id_))
    rows = "".join(f"{text.format(id_)},Drama\n" for id_ in ids)
    write(tmp_path / "MovieGenre.csv", f"imdbId,Genre\n{rows}", "utf-8-sig")
    found = {movie.id: pathlib.Path(movie.path) for movie in listing.read_kaggle(tmp_path).movies}
    assert found == {id_: tmp_path / folder / name.format(id_) for id_ in ids}


def test_of_several_pictures_of_a_movie_the_plain_name_is_taken(tmp_path: pathlib.Path) -> None:
    for name in ("0000007.jpg", "7.jpg", "7.png", "tt7.jpg"):
        picture(tmp_path / "posters" / name)
    write(tmp_path / "MovieGenre.csv", "imdbId,Genre\n7,Drama\n")
    (movie,) = listing.read_kaggle(tmp_path).movies
    assert pathlib.Path(movie.path).name == "7.jpg"


def test_a_folder_for_each_label(tmp_path: pathlib.Path) -> None:
    for number, label in enumerate(("Drama", "Film Noir", "Drama")):
        picture(tmp_path / "plain" / label / f"{number}.jpg")
    listed = listing.read_folder(tmp_path / "plain")
    assert sorted(movie.genres[0] for movie in listed.movies) == ["Drama", "Drama", "Film Noir"]
    assert "names of 2 folders" in listed.notes[0] and {movie.split for movie in listed.movies} == {""}
    for part in ("train", "Val", "test"):
        picture(tmp_path / "parts" / part / "Drama" / "1.png")
    found = listing.read_folder(tmp_path / "parts")
    assert {movie.split for movie in found.movies} == {"train", "validation", "test"}
    assert {movie.genres[0] for movie in found.movies} == {"Drama"}
    with pytest.raises(errors.UserError, match="no folder .*none; the folder"):
        listing.read_folder(tmp_path / "none")
    (tmp_path / "bare").mkdir()
    with pytest.raises(errors.UserError, match="no folder with pictures"):
        listing.read_folder(tmp_path / "bare")


NAMES = {
    "plain": "a.jpg",
    "space": "my poster.jpg",
    "accent": "Amélie.jpg",
    "decomposed": unicodedata.normalize("NFD", "Amélie.jpg"),
    "cjk": "七人の侍.jpg",
    "emoji": "🎬.jpg",
    "upper": "A.JPG",
    "below": "art/deep/a.png",
    "quoted": "a, b.jpg",
    "apostrophe": "it's.jpg",
}
HEADERS: dict[str, Callable[[str], bytes]] = {
    "plain": lambda text: text.encode(),
    "mark": lambda text: text.encode("utf-8-sig"),
    "spaces": lambda text: text.replace("path,genres", " Path , Genres ").encode(),
    "utf-16": lambda text: text.encode("utf-16"),
}


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("name", NAMES)
def test_one_changed_pixel_makes_another_key_under_any_name(tmp_path: pathlib.Path, name: str, header: str) -> None:
    file = picture(tmp_path / NAMES[name])
    cell = f'"{NAMES[name]}"' if "," in NAMES[name] else f"{NAMES[name]} "
    (tmp_path / "own.csv").write_bytes(HEADERS[header](f"path,genres\n{cell},Drama\n"))
    place = places.Place(csv=str(tmp_path / "own.csv"))

    def key() -> str:
        return places.fingerprint("csv", place, num_posters=0, seed=0)

    (movie,) = listing.read_csv(tmp_path / "own.csv", USUAL).movies
    assert pathlib.Path(movie.path) == file
    before = key()
    assert key() == before
    status = file.stat()
    with Image.open(file) as opened:
        changed = opened.convert("RGB")
    changed.putpixel((3, 3), (255, 0, 0))
    changed.save(file, "BMP")
    same_size = file.read_bytes()
    assert key() != before
    again = key()
    # Size and time of the file may stay what they were: its bytes count.
    other = bytearray(same_size)
    other[-1] ^= 1
    file.write_bytes(bytes(other))
    import os

    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert key() != again


def test_folders_with_one_text_and_other_pictures_do_not_share_posters(tmp_path: pathlib.Path) -> None:
    keys = []
    for seed, folder in enumerate(("A", "B")):
        picture(tmp_path / folder / "Amélie.jpg", seed)
        write(tmp_path / folder / "own.csv", "path,genres\nAmélie.jpg,Drama\n", "utf-8-sig")
        keys.append(places.fingerprint("csv", places.Place(csv=str(tmp_path / folder / "own.csv")), num_posters=0, seed=0))
    assert keys[0] != keys[1]


def test_a_picture_that_comes_later_makes_another_key(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path / "own.csv", "path,genres\nb.jpg,Drama\n")
    before = places.fingerprint("csv", places.Place(csv=str(path)), num_posters=0, seed=0)
    picture(tmp_path / "b.jpg")
    assert places.fingerprint("csv", places.Place(csv=str(path)), num_posters=0, seed=0) != before


def test_names_in_another_normal_form_and_with_backslashes_are_found(tmp_path: pathlib.Path) -> None:
    picture(tmp_path / "art" / unicodedata.normalize("NFD", "Amélie.jpg"))
    picture(tmp_path / "art" / "b.jpg")
    path = write(tmp_path / "own.csv", "path,genres\nart/Amélie.jpg,Drama\nart\\b.jpg,War\n")
    assert all(pathlib.Path(movie.path).is_file() for movie in listing.read_csv(path, USUAL).movies)
