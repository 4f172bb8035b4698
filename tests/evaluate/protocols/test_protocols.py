"""IJB, TinyFace and the kernels under them: against loops, against scikit-learn, and against reference figures."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.io import savemat
from sklearn.metrics import roc_curve

from zoo.errors import InputError
from zoo.evaluate import metrics
from zoo.evaluate.comparison import error_versus_reject, group_rates, pack, paired_difference, unpack
from zoo.evaluate.metrics import SortedScores
from zoo.evaluate.protocols.ijb import IJBProtocol
from zoo.evaluate.protocols.tinyface import TinyFaceProtocol
from zoo.evaluate.report.record import Report
from zoo.evaluate.report.rows import differences
from zoo.evaluate.similarity import pair_scores, pool, search, unit_rows
from zoo.formats.images import encode_jpeg
from zoo.formats.read_ahead import read_ahead
from zoo.inference.embed import embed
from zoo.inference.session import OnnxEmbedder

Array = npt.NDArray[np.float32]


def units(seed: int, rows: int, dim: int = 13) -> Array:
    return unit_rows(np.random.default_rng(seed).standard_normal((rows, dim), dtype=np.float32))


def pooled_by_loops(features: Array, template: Array, medium: Array, weight: Array, templates: int) -> Array:
    out = np.zeros((templates, features.shape[1]))
    for t in range(templates):
        for m in set(medium[template == t].tolist()):
            frames = np.flatnonzero((template == t) & (medium == m))
            out[t] += np.mean([features[i].astype(np.float64) * weight[i] for i in frames], axis=0)
        out[t] /= np.linalg.norm(out[t])
    return out


def test_pooling_is_the_mean_over_a_medium_summed_over_media() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((211, 7), dtype=np.float32) * rng.uniform(0.1, 9, (211, 1)).astype(np.float32)
    template = np.concatenate([np.arange(37), rng.integers(0, 37, 174)])
    medium, weight = rng.integers(0, 4, 211), rng.uniform(0.2, 1, 211)
    found = pool(features, template, medium, weight, 37)
    np.testing.assert_allclose(found, pooled_by_loops(features, template, medium, weight, 37), atol=2e-6)
    unweighted = pool(features, template, medium, np.ones(211), 37)
    assert np.abs(found - unweighted).max() > 1e-2


@pytest.mark.parametrize("pairs, lefts", [(1, 1), (5, 301), (900, 301), (40_001, 301), (40_001, 7)])
def test_pair_scores_are_inner_products_sparse_or_dense(pairs: int, lefts: int) -> None:
    rng = np.random.default_rng(pairs)
    rows = units(1, 301)
    left, right = rng.integers(0, lefts, pairs), rng.integers(0, 301, pairs)
    expected = np.einsum("pd,pd->p", rows[left].astype(np.float64), rows[right].astype(np.float64))
    np.testing.assert_allclose(pair_scores(rows, left, right), expected, atol=1e-6)


def test_blocks_do_not_change_the_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    rows, left, right = units(1, 301), rng.integers(0, 301, 5003), rng.integers(0, 301, 5003)
    whole = pair_scores(rows, left, right)
    monkeypatch.setattr("zoo.evaluate.similarity.BLOCK_ENTRIES", 301 * 17)
    np.testing.assert_allclose(pair_scores(rows, left, right), whole, atol=1e-6)


def test_a_search_counts_other_people_at_or_above_the_best_mate(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    probes, gallery = units(3, 41, 5), units(4, 307, 5)
    probe_ids, gallery_ids = rng.integers(0, 30, 41), np.where(rng.random(307) < 0.5, -1, rng.integers(0, 25, 307))
    monkeypatch.setattr("zoo.evaluate.similarity.BLOCK_ENTRIES", 41 * 256)
    found = search(probes, gallery, probe_ids, gallery_ids)
    scores = probes.astype(np.float64) @ gallery.T.astype(np.float64)
    for p in range(41):
        own = gallery_ids == probe_ids[p]
        assert found.mated[p] == own.any()
        assert found.best[p] == pytest.approx(scores[p][~own].max(), abs=1e-6)
        if own.any():
            assert found.ahead[p] == (scores[p][~own] >= scores[p][own].max()).sum()
    assert found.rank(3) == (found.ahead[found.mated] < 3).mean()


def test_a_constant_embedding_has_rank_0_and_a_perfect_one_rank_1() -> None:
    ids = np.arange(9)
    constant = unit_rows(np.full((9, 512), 0.37, np.float32))
    distractors = np.repeat(constant[:1], 600, axis=0)
    gallery_ids = np.concatenate([ids, np.full(600, -1)])
    assert search(constant, np.concatenate([constant, distractors]), ids, gallery_ids).rank(20) == 0.0
    perfect = np.eye(9, 512, dtype=np.float32)
    assert search(perfect, np.concatenate([perfect, distractors]), ids, gallery_ids).rank(1) == 1.0


def test_open_set_rates_need_rank_1_and_a_score_above_the_threshold() -> None:
    probes, gallery = units(6, 500, 4), units(7, 40, 4)
    probe_ids, gallery_ids = np.arange(500) % 80, np.arange(40)
    found = search(probes, gallery, probe_ids, gallery_ids)
    strangers = np.sort(found.best[~found.mated])
    for fpir in (0.1, 0.01):
        allowed = math.floor(fpir * len(strangers) + 1e-9)
        threshold = strangers[len(strangers) - 1 - allowed]
        expected = ((found.ahead == 0) & (found.mate > threshold))[found.mated].mean()
        assert found.tpir_at_fpir(fpir).tar == pytest.approx(expected)
    assert math.isnan(found.tpir_at_fpir(1e-6).tar)


def test_an_empty_gallery_is_refused() -> None:
    with pytest.raises(InputError, match="expected probes and a gallery"):
        search(units(0, 3), units(0, 3)[:0], np.arange(3), np.arange(0))


@pytest.mark.parametrize("decimals", [1, 3, None])
def test_the_nearest_rate_is_read_off_as_insightface_does(decimals: int | None) -> None:
    rng = np.random.default_rng(8)
    same = rng.random(2003) < 0.2
    scores = rng.normal(np.where(same, 0.5, 0.1), 0.2)
    scores = scores if decimals is None else np.round(scores, decimals)
    fpr, tpr, _ = roc_curve(same, scores)
    fpr, tpr = np.flipud(fpr), np.flipud(tpr)
    fars = [10.0**-power for power in range(6, 0, -1)]
    expected = [tpr[min(zip(abs(fpr - far), range(len(fpr)), strict=True))[1]] for far in fars]
    assert metrics.tar_at_far_insightface(SortedScores.of(scores, same), fars) == expected


def test_float32_scores_are_counted_exactly_at_float64_thresholds() -> None:
    scores = np.sort(np.random.default_rng(0).uniform(-1, 1, 999).astype(np.float32))
    kernel = SortedScores(scores, scores)
    for score in scores[::50].astype(np.float64):
        for threshold in (np.nextafter(score, -9), score, np.nextafter(score, 9)):
            assert kernel.true_accepts(threshold) == (scores.astype(np.float64) > threshold).sum()
            assert kernel.true_accepts(threshold, inclusive=True) == (scores.astype(np.float64) >= threshold).sum()


def test_det_is_the_roc_turned_over() -> None:
    kernel = SortedScores.of(np.array([0.1, 0.5, 0.3, 0.7]), np.array([False, False, True, True]))
    fmr, fnmr = metrics.det(kernel)
    assert fmr.tolist() == [0, 0, 0.5, 0.5, 1] and fnmr.tolist() == [1, 0.5, 0.5, 0, 0]


def test_a_paired_difference_covers_the_truth_and_finds_a_gain() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        both = rng.random(601) < 0.9
        first, second = both ^ (rng.random(601) < 0.03), both ^ (rng.random(601) < 0.03)
        low, high = paired_difference(first, second).interval
        covered += low <= 0 <= high
    assert covered >= 400 * 0.95 - 3 * math.sqrt(400 * 0.95 * 0.05)
    better = np.ones(601, bool)
    worse = better.copy()
    worse[:25] = False
    assert paired_difference(worse, better).verdict == "better" and paired_difference(better, worse).verdict == "worse"
    assert paired_difference(better, better).verdict == "no difference shown"
    assert unpack(pack(worse), 601).tolist() == worse.tolist()


def test_two_models_are_compared_by_every_figure_that_counts_cases(ijb: Path) -> None:
    protocol = IJBProtocol(ijb)
    (ijb / "meta" / "ijbc_template_pair_label.txt").write_text("3 5 1\n9 12 1\n" + "3 8 0\n5 9 0\n9 8 0\n3 12 0\n" * 3)
    protocol = IJBProtocol(ijb)
    rng = np.random.default_rng(0)
    vectors = [rng.standard_normal((11, 6), dtype=np.float32) for _ in range(2)]
    records: list[Any] = [
        Report({"name": name}, [protocol.evaluate(found)], {}).record
        for name, found in zip(("one", "two"), vectors, strict=True)
    ]
    told = [sentence for _, sentence in differences(records)]
    labels = ["AUC", "equal error rate", "TAR@FAR 0.1", *(f"{g} rank {n}" for g in ("G1", "G2") for n in (1, 5, 10))]
    assert [sentence.split(":")[0] for sentence in told] == [f"two against one, {label}" for label in labels]
    first, second = (protocol.score(found)["tar_at_far"]["0.1"] for found in vectors)
    assert f"{second - first:+.6f}" in told[2] and "the same draws of people" in told[2]
    assert differences(records[:1]) == []


def test_groups_are_compared_at_one_threshold() -> None:
    rng = np.random.default_rng(1)
    same = np.arange(2000) % 2 == 0
    easy, hard = rng.normal(np.where(same, 0.7, 0.0), 0.1), rng.normal(np.where(same, 0.6, 0.2), 0.1)
    found = group_rates({"easy": (easy, same), "hard": (hard, same)}, far=0.1)
    for name, scores in (("easy", easy), ("hard", hard)):
        assert found["groups"][name]["fmr"] == (scores[~same] > found["threshold"]).mean()
        assert found["groups"][name]["fnmr"] == (scores[same] <= found["threshold"]).mean()
    assert found["fmr_spread"] > 0.1


def test_turning_away_the_worst_pairs_leaves_the_errors_of_the_rest() -> None:
    quality = np.arange(10.0)
    scores = np.array([0, 0, 1, 0, 1, 1, 1, 1, 1, 1.0])
    found = error_versus_reject(scores, quality, 0.5, np.array([0, 0.2, 0.4, 0.9]))
    assert found.tolist() == [0.3, 1 / 8, 0, 0]


def test_reading_ahead_keeps_the_order_and_tells_an_error_in_its_turn() -> None:
    class Pictures:
        def __len__(self) -> int:
            return 50

        def image(self, index: int) -> npt.NDArray[np.uint8]:
            if index == 40:
                raise InputError("picture 40 is damaged")
            return np.full((2, 2, 3), index, np.uint8)

    seen = []
    with pytest.raises(InputError, match="picture 40"):
        for picture in read_ahead(Pictures(), workers=3, ahead=7):
            seen.append(int(picture[0, 0, 0]))
    assert seen == list(range(40))


LANDMARKS = "38.3 51.7 73.5 51.5 56.0 71.7 41.5 92.4 70.7 92.2"


@pytest.fixture
def ijb(tmp_path: Path) -> Path:
    """Eleven pictures, five templates of three subjects, both galleries and a list of probes."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "IJBC"
    (folder / "meta").mkdir(parents=True)
    (folder / "loose_crop").mkdir()
    names = [f"{i}.jpg" for i in range(11)]
    for name in names:
        (folder / "loose_crop" / name).write_bytes(encode_jpeg(rng.integers(0, 256, (120, 130, 3), dtype=np.uint8)))
    meta = folder / "meta"
    confidence = rng.uniform(0.2, 1, 11)
    meta.joinpath("ijbc_name_5pts_score.txt").write_text(
        "".join(f"{name} {LANDMARKS} {score:.6f}\n" for name, score in zip(names, confidence, strict=True))
    )
    template, medium = [3, 3, 3, 5, 5, 8, 8, 9, 9, 9, 12], [1, 1, 2, 4, 4, 5, 6, 7, 7, 7, 8]
    meta.joinpath("ijbc_face_tid_mid.txt").write_text(
        "".join(f"{n} {t} {m}\n" for n, t, m in zip(names, template, medium, strict=True))
    )
    meta.joinpath("ijbc_template_pair_label.txt").write_text("3 5 1\n3 8 0\n5 9 0\n9 8 0\n3 12 0\n12 9 1\n")
    for name, rows in (
        ("gallery_G1", [(3, 0), (3, 0)]),
        ("gallery_G2", [(8, 1), (9, 2)]),
        ("probe_mixed", [(5, 0), (12, 2)]),
    ):
        with open(meta / f"ijbc_1N_{name}.csv", "w", newline="") as file:
            csv.writer(file).writerows([("TEMPLATE_ID", "SUBJECT_ID", "FILENAME"), *[(*row, "x") for row in rows]])
    return folder


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("detector_score", [True, False])
def test_ijb_templates_follow_the_switches(ijb: Path, norm: bool, detector_score: bool) -> None:
    protocol = IJBProtocol(ijb, norm, detector_score)
    vectors = (
        np.random.default_rng(1).standard_normal((11, 6), dtype=np.float32)
        * np.arange(1, 12, dtype=np.float32)[:, None]
    )
    features = vectors if norm else vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    weight = protocol.confidence if detector_score else np.ones(11)
    expected = pooled_by_loops(features, protocol.template_of, protocol.media, weight, 5)
    np.testing.assert_allclose(protocol.templates(vectors), expected, atol=1e-6)
    figures = protocol.score(vectors)
    assert figures["positives"] == 2 and figures["negatives"] == 4 and math.isnan(figures["tar_at_far"]["0.1"])
    assert figures["identification"]["G1"]["mated_probes"] == figures["identification"]["G2"]["mated_probes"] == 1
    assert [picture.shape for picture in protocol.images()] == [(112, 112, 3)] * 11


