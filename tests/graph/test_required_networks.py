"""The networks that README calls tested: every channel of theirs is found, and one random cut computes what masking does.

Twenty draws of each, with exports, are tools/bench_mask.py's work.
"""

from __future__ import annotations

import pytest
import torch

from netadapt_trt.graph.network import open_network
from netadapt_trt.spec import ModelSpec

# Groups that may shrink, counted on paper: tied layers (residual sums, depthwise, gates) count once, the output layer not.
GROUPS = {
    "alexnet": 5 + 2,
    "vgg11_bn": 8 + 2,
    "resnet18": 4 + 8,  # four stages' sums and the inner layer of eight blocks
    "resnet50": 1 + 4 + 2 * 16,  # stem, four stages' sums, two inner layers of sixteen blocks
    "mobilenet_v2": 25,
    "mobilenet_v3_small": 27,
    "mnasnet1_0": 25,
    "efficientnet_b0": 40,
    "squeezenet1_1": 1 + 3 * 8,  # stem, three layers of eight fire modules
    "densenet121": 1 + 2 * 58 + 3,  # stem, two layers of 58 dense ones, three transitions
    "googlenet": 3 + 6 * 9,  # stem, six layers of nine inception modules
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(GROUPS))
def test_channels_of_required_networks(name: str) -> None:
    torch.set_num_threads(1)
    network = open_network(ModelSpec(model=f"torchvision:{name}", input_shape=(1, 3, 64, 64)))
    channels = network.channels  # a trial cut is part of finding them; what it refuses would stand in ``unsupported``
    assert channels.unsupported == ()
    assert len(channels.prunable) == GROUPS[name]
    assert [group.reason for group in channels.groups.values() if not group.prunable] == ["network output"]
    assert channels.prunable_share(network.model) > 0.999
