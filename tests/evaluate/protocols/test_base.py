"""A protocol of one's own: one class and one registration, as CONTRIBUTING says, and `zoo evaluate` measures by it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.benchmarks import model
from tests.support.places import ROOT
from zoo.errors import InputError
from zoo.evaluate.intervals import PeoplePairs
from zoo.evaluate.metrics import binomial_interval
from zoo.evaluate.protocols import Found, IJBProtocol, PairsProtocol, TinyFaceProtocol
from zoo.evaluate.protocols.base import check_compat, check_embeddings, verification
from zoo.evaluate.results import Evaluation

__all__ = ["model"]

TRIPLES = 7


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the path: the example of CONTRIBUTING as an installed package, and one that cannot be loaded."""
    text = (ROOT / "CONTRIBUTING.md").read_text().split("## To add a protocol")[1]
    example = re.search(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert example is not None
    site = tmp_path_factory.mktemp("site")
    (site / "odd_one_out.py").write_text(example[1])
    facts = site / "odd_one_out-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-one-out\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(
        "[zoo.protocols]\nodd-one-out = odd_one_out:OddOneOut\nabsent = not_there:Absent\n"
    )
    return site


def zoo(site: Path, *words: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}", "ZOO_CACHE": str(site / "cache")}
    command = [sys.executable, "-m", "zoo", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def write_triples(path: Path) -> Path:
    """Triples of flat pictures, the third of another colour in all but the last one."""
    rng = np.random.default_rng(0)
    colours = rng.integers(30, 226, (TRIPLES, 3, 3))
    colours[:, 1] = colours[:, 0]
    colours[-1, 2] = colours[-1, 0]
    flat = np.broadcast_to(colours[:, :, None, None], (TRIPLES, 3, 112, 112, 3))
    path.parent.mkdir()
    np.savez(path, pictures=flat.reshape(-1, 112, 112, 3).astype(np.uint8))
    return path


def test_a_protocol_of_an_installed_package_finds_its_benchmark_and_is_measured(
    installed: Path, model: Path, tmp_path: Path
) -> None:
    data = write_triples(tmp_path / "data" / "mine.odd.npz")
    done = zoo(installed, "evaluate", model, "--data", data.parent, "--device", "cpu", "--report", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["protocol"] == "odd-one-out" and found["images"] == 3 * TRIPLES
    assert found["figures"] == {"odd one found": pytest.approx(1 - 1 / TRIPLES)}
    assert "| mine.odd.npz | odd one found | 0.857143 |" in (tmp_path / "report.md").read_text()
    done = zoo(installed, "evaluate", model, "--data", data, "--protocol", "odd-one-out", "--device", "cpu")
    assert "odd one found" in done.stdout and "reused from the cache" in done.stdout


def test_the_list_names_it_and_tells_of_the_one_that_cannot_be_loaded(installed: Path) -> None:
    done = zoo(installed, "list", "protocols")
    assert done.returncode == 0 and "odd-one-out" in done.stdout and "pairs" in done.stdout
    assert "expected the package odd-one-out to provide the protocol absent" in done.stderr


def test_every_protocols_find_names_itself_and_what_lies_there(tmp_path: Path) -> None:
    assert PairsProtocol.find(tmp_path, [], ["lfw.bin", "x.txt"]) == [
        Found("lfw", "pairs", tmp_path / "lfw.bin", "bin")
    ]
    meta = tmp_path / "IJBB" / "meta"
    assert IJBProtocol.find(meta, [], ["ijbb_face_tid_mid.txt"]) == [Found("ijbb", "ijb", tmp_path / "IJBB")]
    assert TinyFaceProtocol.find(tmp_path / "Testing_Set", [], []) == [
        Found("tinyface", "tinyface", tmp_path / "Testing_Set")
    ]
    assert PairsProtocol.find(tmp_path, [], []) == IJBProtocol.find(tmp_path, [], []) == []


def test_a_copy_of_another_size_is_said_to_be_none() -> None:
    lfw = Found("lfw", "pairs", Path("x/lfw.bin"))
    assert "40 pairs instead of 6,000" in lfw.shortfall(Evaluation("pairs", "LFW", "", None, pairs=40))
    assert lfw.shortfall(Evaluation("pairs", "LFW", "", None, pairs=6000)) == ""
    assert Found("own", "pairs", Path("own.bin")).shortfall(Evaluation("pairs", "x", "", None, pairs=4)) == ""


def test_what_every_protocol_asks_of_its_input_is_checked() -> None:
    with pytest.raises(InputError, match="one embedding for each of 4 images"):
        check_embeddings(np.zeros((3, 2)), 4)
    with pytest.raises(InputError, match="found 'facenet'"):
        check_compat("facenet")
    check_compat("insightface")


def test_scores_that_are_all_equal_are_remarked() -> None:
    same = np.arange(20) < 9
    fields, _, _ = verification(np.full(20, 0.5), same, PeoplePairs.unknown(20), (0.1,))
    assert fields["auc"] == 0.5 and "all scores are 0.5" in fields["not_measurable"][-1]


def test_a_points_interval_is_binomial_unless_people_were_drawn() -> None:
    rng = np.random.default_rng(0)
    same = np.arange(90) % 2 == 0
    scores, left, right = rng.normal(same * 0.5, 0.5), np.arange(90) // 6, (np.arange(90) // 6 + ~same) % 15
    for who in (PeoplePairs.of(left, right), PeoplePairs.unknown(90)):
        fields, estimates, kernel = verification(scores, same, who, (0.1, 1e-6))
        (point,) = fields["operating_points"]
        counted = binomial_interval(int(kernel.true_accepts(point.threshold)), 45)
        assert point.tar_interval == (estimates["TAR@FAR 0.1"].interval if who.known else counted)
        assert point.far_interval == binomial_interval(point.false_accepts, 45) and point.far <= 0.1
