"""A folder of photos into a folder of aligned crops, with a log of what was skipped and why."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from zoo.errors import InputError
from zoo.faces.align import align
from zoo.faces.detect import FaceDetector, choose_face
from zoo.faces.quality import measure
from zoo.files import hold, write_bytes
from zoo.formats.images import encode_jpeg, encode_png
from zoo.formats.photos import printable, read_photo
from zoo.recognition.verifier import FaceRule

LOG = "align.jsonl"


class Cropper:
    """Cuts faces out of the photos below `source` into the same sub-folders of `target`.

    A crop is called as its photo, with the photo's suffix kept in the name (ada/1.jpg → ada/1.jpg.png), so that no
    two photos share a crop; with face="all", .0, .1 … count the faces from left to right. The log in `target` has a
    line for each photo: its crops, the quality and warnings, or the reason why there is none; the last line of a
    photo counts. One process at a time.
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

    def crop_all(
        self, photos: Sequence[Path], workers: int = 2, progress: Callable[[int], None] | None = None
    ) -> dict[str, int]:
        """Crops every photo that the log does not have yet; the counts of photos, crops and skipped, old and new."""
        counts = {"photos": len(photos), "crops": 0, "skipped": 0}

        def count(entry: dict[str, Any]) -> None:
            counts["crops"] += len(entry["crops"])
            counts["skipped"] += not entry["crops"]
            if progress is not None:
                progress(1)

        waiting: deque[Future[dict[str, Any]]] = deque()

        def take() -> None:
            entry = waiting.popleft().result()
            self._write(entry)
            count(entry)

        with ThreadPoolExecutor(max(1, workers)) as pool:
            for photo in photos:
                known = self.done.get(printable(photo.relative_to(self.source)))
                if known is not None:
                    count(known)
                    continue
                waiting.append(pool.submit(self.crop, photo))
                if len(waiting) >= 4 * max(1, workers):
                    take()
            while waiting:
                take()
        return counts

    def crop(self, photo: Path) -> dict[str, Any]:
        """Writes the crops of one photo, each whole or not at all; its line for the log."""
        relative = photo.relative_to(self.source)
        entry: dict[str, Any] = {"photo": printable(relative), "crops": [], "reason": ""}
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
        """The photos that an earlier run of the same options finished, by relative path; a torn line is dropped."""
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
                f"expected to go on with the crops in {printable(self.target)}, but they were made with other options;"
                " repeat those, or choose another folder"
            )
        self._sweep()
        return {
            entry["photo"]: entry
            for entry in entries[1:]
            if all((self.target / crop["crop"]).is_file() for crop in entry["crops"])
        }

    def _sweep(self) -> None:
        """Removes the temporary files of a killed run: they end in random letters and are in nobody's way but ours."""
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
