"""The field's benchmarks: how each is found in the layout in which it is handed out, and how much it must hold."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import InputError, unknown_name
from zoo.evaluate.protocols import PROTOCOLS
from zoo.evaluate.protocols.base import Figures, Protocol
from zoo.evaluate.protocols.ijb import IJBProtocol
from zoo.evaluate.protocols.pairs import PairsProtocol
from zoo.evaluate.protocols.tinyface import TinyFaceProtocol


@dataclass(frozen=True)
class Benchmark:
    """A benchmark as published: its protocol, and the counts that a whole copy has."""

    title: str
    protocol: str
    files: tuple[str, ...] = ()
    """The names under which its .bin is handed out."""
    counts: tuple[tuple[str, int], ...] = ()
    """Figures of a result and what they are for the whole benchmark."""


RFW_GROUPS = ("African", "Asian", "Caucasian", "Indian")

BENCHMARKS: dict[str, Benchmark] = {
    "lfw": Benchmark("LFW", "pairs", ("lfw.bin",), (("pairs", 6000),)),
    "cfp_fp": Benchmark("CFP-FP", "pairs", ("cfp_fp.bin",), (("pairs", 7000),)),
    "agedb_30": Benchmark("AgeDB-30", "pairs", ("agedb_30.bin",), (("pairs", 6000),)),
    "calfw": Benchmark("CALFW", "pairs", ("calfw.bin",), (("pairs", 6000),)),
    "cplfw": Benchmark("CPLFW", "pairs", ("cplfw.bin",), (("pairs", 6000),)),
    "xqlfw": Benchmark("XQLFW", "pairs", ("xqlfw.bin",), (("pairs", 6000),)),
    **{
        f"rfw_{group.lower()}": Benchmark(
            f"RFW {group}", "pairs", (f"{group}_test.bin", f"rfw_{group}.bin", f"{group}.bin"), (("pairs", 6000),)
        )
        for group in RFW_GROUPS
    },
    "ijbb": Benchmark("IJB-B", "ijb", counts=(("images", 227630), ("templates", 12115), ("pairs", 8010270))),
    "ijbc": Benchmark("IJB-C", "ijb", counts=(("images", 469375), ("templates", 23124), ("pairs", 15658489))),
    "tinyface": Benchmark(
        "TinyFace", "tinyface", counts=(("probes", 3728), ("gallery", 4443), ("distractors", 153428))
    ),
}
"""Every benchmark by the name that --protocol takes."""

CROWDED = {"loose_crop", "Probe", "Gallery_Match", "Gallery_Distractor", "Training_Set"}
"""Folders of pictures by the hundred thousand, in which no benchmark is looked for."""


@dataclass(frozen=True)
class Found:
    """A benchmark that lies at `path`; `name` is its key in BENCHMARKS, or the file's for a .bin that nobody knows."""

    name: str
    protocol: str
    path: Path

    def open(self, features: str = "N1D1") -> Protocol:
        """The benchmark, ready to embed. InputError, naming what is missing, for an incomplete one."""
        if self.protocol == "pairs":
            pairs = PairsProtocol.from_bin(self.path)
            if self.name in BENCHMARKS:
                pairs.data = BENCHMARKS[self.name].title
            return pairs
        if self.protocol == "ijb":
            if features not in ("N1D1", "N1D0", "N0D1", "N0D0"):
                raise InputError(f"expected the features N1D1, N1D0, N0D1 or N0D0, found {features!r}")
            return IJBProtocol(self.path, norm=features[1] == "1", detector_score=features[3] == "1")
        return TinyFaceProtocol(self.path)

    def shortfall(self, figures: Figures) -> str:
        """The sentence for a copy of another size than the published one; empty where all counts are right."""
        counts = BENCHMARKS[self.name].counts if self.name in BENCHMARKS else ()
        wrong = [f"{figures[key]:,} {key} instead of {count:,}" for key, count in counts if figures[key] != count]
        if not wrong:
            return ""
        title = BENCHMARKS[self.name].title
        return f"{self.path} is not all of {title}: {', '.join(wrong)}; no published figure compares"


def find_benchmarks(root: str | Path, only: Sequence[str] = ()) -> list[Found]:
    """Every benchmark at or under `root`; `only` narrows by benchmark or protocol names.

    InputError where nothing is found, or where a name is none of a benchmark, a protocol or a .bin that was found.
    """
    root = Path(root)
    if root.is_file():
        found = [_bin(root)]
    elif root.is_dir():
        found = []
        for folder, names, files in os.walk(root):
            names[:] = sorted(name for name in names if name not in CROWDED and not name.startswith("."))
            found += _in_folder(Path(folder), files)
    else:
        raise InputError(
            f"expected a .bin benchmark, a folder of benchmarks or the word synthetic at {root}, found nothing"
        )
    known = {*BENCHMARKS, *PROTOCOLS, *(one.name for one in found)}
    for name in only:
        if name not in known:
            raise unknown_name("protocol or benchmark", name, known)
    chosen = [one for one in found if not only or one.name in only or one.protocol in only]
    if not chosen:
        what = f"a benchmark of {', '.join(only)}" if only else "a benchmark (.bin, IJBB/IJBC with meta/, tinyface)"
        raise InputError(f"expected {what} under {root}, found none")
    return chosen


def _in_folder(folder: Path, files: list[str]) -> list[Found]:
    found = [_bin(folder / name) for name in sorted(files) if name.endswith(".bin")]
    if folder.name == "meta":
        releases = sorted({name[:4] for name in files if name[:5] in ("ijbb_", "ijbc_") and not name.endswith(".csv")})
        found += [Found(release, "ijb", folder.parent) for release in releases]
    if folder.name == "Testing_Set" or any(name.endswith("_img_ID_pairs.mat") for name in files):
        found.append(Found("tinyface", "tinyface", folder))
    return found


def _bin(path: Path) -> Found:
    for name, benchmark in BENCHMARKS.items():
        if path.name in benchmark.files:
            return Found(name, "pairs", path)
    return Found(path.stem, "pairs", path)
