"""The one place that knows every layout of pictures: training sets, benchmarks of pairs, loose crops."""

import re
import urllib.parse
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from zoo.data.base import EncodedFaces, FaceDataset, Joined, Size, select
from zoo.data.folder import FolderDataset, ListDataset, LoosePictures, PairPictures, RecordDataset
from zoo.data.parquet import HubDataset, ParquetDataset, is_saved
from zoo.data.tar import REMOTE, TarDataset
from zoo.errors import InputError, explained, unknown_name
from zoo.formats.pairs import listed_pairs

GENERATED = re.compile(r"(synthetic|rendered)(:|$)")  #: How the address of a set begins that zoo makes itself
FORMATS: dict[str, tuple[Callable[..., EncodedFaces], tuple[str, ...]]] = {
    "folder": (FolderDataset, ("depth", "links")),
    "list": (ListDataset, ("image", "label")),
    "tar": (TarDataset, ("image", "label")),
    "parquet": (ParquetDataset, ("image", "label", "split")),
    "hub": (HubDataset, ("image", "label", "split")),
    "rec": (RecordDataset, ()),
    "pairs": (PairPictures, ()),
}  #: What opens each format, and what an address may say of it behind a ?


def open_dataset(
    uri: str | None, image_size: Size = (112, 112), *, min_images: int = 1, max_images: int | None = None
) -> FaceDataset:
    """The training set at `uri`, its pictures at `image_size`, (height, width).

    None or "synthetic" is the built-in synthetic set, "synthetic:200x40" that of 200 people with 40 images each;
    "rendered:FOLDER:200x40" is rendered from ICT-FaceKit in FOLDER. A .rec file, or a folder with one, is RecordIO;
    .tar files, a folder of them, a pattern {000..099}.tar or its http address are WebDataset shards; .parquet files are
    tables; `hf://datasets/OWNER/NAME[@REVISION][:SPLIT]` is a dataset of the Hugging Face Hub, as is a folder that its
    `save_to_disk` wrote; a .txt, .csv, .tsv or .lst file lists paths and labels; any other folder has one sub-folder
    per identity. Behind a ? an address may name columns or fields, a split, the depth of people's folders, and whether
    links are followed (`FORMATS`), and `weight`, how often an epoch takes each picture. Several sets have commas
    between, and people of their own. Identities with fewer than `min_images` pictures are left out, and of each the
    first `max_images` are used. InputError where there is nothing, no picture, or fewer than two identities.
    """
    if min_images < 1 or (max_images is not None and max_images < 1):
        raise InputError(f"expected at least one image an identity, found {min_images} … {max_images}")
    if uri is None or GENERATED.match(uri):
        if min_images > 1 or max_images is not None:
            raise InputError("expected no filter on a generated set, whose people all have equally many images")
        return open_synthetic(uri or "synthetic", image_size)
    dataset = open_people(uri, image_size)
    left = select(dataset, min_images, max_images)
    if left.num_classes < 2:  # a margin head has nothing to separate
        where = uri if left is dataset else f"{uri} with {min_images} or more images"
        told = "training needs people to tell apart"
        raise InputError(f"expected at least two identities in {where}, found {left.num_classes}; {told}")
    return left


def open_crops(uri: str, image_size: Size) -> FaceDataset:
    """The pictures at `uri` as they are stored, whatever holds them; their labels may mean nothing.

    It takes what `open_pictures` takes, pictures in a folder at any depth, and sets that are drawn at `image_size`.
    """
    if GENERATED.match(uri):
        return open_synthetic(uri, image_size)
    return LoosePictures(Path(uri)) if kind_of(uri, Path(uri)) == "folder" else open_pictures(uri)


def open_people(uri: str, image_size: Size | None = None) -> EncodedFaces:
    """The set with encoded pictures at `uri`, as `open_dataset` takes it or of one person; InputError for pairs."""
    dataset = open_pictures(uri, image_size)
    if isinstance(dataset, PairPictures):
        told = f"found a benchmark of pairs; measure it: zoo evaluate MODEL --data {uri}"
        raise InputError(f"expected a set that says who is on each picture at {uri}, {told}")
    return dataset


def is_synthetic(uri: str) -> bool:
    """Whether an address is that of the synthetic set."""
    return uri.partition(":")[0] == "synthetic"


