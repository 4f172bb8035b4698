"""A measurement on record: what report.json holds, how it is made and read."""

import base64
import datetime
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from zoo.errors import InputError, explained
from zoo.evaluate.groups import Groups
from zoo.evaluate.protocols.pairs import PairsProtocol
from zoo.evaluate.results import Evaluation, Hardest, Thumbnail, to_json
from zoo.files import write_json, write_text
from zoo.formats.images import encode_jpeg
from zoo.machine import commit, installed
from zoo.modelinfo import InputSpec, ModelInfo, with_types

FORMAT = 1
PACKAGES = ("timm-face-zoo", "numpy", "onnxruntime-gpu", "onnxruntime", "opencv-python-headless")


@dataclass(frozen=True)
class ModelFacts:
    """The model that was measured."""

    name: str
    file: str = ""
    sha256: str = ""  #: Of the graph and weights without metadata
    embedding_dim: int = 0
    precision: str = "float32"
    provider: str = ""  #: What computed the embeddings, and where
    input: InputSpec | None = None
    info: ModelInfo | None = None  #: The facts that travel with the model; None where it has none
    notes: tuple[str, ...] = ()  #: What a reader of the results should know of the model, in sentences


@dataclass(frozen=True)
class Settings:
    """How it was measured."""

    flip: bool = True  #: Whether an embedding is the sum over a picture and its mirror image
    compat: str | None = None
    batch_size: int = 64
    features: str = "N1D1"


@dataclass(frozen=True)
class Provenance:
    """What computed the figures, when and where."""

    versions: Mapping[str, str]
    python: str
    machine: str
    commit: str
    created: str  #: ISO 8601, UTC

    @classmethod
    def here(cls) -> Self:
        """This process, now."""
        machine = f"{platform.system()} {platform.machine()}"
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        return cls(installed(*PACKAGES), platform.python_version(), machine, commit(), now)


@dataclass(frozen=True)
class Report:
    """One model's results on one or several benchmarks: what report.json holds."""

    model: ModelFacts
    results: tuple[Evaluation, ...]
    options: Settings = field(default_factory=Settings)
    groups: Groups | None = None  #: Groups of people compared at one threshold, where several were measured
    not_measured: tuple[str, ...] = ()  #: Sentences on benchmarks that were found and could not be measured
    provenance: Provenance = field(default_factory=Provenance.here)

    def to_json(self) -> dict[str, Any]:
        """The report in format 1, without thumbnails."""
        return {"format": FORMAT, **to_json(self)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The report that `to_json` wrote; what a later version adds is ignored. InputError for anything else."""
        told = f"expected a report in format {FORMAT}, found something else"
        with explained(told, TypeError, ValueError, KeyError, AttributeError, OverflowError):
            if record["format"] != FORMAT or not record["results"]:
                raise ValueError(f"format {record['format']!r} with {len(record['results'])} results")
            report: Self = with_types(cls, record)
            return report

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """The content of a report.json; InputError for another file."""
        try:
            return cls.from_json(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"expected a report.json of `zoo evaluate --report` at {path} ({error})") from None

    def save(self, path: str | Path) -> None:
        """Writes .json, .html, .md, .csv or .tex, by the name's ending; whole or not at all."""
        from zoo.evaluate.report.page import page
        from zoo.evaluate.report.rows import TABLES

        path = Path(path)
        if path.suffix == ".json":
            write_json(path, self.to_json())
        elif text := {"html": page, **TABLES}.get(path.suffix[1:]):
            write_text(path, text([self]))
        else:
            raise InputError(f"expected a report named .json, .html, .md, .csv or .tex, found {path.name}")


def thumbnails(protocol: PairsProtocol, hardest: Hardest) -> dict[str, list[Thumbnail]]:
    """Both pictures of each of the hardest pairs, for a page that their owner asked for."""

    def shown(pair: int, score: float) -> Thumbnail:
        encoded = (base64.b64encode(encode_jpeg(picture, 85)).decode() for picture in protocol.pair_images(pair))
        first, second = (f"data:image/jpeg;base64,{jpeg}" for jpeg in encoded)
        return Thumbnail(pair, round(score, 4), (first, second))

    return {kind: [shown(*pair) for pair in pairs] for kind, pairs in vars(hardest).items()}
