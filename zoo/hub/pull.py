"""Look for models and fetch one: one commit, files of known kinds, each checked, kept in huggingface_hub's cache."""

import errno
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import quote

from zoo.errors import InputError, closest, explained, first_line
from zoo.files import write_text
from zoo.hub import checks
from zoo.hub.checks import COMMIT, MOST_BYTES, guarded
from zoo.messages import log

T = TypeVar("T")

ONNX, CONFIG, WEIGHTS = "model.onnx", "config.json", "model.safetensors"
WANTED = re.compile(
    r"config\.json|model\.safetensors|model[A-Za-z0-9_-]*\.onnx(\.data)?|report\.(json|html)|README\.md"
)  #: The files that `pull` fetches: no pickle is among them
FOREIGN = re.compile(r"(?:\w[\w.-]*/){0,4}\w[\w.-]*\.(?:onnx|safetensors|pt|pth|ckpt|bin)", re.ASCII)
"""The names of files in others' repositories that `pull_file` fetches; it opens none of them but ONNX files."""
ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?", re.ASCII)
Row = dict[str, Any]  #: One model: name, where it is, and head, backbone, data, dim and accuracy, None where not stated


@dataclass(frozen=True)
class ModelId:
    """A model on the Hub: owner/name, and the branch, tag or commit (None: the main branch)."""

    repo: str
    revision: str | None = None


@dataclass(frozen=True)
class Pulled:
    repo: str
    commit: str  #: 40 hex digits: name them to get this very model again
    folder: Path  #: Where the files lie, in the cache
    files: tuple[str, ...]


def is_hub_id(model: str) -> bool:
    """Whether MODEL names something on the Hub: hf-hub:owner/name, or owner/name where no such path is here."""
    path = Path(model)
    local = path.exists() or path.parts[:1] == ("runs",) or path.suffix in (".onnx", ".safetensors")
    return model.startswith("hf-hub:") or (not local and ID.fullmatch(model) is not None)


def parse_id(model: str) -> ModelId:
    """The model that owner/name, owner/name@revision or hf-hub:… names; InputError for another form."""
    match = ID.fullmatch(model.removeprefix("hf-hub:"))
    if match is None or ".." in model or "//" in model:
        raise InputError(f"expected a model on the Hub as owner/name or owner/name@revision, found {model!r}")
    return ModelId(match["repo"], match["revision"])


def pull(
    model: str, files: Sequence[str] | None = None, token: bool | str = False, most_bytes: int = MOST_BYTES
) -> Pulled:
    """Fetches a model into the cache, whole and checked, or not at all.

    `files` are the names that must be there; None takes everything of a known kind. `token` False sends none, True
    the stored one. `most_bytes` is what may be fetched in all. A commit (40 hex digits) that is in the cache already
    makes no request. Without a network the cached commit of the branch is used, which is said on stderr. InputError for
    whatever is not there, not allowed, not as its hash says, or cannot be stored.
    """
    wanted = parse_id(model)
    with told(wanted):
        commit, listing = resolve(wanted, files, token)
        paths = fetch_all(wanted, commit, choose(wanted, files, listing), token, most_bytes)
    return Pulled(wanted.repo, commit, next(iter(paths.values())).parent, tuple(sorted(paths)))


def pull_file(model: str, file: str, token: bool | str = False, most_bytes: int = MOST_BYTES) -> Path:
    """One file of any repository, by its name there, such as onnx/model.onnx: fetched and checked as by `pull`.

    Weights beside an ONNX file come with it. A pickle is fetched as it is and not opened. InputError as for `pull`.
    """
    if FOREIGN.fullmatch(file) is None or ".." in file:
        raise InputError(f"expected the name of a model's file (.onnx, .safetensors, .pt, .pth, .ckpt), found {file!r}")
    wanted = parse_id(model)
    with told(wanted):
        commit, listing = resolve(wanted, (file,), token)
        if listing is not None and file not in listing:
            models = [name for name in listing if FOREIGN.fullmatch(name)]
            near = ", ".join(closest(file, models) or models[:3]) or "no model at all"
            raise InputError(f"expected {file} in {wanted.repo} on the Hub, found none; it has {near}")
        return fetch_all(wanted, commit, [file], token, most_bytes)[file]


