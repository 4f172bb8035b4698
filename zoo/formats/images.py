"""Pictures and photos to RGB arrays and back; whatever is not a whole picture of a sane size is refused by name.

simplejpeg unpacks upright JPEGs, cv2 the others and PNG, WebP, BMP, PPM and PGM, and Pillow TIFF, GIF, AVIF and HEIC.
"""

import contextlib
import io
import os
import stat
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from zoo.errors import InputError, explained, needs

if "OPENCV_LOG_LEVEL" not in os.environ:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # `decode` raises what it logs

Image = npt.NDArray[np.uint8]  #: One picture: RGB uint8 of shape (height, width, 3)
MAX_PIXELS = 100_000_000  #: A header that announces more pixels is refused before any of them is unpacked
_EXIF = b"Exif\0\0"
_SCAN = b"\xff\xda"  #: The marker of a JPEG's pixels, where its header ends
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff")
"""What counts as a picture of a set, in lower case."""
PHOTO_SUFFIXES = (*SUFFIXES, ".gif", ".avif", ".heic", ".heif")  #: What counts as a photo in a folder, in lower case
_MAGIC = (
    *((b"\xff\xd8", "JPEG", ".jpg"), (b"\x89PNG", "PNG", ".png"), (b"RIFF", "WEBP", ".webp"), (b"BM", "BMP", ".bmp")),
    *((b"P%d" % number, "PPM", ".pgm" if number in (2, 5) else ".ppm") for number in range(1, 7)),
    *((magic, "TIFF", ".tif") for magic in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    *((b"GIF87a", "GIF", ".gif"), (b"GIF89a", "GIF", ".gif")),
)  #: What a picture begins with, Pillow's name of its format, and the ending that fits a file of it
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), ("AVIF", ".avif")),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1"), ("HEIF", ".heic")),
}  #: The same, by what a file with `ftyp` says that it is compatible with
_BY_CV2 = ("PNG", "WEBP", "BMP", "PPM")  #: What Pillow only tells the size of


def decode(content: bytes, name: str, most: int = MAX_PIXELS, damage: list[str] | None = None) -> Image:
    """The upright picture in `content`: RGB uint8 (height, width, 3).

    It may be a JPEG, PNG, WebP, BMP, PPM, PGM, TIFF, GIF, AVIF or, with the extra `heic`, HEIC. An EXIF orientation is
    applied, CMYK is converted, grey is repeated, 16 bits become their upper 8 and an alpha channel is dropped.
    InputError, naming `name`, for anything else: another format, a truncated file, or a header that announces no pixel
    or more than `most`. A damaged JPEG that can be read nevertheless adds a sentence to `damage`, where given.
    """
    kind, _ = _format(content)
    if not kind:
        found = "an empty file" if not content else f"{len(content):,} bytes that begin with {bytes(content[:8])!r}"
        known = "JPEG, PNG, WebP, BMP, PPM, PGM, TIFF, GIF, AVIF or HEIC"
        raise InputError(f"expected a {known} picture in {name}, found {found}; convert it")
    image = _by_simplejpeg(content, name, most, damage) if kind == "JPEG" else _by_pillow(content, kind, name, most)
    if image is not None:
        return image
    try:
        bgr = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise InputError(f"expected a picture in {name}, found a damaged one ({error.err}); fetch it again") from None
    if bgr is None:
        raise InputError(f"expected a picture in {name}, found a damaged or rare one; convert it to PNG")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr)  # type: ignore[return-value]  # cv2's stubs know no dtype


def _by_simplejpeg(content: bytes, name: str, most: int, damage: list[str] | None) -> Image | None:
    """A whole upright JPEG, faster than by cv2 and with the same pixels; None for one that cv2 turns or mends."""
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(content)
    except ValueError as error:
        raise _damaged("JPEG", name, error) from None
    _require_sane(height, width, name, most)
    try:
        if not _may_be_turned(content):
            return np.asarray(simplejpeg.decode_jpeg(content, "RGB"))
        if damage is not None:  # an eighth, to see whether it is whole
            simplejpeg.decode_jpeg(content, "GRAY", min_height=1, min_width=1)
    except ValueError:  # small damage that cv2 mends
        if damage is not None:
            damage.append(f"{name} is a damaged JPEG: what could be read of it was used; fetch it again")
    if content.rfind(b"\xff\xd9") < content.find(_SCAN):
        raise InputError(f"expected a whole JPEG in {name}, found one that ends before its end marker; fetch it again")
    return None


