"""Files on disks and in object stores: paths, appended logs and whole-file writes.

A path on a disk is a `pathlib.Path`; one of gs:// or s3:// is an `etils.epath.Path`, which has the same methods. A store
writes an object whole or not at all, cannot append to one, and has no locks.
"""

import importlib.util
import io
import json
import os
import pathlib
import re
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from etils import epath

from poster_jax import errors
from poster_jax.runtime import multihost

# The client package of each scheme, and the extra of pyproject.toml that installs it.
CLIENTS = {"gs": ("gcsfs", "gcs"), "s3": ("s3fs", "s3")}
PART_DIGITS = 6
MAX_NAME_BYTES = 200  # of the 255 that disks allow, so that a number and a suffix have room
# Of an .npz file. Zeros are packed by 1,000, scores of a network by less than 2.
MAX_UNPACKED_BYTES, MAX_RATIO = 256 << 20, 30
RELEASED = "released:"


def as_path(text: str) -> pathlib.Path:
    """Text -> path of a disk or a store; `released:NAME` is a network that comes with the package.

    Raises UserError for other schemes, for a missing client and for a name that was not released.
    """
    if text.startswith(RELEASED):
        return released(text.removeprefix(RELEASED))
    scheme, separator, _ = text.partition("://")
    if not separator:
        return pathlib.Path(text)
    if scheme not in CLIENTS:
        raise errors.UserError(f"{text} is of no store known here: give a folder, or a path of gs:// or s3://.")
    client, extra = CLIENTS[scheme]
    if importlib.util.find_spec(client) is None:
        raise errors.UserError(f"{text} needs {client}: pip install 'poster_jax[{extra}]'.")
    path: Any = epath.Path(text)
    return path


def released(name: str) -> pathlib.Path:
    """The folder of a network that comes with the package; raises UserError, which lists them, for any other name."""
    folder = pathlib.Path(__file__).resolve().parents[1] / "released"
    names = sorted(path.parent.name for path in folder.glob("*/release.json"))
    if name not in names:
        raise errors.UserError(f"{RELEASED}{name} does not come with poster_jax: take one of {', '.join(names)}.")
    return folder / name


def is_remote(path: pathlib.Path) -> bool:
    """True for a path of a store."""
    return not isinstance(path, pathlib.Path)


def refuse_bomb(path: pathlib.Path) -> None:
    """Raises ValueError for an .npz file on a disk that unpacks to far more than arrays of ours do."""
    if is_remote(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(part.file_size for part in archive.infolist())
    if unpacked > max(MAX_UNPACKED_BYTES, MAX_RATIO * path.stat().st_size):
        raise ValueError(f"its {path.stat().st_size:,} bytes unpack to {unpacked:,}")


def load_arrays(path: pathlib.Path, names: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, or the named ones. A damaged file raises errors of numpy, zipfile or zlib; none, OSError."""
    with np.load(io.BytesIO(path.read_bytes()) if is_remote(path) else path) as arrays:
        return {name: arrays[name] for name in names or arrays.files}


class Log:
    """An append-only file of lines: one file on a disk; on a store, numbered parts beside the file until `close`.

    Only the writing process opens a `Log`; all others call `read`.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._next: int | None = None

    def append(self, line: dict[str, Any]) -> None:
        """One line of JSON; NaN is refused because it is not JSON."""
        text = json.dumps(line, allow_nan=False) + "\n"
        if not is_remote(self._path):
            with open(self._path, "a") as file:
                file.write(text)
            return
        if self._next is None:
            self._next = 1 + max((int(part.name.rpartition(".")[2]) for part in _parts(self._path)), default=-1)
        self._path.with_name(f"{self._path.name}.{self._next:0{PART_DIGITS}}").write_text(text)
        self._next += 1

    def close(self) -> None:
        """Joins the parts of a store into one file. If killed in between, `read` skips the parts already joined."""
        parts = _parts(self._path)
        if parts:
            self._path.write_text(read(self._path))
            remove(parts)
        self._next = None


def read(path: pathlib.Path) -> str:
    """The text of a log, or "" if there is none. On a disk a crash may have cut its last line."""
    text = path.read_text() if path.exists() else ""
    # No two lines of a log are equal, so a part whose line is in the file remains from a crash in `close`.
    return text + "".join(line for part in _parts(path) if (line := part.read_text()) not in text)


def remove(paths: Iterable[pathlib.Path]) -> None:
    """Removes files."""
    for path in paths:
        path.unlink(missing_ok=True)


def remove_folder(path: pathlib.Path) -> None:
    """Removes a folder with all that is in it."""
    epath.Path(path).rmtree()


def _parts(path: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path.parent.glob(f"{path.name}.{'[0-9]' * PART_DIGITS}")) if is_remote(path) else []


def find_free(folder: pathlib.Path, name: str, suffix: str) -> pathlib.Path:
    """A path in the folder that nothing has, called `name` without what no file's name may hold somewhere, or `name-2` ..."""
    safe = re.sub(r'[/\\:*?"<>|\x00-\x1f\x7f\ud800-\udfff]', "_", name)
    stem = safe.encode()[:MAX_NAME_BYTES].decode(errors="ignore")
    numbers = ("", *(f"-{number}" for number in range(2, 10**6)))
    return next(path for number in numbers if not (path := folder / f"{stem}{number}{suffix}").exists())


def write_atomic(path: pathlib.Path, content: str | bytes) -> None:
    """Replaces a file by one rename, so that a reader finds either the old or the new one, whole. Only process 0 writes.

    A store replaces an object atomically by itself.
    """
    if not multihost.is_main():
        return
    if is_remote(path):
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(unfinished, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_json(path: pathlib.Path, value: Mapping[str, Any]) -> None:
    """JSON by `write_atomic`; NaN is refused because it is not JSON."""
    write_atomic(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_folder(path: pathlib.Path, files: Mapping[str, bytes]) -> None:
    """Makes a folder of files appear by one rename, whole or not at all; raises OSError if `path` is not empty."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir()
        for name, content in files.items():
            write_atomic(unfinished / name, content)
        os.rename(unfinished, path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
