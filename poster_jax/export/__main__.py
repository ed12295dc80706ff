"""`python -m poster_jax.export WORKDIR OUT [--tflite] [--onnx] [--safetensors]`: a run as a folder that needs no poster_jax.

OUT holds `program.jax_export` (StableHLO with the weights in it, by jax.export), `labels.json` (genres, thresholds and the
size of a poster), `MODEL_CARD.md`, `predict.py` with MODULES (use the folder; need jax, numpy and Pillow) and
`manifest.json` (SHA-256 of the others); `program.tflite`, `program.onnx` and `weights.safetensors` where asked for. Programs
are held against the checkpoint first, each by its own runtime, then OUT appears by one rename. An OUT that exists is refused,
whatever it holds: a bundle that somebody uses never changes under its name. Exit codes: 0 done, 2 a mistake in what was asked,
or a format whose converter failed: the others are written.
"""

import contextlib
import functools
import hashlib
import json
import pathlib
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax import export

from poster_jax import cli, errors, predict
from poster_jax.data import images, picture_files
from poster_jax.export import formats, model_card, release
from poster_jax.runtime import storage, tables
from poster_jax.workdir import run_files

FORMAT = "poster_jax bundle 1"
PLATFORMS = ("cpu", "cuda", "tpu")
PROGRAM = "program.jax_export"
LOADER = pathlib.Path(__file__).with_name("bundle.py")
# Modules of ours that lie beside the loader, by the name of their file there; they need numpy and Pillow only.
MODULES = {"pictures.py": images, "picture_files.py": picture_files, "csv_tables.py": tables}

NUM_CHECKED = 3  # posters that program and checkpoint must agree on, together and the first one alone
# Largest difference of a probability, by precision: 100 roundings of float32, 2 of bfloat16's 8 bits.
TOLERANCES = {"float32": 1e-5, "bfloat16": 1e-2}


def build_program(network: predict.Predictor) -> bytes:
    """The network as a serialized `jax.export.Exported`: uint8 [B, H, W, 3] -> float32 [B, K] in [0, 1], any B, all PLATFORMS.

    It does what `predict` does with decoded posters: normalisation, mirror averaging and the cut to the K genres are inside.
    Equal networks give equal bytes on one version of jax.
    """
    # Arrays of the host become constants of the program; those of a device would tie it to that device.
    weights = jax.tree.map(np.asarray, network.variables)

    def posters_to_genres(image: jax.Array) -> jax.Array:
        return network.score(weights, image)

    (batch,) = export.symbolic_shape("b")
    image = jax.ShapeDtypeStruct((batch, *network.image_size, 3), np.uint8)
    with _without_source_paths():
        return bytes(export.export(jax.jit(posters_to_genres), platforms=PLATFORMS)(image).serialize())


@contextlib.contextmanager
def _without_source_paths() -> Iterator[None]:
    """StableHLO without the files and lines that it was traced from: they name this machine's folders."""
    name = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, name)
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)


def check_program(program: bytes, network: predict.Predictor, image: np.ndarray, precision: str) -> None:
    """Raises RuntimeError when the program and the checkpoint differ on posters uint8 [B, H, W, 3]; here, on this device."""
    check_scores(jax.jit(export.deserialize(bytearray(program)).call), network, image, precision)


def check_scores(call: Callable[[np.ndarray], Any], network: predict.Predictor, image: np.ndarray, precision: str) -> None:
    """As `check_program`, for a program that can be called."""
    expected = np.asarray(network.score(network.variables, image))
    for given, scores in ((image, expected), (image[:1], expected[:1])):
        found = np.asarray(call(given))
        if found.shape != scores.shape or found.dtype != np.float32:
            raise RuntimeError(f"the program gives {found.dtype} {found.shape}, the checkpoint {scores.dtype} {scores.shape}")
        # Not `> tolerance`: NaN must not pass.
        difference = np.abs(found - scores).max()
        if not difference <= TOLERANCES[precision]:
            raise RuntimeError(f"the program's probabilities differ from the checkpoint's by {difference}")


def _read_origin(path: str) -> str:
    try:
        return pathlib.Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise errors.UserError(f"--release={path} is no text ({error}): name a file that says the licences.") from error


def choose_posters(workdir: pathlib.Path, image_size: tuple[int, int]) -> np.ndarray:
    """uint8 [NUM_CHECKED, H, W, 3]: posters of samples.npz where the run has kept some, and noise for the last ones.

    Raises UserError for a damaged samples.npz, and for posters of another size.
    """
    image = np.random.default_rng(0).integers(0, 256, (NUM_CHECKED, *image_size, 3), np.uint8)
    samples = run_files.read_samples(workdir)
    if samples:
        kept = samples["image"][: NUM_CHECKED - 1]
        if kept.shape[1:3] != tuple(image_size):
            found, due = ("{} x {}".format(*size) for size in (kept.shape[1:3], image_size))
            raise errors.UserError(
                f"{workdir / run_files.SAMPLES} is damaged (posters of {found} pixels where the config has {due}): "
                f"{run_files.MEASURE_AGAIN}."
            )
        image[: len(kept)] = kept
    return image


