"""What the installed ONNX Runtime fuses on this processor: the facts that backends/fusion.py was written from.

    python tools/show_ort_fusion.py
    python tools/show_ort_fusion.py --network network.plan --precision int8 --threads 4

Prints the kernels of small optimised models, one activation or pattern a line; with --network each node of a whole network,
its time, and the layers it is charged to. Run it after an upgrade, or on an ARM board, where the blocked convolution kernels
are usually missing.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from netadapt_trt.backend import load_backend
from netadapt_trt.plan.store import load_plan
from netadapt_trt.plan.write import write_network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netadapt_trt.spec import Precision

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


def show_network(path: Path, precision: Precision, threads: int) -> None:
    """Each node of the uncut network: microseconds, kind, name, and the ops of the plan that it is charged to."""
    executable: Any = importlib.import_module("netadapt_trt.backends.ort.executable")
    nodes: Any = importlib.import_module("netadapt_trt.backends.ort.nodes")
    profiler: Any = importlib.import_module("netadapt_trt.backends.ort.profiler")
    plan, backend = load_plan(path), load_backend("ort")
    opset, ir_version = backend.opset()
    recipe = backend.identity(precision=precision, batch=1, threads=threads).recipe
    model = write_network(plan, {}, opset=opset, ir_version=ir_version, precision=precision, recipe=recipe)
    found = profiler.profile_nodes(
        lambda written: executable.OrtExecutable(model, threads=threads, profile=written), runs=50
    )
    for entry in nodes.entries_of(found.graph, plan, backend.partition(plan)):
        charged = " ".join(entry.nodes) or ("(a copy at the input)" if entry.copies else "(NO LAYER)")
        print(f"{found.times_ms.get(entry.name, 0.0) * 1e3:9.1f} us  {entry.kind:26}{entry.name:34} {charged}")
    print(f"{sum(found.times_ms.values()):9.3f} ms in nodes, {found.run_ms:.3f} ms a run")


def show_patterns() -> None:
    """The kernels of small models."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description="What the installed ONNX Runtime fuses on this processor.")
    parser.add_argument("--network", type=Path, metavar="PLAN", help="show the nodes of this network instead")
    parser.add_argument("--precision", choices=("fp32", "int8"), default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    if given.network is None:
        show_patterns()
    else:
        show_network(given.network, given.precision, given.threads)


if __name__ == "__main__":
    main()
