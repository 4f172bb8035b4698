"""What each device is asked for, and buffers that stay in place: on the CPU for real, for a GPU by the options."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto

from tests.support.onnx_models import DIM, write_model
from zoo.errors import InputError
from zoo.inference import providers
from zoo.inference.metadata import model_sha256
from zoo.inference.providers import Device, Engine, cuda_options, tensorrt_options
from zoo.inference.session import OnnxEmbedder

ENGINE = Engine("ab" * 32, "x", (3, 112, 96), 32)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test leaves an engine's folder in the user's cache."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    "text, device",
    [
        ("cpu", Device("cpu")),
        ("cuda", Device("cuda")),
        (" cuda:3", Device("cuda", 3)),
        ("tensorrt:1", Device("tensorrt", 1)),
    ],
)
def test_a_device_is_named_by_kind_and_number(text: str, device: Device) -> None:
    assert Device.parse(text) == device


@pytest.mark.parametrize("text", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "auto:1", ""])
def test_other_words_name_no_device(text: str) -> None:
    with pytest.raises(InputError, match="expected the device"):
        Device.parse(text)


def test_cuda_is_asked_for_exact_convolutions_and_no_more_memory_than_needed() -> None:
    options = cuda_options(2)
    assert options["device_id"] == "2" and options["cudnn_conv_algo_search"] == "EXHAUSTIVE"
    assert options["arena_extend_strategy"] == "kSameAsRequested" and options["use_tf32"] == "0"
    assert options["enable_cuda_graph"] == "0" and cuda_options(2, graph=True)["enable_cuda_graph"] == "1"


def test_tensorrt_builds_for_every_batch_and_keeps_its_engines_by_the_models_hash(own_cache: Path) -> None:
    options = tensorrt_options(1, ENGINE)
    assert options["device_id"] == "1" and options["trt_fp16_enable"] == "0"
    assert options["trt_profile_min_shapes"] == "x:1x3x112x96"
    assert options["trt_profile_opt_shapes"] == options["trt_profile_max_shapes"] == "x:32x3x112x96"
    assert options["trt_engine_cache_enable"] == options["trt_timing_cache_enable"] == "1"
    assert options["trt_engine_cache_path"] == str(own_cache / "tensorrt" / ("ab" * 16))
    assert options["trt_timing_cache_path"] == str(own_cache / "tensorrt")
    assert options["trt_cuda_graph_enable"] == "0"
    half = tensorrt_options(1, ENGINE, "float16")
    assert half["trt_fp16_enable"] == "1" and half["trt_engine_cache_prefix"] != options["trt_engine_cache_prefix"]
    other = tensorrt_options(1, Engine("cd" * 32, "x", (3, 112, 96), 32))
    assert other["trt_engine_cache_path"] != options["trt_engine_cache_path"]


def test_a_graph_and_a_fixed_batch_leave_one_shape() -> None:
    graph = tensorrt_options(0, ENGINE, graph=True)
    assert graph["trt_cuda_graph_enable"] == "1" and graph["trt_profile_min_shapes"] == "x:32x3x112x96"
    fixed = tensorrt_options(0, Engine("ab" * 32, "x", (3, 112, 96), 4, smallest=4))
    assert fixed["trt_profile_min_shapes"] == fixed["trt_profile_max_shapes"] == "x:4x3x112x96"


def test_engines_lie_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZOO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert providers.engine_folder("ef" * 32) == Path("/somewhere/zoo/tensorrt") / ("ef" * 16)
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert providers.engine_folder("ef" * 32).parent == Path.home() / ".cache/zoo/tensorrt"


def unknown_options(options: dict[str, str], library: str) -> list[str]:
    """Those that the provider's library, which parses them by name, does not hold."""
    path = Path(onnxruntime.__file__).parent / "capi" / f"libonnxruntime_providers_{library}.so"
    if not path.is_file():
        pytest.skip(f"this onnxruntime comes without {path.name}")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return [name for name in options if content.find(name.encode() + b"\0") < 0]


def test_every_option_is_one_that_the_provider_knows() -> None:
    assert unknown_options(tensorrt_options(0, ENGINE), "tensorrt") == []
    assert unknown_options(cuda_options(0), "cuda") == []
    assert unknown_options({"trt_made_up_enable": "1"}, "tensorrt") == ["trt_made_up_enable"]


ALL = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


def choose(
    monkeypatch: pytest.MonkeyPatch, device: str, gpus: int, available: list[str] = ALL
) -> tuple[list[str], str]:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: available)
    monkeypatch.setattr("zoo.inference.providers.count_gpus", lambda: gpus)
    return providers.choose(Device.parse(device))


