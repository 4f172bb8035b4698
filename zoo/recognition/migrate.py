"""A gallery's way to another model: its photos embedded again, or its templates mapped without them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.evaluate.intervals import Difference, PeoplePairs, difference
from zoo.evaluate.metrics import SortedScores, auc, eer, tar_at_far
from zoo.evaluate.similarity import Vectors, unit_rows
from zoo.files import sha256
from zoo.formats.images import printable
from zoo.messages import Bar, no_bar
from zoo.recognition.gallery import Gallery
from zoo.recognition.index import enrol, people_in
from zoo.recognition.journal import Journal, partial_of, spare_journal
from zoo.recognition.store import Place
from zoo.recognition.verifier import FaceVerifier

FOLDS = 5  #: Every map is measured on people whom it was not learnt from: a fifth of them at a time
FEWEST_PEOPLE, MAX_LOSS = 20, 0.05


@dataclass(frozen=True)
class Mapping:
    """An orthogonal map from one model's embeddings to another's, and what it costs."""

    matrix: Vectors  #: (old dim, new dim): orthonormal rows, or columns where the new dimension is the smaller
    far: float
    before: float  #: TAR at `far` of the better of both models among its own embeddings
    after: float  #: TAR at `far` of mapped embeddings against the new model's
    threshold: float  #: The similarity above which a mapped embedding is accepted at `far`
    change: Difference  #: `after` less `before`, with its interval
    photos: int
    people: int

    def __str__(self) -> str:
        low, high = (-bound for bound in self.change.interval[::-1])
        return (
            f"orthogonal map learnt from {self.photos:,} photos of {self.people:,} people: TAR at FAR {self.far:g}"
            f" {self.after:.4f} in place of {self.before:.4f}, a loss of {-self.change.value:.4f}"
            f" [{low:.4f}, {high:.4f}], 95 % by a bootstrap of people, threshold {self.threshold:.4f}"
        )


def re_embed(
    gallery: Gallery, verifier: FaceVerifier, photos: str | Path, target: Place, workers: int = 2, bar: Bar = no_bar
) -> Gallery:
    """The gallery's own photos, found by their hashes below `photos`, as a gallery of the verifier's model at `target`.

    After an interruption the next call resumes from TARGET.partial. Photos that the gallery does not hold are left
    out. InputError where a person would be lost because none of the photos is there or usable; nothing is written then.
    """
    names, target = gallery.names(), require_new(target)
    owners: dict[str, list[str]] = {}
    for name, digest in gallery.owned():
        owners.setdefault(digest, []).append(name)
    found, notes = people_in(photos)
    people: dict[str, list[Path]] = {name: [] for name in names}
    for path in (path for paths in found.values() for path in paths):
        for name in owners.pop(sha256(path), []):
            people[name].append(path)
    require_everybody([name for name, paths in people.items() if not paths], "no photo of", photos)
    with Journal(partial_of(target), verifier.how()) as journal:
        enrolled, more = enrol(verifier, people, journal, workers, bar)
        facts = {**verifier.how(), "migrated": f"photos embedded again, from model {str(gallery.facts['model'])[:12]}"}
        migrated = Gallery.empty(verifier.dim, facts).extended(enrolled)
        require_everybody(sorted(set(names) - set(migrated.names())), "no usable photo of", photos)
        if owners:
            notes.append(f"{len(owners):,} of the gallery's photos are not below {printable(photos)}: left out")
        migrated = replace(migrated, notes=(*notes, *more))
        migrated.save(target)
        journal.delete()
    return migrated


def require_everybody(lost: Sequence[str], what: str, where: str | Path) -> None:
    """InputError naming the first people of a gallery who would be lost."""
    if lost:
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        found = f"found {what} {', '.join(lost[:3])}{more}; add them, or remove the people with `zoo index --remove`"
        raise InputError(f"expected photos of everybody in the gallery below {printable(where)}, {found}")


def require_new(target: str | Path) -> Path:
    if Path(target).exists():
        raise InputError(f"expected a new file for the migrated gallery, found {printable(target)}; name another one")
    return Path(target)


def map_templates(
    gallery: Gallery,
    old: FaceVerifier,
    new: FaceVerifier,
    learn: str | Path,
    target: str | Path,
    *,
    far: float = 1e-3,
    max_loss: float = MAX_LOSS,
    workers: int = 2,
    bar: Bar = no_bar,
) -> tuple[Gallery, Mapping]:
    """The gallery's templates under an orthogonal map that is learnt from the people below `learn`, in `target`.

    InputError where `old` is not the gallery's model, the set is too small to tell, or the loss of TAR at `far` may
    exceed `max_loss` by its 95 % interval; nothing is written then.
    """
    gallery.require(old)
    target = require_new(target)
    if new.flip != gallery.facts["flip"]:
        raise InputError(f"expected a verifier with flip {gallery.facts['flip']}, as the gallery's, found {new.flip}")
    people, _ = people_in(learn)
    by_model = []
    for caption, verifier in (("old", old), ("new", new)):
        with spare_journal() as journal:
            photos, _ = enrol(verifier, people, journal, workers, bar, caption)
        by_model.append({(person, digest): embedding for person, digest, embedding in photos})
    both = sorted(by_model[0].keys() & by_model[1].keys())
    names, whose = np.unique([person for person, _ in both], return_inverse=True)
    if len(names) < FEWEST_PEOPLE:
        where = f"{printable(learn)} to learn the map from, found {len(names)}"
        raise InputError(f"expected usable photos of at least {FEWEST_PEOPLE} people in {where}")
    ours, theirs = (np.stack([one[key] for key in both]) for one in by_model)
    found = learn_map(ours, theirs, whose, far)
    if (worst := -found.change.interval[0]) > max_loss:
        lost = f"expected a loss of at most {max_loss:g} of TAR at FAR {far:g}, found up to {worst:.4f}: {found}"
        raise InputError(f"{lost}; give the gallery's --photos, learn from more people, or allow it with --max-loss")
    mapped = unit_rows(np.asarray(gallery.templates) @ found.matrix)
    facts = {**new.how(), "migrated": f"{found}, from model {str(gallery.facts['model'])[:12]}"}
    count = len(gallery.photo_people)  # the photos' own embeddings are not mapped
    values, scales = np.zeros((count, new.dim), np.int8), np.zeros(count, np.float32)
    migrated = replace(gallery, facts=facts, templates=mapped, notes=(), photo_values=values, photo_scales=scales)
    migrated.save(target)
    return migrated, found


def learn_map(ours: Vectors, theirs: Vectors, people: npt.NDArray[np.int64], far: float) -> Mapping:
    """The map of `ours` (photos, old dim) onto `theirs` (photos, new dim), both unit-length, measured on others.

    Its cost is measured between photos of people whom the map of their fold was not learnt from, against the better of
    both models: a map onto a model that recognises nobody loses nothing against that one. InputError where the pairs
    cannot show the false accept rate.
    """
    fold = np.random.default_rng(0).permutation(int(people.max()) + 1)[people] % FOLDS
    pairs, scores = [], []  # of the old model, the new one, and the old one's mapped to the new
    for number in range(FOLDS):
        held = np.flatnonzero(fold == number)
        mapped = unit_rows(ours[held] @ orthogonal(ours[fold != number], theirs[fold != number]))
        places = np.triu_indices(len(held), 1)
        pairs.append(people[held][np.array(places)])
        sides = ((ours[held], ours[held]), (theirs[held], theirs[held]), (mapped, theirs[held]))
        scores.append([(rows @ others.T)[places] for rows, others in sides])
    whose = PeoplePairs.of(*np.concatenate(pairs, axis=1))
    same = whose.left == whose.right
    label, points, estimates = f"TAR@FAR {far:g}", [], []
    for cosines in np.concatenate(scores, axis=1).astype(np.float64):
        ordered = SortedScores.of(cosines, same)
        point = tar_at_far(ordered, far)
        if not point.measurable:
            raise InputError(f"{point.why_not}; learn from more photos or give a larger --far")
        points.append(point)
        estimates.append(whose.rates(cosines, same, auc(ordered), eer(ordered), {far: point.tar})[label])
    better = max((0, 1), key=lambda model: points[model].tar)
    change = difference(estimates[better], estimates[2])
    assert change is not None  # both come from the same draws
    counts = len(people), int(people.max()) + 1
    before, after = points[better], points[2]
    return Mapping(orthogonal(ours, theirs), far, before.tar, after.tar, after.threshold, change, *counts)


def orthogonal(ours: Vectors, theirs: Vectors) -> Vectors:
    """The orthogonal matrix R that minimises |ours·R − theirs| (Schönemann 1966): U·Vᵀ of the SVD of oursᵀ·theirs."""
    left, _, right = np.linalg.svd(ours.astype(np.float64).T @ theirs.astype(np.float64), full_matrices=False)
    return np.asarray(left @ right, np.float32)
