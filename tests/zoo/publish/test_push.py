"""What is published is proven, measured, licensed and described, and comes back the same; timm loads it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import hub_client
from tests.support.hub_models import tiny_onnx
from tests.support.hub_server import TOKEN, Handler, HubServer, Repo
from tests.support.places import ROOT
from zoo.errors import InputError
from zoo.files import write_json
from zoo.publish.card import License
from zoo.publish.push import publish, stage, write_config
from zoo.published.adopt import adopt

pytestmark = pytest.mark.timeout(900)  # one fixture trains nothing but exports, publishes and loads a whole run


APACHE = License("apache-2.0")


PUBLISHED = {
    *("README.md", "config.json", "model.onnx", "model.safetensors", "onnx/model.onnx", "report.html", "report.json"),
    *("synthetic-faces-det.png", "synthetic-faces-roc.png"),
}
"""What goes of a run that was measured on synthetic faces."""


FACE_CFG = {"input_size": (3, 112, 112), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
"""What the publishers of face models in timm's layout state of their input."""


ROUND_TRIP = """
import contextlib, io, json, sys, tempfile
from pathlib import Path
import numpy as np, torch
from zoo.cli import main
import zoo, zoo.backbones, timm

said = {}
def do(name, *words):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(words))
    said[name] = [code, out.getvalue(), err.getvalue()]

push = ["push", "runs/toy", "o/m", "--license", "apache-2.0", "--json"]
do("dry", *push, "--dry-run")
do("push", *push)
do("again", *push)

from zoo.publish.card import License
from zoo.publish.push import push as publish, stage
for name, license, options in (
    ("request", "cc-by-4.0", {"create_pr": True}),
    ("branch", "apache-2.0", {"revision": "next"}),
):
    with tempfile.TemporaryDirectory() as folder:
        stage(Path("runs/toy"), Path(folder), "o/m", License(license))
        said[name] = vars(publish(Path(folder), "o/m", **options))
do("pull", "pull", "o/m", "--json")
do("evaluate", "evaluate", "o/m", "--data", "pairs.bin", "--json")
from huggingface_hub import hf_hub_download
model = hf_hub_download("o/m", "model.onnx")
do("verify", "verify", "0.png", "1.png", "--model", model, "--aligned", "--threshold", "0.3", "--json")
do("verify by id", "verify", "0.png", "1.png", "--model", "o/m", "--aligned")
try:
    timm.create_model(
        "hf-hub:evil/forbidden", pretrained=True, pretrained_cfg_overlay={"hf_hub_filename": "model.safetensors"}
    )
except Exception as error:
    said["overlay"] = type(error).__name__
crops = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
x = (torch.from_numpy(crops).permute(0, 3, 1, 2).float() - 127.5) / 127.5
commit = json.loads(said["push"][1])["commit"]
original = zoo.backbones.load_timm(Path("runs/toy"))
with torch.no_grad():
    said["embeddings"] = {
        "run": original(x).tolist(),
        "zoo": zoo.load(f"o/m@{commit}")(x).tolist(),
        "timm": timm.create_model("hf-hub:o/m", pretrained=True).eval()(x).tolist(),
        "local": timm.create_model("local-dir:runs/toy", pretrained=True).eval()(x).tolist(),
        "onnx": zoo.load_onnx("hf-hub:o/m")(crops).tolist(),
    }
said["faces"] = timm.list_models("*face*")
for name in ("evil/architecture", "evil/arguments", "evil/weights", "evil/shape"):
    try:
        zoo.load(name)
        said[name] = "loaded"
    except zoo.errors.InputError as error:
        said[name] = str(error)
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def round_trip(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict]:
    """Everything said by a client process that publishes the run and loads it back."""
    from zoo.data.synthetic import synthetic_pairs
    from zoo.formats.bins import write_bin
    from zoo.formats.images import encode_png

    images, same = synthetic_pairs(20)
    for number in (0, 1):
        (run.parent.parent / f"{number}.png").write_bytes(encode_png(images[number]))
    write_bin(run.parent.parent / "pairs.bin", [encode_png(image) for image in images], same)
    home = tmp_path_factory.mktemp("client")
    with HubServer() as hub:
        config = json.loads((run / "config.json").read_text())
        weights = (run / "model.safetensors").read_bytes()
        for name, changed, tensors in (
            ("evil/architecture", {"architecture": "os.system"}, weights),
            ("evil/arguments", {"model_args": {"pretrained_strict": False, "in_chans": 3}}, weights),
            ("evil/weights", {}, b"\x80\x04pickle"),
            ("evil/shape", {"num_classes": 63}, weights),
        ):
            hub.repos[name] = Repo()
            content = json.dumps({**config, **changed}).encode()
            hub.repos[name].commit({"config.json": content, "model.safetensors": tensors})
        hub.repos["evil/forbidden"] = Repo()
        hub.repos["evil/forbidden"].commit(
            {"config.json": json.dumps(config).encode(), "model.safetensors": weights, "pytorch_model.bin": b"pickle"}
        )
        hub.faults.append(forbid)
        env = hub_client.environment(hub, home, token=True)
        done = hub_client.run(["-c", ROUND_TRIP], env, run.parent.parent)
        assert done.returncode == 0, done.stderr
        yield {**json.loads(done.stdout.splitlines()[-1]), "hub": hub, "stderr": done.stderr}


def forbid(request: Handler) -> bool:
    """A fault: 403 on the safetensors file of one repository."""
    forbidden = request.parts.path.startswith("/evil/forbidden/resolve/") and request.path.endswith(".safetensors")
    if forbidden:
        request.error(403, "", "no")
    return forbidden


def published(round_trip: dict) -> dict[str, bytes]:
    """The files of the first push."""
    repo: Repo = round_trip["hub"].repos["o/m"]
    return repo.tree(json.loads(round_trip["push"][1])["commit"])


def test_a_dry_run_lists_what_would_go_and_asks_nobody(round_trip: dict) -> None:
    code, said, _ = round_trip["dry"]
    listed = json.loads(said)["files"]
    tree = published(round_trip)
    assert code == 0 and listed == {name: len(tree[name]) for name in listed}
    assert set(tree) == {*listed, ".gitattributes"}
    assert set(listed) == PUBLISHED


def test_a_push_is_one_commit_and_the_same_push_none(round_trip: dict) -> None:
    pushed, again = json.loads(round_trip["push"][1]), json.loads(round_trip["again"][1])
    assert pushed["changed"] and not again["changed"] and again["commit"] == pushed["commit"]
    repo: Repo = round_trip["hub"].repos["o/m"]
    assert len(repo.commits) == 3  # the repository's first, the push, the pull request: the branch had all of it
    assert repo.branches["main"] == pushed["commit"] and not round_trip["branch"]["changed"]


def test_a_pull_request_leaves_main_alone(round_trip: dict) -> None:
    assert round_trip["request"]["url"].endswith("/discussions/1") and round_trip["request"]["changed"]
    repo: Repo = round_trip["hub"].repos["o/m"]
    changed = repo.tree(repo.branches["refs/pr/1"])["config.json"]
    assert json.loads(changed)["pretrained_cfg"]["license"] == "cc-by-4.0"


@pytest.mark.parametrize("way", ["zoo", "timm", "local"])
def test_weights_come_back_bit_by_bit(round_trip: dict, way: str) -> None:
    assert round_trip["embeddings"][way] == round_trip["embeddings"]["run"]


def test_the_published_onnx_file_computes_the_same(round_trip: dict) -> None:
    torch_side, onnx_side = (np.array(round_trip["embeddings"][way]) for way in ("run", "onnx"))
    scale = np.abs(torch_side).max()
    assert scale > 0 and np.abs(torch_side - onnx_side).max() < 1e-4 * scale


def test_a_hub_id_is_evaluated(round_trip: dict) -> None:
    code, said, stderr = round_trip["evaluate"]
    assert code == 0, stderr
    assert json.loads(said)["pairs"] == 20


def test_a_file_from_the_plain_client_and_a_hub_id_are_verified_with(round_trip: dict) -> None:
    code, said, stderr = round_trip["verify"]
    answer = json.loads(said)
    assert code == (0 if answer["same"] else 1) and -1 <= answer["similarity"] <= 1, stderr
    code, said, stderr = round_trip["verify by id"]
    assert code == 3 and f"{answer['similarity']:.4f}" in said, stderr


def test_timms_way_to_the_pickle_is_closed_by_the_overlay_of_the_docs(round_trip: dict) -> None:
    assert "overlay" in round_trip
    asked = [path for path in round_trip["hub"].paths() if path.startswith("/evil/forbidden/resolve/")]
    assert asked and not [path for path in asked if "pytorch_model" in path]


def test_our_architectures_are_timms(round_trip: dict) -> None:
    assert {"face_backbone", "mobilefacenet"} <= set(round_trip["faces"])


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("evil/architecture", "os.system"),
        ("evil/arguments", "pretrained_strict"),
        ("evil/weights", "cannot read the weights"),
        ("evil/shape", "does not fit"),
    ],
)
def test_a_hostile_configuration_builds_nothing(round_trip: dict, name: str, why: str) -> None:
    assert why in round_trip[name]


def test_the_token_is_in_no_output(round_trip: dict) -> None:
    assert TOKEN not in json.dumps({name: said for name, said in round_trip.items() if name != "hub"})


def test_the_license_is_written_where_it_is_looked_for(round_trip: dict, tmp_path: Path) -> None:
    from zoo.inference.metadata import read_model_info

    tree = published(round_trip)
    config = json.loads(tree["config.json"])
    assert config["pretrained_cfg"]["license"] == config["zoo"]["license"] == "apache-2.0"
    (tmp_path / "model.onnx").write_bytes(tree["model.onnx"])
    info = read_model_info(tmp_path / "model.onnx")
    assert info is not None and info.license == "apache-2.0"
    assert "license: apache-2.0" in tree["README.md"].decode()


def test_the_run_stays_as_it_was(round_trip: dict, run: Path) -> None:
    assert "README.md" not in {path.name for path in run.iterdir()}
    assert json.loads((run / "config.json").read_text())["pretrained_cfg"]["license"] is None


def test_nothing_of_the_owners_machine_is_published(round_trip: dict, run: Path) -> None:
    for name, content in published(round_trip).items():
        assert b"/home/somebody" not in content and str(run).encode() not in content, name


def staged(run: Path, folder: Path, **options: Any) -> list[str]:
    folder.mkdir()
    return stage(run, folder, "o/m", APACHE, **options)


def test_no_measurement_no_push_unless_it_is_said(copy: Path, tmp_path: Path) -> None:
    (copy / "report.json").unlink()
    with pytest.raises(InputError, match="--allow-unmeasured"):
        staged(copy, tmp_path / "a")
    names = staged(copy, tmp_path / "b", allow_unmeasured=True)
    assert "report.json" not in names
    card = (tmp_path / "b" / "README.md").read_text()
    assert "Nothing was measured" in card and "model-index" not in card


def test_a_measurement_of_another_model_is_none(copy: Path, tmp_path: Path) -> None:
    record = json.loads((copy / "report.json").read_text())
    record["model"]["sha256"] = "0" * 64
    write_json(copy / "report.json", record)
    for allow in (False, True):
        with pytest.raises(InputError, match="of another model"):
            staged(copy, tmp_path / str(allow), allow_unmeasured=allow)


def test_no_proof_no_push(copy: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from zoo.inference.metadata import read_model_info, write_model_info

    info = read_model_info(copy / "model.onnx")
    assert info is not None
    low, half = {"1": {"cosine": 0.9, "max_abs": 0.1}}, {"1": {"cosine": 1.0}}
    for number, (parity, why) in enumerate((({}, "a proof"), (low, "a proof"), (half, "the model facts"))):
        write_model_info(copy / "model.onnx", replace(info, parity=parity))
        with pytest.raises(InputError, match=f"expected {why}"):
            staged(copy, tmp_path / str(number))


def test_an_onnx_file_of_other_weights_is_refused(copy: Path, tmp_path: Path) -> None:
    """A run that was trained on after its export."""
    import torch

    from zoo.backbones import create_backbone, save_timm
    from zoo.publish.push import require_same_model

    require_same_model(copy)
    torch.manual_seed(1)
    config = json.loads((copy / "config.json").read_text())
    save_timm(create_backbone("mobilefacenet", embedding_dim=64), copy, config["zoo"])
    with pytest.raises(InputError, match="export the run again"):
        require_same_model(copy)


def test_class_centres_and_pickles_stay_at_home(copy: Path, tmp_path: Path) -> None:
    for name in ("head.safetensors", "pytorch_model.bin", "checkpoint.pt", "faces.jpg", "metrics.jsonl", "notes.txt"):
        (copy / name).write_bytes(b"private")
    (copy / "checkpoint").mkdir()
    names = staged(copy, tmp_path / "a")
    assert set(names) == PUBLISHED
    assert "head.safetensors" in staged(copy, tmp_path / "b", centres=copy / "head.safetensors")
    assert "by an explicit decision of the publisher" in (tmp_path / "b" / "README.md").read_text()


def test_faces_in_a_report_stay_at_home(copy: Path, tmp_path: Path) -> None:
    record = json.loads((copy / "report.json").read_text())
    face = {"pair": 1, "similarity": 0.5, "pictures": ["data:image/jpeg;base64,ZmFjZQ=="] * 2}
    record["results"][0]["curves"]["thumbnails"] = {"false_accepts": [face]}
    write_json(copy / "report.json", record)
    for name in staged(copy, tmp_path / "a"):
        assert b"ZmFjZQ" not in (tmp_path / "a" / name).read_bytes()


def test_class_centres_that_are_not_there_are_missed(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"head\.safetensors"):
        staged(copy, tmp_path / "a", centres=copy / "head.safetensors")


def test_the_explicit_flag_publishes_the_class_centres(trained: Path, tmp_path: Path, capsys: Any) -> None:
    """From training to the list of what would go, by the commands."""
    from zoo.cli import main

    run = str(shutil.copytree(trained, tmp_path / "run"))
    assert main(["export", run, "--onnx"]) == 0
    push = ["push", run, "o/m", "--license", "apache-2.0", "--allow-unmeasured", "--dry-run", "--json"]
    for more, published in (([], False), (["--include-biometric-class-centres"], True)):
        capsys.readouterr()
        assert main([*push, *more]) == 0
        assert ("head.safetensors" in json.loads(capsys.readouterr().out)["files"]) is published
    assert not (Path(run) / "head.safetensors").exists()


def test_the_readmes_ten_lines_fetch_verify_and_embed(run: Path, tmp_path: Path) -> None:
    """The very block of README.md, against a Hub that has owner/name; its figures are those of the run."""
    import sys
    from dataclasses import replace

    import torch

    from zoo.backbones import load_timm
    from zoo.data.synthetic import synthetic_pairs
    from zoo.formats.images import encode_png
    from zoo.inference.metadata import read_model_info, write_model_info
    from zoo.inference.session import OnnxEmbedder
    from zoo.modelinfo import InputSpec, Threshold

    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    (block,) = [block for block in blocks if "hf_hub_download" in block]
    assert "hf-hub:owner/name" in block and len(block.splitlines()) <= 10
    staged_names = staged(run, tmp_path / "staged")
    model = tmp_path / "staged/model.onnx"
    info, sha256 = read_model_info(model), OnnxEmbedder(model).model_sha256
    assert info is not None
    threshold = Threshold(1e-4, 0.5, "pairs", "made up", "0" * 64, 10**6, 100, (5e-5, 2e-4), True, model_sha256=sha256)
    write_model_info(model, replace(info, thresholds=(threshold,)))
    images, _ = synthetic_pairs(2)
    for name, image in zip(("a.png", "b.png"), images, strict=False):
        (tmp_path / name).write_bytes(encode_png(image))
    with HubServer() as hub:
        hub.repos["owner/name"] = Repo()
        hub.repos["owner/name"].commit({name: (tmp_path / "staged" / name).read_bytes() for name in staged_names})
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        env = hub_client.environment(hub, tmp_path / "home", PATH=path)
        done = subprocess.run(["bash", "-e", "-c", block], env=env, cwd=tmp_path, capture_output=True, text=True)
        assert not [seen for seen in hub.requests if "authorization" in seen.headers]
    print(done.stdout)
    assert done.returncode in (0, 1), done.stderr
    similarity = re.search(r"similarity\s+(-?[\d.]+)", done.stdout)
    assert similarity is not None and -1 <= float(similarity[1]) <= 1
    numbers = re.search(r"(\d+) numbers, norm (\S+)", done.stdout)
    x = torch.from_numpy(InputSpec().to_input(images[:1]))
    with torch.no_grad():
        embedding = load_timm(run)(x)[0]
    assert numbers is not None and int(numbers[1]) == len(embedding)
    assert float(numbers[2]) == pytest.approx(float(embedding.norm()), rel=1e-3) and embedding.norm() > 0


PUSH = """
import sys
from pathlib import Path
from zoo.errors import InputError
from zoo.publish.push import push
try:
    print(push(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(FOLDER), "o/m", private=True).commit)
