"""The mask test: a cut network must compute what the whole one computes when nobody reads the removed channels.

In double precision: sums of fewer numbers are added in another order, and rounding must not hide or feign a difference.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from netadapt_trt.graph.channel_groups import find_channel_groups
from netadapt_trt.graph.surgery import cut, zero_consumers
from netadapt_trt.graph.trace import trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.graph.channels import Channels

torch.set_num_threads(1)


def _randomise(model: nn.Module, generator: torch.Generator) -> None:
    """Draws what the output depends on; models made when a test file is imported hold what the import order gave them."""

    def uniform(tensor: torch.Tensor | None, low: float, high: float) -> None:
        if tensor is not None:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, (2 * parameter.shape[0] / parameter.numel()) ** 0.5, generator=generator)
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                uniform(module.weight, 0.5, 1.5)
                uniform(module.bias, -0.5, 0.5)
                uniform(module.running_mean, -0.3, 0.3)
                uniform(module.running_var, 0.5, 1.5)
            elif isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
                uniform(module.bias, -0.2, 0.2)


def draw(channels: Channels, generator: torch.Generator) -> dict[str, list[int]]:
    """Random channels to keep of every prunable group."""
    keep = {}
    for group in channels.prunable:
        width = int(torch.randint(1, group.size + 1, (1,), generator=generator))
        keep[group.name] = sorted(torch.randperm(group.size, generator=generator)[:width].tolist())
    return keep


@pytest.fixture(scope="session")
def groups_of() -> Callable[[nn.Module, tuple[int, ...]], Channels]:
    """The groups as the rules find them, without the trial cut that would hide a wrong rule."""
    return lambda model, shape: find_channel_groups(trace(model, shape), verify=False)


@pytest.fixture(scope="session")
def mask_test() -> Callable[..., Channels]:
    def check(model: nn.Module, shape: tuple[int, ...], *, draws: int = 3, seed: int = 0) -> Channels:
        generator = torch.Generator().manual_seed(seed)
        _randomise(model, generator)
        channels = find_channel_groups(trace(model, shape), verify=False)
        model = copy.deepcopy(model).double()
        picture, other = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
        answering = 0  # one channel behind a ReLU may be dead: such a draw compares constants
        for _ in range(draws):
            keep = draw(channels, generator)
            small = cut(model, channels, keep)
            with torch.no_grad():
                expected, got = zero_consumers(model, channels, keep)(picture), small(picture)
                assert got.shape == expected.shape
                assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()
                answering += not torch.equal(small(other), got)
            small.train()
            small(torch.cat([picture, other])).square().mean().backward()
            assert all(parameter.grad is not None for parameter in small.parameters())
        assert answering, "no output depends on the input: nothing was tested"
        return channels

    return check
