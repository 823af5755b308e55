from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from netadapt_trt.errors import SpecError
from netadapt_trt.spec import ModelSpec
from netadapt_trt.training.data import open_data
from netadapt_trt.training.devices import devices_here, require_device
from netadapt_trt.training.fine_tune import FineTune
from netadapt_trt.training.seed_network import train_network

if TYPE_CHECKING:
    from pathlib import Path


def test_devices_that_are_here_pass() -> None:
    assert len(devices_here()) == 1 + torch.cuda.device_count()
    for name in devices_here():
        require_device(name)


@pytest.mark.parametrize("name", ["cuda:99", "foo", "meta", "", "cuda:x"])
def test_devices_that_are_not_here_are_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(SpecError, match=f"no device '{name}' here; choose one of: cpu"):
        require_device(name)


def test_train_refuses_such_a_device_before_it_writes(tmp_path: Path) -> None:
    spec = ModelSpec(model="zoo:mobilenet_v1", input_shape=(1, 3, 32, 32), args={"width": "0.25", "stem": "cifar"})
    data = open_data("digits", input_shape=spec.input_shape)
    output = tmp_path / "new" / "seed.safetensors"
    with pytest.raises(SpecError, match="no device 'cuda:99' here"):
        train_network(spec, None, data, FineTune(epochs=1, device="cuda:99"), output, log_dir=tmp_path / "logs")
    assert list(tmp_path.iterdir()) == []
