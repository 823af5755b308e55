"""Read and write weights. Nothing here executes what a file says: safetensors, or PyTorch's loader of plain tensors."""

from __future__ import annotations

import re
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from netadapt_trt.errors import WeightsError
from netadapt_trt.files import write_atomic
from netadapt_trt.zoo.torchvision_shim import import_torchvision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from netadapt_trt.spec import ModelSpec

__all__ = ["load_weights", "read_weights", "save_weights"]

_WRAPPERS = ("state_dict", "model_state_dict", "state_dict_ema", "model", "net")
_PREFIXES = ("module.", "_orig_mod.", "model.")
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.", "aux_classifier.")  # heads that are dropped before anything is cut
_SHOWN = 6


def load_weights(model: nn.Module, source: str | Path, spec: ModelSpec) -> None:
    """Fill ``model`` in place from a .safetensors, .pt or .pth file, or from ``torchvision:DEFAULT`` (a published name).

    Where ``spec.reset_head`` replaced the output layer, tensors of another number of classes stay out.

    Raises:
        WeightsError: no such file, a file that holds more than tensors, keys that are missing, left over or of another
            shape, values that are not finite.
    """
    state = _published(str(source), model, spec) if str(source).startswith("torchvision:") else read_weights(Path(source))
    _assign(model, state, str(source), spec)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Parameter name -> tensor of a file, out of a ``{"state_dict": ...}`` wrapper and without ``module.`` prefixes.

    Raises:
        WeightsError: see :func:`load_weights`.
    """
    if not path.is_file():
        raise WeightsError(f"there is no weights file {path}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in (".pt", ".pth", ".bin", ".ckpt", ".tar"):
        return _unwrapped(_read_torch(path), str(path))
    raise WeightsError(f"{path}: weights are read from .safetensors, .pt and .pth files")


def save_weights(model: nn.Module, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write every parameter and buffer as safetensors, in one step. ``metadata`` is text by text."""
    from safetensors.torch import save

    # Copies: safetensors refuses tensors that share memory (tied layers) or are not contiguous (channels last).
    state = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }
    write_atomic(path, save(state, metadata=dict(metadata or {})))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {error}") from error
    return tensors


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about formats that are refused below anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    # The loader refuses classes with UnpicklingError, and meets damaged files with nearly anything.
    except (
        RuntimeError,
        ValueError,
        OSError,
        EOFError,
        KeyError,
        AttributeError,
        TypeError,
        IndexError,
        zipfile.BadZipFile,
    ) as error:
        raise WeightsError(_refusal(path, error)) from error
    except Exception as error:
        if type(error).__name__ == "UnpicklingError":
            raise WeightsError(_refusal(path, error)) from error
        raise


def _refusal(path: Path, error: Exception) -> str:
    """In our own words: PyTorch's suggest loading such a file without the safeguard."""
    refused = re.search(r"(?:GLOBAL|global) ([\w.]+)", str(error))
    what = f"it names {refused[1]}" if refused else type(error).__name__
    return (
        f"{path} was not loaded: it is damaged or holds more than plain tensors, which could execute code ({what}). "
        f"Where you trust it, save model.state_dict() from it and give that file"
    )


def _unwrapped(content: Any, where: str) -> dict[str, Tensor]:
    for _ in range(3):
        if not isinstance(content, dict):
            raise WeightsError(f"{where} holds a {type(content).__name__}; a dictionary of tensors was expected")
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)), None)
        if inner is None:
            break
        content = inner
    odd = [str(key) for key, value in content.items() if not isinstance(value, torch.Tensor)]
    if odd or not content:
        found = f"entries that are no tensors: {_listed(odd)}" if odd else "nothing"
        raise WeightsError(f"{where} holds {found}; a dictionary of tensors, alone or under 'state_dict', was expected")
    return dict(content)


def _without_prefix(state: dict[str, Tensor], wanted: set[str]) -> dict[str, Tensor]:
    for _ in range(len(_PREFIXES)):
        for prefix in _PREFIXES:
            if state and all(key.startswith(prefix) for key in state) and not wanted & state.keys():
                state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _assign(model: nn.Module, state: dict[str, Tensor], where: str, spec: ModelSpec) -> None:
    wanted: dict[str, Tensor] = model.state_dict()
    state = _without_prefix(state, set(wanted))
    shared = [key for key in wanted if key in state]
    other = [key for key in shared if state[key].shape != wanted[key].shape]
    if spec.reset_head:
        from netadapt_trt.zoo.head import output_layer

        head = output_layer(model, spec.input_shape) + "."
        other = [key for key in other if not key.startswith(head)]
        shared = [key for key in shared if not key.startswith(head) or state[key].shape == wanted[key].shape]
    # Files from before PyTorch 0.4.1 lack the batch counters, which nothing here uses.
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    missing = [key for key in missing if not key.startswith(_AUXILIARY)]
    extra = [key for key in state if key not in wanted and not key.startswith(_AUXILIARY)]
    if missing or extra or other:
        raise WeightsError(
            _misfit(where, spec, missing, extra, [f"{key} {_shapes(state[key], wanted[key])}" for key in other])
        )
    broken = [key for key in shared if state[key].is_floating_point() and not bool(torch.isfinite(state[key]).all())]
    if broken:
        raise WeightsError(f"{where} holds values that are not finite: {_listed(broken)}")
    model.load_state_dict({key: state[key] for key in shared}, strict=False)


def _misfit(where: str, spec: ModelSpec, missing: list[str], extra: list[str], other: list[str]) -> str:
    parts = [
        f"{len(keys)} {text}: {_listed(keys)}"
        for keys, text in ((missing, "missing"), (extra, "left over"), (other, "of another shape"))
        if keys
    ]
    hint = "check the model's name and --model-arg"
    if other and not missing and not extra:
        hint += "; for another number of classes add --num-classes N --reset-head"
    return f"the weights of {where} do not fit {spec.model}: {'; '.join(parts)}; {hint}"


def _shapes(found: Tensor, wanted: Tensor) -> str:
    return f"({'x'.join(map(str, found.shape))} in the file, {'x'.join(map(str, wanted.shape))} in the network)"


def _listed(keys: list[str]) -> str:
    more = len(keys) - _SHOWN
    return ", ".join(keys[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _published(source: str, model: nn.Module, spec: ModelSpec) -> dict[str, Tensor]:
    scheme, _, name = spec.model.partition(":")
    wanted = source.partition(":")[2]
    if scheme != "torchvision":
        raise WeightsError(f"{source} names weights published with torchvision, but the model is {spec.model}")
    known = import_torchvision().models.get_model_weights(name)
    if wanted not in known.__members__:
        members = ", ".join(["DEFAULT", *known.__members__])
        raise WeightsError(f"torchvision publishes no weights {wanted!r} for {name}; known: {members}")
    if getattr(model, "transform_input", None) is False:
        # googlenet and inception_v3: the published weights expect this, and the spec must say it to be built again.
        raise WeightsError(f"the published weights of {name} need --model-arg transform_input=True")
    try:
        state: dict[str, Tensor] = known[wanted].get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"the weights {source} of {name} could not be downloaded: {error}; download {known[wanted].url} elsewhere "
            f"and give that file with --weights"
        ) from error
    return state
