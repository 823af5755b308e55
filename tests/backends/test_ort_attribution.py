"""Small networks as the installed ONNX Runtime optimises them: which layer each of its nodes is charged to, by hand."""

from __future__ import annotations

import importlib
import importlib.util
import json
import tempfile
from typing import TYPE_CHECKING, Any

import onnx
import onnx.parser
import pytest
from onnx import helper

from netadapt_trt.backend import Backend, CompileOptions, ProfiledExecutable, load_backend
from netadapt_trt.errors import BackendError
from netadapt_trt.plan.from_onnx import plan_from_onnx
from netadapt_trt.plan.write import write_network
from netadapt_trt.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from netadapt_trt.plan.schema import Plan
    from netadapt_trt.spec import Precision

executable: Any = importlib.import_module("netadapt_trt.backends.ort.executable")
nodes: Any = importlib.import_module("netadapt_trt.backends.ort.nodes")
profiler: Any = importlib.import_module("netadapt_trt.backends.ort.profiler")

pytestmark = pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is not installed")
node = helper.make_node

SAME = "kernel_shape = [3, 3], pads = [1, 1, 1, 1]"
NETWORKS = {
    "conv, batch norm, relu": (
        "float[1,16,8,8] y",
        "float[16,16,3,3] w, float[16] s, float[16] b, float[16] m, float[16] v",
        f"""c = Conv <{SAME}> (x, w)
            n = BatchNormalization (c, s, b, m, v)
            y = Relu (n)""",
        {"0_Conv": "Conv"},
    ),
    "batch norm and relu alone": (
        "float[1,16,8,8] y",
        "float[16,16,3,3] w, float[16] s, float[16] b, float[16] m, float[16] v",
        f"""c = Conv <{SAME}> (x, w)
            k = Concat <axis = 1> (c, x)
            p = MaxPool <{SAME}> (c)
            n = BatchNormalization (p, s, b, m, v)
            r = Relu (n)
            q = MaxPool <{SAME}> (k)
            z = Slice (q, start, end, one)
            y = Add (r, z)""",
        {"0_Conv": "Conv", "1_Concat": "Concat", "2_MaxPool": "MaxPool", "5_MaxPool": "MaxPool", "6_Slice": "Slice"},
    ),
    "residual sum": (
        "float[1,16,8,8] y",
        "float[16,16,3,3] w, float[16,16,3,3] u",
        f"""a = Conv <{SAME}> (x, w)
            r = Relu (a)
            c = Conv <{SAME}> (r, u)
            s = Add (c, r)
            y = Relu (s)""",
        {"0_Conv": "Conv", "2_Conv": "Conv"},
    ),
    "residual sum with a projection": (
        "float[1,16,8,8] y",
        "float[16,16,3,3] w, float[16,16,3,3] u, float[16,16,1,1] v",
        f"""a = Conv <{SAME}> (x, w)
            r = Relu (a)
            c = Conv <{SAME}> (r, u)
            p = Conv <kernel_shape = [1, 1]> (x, v)
            s = Add (c, p)
            y = Relu (s)""",
        {"0_Conv": "Conv", "2_Conv": "Conv", "3_Conv": "Conv"},
    ),
    "depthwise": (
        "float[1,16,8,8] y",
        "float[16,1,3,3] w, float[16,16,1,1] u",
        f"""a = Conv <group = 16, {SAME}> (x, w)
            r = Clip (a, zero, six)
            y = Conv <kernel_shape = [1, 1]> (r, u)""",
        {"0_Conv": "Conv", "2_Conv": "Conv"},
    ),
    "concatenation": (
        "float[1,32,8,8] y",
        "float[16,16,3,3] w, float[16,16,1,1] u",
        f"""a = Conv <{SAME}> (x, w)
            b = Conv <kernel_shape = [1, 1]> (x, u)
            y = Concat <axis = 1> (a, b)""",
        {"0_Conv": "Conv", "1_Conv": "Conv", "2_Concat": "Concat"},
    ),
    "resize": (
        "float[1,16,16,16] y",
        "float[16,16,3,3] w",
        f"""a = Conv <{SAME}> (x, w)
            y = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">
                (a, , scales)""",
        {"0_Conv": "Conv", "1_Resize": "Resize"},
    ),
    "pool, Gemm, softmax": (
        "float[1,10] y",
        "float[16,16,3,3] w, float[10,16] g, float[10] b",
        f"""a = Conv <{SAME}> (x, w)
            p = GlobalAveragePool (a)
            f = Flatten <axis = 1> (p)
            l = Gemm <transB = 1> (f, g, b)
            y = Softmax <axis = 1> (l)""",
        {"0_Conv": "Conv", "1_GlobalAveragePool": "GlobalAveragePool", "3_Gemm": "Gemm", "4_Softmax": "Softmax"},
    ),
    "squeeze and excite": (
        "float[1,16,8,8] y",
        "float[16,16,3,3] w, float[8,16,1,1] u, float[16,8,1,1] v",
        f"""a = Conv <{SAME}> (x, w)
            s = Sigmoid (a)
            m = Mul (a, s)
            p = GlobalAveragePool (m)
            d = Conv <kernel_shape = [1, 1]> (p, u)
            r = Relu (d)
            e = Conv <kernel_shape = [1, 1]> (r, v)
            g = Sigmoid (e)
            y = Mul (g, m)""",
        {"0_Conv": "Conv", "3_GlobalAveragePool": "GlobalAveragePool", "4_Conv": "Conv", "6_Conv": "Conv", "8_Mul": "Mul"},
    ),
    "transpose in a channel shuffle": (
        "float[1,16,8,8] y",
        "float[16,16,3,3] w, float[16,16,1,1] u",
        f"""a = Conv <{SAME}> (x, w)
            b = Reshape (a, apart)
            t = Transpose <perm = [0, 2, 1, 3, 4]> (b)
            z = Reshape (t, together)
            y = Conv <kernel_shape = [1, 1]> (z, u)""",
        {"0_Conv": "Conv", "2_Transpose": "Transpose", "4_Conv": "Conv"},
    ),
}  # fmt: skip
CONSTANTS = """float zero = {0}, float six = {6}, float[4] scales = {1, 1, 2, 2}, int64[5] apart = {1, 2, 8, 8, 8},
    int64[4] together = {1, 16, 8, 8}, int64[1] start = {0}, int64[1] end = {16}, int64[1] one = {1}"""

