"""RecordIO files made from the format's description alone, to compare zoo's reader and writer with."""

from __future__ import annotations

import struct
from pathlib import Path

MAGIC = bytes.fromhex("0a23d7ce")


def framed(payload: bytes) -> bytes:
    """The parts of a payload, word by word as the description has it."""
    parts, current = [], b""
    for start in range(0, len(payload), 4):
        word = payload[start : start + 4]
        if word == MAGIC:
            parts.append(current)
            current = b""
        else:
            current += word
    parts.append(current)
    file = b""
    for number, part in enumerate(parts):
        if len(parts) == 1:
            kind = 0
        elif number == 0:
            kind = 1
        elif number == len(parts) - 1:
            kind = 3
        else:
            kind = 2
        file += MAGIC + struct.pack("<I", (kind << 29) + len(part)) + part
        while len(file) % 4:
            file += b"\0"
    return file


def picture_payload(label: float, key: int, content: bytes) -> bytes:
    return struct.pack("<IfQQ", 0, label, key, 0) + content


def range_payload(start: float, end: float, key: int) -> bytes:
    return struct.pack("<IfQQff", 2, 0.0, key, 0, start, end)


def identity_payloads(people: list[list[bytes]]) -> list[bytes]:
    """insightface's layout: record 0, the pictures of one person after another, a range for each person."""
    images = sum(map(len, people))
    payloads = [range_payload(images + 1, images + 1 + len(people), 0)]
    ranges = []
    for label, contents in enumerate(people):
        ranges.append((len(payloads), len(payloads) + len(contents)))
        for content in contents:
            payloads.append(picture_payload(label, len(payloads), content))
    for start, end in ranges:
        payloads.append(range_payload(start, end, len(payloads)))
    return payloads


def write(folder: Path, payloads: list[bytes], index: bool = True, name: str = "train") -> Path:
    """Writes NAME.rec and, if asked, NAME.idx; gives the path of the .rec."""
    content, lines = b"", ""
    for key, payload in enumerate(payloads):
        lines += f"{key}\t{len(content)}\n"
        content += framed(payload)
    (folder / f"{name}.rec").write_bytes(content)
    if index:
        (folder / f"{name}.idx").write_text(lines)
    return folder / f"{name}.rec"
