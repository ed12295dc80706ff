"""Examples -> arrays of row indices for train, validation and test, or for the folds of a cross-validation.

All rows of one group, which are the rows of one movie and of pictures that look the same, go to one part. Splitting row by row
instead is the paper's leak, an option so that its effect can be measured.
"""

from collections.abc import Sequence

import numpy as np

from poster_jax import errors

PARTS = ("train", "validation", "test")


def stratified_split(
    label: np.ndarray,
    groups: np.ndarray,
    *,
    fractions: Sequence[float] = (0.6, 0.2, 0.2),
    seed: int,
    grouped: bool = True,
) -> dict[str, np.ndarray]:
    """Sorted int64 indices for train, validation and test, with every genre in about the same proportion.

    label int [N] or float [N, K]; groups int [N]; fractions in the order of PARTS, positive, sum 1. With grouped=False each row
    is assigned alone. Raises `UserError` for bad fractions and for an empty part.
    """
    if len(fractions) != len(PARTS) or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise errors.UserError(f"the split fractions {tuple(fractions)} must be three above 0 that sum to 1")
    part_of = _assign(label, groups if grouped else np.arange(len(label)), fractions, seed)
    return _filled({name: np.flatnonzero(part_of == part) for part, name in enumerate(PARTS)})


def given_split(split_column: Sequence[str]) -> dict[str, np.ndarray]:
    """Sorted int64 indices by a column of train, validation and test, one word per row.

    Raises `UserError` for any other word, for rows without one, and for an empty part.
    """
    column = np.asarray(split_column, dtype=object)
    unknown = sorted({str(name) for name in column if name not in (*PARTS, "")})
    if unknown:
        raise errors.UserError(f"split {unknown[0]!r} is unknown; write one of {', '.join(PARTS)}")
    empty = int((column == "").sum())
    if empty:
        raise errors.UserError(
            f"{empty} of {len(column)} rows have no word in the column split; give every row one of {', '.join(PARTS)}, "
            "or leave the column out and data.split draws the parts"
        )
    parts = {name: np.flatnonzero(column == name) for name in PARTS}
    return _filled(parts, "the column split", "name more rows, or take in more posters and labels")


def count_leaks(groups: np.ndarray, splits: dict[str, np.ndarray]) -> dict[str, int]:
    """Number of rows of validation and of test whose group is also in train."""
    seen = groups[splits["train"]]
    return {name: int(np.isin(groups[splits[name]], seen).sum()) for name in PARTS[1:]}


def k_folds(
    label: np.ndarray, groups: np.ndarray, indices: np.ndarray, num_folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Sorted int64 indices (train, validation) per fold, only from `indices`, which must not contain test rows.

    The validation parts are disjoint and cover `indices`; groups are kept together and genres in proportion.
    Raises `UserError` for fewer than two folds and for more folds than the rarest genre has groups.
    """
    indices = np.sort(np.asarray(indices, np.int64))
    if num_folds < 2:
        raise errors.UserError(f"num_folds is {num_folds}; a cross-validation needs at least 2")
    hot, _ = _sum_by_group(_one_hot(label)[indices], groups[indices])
    per_genre = (hot > 0).sum(axis=0)
    rarest = int(np.argmin(per_genre))
    if num_folds > per_genre[rarest]:
        raise errors.UserError(
            f"num_folds is {num_folds}, but genre {rarest} (counted from 0) has {per_genre[rarest]} movies; "
            "use fewer folds or leave the genre out"
        )
    fold_of = _assign(label[indices], groups[indices], [1 / num_folds] * num_folds, seed)
    return [(indices[fold_of != fold], indices[fold_of == fold]) for fold in range(num_folds)]


def _filled(splits: dict[str, np.ndarray], by: str = "the split", way: str = "use more movies") -> dict[str, np.ndarray]:
    for name, rows in splits.items():
        if not len(rows):
            sizes = ", ".join(f"{part} {len(members)}" for part, members in splits.items())
            raise errors.UserError(f"{by} leaves {name} empty ({sizes} rows); {way}")
    return splits


def _one_hot(label: np.ndarray) -> np.ndarray:
    if label.ndim == 2:
        return label.astype(np.float64)
    return (label[:, None] == np.arange(label.max(initial=-1) + 1)).astype(np.float64)


def _sum_by_group(hot: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sum of the rows' labels per group [G, K], and each row's group number [N]."""
    names, group_of = np.unique(groups, return_inverse=True)
    total = np.zeros((len(names), hot.shape[1]))
    np.add.at(total, group_of, hot)
    return total, group_of


def _assign(label: np.ndarray, groups: np.ndarray, fractions: Sequence[float], seed: int) -> np.ndarray:
    """Part number int64 [N] per row: iterative stratification (Sechidis et al. 2011) of whole groups.

    The genre with the fewest remaining groups is assigned first. Each group goes to the part that lacks most of that genre.
    Ties go to the part that lacks most rows, then by chance.
    """
    rng = np.random.default_rng(seed)
    hot, group_of = _sum_by_group(_one_hot(label), groups)
    size = np.bincount(group_of, minlength=len(hot))
    room = np.array(fractions) * len(label)
    lack = np.outer(fractions, hot.sum(axis=0))
    part = np.full(len(hot), -1, np.int64)
    while (remaining := part < 0).any():
        num_groups = (hot[remaining] > 0).sum(axis=0)
        if num_groups.any():
            genre = int(np.argmin(np.where(num_groups > 0, num_groups, len(hot) + 1)))
            members, lacking = np.flatnonzero(remaining & (hot[:, genre] > 0)), lack[:, genre]
        else:
            members, lacking = np.flatnonzero(remaining), room
        for group in rng.permutation(members):
            best = np.flatnonzero(lacking >= lacking.max() - 1e-9)
            best = best[room[best] >= room[best].max() - 1e-9]
            chosen = best[rng.integers(len(best))]
            part[group] = chosen
            room[chosen] -= size[group]
            lack[chosen] -= hot[group]
    return part[group_of]
