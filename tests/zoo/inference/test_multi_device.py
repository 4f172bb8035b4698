"""One benchmark embedded by several processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.benchmarks import (
    lfw,
    model,
)
from zoo.errors import InputError
from zoo.evaluate.lists import read_pairs_txt
from zoo.evaluate.protocols import PairsProtocol
from zoo.inference.embed import embed
from zoo.inference.multi_device import Job, embed_on
from zoo.inference.session import OnnxEmbedder

__all__ = ["lfw", "model"]


def test_two_processes_embed_as_one_bit_for_bit(lfw: Path, model: Path) -> None:
    protocol = PairsProtocol.from_list(read_pairs_txt(lfw / "pairs.txt"), "LFW")
    one = embed(OnnxEmbedder(model, device="cpu"), protocol.images(), 5)
    told: list[int] = []
    two, notes = embed_on(Job(model, protocol, 5), ["cpu", "cpu"], told.append)
    assert two.tobytes() == one.tobytes() and sum(told) == len(protocol)
    assert any("assumed" in note for note in notes)


def test_an_error_in_a_process_comes_back_as_its_sentence(lfw: Path, model: Path) -> None:
    protocol = PairsProtocol.from_list(read_pairs_txt(lfw / "pairs.txt"), "LFW")
    (lfw / "aligned" / "Person_03" / "Person_03_0002.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match="Person_03_0002"):
        embed_on(Job(model, protocol, 5), ["cpu", "cpu"])


def test_a_real_model_embeds_the_same_on_two_processes(shared: Path) -> None:
    path = shared / "models/mobilefacenet.onnx"
    protocol = PairsProtocol.from_bin(shared / "data/lfw_rec/lfw_dev.bin")

    some = PairsProtocol(protocol._images[:46], np.ones(23, bool), data="some")
    one = embed(OnnxEmbedder(path, device="cpu"), some.images(), 8)
    two, _ = embed_on(Job(path, some, 8), ["cpu", "cpu"])
    assert one.tobytes() == two.tobytes()
