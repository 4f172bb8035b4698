"""Which of the usual inputs a third-party model may expect, tried where its figures are near chance."""

import numpy as np

from zoo.evaluate import metrics
from zoo.evaluate.protocols import PairsProtocol
from zoo.inference.convention import GivenInput
from zoo.inference.embed import FaceModel, embed
from zoo.inference.session import OnnxEmbedder

NEAR_CHANCE = 0.75
"""An AUC below this is what a face model has on pictures that it does not understand."""
PAIRS = 200
"""How many pairs every input is tried on."""
USUAL = tuple(
    (order, mean, std) for mean, std in ((127.5, 127.5), (0.0, 255.0), (0.0, 1.0)) for order in ("RGB", "BGR")
)
"""Channel order, mean and std of the inputs that published models take."""


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
        cosines = np.einsum("pd,pd->p", units[0::2], units[1::2])
        tried[other.input] = metrics.auc(metrics.SortedScores.of(cosines, same))
    best = max(tried, key=lambda spec: tried[spec])
    if tried[best] < max(NEAR_CHANCE, auc + 0.1):
        return [f"the AUC is near chance; none of the six usual inputs does better on {len(chosen)} pairs"]
    flags = f"--mean {best.mean:g} --std {best.std:g}{' --bgr' if best.channel_order == 'BGR' else ''}"
    return [
        f"the AUC is near chance, and of the six usual inputs, tried on {len(chosen)} pairs, {best.channel_order} and "
        f"{best.scaling} has an AUC of {tried[best]:.3f}: try {flags}"
    ]
