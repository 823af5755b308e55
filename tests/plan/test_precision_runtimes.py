"""Every kind of operator that a partition makes layers of, in fp16 and int8: valid ONNX, right numbers, right kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.parser
import onnx.reference
import pytest

from netadapt_trt.plan.precision import RECIPES, calibrated_tensors, to_fp16, to_int8

if TYPE_CHECKING:
    from pathlib import Path

# name: (inputs, result, weights, body, operators that ONNX Runtime's optimised int8 model must consist of)
CHW = "float[1,16,8,8]"
KINDS: dict[str, tuple[str, str, str, str, set[str]]] = {
    "conv_relu": (f"{CHW} x", f"{CHW} y", "float[16,16,3,3] w, float[16] b",
        "a = Conv <pads = [1, 1, 1, 1]> (x, w, b) y = Relu (a)", {"QLinearConv"}),
    "depthwise_clip": (f"{CHW} x", f"{CHW} y", "float[16,1,3,3] w, float[16] b, float low = {0}, float high = {6}",
        "a = Conv <group = 16, pads = [1, 1, 1, 1]> (x, w, b) y = Clip (a, low, high)", {"QLinearConv"}),
    "residual": (f"{CHW} x, {CHW} s", f"{CHW} y", "float[16,16,1,1] w, float[16] b",
        "a = Conv (x, w, b) c = Add (a, s) y = Relu (c)", {"QLinearConv", "QLinearAdd"}),
    "conv_hardswish": (f"{CHW} x", f"{CHW} y", "float[16,16,1,1] w", "a = Conv (x, w) y = HardSwish (a)", set()),
    "conv_silu": (f"{CHW} x", f"{CHW} y", "float[16,16,1,1] w",
        "a = Conv (x, w) s = Sigmoid (a) y = Mul (a, s)", {"QLinearConv", "QLinearSigmoid", "QLinearMul"}),
    "squeeze_excite": (f"{CHW} x", f"{CHW} y", "float[8,16,1,1] w, float[8] b, float[16,8,1,1] v, float[16] c",
        "p = GlobalAveragePool (x) q = Conv (p, w, b) r = Relu (q) s = Conv (r, v, c) t = Sigmoid (s) y = Mul (x, t)",
        {"QLinearGlobalAveragePool", "QLinearConv", "QLinearSigmoid", "QLinearMul"}),
    "concat": (f"{CHW} x, {CHW} s", f"{CHW} y", "float[16,32,1,1] w",
        "c = Concat <axis = 1> (x, s) a = Conv (c, w) y = Relu (a)", {"QLinearConcat", "QLinearConv"}),
    "max_pool": (f"{CHW} x", "float[1,16,4,4] y", "float[16,16,1,1] w",
        "a = Conv (x, w) b = Relu (a) y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (b)",
        {"QLinearConv", "MaxPool", "NhwcMaxPool"}),
    "average_pool": (f"{CHW} x", "float[1,16,4,4] y", "",
        "y = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (x)", {"QLinearAveragePool"}),
    "classifier": (f"{CHW} x", "float[1,10] y", "float[10,16] w, float[10] b",
        "p = GlobalAveragePool (x) f = Flatten (p) y = Gemm <transB = 1> (f, w, b)",
        {"QLinearGlobalAveragePool", "QGemm", "Flatten"}),
    "hidden_gemm": ("float[1,16] x", "float[1,16] y", "float[16,16] w, float[16] b",
        "a = Gemm (x, w, b) y = Relu (a)", {"QGemm"}),
    "matmul": ("float[1,4,16] x", "float[1,4,16] y", "float[16,16] w", "a = MatMul (x, w) y = Relu (a)", {"QLinearMatMul"}),
}  # fmt: skip
_FRAME = {"QuantizeLinear", "DequantizeLinear", "Transpose", "Reshape"}


def model_of(kind: str) -> onnx.ModelProto:
    """The kind's graph, opset 20, with seeded weights that keep activations near 1."""
    inputs, result, weights, body, _ = KINDS[kind]
    head = f'<ir_version: 9, opset_import: ["" : 20]> {kind} ({inputs}) => ({result})'
    model = onnx.parser.parse_model(f"{head} <{weights}> {{ {body} }}" if weights else f"{head} {{ {body} }}")
    generator = np.random.default_rng(7)
    known = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.value_info:
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if value.name not in known:
            fan_in = max(int(np.prod(shape[1:])), 1)
            values = (generator.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)
            model.graph.initializer.append(onnx.numpy_helper.from_array(values, value.name))
    del model.graph.value_info[:]
    return model


