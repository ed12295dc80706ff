"""What a person's own labels are: one for each picture, or several; a config that leaves it open is settled by the data."""

import pathlib

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.data import builder, listing

AUTO = "auto"


def settle(config: config_lib.Config) -> config_lib.Config:
    """The config with `data.encoding` and `loss.name` in the place of "auto"; reads the table of rows, no picture.

    Raises UserError as `listing.read` does, and where neither or both of a CSV and a folder are given.
    """
    values: dict[str, str] = {}
    if config.data.variant == "synthetic" and (config.data.csv or config.data.dir):
        # A smoke run draws its posters, unless it is told where there are some.
        values["data.variant"] = "own"
        config = config_lib.derive(config, values)
    if config.data.variant == "own" and bool(config.data.csv) == bool(config.data.dir):
        raise errors.UserError(
            "say where your posters are: --config.data.csv=FILE with the columns path and genres, or --config.data.dir=FOLDER "
            "with a folder for each label."
        )
    encoding = config.data.encoding
    if encoding == AUTO:
        encoding = values["data.encoding"] = "first" if has_one_label(listed_of(config)) else "multi_hot"
    if config.loss.name == AUTO:
        values["loss.name"] = "sigmoid" if encoding == "multi_hot" else "softmax"
    return config_lib.derive(config, values) if values else config


def listed_of(config: config_lib.Config) -> listing.Listing:
    """The rows that the config's data set lists; of drawn posters none."""
    if config.data.variant in ("synthetic", "packed"):
        return listing.Listing(pathlib.Path(), [], [], [], {})
    return builder.read_listing(config.data.variant, builder.find_place(config.data))


def has_one_label(listed: listing.Listing) -> bool:
    """True if some movie has a label and none has two."""
    counts = {len(movie.genres) for movie in listed.movies}
    return bool(counts & {1}) and max(counts) == 1
