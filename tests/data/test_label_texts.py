"""Labels made of other labels: split where that is certain or asked for, and otherwise refused with both ways out."""

import unicodedata

import pytest

from poster_jax import errors
from poster_jax.data import label_texts


@pytest.mark.parametrize(
    ("cells", "splits", "keeps"),
    [
        (("Drama|Crime", "Drama, Crime", "Crime", "Drama"), "pipe+comma", "pipe"),
        (("Drama|Crime", "Drama; Crime", "Crime", "Drama"), "pipe+semicolon", "pipe"),
        (("Drama;Crime", "Drama, Crime", "Crime", "Drama"), "semicolon+comma", "semicolon"),
        (("Drama/Crime", "crime", "Drama"), "slash", "none"),
        (("Drama / Crime", "Crime", "Drama"), "slash", "none"),
        (("Drama and Crime", "Crime", "Drama"), "and", "none"),
        (("Drama Crime", "Crime", "Drama"), "space", "none"),
        (("Drama\u00a0Crime", "Crime", "Drama"), "space", "none"),
        (("['Drama, Crime']", "['Drama']", "['Crime']"), "comma", "none"),
    ],
)
def test_a_label_of_other_labels_is_refused_and_both_ways_out_work(cells: tuple[str, ...], splits: str, keeps: str) -> None:
    with pytest.raises(errors.UserError, match="looks like several in one") as refused:
        label_texts.split_cells(cells)
    for word in (splits, keeps):
        assert f"--config.data.label_separator={word} " in str(refused.value)
    split, _ = label_texts.split_cells(cells, splits)
    assert {label.casefold() for labels in split for label in labels} == {"drama", "crime"}
    kept, _ = label_texts.split_cells(cells, keeps)
    assert len({label.casefold() for labels in kept for label in labels}) == 3


def test_labels_that_share_parts_and_never_stand_alone_are_refused() -> None:
    with pytest.raises(errors.UserError, match=r"'Drama/Crime' looks .*=slash splits it"):
        label_texts.split_cells(["Drama/Crime", "Crime/War", "War/Drama"])


@pytest.mark.parametrize(
    "names",
    [
        ("Sci-Fi/Fantasy", "Action/Adventure"),
        ("Science Fiction", "Romantic Comedy", "Comedy"),
        ("Sci-Fi", "Film-Noir", "War"),
        ("TV Movie", "Movie"),
        ("Sword & Sandal", "Rock & Roll"),
    ],
)
def test_a_label_with_a_mark_or_a_space_of_its_own_is_taken(names: tuple[str, ...]) -> None:
    assert label_texts.split_cells(names) == ([[name] for name in names], [])
    joined = ["|".join(names), *names]
    assert label_texts.split_cells(joined)[0][0] == list(names)


def test_a_list_of_numpy_and_an_object_of_flags() -> None:
    assert label_texts.split_cells(["['Drama' 'Sci Fi']", '["Drama"\n "War"]'])[0] == [["Drama", "Sci Fi"], ["Drama", "War"]]
    assert label_texts.split_cells(['{"Drama": 1, "War": 0}', '{"name": "War", "id": 3}', "{}"])[0] == [["Drama"], ["War"], []]


def test_the_two_forms_of_an_accent_are_one_label() -> None:
    name = "Comédie"
    found, notes = label_texts.split_cells([name, unicodedata.normalize("NFD", name)])
    assert found == [[name], [name]] and notes == []


@pytest.mark.parametrize(
    ("separator", "expected"),
    [
        ("comma", [["A", "B/C"], ["D"]]),
        ("comma+slash", [["A", "B", "C"], ["D"]]),
        ("/", [["A, B", "C"], ["D"]]),
        ("none", [["A, B/C"], ["D"]]),
        ("+", [["A, B/C"], ["D"]]),
    ],
)
def test_a_separator_by_its_character_and_by_its_word(separator: str, expected: list[list[str]]) -> None:
    assert label_texts.split_cells(["A, B/C", "D"], separator)[0] == expected
