"""What may be ordered: a request's values, checked one by one, and the words of the command line that carry it out.

A request is a JSON object from anybody who can reach the page. Every key is known, every value has a type and a range, files
are names from the workspace's listing. What comes out is a list of words for one process; no shell reads it.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netadapt_trt.backend import backend_names
from netadapt_trt.errors import SpecError
from netadapt_trt.files import shown
from netadapt_trt.search.settings import SearchSettings

if TYPE_CHECKING:
    from netadapt_trt.space.schema import Space
    from netadapt_trt.webui.workspace import Workspace

__all__ = [
    "SET_BY",
    "ChildOrder",
    "Fields",
    "SearchOrder",
    "backend_name",
    "child_name",
    "chosen_space",
    "chosen_tables",
    "devices",
    "loss_of",
]

_DEVICES = re.compile(r"cpu|cuda(:\d{1,2})?")
_MOST_EPOCHS = 10_000
_MOST_BATCH = 65_536
_CHILD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")

_LARGEST = 1e308
"""A whole number of JSON may have any length; compared as it is, since making a float of it may overflow."""


SET_BY = {"latency_target_ms": "alpha", "energy_target_mj": "gamma"}
"""The knob that a search sets itself with that target."""


class Fields:
    """Takes values out of a request; SpecError names the key. :meth:`end` refuses what nobody asked for."""

    def __init__(self, content: object) -> None:
        if not isinstance(content, dict):
            raise SpecError("the request must be a JSON object")
        self._left: dict[str, Any] = {key: value for key, value in content.items() if value is not None}
        self._known: list[str] = []

    def take(self, key: str) -> Any:
        """The value as it is, None where there is none."""
        self._known.append(key)
        return self._left.pop(key, None)

    def number(self, key: str, *, low: float = 0.0, high: float = 1e9) -> float | None:
        """A finite number."""
        value = self.take(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
            raise SpecError(f"{key} must be a number, not {shown(value)}")
        if not low <= value <= high:
            raise SpecError(f"{key} must be from {low:g} to {high:g}, not {shown(value)}")
        return float(value)

    def whole(self, key: str, *, low: int, high: int) -> int | None:
        """A whole number."""
        value = self.take(key)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise SpecError(f"{key} must be a whole number, not {shown(value)}")
        if not low <= value <= high:
            raise SpecError(f"{key} must be from {low} to {high}, not {shown(value)}")
        return value

    def flag(self, key: str) -> bool:
        """True or false; false where there is none."""
        value = self.take(key)
        if value is not None and not isinstance(value, bool):
            raise SpecError(f"{key} must be true or false, not {shown(value)}")
        return bool(value)

    def text(self, key: str, pattern: re.Pattern[str], what: str) -> str | None:
        """A text that ``pattern`` matches as a whole."""
        value = self.take(key)
        if value is None:
            return None
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise SpecError(f"{key} must be {what}, not {shown(value)}")
        return value

    def end(self) -> None:
        """Raises SpecError for a key that was not taken: a mistyped one would silently mean its default."""
        for key in self._left:
            near = difflib.get_close_matches(key, self._known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(self._known)}"
            raise SpecError(f"the key {shown(key)} is unknown{hint}")


def devices() -> tuple[str, ...]:
    """Devices that the page offers: the processor, and the graphics cards that the driver shows, without loading PyTorch."""
    cards = sum(1 for path in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d{1,2}", path.name))
    return ("cpu", *(f"cuda:{index}" for index in range(cards)))


def chosen_space(workspace: Workspace, name: object) -> tuple[str, Space]:
    """(the ``--space`` argument, the space) of a preset's or a listed file's name. Raises SpecError, FileFormatError."""
    from netadapt_trt.space.store import load_space, preset_names

    if isinstance(name, str) and name in preset_names():
        return name, load_space(name)
    path = workspace.find(name, "space").path
    return str(path), load_space(path)


def chosen_tables(workspace: Workspace, names: object) -> tuple[Path, ...]:
    """One or two tables by their names in the listing. Raises SpecError."""
    if isinstance(names, str):
        names = [names]
    if not isinstance(names, list) or not 1 <= len(names) <= 2:
        raise SpecError(
            "choose one table with latency and energy, or two: latency first, then energy (tables is a list of one or two "
            "names)"
        )
    return tuple(workspace.find(name, "table").path for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOrder:
    """A search to be run. ``settings`` have gone through the search's own checks; ``given`` are the keys that were given."""

    space: Space
    settings: SearchSettings
    given: frozenset[str]

    @classmethod
    def read(cls, content: object, workspace: Workspace, output: Path) -> SearchOrder:
        """The order in a request, its run to be written to ``output``. Raises SpecError and what reading a space raises."""
        fields = Fields(content)
        argument, space = chosen_space(workspace, fields.take("space"))
        known: dict[str, Any] = {
            "data": workspace.data_argument(fields.take("data")),
            "tables": chosen_tables(workspace, fields.take("tables")),
            **loss_of(fields),
            **_training(fields),
        }
        fields.end()
        given = {key: value for key, value in known.items() if value is not None}
        settings = SearchSettings(space=argument, output=output, **given)
        return cls(space=space, settings=settings, given=frozenset(given))

    def argv(self) -> list[str]:
        """The words after the program's name."""
        settings, words = self.settings, ["search", "run", "--space", self.settings.space]
        for table in settings.tables:
            words += ["--table", str(table)]
        words += ["--data", settings.data, "-o", str(settings.output)]
        for key in sorted(self.given - {"tables", "data"}):
            words += [_OPTIONS.get(key, "--" + key.replace("_", "-")), _text(key, getattr(settings, key))]
        return words


