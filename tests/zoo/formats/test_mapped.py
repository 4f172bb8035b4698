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
        with pytest.raises(ValueError, match=r"."):
            open_mapped(tmp_path / "cut")


def test_a_file_that_is_replaced_while_it_is_opened_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "a", tmp_path / "b"
    write_mapped(path, {"first": np.arange(5, dtype=np.int32), "second": np.full(9, 7, np.int64)}, {"of": "a"})
    write_mapped(other, {"second": np.full(900, 1, np.int64)}, {"of": "b"})
    real = np.memmap

    def replaced(*args: object, **options: object) -> object:
        if other.exists():
            other.replace(path)
        return real(*args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(np, "memmap", replaced)
    arrays, texts = open_mapped(path)
    assert texts == {"of": "a"} and arrays["first"].tolist() == [0, 1, 2, 3, 4] and arrays["second"].tolist() == [7] * 9
    assert open_mapped(path)[1] == {"of": "b"}
