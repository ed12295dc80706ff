"""`python -m poster_jax.data.download MovieGenre.csv DIR`: asks for the posters of the Kaggle set, keeps those that are one.

DIR then serves as `--config.data.variant=kaggle --config.data.dir=DIR`: MovieGenre.csv, posters/<imdbId>.jpg, downloads.jsonl
(what became of every address), lost.csv and losses.json (movies without a poster, and how many of each genre). Exit codes: 0
every movie has its poster or no hope of one, 2 a mistake in what was asked, 75 not finished (stopped, or failures that may
pass): the same command goes on and asks only for what is missing.
"""

import argparse
import contextlib
import dataclasses
import errno
import json
import os
import pathlib
import shutil
import signal
import sys
import threading
import time
import types
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from poster_jax import cli, errors
from poster_jax.data import catalog, images
from poster_jax.data.download import crawler, hosts, request
from poster_jax.data.download import movies as movies_lib
from poster_jax.data.download.journal import FAILED, KEPT, LOST, Entry, Journal

QUIET_SECS = 60.0  # between two lines of progress where there is no terminal
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
    """Adds good pictures in the folder to the journal, for movies that it lacks: neither requested nor removed later."""
    new = [movie for movie in movies if not journal.of_movie(movie.id)]
    new = [movie for movie in new if movies_lib.poster_path(posters_dir, movie.id).is_file()]
    paths = [movies_lib.poster_path(posters_dir, movie.id) for movie in new]
    for movie, path, result in zip(new, paths, catalog.checked(map(str, paths)), strict=True):
        if isinstance(result, images.CheckedImage):
            size = path.stat().st_size
            journal.add(Entry(movie.id, "", KEPT, "found", "", result.content_hash, size))


def remove_placeholders(journal: Journal, posters_dir: pathlib.Path, num_movies: int) -> int:
    """Removes downloaded pictures that at least so many movies share, and returns how many files that were."""
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
            journal.add(dataclasses.replace(entry, state=LOST, reason="placeholder", detail=detail))
            removed += 1
    return removed


def known_placeholders(paths: Sequence[str], journal: Journal) -> frozenset[str]:
    """Content hashes of the given pictures and of the journal's placeholders; raises `UserError` for other files."""
    known = {entry.content_hash for entry in journal.entries() if entry.reason == "placeholder" and entry.content_hash}
    for path in paths:
        try:
            known.add(catalog.load_checked(path).content_hash)
        except images.BadImage as error:
            raise errors.UserError(f"--placeholder={path} is no usable picture ({error}): give a file that is one.") from error
    return frozenset(known)


