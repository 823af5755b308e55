"""Profiling in fp16 and int8: what the backend is handed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import onnx
import pytest

from netadapt_trt.backend import load_backend
from netadapt_trt.errors import SpecError
from netadapt_trt.lut.store import read_lut
from netadapt_trt.measure.network import time_networks
from netadapt_trt.profile.run import profile

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType


def input_kind(model: onnx.ModelProto) -> int:
    return int(model.graph.input[0].type.tensor_type.elem_type)


@pytest.mark.parametrize(
    ("precision", "recipe", "kind"),
    [
        ("fp16", "none", onnx.TensorProto.FLOAT16),
        ("int8", "qdq-trt", onnx.TensorProto.INT8),
        ("int8", "qdq-ort-x86", onnx.TensorProto.UINT8),
    ],
)
def test_profile_hands_over_layers_and_networks_in_the_precision_asked_for(
    clockwork: ModuleType, tmp_path: Path, precision: str, recipe: str, kind: int
) -> None:
    models: list[onnx.ModelProto] = []
    clock = clockwork.Clockwork(on_compile=lambda _, content: models.append(onnx.load_from_string(content)))
    plain = clock.identity
    clock.identity = lambda **options: replace(plain(**options), recipe=recipe)
    clock.precisions = lambda: ("fp32", "fp16", "int8")
    lut = tmp_path / "x.lut.jsonl"
    quick: Any = {"effort": clockwork.QUICK, "sampling": clockwork.STILL, "precision": precision}
    result = profile(clockwork.make_plan(), clock, lut, **quick)
    assert result.complete
    assert (read_lut(lut).identity.precision, read_lut(lut).identity.recipe) == (precision, recipe)
    layers = [model for model in models if model.metadata_props[0].key == "netadapt.layer"]
    assert len(layers) + len([model for model in models if model.metadata_props[0].key == "netadapt.plan_hash"]) == len(
        models
    )
    assert {input_kind(model) for model in layers} == {kind}
    assert {input_kind(model) for model in models if model not in layers} == {onnx.TensorProto.FLOAT}
    marked = {"fp16": "Cast", "int8": "DequantizeLinear"}[precision]
    assert all(any(node.op_type == marked for node in model.graph.node) for model in models if model not in layers)


def test_profile_in_int8_needs_a_backend_that_names_its_recipe(clockwork: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="clockwork names no quantisation recipe"):
        profile(clockwork.make_plan(), clockwork.Clockwork(), tmp_path / "x.lut.jsonl", precision="int8")
    assert not list(tmp_path.iterdir())


def test_profile_in_int8_on_onnx_runtime(clockwork: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    lut = tmp_path / "x.lut.jsonl"
    result = profile(
        clockwork.make_plan(),
        load_backend("ort"),
        lut,
        precision="int8",
        threads=1,
        max_cells=5,
        effort=clockwork.QUICK,
        sampling=clockwork.STILL,
    )
    assert (result.measured, result.failed) == (5, 0)
    assert result.network_ms is not None
    assert read_lut(lut).identity.recipe == "qdq-ort-x86"


def test_networks_are_timed_in_the_recipe_of_their_backend(clockwork: ModuleType) -> None:
    pytest.importorskip("onnxruntime")
    ort: Any = load_backend("ort")
    compiled: list[bytes] = []
    honest = ort.compile

    def watched(model: bytes, options: Any) -> Any:
        compiled.append(model)
        return honest(model, options)

    ort.compile = watched
    time_networks(ort, clockwork.make_plan(), [{}], precision="int8", threads=1, rounds=2, round_ms=1)
    model = onnx.load_from_string(compiled[0])
    kinds = {tensor.data_type for tensor in model.graph.initializer if tensor.name.endswith("_zero_point")}
    assert onnx.TensorProto.UINT8 in kinds
