"""A table of embeddings, and its faces without names sorted into people: average linkage, corrections that last."""

import base64
import importlib.util
import itertools
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from zoo.errors import InputError, closest, explained
from zoo.faces.align import align
from zoo.faces.finder import read_picture
from zoo.files import atomic_path, new_folder, write_bytes, write_json, write_text
from zoo.formats.images import Image, encode_jpeg, encode_png, printable, resized
from zoo.messages import Bar, no_bar
from zoo.recognition.batch import Found, embed_pictures, found_in, sources_in
from zoo.recognition.journal import Journal, partial_of
from zoo.recognition.threshold import Decision
from zoo.recognition.verifier import FaceVerifier

FORMAT = "zoo clusters 1"
SHOWN = 24  #: Faces of a person on the page of contact sheets
BLOCK = 128  #: Rows that are compared with all others at once
MOST_NEAR = 512  #: Neighbours of a row that are kept; a row with more is compared with everybody

Floats = npt.NDArray[np.float32]
Pairs = Sequence[tuple[int, int]]
Corrections = Iterable[tuple[str, str]]  #: The names of two faces each


@dataclass(frozen=True)
class Faces:
    """The faces of a table that `zoo embed` wrote."""

    names: tuple[str, ...]  #: A face's photo; of several faces in a photo `photo#1`, `photo#2` … in the table's order
    paths: tuple[str, ...]
    landmarks: npt.NDArray[np.float64]  #: (faces, 5, 2); NaN for aligned crops
    embeddings: Floats  #: (faces, dim), unit-length

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """The faces of a table, .npz or .parquet; InputError for anything else."""
        columns = ("path", "landmarks", "embedding")
        told = f"expected a table of embeddings that `zoo embed` wrote at {printable(path)}, found none"
        with explained(told, OSError, ValueError, KeyError):
            if Path(path).suffix == ".parquet":
                import pyarrow.parquet as pq

                table = pq.read_table(path, columns=[*columns, "reason"]).to_pydict()
                used = [row for row, reason in enumerate(table["reason"]) if reason is None]
                paths, landmarks, rows = ([table[column][row] for row in used] for column in columns)
            else:
                with np.load(path) as arrays:
                    paths, landmarks, rows = (arrays.get(column, []) for column in columns)
            embeddings = np.array(rows, np.float32).reshape(len(paths), -1)
        if not len(paths):
            raise InputError(f"expected faces in {printable(path)}, found none")
        texts, numbers = [str(one) for one in paths], defaultdict[str, Iterator[int]](lambda: itertools.count(1))
        many = {text for text, times in Counter(texts).items() if times > 1}
        names = [f"{text}#{next(numbers[text])}" if text in many else text for text in texts]
        return cls(tuple(names), tuple(texts), np.array(landmarks, np.float64).reshape(-1, 5, 2), embeddings)

    def crop(self, face: int) -> Image:
        """A face's aligned crop, 112×112, cut out of its photo again; InputError where that is gone."""
        image, _ = read_picture(self.paths[face])
        points = self.landmarks[face]
        return align(image, points) if np.isfinite(points).all() else resized(image, (112, 112))


@dataclass(frozen=True)
class Clusters:
    """Faces by person."""

    faces: Faces
    people: dict[str, list[int]]  #: Each person's faces, by person-0001 …, the largest first
    decision: Decision
    same: tuple[tuple[str, str], ...]  #: Pairs of faces that are one person, as somebody said
    different: tuple[tuple[str, str], ...]  #: Pairs of faces that are two people, as somebody said
    notes: tuple[str, ...]

    def write_folders(self, folder: Path) -> None:
        """A new folder of people for `zoo index --aligned`: each person's aligned crops."""
        if folder.exists():
            raise InputError(f"expected a new folder for the people, found {printable(folder)}; name another one")
        with new_folder(folder, keep=lambda _: False):
            for name, faces in self.people.items():
                (folder / name).mkdir()
                for face in faces:
                    stem = Path(self.faces.names[face]).name
                    write_bytes(folder / name / f"{face:06}-{stem}.png", encode_png(self.faces.crop(face)))

    def write_page(self, path: Path) -> None:
        """A contact sheet for each person on one page without links, up to SHOWN faces each."""
        from zoo.evaluate.report.page import templates

        def jpeg(face: int) -> str:
            return base64.b64encode(encode_jpeg(resized(self.faces.crop(face), (80, 80)), 80)).decode()

        names, people = self.faces.names, []
        for name, faces in self.people.items():
            people.append((name, len(faces), [(names[face], jpeg(face)) for face in faces[:SHOWN]]))
        page = templates("zoo.recognition").get_template("people.html.j2")
        write_text(path, page.render(faces=len(names), people=people, decision=self.decision))


