"""Every fault of a picture, every repair, and which pictures count as the same."""

import io
import random
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from poster_jax.data import images


def scene(seed: int = 0, size: tuple[int, int] = (60, 80)) -> Image.Image:
    """A picture of smooth random colours, which JPEG preserves and which has contrast."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def encode(image: Image.Image, file_format: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def pixels(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + b"\0\0\0\x0d" + body + zlib.crc32(body).to_bytes(4, "big")


PNG_END = b"\0\0\0\0IEND" + zlib.crc32(b"IEND").to_bytes(4, "big")
JPEG = encode(scene())
PNG = encode(scene(), "PNG")
REFUSED = {
    "empty": (b"", "empty_file"),
    "web page": (b"<html><body>404 Not Found</body></html>", "not_an_image"),
    "text": (b"no picture at all", "not_an_image"),
    "other format": (encode(scene(), "TIFF"), "not_an_image"),
    "cut JPEG": (JPEG[: len(JPEG) // 2], "cut_file"),
    "cut JPEG header": (JPEG[:30], "cut_file"),
    "JPEG without its last marker": (JPEG[:-2], "cut_file"),
    "cut PNG": (PNG[: len(PNG) // 2], "cut_file"),
    "PNG without its last chunk": (PNG[:-12], "cut_file"),
    "PNG with a wrong sum": (PNG[:-13] + bytes([PNG[-13] ^ 1]) + PNG[-12:], "corrupt_file"),
    "PNG of another width than its header says": (png_header(59, 80) + PNG[33:], "corrupt_file"),
    "PNG of garbage": (
        PNG.replace(PNG[PNG.index(b"IDAT") + 4 : -16], b"x" * len(PNG[PNG.index(b"IDAT") + 4 : -16])),
        "corrupt_file",
    ),
    "over our limit": (png_header(8000, 6251) + PNG_END, "too_large"),
    "where Pillow warns": (png_header(10_000, 10_000) + PNG_END, "too_large"),
    "where Pillow raises": (png_header(60_000, 60_000) + PNG_END, "too_large"),
    "narrow": (encode(scene(size=(15, 80))), "too_small"),
    "pixel": (encode(Image.new("P", (1, 1)), "GIF"), "too_small"),
    "banner": (encode(scene(size=(161, 20))), "wrong_shape"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    encoded, reason = REFUSED[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(images.BadImage) as caught:
            images.check(encoded)
    assert caught.value.reason == reason, caught.value.detail
    assert caught.value.detail


def test_limits_are_inclusive():
    assert images.check(encode(scene(size=(16, 128)))).repairs == ("resized",)


def test_the_size_is_judged_before_any_pixel_is_decoded(monkeypatch):
    def load(self):
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(images.BadImage, match="too_large"):
        images.check(png_header(8000, 6251) + PNG_END)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_plain_poster_is_kept_byte_for_byte(progressive):
    encoded = encode(scene(size=images.POSTER_SIZE), progressive=progressive)
    checked = images.check(encoded)
    assert checked.encoded == encoded and checked.repairs == ()
    assert (checked.width, checked.height) == (182, 268)


def test_a_grey_jpeg_and_an_rgb_png_are_kept():
    grey = encode(scene().convert("L"))
    assert images.check(grey).encoded == grey and images.check(grey).repairs == ("grey", "resized")
    assert images.check(PNG).encoded == PNG and images.check(PNG).repairs == ("resized",)


def sixteen_bit(image: Image.Image) -> bytes:
    """A 16-bit RGB PNG, which Pillow cannot write: each sample is the byte, then 200."""
    rows = np.asarray(image)
    data = b"".join(b"\0" + np.stack([row, np.full_like(row, 200)], -1).tobytes() for row in rows)
    body = b"IHDR" + image.width.to_bytes(4, "big") + image.height.to_bytes(4, "big") + b"\x10\x02\0\0\0"
    packed = b"IDAT" + zlib.compress(data)
    chunks = [body, packed]
    out = b"".join((len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") for chunk in chunks)
    return b"\x89PNG\r\n\x1a\n" + out + PNG_END


def repaired_cases() -> dict:
    rgb = scene(size=images.POSTER_SIZE)
    grey = np.asarray(rgb.convert("L"))
    clear = rgb.convert("RGBA")
    clear.putalpha(Image.fromarray(np.where(np.arange(182) < 91, 255, 0)[None].repeat(268, 0).astype(np.uint8)))
    over_white = np.asarray(rgb).copy()
    over_white[:, 91:] = 255
    palette = rgb.convert("P")
    indexed = Image.fromarray(np.arange(182, dtype=np.uint8)[None].repeat(268, 0) % 2, "P")
    indexed.putpalette([10, 20, 30, 0, 0, 0])
    see_through = np.where(np.arange(182)[None, :, None] % 2, 255, np.array([10, 20, 30])).repeat(268, 0)
    deep = Image.fromarray(grey.astype(np.uint16) * 256 + 77)
    three = np.repeat(grey[..., None], 3, -1)
    frames = {"save_all": True, "append_images": [scene(5, images.POSTER_SIZE)]}
    return {
        "grey PNG": (encode(rgb.convert("L"), "PNG"), ("grey",), three),
        "palette": (encode(palette, "PNG"), ("palette",), np.asarray(palette.convert("RGB"))),
        "RGBA": (encode(clear, "PNG"), ("transparent",), over_white),
        "palette with a clear colour": (
            encode(indexed, "PNG", transparency=1),
            ("palette", "transparent"),
            see_through,
        ),
        "16-bit grey": (encode(deep, "PNG"), ("16_bit", "grey"), three),
        "16-bit RGB": (sixteen_bit(rgb), ("16_bit",), np.asarray(rgb)),
        "BMP": (encode(rgb, "BMP"), ("other_format",), np.asarray(rgb)),
        "WEBP": (encode(rgb, "WEBP", lossless=True), ("other_format",), np.asarray(rgb)),
        "animated WEBP": (
            encode(rgb, "WEBP", lossless=True, **frames),
            ("other_format", "first_frame"),
            np.asarray(rgb),
        ),
        "animated PNG": (encode(rgb, "PNG", **frames), ("first_frame",), np.asarray(rgb)),
    }


@pytest.mark.parametrize("name", repaired_cases())
def test_repairs(name):
    encoded, repairs, expected = repaired_cases()[name]
    checked = images.check(encoded)
    assert checked.repairs == repairs
    again = Image.open(io.BytesIO(checked.encoded))
    assert (again.format, again.mode) == ("PNG", "RGB")
    np.testing.assert_array_equal(np.asarray(again), expected)


def test_cmyk_becomes_rgb():
    rgb = Image.new("RGB", images.POSTER_SIZE, (200, 100, 50))
    checked = images.check(encode(rgb.convert("CMYK"), quality=95, icc_profile=b"made up " * 20))
    assert checked.repairs == ("cmyk",)
    again = Image.open(io.BytesIO(checked.encoded))
    assert (again.format, again.mode) == ("PNG", "RGB") and "icc_profile" not in again.info
    assert np.abs(pixels(checked.encoded).astype(int) - (200, 100, 50)).max() <= 4


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_a_picture_on_its_side_is_turned_upright(file_format):
    exif = Image.Exif()
    exif[0x0112] = 6  # the top row of the scene is the right column as stored
    lying = scene(size=(268, 182))
    checked = images.check(encode(lying, file_format, exif=exif))
    assert checked.repairs == ("turned",) and (checked.width, checked.height) == (182, 268)
    stored = pixels(encode(lying, file_format))
    np.testing.assert_array_equal(pixels(checked.encoded), np.rot90(stored, -1))
    assert images.check(checked.encoded).repairs == ()


def test_checking_twice_changes_nothing():
    for encoded, _, _ in repaired_cases().values():
        once = images.check(encoded)
        twice = images.check(once.encoded)
        assert (twice.encoded, twice.repairs) == (once.encoded, ())
        assert (twice.content_hash, twice.dhash) == (once.content_hash, once.dhash)


def test_content_hash_sees_pixels_and_shape_only():
    titled = encode(scene(), "PNG", dpi=(300, 300), compress_level=1)
    assert titled != PNG and images.check(titled).content_hash == images.check(PNG).content_hash
    other = np.array(scene())
    other[0, 0, 0] ^= 1
    assert images.check(encode(Image.fromarray(other), "PNG")).content_hash != images.check(PNG).content_hash
    flat = [encode(Image.new("RGB", size), "PNG") for size in ((40, 50), (50, 40))]
    assert images.check(flat[0]).content_hash != images.check(flat[1]).content_hash


def test_dhash_by_hand():
    ramp = Image.fromarray(np.arange(9, dtype=np.uint8)[None].repeat(8, 0) * 20).convert("RGB")
    assert images.difference_hash(ramp) == 2**64 - 1
    assert images.difference_hash(ramp.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) == 0
    one = np.zeros((8, 9, 3), np.uint8)
    one[0, 1] = 255  # brighter than its left neighbour, in the first row and first column: the highest bit
    assert images.difference_hash(Image.fromarray(one)) == 2**63


def test_random_damage_is_refused_or_decodes():
    rng = random.Random(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    small = scene(size=(24, 32))
    sources = [encode(small, kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "BMP")]
    sources += [
        encode(small, progressive=True, exif=exif),
        encode(small.convert("CMYK")),
        encode(small.convert("RGBA"), "PNG"),
        encode(small, "GIF", save_all=True, append_images=[small.rotate(90)]),
        encode(small, "MPO", save_all=True, append_images=[small.rotate(90)]),
    ]
    outcomes = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for trial in range(600):
            damaged = bytearray(rng.choice(sources))
            if trial % 3 == 0:
                damaged = damaged[: rng.randrange(len(damaged))]
            elif trial % 3 == 1:
                for _ in range(rng.choice((1, 3, 30))):
                    damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            else:
                start = rng.randrange(len(damaged))
                del damaged[start : start + rng.randrange(1, 100)]
            try:
                checked = images.check(bytes(damaged))
            except images.BadImage as error:
                outcomes.append(error.reason)
                continue
            outcomes.append("fine")
            size = (checked.height, checked.width)
            assert images.decode(checked.encoded, size).shape == (*size, 3)
    assert {"fine", "cut_file", "corrupt_file", "not_an_image"} <= set(outcomes)


def test_damaged_metadata_is_neither_a_warning_nor_a_refusal():
    # A header of five entries, none complete; no TIFF header.
    for block in (b"II*\0\x08\0\0\0\x05\0\x12\x01\x03\0\xff\xff\xff\xff", b"not a TIFF header"):
        encoded = encode(scene(), exif=b"Exif\0\0" + block)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert images.check(encoded).encoded == encoded


def test_an_exif_block_that_cannot_be_parsed_turns_nothing(monkeypatch):
    def getexif(self):
        raise SyntaxError("not a TIFF file")

    monkeypatch.setattr("PIL.Image.Image.getexif", getexif)
    assert images.check(JPEG).encoded == JPEG


def test_decode_resizes_with_antialiasing():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200  # finer than the target's pixels: the mean is 100, sampling would give 0 or 200
    decoded = images.decode(encode(Image.fromarray(stripes), "PNG"), (16, 8))
    assert decoded.shape == (16, 8, 3) and decoded.dtype == np.uint8 and decoded.flags.writeable
    assert np.abs(decoded.astype(int) - 100).max() <= 12
    np.testing.assert_array_equal(images.decode(PNG, (80, 60)), np.asarray(scene()))


def test_decode_refuses_what_does_not_decode():
    with pytest.raises(images.BadImage, match="cut_file"):
        images.decode(JPEG[: len(JPEG) // 2], (20, 20))
    with pytest.raises(images.BadImage, match="not_an_image"):
        images.decode(b"text", (20, 20))


def pairs_of(encoded: list[bytes]) -> list[list[int]]:
    checked = [images.check(each) for each in encoded]
    width, height = images.THUMBNAIL_SIZE
    thumbnails = np.frombuffer(b"".join(each.thumbnail for each in checked), np.uint8)
    dhashes = np.array([each.dhash for each in checked], np.uint64)
    return images.near_duplicates(dhashes, thumbnails.reshape(-1, height, width, 3)).tolist()


def test_saved_again_is_the_same_picture_and_strangers_are_not():
    posters = [scene(seed, images.POSTER_SIZE) for seed in range(20)]
    again = [encode(poster.resize((364, 536)), quality=60) for poster in posters[:4]]
    found = pairs_of([encode(poster) for poster in posters] + again)
    assert found == [[0, 20], [1, 21], [2, 22], [3, 23]]


def test_equal_gradients_of_different_pictures_are_no_duplicates():
    ramp = np.linspace(0, 120, 60).astype(np.uint8)[None, :, None].repeat(80, 0).repeat(3, 2)
    bright = ramp + 100
    assert images.check(encode(Image.fromarray(ramp))).dhash == images.check(encode(Image.fromarray(bright))).dhash
    assert pairs_of([encode(Image.fromarray(ramp)), encode(Image.fromarray(bright))]) == []


def test_blank_pictures_are_no_duplicates():
    assert pairs_of([encode(Image.new("RGB", (40, 60), (grey,) * 3)) for grey in (250, 251, 252)]) == []


def test_banding_finds_what_comparing_all_pairs_finds():
    rng = np.random.default_rng(0)
    dhashes = rng.integers(0, 2**64, 300, dtype=np.uint64)
    for row in range(150, 300):  # a relative of an earlier one, up to six bits away
        flips = rng.choice(64, rng.integers(0, 7), replace=False)
        dhashes[row] = dhashes[row - 150] ^ np.bitwise_or.reduce(np.uint64(1) << flips.astype(np.uint64), initial=0)
    thumbnails = np.tile(rng.integers(0, 256, (1, 12, 8, 3), dtype=np.uint8), (300, 1, 1, 1))
    bits = np.bitwise_count(dhashes[:, None] ^ dhashes)
    expected = [[i, j] for i in range(300) for j in range(i + 1, 300) if bits[i, j] <= images.MAX_DHASH_DISTANCE]
    assert 20 < len(expected) < 140
    assert images.near_duplicates(dhashes, thumbnails).tolist() == expected