RENAMED = {"QGemm": "Gemm", "Upsample": "Resize"}


@pytest.fixture
def ort() -> Backend:
    return load_backend("ort")


def plan_of(output: str, weights: str, body: str) -> Plan:
    text = (
        '<ir_version: 9, opset_import: ["" : 20]> test (float[1,16,8,8] x) => (' + output + ") "
        f"<{weights}, {CONSTANTS}> {{ {body} }}"
    )
    model = onnx.parser.parse_model(text)
    known = {tensor.name for tensor in model.graph.initializer}
    layouts: Any = {}
    for value in model.graph.value_info:
        dims = [size.dim_value for size in value.type.tensor_type.shape.dim]
        if value.name not in known:
            model.graph.initializer.append(onnx.TensorProto(name=value.name, dims=dims, data_type=1))
            layouts[value.name] = tuple(((None, size, 1),) for size in dims)
    del model.graph.value_info[:]
    return plan_from_onnx(model, layouts, [], [], model_name="test", args={})


def serialised(ort: Backend, plan: Plan, precision: Precision = "fp32") -> bytes:
    opset, ir_version = ort.opset()
    recipe = ort.identity(precision=precision, batch=1, threads=1).recipe
    return write_network(plan, {}, opset=opset, ir_version=ir_version, precision=precision, recipe=recipe)


def optimised(model: bytes, folder: Path) -> onnx.GraphProto:
    written = profiler.Written(folder / "graph.onnx", folder / "events")
    executable.open_session(model, threads=1, profile=written)
    return onnx.load(written.graph, load_external_data=False).graph


def owners(entries: Sequence[Any], plan: Plan, ort: Backend, wanted: dict[str, str]) -> list[tuple[str, str]]:
    """(first op of a layer, kind) of each node of the wanted kinds; of several layers in one node the convolution's."""
    first = {name: layer.ops[0] for layer in ort.partition(plan) for name in layer.ops}
    found = []
    for entry in entries:
        kind = entry.kind.removeprefix("Fused").removeprefix("QLinear").removeprefix("Nhwc")
        kind = RENAMED.get(kind, kind)
        heads = {first[name] for name in entry.nodes}
        if kind in wanted.values():
            found += [(head, kind) for head in heads if len(heads) == 1 or head.endswith("_Conv")]
    return sorted(found)


@pytest.mark.parametrize("name", NETWORKS)
def test_nodes_belong_to_the_layer_that_they_compute(ort: Backend, name: str, tmp_path: Path) -> None:
    output, weights, body, expected = NETWORKS[name]
    plan = plan_of(output, weights, body)
    entries = nodes.entries_of(optimised(serialised(ort, plan), tmp_path), plan, ort.partition(plan))
    assert owners(entries, plan, ort, expected) == sorted(expected.items())
    # Reorders and the like are charged to the layer before them; only at the network's input there is none.
    assert [entry.kind for entry in entries if not entry.nodes and not (entry.copies and "x" in entry.inputs)] == []


