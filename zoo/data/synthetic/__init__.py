"""Synthetic faces: a set to try the whole product on without a download, a licence or a real person.

An identity is a geometry and a palette (head, jaw, eyes, brows, nose, mouth, ears, hair, beard, moles); an image of
it adds what must not matter: pose, expression, light, white balance, background, clothes, glasses, something in front
of the face, blur and noise. The head is a solid that turns in three dimensions and is then aligned by its five
landmarks, as crops of photographs are.

Every number comes from its own generator, PCG64 seeded by SeedSequence((seed, split, identity[, image + 1])), read as
raw 64-bit words: NumPy promises that both streams stay as they are. So image i is the same in every process, on every
machine and in any order (but for a level or two where another OpenCV rounds otherwise), and splits share no identity.
"""

from zoo.data.synthetic.faces import PAIR_IMAGES, SyntheticFaces, pair_plan, synthetic_pairs

__all__ = ["PAIR_IMAGES", "SyntheticFaces", "pair_plan", "synthetic_pairs"]
