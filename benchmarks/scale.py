"""What a large set costs to open and to read at random: `python benchmarks/data.py scale [--records 1000000]`.

Each trial is a process of its own, whose peak memory and time it prints. The files are made in --folder, by default a
temporary one, which needs 130 bytes a record and a gigabyte for the trial of random reads: a disk, not a tmpfs.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

CHUNK = 1_000_000
PICTURE = b"\xff\xd8" + b"tiny picture" * 6 + b"\xff\xd9"
"""No decoder takes it; opening reads no picture."""


def tiny_records(folder: Path, records: int, people: int, layout: str) -> Path:
    """A .rec of `records` pictures of 108 bytes each, with its .idx; as insightface has it, or "plain"."""
    rec = folder / f"{layout}.rec"
    header = [("magic", "<u4"), ("word", "<u4"), ("flag", "<u4"), ("label", "<f4"), ("id", "<u8"), ("id2", "<u8")]
    frame = np.dtype([*header, ("picture", f"S{len(PICTURE)}")])
    ranges = np.dtype([*header, ("start", "<f4"), ("end", "<f4")])
    assert frame.itemsize % 4 == 0
    first = layout == "insightface"
    with open(rec, "wb") as file, open(rec.with_suffix(".idx"), "wb") as index:
        offset = key = 0

        def write(rows: np.ndarray) -> None:
            nonlocal offset, key
            rows["magic"], rows["word"] = 0xCED7230A, rows.dtype.itemsize - 8
            file.write(rows.tobytes())
            places = offset + np.arange(len(rows)) * rows.dtype.itemsize
            np.savetxt(index, np.column_stack([key + np.arange(len(rows)), places]), fmt="%d", delimiter="\t")
            offset, key = offset + rows.nbytes, key + len(rows)

        if first:
            row = np.zeros(1, ranges)
            row["flag"], row["start"], row["end"] = 2, records + 1, records + 1 + people
            write(row)
        for start in range(0, records, CHUNK):
            rows = np.zeros(min(CHUNK, records - start), frame)
            rows["picture"] = PICTURE
            rows["label"] = (np.arange(len(rows)) + start) * people // records
            write(rows)
        if first:
            edges = 1 + -(-np.arange(people + 1) * records // people)
            rows = np.zeros(people, ranges)
            rows["flag"], rows["start"], rows["end"] = 2, edges[:-1], edges[1:]
            write(rows)
    return rec


def alone(work: str, folder: Path) -> tuple[float, float, str]:
    """Runs Python in a process of its own: seconds and peak MB above the imports, and what it prints."""
    program = f"""
import time
from pathlib import Path
import numpy as np, zoo.data.open, zoo.data.tar, zoo.formats.recordio
folder = Path({str(folder)!r})
def peak(): return int(next(row for row in open("/proc/self/status") if row.startswith("VmHWM")).split()[1]) / 1024
before, start = peak(), time.perf_counter()
{work}
print(time.perf_counter() - start, peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    *told, last = done.stdout.splitlines()
    seconds, megabytes = map(float, last.split())
    return seconds, megabytes, " ".join(told)


def opening(folder: Path, records: int) -> None:
    """Opening .rec files of many tiny records, from the .idx, by a scan, and from the index that a scan kept."""
    people = max(2, records // 20)
    print(f"\nOpening {records:,} records of {people:,} people")
    for layout in ("insightface", "plain"):
        rec = tiny_records(folder, records, people, layout)
        for name in ("with its .idx", "again", "without it", "without it, again"):
            if name == "without it":
                rec.with_suffix(".idx").unlink()
            work = f"found = zoo.formats.recordio.RecordFile({str(rec)!r}); print(len(found), found.num_classes)"
            seconds, megabytes, told = alone(work, folder)
            images = int(told.split()[0])
            assert images == records, told
            print(f"  {layout:<11} {name:<18} {seconds:>7.1f} s  peak {megabytes:>8,.0f} MB"
                  f"  {megabytes * 1e6 / records:>6.1f} bytes a picture")  # fmt: skip
        rec.unlink()


def random_reads(folder: Path, pictures: int = 4000, size: int = 10_000, gigabytes: float = 1.0) -> None:
    """Bytes that a disk reads for random pictures of a file that is in no cache."""
    rec = folder / "cold.rec"
    payload = struct.pack("<IfQQ", 0, 1.0, 0, 0) + bytes(size)
    record = struct.pack("<II", 0xCED7230A, len(payload)) + payload + bytes(-len(payload) % 4)
    count = int(gigabytes * 1e9) // len(record)
    with open(rec, "wb") as file, open(rec.with_suffix(".idx"), "w") as index:
        for key in range(count):
            file.write(record)
            index.write(f"{key}\t{key * len(record)}\n")
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    chosen = f"np.random.default_rng(0).choice({count}, {min(pictures, count)}, replace=False).tolist()"
    work = f"""
found = zoo.formats.recordio.RecordFile({str(rec)!r})
with open(found.path) as file:
    import os; os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
def disk(): return int(next(line for line in open("/proc/self/io") if line.startswith("read_bytes")).split()[1])
start = disk()
for i in {chosen}: found.content(i)
print(disk() - start)
"""
    _, _, told = alone(work, folder)
    print(f"\nReading {min(pictures, count):,} random pictures of {size:,} bytes from {rec.stat().st_size / 1e9:.1f} GB"
          f" in no cache: {int(told) / 1e6:,.0f} MB from the disk")  # fmt: skip
    rec.unlink()


def lists_and_tars(folder: Path, images: int) -> None:
    """Memory of a list and of shards, and what a forked worker of a list adds in an epoch."""
    people = images // 20
    (folder / "list.txt").write_text("".join(f"{i % people:07d}/{i:08d}.jpg {i % people}\n" for i in range(images)))
    import io
    import tarfile

    with tarfile.open(folder / "a.tar", "w") as archive:
        for i in range(images // 10):
            for suffix, content in ((".jpg", PICTURE), (".cls", str(i % people).encode())):
                member = tarfile.TarInfo(f"{i:08d}{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    print("\nMemory a picture, as the process holds it once the set is open")
    for name, file, count in (("list", "list.txt", images), ("tar", "a.tar", images // 10)):
        held = f"""
import tracemalloc; tracemalloc.start()
found = zoo.data.open.open_people({str(folder / file)!r})
print(tracemalloc.get_traced_memory()[0] / len(found))
"""
        alone(held, folder)  # a tar's index is kept
        _, _, told = alone(held, folder)
        print(f"  {name:<5} {count:>9,} pictures  {float(told):>6.1f} bytes")
    grown = f"""
import os
found = zoo.data.open.open_people({str(folder / "list.txt")!r})
def own():
    rows = open("/proc/self/smaps_rollup").read().splitlines()
    return sum(int(row.split()[1]) for row in rows if row.startswith("Private_Dirty"))
if not (child := os.fork()):
    before = own()
    for i in range(len(found)): found.where(i)
    print((own() - before) / 1024 / len(found) * 1e6, flush=True); os._exit(0)
os.waitpid(child, 0)
"""
    _, _, told = alone(grown, folder)
    print(f"  a worker that goes through the list once grows by {float(told):,.1f} MiB a million pictures")


def scale(records: int, folder: str | None) -> None:
    """All trials."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        os.environ["ZOO_CACHE"] = str(Path(temporary) / "cache")
        place = Path(temporary)
        opening(place, records)
        random_reads(place)
        lists_and_tars(place, 300_000)
