"""A real browser: as much of the WebDriver protocol as tests of a page need."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


class Browser:
    """Chromium with one window, driven through chromedriver."""

    def __init__(self, port: int, size: tuple[int, int] = (1100, 1400), arguments: tuple[str, ...] = ()) -> None:
        self.root = f"http://127.0.0.1:{port}"
        words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size={},{}".format(*size), *arguments]
        capabilities = {
            "goog:chromeOptions": {"args": words},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        started = self.call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self.root += f"/session/{started['sessionId']}"

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.root + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=120) as reply:
            return json.load(reply)["value"]

    def open(self, url: str) -> None:
        self.call("POST", "/url", {"url": url})

    def run(self, script: str) -> Any:
        return self.call("POST", "/execute/sync", {"script": script, "args": []})

    def wait(self, condition: str, seconds: float = 60) -> Any:
        """What the JavaScript expression `condition` is once it is true."""
        deadline = time.monotonic() + seconds
        while not (found := self.run(f"return {condition}")):
            assert time.monotonic() < deadline, f"{condition}: {self.run('return document.body.innerText')}"
            time.sleep(0.05)
        return found

    def element(self, selector: str) -> str:
        found = self.call("POST", "/element", {"using": "css selector", "value": selector})
        return str(next(iter(found.values())))

    def type(self, selector: str, text: str) -> None:
        """Types into an element; into a file input, the path of a file."""
        self.call("POST", f"/element/{self.element(selector)}/value", {"text": text})

    def command(self, name: str, **parameters: Any) -> Any:
        """A command of Chromium's own protocol."""
        return self.call("POST", "/goog/cdp/execute", {"cmd": name, "params": parameters})

    def press(self, *keys: str) -> None:
        """Presses keys one after the other, wherever the focus is."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def log(self, kind: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.call("POST", "/se/log", {"type": kind})
        return entries

    def requests(self) -> list[str]:
        """The addresses that were asked for since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self.log("performance")]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


@contextlib.contextmanager
def browsing(size: tuple[int, int] = (1100, 1400), arguments: tuple[str, ...] = ()) -> Iterator[Browser]:
    """A browser; the test is skipped where none is installed."""
    driver = shutil.which("chromedriver")
    if driver is None:
        pytest.skip("no chromedriver is installed (Debian: chromium and chromium-driver)")
    with subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "started successfully on port" in line:
                    break
            found = Browser(int(line.rstrip().rstrip(".").rsplit(" ", 1)[-1]), size, arguments)
            yield found
            found.call("DELETE", "")
        finally:
            process.terminate()


def screenshot(browser: Browser, path: Path, width: int, dark: bool = False) -> None:
    """The whole page at a width in pixels, as a PNG."""
    import base64

    features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.command("Emulation.setEmulatedMedia", features=features)
    mobile = width < 600
    browser.command("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=mobile)
    shot = browser.command("Page.captureScreenshot", captureBeyondViewport=True, format="png")
    path.write_bytes(base64.b64decode(shot["data"]))
