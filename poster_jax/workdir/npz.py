"""The arrays of predictions.npz and samples.npz: whether they fit each other, the genres and the range of a probability."""

from collections.abc import Mapping

import numpy as np

from poster_jax.workdir.checks import require

Arrays = Mapping[str, np.ndarray]
KINDS = {"id": "iu", "group": "iu", "label": "iufb", "score": "f", "genre": "iu", "map": "f", "spread": "b", "image": "u"}


def check_predictions(arrays: Arrays, num_genres: int | None) -> None:
    """Raises `Damaged` unless every part has ids [n], labels [n] or [n, K] and scores [n, K]; K is theirs where it is None."""
    endings = ("id", "label", "score")
    parts = dict.fromkeys(name.rpartition("_")[0] for name in arrays)
    require(bool(parts), "", "it holds no part")
    for part in parts:
        for ending in endings:
            require(f"{part}_{ending}" in arrays, f"{part}_{ending}", "missing")
        score = arrays[f"{part}_score"]
        genres = num_genres or (score.shape[-1] if score.ndim else 0)
        rows = _check_scores(score, genres, f"{part}_score")
        for ending in ("id", "group"):
            if f"{part}_{ending}" in arrays:
                _check_kind(arrays[f"{part}_{ending}"], ending, (rows,), f"{part}_{ending}")
        label = arrays[f"{part}_label"]
        if label.ndim == 1:
            _check_kind(label, "genre", (rows,), f"{part}_label")
            require(bool((label >= 0).all() and (label < genres).all()), f"{part}_label", f"not below {genres}")
        else:
            _check_truth(label, (rows, genres), f"{part}_label")


def check_samples(arrays: Arrays, num_genres: int | None) -> None:
    """Raises `Damaged` unless the arrays are those that `protocols/samples.py` names; K is theirs where it is None."""
    for name in ("image", "id", "label", "score", "genre", "map", "spread"):
        require(name in arrays, name, "missing")
    genres = num_genres or (arrays["score"].shape[-1] if arrays["score"].ndim else 0)
    rows = _check_scores(arrays["score"], genres, "score")
    for name in ("id", "spread"):
        _check_kind(arrays[name], name, (rows,), name)
    _check_truth(arrays["label"], (rows, genres), "label")
    # Folders of older versions have maps of the top-scored genre alone.
    kinds = ("", "true_") if "true_map" in arrays else ("",)
    for of in kinds:
        genre = f"{of}genre"
        require(genre in arrays, genre, "missing")
        _check_kind(arrays[genre], "genre", (rows,), genre)
        require(bool((arrays[genre] >= 0).all() and (arrays[genre] < genres).all()), genre, f"not below {genres}")
    require(bool(arrays["spread"].any()), "spread", "no fair sample")
    for name, trailing in (("image", (3,)), *((f"{of}map", ()) for of in kinds)):
        array = arrays[name]
        good = array.ndim == 3 + len(trailing) and len(array) == rows and array.size > 0 and array.shape[3:] == trailing
        require(good and array.dtype.kind == KINDS[name.removeprefix("true_")] and array.itemsize <= 8, name, _describe(array))
    require(arrays["image"].dtype == np.uint8, "image", _describe(arrays["image"]))
    for of in kinds:
        _check_range(arrays[f"{of}map"], f"{of}map")


def check_rows(arrays: Arrays, num_rows: Mapping[str, int]) -> None:
    """Raises `Damaged` unless the parts of predictions have so many rows: {part: rows}."""
    for part, rows in num_rows.items():
        require(f"{part}_score" in arrays, part, "missing")
        found = len(arrays[f"{part}_score"])
        require(found == rows, part, f"{found} rows where results.json has {rows}")


def _check_scores(score: np.ndarray, num_genres: int, where: str) -> int:
    """The number of rows of scores [n, K] in [0, 1], n at least 1."""
    require(score.ndim == 2 and len(score) > 0, where, _describe(score))
    _check_kind(score, "score", (len(score), num_genres), where)
    _check_range(score, where)
    return len(score)


def _check_kind(array: np.ndarray, kind: str, shape: tuple[int, ...], where: str) -> None:
    require(array.dtype.kind in KINDS[kind] and array.shape == shape, where, f"{_describe(array)} where {shape} is due")


def _check_truth(array: np.ndarray, shape: tuple[int, ...], where: str) -> None:
    _check_kind(array, "label", shape, where)
    require(bool(((array == 0) | (array == 1)).all()), where, "not of zeros and ones")


def _check_range(array: np.ndarray, where: str) -> None:
    # NaN compares as false.
    require(bool(((array >= 0) & (array <= 1)).all()), where, "outside [0, 1]")


def _describe(array: np.ndarray) -> str:
    return f"{array.dtype} {array.shape}"
