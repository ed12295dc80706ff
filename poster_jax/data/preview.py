"""A data set as a plan sees it: its checked table and what tells its pictures apart, prepared or not; nothing is built.

Loads neither jax nor TensorFlow.
"""

import json
import pathlib

import pandas as pd

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.data import cache, catalog, places, synthetic
from poster_jax.data.source import Records, Source, read_tables

PICTURES = "pictures.npz"


def read_catalog(variant: str, place: places.Place, num_posters: int, seed: int) -> catalog.Catalog:
    """The checked table of a variant. The synthetic variant refuses no poster."""
    if variant != "synthetic":
        return catalog.check(places.read_listing(variant, place))
    table = pd.DataFrame(synthetic.draw_table(num_posters, seed))[["id", "genres"]]
    table = table.assign(path="", group=table["id"], split="")
    refused = pd.DataFrame({"id": [], "reason": [], "genres": [], "detail": []}, dtype=str)
    return catalog.Catalog(table=table, refused=refused, repaired={})


def cache_directory(data: config_lib.Data) -> tuple[pathlib.Path, str]:
    """(the folder of the prepared posters of `config.data`, their fingerprint)."""
    key = places.fingerprint(data.variant, places.find_place(data), num_posters=data.num_posters, seed=data.seed)
    return cache.disk_root(data.cache_dir) / f"{data.variant}-{key[:16]}", key


def read_prepared(data: config_lib.Data, directory: pathlib.Path, key: str) -> Source:
    """The source that was built into `directory`."""
    [info] = directory.glob("movie_posters/*/*/dataset_info.json")
    try:
        table, refused = read_tables(directory)
    except (OSError, ValueError) as error:
        raise errors.UserError(f"the cache {directory} is damaged ({error}): remove it, and it is made anew.") from error
    repaired = json.loads((directory / "repaired.json").read_text())
    noted = directory / "notes.json"
    notes = tuple(json.loads(noted.read_text())) if noted.exists() else ()
    pictures = catalog.Pictures.load(directory / PICTURES) if (directory / PICTURES).exists() else None
    return Source(config_lib.SOURCES[data.variant].name, key, table, refused, repaired, Records(info.parent), notes, pictures)


def preview_source(data: config_lib.Data) -> Source:
    """The source of `config.data` without building anything. Its records can be read only if an earlier run has built them.

    Pictures are checked, which takes a while, unless they were prepared together with what tells them apart.
    """
    directory, key = cache_directory(data)
    if (directory / PICTURES).exists() or (directory.exists() and data.variant == "synthetic"):
        return read_prepared(data, directory, key)
    posters = read_catalog(data.variant, places.find_place(data), data.num_posters, data.seed)
    about = posters.table, posters.refused, posters.repaired
    return Source(config_lib.SOURCES[data.variant].name, key, *about, Records(directory), posters.notes, posters.pictures)
