"""Import torchvision, also where its compiled operators do not load.

The torchvision wheels of the package index are built for CUDA. Beside a CPU-only PyTorch their extension library does not
load, the operator ``torchvision::nms`` is then unknown, and ``import torchvision`` dies while registering a meta kernel for
it: "operator torchvision::nms does not exist". Models, transforms and data sets need none of these operators, so declaring
the two schemas that the import asks for is enough. A torchvision whose extension loads keeps its own operators: its library
is tried first, and only what is missing afterwards is declared. Calling a declared operator still fails, as it should.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from netadapt_trt.errors import SpecError

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["import_torchvision"]

_DECLARED = ("nms", "qnms")
_libraries: list[Any] = []  # a torch.library.Library withdraws its declarations when it is collected


def import_torchvision() -> ModuleType:
    """The ``torchvision`` package.

    Raises:
        SpecError: torchvision is not installed, or fails to import for another reason than its missing operators.
    """
    if "torchvision" in sys.modules:
        return sys.modules["torchvision"]
    spec = importlib.util.find_spec("torchvision")  # finds without importing
    if spec is None or spec.origin is None:
        raise SpecError("torchvision is not installed; install it beside torch: pip install 'netadapt-trt[torch]'")
    _load_extension(Path(spec.origin).parent)
    missing = [name for name in _DECLARED if not hasattr(torch.ops.torchvision, name)]
    if missing and not _libraries:
        library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for name in missing:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _libraries.append(library)
    try:
        return importlib.import_module("torchvision")
    except (ImportError, RuntimeError) as error:
        raise SpecError(
            f"torchvision {_version()} does not import beside torch {torch.__version__}: {error}; "
            f"install the pair that belongs together"
        ) from error


def _load_extension(package: Path) -> None:
    # Loading the same library again, as torchvision's own import will, does nothing.
    for path in sorted(package.glob("_C*.so")) + sorted(package.glob("_C*.pyd")):
        with contextlib.suppress(OSError, RuntimeError):
            torch.ops.load_library(str(path))  # type: ignore[no-untyped-call]


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("torchvision")
    except PackageNotFoundError:
        return "(unknown version)"
