"""Tables and datasets of the Hub that are no training sets."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.layouts import (
    CONTENTS,
    make_parquet,
    picture,
)
from zoo.data import open_dataset
from zoo.errors import InputError


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"image": [b"x"] * 2, "person_name": [1, 2]}, "found none among image, person_name"),
        ({"image": ["x"] * 2, "label": [1, 2]}, "expected encoded pictures in the column image"),
        ({"face": [b"x"] * 2, "photo": [b"x"] * 2, "label": [1, 2]}, "expected one column called image"),
        ({"image": [b"x"] * 2, "identity": [1, 2], "label": [0, 1]}, "found 2 that may be: identity, label among"),
        ({"image": [b"x"] * 2, "label": [1, None]}, "found an empty one"),
        ({"image": [b"x"][:0], "label": [1][:0]}, "expected encoded|expected one column|no rows"),
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


def test_columns_and_a_split_are_named_behind_the_address(root):
    pyarrow = pytest.importorskip("pyarrow", reason="the extra `data` is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"image": CONTENTS[:4], "identity": ["c", "b", "a", "c"], "label": ["male", "female", "male", "male"]}
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001"):
        parquet.write_table(pyarrow.table(columns), root / f"{name}.parquet")
    dataset = open_dataset(f"{root}?label=identity", image_size=(8, 8))
    assert dataset.labels.tolist() == [2, 1, 0, 2] * 2 and dataset.identities == ["a", "b", "c"]
    assert dataset.notes == ["files of other splits are left out: 1 of validation"]
    assert len(open_dataset(f"{root}?label=identity&split=validation")) == 4
    with pytest.raises(InputError, match=r"expected files of the split test in .*, found train, validation"):
        open_dataset(f"{root}?label=identity&split=test")


def test_what_save_to_disk_wrote_is_read(root):
    datasets = pytest.importorskip("datasets", reason="the extra `data` is not installed")
    table = datasets.Dataset.from_dict({"image": CONTENTS[:4], "label": [3, 1, 1, 3]})
    table.save_to_disk(str(root / "one"))
    datasets.DatasetDict({"train": table, "test": table.select([0])}).save_to_disk(str(root / "several"))
    for uri in (root / "one", root / "several"):
        dataset = open_dataset(str(uri), image_size=(8, 8))
        assert dataset.labels.tolist() == [1, 0, 0, 1] and np.array_equal(dataset.image(2), picture(2))
    with pytest.raises(InputError, match="several"):
        open_dataset(f"{root / 'several'}?split=dev")


def test_a_table_that_is_damaged_after_it_was_opened_is_named_with_its_row_group(root):
    dataset = open_dataset(make_parquet(root, list(CONTENTS)))
    for file in root.glob("*.parquet"):
        file.write_bytes(b"no parquet any more")
    with pytest.raises(InputError, match=r"expected the pictures of .*\.parquet, row group 0, cannot read them"):
        dataset.image(0)
