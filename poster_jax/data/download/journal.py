"""Journal of a download: the outcome of every address in an append-only JSON Lines file that survives a crash.

The last line of an address is the valid one. A line truncated by a crash is removed at the next start. Any other unreadable
line is skipped, and its address is requested again.
"""

import dataclasses
import fcntl
import json
import os
import pathlib
from collections.abc import Iterator

from poster_jax import errors

KEPT, LOST, FAILED = "kept", "lost", "failed"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One outcome: `kept` (a file of `size` bytes was written), `lost` (permanent) or `failed` (worth retrying).

    `url` is from the CSV, or "" for a picture that was in the folder before; `content_hash` is from `images.CheckedImage`;
    `option` is what the command was given that made it `lost`, where other options may keep it.
    """

    id: int
    url: str
    state: str
    reason: str = ""
    detail: str = ""
    content_hash: str = ""
    size: int = 0
    attempts: int = 0
    option: str = ""


class Journal:
    """The file, its lock and the latest entry of every (id, url)."""

    def __init__(self, path: pathlib.Path) -> None:
        """Reads or creates the file; raises `UserError` if another process has locked it."""
        self._file = open(path, "a+b")
        try:
            # The operating system releases this lock when the process ends, however it ends.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise errors.UserError(f"{path} is in use by another download: wait for it or name another folder.") from error
        self.num_unreadable = 0
        self._entries: dict[int, dict[str, Entry]] = {}
        self._file.seek(0)
        content = self._file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._file.truncate(len(whole))
        for line in whole.splitlines():
            entry = _parse(line)
            if entry is None:
                self.num_unreadable += 1
            else:
                self._note(entry)

    def add(self, entry: Entry) -> None:
        """Appends one line and flushes it to the operating system."""
        self._file.write(json.dumps(dataclasses.asdict(entry)).encode() + b"\n")
        self._file.flush()
        self._note(entry)

    def reopen(self, allow_hosts: frozenset[str], max_bytes: int, shared_by: int) -> None:
        """Turns what other options lost into `failed`, so that it is requested again under these.

        So are failures of certificates, as this machine may trust others by now, and lines of a version without `option`.
        """
        for entry in list(self.entries()):
            given = {
                "refused_address": not allow_hosts <= {*entry.option.split()},
                "too_big": max_bytes > int(entry.option if entry.option.isdecimal() else 0),
                "placeholder": entry.option.isdecimal() and shared_by > int(entry.option),
                "bad_certificate": True,
            }
            if entry.state == LOST and given.get(entry.reason, False):
                self.add(dataclasses.replace(entry, state=FAILED, content_hash=""))

    def reopen_placeholders(self, placeholders: frozenset[str]) -> None:
        """As `reopen`, for pictures that were refused as one of --placeholder which is not given any more."""
        for entry in list(self.entries()):
            if entry.state == LOST and entry.reason == "placeholder" and not entry.option.isdecimal():
                if not {*entry.option.split()} <= placeholders or not entry.option:
                    self.add(dataclasses.replace(entry, state=FAILED))

    def of_movie(self, id_: int) -> dict[str, Entry]:
        """{url: latest entry} of a movie."""
        return self._entries.get(id_, {})

    def entries(self) -> Iterator[Entry]:
        """The latest entry of every address."""
        for by_url in self._entries.values():
            yield from by_url.values()

    def close(self) -> None:
        """Syncs the file to disk and releases the lock."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def _note(self, entry: Entry) -> None:
        self._entries.setdefault(entry.id, {})[entry.url] = entry


def _parse(line: bytes) -> Entry | None:
    try:
        value = json.loads(line)
        entry = Entry(**value)
    except (ValueError, TypeError):  # not JSON, not UTF-8, no such field
        return None
    kinds = {field.name: field.type for field in dataclasses.fields(Entry)}
    good = all(type(getattr(entry, name)) is kind for name, kind in kinds.items())
    return entry if good and entry.state in (KEPT, LOST, FAILED) else None
