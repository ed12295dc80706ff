"""A finished run, ready to score pictures: its best weights, checked pictures in, calibrated probabilities out."""

import concurrent.futures
import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from flax import traverse_util

from poster_jax import config as config_lib
from poster_jax import errors, models
from poster_jax.data import catalog, images
from poster_jax.metrics import calibration
from poster_jax.models import grad_cam as grad_cam_lib
from poster_jax.models import pretrained
from poster_jax.models.files import half_weights
from poster_jax.models.types import PosterModel, Variables
from poster_jax.runtime import devices, sharding
from poster_jax.train import losses, steps
from poster_jax.workdir import checkpoint, checks, run_files


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A finished run, ready to score pictures.

    Attributes:
        model: flax module.
        variables: its best weights.
        genres: K names, in label order.
        thresholds: float64 [K], chosen on validation, for what `score` gives.
        image_size: height and width in pixels.
        batch_size: pictures scored at once.
        score: jitted, (variables, image uint8 [B, H, W, 3]) -> float32 [B, K], calibrated where the run was.
        seeds: of the mean of several networks, whose variables are {"seed_N": those of one}; () of one network.
    """

    model: PosterModel
    variables: dict[str, Any]
    genres: tuple[str, ...]
    thresholds: np.ndarray
    image_size: tuple[int, int]
    batch_size: int
    score: Callable[[Variables, npt.ArrayLike], jax.Array]
    seeds: tuple[int, ...] = ()

    def members(self) -> list[Variables]:
        """The variables of each network that the scores are the mean of."""
        return list(self.variables.values()) if self.seeds else [self.variables]

    def predict(self, path: str | pathlib.Path) -> "Answer":
        """The genres of one picture. Raises UserError for one that cannot be read, naming the reason."""
        (found,) = predict(self, [pathlib.Path(path)], with_maps=False)
        if isinstance(found, Unreadable):
            raise errors.UserError(f"{path} cannot be read: {found.reason.replace('_', ' ')} ({found.detail}); give another.")
        return Answer(self.genres, found.scores, tuple(decide(self, found.scores)))


class Answer(NamedTuple):
    """What a network says of one picture.

    labels are the K genres, probabilities float32 [K] theirs, decision the genres whose probability reaches the threshold that
    was chosen on validation, the most probable first.
    """

    labels: tuple[str, ...]
    probabilities: np.ndarray
    decision: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Prediction:
    """One picture and its scores [K]; `heat` float [h, w] is its Grad-CAM for the top-scored genre, where asked for."""

    path: pathlib.Path
    checked: images.CheckedImage
    scores: np.ndarray
    heat: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """A picture that was left out."""

    path: pathlib.Path
    reason: str
    detail: str


def load(workdir: pathlib.Path) -> Predictor:
    """The best network of a finished run, of several seeds the mean of their scores; raises as `load_network` does.

    Raises UserError too for several seeds whose mean was not measured.
    """
    results = run_files.read_whole(workdir) if run_files.has_results(workdir) else {}
    if "mean_of_scores" not in results:
        return load_network(workdir)
    networks = [_load(folder)[0] for folder in run_files.list_seeds(workdir)]
    seeds = tuple(one["seed"] for one in results["seeds"])
    variables = {f"seed_{seed}": network.variables for seed, network in zip(seeds, networks, strict=True)}

    def score(variables: dict[str, Any], image: npt.ArrayLike) -> jax.Array:
        found = [one.score(variables[name], image) for name, one in zip(variables, networks, strict=True)]
        return jnp.mean(jnp.stack(found), axis=0)

    together = dataclasses.replace(networks[0], variables=variables, score=score, seeds=seeds)
    return _calibrated(together, results["mean_of_scores"])


def load_network(workdir: pathlib.Path) -> Predictor:
    """The best network of a finished run; raises as `read_run` does, and for a workdir without its checkpoint."""
    return _calibrated(*_load(workdir))


def _calibrated(network: Predictor, results: Mapping[str, Any]) -> Predictor:
    """A network whose scores are as it gives them, as one that gives probabilities: by the temperatures of these results."""
    temperatures, thresholds = calibration.of_results(results, network.genres)

    def score(variables: Variables, image: npt.ArrayLike) -> jax.Array:
        found = network.score(variables, image)
        return (
            found if temperatures is None else jax.nn.sigmoid(jax.scipy.special.logit(found) / jnp.asarray(temperatures)[None])
        )

    return dataclasses.replace(network, thresholds=thresholds, score=jax.jit(score))


def _load(workdir: pathlib.Path) -> tuple[Predictor, dict[str, Any]]:
    """(the network, whose scores are not calibrated and whose thresholds are open, the results of its run)."""
    config, results, genres = run_files.read_run(workdir)
    devices.require()
    fields, folder = config.model.to_dict(), workdir
    if run_files.find_protocol(results) == "transfer":
        # A transfer run: its result is the last branch, which has a folder of its own where there are several.
        folder = workdir if len(results["branches"]) == 1 else workdir / f"range_{len(results['branches']) - 1}"
    num_outputs = len(genres) + len(results["data"]["auxiliary_genres"])
    model = models.build(**fields, num_genres=num_outputs, precision=config.train.precision)
    # What came with the weights is in the results, so that the weights file is not needed again.
    model = model.clone(**read_body(workdir, results, models.body_fields(model)))
    predict_step = steps.make_predict_step(model, losses.probabilities_of(config.loss.name), mirror=config.eval.mirror)
    network = Predictor(
        model,
        _load_best(model, folder, config.data.image_size),
        genres,
        np.empty(0),
        config.data.image_size,
        config.eval.batch_size,
        lambda variables, image: predict_step(variables, jnp.asarray(image))[:, : len(genres)],
    )
    return network, results


def read_body(workdir: pathlib.Path, results: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """What the results say of the body, with the keys and types of `known`; raises UserError for anything else."""
    with checks.named(workdir / run_files.RESULTS, run_files.MEASURE_AGAIN):
        body = config_lib.to_tuples(results.get("body"))
        checks.require(isinstance(body, dict) and body.keys() == known.keys(), "body", f"not of the keys {', '.join(known)}")
        for name, value in known.items():
            shown = f"{body[name]!r} is no value"
            checks.require(type(body[name]) is type(value), f"body.{name}", shown)
            if isinstance(value, tuple):
                checks.check(list(body[name]), checks.Many(checks.NUMBER, len(value)), f"body.{name}")
                checks.require(len(body[name]) == len(value), f"body.{name}", shown)
            elif isinstance(value, float):
                checks.check(body[name], checks.NUMBER, f"body.{name}")
        if body:
            good = body["padding"] in pretrained.FRAMEWORKS and body["epsilon"] > 0 and body["width"] == known["width"]
            good = good and min(body["input_std"]) > 0 and body["input_range"][0] < body["input_range"][1]
            checks.require(good, "body", "its values are those of no network")
    return body


def _load_best(model: PosterModel, folder: pathlib.Path, image_size: tuple[int, int]) -> dict[str, Any]:
    released = (folder / half_weights.NAME).is_file()
    if not released and not (folder / "checkpoints" / "best").is_dir():
        raise errors.UserError(f"{folder} has no checkpoints/best: copy the whole workdir, or run its command again.")
    one_device = sharding.make_shardings(jax.devices()[:1]).state
    shapes = jax.eval_shape(lambda key: model.init(key, jnp.zeros((1, *image_size, 3)), False), jax.random.key(0))
    abstract = {"params": shapes["params"], "batch_stats": shapes.get("batch_stats", {})}
    if released:
        leaves: Any = traverse_util.flatten_dict(abstract, sep="/")
        wanted = {name: leaf.shape for name, leaf in leaves.items()}
        with checks.named(folder / half_weights.NAME, "install poster_jax again, or release the run again"):
            try:
                flat = half_weights.from_bytes((folder / half_weights.NAME).read_bytes(), wanted)
            except ValueError as error:
                raise checks.Damaged(str(error)) from error
        return {"batch_stats": {}} | jax.device_put(traverse_util.unflatten_dict(flat, sep="/"), one_device)
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=one_device), abstract)
    checkpoints = checkpoint.Checkpoints(folder)
    try:
        return checkpoints.restore_best(abstract)[0]
    finally:
        checkpoints.close()


def predict(network: Predictor, paths: Iterable[pathlib.Path], *, with_maps: bool) -> Iterator[Prediction | Unreadable]:
    """Every path in order, scored; a batch of pictures is in memory at a time."""
    grad_cam = grad_cam_lib.make_grad_cam(network.model) if with_maps else None
    pending = list(paths)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for start in range(0, len(pending), network.batch_size):
            part = pending[start : start + network.batch_size]
            read = list(pool.map(lambda path: _read(path, network.image_size), part))
            good = [each for each in read if not isinstance(each, Unreadable)]
            # Padded to one size, so that all batches share one compiled program; one picture waits for no more than itself.
            image = np.zeros((min(network.batch_size, len(pending)), *network.image_size, 3), np.uint8)
            for row, (_, _, pixels) in enumerate(good):
                image[row] = pixels
            scores = np.asarray(network.score(network.variables, image)) if good else np.empty((0, 0))
            heat = None
            if grad_cam is not None and good:
                top = scores.argmax(1).astype(np.int32)
                heat = np.mean([grad_cam(variables, image, top) for variables in network.members()], axis=0)
            row = 0
            for each in read:
                if isinstance(each, Unreadable):
                    yield each
                else:
                    yield Prediction(each[0], each[1], scores[row], None if heat is None else heat[row])
                    row += 1


def _read(path: pathlib.Path, image_size: tuple[int, int]) -> tuple[pathlib.Path, images.CheckedImage, np.ndarray] | Unreadable:
    try:
        checked = catalog.load_checked(path)
        return path, checked, images.decode(checked.encoded, image_size)
    except images.BadImage as error:
        return Unreadable(path, error.reason, error.detail)


def decide(network: Predictor, scores: np.ndarray) -> list[str]:
    """The genres whose probability reaches their threshold, the most probable first."""
    return [network.genres[k] for k in np.argsort(-scores, kind="stable") if scores[k] >= network.thresholds[k]]
