"""Every layout that open_dataset takes holds the same set; what strangers may put into one; damage skipped."""

from __future__ import annotations

import functools
import http.server
import pickle
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import zoo.data.shards
import zoo.data.tar
from tests.support.layouts import (
    CONTENTS,
    LABELS,
    SOURCES,
    add,
    make_parquet,
    make_tars,
    picture,
    write_tar,
)
from zoo.data import open_dataset
from zoo.data.augment import build_augmentation
from zoo.data.base import contiguous
from zoo.data.loader import OPEN_BLOCKS, TrainLoader
from zoo.data.open import open_crops
from zoo.errors import InputError
from zoo.formats.bins import write_bin

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def shards(monkeypatch, tmp_path) -> Path:
    """Where indexes and fetched shards are kept."""
    monkeypatch.setenv("WDS_CACHE", str(tmp_path / "shards"))
    return tmp_path / "shards"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    return tmp_path / "set"


@pytest.mark.parametrize("source", SOURCES)
def test_every_layout_holds_the_same_set_in_every_process(root, source):
    dataset = open_dataset(SOURCES[source](root), image_size=(8, 8))
    assert dataset.labels.tolist() == LABELS and dataset.labels.dtype == np.int64
    assert dataset.num_classes == 4 and dataset.describe().startswith("15 images of 4 identities, ")
    for i in (14, 0, 7, 9, 8):
        assert np.array_equal(dataset.image(i), picture(i))
    assert np.array_equal(pickle.loads(pickle.dumps(dataset)).image(7), picture(7))


@pytest.mark.parametrize("source", SOURCES)
def test_crops_are_read_from_every_layout_as_they_are_stored(root, source):
    crops = open_crops(SOURCES[source](root), (112, 112))
    assert len(crops) == 15 and all(np.array_equal(crops.image(i), picture(i)) for i in range(15))


def test_crops_are_read_from_benchmarks_loose_pictures_and_the_synthetic_set_too(root):
    assert len(open_crops(str(root), (112, 112))) == 0
    write_bin(root / "pairs.bin", CONTENTS[:4], [True, False])
    (root / "a/b").mkdir(parents=True)
    for i, name in enumerate(("a/b/0.PNG", "a/1.png", "2.png", "a/b/notes.txt")):
        (root / name).write_bytes(CONTENTS[i])
    (root / "pairs.csv").write_text("a,b,same\na/1.png,2.png,1\n")
    for name, numbers in (("", [2, 1, 0]), ("pairs.bin", [0, 1, 2, 3]), ("pairs.csv", [1, 2])):
        crops = open_crops(str(root / name), (112, 112))
        assert [crops.image(i).tobytes() for i in range(len(crops))] == [picture(i).tobytes() for i in numbers]
    assert open_crops("synthetic:3x5", (32, 24)).image(14).shape == (32, 24, 3)
    with pytest.raises(InputError, match="found nothing"):
        open_crops(str(root / "absent"), (112, 112))


@pytest.mark.parametrize("source", ["RecordIO", "tar, .cls", "parquet, bytes", "Hub dataset"])
def test_workers_0_1_and_4_give_the_same_epoch_of_every_layout(root, source):
    dataset = open_dataset(SOURCES[source](root), image_size=(8, 8))
    expected = None
    for workers in (0, 1, 4):
        loader = TrainLoader(dataset, build_augmentation("flip"), 4, seed=1, workers=workers)
        found = [tuple(tensor.numpy().tobytes() for tensor in batch) for batch in loader.epoch(2)]
        expected = expected or found
        assert len(found) == 3 and found == expected


class Blocks:
    """A set in blocks of unequal sizes, whose pictures cost nothing."""

    name = "blocks"

    def __init__(self, sizes: list[int]) -> None:
        self.blocks = np.concatenate([[0], np.cumsum(sizes)])
        self.labels = np.arange(self.blocks[-1], dtype=np.int64) % 5
        self.num_classes = 5

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, i: int) -> np.ndarray:
        return np.full((2, 2, 3), i % 256, np.uint8)

    def describe(self) -> str:
        return self.name


