"""Both input paths: equal order, equal images, every row once, and the rows of each process."""

import dataclasses
import json
import pathlib
from typing import Any

import jax
import numpy as np
import pytest

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.data import builder, dataset, images, input_pipeline, places, resident, sampler
from poster_jax.runtime import sharding as sharding_lib

ROOT = pathlib.Path(__file__).resolve().parents[2]


def load_config(**overrides: str) -> Any:
    pairs = [(key.replace("__", "."), value) for key, value in overrides.items()]
    return config_lib.load(f"{ROOT}/configs/cnn_onehot.py:smoke", pairs)


def open_feed(path: str, num_devices: int = 1, **overrides: str) -> input_pipeline.Loader:
    shardings = sharding_lib.make_shardings(jax.devices()[:num_devices])
    return input_pipeline.open_loader(load_config(**overrides).data, shardings, (path, "the test asks for it"))


def collect(batches: Any) -> list[dict[str, np.ndarray]]:
    return [{name: np.asarray(rows) for name, rows in batch.items()} for batch in batches]


@pytest.fixture(scope="module")
def streaming() -> input_pipeline.Loader:
    pytest.importorskip("tensorflow", reason="the streaming path needs TensorFlow")
    return open_feed("streaming")


def test_both_paths_give_the_same_training_batches(streaming: input_pipeline.Loader) -> None:
    batches = [collect(one.train_batches(8, 3, 2, 14)) for one in (open_feed("resident"), streaming)]
    assert len(batches[0]) == len(batches[1]) == 12
    for ours, theirs in zip(*batches, strict=True):
        for name in ("id", "label", "mask"):
            np.testing.assert_array_equal(ours[name], theirs[name])
        np.testing.assert_array_equal(ours["image"], theirs["image"])
        assert ours["image"].dtype == theirs["image"].dtype == np.uint8
    other = collect(streaming.train_batches(8, 4, 2, 3))[0]
    assert not np.array_equal(other["image"], batches[0][0]["image"])


@pytest.mark.parametrize("part", dataset.PARTS)
def test_both_paths_evaluate_every_row_once(streaming: input_pipeline.Loader, part: str) -> None:
    for one in (open_feed("resident"), streaming):
        batches = collect(one.eval_batches(part, 16))
        ids = np.concatenate([batch["id"][batch["mask"] > 0] for batch in batches])
        np.testing.assert_array_equal(ids, one.rows.movie_id[one.rows.parts[part]])
        assert {len(batch["id"]) for batch in batches} == {16}


def test_the_device_gather_gives_what_the_host_gather_gives() -> None:
    host = open_feed("resident", 4)
    data = load_config().data
    packed = resident.pack(builder.load_source(data), data.image_size, data.cache_dir)
    shardings = host.shardings
    stream = resident.make_device_stream(packed.images, host.rows.poster, shardings.replicated, shardings.batch)
    device = dataclasses.replace(host, images=stream, on_device=True)
    for ours, theirs in zip(host.train_batches(8, 0, 0, 5), device.train_batches(8, 0, 0, 5), strict=True):
        assert theirs["image"].sharding == shardings.batch
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])


def test_the_image_of_a_row_is_the_poster_of_its_movie() -> None:
    one, data = open_feed("resident"), load_config().data
    source = builder.load_source(data)
    encoded = dict(zip(source.table["id"], source.encoded(range(len(source.table))), strict=True))
    for batch in collect(one.train_batches(8, 0, 0, 3)):
        for movie, image, label in zip(batch["id"], batch["image"], batch["label"], strict=True):
            np.testing.assert_array_equal(image, images.decode(encoded[movie], data.image_size))
            texts = source.table.set_index("id")["genres"][movie].split("|")
            assert {genre for genre, value in zip(one.rows.genres, label, strict=True) if value} == set(texts)


def test_a_batch_starts_where_its_step_says() -> None:
    one = open_feed("resident")
    whole = collect(one.train_batches(8, 0, 0, 9))
    np.testing.assert_array_equal(collect(one.train_batches(8, 0, 7, 9))[0]["id"], whole[7]["id"])


