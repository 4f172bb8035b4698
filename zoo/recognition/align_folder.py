"""From a folder of photos to a folder of aligned crops, with a log of what was skipped and why."""

import json
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from zoo.errors import InputError
from zoo.faces.detect import FaceDetector
from zoo.faces.finder import FaceFinder, FaceRule
from zoo.files import new_folder, write_bytes
from zoo.formats.images import encode_jpeg, encode_png, printable
from zoo.formats.read_ahead import map_ahead
from zoo.messages import Bar, no_bar
from zoo.recognition.batch import pictures_in
from zoo.recognition.journal import Journal, Record

LOG = "align.jsonl"


@dataclass(frozen=True)
class Aligned:
    """A folder of crops that is complete."""

    photos: int  #: How many photos were looked at, now or before an interruption
    crops: int
    skipped: int  #: How many photos have no crop
    log: Path  #: The file that says why, one line per photo

    def to_json(self) -> str:
        """One JSON object, as `zoo align --json` prints it."""
        return json.dumps({"photos": self.photos, "crops": self.crops, "skipped": self.skipped}, indent=2)


def align_photos(
    photos: str | Path,
    output: str | Path,
    detector: str | Path | FaceDetector | None = None,
    face: FaceRule = "largest",
    size: int = 112,
    suffix: str = "png",
    workers: int = 2,
    bar: Bar = no_bar,
) -> Aligned:
    """Cuts the faces out of the photos below a folder into the same sub-folders of `output`: what `zoo align` does.

    The crops are `size` × `size` pixels, as "png" or "jpg". A crop has its photo's name, suffix included (ada/1.jpg →
    ada/1.jpg.png), so that no two photos share a crop; with face="all", .0, .1 … number the faces from left to right.
    The log in `output` has one line per photo: its crops with their warnings, or the reason why there is none; where a
    photo has several lines, the last one counts. After an interruption the next call resumes. InputError where there
    is no photo, where `output` lies inside `photos`, and where the crops in it were made with other options.
    """
    source, target = Path(photos), Path(output)
    finder = FaceFinder(detector, face, (size, size))
    if suffix not in ("png", "jpg"):
        raise InputError(f"expected crops as png or jpg, found {suffix!r}")
    if not source.is_dir():
        raise InputError(f"expected a folder of photos at {source}, found none; check the path")
    if not 16 <= size <= 1024:
        raise InputError(f"expected a crop size from 16 to 1024 pixels, found {size}")
    if target.resolve().is_relative_to(source.resolve()):
        raise InputError(f"expected an output outside {source}, found {target}: crops would be taken for photos")
    found = [photo.relative_to(source) for photo in pictures_in([source])]
    if not found:
        raise InputError(f"expected photos in {source}, found none")
    how = {"detector": finder.detector.sha256, "face": face, "size": [size, size], "suffix": suffix}
    with new_folder(target), Journal(target / LOG, how) as log, bar("align", len(found)) as progress:
        _sweep(target, suffix)
        crops = {line["photo"]: [crop["crop"] for crop in line["crops"]] for line in log.records()}
        done = {photo: len(names) for photo, names in crops.items() if all((target / name).is_file() for name in names)}
        counts = [done[name] for photo in found if (name := printable(photo)) in done]
        progress(len(counts))
        waiting = (photo for photo in found if printable(photo) not in done)
        cut = partial(cut_faces, finder, source, target, suffix)
        for line in map_ahead(cut, waiting, workers, 4 * max(1, workers)):
            log.append(line)
            counts.append(len(line["crops"]))
            progress(1)
    return Aligned(len(found), sum(counts), counts.count(0), log.path)


def cut_faces(finder: FaceFinder, source: Path, target: Path, suffix: str, photo: Path) -> Record:
    """Writes the crops of source/photo below `target`, each whole or not at all; its line for the log."""
    line: Record = {"photo": printable(photo), "crops": [], "reason": ""}
    try:
        found = finder.crops(source / photo)
    except InputError as error:
        return {**line, "reason": str(error)}
    (target / photo.parent).mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(found):
        name = photo.with_name(f"{photo.name}{f'.{number}' if finder.face == 'all' else ''}.{suffix}")
        write_bytes(target / name, encode_png(one.crop) if suffix == "png" else encode_jpeg(one.crop))
        told = {"crop": printable(name), "faces": len(one.faces), "warnings": one.quality.warnings()}
        line["crops"].append({**told, **one.facts()})
    return line


def _sweep(target: Path, suffix: str) -> None:
    """Removes the temporary files of a killed run, which end in random letters."""
    for file in target.rglob(f".*.{suffix}.*"):
        if re.fullmatch(rf"\..+\.{suffix}\.[a-z0-9_]{{8}}", file.name):
            file.unlink(missing_ok=True)
