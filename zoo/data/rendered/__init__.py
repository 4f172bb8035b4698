"""Rendered faces: people from ICT-FaceKit's morphable model, without a photograph of anybody.

Image `i` of a person follows from (seed, person, i) alone, but for a few pixels where a GPU adds in another order.
"""

from zoo.data.rendered.faces import RenderedFaces as RenderedFaces