def test_templates_without_a_usable_picture_are_no_match_and_counted(ijb: Path) -> None:
    replace(ijb / "meta" / "ijbc_name_5pts_score.txt", f"10.jpg {LANDMARKS}", "10.jpg" + " 0" * 10)
    replace(ijb / "meta" / "ijbc_name_5pts_score.txt", f"1.jpg {LANDMARKS}", "1.jpg" + " -1" * 10)
    protocol = IJBProtocol(ijb)
    assert protocol.image(10) is None and protocol.image(1) is None and protocol.image(0) is not None
    embedder = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    embeddings = embed(
        lambda crops: crops.mean(axis=(1, 2)).astype(np.float32) @ embedder, protocol.images(), flip=False
    )
    assert not embeddings[[1, 10]].any()
    figures = protocol.score(embeddings)
    assert figures["failures"] | {"policy": "", "cut": ""} == {
        "images": 2, "of": 11, "templates": 1, "pairs": 2, "policy": "", "cut": "",
    }  # fmt: skip
    kept = np.delete(np.arange(11), [1, 10])
    weight = protocol.confidence[kept]
    expected = pooled_by_loops(embeddings[kept], protocol.template_of[kept], protocol.media[kept], weight, 4)
    np.testing.assert_allclose(protocol.templates(embeddings)[:4], expected, atol=1e-6)
    assert figures["identification"]["G2"]["rank"]["1"] == 0.0  # template 12 is subject 2's only probe


