"""What the installed ONNX Runtime fuses on this processor: the facts that backends/fusion.py was written from.

    python tools/show_ort_fusion.py

Prints the kernels of small optimised models, one activation or pattern a line; run it after an upgrade, or on an ARM board,
where the blocked convolution kernels are usually missing.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Sequence

node = helper.make_node
WEIGHTS = {
    "w3": (32, 32, 3, 3), "w1": (32, 32, 1, 1), "dw": (32, 1, 3, 3), "b": (32,), "gemm": (32, 32), "low": (), "high": (),
}  # fmt: skip


def kernels(nodes: Sequence[onnx.NodeProto], shape: Sequence[int]) -> str:
    """Op types of the optimised model from x to y, with the activation each took in."""
    used = {name for item in nodes for name in item.input}
    generator = np.random.default_rng(0)
    tensors = [
        numpy_helper.from_array(np.asarray(generator.random(size), np.float32), name)
        for name, size in WEIGHTS.items()
        if name in used
    ]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(list(nodes), "g", [image], [out], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        optimised = onnx.load(options.optimized_model_filepath)
    return " -> ".join(_name(item) for item in optimised.graph.node)


def _name(item: onnx.NodeProto) -> str:
    activation = [attribute.s.decode() for attribute in item.attribute if attribute.name == "activation"]
    summed = ["sum"] if item.op_type == "Conv" and len(item.input) == 4 else []
    inside = [name for name in (*summed, *activation) if name]
    return item.op_type + (f"[{'+'.join(inside)}]" if inside else "")


def activations(value: str, out: str) -> dict[str, list[onnx.NodeProto]]:
    """Each activation from ``value`` to ``out``."""
    plain = ("Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid", "HardSwish", "Elu", "Gelu", "Softplus", "Mish")
    found = {name: [node(name, [value], [out])] for name in plain}
    found["Clip"] = [node("Clip", [value, "low", "high"], [out])]
    gates = {
        "Sigmoid": node("Sigmoid", [value], ["gate"]),
        "HardSigmoid": node("HardSigmoid", [value], ["gate"], alpha=1 / 6),
    }
    for name, gate in gates.items():
        found[f"x * {name}"] = [gate, node("Mul", [value, "gate"], [out])]
    return found


def main() -> None:
    image = (1, 32, 14, 14)
    pads = [1, 1, 1, 1]
    print(f"onnxruntime {onnxruntime.__version__}\n\nbetween two convolutions")
    after = node("Conv", ["z", "w1", "b"], ["y"])
    for name, tail in activations("c", "z").items():
        print(f"{name:16}", kernels([node("Conv", ["x", "w3", "b"], ["c"], pads=pads), *tail, after], image))
    print("\nbehind a lone depthwise convolution")
    for name, tail in activations("c", "y").items():
        print(f"{name:16}", kernels([node("Conv", ["x", "dw", "b"], ["c"], pads=pads, group=32), *tail], image))
    print("\nbehind Gemm")
    for name, tail in activations("c", "y").items():
        print(f"{name:16}", kernels([node("Gemm", ["x", "gemm", "b"], ["c"]), *tail], (1, 32)))
    print("\nresidual sums")
    block = [node("Conv", ["x", "w1", "b"], ["a"]), node("Conv", ["a", "w3", "b"], ["c"], pads=pads)]
    for other in ("a", "x"):
        for name, tail in {"nothing": [node("Identity", ["s"], ["y"])], **activations("s", "y")}.items():
            print(f"+ {other}, {name:12}", kernels([*block, node("Add", ["c", other], ["s"]), *tail], image))


if __name__ == "__main__":
    main()
