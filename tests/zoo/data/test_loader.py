"""Training sets, their augmentation and their batches: the same numbers whatever the workers and the start."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.layouts import (
    CONTENTS,
    LABELS,
    SOURCES,
    batches_of,
    make_parquet,
    noise,
    picture,
    write_tar,
)
from zoo.data import open_dataset
from zoo.data.augment import PRESETS, build_augmentation
from zoo.data.loader import OPEN_BLOCKS, TrainLoader
from zoo.errors import InputError
from zoo.formats.images import encode_jpeg, encode_png

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


@pytest.mark.parametrize("kind", ["folder", "rec"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_picture_is_named_by_the_loader(request, kind, workers):
    root = request.getfixturevalue(kind)
    if kind == "folder":
        (root / "ben" / "1.png").write_bytes(b"no picture")
        name = r"ben/1\.png"
    else:
        whole = (root / "train.rec").read_bytes()
        start = whole.index(encode_png(noise(11)))
        (root / "train.rec").write_bytes(whole[:start] + b"no" + whole[start + 2 :])
        name = r"train\.rec, record 5 "
    loader = TrainLoader(open_dataset(str(root)), build_augmentation("none"), 3, workers=workers)
    with pytest.raises(InputError, match=name) as refusal:
        list(loader.epoch(0))
    assert "\n" not in str(refusal.value)


class Numbers:
    """A set whose pictures tell their number and whose decoding costs nothing."""

    name = "numbers"

    def __init__(self, count: int) -> None:
        self.labels = np.arange(count, dtype=np.int64) % 7
        self.num_classes = 7

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, i: int) -> np.ndarray:
        return np.full((4, 6, 3), i % 251, np.uint8)

    def describe(self) -> str:
        return "numbers"


def same(a: list[tuple[np.ndarray, ...]], b: list[tuple[np.ndarray, ...]]) -> bool:
    return len(a) == len(b) and all(
        np.array_equal(x, y) for p, q in zip(a, b, strict=True) for x, y in zip(p, q, strict=True)
    )


def test_a_batch_is_what_the_contract_says():
    crops, labels, indices = next(TrainLoader(Numbers(100), build_augmentation("none"), 13).epoch(0))
    assert crops.shape == (13, 4, 6, 3) and crops.dtype == torch.uint8
    assert labels.dtype == indices.dtype == torch.int64
    assert (labels == indices % 7).all() and (crops[:, 0, 0, 0] == indices % 251).all()


def test_the_loader_holds_no_batch_that_its_reader_is_done_with():
    batches = TrainLoader(Numbers(100), build_augmentation("none"), 13).epoch(0)
    batch = next(batches)
    crops = weakref.ref(batch[0])
    assert crops() is not None
    del batch
    assert crops() is None


def test_an_epoch_holds_each_picture_once_and_drops_the_last_batch():
    loader = TrainLoader(Numbers(100), build_augmentation("none"), 13)
    seen = np.concatenate([indices for _, _, indices in batches_of(loader)])
    assert len(loader) == 7 and len(seen) == 91 == len(np.unique(seen))


@pytest.mark.parametrize("blocks", [None, np.arange(0, 101, 5)], ids=["whole", "in blocks"])
def test_shares_decide_how_often_an_epoch_takes_a_picture(blocks):
    dataset = Numbers(100)
    dataset.shares, dataset.blocks = np.repeat(np.float32([0.25, 2.4]), 50), blocks
    loader = TrainLoader(dataset, build_augmentation("flip"), 4, seed=3)
    assert len(loader) == (12 + 120) // 4
    times = np.zeros(100)
    for epoch in range(8):
        samples = loader.order(epoch).reshape(-1)
        assert len(samples) == len(np.unique(samples)) == 132  # no augmentation comes twice
        of_each = np.bincount(samples % 100, minlength=100)
        assert set(of_each[:50]) <= {0, 1} and set(of_each[50:]) <= {2, 3}
        times += of_each
    assert 10 < np.std(times[:50] * 8) < 14 and times[:50].sum() == pytest.approx(100, abs=8)
    crops, labels, samples = next(loader.epoch(0))
    assert (labels == samples % 100 % 7).all() and (crops[:, 0, 0, 0] == samples % 100 % 251).all()


def test_equal_shares_are_the_order_of_a_set_without():
    dataset = Numbers(100)
    plain = TrainLoader(dataset, build_augmentation("none"), 13, seed=1).order(2)
    assert (plain.reshape(-1) == np.random.default_rng([1, 2]).permutation(100)[:91]).all()


def test_epochs_and_seeds_have_orders_of_their_own():
    def orders(seed):
        return [
            TrainLoader(Numbers(100), build_augmentation("none"), 13, seed=seed).order(e).reshape(-1).tolist()
            for e in (0, 1)
        ]

    found = orders(1) + orders(2)
    assert len({tuple(order) for order in found}) == 4 and found[:2] == orders(1)


@pytest.mark.parametrize("preset", PRESETS)
def test_workers_0_1_and_4_give_the_same_epochs(folder, preset):
    dataset = open_dataset(str(folder))
    expected = None
    for workers in (0, 1, 4):
        loader = TrainLoader(dataset, build_augmentation(preset), 2, seed=5, workers=workers)
        found = batches_of(loader, 0) + batches_of(loader, 1)
        assert len(found) == 8
        expected = expected or found
        assert same(found, expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_restart_at_any_step_goes_on_as_if_nothing_had_happened(workers):
    loader = TrainLoader(Numbers(60), build_augmentation("flip"), 7, seed=2, workers=workers)
    whole = batches_of(loader, 3)
    for start in range(len(loader) + 1):
        assert same(batches_of(loader, 3, start), whole[start:])


def test_an_epoch_that_was_left_early_leaves_the_next_one_alone():
    loader = TrainLoader(Numbers(60), build_augmentation("flip"), 7, workers=2)
    expected = batches_of(loader, 1)
    for _ in loader.epoch(0):
        break
    assert same(batches_of(loader, 1), expected)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_share_one_epoch_without_overlap(world):
    ranks = [
        TrainLoader(Numbers(100), build_augmentation("none"), 6, seed=4, rank=rank, world=world)
        for rank in range(world)
    ]
    seen = [np.stack([indices for _, _, indices in batches_of(loader)]) for loader in ranks]
    together = np.stack(seen, axis=1).reshape(-1)
    assert np.array_equal(together, ranks[0].order(0).reshape(-1)) and len(np.unique(together)) == len(together)
    assert {len(loader) for loader in ranks} == {100 // (6 * world)}


def test_a_batch_larger_than_the_set_is_refused_with_the_largest_that_fits():
    with pytest.raises(InputError, match="at most 100"):
        TrainLoader(Numbers(100), build_augmentation("none"), 101)
    with pytest.raises(InputError, match="at most 50"):
        TrainLoader(Numbers(100), build_augmentation("none"), 51, world=2)
    assert len(TrainLoader(Numbers(100), build_augmentation("none"), 100)) == 1


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": 4, "workers": -1}])
def test_numbers_that_mean_nothing_are_refused(options):
    with pytest.raises(InputError):
        TrainLoader(Numbers(100), build_augmentation("none"), **options)


def test_pictures_of_two_sizes_are_refused_by_number():
    class Ragged(Numbers):
        def image(self, i: int) -> np.ndarray:
            return np.zeros((4 + (i == 3), 6, 3), np.uint8)

    with pytest.raises(InputError, match="at picture"):
        batches_of(TrainLoader(Ragged(20), build_augmentation("none"), 20))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_set_of_ones_own_with_damage_anywhere_is_skipped_over_too(workers):
    class Damaged(Numbers):
        def image(self, i: int) -> np.ndarray:
            if i in (0, 1, 9):
                raise InputError(f"picture {i}")
            return super().image(i)

    loader = TrainLoader(Damaged(10), build_augmentation("none"), 5, workers=workers, on_corrupt="skip")
    used = np.concatenate([indices for _, _, indices in batches_of(loader)])
    assert sorted(used.tolist()) == [2, 2, 2, 2, 3, 4, 5, 6, 7, 8] and set(loader.skipped) == {0, 1, 9}


def test_the_real_set_loads_in_batches(shared: Path):
    dataset = open_dataset(str(shared / "data" / "lfw_rec"))
    assert dataset.describe() == "4,462 images of 941 identities, RecordIO" and dataset.name == "lfw_rec"
    crops, labels, _ = next(TrainLoader(dataset, build_augmentation("flip"), 128).epoch(0))
    assert crops.shape == (128, 112, 112, 3) and labels.max() < 941
    assert encode_jpeg(crops[0].numpy()).startswith(b"\xff\xd8")


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
    with pytest.raises(InputError, match="an intact picture"):
        list(loader.epoch(0))
    with pytest.raises(InputError, match="error or skip"):
        TrainLoader(open_dataset(str(root)), build_augmentation("none"), 2, on_corrupt="ignore")


GUARDED = """
import contextlib, multiprocessing, subprocess, sys

