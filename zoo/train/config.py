"""All options of a training run: one frozen record, from which `zoo train`'s flags and a run's config.yaml are made.

What else is true of an option, such as whether it may change on --resume, stands at its field too, as an `Option`.
"""

import typing
from collections.abc import Callable, Mapping
from dataclasses import asdict, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from zoo.errors import InputError, unknown_name
from zoo.files import write_text
from zoo.messages import log
from zoo.modelinfo import InputSpec
from zoo.train.typed import Option, load_yaml, read, shown, spelled

Scalar = bool | int | float | str | None  #: What an option of the head or of the class centres may be


@dataclass(frozen=True, config=ConfigDict(extra="forbid", use_attribute_docstrings=True))
class TrainConfig:
    """What a run is made of. Everything that decides its weights is here; `config.yaml` in the run repeats it."""

    backbone: str = "resnet18"
    """Any timm model, or one of zoo's own (`zoo list backbones`)."""
    head: Annotated[str, Option(listed=True, varied=True, grid_flag="--heads")] = "recurricularface"
    """Margin head (`zoo list heads`)."""
    head_options: dict[str, Scalar] = field(default_factory=dict)
    """Options of the head, e.g. `--set head_options.margin=0.3`; the others keep the head's own defaults."""
    data: Annotated[str, Option(listed=True, mendable=True, told=False, grid_flag="--data")] = "synthetic"
    """Training set: a RecordIO folder, a folder with one sub-folder per person, … (docs/data.md), or `synthetic`;
    several have commas between, and weights behind them: `a/?weight=0.5,b/`."""
    min_images: int = 1
    """Leave out people with fewer images."""
    max_images: int | None = None
    """Use only the first N images of each person; all of them if not set."""
    on_corrupt: Annotated[Literal["error", "skip"], Option(listed=True, mendable=True)] = "error"
    """At a damaged image, `error` stops and names it; `skip` counts it and uses the next intact one instead."""
    validation: Annotated[str, Option(listed=True, resumable=True, told=False)] = "auto"
    """Benchmarks measured after each epoch: a `.bin`, a list of pairs, an IJB folder or one with several, more with
    commas between, `synthetic` or `none`; `auto` is `synthetic` for synthetic training data, else `none`. The best
    model is that of the best mean AUC."""
    validate_every: Annotated[int | None, Option(resumable=True, told=False)] = None
    """Steps between validations; if not set, one per epoch."""
    held_out: int = 0
    """People kept out of the training, the same ones in every run, whose pairs are a benchmark of `validation`."""
    embedding_dim: Annotated[int, Option(listed=True)] = 512
    """Dimension of the embedding."""
    stem: Annotated[Literal["face", "stock"], Option(listed=True)] = "face"
    """`face`: total stride 16, a 7×7 final map at 112×112; `stock`: timm's own, four times faster and less accurate."""
    image_size: Annotated[int, Option(listed=True)] = 112
    """Height and width of the input in pixels; pictures of another size are scaled to it."""
    backbone_options: dict[str, Scalar] = field(default_factory=dict)
    """Further arguments of timm's constructor, e.g. `--set backbone_options.drop_path_rate=0.1`."""
    grad_checkpointing: bool = False
    """Compute the blocks of the backbone again in the backward pass: less memory, a third more time."""
    neck: Annotated[Literal["auto", "flat", "gap", "native"], Option(listed=True)] = "auto"
    """From the final map to the embedding: `flat`, `gap` or `native` (timm's classifier); `auto` is `flat` while that
    is small."""
    dropout: float = 0.0
    """Drop probability in the flat neck, a fraction."""
    init: Annotated[str, Option(told=False)] = "none"
    """Weights to start from: `timm` (its pretrained ones), or any MODEL with the same backbone, stem, neck and
    dimension."""
    init_centres: bool = False
    """Start the class centres of people whom the run of `init` was trained on as well with those that it has."""
    head_epochs: float = 0.0
    """Epochs at the start in which the class centres learn alone and the backbone stays as it is."""
    low_rank: int = 0
    """Train adapters of this rank beside the linear layers of a transformer, and its neck, in place of all weights;
    the saved model has them merged. 0: all weights."""
    mean: float | tuple[float, float, float] = 127.5
    """Subtracted from the pixels, 0 to 255; a list for a number a channel. `init` brings its own."""
    std: float | tuple[float, float, float] = 127.5
    """Divided by, after that."""
    channel_order: Literal["RGB", "BGR"] = "RGB"
    """The order of the input's channels."""
    freeze: tuple[str, ...] = ()
    """Prefixes of the names of parameters that are not trained, e.g. `--set "freeze=[body.conv1, body.layer1]"`."""
    centres: dict[str, Scalar] = field(default_factory=dict)
    """Options of the class centres, e.g. `--set centres.sample_rate=0.1` (docs/heads.md)."""
    epochs: Annotated[int, Option(listed=True)] = 34
    """Passes over the training images."""
    batch_size: Annotated[int, Option(listed=True)] = 512
    """Images per step, over all processes together."""
    accumulate: int = 1
    """Forward and backward passes per step, each with batch_size / accumulate images."""
    optimizer: Annotated[Literal["sgd", "adamw"], Option(listed=True)] = "sgd"
    """SGD with Nesterov momentum, or AdamW."""
    lr: Annotated[float, Option(listed=True, mendable=True)] = 0.1
    """Peak learning rate."""
    centre_lr: Annotated[float | None, Option(mendable=True)] = None
    """Peak learning rate of the class centres; that of the backbone if not set."""
    layer_decay: float = 1.0
    """Factor of the learning rate from each layer to the one before it: below 1, early layers change less."""
    momentum: float = 0.9
    """SGD's momentum."""
    weight_decay: float = 5e-4
    """Weight decay, on every parameter and on the class centres."""
    decay_norms: bool = True
    """Weight decay on biases and norms as well."""
    schedule: Annotated[Literal["multistep", "cosine", "polynomial", "constant"], Option(listed=True)] = "multistep"
    """How the learning rate falls after the warm-up; `polynomial` to (1 − part done)^power, as arcface_torch does."""
    power: float = 1.0
    """Exponent of `polynomial`."""
    milestones: tuple[int, ...] | None = None
    """Epochs at whose start `multistep` multiplies the learning rate by `decay`; if not set, the paper's 20/34, 28/34
    and 32/34 of the run."""
    decay: float = 0.1
    """Factor by which `multistep` multiplies the learning rate."""
    warmup_epochs: float = 0.0
    """Epochs of linear warm-up from lr / 100, after those of `head_epochs`."""
    clip_norm: Annotated[float | None, Option(mendable=True)] = None
    """Largest gradient norm over backbone and centres together; no clipping if not set."""
    margin_epochs: float = 0.0
    """Epochs at the start in which the head's margin grows from 0 (SphereFace's from 1) to its value, step by step."""
    teacher: Annotated[str, Option(told=False)] = ""
    """Another MODEL (an ONNX file, a run, …) of the same embedding dimension, whose embeddings of the training pictures
    are targets as well; the class centres start at the means of a person's."""
    teacher_loss: Literal["cosine", "logits"] = "cosine"
    """What is compared with the teacher: the cosine of the embeddings, or the softmax over the class centres."""
    teacher_weight: float | None = None
    """Factor of the loss against the teacher. If not set, it pulls as a label does: the head's scale for `cosine`,
    and 1 for `logits`, which are scaled already."""
    label_weight: float = 1.0
    """Factor of the loss against the labels; 0 learns from the teacher alone."""
    straight_through: bool = False
    """Give the margin the gradient of the plain cosine, as insightface does; by default the gradient is exact."""
    augment: Annotated[str, Option(listed=True)] = "flip"
    """Augmentation: `none`, `flip`, `adaface`, `strong`, or a YAML file of albumentations."""
    precision: Annotated[Literal["auto", "fp32", "bf16", "fp16", "fp64"], Option(listed=True, mendable=True)] = "auto"
    """Arithmetic of the backbone; `auto` is bf16 where the processor has instructions for it, else fp32. Cosines and
    centres stay in fp32 (fp64 throughout is for tests of exactness)."""
    channels_last: bool = True
    """Store feature maps channels-last, which is faster for convolutions on GPUs and CPUs."""
    deterministic: Annotated[bool, Option(mendable=True)] = False
    """Allow only algorithms that add in a fixed order, so that a run on a GPU repeats bit for bit; slower."""
    compile: bool = False
    """Compile the backbone with torch.compile."""
    cuda_graphs: bool = False
    """Replay the compiled backbone as CUDA graphs: for small models and batches, whose kernels take a GPU less time
    than the host takes to launch them."""
    sync_bn: bool = False
    """Compute batch statistics over all processes together; otherwise those of rank 0 are used."""
    ema: float | None = None
    """Decay of an exponential moving average of the weights, which is then validated and saved; none if not set."""
    seed: Annotated[int, Option(listed=True, varied=True, grid_flag="--seeds")] = 0
    """Decides initial weights, order, augmentation and dropout."""
    device: Annotated[str, Option(listed=True, resumable=True, told=False)] = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    workers: Annotated[int | None, Option(listed=True, resumable=True, told=False)] = None
    """Loader processes; if not set, the cores that training leaves free."""
    threads: Annotated[int | None, Option(resumable=True, told=False)] = None
    """CPU threads of torch; its own default if not set."""
    log_every: Annotated[int, Option(resumable=True, told=False)] = 10
    """Steps between two lines of metrics.jsonl; the host waits for the device only then."""
    checkpoint_every: Annotated[int | None, Option(resumable=True, told=False)] = None
    """Steps between checkpoints; if not set, one per epoch."""
    checkpoint_minutes: Annotated[float | None, Option(resumable=True, told=False)] = None
    """Minutes without a checkpoint after which the next log line writes one."""
    keep: Annotated[int, Option(resumable=True, told=False)] = 2
    """Checkpoints kept, besides the one with the best validation."""
    log: Annotated[
        Literal["none", "tensorboard", "wandb", "mlflow"], Option(listed=True, resumable=True, told=False)
    ] = "none"
    """Where the figures of metrics.jsonl go as well; `tensorboard` writes event files into the run's folder."""
    keep_epochs: Annotated[bool, Option(resumable=True, told=False)] = False
    """Keep the weights of every epoch, as epoch-001/ and so on in the run's folder."""
    curves: Annotated[bool, Option(resumable=True, told=False)] = True
    """Draw the run's curves.html anew after each epoch."""
    patience_minutes: Annotated[float, Option(resumable=True, told=False)] = 30.0
    """Minutes that a process of several waits for the others before it says which one is missing, and stops."""
    fsdp: Annotated[bool, Option(resumable=True, told=False)] = False
    """Shard the weights, gradients and optimizer of a large transformer over the processes (FSDP2), which share a
    model otherwise too large for each of them."""
    gather: Annotated[bool, Option(resumable=True, told=False)] = False
    """For machines without a common file system: the first process keeps the checkpoints of all, and hands them out
    again on a resume."""
    skip_nonfinite: Annotated[int, Option(mendable=True)] = 0
    """Non-finite steps, whose update is withheld, that are tolerated before the run stops."""

    def __post_init__(self) -> None:
        for expected, holds, names in REQUIRED:
            for name in names:
                value = getattr(self, name)
                self._require(name, value is None or holds(value), expected)
        enough = self.max_images is None or self.max_images >= self.min_images
        self._require("max_images", enough, f"at least --min-images {self.min_images}")
        left = self.epochs - self.head_epochs
        self._require("head_epochs", self.head_epochs >= 0 and left > 0, f"less than the {self.epochs} epochs")
        self._require("warmup_epochs", 0 <= self.warmup_epochs < left, f"less than the {left:g} epochs")
        self._require("margin_epochs", 0 <= self.margin_epochs <= self.epochs, f"at most the {self.epochs} epochs")
        learns = self.label_weight > 0 or (self.label_weight == 0 and self.teacher != "" and self.head_epochs == 0)
        self._require("label_weight", learns, "a positive number, or 0 with a --teacher and without --head-epochs")
        from_run = self.init not in ("none", "timm")
        alone = self.ema is None and not self.low_rank and self.precision != "fp16" and self.optimizer == "adamw"
        told = "false without --optimizer adamw or with --ema or --low-rank or fp16"
        self._require("fsdp", alone or not self.fsdp, told)
        self._require("gather", not (self.gather and self.teacher), "false with a --teacher, whose file all must see")
        self._require("init_centres", from_run or not self.init_centres, "false without an --init that is a run")
        divides = self.batch_size % self.accumulate == 0
        self._require("accumulate", divides, f"a divisor of the batch size {self.batch_size}")
        suits = not self.cuda_graphs or (self.compile and self.accumulate == 1)
        self._require("cuda_graphs", suits, "false without --compile and where --accumulate is above 1")
        within = all(0 < milestone < self.epochs for milestone in self.milestones or ())
        self._require("milestones", within, f"epochs between 1 and {self.epochs - 1}")

    @property
    def input(self) -> InputSpec:
        """What the model is trained on."""
        size = (self.image_size, self.image_size)
        return InputSpec(size=size, mean=self.mean, std=self.std, channel_order=self.channel_order)

    def _require(self, option: str, holds: bool, expected: str) -> None:
        if not holds:
            raise InputError(f"expected {flag(option)} to be {expected}, found {shown(getattr(self, option))}")

    def decay_epochs(self) -> list[int]:
        """The epochs (counted from 0) at whose start `multistep` lowers the learning rate.

        >>> TrainConfig(epochs=34).decay_epochs(), TrainConfig(epochs=12).decay_epochs()
        ([20, 28, 32], [7, 10, 11])
        """
        if self.milestones is not None:
            return sorted(self.milestones)
        return sorted({round(self.epochs * part / 34) for part in (20, 28, 32)} - {0, self.epochs})


