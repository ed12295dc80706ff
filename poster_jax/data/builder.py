"""TFDS builder `movie_posters`: the checked posters of one source as JPEG or PNG bytes, with id, genres and duplicate group.

The file format is array_record because it can be read by index without TensorFlow. TFDS 4.9.10 loses examples when it writes
parquet: `file_adapters._batched` skips ever longer stretches, and 700 of 2,997 examples arrived.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import tensorflow_datasets as tfds
from absl import logging as absl_logging

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.data import cache, catalog, listing, picture_files, synthetic
from poster_jax.data.source import ENCODED, SPLIT, Records, Source, read_tables, write_table

# Parts of cache names. Raise the first when the written format changes, and the second, which is of variants that read files,
# when a picture or a row gets another verdict.
FORMAT, RULES = "1", "2"
NAMES = {
    "synthetic": "synthetic posters",
    "kaggle": "Kaggle posters",
    "csv": "own posters",
    "folder": "own posters",
    "own": "own posters",
}


@dataclasses.dataclass(frozen=True)
class Place:
    """Where posters and labels are: `config.data` without what is drawn from them."""

    folder: str = ""
    csv: str = ""
    path_column: str = ""
    label_column: str = ""
    label_separator: str = ""


def find_place(data: config_lib.Data) -> Place:
    """The place of `config.data`, with absolute paths."""
    folder, csv = (os.path.abspath(path) if path else "" for path in (data.dir, data.csv))
    return Place(folder, csv, data.path_column, data.label_column, data.label_separator)


@dataclasses.dataclass(kw_only=True)
class PosterConfig(tfds.core.BuilderConfig):
    """The settings of one variant that change what is on disk."""

    variant: str = "synthetic"
    num_posters: int = 1500
    seed: int = 0
    place: Place = Place()


class MoviePosters(tfds.core.GeneratorBasedBuilder):
    """Posters with the genres of their movies; `synthetic` draws them, `kaggle` reads them from `manual_dir`."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Put MovieGenre.csv and the folder posters/ (<imdbId>.jpg) into manual_dir."
    BUILDER_CONFIGS = [
        PosterConfig(name="synthetic", variant="synthetic", description="Posters drawn from (seed, id, genres)."),
        PosterConfig(name="kaggle", variant="kaggle", description="The layout of the Kaggle set movie-genre-from-its-poster."),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "id": np.int64,
                "image": tfds.features.Image(shape=(None, None, 3)),
                "genres": tfds.features.Text(),
                "group": np.int64,
                "split": tfds.features.Text(),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True, supervised_keys=None)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        config = self._config()
        place = config.place
        if config.variant == "kaggle" and not place.folder:
            place = Place(os.fspath(dl_manager.manual_dir))
        posters = read_catalog(config.variant, place, config.num_posters, config.seed)
        return {SPLIT: self._generate_examples(posters)}

    def _generate_examples(self, posters: catalog.Catalog) -> Iterator[tuple[int, dict[str, Any]]]:
        # The table of refusals is written beside the data, so that one atomic rename covers both.
        catalog.write_refused(posters.refused, pathlib.Path(os.fspath(self.data_path)) / "refused.csv")
        repaired = pathlib.Path(os.fspath(self.data_path)) / "repaired.json"
        repaired.write_text(json.dumps(posters.repaired))
        (repaired.parent / "notes.json").write_text(json.dumps(posters.notes))
        config = self._config()
        rows = posters.table.to_dict("records")
        for row in catalog.show_progress(rows, len(rows), "writing records"):
            if config.variant == "synthetic":
                encoded = synthetic.draw_poster(config.seed, row["id"], tuple(row["genres"].split("|")))
            else:
                encoded = catalog.load_encoded(row["path"])
            example = {name: row[name] for name in ("id", "genres", "group", "split")}
            yield row["id"], {**example, "image": io.BytesIO(encoded)}

    def _config(self) -> PosterConfig:
        assert isinstance(self.builder_config, PosterConfig)
        return self.builder_config


def read_catalog(variant: str, place: Place, num_posters: int, seed: int) -> catalog.Catalog:
    """The checked table of a variant; builds nothing. The synthetic variant refuses no poster."""
    if variant != "synthetic":
        return catalog.check(read_listing(variant, place))
    table = pd.DataFrame(synthetic.draw_table(num_posters, seed))[["id", "genres"]]
    table = table.assign(path="", group=table["id"], split="")
    refused = pd.DataFrame({"id": [], "reason": [], "genres": [], "detail": []}, dtype=str)
    return catalog.Catalog(table=table, refused=refused, repaired={})


