"""Whether red and blue are where they belong, as the colour of skin shows."""

import numpy as np
import numpy.typing as npt

from zoo.formats.images import Image
from zoo.formats.read_ahead import Pictures

SAMPLE = 64
"""How many pictures of a benchmark are checked."""

BLUER = 3.0
"""Levels of 255 by which blue must exceed red to count: more than JPEG adds to a grey picture."""


def channel_means(picture: Image) -> npt.NDArray[np.float64]:
    """The means of red, green and blue in the middle half of a picture, where a face is: (3,)."""
    height, width = picture.shape[:2]
    middle = picture[height // 4 : height - height // 4, width // 4 : width - width // 4]
    return np.asarray(middle.reshape(-1, 3).mean(axis=0), np.float64)


def look(pictures: Pictures, order_is_assumed: bool = False) -> list[str]:
    """What is suspicious about the colours of up to 64 pictures, in sentences; none for the colours of skin.

    Skin of every tone is redder than blue, so a benchmark whose faces are bluer has its channels swapped. Grey
    pictures cannot show whether a model takes RGB or BGR, which matters where its order is only assumed.
    """
    places = np.unique(np.linspace(0, len(pictures) - 1, min(SAMPLE, len(pictures))).astype(int))
    seen = [picture for place in places if (picture := pictures.image(int(place))) is not None]
    if not seen:
        return []
    means = np.stack([channel_means(picture) for picture in seen])
    excess = means[:, 2] - means[:, 0]
    coloured = np.abs(excess) > BLUER
    if not coloured.any():
        if order_is_assumed:
            return ["the pictures are grey: they cannot show whether the model takes RGB, as is assumed, or BGR"]
        return []
    bluer = int((excess > BLUER).sum())
    if 2 * bluer > coloured.sum() and excess[coloured].mean() > BLUER:
        return [
            f"red and blue look swapped in these pictures: {bluer} of {int(coloured.sum())} coloured ones are bluer "
            "than red in the middle, as no skin is"
        ]
    return []