@pytest.mark.parametrize("name", ["residual sum", "depthwise", "concatenation", "pool, Gemm, softmax"])
def test_quantised_nodes_belong_to_the_layer_that_they_compute(ort: Backend, name: str, tmp_path: Path) -> None:
    output, weights, body, expected = NETWORKS[name]
    plan = plan_of(output, weights, body)
    entries = nodes.entries_of(optimised(serialised(ort, plan, "int8"), tmp_path), plan, ort.partition(plan))
    assert owners(entries, plan, ort, expected) == sorted(expected.items())
    # What quantises the input stands before the first layer, at least one node of it.
    before = [entry for entry in entries if not entry.nodes]
    assert before[0].kind == "QuantizeLinear"
    assert all(entry.copies for entry in before)


def blocked(nodes_of_graph: list[onnx.NodeProto]) -> onnx.GraphProto:
    return helper.make_graph(nodes_of_graph, "optimised", [], [])


def test_blocked_kernels_are_told_by_the_tensor_in_their_name(ort: Backend) -> None:
    """As the optimiser writes them where the processor has blocked kernels, whatever the processor of this test."""
    plan = plan_of(*NETWORKS["residual sum"][:3])
    graph = blocked(
        [
            node("ReorderInput", ["x"], ["reorder_token_0"], "ReorderInput"),
            node("Conv", ["reorder_token_0"], ["reorder_token_1"], "r_nchwc", activation="Relu"),
            node("Conv", ["reorder_token_1", "w", "", "reorder_token_1"], ["reorder_token_2"], "c_nchwc", activation="Relu"),
            node("ReorderOutput", ["reorder_token_2"], ["y"], "ReorderOutput_token_7"),
        ]
    )
    entries = nodes.entries_of(graph, plan, ort.partition(plan))
    assert [set(entry.nodes) for entry in entries] == [
        set(),
        {"1_Relu", "0_Conv"},
        {"4_Relu", "3_Add", "2_Conv"},
        {"4_Relu"},
    ]
    assert [entry.copies for entry in entries] == [True, False, False, False]


def test_sum_that_is_another_layer_s_leaves_a_convolution_its_own_layer(ort: Backend) -> None:
    """The projection runs first and has the sum in the partition; ONNX Runtime adds in the other convolution."""
    plan = plan_of(*NETWORKS["residual sum with a projection"][:3])
    graph = blocked(
        [
            node("Conv", ["x"], ["reorder_token_0"], "r_nchwc", activation="Relu"),
            node("Conv", ["x"], ["reorder_token_1"], "p_nchwc"),
            node("Conv", ["reorder_token_0", "u", "", "reorder_token_1"], ["reorder_token_2"], "c_nchwc", activation="Relu"),
        ]
    )
    owner = {name: layer.ops[0] for layer in ort.partition(plan) for name in layer.ops}
    entries = nodes.entries_of(graph, plan, ort.partition(plan))
    assert [{owner[name] for name in entry.nodes} for entry in entries] == [{"0_Conv"}, {"3_Conv"}, {"2_Conv"}]


def test_batch_norm_that_became_a_convolution_takes_its_activation(ort: Backend) -> None:
    plan = plan_of(*NETWORKS["conv, batch norm, relu"][:3])
    graph = blocked(
        [
            node("Conv", ["x"], ["reorder_token_0"], "c_nchwc"),
            node("Conv", ["reorder_token_0"], ["reorder_token_1"], "n_bn_nchwc_token_3", activation="Relu"),
            node("ReorderOutput", ["reorder_token_1"], ["y"], "ReorderOutput"),
        ]
    )
    entries = nodes.entries_of(graph, plan, ort.partition(plan))
    assert [set(entry.nodes) for entry in entries] == [{"0_Conv"}, {"1_BatchNormalization", "2_Relu"}, {"2_Relu"}]


def test_node_of_unknown_name_is_told_by_what_its_result_becomes_or_not_at_all(ort: Backend) -> None:
    plan = plan_of(*NETWORKS["depthwise"][:3])
    graph = blocked(
        [
            node("Conv", ["x"], ["t"], "nobody knows"),
            node("ReorderOutput", ["t"], ["r"], "ReorderOutput"),
            node("Mystery", ["r"], ["u"], "nobody knows either"),
            node("Conv", ["u"], ["y"], "fused 2_Conv"),
        ]
    )
    entries = nodes.entries_of(graph, plan, ort.partition(plan))
    assert [set(entry.nodes) for entry in entries] == [{"1_Clip", "0_Conv"}, {"1_Clip"}, set(), {"2_Conv"}]
    assert not entries[2].copies


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_attribution_adds_up(ort: Backend, precision: Precision) -> None:
    plan = plan_of(*NETWORKS["residual sum"][:3])
    layers = ort.partition(plan)
    with ort.compile(serialised(ort, plan, precision), CompileOptions(precision=precision)) as exe:
        assert isinstance(exe, ProfiledExecutable)
        found = exe.attribute(plan, layers, {}, runs=5)
        exe.run()
    assert found.mapped_share == pytest.approx(1.0)
    assert found.total_ms > 0
    told = sum(time.latency_ms for time in found.layers) + sum(edge.latency_ms for edge in found.edges)
    assert told == pytest.approx(found.total_ms)
    assert found.run_ms is not None
    assert found.run_ms > 0
    assert {edge.producer for edge in found.edges} <= {None}


