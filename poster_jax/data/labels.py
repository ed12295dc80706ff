"""Genre texts -> labels in one of three encodings; choosing the genres; balancing their numbers.

A movie lists several genres, so there are three ways to make a label: the genre listed first, one row per movie and genre (our
reading of the paper), or all genres at once.
"""

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from poster_jax import errors

ENCODINGS = ("first", "exploded", "multi_hot")
BALANCES = ("none", "cap", "equal")
GENRE_RANKS = ("first", "any")
SHORTLIST = 128


@dataclass(frozen=True)
class Examples:
    """Labelled examples, in the order of the table.

    Attributes:
        poster: int64 [N], each example's row in the table (in `texts`).
        label: int32 [N], an index into `genres`, or float32 [N, K] of zeros and ones.
        genres: K names.
    """

    poster: np.ndarray
    label: np.ndarray
    genres: tuple[str, ...]


def choose_genres(
    texts: Sequence[str], *, num_genres: int, genre_rank: str, genres: Sequence[str] = (), min_movies: int = 1
) -> tuple[str, ...]:
    """The classes: the given genres in their order, or the num_genres with the most movies; for 0 all with min_movies.

    genre_rank counts a movie for its first-listed genre ("first") or for every genre it lists ("any"). The result is in falling
    order of the count, ties by name. Raises `UserError` for an unknown or repeated name, and if there are fewer genres than
    requested.
    """
    if genre_rank not in GENRE_RANKS:
        raise errors.UserError(f"genre_rank {genre_rank!r} is unknown; use one of {', '.join(GENRE_RANKS)}")
    listed = [_names(text) for text in texts]
    mentioned = Counter(name for names in listed for name in names)
    if genres:
        for name in genres:
            if name not in mentioned:
                raise errors.UserError(_unknown_genre(name, mentioned))
        if len(set(genres)) < len(genres):
            raise errors.UserError(f"the genres {', '.join(genres)} name one twice; list each once")
        return tuple(genres)
    counts = mentioned if genre_rank == "any" else Counter(names[0] for names in listed if names)
    in_order = sorted(counts, key=lambda name: (-counts[name], name))
    if num_genres == 0:
        enough = tuple(name for name in in_order if counts[name] >= min_movies)
        if not enough:
            most = f"the most frequent is {in_order[0]} with {counts[in_order[0]]:,}" if in_order else "no row lists a label"
            raise errors.UserError(f"no label has {min_movies} pictures ({most}); lower data.min_movies")
        return enough
    if not 1 <= num_genres <= len(counts):
        raise errors.UserError(
            f"num_genres is {num_genres}, but by genre_rank {genre_rank!r} there are {len(counts)} genres; "
            "ask for no more, and at least one"
        )
    return tuple(in_order[:num_genres])


def count_mentions(texts: Sequence[str]) -> dict[str, int]:
    """{genre: number of movies that list it}, the most frequent first."""
    return dict(Counter(name for text in texts for name in _names(text)).most_common())


def encode(texts: Sequence[str], genres: Sequence[str], encoding: str) -> Examples:
    """Labels the movies; those with none of the genres are omitted.

    `first`: int labels, only movies whose first-listed genre is among `genres`. `exploded`: int labels, one row per movie and
    listed genre, in listed order, so that a movie's rows contradict each other. `multi_hot`: float labels, one row per movie
    that lists at least one of the genres.
    """
    if encoding not in ENCODINGS:
        raise errors.UserError(f"encoding {encoding!r} is unknown; use one of {', '.join(ENCODINGS)}")
    number = {name: index for index, name in enumerate(genres)}
    poster: list[int] = []
    label: list = []
    for row, text in enumerate(texts):
        names = _names(text)[:1] if encoding == "first" else _names(text)
        numbers = [number[name] for name in names if name in number]
        if encoding == "multi_hot":
            if numbers:
                poster.append(row)
                label.append(np.isin(np.arange(len(genres)), numbers))
        else:
            poster += [row] * len(numbers)
            label += numbers
    if encoding == "multi_hot":
        labels = np.array(label, np.float32).reshape(len(poster), len(genres))
    else:
        labels = np.array(label, np.int32)
    return Examples(np.array(poster, np.int64), labels, tuple(genres))


