"""What is said of a selection of rows before training: counts of kept, refused and balanced ones, and what was left out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from poster_jax import config as config_lib
from poster_jax.data import labels, splits
from poster_jax.data.source import Source

# Paper, section III-C, Table 5.
PAPER_GENRES = ("Action", "Crime", "Documentary", "Drama", "Horror", "Comedy")
MAX_WIDTH = 38  # of a label, so that a table of three parts has 80 columns at most


def dropped(source: Source, examples: labels.Examples, num_balanced: int, data: config_lib.Data) -> list[str]:
    """Sentences on the labels, posters and rows that the config leaves out, each with the flags that take them in.

    num_balanced: rows that balancing before the split has left.
    """
    texts = source.table["genres"].tolist()
    known, genres = labels.count_mentions(texts), examples.genres
    num_without = len(texts) - len(np.unique(examples.poster))
    found = []
    if len(genres) < len(known) or num_without:
        kept = f"{len(genres):,} of {len(known):,} labels kept"
        # By first mention a genre that is never listed first has no rank.
        by_first = data.genre_rank == "first" and len({text.split("|")[0] for text in texts}) < len(known)
        flags = " --config.data.genres=()" * bool(data.genres) + f" --config.data.num_genres={len(known)}"
        if data.num_genres == 0 and not data.genres:
            flags = f" --config.data.min_movies={min(known.values())}"
        flags += " --config.data.genre_rank=any" * by_first
        flags = f":{flags}" if len(genres) < len(known) else ""
        if len(genres) == len(known):
            flags = f": by encoding {data.encoding} only the label listed first counts, --config.data.encoding=multi_hot"
        found.append(f"{kept}; {num_without:,} of {len(texts):,} posters have none of them{flags}")
    if num_balanced < len(examples.poster):
        found.append(
            f"balance {data.balance} keeps {num_balanced:,} of {len(examples.poster):,} rows: --config.data.balance=none"
        )
    return found


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
    shown = [genre if len(genre) <= MAX_WIDTH else genre[: MAX_WIDTH - 1] + "~" for genre in genres]
    width = max(map(len, shown))
    found.append(f"  {'':<{width}}  " + "".join(f"{part:>12}" for part in splits.PARTS))
    for index, genre in enumerate(shown):
        counts = (summary["genre_counts"][part][index] for part in splits.PARTS)
        found.append(f"  {genre:<{width}}  " + "".join(f"{count:>12}" for count in counts))
    return [*found, f"  {'rows':<{width}}  " + "".join(f"{len(parts[part]):>12}" for part in splits.PARTS)]
