"""What a config leaves open is settled by a person's own posters: the encoding of labels, and which labels are learnt.

Loads neither jax nor TensorFlow, so that a missing file is answered at once.
"""

import pathlib
from collections.abc import Collection

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.data import csv_files, listing, places

AUTO = "auto"
OWN = tuple(name for name, facts in config_lib.SOURCES.items() if facts.is_own)
# Of a person's own posters all labels are learnt that have enough of them; the defaults are the report's choice of its own set.
ALL_LABELS = {"data.num_genres": 0, "data.genre_rank": "any", "data.min_movies": 20, "data.balance": "none"}
PACKED = "packed.json"


def settle(config: config_lib.Config, given: Collection[str] = (), begun: config_lib.Config | None = None) -> config_lib.Config:
    """The config for the data that it names: ALL_LABELS for own posters, and what is "auto". Reads the rows, no picture.

    Args:
        given: keys that were set on the command line; they stay.
        begun: the config with which the workdir was begun, if it was; values of it that are to be replaced stay.
    Raises UserError as `places.read_listing` does, and where neither or both of a CSV and a folder are given.
    """
    if config.data.features:
        from poster_jax.data import feature_files  # which loads numpy, that other configs do without here

        feature_files.require(config.data.features)
    for name in csv_files.split_names(config.train.teacher):
        if "://" not in name and not pathlib.Path(name).exists():
            where = csv_files.nearest_existing(pathlib.Path(name))
            raise errors.UserError(f"there is no teacher {name}{where}; name a finished run, or a file of scores by id.")
    values: dict[str, object] = {}
    if config.data.variant == "synthetic" and (config.data.csv or config.data.dir) and config.protocol != "reproduce":
        # Posters are drawn, unless it is said where there are some.
        values["data.variant"] = "own"
        config = config_lib.derive(config, values)
    if config.data.variant == "own" and bool(config.data.csv) == bool(config.data.dir):
        raise errors.UserError(
            "say where your posters are: --config.data.csv=FILE with the columns path and genres, or --config.data.dir=FOLDER "
            "with a folder for each label."
        )
    values |= _all_labels(config, given, begun)
    listed = listed_of(config)
    encoding = config.data.encoding
    if encoding == AUTO:
        encoding = values["data.encoding"] = "first" if has_one_label(listed) else "multi_hot"
    if config.loss.name == AUTO:
        values["loss.name"] = "sigmoid" if encoding == "multi_hot" else "softmax"
    return config_lib.derive(config, values) if values else config


def _all_labels(config: config_lib.Config, given: Collection[str], begun: config_lib.Config | None) -> dict[str, object]:
    """The values of ALL_LABELS that take the place of the report's. Those that the config file or a flag sets stay."""
    if config.data.variant not in OWN or config.protocol == "reproduce" or config.data.genres:
        return {}
    now, report = config_lib.flatten(config), config_lib.flatten(config_lib.base())
    open_keys = [key for key in ALL_LABELS if key not in given and now[key] == report[key]]
    before = config_lib.flatten(begun) if begun is not None else {}
    if before.get("data.variant") in OWN and all(before[key] == report[key] for key in open_keys):
        return {}
    by_first = {"data.genre_rank": "first"} if config.data.encoding in ("first", "one_hot") else {}
    return {key: {**ALL_LABELS, **by_first}[key] for key in open_keys}


def listed_of(config: config_lib.Config) -> listing.Listing:
    """The rows that the config's data set lists; of drawn and packed posters none, of packed ones the folder is looked at."""
    data = config.data
    if data.variant == "packed" and "://" not in data.dir and not pathlib.Path(data.dir, PACKED).is_file():
        place = pathlib.Path(data.dir, PACKED)
        where = csv_files.nearest_existing(place)
        raise errors.UserError(
            f"{data.dir} is not a packed cache: it has no {PACKED}{where}; give the folder packed-... of a cache."
        )
    if data.variant in ("synthetic", "packed"):
        return listing.Listing(pathlib.Path(), [], [], [], {})
    return places.read_listing(data.variant, places.find_place(data))


def has_one_label(listed: listing.Listing) -> bool:
    """True if some movie has a label and none has two."""
    counts = {len(movie.genres) for movie in listed.movies}
    return bool(counts & {1}) and max(counts) == 1