def one_hot_texts(texts: Sequence[str], genres: Sequence[str]) -> np.ndarray:
    """float32 [N, K]: 1 where a text lists a genre, else 0."""
    listed = [set(_names(text)) for text in texts]
    return np.array([[genre in names for genre in genres] for names in listed], np.float32).reshape(len(texts), len(genres))


def one_hot(label: np.ndarray, num_genres: int) -> np.ndarray:
    """Either kind of label as int64 [N, K] of zeros and ones."""
    if label.ndim == 2:
        return label.astype(np.int64)
    return (label[:, None] == np.arange(num_genres)).astype(np.int64)


def genre_counts(label: np.ndarray, num_genres: int) -> np.ndarray:
    """Number of examples per genre, int64 [K], for either kind of label."""
    return one_hot(label, num_genres).sum(axis=0)


def labels_per_row(label: np.ndarray) -> float:
    """Mean number of genres in a label: 1 for int labels, the cardinality of multi-hot labels."""
    return 1.0 if label.ndim == 1 else float(label.sum(axis=1).mean())


def check_enough(examples: Examples, min_movies: int) -> None:
    """Raises `UserError` if a genre has fewer than min_movies movies."""
    counts = genre_counts(examples.label, len(examples.genres))
    rarest = int(np.argmin(counts))
    if counts[rarest] < min_movies:
        raise errors.UserError(
            f"genre {examples.genres[rarest]} has {counts[rarest]} movies and needs {min_movies}; "
            "leave it out of data.genres, or lower data.num_genres"
        )


def check_variety(examples: Examples) -> list[str]:
    """Sentences on genres that every example has; raises `UserError` where all are such, as then nothing can be learnt."""
    counts = genre_counts(examples.label, len(examples.genres))
    everywhere = [genre for genre, count in zip(examples.genres, counts, strict=True) if count == len(examples.poster)]
    if everywhere and len(everywhere) == len(examples.genres):
        raise errors.UserError(
            f"every poster has the label {' and '.join(everywhere)}, so there is nothing to tell apart: give posters of other "
            "labels too, or raise data.num_genres"
        )
    return [f"every poster has the label {genre}, so it teaches nothing" for genre in everywhere]


