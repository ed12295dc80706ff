"""Files of pictures before they are decoded: reading one safely, its format by its content, and where the picture in it ends.

What stands beside a picture in its file (text, profiles, a video behind the end) is no reason to refuse the picture.
"""

import io
import os
import pathlib
import re
import stat
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

MAX_FILE_BYTES = 256 << 20  # more than the largest picture that is accepted takes without compression
# Files that are called so are pictures; any other is one if its first bytes say so.
SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".jfif")
NUM_START_BYTES = 512  # of a file, enough to know its format
SAVE_AS = "save it as JPEG or PNG"
# How a name that a table has was found where no file has it.
OTHER_CASE, NO_SUFFIX = "differ from their files in the case of letters", "have no suffix: the picture of that name is taken"

_JPEG_START, _PNG_START = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
# By their first bytes. JPEG needs three: the fourth begins any of a dozen segments.
_READ = ((_JPEG_START, "JPEG"), (_PNG_START, "PNG"), (b"GIF87a", "GIF"), (b"GIF89a", "GIF"))
_UNREAD = (
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"II+\0", "a TIFF picture"),
    (b"MM\0+", "a TIFF picture"),
    (b"8BPS", "a Photoshop file"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"\0\0\1\0", "a Windows icon"),
    (b"%PDF", "a PDF document"),
)
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # sizes in bytes
# Brands of ISO media files (ISO/IEC 23008-12, AV1 image format).
_BRANDS = ((b"avif", "an AVIF picture"), (b"avis", "an AVIF picture"), (b"hei", "a HEIC picture"), (b"hev", "a HEIC picture"))
_BRANDS += ((b"mif1", "a HEIC picture"), (b"msf1", "a HEIC picture"))

_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")  # in the data of a scan: neither a stuffed byte nor a restart
_SOF = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # frame headers; the others are tables
_SOS, _EOI, _STANDALONE = 0xDA, 0xD9, {0x01, *range(0xD0, 0xD8)}
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_ANIMATION = (b"acTL", b"fcTL", b"fdAT")
_MAX_METADATA_BYTES = 1 << 20  # of a block that may say which way is up
_XMP = b"XML:com.adobe.xmp\0\0"  # its keyword, and that it is not compressed


class BadImage(Exception):
    """A picture that cannot be used: `reason` is a snake_case word for the table of refusals, `detail` a phrase."""

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def read(path: str | os.PathLike) -> bytes:
    """The bytes of a regular file of at most MAX_FILE_BYTES; raises `BadImage`.

    Anything else, as a pipe, a device or a link to one, is refused without being read: it may have no end.
    """
    try:
        with open_regular(path) as file:
            encoded = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise BadImage("missing_file", f"there is no {os.fspath(path)}") from error
    except (OSError, ValueError) as error:  # a folder, no permission, a name with a NUL
        raise BadImage("unreadable_file", f"{type(error).__name__}: {error}") from error
    if len(encoded) > MAX_FILE_BYTES:
        raise BadImage("too_large", f"more than {MAX_FILE_BYTES >> 20} MB")
    return encoded


def open_regular(path: str | os.PathLike) -> io.BufferedReader:
    """Opens a regular file to read its bytes; raises OSError for any other, without waiting for its other end."""
    kind = os.stat(path).st_mode
    if not stat.S_ISREG(kind):
        names = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        raise OSError(f"{os.fspath(path)} is {names.get(stat.S_IFMT(kind), 'a device')}, no file")
    # The path may have become a pipe since: its opening must not wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise OSError(f"{os.fspath(path)} is no file")
    return file


def find_format(start: bytes) -> str:
    """JPEG, PNG, GIF, WEBP or BMP by the first bytes of a file; "" for anything else."""
    known = next((name for magic, name in _READ if start.startswith(magic)), "")
    if not known and start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WEBP"
    # "BM" alone begins many a text: bytes 6 to 9 are reserved, and the header that follows has one of few sizes.
    if (
        not known
        and start[:2] == b"BM"
        and start[14:18] in {size.to_bytes(4, "little") for size in (12, 40, 52, 56, 64, 108, 124)}
    ):
        return "BMP"
    return known


