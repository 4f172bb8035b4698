"""Decoding against Pillow, and every way in which a picture can be none."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from tests.support.memory import growth
from zoo.errors import InputError
from zoo.formats.images import (
    decode,
    decode_into,
    encode_jpeg,
    encode_png,
    read_image,
    resized,
    resized_crops,
    suffix_of,
)


def picture(height: int = 37, width: int = 53, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.5)


def pillow(content: bytes) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(content)).convert("RGB"))


def saved(image: np.ndarray, format: str, mode: str = "RGB", **options) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(image).convert(mode).save(file, format, **options)
    return file.getvalue()


def closeness(a: np.ndarray, b: np.ndarray) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@pytest.mark.parametrize("format", ["PNG", "BMP", "PPM"])
def test_a_lossless_format_gives_the_pixels_that_were_saved(format):
    assert np.array_equal(decode(saved(picture(), format), "x"), picture())


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 40}])
def test_a_jpeg_is_decoded_as_pillow_decodes_it(options):
    content = saved(picture(), "JPEG", **options)
    assert closeness(decode(content, "x"), pillow(content)) <= 2  # the inverse DCT rounds; upsampling of colour too


JPEGS = {
    "plain": {},
    "progressive": {"progressive": True},
    "whole colour": {"subsampling": 0},
    "low quality": {"quality": 20},
    "restarts": {"restart_marker_blocks": 3},
    "grey": {"mode": "L"},
    "CMYK": {"mode": "CMYK"},
}


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("shape", [(112, 112), (37, 53), (1, 1), (8, 17)])
def test_simplejpeg_and_cv2_unpack_the_same_pixels(kind, shape):
    content = saved(picture(*shape), "JPEG", **JPEGS[kind])
    bgr = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    out = np.empty((*shape, 3), np.uint8)
    assert np.array_equal(decode(content, "x"), bgr[..., ::-1])
    assert decode_into(content, out) and np.array_equal(out, bgr[..., ::-1])


def test_only_an_upright_whole_jpeg_of_that_size_goes_straight_into_memory():
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    content = saved(picture(), "JPEG")
    others = {
        "turned": saved(picture(), "JPEG", exif=exif),
        "PNG": saved(picture(), "PNG"),
        "larger": saved(picture(38, 53), "JPEG"),
        "smaller": saved(picture(36, 53), "JPEG"),
        "turned size": saved(picture(53, 37), "JPEG"),
        "cut": content[:-9],
        "without its end mark": content[:-2],
        "text": b"text",
        "empty": b"",
    }
    out = np.zeros((37, 53, 3), np.uint8)
    assert decode_into(content, out)
    for name, other in others.items():
        assert not decode_into(other, out), name


def test_webp_is_decoded_as_pillow_decodes_it():
    for lossless in (False, True):
        content = saved(picture(), "WEBP", lossless=lossless)
        assert closeness(decode(content, "x"), pillow(content)) <= 1


def test_cmyk_becomes_the_rgb_that_pillow_makes_of_it():
    content = saved(picture(), "JPEG", "CMYK", quality=98)
    assert closeness(decode(content, "x"), pillow(content)) <= 2


def test_grey_one_bit_and_palette_pictures_have_three_channels():
    for mode in ("L", "1", "P"):
        content = saved(picture(), "PNG", mode)
        assert np.array_equal(decode(content, "x"), pillow(content))


def test_sixteen_bits_keep_their_upper_eight():
    deep = np.random.default_rng(1).integers(0, 65536, (9, 7, 3)).astype(np.uint16)
    for pixels in (deep, deep[..., 0]):
        found = decode(cv2.imencode(".png", pixels)[1].tobytes(), "x")
        assert np.array_equal(found, np.broadcast_to((pixels >> 8).reshape(9, 7, -1)[..., ::-1], (9, 7, 3)))


def test_an_alpha_channel_is_dropped():
    alpha = np.dstack([picture(), np.full((37, 53), 7, np.uint8)])
    assert np.array_equal(decode(saved(alpha, "PNG", "RGBA"), "x"), picture())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_exif_orientation_is_applied(orientation):
    exif = PIL.Image.Exif()
    exif[0x112] = orientation
    content = saved(picture(), "JPEG", exif=exif, quality=98)
    upright = pillow(saved(picture(), "JPEG", quality=98))
    expected = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright[::-1].transpose(1, 0, 2),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: upright.transpose(1, 0, 2)[::-1],
    }[orientation]
    assert closeness(decode(content, "x"), expected) <= 2


def segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(payload)) + payload


def turned(before: bytes = b"", at_tables: bool = False) -> bytes:
    """A JPEG that lies on its side; `before` stands before its EXIF block, which may stand behind a table."""
    exif = PIL.Image.Exif()
    exif[0x112] = 6
    plain = saved(picture(), "JPEG")
    tables = plain.index(b"\xff\xdb")
    place = tables + 2 + int.from_bytes(plain[tables + 2 : tables + 4]) if at_tables else tables
    return plain[:place] + before + segment(0xE1, exif.tobytes()) + plain[place:]


@pytest.mark.parametrize(
    ("before", "at_tables"),
    [
        (b"", False),
        (b"", True),
        (b"\xff", False),  # a fill byte
        (segment(0xFE, b"a comment"), False),
        (segment(0xED, b"8BIM" + saved(picture(8, 8), "JPEG")), False),  # a thumbnail, which has a scan of its own
        (segment(0xE2, b"ICC_PROFILE\0\1\1" + b"\xff\xda" * 9), False),
    ],
    ids=["first", "behind a table", "fill byte", "comment", "thumbnail", "profile"],
)
def test_an_exif_block_is_found_wherever_it_stands_in_the_header(before, at_tables):
    content = turned(before, at_tables)
    upright = decode(content, "x")
    assert upright.shape == (53, 37, 3)
    assert closeness(upright, decode(saved(picture(), "JPEG"), "x")[::-1].transpose(1, 0, 2)) <= 2
    assert not decode_into(content, np.empty((37, 53, 3), np.uint8))


def test_the_letters_of_exif_among_the_pixels_turn_nothing():
    out = np.empty((37, 53, 3), np.uint8)
    assert decode_into(saved(picture(), "JPEG") + b"Exif\0\0", out)
    assert np.array_equal(out, decode(saved(picture(), "JPEG"), "x"))


@pytest.mark.parametrize("length", [2, 3, 4, 11, 19, 21])
def test_a_header_that_breaks_off_is_refused(length):
    with pytest.raises(InputError, match="picture in x"):
        decode(turned()[:length], "x")


def test_one_pixel_is_a_picture():
    assert decode(encode_png(picture(1, 1)), "x").shape == (1, 1, 3)


def test_encoding_keeps_red_red():
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 250
    for encode, suffix in ((encode_png, ".png"), (encode_jpeg, ".jpg")):
        assert closeness(decode(encode(red), "x"), red) <= 3
        assert suffix_of(encode(red)) == suffix


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".ppm"])
def test_every_truncation_is_refused_by_name(suffix):
    content = cv2.imencode(suffix, picture(11, 13))[1].tobytes()
    decode(content, "x")
    for length in range(len(content)):
        with pytest.raises(InputError, match="at the place"):
            decode(content[:length], "at the place")


@pytest.mark.parametrize("content", [b"", b"\n", b"a text that is no picture", b"\xff\xd8", b"P6", b"%PDF-1.7" * 99])
def test_what_is_no_picture_is_refused_by_name(content):
    with pytest.raises(InputError, match="the name"):
        decode(content, "the name")


def bombs() -> dict[str, bytes]:
    side = 60_000

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    jpeg = encode_jpeg(picture())
    frame = jpeg.index(b"\xff\xc0")
    bmp = saved(picture(), "BMP")
    webp = saved(picture(), "WEBP", lossless=True)
    return {
        "png": b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
        + chunk(b"IEND", b""),
        "jpeg": jpeg[: frame + 5] + struct.pack(">HH", side, side) + jpeg[frame + 9 :],
        "bmp": bmp[:18] + struct.pack("<ii", side, -side) + bmp[26:],
        "webp": webp[:21] + struct.pack("<I", 16_382 << 14 | 16_382) + webp[25:],
        "ppm": b"P6\n# a comment\n60000 60000\n255\n" + bytes(1000),
    }


@pytest.mark.parametrize("kind", bombs())
def test_a_bomb_is_refused_by_its_header(kind):
    with pytest.raises(InputError, match=r"bomb\.file, its header announces"):
        decode(bombs()[kind], "bomb.file")


def test_refusing_a_bomb_takes_no_memory(tmp_path):
    (tmp_path / "bomb.png").write_bytes(bombs()["png"])
    taken = growth(
        "from zoo.errors import InputError; from zoo.formats.images import read_image",
        f"try:\n    read_image({str(tmp_path / 'bomb.png')!r})\nexcept InputError:\n    pass",
    )
    assert taken < 16 << 20  # the pixels would take 10 gigabytes


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"absent\.jpg, cannot read it"):
        read_image(tmp_path / "absent.jpg")


def test_real_photos_are_decoded_as_pillow_decodes_them(shared: Path):
    for path in sorted((shared / "photos").glob("person_*.jpg"))[:3]:
        assert np.abs(read_image(path).astype(float) - pillow(path.read_bytes())).mean() < 0.5


@pytest.mark.parametrize(
    ("before", "after", "averaged"),
    [((121, 97), (53, 45), True), ((50, 60), (112, 112), False), ((120, 50), (60, 60), False), ((9, 9), (9, 9), False)],
)
def test_pictures_that_shrink_are_averaged_and_others_interpolated(
    before: tuple[int, int], after: tuple[int, int], averaged: bool
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*before, 3), dtype=np.uint8)
    method = cv2.INTER_AREA if averaged else cv2.INTER_LINEAR
    expected = image if before == after else cv2.resize(image, after[::-1], interpolation=method)
    assert np.array_equal(resized(image, after), expected)
    linear = image if before == after else cv2.resize(image, after[::-1], interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(resized(image, after, bilinear=True), linear)
    assert np.array_equal(linear, expected) != averaged


def test_crops_of_another_size_are_resized_with_a_note_or_refused() -> None:
    crops = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    found, note = resized_crops(crops, (96, 80), "m.onnx")
    assert np.array_equal(found, np.stack([resized(crop, (96, 80)) for crop in crops]))
    assert note == "the crops are 112×112, the model's input 80×96: resized"
    same, silent = resized_crops(crops, (112, 112), "m.onnx", strict=True)
    assert same is crops and silent == ""
    with pytest.raises(InputError, match=r"expected a model for crops of 112×112, m\.onnx takes 80×96"):
        resized_crops(crops, (96, 80), "m.onnx", strict=True)
