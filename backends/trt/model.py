"""What is known of an ONNX model before TensorRT sees it: which precision it carries, and its nodes by number."""

from __future__ import annotations

from dataclasses import dataclass

from netadapt_trt.errors import BackendError

__all__ = ["ModelFacts", "model_facts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """``nodes``: (name, operator) in the file's order. ``half``: has fp16 tensors; ``quantised``: has Q/DQ nodes."""

    nodes: tuple[tuple[str, str], ...]
    half: bool
    quantised: bool

    @property
    def precision(self) -> str:
        """What the file computes in."""
        return "int8" if self.quantised else "fp16" if self.half else "fp32"


def model_facts(model: bytes) -> ModelFacts:
    """Read a serialised model. Raises BackendError for bytes that are none."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # onnx's own dependency

    try:
        graph = onnx.load_model_from_string(model).graph
    except DecodeError as error:
        raise BackendError(f"TensorRT refuses the model: these {len(model)} bytes are no ONNX model ({error})") from error
    if not graph.node:
        # Its parser takes zero bytes for a network without layers.
        raise BackendError(f"TensorRT refuses the model: these {len(model)} bytes hold no ONNX operator")
    half = onnx.TensorProto.FLOAT16
    values = (*graph.input, *graph.output, *graph.value_info)
    types = {tensor.data_type for tensor in graph.initializer} | {value.type.tensor_type.elem_type for value in values}
    casts = any(
        attribute.name == "to" and attribute.i == half
        for node in graph.node
        if node.op_type == "Cast"
        for attribute in node.attribute
    )
    return ModelFacts(
        nodes=tuple((node.name, node.op_type) for node in graph.node),
        half=half in types or casts,
        quantised=any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in graph.node),
    )