def test_the_people_of_ijb_are_the_lists_subjects_joined_by_same_person_pairs(ijb: Path) -> None:
    who = IJBProtocol(ijb).who
    people = dict(zip(["3", "3", "5", "9", "3", "12"], who.left.tolist(), strict=True))
    people |= dict(zip(["5", "8", "9", "8", "12", "9"], who.right.tolist(), strict=True))
    assert who.known and who.draws.people == 3
    assert people["3"] == people["5"] and people["9"] == people["12"] and len(set(people.values())) == 3
    for file in (ijb / "meta").glob("*.csv"):
        file.unlink()
    assert IJBProtocol(ijb).who.draws.people == 3  # 3 and 5, 12 and 9, and 8 by itself


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    "file, old, new, sentence",
    [
        ("name_5pts_score.txt", "4.jpg", "x4.jpg", r"missing for 1 \(4.jpg\)"),
        ("name_5pts_score.txt", "38.3 ", "", "expected 12 columns in line 1"),
        ("name_5pts_score.txt", "38.3", "nan", "expected finite landmarks"),
        ("face_tid_mid.txt", "12 8", "12", "expected 3 columns in line 11"),
        ("face_tid_mid.txt", "12 8", "x 8", "found 'x'"),
        ("template_pair_label.txt", "3 5 1", "3 77 1", r"1 without any \(77\)"),
        ("template_pair_label.txt", "3 5 1", "3 5 2", "expected 0 or 1"),
        ("template_pair_label.txt", "3 5 1", "3 5", "found 17 numbers"),
        ("template_pair_label.txt", "3 5 1", "3 five 1", "expected whole numbers"),
        ("1N_probe_mixed.csv", "5,0", "6,0", r"1 without any \(6\)"),
        ("1N_gallery_G2.csv", "TEMPLATE_ID", "NAME", "expected the columns"),
    ],
)
def test_contradicting_ijb_files_are_refused_by_name(ijb: Path, file: str, old: str, new: str, sentence: str) -> None:
    replace(ijb / "meta" / f"ijbc_{file}", old, new)
    with pytest.raises(InputError, match=sentence):
        IJBProtocol(ijb).galleries  # noqa: B018


