"""Many posters at once: which request comes next, and what becomes of a movie when one ends.

Requests run in threads; outcomes are handled by one, which alone writes the ledger and gives files their names.
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
# A file that is whole by the server's count and still a cut picture: it may have been caught while it was written.
CUT_PICTURE = ("cut_file", "empty_file")
TICK_SECS = 0.1


@dataclasses.dataclass(frozen=True)
class Request:
    """One request to make: `url` is the CSV's, `at` what it leads to after `hops` redirects; `attempts` ended before."""

    movie: movies.Movie
    url: str
    at: str
    hops: int = 0
    attempts: int = 0


@dataclasses.dataclass(frozen=True)
class Fetched:
    """A checked poster that waits in `partial` for its name."""

    partial: pathlib.Path
    content_hash: str
    size: int


def ask(task: Request, limits: request.Limits, posters_dir: pathlib.Path, placeholders: frozenset[str]) -> Fetched | str:
    """One request: a poster on disk, or the URL of a redirect; raises `fetch.Failure` or `fetch.Stopped`.

    `placeholders` are content hashes of pictures that say "no picture".
    """
    answer = request.fetch(task.at, limits)
    if answer.redirect:
        return answer.redirect
    try:
        checked = images.check(answer.body)
    except images.BadImage as error:
        cut = error.reason in CUT_PICTURE
        # Without a length the end of the connection is the end of the file, and nothing tells a cut from it.
        reason = error.reason if answer.declared or not cut else "cut"
        raise request.Failure(reason, error.detail, transient=cut) from error
    if checked.content_hash in placeholders:
        raise request.Failure("placeholder", 'the picture says "no picture"')
    partial = posters_dir / f".{task.movie.id}.partial"
    partial.write_bytes(answer.body)
    return Fetched(partial, checked.content_hash, len(answer.body))


class Crawl:
    """The tasks under way, the ledger, and what to do with each outcome; used by one thread."""

    def __init__(
        self,
        ledger: Journal,
        posters_dir: pathlib.Path,
        limits: request.Limits,
        manners: hosts.Manners,
        placeholders: frozenset[str],
        num_attempts: int,
    ) -> None:
        self.num_ended = self.num_kept = self.num_bytes = 0
        self._ledger, self._posters_dir, self._limits = ledger, posters_dir, limits
        self._schedule, self._num_attempts = hosts.Schedule(manners), num_attempts
        self._placeholders = placeholders

    def add(self, movie: movies.Movie, url: str) -> None:
        """A movie whose poster is to be asked for at one of its addresses."""
        self._enqueue(Request(movie, url, url))

    def run(self, num_threads: int, tick: Callable[["Crawl"], object]) -> dict[str, str]:
        """Works until nothing is left or the stop is set; {host: why} of those left alone. `tick` is called now and then."""
        stop = self._limits.stop
        asked: dict[concurrent.futures.Future, tuple[str, Request]] = {}
        with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
            try:
                while asked or not (stop.is_set() or self._schedule.is_over()):
                    while len(asked) < num_threads and not stop.is_set() and (taken := self._schedule.take(time.monotonic())):
                        future = pool.submit(ask, taken[1], self._limits, self._posters_dir, self._placeholders)
                        asked[future] = taken
                    if not asked:
                        stop.wait(TICK_SECS)
                    ended = concurrent.futures.wait(asked, TICK_SECS, concurrent.futures.FIRST_COMPLETED).done
                    for future in ended:
                        host, task = asked.pop(future)
                        self._end(host, task, future)
                    tick(self)
            finally:
                stop.set()  # a bug of ours must not wait for the network
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
        # The line first: a file without a line would count as somebody else's, a line without a file is asked again.
        self._ledger.add(entry)
        os.replace(picture.partial, movies.poster_path(self._posters_dir, task.movie.id))
        self.num_ended, self.num_kept, self.num_bytes = self.num_ended + 1, self.num_kept + 1, self.num_bytes + picture.size

    def _fail(self, task: Request, failure: request.Failure) -> None:
        attempts = task.attempts + 1
        if failure.transient and attempts < self._num_attempts:
            again = Request(task.movie, task.url, task.url, attempts=attempts)
            self._enqueue(again, time.monotonic() + self._schedule.pause(attempts))
            return
        state = FAILED if failure.transient and failure.reason not in CUT_PICTURE else LOST
        self._ledger.add(Entry(task.movie.id, task.url, state, failure.reason, failure.detail, attempts=attempts))
        if url := self._another(task.movie, lost=state == LOST):
            self.add(task.movie, url)
        else:
            self.num_ended += 1

    def _another(self, movie: movies.Movie, lost: bool) -> str:
        """A further address of the same movie, or ""; after a failure that may pass only one that was never asked."""
        if lost:
            return movies.standing(movie, self._ledger, self._posters_dir).url
        known = self._ledger.of_movie(movie.id)
        return next((url for url in movie.urls if url not in known), "")
