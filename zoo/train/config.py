"""All options of a training run: one frozen record, from which `zoo train`'s flags and a run's config.yaml are made."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import asdict, field, fields
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from zoo.errors import InputError, unknown_name
from zoo.files import write_text

RECIPES = Path(__file__).resolve().parent.parent / "recipes"


@dataclass(frozen=True, config=ConfigDict(extra="forbid", use_attribute_docstrings=True))
class TrainConfig:
    """What a run is made of. Everything that decides its weights is here; `config.yaml` in the run repeats it."""

    backbone: str = "resnet18"
    """Any timm model name, or one of ours (`zoo list backbones`)."""
    head: str = "recurricularface"
    """The margin head (`zoo list heads`)."""
    head_options: dict[str, bool | int | float | str] = field(default_factory=dict)
    """The head's options, e.g. `--set head_options.margin=0.3`; its own defaults where not given."""
    data: str = "synthetic"
    """Training faces: a RecordIO folder, a folder of people's folders, … (docs/data.md), or `synthetic`."""
    min_images: int = 1
    """People with fewer images are left out."""
    max_images: int | None = None
    """Of each person the first so many images are used; all when not set."""
    on_corrupt: Literal["error", "skip"] = "error"
    """At a damaged image: stop and name it, or take the next sound one in its place and count it."""
    validation: str = "auto"
    """A `.bin` of pairs scored after each epoch, `synthetic`, or `none`; `auto`: synthetic for
    synthetic data, else none."""
    embedding_dim: int = 512
    """Length of the embedding."""
    stem: Literal["face", "stock"] = "face"
    """`face`: total stride 16, a 7×7 final map at 112×112; `stock`: timm's own, four times faster and less accurate."""
    neck: Literal["auto", "flat", "gap", "native"] = "auto"
    """From the final map to the embedding: `flat`, `gap` or `native` (timm's classifier); `auto`: flat while small."""
    dropout: float = 0.0
    """Drop probability in the flat neck, a fraction."""
    init: str = "none"
    """Weights to start from: `timm` (its pretrained ones), or a run folder or Hub id of the same backbone."""
    freeze: tuple[str, ...] = ()
    """Beginnings of parameter names that stay as they are, e.g. `--set "freeze=[body.conv1, body.layer1]"`."""
    centres: dict[str, bool | int | float | str] = field(default_factory=dict)
    """Options of the class centres, e.g. `--set centres.sample_rate=0.1`; see docs/heads.md."""
    epochs: int = 34
    """Passes over the training images."""
    batch_size: int = 512
    """Images a step over all processes together."""
    accumulate: int = 1
    """Forward and backward passes that share one step, each with batch_size / accumulate images."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with Nesterov momentum, or AdamW."""
    lr: float = 0.1
    """Peak learning rate."""
    momentum: float = 0.9
    """SGD's momentum."""
    weight_decay: float = 5e-4
    """Weight decay, on every parameter and on the class centres."""
    schedule: Literal["multistep", "cosine", "constant"] = "multistep"
    """How the learning rate falls after the warm-up."""
    milestones: tuple[int, ...] | None = None
    """Epochs at whose start `multistep` multiplies the learning rate by `decay`; when not set, at the paper's
    20/34, 28/34 and 32/34 of the run."""
    decay: float = 0.1
    """multistep's factor."""
    warmup_epochs: float = 0.0
    """Epochs of linear warm-up from lr / 100."""
    clip_norm: float | None = None
    """Largest gradient norm over backbone and centres together; none when not set."""
    straight_through: bool = False
    """Give the margin the gradient of the plain cosine, as insightface does; the default is the exact gradient."""
    augment: str = "flip"
    """Augmentation preset."""
    precision: Literal["fp32", "bf16", "fp16", "fp64"] = "fp32"
    """Arithmetic of the backbone; cosines and centres stay in fp32 (fp64, all of it, is for tests of exactness)."""
    channels_last: bool = False
    """Store feature maps channels-last, which GPUs with tensor cores prefer."""
    compile: bool = False
    """Compile the backbone by torch.compile."""
    sync_bn: bool = False
    """Batch statistics over all processes together; else they are those of rank 0."""
    ema: float | None = None
    """Decay of an exponential moving average of the weights, which is then validated and saved; none when not set."""
    seed: int = 0
    """Decides initial weights, order, augmentation and dropout."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    workers: int | None = None
    """Loader processes; when not set, as many as the cores that training leaves."""
    threads: int | None = None
    """CPU threads of torch; its own default when not set."""
    log_every: int = 10
    """Steps between two lines of metrics.jsonl; the host waits for the device only then."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; when not set, one an epoch."""
    checkpoint_minutes: float | None = None
    """Minutes without a checkpoint after which there is one more, at the latest with the next log line."""
    keep: int = 2
    """Checkpoints kept, beside the one that did best on the validation."""
    log: Literal["none", "tensorboard"] = "none"
    """What is written beside metrics.jsonl: `tensorboard` writes event files into the run's folder of that name."""
    curves: bool = True
    """Draw the run's curves.html anew after each epoch."""
    skip_nonfinite: int = 0
    """Non-finite steps, whose update is withheld, that are tolerated before the run stops."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "embedding_dim", "accumulate", "log_every", "keep"):
            require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        require(self.lr > 0, "lr", "a positive learning rate", self.lr)
        require(0 <= self.momentum < 1, "momentum", "a fraction in [0, 1)", self.momentum)
        require(0 <= self.dropout < 1, "dropout", "a fraction in [0, 1)", self.dropout)
        require(self.weight_decay >= 0, "weight-decay", "0 or more", self.weight_decay)
        require(self.ema is None or 0 < self.ema < 1, "ema", "a fraction in (0, 1)", self.ema)
        require(self.clip_norm is None or self.clip_norm > 0, "clip-norm", "a positive norm", self.clip_norm)
        require(self.workers is None or self.workers >= 0, "workers", "0 or more", self.workers)
        require(self.threads is None or self.threads >= 1, "threads", "at least 1", self.threads)
        require(self.min_images >= 1, "min-images", "at least 1", self.min_images)
        require(
            self.max_images is None or self.max_images >= self.min_images,
            "max-images",
            f"at least --min-images {self.min_images}",
            self.max_images,
        )
        every, minutes = self.checkpoint_every, self.checkpoint_minutes
        require(every is None or every >= 1, "checkpoint-every", "at least 1 step", every)
        require(minutes is None or minutes > 0, "checkpoint-minutes", "a positive number of minutes", minutes)
        require(
            0 <= self.warmup_epochs < self.epochs,
            "warmup-epochs",
            f"less than the {self.epochs} epochs",
            self.warmup_epochs,
        )
        require(
            self.batch_size % self.accumulate == 0,
            "accumulate",
            f"a divisor of the batch size {self.batch_size}",
            self.accumulate,
        )
        late = [m for m in self.milestones or () if not 0 < m < self.epochs]
        require(not late, "milestones", f"epochs between 1 and {self.epochs - 1}", late)
        if self.precision == "fp16" and self.device == "cpu":
            raise InputError(
                "expected --precision fp32 or bf16 on the CPU, found fp16, which only GPUs compute; use bf16"
            )

    def decay_epochs(self) -> list[int]:
        """The epochs (counted from 0) at whose start `multistep` lowers the learning rate.

        >>> TrainConfig(epochs=34).decay_epochs(), TrainConfig(epochs=12).decay_epochs()
        ([20, 28, 32], [7, 10, 11])
        """
        if self.milestones is not None:
            return sorted(self.milestones)
        return sorted({round(self.epochs * part / 34) for part in (20, 28, 32)} - {0, self.epochs})


def require(holds: bool, option: str, expected: str, found: object) -> None:
    """Refuses an option's value, in the spelling of its flag."""
    if not holds:
        raise InputError(f"expected --{option.replace('_', '-')} to be {expected}, found {found}")


