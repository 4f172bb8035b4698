"""Sets of several files: which of them are for training, and where what was found in one is kept."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from zoo.errors import InputError
from zoo.files import cache_folder


def index_file(shard: str, fields: tuple[str, str]) -> Path:
    """Where a shard's index is kept: by its path, and by what tells one state of a file from another."""
    facts = Path(shard).stat()
    state = f"{facts.st_size} {facts.st_mtime_ns} {fields[0]}?{fields[1]} {Path(shard).resolve()}"
    folder = cache_folder("shards")
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{hashlib.sha256(state.encode()).hexdigest()[:16]}-{Path(shard).stem}.json"


def training_files(files: Sequence[Path], split: str = "train") -> tuple[list[Path], list[str]]:
    """Those of a folder's tables or shards that are of a split, by their names, and a note of what is left out.

    train-00000-of-00007.parquet is of "train". Where no name begins with one of SPLITS, or all with the same, none is
    left out.
    """
    splits = {file: re.split(r"[-_.]", file.name.lower())[0] for file in files}
    if len({name if name in SPLITS else "" for name in splits.values()}) < 2:
        return list(files), []
    chosen = [file for file, name in splits.items() if name == split]
    if not chosen:
        raise InputError(
            f"expected files of the split {split} in {files[0].parent}, found {', '.join(sorted(set(splits.values())))}"
        )
    others = Counter(name for name in splits.values() if name != split)
    told = ", ".join(f"{count} of {name}" for name, count in others.items())
    return chosen, [f"files of other splits are left out: {told}"]


SPLITS = ("train", "validation", "valid", "val", "dev", "test")  #: How files begin that belong to a part of a set
