"""How a model is exported: declared once, for `zoo export`'s flags and for the keywords of `export_onnx`."""

from dataclasses import dataclass
from pathlib import Path

from zoo.errors import InputError
from zoo.options import option

CROPS = "crops for int8's ranges and for parity: any training set, a .bin or a folder of pictures"
SYNTHETIC_PAIRS = 600  #: The number of synthetic pairs that variants are compared on where no benchmark is named


@dataclass(frozen=True)
class Options:
    """What `export_onnx` writes, and how it is proven and compared. InputError for options that contradict others."""

    opset: int = option(18, "ONNX operator set, 18 to 23", "N")
    fp16: bool = option(False, "also write a float16 file, half the size")
    int8: bool = option(False, "also write an int8 file, a quarter of the size")
    calibrate: str | None = option(None, f"{CROPS} (default: the run's training data, else synthetic faces)", "DATA")
    training_data: str | None = None  #: Where `calibrate` is None, if its crops have the model's size; of the run
    data: str | None = option(None, "pairs to compare the files on (default: synthetic faces)", "PAIRS.bin")
    max_accuracy_drop: float | None = option(None, "reject a smaller file that loses more than X of accuracy", "X")

    def __post_init__(self) -> None:
        limit = self.max_accuracy_drop
        if limit is not None and not self.variants:
            raise InputError("--max-accuracy-drop compares a smaller file; add --fp16 or --int8")
        if limit is not None and not 0 <= limit < 1:
            raise InputError(f"expected a fraction such as 0.005 after --max-accuracy-drop, found {limit:g}")
        if self.data is not None and not self.variants:
            raise InputError("--data is what smaller files are compared on; add --fp16 or --int8, or use zoo evaluate")

    @property
    def variants(self) -> list[str]:
        """The precisions besides float32."""
        return [name for name, wanted in (("float16", self.fp16), ("int8", self.int8)) if wanted]

    @property
    def pairs(self) -> str:
        """The pairs that variants are compared on, by name."""
        return Path(self.data).name if self.data else f"{SYNTHETIC_PAIRS} pairs of synthetic faces"
