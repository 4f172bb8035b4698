"""Every layout that open_dataset takes holds the same set; what strangers may put into one; damage skipped."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

from tests.support.layouts import (
    CONTENTS,
    LABELS,
    SOURCES,
    noise,
    picture,
)
from zoo.data import open_dataset
from zoo.data.open import open_crops
from zoo.errors import InputError
from zoo.formats.bins import write_bin


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


@pytest.mark.parametrize("kind", ["folder", "rec"])
def test_a_folder_and_a_record_file_hold_the_same_set(request, kind):
    dataset = open_dataset(str(request.getfixturevalue(kind)), image_size=(16, 16))
    assert dataset.labels.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 2] and dataset.labels.dtype == np.int64
    assert (len(dataset), dataset.num_classes) == (9, 3)
    assert dataset.describe().startswith("9 images of 3 identities, ")
    assert np.array_equal(dataset.image(4), noise(11))
    assert np.array_equal(pickle.loads(pickle.dumps(dataset)).image(4), noise(11))


def test_a_record_file_can_be_named_itself(rec):
    assert len(open_dataset(str(rec / "train.rec"))) == 9


def test_pictures_come_in_the_size_that_was_asked_for(folder):
    assert open_dataset(str(folder), image_size=(20, 12)).image(0).shape == (20, 12, 3)


def test_the_synthetic_set_needs_no_path():
    assert open_dataset(None).num_classes >= 2
    assert open_dataset("synthetic").describe() == open_dataset(None).describe()


@pytest.mark.parametrize(
    "module", ["zoo.data", "zoo.data.base", "zoo.data.synthetic", "zoo.data.open", "zoo.formats.bins"]
)
def test_opening_data_loads_no_torch(module):
    code = f"import sys, {module}; print([m for m in ('torch', 'timm', 'albumentations') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_loader_would_fail_that_test():
    code = "import sys, zoo.data.loader; print('torch' in sys.modules, 'albumentations' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "True False\n"
    )


def test_an_lmdb_is_told_what_to_do(root):
    (root / "data.mdb").write_bytes(b"x")
    for uri in (root, root / "data.mdb"):
        with pytest.raises(InputError, match=r"expected another format than LMDB .*`zoo data pack`"):
            open_dataset(str(uri))


def test_an_address_with_something_else_behind_it_is_one_sentence(root):
    with pytest.raises(InputError, match=r"expected PATH\?key=value"):
        open_dataset(f"{root}?image")
    (root / "what?depth=2").mkdir()
    with pytest.raises(InputError, match=r"in .*what\?depth=2, found no pictures"):  # a folder of that very name
        open_dataset(str(root / "what?depth=2"))
