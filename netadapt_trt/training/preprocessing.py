"""How pictures become network inputs. Kept in run.json and deploy.json, because a deployed network needs exactly the same.

A picture is scaled so that its shorter side is ``image_size / crop``, its centre of ``image_size`` by ``image_size`` is cut
out, values go to 0..1, then ``(value - mean) / std`` by channel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from netadapt_trt.errors import FileFormatError, SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["NORMALIZATIONS", "Preprocessing", "normalization", "normalization_text"]

# Means and standard deviations of the training pictures' values in 0..1, as commonly used for these sets.
NORMALIZATIONS: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "fashion-mnist": ((0.2860,), (0.3530,)),
    "digits": ((0.3053,), (0.3760,)),
    "none": ((0.0,), (1.0,)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """See the module. ``image_size`` is None for inputs that are used as they come; then nothing is scaled or cut.

    ``mean`` and ``std`` have ``channels`` entries.
    """

    image_size: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int
    crop: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, with the fixed choices spelled out for readers that are not this package."""
        return {
            "image_size": self.image_size,
            "crop": self.crop,
            "channels": self.channels,
            "mean": list(self.mean),
            "std": list(self.std),
            "layout": "NCHW",
            "range": "values / 255, then (value - mean) / std",
            "interpolation": "bilinear",
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Preprocessing:
        """Raises FileFormatError for content that :meth:`to_json` did not make."""
        try:
            size = content["image_size"]
            result = cls(
                image_size=None if size is None else int(size),
                mean=tuple(float(value) for value in content["mean"]),
                std=tuple(float(value) for value in content["std"]),
                channels=int(content["channels"]),
                crop=float(content.get("crop", 1.0)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"the preprocessing is not readable: {error!r}") from error
        if len(result.mean) != result.channels or len(result.std) != result.channels:
            raise FileFormatError("the preprocessing is not readable: mean and std need one value per channel")
        return result

    def normalize(self, values: Tensor) -> Tensor:
        """[N, C, ...] of uint8 (0..255) or float (used as 0..1) to float32, by channel."""
        scale = 255.0 if values.dtype == torch.uint8 else 1.0
        shape = (1, -1, *[1] * (values.dim() - 2))
        mean = torch.tensor(self.mean, device=values.device).view(shape) * scale
        std = torch.tensor(self.std, device=values.device).view(shape) * scale
        return values.float().sub_(mean).div_(std) if values.dtype == torch.uint8 else (values.float() - mean) / std


def normalization(text: str, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std, ``channels`` values each, of ``imagenet``, ``cifar10``, ..., ``none`` or ``MEAN/STD``.

    Colour values become their average for one channel; a single value serves all channels.

    Raises:
        SpecError: not understood, another number of values than channels, a std that is not positive.
    """
    if text in NORMALIZATIONS:
        mean, std = NORMALIZATIONS[text]
        if channels == 1 and len(mean) > 1:
            mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    else:
        try:
            mean, std = (tuple(float(value) for value in part.split(",")) for part in text.split("/"))
        except ValueError as error:
            known = ", ".join(NORMALIZATIONS)
            raise SpecError(
                f"normalization {text!r} is not understood; write {known} or MEAN/STD, as 0.5,0.5,0.5/0.2,0.2,0.2"
            ) from error
    mean, std = (values * channels if len(values) == 1 else values for values in (mean, std))
    if len(mean) != channels or len(std) != channels:
        raise SpecError(f"normalization {text!r} has {len(mean)} means and {len(std)} stds for {channels} channels")
    if not all(math.isfinite(value) for value in mean + std) or min(std) <= 0:
        raise SpecError(f"normalization {text!r}: values must be finite and every std positive")
    return mean, std


def normalization_text(mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    """What :func:`normalization` reads back as these values: a name where one fits, else ``MEAN/STD``."""
    for name, (known, _) in NORMALIZATIONS.items():
        if (len(known) in (1, len(mean)) or len(mean) == 1) and normalization(name, len(mean)) == (mean, std):
            return name
    parts = (values[:1] if len(set(values)) == 1 else values for values in (mean, std))
    return "/".join(",".join(repr(value) for value in values) for values in parts)
