"""Scores to measure, from a run folder or from a file that anybody wrote, beside the labels of the same rows."""

import pathlib
from collections.abc import Sequence

import numpy as np

from poster_jax import errors
from poster_jax.data import predictions
from poster_jax.metrics import definitions, paired, ranks, scoring
from poster_jax.runtime import storage
from poster_jax.workdir import run_files

LABELS_OF_RUN = "its own labels"


def load(given: str, labels: str) -> predictions.Matched:
    """A run folder or its predictions.npz, which hold labels, or a file of `predictions.read` with those of `labels`.

    labels: a file of `predictions.read_labels`, or a run whose labels are meant; "" for a run's own. Raises UserError for what
    cannot be read or matched.
    """
    folder = _run_folder(given)
    if folder is not None and not labels:
        return _of_run(folder)
    if not labels:
        raise errors.UserError(
            f"{given} holds scores alone: give the labels of its rows too, as a CSV with the columns id and genres."
        )
    predicted = scores_of_run(folder) if folder is not None else predictions.read(pathlib.Path(given))
    labelled = _run_folder(labels)
    truth = _truth_of_run(labelled) if labelled is not None else predictions.read_labels(pathlib.Path(labels))
    return predictions.match(predicted, truth)


def choose_thresholds(found: predictions.Matched) -> np.ndarray | None:
    """float64 [K] of the validation part; None where there is no such part, or scores outside [0, 1]."""
    part = found.parts.get("validation")
    if part is None or not found.is_probability:
        return None
    return scoring.choose_thresholds(part.scores, part.label)


def load_candidates(given: Sequence[str], labels: str, part: str) -> list[paired.Candidate]:
    """Runs and files, to be compared on a part; raises UserError as `load` does, and for a part that one does not have."""
    loaded: list[paired.Candidate | tuple[str, predictions.Matched]] = []
    for text in given:
        path = pathlib.Path(text)
        if "://" in text or path.is_dir() or not path.suffix:
            loaded.append(run_files.load_run(storage.as_path(text), part))
        else:
            loaded.append((text, load(text, "" if _run_folder(text) is not None else labels)))
    files = [found for _, found in (each for each in loaded if isinstance(each, tuple))]
    texts = sorted(
        {str(id_) for found in files for rows in found.parts.values() if rows.ids.dtype.kind == "U" for id_ in rows.ids}
    )
    # Ids of no run's, so that a file of texts shares no movie with a run.
    number = {text: -1 - at for at, text in enumerate(texts)}
    return [each if isinstance(each, paired.Candidate) else _candidate(*each, part, number) for each in loaded]


def _candidate(name: str, found: predictions.Matched, part: str, number: dict[str, int]) -> paired.Candidate:
    if part not in found.parts:
        raise errors.UserError(f"{name} has no part {part!r}; it has: {', '.join(found.parts)}.")
    rows = found.parts[part]
    ids = np.array([number[text] for text in rows.ids.tolist()]) if rows.ids.dtype.kind == "U" else rows.ids
    scores = paired.Scores(
        movie_id=ids,
        group=rows.group,
        targets=definitions.make_targets(rows.label, len(found.genres)),
        scores=rows.scores if found.is_probability else ranks.to_unit(rows.scores),
        thresholds=choose_thresholds(found),
        is_probability=found.is_probability,
    )
    return paired.Candidate(name, found.genres, (scores,))


def _run_folder(text: str) -> pathlib.Path | None:
    """The run folder that a text names, itself or by its predictions.npz; None for another file."""
    path = storage.as_path(text)
    if path.name == run_files.PREDICTIONS and any(
        (above / run_files.LABELS).is_file() for above in (path.parent, path.parent.parent, path.parent.parent.parent)
    ):
        return path.parent
    return path if path.is_dir() else None


def _of_run(folder: pathlib.Path) -> predictions.Matched:
    genres = run_files.find_genres(folder)
    arrays = run_files.read_predictions(folder, len(genres))
    parts = {
        part: predictions.Part(
            arrays[f"{part}_id"],
            np.asarray(arrays[f"{part}_score"], np.float64),
            arrays[f"{part}_label"],
            run_files.find_groups(arrays, part),
        )
        for part in run_files.list_parts(arrays)
    }
    return predictions.Matched(genres, parts)


def _joined(folder: pathlib.Path) -> tuple[predictions.Matched, list[str], list[str], list[str]]:
    """(the run, and for the rows of all its parts: ids, movies, parts)."""
    found = _of_run(folder)
    ids, movies = ([str(value) for part in found.parts.values() for value in getattr(part, name)] for name in ("ids", "group"))
    return found, ids, movies, [part for part, rows in found.parts.items() for _ in rows.ids]


def scores_of_run(folder: pathlib.Path) -> predictions.Predictions:
    """The scores of all parts of a finished network; raises UserError for a folder that is none."""
    found, ids, movies, parts = _joined(folder)
    scores = np.concatenate([part.scores for part in found.parts.values()])
    return predictions.Predictions(folder, ids, found.genres, scores, movies, parts)


def _truth_of_run(folder: pathlib.Path) -> predictions.Truth:
    found, ids, movies, parts = _joined(folder)
    targets = [definitions.make_targets(part.label, len(found.genres)) for part in found.parts.values()]
    return predictions.Truth(folder, ids, found.genres, np.concatenate(targets), movies, parts)
