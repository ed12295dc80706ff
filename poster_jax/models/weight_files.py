"""Reads the weights that `model.weights` names: bodies from files of Keras and of torch, and from our own format.

No code in a file is ever run: of Keras's configs only names and numbers are read, and pickles by torch's `weights_only` alone.
Arrays are found by name, every one is accounted for, and values are read only when all shapes are those of a body.
"""

import dataclasses
import hashlib
import importlib.util
import pathlib
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from poster_jax import errors
from poster_jax.models import body_plan, families, pretrained
from poster_jax.models.files import foreign, keras_files, official, released, stored, torch_files
from poster_jax.runtime import storage

# Collection and leaf of our arrays, and the leaf's name in each layout: the convolution's first, then the BatchNorm's.
OUR_LEAVES = (("params", "kernel"), ("params", "scale"), ("params", "bias"), ("batch_stats", "mean"), ("batch_stats", "var"))
THEIR_LEAVES = {
    "keras": ("kernel", *keras_files.BATCH_NORM_LEAVES),
    "torch": ("weight", "weight", "bias", "running_mean", "running_var"),
}
# The widths of official files first; a file may have any other on this grid.
WIDTHS = (1.0, 0.75, 0.5, 0.35, 1.3, 1.4, *(step / 100 for step in range(5, 401)))
OURS = "poster_jax"
RELEASED = storage.RELEASED.removesuffix(":")
MAX_TOLD = 4000  # characters of a refusal; the longest that names ten arrays of each kind has 2,000
# What h5py, zipfile, zlib and safetensors raise for bytes that are not those that were written.
DAMAGED = (OSError, EOFError, zipfile.BadZipFile, zlib.error, torch_files.Damaged)
# What they, numpy and json raise for whole files of another content.
UNKNOWN = (TypeError, ValueError, LookupError, AttributeError, RuntimeError, ArithmeticError, MemoryError)


@dataclasses.dataclass(frozen=True)
class Origin:
    """Published weights: the word before the colon of `model.weights`, and the network that they are for."""

    framework: str
    model: str
    family: families.Family
    source: body_plan.Source

    @property
    def plan(self) -> body_plan.Plan:
        """The network's table at width 1; at any other width its units have the same names."""
        return self.family.plan(1.0, self.source.fields["padding"])


ORIGINS = {
    framework: Origin(framework, model, family, source)
    for model, family in families.FAMILIES.items()
    for framework, source in family.sources.items()
}


def load(weights: str, sha256: str = "") -> pretrained.Pretrained:
    """Reads `model.weights`: "SOURCE:FILE" with a word of `ORIGINS`, "poster_jax:FILE" or "SOURCE:imagenet".

    "keras:imagenet" is Keras's official file of width 1.0 and 224 px, "keras:imagenet_0.5_160" another of them; "@SHA256" after
    either is as `sha256`, the hash that the file must have. Of a source with a package, "imagenet" is the file of the installed
    package. Raises UserError for a file of another hash, and for one that is not exactly a body, whose arrays it lists.
    """
    framework, _, name = weights.partition(":")
    if framework not in (*ORIGINS, OURS, RELEASED) or not name:
        known = ", ".join(f"{source}:FILE" for source in (*ORIGINS, OURS))
        raise errors.UserError(f"config.model.weights={weights!r} is unknown: give {known}, released:NAME, or keras:imagenet.")
    if framework == RELEASED:
        return released.read(storage.released(name))
    if framework == "keras" and (wanted := official.parse(name)):
        path = official.fetch(wanted, lambda path: read(path, framework))
        sha256 = sha256 or wanted.sha256
    else:
        path = _packaged(framework, name) or pathlib.Path(name).expanduser()
    return read(path, framework, sha256)


