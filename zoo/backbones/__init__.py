"""The timm plugin: any timm model as a face backbone for 112×112 crops.

Importing this package registers `face_backbone` and our own architectures with timm (iresnet*, mobilefacenet, mbf*,
facevit*), after which `timm.create_model("hf-hub:owner/name", pretrained=True)` and `"local-dir:FOLDER"` load what
`save_timm` wrote.
"""

from zoo.backbones import face_vit, iresnet, mobilefacenet
from zoo.backbones.face_backbone import Blueprint, FaceBackbone, blueprint_of, create_backbone
from zoo.backbones.necks import FlatNeck
from zoo.backbones.timm_folder import load_timm, model_info, read_config, save_timm, timm_config

__all__ = ["Blueprint", "FaceBackbone", "FlatNeck", "blueprint_of", "create_backbone", "face_vit", "iresnet"]
__all__ += ["load_timm", "mobilefacenet", "model_info", "read_config", "save_timm", "timm_config"]
