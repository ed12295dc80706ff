"""Files of features: every form read back bit for bit, joined by id, and every way to be none refused in one sentence."""

import pathlib
import zipfile
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.data import feature_files, own

IDS = np.array([5, 2, 9, 1], np.int64)
ARRAY = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
PARTS = np.array(["train", "test", "validation", "train+test"])


@pytest.mark.parametrize("suffix", feature_files.SUFFIXES)
def test_what_is_written_is_read_in_the_order_of_the_posters(tmp_path: pathlib.Path, suffix: str) -> None:
    path = tmp_path / f"features{suffix}"
    feature_files.check_target(path)
    feature_files.write(path, IDS, ARRAY, PARTS)
    found, [origin] = feature_files.read(str(path), np.array([1, 2, 5]))
    assert found.dtype == np.float32 and (found == ARRAY[[3, 1, 0]]).all()
    assert (origin.source, origin.columns) == (path.name, 3)
    before = path.read_bytes()
    feature_files.write(path, IDS, ARRAY, PARTS)
    assert path.read_bytes() == before
    feature_files.write(path, IDS, ARRAY + 1, PARTS)
    other, [changed] = feature_files.read(str(path), np.array([1, 2, 5]))
    assert (other != found).all() and changed.sha256 != origin.sha256


def test_other_programs_may_write_ids_and_numbers_in_their_own_way(tmp_path: pathlib.Path) -> None:
    """Ids as IMDb spells them, half precision, columns, lists in a parquet; movies and parts are no features."""
    ids = np.array([1, 2, 5])
    np.savez(tmp_path / "a.npz", ids=np.array(["tt0000005", "2.0", "9", "1"]), embeddings=ARRAY.astype(np.float16), part=PARTS)
    found, _ = feature_files.read(str(tmp_path / "a.npz"), ids)
    assert (found == ARRAY.astype(np.float16)[[3, 1, 0]]).all()
    columns: dict[str, Any] = {"id": IDS, "movie": IDS, "split": PARTS, **{f"f{k}": ARRAY[:, k] for k in range(3)}}
    np.savez(tmp_path / "b.npz", **columns)
    parquet.write_table(pyarrow.table({name: column.tolist() for name, column in columns.items()}), tmp_path / "c.parquet")
    parquet.write_table(pyarrow.table({"id": IDS, "embedding": ARRAY.astype(np.float64).tolist()}), tmp_path / "d.parquet")
    for name in ("b.npz", "c.parquet", "d.parquet"):
        assert (feature_files.read(str(tmp_path / name), ids)[0] == ARRAY[[3, 1, 0]]).all(), name


def test_several_files_stand_side_by_side(tmp_path: pathlib.Path) -> None:
    one, two = tmp_path / "one.npz", tmp_path / "two.safetensors"
    feature_files.write(one, IDS, ARRAY, PARTS)
    feature_files.write(two, IDS[::-1], 10 + ARRAY[::-1, :2], PARTS)
    found, origins = feature_files.read(f"{one}, {two}", IDS)
    assert (found == np.concatenate([ARRAY, (10 + ARRAY)[:, :2]], axis=1)).all()
    assert [origin.columns for origin in origins] == [3, 2]
    comma = tmp_path / "one, two.npz"
    feature_files.write(comma, IDS, ARRAY, PARTS)
    assert (feature_files.read(str(comma), IDS)[0] == ARRAY).all()