def balance(examples: Examples, *, balance: str, balance_limit: int, seed: int) -> np.ndarray:
    """Sorted int64 positions of a random selection of examples in which the genres are about equally frequent.

    `none` keeps all. `cap` allows at most balance_limit examples of a genre. `equal` aims at as many of every genre as the
    rarest has, or at balance_limit if that is above 0 and smaller. For int labels both are exact. For multi-hot labels see
    `_draw_multi_hot`; `genre_counts` gives the counts that were reached.
    """
    if balance not in BALANCES:
        raise errors.UserError(f"balance {balance!r} is unknown; use one of {', '.join(BALANCES)}")
    if balance == "none":
        return np.arange(len(examples.poster), dtype=np.int64)
    if balance_limit < 0 or (balance == "cap" and balance_limit == 0):
        raise errors.UserError(
            f"balance {balance!r} cannot use balance_limit {balance_limit}; give the most examples of a genre"
        )
    hot = one_hot(examples.label, len(examples.genres))
    counts = hot.sum(axis=0)
    if balance == "cap":
        target = np.minimum(counts, balance_limit)
        ceiling = target
    else:
        target = np.full(len(counts), min(counts.min(), balance_limit or counts.min()))
        # balance_limit must not be exceeded, the rarest genre's count may be. Without a limit the only ceiling is the supply.
        ceiling = np.full(len(counts), balance_limit) if balance_limit else counts
    rng = np.random.default_rng(seed)
    if examples.label.ndim == 2:
        return _draw_multi_hot(hot, target, ceiling, rng)
    drawn = [rng.choice(np.flatnonzero(examples.label == genre), target[genre], replace=False) for genre in range(len(counts))]
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def _draw_multi_hot(hot: np.ndarray, target: np.ndarray, ceiling: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Selects movies so that the genres' counts come near the target [K] and stay within the ceiling [K].

    First pass: every movie in random order, those of the rarest genre first, is selected if none of its genres is full. This
    keeps the natural mixture of single and combined genres. Second pass: changes (add movies of one kind, remove movies of
    another, or both) are made, the best first, as long as one lowers the sum of squared relative distances from the target.
    Movies with the same label are of one kind, so the work depends on the number of kinds. If nearly all movies of a genre also
    list a more common one, the target cannot be reached; a smaller balance_limit comes nearer to equal counts.
    """
    kinds, kind_of = np.unique(hot, axis=0, return_inverse=True)
    kind_of = kind_of.ravel()
    movies = rng.permutation(len(hot))
    rarity = np.where(hot > 0, hot.sum(axis=0), len(hot) + 1).min(axis=1)
    selected = np.zeros(len(kinds), np.int64)
    counts = np.zeros(hot.shape[1], np.int64)
    for movie in movies[np.argsort(rarity[movies], kind="stable")]:
        if (counts + hot[movie] <= target).all():
            counts += hot[movie]
            selected[kind_of[movie]] += 1
    supply = np.bincount(kind_of, minlength=len(kinds))
    selected = _improve(kinds, supply, selected, target, ceiling)
    rank = np.empty(len(hot), np.int64)  # a movie's position among those of its kind, in the random order
    order = movies[np.argsort(kind_of[movies], kind="stable")]
    rank[order] = np.arange(len(hot)) - np.repeat(np.cumsum(supply) - supply, supply)
    return np.flatnonzero(rank < selected[kind_of])


def _improve(
    kinds: np.ndarray, supply: np.ndarray, selected: np.ndarray, target: np.ndarray, ceiling: np.ndarray
) -> np.ndarray:
    """Movies to select per kind [P]: starts at `selected` and descends on sum(((selected @ kinds - target) / target)^2)."""
    # An empty kind that is never exhausted turns "add one" and "remove one" into exchanges.
    kinds = np.vstack([kinds, np.zeros_like(kinds[:1])])
    supply = np.append(supply, 2 * supply.sum())
    selected = np.append(selected, supply.sum() // 2)
    weight = 1 / np.maximum(target, 1) ** 2  # relative distances, or a cap would give up rare genres for common ones
    sizes = kinds @ weight
    while True:
        counts = selected @ kinds
        pull = 2 * kinds @ (weight * (target - counts))
        more = _shortlist(pull - sizes, selected < supply)
        less = _shortlist(-pull - sizes, selected > 0)
        gain = (pull - sizes)[more, None] + (-pull - sizes)[less] + 2 * (kinds[more] * weight) @ kinds[less].T
        full = counts >= ceiling
        gain[kinds[more][:, full] @ (1 - kinds[less][:, full]).T > 0] = 0
        row, column = np.unravel_index(np.argmax(gain), gain.shape)
        if gain[row, column] <= 1e-9 * weight.max():  # only rounding error
            return selected[:-1]
        one, other = more[row], less[column]
        step = kinds[one] - kinds[other]
        # A quarter of the way to the minimum in this direction, so that many kinds share the change.
        way = int((weight * (target - counts)) @ step / ((weight * step) @ step) / 4)
        room = (ceiling - counts)[step > 0].min(initial=supply[-1])
        number = max(1, min(way, supply[one] - selected[one], selected[other], room))
        selected[one] += number
        selected[other] -= number


def _shortlist(score: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Up to SHORTLIST allowed kinds, the best first; comparing all pairs of 2,000 kinds would take seconds."""
    order = np.argsort(-score, kind="stable")
    return order[allowed[order]][:SHORTLIST]


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(name for part in text.split("|") if (name := part.strip())))


def _unknown_genre(name: str, mentioned: Counter) -> str:
    if not mentioned:
        return f"genre {name!r} is not in the data, which lists no genre at all; look at its genre column"
    folded = {known.casefold(): known for known in mentioned}
    nearest = folded[difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.0)[0]]
    known = ", ".join(sorted(mentioned))
    return f"genre {name!r} is not in the data; the nearest is {nearest!r}, and the data has: {known}"