def read(path: pathlib.Path, framework: str, sha256: str = "") -> pretrained.Pretrained:
    """The body in a file of a source. Raises UserError as `load` does."""
    try:
        kind = foreign.framework_of(path)
        if kind != (OURS if framework == OURS else ORIGINS[framework].source.layout):
            raise errors.UserError(f"the weights file {path} is not of {framework}: write {_source_of(path, kind)}:{path}.")
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 not in ("", digest):
            raise errors.UserError(
                f"the weights file {path} has the sha256 {digest}, not {sha256}: give the file that the hash is of, "
                "or the hash of this one as --config.model.weights_sha256."
            )
        if framework == OURS:
            loaded = pretrained.read(path)
        else:
            loaded = {"keras": _read_keras, "torch": _read_torch}[kind](path, ORIGINS[framework], digest)
        return dataclasses.replace(loaded, file_sha256=digest)
    except (errors.UserError, *DAMAGED, *UNKNOWN) as error:
        raise _refusal(path, framework, error) from error


def _refusal(path: pathlib.Path, framework: str, error: BaseException) -> errors.UserError:
    """One line of a bounded length: names of arrays are a stranger's, and may be of any characters."""
    told = str(error)
    if not isinstance(error, errors.UserError):
        why = told.partition("\n")[0].rstrip(".")[:200] or type(error).__name__
        way_out = "it is cut short or damaged; fetch it again" if isinstance(error, DAMAGED) else "save the weights again"
        if isinstance(error, PermissionError):
            way_out = "make it readable"
        told = f"the weights file {path} cannot be read as one of {framework or 'Keras or torch'} ({why}): {way_out}."
    line = "".join(each if each.isprintable() else "?" for each in told)
    return errors.UserError(line if len(line) <= MAX_TOLD else f"{line[: MAX_TOLD // 2]} ... {line[-MAX_TOLD // 2 :]}")


def find_source(path: pathlib.Path) -> str:
    """The source of a file by what it holds; raises UserError where it is of none."""
    try:
        return _source_of(path, foreign.framework_of(path))
    except (errors.UserError, *DAMAGED, *UNKNOWN) as error:
        raise _refusal(path, "", error) from error


def _source_of(path: pathlib.Path, kind: str) -> str:
    if kind != "torch":
        return kind
    with torch_files.opened(path) as arrays:
        return _find_torch_body(path, arrays)[0].framework


def _find_torch_body(path: pathlib.Path, arrays: Mapping[str, stored.Stored]) -> tuple[Origin, torch_files.Found]:
    """The source whose names the arrays have, and its body; raises UserError, which names the network, where there is none."""
    for origin in ORIGINS.values():
        if origin.source.layout == "torch":
            stem, _ = origin.source.name_layers(origin.plan, "stem")
            names = [*their_names(origin).values()]
            found = torch_files.find_body(path, arrays, stem, names)
            if found:
                _check_network(path, [*found.arrays, *found.left_out], names)
                return origin, found
    _check_network(path, arrays, ())
    raise errors.UserError(
        f"the weights file {path} holds no body that is known here, but {len(arrays):,} arrays "
        f"({', '.join([*arrays][:3])}, ..): give weights of {_known_networks()}."
    )


def _check_network(path: pathlib.Path, arrays: Iterable[str], names: Iterable[str]) -> None:
    """Raises UserError, which names it, where the arrays beyond `names` are known to be of another network."""
    network = foreign.network_of({*arrays} - {*names})
    if network:
        raise errors.UserError(f"the weights file {path} is of {network}: give weights of {_known_networks()}.")


def _known_networks() -> str:
    return " or ".join(family.network.__name__ for family in families.FAMILIES.values())


def their_names(origin: Origin) -> dict[str, str]:
    """{our flat name: the source's name} of every array, in the order of the forward pass."""
    layout = origin.source.layout
    separator = {"keras": "/", "torch": "."}[layout]
    names = {}
    for unit in origin.plan.unit_names():
        convolution, norm = origin.source.name_layers(origin.plan, unit)
        for (collection, ours), theirs in zip(OUR_LEAVES, THEIR_LEAVES[layout], strict=True):
            names[f"{collection}/{unit}/{ours}"] = separator.join((convolution if ours == "kernel" else norm, theirs))
    return names


