"""Tables and datasets of the Hub that are no training sets."""

from __future__ import annotations

import pytest

from tests.support.layouts import (
    CONTENTS,
    make_parquet,
)
from zoo.data import open_dataset
from zoo.errors import InputError


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"image": [b"x"] * 2, "person_name": [1, 2]}, "found the columns image, person_name"),
        ({"image": [b"x"] * 2, "other": [b"x"] * 2, "label": [1, 2]}, "one column of encoded pictures"),
        ({"image": ["x"] * 2, "label": [1, 2]}, "one column of encoded pictures"),
        ({"image": [b"x"] * 2, "label": [1, None]}, "found an empty one"),
        ({"image": [b"x"][:0], "label": [1][:0]}, "one column of encoded pictures|no rows"),
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
