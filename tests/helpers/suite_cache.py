"""The compilation cache of the test suite: where it lies, for which machine it holds, and how it stays small and whole.

Programs of an earlier session, or of another process of this one, are found again by JAX instead of being compiled. The folder
lies outside the checkout, in ~/.cache/poster_jax_tests, or in $POSTER_JAX_TEST_CACHE; where that is empty nothing is kept.
"""

import hashlib
import importlib.metadata
import os
import pathlib
import platform
import zlib
from collections.abc import Mapping

SUFFIX = "-cache"  # of JAX's entries
MAX_MB = 2048
CPUINFO = pathlib.Path("/proc/cpuinfo")
# What says which instructions a processor has, on x86 and on ARM; clock and load, which differ between two readings, do not.
LASTING = ("model name", "flags", "Features", "CPU implementer", "CPU part", "CPU variant")


def root(environment: Mapping[str, str] = os.environ) -> pathlib.Path | None:
    """The folder of all machines' caches; None where the suite is to keep nothing."""
    chosen = environment.get("POSTER_JAX_TEST_CACHE")
    if chosen is not None:
        return pathlib.Path(chosen).resolve() if chosen else None
    base = environment.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "poster_jax_tests"


def processor() -> str:
    """What compiled code depends on: the processor's kind, its instructions, and how many cores share a program."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if not CPUINFO.exists():
        return f"{platform.machine()} {platform.processor()} {cores}"
    first = CPUINFO.read_text().split("\n\n")[0].splitlines()
    return "\n".join([*(line for line in first if line.split("\t")[0].split(":")[0].strip() in LASTING), str(cores)])


def key(jaxlib: str, processor: str) -> str:
    """The folder's name for one version and one kind of machine: XLA's code for another may not run, or round otherwise."""
    return f"jaxlib-{jaxlib}-{hashlib.sha256(processor.encode()).hexdigest()[:16]}"


def variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """JAX's settings, as environment variables, so that the processes that tests start have them too."""
    folder = root(environment)
    if folder is None:
        return {}
    return {
        "JAX_COMPILATION_CACHE_DIR": str(folder / key(importlib.metadata.version("jaxlib"), processor())),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def tidy(folder: pathlib.Path, max_mb: float = MAX_MB) -> None:
    """Removes entries that a killed process has left half written, then those not read for longest, until `max_mb` are left.

    JAX has a limit of its own, which lists and locks the whole folder for every program that it writes.
    """
    checked = folder / "checked"
    since = checked.stat().st_mtime if checked.exists() else 0.0
    folder.mkdir(parents=True, exist_ok=True)
    checked.touch()
    kept = []
    for path in folder.glob(f"*/*{SUFFIX}"):
        about = path.stat()
        if about.st_mtime >= since and not _is_whole(path.read_bytes()):
            path.unlink(missing_ok=True)
        else:
            # Most disks note the first reading of a day.
            kept.append((max(about.st_atime, about.st_mtime), about.st_size, path))
    room = max_mb * 2**20
    for _, size, path in sorted(kept, reverse=True):
        room -= size
        if room < 0:
            path.unlink(missing_ok=True)


def _is_whole(content: bytes) -> bool:
    """Whether an entry ends where its compression says; one that zlib has not made needs only hold something."""
    if not content.startswith(b"\x78"):
        return bool(content)
    stream = zlib.decompressobj()
    try:
        stream.decompress(content)
    except zlib.error:
        return False
    return stream.eof
