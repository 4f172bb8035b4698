"""Verification pairs: from files and arrays, with failures, and against reference figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.benchmarks import (
    bench,
    colour_pairs,
    lfw,
    mobilefacenet,
    model,
    pair_lines,
    write_people,
)
from zoo.errors import InputError
from zoo.evaluate.intervals import unpack
from zoo.evaluate.protocols import PairsProtocol
from zoo.formats.bins import write_bin
from zoo.formats.images import decode, encode_jpeg, encode_png
from zoo.inference.embed import embed
from zoo.inference.session import OnnxEmbedder

__all__ = ["bench", "lfw", "mobilefacenet", "model"]


def test_a_bin_file_scores_as_its_pictures_do(bench: Path, model: Path) -> None:
    images, same = colour_pairs(60)
    embedder = OnnxEmbedder(model, device="cpu")
    from_file, from_arrays = PairsProtocol.from_bin(bench), PairsProtocol(images, same)
    first = from_file.score(embed(embedder, from_file.images()))
    second = from_arrays.score(embed(embedder, from_arrays.images()))
    assert first.data == "colours.bin" and len(first.data_sha256) == 64
    assert first.to_json() == replace(second, data=first.data, data_sha256=first.data_sha256).to_json()
    assert 0.6 < first.accuracy <= 1 and first.auc > 0.7


def test_a_picture_in_many_pairs_is_embedded_once() -> None:
    images, same = colour_pairs(5)
    repeated = PairsProtocol(np.concatenate([images, images[::-1], images[:2]]), np.tile(same, 3)[:11])
    assert len(repeated) == len(list(repeated.images())) == 10
    vectors = np.random.default_rng(0).normal(size=(10, 4))
    left, right = vectors / np.linalg.norm(vectors, axis=1, keepdims=True), None
    right = np.concatenate([left, left[::-1], left[:2]])
    np.testing.assert_allclose(repeated.cosines(vectors), (right[0::2] * right[1::2]).sum(1), atol=1e-15)


def test_the_norm_of_an_embedding_does_not_matter_to_pairs() -> None:
    images, same = colour_pairs(31)
    protocol = PairsProtocol(images, same)
    vectors = np.random.default_rng(0).normal(size=(len(protocol), 7))
    scaled = vectors * np.random.default_rng(1).uniform(0.1, 90, (len(protocol), 1))
    one, other = protocol.score(vectors), protocol.score(scaled)
    assert one.accuracy == other.accuracy and one.auc == pytest.approx(other.auc, abs=1e-9)


def test_a_constant_embedding_is_worth_nothing() -> None:
    images, same = colour_pairs(40)
    protocol = PairsProtocol(images, same)
    figures = protocol.score(np.ones((len(protocol), 3)))
    assert figures.auc == 0.5 and figures.tar_at_far[0.1] == 0.0
    assert "all scores are 1: the model gives every picture the same embedding" in figures.not_measurable


def test_broken_embeddings_are_named_by_their_pictures(lfw: Path) -> None:
    protocol = PairsProtocol.open(PairsProtocol.named(lfw / "pairs.txt"))
    embeddings = np.ones((len(protocol), 3), np.float32)
    embeddings[4, 1] = np.inf
    with pytest.raises(InputError, match=str(protocol._images[4])):
        protocol.score(embeddings)


@pytest.mark.parametrize("compat", [None, "insightface"])
def test_pairs_with_a_failed_picture_are_no_match_and_counted(lfw: Path, compat: str | None) -> None:
    protocol = PairsProtocol.open(PairsProtocol.named(lfw / "pairs.txt"))
    embeddings = np.random.default_rng(0).standard_normal((len(protocol), 5)).astype(np.float32)
    assert protocol.score(embeddings, compat).failures is None
    embeddings[[2, 7]] = 0
    failed = np.isin(protocol._place, (2, 7))
    failed_pairs = failed[0::2] | failed[1::2]
    assert (protocol.cosines(embeddings)[failed_pairs] == -1).all()
    figures = protocol.score(embeddings, compat)
    assert figures.failures.images == 2 and figures.failures.pairs == failed_pairs.sum() > 0
    right = unpack(figures.curves.right, len(protocol.same))
    assert (right[failed_pairs] == ~protocol.same[failed_pairs]).all()


def test_real_pairs_score_as_the_reference_says(shared: Path, mobilefacenet: OnnxEmbedder) -> None:
    reference = json.loads((shared / "oracle_dev.json").read_text())["bin"]
    protocol = PairsProtocol.from_bin(shared / "data/lfw_rec/lfw_dev.bin")
    figures = protocol.score(embed(mobilefacenet, protocol), compat="insightface")
    assert figures.pairs == reference["pairs"]
    assert figures.accuracy == pytest.approx(reference["insightface_accuracy"], abs=1e-9)
    assert figures.accuracy_std == pytest.approx(reference["insightface_std"], abs=1e-9)
    assert figures.auc == pytest.approx(reference["auc"], abs=1e-9)
    for far in (0.1, 0.01):
        assert figures.tar_at_far[far] == reference[f"tar_at_far_{far}"]


def test_folds_that_are_uneven_are_noted_and_stratified_ones_do_not_depend_on_the_order() -> None:
    rng = np.random.default_rng(5)
    same = np.arange(200) < 100
    vectors = rng.standard_normal((400, 16), dtype=np.float32)
    accuracies: dict[bool, list[float]] = {True: [], False: []}
    for order in (np.arange(200), rng.permutation(200)):
        places = np.stack([2 * order, 2 * order + 1], axis=1).ravel()
        pictures = np.arange(400, dtype=np.uint16).view(np.uint8).reshape(400, 1, 2, 1).repeat(3, axis=3)
        protocol = PairsProtocol(pictures[places], same[order], data="mine")
        for stratified in (False, True):
            protocol.stratified = stratified
            found = protocol.score(vectors[places])
            accuracies[stratified].append(found.accuracy or 0)
            uneven = any("depends on the order of the pairs" in note for note in found.notes)
            assert uneven == (not stratified and order[0] == 0 and order[1] == 1)
            assert ("stratified" in found.how) == stratified
    assert abs(np.diff(accuracies[False])[0]) > 0.2 > 0.1 > abs(np.diff(accuracies[True])[0])
    protocol.official = True
    assert "in file order" in protocol.score(vectors[places]).how


def test_other_pictures_under_the_same_list_are_other_data(tmp_path: Path) -> None:
    names = write_people(tmp_path / "a", 4)
    (tmp_path / "pairs.txt").write_text("\n".join(["2 5", *pair_lines(names, 20)]))
    found = PairsProtocol.named(tmp_path / "pairs.txt")
    before = found.open().identity()
    assert found.open().identity() == before
    picture = tmp_path / "a" / names[0] / f"{names[0]}_0001.jpg"
    picture.write_bytes(encode_jpeg(cv2.GaussianBlur(decode(picture.read_bytes(), "x") ^ 1, (5, 5), 3)))
    assert found.open().identity() != before


def test_a_damaged_picture_is_named_by_its_own_number(tmp_path: Path) -> None:
    good, bad = encode_png(np.full((8, 8, 3), 9, np.uint8)), b"no picture"
    write_bin(tmp_path / "a.bin", [good, good, good, bad], [True, False])
    with pytest.raises(InputError, match=r"a\.bin, picture 3 \(the second of pair 1\)"):
        list(PairsProtocol.from_bin(tmp_path / "a.bin").images())
