"""One way to open every kind of training set."""

from __future__ import annotations

from pathlib import Path

from zoo.data.base import FaceDataset, require_identities
from zoo.errors import InputError


def open_dataset(uri: str | None, image_size: tuple[int, int] = (112, 112)) -> FaceDataset:
    """The training set at `uri`, its pictures at `image_size`, (height, width).

    None or "synthetic" is the built-in synthetic set, "synthetic:200x40" that of 200 people with 40 images each; a .rec
    file or a folder with one is RecordIO; any other folder has one sub-folder an identity. InputError where there is
    nothing, no picture, or fewer than two identities.
    """
    if uri is None or uri.partition(":")[0] == "synthetic":
        return open_synthetic(uri or "synthetic", image_size)
    path = Path(uri)
    dataset: FaceDataset
    if path.suffix == ".rec" or (path.is_dir() and any(path.glob("*.rec"))):
        from zoo.data.records import RecordDataset

        dataset = RecordDataset(path, image_size)
    elif path.is_dir():
        from zoo.data.folder import FolderDataset

        dataset = FolderDataset(path, image_size)
    else:
        found = "a file of another kind" if path.exists() else "nothing"
        raise InputError(
            f"expected a folder of identities, a .rec file or a folder with one at {uri}, found {found}; check the path"
        )
    require_identities(dataset.num_classes, uri)
    return dataset


def open_synthetic(uri: str, image_size: tuple[int, int]) -> FaceDataset:
    """The drawn faces of "synthetic" or "synthetic:IDENTITIESxIMAGES"; InputError for another form."""
    from zoo.data.synthetic import SyntheticFaces

    _, colon, extent = uri.partition(":")
    if not colon:
        return SyntheticFaces(image_size=image_size)
    identities, _, images = extent.partition("x")
    if not (identities.isdecimal() and images.isdecimal()):
        raise InputError(f"expected synthetic:IDENTITIESxIMAGES, for example synthetic:200x40, found {uri!r}")
    return SyntheticFaces(int(identities), int(images), image_size=image_size)
