"""`python -m poster_jax.data.download MovieGenre.csv DIR`: downloads the posters of the Kaggle set, keeps the valid pictures.

Train from DIR with `--config.data.variant=kaggle --config.data.dir=DIR`. It has MovieGenre.csv, posters/<imdbId>.jpg,
downloads.jsonl (the outcome for every address), lost.csv and losses.json (movies without a poster, and how many of each genre).
Exit codes: 0 every movie has its poster or has lost it for good, 2 a mistake in the arguments or no poster at all, 75 not
finished (stopped, or temporary failures): run the same command again, it requests only what is missing, and what other options
than before may keep.
"""

import argparse
import contextlib
import dataclasses
import errno
import functools
import json
import os
import pathlib
import shutil
import signal
import sys
import threading
import types
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import tqdm

from poster_jax import cli, errors
from poster_jax.data import catalog, images
from poster_jax.data.download import crawler, hosts, request
from poster_jax.data.download import movies as movies_lib
from poster_jax.data.download.journal import FAILED, KEPT, LOST, Entry, Journal

QUIET_SECS = 60.0  # between two lines of progress if the output is not a terminal
Number = TypeVar("Number", int, float)
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST)


def prepare_dir(csv_path: pathlib.Path, out_dir: pathlib.Path) -> pathlib.Path:
    """Makes DIR, DIR/posters and DIR/MovieGenre.csv, and returns the folder of posters; raises `UserError`."""
    copy = out_dir / "MovieGenre.csv"
    if not csv_path.is_file():
        raise errors.UserError(f"there is no file {csv_path}: give the MovieGenre.csv with the column Poster.")
    if copy.exists() and not os.path.samefile(copy, csv_path) and copy.read_bytes() != csv_path.read_bytes():
        raise errors.UserError(f"{copy} is another table than {csv_path}: name an empty folder, or give {copy} itself.")
    posters_dir = out_dir / "posters"
    posters_dir.mkdir(parents=True, exist_ok=True)
    if not copy.exists():
        partial = out_dir / ".MovieGenre.csv.partial"
        shutil.copyfile(csv_path, partial)
        os.replace(partial, copy)
    return posters_dir


def adopt(movies: Sequence[movies_lib.Movie], journal: Journal, posters_dir: pathlib.Path) -> None:
    """Adds valid pictures already in the folder to the journal; they are then neither requested nor removed."""
    new = [movie for movie in movies if not journal.of_movie(movie.id)]
    new = [movie for movie in new if movies_lib.poster_path(posters_dir, movie.id).is_file()]
    paths = [movies_lib.poster_path(posters_dir, movie.id) for movie in new]
    for movie, path, result in zip(new, paths, catalog.checked(map(str, paths)), strict=True):
        if isinstance(result, images.CheckedImage):
            size = path.stat().st_size
            journal.add(Entry(movie.id, "", KEPT, "found", "", result.content_hash, size))


def remove_placeholders(journal: Journal, posters_dir: pathlib.Path, num_movies: int) -> int:
    """Removes downloaded pictures shared by at least `num_movies` movies; returns the number of removed files."""
    by_hash: dict[str, dict[int, Entry]] = defaultdict(dict)
    for entry in journal.entries():
        if entry.state == KEPT and entry.url:
            by_hash[entry.content_hash][entry.id] = entry
    removed = 0
    for shared in by_hash.values():
        if len(shared) < num_movies:
            continue
        for entry in shared.values():
            movies_lib.poster_path(posters_dir, entry.id).unlink(missing_ok=True)
            detail = f"{len(shared)} movies have this picture"
            journal.add(dataclasses.replace(entry, state=LOST, reason="placeholder", detail=detail, option=f"{len(shared)}"))
            removed += 1
    return removed


def known_placeholders(paths: Sequence[str], journal: Journal) -> frozenset[str]:
    """Content hashes of the given pictures and of the journal's placeholders; raises `UserError` for an invalid picture."""
    known = {entry.content_hash for entry in journal.entries() if entry.reason == "placeholder" and entry.state == LOST}
    for path in paths:
        try:
            known.add(catalog.load_checked(path).content_hash)
        except images.BadImage as error:
            raise errors.UserError(f"--placeholder={path} is no usable picture ({error}): give a file that is one.") from error
    return frozenset(known - {""})


def open_bar(num_movies: int) -> tqdm.tqdm:
    """A progress bar over posters; if the output is not a terminal it prints once a minute."""
    interval = 0.1 if sys.stderr.isatty() else QUIET_SECS
    return tqdm.tqdm(total=num_movies, unit="poster", mininterval=interval, maxinterval=max(10, interval), dynamic_ncols=True)


def show_progress(bar: tqdm.tqdm, work: crawler.Crawl) -> None:
    """Moves the bar to the state of the crawl."""
    missed = work.num_ended - work.num_kept
    bar.set_postfix_str(f"{work.num_kept} kept, {missed} not, {work.num_bytes / 1e6:.1f} MB", refresh=False)
    bar.update(work.num_ended - bar.n)