REQUIRED: tuple[tuple[str, Callable[[Any], bool], tuple[str, ...]], ...] = (
    ("at least 1", lambda n: n >= 1, ("epochs", "batch_size", "embedding_dim", "accumulate", "min_images", "threads")),
    ("at least 1", lambda n: n >= 1, ("checkpoint_every", "validate_every", "log_every", "keep")),
    ("0 or more", lambda n: n >= 0, ("low_rank", "weight_decay", "workers", "skip_nonfinite", "seed", "held_out")),
    ("a positive learning rate", lambda rate: rate > 0, ("lr", "centre_lr")),
    ("a positive number", lambda x: x > 0, ("teacher_weight", "power")),
    ("a positive norm", lambda norm: norm > 0, ("clip_norm",)),
    ("a positive number of minutes", lambda minutes: minutes > 0, ("checkpoint_minutes", "patience_minutes")),
    ("a fraction in (0, 1]", lambda part: 0 < part <= 1, ("layer_decay", "decay")),
    ("a fraction in [0, 1)", lambda part: 0 <= part < 1, ("momentum", "dropout")),
    ("a fraction in (0, 1)", lambda part: 0 < part < 1, ("ema",)),
)  #: What is expected of an option on its own, in words and as a function, and the options of which it is; None passes

OPTIONS: dict[str, Option] = {
    name: next((fact for fact in typing.get_args(hint)[1:] if isinstance(fact, Option)), Option())
    for name, hint in typing.get_type_hints(TrainConfig, include_extras=True).items()
}  #: Every training option, in the order of declaration
HINTS: dict[str, Any] = typing.get_type_hints(TrainConfig)  #: The type of every option
DESCRIPTIONS: dict[str, str] = {
    name: " ".join((one.description or "").split()) for name, one in vars(TrainConfig)["__pydantic_fields__"].items()
}  #: The docstring of every option, in one line


