"""Parquet files and Hugging Face datasets as training sets: a column of pictures and one of labels."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.base import BlockedFaces, EncodedFaces, Size, labelled
from zoo.data.tar import training_files
from zoo.errors import InputError, explained, needs
from zoo.formats.images import read_file
from zoo.formats.lists import choose
from zoo.formats.pairs import picture_in

ENCODED = re.compile(r"(large_)?binary|struct<(.*, )?bytes: .*>")  #: The Arrow types of columns of encoded pictures


class ParquetDataset(BlockedFaces):
    """The rows of a Parquet file, or of those in a folder, with a column of encoded pictures and one of labels.

    Pictures are bytes, or the Hub's {bytes, path}. Opening reads the labels. A picture is read with its row group, of
    which a few stay in memory. Needs pyarrow (extra `data`). InputError for no Parquet, and where the columns lack.
    """

    kind = "Parquet"

    def __init__(self, uri: str, image_size: Size | None = None, split: str = "train", **columns: str) -> None:
        place = Path(uri)
        self.image_size, self.name = image_size, place.stem
        files, self.notes = training_files(sorted(place.glob("*.parquet")) if place.is_dir() else [place], split)
        self._groups: list[tuple[Path, int]] = []
        self._column: str | None = None
        labels: list[Any] = []
        starts = [0]
        for file in files:
            with _opened(file, f"expected a Parquet file at {file}, found none") as table:
                column, chosen = _columns(table.schema_arrow, str(file), **columns)
                if self._column not in (None, column):
                    raise InputError(f"expected the column {self._column} in {file} as in the others, found {column}")
                self._column = column
                for group in range(table.metadata.num_row_groups):
                    if rows := table.metadata.row_group(group).num_rows:
                        self._groups.append((file, group))
                        starts.append(starts[-1] + rows)
                labels += table.read(columns=[chosen], use_threads=False).column(0).to_pylist()
        self.identities, self.labels = labelled(labels, self.name)
        self.blocks = np.array(starts, np.int64)

    def open_block(self, number: int) -> Any:
        """The pictures of a row group."""
        file, group = self._groups[number]
        with _opened(file, f"expected the pictures of {file}, row group {group}, cannot read them") as table:
            return table.read_row_group(group, columns=[self._column], use_threads=False).column(0)

    def content(self, i: int) -> bytes:
        block, row = self.place(i)
        return picture_in(self.opened(block)[row].as_py(), self.where(i))

    def where(self, i: int) -> str:
        block, row = self.place(i)
        file, group = self._groups[block]
        return f"{file}, row group {group}, row {row}"


class HubDataset(EncodedFaces):
    """A dataset of the Hugging Face Hub, or a folder that the datasets library reads or that its `save_to_disk` wrote.

    The library (extra `data`) maps it into memory. InputError for no dataset or no columns of pictures and labels.
    """

    kind = "Hugging Face dataset"

    def __init__(self, uri: str, image_size: Size | None = None, split: str | None = None, **columns: str) -> None:
        with needs("datasets", "data", f"to open {uri}"):
            import datasets
        form = re.fullmatch(r"(hf://datasets/)?(?P<path>[^@:]+)(@(?P<revision>[^:]+))?(:(?P<split>.+))?", uri)
        if not form or not ("/" in form["path"] or Path(form["path"]).is_dir()):
            raise InputError(f"expected hf://datasets/OWNER/NAME[@REVISION][:SPLIT], found {uri!r}")
        self.uri, self.image_size, self.name = uri, image_size, form["path"].rstrip("/").split("/")[-1]
        part = split or form["split"] or "train"
        wrong = OSError, ValueError, KeyError, datasets.exceptions.DatasetsError
        with explained(f"expected a dataset at {uri}, could not load it", *wrong, advice="check the address"):
            if is_saved(Path(form["path"])):
                saved = datasets.load_from_disk(form["path"])
                table = saved[part] if isinstance(saved, dict) else saved
            else:
                table = datasets.load_dataset(form["path"], split=part, revision=form["revision"])
        pictures = [name for name, feature in table.features.items() if isinstance(feature, datasets.Image)]
        column, label = _columns(table.features.arrow_schema, uri, pictures, **columns)
        if pictures:
            table = table.cast_column(column, datasets.Image(decode=False))
        names = getattr(table.features[label], "names", None)
        kept, self.labels = labelled(table.select_columns([label]).with_format("numpy")[:][label].tolist(), uri)
        self.identities = [names[int(value)] for value in kept] if names else kept
        self._pictures = table.select_columns([column])
        self._column = column

    def content(self, i: int) -> bytes:
        value = self._pictures[i][self._column]
        if isinstance(value, dict) and value.get("bytes") is None and isinstance(value.get("path"), str):
            return read_file(value["path"])  # the library's own cache keeps some pictures as files
        return picture_in(value, self.where(i))

    def where(self, i: int) -> str:
        return f"{self.uri}, row {i}"


@contextlib.contextmanager
def _opened(file: Path, expected: str) -> Iterator[Any]:
    """A Parquet file; InputError with this beginning where pyarrow cannot read what the block asks of it."""
    with needs("pyarrow", "data", f"to open {file}"):
        import pyarrow.parquet
    with explained(expected, OSError, pyarrow.ArrowException):
        yield pyarrow.parquet.ParquetFile(file)


def is_saved(folder: Path) -> bool:
    """Whether a folder is what `Dataset.save_to_disk` or `DatasetDict.save_to_disk` writes."""
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()


def _columns(
    schema: Any, where: str, pictures: Sequence[str] = (), image: str | None = None, label: str | None = None
) -> tuple[str, str]:
    """The columns of pictures and of labels in an Arrow schema."""
    encoded = list(pictures) or [field.name for field in schema if ENCODED.fullmatch(str(field.type))]
    chosen = encoded[0] if image is None and len(encoded) == 1 else image
    found, labels = (schema.names[place] for place in choose(schema.names, chosen, label, where))
    if found not in encoded:
        advice = f"those columns that have some: {', '.join(encoded) or 'none'}"
        raise InputError(f"expected encoded pictures in the column {found} of {where}, found something else; {advice}")
    return found, labels
