"""Checkpoints are read as torch reads them, and hostile ones run nothing and get one sentence each."""

from __future__ import annotations

import argparse
import collections
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tests.support import hostile
from zoo.errors import InputError
from zoo.published import read as reader
from zoo.published.read import Described, read_tensors


def read(path: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a file, read in full."""
    return {name: t.read() if isinstance(t, Described) else t for name, t in read_tensors(path).items()}


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(
        ours[name].dtype == theirs[name].dtype and torch.equal(ours[name], theirs[name]) for name in theirs
    )


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Tensors of every type and of awkward shapes: views, a scalar, an empty one, two of one storage."""
    numbers = torch.arange(35.0).reshape(5, 7)
    kinds = (
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.bool,
    )
    return {
        "whole": numbers,
        "view": numbers[1:4, ::2],
        "turned": numbers.T,
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 3),
        "parameter": torch.nn.Parameter(numbers + 1).detach(),
        **{str(kind): numbers.to(kind) for kind in kinds},
    }


WRITERS: dict[str, Callable[[Any, Path], None]] = {
    "zip": torch.save,
    "legacy": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_state_dict_is_read_as_torch_reads_it(state: dict[str, torch.Tensor], writer: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.whatever"
    WRITERS[writer](collections.OrderedDict(state), path)
    assert same(read(path), torch.load(path, weights_only=True))


@pytest.mark.parametrize("writer", WRITERS)
def test_a_training_checkpoint_gives_its_weights_whatever_else_it_holds(
    state: dict[str, torch.Tensor], writer: str, tmp_path: Path
) -> None:
    class Callback:
        pass

    sys.modules[__name__].Callback = Callback
    Callback.__qualname__ = "Callback"
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    checkpoint = {
        "epoch": 3,
        "callbacks": {Callback: {"best": 0.5}, "other": Callback()},
        "hyper_parameters": argparse.Namespace(lr=0.1, milestones=[1, 2]),
        "optimizer": optimizer.state_dict(),
        "seen": {1, 2, 3},
        "state_dict": {name: torch.nn.Parameter(t, t.is_floating_point()) for name, t in state.items()},
    }
    path = tmp_path / "last.ckpt"
    WRITERS[writer](checkpoint, path)
    assert same(read(path), state)


def test_safetensors_are_read_under_any_suffix(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    whole = {name: tensor.contiguous().clone() for name, tensor in state.items()}
    safetensors.torch.save_file(whole, tmp_path / "weights.bin")
    assert same(read(tmp_path / "weights.bin"), state)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (torch.nn.Linear(2, 3), "a whole pickled object"),
        ({"model": torch.nn.Linear(2, 3)}, "a whole pickled object"),
        ({"epoch": 3}, "found none"),
        ([torch.ones(3)], "found none"),
        ({"a": torch.ones(3), "b": collections.Counter()}, "b made by collections.Counter"),
    ],
)
def test_what_holds_no_weights_is_told_from_what_does(what: Any, message: str, tmp_path: Path) -> None:
    torch.save(what, tmp_path / "file.pt")
    with pytest.raises(InputError, match=message):
        read(tmp_path / "file.pt")


def test_what_is_not_asked_for_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "big.pt"
    torch.save({"wanted": torch.ones(3), "centres": torch.zeros(4_000_000)}, path)
    tensors = read_tensors(path)
    tracemalloc.start()
    tensors["wanted"].read()  # type: ignore[union-attr]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000  # the centres have 16 MB


HOSTILE = hostile.files()
LIMIT = 2**18
"""What the pickle of a hostile file may have here: a sixteenth of what is allowed, to be as much faster."""


class Watch:
    """Notes every event of the interpreter by which code runs or files are written."""

    on = False

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: Any) -> None:
        if not self.on:
            return
        writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if writes or event in ("os.system", "subprocess.Popen", "exec", "compile", "pty.spawn", "os.exec", "os.fork"):
            self.events.append((event, arguments))
        if event in ("pickle.find_class", "webbrowser.open") or (event == "import" and "canary" in str(arguments[0])):
            self.events.append((event, arguments))


@pytest.fixture(scope="module")
def watch() -> Iterator[Watch]:
    watch = Watch()
    yield watch
    watch.on = False


def outcome(path: Path, watch: Watch) -> str:
    """What a hostile file is answered with, under watch."""
    watch.events.clear()
    watch.on = True
    try:
        read(path)
        return ""
    except InputError as error:
        return str(error)
    finally:
        watch.on = False


@pytest.fixture(scope="module")
def outcomes(watch: Watch, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, list[Any], int]]:
    """(sentence, events, peak of memory) of every hostile file; none has touched the canary."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "canary_module.py").write_text(f"open({str(folder / 'CANARY')!r}, 'w')")
    sys.path.insert(0, str(folder))
    found = {}
    path = folder / "file.pt"
    "warm".encode("cp437")  # the encoding of old archives' names, which Python imports when it meets one
    patch = pytest.MonkeyPatch()
    patch.setattr(reader, "MOST_BYTES", LIMIT)
    tracemalloc.start()
    try:
        for name, content in HOSTILE.items():
            path.write_bytes(content.replace(b"CANARY", b"canary"))
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            sentence = outcome(path, watch)
            found[name] = sentence, list(watch.events), tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
        patch.undo()
        sys.path.remove(str(folder))
    assert not (folder / "canary").exists() and not Path("canary").exists()
    return found


def test_there_are_two_hundred_hostile_files() -> None:
    assert len(HOSTILE) >= 200 and len(set(HOSTILE.values())) >= 200


def test_every_hostile_file_gets_one_sentence_and_nothing_in_it_is_run(
    outcomes: dict[str, tuple[str, list[Any], int]],
) -> None:
    assert [name for name, (sentence, _, _) in outcomes.items() if not sentence] == []
    assert [name for name, (sentence, _, _) in outcomes.items() if "\n" in sentence or len(sentence) > 400] == []
    assert {name: events for name, (_, events, _) in outcomes.items() if events} == {}


def test_no_hostile_file_takes_more_memory_than_its_length_allows(
    outcomes: dict[str, tuple[str, list[Any], int]],
) -> None:
    most = 200 * LIMIT  # an object a byte; at the true limit 840 MB, whatever the pickle announces
    assert {name: peak for name, (_, _, peak) in outcomes.items() if peak > most} == {}


def test_the_watch_sees_what_pickle_would_have_run(
    watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Payload(tmp_path / "written")}, tmp_path / "evil.pt")
    assert outcome(tmp_path / "evil.pt", watch) != "" and watch.events == [] and not (tmp_path / "written").exists()
    watch.on = True
    torch.load(tmp_path / "evil.pt", weights_only=False)
    watch.on = False
    assert "os.system" in {event for event, _ in watch.events} and (tmp_path / "written").exists()


def test_a_payload_beside_the_weights_is_left_alone(watch: Watch, tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(3)}, "callbacks": Payload(tmp_path / "written")}, tmp_path / "evil.ckpt")
    assert outcome(tmp_path / "evil.ckpt", watch) == "" and watch.events == []
    assert not (tmp_path / "written").exists()


class Payload:
    """Writes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, (f"touch {self.path}",)
