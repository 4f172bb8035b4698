"""Whether pictures and model fit: red and blue where skin has them, and the inputs that third-party models expect."""

import numpy as np
import numpy.typing as npt

from zoo.evaluate import metrics
from zoo.evaluate.metrics import SortedScores
from zoo.evaluate.protocols import PairsProtocol
from zoo.formats.images import Image
from zoo.formats.read_ahead import Pictures
from zoo.inference.convention import GivenInput
from zoo.inference.embed import embed
from zoo.inference.session import OnnxEmbedder
from zoo.resolve import FaceModel

SAMPLE = 64  #: How many pictures of a benchmark are checked
BLUER = 3.0  #: Levels of 255 by which blue must exceed red to count: more than JPEG adds to a grey picture


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
        grey = "the pictures are grey: they cannot show whether the model takes RGB, as is assumed, or BGR"
        return [grey] if order_is_assumed else []
    bluer = int((excess > BLUER).sum())
    if 2 * bluer > coloured.sum() and excess[coloured].mean() > BLUER:
        told = f"{bluer} of {int(coloured.sum())} coloured ones are bluer than red in the middle, as no skin is"
        return [f"red and blue look swapped in these pictures: {told}"]
    return []


NEAR_CHANCE = 0.75  #: An AUC below this is what a face model has on pictures that it does not understand
PAIRS = 200  #: How many pairs every input is tried on
USUAL = tuple(
    (order, mean, std) for mean, std in ((127.5, 127.5), (0.0, 255.0), (0.0, 1.0)) for order in ("RGB", "BGR")
)  #: Channel order, mean and std of the inputs that published models take


def try_usual_inputs(model: FaceModel, protocol: PairsProtocol, auc: float, flip: bool) -> list[str]:
    """A sentence on the usual inputs where `auc` is near chance; none where it is not, or the file states its input.

    Each is tried on the same pairs, half of one person and half of two where there are so many, spread over the file.
    """
    if auc >= NEAR_CHANCE or not isinstance(model, OnnxEmbedder) or model.info or model.precision == "uint8":
        return []
    kinds = [np.flatnonzero(kind) for kind in (protocol.same, ~protocol.same)]
    chosen = np.concatenate([k[np.linspace(0, len(k) - 1, min(len(k), PAIRS // 2)).astype(int)] for k in kinds])
    pictures = [picture for pair in chosen.tolist() for picture in protocol.pair_images(pair)]
    same = protocol.same[chosen]
    tried = {}
    for order, mean, std in USUAL:
        other = OnnxEmbedder(model.path, "cpu", input=GivenInput(mean, std, order == "BGR", model.output))
        units = metrics.unit(embed(other, pictures, flip=flip))
        tried[other.input] = metrics.auc(SortedScores.of(np.einsum("pd,pd->p", units[0::2], units[1::2]), same))
    best = max(tried, key=lambda spec: tried[spec])
    if tried[best] < max(NEAR_CHANCE, auc + 0.1):
        return [f"the AUC is near chance; none of the six usual inputs does better on {len(chosen)} pairs"]
    flags = f"--mean {best.mean:g} --std {best.std:g}{' --bgr' if best.channel_order == 'BGR' else ''}"
    told = f"{best.channel_order} and {best.scaling} has an AUC of {tried[best]:.3f}: try {flags}"
    return [f"the AUC is near chance, and of the six usual inputs, tried on {len(chosen)} pairs, {told}"]