except InputError as error:
    print(error)
"""


def test_45_megabytes_go_and_come_back(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(45_000_001)
    folder, home = tmp_path / "staged", tmp_path / "home"
    folder.mkdir(), home.mkdir()
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    (folder / "model.safetensors").write_bytes(content)
    with HubServer() as hub:
        done = hub_client.python(hub, home, PUSH.replace("FOLDER", repr(str(folder))), token=True)
        assert re.fullmatch(r"[0-9a-f]{40}\n", done.stdout), done.stdout + done.stderr
        assert hub.repos["o/m"].private
        assert [path for path in hub.paths("PUT") if path.startswith("/lfs/")] != []
        back = "from zoo.hub.pull import pull; print(pull('o/m', ['model.safetensors'], token=True).folder)"
        done = hub_client.python(hub, home, back, token=True)
        assert (Path(done.stdout.strip()) / "model.safetensors").read_bytes() == content, done.stderr


@pytest.mark.parametrize("token", [False, True])
def test_a_refused_push_says_why_and_makes_no_commit(tmp_path: Path, token: bool) -> None:
    folder = tmp_path / "staged"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(tiny_onnx())
    with HubServer() as hub:
        if token:  # the server fails in the middle: at the upload of the large file

            def refuse(request: object) -> bool:
                if request.parts.path.startswith("/lfs/"):  # type: ignore[attr-defined]
                    request.error(403, "", "quota")  # type: ignore[attr-defined]
                    return True
                return False

            hub.faults.append(refuse)
        done = hub_client.python(hub, tmp_path, PUSH.replace("FOLDER", repr(str(folder))), token=token)
        assert "could not publish o/m" in done.stdout and "no commit was made" in done.stdout, done.stdout + done.stderr
        assert ("403" if token else "401") in done.stdout
        assert sum(len(repo.commits) - 1 for repo in hub.repos.values()) == 0


def test_a_hostile_upload_address_gets_no_token(tmp_path: Path) -> None:
    """The server names where to verify an upload; the token does not follow."""
    folder = tmp_path / "staged"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(tiny_onnx())
    with HubServer() as hub, HubServer() as thief:

        def elsewhere(request: object) -> bool:
            if not request.parts.path.endswith("/objects/batch"):  # type: ignore[attr-defined]
                return False
            objects = json.loads(request.body)["objects"]  # type: ignore[attr-defined]
            for item in objects:
                item["actions"] = {
                    "upload": {"href": f"{hub.url}/lfs/{item['oid']}"},
                    "verify": {"href": f"{thief.url}/lfs-verify"},
                }
            request.json({"objects": objects})  # type: ignore[attr-defined]
            return True

        hub.faults.append(elsewhere)
        hub_client.python(hub, tmp_path, PUSH.replace("FOLDER", repr(str(folder))), token=True)
        assert thief.requests and not [seen for seen in thief.requests if "authorization" in seen.headers]


PLAIN = """
import json, sys, timm, torch
model = timm.create_model("hf-hub:o/native", pretrained=True).eval()
torch.manual_seed(0)
x = torch.randn(2, 3, 112, 112)
with torch.no_grad():
    print(json.dumps(model(x).tolist()))