def find_unread_format(start: bytes) -> str:
    """What a file is that is not read, with its article, by its first bytes: "a TIFF picture"; "" for the unknown."""
    known = next((name for magic, name in _UNREAD if start.startswith(magic)), "")
    if not known and start[4:8] == b"ftyp":
        length = min(max(int.from_bytes(start[:4], "big"), 16), len(start))
        brands = [start[8:12], *(start[at : at + 4] for at in range(16, length - 3, 4))]
        return next((name for brand in brands for magic, name in _BRANDS if brand.startswith(magic)), "a video")
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not known and text.startswith((b"<svg", b"<?xml", b"<!--", b"<!doctype svg")) and b"<svg" in text:
        return "an SVG drawing"
    if not known and text.startswith((b"<!doctype", b"<html", b"<head", b"<body", b"<?xml")):
        return "a web page, HTML or XML,"
    return known


def is_unread_picture(start: bytes) -> bool:
    """Whether a file is a picture to its owner, but of a format that is not read."""
    return find_unread_format(start).endswith(("picture", "drawing"))


def is_picture(path: pathlib.Path) -> bool:
    """Whether a file is meant as a picture, by its name or its first bytes; also one of a format that is not read."""
    if path.name.lower().endswith(SUFFIXES):
        return not path.name.startswith(".")
    try:
        with open_regular(path) as file:
            start = file.read(NUM_START_BYTES)
    except (OSError, ValueError):
        return False
    known = find_format(start) or is_unread_picture(start)
    return bool(known) and not path.name.startswith(".")


def path_finder(folder: pathlib.Path, found_as: Counter[str]) -> Callable[[str], str]:
    """A function from a path as a table has it to the file that it means; the path itself where there is none.

    Beside the exact name it finds one in another normal form or with other slashes, one that differs in the case of letters,
    and for a name without the suffix of a picture the one picture that has it. The last two are counted in `found_as`.
    """
    known: dict[pathlib.Path, list[dict[str, str]]] = {}

    def match(place: pathlib.Path, part: str) -> tuple[str | None, str]:
        if place not in known:
            names = sorted(os.listdir(place)) if place.is_dir() else []
            pictures = [name for name in names if name.lower().endswith(SUFFIXES)]
            known[place] = [_index(names, _composed), _index(names, _folded), _index(pictures, _stem)]
        keys = (_composed(part), _folded(part), _folded(part))
        for index, key, way in zip(known[place], keys, ("", OTHER_CASE, NO_SUFFIX), strict=True):
            if name := index.get(key):
                return name, way
        return None, ""

    def find(text: str) -> str:
        path = folder / text
        if os.path.lexists(path):
            return str(path)
        if "\\" in text:
            return find(text.replace("\\", "/"))
        found, ways = pathlib.Path(path.anchor), {""}
        for part in path.parts[1 if path.anchor else 0 :]:
            name, way = (part, "") if os.path.lexists(found / part) else match(found, part)
            if name is None:
                return str(path)
            found = found / name
            ways.add(way)
        found_as.update(ways - {""})
        return str(found)

    return find


def _index(names: Sequence[str], key: Callable[[str], str]) -> dict[str, str]:
    """{key of a name: the name} of the keys that one name alone has."""
    counts = Counter(map(key, names))
    return {key(name): name for name in names if counts[key(name)] == 1}


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    return _composed(name).casefold()


def _stem(name: str) -> str:
    return _folded(pathlib.PurePath(name).stem)


