"""From a catalog to examples: which genres, which movies, which labels, which split; one function read from top to bottom."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.data import builder, catalog, labels, resident, splits
from poster_jax.data.source import Source
from poster_jax.runtime import storage

PARTS = splits.PARTS
# Paper, section III-C, Table 5.
PAPER_GENRES = ("Action", "Crime", "Documentary", "Drama", "Horror", "Comedy")


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Rows to train on and to measure.

    Attributes:
        name: what tables call it, as "synthetic posters".
        fingerprint: of the posters, not of the choice of rows.
        genres: K names, in label order.
        poster: int64 [N], the row's poster in the packed array and the records.
        label: int32 [N], or float32 [N, K]: what is measured.
        target: what is learnt: the label, or its one-hot rows float32 [N, K]; behind K columns those of auxiliary genres.
        movie_id: int32 [N].
        group: int64 [N]; rows of one movie, or of posters that are duplicates, share it.
        parts: {train, validation, test: positions in [0, N)}.
        summary: what was refused, repaired, balanced and leaked, ready for JSON.
        refused: the ledger, one row per refusal.
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
        """Logits that a network needs: K, and one for every auxiliary genre."""
        return self.target.shape[1] if self.target.ndim == 2 else len(self.genres)


def open_source(data: config_lib.Data, load: Callable[[config_lib.Data], Source] = builder.load_source) -> Source:
    """The source of `config.data`; `load` is for one that is not packed yet.

    Raises UserError as `load` and `resident.load_packed` do.
    """
    return resident.load_packed(storage.as_path(data.dir), data.image_size) if data.variant == "packed" else load(data)


def select(source: Source, data: config_lib.Data) -> Dataset:
    """Genres, labels, balance and split of `config.data` applied to a source.

    Raises UserError for a genre that is not there or too rare, an empty part, or a balance that cannot be.
    """
    texts = source.table["genres"].tolist()
    genres = labels.choose_genres(texts, num_genres=data.num_genres, genre_rank=data.genre_rank, genres=data.genres)
    # One-hot is another form of what is learnt: rows, split and measured labels are those of integers.
    is_one_hot = data.encoding == "one_hot"
    examples = labels.encode(texts, genres, "first" if is_one_hot else data.encoding)
    labels.check_enough(examples, data.min_movies)
    group = source.table["group"].to_numpy()[examples.poster]
    before = labels.genre_counts(examples.label, len(genres))

    keep = np.arange(len(examples.poster))
    if data.balance_before_split:
        keep = labels.balance(examples, balance=data.balance, balance_limit=data.balance_limit, seed=data.seed)
    poster, label, group = examples.poster[keep], examples.label[keep], group[keep]
    parts = _cut(labels.Examples(poster, label, genres), group, source.table["split"].to_numpy()[poster], data)
    auxiliary = _auxiliary_genres(texts, genres, data.num_auxiliary)
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
        "genre_counts": {part: labels.genre_counts(label[at], len(genres)).tolist() for part, at in parts.items()},
        "num_rows": {part: len(at) for part, at in parts.items()},
        "labels_per_row": float(labels.genre_counts(label, len(genres)).sum() / len(label)),
        "leaked_rows": splits.count_leaks(group, parts),
    }
    movie_id = source.table["id"].to_numpy()[poster].astype(np.int32)
    target = labels.one_hot(label, len(genres)).astype(np.float32) if is_one_hot else label
    if auxiliary:
        target = labels.one_hot_texts([texts[row] for row in poster], (*genres, *auxiliary))
    about = source.name, source.fingerprint, genres
    return Dataset(*about, poster, label, target, movie_id, group, parts, summary, source.refused)


def _cut(examples: labels.Examples, group: np.ndarray, given: np.ndarray, data: config_lib.Data) -> dict[str, np.ndarray]:
    """{part: positions}: the split that the table gives, or a stratified one; then balance and share of the training part."""
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
        # The first rows of one shuffled order, so that a smaller share is part of every larger one.
        shuffled = np.random.default_rng((data.seed, len(parts["train"]))).permutation(len(parts["train"]))
        used = np.sort(shuffled[: round(data.train_share * len(shuffled))])
        parts = {**parts, "train": parts["train"][used]}
    for part in PARTS:
        if not len(parts[part]):
            raise errors.UserError(f"the {part} part is empty: use more posters or other shares in --config.data.split.")
    return parts


def _auxiliary_genres(texts: Sequence[str], genres: Sequence[str], number: int) -> tuple[str, ...]:
    """The most mentioned genres that are not among `genres`, at most `number`."""
    return tuple(name for name in labels.count_mentions(texts) if name not in genres)[:number]


def describe(rows: Dataset) -> list[str]:
    """What was kept, refused, balanced and leaked, as lines for a person."""
    summary = rows.summary
    refused = ", ".join(f"{count} {reason}" for reason, count in summary["refused"]["reason"].items())
    lines = [
        f"{rows.name}: {summary['num_posters']} posters, {summary['num_refused']} refused"
        + (f" ({refused})" if refused else ""),
        f"encoding {summary['encoding']}, balance {summary['balance']}: {summary['labels_per_row']:.2f} genres per row",
    ]
    if set(rows.genres) != set(PAPER_GENRES):
        lines.append(f"the genres are this catalog's own; the paper's are {', '.join(PAPER_GENRES)}")
    leaked = {part: count for part, count in summary["leaked_rows"].items() if count}
    if leaked:
        told = " and ".join(f"{count} rows of {part}" for part, count in leaked.items())
        lines.append(f"LEAK: {told} show a movie that is also in train, because data.split_grouped is off")
    width = max(len(genre) for genre in rows.genres)
    lines.append(f"  {'':<{width}}  " + "".join(f"{part:>12}" for part in PARTS))
    for index, genre in enumerate(rows.genres):
        counts = (summary["genre_counts"][part][index] for part in PARTS)
        lines.append(f"  {genre:<{width}}  " + "".join(f"{count:>12}" for count in counts))
    return [*lines, f"  {'rows':<{width}}  " + "".join(f"{len(rows.parts[part]):>12}" for part in PARTS)]
