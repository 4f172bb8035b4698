"""Parquet files and Hugging Face datasets as training sets: a column of pictures and one of labels."""

import collections
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.base import EncodedFaces, contiguous
from zoo.data.shards import training_files
from zoo.errors import InputError
from zoo.formats.images import read_file
from zoo.formats.lists import choose

_OPEN_GROUPS = 18
"""Row groups that a process keeps in memory: those that the loader shuffles together, and the next ones."""


class ParquetDataset(EncodedFaces):
    """The rows of Parquet files with a column of encoded pictures (bytes, or the Hub's {bytes, path}) and a label.

    Opening reads the labels. A picture is read with its row group, of which a few stay in memory; the loader shuffles
    with that in mind. Needs pyarrow (the extra `data`). InputError for a file that is no Parquet or lacks the columns.
    """

    kind = "Parquet"

    def __init__(
        self,
        files: Sequence[str | Path],
        name: str,
        image_size: tuple[int, int] | None = (112, 112),
        split: str = "train",
        **columns: str,
    ) -> None:
        self.image_size, self.name = image_size, name
        self._files, self.notes = training_files([Path(file) for file in files], split)
        self._groups: list[tuple[int, int]] = []
        self._column: str | None = None
        self._reset()
        labels: list[Any] = []
        starts = [0]
        for number, file in enumerate(self._files):
            table = self._open(number)
            column, chosen = _columns(table.schema_arrow, str(file), **columns)
            if self._column not in (None, column):
                raise InputError(f"expected the column {self._column} in {file} as in the others, found {column}")
            self._column = column
            for group in range(table.metadata.num_row_groups):
                if rows := table.metadata.row_group(group).num_rows:
                    self._groups.append((number, group))
                    starts.append(starts[-1] + rows)
            labels += table.read(columns=[chosen], use_threads=False).column(0).to_pylist()
        if not labels or None in labels:
            raise InputError(
                f"expected a label in every row of {name}, found {'no rows' if not labels else 'an empty one'}"
            )
        self.identities, self.labels = contiguous(labels)
        self.blocks = np.array(starts, np.int64)

    def _reset(self) -> None:
        self._process = os.getpid()
        self._tables: dict[int, Any] = {}
        self._rows: collections.OrderedDict[int, Any] = collections.OrderedDict()

    def _open(self, number: int) -> Any:
        """The opened file, by each process for itself: a reader does not survive a fork."""
        if self._process != os.getpid():
            self._reset()
        if number not in self._tables:
            parquet = _pyarrow_parquet(str(self._files[number]))
            import pyarrow

            try:
                self._tables[number] = parquet.ParquetFile(self._files[number])
            except (OSError, pyarrow.ArrowException) as error:
                reason = str(error).splitlines()[0]
                raise InputError(f"expected a Parquet file at {self._files[number]}, found none ({reason})") from None
        return self._tables[number]

    def _place(self, i: int) -> tuple[int, int, int, int]:
        """Where picture i lies: (block, file, row group, row)."""
        assert self.blocks is not None, "set by the constructor"
        block = int(np.searchsorted(self.blocks, i, side="right")) - 1
        return (block, *self._groups[block], i - int(self.blocks[block]))

    def content(self, i: int) -> bytes:
        block, file, group, row = self._place(i)
        table = self._open(file)
        if block not in self._rows:
            import pyarrow

            try:
                self._rows[block] = table.read_row_group(group, columns=[self._column], use_threads=False).column(0)
            except (OSError, pyarrow.ArrowException) as error:
                reason = str(error).splitlines()[0]
                raise InputError(f"expected the pictures of {self.where(i)}, cannot read them ({reason})") from None
            while len(self._rows) > _OPEN_GROUPS:
                self._rows.popitem(last=False)
        self._rows.move_to_end(block)
        return _bytes_of(self._rows[block][row].as_py(), self.where(i))

    def where(self, i: int) -> str:
        _, file, group, row = self._place(i)
        return f"{self._files[file]}, row group {group}, row {row}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tables": {}, "_rows": collections.OrderedDict()}


