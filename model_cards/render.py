"""Keep a run's card in the repository, with the records it is rendered from.

    python model_cards/render.py RUN [--weights apache-2.0]

writes model_cards/NAME/ (NAME is the run's): facts.json from model.onnx, report.json, config.yaml without paths, the
figures and README.md. With --weights LICENSE it also keeps model.onnx, as a model that gives similarities and
their measured worth, the AUC in report.json, but no verdicts. tests/zoo/publish/test_card.py renders every card here
again and compares.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

import yaml

from zoo.files import write_json, write_text
from zoo.inference.metadata import write_model_info
from zoo.publish.card import License, facts_in, figures_in, may_be_told, recipe_in, render_card, report_in


def main(run: Path, license: str | None) -> None:
    folder = Path(__file__).parent / run.resolve().name
    folder.mkdir(exist_ok=True)
    info, report = facts_in(run), report_in(run)
    recipe = {option: value for option, value in recipe_in(run).items() if may_be_told(option, value)}
    if report is None:
        raise SystemExit(f"expected report.json in {run}, found none; measure the run with `zoo evaluate --report`")
    if license is not None:
        [measured] = report.results
        low, high = measured.auc_interval
        worth = f"AUC {measured.auc:.3f} [{low:.3f}, {high:.3f}] on {measured.data}, {measured.pairs:,} pairs"
        info = replace(info, thresholds=(), license=license, worth=worth)
        shutil.copyfile(run / "model.onnx", folder / "model.onnx")
        write_model_info(folder / "model.onnx", info)
    for figure in figures_in(run):
        shutil.copyfile(run / figure, folder / figure)
    write_json(folder / "facts.json", json.loads(info.to_json()))
    report.save(folder / "report.json")
    write_text(folder / "config.yaml", yaml.safe_dump(recipe))
    write_text(
        folder / "README.md",
        render_card(
            info,
            report,
            recipe,
            f"owner/{folder.name}",
            License(license) if license else None,
            figures=figures_in(folder),
        ),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--weights", metavar="LICENSE")
    args = parser.parse_args()
    main(args.run, args.weights)