@pytest.mark.parametrize("world", [1, 2, 3])
def test_blocks_are_split_over_the_ranks_and_stay_together(world):
    sizes = np.random.default_rng(0).integers(5, 30, 100).tolist()
    dataset = Blocks(sizes)
    loaders = [TrainLoader(dataset, build_augmentation("none"), 7, rank=r, world=world) for r in range(world)]
    order = loaders[0].order(0)
    assert order.shape == (sum(sizes) // (7 * world), world, 7)
    assert len(np.unique(order)) == order.size
    assert not np.array_equal(order, loaders[0].order(1))
    reads = 0
    for rank, loader in enumerate(loaders):
        seen = np.concatenate([indices.numpy() for _, _, indices in loader.epoch(0)])
        assert np.array_equal(seen, order[:, rank].reshape(-1))
        blocks = np.searchsorted(dataset.blocks, seen, side="right") - 1
        reads += len(np.unique(blocks))
        first = {block: np.flatnonzero(blocks == block).min() for block in np.unique(blocks)}
        last = {block: np.flatnonzero(blocks == block).max() for block in np.unique(blocks)}
        open_at_once = max(sum(first[b] <= t <= last[b] for b in first) for t in range(0, len(seen), 7))
        assert open_at_once <= 2 * OPEN_BLOCKS + 2
    assert reads < 100 + world  # two ranks share a block only where the part of one meets that of the next


def test_a_restart_in_a_set_of_blocks_goes_on_as_if_nothing_had_happened():
    loader = TrainLoader(Blocks([9] * 40), build_augmentation("none"), 11, workers=0)
    whole = [indices.tolist() for _, _, indices in loader.epoch(1)]
    assert [indices.tolist() for _, _, indices in loader.epoch(1, start_step=13)] == whole[13:]


@pytest.mark.parametrize("source", ["RecordIO", "tar, .cls", "parquet, bytes", "folder"])
def test_filters_leave_people_out_and_number_the_rest_anew(root, source):
    uri = SOURCES[source](root)
    dataset = open_dataset(uri, image_size=(8, 8), min_images=3, max_images=4)
    kept = [i for i, label in enumerate(LABELS) if label != 1][: 3 + 4 + 4]
    assert dataset.labels.tolist() == [0] * 3 + [1] * 4 + [2] * 4 and dataset.num_classes == 3
    assert all(np.array_equal(dataset.image(place), picture(i)) for place, i in enumerate(kept))
    with pytest.raises(InputError, match="at least two identities"):
        open_dataset(uri, min_images=5)
    with pytest.raises(InputError, match="at least one image"):
        open_dataset(uri, max_images=0)


@pytest.fixture
def damaged(root: Path) -> str:
    contents = [b"damaged" if i in (3, 4, 14) else content for i, content in enumerate(CONTENTS)]
    write_tar(root / "a.tar", range(15), contents=contents)
    return str(root)


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("world", [1, 3])
def test_skipped_pictures_are_replaced_counted_once_and_leave_the_length_as_it_was(damaged, workers, world):
    dataset = open_dataset(damaged, image_size=(8, 8))
    loaders = [
        TrainLoader(dataset, build_augmentation("none"), 1, workers=workers, rank=rank, world=world, on_corrupt="skip")
        for rank in range(world)
    ]
    for epoch in range(2):
        counted = 0
        for rank, loader in enumerate(loaders):
            batches = list(loader.epoch(epoch))
            planned = loader.order(epoch)[:, rank].ravel().tolist()
            assert len(batches) == len(loader) == 15 // world
            for (crops, labels, indices), wanted in zip(batches, planned, strict=True):
                expected = {3: 5, 4: 5, 14: 0}.get(wanted, wanted)
                assert indices.tolist() == [expected] and labels.tolist() == [LABELS[expected]]
                assert np.array_equal(crops[0].numpy(), picture(expected))
            assert set(loader.skipped) == {3, 4, 14} & set(planned)
            assert all(f"sample sub.dir/{i:04d}" in reason for i, reason in loader.skipped.items())
            counted += len(loader.skipped)
        assert counted == 3  # every picture is somebody's in 15 batches of one


@pytest.mark.parametrize("source", ["RecordIO", "folder", "parquet, bytes"])
def test_damage_of_every_layout_is_skipped_by_batches_as_one_by_one(root, source, monkeypatch):
    contents = [b"damaged" if i in (3, 4, 14) else content for i, content in enumerate(CONTENTS)]
    monkeypatch.setattr("tests.support.layouts.CONTENTS", contents)
    uri = make_parquet(root, contents) if source == "parquet, bytes" else SOURCES[source](root)
    dataset = open_dataset(uri, image_size=(8, 8))
    found = []
    for workers in (0, 1, 4):
        loader = TrainLoader(dataset, build_augmentation("flip"), 5, workers=workers, on_corrupt="skip")
        found.append([crops.numpy().tobytes() for crops, _, _ in loader.epoch(0)])
        assert set(loader.skipped) == {3, 4, 14} and found[-1] == found[0] and len(found[-1]) == 3
    assert [np.frombuffer(batch, np.uint8).size for batch in found[0]] == [5 * 8 * 8 * 3] * 3


def test_a_set_of_damage_alone_stops(root):
    write_tar(root / "a.tar", range(15), contents=[b"damaged"] * 15)
    loader = TrainLoader(open_dataset(str(root)), build_augmentation("none"), 2, on_corrupt="skip")
    with pytest.raises(InputError, match="a sound picture"):
        list(loader.epoch(0))
    with pytest.raises(InputError, match="error or skip"):
        TrainLoader(open_dataset(str(root)), build_augmentation("none"), 2, on_corrupt="ignore")


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize("name", ["../x.png", "/etc/x.png", "a/../../x.png"])
def test_a_tar_member_that_leads_out_is_refused_by_name(root, name):
    with tarfile.open(root / "a.tar", "w") as archive:
        add(archive, name, CONTENTS[0])
    with pytest.raises(InputError, match=r"a link or leads out") as refusal:
        open_dataset(str(root))
    assert repr(name) in str(refusal.value)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_a_tar_member_that_is_no_plain_file_is_refused(root, kind):
    with tarfile.open(root / "a.tar", "w") as archive:
        archive.addfile(link("0.png", "/etc/passwd", kind))
    with pytest.raises(InputError, match="a link or leads out"):
        open_dataset(str(root))


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ([("0.png", CONTENTS[0])], r"expected 0\.cls"),
        ([("0.cls", b"1")], "found none in 1 shards"),
        ([("0.png", CONTENTS[0]), ("0.cls", b"")], "found an empty file"),
        ([("0.png", CONTENTS[0]), ("0.json", b"{")], "expected JSON"),
        ([("0.png", CONTENTS[0]), ("0.json", b"[" * 100_000)], "expected JSON"),
        ([("0.png", CONTENTS[0]), ("0.json", b"{}")], r"expected 0\.cls"),
        ([], "found none in 1 shards"),
    ],
)
def test_a_shard_without_labelled_pictures_is_refused(root, members, found):
    with tarfile.open(root / "a.tar", "w") as archive:
        for name, content in members:
            add(archive, name, content)
    with pytest.raises(InputError, match=found):
        open_dataset(str(root))