assert not [name for name in sys.modules if name == "zoo" or name.startswith("zoo.")]
"""


def test_a_native_neck_loads_in_timm_without_zoo(tmp_path: Path) -> None:
    import torch

    from zoo.backbones import create_backbone, save_timm
    from zoo.modelinfo import ModelInfo

    torch.manual_seed(0)
    model = create_backbone("mobilenetv3_small_050", embedding_dim=32, neck="native", stem="stock").eval()
    save_timm(model, tmp_path / "run", asdict(ModelInfo(32)))
    with HubServer() as hub:
        hub.repos["o/native"] = Repo()
        hub.repos["o/native"].commit({path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()})
        done = hub_client.python(hub, tmp_path, PLAIN)
    assert done.returncode == 0, done.stderr
    torch.manual_seed(0)
    with torch.no_grad():
        expected = model(torch.randn(2, 3, 112, 112)).numpy()
    np.testing.assert_allclose(np.array(json.loads(done.stdout)), expected, rtol=1e-4, atol=1e-6 * abs(expected).max())


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("convnext_atto", {}), ("vit_tiny_patch16_224", {"img_size": 112, "patch_size": 8})],
)
def test_models_that_others_published_in_timms_layout_load(tmp_path: Path, name: str, arguments: dict) -> None:
    """num_classes is the embedding's length; the file says nothing of zoo."""
    import timm
    import torch

    from zoo.backbones import blueprint_of, load_timm

    model = timm.create_model(name, num_classes=48, pretrained_cfg_overlay=FACE_CFG, **arguments).eval()
    timm.models.save_for_hf(model, str(tmp_path), safe_serialization=True)
    found = load_timm(tmp_path)
    x = torch.randn(2, 3, 112, 112)
    with torch.no_grad():
        torch.testing.assert_close(found(x), model(x))
    assert blueprint_of(found).embedding_dim == 48


