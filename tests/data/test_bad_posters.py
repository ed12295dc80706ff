"""A thousand randomly damaged posters through catalog and builder: each is refused or decodes to the right picture."""

import collections
import csv
import dataclasses
import io
import pathlib
import random
import time
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from poster_jax import config as config_lib
from poster_jax.data import builder, images, synthetic

NUM_DAMAGED = 880
SIZE = (46, 68)
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,  # stored turned left, so that a right turn makes it upright
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
BOMBS = ((65_000, 65_000), (20_000, 20_000), (9000, 6000), (60_000, 1000))


@dataclasses.dataclass(frozen=True)
class Case:
    """A file; undamaged it decodes to `expected` uint8 [H, W, 3], within `tolerance` grey levels on average."""

    what: str
    encoded: bytes
    expected: np.ndarray | None = None
    tolerance: float = 0.0


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def poster(seed: int) -> Image.Image:
    drawn = synthetic.draw_poster(seed, 1, (synthetic.GENRES[seed % len(synthetic.GENRES)],))
    return Image.open(io.BytesIO(drawn)).resize(SIZE, Image.Resampling.BILINEAR)


def undamaged(image: Image.Image, other: Image.Image) -> list[Case]:
    """A file of every usable format, colour mode, orientation and animation."""
    rgb, grey = np.asarray(image), np.asarray(image.convert("L").convert("RGB"))
    opaque = image.convert("RGBA")
    half = image.convert("RGBA")
    half.putalpha(128)
    blended = np.asarray(Image.blend(Image.new("RGB", SIZE, "white"), image, 128 / 255))
    black_white = image.convert("1")
    deep = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 256 + 99)
    frames = {"save_all": True, "append_images": [other], "duration": 100}
    cases = [
        Case("JPEG", encode(image, "JPEG", quality=95, subsampling=0), rgb, 3),
        Case("progressive", encode(image, "JPEG", quality=95, progressive=True), rgb, 6),
        Case("JPEG L", encode(image.convert("L"), "JPEG", quality=95), grey, 3),
        Case("JPEG CMYK", encode(image.convert("CMYK"), "JPEG", quality=95), rgb, 4),
        Case("PNG", encode(image, "PNG"), rgb),
        Case("PNG L", encode(image.convert("L"), "PNG"), grey),
        Case("PNG LA", encode(image.convert("LA"), "PNG"), grey),
        Case("PNG P", encode(image.convert("P", palette=Image.Palette.ADAPTIVE), "PNG"), rgb, 8),
        Case("PNG 1", encode(black_white, "PNG"), np.asarray(black_white.convert("RGB"))),
        Case("PNG I;16", encode(deep, "PNG"), grey),
        Case("PNG RGBA", encode(opaque, "PNG"), rgb),
        Case("PNG half clear", encode(half, "PNG"), blended, 1),
        Case("GIF", encode(image, "GIF"), rgb, 8),
        Case("WEBP", encode(image, "WEBP", lossless=True), rgb),
        Case("BMP", encode(image, "BMP"), rgb),
        Case("MPO", encode(image, "MPO", quality=95, subsampling=0, save_all=True, append_images=[other]), rgb, 3),
        Case("animated GIF", encode(image, "GIF", **frames), rgb, 8),
        Case("animated WEBP", encode(image, "WEBP", lossless=True, **frames), rgb),
        Case("animated PNG", encode(image, "PNG", **frames), rgb),
    ]
    for orientation, turn in TURNS.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = image.transpose(turn)
        cases.append(Case(f"turned JPEG {orientation}", encode(stored, "JPEG", quality=95, subsampling=0, exif=exif), rgb, 3))
        cases.append(Case(f"turned PNG {orientation}", encode(stored, "PNG", exif=exif), rgb))
    return cases