def test_steady_mean_leaves_out_warm_up_and_interruptions() -> None:
    # The first two of ten are warm-up; of the eight others sorted, int(0.1 * 8) = 0 to int(0.7 * 8) = 5 count.
    assert profiler.steady_mean([90, 80, 3, 70, 1, 60, 2, 4, 50, 5]) == pytest.approx(3.0)
    assert profiler.steady_mean([7.0]) == 7.0


def test_profile_leaves_no_files(ort: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    plan = plan_of(*NETWORKS["depthwise"][:3])
    with ort.compile(serialised(ort, plan), CompileOptions()) as exe:
        assert isinstance(exe, ProfiledExecutable)
        exe.attribute(plan, ort.partition(plan), {}, runs=1)
    assert list(tmp_path.iterdir()) == []


def test_profile_without_a_temporary_directory_says_what_to_do(
    ort: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    plan = plan_of(*NETWORKS["depthwise"][:3])
    with ort.compile(serialised(ort, plan), CompileOptions()) as exe:
        assert isinstance(exe, ProfiledExecutable)
        with pytest.raises(BackendError, match="TMPDIR"):
            exe.attribute(plan, ort.partition(plan), {}, runs=1)
        exe.run()


class Silent:
    """An executable whose profile holds ``text``."""

    def __init__(self, written: Any, text: str) -> None:
        self._written, self._text = written, text

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self) -> None:
        pass

    def end_profile(self) -> str:
        self._written.graph.write_bytes(onnx.ModelProto(graph=blocked([])).SerializeToString())
        self._written.events.write_text(self._text)
        return str(self._written.events)


def kernel(name: str, us: int) -> dict[str, Any]:
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": us, "args": {"op_name": "Conv"}}


def test_profile_reads_microseconds_of_kernels_only() -> None:
    others = [{"cat": "Session", "name": "model_run", "dur": 99}, {"cat": "Node", "name": "a_fence_before", "dur": 50}]
    events = json.dumps([*others, kernel("a", 1000), kernel("b", 7), kernel("a", 3000), kernel("b", 7)])
    found = profiler.profile_nodes(lambda written: Silent(written, events), runs=1)
    # Of two runs the first fifth is none; int(0.7 * 2) = 1 sample is kept, the shorter.
    assert found.times_ms == {"a": 1.0, "b": 0.007}


@pytest.mark.parametrize(
    ("text", "message"),
    [("[", "not understood"), ("[3]", "not understood"), ("[]", "names no node"), ("{}", "names no node")],
)
def test_profile_of_something_else_is_refused(text: str, message: str) -> None:
    with pytest.raises(BackendError, match=message):
        profiler.profile_nodes(lambda written: Silent(written, text), runs=1)


def test_time_of_a_real_network_is_told_by_layer(ort: Backend, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    graph: Any = importlib.import_module("netadapt_trt.graph.network")
    planner: Any = importlib.import_module("netadapt_trt.graph.planner")
    args = {"width": "0.25", "stem": "cifar"}
    model = ModelSpec(model="zoo:mobilenet_v1", input_shape=(1, 3, 32, 32), args=args, num_classes=10)
    plan = planner.make_plan(graph.open_network(model))
    layers = ort.partition(plan)
    owner = {name: layer for layer in layers for name in layer.ops}
    for precision in ort.precisions():
        folder = tmp_path / precision
        folder.mkdir()
        entries = nodes.entries_of(optimised(serialised(ort, plan, precision), folder), plan, layers)
        assert [layer for layer in layers if layer not in [owner[name] for entry in entries for name in entry.nodes]] == []
        with ort.compile(serialised(ort, plan, precision), CompileOptions(precision=precision)) as exe:
            assert isinstance(exe, ProfiledExecutable)
            found = exe.attribute(plan, layers, {}, runs=5)
        assert found.mapped_share >= 0.98
        assert found.unmapped == ()
        assert [time.layer for time in found.layers if time.region] == []
