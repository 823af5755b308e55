"""Network, tensors and the ONNX parser: reads real ONNX bytes and refuses what the release refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx
from onnx import TensorProto

from .base import Base, Dims

__all__ = ["ILayer", "INetworkDefinition", "ITensor", "OnnxParser", "ParserError", "data_type"]

_TYPES: dict[int, str] = {
    int(TensorProto.FLOAT): "FLOAT",
    int(TensorProto.FLOAT16): "HALF",
    int(TensorProto.INT8): "INT8",
    int(TensorProto.INT32): "INT32",
    int(TensorProto.BOOL): "BOOL",
    int(TensorProto.UINT8): "UINT8",
    int(TensorProto.INT64): "INT64",
    int(TensorProto.BFLOAT16): "BF16",
    int(TensorProto.FLOAT8E4M3FN): "FP8",
}
_LAYER_TYPES = {
    "Conv": "CONVOLUTION", "ConvTranspose": "DECONVOLUTION", "Gemm": "MATRIX_MULTIPLY", "MatMul": "MATRIX_MULTIPLY",
    "MaxPool": "POOLING", "AveragePool": "POOLING", "GlobalAveragePool": "REDUCE", "GlobalMaxPool": "REDUCE",
    "ReduceMean": "REDUCE", "ReduceSum": "REDUCE", "ReduceMax": "REDUCE", "ReduceMin": "REDUCE", "ReduceProd": "REDUCE",
    "Relu": "ACTIVATION", "LeakyRelu": "ACTIVATION", "Sigmoid": "ACTIVATION", "Tanh": "ACTIVATION", "Clip": "ACTIVATION",
    "HardSigmoid": "ACTIVATION", "HardSwish": "ACTIVATION", "Elu": "ACTIVATION", "Gelu": "ACTIVATION",
    "Softplus": "ACTIVATION", "PRelu": "ACTIVATION",
    "Add": "ELEMENTWISE", "Sub": "ELEMENTWISE", "Mul": "ELEMENTWISE", "Div": "ELEMENTWISE", "Pow": "ELEMENTWISE",
    "Max": "ELEMENTWISE", "Min": "ELEMENTWISE",
    "Sqrt": "UNARY", "Exp": "UNARY", "Log": "UNARY", "Abs": "UNARY", "Neg": "UNARY", "Erf": "UNARY", "Reciprocal": "UNARY",
    "Concat": "CONCATENATION", "Softmax": "SOFTMAX", "LogSoftmax": "SOFTMAX", "LRN": "LRN", "BatchNormalization": "SCALE",
    "LayerNormalization": "NORMALIZATION", "InstanceNormalization": "NORMALIZATION", "GroupNormalization": "NORMALIZATION",
    "Reshape": "SHUFFLE", "Flatten": "SHUFFLE", "Transpose": "SHUFFLE", "Squeeze": "SHUFFLE", "Unsqueeze": "SHUFFLE",
    "Identity": "IDENTITY", "Dropout": "IDENTITY", "Cast": "CAST", "Constant": "CONSTANT", "Gather": "GATHER",
    "Slice": "SLICE", "Split": "SLICE", "Pad": "SLICE", "Resize": "RESIZE", "Upsample": "RESIZE",
    "QuantizeLinear": "QUANTIZE", "DequantizeLinear": "DEQUANTIZE",
    "GatherND": "GATHER", "GatherElements": "GATHER", "ScatterND": "SCATTER", "Where": "SELECT", "Expand": "SLICE",
    "Tile": "SLICE", "Shape": "SHAPE", "Range": "FILL", "ConstantOfShape": "FILL", "Einsum": "EINSUM",
    "ReduceL1": "REDUCE", "ReduceL2": "REDUCE", "ArgMax": "TOPK", "ArgMin": "TOPK", "TopK": "TOPK",
    "DepthToSpace": "SHUFFLE", "SpaceToDepth": "SHUFFLE", "Sum": "ELEMENTWISE", "Mean": "ELEMENTWISE",
    "Equal": "ELEMENTWISE", "Greater": "ELEMENTWISE", "Less": "ELEMENTWISE", "And": "ELEMENTWISE", "Or": "ELEMENTWISE",
    "Not": "UNARY", "Floor": "UNARY", "Ceil": "UNARY", "Round": "UNARY", "Sin": "UNARY", "Cos": "UNARY",
    "Mish": "ACTIVATION", "Selu": "ACTIVATION", "Softsign": "ACTIVATION",
}  # fmt: skip
_AXES_AS_INPUT = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2")


def data_type(trt: Any, onnx_type: int) -> Any:
    """The release's DataType for an ONNX element type; before 10, INT64 becomes INT32. None where it has none."""
    name = _TYPES.get(onnx_type)
    if name == "INT64" and not hasattr(trt.DataType, "INT64"):
        name = "INT32"
    return None if name is None else getattr(trt.DataType, name, None)


