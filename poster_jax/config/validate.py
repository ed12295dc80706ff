"""Checks the values of a config before anything starts."""

import contextlib
import math
import re
import reprlib
from collections.abc import Mapping
from typing import Any

from poster_jax import errors
from poster_jax.config import networks, sources, spelling

CHOICES = {
    "protocol": ("single", "transfer", "probe", "search", "ablation", "reproduce"),
    "data.variant": tuple(sources.SOURCES),
    "data.genre_rank": ("first", "any"),
    "data.encoding": ("first", "one_hot", "exploded", "multi_hot", "auto"),
    "data.balance": ("none", "cap", "equal"),
    "data.path": ("auto", "resident", "streaming"),
    "model.name": tuple(networks.MODELS),
    "model.pooling": ("max", "avg"),
    "model.bn_mode": ("frozen", "frozen_moving", "training"),
    "optim.name": ("adam", "adamw", "sgd"),
    "optim.schedule": ("constant", "cosine"),
    "loss.name": ("sigmoid", "softmax", "focal", "asymmetric", "auto"),
    "train.precision": ("float32", "bfloat16"),
    "eval.best_metric": ("mean_average_precision", "macro_auc", "binary_accuracy", "top1_accuracy", "macro_f1"),
    "transfer.bn_mode": ("frozen", "frozen_moving"),
}
# Seeds and steps are 32 bits wide on a device, and so are floats.
LARGEST, LARGEST_FLOAT = 2**31 - 1, 3e38
# Of the exponents of focal and asymmetric loss: beyond it only probabilities within 0.1 of 1 have any weight in
# float32, and far beyond it gradients overflow.
LARGEST_EXPONENT = 1000
# Entries of each row of a key, in order.
ROWS = {
    "model.blocks": ("filters", "kernel", "pool", "batch_norm", "dropout"),
    "model.dense": ("units", "batch_norm", "dropout"),
}
# Keys that take only numbers above zero; `eval.batch_size` and the like too.
POSITIVE = (
    "num_seeds",
    "data.num_posters",
    "data.min_movies",
    "data.train_share",
    "model.width",
    "optim.learning_rate",
    "optim.head_factor",
    "optim.accumulate_steps",
    "train.batch_size",
    "train.log_every_steps",
    "eval.batch_size",
    "eval.bootstrap_samples",
    "transfer.head_epochs",
)
NOT_NEGATIVE = (
    "data.num_genres",
    "data.num_auxiliary",
    "data.balance_limit",
    "optim.warmup_steps",
    "optim.weight_decay",
    "loss.label_smoothing",
    "loss.focal_gamma",
    "loss.asymmetric_clip",
    "train.num_steps",
    "train.num_epochs",
    "train.augment.shift",
    "train.augment.zoom",
    "train.augment.brightness",
    "train.augment.contrast",
    "train.augment.saturation",
    "eval.every_steps",
    "eval.every_epochs",
    "eval.validation_steps",
    "checkpoint.every_steps",
    "checkpoint.every_epochs",
    "transfer.unfreeze_epochs",
    "transfer.start_rate",
)
# Shares: from 0 to below 1, and those that may be 1.
BELOW_ONE = (
    "model.dropout",
    "loss.label_smoothing",
    "loss.asymmetric_clip",
    "train.average_decay",
    *(f"train.augment.{name}" for name in ("shift", "zoom", "brightness", "contrast", "saturation")),
)


