"""The page in a real browser: it decides as `zoo verify` does, asks nobody else, and works by keyboard."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import Browser, browsing
from tests.support.serving import TOKEN, Server, photo, settings
from zoo.serve.guard import CSP


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(settings(tmp_path_factory.mktemp("page"))) as found:
        yield found


@pytest.fixture(scope="module")
def opened() -> Iterator[Browser]:
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with browsing((1400, 900), camera) as found:
        yield found


@pytest.fixture
def page(opened: Browser, server: Server) -> Browser:
    opened.requests()
    opened.log("browser")
    opened.open(f"{server.url}/")
    opened.wait("document.getElementById('facts').textContent.includes('Model')")
    return opened


def person(folder: Path, seed: int, noise: int = 0) -> str:
    file = folder / f"{seed}-{noise}.png"
    file.write_bytes(photo(seed, noise))
    return str(file)


def test_two_photos_give_the_verdict_of_zoo_verify_with_threshold_rate_and_notes(
    page: Browser, server: Server, tmp_path: Path
) -> None:
    a, b = person(tmp_path, 1), person(tmp_path, 1, 6)
    page.type("#file-a", a)
    page.type("#file-b", b)
    words = page.wait("document.querySelector('#verdict .words')?.textContent")
    command = [sys.executable, "-m", "zoo", "verify", a, b, "--aligned", "--json"]
    model = ["--model", str(server.log.with_name("toy.onnx"))]
    done = subprocess.run([*command, *model], capture_output=True, text=True, env=os.environ, check=False)
    expected = json.loads(done.stdout)
    told = page.run("return document.getElementById('verdict').innerText")
    assert words == "The same person" and expected["same"] is True
    assert f"Similarity {expected['similarity']:.4f}" in told
    assert f"Threshold {expected['threshold']:.4f}: {expected['origin']}" in told
    assert f"threshold 0.900, FAR {expected['far']}" in told and all(note in told for note in expected["notes"])
    assert page.run("return [...document.querySelectorAll('.crops img')].map(i => i.naturalWidth)") == [112, 112]
    page.type("#file-b", person(tmp_path, 2))
    page.wait("document.querySelector('#verdict .words')?.textContent === 'Different people'")


def test_the_page_asks_nobody_but_its_server_and_breaks_no_rule_of_its_policy(
    page: Browser, server: Server, tmp_path: Path
) -> None:
    page.type("#file-a", person(tmp_path, 1))
    page.type("#file-b", person(tmp_path, 2))
    page.wait("document.querySelector('#verdict .words')")
    asked = page.requests()
    assert f"{server.url}/verify" in asked
    assert [url for url in asked if not url.startswith((server.url, f"blob:{server.url}"))] == []
    assert [entry["message"] for entry in page.log("browser")] == []
    assert "'self'" in CSP and "unsafe" not in CSP
    assert page.run("return document.querySelectorAll('[style], style, script:not([src])').length") == len(
        page.run("return [...document.querySelectorAll('[style]')].map(e => e.className)")
    ), "style is set by script alone, never in markup"


def test_what_docs_verify_says_it_does_not_tell_stands_on_the_page(page: Browser) -> None:
    told = page.run("return document.querySelector('footer').innerText")
    for words in ("No liveness detection.", "No proof.", "Unequal errors.", "No consent."):
        assert words in told and words in Path("docs/verify.md").read_text()


def test_somebody_is_enrolled_identified_and_removed(page: Browser, tmp_path: Path) -> None:
    page.type("#name", "Ada <b>Lovelace<b>")
    page.type("#photo", person(tmp_path, 5))
    page.type("#change-token", "wrong")
    page.run("document.querySelector('#enrol-form button').click()")
    page.wait("document.getElementById('problem').textContent.includes('token is missing or wrong')")
    page.run("document.getElementById('change-token').value = ''")
    page.type("#name", "/")
    page.type("#change-token", TOKEN)
    page.run("document.querySelector('#enrol-form button').click()")
    page.wait("document.getElementById('problem').textContent.includes('no slash')")
    page.type("#name", "\ue003")  # backspace
    page.run("document.querySelector('#enrol-form button').click()")
    page.wait("document.querySelector('#people li')")
    assert page.run("return document.querySelector('#people li span').textContent") == "Ada <b>Lovelace<b> (1)"
    page.run("document.getElementById('threshold').value = 0.9")
    page.type("#file-who", person(tmp_path, 5, 3))
    assert page.wait("document.querySelector('.found strong')?.textContent") == "Ada <b>Lovelace<b>"
    assert page.run("return document.querySelectorAll('.found b').length") == 0, "a name is no markup"
    page.run("document.querySelector('#people button').click()")
    page.wait("document.querySelectorAll('#people li').length === 0")
    page.type("#file-who", person(tmp_path, 5, 4))
    page.wait("document.getElementById('problem').textContent.includes('found none')")


def test_everything_is_reached_by_tab_in_order_and_shows_its_focus(page: Browser) -> None:
    page.run("document.body.focus(); window.scrollTo(0, 0)")
    seen = []
    for _ in range(14):
        page.press("\ue004")
        seen.append(page.run("const e = document.activeElement; return e.id || e.textContent.trim()"))
    assert seen[0] == "Skip to the pictures"
    wanted = [
        "file-a",
        "Use the camera",
        "file-b",
        "Use the camera",
        "Options",
        "file-who",
        "Use the camera",
        "name",
        "photo",
    ]
    assert [name for name in seen if name in wanted] == wanted
    page.run("document.getElementById('file-a').focus()")
    page.press("\ue004")
    assert page.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_picture_of_the_camera_takes_the_place_of_a_file(page: Browser, tmp_path: Path) -> None:
    page.run("document.querySelector('[data-slot=a] button').click()")
    page.wait("document.getElementById('camera').open && document.getElementById('video').videoWidth")
    page.run("document.getElementById('shoot').click()")
    page.wait("document.querySelector('[data-slot=a] img')?.naturalWidth > 100")
    assert page.run("return document.getElementById('camera').open") is False
    page.type("#file-b", person(tmp_path, 1))
    page.wait("document.querySelector('#verdict .words')")


@pytest.mark.parametrize("width", [1400, 390])
def test_nothing_is_wider_than_the_window(page: Browser, tmp_path: Path, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    page.command("Emulation.setDeviceMetricsOverride", **metrics)
    page.type("#file-a", person(tmp_path, 1))
    page.type("#file-b", person(tmp_path, 2))
    page.wait("document.querySelector('#verdict .words')")
    assert page.run("return document.documentElement.scrollWidth") <= width
    controls = "[...document.querySelectorAll('button, input:not([type=checkbox]), select, summary')]"
    low = "e => e.offsetHeight > 1 && e.offsetHeight < 40"
    assert page.run(f"return {controls}.filter({low}).map(e => e.id || e.textContent)") == []
    page.command("Emulation.clearDeviceMetricsOverride")


@pytest.mark.soak
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing(page: Browser, tmp_path: Path, request: pytest.FixtureRequest, dark: bool) -> None:
    from tests.support.node_packages import installed

    source = (installed("axe-core", request.config.cache) / "axe.min.js").read_text()
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    page.command("Emulation.setEmulatedMedia", features=scheme)
    page.type("#file-a", person(tmp_path, 1))
    page.type("#file-b", person(tmp_path, 2))
    page.wait("document.querySelector('#verdict .words')")
    page.run("document.querySelector('details').open = true")
    page.command("Runtime.evaluate", expression=source)
    run = "axe.run().then(r => JSON.stringify(r.violations.map(v => [v.id, v.nodes.map(n => n.html)])))"
    found = page.command("Runtime.evaluate", expression=run, awaitPromise=True)
    assert json.loads(found["result"]["value"]) == []
