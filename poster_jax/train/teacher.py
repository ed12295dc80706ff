"""Distillation: the targets of training rows are drawn towards the scores that other networks gave these posters.

Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network" (arXiv:1503.02531), with probabilities in the
place of logits, so that the scores of any program will do. Labels that are measured stay as they are.
"""

import hashlib
import pathlib
from collections.abc import Sequence

import numpy as np

from poster_jax import errors
from poster_jax.data import csv_files, dataset, labels, listing, predictions
from poster_jax.runtime import storage
from poster_jax.workdir import given, run_files

LEARNT_FROM = "train"


def soften(rows: dataset.Dataset, teacher: str, share: float) -> np.ndarray:
    """Targets float32 [N, outputs]: on the training part (1 - share) * target + share * the teachers' mean score.

    Outputs that no teacher has, as auxiliary genres, keep their labels.

    Args:
        teacher: run folders, each of whose seeds is a teacher, or files of `predictions.read`, separated by commas.
    Raises:
        UserError: a teacher that cannot be read, that lacks a genre or a training poster, whose scores are no probabilities, or
            that has itself learnt from posters of this run's validation or test part; a run on other posters.
    """
    names = (*rows.genres, *rows.summary["auxiliary_genres"])
    at = rows.parts["train"]
    target = (rows.target if rows.target.ndim == 2 else labels.one_hot(rows.target, len(names))).astype(np.float32)
    teachers = [one for name in csv_files.split_names(teacher) for one in read(name, rows.fingerprint)]
    found = [_scores(one, names, len(rows.genres), rows) for one in teachers]
    with np.errstate(invalid="ignore"):
        mean = np.where(np.isnan(found).all(axis=0), target[at], np.nansum(found, axis=0) / (~np.isnan(found)).sum(axis=0))
    target[at] = (1 - share) * target[at] + share * mean
    return target


def fingerprint(rows: dataset.Dataset) -> str:
    """sha256 of the targets of the training part."""
    return hashlib.sha256(np.ascontiguousarray(rows.target[rows.parts["train"]]).tobytes()).hexdigest()


def read(name: str, fingerprint: str) -> list[predictions.Predictions]:
    """The scores of a file, or of every seed of a run on the data of this fingerprint."""
    place = storage.as_path(name)
    if not place.is_dir():
        return [predictions.read(pathlib.Path(name))]
    seeds = run_files.list_seeds(place)
    # Where rows have no ids of their own, those of other posters are the same numbers.
    if any(results["data"]["fingerprint"] != fingerprint for results in seeds.values()):
        raise errors.UserError(
            f"{name} is a run on other posters than these: take one on the same data, or give its scores by id in a file."
        )
    return [given.scores_of_run(folder) for folder in seeds]


def _scores(one: predictions.Predictions, names: Sequence[str], num_genres: int, rows: dataset.Dataset) -> np.ndarray:
    """float64 [training rows, outputs] of one teacher, NaN for an auxiliary genre that it does not have."""
    if one.scores.min() < 0 or one.scores.max() > 1:
        raise errors.UserError(f"{one.path} has scores outside [0, 1], which are no probabilities to learn from: give those.")
    columns = {predictions.fold(name): number for number, name in enumerate(one.names)}
    lacking = [name for name in names[:num_genres] if predictions.fold(name) not in columns]
    if lacking:
        raise errors.UserError(
            f"{one.path} has no scores for {', '.join(lacking)}, only for {', '.join(one.names)}: a teacher scores all genres."
        )
    # A text that is no number is the id of no row here.
    keys = [found if (found := listing.parse_id(text)) is not None else text for text in one.ids]
    place = predictions.index_ids(one.path, keys, "a teacher has one row for each poster")
    ids = {part: rows.movie_id[positions].tolist() for part, positions in rows.parts.items()}
    _refuse_leak(one, keys, {part: set(ids[part]) for part in ids if part != LEARNT_FROM})
    unknown = [id_ for id_ in ids[LEARNT_FROM] if id_ not in place]
    if unknown:
        raise errors.UserError(
            f"{one.path} has no scores for {len(unknown):,} of {len(ids[LEARNT_FROM]):,} training posters, as "
            f"{predictions.some_of(unknown)}: let the teacher score all of them."
        )
    taken = one.scores[[place[id_] for id_ in ids[LEARNT_FROM]]]
    none = np.full(len(taken), np.nan)
    return np.stack([taken[:, columns[key]] if (key := predictions.fold(name)) in columns else none for name in names], axis=1)


def _refuse_leak(one: predictions.Predictions, keys: Sequence[int | str], measured: dict[str, set[int]]) -> None:
    learnt = {key for key, part in zip(keys, one.parts or [], strict=False) if part.lower() == LEARNT_FROM}
    for part, ids in measured.items():
        if learnt & ids:
            raise errors.UserError(
                f"{one.path} has learnt from {len(learnt & ids):,} posters of this run's {part} part, so what it knows of them "
                "would reach the score: take a teacher that was trained on the same split."
            )
