"""Many searches over a grid of knobs, each one's child trained, and all of them measured side by side.

The directory of a sweep holds ``sweep.json`` (what was asked), the space and the table that all searches use, a search in
``NNN-.../`` for every point of the grid and ``results.json``, written anew whenever something is finished. Called again, or
after a kill, a sweep goes on: finished parts are read, the others go on where they stopped.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import CheckError, FileFormatError, SpecError
from netadapt_trt.files import exclusive_lock, read_document, write_document
from netadapt_trt.progress import QUIET
from netadapt_trt.search.board import board_works
from netadapt_trt.search.grid import checked_grid
from netadapt_trt.search.settings import CHANGEABLE
from netadapt_trt.search.sweep_measure import NETWORKS, measure_children
from netadapt_trt.search.sweep_progress import Whole
from netadapt_trt.search.sweep_settings import SweepSettings
from netadapt_trt.search.sweep_store import FORMAT, VERSION, claim, keep_on, read_named, read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from netadapt_trt.backend import Backend
    from netadapt_trt.power.meter import PowerMeter
    from netadapt_trt.progress import Progress
    from netadapt_trt.search.settings import SearchSettings
    from netadapt_trt.search.sweep_store import Kept
    from netadapt_trt.space.knobs import Knobs, Start
    from netadapt_trt.training.fine_tune import FineTune

__all__ = ["FORMAT", "RESULTS_FORMAT", "VERSION", "SweepSettings", "read_sweep", "resume_sweep", "sweep"]

RESULTS_FORMAT = "netadapt-sweep-results"

_DONE = ("searched", "trained")


def sweep(
    settings: SweepSettings,
    *,
    meter: Callable[[Backend], PowerMeter | None] | None = None,
    progress: Progress = QUIET,
) -> dict[str, Any]:
    """Make every search of the grid, or what is left of it; returns the content of results.json.

    ``meter`` makes the power meter for the backend that times the children. A search whose loss is not finite is noted and
    left, the others go on.

    Raises:
        SpecError: a grid that makes no sense on this table, or a sweep in that directory that was asked otherwise.
        LockedError: another process works there. Else as ``search`` and ``train_child``.
    """
    path = settings.search.output
    settings = replace(settings, grid=tuple(dict.fromkeys(settings.grid)))
    named = read_named(settings.search)
    if not (path / "sweep.json").is_file():
        checked_grid(named.table, settings.grid)  # before anything is written
    path.mkdir(parents=True, exist_ok=True)
    with _held(path):
        return _go_on(path, settings, claim(path, settings, named), meter, progress)


def resume_sweep(
    path: Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    meter: Callable[[Backend], PowerMeter | None] | None = None,
    progress: Progress = QUIET,
) -> dict[str, Any]:
    """Go on with the sweep in ``path``, on the space and the table that it keeps.

    ``overrides``: data, device, threads and tensorboard of the searches, and backend.

    Raises:
        FileFormatError: it is no sweep. SpecError: an override that would change decisions. Else as :func:`sweep`.
    """
    settings = read_settings(path)
    given = dict(overrides or {})
    fixed = sorted(set(given) - CHANGEABLE - {"backend"})
    if fixed:
        raise SpecError(f"{path} has its settings already; {', '.join(fixed)} cannot change (start a new sweep for that)")
    backend = given.pop("backend", settings.backend)
    search = replace(settings.search, output=path, **given)
    training = settings.training
    if training is not None and "device" in given:
        training = replace(training, device=given["device"])
    threads = given.get("threads", settings.threads)
    moved = replace(settings, search=search, training=training, backend=backend, threads=threads)
    with _held(path):
        return _go_on(path, moved, keep_on(path, moved), meter, progress)


def _held(path: Path) -> AbstractContextManager[None]:
    return exclusive_lock(path / "sweep.lock", what=f"the sweep {path}")


def _go_on(
    path: Path,
    settings: SweepSettings,
    kept: Kept,
    meter: Callable[[Backend], PowerMeter | None] | None,
    progress: Progress,
) -> dict[str, Any]:
    points = checked_grid(kept.table, settings.grid)
    for notice in kept.table.notices:
        progress.notice(notice)
    common = kept.given_to(settings.search)
    if common.tensorboard:  # said once, not by every search
        common = replace(common, tensorboard=board_works(progress))
    made = _Sweep(path, settings, kept, common, points)
    steps = len(points) * (1 + (settings.training is not None)) + (settings.backend is not None)
    with progress.task("sweep", total=steps) as task:
        whole = Whole(progress, task)
        for row in made.rows:
            made.search(row, whole)
            made.train(row, whole)
        made.measure(meter, whole)
    return made.write()


def read_sweep(path: Path) -> dict[str, Any]:
    """The content of results.json, also while the sweep goes on. Raises FileFormatError."""
    content = read_document(path / "results.json", format=RESULTS_FORMAT, version=VERSION)
    rows = content.get("runs")
    if not isinstance(rows, list) or not all(isinstance(row, dict) and _is_row(row) for row in rows):
        raise FileFormatError(
            f"{path / 'results.json'} is damaged; remove it and go on with the sweep, which writes it anew from its searches"
        )
    return content


def _is_row(row: Mapping[str, Any]) -> bool:
    """Whether a row of results.json has what going on with it needs."""
    child = row.get("child")
    blocks = child.get("blocks") if isinstance(child, dict) else []
    named = isinstance(blocks, list) and all(isinstance(name, str) for name in blocks)
    return isinstance(row.get("number"), int) and isinstance(child, dict | None) and named


class _Sweep:
    """The rows of results.json while they are filled."""

    def __init__(
        self,
        path: Path,
        settings: SweepSettings,
        kept: Kept,
        common: SearchSettings,
        points: Sequence[tuple[Knobs, Start]],
    ) -> None:
        self._path, self._settings, self._space, self._table = path, settings, kept.space, kept.table
        self._common = common
        self._before = read_sweep(path) if (path / "results.json").is_file() else {}
        self._conditions: dict[str, Any] | None = None
        known = {row["number"]: row for row in self._before.get("runs", []) if row.get("state") in _DONE}
        self.rows = [_row(number, knobs, begun) | known.get(number, {}) for number, (knobs, begun) in enumerate(points, 1)]

    def search(self, row: dict[str, Any], whole: Whole) -> None:
        """The search of one row, or what is left of it; its child and what the table promises for that."""
        from netadapt_trt.search.children import child_sizes
        from netadapt_trt.search.run import resume_search, search

        directory = self._path / row["directory"]
        common = self._common
        with whole.part(f"search {row['number']} of {len(self.rows)}", row["number"]) as part:
            try:
                if (directory / "run.json").is_file():
                    own = {name: getattr(common, name) for name in CHANGEABLE}
                    found = resume_search(directory, overrides=own, progress=part)
                else:
                    found = search(replace(common, output=directory, **row["knobs"]), progress=part)
            except CheckError as error:
                row["state"], row["error"] = "failed", str(error)
                part.notice(f"failed: {error}")
            else:
                content = found.content
                row["state"] = row["state"] if row["state"] in _DONE else "searched"
                row["child"] = content["child"]
                row["val_accuracy"], row["seconds"] = content["val_accuracy"], content["seconds"]
                row["params"], row["macs"] = child_sizes(self._space, content["child"]["blocks"], self._num_classes())
        self.write()

    def train(self, row: dict[str, Any], whole: Whole) -> None:
        """Its child from fresh weights. Searches that end at one child share its training."""
        training = self._settings.training
        if training is None:
            return
        with whole.part(f"child {row['number']} of {len(self.rows)}", row["number"]) as part:
            twin = self._twin(row)
            if twin is not None:
                row["same_child_as"], row["accuracy"], row["state"] = twin["number"], twin["accuracy"], "trained"
                part.notice(f"the child is that of search {twin['number']}")
            elif row["child"] is not None:
                try:
                    row["accuracy"], row["state"] = self._accuracy(row, training, part), "trained"
                except CheckError as error:
                    row["state"], row["error"] = "failed", str(error)
                    part.notice(f"failed: {error}")
        self.write()

    def _twin(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        if row["child"] is None:
            return None
        earlier = (other for other in self.rows if other["number"] < row["number"] and other["state"] == "trained")
        return next((other for other in earlier if other["child"]["blocks"] == row["child"]["blocks"]), None)

    def _accuracy(self, row: Mapping[str, Any], training: FineTune, part: Progress) -> float | None:
        from netadapt_trt.search.children import choose_children, train_child
        from netadapt_trt.search.state import read_search

        opened = read_search(self._path / row["directory"])
        child = choose_children(opened, progress=part)[0]
        record = train_child(opened, child, training, data=self._settings.search.data, progress=part)
        accuracy: float | None = record["accuracy"]
        return accuracy

    def measure(self, meter: Callable[[Backend], PowerMeter | None] | None, whole: Whole) -> None:
        """All children side by side, each once; what was measured before stays where nothing has changed."""
        settings = self._settings
        if settings.backend is None:
            return
        children = list(dict.fromkeys(tuple(row["child"]["blocks"]) for row in self.rows if row["child"] is not None))
        with whole.part("measuring", None) as part:
            if not children or self._measured_before(children):
                return
            conditions, found = measure_children(
                self._space,
                children,
                backend=settings.backend,
                num_classes=self._num_classes(),
                threads=settings.threads,
                rounds=settings.rounds,
                meter=meter,
                progress=part,
            )
            values = dict(zip(children, found, strict=True))
            self._conditions = {**conditions, "backend": settings.backend, "threads": settings.threads}
            for row in self.rows:
                if row["child"] is not None:
                    row["measured"] = values[tuple(row["child"]["blocks"])]
        self.write()

    def _num_classes(self) -> int:
        """Of the data, which all children are made for; the space's may be others."""
        from netadapt_trt.search.state import read_search

        made = next(row for row in self.rows if row["child"] is not None)
        facts = read_search(self._path / made["directory"]).facts
        return int(facts.get("num_classes", self._space.num_classes))

    def _measured_before(self, children: Sequence[tuple[str, ...]]) -> bool:
        """Take over the measurement of these very children under these conditions, if there is one."""
        conditions, settings = self._before.get("measurement"), self._settings
        if not isinstance(conditions, dict):
            return False
        classes = self._num_classes()
        conditions = {"networks": NETWORKS, "num_classes": self._space.num_classes, **conditions}  # earlier versions: silent
        asked = {"backend": settings.backend, "threads": settings.threads, "rounds": settings.rounds, "num_classes": classes}
        if any(conditions.get(name) != value for name, value in asked.items()):
            return False
        rows = [row for row in self._before.get("runs", []) if row.get("child") and row.get("measured")]
        known = {tuple(row["child"]["blocks"]): row["measured"] for row in rows}
        if any(child not in known for child in children):
            return False
        self._conditions = conditions
        for row in self.rows:
            if row["child"] is not None:
                row["measured"] = known[tuple(row["child"]["blocks"])]
        return True

    def write(self) -> dict[str, Any]:
        """results.json as things stand; returns its content."""
        search, training = self._settings.search, self._settings.training
        measurement = self._conditions or self._before.get("measurement")
        content = {
            "space": self._space.name,
            "columns": list(self._space.columns),
            "data": search.data,
            "table": self._table.source,
            "has_energy": self._table.has_energy,
            "epochs": search.epochs,
            "child_epochs": None if training is None else training.epochs,
            "measurement": measurement,
            "finished": all(self._done(row) for row in self.rows),
            "runs": self.rows,
        }
        write_document(self._path / "results.json", format=RESULTS_FORMAT, version=VERSION, content=content)
        return content

    def _done(self, row: Mapping[str, Any]) -> bool:
        wanted = "searched" if self._settings.training is None else "trained"
        measured = self._settings.backend is None or row["measured"] is not None
        return row["state"] == "failed" or bool(row["state"] == wanted and measured)


def _row(number: int, knobs: Knobs, begun: Start) -> dict[str, Any]:
    said = "-".join(f"{name[0]}{value:g}" for name, value in knobs.to_json().items())
    return {
        "number": number,
        "directory": f"{number:03d}-{said}",
        "knobs": knobs.to_json(),
        "start": {
            "lat_s": begun.lat_s,
            "ener_j": begun.ener_j,
            "vlat": begun.vlat,
            "vener": begun.vener,
            "energy_dominance": begun.energy_dominance,
            "latency_dominance": begun.latency_dominance,
        },
        "state": "waiting",
        "child": None,
        "val_accuracy": None,
        "accuracy": None,
        "params": None,
        "macs": None,
        "measured": None,
        "seconds": None,
    }
