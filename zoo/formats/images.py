"""Encoded pictures to RGB arrays and back; whatever is not a whole picture of a sane size is refused by name."""

import io
import os
import stat
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from zoo.errors import InputError

if "OPENCV_LOG_LEVEL" not in os.environ:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # `decode` raises what it logs

Image = npt.NDArray[np.uint8]  #: One picture: RGB uint8 of shape (height, width, 3)

MAX_PIXELS = 100_000_000  #: A header that announces more pixels is refused before any of them is unpacked

_EXIF = b"Exif\0\0"
_SCAN = b"\xff\xda"  #: The marker of a JPEG's pixels, where its header ends

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff")
"""What counts as a picture, in lower case. TIFF is read by `photos.decode_photo` alone."""


def decode(content: bytes, name: str, most: int = MAX_PIXELS, damage: list[str] | None = None) -> Image:
    """The picture in `content` (JPEG, PNG, WebP, BMP, PPM or PGM): RGB uint8 of shape (height, width, 3).

    An EXIF orientation is applied, CMYK is converted, grey is repeated, 16 bits become their upper 8 and an
    alpha channel is dropped. InputError, naming `name`, for anything else: another format, a truncated file, or a
    header that announces no pixel or more than `most`. A damaged JPEG that can be read nevertheless adds a sentence to
    `damage`, where given.
    """
    if _size(content, name, most) is None:
        found = "an empty file" if not content else f"{len(content):,} bytes that begin with {bytes(content[:8])!r}"
        what = f"PGM picture in {name} (photo commands also read TIFF, GIF, AVIF and HEIC), found {found}; convert it"
        raise InputError(f"expected a JPEG, PNG, WebP, BMP, PPM or {what}")
    if content[:2] == b"\xff\xd8":
        turned = _may_be_turned(content)
        try:
            if not turned:
                plain: Image = simplejpeg.decode_jpeg(content, "RGB")
                return plain
            if damage is not None:
                simplejpeg.decode_jpeg(
                    content, "GRAY", min_height=1, min_width=1
                )  # an eighth, to see whether it is whole
        except ValueError:  # small damage that cv2 mends
            if damage is not None:
                damage.append(f"{name} is a damaged JPEG: what could be read of it was used; fetch it again")
        if content.rfind(b"\xff\xd9") < content.find(_SCAN):
            told = "found one that ends before its end marker; fetch it again"
            raise InputError(f"expected a whole JPEG in {name}, {told}")
    try:
        bgr = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise InputError(f"expected a picture in {name}, found a damaged one ({error.err}); fetch it again") from None
    if bgr is None:
        raise InputError(f"expected a picture in {name}, found a damaged or rare one; convert it to PNG")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr)  # type: ignore[return-value]  # cv2's stubs know no dtype


def decode_into(content: bytes, out: Image) -> bool:
    """Unpacks an upright JPEG of `out`'s size straight into `out`, RGB uint8 (height, width, 3), contiguous.

    False for anything else, damage included, with `out` left undefined: `decode` reads it or says what is wrong. What
    the header announces costs no memory, as `out` is all there is.
    """
    if _may_be_turned(content):
        return False
    try:
        image = simplejpeg.decode_jpeg(content, "RGB", buffer=out)
    except ValueError:
        return False
    return bool(image.shape == out.shape)


def read_image(path: str | Path) -> Image:
    """The picture in the file at `path`, as `decode` returns it; InputError where there is none."""
    return decode(read_file(path), printable(path))


def read_file(path: str | Path) -> bytes:
    """The content of a regular file; InputError for what is missing, a folder, or a pipe that would wait for ever."""
    name = printable(path)
    if "\0" in name:
        raise InputError(f"expected a path, found {name!r}, which no file can have")
    try:
        kind = os.stat(path).st_mode
        if stat.S_ISREG(kind):
            return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"expected a picture at {name}, cannot read it ({error.strerror}); check the path") from None
    what = "a folder" if stat.S_ISDIR(kind) else "a pipe or a device"
    raise InputError(f"expected a picture file at {name}, found {what}; name a file")


