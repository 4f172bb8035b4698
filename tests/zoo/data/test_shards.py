"""Sets of several files: the split that counts, an index for each state of a shard, shards at an address."""

from __future__ import annotations

import functools
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.layouts import LABELS, make_tars, picture, write_tar
from zoo.data import open_dataset
from zoo.data.tar import index_file, training_files
from zoo.errors import InputError


def test_files_of_other_splits_are_left_out_and_told() -> None:
    files = [Path(name) for name in ("train-0.tar", "train-1.tar", "val-0.tar", "test.tar")]
    chosen, notes = training_files(files)
    assert chosen == files[:2] and notes == ["files of other splits are left out: 1 of val, 1 of test"]
    assert training_files(files, "test")[0] == files[3:]
    plain = [Path("a.tar"), Path("b.tar")]
    assert training_files(plain) == (plain, [])
    with pytest.raises(InputError, match="of the split dev"):
        training_files(files, "dev")


def test_another_state_or_another_field_of_a_shard_has_another_index(shards: Path, tmp_path: Path) -> None:
    shard = tmp_path / "a.tar"
    shard.write_bytes(b"one")
    first = index_file(str(shard), ("", ""))
    assert first.parent == shards and first == index_file(str(shard), ("", ""))
    assert index_file(str(shard), ("face.jpg", "")) != first
    os.utime(shard, ns=(1, 1))
    assert index_file(str(shard), ("", "")) != first


class Served(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; breaks off after so many bytes of the next answers as `breaks` says."""

    breaks: list[int]
    asked: list[str]

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        self.asked.append(self.path)
        file = Path(self.translate_path(self.path))
        if not file.is_file():
            return self.send_error(404)
        content = file.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: self.breaks.pop() if self.breaks else None])
        return None


@pytest.fixture
def served(root: Path) -> Iterator[tuple[str, type[Served]]]:
    class Mine(Served):
        pass

    Mine.breaks, Mine.asked = [], []

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Mine, directory=root)) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", Mine
        running.shutdown()


def test_shards_come_by_http_once(root: Path, served: tuple[str, type[Served]], shards: Path) -> None:
    pytest.importorskip("webdataset", reason="the extra `data` is not installed")
    make_tars(root, "cls")
    address, server = served
    for _ in range(2):  # the second time from what was kept
        dataset = open_dataset(address + "/a-{000..001}.tar", image_size=(8, 8))
        assert dataset.labels.tolist() == LABELS and np.array_equal(dataset.image(9), picture(9))
    assert len(server.asked) == 2 and len(list(shards.glob("*.tar"))) == 2
    with pytest.raises(InputError, match=r"could not fetch it into .* 404") as refusal:
        open_dataset(address + "/absent.tar")
    assert "\n" not in str(refusal.value)
    (root / "text.tar").write_text("no archive")
    with pytest.raises(InputError, match="expected an uncompressed tar file at http"):
        open_dataset(address + "/text.tar?token=1")
    write_tar(root / "text.tar", range(15))  # nothing of what was wrong was kept
    assert len(open_dataset(address + "/text.tar?token=1")) == 15
    with pytest.raises(InputError, match="could not fetch it"):
        open_dataset("http://127.0.0.1:1/x.tar")


def test_a_shard_that_breaks_off_is_one_sentence_and_leaves_nothing(
    root: Path, served: tuple[str, type[Served]], shards: Path
) -> None:
    pytest.importorskip("webdataset", reason="the extra `data` is not installed")
    write_tar(root / "a.tar", range(15))
    address, server = served
    server.breaks[:] = [3000]
    with pytest.raises(InputError, match=r"the connection ended [\d,]+ bytes early") as refusal:
        open_dataset(f"{address}/a.tar")
    assert "\n" not in str(refusal.value) and not list(shards.iterdir())
    assert len(open_dataset(f"{address}/a.tar", image_size=(8, 8))) == 15
