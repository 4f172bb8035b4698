"""From a folder of people to the embeddings of their photos, with notes on what was left out and what looks odd."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from zoo.errors import InputError
from zoo.formats.images import printable
from zoo.messages import Progress, no_progress
from zoo.recognition.batch import Stored, embed_pictures, found_in, named, pictures_in
from zoo.recognition.gallery import EnrolledPhoto
from zoo.recognition.journal import Journal
from zoo.recognition.verifier import FaceVerifier


def people_in(folder: str | Path) -> tuple[dict[str, list[Path]], list[str]]:
    """Each person's pictures in a folder of people, and notes on what was left out.

    A person is a sub-folder and has its name. InputError where no sub-folder holds a picture.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"expected a folder of people at {printable(folder)}, found none; check the path")
    entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    people = {printable(entry.name): list(pictures_in([entry])) for entry in entries if entry.is_dir()}
    notes = [f"{printable(folder / name)} holds no picture: left out" for name, found in people.items() if not found]
    people = {name: found for name, found in people.items() if found}
    if loose := sum(entry.is_file() for entry in entries):
        notes.append(f"{loose} files lie beside the folders of people in {printable(folder)}: left out")
    if not people:
        raise InputError(
            f"expected a folder of people, one sub-folder per person, found no picture in any sub-folder of"
            f" {printable(folder)}"
        )
    return people, notes + alike(people)


def enrol(
    verifier: FaceVerifier,
    people: Mapping[str, Sequence[Path]],
    journal: Journal,
    workers: int = 2,
    progress: Progress = no_progress,
) -> tuple[list[EnrolledPhoto], list[str]]:
    """The usable photos of `people` by name, and notes: failures, what limits a photo's use, duplicates.

    A photo enrols one face, the largest where `verifier` takes all. `journal` keeps finished work until the caller has
    saved the result.
    """
    if verifier.face == "all":
        verifier = verifier.taking("largest")
    names: dict[Path | Stored, str] = {path: name for name, paths in people.items() for path in paths}
    embed_pictures(verifier, names, journal, workers, progress, names)
    notes: list[str] = []
    photos: list[EnrolledPhoto] = []
    owners: dict[str, dict[str, str]] = {}
    wanted = {named(path): name for path, name in names.items()}
    for found in found_in(journal):
        name = wanted.get(found.path)
        if name is None:  # from an interrupted run over another folder
            continue
        if found.reason:
            notes.append(found.reason)
            continue
        notes += found.notes
        twin = owners.setdefault(found.sha256, {}).setdefault(name, found.path)
        if twin == found.path:
            photos.append((name, found.sha256, found.embeddings[0]))
        else:
            notes.append(f"{found.path} is the same file as {twin}: counted once")
    notes += [
        f"{' and '.join(same.values())} are one photo under {len(same)} names: {' and '.join(same)}"
        for same in owners.values()
        if len(same) > 1
    ]
    return photos, notes


def alike(names: Iterable[str]) -> list[str]:
    """A note for each set of names that differ in upper and lower case alone."""
    folded: dict[str, list[str]] = {}
    for name in names:
        folded.setdefault(name.casefold(), []).append(name)
    return [
        f"{' and '.join(same)} differ in upper and lower case alone: kept as {len(same)} people"
        for same in folded.values()
        if len(same) > 1
    ]