def test_a_truncated_or_compressed_shard_is_refused(root):
    write_tar(root / "a.tar", range(15))
    whole = (root / "a.tar").read_bytes()
    end = whole.rindex(b"sub.dir/0014.cls") + 513
    for length in (0, 100, 512, 5000, end // 2, end - 1):
        (root / "a.tar").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"a\.tar|set"):
            open_dataset(str(root))
    with tarfile.open(root / "a.tar", "w:gz") as archive:
        add(archive, "0.png", CONTENTS[0])
    with pytest.raises(InputError, match="uncompressed"):
        open_dataset(str(root))


def test_a_shard_cut_between_two_samples_does_not_end_the_epoch_silently(root):
    write_tar(root / "a.tar", range(15))
    whole = (root / "a.tar").read_bytes()
    with tarfile.open(root / "a.tar") as archive:
        places = [member.offset for member in archive if member.name.endswith("png")][1:]
    for place in places:
        for rest in (b"", b"junk" * 128, bytes(100)):
            (root / "a.tar").write_bytes(whole[:place] + rest)
            with pytest.raises(InputError, match="truncated"):
                open_dataset(str(root))
    (root / "a.tar").write_bytes(whole[: places[-1]] + bytes(1024))  # the twin: an end mark is an end
    assert len(open_dataset(str(root))) == 14