def option_names(**facts: object) -> tuple[str, ...]:
    """The options of which all these facts of `Option` hold, in the order of declaration.

    >>> option_names(varied=True)
    ('head', 'seed')
    """
    return tuple(name for name, option in OPTIONS.items() if all(getattr(option, k) == v for k, v in facts.items()))


def flag(option: str) -> str:
    """An option's flag: max_images → --max-images."""
    return f"--{option.replace('_', '-')}"


def set_option(values: dict[str, Any], assignment: str) -> None:
    """Notes `key=text` of a command line in `values`; `build` reads the text by the option's type.

    InputError for an unknown option; of two values the last one counts, with a warning.

    >>> values = {}
    >>> set_option(values, "lr=5e-2"); set_option(values, "head_options.margin=0.3"); values
    {'lr': '5e-2', 'head_options.margin': '0.3'}
    """
    key, equals, text = assignment.partition("=")
    if not equals:
        raise InputError(f"expected --set key=value, found {assignment!r}; write for example --set lr=0.05")
    key = key.replace("-", "_")
    if key.partition(".")[0] not in OPTIONS:
        raise unknown_name("training option", key, OPTIONS)
    if values.get(key, text) != text:
        log.warning("%s is given as %s and as %s: the last one counts", flag(key), values[key], text)
    values[key] = text