def test_what_is_there_is_taken_and_auto_makes_do(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose(monkeypatch, "cpu", 4) == (["cpu"], "")
    assert choose(monkeypatch, "auto", 1) == (["cuda", "cpu"], "")
    assert choose(monkeypatch, "cuda:1", 2) == (["cuda", "cpu"], "")
    assert choose(monkeypatch, "tensorrt", 1) == (["tensorrt", "cuda", "cpu"], "")
    assert choose(monkeypatch, "auto", 0) == (["cpu"], "no CUDA GPU was found")
    wanted, why = choose(monkeypatch, "auto", 1, ["CPUExecutionProvider"])
    assert wanted == ["cpu"] and "built without CUDAExecutionProvider" in why


@pytest.mark.parametrize(
    "device, gpus, available, sentence",
    [
        ("cuda", 0, ALL, "expected to run on cuda:0, but no CUDA GPU was found; use --device cpu or auto"),
        ("cuda:2", 1, ALL, "only 1 CUDA GPU was found"),
        ("tensorrt", 1, ALL[1:], "built without TensorrtExecutionProvider"),
        ("cuda", 1, ALL[2:], "built without CUDAExecutionProvider"),
    ],
)
def test_a_gpu_that_is_missing_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, device: str, gpus: int, available: list[str], sentence: str
) -> None:
    with pytest.raises(InputError) as caught:
        choose(monkeypatch, device, gpus, available)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_session_is_opened_with_the_options_of_every_wanted_provider(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real session is opened on the CPU; what it was to be opened with is looked at."""
    asked: list[list[tuple[str, dict[str, str]]]] = []
    real = onnxruntime.InferenceSession

    def opened(path: str, options: Any, providers: list[tuple[str, dict[str, str]]]) -> Any:
        asked.append(providers)
        return real(path, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr("onnxruntime.InferenceSession", opened)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ALL)
    monkeypatch.setattr("zoo.inference.providers.count_gpus", lambda: 2)
    path = write_model(tmp_path / "m.onnx", ("n", "h", "w", 3))
    with pytest.raises(InputError, match="could not load TensorrtExecutionProvider"):
        OnnxEmbedder(path, device="tensorrt:1", batch_size=8, precision="float16")
    (name, options), (second, cuda), third = asked[-1]
    assert [name, second, third] == [*ALL[:2], (ALL[2], {})]
    assert options["trt_profile_max_shapes"] == "x:8x112x112x3" and options["trt_fp16_enable"] == "1"
    assert options["device_id"] == cuda["device_id"] == "1"
    folder = Path(options["trt_engine_cache_path"])
    assert folder.name == model_sha256(path)[:32] and folder.is_dir() and folder.stat().st_mode & 0o077 == 0


class Pretended:
    """A session on the CPU that says it runs elsewhere."""

    def __init__(self, session: Any, provider: str) -> None:
        self.session, self.provider = session, provider

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def get_providers(self) -> list[str]:
        return [self.provider]


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> tuple[list[list[tuple[str, dict[str, str]]]], list[int]]:
    """Sessions that seem to run on the GPU that was asked for: what they were opened with, and the batches bound."""
    asked: list[list[tuple[str, dict[str, str]]]] = []
    batches: list[int] = []
    real = onnxruntime.InferenceSession

    def opened(path: str, options: Any, providers: list[tuple[str, dict[str, str]]]) -> Any:
        asked.append(providers)
        return Pretended(real(path, options, providers=["CPUExecutionProvider"]), providers[0][0])

    class Bound(providers.Binding):
        def __init__(self, session: Any, device: Device, *rest: Any) -> None:
            assert device.kind in ("cuda", "tensorrt")
            super().__init__(session.session, Device("cpu"), *rest)

        def __call__(self, tensor: Any) -> Any:
            batches.append(len(tensor))
            return super().__call__(tensor)

    monkeypatch.setattr("onnxruntime.InferenceSession", opened)
    monkeypatch.setattr("zoo.inference.session.Binding", Bound)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ALL)
    monkeypatch.setattr("zoo.inference.providers.count_gpus", lambda: 1)
    return asked, batches


def embeddings_on_the_cpu(path: Path, crops: Any) -> Any:
    return OnnxEmbedder(path, device="cpu")(crops)


CROPS = np.random.default_rng(5).integers(0, 256, (20, 112, 112, 3), dtype=np.uint8)


def test_a_cuda_graph_meets_one_batch_size_only(tmp_path: Path, pretend: Any) -> None:
    asked, batches = pretend
    path = write_model(tmp_path / "m.onnx")
    model = OnnxEmbedder(path, device="cuda", batch_size=8, graph=True)
    assert [providers[0][1]["enable_cuda_graph"] for providers in asked] == ["0", "1"] and model.raw
    np.testing.assert_allclose(model(CROPS), embeddings_on_the_cpu(path, CROPS), atol=1e-6)
    assert batches == [8, 8, 8] and model(CROPS[:0]).shape == (0, DIM)


def test_tensorrt_meets_no_batch_beyond_its_engines(tmp_path: Path, pretend: Any) -> None:
    _, batches = pretend
    path = write_model(tmp_path / "m.onnx")
    model = OnnxEmbedder(path, device="tensorrt", batch_size=8, precision="float16")
    assert model.precision == "float16" and model.provider == ALL[0]
    np.testing.assert_allclose(model(CROPS), embeddings_on_the_cpu(path, CROPS), atol=1e-6)
    assert batches == [8, 8, 4]


def test_a_gpu_is_fed_by_bound_buffers_in_batches_of_any_size(tmp_path: Path, pretend: Any) -> None:
    _, batches = pretend
    path = write_model(tmp_path / "m.onnx")
    model = OnnxEmbedder(path, device="auto")
    assert model.provider == ALL[1] and model.notes == OnnxEmbedder(path, device="cpu").notes
    np.testing.assert_allclose(model(CROPS), embeddings_on_the_cpu(path, CROPS), atol=1e-6)
    assert batches == [20]


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"device": "cpu", "precision": "float16"}, "expected --device tensorrt for --precision float16, found cpu"),
        ({"device": "cuda", "precision": "float16"}, "zoo export --onnx --fp16"),
        ({"device": "tensorrt", "precision": "half"}, "expected the precision float32 or float16, found 'half'"),
        ({"device": "cpu", "graph": True}, "expected --device cuda or tensorrt for --cuda-graph, found cpu"),
        ({"device": "cpu", "batch_size": 0}, "expected a batch size of at least 1"),
    ],
)
def test_options_that_contradict_the_device_are_refused(tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        OnnxEmbedder(write_model(tmp_path / "m.onnx"), **options)


def test_only_the_first_provider_records_a_graph() -> None:
    (_, tensorrt), (_, cuda), _ = providers.with_options(["tensorrt", "cuda", "cpu"], 0, ENGINE, "float32", True)
    assert tensorrt["trt_cuda_graph_enable"] == "1" and cuda["enable_cuda_graph"] == "0"
    ((_, alone), _) = providers.with_options(["cuda", "cpu"], 0, None, "float32", True)
    assert alone["enable_cuda_graph"] == "1"


@pytest.mark.parametrize("shape", [("n", 3, 112, 112), (3, 3, 112, 112), ("n", 112, 112, 3)])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_bound_buffers_give_the_same_bytes(tmp_path: Path, shape: tuple[Any, ...], kind: int) -> None:
    path = write_model(tmp_path / "m.onnx", shape, kind)
    free, bound = (OnnxEmbedder(path, device="cpu", threads=1, bound=on) for on in (False, True))
    rng = np.random.default_rng(0)
    kept = []
    for batch in (7, 7, 2, 5, 7, 1):  # more sizes than are kept, and coming back
        crops = rng.integers(0, 256, (batch, 112, 112, 3), dtype=np.uint8)
        kept.append((free(crops), bound(crops)))
    for expected, found in kept:  # compared at the end: a result must not lie in a buffer that is written again
        assert found.shape == (len(expected), DIM) and found.tobytes() == expected.tobytes()


def test_a_real_model_bound_gives_the_same_bytes(shared: Path) -> None:
    path = shared / "models/mobilefacenet.onnx"
    crops = np.random.default_rng(1).integers(0, 256, (5, 112, 112, 3), dtype=np.uint8)
    free, bound = (OnnxEmbedder(path, device="cpu", bound=on)(crops) for on in (False, True))
    assert free.tobytes() == bound.tobytes()


def test_pages_are_locked_once_and_released_with_the_array(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Driver:
        def __init__(self, code: int) -> None:
            self.code = code

        def cuMemHostRegister_v2(self, address: Any, size: Any, flags: int) -> int:
            calls.append(f"lock {size.value} {flags}")
            return self.code

        def cuMemHostUnregister(self, address: Any) -> int:
            calls.append("release")
            return 0

    array = np.zeros((5, 7), np.float32)
    monkeypatch.setattr("zoo.inference.providers.driver", lambda: Driver(1))
    assert not providers.lock_pages(array) and calls == ["lock 140 1"]
    monkeypatch.setattr("zoo.inference.providers.driver", lambda: Driver(0))
    assert providers.lock_pages(array)
    del array
    assert calls == ["lock 140 1", "lock 140 1", "release"]
    monkeypatch.setattr("zoo.inference.providers.driver", lambda: None)
    assert not providers.lock_pages(np.zeros(3))
