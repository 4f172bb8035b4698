"""Lists of pairs: what a row means, and one sentence for each row that means nothing."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from PIL import Image as Pillow

from zoo.errors import InputError
from zoo.formats.images import encode_png
from zoo.formats.pairs import fetch_dataset, is_pair_table, read_lfw_pairs, read_pair_table, read_pairs_csv


def test_rows_are_relative_to_the_list_and_truth_may_be_absent(tmp_path):
    (tmp_path / "pairs.csv").write_text("a,b,same\nx.jpg, y.jpg,1\nx.jpg,/z.jpg,0\nx.jpg,w.jpg,\n")
    found = read_pairs_csv(tmp_path / "pairs.csv")
    assert [(a.name, b.name, same) for a, b, same in found] == [
        ("x.jpg", "y.jpg", True),
        ("x.jpg", "z.jpg", False),
        ("x.jpg", "w.jpg", None),
    ]
    assert found[0][0] == tmp_path / "x.jpg" and str(found[1][1]) == "/z.jpg"


def test_a_list_without_truths_and_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "pairs.csv").write_text("\ufeffa,b\nx,y\n", encoding="utf-8")
    assert [same for _, _, same in read_pairs_csv(tmp_path / "pairs.csv")] == [None]


@pytest.mark.parametrize("text", ["", "x.jpg,y.jpg,1\n", "a,b,same\n", "a,b,same\nx.jpg,,1\n", "a,b,same\nx,y,maybe\n"])
def test_a_list_that_says_nothing_is_refused_by_name(tmp_path, text):
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(InputError, match=r"pairs\.csv"):
        read_pairs_csv(tmp_path / "pairs.csv")


def test_lfw_pairs_name_the_files_of_the_folder(tmp_path):
    (tmp_path / "A.B_C").mkdir()
    (tmp_path / "A.B_C" / "A.B_C_0004.png").write_bytes(b"")
    (tmp_path / "pairs.txt").write_text("1\t1\nA.B_C\t1\t4\nA.B_C\t1\tDora\t20\n")
    found = read_lfw_pairs(tmp_path / "pairs.txt", tmp_path)
    assert [(a.name, b.name, same) for a, b, same in found] == [
        ("A.B_C_0001.jpg", "A.B_C_0004.png", True),
        ("A.B_C_0001.jpg", "Dora_0020.jpg", False),
    ]


@pytest.mark.parametrize("line", ["A 1", "A 1 2 3 4", "A 1 B x", "../etc 1 2"])
def test_a_line_that_is_no_pair_of_lfw_is_refused(tmp_path, line):
    (tmp_path / "pairs.txt").write_text(f"1 1\n{line}\n")
    with pytest.raises(InputError):
        read_lfw_pairs(tmp_path / "pairs.txt", tmp_path)


PICTURES = [encode_png(np.full((8, 8, 3), shade, np.uint8)) for shade in range(6)]


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("names", [("image1", "image2", "target"), ("IMG1", "img2", "is_same")])
def test_a_row_a_pair_is_read_from_parquet(nested: bool, names: tuple[str, str, str], tmp_path: Path) -> None:
    cells = [{"bytes": content, "path": None} for content in PICTURES] if nested else PICTURES
    table = arrow.table({names[0]: cells[0::2], names[1]: cells[1::2], names[2]: [1, 0, 1], "group": ["x", "y", "x"]})
    parquet.write_table(table, tmp_path / "pairs.parquet")
    for path in (tmp_path / "pairs.parquet", tmp_path):
        images, same, others = read_pair_table(path)
        assert images == PICTURES and same.tolist() == [True, False, True] and others == {"group": ["x", "y", "x"]}


def test_what_datasets_saves_of_cvlfaces_layout_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    shown = [Pillow.open(io.BytesIO(content)) for content in PICTURES]
    columns = {"image": shown, "index": list(range(6)), "is_same": [True, True, False, False, True, True]}
    saved = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    saved.save_to_disk(tmp_path / "lfw")
    assert is_pair_table(tmp_path / "lfw", [entry.name for entry in (tmp_path / "lfw").iterdir()])
    images, same, others = read_pair_table(tmp_path / "lfw")
    assert len(images) == 6 and same.tolist() == [True, False, True] and others == {}


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"image1": PICTURES[:1], "target": [1]}, "expected columns image1, image2, target"),
        ({"image1": PICTURES[:1], "image2": PICTURES[:1], "target": [2]}, "expected 1 or 0 in the column target"),
        ({"image1": PICTURES[:1], "image2": PICTURES[:1], "target": [[1]]}, "expected 1 or 0 in the column target"),
        ({"image1": ["a.jpg"], "image2": ["b.jpg"], "target": [1]}, "expected encoded pictures"),
        ({"image": PICTURES[:2], "is_same": [1, 0]}, "expected two rows a pair with one truth"),
    ],
)
def test_other_tables_are_one_sentence(columns: dict[str, list[object]], sentence: str, tmp_path: Path) -> None:
    parquet.write_table(arrow.table(columns), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=sentence):
        read_pair_table(tmp_path / "t.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="cannot read it"):
        read_pair_table(tmp_path / "broken.parquet")


def test_a_dataset_of_the_hub_is_fetched_by_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked = {}

    def snapshot(repo: str, **options: object) -> str:
        asked[repo] = options
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    (tmp_path / "data").mkdir()
    assert fetch_dataset("hf://datasets/owner/faces@v1/data") == tmp_path / "data"
    assert asked["owner/faces"]["revision"] == "v1" and asked["owner/faces"]["allow_patterns"] == ["data", "data/**"]
    with pytest.raises(InputError, match="found no such file"):
        fetch_dataset("hf://datasets/owner/faces/absent")
    with pytest.raises(InputError, match="OWNER/NAME"):
        fetch_dataset("hf://datasets/owner")
