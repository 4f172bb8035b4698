"""What others have published, as data: where each model is, what it expects, and the terms that it stands under."""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from zoo.errors import InputError, closest, unknown_name
from zoo.files import sha256
from zoo.messages import log
from zoo.resolve import HubFile, find_model

PERMISSIVE = frozenset(
    {"mit", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "isc", "unlicense", "cc0-1.0", "cc-by-4.0"}
)  #: Licenses that allow commercial use and changes


@dataclass(frozen=True)
class Convention:
    """What the shapes of a checkpoint do not tell."""

    name: str  #: Whose it is: its name for --as, e.g. adaface.
    layout: str  #: The layout that it holds for: one of zoo.published.layouts, or onnx
    channel_order: str  #: What the first convolution was trained on, RGB or BGR
    mean: float
    std: float  #: The input is (x − mean) / std, x from 0 to 255
    eps: float = 1e-5  #: The epsilon of its batch norms
    sizes: tuple[str, ...] = ()  #: The transformers that its checkpoints may be, which settles their heads
    source: str = ""  #: Where this is stated


@dataclass(frozen=True)
class License:
    """The terms of code or weights."""

    id: str  #: As the Hub names it; "other" with a `name`; empty where none is stated
    link: str
    name: str = ""

    def __str__(self) -> str:
        return self.name or self.id


@dataclass(frozen=True)
class TrainingData:
    """The terms of the pictures that a model was trained on."""

    name: str
    license: str
    link: str
    consent: str  #: Whether the people agreed, as far as it is stated, and by whom


@dataclass(frozen=True)
class Published:
    name: str
    authors: str
    convention: str
    layout: str
    backbone: str  #: The architecture in timm that it maps to; empty for an ONNX file of another
    data: TrainingData
    code_license: License
    weights_license: License
    paper: str
    hub: str = ""  #: The authors' own repository, owner/name; empty where the file must be fetched by hand
    file: str = ""
    by_hand: str = ""  #: Where a person gets the file
    sha256: str = ""  #: The file's hash; empty where nobody stated it
    sha256_from: str = ""  #: Who stated the hash
    bytes: int = 0  #: The file's size; 0 where nobody stated it
    dim: int = 512
    stated: dict[str, float] = field(default_factory=dict)  #: What its authors measured, as fractions, by benchmark
    stated_from: str = ""

    @property
    def where(self) -> str:
        return f"{self.hub}:{self.file} on the Hub" if self.hub else self.by_hand


@dataclass(frozen=True)
class Catalogue:
    """Everything in models.yaml."""

    models: dict[str, Published]
    conventions: dict[tuple[str, str], Convention]  #: By name and layout

    def by_hash(self, sha256: str) -> Published | None:
        return next((model for model in self.models.values() if model.sha256 == sha256), None)

    def named(self, text: str) -> Published | None:
        """The model that a name, owner/name or owner/name:FILE means; None where the catalogue has none such."""
        if text in self.models:
            return self.models[text]
        found = [model for model in self.models.values() if text in (model.hub, f"{model.hub}:{model.file}") and text]
        return found[0] if len(found) == 1 else None

    def convention(self, name: str | None, layout: str) -> Convention:
        """The convention called `name` for a layout; InputError with those that there are, as nothing is guessed."""
        known = [convention for (_, its), convention in self.conventions.items() if its == layout]
        if name is not None and (name, layout) in self.conventions:
            return self.conventions[name, layout]
        told = "; ".join(f"{c.name}: {c.channel_order}, (x − {c.mean:g}) / {c.std:g}, epsilon {c.eps:g}" for c in known)
        if name is None:
            raise InputError(f"expected --as, as nothing in the layout {layout} tells whose it is. {told}")
        raise InputError(f"no convention called {name!r} is known for the layout {layout}. Known: {told}")


@cache
def catalogue() -> Catalogue:
    content: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("models.yaml").read_text(encoding="utf-8"))
    data = {name: TrainingData(name, **facts) for name, facts in content["data"].items()}
    licenses = {name: License(**facts) for name, facts in content["licenses"].items()}
    conventions = [Convention(**{**facts, "sizes": tuple(facts.get("sizes", ()))}) for facts in content["conventions"]]
    models = {}
    for facts in content["models"]:
        terms = {key: licenses[facts[key]] for key in ("code_license", "weights_license")}
        models[facts["name"]] = Published(**{**facts, **terms, "data": data[facts["data"]]})
    return Catalogue(models, {(one.name, one.layout): one for one in conventions})


def select(models: Catalogue, terms: str | None = None) -> list[Published]:
    """The models whose weights are under `terms` (permissive, a license's id, None: all); the data's are in `data`."""
    if terms is None:
        return list(models.models.values())
    known = {model.weights_license.id for model in models.models.values()} - {""}
    if terms != "permissive" and terms not in known:
        raise unknown_name("license", terms, known | {"permissive"})
    wanted = PERMISSIVE if terms == "permissive" else {terms}
    return [model for model in models.models.values() if model.weights_license.id in wanted]


@dataclass(frozen=True)
class Found:
    path: Path
    name: str  #: How it was named: a path, or owner/name:FILE
    sha256: str
    known: Published | None


def find(source: str | Path) -> Found:
    """The file that `source` names, fetched where it is on the Hub, and what the catalogue knows of it.

    InputError for a name of which only the place can be told, and for a file that is not as its hash says.
    """
    path, listed = Path(source), catalogue()
    if path.is_file():
        digest = sha256(path)
        return Found(path, path.name, digest, listed.by_hash(digest))
    known = listed.named(str(source))
    if known is not None and not known.hub:
        raise InputError(f"{known.name} must be fetched by hand from {known.by_hand}; then `zoo adopt FILE`")
    where = f"{known.hub}:{known.file}" if known is not None else str(source)
    place = find_model(where) if ":" in where else None
    if not isinstance(place, HubFile):
        hint = "".join(f"; did you mean {near}?" for near in closest(where, listed.models, 1))
        told = f"or owner/name:FILE on the Hub, found {where!r}{hint}"
        raise InputError(f"expected a checkpoint file, a name of `zoo list published` {told}")
    path = place.file()
    digest = sha256(path)
    known = known or listed.by_hash(digest)
    if known is not None and known.sha256 not in ("", digest):
        told = f"as {known.sha256_from} states it, found {digest[:12]}…; it was not opened"
        raise InputError(f"expected {where} with the hash {known.sha256[:12]}…, {told}")
    if known is not None and not known.sha256:
        log.warning("no hash of %s is known: that it is %s rests on the repository's name", where, known.name)
    return Found(path, where, digest, known)
