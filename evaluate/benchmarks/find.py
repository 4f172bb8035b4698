"""The field's benchmarks: how each is found in the layout in which it is handed out, and how much it must hold."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import InputError, unknown_name
from zoo.evaluate.lists import read_csv, read_pairs_txt, read_rfw
from zoo.evaluate.protocols import PROTOCOLS
from zoo.evaluate.protocols.base import Figures, Protocol
from zoo.evaluate.protocols.ijb import IJBProtocol
from zoo.evaluate.protocols.pairs import PairsProtocol
from zoo.evaluate.protocols.tinyface import TinyFaceProtocol
from zoo.faces.crop import Cut, DetectorCut


@dataclass(frozen=True)
class Benchmark:
    """A benchmark as published: its protocol, and what a whole copy holds."""

    title: str
    protocol: str
    files: tuple[str, ...] = ()
    """The names under which its .bin is handed out."""
    counts: tuple[tuple[str, int], ...] = ()
    """Figures of a result and what they are for the whole benchmark; those that a layout cannot tell are not asked."""
    whole: tuple[tuple[str, int], ...] = ()
    """What the publication counts beyond that, e.g. pictures of people in no pair."""

    @property
    def holds(self) -> dict[str, int]:
        """Everything that is counted, by name."""
        return {**dict(self.whole), **dict(self.counts)}


RFW_GROUPS = ("African", "Asian", "Caucasian", "Indian")
RFW_SIZES = ((10415, 2995), (9688, 2492), (10196, 2959), (10308, 2984))
"""Images and people of each group (Wang et al., ICCV 2019, table 2)."""

_LFW = (("images", 13233), ("people", 5749))

BENCHMARKS: dict[str, Benchmark] = {
    "lfw": Benchmark("LFW", "pairs", ("lfw.bin",), (("pairs", 6000),), _LFW),
    "cfp_fp": Benchmark("CFP-FP", "pairs", ("cfp_fp.bin",), (("pairs", 7000),), (("images", 7000), ("people", 500))),
    "agedb_30": Benchmark(
        "AgeDB-30", "pairs", ("agedb_30.bin",), (("pairs", 6000),), (("images", 16488), ("people", 568))
    ),
    "calfw": Benchmark("CALFW", "pairs", ("calfw.bin",), (("pairs", 6000),), (("images", 12174), ("people", 5749))),
    "cplfw": Benchmark("CPLFW", "pairs", ("cplfw.bin",), (("pairs", 6000),), (("images", 11652), ("people", 5749))),
    "xqlfw": Benchmark("XQLFW", "pairs", ("xqlfw.bin",), (("pairs", 6000),), _LFW),
    **{
        f"rfw_{group.lower()}": Benchmark(
            f"RFW {group}",
            "pairs",
            (f"{group}_test.bin", f"rfw_{group}.bin", f"{group}.bin"),
            (("pairs", 6000), ("images", images), ("people", people)),
        )
        for group, (images, people) in zip(RFW_GROUPS, RFW_SIZES, strict=True)
    },
    "ijbb": Benchmark(
        "IJB-B",
        "ijb",
        counts=(("images", 227630), ("templates", 12115), ("pairs", 8010270), ("people", 1845)),
    ),
    "ijbc": Benchmark(
        "IJB-C",
        "ijb",
        counts=(("images", 469375), ("templates", 23124), ("pairs", 15658489), ("people", 3531)),
    ),
    "tinyface": Benchmark(
        "TinyFace",
        "tinyface",
        counts=(("probes", 3728), ("gallery", 4443), ("distractors", 153428), ("people", 2569)),
    ),
}
"""Every benchmark by the name that --protocol takes.

