"""Galleries that follow folders of people, and from which people and photos are taken out again.

Who changes a gallery file holds the journal beside it, PATH.partial: of two at once the second one is told to wait. A
collection of an engine is changed a few people at a time, and what is taken out meanwhile stays out.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from zoo.errors import InputError, closest
from zoo.formats.images import printable, read_file
from zoo.formats.read_ahead import map_ahead
from zoo.messages import Bar, no_bar
from zoo.recognition.batch import Stored, embed_pictures, found_in, pictures_in
from zoo.recognition.gallery import EnrolledPhoto, Gallery
from zoo.recognition.journal import Journal, partial_of, spare_journal
from zoo.recognition.store import Place, QdrantStore, Store, in_engine, store_at
from zoo.recognition.verifier import FaceVerifier

LEAST_AGREEMENT = 0.25  #: A lower mean similarity of one's photos is noted; `benchmarks/verify.py --agreement`

People = Mapping[str, Sequence[Path]]  #: The pictures of each, by name
PEOPLE_AT_ONCE = 64  #: People of a folder that are enrolled in a collection together: an interruption loses no more


@dataclass(frozen=True)
class Indexed:
    """A gallery file that was brought up to date."""

    gallery: Store  #: Its notes say what was odd
    added: int  #: How many photos are new in it
    removed: int  #: How many photos were taken out


def index(
    folder: str | Path, path: Place, verifier: FaceVerifier, workers: int = 2, bar: Bar = no_bar, sync: bool = False
) -> Indexed:
    """Adds the photos below `folder`, one sub-folder per person, to the gallery at `path`: `zoo index`.

    With `sync` the gallery becomes what the folder is: photos that were moved, replaced or deleted are taken out.
    After an interruption the next call resumes: of a file from PATH.partial, of a collection from those who are in it.
    InputError for a gallery of another model, and where no photo of anybody can be used; a file is then as it was.
    """
    people, odd = people_in(folder)
    if in_engine(path):
        store = QdrantStore.at(str(path), verifier)
        store.require(verifier)
        before = set(store.owned(None if sync else people))
        names = list(dict.fromkeys([*people, *sorted({name for name, _ in before})]))
        added, removed, notes = 0, 0, list[str]()
        with bar("people", len(names)) as progress:
            for start in range(0, len(names), PEOPLE_AT_ONCE):
                some = names[start : start + PEOPLE_AT_ONCE]
                here = {name: people[name] for name in some if name in people}
                known = {photo for photo in before if photo[0] in some}
                with spare_journal() as journal:
                    options: dict[str, Any] = {"journal": journal, "workers": workers, "sync": sync, "before": known}
                    old, new = store.change(some, partial(follow, people=here, verifier=verifier, **options))
                more, fewer = _changes(old, new)
                added, removed, notes = added + more, removed + fewer, [*notes, *new.notes]
                progress(len(some))
        return _said(Indexed(replace(store, notes=tuple(dict.fromkeys(notes))), added, removed), folder, odd)
    path = Path(path)
    with Journal(partial_of(path), verifier.how()) as journal:
        old = Gallery.open(path) if path.exists() else Gallery.empty(verifier.dim, verifier.how())
        new = follow(old, people, verifier, journal, workers, bar, sync)
        done = _said(Indexed(new, *_changes(old, new)), folder, odd)
        new.save(path)
        journal.delete()
    return done


def people_at(path: Place, verifier: FaceVerifier, workers: int = 2, bar: Bar = no_bar) -> Store:
    """The people at `path`: a gallery file, a collection, or a folder with one sub-folder per person, enrolled now."""
    if not Path(path).is_dir():
        return store_at(path)
    people, odd = people_in(path)
    with spare_journal() as journal:
        new = follow(Gallery.empty(verifier.dim, verifier.how()), people, verifier, journal, workers, bar)
    return _said(Indexed(new, 0, 0), path, odd).gallery


def _said(done: Indexed, folder: str | Path, odd: list[str]) -> Indexed:
    """With what was odd about the folder; InputError where nobody has a usable photo."""
    if not len(done.gallery):
        reason = next(iter(done.gallery.notes), "nobody is left in the folder")
        raise InputError(f"expected at least one usable photo in {printable(folder)}, found none: {reason}")
    return replace(done, gallery=replace(done.gallery, notes=(*odd, *done.gallery.notes)))


def _changes(old: Gallery, new: Gallery) -> tuple[int, int]:
    before, after = set(old.owned()), set(new.owned())
    return len(after - before), len(before - after)


def follow(
    old: Gallery,
    people: Mapping[str, list[Path]],
    verifier: FaceVerifier,
    journal: Journal,
    workers: int = 2,
    bar: Bar = no_bar,
    sync: bool = False,
    before: Collection[tuple[str, str]] = (),
) -> Gallery:
    """`index` in memory, with each person's pictures; `journal` holds what an interrupted call embedded.

    Photos `before` that are not in `old` were taken out meanwhile: they and their people's are not enrolled again.
    """
    notes = old.require(verifier)
    owned, there, waiting = set(old.owned()), set[tuple[str, str]](), dict(people)
    lost = {name for name, _ in before} - {name for name, _ in owned}
    if owned or before:
        photos = [(name, path) for name, paths in people.items() for path in paths]
        waiting = {name: [] for name in people}
        with bar("compare", len(photos)) as progress:
            digests = map_ahead(_digest, (path for _, path in photos), workers)
            for (name, path), digest in zip(photos, digests, strict=True):
                there.add((name, digest))
                if (name, digest) not in owned and (name, digest) not in before and name not in lost:
                    waiting[name].append(path)
                progress(1)
    gone = {photo for photo in owned - there if (photo[0], "") not in there} if sync else set()  # "": unreadable
    for name in {name for name, _ in gone} & old.uncoded():  # enrolled anew: nothing can be taken out of their means
        gone |= {photo for photo in owned if photo[0] == name}
        waiting[name] = people.get(name, [])
    enrolled, told = enrol(verifier, waiting, journal, workers, bar)
    new = old.without(gone).extended(enrolled)
    names, touched = new.names(), {name for name, *_ in (*enrolled, *gone)}
    notes = [*told, *notes, *(f"{name} was removed while this run was under way: left out" for name in sorted(lost))]
    notes += [f"no usable photo of {name}: not in the gallery" for name in sorted(set(people) - set(names) - lost)]
    for name, mean in zip(names, new.agreement().tolist(), strict=True):
        if name in touched and mean < LEAST_AGREEMENT:
            notes.append(f"the photos of {name} look like different people (mean similarity {mean:.2f}): check them")
    return replace(new, notes=tuple(notes))


def prune(path: Place, people: Collection[str] = (), photos: Collection[str | Path] = ()) -> Indexed:
    """Takes people and photos out of the gallery at `path` and out of what an interrupted `index` left beside a file.

    A photo is a file, or the SHA-256 of one in hex. InputError for a person or a photo that is in neither, and while
    `index` is at work on a file; the gallery is then as it was.
    """
    named = {str(photo): bool(re.fullmatch("[0-9a-f]{64}", str(photo))) for photo in photos}
    digests = {name: name if hashed else hashlib.sha256(read_file(name)).hexdigest() for name, hashed in named.items()}

    def doomed(known: set[tuple[str, str]]) -> set[tuple[str, str]]:
        missing = [name for name in people if name not in {name for name, _ in known}]
        missing += [photo for photo, digest in digests.items() if digest not in {digest for _, digest in known}]
        if missing:
            close = closest(missing[0], {name for name, _ in known})
            hint = f"did you mean {' or '.join(close)}?" if close else "names are case-sensitive"
            raise InputError(f"expected people or photos of the gallery, found no {', '.join(missing)}; {hint}")
        return {photo for photo in known if photo[0] in people or photo[1] in digests.values()}

    if in_engine(path):
        store = QdrantStore.at(str(path))
        gone = doomed(set(store.owned()))

        def left(old: Gallery) -> Gallery:
            return old.without(photo for photo in old.owned() if photo[0] in people or photo in gone)

        store.change({name for name, _ in gone}, left)
        return Indexed(store, 0, len(gone))
    path = Path(path)
    with Journal(partial_of(path), None) as journal:
        gallery = Gallery.open(path)
        pending = {(record["person"], record["sha256"]) for record in journal.records() if "person" in record}
        gone = doomed(pending | set(gallery.owned()))
        journal.keep(lambda record: (record.get("person"), record.get("sha256")) not in gone)
        new = gallery.without(gone)
        new.save(path)
    return Indexed(new, 0, len(gallery.photo_people) - len(new.photo_people))


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(read_file(path)).hexdigest()
    except InputError:
        return ""


def people_in(folder: str | Path) -> tuple[dict[str, list[Path]], list[str]]:
    """Each person's pictures, by sub-folder, and notes on what was left out; InputError where none holds a picture."""
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
        told = f"found no picture in any sub-folder of {printable(folder)}"
        raise InputError(f"expected a folder of people, one sub-folder per person, {told}")
    folded = defaultdict[str, list[str]](list)
    for name in people:
        folded[name.casefold()].append(name)
    differ = "differ in upper and lower case alone: kept as"
    notes += [f"{' and '.join(same)} {differ} {len(same)} people" for same in folded.values() if len(same) > 1]
    return people, notes


