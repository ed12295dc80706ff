"""Columns of numbers and texts that other programs wrote, by the file's suffix: CSV, JSON lines, npz, parquet, safetensors."""

import importlib.util
import io
import json
import pathlib
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from poster_jax import errors
from poster_jax.data import csv_files
from poster_jax.runtime import storage

TEXTS = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson")
SUFFIXES = (*TEXTS, ".npz", ".parquet", ".safetensors")


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """{name: array} as the file has them, columns of texts as arrays of str.

    An npz may hold arrays of any shape, and a column of a parquet lists of one length, which are [N, length]; a safetensors
    also gives its metadata, a list of JSON as an array and else a text.
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


def require_package(path: pathlib.Path) -> None:
    """Raises `UserError` where a package that the file's suffix needs is not installed."""
    if path.suffix.lower() == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise errors.UserError(f"{path} needs pyarrow: pip install 'poster_jax[tables]', or take npz or CSV.")


def write(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays of N rows, [N] of numbers or texts and [N, D] of numbers, as npz, safetensors or parquet, by the suffix.

    `read` has them back bit for bit; texts of a safetensors are in its metadata. The file is whole or not there at all.
    """
    buffer = io.BytesIO()
    match path.suffix.lower():
        case ".npz":
            np.savez(buffer, allow_pickle=False, **arrays)
        case ".safetensors":
            from safetensors import numpy as safetensors_numpy

            texts = {name: json.dumps(array.tolist()) for name, array in arrays.items() if array.dtype.kind == "U"}
            tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items() if name not in texts}
            buffer.write(safetensors_numpy.save(tensors, metadata=texts))
        case ".parquet":
            require_package(path)
            import pyarrow
            from pyarrow import parquet

            def column(array: np.ndarray) -> pyarrow.Array:
                flat = pyarrow.array(array.reshape(-1))
                return flat if array.ndim == 1 else pyarrow.FixedSizeListArray.from_arrays(flat, array.shape[1])

            parquet.write_table(pyarrow.table({name: column(array) for name, array in arrays.items()}), buffer)
        case suffix:
            raise ValueError(f"nothing is written as {suffix!r}")
    storage.write_atomic(path, buffer.getvalue())


def _columns(table: csv_files.Table) -> dict[str, np.ndarray]:
    twice = next((name for at, name in enumerate(table.columns) if name in table.columns[:at]), None)
    if twice is not None:
        raise errors.UserError(f"{table.path} has the column {twice!r} twice: rename one.")
    cells = zip(*table.rows, strict=True) if table.rows else [()] * len(table.columns)
    return {name: np.array(column, dtype=str) for name, column in zip(table.columns, cells, strict=True)}


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        storage.refuse_bomb(path)
        with np.load(path) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError, AttributeError) as error:
        if "allow_pickle" in str(error):
            raise errors.UserError(f"{path} holds Python objects: save its texts as np.asarray(texts, dtype=str).") from error
        raise errors.UserError(f"{path} cannot be read as an npz ({_first_line(error)}): write it again.") from error


def _read_parquet(path: pathlib.Path) -> dict[str, np.ndarray]:
    require_package(path)
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
    """A column of objects as texts, a missing one as ""; lists of numbers of one length as [N, length]."""
    if column.dtype != object:
        return column
    if len({value.shape if isinstance(value, np.ndarray) else None for value in column} - {None}) == 1:
        lists = [value for value in column if isinstance(value, np.ndarray)]
        if len(lists) == len(column) and lists[0].dtype.kind in "fiu":
            return np.stack(lists)
    return np.array(["" if value is None else str(value) for value in column], dtype=str)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
