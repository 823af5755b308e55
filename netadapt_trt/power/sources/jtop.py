"""Power rails through the ``jtop`` service of jetson-stats, where the host runs it.

jetson-stats is an optional package under the AGPL: it is imported on use, as its users import it, and never shipped.
Its total is not used: it adds rails that are fed from other rails (AGX Orin), and its average is no average over time.
"""

from __future__ import annotations

import importlib
from multiprocessing import ProcessError
from multiprocessing.managers import RemoteError
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import PowerError
from netadapt_trt.power.rails import NOT_CONNECTED, match_board, total_step_mw
from netadapt_trt.power.source import INA_TIME_CONSTANT_S

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType, TracebackType
    from typing import Self

    from netadapt_trt.power.source import Scope

__all__ = ["JtopSource", "rails_of"]

_SOCKET = "run/jtop.sock"
_CHIPS = {"INA3221", "INA238"}
_BROKEN = (OSError, EOFError, ProcessError, RemoteError)  # how a connection between two processes ends


def rails_of(power: Mapping[str, Any]) -> dict[str, float]:
    """Power by rail, mW, from ``jtop.power`` of jetson-stats 4 or 7.

    A known total rail was moved out of ``rail`` into ``tot`` under ``name``; it is put back. A ``tot`` without a name is a
    sum made by jtop and left out, as are batteries, USB ports, channels that are off and unconnected ones.
    """
    entries = dict(power.get("rail") or {})
    total = power.get("tot") or {}
    if total.get("name"):
        entries[str(total["name"])] = total
    found: dict[str, float] = {}
    for name, entry in entries.items():
        usable = entry.get("online", True) and entry.get("type", "INA3221") in _CHIPS
        value = entry.get("power")
        if usable and name != NOT_CONNECTED and isinstance(value, int | float):
            found[name] = float(value)
    return found


class JtopSource:
    """A client of the jtop service. ``interval_s`` is what is asked for; the first client of a service decides for all."""

    name = "jtop"
    scope: Scope = "board"
    counts_energy = False
    time_constant_s = INA_TIME_CONSTANT_S

    def __init__(self, root: Path = Path("/"), *, interval_s: float = 0.5) -> None:
        self._root = root
        self._asked_s = interval_s
        self._served_s = interval_s
        self._client: Any = None
        self._failures: tuple[type[BaseException], ...] = _BROKEN
        self._rails: tuple[str, ...] = ()
        self._version: str | None = None

    @property
    def rails(self) -> tuple[str, ...]:
        """Rails in jtop's order, its total rail last."""
        return self._rails

    @property
    def step_mw(self) -> float | None:
        """Step of the total by the rail table, mW."""
        return total_step_mw(self._rails)

    @property
    def interval_s(self) -> float:
        """The service's own period, seconds."""
        return self._served_s

    def __enter__(self) -> Self:
        """Connect and wait for the first data. Raises PowerError: no package, no service, no access, another version."""
        module = self._module()
        self._client = self._connect(module, self._asked_s)
        try:
            served = float(self._client.interval)
            if abs(served - float(self._client.interval_user)) > 1e-6:
                # ok() gives up after three of *our* intervals; a service that another client made slower needs a longer one.
                self._client.close()
                self._client = self._connect(module, served)
            self._served_s = float(self._client.interval)
            first = self._next()
            if not first:
                raise PowerError(
                    "jtop: the service knows no power rails on this board (a Nano 2GB has no sensor); measure with an "
                    "external meter (csv:FILE), or without power"
                )
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self._rails = tuple(first)
        return self

    def _module(self) -> ModuleType:
        try:
            module = importlib.import_module("jtop")
        except ImportError as error:
            raise PowerError(
                f"jtop: the Python package cannot be imported ({error}); pip install jetson-stats, in the same "
                "major.minor version as the host's service"
            ) from error
        socket = self._root / _SOCKET
        if not socket.exists():
            raise PowerError(
                f"jtop: no service here ({socket} is missing); on the host: sudo systemctl start jtop.service; for a "
                "container add -v /run/jtop.sock:/run/jtop.sock"
            )
        self._failures = (module.JtopException, *_BROKEN)
        self._version = getattr(module, "__version__", None)
        return module

    def _connect(self, module: ModuleType, interval_s: float) -> Any:
        try:
            client = module.jtop(interval=interval_s)
            client.start()
        except self._failures as error:
            raise PowerError(f"jtop: {_first_line(error)}; {self._remedy(error)}") from error
        return client

    def _remedy(self, error: BaseException) -> str:
        text = str(error).lower()
        if "python version" in text:
            return "a container's Python may be too far from the host's; use ina, which needs no service"
        if "version" in text or "mismatch" in text:
            return (
                f"client ({self._version or 'unknown'}) and service must agree in major.minor: pip install jetson-stats in "
                "the host's version"
            )
        if isinstance(error, PermissionError) or "access" in text or "permission" in text:
            return (
                "run as root, or join the group jtop (sudo usermod -aG jtop $USER; for a container --group-add with its "
                "number)"
            )
        return "on the host: sudo systemctl restart jtop.service, then look at systemctl status jtop.service"

    def _next(self) -> dict[str, float]:
        try:
            fresh = self._client.ok()
            power = self._client.power if fresh else {}
        except self._failures as error:
            raise PowerError(f"jtop: {_first_line(error)}; {self._remedy(error)}") from error
        if not fresh:
            raise PowerError(
                f"jtop: the service gave no data for {3 * self._served_s:g} s or closed the connection; "
                f"{self._remedy(OSError())}"
            )
        return rails_of(power)

    def read(self) -> dict[str, float] | None:
        """Wait for the next data of the service; power by rail, mW, or None when a rail is missing in it.

        Raises PowerError when the service ends.
        """
        power = self._next()
        return {rail: power[rail] for rail in self._rails} if all(rail in power for rail in self._rails) else None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        """Leave the service."""
        if self._client is not None:
            client, self._client = self._client, None
            client.close()

    def details(self) -> dict[str, Any]:
        """Version, the interval asked for and the one served, the board of the rail table."""
        board = match_board(self._rails)
        return {
            "source": self.name,
            "scope": self.scope,
            "version": self._version,
            "asked_interval_s": self._asked_s,
            "interval_s": self._served_s,
            "board": board.name if board else None,
            "total": list(board.total) if board else None,
            "step_mw": self.step_mw,
            "time_constant_s": self.time_constant_s,
            "time_constant_assumed": True,
        }


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].removesuffix(" Please run:").rstrip(".") if lines else type(error).__name__
