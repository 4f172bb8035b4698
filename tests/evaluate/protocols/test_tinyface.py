"""TinyFace: ranks, reference figures, and an incomplete copy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from tests.support.benchmarks import mobilefacenet
from zoo.errors import InputError
from zoo.evaluate.protocols import TinyFaceProtocol
from zoo.formats.images import encode_jpeg, squared
from zoo.inference.embed import embed
from zoo.inference.session import OnnxEmbedder

__all__ = ["mobilefacenet"]


def mat(path: Path, kind: str, names: list[str], ids: list[int]) -> None:
    cells = np.empty((len(names), 1), object)
    cells[:, 0] = names
    savemat(path, {f"{kind}_set": cells, f"{kind}_ids": np.array(ids, np.int32)[:, None]})


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Three probes, four matches, five distractors of different sizes."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "tinyface" / "Testing_Set"
    listed = {"Probe": ["a.jpg", "b.jpg", "c.jpg"], "Gallery_Match": ["m1.jpg", "m2.jpg", "m3.jpg", "m4.jpg"]}
    for part, names in {**listed, "Gallery_Distractor": [f"d{i}.jpg" for i in range(5)]}.items():
        (folder / part).mkdir(parents=True)
        for name in names:
            size = (*rng.integers(9, 40, 2), 3)
            (folder / part / name).write_bytes(encode_jpeg(rng.integers(0, 256, size, dtype=np.uint8)))
    mat(folder / "probe_img_ID_pairs.mat", "probe", listed["Probe"], [1, 2, 3])
    mat(folder / "gallery_match_img_ID_pairs.mat", "gallery", listed["Gallery_Match"], [1, 2, 3, 3])
    return folder.parent


def test_tinyface_ranks_its_probes(tiny: Path) -> None:
    protocol = TinyFaceProtocol(tiny)
    assert len(protocol) == 12 and {picture.shape for picture in protocol.images()} == {(112, 112, 3)}
    vectors = np.zeros((12, 6), np.float32)
    vectors[[0, 3], 0] = vectors[[1, 4], 1] = vectors[[2, 5, 6], 2] = 1
    vectors[7:, 3] = 1
    vectors[8, 1] = 50  # a distractor as near to probe b as rounding tells
    figures = protocol.score(vectors)
    assert figures.identification[""].rank[5] == 1.0
    assert figures.identification[""].rank[1] == 1.0
    vectors[8] = vectors[4]
    assert protocol.score(vectors).identification[""].rank[1] == pytest.approx(2 / 3)
    assert protocol.score(np.ones((12, 6), np.float32)).identification[""].rank[5] == 0.0


def test_an_incomplete_tinyface_says_what_is_missing(tiny: Path) -> None:
    (tiny / "Testing_Set" / "Probe" / "b.jpg").unlink()
    with pytest.raises(InputError, match=r"missing 1 of them \(Probe/b.jpg\)"):
        TinyFaceProtocol(tiny)
    (tiny / "Testing_Set" / "probe_img_ID_pairs.mat").write_text("no matlab")
    with pytest.raises(InputError, match="cannot read them"):
        TinyFaceProtocol(tiny)
    shutil.rmtree(tiny / "Testing_Set" / "Gallery_Distractor")
    with pytest.raises(InputError, match="missing there: Gallery_Distractor"):
        TinyFaceProtocol(tiny)


def test_real_tinyface_scores_as_the_reference_says(shared: Path, mobilefacenet: OnnxEmbedder) -> None:
    reference = json.loads((shared / "oracle_dev.json").read_text())["tinyface"]
    protocol = TinyFaceProtocol(shared / "data/tinyface_mini/tinyface")
    figures = protocol.score(embed(mobilefacenet, protocol))
    assert [getattr(figures, key) for key in ("probes", "gallery", "distractors")] == [
        reference[key] for key in ("probes", "gallery", "distractors")
    ]
    for n in (1, 5, 20):  # the reference was written in float32
        assert figures.identification[""].rank[n] == pytest.approx(reference[f"rank_{n}"], abs=1e-7)


def test_a_crop_that_is_not_square_is_padded_and_not_stretched() -> None:
    wide = np.full((10, 20, 3), 200, np.uint8)
    square = squared(wide)
    assert (
        square.shape == (20, 20, 3) and (square[5:15] == 200).all() and not square[:5].any() and not square[15:].any()
    )
    assert squared(square) is square
