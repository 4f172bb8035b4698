"""The answers are those of the Python API, without the server's paths."""

from __future__ import annotations

import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.serving import photo, settings
from tests.support.toy_faces import crop, write_model
from zoo import FaceVerifier
from zoo.errors import InputError
from zoo.inference.session import OnnxEmbedder
from zoo.serve.problems import Problem
from zoo.serve.schemas import EmbedOptions, FaceOptions, IdentifyOptions, Sent, VerifyOptions
from zoo.serve.service import MOST_CROPS, BoundedVerifier, Service, SharedEmbedder


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    return Service(settings(tmp_path_factory.mktemp("service")))


def sent(seed: int, noise: int = 0, name: str = "the picture") -> Sent:
    return Sent(photo(seed, noise), name)


def test_a_verdict_is_that_of_the_python_api(service: Service) -> None:
    for options in ({}, {"far": 0.1}, {"threshold": 0.97}):
        told = service.verify(VerifyOptions(**options), sent(1), sent(1, 5))
        verifier = FaceVerifier(service.settings.model, aligned=True, **options)
        expected = json.loads(verifier.verify(crop(1), crop(1, noise=5)).to_json())
        for picture in ("a", "b"):
            expected[picture].pop("path")
        assert told == expected | {"model": "toy.onnx", "model_sha256": service.embedder.model_sha256}
        assert told["threshold"] is not None and set(options) <= {"far", "threshold"}


def test_the_far_that_was_not_measured_is_refused_in_the_products_sentence(service: Service) -> None:
    with pytest.raises(InputError, match="has a threshold for"):
        service.verify(VerifyOptions(far=0.5), sent(1), sent(2))


def test_crops_are_sent_where_they_are_wanted(service: Service) -> None:
    told = service.verify(VerifyOptions(crops=True), sent(1), sent(2))
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(told["b"]["crop"]), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(pixels[..., ::-1], crop(2))
    assert "crop" not in service.verify(VerifyOptions(), sent(1), sent(2))["a"]


def test_embeddings_leave_only_where_they_are_allowed(tmp_path: Path, service: Service) -> None:
    told = service.embed(EmbedOptions(), sent(1))
    expected = FaceVerifier(service.settings.model, aligned=True).embed(crop(1))
    np.testing.assert_allclose(told["faces"][0]["embedding"], expected, atol=1e-6)
    closed = Service(settings(tmp_path, allow_embeddings=False))
    with pytest.raises(Problem, match="--allow-embeddings") as refused:
        closed.embed(EmbedOptions(), sent(1))
    assert refused.value.status == 403
    told_elsewhere = [
        closed.verify(VerifyOptions(crops=True), sent(1), sent(2)),
        closed.detect(FaceOptions(), sent(1)),
        closed.enrol("Ada", sent(1)),
        closed.identify(IdentifyOptions(threshold=0.3), sent(1)),
        closed.photos("Ada"),
        closed.facts(),
    ]
    assert not any('embedding"' in json.dumps(told) for told in told_elsewhere)


def test_more_faces_than_allowed_are_refused_before_any_is_embedded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(settings(tmp_path, {"max_faces": 3}))
    one = FaceVerifier(service.settings.model, aligned=True).crops(crop(1))
    monkeypatch.setattr(FaceVerifier, "crops", lambda self, picture, name=None: one * 4)
    monkeypatch.setattr(BoundedVerifier, "embed_crops", lambda self, crops: pytest.fail("embedded"))
    for call in (
        lambda: service.embed(EmbedOptions(), sent(1)),
        lambda: service.detect(FaceOptions(), sent(1)),
        lambda: service.verify(VerifyOptions(face="all"), sent(1), sent(2)),
    ):
        with pytest.raises(InputError, match=r"at most 3 faces in .*, found 4"):
            call()


def test_the_settings_threshold_holds_until_a_request_names_its_own(tmp_path: Path) -> None:
    service = Service(settings(tmp_path, threshold=0.31))
    assert service.verify(VerifyOptions(), sent(1), sent(2))["threshold"] == 0.31
    assert service.verify(VerifyOptions(far=0.01), sent(1), sent(2))["threshold"] == 0.9
    assert service.facts()["threshold"] == 0.31


def test_sentences_name_files_without_their_folders(service: Service) -> None:
    told = service.without_paths(f"the model {service.embedder.path} and {service.settings.gallery} are broken")
    assert told == "the model toy.onnx and people.gallery are broken"


def test_without_a_gallery_there_is_nobody_to_identify(tmp_path: Path) -> None:
    service = Service(settings(tmp_path, gallery=None, enrol=False))
    for call in (lambda: service.identify(IdentifyOptions(), sent(1)), lambda: service.people(0, 9), service.gallery):
        with pytest.raises(Problem, match="without --gallery") as refused:
            call()
        assert refused.value.status == 404
    assert service.facts()["people"] is None


def test_a_gallery_that_breaks_while_it_is_served_is_a_fault_of_the_server(tmp_path: Path) -> None:
    service = Service(settings(tmp_path))
    service.enrol("Ada", sent(1))
    assert service.settings.gallery is not None
    service.settings.gallery.write_bytes(b"broken")
    with pytest.raises(Problem) as refused:
        service.identify(IdentifyOptions(), sent(1))
    assert refused.value.status == 500 and str(tmp_path) not in refused.value.detail


def test_every_thread_gets_what_it_would_get_alone(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx")
    shared, alone = SharedEmbedder(path, device="cpu"), OnnxEmbedder(path, device="cpu")
    asked = [np.stack([crop(10 * n + i) for i in range(1 + n % 3)]) for n in range(40)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(shared, asked))
    for crops, embeddings in zip(asked, found, strict=True):
        np.testing.assert_allclose(embeddings, alone(crops), atol=1e-5)


def test_calls_that_wait_go_through_the_model_as_one_batch_of_limited_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = SharedEmbedder(write_model(tmp_path / "m.onnx"), device="cpu")
    sizes: list[int] = []
    started, go = threading.Event(), threading.Event()
    genuine = OnnxEmbedder.__call__

    def slowly(self: OnnxEmbedder, crops: np.ndarray) -> np.ndarray:
        sizes.append(len(crops))
        started.set()
        go.wait(10)
        return genuine(self, crops)

    monkeypatch.setattr(OnnxEmbedder, "__call__", slowly)
    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(shared, crop(0)[None])
        started.wait(10)
        others = [pool.submit(shared, np.stack([crop(n), crop(n + 100)])) for n in range(11)]
        while len(shared._waiting) < 11:
            pass
        go.set()
        assert first.result().shape == (1, 48) and all(other.result().shape == (2, 48) for other in others)
    assert sizes == [1, MOST_CROPS, 22 - MOST_CROPS]


def test_an_error_reaches_every_caller_of_the_batch_and_the_next_call_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = SharedEmbedder(write_model(tmp_path / "m.onnx"), device="cpu")
    with monkeypatch.context() as broken:
        broken.setattr(OnnxEmbedder, "__call__", lambda self, crops: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            shared(crop(0)[None])
    assert shared(crop(0)[None]).shape == (1, 48)
