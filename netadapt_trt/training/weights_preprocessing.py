"""What weights were trained with: the record that ``train`` left beside them, or what torchvision publishes with its own.

A network is as good as its inputs are like those of its training, so this goes before a data set's own normalisation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import FileFormatError
from netadapt_trt.files import read_document
from netadapt_trt.progress import QUIET
from netadapt_trt.training.data import default_normalization
from netadapt_trt.training.preprocessing import Preprocessing, normalization, normalization_text
from netadapt_trt.training.seed_network import FORMAT, VERSION, record_path
from netadapt_trt.zoo.torchvision_shim import import_torchvision

if TYPE_CHECKING:
    from netadapt_trt.progress import Progress
    from netadapt_trt.spec import ModelSpec

__all__ = ["choose_normalization", "trained_preprocessing"]


def choose_normalization(
    normalize: str | None, *, data: str, weights: str | None, spec: ModelSpec, progress: Progress = QUIET
) -> str | None:
    """What ``open_data`` is to be given: ``normalize`` where it was asked for, else what ``weights`` were trained with.

    None leaves it to the data set: nothing is known of the weights, or it is the same. Data of a factory come as it makes
    them, unless the weights were trained with these very data. Where weights and data differ a notice says so.

    Raises:
        FileFormatError: a damaged record beside the weights.
    """
    trained = None if weights is None else trained_preprocessing(weights, spec)
    channels = spec.input_shape[1] if len(spec.input_shape) > 1 else 1
    if trained is None or trained.channels != channels:
        return normalize
    _tell_size(trained, str(weights), spec, progress)
    default = default_normalization(data)
    used = normalization(normalize or default or "none", channels)
    if used == (trained.mean, trained.std):
        return normalize
    theirs = normalization_text(trained.mean, trained.std)
    if normalize is not None:
        progress.notice(f"{weights} was trained with inputs normalised by {theirs}; --normalize {normalize} is used instead")
        return normalize
    if default is None and _recorded(Path(str(weights))).get("data") != data:
        progress.notice(
            f"{weights} was trained with inputs normalised by {theirs}; those of {data} are used as its factory makes them "
            f"(--normalize {theirs} if it leaves that to us)"
        )
        return None
    progress.notice(
        f"inputs are normalised by {theirs}, with which {weights} was trained, "
        f"and not by {default or 'none'}, the data set's own; --normalize overrides"
    )
    return theirs


def trained_preprocessing(weights: str, spec: ModelSpec) -> Preprocessing | None:
    """How inputs were prepared for the training of ``weights`` (a file, or ``torchvision:NAME``); None where nobody says.

    Raises:
        FileFormatError: a damaged record beside the file.
    """
    if not weights.startswith("torchvision:"):
        record = _recorded(Path(weights))
        if record.get("preprocessing") is not None:
            return Preprocessing.from_json(record["preprocessing"])
    return _published(weights, spec)


def _recorded(weights: Path) -> dict[str, Any]:
    """The record of ``train`` beside a file; empty where there is none, or a file of that name that is not ours."""
    path = record_path(weights)
    if path == weights or not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        return {}
    record = read_document(path, format=FORMAT, version=VERSION)
    if not isinstance(record.get("preprocessing"), dict | None):
        raise FileFormatError(f"{path}: the preprocessing is not readable; train again, or remove that file")
    return record


def _published(weights: str, spec: ModelSpec) -> Preprocessing | None:
    """The transforms of weights that torchvision publishes, by their name or by the name of the downloaded file."""
    scheme, _, name = spec.model.partition(":")
    if scheme != "torchvision":
        return None
    models = import_torchvision().models
    if name not in models.list_models():
        return None
    wanted = weights.removeprefix("torchvision:")
    for label, member in models.get_model_weights(name).__members__.items():
        if label == wanted or (wanted == weights and str(member.url).rsplit("/", 1)[-1] == Path(weights).name):
            return _of_transforms(member.transforms())
    return None


def _of_transforms(transforms: Any) -> Preprocessing | None:
    try:
        (size,), (resized,) = transforms.crop_size, transforms.resize_size
        mean, std = (tuple(float(value) for value in values) for values in (transforms.mean, transforms.std))
    except (AttributeError, TypeError, ValueError):  # those of detection and the like say it otherwise
        return None
    return Preprocessing(image_size=size, mean=mean, std=std, channels=len(mean), crop=size / resized)


def _tell_size(trained: Preprocessing, weights: str, spec: ModelSpec, progress: Progress) -> None:
    if trained.image_size is not None and trained.image_size != spec.input_shape[-1]:
        shape = "x".join(map(str, spec.input_shape))
        progress.notice(f"{weights} was trained on pictures of {trained.image_size} pixels, the network's input is {shape}")
