"""Photos in every format people have, upright and in their own colours; and files that are no photo."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pillow_heif
import pytest
from PIL import Image as Pillow

from zoo.cli import main
from zoo.errors import InputError
from zoo.formats.images import decode, read_image
from zoo.recognition.verifier import FaceVerifier

pillow_heif.register_heif_opener()

Image = npt.NDArray[np.uint8]


def picture() -> Image:
    """Three fields, none alike in any channel: red above, blue below, green at the left; 64 × 96."""
    rgb = np.empty((64, 96, 3), np.uint8)
    rgb[:32], rgb[32:], rgb[:, :24] = (230, 40, 30), (30, 50, 220), (20, 190, 60)
    return rgb


def fields(image: Image) -> Image:
    """The three fields' colours."""
    height, width = image.shape[:2]
    return image[[height // 4, 3 * height // 4, height // 2], [2 * width // 3, 2 * width // 3, width // 8]]


def saved(format: str, change: Callable[[Pillow.Image], Pillow.Image] = lambda p: p, **options: Any) -> bytes:
    file = io.BytesIO()
    change(Pillow.fromarray(picture())).save(file, format, **options)
    return file.getvalue()


def with_alpha(image: Pillow.Image) -> Pillow.Image:
    image.putalpha(180)
    return image


def deep(suffix: str) -> bytes:
    return cv2.imencode(suffix, picture()[..., ::-1].astype(np.uint16) * 257)[1].tobytes()


COLOURED = {
    "jpeg": lambda: saved("JPEG", quality=98, subsampling=0),
    "jpeg progressive": lambda: saved("JPEG", quality=98, subsampling=0, progressive=True),
    "jpeg cmyk": lambda: saved("JPEG", lambda p: p.convert("CMYK"), quality=98),
    "png": lambda: saved("PNG"),
    "png alpha": lambda: saved("PNG", with_alpha),
    "png 16 bit": lambda: deep(".png"),
    "png palette": lambda: saved("PNG", lambda p: p.quantize(8)),
    "webp": lambda: saved("WEBP", lossless=True),
    "webp alpha": lambda: saved("WEBP", with_alpha, lossless=True),
    "tiff": lambda: saved("TIFF"),
    "tiff deflate": lambda: saved("TIFF", compression="tiff_deflate"),
    "tiff cmyk": lambda: saved("TIFF", lambda p: p.convert("CMYK")),
    "tiff alpha": lambda: saved("TIFF", with_alpha),
    "tiff 16 bit": lambda: deep(".tif"),
    "gif": lambda: saved("GIF"),
    "bmp": lambda: saved("BMP"),
    "heic": lambda: saved("HEIF", quality=98, chroma=444),
    "heic alpha": lambda: saved("HEIF", with_alpha, quality=98, chroma=444),
    **({"avif": lambda: saved("AVIF", quality=98)} if ".avif" in Pillow.registered_extensions() else {}),
}


@pytest.mark.parametrize("kind", COLOURED)
def test_colours_and_sides_survive_every_format(kind: str) -> None:
    image = decode(COLOURED[kind](), kind)
    assert image.dtype == np.uint8 and image.shape == picture().shape
    # a swap of red and blue moves a field by 190; lossy formats and palettes by less than 12
    assert np.abs(fields(image).astype(int) - fields(picture())).max() <= 12


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
def test_grey_pictures_become_three_equal_channels(format: str) -> None:
    image = decode(saved(format, lambda p: p.convert("L")), format)
    assert image.shape == picture().shape
    assert np.ptp(image, axis=2).max() == 0


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_undone(format: str, orientation: int) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    stored = {
        1: picture(),
        2: picture()[:, ::-1],
        3: picture()[::-1, ::-1],
        4: picture()[::-1],
        5: picture().transpose(1, 0, 2),
        6: np.rot90(picture(), 1),
        7: picture()[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(picture(), -1),
    }[orientation]
    file = io.BytesIO()
    options = {"quality": 98} if format == "JPEG" else {"lossless": True} if format == "WEBP" else {}
    Pillow.fromarray(np.ascontiguousarray(stored)).save(file, format, exif=exif, **options)
    image = decode(file.getvalue(), format)
    assert image.shape == picture().shape
    assert np.abs(fields(image).astype(int) - fields(picture())).max() <= 12


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", COLOURED)
def test_a_truncated_file_is_refused_or_shows_its_size(kind: str) -> None:
    content = COLOURED[kind]()
    for share in (0.02, 0.4, 0.8):
        try:
            image = decode(content[: int(len(content) * share)], "cut.file")
        except InputError as error:
            assert "cut.file" in str(error) and "\n" not in str(error)
        else:  # BMP, GIF and TIFF decoders fill what is missing
            assert image.shape == picture().shape


def test_a_truncated_jpeg_is_refused() -> None:
    content = saved("JPEG", quality=98)
    with pytest.raises(InputError, match=r"cut\.jpg"):
        decode(content[: len(content) // 2], "cut.jpg")


def test_a_header_that_announces_gigabytes_is_refused_before_any_is_taken() -> None:
    content = bytearray(saved("TIFF"))
    small = Pillow.open(io.BytesIO(bytes(content)))
    assert small.size == (96, 64)
    at = content.find(bytes([0x00, 0x01]) + bytes([4, 0]) if content[:2] == b"II" else b"\x01\x00")
    width = content.find((96).to_bytes(2, "little"), at)
    content[width : width + 2] = (65_000).to_bytes(2, "little")
    height = content.find((64).to_bytes(2, "little"), width)
    content[height : height + 2] = (65_000).to_bytes(2, "little")
    with pytest.raises(InputError, match=r"forged\.tif"):
        decode(bytes(content), "forged.tif")


def test_a_folder_a_pipe_and_a_missing_file_are_told_apart(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(InputError, match=r"pipe\.jpg, found a pipe"):
        read_image(tmp_path / "pipe.jpg")
    with pytest.raises(InputError, match="found a folder"):
        read_image(tmp_path)
    with pytest.raises(InputError, match="No such file"):
        read_image(tmp_path / "gone.jpg")
    with pytest.raises(InputError, match="which no file can have"):
        read_image("nul\0byte.jpg")


def test_without_pillow_heif_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    content = saved("HEIF")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(InputError, match=r"pip install 'timm-face-zoo\[heic\]'"):
        decode(content, "phone.heic")


@pytest.fixture(scope="module")
def real(shared: Path) -> FaceVerifier:
    models = shared / "models"
    return FaceVerifier(models / "mobilefacenet.onnx", models / "face_detection_yunet_2026may.onnx", threshold=0.35)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "GIF"])
def test_a_person_is_the_same_in_every_format(real: FaceVerifier, shared: Path, tmp_path: Path, format: str) -> None:
    photo = Pillow.open(shared / "photos" / "person_e_1.jpg")
    path = tmp_path / f"photo.{format.lower()}"
    photo.save(path, format)
    assert real.verify(shared / "photos" / "person_e_1.jpg", path).similarity > 0.9


def test_a_photo_lying_on_its_side_verifies_only_because_its_exif_is_read(
    real: FaceVerifier, shared: Path, tmp_path: Path
) -> None:
    photo = Pillow.open(shared / "photos" / "person_e_1.jpg")
    lying, exif = photo.rotate(90, expand=True), Pillow.Exif()
    exif[0x0112] = 6  # turn it clockwise by 90 degrees to see it upright
    lying.save(tmp_path / "lying.jpg", quality=95, exif=exif)
    answer = real.verify(shared / "photos" / "person_e_1.jpg", tmp_path / "lying.jpg")
    assert answer.same and answer.similarity > 0.98
    assert answer.b.size == photo.size[::-1]


def test_a_picture_of_twenty_thousand_pixels_is_searched(real: FaceVerifier, shared: Path, tmp_path: Path) -> None:
    face = read_image(shared / "photos" / "person_e_1.jpg")
    wide = np.full((900, 20_000, 3), 128, np.uint8)
    with pytest.raises(InputError, match="20000×900 pixels"):
        real.crop(wide)
    wide[:, 9_000:9_900] = face
    assert real.crop(wide).face is not None


def test_a_drawing_shows_no_face(real: FaceVerifier) -> None:
    paper = np.full((600, 600, 3), 255, np.uint8)
    cv2.line(paper, (100, 500), (500, 500), (0, 0, 0), 4)
    cv2.rectangle(paper, (200, 250), (400, 500), (0, 0, 0), 4)
    with pytest.raises(InputError, match="expected a face"):
        real.crop(paper)


def test_a_path_that_is_no_utf8_is_read_and_printed(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    with open(path, "wb") as file:
        file.write((shared / "photos" / "person_e_1.jpg").read_bytes())
    models = shared / "models"
    detector = str(models / "face_detection_yunet_2026may.onnx")
    words = ["--model", str(models / "mobilefacenet.onnx"), "--detector", detector, "--threshold", "0.3"]
    for extra in ([], ["--json"]):
        assert main(["verify", os.fsdecode(path), os.fsdecode(path), *words, *extra]) == 0
        assert "caf\\xe9.jpg" in capsys.readouterr().out.replace("\\\\", "\\").encode().decode()


@pytest.mark.parametrize("content", [b"II*\0" + b"x" * 99, b"GIF89a" + bytes(30), b"\0\0\0\x20ftypavif" + bytes(60)])
def test_a_damaged_file_is_told_by_its_name_and_not_by_a_buffer(content: bytes) -> None:
    with pytest.raises(InputError, match=r"in a\.x, found a damaged one") as caught:
        decode(content, "a.x")
    assert "<" not in str(caught.value) and " object at " not in str(caught.value)


def test_a_file_of_no_known_format_is_told_every_format() -> None:
    with pytest.raises(InputError) as caught:
        decode(b"text", "a.x")
    for name in ("JPEG", "PNG", "WebP", "BMP", "PPM", "PGM", "TIFF", "GIF", "AVIF", "HEIC"):
        assert name in str(caught.value)
