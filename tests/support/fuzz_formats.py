"""Coverage-guided fuzzing of the readers of third-party files: `python -m tests.support.fuzz_formats TARGET [FLAGS]`.

Any byte string must give records or one InputError. libFuzzer itself stops at a crash, at a case that takes too long
and at one that takes too much memory; its flags go through, e.g. -runs=1000000. Needs atheris (the extra `fuzz`).
"""

from __future__ import annotations

import pickle
import resource
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["zoo.formats"]):
    from zoo.errors import InputError
    from zoo.formats.bins import read_bin
    from zoo.formats.recordio import RecordFile

from tests.support.records import MAGIC, identity_payloads, picture_payload, write

FLAGS = ["-max_len=4096", "-timeout=10", "-malloc_limit_mb=64"]


def read_records(folder: Path, content: bytes) -> None:
    """The index, as long as the first two bytes tell, then the .rec; without an index where they tell zero."""
    length = int.from_bytes(content[:2], "little") % 512
    (folder / "train.idx").unlink(missing_ok=True)
    if length:
        (folder / "train.idx").write_bytes(content[2 : 2 + length])
    (folder / "train.rec").write_bytes(content[2 + length :])
    records = RecordFile(folder)
    assert len(records.labels) == len(records) and set(records.labels.tolist()) == set(range(records.num_classes))
    for i in range(len(records)):
        records.content(i)


def read_pairs(folder: Path, content: bytes) -> None:
    (folder / "x.bin").write_bytes(content)
    images, same = read_bin(folder / "x.bin")
    assert len(images) == 2 * len(same) and all(type(image) is bytes for image in images)


def seeds(target: str, folder: Path) -> list[bytes]:
    if target == "bins":
        pairs = ([b"first", b"second"], [True])
        return [pickle.dumps(pairs, protocol=protocol) for protocol in range(6)]
    found = []
    people = [[b"a", b"b" + MAGIC], [MAGIC * 2, b"d"]]
    for payloads in (identity_payloads(people), [picture_payload(i, i, MAGIC + b"x") for i in range(3)]):
        rec = write(folder, payloads).read_bytes()
        index = (folder / "train.idx").read_bytes()
        found += [bytes(2) + rec, len(index).to_bytes(2, "little") + index + rec]
    return found


def main() -> None:
    target, *flags = sys.argv[1:]
    read = {"recordio": read_records, "bins": read_pairs}[target]
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as temporary:
        folder, corpus = Path(temporary), Path(temporary) / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(seeds(target, folder)):
            (corpus / str(number)).write_bytes(seed)
            read(folder, seed)

        def one(content: bytes) -> None:
            try:
                read(folder, content)
            except InputError:
                return

        at_rest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        atheris.Setup([sys.argv[0], *FLAGS, f"-rss_limit_mb={at_rest + 256}", *flags, str(corpus)], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