def test_an_empty_gallery_list_is_refused(ijb: Path) -> None:
    (ijb / "meta" / "ijbc_1N_gallery_G1.csv").write_text("TEMPLATE_ID,SUBJECT_ID\n")
    with pytest.raises(InputError, match="found an empty list"):
        IJBProtocol(ijb).score(np.ones((11, 3), np.float32) + np.eye(11, 3, dtype=np.float32))


def test_an_incomplete_ijb_says_what_is_missing_where(ijb: Path) -> None:
    (ijb / "loose_crop" / "7.jpg").unlink()
    with pytest.raises(InputError, match=r"missing 1 of them \(7.jpg\)"):
        IJBProtocol(ijb)
    shutil.rmtree(ijb / "loose_crop")
    (ijb / "meta" / "ijbc_template_pair_label.txt").unlink()
    with pytest.raises(InputError, match=r"missing there: meta/ijbc_template_pair_label\.txt, loose_crop/"):
        IJBProtocol(ijb)


def test_nan_and_one_kind_of_pairs_are_refused_for_ijb(ijb: Path) -> None:
    vectors = np.ones((11, 3), np.float32)
    vectors[6] = np.nan
    with pytest.raises(InputError, match=r"NaN or infinity for 1 of 11 images \(image 6.jpg\)"):
        IJBProtocol(ijb).score(vectors)
    (ijb / "meta" / "ijbc_template_pair_label.txt").write_text("3 5 1\n")
    with pytest.raises(InputError, match="pairs of both kinds"):
        IJBProtocol(ijb).score(np.ones((11, 3), np.float32))


