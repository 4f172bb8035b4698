"""Run folders: where they are, which is the newest, and who is writing one. Imports no torch."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoo.errors import InputError, closest
from zoo.files import hold

RUNS = Path("runs")


def run_folders(root: Path = RUNS) -> list[Path]:
    """Every run folder under `root`, oldest first by the time it was started, then by name."""
    options = sorted(root.glob("*/config.yaml"), key=lambda file: (file.stat().st_mtime, file.parent.name))
    return [file.parent for file in options]


def newest_run(root: Path = RUNS, holding: str = "model.safetensors") -> Path:
    """The run that was started last among those with a file of the pattern `holding`; InputError where there is none.

    By default the newest one that has finished an epoch, which can be exported and published.
    """
    folders = run_folders(root)
    for folder in reversed(folders):
        if any(folder.glob(holding)):
            return folder
    lacking = "that never finished an epoch" if holding == "model.safetensors" else f"without {holding}"
    found = f"{len(folders)} {lacking}" if folders else "none"
    told = f"found {found}; train one with `zoo train resnet18`, or name a model"
    raise InputError(f"expected a run under {root}/, {told}")


def find_run(run: str | Path | None = None, root: Path = RUNS, holding: str = "model.safetensors") -> Path:
    """The folder of a run given as a path or as a name under `root`; None means `newest_run`."""
    if run is None:
        return newest_run(root, holding)
    for folder in (Path(run), root / run):
        if (folder / "config.yaml").is_file():
            return folder
    close = closest(str(run), [folder.name for folder in run_folders(root)])
    hint = f"did you mean {' or '.join(close)}?" if close else "`zoo list runs` shows those here"
    raise InputError(f"expected a run folder (with config.yaml) at {run}, found none; {hint}")


def options_in(run: Path) -> dict[str, Any]:
    """The content of a run's config.yaml; empty where there is none."""
    import yaml

    file = run / "config.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return content if isinstance(content, dict) else {}


def training_data(run: Path) -> str | None:
    """The training set of a run, as its config.yaml names it; None where it is not a path of this machine."""
    data = options_in(run).get("data")
    return data if data and Path(data).exists() else None


@contextlib.contextmanager
def lock(run: Path) -> Iterator[None]:
    """Holds a run folder for writing by flock, which ends with the process; InputError names another that holds it."""
    with open(run / ".lock", "a+") as file:
        if not hold(file):
            file.seek(0)
            owner = file.read(32).strip() or "unknown"
            raise InputError(f"the run {run} is being written by process {owner}; wait for it, or stop it first")
        file.truncate(0)
        print(os.getpid(), file=file, flush=True)
        yield


@contextlib.contextmanager
def machine_faults(run: Path) -> Iterator[None]:
    """InputError in place of what Python, torch or safetensors raise when the disk or the memory of a run fails it."""
    try:
        yield
    except Exception as trouble:
        told = "" if isinstance(trouble, InputError) else fault_of(trouble, run)
        if not told:
            raise
        raise InputError(told) from None


FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EIO, errno.ESTALE}
CROWDED = {errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE}


def fault_of(trouble: BaseException, run: Path) -> str:
    """The sentence for a fault of the machine; empty for any other one."""
    text = str(trouble).partition("\n")[0][:200]
    found = re.search(r"os error (\d+)\)", text)
    number = trouble.errno if isinstance(trouble, OSError) else int(found[1]) if found else None
    wants, finds, advice = "", f"({text})", ""
    if number in FULL:
        wants, finds = f"room to write the run {run}", f"a full disk {finds}"
        advice = "what was saved before is whole: make room and go on"
    elif number in CLOSED:
        wants, advice = f"to write the run {run}", "choose a folder that can be written to"
    elif number in CROWDED:
        wants, advice = "enough memory, processes and open files", "lower --workers"
    elif text.startswith("DataLoader worker"):
        wants, finds = "the loader's processes to live as long as the run", f"one ended by the system {finds}"
        advice = "most often memory or room in /dev/shm is short: lower --workers or --batch-size, then --resume"
    elif isinstance(trouble, MemoryError) or type(trouble).__name__ == "OutOfMemoryError" or "t allocate mem" in text:
        wants, finds = "enough memory for a step", f"too little {finds}"
        advice = "lower --batch-size or raise --accumulate, or use --precision bf16 or --set centres.sample_rate"
    return f"expected {wants}, found {finds}; {advice}" if wants else ""


def is_being_written(run: Path) -> bool:
    with contextlib.suppress(OSError), open(run / ".lock", "r+") as file:
        return not hold(file)
    return False