_OPTIONS = {"latency_target_ms": "--latency-target", "energy_target_mj": "--energy-target"}
_UNITS = {"latency_target_ms": "ms", "energy_target_mj": "mJ"}


def _text(key: str, value: float | str) -> str:
    """A number so that it is read back exactly, with its unit where the option wants one (and then without an exponent)."""
    if key in _UNITS:
        return f"{Decimal(repr(value)):f}{_UNITS[key]}"
    return repr(value) if isinstance(value, float) else str(value)


def loss_of(fields: Fields) -> dict[str, float | None]:
    """Knobs and targets of a request, None for what was not given. Raises SpecError for a knob beside its target."""
    # Below 0 is for the knobs themselves to refuse: they say why.
    found = {name: fields.number(name, low=-1e9) for name in ("alpha", "beta", "gamma", "delta")}
    targets = {name: fields.number(name) for name in SET_BY}
    for target, knob in SET_BY.items():
        if targets[target] is not None and found[knob] is not None:
            raise SpecError(f"{target} sets {knob} by itself; leave {knob} out")
    return {**found, **targets}


def _training(fields: Fields) -> dict[str, Any]:
    return {
        "paths": fields.text("paths", re.compile("all|sampled"), "all or sampled"),
        "epochs": fields.whole("epochs", low=1, high=_MOST_EPOCHS),
        "warmup_epochs": fields.whole("warmup_epochs", low=0, high=_MOST_EPOCHS),
        "batch_size": fields.whole("batch_size", low=2, high=_MOST_BATCH),
        "learning_rate": fields.number("learning_rate", low=1e-9, high=1e3),
        "theta_learning_rate": fields.number("theta_learning_rate", low=1e-9, high=1e3),
        "device": fields.text("device", _DEVICES, "cpu, cuda or cuda:N"),
        "threads": fields.whole("threads", low=1, high=1024),
        "seed": fields.whole("seed", low=0, high=2**31 - 1),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildOrder:
    """Children of a search to be trained: the most probable one and ``sample`` drawn ones; with ``export`` each is written
    as an ONNX file, too, for ``backend`` (None: the runtime of the search's table).
    """

    run: str
    path: Path
    sample: int | None = None
    epochs: int | None = None
    device: str | None = None
    export: bool = False
    backend: str | None = None

    @classmethod
    def read(cls, content: object, workspace: Workspace) -> ChildOrder:
        """The order in a request. Raises SpecError."""
        fields = Fields(content)
        item = workspace.find(fields.take("run"), "search")
        order = cls(
            run=item.name,
            path=item.path,
            sample=fields.whole("sample", low=1, high=100),
            epochs=fields.whole("epochs", low=1, high=_MOST_EPOCHS),
            device=fields.text("device", _DEVICES, "cpu, cuda or cuda:N"),
            export=fields.flag("export"),
            backend=backend_name(fields.take("backend")),
        )
        fields.end()
        if order.backend is not None and not order.export:
            raise SpecError("backend says what the export is for; add export: true, or leave it out")
        return order

    def argv(self) -> list[str]:
        """The words after the program's name."""
        words = ["search", "child", str(self.path)]
        for option, value in (("--sample", self.sample), ("--epochs", self.epochs), ("--device", self.device)):
            words += [] if value is None else [option, str(value)]
        words += ["--export"] if self.export else []
        words += ["--backend", self.backend] if self.backend is not None else []
        return words


def backend_name(name: object) -> str | None:
    """``name``, if it is an installed backend's; None for none. Raises SpecError."""
    if name is None or name in backend_names():
        return name if isinstance(name, str) else None
    raise SpecError(f"there is no backend {shown(name)}; installed: {', '.join(backend_names())}")


def child_name(name: object) -> str:
    """``name``, if a child's directory may have it. Raises SpecError."""
    if not isinstance(name, str) or not _CHILD_NAME.fullmatch(name):
        raise SpecError(f"there is no child {shown(name)}; choose one that is listed")
    return name