def open_pictures(uri: str, image_size: Size | None = None) -> EncodedFaces:
    """A set's encoded pictures as stored: what `open_people` opens, or a .bin or list of pairs."""
    if "," in uri and not Path(uri).exists():
        return Joined([open_people(part.strip(), image_size) for part in uri.split(",")])
    address, options = uri, dict[str, str]()
    plain, mark, query = uri.rpartition("?")
    if mark and not uri.startswith(REMOTE) and not Path(uri).exists():  # an http address keeps all
        with explained(f"expected PATH?key=value&key=value, found {uri}", ValueError):
            address, options = plain, dict(urllib.parse.parse_qsl(query, strict_parsing=True))
    weight = options.pop("weight", None)
    kind = kind_of(address, Path(address))
    if kind == "list" and listed_pairs(address) is not None:
        kind = "pairs"
    if kind is None:
        raise InputError(_refusal(address, Path(address)))
    reader, known = FORMATS[kind]
    for name in options.keys() - known:
        raise unknown_name(f"option of {address}", name, known)
    dataset = reader(address, image_size, **options)
    if weight is not None:
        if not weight.replace(".", "", 1).isdecimal() or not float(weight):
            raise InputError(f"expected weight=NUMBER above 0 behind {address}, found {weight}")
        dataset.shares, dataset.kind = np.full(len(dataset), float(weight), np.float32), f"{dataset.kind} × {weight}"
    names = dataset.identities or ()
    folded = Counter(name.casefold() for name in names)
    if twins := [name for name in names if folded[name.casefold()] > 1]:
        told = f"{len(twins):,} names of people differ from another in case alone, and are people of their own"
        dataset.notes = [*dataset.notes, f"{told}: {', '.join(sorted(twins, key=str.casefold)[:4])}"]
    return dataset


def _refusal(uri: str, path: Path) -> str:
    if GENERATED.match(uri):
        return f"expected a set that is stored in files, found one that is made on demand: `zoo train --data {uri}`"
    if "://" in uri:
        known = "the path of a set, the http address of .tar shards or hf://datasets/OWNER/NAME"
        return f"expected {known}, found the address {uri}; fetch it first"
    if path.suffix in (".mdb", ".lmdb") or (path / "data.mdb").is_file():
        advice = "write its pictures into a folder with one sub-folder per person, or into .tar shards"
        return f"expected another format than LMDB at {uri}; {advice}, and `zoo data pack` it"
    found = "a file of another kind" if path.exists() else "nothing"
    known = "a folder of identities, a .rec, .tar, .parquet or list file, or hf://datasets/OWNER/NAME"
    return f"expected {known} at {uri}, found {found}; check the path"


def kind_of(uri: str, path: Path) -> str | None:
    """The format at an address: by its scheme, by its suffix, or by the files in the folder."""
    if uri.startswith("hf://"):
        return "hub"
    if uri.startswith(REMOTE):
        return "tar" if uri.partition("?")[0].endswith(".tar") else None
    if path.is_dir():
        if is_saved(path):
            return "hub"
        if (path / "data.mdb").is_file():
            return None
        return next((kind for kind in ("rec", "tar", "parquet") if any(path.glob(f"*.{kind}"))), "folder")
    if uri.endswith(".tar") and (path.is_file() or ("{" in uri and "://" not in uri)):
        return "tar"
    if not path.is_file():
        return "rec" if path.suffix == ".rec" else None
    lists = dict.fromkeys((".txt", ".csv", ".tsv", ".lst"), "list")
    return {".rec": "rec", ".bin": "pairs", ".parquet": "parquet", **lists}.get(path.suffix.lower())


def open_synthetic(uri: str, image_size: Size) -> FaceDataset:
    """The faces of "synthetic[:PEOPLExIMAGES]" or "rendered:FOLDER:PEOPLExIMAGES"; InputError for another form."""
    from zoo.data.rendered import RenderedFaces
    from zoo.data.synthetic import SyntheticFaces

    if uri == "synthetic":
        return SyntheticFaces(image_size=image_size)
    form = re.fullmatch(r"(?:synthetic|rendered:(?P<folder>.+)):(?P<people>\d+)x(?P<images>\d+)", uri)
    if not form:
        start = "rendered:FOLDER:" if uri.startswith("rendered") else "synthetic:"
        raise InputError(f"expected {start}PEOPLExIMAGES, for example {start}200x40, found {uri!r}")
    people, images = int(form["people"]), int(form["images"])
    if form["folder"]:
        return RenderedFaces(form["folder"], people, images, size=image_size)
    return SyntheticFaces(people, images, image_size=image_size)
