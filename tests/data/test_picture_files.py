"""Files of pictures as they come from phones, browsers and editors: usable where every viewer opens them, else told why."""

import io
import os
import pathlib
import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image

from poster_jax import config as config_lib
from poster_jax import predict
from poster_jax.bench import mutations
from poster_jax.data import builder, catalog, images, listing, picture_files, places

SIZE = images.POSTER_SIZE
SAVE_AS = "save it as JPEG or PNG"


def scene(seed: int = 0, size: tuple[int, int] = SIZE) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (15, 10, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def encode(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes, wrong: bool = False) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + (zlib.crc32(kind + body) ^ wrong).to_bytes(4, "big")


def with_chunks(*chunks: bytes) -> bytes:
    """PNG with chunks behind its header."""
    return PNG[:33] + b"".join(chunks) + PNG[33:]


def with_orientation(kind: int, count: int, value: bytes) -> bytes:
    """JPEG with an EXIF block whose only entry is the orientation, of a type of TIFF 6.0 section 2."""
    beyond = value if len(value) > 4 else b""
    entry = struct.pack("<HHI", 0x0112, kind, count) + (struct.pack("<I", 26) if beyond else value.ljust(4, b"\0"))
    return encode(scene(), exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + bytes(4) + beyond)


def multi_picture() -> bytes:
    return encode(scene(), "MPO", save_all=True, append_images=[scene(1)])


JPEG, PNG = encode(scene()), encode(scene(), "PNG")
XMP = b"XML:com.adobe.xmp\0\0\0\0\0" + b'<x tiff:Orientation="6"/>'
USABLE = {
    "orientation ASCII": with_orientation(2, 2, b"6\0"),
    "orientation long ASCII": with_orientation(2, 11, b"Horizontal\0"),
    "orientation BYTE": with_orientation(1, 1, b"\x06"),
    "orientation UNDEFINED": with_orientation(7, 1, b"\x06"),
    "orientation RATIONAL": with_orientation(5, 1, struct.pack("<II", 6, 1)),
    "orientation 0": with_orientation(3, 1, b"\0\0"),
    "orientation 4711": with_orientation(3, 1, struct.pack("<H", 4711)),
    "orientation of no value": with_orientation(3, 0, b""),
    "bytes behind": JPEG + b"\0" * 500,
    "FF DA behind": JPEG + b"\xff\xda",
    "a video behind": JPEG + b"\0\0\0\x18ftypmp42" + os.urandom(5000) + b"\xff\xda\0\x0c",
    "a second picture behind": JPEG + JPEG,
    "a cut picture behind": JPEG + JPEG[: len(JPEG) // 2],
    "MPO": multi_picture(),
    "MPO whose second picture is cut": multi_picture()[:-1000],
    "MPO without its second picture": multi_picture()[: len(JPEG) + 200],
    "a cut thumbnail": encode(scene(), comment=JPEG[: len(JPEG) // 3]),
    "a large profile": encode(scene(), icc_profile=os.urandom(300_000)),
    "progressive": encode(scene(), progressive=True),
    "restart markers": encode(scene(), restart_marker_rows=1),
    "mid-grey": encode(Image.new("RGB", SIZE, (128, 128, 128))),
    "PNG, wrong checksum of a text": with_chunks(chunk(b"tEXt", b"Title\0a", wrong=True)),
    "PNG, wrong checksum of a time": with_chunks(chunk(b"tIME", bytes(7), wrong=True)),
    "PNG, wrong checksum of a transparent colour": with_chunks(chunk(b"tRNS", bytes(6), wrong=True)),
    "PNG, 4 MB of text": with_chunks(*[chunk(b"tEXt", b"Title\0" + b"a" * 1_000_000)] * 4),
    "PNG, 200 MB of packed text": with_chunks(*[chunk(b"zTXt", b"T\0\0" + zlib.compress(bytes(20 << 20)))] * 10),
    "PNG, packed text that is damaged": with_chunks(chunk(b"zTXt", b"T\0\0not zlib")),
    "PNG, large profile": with_chunks(chunk(b"iCCP", b"P\0\0" + zlib.compress(os.urandom(2 << 20)))),
    "PNG, damaged profile": with_chunks(chunk(b"iCCP", b"P\0\0not zlib")),
    "PNG, unknown chunk": with_chunks(chunk(b"prVt", b"anything")),
    "PNG, bytes behind": PNG + b"\xff" * 100,
    "PNG, the name of its end in a text": with_chunks(chunk(b"tEXt", b"Title\0IEND")),
}


@pytest.mark.parametrize("name", USABLE)
def test_what_every_viewer_opens_is_usable_and_both_decoders_agree_on_it(name: str) -> None:
    checked = images.check(USABLE[name])
    assert set(checked.repairs) <= {"other_format", "first_frame"} and (checked.width, checked.height) == SIZE
    ours = images.decode(checked.encoded, SIZE[::-1]).astype(int)
    right = np.full_like(ours, 128) if name == "mid-grey" else np.asarray(scene()).astype(int)
    assert np.abs(ours - right).mean() < (1 if name.startswith("PNG") else 8)
    theirs = mutations.decode_tensorflow(checked.encoded)
    assert theirs is not None and np.abs(ours - theirs).mean() < 1


def test_what_stands_behind_and_beside_a_picture_is_not_kept() -> None:
    assert images.check(USABLE["a video behind"]).encoded == JPEG
    assert images.check(USABLE["PNG, 4 MB of text"]).encoded == PNG
    assert images.check(with_chunks(chunk(b"tRNS", bytes(6)))).repairs == ("transparent",)


@pytest.mark.parametrize("kind", [3, 4])
def test_an_orientation_of_a_number_turns(kind: int) -> None:
    checked = images.check(with_orientation(kind, 1, b"\x06\0\0\0"))
    assert checked.repairs == ("turned", "resized") and (checked.width, checked.height) == SIZE[::-1]


def test_an_orientation_in_the_text_of_a_png_turns() -> None:
    assert images.check(with_chunks(chunk(b"iTXt", XMP))).repairs == ("turned", "resized")
    assert images.check(with_chunks(chunk(b"iTXt", XMP, wrong=True))).repairs == ()


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.98])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"quality": 30}, {"subsampling": 0}], ids=str
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_cut_with_an_end_marker_behind_is_told_as_cut(share: float, options: dict, mode: str) -> None:
    whole = encode(scene().convert(mode), **options)
    assert images.check(whole).content_hash
    with pytest.raises(images.BadImage) as raised:
        images.check(whole[: int(share * len(whole))] + b"\xff\xd9")
    assert raised.value.reason == "cut_file", raised.value


