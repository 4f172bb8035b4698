"""A model folder in timm's layout: config.json and model.safetensors, written, read, and embedding without ONNX."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.torch
import timm
import torch
from torch import nn

from zoo.backbones.face_backbone import FaceBackbone, blueprint_of, check_options, with_blueprint
from zoo.backbones.stems import features_of
from zoo.backbones.timm_model import build_timm, face_cfg, pair, scale
from zoo.errors import InputError, explained
from zoo.files import atomic_path, sha256, write_json
from zoo.formats.images import resized_crops
from zoo.modelinfo import Crops, InputSpec, ModelInfo, typed

MODEL_ARGS = {
    "face_backbone": {"backbone", "neck", "stem", "image_size", "dropout"},
    "": {
        *("img_size", "patch_size", "drop_rate", "drop_path_rate", "class_token", "reg_tokens", "fc_norm", "pos_embed"),
        *("pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate", "qkv_bias", "qk_norm", "init_values"),
        *("no_embed_class", "pre_norm", "final_norm", "dynamic_img_size", "dynamic_img_pad", "head_norm_first"),
        *("embed_dim", "depth", "depths", "dims", "num_heads", "mlp_ratio", "window_size", "conv_mlp", "use_grn"),
        *("ls_init_value", "use_rot_pos_emb", "use_abs_pos_emb", "swiglu_mlp", "scale_mlp", "rope_type"),
        *("num_classes", "in_chans", "global_pool"),  # timm's save_for_hf writes these of every model
    },
}
"""The `model_args` that `load_timm` accepts in a config.json, by architecture; "" stands for every other one.

Numbers and names alone: timm's checkpoint_path, for one, would open a pickle.
"""

WEIGHTS, CONFIG = "model.safetensors", "config.json"


def timm_config(model: nn.Module, spec: InputSpec | None = None) -> dict[str, Any]:
    """What timm needs to rebuild a model of `create_backbone`: the content of its config.json, without the `zoo` block.

    Mean and std are those of `spec` (default: 0.5 each). License, tag, paper and origin of any ImageNet weights are
    left out: they do not apply to weights trained here.
    """
    built, spec = blueprint_of(model), spec or InputSpec()
    mean, std = (np.broadcast_to(np.array(scale) / 255, 3).tolist() for scale in (spec.mean, spec.std))
    size, dim = [3, *built.image_size], built.embedding_dim
    cfg = face_cfg(num_classes=dim, input_size=size, mean=mean, std=std, fixed_input_size=built.fixed_size, tag="face")
    cfg |= {**layer_names(model), **dict.fromkeys(("license", "origin_url", "paper_ids"))}
    facts = {"architecture": built.architecture, "num_classes": dim, "num_features": dim}
    return {**facts, "model_args": dict(built.args), "pretrained_cfg": cfg}


def layer_names(model: nn.Module) -> dict[str, Any]:
    """The first convolution and the classifier under timm's names, for in_chans and num_classes other than stored."""
    prefix, own = ("body.", model.body) if isinstance(model, FaceBackbone) else ("", model)
    cfg: dict[str, Any] = {**getattr(own, "pretrained_cfg", {})}
    found = {}
    for kind in ("first_conv", "classifier"):
        names = cfg.get(kind)
        found[kind] = [prefix + n for n in names] if isinstance(names, list | tuple) else names and prefix + names
    return found if blueprint_of(model).neck == "native" else {**found, "classifier": "neck.3"}