def cluster(
    table: str | Path, output: str | Path, decision: Decision, same: Corrections = (), different: Corrections = ()
) -> Clusters:
    """Sorts the faces of a table into people, and writes them to `output` as JSON: `zoo cluster`.

    `same` and `different` are pairs of names of `Faces` that somebody compared; they join those that `output` holds
    from earlier calls. InputError without a threshold, for a face that is not in the table, and for corrections that
    contradict each other; `output` is then as it was.
    """
    if decision.threshold is None:
        raise InputError(f"expected a threshold to sort faces by, found none: {decision.origin}")
    faces, output = Faces.read(table), Path(output)
    place = {name: number for number, name in enumerate(faces.names)}
    kept = {"same": [*same], "different": [*different]}
    for name in (name for pairs in kept.values() for pair in pairs for name in pair if name not in place):
        hint = "".join(f"; is it {near}?" for near in closest(name, place, 1))
        raise InputError(f"expected a face of {printable(table)}, found {name}{hint}")
    if output.exists():
        told = f"expected people of `zoo cluster` at {printable(output)}, found another file"
        with explained(told, OSError, ValueError, KeyError, TypeError):
            if (before := json.loads(output.read_text("utf-8")))["format"] != FORMAT:
                raise ValueError("another format")
            kept = {key: [*map(tuple, before[key]), *pairs] for key, pairs in kept.items()}
    known = {key: [(place[a], place[b]) for a, b in pairs if a in place and b in place] for key, pairs in kept.items()}
    lost = sum(map(len, kept.values())) - sum(map(len, known.values()))
    labels = average_link(faces.embeddings, decision.threshold, known["same"], known["different"])
    order = np.argsort(labels, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    people = {f"person-{number:04}": group.tolist() for number, group in enumerate(groups, 1)}
    notes = (f"{lost} corrections are about faces that are not in the table any more: kept, without effect",)
    pairs = {key: tuple(dict.fromkeys(pairs)) for key, pairs in kept.items()}
    named = {name: [faces.names[face] for face in group] for name, group in people.items()}
    write_json(output, {"format": FORMAT, "table": os.fspath(table), **decision.facts(), **pairs, "people": named})
    return Clusters(faces, people, decision, pairs["same"], pairs["different"], notes if lost else ())


def average_link(rows: Floats, threshold: float, same: Pairs = (), different: Pairs = ()) -> npt.NDArray[np.int64]:
    """The cluster of each of `rows` (rows, dim), unit-length; 0 is the largest.

    Average linkage: the two clusters whose pairs of rows have the highest mean cosine are merged while it is above
    `threshold`. The mean is the product of the clusters' means, so memory is linear in the rows; where it is above the
    threshold, that of some pair is too, so only such pairs are looked at. Clusters with a pair of `different` are never
    merged, those with a pair of `same` always; where that cannot be, as both have rows that differ, they are made again
    around the pairs of `same`. InputError where the pairs contradict each other.
    """
    labels = _linked(rows, threshold, (), different)
    labels = _joined(labels.max() + 1, [(labels[a], labels[b]) for a, b in same])[labels]
    if any(labels[a] == labels[b] for a, b in different):
        labels = _linked(rows, threshold, same, different)
    _, labels, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return np.asarray(np.argsort(np.argsort(-counts, kind="stable"))[labels], np.int64)


def _linked(rows: Floats, threshold: float, same: Pairs, different: Pairs) -> npt.NDArray[np.int64]:
    """`average_link` in any order, from the components of `same` on.

    By chains of nearest neighbours (Murtagh, The Computer Journal 26(4), 1983): a merged cluster is no nearer to a
    third one than the nearer of its parts was, so two clusters that are each other's nearest are merged at once, and
    one without a neighbour above the threshold is finished.
    """
    groups = _joined(len(rows), same)
    sizes = np.bincount(groups).astype(np.float32)
    means = np.zeros((len(sizes), rows.shape[1]), np.float32)
    np.add.at(means, groups, rows)
    means /= sizes[:, None]
    foes = defaultdict[int, set[int]](set)
    for a, b in ((int(groups[a]), int(groups[b])) for pair in different for a, b in (pair, pair[::-1])):
        if a == b:
            raise InputError("expected corrections that agree, found faces that are both the same and different")
        foes[a].add(b)
    known: list[list[npt.NDArray[np.int32] | None]] = [[] for _ in sizes]
    for group, near_rows in zip(groups.tolist(), _near(rows, threshold), strict=True):
        known[group].append(None if near_rows is None else groups[near_rows])
    living, owners, chain = np.ones(len(means), bool), np.arange(len(means)), list[int]()

    def candidates(cluster: int) -> npt.NDArray[np.int64]:
        """The living clusters that may be near enough, without itself and its foes."""
        if any(part is None for part in known[cluster]):
            found = np.flatnonzero(living)
        else:
            found = np.unique(np.concatenate(known[cluster]))  # type: ignore[arg-type]  # none is None
            while (owners[found] != found).any():
                found = np.unique(owners[found])
            found = found[living[found]]
            known[cluster] = [found.astype(np.int32)]
        return found[~np.isin(found, [cluster, *foes[cluster]])]

    while living.any():
        chain = chain or [int(living.argmax())]
        tip, before = chain[-1], chain[-2] if len(chain) > 1 else None
        others = candidates(tip)
        scores = means[others] @ means[tip]
        best = others[(scores > threshold) & (scores == scores.max(initial=-1))]
        near = int(best[0]) if len(best) else None
        if before is not None and (near is None or near in chain or before in best):
            near = before  # ties and rounding must not make a circle
        if near is None:
            living[chain.pop()] = False
        elif near != before:
            chain.append(near)
        else:
            del chain[-2:]
            means[near] = (means[near] * sizes[near] + means[tip] * sizes[tip]) / (sizes[near] + sizes[tip])
            sizes[near] += sizes[tip]
            living[tip], owners[tip] = False, near
            known[near] += known[tip]
            known[tip] = []
            for foe in foes.pop(tip, set()):
                foes[foe] = foes[foe] - {tip} | {near}
                foes[near].add(foe)
    while (owners != owners[owners]).any():
        owners = owners[owners]
    return np.asarray(owners[groups], np.int64)


def _near(rows: Floats, threshold: float) -> Iterator[npt.NDArray[np.int64] | None]:
    """For each row the rows, itself among them, with a cosine above the threshold; None for one with too many to keep.

    With a margin for rounding, as a mean of cosines is not above what all of them are below.
    """
    for start in range(0, len(rows), BLOCK):
        above = rows[start : start + BLOCK] @ rows.T > threshold - 1e-4
        yield from (np.flatnonzero(one) if np.count_nonzero(one) <= MOST_NEAR else None for one in above)


def _joined(count: int, pairs: Pairs) -> npt.NDArray[np.int64]:
    a, b = np.array(pairs, np.int64).reshape(-1, 2).T
    return np.asarray(connected_components(coo_array((np.ones(len(a)), (a, b)), (count, count)), False)[1], np.int64)


MEASURES = ("score", "blur", "eye_distance", "turn", "nod", "brightness", "cut", "norm")  #: NaN for aligned crops
ROWS_AT_ONCE = 4096  #: Rows of a Parquet row group; no more are in memory at once

Row = dict[str, Any]  #: Column → value; of a picture without a face path, sha256 and reason alone


@dataclass(frozen=True)
class Table:
    """A table of embeddings that was written."""

    path: Path
    pictures: int  #: How many pictures there are
    embedded_now: int  #: How many of them this call embedded; the others were done before an interruption
    faces: int  #: How many rows have an embedding
    failures: tuple[str, ...]  #: Why pictures have none, one sentence each

    def to_json(self) -> str:
        """One JSON object, as `zoo embed --json` prints it."""
        facts = {name: value for name, value in vars(self).items() if name != "path"}
        return json.dumps({**facts, "output": str(self.path), "failed": len(self.failures)}, indent=2)


def embed_to_table(
    paths: Iterable[str | Path],
    output: str | Path,
    verifier: FaceVerifier,
    overwrite: bool = False,
    workers: int = 2,
    bar: Bar = no_bar,
    shard: tuple[int, int] = (1, 1),
) -> Table:
    """Embeds the pictures at `paths` and in the folders among them: what `zoo embed` does.

    A path may also be WebDataset shards, a Parquet table, RecordIO or hf://datasets/…, as for `zoo train --data`. Of
    `shard` (i, n) the i-th of n equal parts is embedded, from 1 on, so that n machines share the work.

    Columns: path, sha256, box (left, top, width, height), landmarks (5 × 2), score, faces (shown in the picture),
    blur, eye_distance, turn, nod, brightness, cut, norm, embedding (unit-length); NaN where an aligned crop has none. A
    picture that cannot be used is among the table's failures, a row without an embedding in Parquet, and an entry of
    `failed` and `reasons` in .npz. After an interruption the next call resumes from OUTPUT.partial. InputError for an
    output that exists, unless `overwrite`, or is neither .npz nor .parquet, and where there is no picture.
    """
    output = Path(output)
    if output.suffix not in (".npz", ".parquet"):
        raise InputError(f"expected an output ending in .npz or .parquet, found {output}")
    if output.suffix == ".parquet" and not importlib.util.find_spec("pyarrow"):
        raise InputError("writing Parquet needs one more package: pip install 'timm-face-zoo[parquet]', or choose .npz")
    partial = partial_of(output)
    if output.exists() and not partial.exists() and not overwrite:
        raise InputError(f"expected no file at {output} yet, found one; give --overwrite, or another name")
    paths = list(paths)
    pictures, (part, parts) = list(dict.fromkeys(sources_in(paths))), shard
    if not 1 <= part <= parts:
        raise InputError(f"expected a shard from 1/{parts} to {parts}/{parts}, found {part}/{parts}")
    pictures = pictures[len(pictures) * (part - 1) // parts : len(pictures) * part // parts]
    if not pictures:
        raise InputError(f"expected pictures in {' '.join(map(printable, paths))}, found none")
    wanted = {printable(str(picture)) for picture in pictures}
    with Journal(partial, verifier.how()) as journal:
        with bar("embed", len(pictures)) as progress:
            added = embed_pictures(verifier, pictures, journal, workers, progress)
        write = _write_npz if output.suffix == ".npz" else _write_parquet
        rows = (row for one in found_in(journal) if one.path in wanted for row in _rows(one))
        with atomic_path(output) as temporary:
            faces, failures = write(temporary, rows, verifier.dim)
        journal.delete()
    return Table(output, len(pictures), added, faces, tuple(failures))


def _rows(found: Found) -> Iterator[Row]:
    named = {"path": found.path, "sha256": found.sha256}
    if found.reason:
        yield {**named, "reason": found.reason}
    for face, embedding in zip(found.faces, found.embeddings, strict=True):
        measures = {**face, **face["quality"]}
        numbers = {name: np.nan if measures[name] is None else measures[name] for name in MEASURES}
        box, landmarks = face["box"] or [np.nan] * 4, np.ravel(face["landmarks"] or [np.nan] * 10)
        yield {**named, "box": box, "landmarks": landmarks, "faces": found.shown, **numbers, "embedding": embedding}


def _write_npz(path: Path, rows: Iterable[Row], dim: int) -> tuple[int, list[str]]:
    every = list(rows)
    good, failed = ([row for row in every if ("reason" in row) == fails] for fails in (False, True))
    arrays = {name: np.array([row[name] for row in good]) for name in (good[0] if good else ())}
    if good:
        arrays["landmarks"] = arrays["landmarks"].reshape(-1, 5, 2)
    arrays["embedding"] = np.array([row["embedding"] for row in good], np.float32).reshape(-1, dim)
    for name, column in (("failed", "path"), ("reasons", "reason")):
        arrays[name] = np.array([row[column] for row in failed], np.str_)
    with open(path, "wb") as file:  # np.savez would add .npz to the temporary name
        np.savez(file, allow_pickle=False, **arrays)
    return len(good), arrays["reasons"].tolist()


def _write_parquet(path: Path, rows: Iterable[Row], dim: int) -> tuple[int, list[str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, number = pa.string(), pa.float64()
    columns = {"path": text, "sha256": text, "box": pa.list_(number, 4), "landmarks": pa.list_(number, 10)}
    columns |= {"faces": pa.int32(), **dict.fromkeys(MEASURES, number)}
    schema = pa.schema({**columns, "embedding": pa.list_(pa.float32(), dim), "reason": text})
    faces, reasons, waiting = 0, [], iter(rows)
    with pq.ParquetWriter(path, schema) as writer:
        while held := list(islice(waiting, ROWS_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(held, schema))
            reasons += [row["reason"] for row in held if "reason" in row]
            faces += sum("embedding" in row for row in held)
    return faces, reasons
