"""The model card: one template, filled from the model's facts, its report and its recipe, and from nothing else."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError
from zoo.evaluate.report.page import templates
from zoo.evaluate.report.record import Report
from zoo.evaluate.report.rows import rows
from zoo.evaluate.results import Evaluation
from zoo.files import write_text
from zoo.hub.pull import is_hub_id
from zoo.modelinfo import ModelInfo
from zoo.resolve import Folder, find_model
from zoo.runs import options_in

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

WEB_FILE = "onnx/model.onnx"  #: The file that transformers.js looks for
TAGS = ("timm", "face-recognition", "face-verification", "onnx")  #: An adopted ONNX file is no model of timm: [1:]
HUB_TYPES = {"ijbb": "ijb-b", "ijbc": "ijb-c"}
"""The benchmarks whose name among the Hub's results is not their file's, as that of cfp_fp, cfp-fp, is."""


@dataclass(frozen=True)
class License:
    """What the weights may be used for."""

    identifier: str  #: The Hub's name of the license, e.g. apache-2.0, cc-by-nc-4.0; "other" for what has none.
    name: str = ""  #: For "other": what it is called
    link: str = ""  #: For "other": where it can be read

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", self.identifier):
            raise InputError(f"expected a license as the Hub names it, such as apache-2.0, found {self.identifier!r}")
        if self.identifier == "other" and not (self.name and self.link):
            wanted = "--license-name and --license-link with --license other"
            raise InputError(f"expected {wanted}, for example for research-only data")
        if self.link and not self.link.startswith("https://"):
            raise InputError(f"expected an https address as --license-link, found {self.link!r}")


def render_card(
    info: ModelInfo,
    report: Report | None,
    recipe: dict[str, Any],
    repo: str,
    license: License | None = None,
    centres: bool = False,
    plain: bool = False,
    figures: Sequence[str] = (),
) -> str:
    """README.md for the Hub: YAML metadata and the card. The same facts give the same text.

    `report` is that of report.json, None where nothing was measured; `recipe` the content of config.yaml; `plain`
    says that the model loads in timm without zoo; `centres` that class centres are published with it; `figures` are the
    names of pictures beside the card.
    """
    from huggingface_hub import ModelCardData

    head = info.head.partition("(")[0]
    results = report.results if report else ()
    # Markdown, for a page that shows no HTML: `cell` guards what is filled in
    environment = templates("zoo.publish", autoescape=False, keep_trailing_newline=True)
    environment.filters |= {"cell": cell, "rows": rows}
    body = environment.get_template("card.md.j2").render(
        name=repo.rpartition("/")[2],
        repo=repo,
        info=info,
        report=report,
        intervals_told=any(result.intervals or result.probes is not None for result in results),
        parity=sorted(info.parity.items(), key=lambda item: int(item[0])),
        recipe=[(option, str(value)) for option, value in sorted(recipe.items()) if may_be_told(option, value)],
        license=license,
        centres=centres,
        plain=plain,
        figures=[(Path(figure).stem, figure) for figure in figures],
        head=head,
        web=WEB_FILE,
    )
    data = ModelCardData(
        library_name="timm" if info.parity else "onnx",
        license=license.identifier if license else None,
        license_name=license.name or None if license else None,
        license_link=license.link or None if license else None,
        pipeline_tag="image-feature-extraction",
        tags=[*TAGS[not info.parity :], *([head] if head else [])],
        base_model=base_model(info, recipe),
        datasets=datasets(info, recipe) or None,
        metrics=["accuracy", "roc_auc"] if results else None,
        model_name=repo.rpartition("/")[2],
        eval_results=[entry for result in results for entry in eval_results(result)] or None,
    )
    return f"---\n{data.to_yaml()}\n---\n\n{body}"


def base_model(info: ModelInfo, recipe: dict[str, Any]) -> str | None:
    """The repository on the Hub whose weights these began with; None where there is none or nothing says so."""
    for text in (info.origin.file if info.origin else "", str(recipe.get("init", ""))):
        repo = re.match(r"(?:hf-hub:)?([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:[@:]|$)", text, re.ASCII)
        if repo and (info.origin or is_hub_id(repo[1])):
            return repo[1]
    return None


def datasets(info: ModelInfo, recipe: dict[str, Any]) -> list[str]:
    """The training data as the Hub names it: a dataset there, or what the catalogue calls it."""
    hub = re.match(r"hf://datasets/([\w.-]+/[\w.-]+)", str(recipe.get("data", "")))
    if hub:
        return [hub[1]]
    return [info.training_set] if info.origin and not info.head and info.training_set not in ("", "not stated") else []


def may_be_told(option: str, value: Any) -> bool:
    """Whether a recipe's option belongs into a public card."""
    from zoo.train.config import option_names

    return option not in option_names(told=False) and value not in (None, {}, "") and not {"/", "\\"} & set(str(value))