def build(values: Mapping[str, Any], parts: bool = True) -> TrainConfig:
    """The configuration of these options; InputError for an unknown name (closest ones first) or a wrong type.

    A text, of a command line or a recipe, is read by the option's type. A key may be NAME.PART for one option of the
    head or of the class centres; `parts` are read by the types that the head and MarginSoftmaxLoss declare.

    >>> build({"data": "2024", "lr": "1e-2", "milestones": "[3, 5]", "epochs": 6}).milestones
    (3, 5)
    """
    given: dict[str, Any] = {}
    for key, value in values.items():
        name, dot, part = str(key).partition(".")
        if name not in OPTIONS:
            raise unknown_name("training option", name, OPTIONS)
        if not dot:
            given[name] = read(value, HINTS[name], flag(name))
        elif typing.get_origin(HINTS[name]) is dict:
            given[name] = {**given.get(name, {}), part: value}
        else:
            raise InputError(f"expected {flag(name)} to be {spelled(HINTS[name])}, found --set {key}={value}")
    if parts and "backbone_options" in given:  # whose types only timm knows
        texts = given["backbone_options"].items()
        given["backbone_options"] = {part: yaml.safe_load(v) if isinstance(v, str) else v for part, v in texts}
    config = validated(given)
    if not parts:
        return config
    for name, (kind, declared) in part_types(config).items():
        for part in given.setdefault(name, {}):
            if part not in declared:
                raise unknown_name(f"option of {kind}", part, declared)
        given[name] = {part: read(value, declared[part], f"{name}.{part}") for part, value in given[name].items()}
    return validated(given)


