"""What is said of a selection of rows before training: counts of kept, refused and balanced ones, and what was left out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from poster_jax import config as config_lib
from poster_jax.data import labels, splits
from poster_jax.data.source import Source

# Paper, section III-C, Table 5.
PAPER_GENRES = ("Action", "Crime", "Documentary", "Drama", "Horror", "Comedy")


def dropped(source: Source, genres: Sequence[str], examples: labels.Examples, data: config_lib.Data) -> list[str]:
    """A sentence on the labels and posters that the config leaves out, and the flag that takes them in."""
    known = labels.count_mentions(source.table["genres"].tolist())
    num_without = len(source.table) - len(np.unique(examples.poster))
    if len(genres) == len(known) and not num_without:
        return []
    kept = f"{len(genres):,} of {len(known):,} labels kept"
    flag = ""
    if len(genres) < len(known) and not data.genres:
        rarest = min(known.values())
        by_count = data.num_genres == 0
        flag = f": --config.data.min_movies={rarest}" if by_count else f": --config.data.num_genres={len(known)}"
    return [f"{kept}; {num_without:,} of {len(source.table):,} posters have none of them{flag}"]


def lines(name: str, genres: Sequence[str], parts: Mapping[str, np.ndarray], summary: Mapping[str, Any]) -> list[str]:
    """Lines of text: counts of kept, refused, balanced and leaked rows."""
    refused = ", ".join(f"{count} {reason}" for reason, count in summary["refused"]["reason"].items())
    found = [
        f"{name}: {summary['num_posters']} posters, {summary['num_refused']} refused" + (f" ({refused})" if refused else ""),
        f"encoding {summary['encoding']}, balance {summary['balance']}: {summary['labels_per_row']:.2f} genres per row",
    ]
    if name != "own posters" and set(genres) != set(PAPER_GENRES):
        found.append(f"the genres are this catalog's own; the paper's are {', '.join(PAPER_GENRES)}")
    found += summary["notes"]
    leaked = {part: count for part, count in summary["leaked_rows"].items() if count}
    if leaked:
        counts = " and ".join(f"{count} rows of {part}" for part, count in leaked.items())
        why = "the column split puts it there" if summary["given_split"] else "data.split_grouped is off"
        found.append(f"LEAK: {counts} show a movie that is also in train, because {why}")
    width = max(len(genre) for genre in genres)
    found.append(f"  {'':<{width}}  " + "".join(f"{part:>12}" for part in splits.PARTS))
    for index, genre in enumerate(genres):
        counts = (summary["genre_counts"][part][index] for part in splits.PARTS)
        found.append(f"  {genre:<{width}}  " + "".join(f"{count:>12}" for count in counts))
    return [*found, f"  {'rows':<{width}}  " + "".join(f"{len(parts[part]):>12}" for part in splits.PARTS)]