def fed(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(3)
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in model.graph.input}
    return {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def ranges_of(model: onnx.ModelProto, recipe: str) -> dict[str, tuple[float, float]]:
    """What the tensors are on :func:`fed`, by onnx's own slow evaluator."""
    inputs, tensors = fed(model), calibrated_tensors(model, recipe)
    made = [name for name in tensors if name not in inputs]
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    for name in made:
        watched.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    found = dict(zip(made, onnx.reference.ReferenceEvaluator(watched).run(None, inputs) if made else [], strict=True))
    return {name: (float(values.min()), float(values.max())) for name, values in {**inputs, **found}.items()}


def session(model: onnx.ModelProto, saved: Path | None = None) -> Any:
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # a file optimised for this machine is what the test wants; no warning
    if saved is not None:
        options.optimized_model_filepath = str(saved)
    return runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("kind", KINDS)
def test_int8_computes_the_same_within_quantisation_error(kind: str, recipe: str) -> None:
    model = model_of(kind)
    quantised = to_int8(model, recipe=recipe, ranges=ranges_of(model, recipe))
    onnx.checker.check_model(quantised, full_check=True)
    (expected,) = session(model).run(None, fed(model))
    (found,) = session(quantised).run(None, fed(model))
    reach = np.abs(expected).max()
    # One step of the input, one per stage behind it; a step is 1/255 of a range (up to 2 reaches) or 1/127 of a reach.
    stages = 1 + sum(node.op_type in ("Conv", "Gemm", "MatMul", "Add", "Mul", "Sigmoid") for node in model.graph.node)
    assert np.abs(found - expected).max() <= stages * 1.5 * reach / 127
    assert np.abs(found - expected).max() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_int8_runs_quantised_kernels_only(kind: str, tmp_path: Path) -> None:
    model = model_of(kind)
    session(to_int8(model, recipe="qdq-ort-x86", io="int8"), tmp_path / "optimised.onnx")
    ran = {node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node}
    kernels = KINDS[kind][4]
    if kernels:
        assert ran & kernels
        assert ran <= kernels | _FRAME
    else:  # ONNX Runtime has no 8-bit HardSwish; the convolution before it is one all the same
        assert "QLinearConv" in ran


@pytest.mark.parametrize("kind", KINDS)
def test_int8_for_tensorrt_has_zero_points_of_zero_only(kind: str) -> None:
    for io in ("fp32", "int8"):
        model = to_int8(model_of(kind), recipe="qdq-trt", io=io)
        onnx.checker.check_model(model, full_check=True)
        values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
        assert pairs
        for node in pairs:
            assert values[node.input[2]].dtype == np.int8
            assert not values[node.input[2]].any()
        biases = {node.input[2] for node in model.graph.node if node.op_type in ("Conv", "Gemm") and len(node.input) > 2}
        assert all(values[name].dtype == np.float32 for name in biases)


@pytest.mark.parametrize("kind", KINDS)
def test_fp16_computes_the_same_within_rounding(kind: str) -> None:
    model = model_of(kind)
    half = to_fp16(model)
    onnx.checker.check_model(half, full_check=True)
    onnx.checker.check_model(to_fp16(model, io="fp16"), full_check=True)
    (expected,) = session(model).run(None, fed(model))
    (found,) = session(half).run(None, fed(model))
    # fp16 has 11 bits: 5e-4 of a value, summed over at most 144 products that partly cancel.
    np.testing.assert_allclose(found, expected, atol=5e-3 * np.abs(expected).max())


def built(model: onnx.ModelProto) -> tuple[list[str], dict[str, str]]:
    """(errors, tensor types as TensorRT reads them) of a build for an RTX 40 card by TensorRT for RTX; needs no GPU."""
    trt: Any = pytest.importorskip("tensorrt_rtx")

    class Quiet(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self.errors.append(message)

    logger = Quiet()
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model.SerializeToString()):
        return [str(parser.get_error(index)) for index in range(parser.num_errors)], {}
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    types = {layer.get_output(0).name: layer.get_output(0).dtype.name for layer in layers if layer.num_outputs}
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    if builder.build_serialized_network(network, config) is None:
        return logger.errors or ["the builder returns nothing"], types
    return [], types


@pytest.mark.parametrize("kind", KINDS)
def test_tensorrt_builds_a_layer_in_int8(kind: str) -> None:
    errors, types = built(to_int8(model_of(kind), recipe="qdq-trt", io="int8"))
    assert not errors
    assert "INT8" in types.values()


@pytest.mark.parametrize("kind", KINDS)
def test_tensorrt_builds_a_layer_in_fp16(kind: str) -> None:
    errors, types = built(to_fp16(model_of(kind), io="fp16"))
    assert not errors
    assert types["y"] == "HALF"
    assert "FLOAT" not in types.values()


@pytest.mark.parametrize("kind", ["squeeze_excite", "residual", "classifier"])
def test_tensorrt_builds_networks_with_float_ends(kind: str) -> None:
    for model in (to_fp16(model_of(kind)), to_int8(model_of(kind), recipe="qdq-trt")):
        errors, types = built(model)
        assert not errors
        assert types["y"] == "FLOAT"


def test_tensorrt_refuses_the_other_recipe() -> None:
    """Why there are two: uint8 with other zero points is not TensorRT's."""
    errors, _ = built(to_int8(model_of("conv_relu"), recipe="qdq-ort-x86", io="int8"))
    assert errors