import zoo.data.loader
from zoo.data import open_dataset
from zoo.data.augment import build_augmentation

if sys.argv[1] == "unguarded":
    zoo.data.loader._signals_blocked = contextlib.nullcontext
    zoo.data.loader._heed_parent = lambda parent: None
loader = zoo.data.loader.TrainLoader(open_dataset("synthetic:5x7"), build_augmentation("none"), 5, workers=1)
batches = loader.epoch(0)
next(batches)
(worker,) = multiprocessing.active_children()
subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)  # not from its parent
worker.join(0.3)
assert len(list(batches)) == 6
worker.terminate()
worker.join()
print("ended with", worker.exitcode)
"""


def test_a_worker_leaves_signals_to_its_parent_and_heeds_it_alone() -> None:
    # in a process of its own: a dead worker makes torch raise from a signal handler, at any later moment
    found = {
        kind: subprocess.run([sys.executable, "-c", GUARDED, kind], capture_output=True, text=True, timeout=250)
        for kind in ("guarded", "unguarded")
    }
    assert found["guarded"].stdout == "ended with 0\n", found["guarded"].stderr
    assert re.search("killed by signal|exited unexpectedly", found["unguarded"].stderr)


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_worker_ends_with_a_parent_that_is_killed(tmp_path: Path, method: str) -> None:
    program = f"""
import multiprocessing, os, signal
from zoo.data import open_dataset
from zoo.data.augment import build_augmentation
from zoo.data.loader import TrainLoader

if __name__ == "__main__":
    multiprocessing.set_start_method("{method}")
    batches = TrainLoader(open_dataset("synthetic:5x7"), build_augmentation("none"), 5, workers=1).epoch(0)
    next(batches)
    print(multiprocessing.active_children()[0].pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    (tmp_path / "program.py").write_text(program)
    with subprocess.Popen([sys.executable, tmp_path / "program.py"], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert parent.wait() == -signal.SIGKILL
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and running(worker):
        time.sleep(0.1)
    assert not running(worker)


def running(pid: int) -> bool:
    """Whether a process of that number computes; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
