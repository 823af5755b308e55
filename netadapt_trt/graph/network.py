"""A network at hand: model, channel groups and widths; and how it is kept on disk.

On disk a network is its spec, its widths and a safetensors file, never a pickled module: reading one builds the model from
the spec, cuts it to the widths and loads the tensors.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import FileFormatError, WeightsError
from netadapt_trt.files import read_document, write_document
from netadapt_trt.graph.channel_groups import find_channel_groups
from netadapt_trt.graph.surgery import cut, cut_to_widths
from netadapt_trt.graph.trace import trace
from netadapt_trt.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from netadapt_trt.graph.channels import Channels

__all__ = ["FORMAT", "VERSION", "Network", "load_network", "open_network", "read_network", "save_network", "shrink"]

FORMAT = "netadapt-network"
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """``channels`` and ``widths`` describe ``model`` as it is now, cut or not; the model is in eval mode."""

    spec: ModelSpec
    model: nn.Module
    channels: Channels
    widths: dict[str, int]
    notices: tuple[str, ...] = ()


def open_network(spec: ModelSpec, weights: str | None = None, *, device: str = "cpu") -> Network:
    """Build, load weights, trace and find the channel groups.

    Raises:
        SpecError, WeightsError, TraceError: the model is unknown, the weights do not fit, it does not export.
    """
    from netadapt_trt.zoo.resolve import build_model
    from netadapt_trt.zoo.weights import load_weights

    model = build_model(spec)
    if weights is not None:
        load_weights(model, weights, spec)
    traced = trace(model, spec.input_shape)
    channels = find_channel_groups(traced)
    return Network(
        spec=spec,
        model=traced.model.to(device),
        channels=channels,
        widths=channels.full_widths(),
        notices=traced.notices,
    )


def shrink(network: Network, keep: Mapping[str, Sequence[int]]) -> Network:
    """A new network with only these channels of each group; indices count in ``network`` as it is now. Raises SpecError."""
    widths = {**network.widths, **{name: len(kept) for name, kept in keep.items()}}
    model = cut(network.model, network.channels, keep)
    return replace(network, model=model, channels=network.channels.resized(widths), widths=widths)


def save_network(network: Network, directory: Path, **extra: Any) -> None:
    """Write ``weights.safetensors`` and then ``network.json`` (spec, widths, ``extra``) to ``directory``."""
    from netadapt_trt.zoo.weights import save_weights

    directory.mkdir(parents=True, exist_ok=True)
    save_weights(network.model, directory / "weights.safetensors")
    content = {"spec": network.spec.to_json(), "widths": network.widths, **extra}
    write_document(directory / "network.json", format=FORMAT, version=VERSION, content=content)


def read_network(directory: Path) -> dict[str, Any]:
    """What ``network.json`` says, checked: ``spec`` (ModelSpec), ``widths`` and whatever was saved beside them."""
    path = directory / "network.json"
    content = read_document(path, format=FORMAT, version=VERSION)
    try:
        spec = ModelSpec.from_json(content["spec"])
        widths = {str(name): int(width) for name, width in content["widths"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileFormatError(f"{path} is damaged: {error!r}") from error
    return {**content, "spec": spec, "widths": widths}


def load_network(directory: Path) -> Network:
    """Read what :func:`save_network` wrote.

    Raises:
        FileFormatError: a damaged network.json, or widths that the model does not have.
        WeightsError: tensors that do not fit.
    """
    from netadapt_trt.zoo.weights import read_weights

    content = read_network(directory)
    network = _uncut(content["spec"])
    widths: dict[str, int] = content["widths"]
    for name, width in widths.items():
        if not 1 <= width <= network.widths.get(name, 0):
            raise FileFormatError(f"{directory / 'network.json'}: the model has no channel group {name} of {width} channels")
    model = cut_to_widths(network.model, network.channels, widths)
    weights = directory / "weights.safetensors"
    try:
        model.load_state_dict(read_weights(weights), strict=True)
    except RuntimeError as error:
        raise WeightsError(f"{weights} does not fit its network.json: {error}") from error
    full = {**network.widths, **widths}
    return replace(network, model=model.eval(), channels=network.channels.resized(full), widths=full)


def _uncut(spec: ModelSpec) -> Network:
    """The network of ``spec`` with fresh weights, shared between calls: copy what is to be changed."""
    code = Path(spec.model.rpartition(":")[0])
    changed_ns = code.stat().st_mtime_ns if code.suffix == ".py" and code.is_file() else 0
    return _opened(json.dumps(spec.to_json(), sort_keys=True), str(Path.cwd()), changed_ns)


@functools.lru_cache(maxsize=1)
def _opened(spec: str, _directory: str, _changed_ns: int) -> Network:
    """Tracing takes seconds, and a run reads its network anew, cut to other widths, after every step."""
    return open_network(ModelSpec.from_json(json.loads(spec)))