class HubDataset(EncodedFaces):
    """A dataset of the Hugging Face Hub, or a folder that the datasets library reads or that its `save_to_disk` wrote.

    The library maps it into memory.

    Needs the datasets package (the extra `data`). InputError for an address without a dataset or without columns of
    pictures and labels.
    """

    kind = "Hugging Face dataset"

    def __init__(
        self, uri: str, image_size: tuple[int, int] | None = (112, 112), split: str | None = None, **columns: str
    ) -> None:
        try:
            import datasets
        except ImportError:
            raise InputError(
                f"expected the package datasets to open {uri}, found none; pip install 'timm-face-zoo[data]'"
            ) from None
        form = re.fullmatch(r"(hf://datasets/)?(?P<path>[^@:]+)(@(?P<revision>[^:]+))?(:(?P<split>.+))?", uri)
        if not form or not ("/" in form["path"] or Path(form["path"]).is_dir()):
            raise InputError(f"expected hf://datasets/OWNER/NAME[@REVISION][:SPLIT], found {uri!r}")
        self.uri, self.image_size, self.name = uri, image_size, form["path"].rstrip("/").split("/")[-1]
        part = split or form["split"] or "train"
        try:
            if is_saved(Path(form["path"])):
                saved = datasets.load_from_disk(form["path"])
                table = saved[part] if isinstance(saved, dict) else saved
            else:
                table = datasets.load_dataset(form["path"], split=part, revision=form["revision"])
        except (OSError, ValueError, KeyError, datasets.exceptions.DatasetsError) as error:
            reason = (str(error).splitlines() or ["no reason given"])[0]
            raise InputError(f"expected a dataset at {uri}, could not load it ({reason}); check the address") from None
        pictures = [name for name, feature in table.features.items() if isinstance(feature, datasets.Image)]
        column, label = _columns(table.features.arrow_schema, uri, pictures, **columns)
        if pictures:
            table = table.cast_column(column, datasets.Image(decode=False))
        names = getattr(table.features[label], "names", None)
        values = table.select_columns([label]).with_format("numpy")[:][label].tolist()
        if not values or None in values:
            raise InputError(
                f"expected a label in every row of {uri}, found {'no rows' if not values else 'an empty one'}"
            )
        kept, self.labels = contiguous(values)
        self.identities = [names[int(value)] for value in kept] if names else kept
        self._pictures = table.select_columns([column])
        self._column = column

    def content(self, i: int) -> bytes:
        value = self._pictures[i][self._column]
        if isinstance(value, dict) and value.get("bytes") is None and isinstance(value.get("path"), str):
            return read_file(value["path"])  # the library's own cache keeps some pictures as files
        return _bytes_of(value, self.where(i))

    def where(self, i: int) -> str:
        return f"{self.uri}, row {i}"


def _pyarrow_parquet(uri: str) -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise InputError(
            f"expected the package pyarrow to open {uri}, found none; pip install 'timm-face-zoo[data]'"
        ) from None
    return pyarrow.parquet


def is_saved(folder: Path) -> bool:
    """Whether a folder is what `Dataset.save_to_disk` or `DatasetDict.save_to_disk` writes."""
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()


def _columns(
    schema: Any, where: str, pictures: Sequence[str] = (), image: str | None = None, label: str | None = None
) -> tuple[str, str]:
    """The columns of pictures and of labels in an Arrow schema."""
    import pyarrow.types as types

    def holds_pictures(field: Any) -> bool:
        if types.is_struct(field.type):
            return any(part.name == "bytes" for part in field.type)
        return bool(types.is_binary(field.type) or types.is_large_binary(field.type))

    names = list(schema.names)
    encoded = list(pictures) or [field.name for field in schema if holds_pictures(field)]
    if image is None and len(encoded) == 1:
        image = encoded[0]
    found, chosen = (names[place] for place in choose(names, image, label, where))
    if found not in encoded:
        advice = f"those columns that have some: {', '.join(encoded) or 'none'}"
        raise InputError(f"expected encoded pictures in the column {found} of {where}, found something else; {advice}")
    return found, chosen


def _bytes_of(value: Any, where: str) -> bytes:
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes):
        raise InputError(f"expected the bytes of a picture in {where}, found none; store them in the table")
    return content