def _axes(layout: str, name: str) -> tuple[int, ...]:
    """Which of our axes theirs are: torch has [out, in, h, w], Keras [h, w, channels, 1] for depthwise kernels."""
    if not name.endswith("/kernel"):
        return (0,)
    return (3, 2, 0, 1) if layout == "torch" else (0, 1, 3, 2) if "/depthwise/" in name else (0, 1, 2, 3)


def _from_theirs(origin: Origin, path: pathlib.Path, arrays: Mapping[str, stored.Stored]) -> tuple[dict[str, Any], float]:
    """Our variables and the width, of arrays under the source's names."""
    names, layout, padding = their_names(origin), origin.source.layout, origin.source.fields["padding"]

    def mismatches(width: float) -> int:
        plan = origin.family.plan(width, padding)
        filters = {f"block_{index}/project": row.filters for index, row in enumerate(plan.blocks)}
        filters |= {"stem": plan.stem, "last": plan.last}
        scales = {unit: arrays.get(names[f"params/{unit}/scale"]) for unit in filters}
        return sum(scale is not None and scale.shape != (filters[unit],) for unit, scale in scales.items())

    width = min(WIDTHS, key=mismatches)
    ours = pretrained.body_shapes(origin.model, width, padding)
    needed = {theirs: tuple(ours[name][axis] for axis in _axes(layout, name)) for name, theirs in names.items()}
    pretrained.account(
        f"the weights file {path} is not exactly the body of {origin.model} of {origin.framework}",
        {name: array.shape for name, array in arrays.items()},
        needed,
        "give one that is",
    )
    flat = {
        name: arrays[theirs].read(path, theirs).transpose(np.argsort(_axes(layout, name))) for name, theirs in names.items()
    }
    return pretrained.checked(path, flat), width


def _provenance(
    path: pathlib.Path, digest: str, origin: Origin, resolution: int | None, left_out: Sequence[str]
) -> dict[str, Any]:
    return {
        "source": path.name,
        "sha256": digest,
        "framework": origin.framework,
        "resolution": resolution,
        "left_out": sorted(left_out),
    }


def _read_keras(path: pathlib.Path, origin: Origin, digest: str) -> pretrained.Pretrained:
    layers = [layer for unit in origin.plan.unit_names() for layer in origin.source.name_layers(origin.plan, unit)]
    with keras_files.opened(path, layers) as body:
        _check_network(path, body.arrays, their_names(origin).values())
        variables, width = _from_theirs(origin, path, body.arrays)
    fields = dict(origin.source.fields)
    if body.epsilon is not None:
        fields |= {"epsilon": body.epsilon, "momentum": body.momentum}
    provenance = _provenance(path, digest, origin, body.resolution, body.left_out)
    return pretrained.Pretrained(origin.model, variables, width, **fields, provenance=provenance)


def _read_torch(path: pathlib.Path, origin: Origin, digest: str) -> pretrained.Pretrained:
    with torch_files.opened(path) as arrays:
        found, body = _find_torch_body(path, arrays)
        if found != origin:
            raise errors.UserError(
                f"the weights file {path} has the names of {found.framework}, not of {origin.framework}: "
                f"write {found.framework}:{path}."
            )
        variables, width = _from_theirs(origin, path, body.arrays)
    provenance = _provenance(path, digest, origin, None, body.left_out)
    return pretrained.Pretrained(origin.model, variables, width, **origin.source.fields, provenance=provenance)


def _packaged(framework: str, name: str) -> pathlib.Path | None:
    """The file of an installed package that "imagenet" stands for, or None where `name` is a path."""
    package = ORIGINS[framework].source.package if framework in ORIGINS else ""
    if not package or name != "imagenet":
        return None
    found = importlib.util.find_spec(package)
    places = found.submodule_search_locations if found else None
    files = [file for place in places or () for file in pathlib.Path(place).rglob("*.pth")]
    if len(files) != 1:
        raise errors.UserError(
            f"{framework}:imagenet is the file of a package that is not installed here: pip install "
            f"{package.replace('_', '-')}, or give {framework}:FILE."
        )
    return files[0]
