"""From five landmarks to an aligned face crop: the similarity transform that face models are trained on."""

import cv2
import numpy as np
import numpy.typing as npt

from zoo.errors import InputError

ARCFACE_TEMPLATE: npt.NDArray[np.float64] = np.array(
    [
        [38.2946, 51.6963],  # the eye on the picture's left
        [73.5318, 51.5014],  # the eye on the picture's right
        [56.0252, 71.7366],  # the nose's tip
        [41.5493, 92.3655],  # the mouth's corner on the picture's left
        [70.7299, 92.2041],  # the mouth's corner on the picture's right
    ]
)  #: Where ArcFace puts the five landmarks in a 112×112 crop: (5, 2), (x, y) in pixels
ARCFACE_TEMPLATE.setflags(write=False)


def template(size: tuple[int, int] = (112, 112)) -> npt.NDArray[np.float64]:
    """The five landmarks of an aligned crop of `size` (height, width): (5, 2), (x, y) in pixels.

    Other heights scale the 112×112 template and other widths centre it; squares whose side is a multiple
    of 128 keep insightface's convention, which leaves a wider margin at the sides and below.
    """
    height, width = size
    scale = height / (128 if height == width and height % 128 == 0 and height % 112 != 0 else 112)
    points = ARCFACE_TEMPLATE * scale
    points[:, 0] += (width - 112 * scale) / 2
    return points


def similarity_transform(source: npt.ArrayLike, target: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The least-squares rotation, uniform scale and shift from `source` to `target`, never a mirror image.

    Both are (..., points, 2) and broadcast; the result m is (..., 2, 3) in float64, and moves points by
    `points @ m[:, :2].T + m[:, 2]`.
    The minimiser is Umeyama's (IEEE TPAMI 13(4), 1991, equations 40 to 42). In the plane, with points as
    complex numbers about their means, it is the quotient a = Σ conj(z)·w / Σ|z|²: its modulus is the
    scale and its argument the angle, and no complex factor mirrors.
    InputError where the points are not finite or all source points coincide.
    """
    source, target = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if source.ndim < 2 or target.ndim < 2 or source.shape[-1] != 2 or source.shape[-2:] != target.shape[-2:]:
        found = f"found shapes {source.shape} and {target.shape}"
        raise InputError(f"expected as many (x, y) points on both sides, {found}")
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise InputError("expected finite landmarks to align by, found NaN or infinity; leave out this face")
    source_mean, target_mean = source.mean(-2), target.mean(-2)
    z, w = source - source_mean[..., None, :], target - target_mean[..., None, :]
    spread = (z**2).sum((-2, -1))
    if not np.all(spread > 0):
        raise InputError("expected landmarks at different places, found all at one point; leave out this face")
    cosine = (z * w).sum((-2, -1)) / spread
    sine = (z[..., 0] * w[..., 1] - z[..., 1] * w[..., 0]).sum(-1) / spread
    linear = np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], -2)
    return np.concatenate([linear, target_mean[..., None] - linear @ source_mean[..., None]], -1)


def align(
    image: npt.NDArray[np.uint8], landmarks: npt.ArrayLike, size: tuple[int, int] = (112, 112)
) -> npt.NDArray[np.uint8]:
    """The aligned crop of one face: RGB uint8 (height, width, 3), black outside the picture.

    `image` is uint8 (H, W, 3), `landmarks` (5, 2) as (x, y) pixels in the order of ARCFACE_TEMPLATE.
    Bilinear, as insightface's `norm_crop`, from which a pixel differs by at most one level, by rounding.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape != (5, 2):
        raise InputError(f"expected five (x, y) landmarks, found an array of shape {points.shape}")
    matrix = similarity_transform(points, template(size))
    return np.asarray(cv2.warpAffine(image, matrix, (size[1], size[0]), borderValue=0.0), dtype=np.uint8)