def enrol(
    verifier: FaceVerifier, people: People, journal: Journal, workers: int = 2, bar: Bar = no_bar, what: str = "enrol"
) -> tuple[list[EnrolledPhoto], list[str]]:
    """The usable photos of `people` by name, and notes: failures, what limits a photo's use, duplicates.

    A photo enrols one face, the largest where `verifier` takes all. `journal` keeps finished work until the caller has
    saved the result.
    """
    if verifier.face == "all":
        verifier = verifier.taking("largest")
    names: dict[Path | Stored, str] = {path: name for name, paths in people.items() for path in paths}
    with bar(what, len(names)) as progress:
        embed_pictures(verifier, names, journal, workers, progress, names)
    notes, photos = list[str](), list[EnrolledPhoto]()
    owners = defaultdict[str, dict[str, str]](dict)  # of each photo: its path by person
    wanted = {printable(str(path)): name for path, name in names.items()}
    for found in found_in(journal):
        name = wanted.get(found.path)
        if name is None:  # from an interrupted run over another folder
            continue
        notes += [found.reason] if found.reason else found.notes
        if found.reason:
            continue
        twin = owners[found.sha256].setdefault(name, found.path)
        if twin == found.path:
            photos.append((name, found.sha256, found.embeddings[0]))
        else:
            notes.append(f"{found.path} is the same file as {twin}: counted once")
    for same in (same for same in owners.values() if len(same) > 1):
        notes.append(f"{' and '.join(same.values())} are one photo under {len(same)} names: {' and '.join(same)}")
    return photos, notes