def resolve(wanted: ModelId, files: Sequence[str] | None, token: bool | str) -> tuple[str, list[str] | None]:
    """The commit that a revision means now, and its files' names; without a request, and None, where all are cached."""
    revision = wanted.revision or "main"
    fixed = COMMIT.fullmatch(revision) is not None
    if fixed and files is not None and all(cached(wanted, revision, name) for name in files):
        return revision, None
    try:
        with guarded(revision if fixed else None):
            info = patiently(lambda: ask_for(f"{wanted.repo}/revision/{quote(revision, safe='')}", token))
    except unreachable() as error:
        ref = cache_folder(wanted.repo) / "refs" / revision
        commit = revision if fixed or not ref.is_file() else ref.read_text().strip()
        if not COMMIT.fullmatch(commit) or not cached_files(wanted, commit):
            raise
        log.warning("%s: %s; the cached commit %s is used", wanted.repo, reason(error), commit[:12])
        return commit, cached_files(wanted, commit)
    sha = info.get("sha") if isinstance(info, dict) else None
    if not isinstance(sha, str) or not COMMIT.fullmatch(sha) or (fixed and sha != revision):
        raise InputError(f"expected a commit of {wanted.repo}, the server answers with {str(sha)[:60]!r}")
    return sha, [str(sibling.get("rfilename")) for sibling in info.get("siblings") or []]


def ask_for(path: str, token: bool | str, **parameters: str) -> Any:
    """The Hub's answer under /api/models/`path`. The client's own call would wait half a minute for a dead network."""
    from huggingface_hub import constants, get_session
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

    address = f"{constants.ENDPOINT}/api/models{path and '/'}{path}"
    answer = get_session().get(address, headers=build_hf_headers(token=token), params=parameters or None, timeout=20)
    hf_raise_for_status(answer)
    with explained(f"expected a Hugging Face Hub at {constants.ENDPOINT}, found something else", ValueError):
        return answer.json()


def choose(wanted: ModelId, files: Sequence[str] | None, listing: list[str] | None) -> list[str]:
    if listing is None:
        return list(files or ())
    if missing := [name for name in files or () if name not in listing]:
        advice = instead(wanted, missing[0], listing)
        raise InputError(f"expected {missing[0]} in {wanted.repo} on the Hub, found none; {advice}")
    chosen = list(files) if files is not None else sorted(name for name in listing if WANTED.fullmatch(name))
    if not any(name.endswith((".onnx", ".safetensors")) for name in chosen):
        advice = instead(wanted, ONNX, listing)
        raise InputError(f"expected {ONNX} or {WEIGHTS} in {wanted.repo} on the Hub, found neither; {advice}")
    return chosen


def instead(wanted: ModelId, missing: str, listing: Sequence[str]) -> str:
    """What to do with a repository whose files have other names than zoo's."""
    models = [name for name in listing if FOREIGN.fullmatch(name)]
    onnx = next((name for name in models if name.endswith(".onnx")), None)
    checkpoint = next((name for name in models if not name.endswith(".onnx")), None)
    if missing == ONNX and onnx is not None:
        return f"name its file: {wanted.repo}:{onnx}"
    if missing == ONNX and WEIGHTS in models and CONFIG in listing:
        return f"export it with `zoo export {wanted.repo} --onnx -o FOLDER`"
    if checkpoint is not None:
        return f"it has {checkpoint}: `zoo adopt {wanted.repo}:{checkpoint} -o FOLDER` makes a model of it"
    return "choose another model"