class Progress:
    """A line of progress: rewritten in place on a terminal, printed once a minute elsewhere."""

    def __init__(self, num_movies: int) -> None:
        self._num_movies = num_movies
        self._live = sys.stderr.isatty()
        self._began = self._shown = time.monotonic()

    def __call__(self, work: crawler.Crawl) -> None:
        now = time.monotonic()
        if now - self._shown < (1.0 if self._live else QUIET_SECS):
            return
        self._shown = now
        line = self._line(work, now)
        print(f"\r\x1b[K{line}" if self._live else line, end="" if self._live else "\n", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Clears the line."""
        if self._live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _line(self, work: crawler.Crawl, now: float) -> str:
        rate = work.num_ended / (now - self._began)
        left = f"{(self._num_movies - work.num_ended) / rate / 60:.0f} min left" if rate else "no answer so far"
        megabytes = work.num_bytes / 1e6
        kept = f"{work.num_kept} kept, {work.num_ended - work.num_kept} not"
        return f"{work.num_ended}/{self._num_movies} posters, {kept}  {rate:.1f}/s  {megabytes:.1f} MB  {left}"


def download(csv_path: pathlib.Path, out_dir: pathlib.Path, options: argparse.Namespace, stop: threading.Event) -> int:
    """Everything from the CSV to the report, by the options of `parse_options`; returns the number of movies to ask again.

    Raises `UserError`. `stop` ends it early: what was done is kept.
    """
    movies, num_bad_rows = movies_lib.read_movies(csv_path)
    posters_dir = prepare_dir(csv_path, out_dir)
    with contextlib.closing(Journal(out_dir / "downloads.jsonl")) as journal:
        if journal.num_unreadable:
            print(f"{journal.num_unreadable} lines of downloads.jsonl cannot be read: those posters are asked for again.")
        for partial in posters_dir.glob(".*.partial"):
            partial.unlink()
        limits = request.Limits(
            options.timeout, options.idle, int(options.max_mb * 1e6), frozenset(map(_bare, options.allow_host)), stop
        )
        manners = hosts.Manners(options.per_host, options.first_pause, options.longest_pause, options.patience)
        placeholders = known_placeholders(options.placeholder, journal)
        adopt(movies, journal, posters_dir)
        work = crawler.Crawl(journal, posters_dir, limits, manners, placeholders, options.attempts)
        requests = [(movie, now.url) for movie in movies if (now := movies_lib.standing(movie, journal, posters_dir)).url]
        for movie, url in requests:
            work.add(movie, url)
        print(f"{len(movies)} movies, {len(requests)} posters to ask for")
        with contextlib.closing(Progress(len(requests))) as progress:
            left_alone = work.run(options.jobs, progress)
        for host, why in left_alone.items():
            print(f"{host} is left alone in this run: {why}")
        remove_placeholders(journal, posters_dir, options.shared_by)
        standings = [movies_lib.standing(movie, journal, posters_dir) for movie in movies]
    summary = movies_lib.summarize(movies, standings, num_bad_rows)
    catalog.write_refused(movies_lib.missing_table(movies, standings), out_dir / "lost.csv")
    partial = out_dir / ".losses.json.partial"
    partial.write_text(json.dumps(summary, indent=2) + "\n")
    os.replace(partial, out_dir / "losses.json")
    print("\n".join(movies_lib.describe(summary)))
    return summary[FAILED]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    return cli.run_command(_run, argv)


def _run(argv: list[str]) -> int:
    options = parse_options(argv)
    try:
        with _stopped_by_signals() as (stop, received):
            num_left = download(pathlib.Path(options.csv), pathlib.Path(options.dir), options, stop)
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        refusal = f"{error.strerror}: {error.filename or 'the disk'}"
        raise errors.UserError(f"{refusal}; name another DIR or make room.") from error
    if received:
        print(f"poster_jax: stopped by {received[0]}; run the same command to go on.", file=sys.stderr)
    elif num_left:
        print(f"poster_jax: {num_left} posters failed in a way that may pass; run the same command again.", file=sys.stderr)
    return cli.EXIT_UNFINISHED if received or num_left else 0


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[tuple[threading.Event, list[str]]]:
    """(event that SIGTERM and Ctrl-C set, names of the signals received); a second Ctrl-C is an ordinary KeyboardInterrupt."""
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
    parser.add_argument("dir", help="where the data set is built")
    whole, number = _above_zero(int), _above_zero(float)
    parser.add_argument("--jobs", type=whole, default=16, help="requests at once, over all hosts")
    parser.add_argument("--per-host", type=whole, default=4, help="requests at once to one host")
    parser.add_argument("--attempts", type=whole, default=4, help="times that an address is asked in one run")
    parser.add_argument("--patience", type=whole, default=50, help="failures in a row after which a host is left alone")
    parser.add_argument("--timeout", type=number, default=60.0, help="seconds for one request in all")
    parser.add_argument("--idle", type=number, default=15.0, help="seconds without a byte, and to connect")
    parser.add_argument("--max-mb", type=number, default=10.0, help="largest poster")
    parser.add_argument("--first-pause", type=number, default=1.0, help="seconds of the first back-off; doubled each time")
    parser.add_argument("--longest-pause", type=number, default=300.0, help="seconds; who asks for more is left alone")
    parser.add_argument("--placeholder", action="append", default=[], metavar="FILE", help='a picture that says "no picture"')
    parser.add_argument("--shared-by", type=whole, default=10, help="movies with one picture that make it a placeholder")
    parser.add_argument("--allow-host", action="append", default=[], metavar="NAME", help="a host that may be private")
    return parser.parse_args(argv)


def _above_zero(kind: type[int] | type[float]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} must be above zero")
        return value

    parse.__name__ = kind.__name__  # what argparse calls it when the text is no number
    return parse


def _bare(host: str) -> str:
    return host.lower().removeprefix("[").removesuffix("]")


if __name__ == "__main__":
    sys.exit(main())