def printable(path: str | Path) -> str:
    """A path as text that any terminal and any UTF-8 file can hold: bytes that are no UTF-8 become \\xNN.

    >>> printable("caf\\udce9.jpg")
    'caf\\\\xe9.jpg'
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def resized(image: Image, size: tuple[int, int], bilinear: bool = False) -> Image:
    """`image` at `size`, (height, width); the array itself where it has that size.

    Where both sides shrink, pixels are averaged by area, else interpolated linearly. `bilinear` interpolates always,
    as the definition of a benchmark may have it.
    """
    height, width = size
    if image.shape[:2] == size:
        return image
    shrinks = image.shape[0] > height and image.shape[1] > width and not bilinear
    found = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return found  # type: ignore[return-value]  # cv2's stubs know no dtype


def squared(image: Image) -> Image:
    """`image` in the middle of a black square as long as its longer side; the array itself where it is one."""
    height, width = image.shape[:2]
    if height == width:
        return image
    side = max(height, width)
    square = np.zeros((side, side, 3), np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = image
    return square


def resized_crops(
    crops: Image, size: tuple[int, int], model: str | Path, strict: bool = False
) -> tuple[npt.NDArray[np.uint8], str]:
    """Crops (batch, H, W, 3) at `size`, the input of `model`, and a note that says so; empty where they fit.

    InputError for crops of another size where `strict` refuses to resize them.
    """
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:3] == size or not len(crops):
        return crops, ""
    found, taken = (f"{width}×{height}" for height, width in (crops.shape[1:3], size))
    if strict:
        advice = "leave out --strict to resize the crops"
        raise InputError(f"expected a model for crops of {found}, {model} takes {taken}; {advice}")
    note = f"the crops are {found}, the model's input {taken}: resized"
    return np.stack([resized(crop, size) for crop in crops]), note


def encode_jpeg(image: Image, quality: int = 95) -> bytes:
    """`image`, RGB uint8 of shape (height, width, 3), as a JPEG file."""
    return _encode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])


def encode_png(image: Image) -> bytes:
    """`image`, RGB uint8 of shape (height, width, 3), as a PNG file, which loses nothing."""
    return _encode(".png", image, [])


def _encode(suffix: str, image: Image, options: list[int]) -> bytes:
    done, encoded = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    assert done, f"cv2 could not write {suffix} from an array of shape {image.shape}"
    return encoded.tobytes()


def suffix_of(content: bytes) -> str:
    """The file name's ending that fits an encoded picture, ".jpg" for a JPEG; ".bin" for what `decode` refuses."""
    tiff = (b"II*\0", ".tif"), (b"MM\0*", ".tif")
    for magic, suffix in ((b"\xff\xd8", ".jpg"), (b"\x89PNG", ".png"), (b"RIFF", ".webp"), (b"BM", ".bmp"), *tiff):
        if content.startswith(magic):
            return suffix
    return {b"P5": ".pgm", b"P6": ".ppm"}.get(bytes(content[:2]), ".bin")


def _size(content: bytes, name: str, most: int) -> tuple[int, int] | None:
    """(height, width) as the header states them, or None where it is not the header of a known format.

    No pixel is unpacked: cv2 has no such question, and by itself it would allocate gigabytes for a forged header.
    """
    if content[:2] == b"\xff\xd8":
        try:
            height, width, *_ = simplejpeg.decode_jpeg_header(content)
        except ValueError:
            return None
        return sane_size(height, width, name, most)
    from PIL import Image as Pillow

    try:
        with Pillow.open(io.BytesIO(content), formats=("PNG", "WEBP", "BMP", "PPM")) as found:
            size = found.height, found.width
    except Pillow.DecompressionBombError:
        raise too_large(name, "more", most) from None
    except (OSError, ValueError):
        return None
    return sane_size(*size, name, most)


def sane_size(height: int, width: int, name: str, most: int = MAX_PIXELS) -> tuple[int, int]:
    """(height, width); InputError, naming `name`, where that is no pixel or more than `most`."""
    if not 0 < height * width <= most:
        raise too_large(name, f"{width:,}×{height:,}", most)
    return height, width


def too_large(name: str, announced: str, most: int = MAX_PIXELS) -> InputError:
    """The error for a header that announces more than `most` pixels, or none."""
    told = f"its header announces {announced}; leave it out or scale it down"
    return InputError(f"expected a picture of at most {most:,} pixels in {name}, {told}")


def _may_be_turned(content: bytes) -> bool:
    """Whether a JPEG's header has an EXIF block: simplejpeg unpacks the others, faster than cv2 and to the same pixels.

    Only the header is searched, as the loader asks this of every picture. The blocks before the tables are stepped
    over, as one may hold a thumbnail with a scan of its own; behind them the first scan ends the header.
    """
    position = 2
    while b"\xff\xe0" <= content[position : position + 2] < b"\xff\xff":
        if content[position + 4 : position + 10] == _EXIF:
            return True
        position += 2 + int.from_bytes(content[position + 2 : position + 4])
    return content.find(_EXIF, position, content.find(_SCAN, position)) >= 0