def nan(array: np.ndarray, value: float) -> np.ndarray:
    wrong = array.astype(np.float64)
    wrong[2, 1] = value
    return wrong


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"id": IDS[:2], "features": ARRAY[:2]}, "2 of 4 posters have no features in .*, whose first id is 5: 9, 1; write"),
        ({"id": np.array(["a.jpg"] * 1), "features": ARRAY[:1]}, "4 of 4 posters .*, whose first id is 'a.jpg': 5, 2, 9 "),
        ({"id": np.array([5, 2, 9, 5]), "features": ARRAY}, "1 ids are there twice or more: 5; give each poster one row"),
        ({"id": np.array(["5", "tt05", "9", "1"]), "features": ARRAY}, "1 ids are there twice or more: 5;"),
        ({"id": IDS, "features": nan(ARRAY, np.nan)}, "1 of 12 features are missing or not finite .* column 2 of the id 9:"),
        ({"id": IDS, "features": nan(ARRAY, 1e300)}, "1 of 12 features are missing or not finite in float32"),
        ({"id": IDS, "features": ARRAY[:, :0]}, "has no features beside its ids: give an array features"),
        ({"id": IDS}, "has no features beside its ids"),
        ({"id": IDS, "name": np.array(list("abcd"))}, "has no features beside its ids"),
        ({"features": ARRAY}, r"needs an array id of N ids, and has features \(4x3, float32\)"),
        ({"id": IDS[:, None], "features": ARRAY}, r"needs an array id of N ids, and has id \(4x1, int64\)"),
        ({"id": IDS, "features": ARRAY[:3]}, r"has 4 ids and features \(3x3, float32\): give numbers"),
        ({"id": IDS, "features": ARRAY[None]}, r"has 4 ids and features \(1x4x3, float32\): give numbers"),
        ({"id": IDS, "features": ARRAY.astype(str)}, "has 4 ids and features .*: give numbers"),
        ({"id": IDS, "features": ARRAY.astype(complex)}, "has 4 ids and features .*: give numbers"),
        ({"id": IDS[:0], "features": ARRAY[:0]}, "4 of 4 posters have no features in .*npz: 5, 2"),
    ],
)
def test_what_cannot_stand_for_the_posters_is_one_sentence(tmp_path: pathlib.Path, arrays: dict, says: str) -> None:
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(errors.UserError, match=says) as told:
        feature_files.read(str(tmp_path / "f.npz"), IDS)
    assert "\n" not in str(told.value)


def test_a_file_that_is_none_and_a_bomb_are_refused(tmp_path: pathlib.Path) -> None:
    for name, content in (("a.npz", b"not a zip"), ("b.parquet", b"PAR1"), ("c.safetensors", b"{}"), ("d.pt", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(errors.UserError, match=f"{name} (cannot be read as|ends in none of)"):
            feature_files.read(str(tmp_path / name), IDS)
    with pytest.raises(errors.UserError, match="there is no file .*absent.npz"):
        feature_files.read(str(tmp_path / "absent.npz"), IDS)
    np.savez(tmp_path / "e.npz", id=IDS, features=np.array([object()] * 4))
    with pytest.raises(errors.UserError, match="holds Python objects"):
        feature_files.read(str(tmp_path / "e.npz"), IDS)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("features.npy", bytes(300 << 20))
    with pytest.raises(errors.UserError, match="bomb.npz cannot be read as an npz .its .* bytes unpack to 314,572,800"):
        feature_files.read(str(tmp_path / "bomb.npz"), IDS)


def test_a_target_that_cannot_be_written_is_refused_before_anything_is_computed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, says in (("a.csv", "ends in none of .npz"), ("none/a.npz", "there is no folder"), ("a", "ends in none of")):
        with pytest.raises(errors.UserError, match=says):
            feature_files.check_target(tmp_path / name)
    monkeypatch.setattr(feature_files.array_files.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(errors.UserError, match="needs pyarrow: pip install 'poster_jax.tables.'"):
        feature_files.check_target(tmp_path / "a.parquet")
    feature_files.check_target(tmp_path / "a.npz")


def test_the_part_of_a_poster_is_that_of_its_rows() -> None:
    poster, posters = np.array([7, 7, 3, 4]), np.array([3, 4, 7])
    positions = {"train": np.array([0]), "validation": np.array([2]), "test": np.array([1, 3])}
    assert feature_files.part_names(positions, poster, posters).tolist() == ["validation", "test", "train+test"]


def test_a_missing_file_is_told_before_posters_are_read(tmp_path: pathlib.Path) -> None:
    np.savez(tmp_path / "a.npz", id=IDS, features=ARRAY)
    feature_files.require(f"{tmp_path / 'a.npz'}")
    feature_files.require("released:mobilenet_v2")
    for text in (f"{tmp_path / 'b.npz'}", f"{tmp_path / 'a.npz'},{tmp_path / 'b.npz'}"):
        config = config_lib.load("probe_features", [("data.features", text)])
        with pytest.raises(
            errors.UserError, match="there is no file .*b.npz; the folder .* holds a.npz; name a file of features"
        ):
            own.settle(config)
