"""The keys of `config.search`: their defaults, and the checks of their values."""

from collections.abc import Mapping
from typing import Any

from poster_jax import errors
from poster_jax.config import spelling, validate

# `config.search`; the ranges are those of the paper's section II-B, the widths contain its draws (Tables 3 and 4).
SEARCH_DEFAULTS = {
    "num_trials": 10,
    "num_folds": 4,
    "learning_rate_exponent": (-4.0, -2.0),  # the rate is 10^u, u uniform, upper end excluded
    "dropout": (0.2, 0.5),  # uniform, to two decimals; after every dense layer
    "filters": ((4, 12), (16, 31)),  # fewest and most, one pair per block of the network
    "units": ((80, 115),),  # one pair per dense layer
    "trials": (),  # given rows (learning rate, dropout, filters ..., units ...) instead of drawn ones
    "train_sample": 256,  # training rows scored after every epoch, beside the fold's validation part
    "vectorize": "auto",  # none | folds | all | processes (folds, on a core each) | auto: networks that train together
    "memory_mb": 0,  # for networks in one program; 0 is 0.8 of what the device has
    "halving": (),  # epochs after which the worse half of the trials is dropped
}
VECTORIZE = ("none", "folds", "all", "processes", "auto")


def check_search(flat: Mapping[str, Any]) -> None:
    """Raises `UserError` naming the first key of {dotted key: value} with which a search cannot run."""
    vectorize = flat["search.vectorize"]
    if vectorize not in VECTORIZE:
        raise errors.UserError(
            f"config.search.vectorize={vectorize!r} is unknown{spelling.nearest(vectorize, VECTORIZE)}; "
            f"it is one of {', '.join(VECTORIZE)}."
        )
    for key, least in (("num_trials", 1), ("num_folds", 2), ("train_sample", 1), ("memory_mb", 0)):
        if flat[f"search.{key}"] < least:
            raise errors.UserError(f"config.search.{key}={flat[f'search.{key}']} must be at least {least}.")
    if flat["optim.accumulate_steps"] > 1:
        raise errors.UserError(
            "config.optim.accumulate_steps is for one network, and protocol=search trains several at once: leave it at 1, "
            "and set --config.search.memory_mb where memory is short."
        )
    _validate_ranges(flat)
    _validate_trials(flat)
    num_epochs = flat["train.num_epochs"]
    if flat["train.num_steps"] or num_epochs != int(num_epochs):
        raise errors.UserError(
            f"a search trains whole epochs: set --config.train.num_epochs to a whole number instead of {num_epochs:g}, "
            "and train.num_steps=0."
        )
    halving = flat["search.halving"]
    if not all(validate.is_whole(epoch) and 0 < epoch < num_epochs for epoch in halving) or list(halving) != sorted(
        set(halving)
    ):
        raise errors.UserError(
            f"config.search.halving={halving} must be rising whole epochs from 1 to {num_epochs - 1:.0f}, as (5, 10)."
        )
    if flat["model.name"] != "cnn" or flat["num_seeds"] != 1:
        raise errors.UserError(
            "a search draws widths of the parametric CNN, from one seed: set model.name=cnn and num_seeds=1."
        )


def _validate_ranges(flat: Mapping[str, Any]) -> None:
    ranges = {key: (flat[f"search.{key}"],) for key in ("learning_rate_exponent", "dropout")}
    for key, layers in (("filters", "model.blocks"), ("units", "model.dense")):
        ranges[key] = flat[f"search.{key}"]
        if len(ranges[key]) != len(flat[layers]):
            raise errors.UserError(
                f"config.search.{key}={ranges[key]} needs one (fewest, most) for each of the {len(flat[layers])} "
                f"rows of config.{layers}."
            )
    for key, pairs in ranges.items():
        for pair in pairs:
            is_end = validate.is_whole if key in ("filters", "units") else validate.is_number
            if not isinstance(pair, tuple) or len(pair) != 2 or not all(map(is_end, pair)):
                raise errors.UserError(f"config.search.{key} holds {pair!r}, which is not a pair (lowest, highest).")
            if pair[0] > pair[1]:
                raise errors.UserError(f"config.search.{key} holds the empty range {pair}: put the lower end first.")
            if key in ("filters", "units") and pair[0] < 1:
                raise errors.UserError(f"config.search.{key} holds {pair}: a layer has at least 1 of them.")
    if not 0 <= flat["search.dropout"][0] <= flat["search.dropout"][1] < 1:
        raise errors.UserError(f"config.search.dropout={flat['search.dropout']} must be from 0 to below 1.")


def _validate_trials(flat: Mapping[str, Any]) -> None:
    num_widths = len(flat["model.blocks"]) + len(flat["model.dense"])
    for row in flat["search.trials"]:
        good = isinstance(row, tuple) and len(row) == 2 + num_widths and all(map(validate.is_number, row))
        if not good or not row[0] > 0 or not 0 <= row[1] < 1 or not all(validate.is_whole(w) and w > 0 for w in row[2:]):
            raise errors.UserError(
                f"config.search.trials holds {row!r}; each row is (learning rate, dropout, {num_widths} widths in layer order)."
            )
