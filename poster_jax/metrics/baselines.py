"""Baselines for any network: logistic regression and nearest neighbours, on colours or on frozen features.

Colour histograms contain no shape, so their score comes from colour alone. scikit-learn takes two seconds to load, so functions
that fit import it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from poster_jax.metrics import definitions

if TYPE_CHECKING:
    from sklearn import linear_model

Array = npt.NDArray

BINS_PER_CHANNEL = 8
NUM_COLORS = BINS_PER_CHANNEL**3
# C on standardised features: best or second best of 1e-4 ... 1e-1 on 6,462 real posters, for both encodings.
INVERSE_REGULARIZATION = 0.001
MAX_ITERATIONS = 2000
NEIGHBOURS = (5, 15, 45, 135)  # candidates; validation chooses one


def color_histograms(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The share of pixels in each of 8 x 8 x 8 colours, float32 [N, 512] with rows that sum to 1.

    images uint8 [N, H, W, 3]; rows are independent, so a large set can be passed in batches. Colour (r, g, b) is column
    64 * (r // 32) + 8 * (g // 32) + b // 32. Raises ValueError for another dtype or shape.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"images are {images.dtype} {images.shape}, expected uint8 [N, H, W, 3]")
    histograms = np.empty((len(images), NUM_COLORS), np.float32)
    for row, image in enumerate(images):
        red, green, blue = np.moveaxis(image >> 5, -1, 0).astype(np.int64)
        color = red << 6 | green << 3 | blue
        histograms[row] = np.bincount(color.ravel(), minlength=NUM_COLORS) / color.size
    return histograms


def logistic_regression(
    train_features: Array,
    train_labels: Array,
    features: Mapping[str, Array],
    num_genres: int,
    *,
    inverse_penalty: float = INVERSE_REGULARIZATION,
) -> dict[str, Array]:
    """Scores float64 [N, K] for each named set of features [N, D], from a fit on the training split.

    Labels int [M]: one multinomial regression; rows sum to 1, and a genre absent from training scores 0. Labels 0/1 [M, K]: one
    regression per genre; a genre of all or none of the training rows scores its prevalence. Features are standardised with the
    mean and deviation of the training split; `inverse_penalty` is scikit-learn's C on them. Deterministic; warns with
    ConvergenceWarning if 2,000 iterations do not suffice.
    """
    mean, scale = _moments(train_features)
    train = (train_features - mean) / scale
    standardised = {name: (values - mean) / scale for name, values in features.items()}
    train_labels = np.asarray(train_labels)
    if train_labels.ndim == 1:
        return _multinomial(train, train_labels, standardised, num_genres, inverse_penalty)
    columns = [_binary(train, train_labels[:, k], standardised, inverse_penalty) for k in range(num_genres)]
    return {name: np.stack([column[name] for column in columns], axis=1) for name in features}


def logistic_path(
    train_features: Array, train_labels: Array, features: Array, num_genres: int, inverse_penalties: Sequence[float]
) -> Iterator[Array]:
    """Scores float64 [N, K] of `features` [N, D] at each of the penalties, which rise: to choose one of them by validation.

    The fits are those of `logistic_regression` but for rounding: in float32, and each from the one before, which takes a
    fraction of the time.
    """
    from sklearn import linear_model

    mean, scale = _moments(train_features)
    train, held = (((values - mean) / scale).astype(np.float32) for values in (train_features, features))
    labels = np.asarray(train_labels)
    targets = [labels] if labels.ndim == 1 else [labels[:, k] for k in range(num_genres)]
    models = [linear_model.LogisticRegression(max_iter=MAX_ITERATIONS, warm_start=True) for _ in targets]
    for inverse_penalty in inverse_penalties:
        scores = np.zeros((len(held), num_genres))
        for k, (model, target) in enumerate(zip(models, targets, strict=True)):
            present = np.unique(target)
            columns = present if labels.ndim == 1 else [k]
            if len(present) == 1:
                scores[:, columns] = 1.0 if labels.ndim == 1 else float(present[0])
                continue
            found = model.set_params(C=inverse_penalty).fit(train, target).predict_proba(held)
            scores[:, columns] = found if labels.ndim == 1 else found[:, 1:]
        yield scores


def _moments(features: Array) -> tuple[Array, Array]:
    """(mean, what to divide by), float64 [D]: the deviation, or 1 for a column that is the same in every row."""
    mean, deviation = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    return mean, np.where(deviation > 0, deviation, 1.0)


def nearest_neighbours(features: Mapping[str, Array], labels: Mapping[str, Array], num_genres: int) -> dict[str, Array]:
    """Scores float64 [N, K] of each part: the mean label of the nearest training rows by cosine.

    features and labels: {"train" | "validation" | ...: [N, D]} and int [N] or 0/1 [N, K]. A training row is not its own
    neighbour. The number of neighbours is the entry of `NEIGHBOURS` with the highest mean average precision on validation.
    """
    from sklearn import neighbors
    from sklearn.metrics import average_precision_score

    targets = {name: definitions.make_targets(values, num_genres) for name, values in labels.items()}
    most = min(max(NEIGHBOURS), len(targets["train"]) - 1)
    index = neighbors.NearestNeighbors(n_neighbors=most, metric="cosine", algorithm="brute").fit(features["train"])
    nearest = {
        name: index.kneighbors(None if name == "train" else values, return_distance=False) for name, values in features.items()
    }

    def scores(name: str, number: int) -> Array:
        return targets["train"][nearest[name][:, :number]].mean(axis=1)

    def quality(number: int) -> float:
        return float(average_precision_score(targets["validation"], scores("validation", number)))

    number = max((one for one in NEIGHBOURS if one <= most), key=quality, default=most)
    return {name: scores(name, number) for name in features}


def _fit(train: Array, labels: Array, inverse_penalty: float) -> "linear_model.LogisticRegression":
    from sklearn import linear_model

    return linear_model.LogisticRegression(C=inverse_penalty, max_iter=MAX_ITERATIONS).fit(train, labels)


def _multinomial(
    train: Array, labels: Array, features: Mapping[str, Array], num_genres: int, inverse_penalty: float
) -> dict[str, Array]:
    scores = {name: np.zeros((len(values), num_genres)) for name, values in features.items()}
    present = np.unique(labels)
    model = _fit(train, labels, inverse_penalty) if len(present) > 1 else None
    for name, values in features.items():
        scores[name][:, present] = model.predict_proba(values) if model else 1.0
    return scores


def _binary(train: Array, labels: Array, features: Mapping[str, Array], inverse_penalty: float) -> dict[str, Array]:
    prevalence = float(labels.mean())
    if prevalence in (0.0, 1.0):
        return {name: np.full(len(values), prevalence) for name, values in features.items()}
    model = _fit(train, labels, inverse_penalty)
    return {name: model.predict_proba(values)[:, 1] for name, values in features.items()}