def mat(path: Path, kind: str, names: list[str], ids: list[int]) -> None:
    cells = np.empty((len(names), 1), object)
    cells[:, 0] = names
    savemat(path, {f"{kind}_set": cells, f"{kind}_ids": np.array(ids, np.int32)[:, None]})


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Three probes, four matches, five distractors of different sizes."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "tinyface" / "Testing_Set"
    listed = {"Probe": ["a.jpg", "b.jpg", "c.jpg"], "Gallery_Match": ["m1.jpg", "m2.jpg", "m3.jpg", "m4.jpg"]}
    for part, names in {**listed, "Gallery_Distractor": [f"d{i}.jpg" for i in range(5)]}.items():
        (folder / part).mkdir(parents=True)
        for name in names:
            size = (*rng.integers(9, 40, 2), 3)
            (folder / part / name).write_bytes(encode_jpeg(rng.integers(0, 256, size, dtype=np.uint8)))
    mat(folder / "probe_img_ID_pairs.mat", "probe", listed["Probe"], [1, 2, 3])
    mat(folder / "gallery_match_img_ID_pairs.mat", "gallery", listed["Gallery_Match"], [1, 2, 3, 3])
    return folder.parent


def test_tinyface_ranks_its_probes(tiny: Path) -> None:
    protocol = TinyFaceProtocol(tiny)
    assert len(protocol) == 12 and {picture.shape for picture in protocol.images()} == {(112, 112, 3)}
    vectors = np.zeros((12, 6), np.float32)
    vectors[[0, 3], 0] = vectors[[1, 4], 1] = vectors[[2, 5, 6], 2] = 1
    vectors[7:, 3] = 1
    vectors[8, 1] = 50  # a distractor as near to probe b as rounding tells
    figures = protocol.score(vectors)
    assert figures["identification"][""]["rank"]["5"] == 1.0
    assert figures["identification"][""]["rank"]["1"] == 1.0
    vectors[8] = vectors[4]
    assert protocol.score(vectors)["identification"][""]["rank"]["1"] == pytest.approx(2 / 3)
    assert protocol.score(np.ones((12, 6), np.float32))["identification"][""]["rank"]["5"] == 0.0


