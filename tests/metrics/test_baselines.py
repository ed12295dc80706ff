"""Colour histograms by hand, and the regression on data whose answer is known."""

import time

import numpy as np
import pytest

from poster_jax.metrics import baselines


def test_histogram_by_hand():
    images = np.zeros((2, 2, 2, 3), np.uint8)
    images[0, 0, 0] = (255, 0, 31)  # red 7, green 0, blue 0
    images[0, 0, 1] = (224, 32, 64)  # red 7, green 1, blue 2
    images[1] = (100, 200, 50)  # red 3, green 6, blue 1
    histograms = baselines.color_histograms(images)
    assert histograms.shape == (2, 512) and histograms.dtype == np.float32
    assert {int(column): float(histograms[0, column]) for column in np.flatnonzero(histograms[0])} == {
        0: 0.5,
        7 * 64: 0.25,
        7 * 64 + 8 + 2: 0.25,
    }
    assert histograms[1, 3 * 64 + 6 * 8 + 1] == 1.0


def test_histograms_agree_with_numpy_and_do_not_depend_on_the_batch():
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 8, 3), dtype=np.uint8)
    histograms = baselines.color_histograms(images)
    for image, histogram in zip(images, histograms, strict=True):
        expected, _ = np.histogramdd(image.reshape(-1, 3).astype(float), bins=8, range=[(0, 256)] * 3)
        np.testing.assert_allclose(histogram, expected.ravel() / 96, rtol=1e-6)
    batches = [baselines.color_histograms(images[:2]), baselines.color_histograms(images[2:])]
    np.testing.assert_array_equal(np.concatenate(batches), histograms)
    # The histogram keeps colour and loses position: the same pixels in another order give the same one.
    np.testing.assert_array_equal(baselines.color_histograms(images[:, ::-1, ::-1]), histograms)


@pytest.mark.parametrize(
    "images",
    [np.zeros((2, 4, 4, 3), np.float32), np.zeros((4, 4, 3), np.uint8), np.zeros((2, 4, 4, 1), np.uint8)],
)
def test_histogram_refusals(images):
    with pytest.raises(ValueError, match="expected uint8"):
        baselines.color_histograms(images)