Images and people of the pairs benchmarks beside RFW are those of table 1 in Deng et al., CVPR 2019.
"""

CROWDED = {"loose_crop", "Probe", "Gallery_Match", "Gallery_Distractor", "Training_Set"}
"""Folders of pictures by the hundred thousand, in which no benchmark is looked for."""


def describe(protocol: str) -> dict[str, Any]:
    """What is known of a protocol: its name, the line that tells what it measures, and its benchmarks with counts."""
    return {
        "name": protocol,
        "summary": (PROTOCOLS[protocol].__doc__ or "").strip().splitlines()[0],
        "benchmarks": [
            {"name": name, "title": benchmark.title, **benchmark.holds}
            for name, benchmark in BENCHMARKS.items()
            if benchmark.protocol == protocol
        ],
    }


@dataclass(frozen=True)
class Found:
    """A benchmark that lies at `path`; `name` is its key in BENCHMARKS, or the file's for a .bin that nobody knows."""

    name: str
    protocol: str
    path: Path
    layout: str = "bin"
    """Of pairs: bin, pairs.txt, csv or rfw."""

    @property
    def title(self) -> str:
        """What people call it."""
        return BENCHMARKS[self.name].title if self.name in BENCHMARKS else self.path.name

    def open(self, features: str = "N1D1", detector: str | None = None) -> Protocol:
        """The benchmark, ready to embed. InputError, naming what is missing, for an incomplete one.

        `detector` cuts the faces out of the pictures of a list: YuNet's file, or `yunet` for the pinned one.
        """
        if self.protocol == "pairs":
            return self._open_pairs(detector)
        if self.protocol == "ijb":
            return IJBProtocol(self.path, norm=features[1] == "1", detector_score=features[3] == "1")
        return TinyFaceProtocol(self.path)

    def _open_pairs(self, detector: str | None) -> PairsProtocol:
        cut: Cut | None = DetectorCut(None if detector == "yunet" else detector) if detector else None
        if self.layout == "bin":
            pairs = PairsProtocol.from_bin(self.path)
            pairs.data = self.title
            return pairs
        if self.layout == "rfw":
            listed, landmarks = read_rfw(self.path, self.title.removeprefix("RFW "))
            return PairsProtocol.from_list(listed, self.title, cut or landmarks)
        read = read_pairs_txt if self.layout == "pairs.txt" else read_csv
        return PairsProtocol.from_list(read(self.path), self.title, cut)

    def shortfall(self, figures: Figures) -> str:
        """The sentence for a copy of another size than the published one; empty where all counts are right."""
        counts = BENCHMARKS[self.name].counts if self.name in BENCHMARKS else ()
        wrong = [
            f"{figures[key]:,} {key} instead of {count:,}" for key, count in counts if figures.get(key, count) != count
        ]
        if not wrong:
            return ""
        return f"{self.path} is not all of {self.title}: {', '.join(wrong)}; no published figure compares"


def find_benchmarks(root: str | Path, only: Sequence[str] = ()) -> list[Found]:
    """Every benchmark at or under `root`; `only` narrows by benchmark or protocol names, rfw for all groups.

    InputError where nothing is found, or where a name is none of a benchmark, a protocol or a .bin that was found.
    """
    root = Path(root)
    if root.is_file():
        found = [_file(root)]
    elif root.is_dir():
        found = []
        for folder, names, files in os.walk(root):
            names[:] = sorted(name for name in names if name not in CROWDED and not name.startswith("."))
            here = _in_folder(Path(folder), names, files)
            if any(one.layout == "rfw" for one in here):
                names[:] = [name for name in names if name not in ("data", "txts")]  # thousands of people's folders
            found += here
    else:
        raise InputError(
            f"expected a benchmark's file, a folder of benchmarks or the word synthetic at {root}, found nothing"
        )
    known = {*BENCHMARKS, *PROTOCOLS, "rfw", *(one.name for one in found)}
    for name in only:
        if name not in known:
            raise unknown_name("protocol or benchmark", name, known)
    wanted = {*only, *(f"rfw_{group.lower()}" for group in RFW_GROUPS if "rfw" in only)}
    chosen = [one for one in found if not only or one.name in wanted or one.protocol in wanted]
    if not chosen:
        what = (
            f"a benchmark of {', '.join(only)}"
            if only
            else "a benchmark (.bin, pairs.txt, RFW, IJBB/IJBC with meta/, tinyface)"
        )
        raise InputError(f"expected {what} under {root}, found none")
    return chosen


def _in_folder(folder: Path, folders: list[str], files: list[str]) -> list[Found]:
    found = [_file(folder / name) for name in sorted(files) if name.endswith(".bin") or name in LISTS]
    if {"data", "txts"} <= set(folders):
        inside = {path.name for part in ("data", "txts") for path in (folder / part).iterdir()}
        found += [Found(f"rfw_{group.lower()}", "pairs", folder, "rfw") for group in RFW_GROUPS if group in inside]
    if folder.name == "meta":
        releases = sorted({name[:4] for name in files if name[:5] in ("ijbb_", "ijbc_") and not name.endswith(".csv")})
        found += [Found(release, "ijb", folder.parent) for release in releases]
    if folder.name == "Testing_Set" or any(name.endswith("_img_ID_pairs.mat") for name in files):
        found.append(Found("tinyface", "tinyface", folder))
    return found


LISTS = {"pairs.txt": "lfw", "lfw_pairs.txt": "lfw", "xqlfw_pairs.txt": "xqlfw"}
"""Lists of pairs in LFW's form, and whose they are."""


def _file(path: Path) -> Found:
    if path.suffix == ".csv":
        return Found(path.stem, "pairs", path, "csv")
    if path.suffix == ".txt":
        return Found(LISTS.get(path.name, path.stem), "pairs", path, "pairs.txt")
    for name, benchmark in BENCHMARKS.items():
        if path.name in benchmark.files:
            return Found(name, "pairs", path)
    return Found(path.stem, "pairs", path)
