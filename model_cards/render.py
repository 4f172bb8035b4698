"""Keep a run's card in the repository, with the records it is rendered from.

    python model_cards/render.py RUN

writes model_cards/NAME/ (NAME is the run's): facts.json from model.onnx, report.json, config.yaml without paths, the
figures and README.md. tests/zoo/publish/test_card.py renders every card here again and compares.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import yaml

from zoo.files import write_json, write_text
from zoo.publish.card import facts_in, figures_in, may_be_told, recipe_in, render_card, report_in


def main(run: Path) -> None:
    folder = Path(__file__).parent / run.resolve().name
    folder.mkdir(exist_ok=True)
    info, report = facts_in(run), report_in(run)
    recipe = {option: value for option, value in recipe_in(run).items() if may_be_told(option, value)}
    if report is None:
        raise SystemExit(f"expected report.json in {run}, found none; measure the run with `zoo evaluate --report`")
    for figure in figures_in(run):
        shutil.copyfile(run / figure, folder / figure)
    write_json(folder / "facts.json", json.loads(info.to_json()))
    report.save(folder / "report.json")
    write_text(folder / "config.yaml", yaml.safe_dump(recipe))
    write_text(
        folder / "README.md",
        render_card(info, report, recipe, f"owner/{folder.name}", figures=figures_in(folder)),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
