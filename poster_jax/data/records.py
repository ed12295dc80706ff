"""TFDS builder `movie_posters`: the checked posters of one source as JPEG or PNG bytes, with id, genres and duplicate group.

The file format is array_record because it can be read by index without TensorFlow. TFDS 4.9.10 loses examples when it writes
parquet: `file_adapters._batched` skips ever longer stretches, and 700 of 2,997 examples arrived.
"""

import contextlib
import dataclasses
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
from poster_jax.data import cache, catalog, places, preview, synthetic
from poster_jax.data.source import SPLIT, encoded_decoders, write_table


@dataclasses.dataclass(kw_only=True)
class PosterConfig(tfds.core.BuilderConfig):
    """The settings of one variant that change what is on disk."""

    variant: str = "synthetic"
    num_posters: int = 1500
    seed: int = 0
    place: places.Place = places.Place()


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
            place = places.Place(os.fspath(dl_manager.manual_dir))
        posters = preview.read_catalog(config.variant, place, config.num_posters, config.seed)
        return {SPLIT: self._generate_examples(posters)}

    def _generate_examples(self, posters: catalog.Catalog) -> Iterator[tuple[int, dict[str, Any]]]:
        # The table of refusals is written beside the data, so that one atomic rename covers both.
        catalog.write_refused(posters.refused, pathlib.Path(os.fspath(self.data_path)) / "refused.csv")
        repaired = pathlib.Path(os.fspath(self.data_path)) / "repaired.json"
        repaired.write_text(json.dumps(posters.repaired))
        (repaired.parent / "notes.json").write_text(json.dumps(posters.notes))
        if posters.pictures is not None:
            posters.pictures.save(repaired.parent / preview.PICTURES)
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


def build(data: config_lib.Data, directory: pathlib.Path, key: str) -> None:
    """Prepares the posters of `config.data`, whose fingerprint is `key`, in `directory`, which appears whole or not at all."""
    # TFDS requires a unique name for every config that is not in BUILDER_CONFIGS.
    about = {"variant": data.variant, "num_posters": data.num_posters, "seed": data.seed}
    config = PosterConfig(name=f"{data.variant}_{key[:16]}", place=places.find_place(data), **about)
    manual_dir = data.dir if data.variant == "kaggle" else ""
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
        records = builder.as_data_source(SPLIT, decoders=encoded_decoders())
        table = pd.DataFrame(
            [(r["id"], r["genres"].decode(), r["group"], r["split"].decode()) for r in records],
            columns=["id", "genres", "group", "split"],
        )
        if len(table) != builder.info.splits[SPLIT].num_examples or not table["id"].is_monotonic_increasing:
            raise RuntimeError(
                f"TFDS wrote {len(table)} of {builder.info.splits[SPLIT].num_examples} posters, or reordered them"
            )
        write_table(table, unfinished)
        for name in ("refused.csv", "repaired.json", "notes.json", preview.PICTURES):
            if (built / name).exists():
                os.replace(built / name, unfinished / name)
