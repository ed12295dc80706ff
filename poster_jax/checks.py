"""What the values of a config may be, checked before anything starts."""

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

from poster_jax import errors

CHOICES = {
    "protocol": ("single",),
    "data.variant": ("synthetic", "kaggle", "csv", "packed"),
    "data.genre_rank": ("first", "any"),
    "data.encoding": ("first", "exploded", "multi_hot"),
    "data.balance": ("none", "cap", "equal"),
    "data.path": ("auto", "resident", "streaming"),
    "model.name": ("cnn",),
    "optim.name": ("adam", "adamw", "sgd"),
    "optim.schedule": ("constant", "cosine"),
    "train.loss": ("sigmoid", "softmax"),
    "train.precision": ("float32", "bfloat16"),
    "eval.best_metric": ("mean_average_precision", "macro_auc", "binary_accuracy", "top1_accuracy", "macro_f1"),
}
# Keys that take only numbers above zero; `eval.batch_size` and the like too.
POSITIVE = (
    "num_seeds",
    "data.num_posters",
    "data.num_genres",
    "data.min_movies",
    "optim.learning_rate",
    "train.batch_size",
    "train.log_every_steps",
    "eval.batch_size",
    "eval.bootstrap_samples",
)
NOT_NEGATIVE = (
    "data.balance_limit",
    "optim.warmup_steps",
    "optim.weight_decay",
    "train.num_steps",
    "train.num_epochs",
    "train.augment.shift",
    "train.augment.zoom",
    "train.augment.brightness",
    "train.augment.contrast",
    "train.augment.saturation",
    "eval.every_steps",
    "eval.every_epochs",
    "checkpoint.every_steps",
    "checkpoint.every_epochs",
)


def nearest(word: str, known: Iterable[str]) -> str:
    """`' (did you mean "x"?)'`, or nothing where no known word is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f' (did you mean "{close[0]}"?)' if close else ""


def validate(flat: Mapping[str, Any]) -> None:
    """Raises `UserError` naming the first key of {dotted key: value} whose value cannot be used."""
    for key, choices in CHOICES.items():
        if flat[key] not in choices:
            raise errors.UserError(
                f"config.{key}={flat[key]!r} is unknown{nearest(str(flat[key]), choices)}; it is one of {', '.join(choices)}."
            )
    for key, value in flat.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise errors.UserError(f"config.{key}={value} is not a finite number; give one.")
        if key in POSITIVE and value <= 0:
            raise errors.UserError(f"config.{key}={value} must be above zero.")
        if key in NOT_NEGATIVE and value < 0:
            raise errors.UserError(f"config.{key}={value} must not be below zero.")
    _validate_durations(flat)
    _validate_data(flat)
    _validate_layers(flat)


def _validate_durations(flat: Mapping[str, Any]) -> None:
    for steps_key, epochs_key in (
        ("train.num_steps", "train.num_epochs"),
        ("eval.every_steps", "eval.every_epochs"),
        ("checkpoint.every_steps", "checkpoint.every_epochs"),
    ):
        if bool(flat[steps_key]) == bool(flat[epochs_key]):
            raise errors.UserError(f"exactly one of config.{steps_key} and config.{epochs_key} must be above zero.")
    if flat["seed"] < 0 or flat["data.seed"] < 0:
        raise errors.UserError("config.seed and config.data.seed must not be below zero.")
    if flat["optim.weight_decay"] and flat["optim.name"] != "adamw":
        raise errors.UserError("config.optim.weight_decay is used by adamw only; set --config.optim.name=adamw.")


def _validate_data(flat: Mapping[str, Any]) -> None:
    size = flat["data.image_size"]
    if len(size) != 2 or not all(isinstance(side, int) and 8 <= side <= 4096 for side in size):
        raise errors.UserError(f"config.data.image_size={size} must be two whole numbers (height, width) from 8 to 4096.")
    split = flat["data.split"]
    if len(split) != 3 or not all(isinstance(s, (int, float)) and 0 < s < 1 for s in split) or abs(sum(split) - 1) > 1e-6:
        raise errors.UserError(
            f"config.data.split={split} must be three shares above zero that add up to 1, as (0.6, 0.2, 0.2)."
        )
    low_high = flat["model.input_range"]
    if len(low_high) != 2 or not low_high[0] < low_high[1]:
        raise errors.UserError(f"config.model.input_range={low_high} must be (low, high) with low below high, as (0.0, 1.0).")
    if flat["data.variant"] in ("kaggle", "packed") and not flat["data.dir"]:
        raise errors.UserError(f"config.data.variant={flat['data.variant']} needs a folder: add --config.data.dir=DIR.")
    if flat["data.variant"] == "csv" and not flat["data.csv"]:
        raise errors.UserError("config.data.variant=csv needs a file: add --config.data.csv=FILE.")
    if flat["train.loss"] == "softmax" and flat["data.encoding"] == "multi_hot":
        raise errors.UserError(
            "config.train.loss=softmax needs one genre per row: set --config.data.encoding=first or exploded, or loss=sigmoid."
        )
    for name in ("shift", "zoom", "brightness", "contrast", "saturation"):
        if flat[f"train.augment.{name}"] >= 1:
            raise errors.UserError(f"config.train.augment.{name}={flat[f'train.augment.{name}']} must be below 1.")


def _validate_layers(flat: Mapping[str, Any]) -> None:
    for key, form in (
        ("model.blocks", "filters, kernel, pool, batch norm, dropout"),
        ("model.dense", "units, batch norm, dropout"),
    ):
        for row in flat[key]:
            sizes, norm, dropout = row[:-2], row[-2], row[-1]
            good = len(row) == len(form.split(", ")) and all(isinstance(size, int) and size > 0 for size in sizes)
            if not good or not isinstance(norm, bool) or not 0 <= dropout < 1:
                raise errors.UserError(f"config.{key} holds {row}; each row is ({form}).")
