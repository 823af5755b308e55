"""Exports are quiet, in one form, and compute what PyTorch computes."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn
from torch.nn import functional

from netadapt_trt.errors import SpecError, TraceError
from netadapt_trt.graph.export import canonical, export_onnx

HEAD = '<ir_version: 9, opset_import: ["" : 20]>\n'


def run(model: onnx.ModelProto, picture: torch.Tensor) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    (result,) = ReferenceEvaluator(model).run(None, {model.graph.input[0].name: picture.numpy()})
    return np.asarray(result)


def rewritten(body: str, signature: str) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """An ONNX text before and after it is brought into one form."""
    before = onnx.parser.parse_model(f"{HEAD} g {signature} {body}")
    after = onnx.ModelProto()
    after.CopyFrom(before)
    return before, canonical(after)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = functional.relu(self.norm(self.conv(x)))
        logits: torch.Tensor = self.head(functional.dropout(made, training=self.training).mean((2, 3)))
        return logits


def test_export_folds_norms_names_ends_and_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    model = Small().train()
    with torch.no_grad():
        for name, tensor in model.norm.state_dict().items():
            if name in ("running_mean", "bias"):
                tensor.uniform_(-1, 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exported = export_onnx(model, (2, 3, 8, 8))
    assert not caught
    assert capfd.readouterr() == ("", "")
    assert [node.op_type for node in exported.graph.node] == ["Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm"]
    assert (exported.graph.input[0].name, exported.graph.output[0].name) == ("input", "output")
    assert {"conv.weight", "head.weight", "head.bias"} <= {tensor.name for tensor in exported.graph.initializer}
    picture = torch.randn(2, 3, 8, 8)
    expected = model.eval()(picture).detach().numpy()
    np.testing.assert_allclose(run(exported, picture), expected, atol=1e-5 * np.abs(expected).max())
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(exported.SerializeToString(), providers=["CPUExecutionProvider"])
    (fast,) = session.run(["output"], {"input": picture.numpy()})
    np.testing.assert_allclose(fast, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_export_pins_the_opset_it_is_asked_for() -> None:
    assert export_onnx(Small(), (1, 3, 8, 8), opset=18).opset_import[0].version == 18


class Normed(nn.Module):
    """Operators that opset 17 writes otherwise than 18 (a mean's axes) or not at all (GELU), and one that 16 lacks."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = functional.gelu(self.norm(picture).mean(dim=(1, 3)))
        return scores


def test_export_converts_to_an_opset_that_the_exporter_does_not_write() -> None:
    model = Normed()
    exported = export_onnx(model, (2, 3, 8, 8), opset=17)
    assert [(entry.domain, entry.version) for entry in exported.opset_import] == [("", 17)]
    (mean,) = (node for node in exported.graph.node if node.op_type == "ReduceMean")
    assert len(mean.input) == 1
    picture = torch.randn(2, 3, 8, 8)
    np.testing.assert_allclose(run(exported, picture), model(picture).detach().numpy(), atol=1e-5)


def test_export_refuses_an_opset_without_the_operators_and_names_the_lowest() -> None:
    with pytest.raises(SpecError, match=r"opset 16: .*LayerNormalization.*; the lowest it has a form in is 17"):
        export_onnx(Normed(), (2, 3, 8, 8), opset=16)


def test_network_that_does_not_take_the_input_is_told() -> None:
    with pytest.raises(TraceError, match=r"\(1, 4, 8, 8\)"):
        export_onnx(Small(), (1, 4, 8, 8))


REDUCED = "y = ReduceMean <keepdims = {}> (x, axes)"


@pytest.mark.parametrize(
    ("body", "shape", "kinds"),
    [
        (f"<int64[2] axes = {{2, 3}}> {{ {REDUCED.format(1)} }}", "1,6,1,1", ["GlobalAveragePool"]),
        (f"<int64[2] axes = {{-1, -2}}> {{ {REDUCED.format(0)} }}", "1,6", ["GlobalAveragePool", "Flatten"]),
        (f"<int64[1] axes = {{2}}> {{ {REDUCED.format(1)} }}", "1,6,1,4", ["ReduceMean"]),
        ("<int64[2] shape = {1, 96}> { y = Reshape (x, shape) }", "1,96", ["Flatten"]),
        ("<int64[3] shape = {1, 6, 16}> { y = Reshape (x, shape) }", "1,6,16", ["Reshape"]),
        ("{ a = Identity (x) b = Dropout (a) y = Relu (b) }", "1,6,4,4", ["Relu"]),
        ('<int64[4] sizes = {1, 6, 8, 10}> { y = Resize <mode = "linear"> (x, , , sizes) }', "1,6,8,10", ["Resize"]),
    ],
)
def test_canonical_form_computes_the_same(body: str, shape: str, kinds: list[str]) -> None:
    before, after = rewritten(body, f"(float[1,6,4,4] x) => (float[{shape}] y)")
    assert [node.op_type for node in after.graph.node] == kinds
    picture = torch.randn(1, 6, 4, 4)
    np.testing.assert_allclose(run(after, picture), run(before, picture), atol=1e-6)


def constants(model: onnx.ModelProto) -> list[list[float]]:
    return [onnx.numpy_helper.to_array(tensor).tolist() for tensor in model.graph.initializer]


@pytest.mark.parametrize(
    ("shape", "signature", "relative"),
    [
        ("{1, 6, 1, 1}", "(float[1,6] x) => (float[1,6,1,1] y)", [0, 0, 1, 1]),
        ("{1, 6, 16}", "(float[1,6,4,4] x) => (float[1,6,16] y)", [0, 0, -1]),
        ("{1, 2, 3, 16}", "(float[1,6,4,4] x) => (float[1,2,3,16] y)", [0, 2, 3, 16]),
    ],
)
def test_reshape_keeps_no_number_that_its_input_has(shape: str, signature: str, relative: list[int]) -> None:
    rank = shape.count(",") + 1
    _, after = rewritten(f"<int64[{rank}] s = {shape}> {{ y = Reshape <allowzero = 1> (x, s) }}", signature)
    assert constants(after) == [relative]
    assert not after.graph.node[0].attribute


def test_resize_by_sizes_becomes_a_resize_by_scales() -> None:
    _, after = rewritten(
        '<int64[4] s = {1, 6, 8, 10}> { y = Resize <mode = "linear"> (x, , , s) }',
        "(float[1,6,4,4] x) => (float[1,6,8,10] y)",
    )
    assert constants(after) == [[1, 1, 2, 2.5]]
    assert list(after.graph.node[0].input) == ["input", "", "y_scales"]


def test_repetition_before_a_product_goes_but_not_before_a_convolution() -> None:
    body = "<int64[4] s = {1, 6, 4, 4}> { a = GlobalAveragePool (x) b = Expand (a, s) y = Mul (x, b) }"
    before, after = rewritten(body, "(float[1,6,4,4] x) => (float[1,6,4,4] y)")
    assert [node.op_type for node in after.graph.node] == ["GlobalAveragePool", "Mul"]
    picture = torch.randn(1, 6, 4, 4)
    np.testing.assert_array_equal(run(after, picture), run(before, picture))
    body = "<int64[4] s = {1, 6, 4, 4}> { a = GlobalAveragePool (x) b = Expand (a, s) y = Relu (b) }"
    _, after = rewritten(body, "(float[1,6,4,4] x) => (float[1,6,4,4] y)")
    assert [node.op_type for node in after.graph.node] == ["GlobalAveragePool", "Expand", "Relu"]
