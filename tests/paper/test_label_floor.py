"""The score of "no" to every genre under each reading of the labels, against counts by hand and figures in the README."""

import pathlib
import re

import pytest

from poster_jax.paper import label_floor
from poster_jax.report import __main__ as report

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Three of A alone, one of A and B, two of B alone, one of C first and A second.
TEXTS = ["A", "A", "A", "A|B", "B", "B", "C|A"]


def by_name(texts: list[str], genres: tuple[str, ...]) -> dict[str, label_floor.Reading]:
    return {reading.name: reading for reading in label_floor.readings(texts, genres)}


def test_every_reading_of_seven_movies_by_hand() -> None:
    table = by_name(TEXTS, ("A", "B"))
    strict, exploded, all_genres = (
        table["first genre (strict one-hot)"],
        table["exploded: a row per genre"],
        table["multi-hot: all genres"],
    )
    # C|A is not among those whose first genre is A or B.
    assert (strict.num_rows, strict.labels_per_row, strict.all_zeros) == (6, 1.0, 0.5)
    assert (exploded.num_rows, exploded.labels_per_row, exploded.all_zeros) == (8, 1.0, 0.5)
    assert (all_genres.num_rows, all_genres.labels_per_row) == (7, pytest.approx(8 / 7))
    assert all_genres.all_zeros == pytest.approx(1 - 8 / 14)
    # A|B has two rows that contradict each other: one of 8 rows is lost, and one cell in two of both its rows.
    assert exploded.top1_ceiling == pytest.approx(7 / 8)
    assert exploded.binary_ceiling == pytest.approx(14 / 16)
    assert strict.top1_ceiling == strict.binary_ceiling == all_genres.binary_ceiling == 1.0


def test_equal_in_both_senses_by_hand() -> None:
    table = by_name(TEXTS, ("A", "B"))
    # Five movies carry A, of them one also B; three carry B, of them one also A.
    draws = table["multi-hot, equal draws per genre"]
    assert draws.labels_per_row == pytest.approx((6 / 5 + 4 / 3) / 2)
    assert draws.num_rows == 6
    # Draws without repeats: A|B with two of A and two of B gives three of each, 6 labels over 5 movies; or 3 of A, and B.
    movies = table["multi-hot, movies drawn to equal"]
    assert movies.labels_per_row == pytest.approx(6 / movies.num_rows)
    assert table["exploded, equal per genre"].num_rows == 6


def test_a_genre_that_is_never_listed_first_leaves_out_one_row_only() -> None:
    table = by_name(["A|B", "A"], ("A", "B"))
    assert "first genre, equal per genre" not in table
    assert len(table) == 6


def test_the_pages_figures_are_what_the_command_prints(shared_dir: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["explain-72", str(shared_dir / "data" / "genres_all.csv")]) == 0
    said = capsys.readouterr().out
    shares = {line[:32].strip(): re.findall(r"([\d.]+) %", line)[0] for line in said.splitlines() if line.count("%") == 3}
    quoted = [shares[name] for name in ("first genre (strict one-hot)", "multi-hot: all genres")]
    quoted += [shares["multi-hot, movies drawn to equal"], shares["multi-hot, equal draws per genre"]]
    assert quoted == ["83.3", "77.0", "74.7", "72.6"]
    page = (ROOT / "poster_jax" / "paper" / "README.md").read_text()
    assert all(f"{share} %" in page for share in quoted)
    assert "36,918 movies" in said


def test_rows_of_one_movie_are_merged_and_other_columns_and_encodings_read(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes('imdbId,Title,Genre\n1,"Amélie, again",A\n1,Amélie,B|A\n2,x, C \n3,x,\n'.encode("ISO-8859-1"))
    assert label_floor.load_texts(path) == ["A|B", "C"]
    path.write_text("genres\nA\nA\n")
    assert label_floor.load_texts(path) == ["A", "A"]


@pytest.mark.parametrize(
    ("content", "arguments", "says"),
    [
        (None, [], "cannot be read"),
        ("", [], "is empty"),
        ("id,kind\n1,A\n", [], "id, kind"),
        ("Genre\n\n|\n", [], "names no genre"),
        ("Genre\nA\nB\n", [], "num_genres is 6"),
        ("Genre\nDrama\nB\n", ["--genres=Darma,B"], "'Drama'"),
        ("Genre\nA\n", ["--gernes=A"], "--gernes"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    content: str | None, arguments: list[str], says: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.csv"
    if content is not None:
        path.write_text(content)
    assert report.main(["explain-72", str(path), *arguments]) == 2
    said = capsys.readouterr()
    assert says in said.err and said.err.count("\n") == 1 and not said.out