def test_importing_zoo_and_the_hub_is_light() -> None:
    script = (
        "import sys, zoo, zoo.hub.pull, zoo.publish.push, zoo.publish.card;"
        "heavy = {'torch', 'timm', 'huggingface_hub', 'onnx', 'albumentations'} & set(sys.modules);"
        "assert not heavy, heavy; assert 'load' in dir(zoo) and callable(zoo.load_onnx); zoo.load;"
        "assert 'torch' not in sys.modules;"
        "import huggingface_hub; assert 'huggingface_hub' in sys.modules"
    )
    done = hub_client.run(["-c", script], dict(os.environ), Path.cwd())
    assert done.returncode == 0, done.stderr


@pytest.mark.soak
@pytest.mark.parametrize(
    ("name", "arguments"),
    [("convnext_atto", {}), ("vit_tiny_patch16_224", {"img_size": 112, "patch_size": 8}), ("resnet18", {})],
)
def test_models_that_others_published_are_exported_and_evaluated(tmp_path: Path, name: str, arguments: dict) -> None:
    import timm

    model = timm.create_model(name, num_classes=48, pretrained_cfg_overlay=FACE_CFG, **arguments).eval()
    timm.models.save_for_hf(model, str(tmp_path / "theirs"), safe_serialization=True)
    with HubServer() as hub:
        hub.repos["they/model"] = Repo()
        hub.repos["they/model"].commit({path.name: path.read_bytes() for path in (tmp_path / "theirs").iterdir()})
        out = str(tmp_path / "face.onnx")
        done = hub_client.zoo(hub, tmp_path, "export", "they/model", "--onnx", "-o", out)
        assert done.returncode == 0, done.stderr
        done = hub_client.zoo(hub, tmp_path, "evaluate", out, "--data", "synthetic", "--no-flip", "--json")
        assert done.returncode == 0, done.stderr
        assert 0.4 < json.loads(done.stdout)["auc"] <= 1


