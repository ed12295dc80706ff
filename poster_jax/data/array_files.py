"""Columns of numbers and texts that other programs wrote, by the file's suffix: CSV, JSON lines, npz, parquet, safetensors."""

import importlib.util
import json
import pathlib
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from poster_jax import errors
from poster_jax.data import csv_files

TEXTS = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson")
SUFFIXES = (*TEXTS, ".npz", ".parquet", ".safetensors")


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """{name: array} as the file has them, columns of texts as arrays of str.

    An npz may hold arrays of any shape; a safetensors also gives its metadata, a list of JSON as an array and else a text.
    Raises `UserError` for a file that is missing or cannot be read, another suffix, a name that is there twice, and a missing
    package.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise errors.UserError(f"{path} ends in none of {', '.join(SUFFIXES)}: save it as one of them.")
    if suffix in TEXTS:
        return _columns(csv_files.read(path))
    if not path.is_file():
        raise errors.UserError(f"there is no file {path}{csv_files.nearest_existing(path)}; name a file.")
    return {".npz": _read_npz, ".parquet": _read_parquet, ".safetensors": _read_safetensors}[suffix](path)


def _columns(table: csv_files.Table) -> dict[str, np.ndarray]:
    twice = next((name for at, name in enumerate(table.columns) if name in table.columns[:at]), None)
    if twice is not None:
        raise errors.UserError(f"{table.path} has the column {twice!r} twice: rename one.")
    cells = zip(*table.rows, strict=True) if table.rows else [()] * len(table.columns)
    return {name: np.array(column, dtype=str) for name, column in zip(table.columns, cells, strict=True)}


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError, AttributeError) as error:
        if "allow_pickle" in str(error):
            raise errors.UserError(f"{path} holds Python objects: save its texts as np.asarray(texts, dtype=str).") from error
        raise errors.UserError(f"{path} cannot be read as an npz ({_first_line(error)}): write it again.") from error


def _read_parquet(path: pathlib.Path) -> dict[str, np.ndarray]:
    if importlib.util.find_spec("pyarrow") is None:
        raise errors.UserError(f"{path} needs pyarrow: pip install 'poster_jax[tables]', or save it as npz or CSV.")
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise errors.UserError(f"{path} cannot be read as parquet ({_first_line(error)}): write it again.") from error
    return {name: _plain(table.column(name).to_numpy()) for name in table.column_names}


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    import safetensors

    try:
        with safetensors.safe_open(path, framework="np") as file:
            return {**_metadata(file.metadata() or {}), **{name: file.get_tensor(name) for name in file.keys()}}
    except (safetensors.SafetensorError, TypeError, OSError) as error:
        raise errors.UserError(f"{path} cannot be read as safetensors ({_first_line(error)}): write it again.") from error


def _metadata(about: Mapping[str, str]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for name, text in about.items():
        value: Any = text
        if text.lstrip().startswith("["):
            try:
                value = json.loads(text)
            except ValueError:
                pass
        found[name] = np.array(value, dtype=str)
    return found


def _plain(column: np.ndarray) -> np.ndarray:
    """A column of objects as texts; a missing one is ""."""
    if column.dtype != object:
        return column
    return np.array(["" if value is None else str(value) for value in column], dtype=str)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
