"""Run folders: where they are, which is the newest, and who is writing one. Imports no torch."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from zoo.errors import InputError, closest
from zoo.files import hold

RUNS = Path("runs")


def run_folders(root: Path = RUNS) -> list[Path]:
    """Every run folder under `root`, oldest first by the time it was started."""
    return sorted((file.parent for file in root.glob("*/config.yaml")), key=started)


def started(run: Path) -> tuple[float, str]:
    """When a run was started (seconds since 1970), and its name for a stable order."""
    return (run / "config.yaml").stat().st_mtime, run.name


def newest_run(root: Path = RUNS) -> Path:
    """The run that was started last; InputError where there is none."""
    folders = run_folders(root)
    if not folders:
        raise InputError(
            f"expected a run under {root}/, found none; train one with `zoo train resnet18`, or name a model"
        )
    return folders[-1]


def find_run(run: str | Path | None = None, root: Path = RUNS) -> Path:
    """The folder of a run given as a path or as a name under `root`; the newest one for None."""
    if run is None:
        return newest_run(root)
    for folder in (Path(run), root / run):
        if (folder / "config.yaml").is_file():
            return folder
    close = closest(str(run), [folder.name for folder in run_folders(root)])
    hint = f"did you mean {' or '.join(close)}?" if close else "`zoo list runs` shows those here"
    raise InputError(f"expected a run folder (with config.yaml) at {run}, found none; {hint}")


def training_data(run: Path) -> str | None:
    """The training set of a run, as its config.yaml names it; None where it is not a path of this machine."""
    import yaml

    config = run / "config.yaml"
    data = yaml.safe_load(config.read_text(encoding="utf-8")).get("data") if config.is_file() else None
    return data if data and Path(data).exists() else None


@contextlib.contextmanager
def lock(run: Path) -> Iterator[None]:
    """Holds a run folder for writing; InputError naming the other process where one holds it already.

    The lock is the system's own (flock): a killed process leaves none behind.
    """
    descriptor = os.open(run / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not hold(descriptor):
            owner = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            raise InputError(f"the run {run} is being written by process {owner}; wait for it, or stop it first")
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def room_to_write(run: Path) -> Iterator[None]:
    """InputError in place of the system's error where the disk of a run folder is full."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as trouble:
        full = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        if getattr(trouble, "errno", None) not in full and not any(f"os error {n})" in str(trouble) for n in full):
            raise
        raise InputError(
            f"expected room to write the run {run}, found a full disk ({trouble}); what was saved before is whole: make"
            " room and go on"
        ) from None


def is_being_written(run: Path) -> bool:
    """Whether a process holds the run folder at this moment."""
    try:
        descriptor = os.open(run / ".lock", os.O_RDWR)
    except OSError:
        return False
    try:
        return not hold(descriptor)
    finally:
        os.close(descriptor)
