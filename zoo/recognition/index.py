"""Gallery files that follow folders of people, and from which people and photos are taken out again.

Who changes a gallery file holds the journal beside it, PATH.partial: of two at once the second one is told to wait.
"""

import hashlib
import re
import tempfile
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from zoo.errors import InputError, closest
from zoo.formats.images import printable, read_file
from zoo.formats.read_ahead import map_ahead
from zoo.messages import Bar, no_bar
from zoo.recognition.enrol import enrol, people_in
from zoo.recognition.gallery import Gallery
from zoo.recognition.journal import Journal
from zoo.recognition.verifier import FaceVerifier

LEAST_AGREEMENT = 0.25
"""People whose photos' mean similarity is lower are noted; `benchmarks/verify.py --agreement` prints real people's."""


@dataclass(frozen=True)
class Indexed:
    """A gallery file that was brought up to date."""

    gallery: Gallery
    """Its notes say what was odd."""
    added: int
    """How many photos are new in it."""
    removed: int
    """How many photos were taken out."""


def index(
    folder: str | Path,
    path: str | Path,
    verifier: FaceVerifier,
    workers: int = 2,
    bar: Bar = no_bar,
    sync: bool = False,
) -> Indexed:
    """Adds the photos below `folder`, one sub-folder per person, to the gallery file at `path`: `zoo index`.

    With `sync` the gallery becomes what the folder is: photos that were moved, replaced or deleted are taken out.
    After an interruption the next call resumes from PATH.partial. InputError for a gallery of another model, and where
    no photo of anybody can be used; the file is then as it was.
    """
    path = Path(path)
    with Journal(partial_of(path), verifier.how()) as journal:
        old = Gallery.open(path) if path.exists() else Gallery.empty(verifier.dim, verifier.how())
        done = follow(old, folder, verifier, journal, workers, bar, sync)
        done.gallery.save(path)
        journal.delete()
    return done


def people_at(path: str | Path, verifier: FaceVerifier, workers: int = 2, bar: Bar = no_bar) -> Gallery:
    """The people at `path`: a gallery file, or a folder with one sub-folder per person, enrolled in memory."""
    if not Path(path).is_dir():
        return Gallery.open(path)
    empty = Gallery.empty(verifier.dim, verifier.how())
    with tempfile.TemporaryDirectory() as spare, Journal(Path(spare, "journal"), {}) as journal:
        return follow(empty, path, verifier, journal, workers, bar).gallery


def follow(
    old: Gallery,
    folder: str | Path,
    verifier: FaceVerifier,
    journal: Journal,
    workers: int = 2,
    bar: Bar = no_bar,
    sync: bool = False,
) -> Indexed:
    """`index` in memory; `journal` holds what an interrupted call embedded."""
    notes = old.require(verifier)
    people, odd = people_in(folder)
    owned, there, waiting = set(old.owned()), set[tuple[str, str]](), dict(people)
    if owned:
        photos = [(name, path) for name, paths in people.items() for path in paths]
        waiting = {name: [] for name in people}
        with bar("compare", len(photos)) as progress:
            digests = map_ahead(_digest, (path for _, path in photos), workers)
            for (name, path), digest in zip(photos, digests, strict=True):
                there.add((name, digest))
                if (name, digest) not in owned:
                    waiting[name].append(path)
                progress(1)
    gone = {photo for photo in owned - there if (photo[0], "") not in there} if sync else set()  # "": unreadable
    for name in {name for name, _ in gone} & old.uncoded():  # enrolled anew: nothing can be taken out of their means
        gone |= {photo for photo in owned if photo[0] == name}
        waiting[name] = people.get(name, [])
    with bar("enrol", sum(map(len, waiting.values()))) as progress:
        enrolled, told = enrol(verifier, waiting, journal, workers, progress)
    new = old.without(gone).extended(enrolled)
    if not len(new):
        raise InputError(f"expected at least one usable photo in {printable(folder)}, found none: {told[0]}")
    names, touched = new.names(), {name for name, *_ in (*enrolled, *gone)}
    absent = sorted(set(people) - set(names))
    notes += [*odd, *told, *(f"no usable photo of {name}: not in the gallery" for name in absent)]
    notes += [
        f"the photos of {name} look like different people (mean similarity {agreement:.2f}): check them"
        for name, agreement in zip(names, new.agreement().tolist(), strict=True)
        if name in touched and agreement < LEAST_AGREEMENT
    ]
    stayed = len(owned - gone)
    return Indexed(replace(new, notes=tuple(notes)), len(new.photo_people) - stayed, len(owned) - stayed)


def prune(path: str | Path, people: Collection[str] = (), photos: Collection[str | Path] = ()) -> Indexed:
    """Takes people and photos out of the gallery file at `path` and out of what an interrupted `index` left beside it.

    A photo is a file, or the SHA-256 of one in hex. InputError for a person or a photo that is in neither, and while
    `index` is at work; the file is then as it was.
    """
    path = Path(path)
    digests = {str(photo): _photo_digest(photo) for photo in photos}
    with Journal(partial_of(path), None) as journal:
        gallery = Gallery.open(path)
        pending = {(record["person"], record["sha256"]) for record in journal.records() if "person" in record}
        known = pending | set(gallery.owned())
        missing = [name for name in people if name not in {name for name, _ in known}]
        missing += [photo for photo, digest in digests.items() if digest not in {digest for _, digest in known}]
        if missing:
            close = closest(missing[0], {name for name, _ in known})
            hint = f"did you mean {' or '.join(close)}?" if close else "names are case-sensitive"
            raise InputError(f"expected people or photos of the gallery, found no {', '.join(missing)}; {hint}")
        doomed = {photo for photo in known if photo[0] in people or photo[1] in digests.values()}
        journal.keep(lambda record: (record.get("person"), record.get("sha256")) not in doomed)
        new = gallery.without(doomed)
        new.save(path)
    return Indexed(new, 0, len(gallery.photo_people) - len(new.photo_people))


def partial_of(path: Path) -> Path:
    """The journal of an unfinished `index` of a gallery file."""
    return path.with_name(path.name + ".partial")


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(read_file(path)).hexdigest()
    except InputError:
        return ""


def _photo_digest(photo: str | Path) -> str:
    if re.fullmatch("[0-9a-f]{64}", str(photo)):
        return str(photo)
    return hashlib.sha256(read_file(photo)).hexdigest()
