"""Photos as cameras, phones and scanners write them: what `images` reads, and TIFF, GIF, AVIF and HEIC."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from zoo.errors import InputError
from zoo.formats.images import SUFFIXES as IMAGE_SUFFIXES
from zoo.formats.images import Image, decode, decode_by_cv2, header, sane_size
from zoo.formats.images import printable as printable
from zoo.formats.images import read_file as read_file

SUFFIXES = (*IMAGE_SUFFIXES, ".tif", ".tiff", ".gif", ".avif", ".heic", ".heif")
"""The file names that count as photos in a folder, compared in lower case."""


def read_photo(path: str | Path) -> Image:
    """The upright photo in the file at `path`: RGB uint8 (height, width, 3); InputError where there is none."""
    return decode_photo(read_file(path), printable(path))


def decode_photo(content: bytes, name: str) -> Image:
    """The upright photo in `content`: RGB uint8 (height, width, 3).

    HEIC needs the extra `heic`. InputError, naming `name`, as `images.decode` has it.
    """
    kind = _kind(content)
    if kind is None:
        return decode(content, name)
    if kind == "HEIC":
        return _decode_heic(content, name)
    with _silence():
        found = header(content, name, (kind,))
    if found is None:
        raise InputError(f"expected a {kind} picture in {name}, found a damaged one; fetch it again")
    if kind == "TIFF" and found[2]:
        return _decode_by_pillow(content, kind, name)  # cv2 gives colours that alpha has darkened
    return decode_by_cv2(content, name, f"{kind} picture")


def _kind(content: bytes) -> str | None:
    if content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if content[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if content[4:8] == b"ftyp":
        brands = {content[8:12]} | {content[i : i + 4] for i in range(16, min(64, len(content)), 4)}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1"}:
            return "HEIC"
    return None


def _decode_by_pillow(content: bytes, kind: str, name: str) -> Image:
    from PIL import Image as PillowImage
    from PIL import ImageOps

    try:
        with _silence(), PillowImage.open(io.BytesIO(content)) as photo:
            return np.asarray(ImageOps.exif_transpose(photo).convert("RGB"), np.uint8)
    except (OSError, ValueError) as error:
        raise InputError(
            f"expected a {kind} picture in {name}, found a damaged one ({error}); fetch it again"
        ) from None


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Pillow warns of what it goes on to raise or to mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _decode_heic(content: bytes, name: str) -> Image:
    try:
        import pillow_heif
    except ImportError:
        raise InputError(
            f"reading the HEIC picture {name} needs one more package: pip install 'timm-face-zoo[heic]',"
            " or convert the picture to JPEG"
        ) from None
    try:
        photo = pillow_heif.open_heif(content, convert_hdr_to_8bit=True)
        width, height = photo.size
        sane_size(height, width, name)
        pixels = np.asarray(photo.to_pillow().convert("RGB"), np.uint8)  # libheif has turned it upright
    except InputError:
        raise
    except (ValueError, OSError, EOFError, RuntimeError) as error:
        raise InputError(
            f"expected a HEIC picture in {name}, found a damaged one ({' '.join(str(error).split())})"
        ) from None
    return pixels
