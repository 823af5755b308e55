"""Start a search, or go on with one.

All state is in the run directory. A process that is stopped at any moment, by Ctrl-C or by kill -9, loses at most the last
minute; :func:`resume_search` goes on to the same result, bit for bit where the arithmetic repeats (one thread, or as many
threads as before on most machines).
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from netadapt_trt.errors import DataError, FileFormatError
from netadapt_trt.progress import QUIET
from netadapt_trt.search.board import search_board
from netadapt_trt.search.data import split_for_search
from netadapt_trt.search.interrupt import deferred_interrupt
from netadapt_trt.search.learner import Learner, cpu_threads
from netadapt_trt.search.result import read_result, write_result
from netadapt_trt.search.state import (
    SearchDirectory,
    changeable,
    create_search,
    open_search,
    read_history,
    refuse_existing,
)
from netadapt_trt.search.target import Pilot, limits_of
from netadapt_trt.search.theta import write_theta
from netadapt_trt.space.knobs import Start, doubtful_weight, start
from netadapt_trt.space.store import load_space
from netadapt_trt.space.table import read_tables

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from netadapt_trt.progress import Progress
    from netadapt_trt.search.result import SearchResult
    from netadapt_trt.search.settings import SearchSettings
    from netadapt_trt.space.schema import Space
    from netadapt_trt.space.table import SpaceTable
    from netadapt_trt.training.split import DataSet

__all__ = ["open_data_of", "resume_search", "search"]

_SAVE_EVERY_S = 60.0


def search(settings: SearchSettings, *, progress: Progress = QUIET) -> SearchResult:
    """Search from the beginning, in the directory ``settings.output``.

    Raises:
        CoverageError, DataError, FileFormatError, SpecError: something does not fit; said before anything is trained or
            written.
        CheckError: the loss is not finite.
        LockedError, FileFormatError: the directory is in use, or holds a run already.
    """
    from netadapt_trt.training.devices import require_device

    refuse_existing(settings.output)
    require_device(settings.device)
    space = load_space(settings.space)
    table = read_tables(space, settings.tables)
    for notice in table.notices:
        progress.notice(notice)
    begun = _begun(settings, table)
    _tell_start(begun, settings, space, progress)
    data = open_data_of(settings, space, progress)
    facts = {
        "start": {name: getattr(begun, name) for name in _START},
        "tables": [_file_record(path) for path in settings.tables],
        "preprocessing": data.preprocessing.to_json(),
        "num_classes": len(data.classes),
        "labels": _labels(data),
    }
    with create_search(settings, space, table, facts) as run:
        return _go_on(run, data, progress)


def resume_search(path: Path, *, overrides: Mapping[str, Any] | None = None, progress: Progress = QUIET) -> SearchResult:
    """Go on with the search in ``path`` where it stopped; a finished one is only read.

    ``overrides`` say where it works and where its data lie now (``settings.CHANGEABLE``), not what it decides.

    Raises:
        SpecError: an override that would change decisions. DataError: other data. Else as :func:`search`.
    """
    from netadapt_trt.training.devices import require_device

    with open_search(path, changeable(path, overrides or {})) as run:
        if (path / "result.json").is_file():
            return read_result(path)
        require_device(run.settings.device)
        return _go_on(run, data_begun_with(run, run.settings, progress), progress)


def data_begun_with(run: SearchDirectory, settings: SearchSettings, progress: Progress = QUIET) -> DataSet:
    """The data of ``settings``, which may lie elsewhere now. Raises DataError where they are not those of the search."""
    data = open_data_of(settings, run.space, progress)
    if run.facts.get("labels") != _labels(data):
        raise DataError(
            f"{settings.data} is not the data that the search {run.path} began with: its labels differ; give the same "
            f"data with --data"
        )
    return data


def open_data_of(settings: SearchSettings, space: Space, progress: Progress = QUIET) -> DataSet:
    """The data that a search trains on, in the size of the space's input. Raises DataError, SpecError."""
    from netadapt_trt.training.data import open_data

    data = open_data(
        settings.data,
        input_shape=(1, *space.input_shape),
        image_size=settings.image_size,
        normalize=settings.normalize,
        progress=progress,
    )
    if len(data.classes) != space.num_classes:
        progress.notice(
            f"{data.name} has {len(data.classes)} classes, the space {space.num_classes}: networks get the data's, and what "
            f"the table says of the last layer is off by the difference"
        )
    return data


_START = ("lat_s", "ener_j", "vlat", "vener", "energy_dominance", "latency_dominance")


