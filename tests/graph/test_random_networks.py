"""Random networks of the supported operators: whatever they tie, every cut passes the mask test."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.graph.channels import Channels

SIZE = 6


class RandomNetwork(nn.Module):
    """A directed graph of operators on maps of one size; ``steps`` are (operator, values read)."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)
        torch.manual_seed(seed)
        self.steps: list[tuple[str, list[int]]] = []
        self.layers = nn.ModuleDict()
        self._widths = [3]
        for _ in range(self._random.randint(4, 12)):
            self._grow()
        unread = [i for i in range(1, len(self._widths)) if not any(i in reads for _, reads in self.steps)]
        self._add("cat", unread, sum(self._widths[i] for i in unread))
        self.flat = self._random.random() < 0.5
        inputs = self._widths[-1] * (4 if self.flat else 1)
        self.hidden, self.fc = nn.Linear(inputs, 7), nn.Linear(7, 4)

    def _grow(self) -> None:
        kind = self._random.choice(
            ["conv", "conv", "norm", "depth", "multiplied", "act", "add", "mul", "cat", "gate", "pool", "scale", "shared"]
        )
        source = self._random.randrange(len(self._widths))
        width = self._widths[source]
        if kind == "conv":
            out = self._random.choice([4, 6, 8, 12])
            self._add(kind, [source], out, nn.Conv2d(width, out, 3, padding=1, bias=self._random.random() < 0.5))
        elif kind == "norm":
            self._add(kind, [source], width, nn.BatchNorm2d(width))
        elif kind in ("depth", "multiplied"):
            out = width if kind == "depth" else 2 * width
            self._add("conv", [source], out, nn.Conv2d(width, out, 3, padding=1, groups=width))
        elif kind in ("act", "pool"):
            self._add(kind, [source], width)
        elif kind == "cat":
            other = self._random.randrange(len(self._widths))
            self._add(kind, [source, other], width + self._widths[other])
        elif kind == "gate":
            self._add(kind, [source], width, nn.Sequential(nn.Conv2d(width, 3, 1), nn.ReLU(), nn.Conv2d(3, width, 1)))
        elif kind == "scale":
            self._add(kind, [source], width, nn.ParameterList([torch.rand(width, 1, 1) + 0.5]))
        elif kind == "shared" and (twin := self._other_of_width(source)) is not None:
            layer = nn.Conv2d(width, 5, 1)
            self._add("conv", [source], 5, layer)
            self._add("conv", [twin], 5, layer)
        elif kind in ("add", "mul") and (twin := self._other_of_width(source)) is not None:
            self._add(kind, [source, twin], width)

    def _other_of_width(self, source: int) -> int | None:
        found = [i for i, width in enumerate(self._widths) if width == self._widths[source] and i != source]
        return self._random.choice(found) if found else None

    def _add(self, kind: str, reads: list[int], width: int, layer: nn.Module | None = None) -> None:
        if layer is not None:
            self.layers[str(len(self.steps))] = layer
        self.steps.append((kind, reads))
        self._widths.append(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = [x]
        for index, (kind, reads) in enumerate(self.steps):
            values.append(self._step(kind, str(index), [values[i] for i in reads]))
        pooled = functional.adaptive_avg_pool2d(values[-1], 2 if self.flat else 1).flatten(1)
        return self.fc(self.hidden(pooled).tanh())  # type: ignore[no-any-return]

    def _step(self, kind: str, index: str, reads: list[torch.Tensor]) -> torch.Tensor:
        first = reads[0]
        if kind == "act":
            return functional.silu(first)
        if kind == "pool":
            return functional.max_pool2d(first, 3, stride=1, padding=1)
        if kind == "cat":
            return torch.cat(reads, 1)
        if kind == "add":
            return reads[0] + reads[1]
        if kind == "mul":
            return reads[0].tanh() * reads[1]
        layer = self.layers[index]
        if kind == "gate":
            return first * layer(first.mean((2, 3), keepdim=True)).sigmoid()  # type: ignore[no-any-return]
        if kind == "scale":
            return first * layer[0]  # type: ignore[no-any-return,index]
        return layer(first)  # type: ignore[no-any-return]


@pytest.mark.parametrize("seed", range(40))
def test_random_network_passes_the_mask_test(seed: int, mask_test: Callable[..., Channels]) -> None:
    channels = mask_test(RandomNetwork(seed), (1, 3, SIZE, SIZE), seed=seed)

    assert channels.unsupported == ()
    assert channels.groups["hidden"].prunable