def separable(num_rows, seed):
    """Three genres, each with its own feature, on scales that only standardising makes comparable."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, num_rows)
    features = np.eye(3)[labels] + rng.normal(0, 0.3, (num_rows, 3))
    constant = np.full((num_rows, 1), 0.25)
    return np.hstack([features * [1e-4, 1.0, 1e3], constant]).astype(np.float32), labels


def test_multinomial_regression_finds_the_genre():
    features, labels = separable(600, 0)
    test_features, test_labels = separable(200, 1)
    scores = baselines.logistic_regression(features, labels, {"test": test_features, "train": features}, 3)
    assert scores["test"].shape == (200, 3) and scores["train"].shape == (600, 3)
    np.testing.assert_allclose(scores["test"].sum(axis=1), 1.0)
    assert (scores["test"].argmax(axis=1) == test_labels).mean() > 0.9
    shuffled = np.random.default_rng(0).permutation(labels)
    control = baselines.logistic_regression(features, shuffled, {"test": test_features}, 3)["test"]
    assert (control.argmax(axis=1) == test_labels).mean() < 0.7


def test_one_versus_rest_regression_and_constant_genres():
    features, labels = separable(600, 0)
    test_features, test_labels = separable(200, 1)
    hot = np.zeros((600, 5), np.float32)
    hot[:, :3] = labels[:, None] != np.arange(3)  # each row carries two genres
    hot[:, 3] = 1  # and one that all rows carry; genre 4 none does
    scores = baselines.logistic_regression(features, hot, {"test": test_features}, 5)["test"]
    assert (scores[:, :3].argmin(axis=1) == test_labels).mean() > 0.9
    assert (scores[:, 3] == 1.0).all() and (scores[:, 4] == 0.0).all()
    assert scores[:, :3].sum(axis=1) == pytest.approx(2.0, abs=0.2)


def test_genres_that_training_lacks_score_zero():
    features, labels = separable(300, 0)
    kept = labels != 1
    scores = baselines.logistic_regression(features[kept], labels[kept], {"all": features}, 4)["all"]
    assert (scores[:, [1, 3]] == 0).all()
    np.testing.assert_allclose(scores.sum(axis=1), 1.0)
    one = labels == 2
    scores = baselines.logistic_regression(features[one], labels[one], {"all": features}, 4)["all"]
    np.testing.assert_array_equal(scores, np.tile([0.0, 0.0, 1.0, 0.0], (300, 1)))


def test_the_scale_of_a_feature_does_not_matter_and_equal_inputs_give_equal_bits():
    features, labels = (values.astype(np.float64) for values in separable(300, 0))
    labels = labels.astype(np.int32)
    first = baselines.logistic_regression(features, labels, {"x": features}, 3)["x"]
    np.testing.assert_array_equal(baselines.logistic_regression(features, labels, {"x": features}, 3)["x"], first)
    scaled = features * [8.0, 0.5, 2.0, 4.0]
    np.testing.assert_allclose(baselines.logistic_regression(scaled, labels, {"x": scaled}, 3)["x"], first, atol=1e-6)


def test_the_full_size_takes_seconds():
    rng = np.random.default_rng(0)
    features = rng.random((5000, 512), dtype=np.float32)
    start = time.perf_counter()
    baselines.logistic_regression(features, rng.integers(0, 6, 5000), {"test": features[:100]}, 6)
    assert time.perf_counter() - start < 20  # about 1 s on an idle machine


class TestNearestNeighbours:
    """Against brute force, with a training row that must not be its own neighbour."""

    def make(self, encoding: str) -> tuple[dict, dict]:
        rng = np.random.default_rng(0)
        features = {part: rng.normal(size=(count, 8)) for part, count in (("train", 40), ("validation", 20), ("test", 20))}
        hidden = {part: values[:, :3] for part, values in features.items()}
        if encoding == "first":
            return features, {part: values.argmax(1) for part, values in hidden.items()}
        return features, {part: (values > 0.3).astype(np.float32) for part, values in hidden.items()}

    @pytest.mark.parametrize("encoding", ["first", "multi_hot"])
    def test_scores_are_mean_labels_of_the_nearest_by_cosine(self, encoding: str) -> None:
        features, labels = self.make(encoding)
        scores = baselines.nearest_neighbours(features, labels, 3)
        targets = np.eye(3)[labels["train"]] if encoding == "first" else labels["train"]
        unit = {part: values / np.linalg.norm(values, axis=1, keepdims=True) for part, values in features.items()}
        expected = {}
        for number in (5, 15):
            for part in features:
                similar = unit[part] @ unit["train"].T
                if part == "train":
                    np.fill_diagonal(similar, -2)
                nearest = np.argsort(-similar, axis=1)[:, :number]
                expected[number, part] = targets[nearest].mean(1)
        matches = [number for number in (5, 15) if np.allclose(scores["validation"], expected[number, "validation"])]
        assert len(matches) == 1
        for part in features:
            np.testing.assert_allclose(scores[part], expected[matches[0], part])

    def test_more_neighbours_than_training_rows_are_not_asked_for(self) -> None:
        features, labels = self.make("multi_hot")
        few = {part: values[:4] if part == "train" else values for part, values in features.items()}
        few_labels = {part: values[:4] if part == "train" else values for part, values in labels.items()}
        assert baselines.nearest_neighbours(few, few_labels, 3)["test"].shape == (20, 3)

    @pytest.mark.parametrize("number", [5, 15, 45])
    def test_validation_chooses_the_number_of_neighbours(self, number: int) -> None:
        rng = np.random.default_rng(1)
        features = {part: rng.normal(size=(60, 8)) for part in ("train", "validation", "test")}
        labels = {part: (rng.random((60, 3)) < 0.4).astype(np.float32) for part in features}
        unit = {part: values / np.linalg.norm(values, axis=1, keepdims=True) for part, values in features.items()}
        expected = {}
        for part in ("validation", "test"):
            order = np.argsort(-unit[part] @ unit["train"].T, axis=1)
            expected[part] = {count: labels["train"][order[:, :count]].mean(1) for count in (5, 15, 45)}
        # The true labels are those that this many neighbours predict, so that they rank perfectly.
        predicted = expected["validation"][number]
        labels["validation"] = (predicted > np.median(predicted, axis=0)).astype(np.float32)
        assert np.abs(expected["test"][5] - expected["test"][15]).max() > 0.1
        found = baselines.nearest_neighbours(features, labels, 3)
        for part, by_count in expected.items():
            np.testing.assert_allclose(found[part], by_count[number])
