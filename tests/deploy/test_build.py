"""Engines and bundles: built by the real TensorRT-RTX builder, and built, opened and refused on a fake TensorRT."""

from __future__ import annotations

import hashlib
import importlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from netadapt_trt.backend import load_backend
from netadapt_trt.deploy.artifact import find_artifact
from netadapt_trt.deploy.bench import bench
from netadapt_trt.deploy.build import build
from netadapt_trt.errors import BackendError, CheckError, FileFormatError, IdentityError, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    MakeArtifact = Callable[..., Path]

tensorrt_fake: Any = importlib.import_module("tensorrt_fake")
cuda_fake: Any = importlib.import_module("cuda_fake")


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """on_device("10.3", "Orin"): from here on this machine has that TensorRT and that device."""
    monkeypatch.setenv("NETADAPT_TRT_CACHE", str(tmp_path / "timing"))
    module: Any = importlib.import_module("netadapt_trt.backends.trt")

    def become(release: str, device: str) -> None:
        monkeypatch.setenv("NETADAPT_TRT_BOARD", device)
        cuda = cuda_fake.FakeCuda(device=device)
        runtime = module.TrtBackend(tensorrt_fake.make(release, cuda=cuda, device=device), cuda)

        def load(name: str) -> Any:
            return runtime if name == "trt" else load_backend(name)

        monkeypatch.setattr("netadapt_trt.deploy.build.load_backend", load)
        monkeypatch.setattr("netadapt_trt.deploy.bench.load_backend", load)

    return become


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("release", ["8.6", "10.3", "11"])
def test_bundle_is_built_and_timed(
    tmp_path: Path, artifact: MakeArtifact, on_device: Callable[..., None], release: str
) -> None:
    on_device(release, "Orin")
    promise = {"latency_ms": {"estimate": 0.5, "measured": None}, "backend": "trt"}
    model = artifact(tmp_path / "deploy" / "model.onnx", promise=promise)
    result = build(model, tmp_path / "bundle", backend="trt")
    assert result.engine == tmp_path / "bundle" / "model.engine"
    assert result.identity is not None
    assert result.identity.device == "Orin"
    record = json.loads((tmp_path / "bundle" / "deploy.json").read_text())
    for name in ("model.onnx", "model.engine"):
        assert record["files"][name]["sha256"] == sha256(tmp_path / "bundle" / name)
    assert record["promise"] == promise
    assert record["widths"] == {"conv": 16}
    (row,) = bench(tmp_path / "bundle", rounds=2, round_ms=1, output=tmp_path / "bench.json").rows
    assert row.artifact.path == result.engine
    assert (row.identity.backend, row.estimate_ms) == ("trt", 0.5)
    (told,) = json.loads((tmp_path / "bench.json").read_text())["artifacts"]
    assert (told["plan_hash"], told["widths"]) == ("0123456789abcdef", {"conv": 16})  # what adapt --measured reads


def test_engine_computes_what_the_model_does(tmp_path: Path, artifact: MakeArtifact, on_device: Callable[..., None]) -> None:
    from netadapt_trt.backend import CompileOptions
    from netadapt_trt.deploy.build import open_artifact

    on_device("10.3", "Orin")
    model = artifact(tmp_path / "model.onnx")
    engine = find_artifact(build(model, tmp_path / "model.engine", backend="trt").engine)
    runtime: Any = importlib.import_module("netadapt_trt.deploy.build").load_backend("trt")
    with open_artifact(engine, runtime, CompileOptions()) as executable:
        (result,) = executable.infer({"x": np.ones((1, 3, 8, 8), dtype=np.float32)}).values()
    # 27 weights of 0.1 inside, 18 at an edge, 12 in a corner
    assert [result[0, 0, row, 4] for row in (0, 4)] == pytest.approx([1.8, 2.7], rel=1e-5)
    assert result[0, 0, 0, 0] == pytest.approx(1.2, rel=1e-5)


@pytest.mark.parametrize(
    ("release", "device", "told"),
    [("10.3", "Thor", "device is 'Orin' there and 'Thor' here"), ("11", "Orin", "runtime_version is '10.3.* there and '11")],
)
def test_engine_is_refused_elsewhere(
    tmp_path: Path, artifact: MakeArtifact, on_device: Callable[..., None], release: str, device: str, told: str
) -> None:
    on_device("10.3", "Orin")
    engine = build(artifact(tmp_path / "model.onnx"), tmp_path / "model.engine", backend="trt").engine
    on_device(release, device)
    with pytest.raises(IdentityError, match=rf"{told}.*netadapt-trt build \S*model.onnx --backend trt -o \S*model.engine"):
        bench(engine, rounds=2)


def test_damaged_or_exchanged_files_are_refused(
    tmp_path: Path, artifact: MakeArtifact, on_device: Callable[..., None]
) -> None:
    on_device("10.3", "Orin")
    engine = build(artifact(tmp_path / "model.onnx"), tmp_path / "model.engine", backend="trt").engine
    with pytest.raises(SpecError, match="is an engine of trt, not of ort"):
        bench(engine, backend="ort", rounds=2)
    with pytest.raises(SpecError, match="is an engine already"):
        build(engine, tmp_path / "again.engine", backend="trt")
    with pytest.raises(SpecError, match="would replace its own ONNX file"):
        build(tmp_path / "model.onnx", tmp_path / "model.onnx", backend="trt")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.onnx").write_bytes(b"another file")
    with pytest.raises(CheckError, match="is another file than"):
        build(tmp_path / "model.onnx", tmp_path / "other", backend="trt")
    content = engine.read_bytes()
    engine.write_bytes(content[:-1])
    with pytest.raises(CheckError, match=r"is not the file that deploy\.json describes"):
        bench(engine, rounds=2)
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "model.engine").write_bytes(content)
    with pytest.raises(FileFormatError, match=r"no deploy\.json beside it calls it an engine"):
        bench(tmp_path / "alone" / "model.engine", rounds=2)


def test_backend_without_engines_says_so(tmp_path: Path, artifact: MakeArtifact) -> None:
    with pytest.raises(SpecError, match=r"ort runs ONNX files as they are, without engines; use: netadapt-trt bench"):
        build(artifact(tmp_path / "model.onnx"), tmp_path / "model.engine", backend="ort")


def test_real_builder_leaves_a_bundle(tmp_path: Path, artifact: MakeArtifact, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setenv("NETADAPT_RTX_TARGET", "SM86")
    result = build(artifact(tmp_path / "model.onnx"), tmp_path / "bundle", backend="trt_rtx")
    assert result.engine.stat().st_size == result.size_bytes > 1000
    entry = json.loads(result.record.read_text())["engines"]["model.engine"]
    assert (entry["backend"], entry["built_from"], entry["details"]["target"]) == ("trt_rtx", "model.onnx", "SM86")
    found = find_artifact(tmp_path / "bundle")
    assert found.path == result.engine
    if result.identity is None:  # no GPU here: it was built, and cannot be run
        with pytest.raises(BackendError, match=r"\w"):
            bench(tmp_path / "bundle", rounds=2)