class ITensor(Base):
    """An input or output of a network."""

    _enums: ClassVar[dict[str, str]] = {"location": "TensorLocation.DEVICE"}
    name: str = ""
    dtype: Any = None
    shape: Any = Dims()
    location: Any = None
    is_network_input = False
    is_network_output = False
    is_shape_tensor = False
    dynamic_range: Any = None

    def set_dynamic_range(self, min: float, max: float) -> bool:
        """For implicit quantisation."""
        self.dynamic_range = (min, max)
        return True

    def reset_dynamic_range(self) -> None:
        """Forget it."""
        self.dynamic_range = None


class ILayer(Base):
    """One ONNX node."""

    name: str = ""
    type: Any = None
    metadata: str = ""
    num_inputs = 0
    num_outputs = 0
    precision: Any = None
    precision_is_set = False

    def reset_precision(self) -> None:
        """Leave it to the builder."""
        self.precision = None

    def set_output_type(self, index: int, dtype: Any) -> None:
        """Ask for a type; the fake ignores it."""

    def reset_output_type(self, index: int) -> None:
        """Take it back."""

    def output_type_is_set(self, index: int) -> bool:
        """Never."""
        return False


class INetworkDefinition(Base):
    """What a parser fills. ``_model`` is the parsed ONNX model, None before."""

    name: str = "Unnamed Network 0"

    def __init__(self, builder: Any, flags: int) -> None:
        self._builder, self._flags = builder, flags
        self._model: onnx.ModelProto | None = None
        self._inputs: list[ITensor] = []
        self._outputs: list[ITensor] = []
        self._layers: list[ILayer] = []

    def __len__(self) -> int:
        return len(self._layers)

    def __getitem__(self, index: int) -> ILayer:
        return self._layers[index]

    @property
    def flags(self) -> int:
        """Bits given to create_network."""
        return self._flags

    def get_flag(self, flag: Any) -> bool:
        """Whether one of them is set."""
        return bool(self._flags >> int(flag) & 1)

    @property
    def _strong(self) -> bool:
        bit = getattr(self._trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        return self._trt._preset.strong_only or (bit is not None and self._get_bit(int(bit)))

    def _get_bit(self, bit: int) -> bool:
        return bool(self._flags >> bit & 1)

    @property
    def has_implicit_batch_dimension(self) -> bool:
        """Before 10: unless created with EXPLICIT_BATCH."""
        return self._trt._preset.name == "8.6" and not self._get_bit(0)

    @property
    def num_inputs(self) -> int:
        """Count."""
        return len(self._inputs)

    @property
    def num_outputs(self) -> int:
        """Count."""
        return len(self._outputs)

    @property
    def num_layers(self) -> int:
        """Count."""
        return len(self._layers)

    def get_input(self, index: int) -> ITensor | None:
        """None beyond the last."""
        return self._inputs[index] if index < len(self._inputs) else None

    def get_output(self, index: int) -> ITensor | None:
        """None beyond the last."""
        return self._outputs[index] if index < len(self._outputs) else None

    def get_layer(self, index: int) -> ILayer | None:
        """None beyond the last."""
        return self._layers[index] if index < len(self._layers) else None

    def _fill(self, model: onnx.ModelProto) -> None:
        self._model = model
        known = {item.name for item in model.graph.initializer}
        self._inputs = [self._tensor(value, True) for value in model.graph.input if value.name not in known]
        self._outputs = [self._tensor(value, False) for value in model.graph.output]
        self._layers = [self._layer(node) for node in model.graph.node if node.op_type != "Constant"]

    def _tensor(self, value: onnx.ValueInfoProto, is_input: bool) -> ITensor:
        made = self._trt.ITensor()
        made.name = value.name
        made.dtype = data_type(self._trt, value.type.tensor_type.elem_type)
        sizes = value.type.tensor_type.shape.dim
        made.shape = Dims(size.dim_value if size.HasField("dim_value") else -1 for size in sizes)
        made.is_network_input, made.is_network_output = is_input, not is_input
        result: ITensor = made
        return result

    def _layer(self, node: onnx.NodeProto) -> ILayer:
        made = self._trt.ILayer()
        made.name, made.metadata = node.name, f"[ONNX Layer: {node.name}]"
        made.type = getattr(self._trt.LayerType, _LAYER_TYPES[node.op_type])
        made.num_inputs, made.num_outputs = len(node.input), len(node.output)
        result: ILayer = made
        return result


@dataclass(frozen=True)
class _Error:
    code: str
    desc: str
    node: int
    name: str = ""
    operator: str = ""


class ParserError(Base):
    """Why the parser refused. Methods, not attributes, as in the binding; node -1 means the file as a whole."""

    def __init__(self, error: _Error) -> None:
        self._error = error

    def code(self) -> Any:
        """ErrorCode."""
        return getattr(self._trt.ErrorCode, self._error.code)

    def desc(self) -> str:
        """In words."""
        return self._error.desc

    def file(self) -> str:
        """Of the parser's source."""
        return "onnxOpImporters.cpp"

    def line(self) -> int:
        """Of the parser's source."""
        return 1

    def func(self) -> str:
        """Of the parser's source."""
        return "importNode"

    def node(self) -> int:
        """Index in the graph."""
        return self._error.node

    def node_name(self) -> str:
        """Name of the ONNX node."""
        return self._error.name

    def node_operator(self) -> str:
        """Its operator."""
        return self._error.operator

    def local_function_stack(self) -> list[str]:
        """No functions here."""
        return []

    def local_function_stack_size(self) -> int:
        """No functions here."""
        return 0

    def __str__(self) -> str:
        error = self._error
        where = f"In node {error.node} "
        if hasattr(self, "node_name") and error.name:
            where += f"with name: {error.name} and operator: {error.operator} "
        return f"{where}(importNode): {error.code}: {error.desc}"


class OnnxParser(Base):
    """Reads ONNX into a network."""

    flags = 0

    def __init__(self, network: INetworkDefinition, logger: Any) -> None:
        self._network, self._logger = network, logger
        self._errors: list[_Error] = []
        if self._trt._preset.name != "8.6":
            self.flags = 1 << int(self._trt.OnnxParserFlag.NATIVE_INSTANCENORM)

    def set_flag(self, flag: Any) -> None:
        """Set one."""
        self.flags |= 1 << int(flag)

    def clear_flag(self, flag: Any) -> None:
        """Clear one."""
        self.flags &= ~(1 << int(flag))

    def get_flag(self, flag: Any) -> bool:
        """Whether it is set."""
        return bool(self.flags >> int(flag) & 1)

    @property
    def num_errors(self) -> int:
        """Of the last parse."""
        return len(self._errors)

    def get_error(self, index: int) -> Any:
        """One of them."""
        return self._trt.ParserError(self._errors[index])

    def clear_errors(self) -> None:
        """Forget them."""
        self._errors = []

    def parse(self, model: Any, path: str | None = None) -> bool:
        """Serialised model into the network; False with errors to ask for."""
        self._errors = self._read(bytes(memoryview(model)))
        for error in self._errors:
            self._trt._emit(self._logger, "ERROR", str(self._trt.ParserError(error)))
        return not self._errors

    def parse_from_file(self, model: str) -> bool:
        """The same from a file."""
        with open(model, "rb") as file:  # noqa: PTH123
            return self.parse(file.read())

    def supports_model(self, model: Any, path: str | None = None) -> tuple[bool, list[Any]]:
        """Whether :meth:`parse` would take it."""
        return not self._read(bytes(memoryview(model))), []

    def supports_model_v2(self, model: Any, path: str | None = None) -> bool:
        """Whether :meth:`parse` would take it."""
        return not self._read(bytes(memoryview(model)))

    def supports_operator(self, op_name: str) -> bool:
        """Whether there is an importer."""
        return op_name in _LAYER_TYPES

    def _read(self, content: bytes) -> list[_Error]:
        try:
            model = onnx.load_model_from_string(content)
        except Exception:  # whatever protobuf raises
            return [_Error("MODEL_DESERIALIZE_FAILED", "Failed to parse the ONNX model.", -1)]
        if self._network.has_implicit_batch_dimension:
            return [_Error("INVALID_VALUE", "The parser takes networks with an explicit batch dimension only.", -1)]
        errors = self._check(model)
        if not errors:
            self._network._fill(model)
        return errors

    def _check(self, model: onnx.ModelProto) -> list[_Error]:
        constants = {item.name: item for item in model.graph.initializer}
        opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
        errors: list[_Error] = []
        # First every node is looked at, where the release does that; then they are read, up to the first bad one.
        for rule, goes_on in ((self._known, self._trt._preset.all_errors), (self._readable, False)):
            for index, node in enumerate(model.graph.node):
                found = rule(node, constants, opset)
                if found is not None:
                    errors.append(_Error(found[0], found[1], index, node.name, node.op_type))
                    if not goes_on:
                        break
            if errors:
                break
        return errors

    def _known(self, node: onnx.NodeProto, constants: dict[str, onnx.TensorProto], opset: int) -> tuple[str, str] | None:
        limit = self._trt._preset.max_opset
        if node.op_type not in _LAYER_TYPES:
            return "UNSUPPORTED_NODE", f"No importer registered for op: {node.op_type}."
        if limit is not None and opset > limit:
            return "UNSUPPORTED_NODE", f"{node.op_type} of opset {opset}: opsets up to {limit} are supported."
        return None

    def _readable(self, node: onnx.NodeProto, constants: dict[str, onnx.TensorProto], opset: int) -> tuple[str, str] | None:
        if self._trt._preset.name == "8.6" and node.op_type in _AXES_AS_INPUT and len(node.input) > 1:
            return "UNSUPPORTED_NODE", f"{node.op_type}: axes given as an input are not read."
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            return self._scale(node, constants)
        wide = [name for name in node.input if name in constants and data_type(self._trt, constants[name].data_type) is None]
        return ("UNSUPPORTED_NODE", f"Weights {wide[0]} have a type that is not supported.") if wide else None

    def _scale(self, node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> tuple[str, str] | None:
        if len(node.input) < 2 or node.input[1] not in constants:
            return "INVALID_NODE", "The scale must be a constant."
        if len(node.input) < 3 or not node.input[2]:
            return None  # taken for int8 zeros (seen with TensorRT-RTX 1.7), although ONNX says uint8
        if node.input[2] not in constants:
            return "INVALID_NODE", "The zero point must be a constant."
        zero_point = constants[node.input[2]]
        if zero_point.data_type == TensorProto.UINT8 and not self._trt._preset.strong_only:
            return "INVALID_NODE", "The zero point must be int8."
        if np.any(onnx.numpy_helper.to_array(zero_point)):
            return "INVALID_NODE", "Assertion failed: shiftIsAllZeros(zeroPoint): Non-zero zero point is not supported."
        return None
