"""How far a search is: a bar over epochs of networks, and lines that stay above it."""

import sys
from collections.abc import Sequence

import tqdm

from poster_jax import config as config_lib
from poster_jax.runtime import multihost

QUIET_SECS = 60.0  # between lines of progress that no terminal shows


def count_epochs(config: config_lib.Config, num_trials: int, num_folds: int) -> int:
    """Epochs of all networks: trials per rung times its epochs, and the winner's last training."""
    num_epochs = int(config.train.num_epochs)
    ends, left, total = (*config.search.halving, num_epochs), num_trials, num_epochs
    for begin, end in zip((0, *ends), ends, strict=False):
        total += left * num_folds * (end - begin)
        left = -(-left // 2)
    return total


def open_bar(num_epochs: int) -> tqdm.tqdm:
    """A progress bar over epochs of networks; elsewhere than on a terminal it prints once a minute."""
    interval = 0.1 if sys.stderr.isatty() else QUIET_SECS
    return tqdm.tqdm(
        total=num_epochs,
        unit="epoch",
        disable=not multihost.is_main(),
        mininterval=interval,
        maxinterval=max(10, interval),
        dynamic_ncols=True,
    )


def show_epoch(bar: tqdm.tqdm, names: Sequence[tuple[int, int]], text: str) -> None:
    """Moves the bar by one epoch of the networks (trial, fold), both counted from 0, that train together."""
    (trial, fold), (last_trial, last_fold) = names[0], names[-1]
    span = f"trial {trial + 1} fold {fold + 1}"
    if len(names) > 1:
        span += f" to trial {last_trial + 1} fold {last_fold + 1}"
    bar.set_postfix_str(f"{span} {text}", refresh=False)
    bar.update(len(names))


def say(bar: tqdm.tqdm, text: str) -> None:
    """A line that stays, above the bar."""
    if multihost.is_main():
        bar.write(text, file=sys.stderr)