def test_a_jpeg_without_the_scan_of_a_colour_is_told_as_cut() -> None:
    """Three scans, one of each colour; the third goes."""
    whole = encode(scene(), progressive=True)
    scans = [at for marker, at in picture_files._jpeg_markers(whole) if marker == 0xDA]
    assert len(scans) > 2 and not picture_files.lacks_jpeg_scans(whole)
    header = whole[: scans[0] - 2]
    # The first scan is of all colours at once: it is made to name the first one twice.
    named = whole[scans[0] - 2 : scans[1] - 2].replace(b"\x03\x01\x00\x02", b"\x03\x01\x00\x01", 1)
    with pytest.raises(images.BadImage):
        images.check(header + named + b"\xff\xd9")


UNREAD = {
    "TIFF": (encode(scene(), "TIFF"), "a TIFF picture"),
    "BigTIFF": (b"II+\0\x08\0\0\0" + bytes(100), "a TIFF picture"),
    "AVIF": (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miafMA1B" + bytes(100), "an AVIF picture"),
    "AVIF by its second brand": (b"\0\0\0\x20ftypxxxx\0\0\0\0avifmif1miafMA1B" + bytes(100), "an AVIF picture"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), "a HEIC picture"),
    "HEIF": (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(100), "a HEIC picture"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9"></svg>', "an SVG drawing"),
    "SVG in XML": (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- made -->\n<svg></svg>', "an SVG drawing"),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3", "a PDF document"),
    "HTML": (b"\n<!DOCTYPE html><html><body>404</body></html>", "a web page"),
    "JPEG XL": (b"\xff\x0a" + bytes(100), "a JPEG XL picture"),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100), "a JPEG 2000 picture"),
    "Photoshop": (b"8BPS\0\x01" + bytes(100), "a Photoshop file"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_other_formats_are_refused_by_their_name(name: str) -> None:
    encoded, called = UNREAD[name]
    with pytest.raises(images.BadImage) as raised:
        images.check(encoded)
    assert raised.value.reason == "not_an_image" and called in raised.value.detail and SAVE_AS in raised.value.detail


@pytest.mark.parametrize("kind", ["pipe", "device", "link to a device", "folder", "link to itself", "NUL", "too long"])
def test_what_is_no_file_is_refused_without_being_read(kind: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.jpg"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind.startswith("link"):
        path.symlink_to("/dev/zero" if "device" in kind else path)
    given = {"device": "/dev/zero", "NUL": f"{path}\0", "too long": f"{tmp_path}/{'a' * 300}.jpg"}.get(kind, str(path))
    found: list[object] = []

    def attempt() -> None:
        try:
            found.append(catalog.load_checked(given))
        except images.BadImage as error:
            found.append(error)
        found.append(places._digest_file(given))

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive() and len(found) == 2, "it waits for the file's end"
    assert isinstance(found[0], images.BadImage) and found[0].reason == "unreadable_file", found[0]


def test_a_pipe_and_a_device_are_not_even_opened(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(picture_files.os, "open", lambda *_: pytest.fail("opened"))
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(images.BadImage, match="unreadable_file"):
            picture_files.read(path)


def test_a_file_beyond_the_largest_picture_is_refused(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").write_bytes(JPEG)
    monkeypatch.setattr(picture_files, "MAX_FILE_BYTES", len(JPEG))
    assert catalog.load_checked(tmp_path / "a.jpg").encoded == JPEG
    monkeypatch.setattr(picture_files, "MAX_FILE_BYTES", len(JPEG) - 1)
    with pytest.raises(images.BadImage, match="too_large"):
        catalog.load_checked(tmp_path / "a.jpg")


def test_training_and_predict_take_the_same_files_of_a_folder(tmp_path: pathlib.Path) -> None:
    """By content where the name says nothing, in linked folders once, and every other file is counted."""
    folder, beside = tmp_path / "set" / "Drama", tmp_path / "beside"
    for place in (folder, folder / "deep", tmp_path / "set" / "Crime", beside):
        place.mkdir(parents=True)
    files = {name: encode(scene(number)) for number, name in enumerate(("a.jpg", "b.JPG", "c.jfif", "d.jpe", "e", "f.img"))}
    files |= {"g.png": encode(scene(10), "PNG"), "h.GIF": encode(scene(11), "GIF"), "i.webp": encode(scene(12), "WEBP")}
    files |= {"j.bmp": encode(scene(13), "BMP"), "deep/k.jpeg": encode(scene(14)), "-l.jpg": encode(scene(15))}
    files |= {"\udcffm.jpg": encode(scene(16)), "n\n.jpg": encode(scene(17))}
    unread = {
        name: UNREAD[kind][0] for name, kind in (("o.tif", "TIFF"), ("p.avif", "AVIF"), ("q.heic", "HEIC"), ("r.svg", "SVG"))
    }
    other = {"s.pdf": UNREAD["PDF"][0], "t.html": UNREAD["HTML"][0], "u.txt": b"BM is no picture", "v": b"", ".w.jpg": JPEG}
    for name, encoded in (files | unread | other).items():
        (folder / name).write_bytes(encoded)
    (beside / "x.jpg").write_bytes(encode(scene(20)))
    (tmp_path / "set" / "Crime" / "y.jpg").write_bytes(encode(scene(21)))
    os.mkfifo(folder / "z.jpg")
    (folder / "linked").symlink_to(beside)
    (folder / "round").symlink_to(folder)

    listed = listing.read_folder(tmp_path / "set")
    trained = {os.path.relpath(movie.path, folder) for movie in listed.movies if movie.genres == ["Drama"]}
    assert trained == {*files, *unread, "linked/x.jpg", "z.jpg"}
    assert any("4 files are left out, as they are no pictures: 1 .pdf, 1 .html, 1 .txt" in note for note in listed.notes)
    found, others = predict.list_pictures([folder])
    assert {os.path.relpath(path, folder) for path in found} == trained and others.total() == 4

    data = config_lib.base().data
    data.variant, data.dir, data.cache_dir = "folder", str(tmp_path / "set"), str(tmp_path / "cache")
    source = builder.load_source(data)
    assert len(source.table) == len(files) + 2
    told = source.refused["detail"].tolist()
    assert len(told) == len(unread) + 1 and sum(SAVE_AS in each for each in told) == len(unread)


@pytest.mark.parametrize("kind", mutations.FORMATS)
def test_a_hundred_damaged_pictures_get_the_verdict_of_the_decoders(kind: str) -> None:
    found = mutations.run(kind, 100, seed=1)
    assert not [f"{what}: {verdict.fault}" for what, verdict in found if verdict.fault]
    kept = [verdict for _, verdict in found if not verdict.ours]
    assert 5 < len(kept) < 95 and any(verdict.pillow for verdict in kept)


def test_the_comparison_sees_a_wrong_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = mutations.make_pictures("JPEG")[0]
    assert mutations.judge(whole).fault == ""

    def refuse(encoded: bytes) -> images.CheckedImage:
        raise images.BadImage("corrupt_file", "for no reason")

    other = images.check(mutations.make_pictures("PNG")[0])
    for check, says in (
        (refuse, "both decoders accept"),
        (lambda _: images.CheckedImage(b"no picture", 9, 9, (), "", 0, b""), "neither"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(mutations.images, "check", check)
            assert says in mutations.judge(whole if check is refuse else b"no picture").fault
    with monkeypatch.context() as patch:
        patch.setattr(mutations.images, "decode", lambda *_: np.zeros((other.height, other.width, 3), np.uint8))
        assert "differ" in mutations.judge(whole).fault
