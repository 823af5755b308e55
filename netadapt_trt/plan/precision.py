"""The precision of a model lives in its ONNX file: fp16 by types, int8 by QuantizeLinear and DequantizeLinear.

What the runtimes want of them is in ``half`` and ``placement``; this is the door to both. Needs onnx and numpy only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from netadapt_trt.errors import SpecError
from netadapt_trt.plan.half import to_fp16
from netadapt_trt.plan.placement import RECIPES, Recipe
from netadapt_trt.plan.quantise import Ranges, calibrated_tensors, to_int8

if TYPE_CHECKING:
    import onnx

    from netadapt_trt.spec import Precision

__all__ = ["RECIPES", "Ranges", "Recipe", "calibrated_tensors", "for_timing", "recipe_of_backend", "to_fp16", "to_int8"]


def recipe_of_backend(name: str) -> Recipe:
    """The int8 recipe that files for a backend are written with where that runtime itself is not here to say."""
    return "qdq-ort-x86" if name == "ort" else "qdq-trt"


def for_timing(
    model: onnx.ModelProto, precision: Precision, recipe: str, *, context: Literal["layer", "network"]
) -> onnx.ModelProto:
    """A model with random weights in ``precision``, with fixed ranges for int8: right in time, not in its results.

    A ``layer`` takes and hands over what its neighbours in a network of that precision do; a ``network`` fp32, as it is
    deployed. Raises SpecError for int8 without a recipe.
    """
    alone = context == "layer"
    if precision == "fp16":
        return to_fp16(model, io="fp16" if alone else "fp32")
    if precision == "int8":
        return to_int8(model, recipe=recipe, io="int8" if alone else "fp32")
    if precision != "fp32":
        raise SpecError(f"unknown precision {precision!r}; known: fp32, fp16, int8")
    return model