def download(csv_path: pathlib.Path, out_dir: pathlib.Path, options: argparse.Namespace, stop: threading.Event) -> int:
    """Runs the whole download with the options of `parse_options`; returns the number of movies to request again.

    Raises `UserError`, also where no poster was obtained and asking again is no use. `stop` ends it early; finished posters are
    kept.
    """
    for text in options.allow_host:
        request.parse_allowed(text)
    movies, num_bad_rows = movies_lib.read_movies(csv_path)
    if proxies := sorted({name for name in urllib.request.getproxies_environment() if name in ("http", "https", "all")}):
        names = ", ".join(f"{name}_proxy" for name in proxies)
        print(f"{names} of the environment is ignored: a proxy would choose the address itself, which is checked here")
    posters_dir = prepare_dir(csv_path, out_dir)
    with contextlib.closing(Journal(out_dir / "downloads.jsonl")) as journal:
        if journal.num_unreadable:
            print(f"{journal.num_unreadable} lines of downloads.jsonl cannot be read: those posters are requested again.")
        for partial in posters_dir.glob(".*.partial"):
            partial.unlink()
        allowed, max_bytes = frozenset(map(request.parse_allowed, options.allow_host)), int(options.max_mb * 1e6)
        limits = request.Limits(options.timeout, options.idle, max_bytes, allowed, stop)
        journal.reopen(allowed, max_bytes, options.shared_by)
        manners = hosts.Manners(options.per_host, options.first_pause, options.longest_pause, options.patience)
        placeholders = known_placeholders(options.placeholder, journal)
        journal.reopen_placeholders(placeholders)
        adopt(movies, journal, posters_dir)
        work = crawler.Crawl(journal, posters_dir, limits, manners, placeholders=placeholders, num_attempts=options.attempts)
        statuses = [movies_lib.find_status(movie, journal, posters_dir) for movie in movies]
        requested = [(movie, status.url) for movie, status in zip(movies, statuses, strict=True) if status.url]
        for movie, url in requested:
            work.add(movie, url)
        print(f"{len(movies)} movies, {len(requested)} posters to request")
        with open_bar(len(requested)) as bar:
            left_alone = work.run(options.jobs, functools.partial(show_progress, bar))
        for host, why in left_alone.items():
            print(f"{host} is left alone in this run: {why}")
        remove_placeholders(journal, posters_dir, options.shared_by)
        statuses = [movies_lib.find_status(movie, journal, posters_dir) for movie in movies]
    summary = movies_lib.summarize(movies, statuses, num_bad_rows)
    catalog.write_refused(movies_lib.missing_table(movies, statuses), out_dir / "lost.csv")
    partial = out_dir / ".losses.json.partial"
    partial.write_text(json.dumps(summary, indent=2) + "\n")
    os.replace(partial, out_dir / "losses.json")
    print("\n".join(movies_lib.describe(summary)))
    if movies and not summary[KEPT] and not summary[FAILED]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in summary["lost_by_reason"].items())
        raise errors.UserError(f"none of the {len(movies)} movies has a poster ({reasons}): {out_dir / 'lost.csv'} says why.")
    return summary[FAILED]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    return cli.run_command(_run, argv)


def _run(argv: list[str]) -> int:
    options = parse_options(argv)
    try:
        with _stopped_by_signals() as (stop, received):
            num_failed = download(pathlib.Path(options.csv), pathlib.Path(options.dir), options, stop)
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        refusal = f"{error.strerror}: {error.filename or 'the disk'}"
        raise errors.UserError(f"{refusal}; name another DIR or make room.") from error
    if received:
        print(f"poster_jax: stopped by {received[0]}; run the same command to go on.", file=sys.stderr)
    elif num_failed:
        print(f"poster_jax: {num_failed} posters failed in a way that may pass; run the same command again.", file=sys.stderr)
    return cli.EXIT_UNFINISHED if received or num_failed else 0


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[tuple[threading.Event, list[str]]]:
    """(event set by SIGTERM and Ctrl-C, names of the received signals); a second Ctrl-C raises KeyboardInterrupt."""
    stop, received = threading.Event(), []

    def handle(number: int, frame: types.FrameType | None) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(signal.Signals(number).name)
        stop.set()

    kinds = (signal.SIGTERM, signal.SIGINT)
    before = {kind: signal.signal(kind, handle) for kind in kinds}
    try:
        yield stop, received
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def parse_options(argv: Sequence[str]) -> argparse.Namespace:
    """Options of the command; raises `UserError`."""
    parser = cli.Parser("python -m poster_jax.data.download", __doc__, show_defaults=True)
    parser.add_argument("csv", help="MovieGenre.csv, with the columns imdbId, Genre and Poster")
    parser.add_argument("dir", help="folder that the data set is built in")
    whole, number = _above_zero(int), _above_zero(float)
    parser.add_argument("--jobs", type=whole, default=16, help="requests at once, over all hosts")
    parser.add_argument("--per-host", type=whole, default=4, help="requests at once to one host")
    parser.add_argument("--attempts", type=whole, default=4, help="requests of one address in one run")
    parser.add_argument("--patience", type=whole, default=50, help="failures in a row after which a host is left alone")
    parser.add_argument("--timeout", type=number, default=60.0, help="seconds for one whole request")
    parser.add_argument("--idle", type=number, default=15.0, help="seconds without a byte, and to connect")
    parser.add_argument("--max-mb", type=number, default=10.0, help="largest poster")
    parser.add_argument("--first-pause", type=number, default=1.0, help="seconds of the first back-off; doubled each time")
    parser.add_argument("--longest-pause", type=number, default=300.0, help="seconds; a host that asks for more is left alone")
    parser.add_argument("--placeholder", action="append", default=[], metavar="FILE", help='a picture that says "no picture"')
    parser.add_argument("--shared-by", type=whole, default=10, help="movies with one picture that make it a placeholder")
    parser.add_argument("--allow-host", action="append", default=[], metavar="HOST[:PORT]", help="a host that may be private")
    return parser.parse_args(argv)


def _above_zero(kind: type[Number]) -> Callable[[str], Number]:
    def parse(text: str) -> Number:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} must be above zero")
        return value

    parse.__name__ = kind.__name__  # argparse names it in the message for a text that is no number
    return parse


if __name__ == "__main__":
    sys.exit(main())
