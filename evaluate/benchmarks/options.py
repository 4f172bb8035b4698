"""How a model is measured: declared once, for `zoo evaluate`'s flags and for the keywords of `evaluate`."""

from dataclasses import dataclass
from typing import Any

from zoo.errors import InputError
from zoo.evaluate.calibration import Costs
from zoo.inference.convention import GivenInput
from zoo.options import option


@dataclass(frozen=True)
class Options:
    """How a model is measured. InputError, in the flags' spelling, for values that are wrong or contradict others."""

    flip: bool = option(True, "sum the embeddings of each picture and its mirror image")
    features: str = option(
        "N1D1", "IJB: N1 keeps norms, D1 weights by the detector's score; all: these and flip, 8 results", "NXDX"
    )
    folds: str = option(
        "file", "file, or stratified: both kinds of pairs dealt out evenly; official sets keep file", "NAME"
    )
    pairs: int | None = option(None, "a folder of people: at most N pairs of one person, and N of two, per person", "N")
    compat: str | None = option(None, "insightface: compute the figures as its scripts do", "NAME")
    prior: str | None = option(
        None,
        "calibrate scores to likelihood ratios; state costs at prior P of one person, error costs FNM and FM",
        "P[:FNM:FM]",
    )
    backend: str = option("onnx", "onnx, or torch for a model that was not exported", "NAME")
    device: str = option("auto", "auto, cpu, cuda, cuda:1, tensorrt; several, with commas, run in parallel", "NAME")
    precision: str = option("float32", "float32, or float16 with TensorRT", "NAME")
    cuda_graph: bool = option(False, "record a CUDA graph of one batch and replay it", rare=True)
    batch_size: int = option(64, "pictures per batch", "N")
    threads: int | None = option(None, "CPU threads (default: all cores)", "N")
    workers: int = option(2, "threads that read ahead of each device", "N", rare=True)
    cache: bool = option(True, "reuse embeddings")
    mean: float | None = option(None, "third-party model: subtracted from pixel values 0 … 255", "X")
    std: float | None = option(None, "third-party model: what the difference is divided by", "X")
    bgr: bool = option(False, "third-party model: the input is BGR")
    output: str | None = option(None, "third-party model: which of its outputs is the embedding", "NAME")
    detector: str | None = option(None, "detect the faces in the photos of a list: a YuNet file, or yunet", "PATH")
    strict: bool = option(False, "refuse a model whose input is not the crops' size")
    thumbnails: bool = option(False, "show the faces of the hardest pairs in report.html")
    write_thresholds: bool = option(
        False, "store measured thresholds in the model's metadata where at least 30 false accepts support them"
    )

    def __post_init__(self) -> None:
        from zoo.evaluate.protocols.base import FEATURES, check_compat

        check_compat(self.compat)
        if self.features not in (*FEATURES, "all"):
            raise InputError(f"expected the features {', '.join(FEATURES)} or all, found {self.features!r}")
        if self.folds not in ("file", "stratified"):
            raise InputError(f"expected the folds file or stratified, found {self.folds!r}")
        if self.folds == "stratified" and self.compat:
            raise InputError(f"expected folds in file order for --compat {self.compat}, found stratified ones")
        for name, least in (("workers", 0), ("batch_size", 1), ("threads", 1), ("pairs", 1)):
            if (number := getattr(self, name)) is not None and number < least:
                raise InputError(f"expected {least} or more for --{name.replace('_', '-')}, found {number}")
        _ = self.given, self.costs  # which refuse what is not finite
        onnx_only = ("write_thresholds", "cuda_graph", "bgr", "mean", "std", "output")
        for name in onnx_only if self.backend == "torch" else ():
            if getattr(self, name) not in (None, False):
                flag = name.replace("_", "-")
                raise InputError(f"expected an ONNX model for --{flag}, found --backend torch; leave one out")
        if self.backend == "torch" and (len(self.devices) > 1 or self.precision != "float32"):
            raise InputError("expected one device and float32 for --backend torch, found more; leave --backend out")

    @property
    def given(self) -> GivenInput:
        """What the options say of the model's input and output."""
        return GivenInput(self.mean, self.std, self.bgr, self.output)

    @property
    def costs(self) -> Costs | None:
        """At which prior and costs decisions are judged; None where nobody asked."""
        return None if self.prior is None else Costs.parse(self.prior)

    @property
    def devices(self) -> list[str]:
        """The names of the devices, one each."""
        return self.device.split(",")

    @property
    def of_session(self) -> dict[str, Any]:
        """What an ONNX session on each device is opened by."""
        named = {name: getattr(self, name) for name in ("threads", "strict", "batch_size", "precision")}
        return {**named, "input": self.given, "graph": self.cuda_graph}
