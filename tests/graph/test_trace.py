from __future__ import annotations

import pytest
import torch
from torch import nn

from netadapt_trt.errors import TraceError
from netadapt_trt.graph.channel_groups import find_channel_groups
from netadapt_trt.graph.trace import shared_names, trace


class DependsOnValues(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return x * 2
        return x


class LeavesTorch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(x.numpy() + 1)


class OnlyTrainsBadly(nn.Module):
    """The head's input could only be found in train mode, and there it does not export."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.fc(x)
        return self.head(x) if self.training and x.sum() > 0 else x


@pytest.mark.parametrize(
    ("model", "line"),
    [(DependsOnValues(), "if x.sum() > 0"), (LeavesTorch(), "x.numpy()")],
    ids=["control flow", "numpy"],
)
def test_trace_names_the_line_that_does_not_export(model: nn.Module, line: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TraceError, match="cannot be exported") as caught:
        trace(model, (1, 4))

    assert line in str(caught.value)
    assert "test_trace.py, line" in str(caught.value)
    assert capfd.readouterr().out == ""


def test_trace_names_the_module_that_does_not_run() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Sequential(nn.ReLU(), nn.Linear(5, 2)))

    with pytest.raises(TraceError, match=r"does not run on an input of shape \(1, 4\), in 1\.1:.*--input"):
        trace(model, (1, 4))


def test_trace_of_an_image_without_a_batch_says_what_was_meant() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))

    with pytest.raises(TraceError, match=r"did you mean 1x3x32x32 \(the batch comes first\)\?"):
        trace(model, (3, 32, 32))
    with pytest.raises(TraceError, match=r"check --input$"):
        trace(model, (1, 1, 32, 32))


def test_trace_of_two_inputs_says_what_is_supported() -> None:
    class Pair(nn.Module):
        def forward(self, left: torch.Tensor, right: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
            return left + scale * right

    with pytest.raises(TraceError, match=r"takes 2 inputs \(left, right\); only networks of one input"):
        trace(Pair(), (1, 3, 8, 8))


def test_trace_of_an_input_beyond_memory_is_told() -> None:
    with pytest.raises(TraceError, match="1x3x9000000x9000000 does not fit into memory; check --input"):
        trace(nn.Conv2d(3, 8, 3), (1, 3, 9_000_000, 9_000_000))


def test_trace_refuses_a_head_whose_input_it_cannot_find() -> None:
    with pytest.raises(TraceError, match=r"head\.weight is not used in eval mode"):
        trace(OnlyTrainsBadly(), (1, 4))


class Headed(nn.Module):
    """A network of torchvision's with a head that only training uses."""

    __module__ = "torchvision.models.googlenet"

    def __init__(self) -> None:
        super().__init__()
        self.aux_logits = True
        self.body, self.fc, self.aux1 = nn.Conv2d(3, 4, 1), nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(x).mean((2, 3))
        if self.training and self.aux1 is not None:
            return self.fc(x) + self.aux1(x)  # type: ignore[no-any-return]
        return self.fc(x)  # type: ignore[no-any-return]


def test_trace_drops_a_known_head_and_says_so() -> None:
    model = Headed()

    traced = trace(model, (1, 3, 4, 4))

    assert traced.notices == ("the auxiliary head aux1 is used in training only and was dropped",)
    assert [name for name, _ in model.named_children()] == ["body", "fc"]
    assert model.aux_logits is False
    assert traced.training is None
    channels = find_channel_groups(traced)
    assert channels.unreached == ()
    assert [group.name for group in channels.prunable] == ["body"]


def test_trace_keeps_a_user_s_head_that_bears_a_known_name() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.aux1 = nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.aux1(x)  # type: ignore[no-any-return]

    traced = trace(Net(), (1, 4))

    assert traced.notices == ()
    assert traced.training is None


def test_shared_names_lead_to_the_first() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = model[0].weight

    assert shared_names(model) == {"2.weight": "0.weight"}
