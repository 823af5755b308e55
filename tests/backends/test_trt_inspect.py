"""Entries of engines as TensorRT 8.6, 10 and 11 describe them, mapped to the layers of a plan. All shares by hand."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest

from netadapt_trt.errors import BackendError
from netadapt_trt.plan.schema import Dim, Op, Plan, Tensor

attribution: Any = importlib.import_module("netadapt_trt.backends.attribution")
inspect: Any = importlib.import_module("netadapt_trt.backends.trt.inspect")
partition: Any = importlib.import_module("netadapt_trt.backends.trt.partition")

SAME: dict[str, Any] = {"pads": (1, 1, 1, 1), "kernel_shape": (3, 3)}


@pytest.fixture
def plan() -> Plan:
    """x [1,3,4,4] -> c1 (3x3, 8) + r1 -> siblings a (1x1, 4) and b (1x1, 12) -> max pools pa, pb."""
    one, four = Dim(1), Dim(4)
    channels = {"x": 3, "t1": 8, "u1": 8, "ta": 4, "tb": 12, "ya": 4, "yb": 12}
    tensors = {name: Tensor(name, "float32", (one, Dim(size), four, four)) for name, size in channels.items()}
    shapes = {"w1": (8, 3, 3, 3), "wa": (4, 8, 1, 1), "wb": (12, 8, 1, 1)}
    return Plan(
        model="test", args={}, inputs=("x",), outputs=("ya", "yb"), groups=(), frozen=(), tensors=tensors,
        weights={name: Tensor(name, "float32", tuple(map(Dim, shape))) for name, shape in shapes.items()},
        constants={},
        ops=(
            Op("c1", "Conv", ("x", "w1"), ("t1",), SAME),
            Op("r1", "Relu", ("t1",), ("u1",)),
            Op("a", "Conv", ("u1", "wa"), ("ta",), {"kernel_shape": (1, 1)}),
            Op("b", "Conv", ("u1", "wb"), ("tb",), {"kernel_shape": (1, 1)}),
            Op("pa", "MaxPool", ("ta",), ("ya",), SAME),
            Op("pb", "MaxPool", ("tb",), ("yb",), SAME),
        ),
    )  # fmt: skip


def layer(name: str, kind: str, metadata: str, inputs: list[str], outputs: list[str]) -> dict[str, Any]:
    ends = [[{"Name": tensor, "Dimensions": []} for tensor in side] for side in (inputs, outputs)]
    return {"Name": name, "LayerType": kind, "Inputs": ends[0], "Outputs": ends[1], "Metadata": metadata}


def document(*layers: Any) -> str:
    return json.dumps({"Layers": layers, "Bindings": ["x", "ya", "yb"]})


COPY_IN = "Reformatting CopyNode for Input Tensor 0 to c1 + r1"


def engine(separator: str) -> str:
    return document(
        layer(COPY_IN, "Reformat", "", ["x"], ["Reformatted Input Tensor 0 to c1 + r1"]),
        layer(
            "c1 + r1", "CaskConvolution", f"[ONNX Layer: c1]{separator}[ONNX Layer: r1]",
            ["Reformatted Input Tensor 0 to c1 + r1"], ["u1"],
        ),
        layer("a || b", "CaskConvolution", f"[ONNX Layer: a]{separator}[ONNX Layer: b]", ["u1"], ["ab"]),
        layer("copy", "Reformat", "", ["ab"], ["ta"]),
        layer("pa", "PoolingV2", "[ONNX Layer: pa]", ["ta"], ["ya"]),
        layer("pb", "PoolingV2", "[ONNX Layer: pb]", ["ab"], ["yb"]),
    )  # fmt: skip


TIMES = {COPY_IN: 0.25, "c1 + r1": 1.0, "a || b": 0.8, "copy": 0.125, "pa": 0.1, "pb": 0.2}


def attribute(plan: Plan, text: str, times: dict[str, float]) -> Any:
    return attribution.attribute_entries(inspect.read_entries(text), times, plan, partition.partition(plan), {})


@pytest.mark.parametrize("separator", ["\x1e", "\x1f", ""])
def test_attribution_maps_kernels_regions_and_edges(plan: Plan, separator: str) -> None:
    found = attribute(plan, engine(separator), TIMES)
    layers = {item.layer.ops: item for item in found.layers}
    assert layers["c1", "r1"].latency_ms == pytest.approx(1.0)
    assert layers["c1", "r1"].region == ()
    # 8 -> 4 and 8 -> 12 channels at equal size: a quarter and three quarters of the multiplications.
    assert layers[("a",)].latency_ms == pytest.approx(0.2)
    assert layers[("b",)].latency_ms == pytest.approx(0.6)
    assert layers[("a",)].region == (layers[("b",)].layer.key,)
    assert layers[("pb",)].latency_ms == pytest.approx(0.2)
    edges = {
        (edge.producer and edge.producer.ops, edge.consumer and edge.consumer.ops): edge.latency_ms for edge in found.edges
    }
    # The second copy comes out of the region, whose last layer is b, and goes into pa.
    assert edges == {(None, ("c1", "r1")): 0.25, (("b",), ("pa",)): 0.125}
    assert found.total_ms == pytest.approx(2.475)
    assert found.mapped_share == pytest.approx(1.0)
    assert found.unmapped == ()


def test_attribution_says_what_it_cannot_map(plan: Plan) -> None:
    text = document(
        layer("c1 + r1", "CaskConvolution", "[ONNX Layer: c1]\x1e[ONNX Layer: r1]", ["x"], ["u1"]),
        layer("__myl_MulAdd_myl0_3", "kgen", "", ["u1"], ["ta"]),
        layer("pa", "PoolingV2", "[ONNX Layer: pa]", ["ta"], ["ya"]),
    )
    found = attribute(plan, text, {"c1 + r1": 3.0, "__myl_MulAdd_myl0_3": 1.0, "pa": 1.0, "not in the inspector": 5.0})
    assert found.unmapped == ("__myl_MulAdd_myl0_3", "not in the inspector")
    assert found.mapped_share == pytest.approx(0.4)


def test_attribution_reads_what_myelin_writes(plan: Plan) -> None:
    # As TensorRT-RTX 1.7 describes an engine: copies without metadata, kernels with the ONNX names of their nodes.
    text = document(
        layer("__myl_Move_myl0_0", "kgen", "", ["x"], ["__mye50_2_myl0"]),
        layer("c1_myl0_1", "correlation", "[ONNX Layer: c1]\x1f[ONNX Layer: r1]", ["__mye50_2_myl0"], ["__bb1_3_myl0"]),
        layer("__myl_Tran_myl0_2", "kgen", "", ["__bb1_3_myl0"], ["u1"]),
    )
    found = attribute(plan, text, {"__myl_Move_myl0_0": 0.1, "c1_myl0_1": 0.7, "__myl_Tran_myl0_2": 0.2})
    assert found.mapped_share == pytest.approx(1.0)
    assert found.layers[0].latency_ms == pytest.approx(0.7)
    ends = [(edge.producer and edge.producer.ops, edge.consumer and edge.consumer.ops) for edge in found.edges]
    assert ends == [(None, ("c1", "r1")), (("c1", "r1"), None)]


def test_attribution_splits_what_multiplies_nothing_by_results(plan: Plan) -> None:
    text = document(layer("{ForeignNode[pa...pb]}", "Myelin", "", ["ab"], ["ya", "yb"]))
    found = attribute(plan, text, {"{ForeignNode[pa...pb]}": 1.6})
    layers = {item.layer.ops: item.latency_ms for item in found.layers}
    # 4 and 12 channels of equal size.
    assert layers[("pa",)] == pytest.approx(0.4)
    assert layers[("pb",)] == pytest.approx(1.2)


def test_attribution_charges_conversions_to_the_edge(plan: Plan) -> None:
    text = document(
        layer("u1_QuantizeLinear", "Scale", "[ONNX Layer: u1_QuantizeLinear]", ["u1"], ["q"]),
        layer("a", "CaskConvolution", "[ONNX Layer: u1_DequantizeLinear]\x1e[ONNX Layer: a]", ["q"], ["ta"]),
    )
    found = attribute(plan, text, {"u1_QuantizeLinear": 0.5, "a": 1.0})
    (edge,) = found.edges
    assert (edge.producer.ops, edge.consumer.ops, edge.latency_ms) == (("c1", "r1"), ("a",), 0.5)
    assert {item.layer.ops: item.latency_ms for item in found.layers}["a",] == 1.0


def test_attribution_of_nothing_is_no_division_by_zero(plan: Plan) -> None:
    assert attribute(plan, document(), {}).mapped_share == 0.0


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("c1 + r1", ("c1", "r1")),
        ("a + ra || b + rb", ("a", "ra", "b", "rb")),
        ("PWN(PWN(gate), product)", ("gate", "product")),
        ("{ForeignNode[a...b]}", ("a", "...", "b")),
        ("Reformatting CopyNode for Input Tensor 0 to c1", ()),
        ("__myl_Move_myl0_0", ()),
    ],
)
def test_entries_built_with_names_only_are_read_from_them(name: str, nodes: tuple[str, ...]) -> None:
    (entry,) = inspect.read_entries(document(name))
    assert (entry.name, entry.nodes) == (name, nodes)


def test_entries_with_raw_control_characters_are_read() -> None:
    text = '{"Layers": [{"Name": "c", "Metadata": "[ONNX Layer: a]\x1e[ONNX Layer: b[0]]"}], "Bindings": []}'
    (entry,) = inspect.read_entries(text)
    assert entry.nodes == ("a", "b[0]")


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"Bindings": []}', '{"Layers": [3]}', '{"Layers": [{"Kind": 1}]}'])
def test_entries_of_something_else_are_refused(text: str) -> None:
    with pytest.raises(BackendError, match="inspector"):
        inspect.read_entries(text)
