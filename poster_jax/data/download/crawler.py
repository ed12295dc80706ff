"""Crawler: downloads many posters at once, retries failures and tries a movie's other addresses.

Requests run in threads. One thread handles their outcomes; only it writes the journal and renames files.
"""

import concurrent.futures
import dataclasses
import os
import pathlib
import time
from collections.abc import Callable

from poster_jax.data import images
from poster_jax.data.download import hosts, movies, request
from poster_jax.data.download.journal import FAILED, KEPT, LOST, Entry, Journal

MAX_REDIRECTS = 5
# A complete response with a truncated picture: the server may have read the file while it was being written.
CUT_PICTURE = ("cut_file", "empty_file")
TICK_SECS = 0.1


@dataclasses.dataclass(frozen=True)
class Request:
    """One request to make: `url` is from the CSV, `at` is where `hops` redirects led; `attempts` have ended before it."""

    movie: movies.Movie
    url: str
    at: str
    hops: int = 0
    attempts: int = 0


@dataclasses.dataclass(frozen=True)
class Fetched:
    """A checked poster in the temporary file `partial`."""

    partial: pathlib.Path
    content_hash: str
    size: int


def ask(task: Request, limits: request.Limits, posters_dir: pathlib.Path, placeholders: frozenset[str]) -> Fetched | str:
    """Makes one request; returns a poster on disk or the URL of a redirect. Raises `request.Failure` or `request.Stopped`.

    `placeholders` are content hashes of pictures that say "no picture".
    """
    answer = request.fetch(task.at, limits)
    if answer.redirect:
        return answer.redirect
    try:
        checked = images.check(answer.body)
    except images.BadImage as error:
        cut = error.reason in CUT_PICTURE
        # Without a length the end of the connection ends the file, so a cut connection looks like a short file.
        reason = error.reason if answer.declared or not cut else "cut"
        raise request.Failure(reason, error.detail, transient=cut) from error
    if checked.content_hash in placeholders:
        raise request.Failure("placeholder", 'the picture says "no picture"')
    partial = posters_dir / f".{task.movie.id}.partial"
    partial.write_bytes(answer.body)
    return Fetched(partial, checked.content_hash, len(answer.body))


class Crawl:
    """The pending requests, the journal, and the handling of each outcome; not thread-safe."""

    def __init__(
        self,
        journal: Journal,
        posters_dir: pathlib.Path,
        limits: request.Limits,
        manners: hosts.Manners,
        *,
        placeholders: frozenset[str],
        num_attempts: int,
    ) -> None:
        self.num_ended = self.num_kept = self.num_bytes = 0
        self._journal, self._posters_dir, self._limits = journal, posters_dir, limits
        self._schedule, self._num_attempts = hosts.Schedule[Request](manners), num_attempts
        self._placeholders = placeholders

    def add(self, movie: movies.Movie, url: str) -> None:
        """Queues a request for a movie's poster at one of its addresses."""
        self._enqueue(Request(movie, url, url))

    def run(self, num_threads: int, tick: Callable[["Crawl"], object]) -> dict[str, str]:
        """Runs until all requests have ended or the stop is set; returns {host: why} of the hosts left alone.

        `tick` is called after every round, at most TICK_SECS apart while requests run.
        """
        stop = self._limits.stop
        running: dict[concurrent.futures.Future, tuple[str, Request]] = {}
        with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
            try:
                while running or not (stop.is_set() or self._schedule.is_over()):
                    while len(running) < num_threads and not stop.is_set() and (due := self._schedule.take(time.monotonic())):
                        future = pool.submit(ask, due[1], self._limits, self._posters_dir, self._placeholders)
                        running[future] = due
                    if not running:
                        stop.wait(TICK_SECS)
                    ended = concurrent.futures.wait(running, TICK_SECS, concurrent.futures.FIRST_COMPLETED).done
                    for future in ended:
                        host, task = running.pop(future)
                        self._end(host, task, future)
                    tick(self)
            finally:
                stop.set()  # an exception must not wait for running requests
        return self._schedule.left_alone()

    def _enqueue(self, task: Request, not_before: float = 0.0) -> None:
        try:
            self._schedule.add(request.parse_url(task.at).host, task, not_before)
        except request.Failure as failure:
            self._fail(task, failure)

    def _end(self, host: str, task: Request, future: concurrent.futures.Future) -> None:
        now = time.monotonic()
        try:
            result = future.result()
        except request.Stopped:
            return
        except request.Failure as failure:
            failed = failure.transient and failure.reason not in CUT_PICTURE
            self._schedule.done(host, now, failed=failed, overload=failure.overload, wait_secs=failure.wait_secs)
            self._fail(task, failure)
            return
        self._schedule.done(host, now)
        if isinstance(result, Fetched):
            self._keep(task, result)
        elif task.hops >= MAX_REDIRECTS:
            self._fail(task, request.Failure("too_many_redirects", f"more than {MAX_REDIRECTS}, the last to {result}"))
        else:
            self._enqueue(dataclasses.replace(task, at=result, hops=task.hops + 1))

    def _keep(self, task: Request, picture: Fetched) -> None:
        entry = Entry(
            task.movie.id,
            task.url,
            KEPT,
            content_hash=picture.content_hash,
            size=picture.size,
            attempts=task.attempts + 1,
        )
        # Write the line first: a file without a line would count as the user's own; a line without a file is requested again.
        self._journal.add(entry)
        os.replace(picture.partial, movies.poster_path(self._posters_dir, task.movie.id))
        self.num_ended, self.num_kept, self.num_bytes = self.num_ended + 1, self.num_kept + 1, self.num_bytes + picture.size

    def _fail(self, task: Request, failure: request.Failure) -> None:
        attempts = task.attempts + 1
        if failure.transient and attempts < self._num_attempts:
            again = Request(task.movie, task.url, task.url, attempts=attempts)
            self._enqueue(again, time.monotonic() + self._schedule.pause(attempts))
            return
        state = FAILED if failure.transient and failure.reason not in CUT_PICTURE else LOST
        option = {
            "refused_address": " ".join(sorted(self._limits.allow_hosts)),
            "too_big": f"{self._limits.max_bytes}",
            "placeholder": " ".join(sorted(self._placeholders)),
        }.get(failure.reason, "")
        self._journal.add(
            Entry(task.movie.id, task.url, state, failure.reason, failure.detail, attempts=attempts, option=option)
        )
        if url := self._another(task.movie, lost=state == LOST):
            self.add(task.movie, url)
        else:
            self.num_ended += 1

    def _another(self, movie: movies.Movie, lost: bool) -> str:
        """Another address of the movie, or ""; after a temporary failure only one that was never requested."""
        if lost:
            return movies.find_status(movie, self._journal, self._posters_dir).url
        known = self._journal.of_movie(movie.id)
        return next((url for url in movie.urls if url not in known), "")
