"""What the page and the HTTP interface both do: look, weigh knobs, start jobs. Requests come in as plain values."""

from __future__ import annotations

import threading
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from netadapt_trt.backend import backend_names
from netadapt_trt.errors import NetadaptError, SpecError
from netadapt_trt.files import shown
from netadapt_trt.webui.orders import (
    SET_BY,
    ChildOrder,
    Fields,
    SearchOrder,
    backend_name,
    child_name,
    chosen_space,
    chosen_tables,
    loss_of,
)
from netadapt_trt.webui.searches import bench_device, read_search_view

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping
    from pathlib import Path

    from netadapt_trt.lut.store import Lut
    from netadapt_trt.space.knobs import Knobs, Start
    from netadapt_trt.space.schema import Space
    from netadapt_trt.space.table import SpaceTable
    from netadapt_trt.webui.jobs import Job, JobQueue
    from netadapt_trt.webui.searches import Child
    from netadapt_trt.webui.workspace import Workspace

__all__ = ["Service"]

_KEPT = 8


class _Cache:
    """The last few results of reading files, by what was read and when those files were written."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[Hashable, Any] = {}

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What ``make`` gave for ``key``, or gives now. Errors are not kept."""
        with self._lock:
            if key in self._known:
                self._known[key] = self._known.pop(key)  # the latest used is the last
                return self._known[key]
        made = make()
        with self._lock:
            self._known[key] = made
            while len(self._known) > _KEPT:
                self._known.pop(next(iter(self._known)))
        return made