def files_below(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files in a folder and below it in order of their paths, also in linked folders, each folder once; no hidden ones."""
    found: list[pathlib.Path] = []
    seen: set[str] = set()
    for place, names, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            names.clear()
            continue
        seen.add(real)
        found += [pathlib.Path(place, name) for name in files if not name.startswith(".")]
    return sorted(found)


def left_out(others: Counter[str]) -> str:
    """The sentence on files that are no pictures, counted by suffix."""
    kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in others.most_common(4))
    files = (
        "1 file is left out, as it is no picture"
        if others.total() == 1
        else f"{others.total():,} files are left out, as they are no pictures"
    )
    return f"{files}: {kinds}"


def find_jpeg_end(encoded: bytes) -> int:
    """The position behind the end marker of a JPEG's first picture; 0 if it has no end.

    Segments are stepped over by their lengths, so that a thumbnail in one ends nothing. What follows the end, as a second
    picture or the video of a phone's "motion photo", is not looked at.
    """
    return next((at for marker, at in _jpeg_markers(encoded) if marker == _EOI), 0)


def lacks_jpeg_scans(encoded: bytes) -> bool:
    """Whether a colour of a JPEG is in none of its scans; `encoded` has an end."""
    colours, sent = set(), set()
    for marker, at in _jpeg_markers(encoded):
        body = encoded[at : at + 2 + 3 * 255]
        if marker in _SOF:
            colours = set(body[8 : 8 + 3 * body[7] : 3])
        elif marker == _SOS:
            sent |= set(body[3 : 3 + 2 * body[2] : 2])
    return not colours <= sent


def is_progressive(encoded: bytes) -> bool:
    """Whether a JPEG is of another kind than baseline, whose scans send all of a block at once."""
    return any(marker in _SOF and marker not in (0xC0, 0xC1) for marker, _ in _jpeg_markers(encoded))


def _jpeg_markers(encoded: bytes) -> Iterator[tuple[int, int]]:
    """(marker, position behind it) of the first picture up to its end marker, or as far as they can be followed."""
    at = 2
    while found := _MARKER.search(encoded, at):
        marker, at = encoded[found.end() - 1], found.end()
        yield marker, at
        if marker == _EOI:
            return
        if marker not in _STANDALONE:
            at += max(int.from_bytes(encoded[at : at + 2], "big"), 2)


def clean_png(encoded: bytes) -> tuple[bytes, bool]:
    """(a PNG without what stands beside its picture, whether it is animated); raises `BadImage`.

    Kept are the chunks of the picture, its transparency and what may say which way is up; and all of an animation. Texts and
    colour profiles go, and any chunk beside the picture whose checksum is wrong. A chunk of the picture must be right.
    """
    kept, at, has_end = [_PNG_START], len(_PNG_START), False
    kinds: set[bytes] = set()
    while not has_end:
        length, kind = int.from_bytes(encoded[at : at + 4], "big"), encoded[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(encoded) or len(kind) < 4:
            raise BadImage("cut_file", f"PNG of {len(encoded)} bytes without its end marker")
        is_right = zlib.crc32(encoded[at + 4 : end - 4]) == int.from_bytes(encoded[end - 4 : end], "big")
        if not kind.isalpha() or (kind[:1].isupper() and not (is_right and kind in _CRITICAL)):
            fault = "is unknown" if is_right else "has a wrong checksum"
            raise BadImage("corrupt_file", f"the chunk {kind.decode('latin-1')!r} at byte {at} {fault}")
        if kind in _CRITICAL or (is_right and _says_something(kind, encoded[at + 8 : min(end - 4, at + 8 + 64)], length)):
            kept.append(encoded[at:end])
            kinds.add(kind)
        has_end, at = kind == b"IEND", end
    return b"".join(kept), b"acTL" in kinds


def _says_something(kind: bytes, start: bytes, length: int) -> bool:
    """Whether a chunk beside the picture matters for it."""
    if kind in (b"eXIf", b"iTXt"):
        return length <= _MAX_METADATA_BYTES and (kind == b"eXIf" or start.startswith(_XMP))
    return kind == b"tRNS" or kind in _ANIMATION


def pad_scan(encoded: bytes, end: int) -> bytes:
    """A JPEG with bytes put in front of its end marker: a decoder uses them only where the data of the picture has run out."""
    data = encoded[: end - 1].rstrip(b"\xff")  # a marker may begin with several
    return data + _PADDING + encoded[len(data) : end]


_PADDING = bytes(range(1, 0xFF)) * 8
