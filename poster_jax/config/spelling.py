"""What may have been meant by a word that is no key and no value."""

import difflib
from collections.abc import Iterable

# What people type for a key: the names of other libraries and tools. {alias of the leaf: dotted key}.
ALIASES = {
    "lr": "optim.learning_rate",
    "rate": "optim.learning_rate",
    "wd": "optim.weight_decay",
    "optimizer": "optim.name",
    "epochs": "train.num_epochs",
    "steps": "train.num_steps",
    "max_steps": "train.num_steps",
    "bs": "train.batch_size",
    "batch": "train.batch_size",
    "batchsize": "train.batch_size",
    "dtype": "train.precision",
    "ema": "train.average_decay",
    "size": "data.image_size",
    "resolution": "data.image_size",
    "labels": "data.genres",
    "classes": "data.genres",
    "num_classes": "data.num_genres",
    "num_labels": "data.num_genres",
    "val_split": "data.split",
    "dataset": "data.variant",
    "folder": "data.dir",
    "data_dir": "data.dir",
    "file": "data.csv",
    "cache": "data.cache_dir",
    "backbone": "model.name",
    "pretrained": "model.weights",
    "criterion": "loss.name",
    "smoothing": "loss.label_smoothing",
    "gamma": "loss.focal_gamma",
    "metric": "eval.best_metric",
    "tta": "eval.mirror",
    "seeds": "num_seeds",
    "folds": "search.num_folds",
}


def nearest_key(key: str, known: Iterable[str]) -> str:
    """As `nearest` for dotted keys: by what people call it, by its last part, else by the nearest spelling of all of it."""
    keys = list(known)
    leaf = key.rpartition(".")[2].lower().replace("-", "_")
    alias = ALIASES.get(leaf)
    if alias in keys:
        return f' (did you mean "{alias}"?)'
    leaves: dict[str, list[str]] = {}
    for name in keys:
        leaves.setdefault(name.rpartition(".")[2], []).append(name)
    close = difflib.get_close_matches(leaf, leaves, n=1, cutoff=0.8)
    if close and len(leaves[close[0]]) > 1:
        # Several sections have this leaf: the section that was typed decides, or all are named.
        section = difflib.get_close_matches(key, leaves[close[0]], n=1, cutoff=0.75) if "." in key else []
        meant = section or sorted(leaves[close[0]], reverse=True)
        quoted = " or ".join(f'"{name}"' for name in meant)
        return f" (did you mean {quoted}?)"
    return f' (did you mean "{leaves[close[0]][0]}"?)' if close else nearest(key, keys)


def nearest(word: str, known: Iterable[str]) -> str:
    """`' (did you mean "x"?)'`, or "" if no known word is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f' (did you mean "{close[0]}"?)' if close else ""
