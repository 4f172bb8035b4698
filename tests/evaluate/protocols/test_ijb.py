"""IJB: templates, people and searches against loops and reference figures, and files that contradict each other."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.benchmarks import LANDMARKS, Numbers, ijb, mobilefacenet, pooled_by_loops
from tests.support.onnx_models import write_model
from zoo.errors import InputError
from zoo.evaluate import evaluate_all, intervals
from zoo.evaluate.protocols import IJBProtocol
from zoo.evaluate.report.record import ModelFacts, Report
from zoo.evaluate.report.rows import compared
from zoo.evaluate.results import Evaluation
from zoo.inference.embed import embed
from zoo.inference.session import OnnxEmbedder

__all__ = ["ijb", "mobilefacenet"]


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
    assert figures.positives == 2 and figures.negatives == 4 and math.isnan(figures.tar_at_far[0.1])
    assert figures.identification["G1"].mated_probes == figures.identification["G2"].mated_probes == 1
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
    found = figures.failures
    assert (found.images, found.of, found.templates, found.pairs) == (2, 11, 1, 2)
    kept = np.delete(np.arange(11), [1, 10])
    weight = protocol.confidence[kept]
    expected = pooled_by_loops(embeddings[kept], protocol.template_of[kept], protocol.media[kept], weight, 4)
    np.testing.assert_allclose(protocol.templates(embeddings)[:4], expected, atol=1e-6)
    assert figures.identification["G2"].rank[1] == 0.0  # template 12 is subject 2's only probe


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
        ("face_tid_mid.txt", "12 8", "x 8", r"line 11 of .*, found \['10.jpg', 'x', '8'\]"),
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


def test_two_models_are_compared_by_every_figure_that_counts_cases(ijb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (ijb / "meta" / "ijbc_template_pair_label.txt").write_text("3 5 1\n9 12 1\n" + "3 8 0\n5 9 0\n9 8 0\n3 12 0\n" * 3)
    protocol = IJBProtocol(ijb)
    rng = np.random.default_rng(0)
    vectors = [rng.standard_normal((11, 6), dtype=np.float32) for _ in range(2)]
    records: list[Any] = [
        Report(ModelFacts(name), (protocol.score(found),)) for name, found in zip(("one", "two"), vectors, strict=True)
    ]
    # too many draws of three people hold no pair of one of the kinds, or no probe of a gallery
    assert all("union rank" in sentence for _, sentence in compared(records))
    monkeypatch.setattr(intervals, "MOST_UNDEFINED", 0.5)
    told = [sentence for _, sentence in compared(records)]
    labels = [
        "AUC",
        "equal error rate",
        "TAR@FAR 0.1",
        *(f"{g} rank {n}" for g in ("G1", "G2", "union", "mean") for n in (1, 5, 10)),
    ]
    assert [sentence.split(":")[0] for sentence in told] == [f"two against one, {label}" for label in labels]
    first, second = (protocol.score(found).tar_at_far[0.1] for found in vectors)
    assert f"{second - first:+.6f}" in told[2] and "the same draws of people" in told[2]
    assert compared(records[:1]) == []


def test_all_features_and_the_flip_are_eight_results_of_one_run(ijb: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx")
    results = evaluate_all(model, ijb, features="all", device="cpu", cache=False).results
    assert len(results) == 8 and len({found.data for found in results}) == 8
    embedder = OnnxEmbedder(model, device="cpu")
    for found in results:
        name, flip = found.data.split()[-1], bool(found.flip)
        protocol = IJBProtocol(ijb, norm="N1" in name, detector_score="D1" in name)
        assert name == f"{protocol.features}F{int(flip)}" and found.how == name
        assert found.auc == protocol.score(embed(embedder, protocol, flip=flip)).auc


def test_real_ijb_scores_as_the_reference_says(shared: Path, mobilefacenet: OnnxEmbedder) -> None:
    reference = json.loads((shared / "oracle_dev.json").read_text())["ijb"]
    folder = shared / "data/ijb_mini/IJBC"
    embeddings = embed(mobilefacenet, IJBProtocol(folder))
    for norm in (1, 0):
        for detector in (1, 0):
            protocol = IJBProtocol(folder, bool(norm), bool(detector))
            exact, compat = protocol.score(embeddings), protocol.score(embeddings, "insightface")
            expected = reference[f"N{norm}D{detector}F1"]
            assert [any("--compat changes TAR@FAR alone" in note for note in one.notes) for one in (exact, compat)] == [
                False,
                True,
            ]
            for kind, found in (("exact", exact), ("insightface", compat)):
                for far, tar in expected[f"{kind}_tar_at_far"].items():
                    assert found.tar_at_far[float(far)] == tar, (norm, detector, kind, far)
            if norm and detector:
                for name in ("G1", "G2"):
                    found = exact.identification[name]
                    assert found.mated_probes == reference[f"gallery_{name}"]["mated_probes"]
                    assert found.non_mated_probes == reference[f"gallery_{name}"]["non_mated_probes"]
                    for n in (1, 5, 10):
                        assert found.rank[n] == pytest.approx(reference[f"gallery_{name}"][f"rank_{n}"], abs=1e-9)
                check_both_galleries(protocol, exact, protocol.templates(embeddings).astype(np.float64))


def check_both_galleries(protocol: IJBProtocol, found: Evaluation, templates: Numbers) -> None:
    """Mean, union and the open-set curve against one sorted list of candidates a probe."""
    probes, probe_ids = protocol.galleries["mixed"]
    lists = [protocol.galleries[name] for name in ("G1", "G2")]
    rows, ids = (np.concatenate(sides) for sides in zip(*lists, strict=True))
    ranks = []
    for probe, person in zip(probes, probe_ids, strict=True):
        order = np.argsort(-(templates[rows] @ templates[probe]))
        if person in ids:
            ranks.append(1 + int(np.argmax(ids[order] == person)))
    union, mean = found.identification["union"], found.identification["mean"]
    one, other = (found.identification[name] for name in ("G1", "G2"))
    for n in (1, 5, 10):
        assert union.rank[n] == pytest.approx(np.mean(np.array(ranks) <= n))
        assert mean.rank[n] == pytest.approx((one.rank[n] + other.rank[n]) / 2)
        low, high = mean.rank_interval[n]
        assert low <= mean.rank[n] <= high and high - low < np.ptp(one.rank_interval[n])
    assert mean.tpir_at_fpir[0.1] == pytest.approx((one.tpir_at_fpir[0.1] + other.tpir_at_fpir[0.1]) / 2)
    assert mean.tpir_interval[0.1][0] < mean.tpir_at_fpir[0.1]
    assert list(found.curves.open_set) == ["G1", "G2", "union"]
    for (own, own_ids), gallery in zip([*lists, (rows, ids)], ("G1", "G2", "union"), strict=True):
        scores = templates[probes] @ templates[own].T
        best, hit = scores.max(axis=1), own_ids[scores.argmax(axis=1)] == probe_ids
        mated = np.isin(probe_ids, own_ids)
        curve = found.curves.open_set[gallery]
        for fpir, tpir in list(zip(curve.far, curve.tar, strict=True))[1::7]:
            threshold = np.sort(best[~mated])[::-1][round(fpir * (~mated).sum()) - 1] - 1e-6
            assert fpir == pytest.approx(np.mean(best[~mated] > threshold))
            assert tpir == pytest.approx(np.mean((hit & (best > threshold))[mated]))


def test_templates_are_pooled_model_by_model_before_they_are_fused(ijb: Path) -> None:
    rng = np.random.default_rng(4)
    protocol = IJBProtocol(ijb)
    models = [rng.standard_normal((11, dim)).astype(np.float32) * scale for dim, scale in ((9, 1.0), (6, 300.0))]
    models[0][10] = models[1][10] = 0  # the only picture of template 12
    beside, rows = protocol.side_by_side(models)
    pairs = beside.scored_pairs(rows)
    each = [protocol.scored_pairs(own).scores for own in models]
    usable = np.array([True, True, True, True, False, False])
    # the fused scores lie on one plane over the models' own: a weighted mean, whatever the norms
    weights, *_ = np.linalg.lstsq(np.stack(each, axis=1)[usable], pairs.scores[usable], rcond=None)
    np.testing.assert_allclose(np.stack(each, axis=1)[usable] @ weights, pairs.scores[usable], atol=1e-6)
    assert weights.sum() == pytest.approx(1, abs=1e-5) and (weights > 0.1).all()
    assert (pairs.scores[~usable] == -1).all()
    found = beside.score(rows)
    assert found.failures is not None and (found.failures.images, found.failures.templates) == (1, 1)
    assert protocol.score(models[0]).auc == protocol.side_by_side(models[:1])[0].score(models[0]).auc


def test_scored_pairs_name_templates_and_people(ijb: Path) -> None:
    protocol = IJBProtocol(ijb)
    pairs = protocol.scored_pairs(np.random.default_rng(0).standard_normal((11, 5)).astype(np.float32))
    assert pairs.names["image_a"].tolist() == [3, 3, 5, 9, 3, 12]
    one_person = pairs.names["person_a"] == pairs.names["person_b"]
    assert one_person.tolist() == pairs.same.tolist() == [True, False, False, False, False, True]
