"""Raw scores as a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

from zoo.errors import InputError
from zoo.formats.score_table import PERSONAL, score_table

NAMED = {"model": "m", "model_sha256": "a", "benchmark": "LFW", "benchmark_sha256": "b"}
SCORES = {"image_a": np.array([7, 7]), "image_b": np.array([8, 9]), "same": np.array([True, False])}


def test_benchmarks_follow_each_other_with_what_is_known_of_each(tmp_path: Path) -> None:
    with score_table(tmp_path / "s.parquet") as table:
        assert table is not None
        table.add({**NAMED, "benchmark": "IJB-C"}, {**SCORES, "score": np.array([0.5, -0.25])})
        people = {"person_a": np.array(["Ann"]), "person_b": np.array(["Bo"]), "ln_lr": np.array([-1.5])}
        named = {"image_a": np.array(["a.jpg"]), "image_b": np.array(["b.jpg"]), "same": np.array([False])}
        table.add(NAMED, {**named, **people, "score": np.array([0.125])})
        assert table.rows == 3
    found = parquet.read_table(tmp_path / "s.parquet")
    assert found.schema.metadata == {b"personal data": PERSONAL.encode()}
    first, _, last = found.to_pylist()
    nobody = {"person_a": None, "person_b": None, "ln_lr": None}
    assert first == {
        **NAMED,
        **{"benchmark": "IJB-C", "image_a": "7", "image_b": "8", "same": True, "score": 0.5},
        **nobody,
    }
    assert (last["person_a"], last["person_b"], last["ln_lr"], last["image_b"]) == ("Ann", "Bo", -1.5, "b.jpg")


def test_a_table_that_is_not_finished_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), score_table(tmp_path / "s.parquet") as table:
        assert table is not None
        table.add(NAMED, {**SCORES, "score": np.zeros(2)})
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with score_table(tmp_path / "s.parquet") as table:
        assert table is not None

        def full(_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(table.writer, "write_table", full)
            with pytest.raises(InputError, match="No space left on device"):
                table.add(NAMED, {**SCORES, "score": np.zeros(2)})
        assert table.rows == 0


def test_another_format_or_folder_is_refused_and_no_path_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ending in \.parquet"), score_table(tmp_path / "s.csv"):
        pass
    with pytest.raises(InputError, match=r"none at .*; create it first"), score_table(tmp_path / "no" / "s.parquet"):
        pass
    with score_table(None) as table:
        assert table is None
