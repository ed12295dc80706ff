"""The project's only decoder: checks pictures, repairs them, decodes them and finds duplicates.

`check` examines a file once, when the data set is built. It returns bytes that Pillow and TensorFlow decode to the same pixels:
a plain JPEG or RGB PNG is kept without what stands beside or behind its picture, anything else is written again as an RGB PNG.
"""

import hashlib
import io
import threading
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from poster_jax.data import picture_files

BadImage = picture_files.BadImage
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP")
POSTER_SIZE = (182, 268)  # width and height of the Kaggle set's posters
MAX_PIXELS = 50_000_000  # 150 MB as RGB; Pillow only warns, and only above 89 million
MIN_SIDE_PX = 16
MAX_ASPECT = 8
# What libjpeg fills a picture with where its data has run out, and how far colours beside it may shift a corner.
MID_GREY, MID_GREY_TOLERANCE = 128, 24
DHASH_SIDE = 8  # 8 x 8 comparisons make the 64 bits
THUMBNAIL_SIZE = (8, 12)  # width and height

# Two pictures are the same if their dHashes differ in at most MAX_DHASH_DISTANCE bits and their thumbnails by at most
# MAX_THUMBNAIL_DIFFERENCE grey levels on average. Of posters saved again at JPEG quality 30 to 75, halved or doubled, 97 % or
# more stay within 3 bits and all stay within 2.1 levels. The dHash alone is not enough: among 9,111 real posters, every pair
# 1 to 4 bits apart is two different posters with a bright middle. Among all pairs up to 10 bits apart, the two most similar
# different posters differ by 10.2 levels.
MAX_DHASH_DISTANCE = 3
MAX_THUMBNAIL_DIFFERENCE = 5.0
MIN_CONTRAST = 4.0  # standard deviation of the thumbnail's grey levels; below it there is no shape to compare

_ORIENTATION = 0x0112  # EXIF 2.32, table 4; 1 is upright, 2 to 8 are mirrored and turned

# Pillow reports malformed metadata through `warnings`. Its filters are global, so one thread at a time may change them. The
# lock covers reading the header, a tenth of the work; decoding runs outside it.
_WARNINGS_LOCK = threading.Lock()


@dataclass(frozen=True)
class CheckedImage:
    """A usable picture: `encoded` is a JPEG (RGB or grey) or an 8-bit RGB PNG.

    Width and height are those of the upright picture.
    `repairs` names what was repaired: grey, palette, transparent, cmyk, colour_space, 16_bit, turned,
    first_frame, other_format, and resized (not 182 x 268; the resize itself happens in `decode`).
    `content_hash` is the SHA-256 of the size and the decoded RGB pixels, so equal pictures with different
    metadata agree; `dhash` is 64 bits, unsigned; `thumbnail` is the RGB bytes of 12 rows of 8 pixels.
    """

    encoded: bytes
    width: int
    height: int
    repairs: tuple[str, ...]
    content_hash: str
    dhash: int
    thumbnail: bytes


def check(encoded: bytes) -> CheckedImage:
    """Decodes a file's bytes completely and describes the picture; raises only `BadImage`."""
    try:
        encoded, is_animated = _picture_of(encoded)
        image = _open(encoded)
        # Load before reading the EXIF. Pillow reads a PNG's EXIF by loading the picture, and after a failed load the second
        # one raises no error and returns a half empty picture.
        image.load()
        orientation = _orientation(image)
        is_animated = is_animated or _moves(image)
        _refuse_run_out(encoded, image)
        rgb, repairs = _as_rgb(image, encoded, orientation, is_animated=is_animated)
        if rgb.size != POSTER_SIZE:
            repairs.append("resized")
        content = hashlib.sha256(b"%d %d " % rgb.size)
        content.update(rgb.tobytes())
        is_plain = not is_animated and orientation == 1 and _is_plain(image, encoded)
        return CheckedImage(
            encoded=encoded if is_plain else _as_png(rgb),
            width=rgb.width,
            height=rgb.height,
            repairs=tuple(repairs),
            content_hash=content.hexdigest(),
            dhash=difference_hash(rgb),
            thumbnail=rgb.resize(THUMBNAIL_SIZE, Image.Resampling.BILINEAR).tobytes(),
        )
    except BadImage:
        raise
    except Exception as error:  # damaged files make Pillow raise over a dozen unrelated types, MemoryError among them
        raise _bad_image(encoded, error) from error


