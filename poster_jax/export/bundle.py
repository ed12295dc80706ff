"""Genres of posters from an exported network, in its own folder; needs jax, numpy and Pillow."""

import argparse
import hashlib
import importlib.util
import io
import json
import pathlib
import sys
from typing import Any

import jax
import numpy as np
from jax import export

FOLDER = pathlib.Path(__file__).resolve().parent
BATCH_SIZE = 32
NUM_SHOWN = 3  # genres of a picture in the table


def load(folder: pathlib.Path) -> tuple[Any, dict[str, Any], Any]:
    """(score: uint8 [B, H, W, 3] -> float32 [B, K], labels.json, the module that reads pictures).

    Raises ValueError for a file that was changed.
    """
    for name, written in json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["sha256"].items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != written:
            raise ValueError(f"{folder / name} is not the file that was exported: export again")
    program = export.deserialize(bytearray((folder / "program.jax_export").read_bytes()))
    _load_module(folder, "picture_files")  # which the next one imports
    pictures = _load_module(folder, "pictures")
    labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    return jax.jit(program.call), labels, pictures


def _load_module(folder: pathlib.Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec is not None and spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(path: str, image_size: tuple[int, int], pictures: Any) -> np.ndarray:
    """A poster as uint8 [H, W, 3], checked, repaired and scaled as in training; raises ValueError for a bad one."""
    try:
        if not pathlib.Path(path).is_file():
            raise ValueError("there is no such file")
        return pictures.decode(pictures.check(pathlib.Path(path).read_bytes()).encoded, image_size)
    except OSError as error:
        raise ValueError(error.strerror) from error
    except pictures.BadImage as error:
        raise ValueError(f"{error.reason.replace('_', ' ')} ({error.detail})") from error


def main(argv: list[str]) -> int:
    """Predicts the posters named in argv; 0 done, 2 a file of the folder was changed or no picture could be read."""
    parser = argparse.ArgumentParser("python predict.py", description=__doc__, allow_abbrev=False)
    parser.add_argument("pictures", nargs="+", metavar="POSTER")
    parser.add_argument("--csv", metavar="FILE", help="writes path, one probability a genre, and the genres decided for")
    flags = parser.parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may be any bytes
    try:
        score, labels, pictures = load(FOLDER)
    except (OSError, ValueError) as error:
        print(f"{error}.", file=sys.stderr)
        return 2
    genres, thresholds, size = labels["genres"], np.array(labels["thresholds"]), tuple(labels["image_size"])
    rows: list[list[str]] = []
    for start in range(0, len(flags.pictures), BATCH_SIZE):
        paths, posters = [], []
        for path in flags.pictures[start : start + BATCH_SIZE]:
            try:
                posters.append(read(path, size, pictures))
                paths.append(path)
            except ValueError as error:
                print(f"{path} is left out: {error}", file=sys.stderr)
        for path, scores in zip(paths, np.asarray(score(np.stack(posters))) if paths else (), strict=True):
            order = np.argsort(-scores, kind="stable")
            decision = [genres[k] for k in order if scores[k] >= thresholds[k]]
            rows.append([path, *(f"{p:.6f}" for p in scores), "|".join(decision)])
            if not flags.csv:
                shown = ", ".join(f"{genres[k]} {scores[k]:.2f}" for k in order[:NUM_SHOWN])
                print(f"{path}  {shown}  ->  {', '.join(decision) or 'none'}", flush=True)
    if flags.csv and rows:
        text = _load_module(FOLDER, "csv_tables").csv_text(["path", *genres, "decision"], rows)
        with open(flags.csv, "w", newline="", encoding="utf-8") as file:
            file.write(text)
        print(f"{flags.csv}: {len(rows):,} of {len(flags.pictures):,} pictures")
    if not rows:
        print(f"none of the {len(flags.pictures)} pictures could be read: give others.", file=sys.stderr)
    return 0 if rows else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
