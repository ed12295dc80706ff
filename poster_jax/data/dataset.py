"""Source -> examples: `select` chooses genres, movies, labels and split, in this order."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.data import catalog, describe, labels, splits
from poster_jax.data.source import Source

PARTS = splits.PARTS


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The rows of a run, for training and for evaluation.

    Attributes:
        name: of the data set in tables, for example "synthetic posters".
        fingerprint: of the posters; it does not depend on which rows are selected.
        genres: K names, in label order.
        poster: int64 [N], index of the row's poster in the packed array and in the records.
        label: int32 [N], or float32 [N, K]: what metrics compare scores with.
        target: what the loss is computed on: the label, or its one-hot rows float32 [N, K]. Columns of auxiliary genres follow
            the K columns.
        movie_id: int32 [N].
        group: int64 [N]; rows of one movie, or of duplicate posters, have the same one.
        parts: {train, validation, test: positions in [0, N)}.
        summary: counts of refused, repaired, balanced and leaked rows, ready for JSON.
        refused: the refused rows of the catalog, see `catalog.Catalog`.
    """

    name: str
    fingerprint: str
    genres: tuple[str, ...]
    poster: np.ndarray
    label: np.ndarray
    target: np.ndarray
    movie_id: np.ndarray
    group: np.ndarray
    parts: dict[str, np.ndarray]
    summary: dict[str, Any]
    refused: pd.DataFrame

    @property
    def num_outputs(self) -> int:
        """The number of logits a network needs: K, plus one for every auxiliary genre."""
        return self.target.shape[1] if self.target.ndim == 2 else len(self.genres)

    def describe(self) -> list[str]:
        """Lines of text on the selection: counts of kept, refused, balanced and leaked rows, and what was left out."""
        return describe.lines(self.name, self.genres, self.parts, self.summary)


def select(source: Source, data: config_lib.Data) -> Dataset:
    """Applies the genres, labels, balance and split of `config.data` to a source.

    Raises UserError for an unknown or too rare genre, an empty part, or an impossible balance.
    """
    texts = source.table["genres"].tolist()
    ranked = {"num_genres": data.num_genres, "genre_rank": data.genre_rank, "min_movies": data.min_movies}
    genres = labels.choose_genres(texts, genres=data.genres, **ranked)
    # One-hot changes only the target. Rows, split and measured labels are those of the integer encoding.
    is_one_hot = data.encoding == "one_hot"
    examples = labels.encode(texts, genres, "first" if is_one_hot else data.encoding)
    labels.check_enough(examples, data.min_movies)
    constant = labels.check_variety(examples)
    group = source.table["group"].to_numpy()[examples.poster]
    before = labels.genre_counts(examples.label, len(genres))

    keep = np.arange(len(examples.poster))
    if data.balance_before_split:
        keep = labels.balance(examples, balance=data.balance, balance_limit=data.balance_limit, seed=data.seed)
    poster, label, group = examples.poster[keep], examples.label[keep], group[keep]
    parts = _cut(labels.Examples(poster, label, genres), group, source.table["split"].to_numpy()[poster], data)
    auxiliary = _auxiliary_genres(texts, genres, data.num_auxiliary)
    part_counts = {part: labels.genre_counts(label[positions], len(genres)).tolist() for part, positions in parts.items()}
    summary = {
        "name": source.name,
        "fingerprint": source.fingerprint,
        "genres": list(genres),
        "auxiliary_genres": list(auxiliary),
        "encoding": data.encoding,
        "balance": data.balance,
        "num_posters": len(source.table),
        "num_refused": len(source.refused),
        "refused": catalog.refusal_counts(source.refused),
        "repaired": source.repaired,
        "genre_mentions": labels.count_mentions(texts),
        "genre_counts_before_balance": before.tolist(),
        "genre_counts": part_counts,
        "num_rows": {part: len(positions) for part, positions in parts.items()},
        "labels_per_row": float(labels.genre_counts(label, len(genres)).sum() / len(label)),
        "leaked_rows": splits.count_leaks(group, parts),
        "given_split": bool((source.table["split"] != "").any()),
        "notes": [*source.notes, *describe.dropped(source, examples, len(keep), data), *constant],
    }
    movie_id = source.table["id"].to_numpy()[poster].astype(np.int32)
    target = labels.one_hot(label, len(genres)).astype(np.float32) if is_one_hot else label
    if auxiliary:
        target = labels.one_hot_texts([texts[row] for row in poster], (*genres, *auxiliary))
    source_fields = source.name, source.fingerprint
    return Dataset(*source_fields, genres, poster, label, target, movie_id, group, parts, summary, source.refused)


def _cut(examples: labels.Examples, group: np.ndarray, given: np.ndarray, data: config_lib.Data) -> dict[str, np.ndarray]:
    """{part: positions}: the table's own split or a stratified one, with the training part balanced and cut to its share."""
    label = examples.label
    if (given != "").any():
        parts = splits.given_split(given.tolist())
    else:
        parts = splits.stratified_split(label, group, fractions=data.split, seed=data.seed, grouped=data.split_grouped)
    if not data.balance_before_split:
        train = labels.Examples(examples.poster[parts["train"]], label[parts["train"]], examples.genres)
        chosen = labels.balance(train, balance=data.balance, balance_limit=data.balance_limit, seed=data.seed)
        parts = {**parts, "train": parts["train"][chosen]}
    if data.train_share < 1:
        # The first rows of one shuffled order, so that a larger share contains every smaller one.
        shuffled = np.random.default_rng((data.seed, len(parts["train"]))).permutation(len(parts["train"]))
        selected = np.sort(shuffled[: round(data.train_share * len(shuffled))])
        parts = {**parts, "train": parts["train"][selected]}
    for part in PARTS:
        if not len(parts[part]):
            raise errors.UserError(f"the {part} part is empty: use more posters or other shares in --config.data.split.")
    return parts


def _auxiliary_genres(texts: Sequence[str], genres: Sequence[str], number: int) -> tuple[str, ...]:
    """The up to `number` most mentioned genres that are not among `genres`."""
    return tuple(name for name in labels.count_mentions(texts) if name not in genres)[:number]
