"""Building with TensorRT 8.6, 10.3 and 11 (fakes): what is set, what is refused and in which words, what is kept."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import helper

from netadapt_trt.backend import CompileOptions, EngineBackend
from netadapt_trt.errors import BackendError
from netadapt_trt.plan.precision import to_fp16, to_int8

if TYPE_CHECKING:
    from collections.abc import Callable

    Build = Callable[..., bytes]

trt: Any = importlib.import_module("netadapt_trt.backends.trt")
node = helper.make_node
SAME = [1, 1, 1, 1]
FP32, FP16, INT8 = (CompileOptions(precision=precision) for precision in ("fp32", "fp16", "int8"))


@pytest.fixture
def convolution(build: Build) -> bytes:
    nodes = [node("Conv", ["x", "w"], ["c"], "conv", pads=SAME), node("Relu", ["c"], ["y"], "relu")]
    return build(nodes, {"w": (8, 3, 3, 3)}, (1, 3, 6, 6))


def other_precision(model: bytes, precision: str) -> bytes:
    parsed = onnx.load_model_from_string(model)
    made = to_fp16(parsed) if precision == "fp16" else to_int8(parsed, recipe="qdq-trt")
    serialised: bytes = made.SerializeToString()
    return serialised


@pytest.mark.parametrize(("precision", "weak"), [("fp32", []), ("fp16", ["FP16"]), ("int8", ["INT8"])])
def test_build_sets_flags_only_where_the_network_is_weakly_typed(
    bench: Any, convolution: bytes, precision: Any, weak: list[str]
) -> None:
    model = convolution if precision == "fp32" else other_precision(convolution, precision)
    details = bench.backend.build(model, CompileOptions(precision=precision)).details
    # The fake refuses a flag beside strong typing and a half type or scale without one, so that this built says it too.
    expected = ("weak", weak) if bench.release == "8.6" else ("strong", [])
    assert (details["typing"], details["builder_flags"]) == expected
    assert details["model_precision"] == precision
    assert isinstance(bench.backend, EngineBackend)


def test_build_tells_sizes_and_hash(bench: Any, convolution: bytes) -> None:
    engine = bench.backend.build(convolution, FP32)
    assert engine.details["engine_size_bytes"] == len(engine.content)
    assert engine.details["runtime_version"] == bench.trt.__version__
    assert len(engine.details["sha256"]) == 64


def test_build_names_every_operator_that_the_parser_refuses(bench: Any, build: Build) -> None:
    model = build([node("Mystery", ["x"], ["a"], "odd"), node("Riddle", ["a"], ["y"], "odder")], {}, (1, 3))
    with pytest.raises(BackendError) as caught:
        bench.backend.build(model, FP32)
    text = str(caught.value)
    assert f"TensorRT {bench.trt.__version__} refuses the model: Mystery 'odd': " in text
    # Before 10 the parser stops at the first one.
    assert ("Riddle 'odder'" in text) == (bench.release != "8.6")


def test_build_refuses_an_asymmetric_zero_point_with_its_node(bench: Any, build: Build) -> None:
    scale, zero = np.full((), 0.1, np.float32), np.full((), 3, np.int8)
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"], "quant"), node("DequantizeLinear", ["q", "s", "z"], ["y"])]
    with pytest.raises(BackendError, match=r"QuantizeLinear 'quant'.*zero point"):
        bench.backend.build(build(nodes, {"s": scale, "z": zero}, (1, 4)), INT8)


def test_build_refuses_to_call_a_converted_model_fp32(bench: Any, convolution: bytes) -> None:
    for precision in ("fp16", "int8"):
        with pytest.raises(BackendError, match=f"the model is {precision}"):
            bench.backend.build(other_precision(convolution, precision), FP32)


def test_build_failure_carries_the_log_and_a_hint(bench: Any, convolution: bytes) -> None:
    build: Any = importlib.import_module("netadapt_trt.backends.trt.build")
    log: Any = importlib.import_module("netadapt_trt.backends.trt.log")
    settings = build.BuildSettings(workspace_bytes=16)
    with pytest.raises(BackendError, match=r"cannot build the model: .*workspace.*smaller batch"):
        build.build_engine(bench.trt, log.log_of(bench.trt), convolution, settings)


@pytest.mark.parametrize(("release", "expected"), [("8.6", (17, 8)), ("10.3", (20, 9)), ("11", (20, 9))])
def test_opset_is_the_newest_that_the_release_reads(release: str, expected: tuple[int, int], make_bench: Any) -> None:
    assert make_bench(release).backend.opset() == expected


def test_opset_without_tensorrt_is_what_all_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert trt.TrtBackend().opset() == (17, 8)


def test_a_release_before_8_6_is_refused(make_bench: Any) -> None:
    made = make_bench("8.6")
    made.trt.__version__ = "8.5.2"
    with pytest.raises(BackendError, match=r"too old; 8\.6"):
        made.backend.identity(precision="fp32", batch=1, threads=1)


def test_affinity_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, make_bench: Any) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    absent = trt.TrtBackend().affinity()
    assert absent.score == -1
    assert "system-site-packages" in absent.reason
    without_cuda = trt.TrtBackend(make_bench("10.3").trt).affinity()
    assert without_cuda.score == -1
    assert "cuda-python" in without_cuda.reason


def test_affinity_prefers_a_device_that_works(bench: Any) -> None:
    affinity = bench.backend.affinity()
    assert affinity.score == 2
    assert "SM87" in affinity.reason


def test_identity_tells_tf32_and_recipe(make_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_bench("10.3", tf32=True)
    monkeypatch.setenv("NETADAPT_TRT_BOARD", "NVIDIA Jetson Orin Nano Developer Kit")
    full = made.backend.identity(precision="fp32", batch=1, threads=1)
    assert (full.device, full.provider, full.recipe) == ("NVIDIA Jetson Orin Nano Developer Kit", "gpu-tf32", "none")
    assert made.backend.identity(precision="fp16", batch=1, threads=1).provider == "gpu"
    assert made.backend.identity(precision="int8", batch=1, threads=1).recipe == "qdq-trt"
    off = make_bench("10.3", tf32=False).backend
    assert off.identity(precision="fp32", batch=1, threads=1).provider == "gpu"


@pytest.mark.skipif(Path("/proc/device-tree/model").exists(), reason="this is a board whose name can be read")
def test_a_board_without_a_name_is_refused(
    make_bench: Any, convolution: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NETADAPT_TRT_BOARD")
    backend = make_bench("10.3").backend
    how = r"called Orin on several.*-e NETADAPT_TRT_BOARD="
    with pytest.raises(BackendError, match=how):
        backend.identity(precision="fp16", batch=1, threads=1)
    with pytest.raises(BackendError, match=how):
        backend.build(convolution, FP32)
    assert not (tmp_path / "timing").exists()
    affinity = backend.affinity()
    assert affinity.score == -1
    assert "NETADAPT_TRT_BOARD" in affinity.reason


@pytest.mark.skipif(Path("/proc/device-tree/model").exists(), reason="this is a board whose name can be read")
def test_a_graphics_card_needs_no_board(make_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NETADAPT_TRT_BOARD")
    made = make_bench("10.3", device="NVIDIA A30")
    info = made.cuda.device_info()
    monkeypatch.setattr(made.cuda, "device_info", lambda: dataclasses.replace(info, integrated=False, capability=(8, 0)))
    assert made.backend.identity(precision="fp16", batch=1, threads=1).device == "NVIDIA A30"


def test_two_boards_with_one_gpu_are_two_devices(
    make_bench: Any, convolution: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = set()
    for board in ("NVIDIA Jetson AGX Orin Developer Kit", "NVIDIA Jetson Orin Nano Developer Kit"):
        monkeypatch.setenv("NETADAPT_TRT_BOARD", board)
        made = make_bench("10.3").backend
        devices.add(made.identity(precision="fp32", batch=1, threads=1).device)
        assert made.build(convolution, FP32).details["timing_cache"] == "new"
    assert len(devices) == len(list((tmp_path / "timing").iterdir())) == 2


def test_tf32_that_is_neither_on_nor_off_is_refused(make_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETADAPT_TRT_TF32", "perhaps")
    with pytest.raises(BackendError, match="NETADAPT_TRT_TF32 is 'perhaps'"):
        make_bench("11").backend.identity(precision="fp32", batch=1, threads=1)


def test_timing_cache_is_kept_and_used(bench: Any, convolution: bytes, tmp_path: Path) -> None:
    first = bench.backend.build(convolution, FP32).details
    timed = bench.trt._timed
    second = bench.backend.build(convolution, FP32).details
    assert (first["timing_cache"], second["timing_cache"]) == ("new", "used")
    assert timed > 0
    assert bench.trt._timed == timed
    (file,) = (tmp_path / "timing").iterdir()
    assert file.name == f"orin-sm87-trt-{bench.trt.__version__}.timing"


def test_timing_cache_can_be_turned_off(
    bench: Any, convolution: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NETADAPT_TRT_CACHE", "off")
    assert bench.backend.build(convolution, FP32).details["timing_cache"] is None
    assert not (tmp_path / "off").exists()


def test_timing_cache_is_kept_by_power_mode(tmp_path: Path) -> None:
    cache: Any = importlib.import_module("netadapt_trt.backends.trt.timing_cache")
    names = [
        cache.cache_file(tmp_path, device="Orin Nano", architecture="SM87", version="10.3.0", mode=mode).name
        for mode in ("MAXN_SUPER", "15W", None)
    ]
    assert names == [
        "orin-nano-sm87-maxn-super-trt-10.3.0.timing", "orin-nano-sm87-15w-trt-10.3.0.timing",
        "orin-nano-sm87-trt-10.3.0.timing",
    ]  # fmt: skip


@pytest.mark.parametrize("content", [b"garbage", "other release"])
def test_timing_cache_of_another_release_starts_empty_and_says_so(
    bench: Any, convolution: bytes, tmp_path: Path, content: Any, make_bench: Any
) -> None:
    bench.backend.build(convolution, FP32)
    (file,) = (tmp_path / "timing").iterdir()
    if content == "other release":
        other = make_bench("8.6" if bench.release != "8.6" else "11")
        other.backend.build(convolution, FP32)
        content = next(path for path in (tmp_path / "timing").iterdir() if path != file).read_bytes()
    file.write_bytes(content)
    before = bench.trt._timed
    details = bench.backend.build(convolution, FP32).details
    assert details["timing_cache"] == "mismatch"
    assert "starting with an empty one" in details["notices"][0]
    assert bench.trt._timed > before
    assert bench.backend.build(convolution, FP32).details["timing_cache"] == "used"


def test_timing_cache_that_cannot_be_kept_does_not_stop_a_build(
    bench: Any, convolution: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("NETADAPT_TRT_CACHE", str(blocked / "below"))
    details = bench.backend.build(convolution, FP32).details
    assert "NETADAPT_TRT_CACHE" in details["notices"][-1]


def test_timing_cache_that_tensorrt_does_not_make_stops_no_build(
    bench: Any, convolution: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.backend.build(convolution, FP32)
    make = bench.trt.IBuilderConfig.create_timing_cache
    given = []

    def refuse_all(self: Any, content: bytes) -> None:
        given.append(content)

    def refuse_content(self: Any, content: bytes) -> Any:
        return None if content else make(self, content)

    monkeypatch.setattr(bench.trt.IBuilderConfig, "create_timing_cache", refuse_content)
    details = bench.backend.build(convolution, FP32).details
    assert details["timing_cache"] == "mismatch"
    assert "starting with an empty one" in details["notices"][0]
    cache: Any = importlib.import_module("netadapt_trt.backends.trt.timing_cache")
    log: Any = importlib.import_module("netadapt_trt.backends.trt.log").log_of(bench.trt)
    config = bench.trt.Builder(log.logger).create_builder_config()
    monkeypatch.setattr(bench.trt.IBuilderConfig, "create_timing_cache", refuse_all)
    used = cache.TimingCache(next(Path(os.environ["NETADAPT_TRT_CACHE"]).iterdir()))
    used.attach(config, log)
    assert (used.state, given[-1], len(given)) == ("mismatch", b"", 2)


def test_instance_normalisation_is_tensorrts_own(bench: Any, convolution: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    parse, flags = bench.trt.OnnxParser.parse, []

    def watched(self: Any, model: Any, path: str | None = None) -> bool:
        flags.append(self.get_flag(bench.trt.OnnxParserFlag.NATIVE_INSTANCENORM))
        return bool(parse(self, model, path))

    monkeypatch.setattr(bench.trt.OnnxParser, "parse", watched)
    bench.backend.build(convolution, FP32)
    assert flags == [True]


def test_dla_is_refused_where_this_tensorrt_has_none(make_bench: Any, convolution: bytes) -> None:
    without = make_bench("11", device_option="dla").backend
    with pytest.raises(BackendError, match=r"TensorRT|DLA") as caught:
        without.build(other_precision(convolution, "fp16"), FP16)
    assert "10.8 to 10.16" in str(caught.value)


def test_dla_refuses_fp32_and_a_core_too_many(make_bench: Any, convolution: bytes) -> None:
    backend = make_bench("10.3", device_option="dla:2").backend
    assert backend.precisions() == ("fp16", "int8")
    with pytest.raises(BackendError, match="DLA refuses fp32"):
        backend.build(convolution, FP32)
    with pytest.raises(BackendError, match="DLA core 2 is asked for, this device has 2"):
        backend.build(other_precision(convolution, "fp16"), FP16)


@pytest.mark.parametrize("release", ["8.6", "10.3"])
def test_dla_says_what_stayed_on_the_gpu(make_bench: Any, build: Build, release: str) -> None:
    nodes = [
        node("Conv", ["x", "w"], ["c"], "conv", pads=SAME), node("Relu", ["c"], ["r"], "relu"),
        node("Softmax", ["r"], ["y"], "softmax"),
    ]  # fmt: skip
    model = other_precision(build(nodes, {"w": (8, 3, 3, 3)}, (1, 3, 6, 6)), "fp16")
    made = make_bench(release, device_option="dla:1")
    assert made.backend.identity(precision="fp16", batch=1, threads=1).provider == "dla1"
    with made.backend.compile(model, FP16) as exe:
        details = exe.details()
    assert details["gpu_fallback"] == ["softmax"]
    assert details["cuda_graph"] is False


def test_an_unknown_device_is_refused(make_bench: Any) -> None:
    backend = make_bench("10.3", device_option="npu").backend
    with pytest.raises(BackendError, match="knows no device 'npu'"):
        backend.identity(precision="fp16", batch=1, threads=1)
