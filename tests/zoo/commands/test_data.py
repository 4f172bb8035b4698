"""`zoo data`: what each action prints, its exit code, and what it refuses in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.layouts import face, write_faces
from zoo.cli import main
from zoo.data.audit import NEAR
from zoo.formats.bins import write_bin
from zoo.formats.images import encode_png


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_faces(tmp_path / "people")


def zoo(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = main(["data", *map(str, words)])
    out, err = capsys.readouterr()
    return status, out, err


def test_pack_and_extract_say_what_they_wrote_and_what_they_left_out(folder, tmp_path, capsys):
    (folder / "ben" / "0.png").write_bytes(b"damaged")
    status, _, err = zoo(capsys, "pack", folder, tmp_path / "rec")
    assert status == 2 and "ben/0.png" in err and not (tmp_path / "rec").exists()
    status, out, err = zoo(capsys, "pack", folder, tmp_path / "rec", "--on-corrupt", "skip")
    assert status == 0 and out == f"{tmp_path / 'rec'}: 12 images, train.rec, train.idx and property\n"
    assert "left out 1 damaged" in err and "ben/0.png" in err
    status, out, err = zoo(capsys, "extract", tmp_path / "rec", tmp_path / "out")
    assert (status, out, err) == (0, f"{tmp_path / 'out'}: 12 images of 2 identities\n", "")


def test_pairs_go_into_a_bin_and_out_of_it(tmp_path, capsys):
    write_bin(tmp_path / "a.bin", [encode_png(face(i)) for i in range(6)], [True, False, True])
    status, out, _ = zoo(capsys, "extract", tmp_path / "a.bin", tmp_path / "pairs")
    assert status == 0 and "3 pairs, listed in pairs.csv" in out
    listed = tmp_path / "pairs/pairs.csv"
    status, out, _ = zoo(capsys, "pack", tmp_path / "pairs", tmp_path / "b.bin", "--pairs", listed)
    assert status == 0 and "3 pairs, 2 of one person and 1 of two" in out
    assert (tmp_path / "b.bin").read_bytes() == (tmp_path / "a.bin").read_bytes()


def test_info_prints_the_facts_for_people_and_as_json(folder, tmp_path, capsys):
    (folder / "ben" / "zz.png").write_bytes(b"damaged")
    (folder / "ben" / "twin.png").write_bytes((folder / "anna" / "0.png").read_bytes())
    status, out, _ = zoo(capsys, "info", folder)
    assert status == 0 and "15 images of 3 identities" in out and "damaged: 1" in out and "█" in out
    assert "1 images too many in 1 groups, 1 of them across identities" in out and "32×32 14" in out
    status, out, _ = zoo(capsys, "info", folder, "--json")
    facts = json.loads(out)
    assert (facts["images"], facts["identities"], facts["sizes"]) == (15, 3, {"32×32": 14})
    assert zoo(capsys, "info", folder, "--json", "--workers", 2)[1] == out
    write_bin(tmp_path / "a.bin", [encode_png(face(i)) for i in range(4)], [True, False])
    assert "4 images in 2 pairs, 1 of one person" in zoo(capsys, "info", tmp_path / "a.bin", "--quick")[1]


def test_check_lists_what_is_in_both_and_exits_1(folder, tmp_path, capsys):
    write_bin(tmp_path / "b.bin", [encode_png(face(900)), (folder / "cora" / "3.png").read_bytes()], [False])
    status, out, _ = zoo(capsys, "check", folder, "--against", tmp_path / "b.bin")
    assert status == 1 and out.startswith("1 of the 2 pictures of b are in people: 1 with the same bytes, 0 nearly")
    assert "picture 1\n" in out and "cora/3.png (same bytes)" in out
    status, out, _ = zoo(capsys, "check", folder, "--against", tmp_path / "b.bin", "--json", "--workers", 2)
    assert status == 1 and [match["exact"] for match in json.loads(out)["matches"]] == [True]
    write_bin(tmp_path / "c.bin", [encode_png(face(900)), encode_png(face(901))], [False])
    status, out, _ = zoo(capsys, "check", folder, "--against", tmp_path / "c.bin", "--distance", 0)
    assert status == 0 and out.startswith("0 of the 2 pictures")


def test_preview_writes_a_sheet(folder, tmp_path, capsys):
    status, out, _ = zoo(capsys, "preview", folder, "-o", tmp_path / "p.png", "--columns", 2, "--epochs", 1)
    assert status == 0 and "p.png" in out and (tmp_path / "p.png").is_file()


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("inof", "x"),
        ("info",),
        ("info", "{tmp}/absent"),
        ("check", "{tmp}/people"),
        ("check", "{tmp}/people", "--against", "{tmp}/absent.bin"),
        ("check", "{tmp}/people", "--against", "{tmp}/people", "--distance", "999"),
        ("pack", "{tmp}/people", "{tmp}/rec", "--image-size", "0"),
        ("pack", "{tmp}/people", "{tmp}/x.bin", "--pairs", "{tmp}/absent.csv"),
        ("preview", "{tmp}/people", "-o", "{tmp}/x.png", "--augment", "stron"),
        ("preview", "{tmp}/people", "-o", "{tmp}/x.png", "--columns", "0"),
        ("preview", "synthetic:2x2x2", "-o", "{tmp}/x.png"),
        ("info", "synthetic"),
        ("info", "https://host.invalid/faces.zip"),
        ("info", "hf://datasets/mnist"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_2(folder, tmp_path, capsys, words):
    status, out, err = zoo(capsys, *(word.format(tmp=tmp_path) for word in words))
    assert status == 2 and out == "" and err.startswith("zoo: ") and err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["people"]


@pytest.mark.parametrize("action", ["info", "check", "pack", "extract", "preview"])
def test_each_action_has_help_with_an_example(capsys, action):
    with pytest.raises(SystemExit) as done:
        main(["data", action, "--help"])
    told = capsys.readouterr().out
    assert done.value.code == 0 and "Example: zoo data " + action in told
    assert action != "check" or f"(default: {NEAR})" in " ".join(told.split())
