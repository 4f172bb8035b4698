#!/usr/bin/env bash
# A tour on synthetic faces: train, export, evaluate, verify. Started by `make demo`.
set -euo pipefail
cd "$(dirname "$0")"
run=runs/demo
faces=demo/faces

chapter() { printf '\n== %s\n\n' "$1"; }
type_and_run() { printf '$ %s\n' "$*"; "$@"; }

rm -rf "$run" demo
mkdir -p demo

chapter "1. Train: resnet18 with ReCurricularFace on synthetic faces (generated here; no real person is in them)"
type_and_run zoo train resnet18 --head recurricularface --recipe quick-cpu --name demo

chapter "2. Export to ONNX: the file is written only if ONNX Runtime agrees with PyTorch"
type_and_run zoo export demo --onnx

chapter "3. Evaluate with ONNX Runtime on people who are not in the training set, and store the thresholds"
type_and_run zoo evaluate "$run" --data synthetic --write-thresholds --report "$run"

chapter "4. Verify: two pictures of the same new person, then of two different people"
python - "$faces" <<'PYTHON'
import sys
from pathlib import Path

from zoo.data.synthetic import SyntheticFaces
from zoo.files import write_bytes
from zoo.formats.images import encode_png

faces = SyntheticFaces(identities=2, images_per_identity=2, seed=7, split="test")
for number, label in enumerate(faces.labels):
    folder = Path(sys.argv[1], f"person-{label}")
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / f"{number % 2 + 1}.png", encode_png(faces.image(number)))
PYTHON
type_and_run zoo verify "$faces/person-0/1.png" "$faces/person-0/2.png" --model "$run" --aligned --far 0.1 || true
echo
type_and_run zoo verify "$faces/person-0/1.png" "$faces/person-1/1.png" --model "$run" --aligned --far 0.1 || true

chapter "Done"
echo "The report:   $run/report.html (open it in a browser)"
echo "The model:    $run/model.onnx (any ONNX Runtime loads it)"
echo "Real faces:   zoo train resnet18 --head recurricularface --data FOLDER"
