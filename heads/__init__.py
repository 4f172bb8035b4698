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

__all__ = ["HEADS", "HeadOption", "MarginHead", "Pieces", "Scale", "build_head", "head_options", "type_name"]
__all__ += ["AdaFace", "ArcFace", "Circle", "Combined", "CosFace", "CurricularFace", "ElasticFaceArc", "ElasticFaceCos"]
__all__ += ["MVAM", "MVArc", "MagFace", "ReCurricularFace", "Softmax", "SphereFace", "SphereFace2", "UniFace"]
__all__ += ["MarginSoftmaxLoss", "RowwiseAdamW", "RowwiseSGD", "SubCentres", "clip_grad_norm", "find_sub_centres"]
__all__ += ["Fallback", "add_angle", "add_angle_or_fall_back", "angle", "check_range", "moving_average"]
__all__ += ["cap_fraction", "minimum_separation_asymptotic", "nearest_centre_angle", "printed_b"]
__all__ += ["keep_shards_local", "recurricular_constants", "shard_range"]

HEADS.load_entry_points("zoo.heads", MarginHead)  # last: the modules of third-party heads import from here
