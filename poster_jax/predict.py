"""`python -m poster_jax.predict [WORKDIR] IMAGE_OR_FOLDER... [--csv=FILE] [--json=FILE] [--explain=DIR]`: genres of posters.

WORKDIR is a finished run, or `released:NAME`; where a picture comes first, the network that comes with the package is taken.
Of a run of several seeds the answer is the mean of their scores; WORKDIR/seed_N is one of them.
Pictures are checked, decoded and scaled as those of the run were. A genre is decided for where its probability reaches the
threshold that the run chose on validation. Pictures that cannot be read are told on stderr and the rest go on. Exit codes: 0
done, 2 a mistake in what was asked or no picture that could be read.
"""

import dataclasses
import io
import json
import pathlib
import sys
from collections import Counter
from collections.abc import Sequence

import numpy as np
from PIL import Image

from poster_jax import cli, errors
from poster_jax.data import images, picture_files
from poster_jax.report.figures import overlay
from poster_jax.runtime import alive, storage, tables
from poster_jax.train.predictor import Prediction, Predictor, Unreadable, decide, load, predict
from poster_jax.train.predictor import load_network as load_network
from poster_jax.workdir import run_files

DEFAULT_RUN = "released:mobilenet_v2"  # where no run is named
NUM_SHOWN = 3  # genres of a picture in the table
PATH_WIDTH = 48


def split_run(given: Sequence[str]) -> tuple[str, list[str]]:
    """(the run, the pictures): the run is DEFAULT_RUN where the first argument is a file, or alone and no run folder.

    Raises UserError for a run without pictures.
    """
    first, rest = given[0], list(given[1:])
    is_run = first.startswith(storage.RELEASED) or "://" in first or (pathlib.Path(first) / "config.json").exists()
    if is_run and not rest:
        raise errors.UserError(f"no picture is named beside {first}: give pictures or folders after it.")
    alone = not rest and not is_run
    return (DEFAULT_RUN, list(given)) if alone or pathlib.Path(first).is_file() else (first, rest)


def about_released(run: str) -> str:
    """What a released network was trained on and the scores it was measured at, in a line."""
    folder = storage.as_path(run)
    results = run_files.read_results(folder)
    test, ranked = results["splits"]["test"], results["splits"]["test"]["metrics"]["mean_average_precision"]
    counts = results["data"]["num_rows"]
    return (
        f"{run}, trained on {counts['train']:,} {results['data']['name']}: mAP {ranked['value']:.3f} [{ranked['low']:.3f}, "
        f"{ranked['high']:.3f}], floor {ranked['best_floor']:.3f}, on {test['num_rows']:,} others; {folder / 'MODEL_CARD.md'}"
    )


def list_pictures(given: Sequence[pathlib.Path]) -> tuple[list[pathlib.Path], Counter[str]]:
    """(the given files, and the pictures in the given folders and below them in order of their names; the other files).

    The other files of the folders are counted by suffix; hidden ones are not. Raises UserError for a folder without pictures.
    """
    found: list[pathlib.Path] = []
    others: Counter[str] = Counter()
    for path in given:
        below = [path]
        if path.is_dir():
            files = picture_files.files_below(path)
            below = [file for file in files if picture_files.is_picture(file)]
            if not below:
                raise errors.UserError(f"the folder {path} holds no picture (JPEG, PNG, GIF, WebP, BMP): give another.")
            others.update(file.suffix.lower() or "without a suffix" for file in {*files} - {*below})
        found += below
    return found, others


def save_overlay(network: Predictor, picture: Prediction, folder: pathlib.Path) -> pathlib.Path:
    """Writes the picture, in its own size, under its Grad-CAM as NAME-GENRE.png; returns the path."""
    checked = picture.checked
    pixels = images.decode(checked.encoded, (checked.height, checked.width))
    if picture.heat is None:
        raise ValueError(f"{picture.path} was predicted without maps")
    target = storage.find_free(folder, f"{picture.path.stem}-{network.genres[int(picture.scores.argmax())]}", ".png")
    buffer = io.BytesIO()
    Image.fromarray(overlay.blend(pixels, picture.heat)).save(buffer, "PNG")
    storage.write_atomic(target, buffer.getvalue())
    return target


def to_csv(network: Predictor, pictures: Sequence[Prediction]) -> str:
    """Columns path, one probability per genre, decision ("Drama|Crime", or nothing)."""
    rows = [
        [picture.path, *(f"{score:.6f}" for score in picture.scores), "|".join(decide(network, picture.scores))]
        for picture in pictures
    ]
    return tables.csv_text(["path", *network.genres, "decision"], rows)


