"""The machine that this process runs on: how many cores it may use, and which software it runs."""

import contextlib
import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")  #: Where Linux mounts the limits of a container


def cores(cgroup: Path = CGROUP, threads: bool = True) -> int:
    """The number of cores that this process may use: the least of affinity, container quota and OMP_NUM_THREADS.

    OMP_NUM_THREADS counts because whoever sets it for one of several processes on a machine means all libraries;
    without `threads` it does not: torchrun sets it to 1, which says nothing about how many processes may run.
    """
    limits = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):  # cgroup v2; "max" where there is no quota
        quota, period = map(int, (cgroup / "cpu.max").read_text().split())
        limits.append(math.ceil(quota / period))
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if threads and wanted.isdecimal() and int(wanted) > 0:
        limits.append(int(wanted))
    return max(1, min(limits))


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    import ipaddress  # slow to import, as `subprocess` and `importlib.metadata` below

    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def installed(*packages: str) -> dict[str, str]:
    """The versions of those packages that are installed."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def commit() -> str:
    """The commit of the checkout that this code runs from, with "+" where files were changed; empty if installed."""
    import subprocess

    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return ""
    try:
        ask = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
        return subprocess.run(ask, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
