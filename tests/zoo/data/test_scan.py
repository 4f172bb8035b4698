"""Every picture looked at once, in order, by however many processes."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest

from tests.support.layouts import face, write_faces
from zoo.data.hashes import exact_hash, perceptual_hash
from zoo.data.open import open_encoded
from zoo.data.scan import Look, scan
from zoo.errors import InputError
from zoo.formats.images import encode_png


def plain(looks: list[Look | str]) -> list[object]:
    return [look if isinstance(look, str) else (*astuple(look)[:3], look.near.tolist()) for look in looks]


def test_several_processes_find_what_one_finds_and_what_a_loop_finds(tmp_path):
    folder = write_faces(tmp_path / "people")
    (folder / "ben" / "zz.png").write_bytes(b"damaged")
    for i in range(300):
        (folder / "cora" / f"many{i}.png").write_bytes(encode_png(face(i, 8)))
    dataset = open_encoded(str(folder))
    told: list[int] = []
    one = list(scan(dataset, views=2, workers=1, progress=told.append))
    assert sum(told) == len(one) == len(dataset) == 314
    assert plain(one) == plain(list(scan(dataset, views=2, workers=2)))
    for i in (0, 3, 4, 5, 313):
        look = one[i]
        if i == 4:
            assert isinstance(look, str) and "ben/zz.png" in look
            continue
        image, content = dataset.image(i), dataset.content(i)
        assert isinstance(look, Look) and look.size == image.shape[:2] and look.length == len(content)
        assert look.exact == exact_hash(content)
        views = [perceptual_hash(image), perceptual_hash(np.ascontiguousarray(image[:, ::-1]))]
        assert look.near.tolist() == [view.tolist() for view in views]


def test_no_process_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected --workers of at least 1, found 0"):
        list(scan(open_encoded(str(write_faces(tmp_path / "people"))), workers=0))