@pytest.mark.parametrize("path", ["resident", "streaming"])
@pytest.mark.parametrize("num_processes", [1, 2, 3])
def test_processes_read_disjoint_parts_that_make_the_whole(
    path: str, num_processes: int, streaming: input_pipeline.Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulates each of several processes: checks the posters it decodes and its rows in the global batches."""
    whole = streaming if path == "streaming" else open_feed("resident")
    monkeypatch.setattr(jax, "process_count", lambda: num_processes)
    monkeypatch.setattr(sharding_lib, "put_batch", lambda local, sharding: local)
    decoded: list[list[np.ndarray]] = []
    batches: list[list[dict[str, np.ndarray]]] = []
    for index in range(num_processes):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        requested: list[np.ndarray] = []
        noted = dataclasses.replace(whole, images=lambda plan, rows=requested: whole.images(note(plan, rows)))
        batches.append([*noted.train_batches(12, 3, 4, 7), *noted.eval_batches("test", 12)])
        decoded.append(requested)
    part, test = whole.rows.parts["train"], whole.rows.parts["test"]
    expected = [part[sampler.batch_positions(len(part), 12, 3, step)] for step in range(4, 7)]
    expected += [test[positions] for positions, _ in sampler.padded_positions(len(test), 12)]
    shares = {12 // num_processes}
    for number, rows in enumerate(expected):
        together = {name: np.concatenate([one[number][name] for one in batches]) for name in batches[0][number]}
        np.testing.assert_array_equal(np.concatenate([one[number] for one in decoded]), whole.rows.poster[rows])
        np.testing.assert_array_equal(together["id"], whole.rows.movie_id[rows])
        np.testing.assert_array_equal(together["label"], whole.rows.target[rows])
        assert {len(one[number]["image"]) for one in batches} == {len(one[number]) for one in decoded} == shares
    num_rows = sum(one["mask"].sum() for process in batches for one in process)
    assert num_rows == 3 * 12 + len(test)


def note(plan: Any, requested: list[np.ndarray]) -> Any:
    for posters in plan:
        requested.append(posters)
        yield posters


def test_the_decoder_agrees_with_tensorflows_to_one_grey_level() -> None:
    """TensorFlow's accurate DCT and antialiased bilinear resize: a reference that shares no code with Pillow's resize."""
    tf = pytest.importorskip("tensorflow", reason="the reference is TensorFlow")
    encoded = builder.load_source(load_config().data).encoded(range(8))
    for one in encoded:
        reference = tf.io.decode_jpeg(one, channels=3, dct_method="INTEGER_ACCURATE")
        smooth = tf.round(tf.image.resize(reference, (150, 101), method="bilinear", antialias=True))
        rough = tf.round(tf.image.resize(reference, (150, 101), method="bilinear"))
        ours = images.decode(one, (150, 101)).astype(int)
        assert np.abs(ours - smooth.numpy()).max() <= 1
        assert np.abs(ours - rough.numpy()).max() > 10


def test_auto_takes_resident_when_it_fits_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    path, why = input_pipeline.choose_path("auto", 1000, (150, 101))
    assert path == "resident"
    assert "43 MB" in why
    monkeypatch.setattr(input_pipeline, "memory_mb", lambda: 50.0)
    pytest.importorskip("tensorflow", reason="the streaming path needs TensorFlow")
    assert input_pipeline.choose_path("auto", 1000, (150, 101))[0] == "streaming"
    assert input_pipeline.choose_path("resident", 1000, (150, 101))[0] == "resident"
    monkeypatch.setattr(input_pipeline.importlib.util, "find_spec", lambda _: None)
    assert "not installed" in input_pipeline.choose_path("auto", 1000, (150, 101))[1]


class TestCache:
    """A packed cache is named by what it depends on and read without its source; another folder is refused."""

    def test_the_name_depends_on_everything_that_the_posters_depend_on(self) -> None:
        names = set()
        for overrides in ({}, {"data__seed": "1"}, {"data__num_posters": "170"}):
            data = load_config(**overrides).data
            key = places.fingerprint(data.variant, places.find_place(data), num_posters=data.num_posters, seed=data.seed)
            names.add(key)
        assert len(names) == 3

    def test_a_packed_cache_alone_is_enough(self, tmp_path: pathlib.Path) -> None:
        original = open_feed("resident")
        data = load_config().data
        folder = resident.packed_directory(builder.load_source(data), data.image_size, data.cache_dir)
        moved = open_feed("resident", data__variant="packed", data__dir=str(folder), data__cache_dir=str(tmp_path))
        for ours, theirs in zip(original.eval_batches("test", 8), moved.eval_batches("test", 8), strict=True):
            np.testing.assert_array_equal(ours["image"], theirs["image"])
            np.testing.assert_array_equal(ours["label"], theirs["label"])
        with pytest.raises(errors.UserError, match=r"image_size=\(38, 26\)"):
            open_feed("resident", data__variant="packed", data__dir=str(folder), data__image_size="(40, 26)")

    def test_posters_are_decoded_once(self, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
        calls = []
        decode = images.decode
        monkeypatch.setattr(images, "decode", lambda *arguments: calls.append(1) or decode(*arguments))
        for expected in (60, 60):
            one = open_feed("resident", data__cache_dir=str(tmp_path), data__num_posters="60", data__min_movies="1")
            collect(one.eval_batches("test", 8))
            assert len(calls) == expected

    def test_streaming_decodes_a_poster_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("tensorflow", reason="the streaming path needs TensorFlow")
        calls = []
        decode = images.decode
        monkeypatch.setattr(images, "decode", lambda *arguments: calls.append(1) or decode(*arguments))
        one = open_feed("streaming")
        used = len(one.rows.parts["test"])
        first, again = (collect(one.eval_batches("test", 8)) for _ in range(2))
        # The last batch is padded with the first poster, which another thread may still be decoding.
        assert used <= len(calls) <= used + 1
        for ours, theirs in zip(first, again, strict=True):
            np.testing.assert_array_equal(ours["image"], theirs["image"])

    def test_a_changed_picture_makes_another_cache(self, tmp_path: pathlib.Path) -> None:
        (tmp_path / "posters").mkdir()
        (tmp_path / "MovieGenre.csv").write_text("imdbId,Genre\n1,Drama\n")
        keys = []
        for size in (64, 65):
            from PIL import Image

            Image.new("RGB", (size, size)).save(tmp_path / "posters" / "1.jpg")
            keys.append(places.fingerprint("kaggle", places.Place(str(tmp_path)), num_posters=0, seed=0))
        assert keys[0] != keys[1]


def test_every_example_arrives_in_the_records() -> None:
    """TFDS 4.9.10 loses examples when it writes parquet, so the count is checked for the format in use."""
    source = builder.load_source(load_config(data__num_posters="700").data)
    assert len(source.table) == 700
    assert source.table["id"].tolist() == list(range(1, 701))
    assert len(source.encoded(range(700))) == 700


def test_the_summary_is_ready_for_json_and_names_the_data() -> None:
    summary = open_feed("resident").rows.summary
    assert json.loads(json.dumps(summary))["name"] == "synthetic posters"
    assert summary["leaked_rows"] == {"validation": 0, "test": 0}


def test_the_real_posters_go_through_both_paths(shared_dir: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """A folder of links to 300 real posters: both paths give the same pixels."""
    pytest.importorskip("tensorflow", reason="the streaming path needs TensorFlow; ../shared is there")
    real = shared_dir / "data" / "posters"
    (tmp_path / "posters").mkdir()
    lines = (real / "MovieGenre.csv").read_text(encoding="ISO-8859-1").splitlines()
    (tmp_path / "MovieGenre.csv").write_text("\n".join(lines[:301]) + "\n", encoding="ISO-8859-1")
    for movie in sorted({line.split(",")[0] for line in lines[1:301]}):
        picture = real / "posters" / f"{movie}.jpg"
        if picture.exists():
            (tmp_path / "posters" / picture.name).symlink_to(picture)
    overrides = {
        "data__variant": "kaggle",
        "data__dir": str(tmp_path),
        "data__image_size": "(150, 101)",
        "data__min_movies": "5",
        "data__balance": "none",
    }
    batches = [collect(open_feed(path, **overrides).eval_batches("train", 32)) for path in ("resident", "streaming")]
    for ours, theirs in zip(*batches, strict=True):
        np.testing.assert_array_equal(ours["id"], theirs["id"])
        np.testing.assert_array_equal(ours["image"], theirs["image"])


def test_drawn_validation_holds_no_row_twice() -> None:
    whole = open_feed("resident")
    validation = whole.rows.parts["validation"]
    drawn = whole.sampled_validation(len(validation) - 1, 0).rows.parts["validation"]
    assert len(set(drawn.tolist())) == len(drawn) == len(validation) - 1
    assert set(drawn) < set(validation)
