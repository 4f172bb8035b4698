"""What a face model expects and what is known of it: the facts that travel with every model file."""

import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError, explained

Crops = npt.NDArray[np.uint8]  #: Aligned face crops: RGB uint8 of shape (batch, height, width, 3)
Scale = float | tuple[float, float, float]  #: A number for every channel, or one for each
_hints = cache(typing.get_type_hints)


def typed(kind: Any, value: Any) -> Any:
    """The `kind` (a dataclass, a collection or a scalar, as hinted) that JSON of this or a later version holds.

    A dataclass reads itself with its classmethod `unpacked`, where it has one. What a later version adds is ignored,
    and null is NaN where a number belongs. Else TypeError, ValueError, KeyError, AttributeError or OverflowError.
    """
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if types.NoneType in args and (value is None or value == {}):
            return None
        several = isinstance(value, list | tuple)
        return typed(next((arg for arg in args if (typing.get_origin(arg) is tuple) == several), args[0]), value)
    if is_dataclass(kind):
        return kind.unpacked(value) if hasattr(kind, "unpacked") else with_types(kind, value)
    if origin in (tuple, Sequence) and isinstance(value, list | tuple):
        each = args[:1] * len(value) if origin is Sequence or args[-1] is Ellipsis else args
        return tuple(typed(arg, item) for arg, item in zip(each, value, strict=True))
    if origin in (dict, Mapping):
        return {args[0](key): typed(args[1], item) for key, item in value.items()}
    if kind is float and (value is None or (isinstance(value, int) and not isinstance(value, bool))):
        return math.nan if value is None else float(value)
    if kind is Any or (origin is None and isinstance(value, kind) and not (kind is int and isinstance(value, bool))):
        return value
    raise TypeError(f"expected {kind.__name__}, found {value!r}")


def with_types(kind: Any, held: Mapping[str, Any]) -> Any:
    """The dataclass `kind` of those held values that are its fields; a field of `metadata` written=False is none."""
    known = {one.name: _hints(kind)[one.name] for one in fields(kind) if one.metadata.get("written", True)}
    return kind(**{name: typed(known[name], item) for name, item in held.items() if name in known})


@dataclass(frozen=True)
class InputSpec:
    """How a crop becomes a model's input: (x − mean) / std per channel, in the order given."""

    size: tuple[int, int] = (112, 112)  #: (height, width) in pixels
    mean: Scale = 127.5  #: Subtracted from every 8-bit value; three numbers for channels of their own, in that order
    std: Scale = 127.5  #: Divided by, after the subtraction; likewise
    channel_order: str = "RGB"  #: "RGB", or "BGR" for some third-party models
    alignment: str = "arcface-5-points"  #: The template of five landmarks that crops are aligned to

    def __post_init__(self) -> None:
        if self.channel_order not in ("RGB", "BGR"):
            raise InputError(f"expected the channel order RGB or BGR, found {self.channel_order!r}")
        if len(self.size) != 2 or min(self.size) < 1:
            raise InputError(f"expected an input size (height, width) of positive pixels, found {self.size}")
        if any(isinstance(scale, tuple) and len(scale) != 3 for scale in (self.mean, self.std)):
            raise InputError(f"expected a number or one for each channel, found {self.mean} and {self.std}")
        if not (np.all(np.asarray(self.std) > 0) and np.isfinite(self.mean).all() and np.isfinite(self.std).all()):
            raise InputError(f"expected a positive input std and a finite mean, found {self.std} and {self.mean}")

    @property
    def scaling(self) -> str:
        """How a value becomes input, in words: (x − 127.5) / 127.5."""
        mean, std = (
            f"{scale:g}" if not isinstance(scale, tuple) else f"({', '.join(f'{one:.4g}' for one in scale)})"
            for scale in (self.mean, self.std)
        )
        return f"(x − {mean}) / {std}"

    def to_input(self, crops: Crops) -> npt.NDArray[np.float32]:
        """RGB uint8 crops (batch, H, W, 3) → contiguous float32 (batch, 3, H, W); ValueError for other crops."""
        if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != (*self.size, 3):
            found = f"found {crops.dtype} of shape {crops.shape}"
            raise InputError(f"expected RGB uint8 crops of shape (batch, {self.size[0]}, {self.size[1]}, 3), {found}")
        ordered = crops[..., ::-1] if self.channel_order == "BGR" else crops
        planes = np.ascontiguousarray(ordered.transpose(0, 3, 1, 2), dtype=np.float32)
        planes -= np.array(self.mean, np.float32).reshape(-1, 1, 1)
        planes /= np.array(self.std, np.float32).reshape(-1, 1, 1)
        return planes


