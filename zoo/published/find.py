"""From a name to a published file on this machine, and to what the catalogue knows of it. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path

from zoo.errors import InputError, closest
from zoo.files import sha256
from zoo.messages import log
from zoo.published.catalogue import Published, catalogue
from zoo.resolve import find_model
from zoo.resolve.kinds import HubFile


@dataclass(frozen=True)
class Found:
    """A published file on this machine."""

    path: Path
    name: str
    """How it was named: a path, or owner/name:FILE."""
    sha256: str
    known: Published | None


def find(source: str | Path) -> Found:
    """The file that `source` names, fetched where it is on the Hub, and what the catalogue knows of it.

    InputError for a name of which only the place can be told, and for a file that is not as its hash says.
    """
    path, listed = Path(source), catalogue()
    if path.is_file():
        digest = sha256(path)
        return Found(path, path.name, digest, listed.by_hash(digest))
    known = listed.named(str(source))
    if known is not None and not known.hub:
        raise InputError(f"{known.name} must be fetched by hand from {known.by_hand}; then `zoo adopt FILE`")
    where = f"{known.hub}:{known.file}" if known is not None else str(source)
    path = fetched(where)
    digest = sha256(path)
    known = known or listed.by_hash(digest)
    if known is not None and known.sha256 not in ("", digest):
        raise InputError(
            f"expected {where} with the hash {known.sha256[:12]}…, as {known.sha256_from} states it, found"
            f" {digest[:12]}…; it was not opened"
        )
    if known is not None and not known.sha256:
        log.warning("no hash of %s is known: that it is %s rests on the repository's name", where, known.name)
    return Found(path, where, digest, known)


def fetched(where: str) -> Path:
    """The file of owner/name:FILE, in the Hub client's cache; InputError where that is no such name."""
    place = find_model(where) if ":" in where else None
    if not isinstance(place, HubFile):
        close = closest(where, catalogue().models)
        raise InputError(
            f"expected a checkpoint file, a name of `zoo list published` or owner/name:FILE on the Hub, found {where!r}"
            f"{f'; did you mean {close[0]}?' if close else ''}"
        )
    return place.file()