def _begun(settings: SearchSettings, table: SpaceTable) -> Start:
    """Where the search begins. Raises SpecError for knobs or targets that make no sense."""
    from dataclasses import replace

    knobs = settings.knobs
    limits = limits_of(table, settings.latency_target_ms, settings.energy_target_mj)
    if "latency" in limits:
        knobs = replace(knobs, alpha=Pilot(limits["latency"], knobs.beta, 1).factor)
    if "energy" in limits:
        knobs = replace(knobs, gamma=Pilot(limits["energy"], knobs.delta, 1).factor)
    return start(table, knobs)


def _tell_start(begun: Start, settings: SearchSettings, space: Space, progress: Progress) -> None:
    energy = "" if begun.ener_j is None else f", ENER {begun.ener_j:.4g} J"
    ratios = [
        f"{name} dominance {value:.3g}"
        for name, value in (("energy", begun.energy_dominance), ("latency", begun.latency_dominance))
        if value is not None
    ]
    terms = f"vLAT {begun.vlat:.4g}, vENER {begun.vener:.4g}"
    progress.notice(f"at the start: LAT {begun.lat_s:.4g} s{energy}; {', '.join([terms, *ratios])}")
    targets = [
        f"{value:g} {unit}"
        for value, unit in ((settings.latency_target_ms, "ms"), (settings.energy_target_mj, "mJ"))
        if value is not None
    ]
    if targets:
        progress.notice(f"the child is to cost at most {' and '.join(targets)}: the search sets the knobs by itself")
        return
    for text in doubtful_weight(begun, space.num_classes):
        progress.notice(text)


def _go_on(run: SearchDirectory, data: DataSet, progress: Progress) -> SearchResult:
    settings = run.settings
    weights, theta = split_for_search(data.train, settings.theta_share, settings.seed)
    with cpu_threads(settings.threads):
        learner = Learner(settings, run.table, weights, theta, len(data.classes))
        if run.checkpoint.is_file():
            learner.load(run.checkpoint)
            progress.notice(f"going on in epoch {min(learner.at.epoch + 1, settings.epochs)} of {settings.epochs}")
        run.keep_history(learner.at.epoch)
        _learn(run, learner, progress)
    return _finish(run, learner, progress)


def _learn(run: SearchDirectory, learner: Learner, progress: Progress) -> None:
    """Step by step to the end; saves every minute, after every epoch, and when asked to stop."""
    directory = run.path / "tensorboard" if run.settings.tensorboard else None
    saved = time.monotonic()
    with (
        search_board(directory, learner.at.epoch, progress=progress) as log,
        progress.task("search", total=learner.total()) as task,
        deferred_interrupt() as asked,
    ):
        task.advance(learner.done())
        for line in learner.steps():
            task.advance(1)
            if line is not None:
                _end_epoch(run, learner, line)
                log(line, learner.theta.probabilities().detach().numpy(), learner.theta.offered.numpy())
                task.describe(_described(line, run.settings.epochs))
            stop = asked()
            if line is not None or stop or time.monotonic() - saved >= _SAVE_EVERY_S:
                learner.save(run.checkpoint)
                saved = time.monotonic()
            if stop:
                raise KeyboardInterrupt


def _end_epoch(run: SearchDirectory, learner: Learner, line: Mapping[str, Any]) -> None:
    """Theta and the history; the checkpoint after them, so that it never promises a line that is not there."""
    epoch, values = int(line["epoch"]), learner.theta.array()
    write_theta(run.theta(epoch), run.space, values, epoch)
    write_theta(run.path / "theta.json", run.space, values, epoch)
    run.append(line)


def _described(line: Mapping[str, Any], epochs: int) -> str:
    energy = "" if line["ener_j"] is None else f", ENER {line['ener_j']:.4g} J"
    return f"epoch {line['epoch']}/{epochs}: accuracy {line['val_accuracy']:.1%}, LAT {line['lat_s']:.4g} s{energy}"


def _finish(run: SearchDirectory, learner: Learner, progress: Progress) -> SearchResult:
    history, child, argmax = read_history(run.path), learner.child(), learner.theta.argmax()
    if len(history) != run.settings.epochs:
        raise FileFormatError(
            f"{run.path / 'history.jsonl'} has {len(history)} of {run.settings.epochs} epochs; it was changed from outside"
        )
    result = write_result(run, child=child, argmax=argmax, theta=learner.theta.array(), history=history)
    moved = int((np.array(child) != np.array(argmax)).sum())
    if moved:
        progress.notice(
            f"the most probable child ({run.table.latency(argmax):.4g} ms) misses the target; the most probable one that "
            f"meets it differs in {moved} of {len(child)} places ({run.table.latency(child):.4g} ms)"
        )
    return result


def _file_record(path: Path) -> dict[str, str]:
    return {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _labels(data: DataSet) -> str:
    """16 hexadecimal digits over the training labels in their order."""
    return hashlib.sha256(np.ascontiguousarray(data.train.labels).tobytes()).hexdigest()[:16]
