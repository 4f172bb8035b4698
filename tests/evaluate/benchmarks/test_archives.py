"""Archives are folders while they are read; what they hold stays inside."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from zoo.errors import InputError
from zoo.evaluate.benchmarks.find import is_archive, unpacked


def write_archive(path: Path, names: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in names.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, content in names.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_an_archive_is_a_folder_of_its_owners_alone_as_long_as_it_is_held(name: str, tmp_path: Path) -> None:
    path = write_archive(tmp_path / name, {"people/ann/1.jpg": b"one", "people/bob/2.jpg": b"two"})
    assert is_archive(path) and not is_archive(tmp_path)
    folder = unpacked(path)
    place = Path(folder.name)
    assert (place / "people/ann/1.jpg").read_bytes() == b"one" and place.stat().st_mode & 0o077 == 0
    del folder
    assert not place.exists()


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_nothing_leaves_the_folder(name: str, tmp_path: Path) -> None:
    path = write_archive(tmp_path / name, {"../../escaped.txt": b"x"})
    try:
        folder = unpacked(path)
    except InputError:
        folder = None
    assert not (tmp_path.parent / "escaped.txt").exists()
    assert folder is None or not (Path(folder.name).parent.parent / "escaped.txt").exists()


def test_a_link_out_of_the_archive_and_a_damaged_one_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "l.tar", "w") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    whole = write_archive(tmp_path / "b.tar.gz", {"a": bytes(range(256)) * 99})
    (tmp_path / "cut.tar.gz").write_bytes(whole.read_bytes()[:60])
    (tmp_path / "text.zip").write_text("no archive")
    for name in ("l.tar", "cut.tar.gz", "text.zip"):
        with pytest.raises(InputError, match="cannot unpack it"):
            unpacked(tmp_path / name)