def save_timm(
    model: nn.Module, folder: str | Path, zoo_block: dict[str, Any], state: dict[str, torch.Tensor] | None = None
) -> None:
    """Writes config.json (`zoo_block` as `zoo`) and model.safetensors, each whole; `state`: weights, if not its own."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in (state or model.state_dict()).items()}
    with atomic_path(folder / WEIGHTS) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata={"format": "pt"})
    given = zoo_block.get("input")
    spec = typed(InputSpec, given) if isinstance(given, dict) else None
    write_json(folder / CONFIG, {**timm_config(model, spec), "zoo": zoo_block})


def read_config(folder: str | Path) -> dict[str, Any]:
    """The config.json of a folder in timm's layout; InputError where it is missing or not a configuration."""
    path = _part(Path(folder), CONFIG)
    with explained(f"expected timm's configuration in {path}, found something else", ValueError, OSError):
        config = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(config, dict) or not isinstance(config.get("architecture"), str):
        found = 'found one without an "architecture"; `zoo adopt` takes in the checkpoints of other projects'
        raise InputError(f"expected timm's configuration in {path}, {found}")
    return config


def _part(folder: Path, name: str) -> Path:
    if not (folder / name).exists():
        raise InputError(f"expected a model folder with {CONFIG} and {WEIGHTS}, found no {name} in {folder}")
    return folder / name


def model_info(folder: str | Path) -> ModelInfo:
    """The facts of a model folder: its `zoo` block, or what timm's configuration tells where there is none."""
    config = read_config(folder)
    if isinstance(config.get("zoo"), dict):
        return ModelInfo.from_json(json.dumps(config["zoo"]))
    cfg = config.get("pretrained_cfg") or {}
    told = f"expected timm's configuration in {Path(folder) / CONFIG}, found something else"
    with explained(told, AttributeError, TypeError, OverflowError):
        mean, std = (scale(typed(tuple[float, ...], cfg.get(name) or [0.5])) for name in ("mean", "std"))
        dim, spec = typed(int, config.get("num_classes", 0)), InputSpec(input_size(config), mean, std)
    return ModelInfo(dim, spec, config["architecture"], neck="native", stem="stock")


def input_size(config: dict[str, Any]) -> tuple[int, int]:
    """(height, width) of a configuration's crops: the argument that built the model, or else what timm states."""
    told = f"expected the size of the input in {CONFIG}, found something else"
    with explained(told, AttributeError, LookupError, TypeError, ValueError, advice="fetch it again"):
        stated = (config.get("pretrained_cfg") or {}).get("input_size") or (3, 112, 112)
        return pair((config.get("model_args") or {}).get("img_size") or stated[1:])


def load_timm(folder: str | Path) -> nn.Module:
    """The model that `save_timm` wrote into `folder`, with its weights, in evaluation mode.

    Builds only registered architectures with known arguments and reads only safetensors, so that a third-party folder
    cannot run code. InputError where something is missing or does not fit.
    """
    folder = Path(folder)
    config = read_config(folder)
    architecture, args = config["architecture"], config.get("model_args") or {}
    if not timm.is_model(architecture):
        raise InputError(f"{folder / CONFIG} names the architecture {architecture!r}, which timm does not know")
    allowed = MODEL_ARGS.get(architecture, MODEL_ARGS[""])
    strange = sorted(set(args) - allowed) if isinstance(args, dict) else [str(args)]
    if strange:
        told = f"that zoo does not know ({', '.join(strange)}); known: {', '.join(sorted(allowed))}"
        raise InputError(f"{folder / CONFIG} has model_args {told}")
    dim = config.get("num_classes")
    if not isinstance(dim, int) or dim < 1:
        raise InputError(f'expected the embedding dimension as "num_classes" in {folder / CONFIG}, found {dim!r}')
    image_size = input_size(config)
    if architecture == "face_backbone":
        args = {**args, "image_size": tuple(args.get("image_size", image_size))}
        name, stem = str(args.get("backbone", "resnet18")), str(args.get("stem", "face"))
        check_options(name, dim, args.get("neck"), stem, args["image_size"], float(args.get("dropout", 0.0)))
        model: nn.Module = FaceBackbone(**{**args, "num_classes": dim})
        kept = {**args, "image_size": list(args["image_size"])}
    else:
        zoo_block = config.get("zoo")
        name, stem = architecture, str(zoo_block.get("stem", "stock")) if isinstance(zoo_block, dict) else "stock"
        args = {key: value for key, value in args.items() if key != "num_classes"}
        model, kept = build_timm(name, False, num_classes=dim, **args), args
    weights = _part(folder, WEIGHTS)
    with explained(f"cannot read the weights in {weights}", safetensors.SafetensorError, OSError):
        tensors = safetensors.torch.load_file(weights)
    with explained(f"{weights} does not fit {name} as {CONFIG} describes it", RuntimeError):
        model.load_state_dict(tensors)
    return with_blueprint(model, name, stem, dim, image_size, architecture, kept).eval()


