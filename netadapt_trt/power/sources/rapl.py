"""Energy counters of x86 processors (RAPL), through the kernel's powercap folder. AMD uses the same names.

A reading is the mean power since the reading before it. Packages add up; what lies inside a package (core, uncore) and
memory are rails of their own and are added to nothing.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import PowerError
from netadapt_trt.power.rails import match_board
from netadapt_trt.power.sources.ina_channels import read_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from netadapt_trt.power.source import Scope

__all__ = ["RaplSource"]

_FOLDER = "sys/class/powercap"
_TOP = re.compile(r"intel-rapl:[0-9]+")  # intel-rapl-mmio:N shows the same packages a second time
_UPDATE_S = 0.001
_USEFUL_INTERVAL_S = 0.05
_UNIT_MJ = 1000.0 / 2**14  # the counters' usual unit is 2^-14 J


@dataclass(frozen=True, slots=True)
class _Domain:
    rail: str
    counter: Path
    range_uj: int


class RaplSource:
    """The counters below ``root``. ``read`` reads one file, ``clock`` gives seconds."""

    name = "rapl"
    scope: Scope = "cpu"
    counts_energy = True
    time_constant_s = _UPDATE_S
    interval_s = _USEFUL_INTERVAL_S
    step_mw = _UNIT_MJ / _USEFUL_INTERVAL_S

    def __init__(
        self,
        root: Path = Path("/"),
        *,
        read: Callable[[Path], str] = read_text,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._read = read
        self._clock = clock
        self._domains: list[_Domain] = []
        self._last: tuple[float, list[int]] | None = None

    @property
    def rails(self) -> tuple[str, ...]:
        """``package-0``, ``package-0:core``, ... and ``psys`` where there is one."""
        return tuple(domain.rail for domain in self._domains)

    def __enter__(self) -> Self:
        """Find the counters and read them once. Raises PowerError when there is none or root alone may read."""
        self._domains = self._find()
        if not any(":" not in domain.rail for domain in self._domains):
            raise PowerError(
                f"rapl: no energy counter under {self._root / _FOLDER}: not an x86 processor, or a virtual machine that "
                "hides it; on a host try: sudo modprobe intel_rapl_msr; in a container, where Docker masks the counters: "
                "docker run --security-opt systempaths=unconfined, or measure on the host"
            )
        self._last = (self._clock(), [self._count(domain) for domain in self._domains])
        return self

    def _find(self) -> list[_Domain]:
        domains: list[_Domain] = []
        for top in sorted((self._root / _FOLDER).glob("intel-rapl:*")):
            if not _TOP.fullmatch(top.name):
                continue
            name = self._domain(top, domains, prefix="")
            for child in sorted(top.glob(f"{top.name}:*")) if name else ():
                self._domain(child, domains, prefix=f"{name}:")
        return domains

    def _domain(self, folder: Path, domains: list[_Domain], *, prefix: str) -> str | None:
        try:
            name = self._read(folder / "name")
            size = int(self._read(folder / "max_energy_range_uj"))
        except (OSError, ValueError):
            return None
        domains.append(_Domain(prefix + name, folder / "energy_uj", size))
        return name

    def _count(self, domain: _Domain) -> int:
        try:
            return int(self._read(domain.counter))
        except PermissionError as error:
            raise PowerError(
                f"rapl: {domain.counter} may be read by root alone (Linux 5.10 and later). Until the next boot: "
                f"sudo chmod -R a+r {self._root / 'sys/devices/virtual/powercap'}. For good, a udev rule: "
                'SUBSYSTEM=="powercap", ACTION=="add", RUN+="/bin/chmod a+r /sys%p/energy_uj". Others on this machine '
                "may then spy on its load"
            ) from error
        except (OSError, ValueError) as error:
            raise PowerError(
                f"rapl: {domain.counter} cannot be read ({error}): the driver was unloaded; measure again"
            ) from error

    def read(self) -> dict[str, float] | None:
        """Mean power by rail since the last reading, mW; None when no time has passed.

        A counter that went back has wrapped once; at 300 W that takes a quarter of an hour. Raises PowerError when a counter
        is gone.
        """
        counts = [self._count(domain) for domain in self._domains]
        now = self._clock()
        if self._last is None:
            raise PowerError("rapl: it was read before it was entered; use it as a context manager")
        then, before = self._last
        if now <= then:
            return None
        self._last = (now, counts)
        power: dict[str, float] = {}
        for domain, first, last in zip(self._domains, before, counts, strict=True):
            used_uj = last - first if last >= first else last - first + domain.range_uj
            power[domain.rail] = used_uj / (now - then) / 1000.0
        return power

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        """Nothing is held open between readings."""

    def details(self) -> dict[str, Any]:
        """Counters with their ranges, and what the total is."""
        board = match_board(self.rails)
        return {
            "source": self.name,
            "scope": self.scope,
            "board": board.name if board else None,
            "total": list(board.total) if board else None,
            "step_mw": self.step_mw,
            "time_constant_s": self.time_constant_s,
            "ranges_uj": {domain.rail: domain.range_uj for domain in self._domains},
        }
