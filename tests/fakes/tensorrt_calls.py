"""What the tests of the fake `tensorrt` share: small networks, a listening logger, the calls up to an engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = [
    "CONV1_MS",
    "RANDOM",
    "RESIDUAL",
    "W1",
    "W2",
    "WEIGHTS",
    "Log",
    "build",
    "model",
    "network",
    "node",
    "opset_bytes",
    "parse",
    "scaled",
]

RANDOM = np.random.default_rng(5)
W1 = RANDOM.standard_normal((4, 3, 3, 3)).astype(np.float32)
W2 = RANDOM.standard_normal((4, 4, 1, 1)).astype(np.float32)


class Log:
    """What a logger heard."""

    def __init__(self, trt: Any) -> None:
        heard = self.heard = list[tuple[str, str]]()

        class Listener(trt.ILogger):  # type: ignore[misc]
            def log(self, severity: Any, msg: str) -> None:
                heard.append((severity.name, msg))

        self.logger = Listener()

    def errors(self) -> str:
        return "\n".join(text for severity, text in self.heard if severity == "ERROR")


def model(
    nodes: list[Any], weights: dict[str, Any], *, opset: int = 17, size: Any = 8, kind: int = TensorProto.FLOAT
) -> bytes:
    x = helper.make_tensor_value_info("x", kind, [1, 3, size, size])
    y = helper.make_tensor_value_info("y", kind, None)
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], initializers)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    content: bytes = onnx.shape_inference.infer_shapes(made).SerializeToString()
    return content


def opset_bytes(opset: int) -> bytes:
    """How a model names its opset: to be replaced by one that onnx itself would not write."""
    return b"B\x04\n\x00\x10" + bytes([opset])


def node(op: str, inputs: str, output: str, name: str, **attributes: Any) -> Any:
    return helper.make_node(op, inputs.split(), [output], name=name, **attributes)


RESIDUAL = [
    node("Conv", "x w1", "a", "conv1", pads=[1, 1, 1, 1]),
    node("Relu", "a", "b", "relu1"),
    node("Conv", "b w2", "c", "conv2"),
    node("Add", "c b", "d", "add"),
    node("Relu", "d", "y", "relu2"),
]
WEIGHTS = {"w1": W1, "w2": W2}
CONV1_MS = 8 * 8 * 9 * 64 / 1e9


def scaled(zero_point: Any) -> tuple[list[Any], dict[str, Any]]:
    nodes = [
        node("QuantizeLinear", "x s z", "q", "quant"),
        node("DequantizeLinear", "q s z", "dq", "dequant"),
        node("Conv", "dq w1", "y", "conv1"),
    ]
    return nodes, {"w1": W1, "s": np.float32(0.05), "z": zero_point}


def network(trt: Any, builder: Any, *, strong: bool = False) -> Any:
    flags = trt.NetworkDefinitionCreationFlag
    names = ["EXPLICIT_BATCH", *(["STRONGLY_TYPED"] if strong else [])]
    return builder.create_network(sum(1 << int(getattr(flags, name)) for name in names if hasattr(flags, name)))


def parse(trt: Any, log: Log, content: bytes, *, strong: bool = False) -> tuple[Any, Any, Any]:
    builder = trt.Builder(log.logger)
    made = network(trt, builder, strong=strong)
    parser = trt.OnnxParser(made, log.logger)
    parser.parse(content)
    return builder, made, parser


def build(trt: Any, log: Log, content: bytes, *, strong: bool = False, **settings: Any) -> Any:
    builder, made, parser = parse(trt, log, content, strong=strong)
    assert parser.num_errors == 0
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    for flag in settings.pop("flags", ()):
        config.set_flag(getattr(trt.BuilderFlag, flag))
    for name, value in settings.items():
        setattr(config, name, value)
    return builder.build_serialized_network(made, config)
