"""What an engine says about itself, in the shapes that the releases use."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .base import Base

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["EngineInspector", "layer_information"]


def layer_information(trt: Any, entry: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], verbosity: str) -> Any:
    """One element of "Layers": a name, or an object when built with DETAILED."""
    if verbosity != "DETAILED":
        return entry["name"]
    preset = trt._preset
    made = {
        "Name": entry["name"],
        "LayerType": entry["kind"],
        "Inputs": [_tensor(preset, name, entry, shapes) for name in entry["inputs"]],
        "Outputs": [_tensor(preset, name, entry, shapes) for name in entry["outputs"]],
        "TacticName": f"fake_{entry['kind'].lower()}_{entry['precision'].lower()}",
        "TacticValue": "0x0000000000000001",
        "StreamId": 0,
        "Metadata": preset.separator.join(f"[ONNX Layer: {name}]" for name in entry["layers"]),
    }
    if preset.name == "8.6":
        del made["StreamId"]
    if entry["kind"] == "CaskConvolution":
        made |= {"ParameterType": "Convolution", "HasSparseWeights": 0}
    return made


def _tensor(preset: Any, name: str, entry: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    made = {"Name": name, "Location": "Device", "Dimensions": list(shapes.get(name, ()))}
    layout = "Channel major" if entry["kind"] == "CaskConvolution" else "Row major linear"
    if preset.lists_io_tensors:
        return {**made, "Format": layout, "Datatype": entry["precision"]}
    return {**made, "Format/Datatype": f"{layout} {entry['precision']} format"}


class EngineInspector(Base):
    """Layer information; needs no execution."""

    execution_context: Any = None

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def get_engine_information(self, format: Any) -> str:
        """All entries."""
        engine = self._engine
        verbosity = engine._header["verbosity"]
        entries = [] if verbosity == "NONE" else engine._header["entries"]
        layers = [layer_information(self._trt, entry, engine._header["shapes"], verbosity) for entry in entries]
        if format.name == "ONELINE":
            return "\n".join(
                layer if isinstance(layer, str) else f"{layer['LayerType']}, {layer['Name']}" for layer in layers
            )
        return json.dumps({"Layers": layers, **self._tensors(verbosity)})

    def get_layer_information(self, layer_index: int, format: Any) -> str:
        """One entry."""
        engine = self._engine
        verbosity = engine._header["verbosity"]
        if verbosity == "NONE":
            return ""
        entry = engine._header["entries"][layer_index]
        found = layer_information(self._trt, entry, engine._header["shapes"], verbosity)
        return json.dumps(found) if format.name == "JSON" else str(entry["name"])

    def _tensors(self, verbosity: str) -> dict[str, Any]:
        engine = self._engine
        names = [] if verbosity == "NONE" else [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        if not self._trt._preset.lists_io_tensors:
            return {"Bindings": names}
        kinds = {"FLOAT": "FP32", "HALF": "FP16"}
        found = []
        for name in names:
            kind = engine.get_tensor_dtype(name).name
            mode = engine.get_tensor_mode(name).name.capitalize()
            shape = list(engine.get_tensor_shape(name))
            found.append({"Name": name, "IOMode": mode, "DataType": kinds.get(kind, kind), "Dimensions": shape})
        return {"I/O Tensors": found}