@functools.cache
def hints() -> dict[str, Any]:
    """The type of every option."""
    return typing.get_type_hints(TrainConfig)


@functools.cache
def descriptions() -> dict[str, str]:
    """The docstring of every option."""
    described = TypeAdapter(TrainConfig).json_schema()["properties"]
    return {field.name: described[field.name].get("description", "") for field in fields(TrainConfig)}


def set_option(values: dict[str, Any], assignment: str) -> None:
    """Applies `key=value` (the value read as YAML, `a.b=…` for a dictionary's entry) to `values`, in place.

    >>> values = {}
    >>> set_option(values, "lr=0.05"); set_option(values, "head_options.margin=0.3"); values
    {'lr': 0.05, 'head_options': {'margin': 0.3}}
    """
    key, equals, text = assignment.partition("=")
    if not equals:
        raise InputError(f"expected --set key=value, found {assignment!r}; write for example --set lr=0.05")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"expected a YAML value in --set {key}=…, found {text!r}") from None
    *parents, last = key.replace("-", "_").split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
    values[last] = value


def build(values: Mapping[str, Any]) -> TrainConfig:
    """The configuration of these options; InputError for an unknown name (closest ones first) or a wrong type."""
    known = {field.name for field in fields(TrainConfig)}
    for name in values:
        if name not in known:
            raise unknown_name("training option", name, known)
    try:
        return TypeAdapter(TrainConfig).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, InputError):  # from __post_init__, which speaks for itself
            raise cause from None
        where = ".".join(str(part) for part in first["loc"][:1])
        raise InputError(
            f"expected --{where.replace('_', '-')} to be {spelled(hints().get(where))}, found {first['input']!r}"
        ) from None


