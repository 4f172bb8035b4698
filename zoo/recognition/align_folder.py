"""From a folder of photos to a folder of aligned crops, with a log of what was skipped and why."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from zoo.errors import InputError
from zoo.faces.align import align
from zoo.faces.detect import FaceDetector, choose_face, load_detector
from zoo.faces.quality import measure
from zoo.files import hold, write_bytes
from zoo.formats.images import encode_jpeg, encode_png
from zoo.formats.photos import printable, read_photo
from zoo.formats.read_ahead import map_ahead
from zoo.messages import Bar, Progress, no_bar, no_progress
from zoo.recognition.batch import pictures_in
from zoo.recognition.verifier import FaceRule, require_face_rule

LOG = "align.jsonl"


@dataclass(frozen=True)
class Aligned:
    """A folder of crops that is complete."""

    photos: int
    """How many photos were looked at, now or before an interruption."""
    crops: int
    skipped: int
    """How many photos have no crop."""
    log: Path
    """The file that says why, one line per photo."""

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

    The crops are `size` × `size` pixels, as "png" or "jpg"; `Cropper` says how they are named. After an interruption
    the next call resumes. InputError where there is no photo, where `output` lies inside `photos`, and where the crops
    in it were made with other options.
    """
    source, target = Path(photos), Path(output)
    require_face_rule(face)
    if suffix not in ("png", "jpg"):
        raise InputError(f"expected crops as png or jpg, found {suffix!r}")
    if not source.is_dir():
        raise InputError(f"expected a folder of photos at {source}, found none; check the path")
    if not 16 <= size <= 1024:
        raise InputError(f"expected a crop size from 16 to 1024 pixels, found {size}")
    if target.resolve().is_relative_to(source.resolve()):
        raise InputError(f"expected an output outside {source}, found {target}: crops would be taken for photos")
    found = list(pictures_in([source]))
    if not found:
        raise InputError(f"expected photos in {source}, found none")
    opened = detector if isinstance(detector, FaceDetector) else load_detector(detector)
    cropper = Cropper(source, target, opened, face, (size, size), suffix)
    with cropper, bar("align", len(found)) as progress:
        return cropper.crop_all(found, workers, progress)


class Cropper:
    """Cuts faces out of the photos below `source` into the same sub-folders of `target`.

    A crop has its photo's name, suffix included (ada/1.jpg → ada/1.jpg.png), so that no two photos share a crop; with
    face="all", .0, .1 … number the faces from left to right. The log in `target` has one line per photo: its crops with
    their warnings, or the reason why there is none; where a photo has several lines, the last one counts. One process
    at a time.
    """

    def __init__(
        self,
        source: Path,
        target: Path,
        detector: FaceDetector,
        face: FaceRule = "largest",
        size: tuple[int, int] = (112, 112),
        suffix: str = "png",
    ) -> None:
        self.source, self.target, self.detector = source, target, detector
        self.face, self.size, self.suffix = face, size, suffix
        self.log = target / LOG
        self.how = {"detector": detector.sha256, "face": face, "size": list(size), "suffix": suffix}
        self._lines = _opened(self.log)
        self.done = self._read_log()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.flush()
        os.fsync(self._lines.fileno())
        self._lines.close()

    def crop_all(self, photos: Sequence[Path], workers: int = 2, progress: Progress = no_progress) -> Aligned:
        """Crops every photo that is not in the log yet; the counts include those that are."""
        crops = [len(self.done[name]["crops"]) for photo in photos if (name := self._name(photo)) in self.done]
        progress(len(crops))
        waiting = (photo for photo in photos if self._name(photo) not in self.done)
        for entry in map_ahead(self.crop, waiting, workers, 4 * max(1, workers)):
            self._write(entry)
            crops.append(len(entry["crops"]))
            progress(1)
        return Aligned(len(photos), sum(crops), crops.count(0), self.log)

    def _name(self, photo: Path) -> str:
        return printable(photo.relative_to(self.source))

    def crop(self, photo: Path) -> dict[str, Any]:
        """Writes the crops of one photo, each whole or not at all, and returns its line for the log."""
        relative = photo.relative_to(self.source)
        entry: dict[str, Any] = {"photo": self._name(photo), "crops": [], "reason": ""}
        try:
            image = read_photo(photo)
            faces = self.detector.detect(image, thorough=self.face == "all")
        except InputError as error:
            return {**entry, "reason": str(error)}
        if not faces:
            return {**entry, "reason": f"expected a face in {printable(photo)}, found none"}
        if self.face == "all":
            taken = sorted(faces, key=lambda face: face.centre[0])
        else:
            taken = [choose_face(faces, image.shape[:2], self.face)]
        folder = self.target / relative.parent
        folder.mkdir(parents=True, exist_ok=True)
        for number, face in enumerate(taken):
            crop = align(image, face.landmarks, self.size)
            quality = measure(crop, face.landmarks)
            name = f"{relative.name}{f'.{number}' if self.face == 'all' else ''}.{self.suffix}"
            write_bytes(folder / name, encode_png(crop) if self.suffix == "png" else encode_jpeg(crop))
            entry["crops"].append(
                {
                    "crop": printable(relative.parent / name),
                    "box": list(face.box),
                    "score": face.score,
                    "faces": len(faces),
                    "warnings": quality.warnings(),
                }
            )
        return entry

    def _write(self, entry: dict[str, Any]) -> None:
        self._lines.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
        self._lines.flush()

    def _read_log(self) -> dict[str, dict[str, Any]]:
        """The photos that an earlier run with the same options finished, by relative path; a torn line is dropped."""
        if not hold(self._lines):
            self._lines.close()
            raise InputError(f"another process is writing into {printable(self.target)}; wait for it")
        self._lines.seek(0)
        lines = self._lines.read().split(b"\n")
        whole = lines[:-1]  # the last piece is empty, or a line cut off by a kill
        if lines[-1]:
            self._lines.truncate(sum(len(line) + 1 for line in whole))
        if not whole:
            self._sweep()
            self._write({"how": self.how})
            return {}
        entries = [json.loads(line) for line in whole]
        if entries[0].get("how") != self.how:
            self._lines.close()
            raise InputError(
                f"expected to resume the crops in {printable(self.target)}, but they were made with other options;"
                " repeat those, or choose another folder"
            )
        self._sweep()
        return {
            entry["photo"]: entry
            for entry in entries[1:]
            if all((self.target / crop["crop"]).is_file() for crop in entry["crops"])
        }

    def _sweep(self) -> None:
        """Removes the temporary files of a killed run, which end in random letters."""
        pattern = re.compile(rf"^\..+\.{self.suffix}\.[a-z0-9_]{{8}}$")
        for file in self.target.rglob(f".*.{self.suffix}.*"):
            if pattern.match(file.name):
                with contextlib.suppress(FileNotFoundError):
                    file.unlink()


def _opened(log: Path) -> BinaryIO:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return open(log, "a+b")
    except OSError as error:
        raise InputError(
            f"cannot write into {printable(log.parent)} ({error.strerror}); choose another folder"
        ) from None
