"""Rendered faces: people from ICT-FaceKit's morphable model, without a photograph of anybody.

An identity is a head's shape, its skin, brows, eyes and hair; an image of it adds what must not matter: pose,
expression, light, haircut, glasses, hat, background, and a camera's faults. A detector's error is in its alignment.

Every number comes from a generator of its own, keyed by (seed, identity[, image + 1]), so that image i is the
same in every process and in any order. A GPU and a CPU add in different orders: a picture may differ in a few pixels.
"""

from zoo.data.rendered.faces import RenderedFaces

__all__ = ["RenderedFaces"]