@dataclass(frozen=True)
class Threshold:
    """A similarity threshold and everything that it holds for."""

    far: float  #: The false accept rate that was asked for, a fraction
    threshold: float  #: A pair is accepted when its cosine similarity is greater
    protocol: str  #: The protocol's name, e.g. "pairs".
    data: str  #: The benchmark's name
    data_sha256: str  #: The hash of the benchmark's file
    negatives: int  #: How many different-person pairs were scored
    false_accepts: int  #: How many of them lie above the threshold
    far_interval: tuple[float, float]  #: The exact binomial 95 % interval of the false accept rate
    flip: bool  #: Whether the embedding is the sum over the crop and its mirror image
    precision: str = "float32"  #: The arithmetic of the model that was measured
    detector: str = "none (aligned crops)"  #: What found and aligned the faces
    alignment: str = "arcface-5-points"  #: The landmark template
    model_sha256: str = ""  #: The hash of the model's graph and weights without metadata


@dataclass(frozen=True)
class Origin:
    """Where a model that others trained comes from, as far as it is known; empty strings where it is not stated."""

    name: str  #: Its name in the catalogue, or the file's
    file: str  #: The file that it was made of, e.g. owner/name:FILE.
    sha256: str  #: The hash of that file
    convention: str  #: Whose input convention it was taken to have, and where that is stated
    authors: str = ""
    paper: str = ""
    license: str = ""  #: The license of the weights
    license_link: str = ""
    data_license: str = ""
    consent: str = ""  #: Whether the people in the training data agreed
    stated: dict[str, float] = field(default_factory=dict)  #: What its authors measured, as fractions, by benchmark
    stated_from: str = ""
    leftovers: tuple[str, ...] = ()  #: The tensors of the file that have no share in the embedding and were left


ANOTHER = "expected the model facts that zoo writes, found something else"


@dataclass(frozen=True)
class ModelInfo:
    """The facts of one model: an ONNX file's metadata and the `zoo` block of config.json."""

    embedding_dim: int  #: The embedding's dimension
    input: InputSpec = field(default_factory=InputSpec)  #: How crops become input
    backbone: str = ""  #: The timm name
    neck: str = ""  #: flat, gap or native
    stem: str = ""  #: face or stock
    head: str = ""  #: The margin head's name and its options, e.g. "arcface(scale=64.0, margin=0.5)".
    training_set: str = ""  #: What it was trained on, with the number of identities and images
    license: str = ""  #: The license of the weights; empty where none was chosen
    commit: str = ""  #: The git commit of the code that trained it; empty outside a checkout
    parity: dict[str, Any] = field(default_factory=dict)  #: What the export proved, by batch: cosine, max_abs, …
    quantisation: dict[str, Any] = field(default_factory=dict)
    """How a float16 or int8 file was made: precision, calibration, layers kept in float32; empty for float32."""
    thresholds: tuple[Threshold, ...] = ()  #: Measured thresholds, smallest false accept rate first
    origin: Origin | None = None  #: Where the weights come from, if others trained them
    worth: str = ""  #: What was measured of a model that is too weak for verdicts; empty for others

    def to_json(self) -> str:
        """One line of JSON with sorted keys, the same for the same facts."""
        return json.dumps(asdict(self), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The facts written by `to_json`; ValueError with the reason where the text is something else."""
        with explained(ANOTHER, ValueError, RecursionError):
            return cls.unpacked(json.loads(text))

    @classmethod
    def unpacked(cls, facts: Mapping[str, Any]) -> Self:
        """The facts in JSON of `to_json`, whatever else it holds: whoever made the file may have written anything."""
        with explained(ANOTHER, TypeError, ValueError, KeyError, AttributeError, OverflowError, RecursionError):
            if "licence" in facts:  # the spelling of files written before this one
                facts = {"license": facts["licence"], **facts}
            info: Self = with_types(cls, facts)
            for batch, figures in info.parity.items():
                if not all(map(math.isfinite, (int(batch), figures["cosine"], figures["max_abs"]))):
                    raise TypeError(f"parity is {figures!r}")
            if info.quantisation:
                typed(tuple[str, ...], info.quantisation.get("kept_in_float32", []))
                typed(tuple[str, str], [info.quantisation["precision"], info.quantisation.get("method", "")])
            json.dumps(asdict(info), ensure_ascii=False, allow_nan=False).encode()  # finite, and can be printed
            return info
