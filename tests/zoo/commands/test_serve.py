"""`zoo serve` from the command line."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.places import ROOT
from tests.support.serving import TOKEN
from tests.support.toy_faces import write_model
from zoo.cli import main
from zoo.inference.convention import GivenInput
from zoo.serve import Limits, Settings
from zoo.serve.server import DRAIN_SECONDS


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    found: list[Settings] = []
    monkeypatch.setattr("zoo.serve.server.serve", found.append)
    return found


def test_the_options_become_settings(asked: list[Settings], tmp_path: Path) -> None:
    words = f"serve --model m.onnx --gallery g --enrol --token-file {tmp_path / 't'} --host 0.0.0.0 --port 9 --far 0.1"
    words += " --allow-host a.example --allow-host b.example --workers 2 --queue 7 --max-body 2.5 --detector d.onnx"
    words += " --bgr"
    assert main(words.split()) == 0
    assert asked == [
        Settings(
            model="m.onnx",
            gallery="g",
            detector="d.onnx",
            enrol=True,
            token_file=tmp_path / "t",
            host="0.0.0.0",
            port=9,
            far=0.1,
            allow_host=("a.example", "b.example"),
            workers=2,
            input=GivenInput(bgr=True),
            limits=Limits(queue=7, max_body=2.5),
        )
    ]


def test_the_defaults_are_loopback_and_read_only(asked: list[Settings]) -> None:
    assert main(["serve", "--model", "m.onnx"]) == 0
    assert asked == [Settings(model="m.onnx")] and asked[0].is_loopback and not asked[0].enrol


def test_an_unsafe_command_line_is_refused_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--model", "m.onnx", "--host", "0.0.0.0"]) == 2
    assert "--token-file" in capsys.readouterr().err


def test_a_gallery_that_is_not_there_ends_with_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(write_model(tmp_path / "m.onnx"))
    words = ["serve", "--model", model, "--aligned", "--port", "0", "--gallery", str(tmp_path / "none")]
    assert main(words) == 2
    assert "expected a gallery" in capsys.readouterr().err


def test_without_the_extra_the_sentence_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "zoo.serve.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve", "--model", "m.onnx"]) == 2
    assert "pip install 'timm-face-zoo[serve]'" in capsys.readouterr().err


def test_serving_loads_no_torch() -> None:
    program = "import sys, zoo.serve.server; sys.exit(bool({'torch', 'timm', 'albumentations'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
    assert len(TOKEN) > 32


def block(language: str) -> str:
    """The code of docs/serve.md that is written in a language."""
    found = re.search(rf"```{language}\n(.*?)```", (ROOT / "docs" / "serve.md").read_text(encoding="utf-8"), re.S)
    assert found is not None
    return found[1]


def test_the_unit_of_systemd_starts_a_server_and_lets_it_drain(asked: list[Settings]) -> None:
    unit = configparser.RawConfigParser()
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(block("ini"))
    service = unit["Service"]
    program, *words = shlex.split(service["ExecStart"])
    assert Path(program).name == "zoo" and main(words) == 0
    assert asked[0].enrol and asked[0].is_loopback and asked[0].allow_host == ("faces.example.org",)
    state = Path("/var/lib") / service["StateDirectory"]
    assert {Path(file or "").parent for file in (asked[0].gallery, asked[0].token_file)} == {state}
    drained = int(2 * asked[0].limits.max_seconds) + DRAIN_SECONDS
    assert service["KillSignal"] == "SIGTERM" and int(service["TimeoutStopSec"]) > drained


def test_systemd_itself_finds_no_fault_in_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze")
    unit, command = tmp_path / "zoo.service", ["systemd-analyze", "verify", str(tmp_path / "zoo.service")]
    text = block("ini").replace("/opt/zoo/bin/zoo", "/bin/true")
    unit.write_text(text)
    good = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "zoo.service" not in good.stderr
    unit.write_text(text.replace("ProtectSystem=strict", "ProtectSystem=srtict"))
    bad = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "zoo.service:" in bad.stderr and "srtict" in bad.stderr


def test_the_container_starts_a_server_with_a_token_and_has_what_the_extra_names(asked: list[Settings]) -> None:
    lines = block("dockerfile")
    command = json.loads(next(line for line in lines.splitlines() if line.startswith("ENTRYPOINT")).split(" ", 1)[1])
    run = re.search(r"^docker run .* zoo (--.*)$", (ROOT / "docs" / "serve.md").read_text(encoding="utf-8"), re.M)
    assert run is not None and main([*command[1:], *run[1].split()]) == 0
    assert asked[0].host == "0.0.0.0" and asked[0].token_file == Path("/data/token") and not asked[0].no_auth
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    names = {re.split("[<>=]", requirement)[0] for requirement in extra["serve"]}
    installed = re.search(r"-r /opt/zoo/(\S+) (.*) \\", lines)
    assert installed is not None and (ROOT / installed[1]).is_file() and names == set(installed[2].split())


def test_the_proxy_passes_what_the_server_takes(tmp_path: Path) -> None:
    text, server = block("nginx"), Settings(model="m.onnx")
    given = dict(re.findall(r"^ *(\w+) ([^;]*);", text, re.M))
    assert float(given["client_max_body_size"].removesuffix("m")) >= server.limits.max_body
    assert int(given["proxy_read_timeout"].removesuffix("s")) > 2 * server.limits.max_seconds
    assert given["proxy_pass"] == f"http://{server.host}:{server.port}"
    if shutil.which("nginx") and shutil.which("openssl"):
        key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
        words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=faces.example.org"]
        subprocess.run(["openssl", *words, "-keyout", key, "-out", certificate], capture_output=True, check=True)
        text = text.replace(given["ssl_certificate"], str(certificate)).replace(given["ssl_certificate_key"], str(key))
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        folders = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in kinds)
        whole = tmp_path / "nginx.conf"
        whole.write_text(f"pid {tmp_path}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n{folders}{text}}}\n")
        done = subprocess.run(["nginx", "-t", "-c", whole, "-p", tmp_path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_a_server_without_a_token_can_be_asked_for(asked: list[Settings]) -> None:
    assert main(["serve", "--model", "m.onnx", "--host", "0.0.0.0", "--no-auth"]) == 0 and asked[0].no_auth
    assert main(["serve", "--model", "m.onnx", "--host", "0.0.0.0"]) == 2 and len(asked) == 1
    assert main(["serve", "--model", "m.onnx", "--no-allow-embeddings"]) == 0 and not asked[1].allow_embeddings