def fetch_all(wanted: ModelId, commit: str, names: Sequence[str], token: bool | str, most: int) -> dict[str, Path]:
    """The files of one commit and the weights beside ONNX files; notes for the time without a network what it was."""
    paths, waiting = dict[str, Path](), list(names)
    for name in waiting:  # which the weights join
        paths[name], fetched = fetch(wanted, commit, name, token, most)
        most -= fetched
        weights = checks.require_weights_beside(paths[name]) if name.endswith(".onnx") else ()
        waiting += sorted({str(PurePosixPath(name).with_name(one)) for one in weights} - {*waiting})
    revision = wanted.revision or "main"
    if not COMMIT.fullmatch(revision):  # a branch or a tag: the client's own note of what it meant
        ref = cache_folder(wanted.repo) / "refs" / revision
        if not ref.is_file() or ref.read_text() != commit:
            ref.parent.mkdir(parents=True, exist_ok=True)
            write_text(ref, commit)
    return paths


def fetch(wanted: ModelId, commit: str, name: str, token: bool | str, most_bytes: int) -> tuple[Path, int]:
    """One file of one commit, from the cache or the Hub, its content checked, and how many bytes were fetched."""
    from huggingface_hub import hf_hub_download

    if (path := cached(wanted, commit, name)) is not None:
        checks.require_content(path)
        return path, 0
    with guarded(commit, most_bytes) as announced:
        path = Path(patiently(lambda: hf_hub_download(wanted.repo, name, revision=commit, token=token)))
    checks.require_content(path, announced.etag)
    return path, path.stat().st_size


def patiently(ask: Callable[[], T]) -> T:
    """What `ask` returns; asked again after 1 and 2 seconds where the server fails, which the client does not do."""
    from huggingface_hub.errors import HfHubHTTPError

    for seconds in (1, 2):
        try:
            return ask()
        except HfHubHTTPError as error:
            if error.response.status_code < 500:
                raise
            time.sleep(seconds)
    return ask()