@pytest.fixture
def headers_read(monkeypatch) -> list[str]:
    """The shards whose headers were read, as they are."""
    read: list[str] = []
    samples = zoo.data.tar._samples
    monkeypatch.setattr(zoo.data.tar, "_samples", lambda file, shard: read.append(shard) or samples(file, shard))
    return read


def test_headers_are_read_again_only_where_a_shard_changed(root, headers_read, shards):
    make_tars(root, "cls")
    first = open_dataset(str(root), image_size=(8, 8))
    assert len(headers_read) == 2
    again = open_dataset(str(root), image_size=(8, 8))
    assert len(headers_read) == 2
    assert again.labels.tolist() == LABELS and np.array_equal(again.image(9), first.image(9))
    assert again.where(9) == first.where(9)
    for index in shards.glob("*.json"):
        index.write_text("{")
    unread = open_dataset(str(root))
    assert len(headers_read) == 4
    write_tar(root / "a-001.tar", range(0, 15))
    assert len(open_dataset(str(root))) == 22 and len(headers_read) == 5
    with pytest.raises(InputError, match="it has changed"):
        unread.image(9)


def test_a_folder_that_nobody_may_write_to_costs_only_time(root, headers_read, monkeypatch, tmp_path):
    make_tars(root, "cls")
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("WDS_CACHE", str(tmp_path / "file"))
    assert len(open_dataset(str(root))) == 15 == len(open_dataset(str(root))) and len(headers_read) == 4


