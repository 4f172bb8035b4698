"""Coverage-guided fuzzing of the readers of third-party files: `python -m tests.support.fuzz_formats TARGET [FLAGS]`.

Any byte string must give records or one InputError. libFuzzer itself stops at a crash, at a case that takes too long
and at one that takes too much memory; its flags go through, e.g. -runs=1000000. Needs atheris (the extra `fuzz`).
"""

from __future__ import annotations

import io
import pickle
import resource
import sys
import tempfile
import zipfile
from pathlib import Path

import atheris
import torch

with atheris.instrument_imports(include=["zoo.formats", "zoo.published.read"]):
    from zoo.errors import InputError
    from zoo.formats.bins import read_bin
    from zoo.formats.recordio import RecordFile
    from zoo.published.read import Described, read_tensors

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


def read_checkpoint(folder: Path, content: bytes) -> None:
    """A file as it is; or, where it begins with P, with the rest as the pickle of an archive with one storage."""
    path = folder / "x.pth"
    path.write_bytes(content)
    if content[:2] == b"P\x80":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x/data.pkl", content[1:])
            archive.writestr("x/data/0", bytes(24))
    for tensor in read_tensors(path).values():
        assert isinstance(tensor.read() if isinstance(tensor, Described) else tensor, torch.Tensor)


def seeds(target: str, folder: Path) -> list[bytes]:
    if target == "bins":
        pairs = ([b"first", b"second"], [True])
        return [pickle.dumps(pairs, protocol=protocol) for protocol in range(6)]
    if target == "checkpoints":
        rows = torch.zeros(2, 3)
        weights = {"a.weight": torch.nn.Parameter(rows), "b.bias": rows[:, 1]}  # of one storage
        files = [io.BytesIO() for _ in range(3)]
        torch.save({"state_dict": weights, "epoch": 3}, files[0])
        torch.save({"b": torch.zeros(2)}, files[1], _use_new_zipfile_serialization=False)
        torch.save(weights, files[2])
        pickled = zipfile.ZipFile(files[2])
        inner = next(name for name in pickled.namelist() if name.endswith("data.pkl"))
        return [files[0].getvalue(), files[1].getvalue(), b"P" + pickled.read(inner)]
    found = []
    people = [[b"a", b"b" + MAGIC], [MAGIC * 2, b"d"]]
    for payloads in (identity_payloads(people), [picture_payload(i, i, MAGIC + b"x") for i in range(3)]):
        rec = write(folder, payloads).read_bytes()
        index = (folder / "train.idx").read_bytes()
        found += [bytes(2) + rec, len(index).to_bytes(2, "little") + index + rec]
    return found


def main() -> None:
    target, *flags = sys.argv[1:]
    read = {"recordio": read_records, "bins": read_pairs, "checkpoints": read_checkpoint}[target]
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