def cached(wanted: ModelId, commit: str, name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(wanted.repo, name, revision=commit)
    return Path(found) if isinstance(found, str) else None


def cached_files(wanted: ModelId, commit: str) -> list[str]:
    snapshot = cache_folder(wanted.repo) / "snapshots" / commit
    return sorted(path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file())


def cache_folder(repo: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"


def unreachable() -> tuple[type[Exception], ...]:
    """The client's exceptions where no Hub answers; its HTTP library's name depends on its version."""
    from huggingface_hub import get_session
    from huggingface_hub.errors import FileMetadataError, OfflineModeIsEnabled

    error: type[Exception] = sys.modules[type(get_session()).__module__.partition(".")[0]].TransportError
    return OfflineModeIsEnabled, FileMetadataError, error


def reason(error: BaseException) -> str:
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return "offline (HF_HUB_OFFLINE)"
    if isinstance(error, HfHubHTTPError):
        return f"the server answers {error.response.status_code} {error.response.reason_phrase}".strip()
    return f"the Hub does not answer ({' '.join(str(error).split())[:80] or type(error).__name__})"


@contextmanager
def told(wanted: ModelId) -> Iterator[None]:
    from huggingface_hub import constants, errors

    checks.require_safe_url(constants.ENDPOINT, "the Hub's address (HF_ENDPOINT)")
    repo, full = wanted.repo, (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
    try:
        yield
    except Exception as error:
        match error:
            case errors.GatedRepoError():
                why = f"{repo} is gated: accept its terms on the Hub, log in with `hf auth login`, add --token"
            case errors.RepositoryNotFoundError():
                advice = "check the spelling, or for a private one fetch it with `zoo pull --token`"
                why = f"expected a model {repo} on the Hub, found none that may be seen; {advice}"
            case errors.RevisionNotFoundError():
                why = f"{repo} has no branch, tag or commit {wanted.revision!r}; leave @… out for the newest"
            case errors.LocalEntryNotFoundError():
                why = f"could not fetch {repo}: {reason(error.__cause__ or error)}; nothing was stored, try again later"
            case errors.EntryNotFoundError():
                why = f"{repo} does not hold a file that it lists ({first_line(error)})"
            case errors.HfHubHTTPError():
                why = f"could not fetch {repo}: {reason(error)}; nothing half-fetched was kept"
            case _ if isinstance(error, unreachable()):
                why = f"could not fetch {repo}: {reason(error)}; it is not in the cache either"
            case _ if "Consistency check" in str(error):
                why = f"could not fetch {repo}: a file broke off; nothing was stored, try again"
            case OSError(errno=int(number), strerror=said) if not isinstance(error, FileNotFoundError):
                advice = "; make room or set HF_HOME to another disk" if number in full else ""
                place = f"{constants.HF_HUB_CACHE} ({said}){advice}"
                why = f"could not store {repo} in {place}; nothing half-fetched was kept"
            case _:
                raise
        raise InputError(why) from None


def described(folder: Path, name: str, place: str) -> Row:
    """What config.json and report.json of a folder state; neither is trusted to be well-formed."""
    config, record = read(folder / CONFIG), read(folder / "report.json")
    block = config.get("zoo")
    facts: dict[str, Any] = block if isinstance(block, dict) else {}
    results = record.get("results")
    first = results[0] if isinstance(results, list) and results and isinstance(results[0], dict) else {}
    head, dim, accuracy = facts.get("head"), config.get("num_classes"), first.get("accuracy")
    row: Row = {"name": name, "place": place, "head": short(head) and str(head).partition("(")[0]}
    row |= {"backbone": short(facts.get("backbone") or config.get("architecture"))}
    row |= {"training_set": short(facts.get("training_set")), "dim": dim if isinstance(dim, int) else None}
    row |= {"accuracy": accuracy if isinstance(accuracy, float) else None, "measured_on": short(first.get("data"))}
    return row


def read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def short(value: object) -> str | None:
    """A string fit for a line of a terminal; None for anything else."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", value)[:80] if isinstance(value, str) and value else None


def cached_models() -> list[Row]:
    """The models in the Hub client's cache that hold weights, newest commit of each branch first by name."""
    from huggingface_hub import constants

    rows = []
    for snapshot in sorted(Path(constants.HF_HUB_CACHE).glob("models--*--*/snapshots/*")):
        owner, _, name = snapshot.parent.parent.name.removeprefix("models--").partition("--")
        onnx, config = (snapshot / ONNX).exists(), read(snapshot / CONFIG)
        ours = ("zoo" in config and (onnx or (snapshot / WEIGHTS).exists())) or (not config and onnx)
        if ours and COMMIT.fullmatch(snapshot.name):
            rows.append(described(snapshot, f"{owner}/{name}@{snapshot.name[:12]}", "pulled"))
    return rows


def owner_models(owner: str) -> list[Row]:
    """The face models that `owner` has on the Hub, 50 at most; InputError where the Hub does not answer."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", owner, re.ASCII):
        raise InputError(f"expected an owner on the Hub, found {owner!r}")
    rows, tag = [], "face-recognition"
    with told(ModelId(owner)):
        with guarded():
            entries = patiently(lambda: ask_for("", False, author=owner, filter=tag, full="true", limit="50"))
        for entry in entries if isinstance(entries, list) else []:
            repo, commit, folder = str(entry.get("id")), str(entry.get("sha")), Path("/dev/null")  # no facts
            if tag not in (entry.get("tags") or []) or not COMMIT.fullmatch(commit) or not repo.startswith(f"{owner}/"):
                continue
            names = {str(sibling.get("rfilename")) for sibling in entry.get("siblings") or []}
            for name in sorted(names & {CONFIG, "report.json"}):
                folder = fetch(ModelId(repo), commit, name, False, checks.MOST_TOLD)[0].parent
            rows.append(described(folder, repo, "on the Hub"))
    return rows
