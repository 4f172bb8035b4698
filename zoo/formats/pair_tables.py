"""Pairs in tables with their pictures inside: Parquet, and Arrow as `datasets` saves it.

Two layouts are known: a row a pair with two pictures and a truth (image1, image2, target), and, as CVLface hands out
its evaluation sets, a row a picture, two by two (image, is_same).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError

FIRST = ("image1", "image_1", "img1", "image_a", "first", "a")
SECOND = ("image2", "image_2", "img2", "image_b", "second", "b")
TRUTH = ("is_same", "issame", "same", "target", "label", "pair_label")
"""The names that columns may have; the first one present counts."""
HUB = "hf://datasets/"
FETCHED = ("parquet", "arrow", "json", "bin", "csv", "txt", "zip", "tar")


def is_pair_table(folder: Path, files: Sequence[str]) -> bool:
    """Whether a folder holds what `datasets` saves to disk."""
    return {"dataset_info.json", "state.json"} <= set(files)


def read_pair_table(path: Path) -> tuple[list[bytes], npt.NDArray[np.bool_], dict[str, list[Any]]]:
    """The encoded pictures (2 · pairs), whether each pair shows one person, and the other columns by their names.

    `path` is a .parquet file, a folder of them, or a folder that `datasets` saved to disk. InputError for tables
    without such columns, and for cells that are no picture or no truth.
    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise InputError(f"reading {path} needs one more package: pip install 'timm-face-zoo[data]'") from None
    try:
        if path.is_file():
            table = parquet.read_table(path)
        elif files := sorted(path.rglob("*.parquet")):
            table = arrow.concat_tables([parquet.read_table(file) for file in files])
        else:
            maps = [arrow.memory_map(str(file)) for file in sorted(path.glob("*.arrow"))]
            table = arrow.concat_tables([arrow.ipc.open_stream(one).read_all() for one in maps])
    except (arrow.ArrowException, OSError) as error:
        raise InputError(f"expected a table of pairs in {path}, cannot read it ({error})") from None
    names = {name.lower(): name for name in table.column_names}
    first, second, truth = (next((names[n] for n in known if n in names), None) for known in (FIRST, SECOND, TRUTH))
    if truth is None or not ((first and second) or "image" in names):
        found = f"found {', '.join(table.column_names)}"
        raise InputError(f"expected columns image1, image2, target, or image, is_same in {path}, {found}")
    pictures = [first, second] if first and second else [names["image"]]
    cells = zip(*(table[name].to_pylist() for name in pictures), strict=True)
    images = [_picture(cell, path) for row in cells for cell in row]
    truths = table[truth].to_pylist()
    others = {name: table[name].to_pylist() for name in table.column_names if name not in (*pictures, truth, "index")}
    if len(pictures) == 1:
        if len(truths) % 2 or truths[0::2] != truths[1::2]:
            raise InputError(f"expected two rows a pair with one truth in {path}, found {len(truths)} that differ")
        truths, others = truths[0::2], {}
    if not truths or not set(truths) <= {0, 1}:
        raise InputError(f"expected 1 or 0 in the column {truth} of {path}, found {sorted(set(map(str, truths)))[:5]}")
    return images, np.array(truths, bool), others


def _picture(cell: Any, path: Path) -> bytes:
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(content, bytes):
        raise InputError(f"expected encoded pictures in {path}, found {type(content).__name__}; embed the files in it")
    return content


def fetch_dataset(address: str) -> Path:
    """The folder or file that hf://datasets/OWNER/NAME[@REVISION][/PATH] names, in the Hub client's cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    words = address.removeprefix(HUB).strip("/").split("/")
    if len(words) < 2 or not all(words):
        raise InputError(f"expected {HUB}OWNER/NAME[@REVISION][/PATH], found {address}")
    name, _, revision = words[1].partition("@")
    inside = "/".join(words[2:])
    wanted = [inside, f"{inside}/**"] if inside else [f"*.{kind}" for kind in FETCHED]
    try:
        found = snapshot_download(
            f"{words[0]}/{name}", repo_type="dataset", revision=revision or None, allow_patterns=wanted
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(f"cannot fetch {address}: {str(error).splitlines()[0]}") from None
    place = Path(found) / inside
    if not place.exists():
        raise InputError(f"expected {inside} in the dataset {words[0]}/{name}, found no such file; look at its page")
    return place
