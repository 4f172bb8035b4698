"""Photos as cameras, phones and scanners write them: what `images` reads, and TIFF, GIF, AVIF and HEIC by Pillow."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import InputError, needs
from zoo.formats.images import MAX_PIXELS, Image, decode, printable, read_file, sane_size, too_large
from zoo.formats.images import SUFFIXES as IMAGE_SUFFIXES

SUFFIXES = (*IMAGE_SUFFIXES, ".gif", ".avif", ".heic", ".heif")
"""The file names that count as photos in a folder, compared in lower case."""


def read_photo(path: str | Path) -> Image:
    """The upright photo in the file at `path`: RGB uint8 (height, width, 3); InputError where there is none."""
    return decode_photo(read_file(path), printable(path))


def decode_photo(content: bytes, name: str, most: int = MAX_PIXELS, damage: list[str] | None = None) -> Image:
    """The upright photo in `content`: RGB uint8 (height, width, 3). `damage` is that of `images.decode`.

    HEIC needs the extra `heic`. InputError, naming `name`, as `images.decode` has it.
    """
    kind = _kind(content)
    if kind is None:
        return decode(content, name, most, damage)
    from PIL import Image as Pillow

    if kind == "HEIF":
        with needs("pillow-heif", "heic", f"to read {name}, or the picture as a JPEG"):
            import pillow_heif

        pillow_heif.register_heif_opener()
    try:
        # Pillow warns of what it goes on to raise or to mend
        with warnings.catch_warnings(action="ignore"), Pillow.open(io.BytesIO(content), formats=(kind,)) as photo:
            sane_size(photo.height, photo.width, name, most)
            return upright(photo)
    except InputError:
        raise
    except Pillow.DecompressionBombError:
        raise too_large(name, "more", most) from None
    except (OSError, ValueError, EOFError, RuntimeError, SyntaxError) as error:
        why = " ".join(str(error).split()).partition(" <_io")[0]  # Pillow names the buffer
        found = f"found a damaged one or a rare variety ({why}); fetch it again, or convert it to PNG"
        raise InputError(f"expected a picture of the format {kind} in {name}, {found}") from None


def upright(photo: Any) -> Image:
    """A PIL image as its EXIF block turns it: RGB uint8 (height, width, 3)."""
    from PIL import Image as Pillow
    from PIL import ImageOps

    turned = ImageOps.exif_transpose(photo)
    if turned.mode.startswith("I;16"):  # Pillow would clip grey values of 16 bits at 255
        turned = Pillow.fromarray((np.asarray(turned) >> 8).astype(np.uint8))
    return np.asarray(turned.convert("RGB"), np.uint8)


def _kind(content: bytes) -> str | None:
    """Pillow's name of the format; None for what `images` reads."""
    if content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if content[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if content[4:8] != b"ftyp":
        return None
    brands = {content[8:12]} | {content[i : i + 4] for i in range(16, min(64, len(content)), 4)}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    return "HEIF" if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1"} else None
