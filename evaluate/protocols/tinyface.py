"""TinyFace in its official layout: tiny native pictures, searched in a gallery with distractors."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError, explained
from zoo.evaluate.protocols.base import PROTOCOLS, Benchmark, ClosedSet, Found, hash_files
from zoo.evaluate.similarity import Indices
from zoo.formats.images import SUFFIXES, read_image, resized, squared

COUNTS = (("probes", 3728), ("gallery", 4443), ("distractors", 153428), ("people", 2569))
PROBES, MATCHES = "probe_img_ID_pairs.mat", "gallery_match_img_ID_pairs.mat"


@PROTOCOLS.register("tinyface")
class TinyFaceProtocol(ClosedSet):
    """TinyFace: closed-set search of low-resolution probes among matches and distractors (rank 1, 5, 20).

    `folder` is tinyface/ or its Testing_Set/. Pictures are padded with black to a square and resized to 112×112,
    bilinear. Ties count against the mate. InputError, naming the files, where the folder is incomplete.
    """

    benchmarks = (Benchmark("tinyface", "TinyFace", counts=COUNTS),)
    crowded = frozenset({"Probe", "Gallery_Match", "Gallery_Distractor", "Training_Set"})

    @classmethod
    def find(cls, folder: Path, folders: Sequence[str], files: Sequence[str]) -> list[Found]:
        """A folder Testing_Set/, or any with the release's lists."""
        here = folder.name == "Testing_Set" or any(name.endswith("_img_ID_pairs.mat") for name in files)
        return [Found("tinyface", "tinyface", folder)] if here else []

    def __init__(self, folder: str | Path) -> None:
        inside = Path(folder) / "Testing_Set"
        self.folder = inside if inside.is_dir() else Path(folder)
        parts = (PROBES, MATCHES, "Probe", "Gallery_Match", "Gallery_Distractor")
        if missing := [part for part in parts if not (self.folder / part).exists()]:
            raise InputError(f"expected a whole TinyFace in {self.folder}, missing there: {', '.join(missing)}")
        self.data, self.data_sha256 = "TinyFace", hash_files([self.folder / PROBES, self.folder / MATCHES])
        probes, self.probe_ids = _read_mat(self.folder / PROBES, "probe_set", "probe_ids")
        matches, match_ids = _read_mat(self.folder / MATCHES, "gallery_set", "gallery_ids")
        distractors = sorted(p for p in self.folder.glob("Gallery_Distractor/*") if p.suffix.lower() in SUFFIXES)
        listed = [f"Probe/{name}" for name in probes] + [f"Gallery_Match/{name}" for name in matches]
        self.paths = [*(self.folder / name for name in listed), *distractors]
        self.gallery_ids = np.concatenate([match_ids, np.full(len(distractors), -1, np.int64)])
        if lost := int((~np.isin(self.probe_ids, match_ids)).sum()):
            wanted = f"a match in the gallery for each of {len(probes)} probes of {self.folder}"
            raise InputError(f"expected {wanted}, missing for {lost}; use the files of one release")
        if absent := [name for name in listed if not (self.folder / name).is_file()]:
            told = f"missing {len(absent):,} of them ({', '.join(absent[:3])}); unpack the archive again"
            raise InputError(f"expected every listed picture in {self.folder}, {told}")

    def image(self, index: int) -> npt.NDArray[np.uint8]:
        """One picture, padded to a square and resized: RGB uint8 (112, 112, 3)."""
        return resized(squared(read_image(self.paths[index])), (112, 112), bilinear=True)

    def remarks(self) -> list[str]:
        if read_image(self.paths[0]).shape[:2] == (112, 112):
            return ["the pictures are crops of 112×112 already, taken as they are"]
        return [
            "the crops are the release's own, padded with black to a square and resized: AdaFace and CVLface publish "
            "TinyFace on crops aligned by MTCNN (tinyface_aligned_pad_0.1_high), so their figures do not compare"
        ]


def _read_mat(path: Path, names: str, ids: str) -> tuple[list[str], Indices]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    errors = (KeyError, ValueError, NotImplementedError, TypeError, OSError, MatReadError)
    with explained(f"expected {names} and {ids} in the MATLAB file {path}, cannot read them", *errors):
        content = loadmat(path)
        listed = [str(entry.item() if entry.dtype != object else entry.item().item()) for entry in content[names]]
        identities = np.asarray(content[ids], np.int64).ravel()
    if len(listed) != len(identities) or not listed:
        raise InputError(f"expected one identity a picture in {path}, found {len(identities)} for {len(listed)}")
    if (identities < 0).any():
        raise InputError(f"expected identities from 0 in {path}, found {identities.min()}")
    return listed, identities
