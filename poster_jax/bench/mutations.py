"""`python -m poster_jax.bench.mutations [--num=1000] [--seed=0]`: damaged pictures, judged by us, by Pillow and by TensorFlow.

Of every format `num` pictures are damaged at random. For each the three verdicts are compared: what both decoders accept, we
accept, or refuse for a reason that they do not know (a picture that is not whole, a checksum, a size); what neither accepts, we
refuse; and whatever we accept, both decode to the same picture. Exit code 1 where that does not hold, or where a picture takes
longer than LONGEST_SECS or more memory than LARGEST_MB.
"""

import collections
import contextlib
import dataclasses
import io
import os
import random
import resource
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image

from poster_jax import cli
from poster_jax.data import images, synthetic

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
LONGEST_SECS, LARGEST_MB = 5.0, 800
LARGEST_DIFFERENCE = 2.0  # mean grey levels between Pillow and TensorFlow, of two ways to take colours apart
# Why a picture is refused that both decoders accept. They fill what is missing, and know no smallest picture.
STRICTER = {
    "cut_file": "data that ends before the picture is full",
    "corrupt_file": "a checksum or a chunk that is wrong",
    "too_small": "a side under 16 pixels",
    "too_large": "more than 50 million pixels",
    "wrong_shape": "longer than 8:1",
}
Damage = Callable[[random.Random, bytes], bytes]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What was said of one damaged picture: our reason or "", and whether Pillow and TensorFlow accept it.

    `fault` says what is wrong with our verdict, "" for nothing.
    """

    ours: str
    pillow: bool
    tensorflow: bool
    fault: str
    secs: float


def make_pictures(kind: str) -> list[bytes]:
    """Whole pictures of a format, in its usual variants."""
    poster = Image.open(io.BytesIO(synthetic.draw_poster(1, 1, ("Drama",)))).convert("RGB").resize((91, 134))
    exif = Image.Exif()
    exif[0x0112] = 6
    twice = {"save_all": True, "append_images": [poster.rotate(180)]}
    variants: dict[str, list[tuple[Image.Image, dict]]] = {
        "JPEG": [
            (poster, {}),
            (poster, {"progressive": True}),
            (poster, {"restart_marker_rows": 2}),
            (poster.convert("L"), {}),
            (poster.convert("CMYK"), {}),
            (poster, {"exif": exif}),
            (poster, {"format": "MPO", **twice}),
        ],
        "PNG": [
            (poster, {}),
            (poster.convert("L"), {}),
            (poster.convert("P"), {}),
            (poster.convert("RGBA"), {}),
            (poster, {"exif": exif}),
            (poster, twice),
        ],
        "WEBP": [(poster, {}), (poster, {"lossless": True}), (poster.convert("RGBA"), {}), (poster, twice)],
        "GIF": [(poster, {}), (poster.convert("L"), {}), (poster, twice)],
        "BMP": [(poster, {}), (poster.convert("P"), {}), (poster.convert("1"), {}), (poster.convert("L"), {})],
    }
    made = []
    for image, options in variants[kind]:
        buffer = io.BytesIO()
        image.save(buffer, **{"format": kind, **options})
        made.append(buffer.getvalue())
    return made


def _truncated(rng: random.Random, encoded: bytes) -> bytes:
    return encoded[: rng.randrange(len(encoded))]


def _truncated_with_end(rng: random.Random, encoded: bytes) -> bytes:
    """Cut, with the end marker of its format put behind."""
    end = {0xFF: b"\xff\xd9", 0x89: b"\0\0\0\0IEND\xaeB`\x82", 0x47: b"\0;"}.get(encoded[0], b"")
    return _truncated(rng, encoded) + end


def _flipped(rng: random.Random, encoded: bytes) -> bytes:
    damaged = bytearray(encoded)
    for _ in range(rng.choice((1, 1, 3, 20))):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _flipped_at_start(rng: random.Random, encoded: bytes) -> bytes:
    damaged = bytearray(encoded)
    for _ in range(rng.choice((1, 2, 4))):
        damaged[rng.randrange(min(100, len(damaged)))] = rng.randrange(256)
    return bytes(damaged)


def _shortened(rng: random.Random, encoded: bytes) -> bytes:
    start = rng.randrange(len(encoded))
    return encoded[:start] + encoded[start + rng.randrange(1, 200) :]


def _doubled(rng: random.Random, encoded: bytes) -> bytes:
    start = rng.randrange(len(encoded))
    return encoded[: start + rng.randrange(1, 200)] + encoded[start:]


def _extended(rng: random.Random, encoded: bytes) -> bytes:
    return encoded + rng.choice((rng.randbytes(50), b"\xff\xda", encoded, encoded[: len(encoded) // 2]))


def _with_right_sums(rng: random.Random, encoded: bytes) -> bytes:
    """Flipped, and a PNG's checksums made right again, so that what they hide is reached."""
    damaged, at = bytearray(_flipped(rng, encoded)), 8
    while damaged.startswith(b"\x89PNG") and at + 12 <= len(damaged):
        end = at + 12 + int.from_bytes(damaged[at : at + 4], "big")
        if end <= len(damaged):
            damaged[end - 4 : end] = zlib.crc32(damaged[at + 4 : end - 4]).to_bytes(4, "big")
        at = end
    return bytes(damaged)


DAMAGES: tuple[Damage, ...] = (
    _truncated,
    _truncated_with_end,
    _flipped,
    _flipped_at_start,
    _shortened,
    _doubled,
    _extended,
    _with_right_sums,
)


