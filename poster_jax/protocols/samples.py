"""samples.npz: a few test posters with the network's scores and its Grad-CAM map, so that a report needs neither data nor jax.

Half are spread evenly over the test part, a fair sample; the others are the most confident mistakes.
"""

import numpy as np

from poster_jax.data import input_pipeline, labels
from poster_jax.models import grad_cam
from poster_jax.models.types import PosterModel, Variables
from poster_jax.runtime import alive
from poster_jax.train import evaluate
from poster_jax.train.run import Run
from poster_jax.workdir import run_files


def choose(scores: np.ndarray, label: np.ndarray, movie: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(positions int64 [n], truth bool [n, K], spread bool [n]) of `num` posters or fewer, a function of the arguments alone.

    First (spread True) movies evenly spaced over all of them, a fair sample; then at most num // 2 movies whose top-scored
    genre is not theirs, the highest such score first. A movie may be in both.

    Args:
        scores: [N, K]; label: int [N] or 0/1 [N, K]; movie: int [N], its id. A movie is represented by its first row, and
            has the genres of all of its rows (exploded labels).
    """
    first, row_movie = np.unique(movie, return_index=True, return_inverse=True)[1:]
    truth = np.zeros((len(first), scores.shape[1]), bool)
    np.logical_or.at(truth, row_movie, labels.one_hot(label, scores.shape[1]).astype(bool))
    in_order = np.argsort(first)
    first, truth = first[in_order], truth[in_order]
    wrong = ~truth[np.arange(len(first)), scores[first].argmax(1)]
    by_confidence = np.argsort(-scores[first].max(1), kind="stable")
    mistakes = by_confidence[wrong[by_confidence]][: num // 2]
    evenly = np.linspace(0, len(first) - 1, min(num - num // 2, len(first))).round().astype(np.int64)
    chosen = np.concatenate([evenly, mistakes])
    return first[chosen], truth[chosen], np.arange(len(chosen)) < len(evenly)


def save(run: Run, model: PosterModel, variables: Variables, scores: np.ndarray, num: int = 24) -> None:
    """Writes samples.npz; every process calls it alike.

    Args:
        scores: those of the whole test part [N, K], which choose the posters.

    The file holds `image` uint8 [n, H, W, 3], `id` int32 [n], `label` float32 [n, K] of zeros and ones, `score` [n, K], `genre`
    int32 [n], the top-scored one, `map` float32 [n, h, w] in [0, 1], its Grad-CAM, `true_genre` and `true_map`, the same of the
    poster's own genre that is scored highest, and `spread` bool [n].
    """
    rows = run.loader.rows
    part = rows.parts["test"]
    positions, truth, spread = choose(scores, rows.label[part], rows.movie_id[part], num)
    chosen = part[positions]
    image = read_images(run.loader, chosen)
    # Where a poster has no genre its true one is the first, whose map the report does not show.
    own = np.where(truth, scores[positions], -1.0)
    genres = {"": scores[positions].argmax(1).astype(np.int32), "true_": own.argmax(1).astype(np.int32)}
    with alive.doing(f"what {len(chosen)} posters were judged by"):
        explain = grad_cam.make_grad_cam(model)
        maps = {f"{of}map": evaluate.gather(explain(variables, image, genre)) for of, genre in genres.items()}
    arrays = {"image": image, "id": rows.movie_id[chosen], "label": truth.astype(np.float32), "score": scores[positions]}
    arrays |= {f"{of}genre": genre for of, genre in genres.items()}
    run_files.write_samples(run.workdir, {**arrays, **maps, "spread": spread})


def read_images(loader: input_pipeline.Loader, chosen: np.ndarray) -> np.ndarray:
    """The posters of these rows, uint8 [n, H, W, 3], on the host of every process."""
    # One batch; it has to divide over the devices.
    batch_size = -(-len(chosen) // loader.shardings.mesh.size) * loader.shardings.mesh.size
    (batch,) = loader.row_batches(chosen, batch_size)
    return evaluate.gather(batch["image"])[: len(chosen)]
