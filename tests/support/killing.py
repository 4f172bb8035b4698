"""`zoo` in a process of its own that is killed when a file it writes has reached a size."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path


def start(folder: Path, words: list[str]) -> subprocess.Popen[str]:
    """`zoo WORDS` in `folder`, with batches of two faces: there is a point between any two records to be killed at."""
    program = (
        "import sys, zoo.recognition.batch as batch; from zoo.cli import main\n"
        "batch.BATCH = 2\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, *words], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> str:
    """What a process prints that must succeed."""
    told, error = process.communicate()
    assert process.returncode == 0, error
    return told


def kill_at(process: subprocess.Popen[str], watched: Path, size: int) -> bool:
    """Kills the process with SIGKILL once `watched` has `size` bytes; whether it was still running."""
    while process.poll() is None:
        if watched.exists() and watched.stat().st_size >= size:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            return process.returncode == -signal.SIGKILL
        time.sleep(0.0005)
    process.communicate()
    return False