def to_json(network: Predictor, pictures: Sequence[Prediction], unreadable: Sequence[Unreadable]) -> str:
    """Thresholds, pictures with probabilities and decision, and what could not be read."""
    content = {
        "thresholds": dict(zip(network.genres, network.thresholds.tolist(), strict=True)),
        "pictures": [
            {
                "path": str(picture.path),
                "probabilities": dict(zip(network.genres, map(float, picture.scores), strict=True)),
                "decision": decide(network, picture.scores),
            }
            for picture in pictures
        ],
        "unreadable": [{"path": str(each.path), "reason": each.reason, "detail": each.detail} for each in unreadable],
    }
    return json.dumps(content, indent=2) + "\n"


def table_line(network: Predictor, picture: Prediction) -> str:
    """Path, the most probable genres, and the decision."""
    path = cli.one_line(str(picture.path))
    path = path if len(path) <= PATH_WIDTH else f"...{path[3 - PATH_WIDTH :]}"
    top = np.argsort(-picture.scores, kind="stable")[:NUM_SHOWN]
    genres = ", ".join(f"{network.genres[k]} {picture.scores[k]:.2f}" for k in top)
    return f"{path:<{PATH_WIDTH}}  {genres}  ->  {', '.join(decide(network, picture.scores)) or 'none'}"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code."""
    return cli.run_command(_run, argv)


def _run(argv: list[str]) -> int:
    try:
        return _predict(argv)
    except OSError as error:
        raise errors.UserError(f"{error.filename} cannot be written ({error.strerror}): name another place.") from error


def _predict(argv: list[str]) -> int:
    parser = cli.Parser("python -m poster_jax.predict", __doc__)
    parser.add_argument("given", nargs="+", metavar="[WORKDIR] IMAGE_OR_FOLDER", help=f"without WORKDIR {DEFAULT_RUN}")
    parser.add_argument("--csv", metavar="FILE", help="path, one probability per genre, decision")
    parser.add_argument("--json", metavar="FILE", help="the same, with the thresholds and what could not be read")
    parser.add_argument("--explain", metavar="DIR", help="writes each picture under its Grad-CAM for the top-scored genre")
    # Options may stand between the run and the pictures.
    flags = parser.parse_intermixed_args(argv)
    run, pictures_given = split_run(flags.given)
    paths, others = list_pictures([pathlib.Path(path) for path in pictures_given])
    if others:
        print(f"poster_jax: {picture_files.left_out(others)}", file=sys.stderr)
    with alive.doing("reading the network"):
        network = load(storage.as_path(run))
    if network.seeds:
        seeds = ", ".join(map(str, network.seeds))
        print(f"poster_jax: by the mean of the scores of {len(network.seeds)} networks, seeds {seeds}", file=sys.stderr)
    if run != flags.given[0]:
        print(f"poster_jax: by {about_released(run)}", file=sys.stderr)
    if flags.explain:
        pathlib.Path(flags.explain).mkdir(parents=True, exist_ok=True)

    pictures: list[Prediction] = []
    unreadable: list[Unreadable] = []
    with alive.doing(lambda: f"predicting: {len(pictures) + len(unreadable):,} of {len(paths):,} pictures"):
        for each in predict(network, paths, with_maps=bool(flags.explain)):
            if isinstance(each, Unreadable):
                reason = f"{each.reason.replace('_', ' ')} ({each.detail})"
                print(cli.one_line(f"poster_jax: {each.path} is left out: {reason}"), file=sys.stderr)
                unreadable.append(each)
                continue
            if flags.explain:
                save_overlay(network, each, pathlib.Path(flags.explain))
            if not flags.csv and not flags.json:
                print(table_line(network, each), flush=True)
            # The picture itself is not kept.
            pictures.append(dataclasses.replace(each, checked=dataclasses.replace(each.checked, encoded=b""), heat=None))
    for file, content in ((flags.csv, to_csv(network, pictures)), (flags.json, to_json(network, pictures, unreadable))):
        if file:
            storage.write_atomic(pathlib.Path(file), content)
            print(f"{file}: {len(pictures):,} of {len(paths):,} pictures")
    if flags.explain:
        print(f"{flags.explain}: {len(pictures):,} maps")
    if not pictures:
        raise errors.UserError(f"none of the {len(paths)} pictures could be read: give others.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