def eval_results(result: Evaluation) -> list[EvalResult]:
    """A benchmark's figures as the Hub's metadata has them, fractions."""
    from huggingface_hub import EvalResult

    kind = re.sub(r"[^a-z0-9]+", "-", Path(result.data).stem.lower()).strip("-") or "pairs"
    task: dict[str, Any] = {"task_type": "image-feature-extraction", "task_name": "Face verification"}
    task |= {"dataset_type": HUB_TYPES.get(kind, kind), "dataset_name": result.data}
    figures = [("accuracy", "accuracy", result.accuracy), ("roc_auc", "AUC", result.auc)]
    figures += [(f"tar_at_far_{far:g}", f"TAR@FAR {far:g}", tar) for far, tar in result.tar_at_far.items()]
    return [
        EvalResult(**task, metric_type=metric, metric_name=label, metric_value=round(float(value), 6))
        for metric, label, value in figures
        if value is not None and not math.isnan(value)
    ]


def cell(text: object) -> str:
    """Text that stays inside its place in a Markdown page: one line, no markup of its own."""
    return re.sub(r"([|<>\[\]*_`])", r"\\\1", " ".join(str(text).split()))


def to_html(card: str, title: str) -> str:
    """The card as one page to look at, without any request to a network."""
    from markdown_it import MarkdownIt

    body = re.sub(r"\A---\n.*?\n---\n", "", card, flags=re.DOTALL)
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    return templates("zoo.publish").get_template("card.html.j2").render(title=title, body=markdown.render(body))


def figures_in(folder: Path) -> list[str]:
    """The curves of `zoo evaluate --report`: figures, never faces."""
    return sorted(path.name for kind in ("roc", "det", "cmc") for path in folder.glob(f"*-{kind}.png"))


def card_of_run(
    run: Path, repo: str, license: License | None = None, centres: bool = False, figures: Sequence[str] = ()
) -> str:
    """The card of a run folder, from its model.onnx (the facts), report.json and config.yaml."""
    known, file = (facts_in(run / "model.onnx"), report_in(run), options_in(run_of(run))), run / "config.json"
    own = ("face_backbone", "iresnet", "mobilefacenet", "mbf", "facevit")  # what timm does not know by itself
    plain = file.is_file() and not json.loads(file.read_text()).get("architecture", own[0]).startswith(own)
    return render_card(*known, repo, license, centres, plain, figures)


def write_card(
    run: str | Path | None = None, repo: str | None = None, license: License | None = None, html: bool = False
) -> list[Path]:
    """Writes README.md into a model's folder, and README.html beside it with `html`; the files that were written.

    `run` is a run, its best/, or an adopted model (None: the newest run), `repo` its name on the Hub (None: owner/ and
    the folder's).
    """
    folder = model_folder(run)
    name = repo or f"owner/{folder.resolve().name}"
    card = card_of_run(folder, name, license, figures=figures_in(folder))
    written = {"README.md": card, **({"README.html": to_html(card, name)} if html else {})}
    for file, text in written.items():
        write_text(folder / file, text)
    return [folder / file for file in written]


def model_folder(model: str | Path | None) -> Path:
    """The folder of a run (None: the newest), of its best/, or of an adopted model; InputError for another MODEL."""
    place = find_model(model)
    if not isinstance(place, Folder):
        raise InputError(f"expected the folder of a run or of an adopted model, found {place.name}; name a folder")
    return place.path


def run_of(folder: Path) -> Path:
    """The run that a folder belongs to: the one above for best/."""
    whole = folder.resolve().parent
    return whole if folder.resolve().name == "best" and (whole / "config.yaml").is_file() else folder


def facts_in(model: Path) -> ModelInfo:
    """The facts in a run's ONNX file; InputError where there is none or it states none."""
    from zoo.inference.metadata import read_model_info

    if not model.is_file():
        advice = f"write it with `zoo export {model.parent} --onnx`"
        raise InputError(f"expected {model.name} in {model.parent}, found none; {advice}")
    info = read_model_info(model)
    if info is None:
        raise InputError(f"expected the facts of the model in {model}, found none; export it with `zoo export`")
    return info


def report_in(run: Path) -> Report | None:
    """A run's report.json; None where there is none. InputError where it is of another model than model.onnx."""
    from zoo.inference.metadata import model_sha256

    if not (run / "report.json").is_file():
        return None
    report = Report.read(run / "report.json")
    if report.model.sha256 != model_sha256(run / "model.onnx"):
        found = f"found {run / 'report.json'} of another model; measure it with `zoo evaluate {run} --report {run}`"
        raise InputError(f"expected a report of {run / 'model.onnx'}, {found}")
    return report
