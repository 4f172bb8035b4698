"""How much memory a piece of code takes, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MEASURE = """
def peak():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
before = peak()
{code}
print(peak() - before)
"""


def growth(imports: str, code: str) -> int:
    """By how many bytes the process's memory grew at most while `code` ran, after `imports`.

    The system's own peak of this process's pages is read: getrusage would start at what the parent once took.
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("only Linux tells the peak of a process")
    done = subprocess.run(
        [sys.executable, "-c", imports + MEASURE.format(code=code)],
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)
