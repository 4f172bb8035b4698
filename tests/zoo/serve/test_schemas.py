"""The OpenAPI document: a summary, an example and a schema for whatever is asked and answered."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import cv2
import numpy as np

from tests.support.serving import client, settings
from zoo.serve.schemas import PIXEL


def test_every_answer_of_the_document_has_a_body_with_a_schema(tmp_path: Path) -> None:
    with client(settings(tmp_path)) as served:
        document = served.get("/openapi.json").json()
    operations = {f"{verb} {path}": told for path, verbs in document["paths"].items() for verb, told in verbs.items()}
    assert {"post /verify", "post /identify", "post /embed", "post /detect", "get /people", "get /model"} <= set(
        operations
    )
    assert {"post /people/{name}/photos", "delete /people/{name}", "get /healthz", "get /metrics"} <= set(operations)
    for name, told in operations.items():
        assert told.get("summary"), name
        if name.startswith("post"):
            assert set(told["requestBody"]["content"]) == {"multipart/form-data", "application/json"}
            assert "example" in told["requestBody"]["content"]["application/json"]
        for status, answer in told["responses"].items():
            if status >= "400":
                assert "ProblemDetails" in json.dumps(answer["content"]["application/problem+json"]), (name, status)


def test_the_picture_of_the_examples_is_one() -> None:
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(PIXEL), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None and decoded.shape == (1, 1, 3)