def spelled(hint: Any) -> str:
    """A type as a user reads it.

    >>> spelled(float | None), spelled(Literal["a", "b"])
    ('a number or none', 'a or b')
    """
    if typing.get_origin(hint) is Literal:
        return " or ".join(map(str, typing.get_args(hint)))
    if isinstance(hint, types.UnionType):
        return " or ".join(spelled(part) for part in typing.get_args(hint))
    words = {
        int: "a whole number",
        float: "a number",
        str: "a text",
        bool: "true or false",
        type(None): "none",
    }
    return words.get(hint, str(hint).replace("typing.", ""))


def recipes() -> list[str]:
    """The names of the packaged recipes."""
    return sorted(file.stem for file in RECIPES.glob("*.yaml"))


def load_yaml(path: Path) -> dict[str, Any]:
    """The options in a YAML file; InputError where it is no mapping."""
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise InputError(f"expected a file of training options at {path}, found none") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"expected a YAML file of training options at {path}, found {type(error).__name__}") from None
    if not isinstance(content, dict):
        raise InputError(f"expected `option: value` lines in {path}, found {type(content).__name__}")
    return content


def load_recipe(name: str) -> dict[str, Any]:
    """The options of a packaged recipe, or of a YAML file."""
    if name.endswith((".yaml", ".yml")):
        return load_yaml(Path(name))
    if name not in recipes():
        raise unknown_name("recipe", name, recipes())
    return load_yaml(RECIPES / f"{name}.yaml")


def load_config(path: Path) -> TrainConfig:
    """The configuration saved in a run."""
    return build(load_yaml(path))


def save_config(config: TrainConfig, path: Path) -> None:
    """Writes `config` as YAML, whole or not at all."""
    write_text(path, yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True))


def plain(config: TrainConfig) -> dict[str, Any]:
    """`config` as lists, dictionaries, numbers and texts."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config).items()}


HARMLESS = frozenset(
    {
        *("log_every", "log", "curves", "validation", "checkpoint_every", "checkpoint_minutes", "keep"),
        *("workers", "threads", "device"),
    }
)
"""Options that may change on --resume: they do not decide the weights (threads and device only to rounding)."""


def changes(before: TrainConfig, after: TrainConfig) -> Iterable[str]:
    """The options that decide the weights and differ."""
    old, new = plain(before), plain(after)
    return [name for name in old if name not in HARMLESS and old[name] != new[name]]