def with_size(encoded: bytes, width: int, height: int) -> bytes:
    """The same file with another size in its header."""
    file = bytearray(encoded)
    if encoded.startswith(b"\x89PNG"):
        file[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
        file[29:33] = zlib.crc32(file[12:29]).to_bytes(4, "big")
    elif encoded.startswith(b"\xff\xd8"):
        at = max(encoded.find(b"\xff\xc0\x00"), encoded.find(b"\xff\xc2\x00")) + 5
        file[at : at + 4] = min(height, 65_000).to_bytes(2, "big") + min(width, 65_000).to_bytes(2, "big")
    elif encoded.startswith(b"GIF"):
        file[6:10] = width.to_bytes(2, "little") + height.to_bytes(2, "little")
    elif encoded.startswith(b"BM"):
        file[18:26] = width.to_bytes(4, "little") + height.to_bytes(4, "little")
    return bytes(file)


def truncated(rng: random.Random, encoded: bytes) -> bytes:
    return encoded[: rng.randrange(len(encoded))]


def bits_flipped(rng: random.Random, encoded: bytes) -> bytes:
    damaged = bytearray(encoded)
    for _ in range(rng.choice((1, 1, 3, 20))):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def header_flipped(rng: random.Random, encoded: bytes) -> bytes:
    """Changes the first bytes, where sizes, modes, orientation and lengths are; no side becomes over 4,000 pixels by chance."""
    damaged = bytearray(encoded)
    for _ in range(rng.choice((1, 2, 4))):
        damaged[rng.randrange(min(60, len(damaged)))] ^= 1 << rng.randrange(4)
    return bytes(damaged)


def cut_out(rng: random.Random, encoded: bytes) -> bytes:
    start = rng.randrange(len(encoded))
    return encoded[:start] + encoded[start + rng.randrange(1, 200) :]


def wrong_magic(rng: random.Random, encoded: bytes) -> bytes:
    magic = rng.choice(
        (b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\1\0\0WEBP", b"BM", b"%PDF-1.4", b"<html>", b"\0")
    )
    return magic + encoded[len(magic) :]


def prefixed(rng: random.Random, encoded: bytes) -> bytes:
    return rng.randbytes(rng.randrange(1, 20)) + encoded


def suffixed(rng: random.Random, encoded: bytes) -> bytes:
    return encoded + rng.choice((rng.randbytes(50), b"<html>", encoded[: len(encoded) // 2]))


def huge(rng: random.Random, encoded: bytes) -> bytes:
    return with_size(encoded, *rng.choice(BOMBS))


def other_size(rng: random.Random, encoded: bytes) -> bytes:
    return with_size(encoded, rng.choice((0, 1, 15, 45, 47, 200, 700)), rng.choice((0, 1, 67, 69, 300)))


def noise(rng: random.Random, encoded: bytes) -> bytes:
    return encoded[: rng.choice((0, 0, 8, 40))] + rng.randbytes(rng.choice((0, 10, 2000)))


DAMAGES: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    truncated,
    bits_flipped,
    bits_flipped,
    header_flipped,
    cut_out,
    wrong_magic,
    prefixed,
    suffixed,
    huge,
    other_size,
    noise,
)


def make_cases() -> list[Case]:
    posters = [poster(seed) for seed in range(5)]
    sound = [case for image, other in zip(posters, posters[1:] + posters[:1], strict=True) for case in undamaged(image, other)]
    rng = random.Random(7)
    damaged = []
    for number in range(NUM_DAMAGED):
        damage, source = DAMAGES[number % len(DAMAGES)], rng.choice(sound)
        damaged.append(Case(f"{damage.__name__} {source.what}", damage(rng, source.encoded)))
    return sound + damaged


def reference(encoded: bytes) -> np.ndarray:
    """A file decoded by Pillow alone: upright by its EXIF, on white, with the upper byte of 16 bits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(encoded))
        except Image.UnidentifiedImageError:
            # A wrong checksum beside the picture of a PNG: libpng, in TensorFlow, passes over it.
            image = Image.fromarray(tf.io.decode_png(encoded, channels=4).numpy())
        image.load()
        orientation = image.getexif().get(0x0112, 1)
        if image.mode.startswith("I"):
            image = Image.fromarray((np.asarray(image).astype(int) >> 8).astype(np.uint8))
            image.getexif()[0x0112] = orientation
        image = ImageOps.exif_transpose(image)
        rgba = image.convert("RGBA")
        return np.asarray(Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB"))


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference in grey levels; infinite for pictures of different sizes."""
    if one.shape != other.shape:
        return float("inf")
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


def test_a_thousand_changed_posters_are_refused_or_right(tmp_path: pathlib.Path) -> None:
    cases = make_cases()
    assert len(cases) >= 1000
    with (tmp_path / "own.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "genres", "id"))
        for number, case in enumerate(cases, 1):
            (tmp_path / f"{number}.jpg").write_bytes(case.encoded)
            rows.writerow((f"{number}.jpg", "Drama", number))
    data = config_lib.base().data
    data.variant, data.csv, data.cache_dir = "csv", str(tmp_path / "own.csv"), str(tmp_path / "cache")
    source = builder.load_source(data)

    kept, refused = source.table["id"].tolist(), [int(id_) for id_ in source.refused["id"]]
    assert sorted(kept + refused) == list(range(1, len(cases) + 1))
    assert (source.refused["detail"] != "").all()
    wrong = [cases[id_ - 1].what for id_ in refused if cases[id_ - 1].expected is not None]
    for id_, encoded in zip(kept, source.encoded(range(len(kept))), strict=True):
        case = cases[id_ - 1]
        truth = reference(case.encoded) if case.expected is None else case.expected
        apart = difference(images.decode(encoded, truth.shape[:2]), truth)
        # The same pixels in another file differ only by rounding where they are half transparent on white.
        if apart > (1.0 if case.expected is None else case.tolerance):
            wrong.append(f"{case.what}: {apart:.1f}")
    assert not wrong
    reasons = collections.Counter(source.refused["reason"])
    known = {"cut_file", "corrupt_file", "not_an_image", "too_large", "too_small", "wrong_shape", "empty_file"}
    assert set(reasons) == known, reasons
    damaged_and_kept = sum(cases[id_ - 1].expected is None for id_ in kept)
    assert 50 < damaged_and_kept < NUM_DAMAGED - 300, reasons


def test_the_comparison_sees_a_picture_that_is_not_upright_or_another_one() -> None:
    one, other = poster(0), poster(1)
    assert difference(np.asarray(one), np.asarray(one)) == 0
    for turn in TURNS.values():
        assert difference(np.asarray(one.transpose(turn)), np.asarray(one)) > 10
    assert difference(np.asarray(other), np.asarray(one)) > 10


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP"])
def test_a_bomb_is_refused_before_it_is_unpacked(kind: str) -> None:
    encoded = encode(poster(0), kind)
    for size in BOMBS:
        began = time.thread_time()
        with pytest.raises(images.BadImage) as raised:
            images.check(with_size(encoded, *size))
        assert raised.value.reason in ("too_large", "wrong_shape")
        assert time.thread_time() - began < 0.1