def normalise(crops: torch.Tensor, spec: InputSpec) -> torch.Tensor:
    """The model's input for RGB crops: (batch, H, W, 3) uint8 → (batch, 3, H, W) float32, on the crops' device."""
    planes = crops.permute(0, 3, 1, 2).float()
    if spec.channel_order == "BGR":
        planes = planes.flip(1)
    return planes.sub_(_per_channel(spec.mean, planes.device)).div_(_per_channel(spec.std, planes.device))


@functools.lru_cache(maxsize=8)
def _per_channel(scale: float | tuple[float, ...], device: torch.device) -> torch.Tensor:
    """A mean or deviation over (batch, 3, H, W); kept, because the host would wait for the copy of it."""
    return torch.tensor(scale, device=device).reshape(-1, 1, 1)


class TorchEmbedder:
    """Crops → embeddings by a torch model in evaluation mode: the counterpart of zoo.inference's OnnxEmbedder."""

    def __init__(self, model: nn.Module, spec: InputSpec, device: torch.device | str = "cpu") -> None:
        self.model, self.input, self.device = model, spec, torch.device(device)

    @torch.inference_mode()
    def __call__(self, crops: Crops) -> npt.NDArray[np.float32]:
        """(batch, H, W, 3) RGB uint8 → (batch, dim) float32, not normalised. The model's mode stays as it was."""
        pixels = normalise(torch.from_numpy(np.ascontiguousarray(crops)).to(self.device), self.input)
        embeddings: npt.NDArray[np.float32] = features_of(self.model, pixels, call=self.model).float().cpu().numpy()
        return embeddings


class TorchFolder(TorchEmbedder):
    """A model folder in timm's layout as an embedder: the twin of `zoo.inference.session.OnnxEmbedder`.

    `device` is auto, cpu, cuda or cuda:N; `threads` the number of CPU threads (default: torch's own). Crops of another
    size are resized and noted, unless `strict` refuses them. InputError for a GPU that torch does not find.
    """

    precision = "float32"
    stated = True

    def __init__(
        self, folder: str | Path, device: str = "auto", threads: int | None = None, strict: bool = False
    ) -> None:
        if device not in ("auto", "cpu") and not device.startswith("cuda"):
            raise InputError(f"expected the device auto, cpu, cuda or cuda:1 for PyTorch, found {device!r}")
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise InputError(f"expected to run on {device}, but PyTorch finds no CUDA GPU; use --device cpu or auto")
        if threads:
            torch.set_num_threads(threads)
        self.path = Path(folder) / WEIGHTS
        self.info: ModelInfo | None = model_info(folder)
        self.strict = strict
        chosen = device.replace("auto", "cuda" if torch.cuda.is_available() else "cpu")
        super().__init__(load_timm(folder).to(chosen), self.info.input, chosen)
        self.embedding_dim, self.model_sha256 = self.info.embedding_dim, sha256(self.path)
        self.provider = f"torch {torch.__version__} {chosen}"
        self.notes = [f"computed by PyTorch {torch.__version__} on {chosen}"]

    def __call__(self, crops: Crops) -> npt.NDArray[np.float32]:
        """Raw embeddings (batch, dim) of RGB uint8 crops (batch, H, W, 3); other sizes are resized and noted."""
        crops, note = resized_crops(crops, self.input.size, self.path.parent, self.strict)
        if note and note not in self.notes:
            self.notes.append(note)
        return super().__call__(crops)
