"""Margin heads and class centres: every head works with every kind of centre.

head = build_head("recurricularface", margin=0.5)
loss = MarginSoftmaxLoss(head, num_classes=10572, embedding_dim=512)
loss(embeddings, labels).backward()
"""

from __future__ import annotations

from zoo.heads.adaface import AdaFace as AdaFace
from zoo.heads.angles import Fallback as Fallback
from zoo.heads.angles import add_angle as add_angle
from zoo.heads.angles import add_angle_or_fall_back as add_angle_or_fall_back
from zoo.heads.angles import angle as angle
from zoo.heads.arcface import ArcFace as ArcFace
from zoo.heads.base import BROKEN as BROKEN
from zoo.heads.base import HEADS as HEADS
from zoo.heads.base import HeadOption as HeadOption
from zoo.heads.base import MarginHead as MarginHead
from zoo.heads.base import build_head as build_head
from zoo.heads.base import check_range as check_range
from zoo.heads.base import head_options as head_options
from zoo.heads.base import moving_average as moving_average
from zoo.heads.base import type_name as type_name
from zoo.heads.circle import Circle as Circle
from zoo.heads.combined import Combined as Combined
from zoo.heads.cosface import CosFace as CosFace
from zoo.heads.curricularface import CurricularFace as CurricularFace
from zoo.heads.elasticface import ElasticFaceArc as ElasticFaceArc
from zoo.heads.elasticface import ElasticFaceCos as ElasticFaceCos
from zoo.heads.geometry import cap_fraction as cap_fraction
from zoo.heads.geometry import minimum_separation_asymptotic as minimum_separation_asymptotic
from zoo.heads.geometry import nearest_centre_angle as nearest_centre_angle
from zoo.heads.loss.margin_softmax import MarginSoftmaxLoss as MarginSoftmaxLoss
from zoo.heads.loss.sharded import shard_range as shard_range
from zoo.heads.magface import MagFace as MagFace
from zoo.heads.mv_softmax import MVAM as MVAM
from zoo.heads.mv_softmax import MVArc as MVArc
from zoo.heads.optim import RowwiseAdamW as RowwiseAdamW
from zoo.heads.optim import RowwiseSGD as RowwiseSGD
from zoo.heads.optim import clip_grad_norm as clip_grad_norm
from zoo.heads.plugins import load_entry_points as load_entry_points
from zoo.heads.recurricularface import ReCurricularFace as ReCurricularFace
from zoo.heads.recurricularface import recurricular_constants as recurricular_constants
from zoo.heads.softmax import Softmax as Softmax
from zoo.heads.sphereface import SphereFace as SphereFace

load_entry_points()  # last: their modules import from here
