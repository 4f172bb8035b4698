"""Runs the real Hub client in a process of its own: it reads its environment when it is imported."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

from tests.support.hub_server import TOKEN, HubServer

NUMBERS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def environment(hub: HubServer, home: Path, *, token: bool = False, **more: str) -> dict[str, str]:
    """The environment of a client of `hub` whose cache is under `home`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING_FACE"))}
    return {
        **kept,
        **NUMBERS,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HOME": str(home),
        **({"HF_TOKEN": TOKEN} if token else {}),
        **more,
    }


def run(
    arguments: list[str], env: dict[str, str], cwd: Path, largest_file: int | None = None
) -> subprocess.CompletedProcess[str]:
    """`python arguments…` in `cwd`; `largest_file` bytes stand for a full disk."""

    def limit() -> None:
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    return subprocess.run(
        [sys.executable, *arguments], env=env, cwd=cwd, capture_output=True, text=True, timeout=900, preexec_fn=limit
    )


def zoo(
    hub: HubServer, home: Path, *arguments: str, token: bool = False, cwd: Path | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    """`zoo arguments…` as a client of `hub`."""
    return run(["-m", "zoo", *arguments], environment(hub, home, token=token, **more), cwd or home)


def python(
    hub: HubServer, home: Path, script: str, *, token: bool = False, largest_file: int | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    """A script as a client of `hub`."""
    return run(["-c", script], environment(hub, home, token=token, **more), home, largest_file)


def stored(home: Path) -> list[str]:
    """Every file under a client's cache that holds content or stands for it, locks and marks aside."""
    cache = home / "hub"
    return sorted(
        str(path.relative_to(cache))
        for path in cache.rglob("*")
        if (path.is_file() or path.is_symlink()) and ".locks" not in path.parts and path.name != "CACHEDIR.TAG"
    )
