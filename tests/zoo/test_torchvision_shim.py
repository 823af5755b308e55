from __future__ import annotations

import subprocess
import sys

from netadapt_trt.zoo.torchvision_shim import import_torchvision


def _run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout


def test_import_torchvision_gives_models_and_the_same_module_again() -> None:
    torchvision = import_torchvision()
    assert "resnet18" in torchvision.models.list_models()
    assert import_torchvision() is torchvision


def test_import_torchvision_keeps_operators_that_are_already_there() -> None:
    code = """
import torch
own = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    own.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
own.impl("nms", lambda dets, scores, iou_threshold: dets + 1, "CPU")
from netadapt_trt.zoo import torchvision_shim
torchvision_shim.import_torchvision()
print(len(torchvision_shim._libraries), torch.ops.torchvision.nms(torch.zeros(1), torch.zeros(1), 0.5).item())
"""
    assert _run(code).split() == ["0", "1.0"]
