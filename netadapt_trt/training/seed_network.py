"""Train a network to start from, when there is none: the ``train`` verb. The same loop as long-term fine-tuning."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import SpecError
from netadapt_trt.files import write_document
from netadapt_trt.progress import QUIET
from netadapt_trt.training.devices import require_device
from netadapt_trt.training.evaluate import evaluate_loss
from netadapt_trt.training.fine_tune import check_classes, fine_tune
from netadapt_trt.training.tensorboard_log import tensorboard_log
from netadapt_trt.zoo.resolve import build_model
from netadapt_trt.zoo.weights import load_weights, save_weights

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from netadapt_trt.progress import Progress
    from netadapt_trt.spec import ModelSpec
    from netadapt_trt.training.fine_tune import FineTune
    from netadapt_trt.training.split import DataSet

__all__ = ["FORMAT", "VERSION", "record_path", "train_network"]

FORMAT, VERSION = "netadapt-weights", 1


def record_path(output: Path) -> Path:
    """The JSON file beside the weights that says what they are."""
    return output.with_suffix(".json")


def train_network(
    spec: ModelSpec,
    weights: str | None,
    data: DataSet,
    settings: FineTune,
    output: Path,
    progress: Progress = QUIET,
    log_dir: Path | None = None,
) -> dict[str, Any]:
    """Train ``spec`` on all of ``data.train``, score it on ``data.test``; write ``output`` and the record beside it.

    Starts from ``weights``, or from values drawn from the settings' seed. An interrupted training continues from
    ``output`` + ".checkpoint". Returns the record: spec, data, preprocessing, settings, accuracy (0 to 1), loss.

    Raises:
        SpecError, WeightsError, DataError, CheckError: as building, loading and fine-tuning do.
    """
    if output.suffix != ".safetensors":
        raise SpecError(f"weights are written as safetensors; name the file {output.with_suffix('.safetensors')}")
    require_device(settings.device)
    model = build_model(spec, seed=settings.seed)
    if weights is not None:
        load_weights(model, weights, spec)
    check_classes(model, data)
    output.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = output.with_name(output.name + ".checkpoint")

    def score(network: nn.Module) -> dict[str, float]:
        accuracy, loss = evaluate_loss(network, data.test, device=settings.device)
        progress.notice(f"accuracy {accuracy:.2%} on {len(data.test)} test examples, loss {loss:.3f}")
        return {"test_accuracy": accuracy, "test_loss": loss}

    with tensorboard_log(log_dir) as log:
        fine_tune(model, data.train, settings, progress=progress, log=log, checkpoint=checkpoint, each_epoch=score)
    accuracy, loss = evaluate_loss(model, data.test, device=settings.device)
    record = {
        "spec": spec.to_json(),
        "weights": weights,
        "data": data.name,
        "classes": list(data.classes),
        "preprocessing": data.preprocessing.to_json(),
        "settings": settings.to_json(),
        "accuracy": accuracy,
        "loss": loss if loss == loss else None,  # JSON knows no NaN
    }
    save_weights(model, output, {"netadapt": json.dumps({"format": FORMAT, "version": VERSION, "spec": spec.to_json()})})
    write_document(record_path(output), format=FORMAT, version=VERSION, content=record)
    checkpoint.unlink(missing_ok=True)
    progress.notice(f"{data.name}: accuracy {accuracy:.2%} on {len(data.test)} test examples; weights in {output}")
    return record