def _by_pillow(content: bytes, kind: str, name: str, most: int) -> Image | None:
    """Another format's picture; None for a sane size that cv2, which would allocate what a header says, may read."""
    from PIL import Image as Pillow

    if kind == "HEIF":
        with needs("pillow-heif", "heic", f"to read {name}, or the picture as a JPEG"):
            import pillow_heif

        pillow_heif.register_heif_opener()
    # Pillow warns of what it goes on to raise or to mend
    quiet = contextlib.nullcontext() if kind in _BY_CV2 else warnings.catch_warnings(action="ignore")
    try:
        with quiet, Pillow.open(io.BytesIO(content), formats=(kind,)) as photo:
            _require_sane(photo.height, photo.width, name, most)
            return None if kind in _BY_CV2 else upright(photo)
    except InputError:
        raise
    except Pillow.DecompressionBombError:
        raise _too_large(name, "more", most) from None
    except (OSError, ValueError, EOFError, RuntimeError, SyntaxError) as error:
        raise _damaged(kind, name, error) from None


def upright(photo: Any) -> Image:
    """A PIL image as its EXIF block turns it: RGB uint8 (height, width, 3)."""
    import PIL.ImageOps

    turned = PIL.ImageOps.exif_transpose(photo)
    if turned.mode.startswith("I;16"):  # Pillow would clip grey values of 16 bits at 255
        turned = PIL.Image.fromarray((np.asarray(turned) >> 8).astype(np.uint8))
    return np.asarray(turned.convert("RGB"), np.uint8)


def decode_into(content: bytes, out: Image) -> bool:
    """Unpacks an upright JPEG of `out`'s size straight into `out`, RGB uint8 (height, width, 3), contiguous.

    False for anything else, damage included, with `out` left undefined. What the header announces costs no memory.
    """
    if _may_be_turned(content):
        return False
    try:  # each picture of a training comes here: contextlib.suppress would take longer
        return bool(simplejpeg.decode_jpeg(content, "RGB", buffer=out).shape == out.shape)
    except ValueError:
        return False


def read_image(path: str | Path) -> Image:
    """The picture in the file at `path`, as `decode` returns it; InputError where there is none."""
    return decode(read_file(path), printable(path))


def read_file(path: str | Path) -> bytes:
    """The content of a regular file; InputError for what is missing, a folder, or a pipe that would wait for ever."""
    name = printable(path)
    if "\0" in name:
        raise InputError(f"expected a path, found {name!r}, which no file can have")
    with explained(f"expected a picture at {name}, cannot read it", OSError, advice="check the path"):
        kind = os.stat(path).st_mode
        if stat.S_ISREG(kind):
            return Path(path).read_bytes()
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

    Pixels are averaged by area where both sides shrink, else, and with `bilinear` always, interpolated linearly.
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
    top, left = (side - height) // 2, (side - width) // 2
    return np.pad(image, ((top, side - height - top), (left, side - width - left), (0, 0)))


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
        raise InputError(f"expected a model for crops of {found}, {model} takes {taken}; leave out --strict to resize")
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
    return _format(content)[1]


def _format(content: bytes) -> tuple[str, str]:
    """Pillow's name of a picture's format, empty for one that is not read, and the ending of a file's name."""
    for magic, kind, suffix in _MAGIC:
        if content.startswith(magic):
            return kind, suffix
    if content[4:8] == b"ftyp":
        brands = sorted([content[8:12], *(content[i : i + 4] for i in range(16, min(64, len(content)), 4))])
        return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), ("", ".bin"))
    return "", ".bin"


def _damaged(kind: str, name: str, error: Exception) -> InputError:
    why = " ".join(str(error).split()).partition(" <_io")[0]  # Pillow names the buffer
    found = f"found a damaged one or a rare variety of {kind} ({why}); fetch it again, or convert it to PNG"
    return InputError(f"expected a picture in {name}, {found}")


def _require_sane(height: int, width: int, name: str, most: int) -> None:
    if not 0 < height * width <= most:
        raise _too_large(name, f"{width:,}×{height:,}", most)


def _too_large(name: str, announced: str, most: int) -> InputError:
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