def _state(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return str(path), status.st_mtime_ns, status.st_size


class Service:
    """Everything that can be asked of one workspace and its jobs."""

    def __init__(self, workspace: Workspace, queue: JobQueue) -> None:
        self.workspace = workspace
        self.queue = queue
        self._cache = _Cache()
        self._ordering = threading.Lock()

    def spaces(self) -> list[str]:
        """Names of the presets, then of the spaces in the workspace."""
        from netadapt_trt.space.store import preset_names

        return [*preset_names(), *(item.name for item in self.workspace.items("space"))]

    def readable_spaces(self) -> list[Space]:
        """All of them that can be read: what a text table may be of."""
        return [space for name in self.spaces() if (space := self._readable(name)) is not None]

    def _readable(self, name: str) -> Space | None:
        try:
            return chosen_space(self.workspace, name)[1]
        except NetadaptError:
            return None

    def table(self, space_name: object, names: object) -> SpaceTable:
        """The costs that a search in that space would believe. Raises what the reader of tables raises."""
        from netadapt_trt.space.store import space_hash
        from netadapt_trt.space.table import read_tables

        _, space = chosen_space(self.workspace, space_name)
        paths = chosen_tables(self.workspace, names)
        key = ("table", space_hash(space), *(_state(path) for path in paths))
        found: SpaceTable = self._cache.get(key, lambda: read_tables(space, paths))
        return found

    def text_table(self, space_name: object, name: object, *, energy: bool) -> SpaceTable:
        """The numbers of one text table, read as seconds or (``energy``) joules. Raises what the reader of tables raises."""
        from netadapt_trt.lut.importers.table import read_foreign
        from netadapt_trt.space.named import from_text

        _, space = chosen_space(self.workspace, space_name)
        return from_text(space, read_foreign(self.workspace.find(name, "table").path), energy=energy)

    def lut(self, name: object) -> Lut:
        """A LUT of the workspace. Raises SpecError, FileFormatError."""
        from netadapt_trt.lut.store import read_lut

        path = self.workspace.find(name, "table").path
        found: Lut = self._cache.get(("lut", _state(path)), lambda: read_lut(path))
        return found

    def estimator(self, name: object, plan_name: object) -> Any:
        """An estimator of that LUT for the network of that plan file, for its layers' models. Raises what they raise."""
        from netadapt_trt.backend import load_backend
        from netadapt_trt.lut.estimator import NetworkEstimator
        from netadapt_trt.plan.store import load_plan

        lut, plan_file = self.lut(name), self.workspace.find(plan_name, "plan").path
        table_file = self.workspace.find(name, "table").path

        def make() -> NetworkEstimator:
            plan = load_plan(plan_file)
            return NetworkEstimator(lut, plan, load_backend(lut.identity.backend).partition(plan))

        return self._cache.get(("estimator", _state(table_file), _state(plan_file)), make)

    def knobs(self, content: object) -> dict[str, Any]:
        """vLAT, vENER and both dominance ratios of a request's knobs or targets at uniform theta, with the table's notices.

        Raises SpecError for knobs that make no sense, and what reading the tables raises.
        """
        fields = Fields(content)
        table = self.table(fields.take("space"), fields.take("tables"))
        numbers = loss_of(fields)
        targets = [numbers.pop(name) for name in SET_BY]
        fields.end()
        from netadapt_trt.space.knobs import doubtful_weight

        begun, knobs = self._start(table, numbers, *targets)
        weight = () if any(target is not None for target in targets) else doubtful_weight(begun, table.space.num_classes)
        return {
            "knobs": knobs.to_json(),
            **asdict(begun),
            "has_energy": table.has_energy,
            "fixed_latency_ms": table.fixed_latency_ms,
            "source": self.unplaced(table.source),
            "notices": [*weight, *(self.unplaced(text) for text in table.notices)],
        }

    def order(self, content: object) -> list[Job]:
        """Queue what a request asks for (``kind``: search, child, export or bench). Returns the jobs, the first one first.

        Raises SpecError and what reading spaces and tables raises; nothing is queued then.
        """
        if not isinstance(content, dict):
            raise SpecError("the request must be a JSON object")
        content = dict(content)
        kind = content.pop("kind", "search")
        makers: dict[str, Callable[[dict[str, Any]], list[Job]]] = {
            "search": self._search,
            "child": self._child,
            "export": self._export,
            "bench": self._bench,
        }
        if kind not in makers:
            raise SpecError(f"kind {shown(kind)} is unknown; known: {', '.join(makers)}")
        with self._ordering:  # two requests at once get two names
            return makers[kind](content)

    def child(self, run: object, name: object) -> Child:
        """A child of a search by its name. Raises SpecError."""
        path = self.workspace.find(run, "search").path
        wanted = child_name(name)
        found = next((child for child in read_search_view(path).children if child.name == wanted), None)
        if found is None:
            raise SpecError(f"{run} has no child {shown(name)}; train it first")
        return found

    def resume_run(self, run: object) -> list[Job]:
        """Queue going on with a search that no job of ours is working on (begun on a command line, perhaps)."""
        with self._ordering:  # two requests at once go on with it once
            return self._resume_run(run)

    def _resume_run(self, run: object) -> list[Job]:
        item = self.workspace.find(run, "search")
        busy = [job for job in self.queue.jobs() if job.run == item.name and job.kind == "search"]
        if busy:
            return [self.queue.resume(busy[0].id)]
        view = read_search_view(item.path)
        if view.finished:
            raise SpecError(f"{item.name} has finished; there is nothing to go on with")
        words = ["search", "run", "--resume", str(item.path)]
        device = _occupied(str(view.arguments.get("device") or "cpu"))
        return [
            self.queue.submit(
                "search", f"search {item.name}", words, resume=words, device=device, run=item.name, proof=_proof(item.name)
            )
        ]

    def _start(
        self, table: SpaceTable, numbers: Mapping[str, float | None], latency_ms: float | None, energy_mj: float | None
    ) -> tuple[Start, Knobs]:
        """Where a search begins; with a target, by the knob that the search itself begins with.

        Raises SpecError for what makes no sense, and for powers of which nothing can be computed.
        """
        try:
            return self._begun(table, numbers, latency_ms, energy_mj)
        except ArithmeticError as error:
            raise SpecError("beta or delta is too large to compute with; use smaller ones (mostly from 0 to 2)") from error

    @staticmethod
    def _begun(
        table: SpaceTable, numbers: Mapping[str, float | None], latency_ms: float | None, energy_mj: float | None
    ) -> tuple[Start, Knobs]:
        from netadapt_trt.search.target import Pilot, limits_of
        from netadapt_trt.space.knobs import Knobs, start

        knobs = Knobs(**{name: value for name, value in numbers.items() if value is not None})
        limits = limits_of(table, latency_ms, energy_mj)
        for resource, power, factor in (("latency", knobs.beta, "alpha"), ("energy", knobs.delta, "gamma")):
            if resource in limits:
                if power == 0:
                    raise SpecError(f"a target of {resource} needs a power above 0; beta and delta must not be 0 with one")
                knobs = replace(knobs, **{factor: Pilot(limits[resource], power, 1).factor})
        return start(table, knobs), knobs

    def _search(self, content: dict[str, Any]) -> list[Job]:
        name = content.pop("name", None)
        if name is not None and not isinstance(name, str):
            raise SpecError("name must be a text")
        taken = {job.run for job in self.queue.jobs()}
        output = self.workspace.new_run(name or None, "search", taken=taken)
        order = SearchOrder.read(content, self.workspace, output)
        settings = order.settings
        # What the search would refuse after its start is refused now.
        table = self.table(content.get("space"), content.get("tables"))
        self._start(table, settings.knobs.to_json(), settings.latency_target_ms, settings.energy_target_mj)
        run = self.workspace.name_of(output)
        return [
            self.queue.submit(
                "search",
                f"search {run}: {order.space.name}, {settings.epochs} epochs",
                order.argv(),
                resume=["search", "run", "--resume", str(output)],
                device=_occupied(settings.device),
                run=run,
                proof=_proof(run),
            )
        ]

    def _child(self, content: dict[str, Any]) -> list[Job]:
        order = ChildOrder.read(content, self.workspace)
        view = read_search_view(order.path)
        if view.theta is None:
            raise SpecError(f"{order.run} has no theta yet; a child can be made after its first epoch")
        what = "the most probable child" + (f" and {order.sample} drawn ones" if order.sample else "")
        # Drawn ones have names that only the search knows, and so has the most probable one before its end.
        known = view.finished and not order.sample
        last = "deploy/model.onnx" if order.export else "network.json"
        return [
            self.queue.submit(
                "child",
                f"train {'and export ' if order.export else ''}{what} of {order.run}",
                order.argv(),
                device=_occupied(order.device or "cpu"),
                run=order.run,
                proof=f"{order.run}/children/argmax/{last}" if known else "",
            )
        ]

    def _export(self, content: dict[str, Any]) -> list[Job]:
        wanted = backend_name(content.pop("backend", None))
        run, child = self._trained(content)
        backend = wanted or (child.backend if child.backend in backend_names() else "ort")
        onnx = child.path / "deploy" / "model.onnx"
        return [
            self.queue.submit(
                "export",
                f"export {child.name} of {run} for {backend}",
                ["export", str(child.path), "--backend", backend, "-o", str(onnx)],
                run=run,
                proof=f"{run}/children/{child.name}/deploy/model.onnx",
            )
        ]

    def _bench(self, content: dict[str, Any]) -> list[Job]:
        run, child = self._trained(content)
        if child.onnx is None:
            raise SpecError(f"{child.name} of {run} has no ONNX file yet; export it first")
        return [
            self.queue.submit(
                "bench",
                f"bench {child.name} of {run}",
                ["bench", str(child.onnx), "-o", str(child.onnx.parent / "bench.json")],
                device=bench_device(child.onnx),
                run=run,
                proof=f"{run}/children/{child.name}/deploy/bench.json",
            )
        ]

    def _trained(self, content: dict[str, Any]) -> tuple[str, Child]:
        fields = Fields(content)
        run = self.workspace.find(fields.take("run"), "search").name
        child = self.child(run, fields.take("child"))
        fields.end()
        if not child.trained:
            raise SpecError(f"{child.name} of {run} is not trained yet; train it first")
        return run, child

    def unplaced(self, text: str) -> str:
        """A sentence without the place of the workspace on this machine."""
        return self.workspace.unplaced(text)

    def told(self, error: Exception) -> str:
        """An error's words, files by their names in the workspace."""
        return self.unplaced(str(error))


def _proof(run: str) -> str:
    return f"{run}/result.json"


def _occupied(device: str) -> str:
    """What a job on ``device`` keeps from others: ``cuda`` is the first card."""
    return "cuda:0" if device == "cuda" else device