def decode(encoded: bytes, image_size: tuple[int, int]) -> np.ndarray:
    """Pixels uint8 [height, width, 3] of `CheckedImage.encoded`; image_size is (height, width).

    The resize is bilinear with antialiasing (Pillow widens the filter when it shrinks), on 8-bit values.
    Raises `BadImage` if the bytes do not decode.
    """
    height, width = image_size
    try:
        image = _open(encoded)
        rgb = image if image.mode == "RGB" else image.convert("RGB")
        if rgb.size != (width, height):
            rgb = rgb.resize((width, height), Image.Resampling.BILINEAR)
        return np.array(rgb, dtype=np.uint8)
    except BadImage:
        raise
    except Exception as error:  # see check
        raise _bad_image(encoded, error) from error


def difference_hash(rgb: Image.Image) -> int:
    """64-bit dHash: for each cell of the 9 x 8 grey thumbnail, row by row, whether it is darker than its right neighbour."""
    thumbnail = rgb.convert("L").resize((DHASH_SIDE + 1, DHASH_SIDE), Image.Resampling.BILINEAR)
    grey = np.asarray(thumbnail)
    return int.from_bytes(np.packbits(grey[:, :-1] < grey[:, 1:]).tobytes(), "big")


def near_duplicates(dhashes: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
    """Pairs int64 [P, 2] of row numbers, first < second, of pictures that look the same.

    dhashes uint64 [N]; thumbnails uint8 [N, 12, 8, 3]. Flat pictures (blank, one colour) are in no pair.
    """
    grey = thumbnails.mean(axis=-1).reshape(len(thumbnails), -1)
    rows = np.flatnonzero(grey.std(axis=1) >= MIN_CONTRAST)
    found = [np.empty((0, 2), np.int64)]
    # Hashes at most d bits apart agree in at least one of d + 1 bands (pigeonhole), so only pairs that do are compared.
    num_bands = MAX_DHASH_DISTANCE + 1
    width = 64 // num_bands
    for band in range(num_bands):
        keys = (dhashes[rows] >> np.uint64(band * width)) & np.uint64((1 << width) - 1)
        order = rows[np.argsort(keys, kind="stable")]
        keys = np.sort(keys)
        for step in range(1, len(rows)):
            same = np.flatnonzero(keys[step:] == keys[:-step])
            if not len(same):
                break
            pairs = np.stack([order[same], order[same + step]], axis=1)
            bits = np.bitwise_count(dhashes[pairs[:, 0]] ^ dhashes[pairs[:, 1]])
            pairs = pairs[bits <= MAX_DHASH_DISTANCE]
            apart = thumbnails[pairs[:, 0]].astype(np.int16) - thumbnails[pairs[:, 1]]
            found.append(pairs[np.abs(apart).mean(axis=(1, 2, 3)) <= MAX_THUMBNAIL_DIFFERENCE])
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def _open(encoded: bytes) -> Image.Image:
    """The lazily loaded image; reads only the header and refuses by format and size."""
    if not encoded:
        raise BadImage("empty_file", "0 bytes")
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(encoded), formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise BadImage("too_large", str(error).split(",")[0]) from error
        _refuse_size(*image.size)
        return image


def _picture_of(encoded: bytes) -> tuple[bytes, bool]:
    """(the bytes without what stands beside and behind a JPEG's or PNG's picture; whether it is a PNG that moves)."""
    kind = picture_files.find_format(encoded)
    if kind == "PNG":
        return picture_files.clean_png(encoded)
    if kind == "JPEG":
        end = picture_files.find_jpeg_end(encoded)
        if not end:
            raise BadImage("cut_file", f"JPEG of {len(encoded)} bytes without its end marker")
        return encoded[:end], False
    return encoded, False


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation of a loaded image, 1 to 8; 1 if it has none, or one of a type that browsers do not read."""
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = image.getexif().get(_ORIENTATION, 1)
        except Exception:  # unreadable metadata is no evidence that the picture is turned
            return 1
    return value if type(value) is int and 1 <= value <= 8 else 1


def _moves(image: Image.Image) -> bool:
    """Whether a loaded image has more than one frame; also where what follows the first is damaged."""
    try:
        return getattr(image, "is_animated", False)
    except Exception:
        return True


def _refuse_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise BadImage("too_large", f"{width} x {height} is more than {MAX_PIXELS:,} pixels")
    if min(width, height) < MIN_SIDE_PX:
        raise BadImage("too_small", f"{width} x {height} has a side under {MIN_SIDE_PX} pixels")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise BadImage("wrong_shape", f"{width} x {height} is longer than {MAX_ASPECT}:1")


def _refuse_run_out(encoded: bytes, image: Image.Image) -> None:
    """Raises `BadImage` for a loaded JPEG whose data ends before its picture does.

    libjpeg then only warns, through a channel that Pillow closes, and fills the rest. So bytes are put in front of the end
    marker: the decoder ignores them unless it needed more. What it fills a baseline picture with is mid-grey, so that most of
    them need no second decoding.
    """
    if image.format not in ("JPEG", "MPO"):
        return
    if picture_files.lacks_jpeg_scans(encoded):
        raise BadImage("cut_file", f"JPEG of {len(encoded)} bytes; a colour is missing")
    corner = image.crop((image.width - 1, image.height - 1, image.width, image.height))
    fill = np.asarray(corner if image.mode == "CMYK" else corner.convert("L")).mean()
    if abs(fill - MID_GREY) > MID_GREY_TOLERANCE and not picture_files.is_progressive(encoded):
        return
    padded = _open(picture_files.pad_scan(encoded, len(encoded)))
    padded.load()
    if padded.tobytes() != image.tobytes():
        raise BadImage("cut_file", f"JPEG of {len(encoded)} bytes; its data ends before the picture is full")


def _bad_image(encoded: bytes, error: Exception) -> BadImage:
    """The `BadImage` for an exception raised by Pillow."""
    detail = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    if isinstance(error, EOFError) or "truncated" in str(error).lower():
        return BadImage("cut_file", f"{len(encoded)} bytes; {detail}")
    if isinstance(error, Image.UnidentifiedImageError):
        unread = picture_files.find_unread_format(encoded[: picture_files.NUM_START_BYTES])
        if unread:
            return BadImage("not_an_image", f"{unread} of {len(encoded)} bytes: {picture_files.SAVE_AS}")
        if not picture_files.find_format(encoded):
            return BadImage("not_an_image", f"none of {', '.join(FORMATS)}; begins with {encoded[:8]!r}")
    return BadImage("corrupt_file", detail)


def _is_transparent(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def _is_16_bit(image: Image.Image, encoded: bytes) -> bool:
    # Pillow opens a 16-bit RGB PNG as RGB; only the header shows it: bit depth is byte 24 (PNG 3rd edition, 11.2.1).
    return image.mode[0] in "IF" or (image.format == "PNG" and encoded[24] == 16)


def _is_plain(image: Image.Image, encoded: bytes) -> bool:
    """Whether every decoder makes the same RGB picture of these bytes, which are upright and do not move."""
    if image.format == "JPEG":
        return image.mode in ("RGB", "L")
    return image.format == "PNG" and image.mode == "RGB" and not _is_transparent(image) and not _is_16_bit(image, encoded)


def _as_rgb(image: Image.Image, encoded: bytes, orientation: int, *, is_animated: bool) -> tuple[Image.Image, list[str]]:
    """The loaded picture in RGB and upright, and the names of the repairs."""
    repairs = []
    if image.format not in ("JPEG", "PNG"):
        repairs.append("other_format")
    if is_animated:
        repairs.append("first_frame")
    if _is_16_bit(image, encoded):
        repairs.append("16_bit")
    kind = {
        "L": "grey",
        "LA": "grey",
        "La": "grey",
        "1": "grey",
        "P": "palette",
        "PA": "palette",
        "CMYK": "cmyk",
    }
    if image.mode in kind:
        repairs.append(kind[image.mode])
    elif image.mode not in ("RGB", "RGBA"):
        repairs.append("grey" if image.mode[0] in "IF" else "colour_space")
    if image.mode[0] in "IF":
        # The upper byte, which decoders use for 16-bit colour. The result of `convert` depends on Pillow's version.
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    elif _is_transparent(image):
        repairs.append("transparent")
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    if orientation != 1:
        repairs.append("turned")
        rgb = _turn(rgb, orientation)
    return rgb, repairs


def _turn(rgb: Image.Image, orientation: int) -> Image.Image:
    """The picture turned upright; the orientation is a parameter because earlier repairs lose the EXIF block."""
    rgb = rgb.copy()
    rgb.info.clear()
    rgb.getexif()[_ORIENTATION] = orientation
    return ImageOps.exif_transpose(rgb)


def _as_png(rgb: Image.Image) -> bytes:
    rgb = rgb.copy()
    rgb.info.clear()  # readers interpret a remaining colour profile, gamma or transparency differently
    buffer = io.BytesIO()
    rgb.save(buffer, "PNG")
    return buffer.getvalue()
