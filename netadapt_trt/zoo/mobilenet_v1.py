"""MobileNetV1 (Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", 2017).

The network that the NetAdapt papers shrink and torchvision lacks. Layers are named ``features.0`` (the stem) and
``features.N.depthwise`` / ``features.N.pointwise``, N from 1 to 13, and ``classifier``.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Literal, cast

from torch import nn

from netadapt_trt.errors import SpecError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MobileNetV1", "mobilenet_v1"]

# Output channels and stride of the 13 depthwise separable blocks, table 1 of the paper.
_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


def _unit(in_channels: int, out_channels: int, *, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(
        OrderedDict(conv=convolution, norm=nn.BatchNorm2d(out_channels), activation=nn.ReLU(inplace=True)),
    )


def _separable(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            depthwise=_unit(in_channels, in_channels, kernel=3, stride=stride, groups=in_channels),
            pointwise=_unit(in_channels, out_channels, kernel=1),
        )
    )


class MobileNetV1(nn.Module):
    """Images [N, in_channels, H, W] to scores [N, num_classes]; see :func:`mobilenet_v1`."""

    def __init__(self, width: float, num_classes: int, in_channels: int, stem_stride: int) -> None:
        super().__init__()
        channels = _scaled(32, width)
        blocks = [_unit(in_channels, channels, kernel=3, stride=stem_stride)]
        for full, stride in _BLOCKS:
            blocks.append(_separable(channels, _scaled(full, width), stride))
            channels = _scaled(full, width)
        self.features = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(0.0)
        self.classifier = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Scores before the softmax."""
        return cast("Tensor", self.classifier(self.dropout(self.flatten(self.pool(self.features(images))))))


def _scaled(channels: int, width: float) -> int:
    return max(8, int(channels * width + 4) // 8 * 8)


def mobilenet_v1(
    width: float = 1.0,
    num_classes: int = 1000,
    in_channels: int = 3,
    stem: Literal["imagenet", "cifar"] = "imagenet",
) -> MobileNetV1:
    """MobileNetV1 with its channels times ``width``, rounded to multiples of 8.

    ``stem="imagenet"`` halves the picture in the first convolution as in the paper (224x224 ends at 7x7);
    ``stem="cifar"`` does not, so that 32x32 ends at 2x2.

    Raises:
        SpecError: a width, count or stem out of range.
    """
    if stem not in ("imagenet", "cifar"):
        raise SpecError(f"mobilenet_v1 has no stem {stem!r}; known: imagenet, cifar")
    if not isinstance(width, int | float) or not 0 < width <= 16:
        raise SpecError(f"mobilenet_v1: width must be a number above 0 and at most 16, not {width!r}")
    for name, count in (("num_classes", num_classes), ("in_channels", in_channels)):
        if not isinstance(count, int) or count < 1:
            raise SpecError(f"mobilenet_v1: {name} must be a positive whole number, not {count!r}")
    return MobileNetV1(float(width), num_classes, in_channels, 1 if stem == "cifar" else 2)
