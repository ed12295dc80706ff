"""Damaged run folders: one file of a whole folder cut, emptied, or with one value that no run writes there."""

import copy
import io
import json
import pathlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

JSON_FILES = ("results.json", "config.json", "labels.json", "chosen.json")
LINES, TABLE = "metrics.jsonl", "refused.csv"
ARRAY_FILES = ("predictions.npz", "samples.npz")
# Of a value of the same type, of another type, and of no value.
SAME_TYPE: dict[type, tuple[Any, ...]] = {
    bool: (True, False),
    int: (-3, 0, 7, 10**6, 10**30),
    float: (-0.5, 1.5, float("nan"), float("inf"), 1e30),
    str: ("", "x", "transfer", "Drama"),
    list: ([], [None], [[]], [1, 2]),
    dict: ({}, {"x": 1}, {"": None}),
}
OTHER_TYPE: tuple[Any, ...] = (None, "0.5", 3, [], {}, {"x": {"y": None}}, True, [[None]])
WHOLE: tuple[Any, ...] = ([], {}, None, 5, "text", [{}], {"unknown": 1}, {"seeds": []}, {"seeds": [{}]}, {"protocol": "no"})

Place = tuple[Any, ...]


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """The keys and positions that lead to every value, itself included."""
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*at, key))


def damage_json(text: str, rng: random.Random) -> tuple[str, str]:
    """(the text of a damaged value, what was done)."""
    value = json.loads(text)
    kind = rng.choice(("cut", "whole", "same", "same", "same", "other", "other", "missing", "missing", "more", "null"))
    if kind == "cut":
        return text[: rng.randrange(len(text) - 2)], "cut"
    if kind == "whole":
        given = rng.choice(WHOLE)
        return json.dumps(given), f"all of it is {given!r}"
    # A deep place is as probable as a shallow one.
    found = [place for place in places(value) if place]
    depth = rng.choice(sorted({len(place) for place in found}))
    *before, last = rng.choice([place for place in found if len(place) == depth])
    parent = value
    for key in before:
        parent = parent[key]
    where, old = ".".join(map(str, (*before, last))), parent[last]
    if kind == "missing":
        del parent[last]
        return json.dumps(value), f"{where} is missing"
    if kind == "more":
        if isinstance(parent, dict):
            parent["unknown"] = 1
        else:
            parent.append(copy.deepcopy(old))
        return json.dumps(value), f"one more beside {where}"
    choices = {"same": SAME_TYPE.get(type(old), OTHER_TYPE), "other": OTHER_TYPE, "null": (None,)}[kind]
    parent[last] = rng.choice(choices)
    return json.dumps(value), f"{where} is {parent[last]!r}"


def damage_lines(text: str, rng: random.Random) -> tuple[str, str]:
    """A log with a damaged line, or cut."""
    lines = text.splitlines()
    at = rng.randrange(len(lines))
    lines[at], what = damage_json(lines[at], rng)
    return "\n".join(lines) + "\n" * rng.randrange(2), f"line {at + 1}: {what}"


def damage_table(text: str, rng: random.Random) -> tuple[str, str]:
    """refused.csv with rows or columns that are not there."""
    header, *_ = text.splitlines()
    renamed = header.replace("reason", "why") + "\n1,a,b,c"
    given = rng.choice(("", "reason", renamed, f"{header}\n1,empty", f'{header}\n1,"', "\0", f"{header}\n\0,a,b"))
    return given, f"all of it is {given!r}"


def damage_arrays(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """An .npz file that is cut, or with an array that does not fit."""
    if rng.random() < 0.2:
        return content[: rng.randrange(len(content))], "cut"
    with np.load(io.BytesIO(content)) as file:
        arrays = dict(file)
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    spoil: dict[str, Callable[[], Any]] = {
        "missing": lambda: None,
        "shorter": lambda: array[:-1],
        "empty": lambda: array[:0],
        "of no dimension": lambda: array.ravel()[0],
        "of one more": lambda: array[..., None],
        "of another K": lambda: array[..., :-1],
        "negative": lambda: -1 - array.astype(np.float64).astype("i8" if array.dtype.kind in "iu" else "f8"),
        "not a number": lambda: np.full(array.shape, np.nan),
        "beyond 1": lambda: array.astype(np.float64) + 2,
        "text": lambda: np.full(array.shape, "x"),
        "complex": lambda: array.astype(complex),
        "zeros": lambda: np.zeros_like(array),
    }
    how = rng.choice(sorted(spoil))
    given = spoil[how]()
    del arrays[name]
    if given is not None:
        arrays[name] = given
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue(), f"{name} is {how}"


def damage(folder: pathlib.Path, name: str, seed: int) -> str:
    """Damages a file of the folder, a function of the seed; returns what was done."""
    rng, path = random.Random(f"{name} {seed}"), folder / name
    if name in ARRAY_FILES:
        content, what = damage_arrays(path.read_bytes(), rng)
        path.write_bytes(content)
        return f"{name}: {what}"
    spoil = damage_json if name in JSON_FILES else damage_lines if name == LINES else damage_table
    if rng.random() < 0.05:
        path.write_bytes(b"\xff\xfe{}")
        return f"{name}: no UTF-8"
    text, what = spoil(path.read_text(), rng)
    path.write_text(text)
    return f"{name}: {what}"