def validated(values: Mapping[str, Any]) -> TrainConfig:
    """The configuration of values that have their types; InputError for one that contradicts another."""
    try:
        return TrainConfig(**values)
    except ValidationError as error:
        raise error.errors()[0].get("ctx", {}).get("error", error) from None  # what __post_init__ says


def part_types(config: TrainConfig) -> dict[str, tuple[str, dict[str, Any]]]:
    """What the parts of an option belong to, and the type of each, for the options of `config` that have parts."""
    if not config.head_options and not config.centres:
        return {}
    from zoo.heads import HEADS, MarginSoftmaxLoss, head_options

    of_head = {option.name: option.type for option in head_options(HEADS[config.head])}
    declared = typing.get_type_hints(MarginSoftmaxLoss.__init__)
    of_centres = {name: declared[name] for name in declared.keys() - SET_ELSEWHERE}
    return {"head_options": (f"the head {config.head}", of_head), "centres": ("the class centres", of_centres)}


SET_ELSEWHERE = {
    *("head", "num_classes", "embedding_dim", "process_group", "seed", "straight_through", "return"),
    *("reduction", "ignore_index", "class_counts", "sync_stats"),
}  #: What MarginSoftmaxLoss takes, and a run does not take from `centres`


def load_config(path: Path) -> TrainConfig:
    """The configuration saved in a run; InputError where it cannot be read."""
    return build(load_yaml(path), parts=False)  # they were read when it was saved; the head may not be installed here


def save_config(config: TrainConfig, path: Path) -> None:
    """Writes `config` as YAML, whole or not at all."""
    write_text(path, yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True))


def plain(config: TrainConfig) -> dict[str, Any]:
    """`config` as lists, dictionaries, numbers and texts."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config).items()}


def changes(before: TrainConfig, after: TrainConfig, **facts: bool) -> list[str]:
    """The options of these facts (`Option`) that differ."""
    old, new = plain(before), plain(after)
    return [name for name in option_names(**facts) if old[name] != new[name]]