class Served(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, breaks off after `breaks` bytes that many times, knows ranges if asked."""

    breaks: list[int]
    ranges = True
    asked: list[tuple[str, str | None]]

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Range"]))
        file = Path(self.translate_path(self.path))
        if not file.is_file():
            return self.send_error(404)
        content, start = file.read_bytes(), 0
        if self.headers["Range"] and self.ranges:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: self.breaks.pop() if self.breaks else None])
        return None


@pytest.fixture
def served(root: Path, monkeypatch) -> Iterator[tuple[str, type[Served]]]:
    monkeypatch.setattr(zoo.data.shards, "PAUSE_SECONDS", 0.001)

    class Mine(Served):
        pass

    Mine.breaks, Mine.asked = [], []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Mine, directory=root)) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", Mine
        running.shutdown()


def test_shards_come_by_http_once(root, served, shards):
    pytest.importorskip("webdataset", reason="the extra `data` is not installed")
    make_tars(root, "cls")
    address, server = served
    for _ in range(2):  # the second time from what was kept
        dataset = open_dataset(address + "/a-{000..001}.tar", image_size=(8, 8))
        assert dataset.labels.tolist() == LABELS and np.array_equal(dataset.image(9), picture(9))
    assert len(server.asked) == 2 and len(list(shards.glob("*.tar"))) == 2
    with pytest.raises(InputError, match="the server answers 404"):
        open_dataset(address + "/absent.tar")
    (root / "text.tar").write_text("no archive")
    with pytest.raises(InputError, match="expected an uncompressed tar file at http"):
        open_dataset(address + "/text.tar")
    write_tar(root / "text.tar", range(15))  # nothing of what was wrong was kept
    assert len(open_dataset(address + "/text.tar")) == 15
    with pytest.raises(InputError, match="could not fetch it"):
        open_dataset("http://127.0.0.1:1/x.tar")


@pytest.mark.parametrize("ranges", [True, False])
def test_a_connection_that_breaks_is_taken_up_again(root, served, ranges):
    pytest.importorskip("webdataset", reason="the extra `data` is not installed")
    write_tar(root / "a.tar", range(15))
    address, server = served
    server.ranges, server.breaks = ranges, [700, 3000, 0]
    dataset = open_dataset(f"{address}/a.tar", image_size=(8, 8))
    assert dataset.labels.tolist() == LABELS and np.array_equal(dataset.image(14), picture(14))
    assert [sent for _, sent in server.asked] == [None, None, "bytes=3000-", "bytes=3700-" if ranges else "bytes=700-"]


def test_a_server_that_always_breaks_off_is_one_sentence_and_leaves_nothing(root, served, shards):
    pytest.importorskip("webdataset", reason="the extra `data` is not installed")
    write_tar(root / "a.tar", range(15))
    address, server = served
    server.breaks = [10] * 50
    with pytest.raises(InputError, match=r"the connection ended after 50 of [\d,]+ bytes") as refusal:
        open_dataset(f"{address}/a.tar")
    assert "\n" not in str(refusal.value) and not list(shards.glob("*.tar"))


def test_fetched_shards_take_no_more_room_than_they_may(root, served, shards, monkeypatch):
    pytest.importorskip("webdataset", reason="the extra `data` is not installed")
    for number in range(15):
        write_tar(root / f"a-{number:03d}.tar", range(number, number + 1))
    size = (root / "a-000.tar").stat().st_size
    address, server = served
    monkeypatch.setenv("WDS_CACHE_SIZE", str(3 * size))
    monkeypatch.setattr(zoo.data.tar, "_OPEN_SHARDS", 2)
    dataset = open_dataset(address + "/a-{000..014}.tar", image_size=(8, 8))
    for workers in (0, 2):
        loader = TrainLoader(dataset, build_augmentation("none"), 3, workers=workers)
        for crops, _, indices in loader.epoch(workers):
            assert all(np.array_equal(crop.numpy(), picture(int(i))) for crop, i in zip(crops, indices, strict=True))
            assert len(list(shards.glob("*.tar"))) <= 3 + workers  # each may just have fetched one
    assert len(list(shards.glob("*.tar"))) <= 3
    assert len(server.asked) > 30  # fetched again where there was no room
    monkeypatch.setenv("WDS_CACHE_SIZE", "much")
    with pytest.raises(InputError, match="WDS_CACHE_SIZE"):
        open_dataset(address + "/a-000.tar?again", image_size=(8, 8)).image(0)


CAPPED = """
import resource
from zoo.data.tar import TarDataset
data = next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (data + (30 << 20),) * 2)
"""


def test_fetching_and_reading_a_shard_take_a_flat_amount_of_memory(root, served, shards):
    pytest.importorskip("webdataset", reason="the extra `data` is not installed")
    if not Path("/proc/self/status").exists():
        pytest.skip("only Linux caps what a process takes")
    with tarfile.open(root / "a.tar", "w") as archive:
        for i in range(400):
            add(archive, f"{i}.png", CONTENTS[i % 15] + bytes(250_000))
            add(archive, f"{i}.cls", str(i % 2).encode())

    def run(code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", CAPPED + code], capture_output=True, text=True)

    read = f"d = TarDataset(['{served[0]}/a.tar'], 'x', (8, 8)); [d.image(i) for i in range(len(d))]; print(len(d))"
    done = run(read)
    assert done.stdout == "400\n", done.stderr
    assert "MemoryError" in run("x = bytearray(100 << 20)").stderr  # the twin: a whole shard would not fit


@pytest.mark.parametrize("uri", ["pipe:touch x.tar", "ftp://host/x.tar", "pipe:touch {0..1}.tar", "s3://b/x{0..1}.tar"])
def test_an_address_that_runs_something_is_refused(root, uri, monkeypatch):
    monkeypatch.chdir(root)
    with pytest.raises(InputError):
        open_dataset(uri)
    assert not list(root.iterdir())


def test_a_pattern_names_local_shards(root):
    pytest.importorskip("webdataset", reason="the extra `data` is not installed")
    make_tars(root, "cls")
    assert len(open_dataset(f"{root}/a-{{000..001}}.tar")) == 15
    with pytest.raises(InputError, match=r"a-002\.tar"):
        open_dataset(f"{root}/a-{{000..002}}.tar")


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"image": [b"x"] * 2, "person_name": [1, 2]}, "found the columns image, person_name"),
        ({"image": [b"x"] * 2, "other": [b"x"] * 2, "label": [1, 2]}, "one column of encoded pictures"),
        ({"image": ["x"] * 2, "label": [1, 2]}, "one column of encoded pictures"),
        ({"image": [b"x"] * 2, "label": [1, None]}, "found an empty one"),
        ({"image": [b"x"][:0], "label": [1][:0]}, "one column of encoded pictures|no rows"),
    ],
)
def test_a_table_that_is_no_training_set_is_refused(root, columns, found):
    pyarrow = pytest.importorskip("pyarrow", reason="the extra `data` is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(columns), root / "a.parquet")
    with pytest.raises(InputError, match=found):
        open_dataset(str(root))


def test_a_file_that_is_no_parquet_is_refused(root):
    pytest.importorskip("pyarrow", reason="the extra `data` is not installed")
    (root / "a.parquet").write_text("no parquet")
    with pytest.raises(InputError, match=r"a\.parquet"):
        open_dataset(str(root))


def test_a_table_names_no_file_of_this_machine(root):
    secret = root.parent / "secret.png"
    secret.write_bytes(CONTENTS[0])
    rows = [{"bytes": None if i == 1 else content, "path": str(secret)} for i, content in enumerate(CONTENTS)]
    dataset = open_dataset(make_parquet(root, rows))
    with pytest.raises(InputError, match=r"row group 0, row 1"):
        dataset.image(1)


def test_an_address_of_the_hub_that_is_none_is_one_sentence(root):
    pytest.importorskip("datasets", reason="the extra `data` is not installed")
    for uri in ("hf://datasets/", "hf://models/x/y", "hf://datasets/nobody/nothing-of-this-name"):
        with pytest.raises(InputError, match=r"hf://") as refusal:
            open_dataset(uri)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("text", ["", "# a comment\n", "one-word\n", "p0/000.PNG \n"])
def test_a_list_of_nothing_is_refused(root, text):
    (root / "list.txt").write_text(text)
    with pytest.raises(InputError, match=r"list\.txt"):
        open_dataset(str(root / "list.txt"))


def test_a_list_may_have_comments_names_with_blanks_and_words_as_labels(root):
    (root / "list.txt").write_text("# people\na b.png anna\n\nc.png zoe\n")
    for name in ("a b.png", "c.png"):
        (root / name).write_bytes(CONTENTS[0])
    dataset = open_dataset(str(root / "list.txt"), image_size=(8, 8))
    assert dataset.labels.tolist() == [0, 1] and np.array_equal(dataset.image(0), picture(0))


def test_numbers_are_sorted_as_numbers():
    assert contiguous([10, 9, 10])[1].tolist() == [1, 0, 1]
    assert contiguous(["b", "a"])[0] == ["a", "b"]
