"""zoo push as it is typed."""

from __future__ import annotations

from pathlib import Path

from tests.support import hub_client
from tests.support.hub_models import make_run
from tests.support.hub_server import HubServer


def test_the_command_asks_for_a_license_and_its_name(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "toy")
    with HubServer() as hub:
        for words, why in (
            (("o/m",), "--license"),
            (("o/m", "--license", "other"), "--license-name"),
        ):
            done = hub_client.zoo(hub, tmp_path, "push", str(run), *words)
            assert done.returncode == 2 and why in done.stderr and done.stderr.count("\n") == 1, done.stderr
        assert not hub.requests