REPEATED = """
import json, sys
from pathlib import Path
from zoo.errors import InputError
from zoo.publish.push import push
for folder, repo, options in json.loads(sys.argv[1]):
    try:
        pushed = push(Path(folder), repo, **options)
        print(json.dumps([pushed.changed, list(pushed.notes)]))
    except InputError as error:
        print(json.dumps(str(error)))
"""


def sealed(folder: Path, **files: str) -> str:
    """A staged folder of a few files, as `stage` leaves one."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(tiny_onnx())
    (folder / "onnx").mkdir()
    (folder / "onnx/model.onnx").write_bytes(tiny_onnx())
    for name, content in {"README__md": "---\nlicense: mit\n---\nours\n", **files}.items():
        (folder / name.replace("__", ".")).write_text(content)
    write_config(folder, {"architecture": "x", "zoo": {"embedding_dim": 8}})
    return str(folder)


def repeated(hub: HubServer, home: Path, *pushes: tuple[str, str, dict]) -> list[Any]:
    env = hub_client.environment(hub, home, token=True)
    done = hub_client.run(["-c", REPEATED, json.dumps(pushes)], env, home)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_push_deletes_what_the_last_one_wrote_and_leaves_all_else_and_an_edited_card(tmp_path: Path) -> None:
    first = sealed(tmp_path / "first", report__json="{}", **{"lfw-roc__png": "curve"})
    second = sealed(tmp_path / "second", **{"new__txt": "new"})
    with HubServer() as hub:
        assert repeated(hub, tmp_path, (first, "o/m", {}), (first, "o/m", {})) == [[True, []], [False, []]]
        assert [path for path in hub.paths("PUT")] == [f"/lfs/{next(iter(hub.blobs))}"], "one content, one upload"
        repo = hub.repos["o/m"]
        mine = {"model-mine/notes.md": b"mine", "my-model.onnx": tiny_onnx(dim=9), "logo-roc.png.txt": b"mine"}
        repo.commit({**mine, "README.md": b"---\nlicense: mit\n---\nedited by hand\n"})
        (kept,) = repeated(hub, tmp_path, (second, "o/m", {}))
        tree = repo.tree(repo.branches["main"])
        assert kept == [True, ["README.md of o/m was edited on the Hub: kept as it is; --replace-card replaces it"]]
        ours = {"config.json", "model.onnx", "onnx/model.onnx", "new.txt", "README.md", ".gitattributes"}
        assert set(tree) == {*ours, *mine} and b"edited by hand" in tree["README.md"]
        repeated(hub, tmp_path, (second, "o/m", {"replace_card": True}))
        assert b"ours" in repo.tree(repo.branches["main"])["README.md"]


def test_a_card_beside_somebody_elses_files_is_kept(tmp_path: Path) -> None:
    folder = sealed(tmp_path / "now")
    with HubServer() as hub:
        hub.repos["o/m"] = repo = Repo()
        repo.commit({"README.md": b"written on the website", "model-mine.onnx": tiny_onnx(dim=7)})
        ((_, notes),) = repeated(hub, tmp_path, (folder, "o/m", {}))
        tree = repo.tree(repo.branches["main"])
    assert "kept as it is" in notes[0] and tree["README.md"] == b"written on the website" and "model-mine.onnx" in tree


def test_private_is_refused_for_a_public_repository_and_a_refused_card_or_name_is_a_sentence(tmp_path: Path) -> None:
    folder, bad = sealed(tmp_path / "good"), sealed(tmp_path / "bad", README__md="no metadata")
    with HubServer() as hub:
        hub.repos["o/public"] = Repo()
        hub.repos["o/public"].commit({"notes.txt": b"mine"})
        public, card, name, private = repeated(
            hub,
            tmp_path,
            (folder, "o/public", {"private": True}),
            (bad, "o/card", {}),
            (folder, "o/na--me", {}),
            (folder, "o/private", {"private": True}),
        )
        assert len(hub.repos["o/public"].commits) == 1 and hub.repos["o/private"].private
    assert public.startswith("expected a new or private repository for --private, found o/public, which is public")
    assert card.startswith(
        "could not publish o/card: the Hub refuses it (Invalid metadata in README.md. - no metadata)"
    )
    assert name.startswith("could not publish o/na--me: the Hub refuses it (Cannot have -- or .. in repo_id")
    assert private == [True, []]


def test_best_and_adopted_folders_are_published_like_a_run(run: Path, tmp_path: Path) -> None:
    whole = tmp_path / "runs/whole"
    shutil.copytree(run, whole / "best")
    (whole / "config.yaml").write_text("epochs: 7\nhead: arcface\ninit: owner/base@v1\n")
    (whole / "best/config.yaml").unlink()
    sizes, pushed = publish(whole / "best", "o/m", APACHE, dry_run=True)
    assert pushed is None and set(sizes) == PUBLISHED
    (tmp_path / "staged").mkdir()
    stage(whole / "best", tmp_path / "staged", "o/m", APACHE)
    card = (tmp_path / "staged/README.md").read_text()
    assert "| epochs | 7 |" in card and "base_model: owner/base" in card
    (whole / "best/config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json"):
        publish(whole / "best", "o/m", APACHE, dry_run=True)
    file = shutil.copyfile(run / "model.onnx", tmp_path / "face.onnx")
    with pytest.raises(InputError, match=r"expected the folder of a run or of an adopted model, found face\.onnx"):
        publish(file, "o/m", APACHE)


@pytest.mark.parametrize("repo", ["a name", "m", "o/m@branch", "hf-hub:o/m"])
def test_a_dry_run_rejects_a_name_that_a_push_would_reject(repo: str, run: Path) -> None:
    with pytest.raises(InputError, match="on the Hub as owner/name"):
        publish(run, repo, APACHE, dry_run=True)


def test_an_adopted_onnx_file_is_published_without_weights_and_its_card_does_not_speak_of_torch(tmp_path: Path) -> None:
    (tmp_path / "face.onnx").write_bytes(tiny_onnx(dim=7))
    folder = adopt(tmp_path / "face.onnx", tmp_path / "adopted", "insightface").folder
    with HubServer() as hub:
        sizes, _ = publish(folder, "o/m", APACHE, dry_run=True, allow_unmeasured=True)
        (tmp_path / "staged").mkdir()
        assert stage(folder, tmp_path / "staged", "o/m", APACHE, allow_unmeasured=True) == sorted(sizes)
        ((_, notes),) = repeated(hub, tmp_path, (str(tmp_path / "staged"), "o/m", {}))
        tree = hub.repos["o/m"].tree(hub.repos["o/m"].branches["main"])
    assert (
        set(sizes) == set(tree) - {".gitattributes"} == {"README.md", "config.json", "model.onnx", "onnx/model.onnx"}
        and not notes
    )
    card = tree["README.md"].decode()
    assert "library_name: onnx" in card and "Trained by others and converted by zoo: face.onnx" in card
    assert (
        "- timm\n" not in card
        and "timm.create_model" not in card
        and "PyTorch model" not in card
        and "license: apache-2.0" in card
    )