def test_an_incomplete_tinyface_says_what_is_missing(tiny: Path) -> None:
    (tiny / "Testing_Set" / "Probe" / "b.jpg").unlink()
    with pytest.raises(InputError, match=r"missing 1 of them \(Probe/b.jpg\)"):
        TinyFaceProtocol(tiny)
    (tiny / "Testing_Set" / "probe_img_ID_pairs.mat").write_text("no matlab")
    with pytest.raises(InputError, match="cannot read them"):
        TinyFaceProtocol(tiny)
    shutil.rmtree(tiny / "Testing_Set" / "Gallery_Distractor")
    with pytest.raises(InputError, match="missing there: Gallery_Distractor"):
        TinyFaceProtocol(tiny)


@pytest.fixture(scope="session")
def mobilefacenet(shared: Path) -> OnnxEmbedder:
    return OnnxEmbedder(shared / "models/mobilefacenet.onnx", device="cpu", threads=1)


def test_real_ijb_scores_as_the_reference_says(shared: Path, mobilefacenet: OnnxEmbedder) -> None:
    reference = json.loads((shared / "oracle_dev.json").read_text())["ijb"]
    folder = shared / "data/ijb_mini/IJBC"
    embeddings = embed(mobilefacenet, read_ahead(IJBProtocol(folder)))
    for norm in (1, 0):
        for detector in (1, 0):
            protocol = IJBProtocol(folder, bool(norm), bool(detector))
            exact, compat = protocol.score(embeddings), protocol.score(embeddings, "insightface")
            expected = reference[f"N{norm}D{detector}F1"]
            for kind, found in (("exact", exact), ("insightface", compat)):
                for far, tar in expected[f"{kind}_tar_at_far"].items():
                    assert found["tar_at_far"][f"{float(far):g}"] == tar, (norm, detector, kind, far)
            if norm and detector:
                for name in ("G1", "G2"):
                    found = exact["identification"][name]
                    assert found["mated_probes"] == reference[f"gallery_{name}"]["mated_probes"]
                    assert found["non_mated_probes"] == reference[f"gallery_{name}"]["non_mated_probes"]
                    for n in (1, 5, 10):
                        assert found["rank"][str(n)] == pytest.approx(
                            reference[f"gallery_{name}"][f"rank_{n}"], abs=1e-9
                        )


def test_real_tinyface_scores_as_the_reference_says(shared: Path, mobilefacenet: OnnxEmbedder) -> None:
    reference = json.loads((shared / "oracle_dev.json").read_text())["tinyface"]
    protocol = TinyFaceProtocol(shared / "data/tinyface_mini/tinyface")
    figures = protocol.score(embed(mobilefacenet, read_ahead(protocol)))
    assert [figures[key] for key in ("probes", "gallery", "distractors")] == [
        reference[key] for key in ("probes", "gallery", "distractors")
    ]
    for n in (1, 5, 20):  # the reference was written in float32
        assert figures["identification"][""]["rank"][str(n)] == pytest.approx(reference[f"rank_{n}"], abs=1e-7)