def is_number(value: Any) -> bool:
    """True for an int up to LARGEST or a float up to LARGEST_FLOAT in size; False for a bool."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= (LARGEST if isinstance(value, int) else LARGEST_FLOAT)


def is_whole(value: Any) -> bool:
    """True for an int up to LARGEST in size; False for a bool."""
    return isinstance(value, int) and is_number(value)


def fit(key: str, old: Any, value: Any) -> Any:
    """`value` converted to the type of the key's `old` value: an int becomes a float, a list a tuple.

    Raises `UserError` for a value of another type.
    """
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            value = float(value)
    if isinstance(old, tuple) and isinstance(value, list):
        value = tuple(value)
    if type(value) is not type(old):
        raise errors.UserError(
            f"config.{key}={value!r} does not fit: the key takes a value of type {type(old).__name__}, "
            f"such as {reprlib.repr(old)}."
        )
    return value


def validate(flat: Mapping[str, Any]) -> None:
    """Raises `UserError` naming the first key of {dotted key: value} whose value cannot be used."""
    body = networks.BODIES.get(flat["model.name"])
    for key, choices in (CHOICES | (body.choices() if body else {})).items():
        if key in flat and flat[key] not in choices:
            close = spelling.nearest(str(flat[key]), choices)
            raise errors.UserError(f"config.{key}={flat[key]!r} is unknown{close}; it is one of {', '.join(choices)}.")
    for key, value in flat.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise errors.UserError(f"config.{key}={value} is not a finite number; give one.")
        largest = LARGEST_FLOAT if isinstance(value, float) and not key.endswith("_epochs") else LARGEST
        if isinstance(value, (int, float)) and abs(value) > largest:
            raise errors.UserError(f"config.{key}={value} is beyond {largest:g}; give a smaller number.")
        if key in POSITIVE and value <= 0:
            raise errors.UserError(f"config.{key}={value} must be above zero.")
        if key in NOT_NEGATIVE and value < 0:
            raise errors.UserError(f"config.{key}={value} must not be below zero.")
        if key in BELOW_ONE and not 0 <= value < 1:
            raise errors.UserError(f"config.{key}={value} must be below 1, and not below zero.")
    _validate_durations(flat)
    _validate_data(flat)
    _validate_loss(flat)
    _validate_teacher(flat)
    _validate_model(flat)
    if flat["protocol"] == "transfer":
        _validate_transfer(flat)


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
    if flat["optim.accumulate_steps"] > 1 and flat["train.average_decay"]:
        raise errors.UserError(
            "config.train.average_decay averages after every step, and weights move every optim.accumulate_steps of them: "
            "set one of the two to its default."
        )


def _validate_data(flat: Mapping[str, Any]) -> None:
    size = flat["data.image_size"]
    if len(size) != 2 or not all(is_whole(side) and 8 <= side <= 4096 for side in size):
        raise errors.UserError(f"config.data.image_size={size} must be two whole numbers (height, width) from 8 to 4096.")
    genres = flat["data.genres"]
    if not all(isinstance(name, str) and name for name in genres) or len(set(genres)) != len(genres):
        raise errors.UserError(f"config.data.genres={genres} must be different names, as Drama,Comedy.")
    split = flat["data.split"]
    if len(split) != 3 or not all(is_number(s) and 0 < s < 1 for s in split) or abs(sum(split) - 1) > 1e-6:
        raise errors.UserError(
            f"config.data.split={split} must be three shares above zero that add up to 1, as (0.6, 0.2, 0.2)."
        )
    if flat["data.train_share"] > 1:
        raise errors.UserError(f"config.data.train_share={flat['data.train_share']} must be at most 1.")
    if flat["data.num_auxiliary"] and flat["data.encoding"] != "multi_hot":
        raise errors.UserError("config.data.num_auxiliary needs all genres of a movie: set --config.data.encoding=multi_hot.")
    variant = flat["data.variant"]
    needs = sources.SOURCES[variant].needs
    if needs and not flat[f"data.{needs}"]:
        what, example = {"dir": ("folder", "DIR"), "csv": ("file", "FILE")}[needs]
        raise errors.UserError(f"config.data.variant={variant} needs a {what}: add --config.data.{needs}={example}.")


def _validate_loss(flat: Mapping[str, Any]) -> None:
    if flat["loss.name"] == "softmax" and flat["data.encoding"] == "multi_hot":
        raise errors.UserError(
            "config.loss.name=softmax needs one genre per row: set --config.data.encoding=first or exploded, or another loss."
        )
    gammas = flat["loss.asymmetric_gammas"]
    if len(gammas) != 2 or not all(is_number(gamma) and gamma >= 0 for gamma in gammas):
        raise errors.UserError(f"config.loss.asymmetric_gammas={gammas} must be two exponents, for positives and negatives.")
    for key, largest in (("focal_gamma", flat["loss.focal_gamma"]), ("asymmetric_gammas", max(gammas))):
        if largest > LARGEST_EXPONENT:
            raise errors.UserError(
                f"config.loss.{key}={flat[f'loss.{key}']} must be at most {LARGEST_EXPONENT}; papers use 1 to 7."
            )
    if flat["eval.parts"] not in (("validation",), ("train", "validation"), ("validation", "train")):
        raise errors.UserError(
            f"config.eval.parts={flat['eval.parts']} must be ('validation',) or ('train', 'validation'): test is measured once."
        )


def _validate_teacher(flat: Mapping[str, Any]) -> None:
    if not 0 < flat["train.teacher_share"] <= 1:
        raise errors.UserError(f"config.train.teacher_share={flat['train.teacher_share']} must be above zero and at most 1.")
    if not flat["train.teacher"]:
        return
    if flat["protocol"] not in ("single", "transfer"):
        raise errors.UserError(
            f"config.train.teacher is for a network with a split of its own, and config.protocol={flat['protocol']} has none: "
            "leave it empty, or take protocol single or transfer."
        )
    for key in ("loss.positive_weights", "train.log_accuracy"):
        if flat[key]:
            raise errors.UserError(
                f"config.{key} needs targets of 0 and 1, and those of config.train.teacher are not: leave one."
            )


def _validate_range(key: str, low_high: Any, may_be_empty: bool) -> None:
    if may_be_empty and low_high == ():
        return
    pair = isinstance(low_high, tuple) and len(low_high) == 2 and all(map(is_number, low_high))
    if not pair or not low_high[0] < low_high[1]:
        raise errors.UserError(f"config.{key}={low_high} must be (low, high) with low below high, as (0.0, 1.0).")


def _validate_model(flat: Mapping[str, Any]) -> None:
    name, is_body = flat["model.name"], flat["model.name"] in networks.BODIES
    if {key for key in flat if key.startswith("model.")} != {f"model.{key}" for key in networks.MODELS[name]}:
        raise errors.UserError(
            f"config.model.name={name} is another network than this config file's: take {networks.CONFIGS[name]} for it."
        )
    _validate_range("model.input_range", flat["model.input_range"], may_be_empty=is_body)
    for key in ROWS:
        if key in flat:
            validate_rows(key, flat[key])
    if is_body:
        _validate_body(flat, networks.BODIES[name])
    elif flat["optim.head_factor"] != 1:
        raise errors.UserError(
            f"config.optim.head_factor is for a pretrained network's head: leave it at 1 for model.name={name}."
        )


def _validate_body(flat: Mapping[str, Any], body: networks.BodyFacts) -> None:
    if flat["model.style_from"] and flat["protocol"] != "transfer":
        raise errors.UserError(
            "config.model.style_from needs features that are standardised over the training posters, "
            f"which protocol=transfer does: take {networks.CONFIGS[flat['model.name']]}."
        )
    source, _, name = flat["model.weights"].partition(":")
    if flat["model.weights"] and (source not in body.sources or not name):
        known = ", ".join(f"{kind}:{'NAME' if kind == 'released' else 'FILE'}" for kind in body.sources)
        raise errors.UserError(
            f"config.model.weights={flat['model.weights']!r} is unknown for model.name={flat['model.name']}; it is one of "
            f"{known}, {body.sources[0]}:imagenet, or empty."
        )
    if not re.fullmatch("([0-9a-f]{64})?", flat["model.weights_sha256"]):
        raise errors.UserError("config.model.weights_sha256 is no sha256: give 64 of 0-9 and a-f in lower case.")


def _validate_transfer(flat: Mapping[str, Any]) -> None:
    if flat["model.name"] not in networks.BODIES:
        raise errors.UserError("config.protocol=transfer needs a body to transfer: use configs/transfer_mobilenet.py.")
    if not flat["transfer.input_ranges"]:
        raise errors.UserError("config.transfer.input_ranges=() must be one or more (low, high), or () inside it, as ((),).")
    for low_high in flat["transfer.input_ranges"]:
        _validate_range("transfer.input_ranges", low_high, may_be_empty=True)
    rates = flat["transfer.learning_rates"]
    if not rates or not all(is_number(rate) and rate > 0 for rate in rates):
        raise errors.UserError(f"config.transfer.learning_rates={rates} must be one or more numbers above zero, as (1e-3,).")
    start = flat["transfer.start_rate"]
    if start and start not in rates:
        raise errors.UserError(
            f"config.transfer.start_rate={start:g} has no head to start from: take one of "
            f"config.transfer.learning_rates={rates}, or 0 for the best of them."
        )
    if flat["transfer.cached"] and (flat["transfer.augment"] or flat["transfer.bn_mode"] != "frozen"):
        raise errors.UserError(
            "config.transfer.cached=True computes each poster's features once, which augmentation or a moving BatchNorm would "
            "make wrong: set --config.transfer.cached=False, or transfer.augment=False and transfer.bn_mode=frozen."
        )
    if flat["transfer.unfreeze_epochs"] and flat["model.bn_mode"] != "frozen":
        raise errors.UserError(
            "config.transfer.unfreeze_epochs opens stages in turn, and those that wait need their statistics kept: "
            "set --config.model.bn_mode=frozen, or unfreeze_epochs=0."
        )


def validate_rows(key: str, rows: tuple[Any, ...]) -> None:
    """Raises `UserError` for malformed rows of `key`, which is one of `ROWS`."""
    for row in rows:
        good = isinstance(row, tuple) and len(row) == len(ROWS[key])
        if good:
            *sizes, norm, dropout = row
            good = all(is_whole(size) and size > 0 for size in sizes) and isinstance(norm, bool)
            good = good and is_number(dropout) and 0 <= dropout < 1
        if not good:
            form = ", ".join(ROWS[key]).replace("_", " ")
            raise errors.UserError(f"config.{key} holds {row}; each row is ({form}).")
