"""Margin heads and class centres: every head works with every kind of centre.

head = build_head("recurricularface", margin=0.5)
loss = MarginSoftmaxLoss(head, num_classes=10572, embedding_dim=512)
loss(embeddings, labels).backward()
"""

from zoo.heads.adaface import AdaFace
from zoo.heads.angles import Fallback, add_angle, add_angle_or_fall_back, angle
from zoo.heads.arcface import ArcFace
from zoo.heads.base import HEADS, MarginHead, build_head, moving_average
from zoo.heads.circle import Circle
from zoo.heads.combined import Combined
from zoo.heads.cosface import CosFace
from zoo.heads.curricularface import CurricularFace
from zoo.heads.elasticface import ElasticFaceArc, ElasticFaceCos
from zoo.heads.geometry import cap_fraction, minimum_separation_asymptotic, nearest_centre_angle
from zoo.heads.loss import MarginSoftmaxLoss, keep_shards_local, shard_range
from zoo.heads.magface import MagFace
from zoo.heads.mv_softmax import MVAM, MVArc
from zoo.heads.optim import RowwiseAdamW, RowwiseSGD, clip_grad_norm
from zoo.heads.options import HeadOption, Scale, check_range, head_options, type_name
from zoo.heads.pieces import Pieces
from zoo.heads.recurricularface import ReCurricularFace, printed_b, recurricular_constants
from zoo.heads.softmax import Softmax
from zoo.heads.sphereface import SphereFace
from zoo.heads.sphereface2 import SphereFace2
from zoo.heads.sub_centres import SubCentres, find_sub_centres
from zoo.heads.uniface import UniFace

__all__ = [
    "HEADS",
    "MVAM",
    "AdaFace",
    "ArcFace",
    "Circle",
    "Combined",
    "CosFace",
    "CurricularFace",
    "ElasticFaceArc",
    "ElasticFaceCos",
    "Fallback",
    "HeadOption",
    "MVArc",
    "MagFace",
    "MarginHead",
    "MarginSoftmaxLoss",
    "Pieces",
    "ReCurricularFace",
    "RowwiseAdamW",
    "RowwiseSGD",
    "Scale",
    "Softmax",
    "SphereFace",
    "SphereFace2",
    "SubCentres",
    "UniFace",
    "add_angle",
    "add_angle_or_fall_back",
    "angle",
    "build_head",
    "cap_fraction",
    "check_range",
    "clip_grad_norm",
    "find_sub_centres",
    "head_options",
    "keep_shards_local",
    "minimum_separation_asymptotic",
    "moving_average",
    "nearest_centre_angle",
    "printed_b",
    "recurricular_constants",
    "shard_range",
    "type_name",
]

HEADS.load_entry_points("zoo.heads", MarginHead)  # last: the modules of third-party heads import from here
