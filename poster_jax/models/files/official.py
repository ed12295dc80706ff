"""Fetches Keras's official weights, without Keras: one request to one address, bounded in bytes and time.

A file that Keras has fetched already is taken from its cache. Keras publishes no hash, so a file counts as whole when it has
the announced length and is read as a body; its hash is told, and the next run can ask for it.
"""

import contextlib
import dataclasses
import http.client
import os
import pathlib
import re
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from poster_jax import errors
from poster_jax.runtime import storage

IMAGENET = re.compile(r"imagenet(?:_(?P<width>[\d.]+)_(?P<size>\d+))?(?:@(?P<sha256>[0-9a-f]{64}))?")
IMAGENET_URL = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/"
# Those that keras/src/applications/mobilenet_v2.py lists.
WIDTHS, SIZES = ("0.35", "0.5", "0.75", "1.0", "1.3", "1.4"), ("96", "128", "160", "192", "224")
MAX_BYTES = 64 << 20  # the largest, of width 1.4, has 17 MB without its head
IDLE_SECS, TOTAL_SECS = 30.0, 600.0
CHUNK_BYTES = 1 << 16


@dataclasses.dataclass(frozen=True)
class Official:
    """One of the official files, and the hash that it must have, or ""."""

    name: str
    sha256: str


def parse(text: str) -> Official | None:
    """The file that "imagenet", "imagenet_0.5_160" or either with "@SHA256" stands for; None where it is a path.

    Raises UserError for a width or a size that Keras has no weights of.
    """
    match = IMAGENET.fullmatch(text)
    if match is None:
        return None
    width, size = str(float(match["width"] or 1.0)), match["size"] or "224"
    if width not in WIDTHS or size not in SIZES:
        raise errors.UserError(
            f"keras:{text} is none of Keras's weights: the width is one of {', '.join(WIDTHS)}, "
            f"the size one of {', '.join(SIZES)}."
        )
    return Official(f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{width}_{size}_no_top.h5", match["sha256"] or "")


def fetch(wanted: Official, check: Callable[[pathlib.Path], Any]) -> pathlib.Path:
    """The file in our cache or in Keras's, else fetched into ours once `check`, which raises UserError, has read it as a body.

    Raises UserError, which says how to do without, where it cannot be fetched.
    """
    cache = pathlib.Path(os.environ.get("POSTER_JAX_CACHE") or "~/.cache/poster_jax").expanduser() / "weights"
    keras_cache = pathlib.Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models"
    known = next((path for path in (cache / wanted.name, keras_cache / wanted.name) if path.is_file()), None)
    if known:
        return known
    url = IMAGENET_URL + wanted.name
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            part = pathlib.Path(folder) / wanted.name
            content = _download(url)
            part.write_bytes(content)
            check(part)
            storage.write_atomic(cache / wanted.name, content)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _failure(url, str(error) or type(error).__name__) from error
    except errors.UserError as error:
        raise _failure(url, f"what came is no body: {error}") from error
    print(f"fetched {url}", flush=True)
    return cache / wanted.name


def _failure(url: str, why: str) -> errors.UserError:
    return errors.UserError(
        f"the official weights could not be fetched ({why.partition(chr(10))[0].rstrip('.')}): "
        f"fetch {url} where there is a network and give keras:FILE, "
        "or train the small network from drawn weights (configs/own_posters.py:small)."
    )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The weights lie at one address; a redirect is an answer of somebody else, as of a login page."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _download(url: str) -> bytes:
    """The body of one answer; raises OSError, HTTPException or ValueError for anything but 200 and a whole body."""
    opener = urllib.request.build_opener(_NoRedirect)
    deadline = time.monotonic() + TOTAL_SECS
    try:
        answer = opener.open(url, timeout=IDLE_SECS)
    except urllib.error.HTTPError as error:
        with contextlib.closing(error):
            raise ValueError(f"status {error.code} {error.reason}") from error
    content = bytearray()
    with contextlib.closing(answer):
        announced = answer.headers.get("Content-Length", "")
        if answer.status != 200 or not announced.isdecimal():
            raise ValueError(f"status {answer.status}, and its length is {announced or 'not announced'}")
        if int(announced) > MAX_BYTES:
            raise ValueError(f"{int(announced):,} bytes are announced, more than {MAX_BYTES:,}")
        while chunk := answer.read1(CHUNK_BYTES):
            content += chunk
            if time.monotonic() > deadline:
                raise TimeoutError(f"it took more than {TOTAL_SECS:.0f} seconds")
    if len(content) != int(announced):
        raise ValueError(f"{len(content):,} of {announced} bytes came")
    return bytes(content)
