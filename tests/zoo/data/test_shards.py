"""Shards at an address: fetched once and whole, kept up to a limit."""

from __future__ import annotations

import functools
import http.server
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
    add,
    make_tars,
    picture,
    write_tar,
)
from zoo.data import open_dataset
from zoo.data.augment import build_augmentation
from zoo.data.loader import TrainLoader
from zoo.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


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
    monkeypatch.setattr(zoo.data.base, "KEPT_BLOCKS", 2)
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
