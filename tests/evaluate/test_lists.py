"""Pairs listed over folders, RFW as handed out, faces that were not found, colours, and several devices."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.zoo.commands.test_evaluate import model, own_cache, run
from zoo.errors import InputError
from zoo.evaluate.benchmarks.channel_check import GOLDEN_MEANS, channel_means, golden, look
from zoo.evaluate.benchmarks.find import BENCHMARKS, describe, find_benchmarks
from zoo.evaluate.lists import read_csv, read_pairs_txt, read_rfw
from zoo.evaluate.protocols import PROTOCOLS
from zoo.evaluate.protocols.pairs import PairsProtocol
from zoo.evaluate.similarity import pair_scores, search, unit_rows
from zoo.faces.crop import DetectorCut, align_or_none
from zoo.formats.images import decode, encode_jpeg, encode_png
from zoo.inference.embed import batches, embed
from zoo.inference.multi_device import Job, embed_on
from zoo.inference.session import OnnxEmbedder
from zoo.modelinfo import InputSpec

__all__ = ["model", "own_cache"]

Array = npt.NDArray[np.uint8]


def person(number: int, picture: int, size: int = 112) -> Array:
    """A flat picture: the colour is the person's, its shade the picture's."""
    rng = np.random.default_rng(number)
    colour = np.sort(rng.integers(40, 200, 3))[::-1] + 3 * picture  # red above blue, as skin has it
    return np.broadcast_to(colour.astype(np.uint8), (size, size, 3)).copy()


def write_people(folder: Path, people: int, pictures: int = 3, size: int = 112) -> list[str]:
    names = [f"Person_{number:02d}" for number in range(people)]
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for picture in range(1, pictures + 1):
            (folder / name / f"{name}_{picture:04d}.jpg").write_bytes(encode_jpeg(person(number, picture, size)))
    return names


def pair_lines(names: list[str], pairs: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    lines = []
    for _ in range(pairs // 2):
        a, b = rng.choice(len(names), 2, replace=False)
        lines += [f"{names[a]}\t1\t2", f"{names[a]}\t{rng.integers(1, 4)}\t{names[b]}\t{rng.integers(1, 4)}"]
    return lines


@pytest.fixture
def lfw(tmp_path: Path) -> Path:
    """pairs.txt beside a folder of twelve people with three pictures each: 80 pairs."""
    names = write_people(tmp_path / "lfw" / "aligned", 12)
    (tmp_path / "lfw" / "pairs.txt").write_text("\n".join(["10\t4", *pair_lines(names, 80)]) + "\n")
    return tmp_path / "lfw"


def test_pairs_txt_over_a_folder_is_a_benchmark_whose_people_are_known(
    lfw: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for data in (lfw, lfw / "pairs.txt"):
        status, out, _ = run(capsys, "evaluate", model, "--data", data, "--device", "cpu", "--json")
        figures = json.loads(out)
        assert status == 0 and figures["data"] == "LFW" and figures["pairs"] == 80 and figures["people"] == 12
        assert figures["intervals"].startswith("bootstrap of 12 people, 1,000 replicates")
        assert "80 pairs instead of 6,000" in " ".join(figures["notes"])
        for name in ("accuracy", "auc", "eer"):
            low, high = figures[f"{name}_interval"]
            assert low <= figures[name] <= high and high - low > 0


def test_broken_embeddings_are_named_by_their_pictures(lfw: Path) -> None:
    protocol = PairsProtocol.from_list(read_pairs_txt(lfw / "pairs.txt"), "LFW")
    embeddings = np.ones((len(protocol), 3), np.float32)
    embeddings[4, 1] = np.inf
    with pytest.raises(InputError, match=str(protocol._images[4])):
        protocol.score(embeddings)


def test_benchmarks_below_a_list_are_found_too(lfw: Path) -> None:
    from tests.evaluate.report.test_report import write_pairs

    write_pairs(lfw / "more" / "cfp_fp.bin")
    assert [one.name for one in find_benchmarks(lfw)] == ["lfw", "cfp_fp"]


def test_a_list_names_what_is_missing(lfw: Path) -> None:
    for name in ("Person_00", "Person_01"):
        (lfw / "aligned" / name / f"{name}_0002.jpg").unlink()
    with pytest.raises(InputError, match=r"missing 2 of them: .*Person_00_0002\.jpg, .*Person_01_0002\.jpg"):
        read_pairs_txt(lfw / "pairs.txt")
    (lfw / "aligned").rename(lfw.parent / "elsewhere")
    with pytest.raises(InputError, match="expected the people of"):
        read_pairs_txt(lfw / "pairs.txt")


@pytest.mark.parametrize("flat", [False, True])
def test_a_csv_knows_its_people_where_the_folders_agree_with_the_truth(tmp_path: Path, flat: bool) -> None:
    names = write_people(tmp_path, 3)
    rows = []
    for a in range(3):
        first = f"{names[a]}/{names[a]}_0001.jpg"
        second = f"{names[a]}/{names[a]}_0002.jpg"
        other = f"{names[a - 1]}/{names[a - 1]}_0001.jpg"
        if flat:
            (tmp_path / f"{a}.jpg").write_bytes((tmp_path / second).read_bytes())
            second = f"{a}.jpg"
        rows += [f"{first},{second},1", f"{first},{other},0"]
    (tmp_path / "own.csv").write_text("a,b,same\n" + "\n".join(rows) + "\n")
    listed = read_csv(tmp_path / "own.csv")
    assert listed.same.tolist() == [True, False] * 3 and (listed.people is None) == flat
    (tmp_path / "own.csv").write_text("a,b,same\n" + rows[0][:-1] + "\n")
    with pytest.raises(InputError, match="missing for 1 of 1 pairs"):
        read_csv(tmp_path / "own.csv")


@pytest.fixture
def rfw(tmp_path: Path) -> Path:
    """RFW as handed out: four groups, loose pictures with landmarks, lists without a first line of numbers."""
    folder = tmp_path / "RFW" / "test"
    for seed, group in enumerate(("African", "Asian", "Caucasian", "Indian")):
        names = write_people(folder / "data" / group, 6, size=160)
        lists = folder / "txts" / group
        lists.mkdir(parents=True)
        (lists / f"{group}_pairs.txt").write_text("\n".join(pair_lines(names, 60, seed)) + "\n")
        (lists / f"{group}_lmk.txt").write_text(
            "".join(
                f"/test/data/{group}/{name}/{name}_{picture:04d}.jpg\t{number}\t60\t60\t95\t60\t78\t80\t62\t100\t92\t100\n"
                for number, name in enumerate(names)
                for picture in (1, 2, 3)
            )
        )
    return folder


def test_rfw_as_handed_out_is_four_groups_of_known_people(
    rfw: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = find_benchmarks(rfw.parent)
    assert [one.name for one in found] == ["rfw_african", "rfw_asian", "rfw_caucasian", "rfw_indian"]
    assert [one.name for one in find_benchmarks(rfw.parent, ["rfw"])] == [one.name for one in found]
    protocol = found[1].open()
    assert isinstance(protocol, PairsProtocol) and protocol.data == "RFW Asian"
    assert {picture.shape for picture in protocol.images() if picture is not None} == {(112, 112, 3)}
    status, out, _ = run(capsys, "evaluate", model, "--data", rfw, "--device", "cpu")
    assert status == 0 and "spread between groups" in out
    assert "is not all of RFW Asian: 60 pairs instead of 6,000" in out and "6 people instead of 2,492" in out
    assert "aligned by the benchmark's landmarks" in out and "failures to enrol" in out


def test_an_incomplete_group_says_what_is_missing_and_the_others_are_measured(
    rfw: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (rfw / "txts" / "Asian" / "Asian_pairs.txt").unlink()
    (rfw / "data" / "Indian" / "Person_02" / "Person_02_0001.jpg").write_bytes(b"no picture")
    arguments = ["evaluate", model, "--data", rfw, "--device", "cpu"]
    status, out, err = run(capsys, *arguments, "--report", tmp_path / "r")
    assert status == 2 and "RFW African" in out and "RFW Caucasian" in out
    lines = err.splitlines()
    assert len(lines) == 2 and all(line.startswith("zoo: ") for line in lines)
    assert "missing there: txts/Asian/Asian_pairs.txt" in lines[0] and "RFW Indian, m.onnx: expected a" in lines[1]
    record = json.loads((tmp_path / "r" / "report.json").read_text())
    assert len(record["results"]) == 2 and len(record["not_measured"]) == 2
    assert "Not measured:" in (tmp_path / "r" / "report.html").read_text()
    assert "failures to enrol" in (tmp_path / "r" / "report.md").read_text()
    told = json.loads(run(capsys, *arguments, "--json")[1])
    assert len(told["results"]) == 2 and len(told["not_measured"]) == 2


def test_landmarks_that_are_missing_or_broken_are_named(rfw: Path) -> None:
    _, cut = read_rfw(rfw, "African")
    picture = np.zeros((160, 160, 3), np.uint8)
    with pytest.raises(InputError, match="expected landmarks for elsewhere"):
        cut(picture, Path("elsewhere.jpg"))
    assert cut(picture[:112, :112], Path("elsewhere.jpg")) is not None
    file = rfw / "txts" / "African" / "African_lmk.txt"
    file.write_text(file.read_text().replace("78\t80", "78\tnan", 1))
    with pytest.raises(InputError, match="ten numbers in line 1"):
        read_rfw(rfw, "African")


def test_landmarks_at_one_point_are_no_face() -> None:
    assert align_or_none(np.zeros((50, 50, 3), np.uint8), np.zeros((5, 2))) is None


def test_a_picture_without_a_face_is_a_row_of_zeros_and_batches_stay_where_they_were() -> None:
    pictures = [None if index in (1, 4, 5) else np.full((2, 2, 3), index, np.uint8) for index in range(9)]
    told: list[int] = []
    found = embed(lambda crops: crops[:, 0, 0].astype(np.float32) + 1, pictures, 3, flip=False, progress=told.append)
    assert found[:, 0].tolist() == [1, 0, 3, 4, 0, 0, 7, 8, 9] and sum(told) == 6
    assert [len(batch) for batch in batches(pictures, 3)] == [2, 1, 3]
    assert embed(lambda crops: crops, [None] * 4, dim=5).shape == (4, 5)
    with pytest.raises(InputError, match="no face in any of 4"):
        embed(lambda crops: crops, [None] * 4)


@pytest.mark.parametrize("compat", [None, "insightface"])
def test_pairs_with_a_failed_picture_are_no_match_and_counted(lfw: Path, compat: str | None) -> None:
    protocol = PairsProtocol.from_list(read_pairs_txt(lfw / "pairs.txt"), "LFW")
    embeddings = np.random.default_rng(0).standard_normal((len(protocol), 5)).astype(np.float32)
    assert "failures" not in protocol.score(embeddings, compat)
    embeddings[[2, 7]] = 0
    failed = np.isin(protocol._place, (2, 7))
    failed_pairs = failed[0::2] | failed[1::2]
    assert (protocol.cosines(embeddings)[failed_pairs] == -1).all()
    figures = protocol.score(embeddings, compat)
    assert figures["failures"]["images"] == 2 and figures["failures"]["pairs"] == failed_pairs.sum() > 0
    right = protocol._figures(
        protocol.cosines(embeddings), *_kernel(protocol, embeddings), embeddings=embeddings, compat=compat
    )[1]
    assert (right[failed_pairs] == ~protocol.same[failed_pairs]).all()


def _kernel(protocol: PairsProtocol, embeddings: npt.NDArray[np.float32]) -> list[Any]:
    from zoo.evaluate.metrics import SortedScores

    return [SortedScores.of(protocol.cosines(embeddings), protocol.same)]


def test_who_failed_to_enrol_is_found_by_nobody_and_finds_nobody() -> None:
    rows = unit_rows(np.random.default_rng(0).standard_normal((8, 4), dtype=np.float32))
    probes, gallery, ids = rows[:4].copy(), -rows[:4], np.arange(4)
    gallery[3] = probes[3]
    probes[0] = 0
    gallery[1] = 0
    found = search(probes, gallery, ids, ids)
    assert found.mate[0] == found.mate[1] == -1 and found.ahead[0] == 3  # ties count against the mate
    assert found.best[0] == -1 and found.ahead[3] == 0
    assert pair_scores(probes, np.array([0, 1, 2]), np.array([1, 1, 0])).tolist() == [-1, pytest.approx(1), -1]


class Squares:
    """Pictures by a function of their number."""

    def __init__(self, draw: Callable[[int], Array], count: int = 20) -> None:
        self.draw, self.count = draw, count

    def __len__(self) -> int:
        return self.count

    def image(self, index: int) -> Array:
        return self.draw(index)


@pytest.mark.parametrize("encode", [encode_png, encode_jpeg])
def test_a_drawn_picture_keeps_its_colours_from_file_to_input(encode: Callable[[Array], bytes]) -> None:
    picture = decode(encode(golden()), "golden")
    means = picture.reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(means, GOLDEN_MEANS, atol=1.5)
    assert np.abs(means[::-1] - GOLDEN_MEANS).max() > 60
    stored = {"RGB": (0.306, -0.024, -0.235), "BGR": (-0.235, -0.024, 0.306)}
    for order, expected in stored.items():
        tensor = InputSpec(channel_order=order).to_input(picture[None])
        np.testing.assert_allclose(tensor.mean(axis=(0, 2, 3)), expected, atol=0.012)


def test_swapped_red_and_blue_is_noticed_and_skin_and_grey_are_not() -> None:
    rng = np.random.default_rng(0)
    shades = rng.integers(-30, 30, 20)
    drawn = [np.clip(golden().astype(int) + shade, 0, 255).astype(np.uint8) for shade in shades]
    assert look(Squares(lambda index: drawn[index])) == []
    (note,) = look(Squares(lambda index: drawn[index][..., ::-1]))
    assert "red and blue look swapped" in note and "20 of 20" in note
    grey = Squares(lambda index: np.full((9, 9, 3), 7 * index, np.uint8))
    assert look(grey) == [] and "grey" in look(grey, order_is_assumed=True)[0]
    assert channel_means(golden())[0] > channel_means(golden())[2]


def test_a_benchmark_with_swapped_colours_is_reported(
    lfw: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "look swapped" not in run(capsys, "evaluate", model, "--data", lfw, "--device", "cpu")[1]
    for file in lfw.rglob("*.jpg"):
        file.write_bytes(encode_jpeg(decode(file.read_bytes(), "x")[..., ::-1]))
    assert "red and blue look swapped" in run(capsys, "evaluate", model, "--data", lfw, "--device", "cpu")[1]


def test_a_strangers_input_can_be_told(lfw: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", model, "--data", lfw, "--device", "cpu", "--json"]
    plain = json.loads(run(capsys, *arguments)[1])
    assert "RGB and (x − 127.5) / 127.5 are assumed" in " ".join(plain["notes"])
    told = json.loads(run(capsys, *arguments, "--bgr", "--mean", "0", "--std", "255")[1])
    assert told["model"]["input"]["channel_order"] == "BGR" and told["model"]["input"]["std"] == 255
    assert "assumed" not in " ".join(told["notes"]) and told["auc"] != plain["auc"]
    status, _, err = run(capsys, *arguments, "--std", "0")
    assert status == 2 and "expected a positive input std" in err


def test_thresholds_are_not_stored_for_another_input_than_the_models(
    lfw: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from zoo.inference.metadata import write_model_info
    from zoo.modelinfo import ModelInfo

    write_model_info(model, ModelInfo(5))
    status, _, err = run(capsys, "evaluate", model, "--data", lfw, "--device", "cpu", "--bgr", "--write-thresholds")
    assert status == 2 and "expected the input that" in err


def test_photos_taken_for_crops_are_noted_and_a_detector_needs_photos(
    tmp_path: Path, model: Path, lfw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = write_people(tmp_path / "raw" / "pictures", 4, size=130)
    (tmp_path / "raw" / "pairs.txt").write_text("\n".join(["2 5", *pair_lines(names, 20)]))
    out = run(capsys, "evaluate", model, "--data", tmp_path / "raw", "--device", "cpu")[1]
    assert "pictures of 130×130 are taken as aligned crops; --detector yunet" in out
    from tests.evaluate.report.test_report import write_pairs

    data = write_pairs(tmp_path / "b.bin")
    status, _, err = run(capsys, "evaluate", model, "--data", data, "--device", "cpu", "--detector", "yunet")
    assert status == 2 and "expected a list of pairs over photos" in err


def test_faces_are_found_in_photos_and_those_that_are_not_are_counted(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    detector = shared / "models/face_detection_yunet_2026may.onnx"
    (tmp_path / "blank.png").write_bytes(encode_png(np.full((200, 300, 3), 90, np.uint8)))
    rows = (shared / "photos/pairs.csv").read_text().splitlines()
    names = [row.split(",") for row in rows[1:]]
    lines = [rows[0]] + [
        ",".join([str(shared / "photos" / row[0]), str(shared / "photos" / row[1]), *row[2:]]) for row in names
    ]
    lines.append(f"{tmp_path / 'blank.png'},{shared / 'photos' / names[0][0]},0" + "," * (len(names[0]) - 3))
    (tmp_path / "own.csv").write_text("\n".join(lines) + "\n")
    arguments = [shared / "models/mobilefacenet.onnx", "--data", tmp_path / "own.csv", "--detector", detector]
    status, out, _ = run(capsys, "evaluate", *arguments, "--device", "cpu", "--json")
    figures = json.loads(out)
    assert status == 0 and figures["failures"]["images"] == 1 and figures["failures"]["pairs"] == 1
    assert figures["auc"] > 0.95 and "the face nearest the centre" in figures["failures"]["cut"]


def test_a_detector_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.onnx").write_text("no network")
    with pytest.raises(InputError, match="expected YuNet"):
        DetectorCut(str(tmp_path / "d.onnx"))(person(1, 1), Path("x.jpg"))


def test_two_processes_embed_as_one_bit_for_bit(lfw: Path, model: Path) -> None:
    protocol = PairsProtocol.from_list(read_pairs_txt(lfw / "pairs.txt"), "LFW")
    one = embed(OnnxEmbedder(model, device="cpu"), protocol.images(), 5)
    told: list[int] = []
    two, notes = embed_on(Job(model, protocol, 5), ["cpu", "cpu"], told.append)
    assert two.tobytes() == one.tobytes() and sum(told) == len(protocol)
    assert any("assumed" in note for note in notes)


def test_an_error_in_a_process_comes_back_as_its_sentence(lfw: Path, model: Path) -> None:
    protocol = PairsProtocol.from_list(read_pairs_txt(lfw / "pairs.txt"), "LFW")
    (lfw / "aligned" / "Person_03" / "Person_03_0002.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match="Person_03_0002"):
        embed_on(Job(model, protocol, 5), ["cpu", "cpu"])


def test_several_devices_from_the_command_line_and_missing_ones(
    lfw: Path, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["evaluate", model, "--data", lfw, "--no-cache", "--json", "--device"]
    one, two = (json.loads(run(capsys, *arguments, device)[1]) for device in ("cpu", "cpu,cpu"))
    assert one == two
    monkeypatch.setattr("zoo.inference.providers.count_gpus", lambda: 0)
    for devices, sentence in (
        ("cuda:0,cuda:1", "expected to run on cuda:1, but no CUDA GPU was found"),
        ("cpu,cuda:1", "expected several devices of one kind"),
        ("auto,auto", "expected several devices of one kind"),
        ("cpu,", "expected the device"),
    ):
        status, _, err = run(capsys, *arguments, devices)
        assert status == 2 and sentence in err and err.count("\n") == 1


def test_a_real_model_embeds_the_same_on_two_processes(shared: Path) -> None:
    path = shared / "models/mobilefacenet.onnx"
    protocol = PairsProtocol.from_bin(shared / "data/lfw_rec/lfw_dev.bin")

    some = PairsProtocol(protocol._images[:46], np.ones(23, bool), data="some")
    one = embed(OnnxEmbedder(path, device="cpu"), some.images(), 8)
    two, _ = embed_on(Job(path, some, 8), ["cpu", "cpu"])
    assert one.tobytes() == two.tobytes()


def test_every_benchmark_tells_how_many_pictures_pairs_and_people_it_holds() -> None:
    described = {one["name"]: one for name in PROTOCOLS for one in describe(name)["benchmarks"]}
    assert set(described) == set(BENCHMARKS)
    for one in described.values():
        assert "people" in one and ("pairs" in one or "probes" in one) and ("images" in one or "gallery" in one)


def test_the_list_of_protocols_is_their_description(capsys: pytest.CaptureFixture[str]) -> None:
    from zoo import cli

    assert cli.main(["list", "protocols", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [describe(name) for name in PROTOCOLS]
    assert cli.main(["list", "protocols"]) == 0
    assert "IJB-C: 469,375 images, 23,124 templates, 15,658,489 pairs, 3,531 people" in capsys.readouterr().out