def pillow_accepts(encoded: bytes) -> bool:
    """Whether Pillow alone decodes a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            Image.open(io.BytesIO(encoded), formats=images.FORMATS).load()
        except Exception:
            return False
    return True


def decode_tensorflow(encoded: bytes) -> np.ndarray | None:
    """The first picture of a file by TensorFlow alone, uint8 [H, W, 3]; None where it refuses."""
    import tensorflow as tf

    try:
        if encoded[8:12] == b"WEBP":
            return tf.image.decode_webp(encoded, channels=3).numpy()[0]
        if encoded[:2] == b"\xff\xd8":
            return tf.io.decode_jpeg(encoded, 3, dct_method="INTEGER_ACCURATE").numpy()
        return tf.io.decode_image(encoded, 3, expand_animations=False).numpy()
    except (tf.errors.InvalidArgumentError, tf.errors.ResourceExhaustedError, tf.errors.UnimplementedError):
        return None


def judge(encoded: bytes) -> Verdict:
    """The three verdicts of one file, and whether ours is right."""
    began = time.perf_counter()
    try:
        checked, reason, detail = images.check(encoded), "", ""
    except images.BadImage as error:
        checked, reason, detail = None, error.reason, error.detail
    secs = time.perf_counter() - began
    # A bomb is for neither of them to unpack.
    by_pillow, by_tensorflow = (
        (False, False) if reason == "too_large" else (pillow_accepts(encoded), decode_tensorflow(encoded) is not None)
    )
    fault = ""
    if secs > LONGEST_SECS:
        fault = f"took {secs:.1f} s"
    elif checked is None and by_pillow and by_tensorflow and not _is_known(reason, encoded):
        fault = f"both decoders accept what is refused: {reason}, {detail}"
    elif checked is not None and not (by_pillow or by_tensorflow):
        fault = "neither decoder accepts what is kept"
    elif checked is not None:
        fault = _compare(checked)
    return Verdict(reason, by_pillow, by_tensorflow, fault, secs)


def _is_known(reason: str, encoded: bytes) -> bool:
    """Whether there is a reason to be stricter than both decoders. Checksums and chunks are a PNG's."""
    return reason in STRICTER and (reason != "corrupt_file" or encoded.startswith(b"\x89PNG"))


def _compare(checked: images.CheckedImage) -> str:
    """What is wrong with the kept bytes: both decoders must make one picture of them."""
    one = images.decode(checked.encoded, (checked.height, checked.width)).astype(int)
    other = decode_tensorflow(checked.encoded)
    if other is None:
        return "TensorFlow refuses what is kept"
    apart = float("inf") if one.shape != other.shape else float(np.abs(one - other).mean())
    return f"the decoders differ by {apart:.1f} grey levels in what is kept" if apart > LARGEST_DIFFERENCE else ""


def run(kind: str, num: int, seed: int) -> list[tuple[str, Verdict]]:
    """(what was done to it, its verdict) of `num` damaged pictures of a format; a function of the arguments."""
    rng, whole = random.Random(f"{kind} {seed}"), make_pictures(kind)
    found = []
    for number in range(num):
        damage = DAMAGES[number % len(DAMAGES)]
        verdict = judge(damage(rng, rng.choice(whole)))
        found.append((f"{kind} {number}, {damage.__name__.strip('_').replace('_', ' ')}", verdict))
    return found


@contextlib.contextmanager
def decoders_silenced() -> Iterator[None]:
    """Inside it nothing is written to stderr: libjpeg and TensorFlow have a line for every damaged picture."""
    sys.stderr.flush()
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


def describe(kind: str, found: Sequence[tuple[str, Verdict]]) -> str:
    """One line of counts."""
    kept = sum(not verdict.ours for _, verdict in found)
    both = sum(verdict.pillow and verdict.tensorflow for _, verdict in found)
    stricter = collections.Counter(v.ours for _, v in found if v.ours and v.pillow and v.tensorflow)
    told = ", ".join(f"{count} {reason}" for reason, count in stricter.most_common()) or "none"
    slowest = max(verdict.secs for _, verdict in found)
    return f"{kind:<5} {len(found):>6} {kept:>6} {both:>13} {slowest:>9.2f} s  {told}"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    return cli.run_command(_run, argv)


def _run(argv: list[str]) -> int:
    parser = cli.Parser("python -m poster_jax.bench.mutations", __doc__, show_defaults=True)
    parser.add_argument("--num", type=int, default=1000, help="damaged pictures of each format")
    parser.add_argument("--seed", type=int, default=0, help="another seed damages in other ways")
    flags = parser.parse_args(argv)
    with decoders_silenced():
        decode_tensorflow(make_pictures("PNG")[0])  # loads TensorFlow, whose memory is not a picture's
    before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{'':<5} {'tried':>6} {'kept':>6} {'kept by both':>13} {'slowest':>11}  refused although both decoders accept")
    faults = []
    for kind in FORMATS:
        with decoders_silenced():
            found = run(kind, flags.num, flags.seed)
        print(describe(kind, found), flush=True)
        faults += [f"{what}: {verdict.fault}" for what, verdict in found if verdict.fault]
    taken_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before_mb
    print(f"{taken_mb:.0f} MB of memory beyond the start; {len(faults)} faults")
    if taken_mb > LARGEST_MB:
        faults.append(f"more than {LARGEST_MB} MB of memory")
    print("\n".join(faults[:20]), end="\n" * bool(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
