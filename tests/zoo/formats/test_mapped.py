"""Memory-mapped safetensors: what is written is read, by the library too, and nothing damaged is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from zoo.formats.mapped import open_mapped, write_mapped

ARRAYS = {
    "names": np.frombuffer(b"ada", np.uint8),
    "ends": np.array([3], np.int64),
    "codes": np.arange(-3, 3, dtype=np.int8).reshape(2, 3),
    "rows": np.linspace(0, 1, 15, dtype=np.float32).reshape(3, 5),
    "none": np.empty((0, 4), np.int32),
}


def test_arrays_and_texts_come_back_as_aligned_maps_and_the_library_reads_them(tmp_path: Path) -> None:
    write_mapped(tmp_path / "file", ARRAYS, {"format": "é"})
    arrays, facts = open_mapped(tmp_path / "file")
    assert facts == {"format": "é"} and set(arrays) == set(ARRAYS)
    for found in (arrays, load_file(tmp_path / "file")):
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == array.dtype
    assert isinstance(arrays["rows"], np.memmap) and all(array.flags.aligned for array in arrays.values())


def test_every_truncation_and_any_other_file_is_refused(tmp_path: Path) -> None:
    write_mapped(tmp_path / "file", ARRAYS, {})
    content = (tmp_path / "file").read_bytes()
    for cut in (*(content[:length] for length in range(0, len(content), 3)), b"8" * 99, b"\0" * 8, content[:-1]):
        (tmp_path / "cut").write_bytes(cut)
        with pytest.raises(ValueError, match=""):
            open_mapped(tmp_path / "cut")
