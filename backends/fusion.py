"""What ONNX Runtime's CPU kernels execute as one; the fake device does the same.

Read off the optimised models that ONNX Runtime 1.31 saves (x86 with AVX-512, all optimisations): a convolution takes the
activation behind it (Relu, Clip, Sigmoid, Tanh, LeakyRelu, HardSigmoid, HardSwish also where it is spelled HardSigmoid and
Mul) and a residual sum whose other side is a convolution's or an earlier layer's output, with Relu behind it. x * sigmoid(x)
becomes one QuickGelu kernel behind the convolution, Gemm takes the same activations except Clip: such a pair is kept as one
layer too, because its two kernels always run one after the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netadapt_trt.plan.schema import Layer, Plan

__all__ = ["ACTIVATIONS", "FREE", "STARTS", "partition"]

STARTS = frozenset({"Conv", "Gemm"})
ACTIVATIONS = frozenset({"Relu", "Clip", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid", "HardSwish"})
FREE = frozenset({"Reshape", "Flatten", "Identity", "Dropout", "Squeeze", "Unsqueeze", "Cast"})


def partition(plan: Plan) -> list[Layer]:
    """The layers of a plan as these kernels execute them. Needs no runtime."""
    from netadapt_trt.plan.partition import fused_layers

    return fused_layers(plan, starts=STARTS, activations=ACTIVATIONS, add=True, free=FREE)