def read_listing(variant: str, place: Place) -> listing.Listing:
    """The rows of a variant that reads files, before any picture is opened."""
    columns = {"path": place.path_column, "genres": place.label_column}
    return listing.read(variant, folder=place.folder, csv=place.csv, columns=columns, separator=place.label_separator)


def fingerprint(variant: str, place: Place, *, num_posters: int, seed: int) -> str:
    """SHA-256 hex digest of the settings, of every listed row, and of the bytes of every listed picture.

    The rows are those of the one reader of CSVs, so that a picture under any name is among them. Raises UserError when the
    folder or the file does not exist, as `listing.read` does.
    """
    digest = hashlib.sha256(f"{FORMAT} {variant}".encode())
    if variant == "synthetic":
        digest.update(f"{num_posters} {seed}".encode())
        return digest.hexdigest()
    digest.update(f" rules {RULES}".encode())
    listed = read_listing(variant, place)
    for movie in listed.movies:
        digest.update(repr((movie.id, os.path.basename(movie.path), movie.genres, movie.split, movie.tie, movie.rows)).encode())
        digest.update(_digest_file(movie.path))
    digest.update(repr((listed.id_texts, listed.genre_texts, sorted(listed.refusals.items()))).encode())
    return digest.hexdigest()


def _digest_file(path: str) -> bytes:
    """SHA-256 of a file's bytes; of its error's number where it cannot be read."""
    try:
        with picture_files.open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").digest()
    except (OSError, ValueError) as error:
        return hashlib.sha256(f"error {getattr(error, 'errno', 0)}".encode()).digest()


def _directory(data: config_lib.Data) -> tuple[pathlib.Path, str]:
    key = fingerprint(data.variant, find_place(data), num_posters=data.num_posters, seed=data.seed)
    return cache.disk_root(data.cache_dir) / f"{data.variant}-{key[:16]}", key


def load_source(data: config_lib.Data) -> Source:
    """Builds the set of `config.data` on the first call and reads it afterwards; the cache is never half-written.

    Raises UserError for a missing folder or a catalog without a usable poster.
    """
    directory, key = _directory(data)
    if not directory.exists():
        # TFDS requires a unique name for every config that is not in BUILDER_CONFIGS.
        name = f"{data.variant}_{key[:16]}"
        config = PosterConfig(
            name=name, variant=data.variant, num_posters=data.num_posters, seed=data.seed, place=find_place(data)
        )
        _build(config, directory, manual_dir=data.dir if data.variant == "kaggle" else "")
    [info] = directory.glob("movie_posters/*/*/dataset_info.json")
    try:
        table, refused = read_tables(directory)
    except (OSError, ValueError) as error:
        raise errors.UserError(f"the cache {directory} is damaged ({error}): remove it, and it is made anew.") from error
    repaired = json.loads((directory / "repaired.json").read_text())
    noted = directory / "notes.json"
    notes = tuple(json.loads(noted.read_text())) if noted.exists() else ()
    return Source(NAMES[data.variant], key, table, refused, repaired, Records(info.parent), notes)


def preview_source(data: config_lib.Data) -> Source:
    """The same table without building anything. Its records can be read only if an earlier run has built them."""
    directory, key = _directory(data)
    if directory.exists():
        return load_source(data)
    posters = read_catalog(data.variant, find_place(data), data.num_posters, data.seed)
    records = Records(directory)
    return Source(NAMES[data.variant], key, posters.table, posters.refused, posters.repaired, records, posters.notes)


def _build(config: PosterConfig, directory: pathlib.Path, manual_dir: str) -> None:
    print(f"reading the posters into {directory.name} ...", flush=True)
    tfds.disable_progress_bar()
    absl_logging.set_verbosity(absl_logging.ERROR)
    with cache.atomic_directory(directory) as unfinished:
        builder: Any = MoviePosters(data_dir=unfinished, config=config, file_format="array_record")
        download = tfds.download.DownloadConfig(manual_dir=manual_dir or None, try_download_gcs=False)
        # TFDS prints "Downloading", although nothing is downloaded.
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(download_config=download)
        built = pathlib.Path(os.fspath(builder.data_path))
        records = builder.as_data_source(SPLIT, decoders=ENCODED)
        table = pd.DataFrame(
            [(r["id"], r["genres"].decode(), r["group"], r["split"].decode()) for r in records],
            columns=["id", "genres", "group", "split"],
        )
        if len(table) != builder.info.splits[SPLIT].num_examples or not table["id"].is_monotonic_increasing:
            raise RuntimeError(
                f"TFDS wrote {len(table)} of {builder.info.splits[SPLIT].num_examples} posters, or reordered them"
            )
        write_table(table, unfinished)
        for name in ("refused.csv", "repaired.json", "notes.json"):
            os.replace(built / name, unfinished / name)