def module_source(module: types.ModuleType) -> bytes:
    """The source of a module of MODULES, which imports others as files beside it."""
    assert module.__file__ is not None
    text = pathlib.Path(module.__file__).read_text(encoding="utf-8")
    return text.replace("from poster_jax.data import picture_files\n", "import picture_files\n").encode()


def build_bundle(
    workdir: pathlib.Path, kinds: Sequence[str] = (), *, weights: bool = False
) -> tuple[dict[str, bytes], list[str]]:
    """({file name: content} of a finished run's bundle, its programs checked; one sentence for each format that failed).

    `kinds` are further programs of formats.FILES; with `weights` formats.WEIGHTS lies there too. Raises UserError for what
    `predict.load_network` and `formats.require` refuse, and RuntimeError when a program is not the checkpoint.
    """
    config, results, genres = run_files.read_run(workdir)
    for kind in kinds:
        formats.require(kind, config.train.precision)
    network = predict.load_network(workdir)
    program = build_program(network)
    posters = choose_posters(workdir, network.image_size)
    check_program(program, network, posters, config.train.precision)
    others, failed = {}, []
    for kind in kinds:
        try:
            built = formats.build(kind, network)
        except formats.ConversionError as error:
            failed.append(str(error))
            continue
        check_scores(functools.partial(formats.run, kind, built), network, posters, config.train.precision)
        others[formats.FILES[kind]] = built
    if weights:
        others[formats.WEIGHTS] = formats.build_weights(network)
    labels = {
        "genres": genres,
        "thresholds": network.thresholds.tolist(),
        "image_size": network.image_size,
        "probabilities": "of one genre among all" if model_card.sums_to_one(config, results) else "of every genre by itself",
    }
    card = model_card.write(
        config,
        results,
        thresholds=network.thresholds.tolist(),
        use=model_card.use_of_bundle(config, platforms=PLATFORMS, jax_version=jax.__version__, others=tuple(others)),
    )
    files = {
        PROGRAM: program,
        **others,
        "labels.json": (json.dumps(labels, indent=2) + "\n").encode(),
        "MODEL_CARD.md": card.encode(),
        "predict.py": LOADER.read_bytes(),
        **{name: module_source(module) for name, module in MODULES.items()},
    }
    manifest = {
        "format": FORMAT,
        "jax": jax.__version__,
        "platforms": PLATFORMS,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    return {**files, "manifest.json": (json.dumps(manifest, indent=2) + "\n").encode()}, failed


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code."""
    return cli.run_command(_run, argv)


def _run(argv: list[str]) -> int:
    parser = cli.Parser("python -m poster_jax.export", __doc__)
    parser.add_argument("workdir", metavar="WORKDIR", help="folder of a finished run")
    parser.add_argument("out", metavar="OUT", help="folder to make")
    parser.add_argument("--tflite", action="store_true", help="program.tflite too, one poster a call")
    parser.add_argument("--onnx", action="store_true", help="program.onnx too, any batch size")
    parser.add_argument("--safetensors", action="store_true", help="weights.safetensors too, under the checkpoint's names")
    parser.add_argument(
        "--release", metavar="FILE", help="a run folder with half-precision weights instead; FILE: licences for the card"
    )
    flags = parser.parse_args(argv)
    out = pathlib.Path(flags.out)
    if flags.release and (flags.tflite or flags.onnx or flags.safetensors):
        raise errors.UserError(
            "--release writes a run folder: leave --tflite, --onnx and --safetensors out, or write a second folder."
        )
    # A link to nowhere is in the way too.
    if out.exists() or out.is_symlink():
        raise errors.UserError(f"{out} exists already: remove it or name another folder.")
    if not out.parent.is_dir():
        raise errors.UserError(f"the folder {out.parent} does not exist: make it first.")
    workdir, failed = storage.as_path(flags.workdir), []
    if flags.release:
        files = release.build(workdir, out.name, _read_origin(flags.release))
    else:
        kinds = [kind for kind in formats.FILES if getattr(flags, kind)]
        files, failed = build_bundle(workdir, kinds, weights=flags.safetensors)
    try:
        storage.write_folder(out, files)
    except OSError as error:
        raise errors.UserError(f"{out} cannot be written ({error.strerror}): name another place.") from error
    size_mb = sum(map(len, files.values())) / 1e6
    print(f"{out}: {', '.join(files)}; {size_mb:.1f} MB, checked against the checkpoint on {jax.default_backend()}")
    if failed:
        raise errors.UserError(f"{'; '.join(failed)}: the rest of {out} is written and checked.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
