"""Which rails a board has, which of them is the whole board and which are parts of it. Data, not code paths.

A board is recognised by the set of its rail names alone: board strings are missing in containers and wrong on carriers of
other makers. Invariant: a total is never added to its parts, and rails nobody knows give no total at all.

Rails by board: the power rail notes of the energymon project (from L4T device trees), NVIDIA's forum, and lines of real
devices, which also gave the sensor steps. The AGX Orin total follows forum and energymon statements, not a schematic.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = [
    "BOARDS",
    "EXTERNAL",
    "NOT_CONNECTED",
    "Board",
    "match_board",
    "total_mw",
    "total_series",
    "total_step_mw",
    "why_no_total",
]

NOT_CONNECTED = "NC"  # the label of a channel without a shunt; may stand twice, means nothing
EXTERNAL = "external"  # the one rail of a meter between board and supply

_DEFAULT_STEP_MW = 40.0  # 8 mA at 5 V, the commonest step; slack where a table row has none
_RAPL_PACKAGE = re.compile(r"package-[0-9]+(-die-[0-9]+)?")
_RAPL_RAIL = re.compile(r"(package-[0-9]+(-die-[0-9]+)?(:[a-z0-9_-]+)?|psys)")
_NVML_RAIL = re.compile(r"gpu-[0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One row of the rail table.

    Attributes:
        name: for people.
        rails: names that must all be there.
        total: rails whose sum is the module (or the whole input), () where no sum means that.
        gpu: the rail that feeds the GPU; it feeds more than that unless ``gpu_alone``.
        cpu: the rail that feeds the CPU, maybe the same one.
        note: what the total leaves out, or why there is none.
        extra: names that may be there too: carrier rails, rails fed from another rail. Never part of the total.
        steps_mw: nominal sensor step by rail, for sources that cannot work it out themselves.
    """

    name: str
    rails: frozenset[str]
    total: tuple[str, ...]
    gpu: str | None = None
    cpu: str | None = None
    note: str = ""
    gpu_alone: bool = False
    extra: frozenset[str] = frozenset()
    steps_mw: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    def fits(self, names: frozenset[str]) -> bool:
        """Whether these are the rails of this board, no more and no fewer."""
        return self.rails <= names <= self.rails | self.extra


def _steps(**mw: float) -> Mapping[str, float]:
    return MappingProxyType(mw)


BOARDS: tuple[Board, ...] = (
    Board(
        name="Jetson Nano",
        rails=frozenset({"POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU"}),
        total=("POM_5V_IN",),
        gpu="POM_5V_GPU",
        cpu="POM_5V_CPU",
        gpu_alone=True,
        steps_mw=_steps(POM_5V_IN=40.0, POM_5V_GPU=40.0, POM_5V_CPU=40.0),
    ),
    Board(
        name="Jetson TX1",
        rails=frozenset({"VDD_IN", "VDD_GPU", "VDD_CPU"}),
        total=("VDD_IN",),
        gpu="VDD_GPU",
        cpu="VDD_CPU",
        note="the module; the carrier board is fed beside it",
        gpu_alone=True,
        extra=frozenset(
            {
                *("VDD_MUX", "VDD_5V_IO_SYS", "VDD_5V0_IO_SYS", "VDD_3V3_SYS", "VDD_3V3_IO", "VDD_3V3_IO_SLP"),
                *("VDD_1V8_IO", "VDD_M2_IN", "VDD_3V3_SYS_M2"),
            }
        ),
    ),
    Board(
        name="Jetson TX2",
        rails=frozenset({"VDD_SYS_GPU", "VDD_SYS_SOC", "VDD_IN", "VDD_SYS_CPU", "VDD_SYS_DDR"}),
        total=("VDD_IN",),
        gpu="VDD_SYS_GPU",
        cpu="VDD_SYS_CPU",
        note="the module; the carrier board is fed beside it",
        gpu_alone=True,
        # The TX2i has no WIFI rail.
        extra=frozenset(
            {
                *("VDD_4V0_WIFI", "VDD_MUX", "VDD_5V_IO_SYS", "VDD_5V0_IO_SYS", "VDD_3V3_SYS", "VDD_3V3_IO_SLP"),
                *("VDD_1V8_IO", "VDD_3V3_SYS_M2"),
            }
        ),
        # 4 mA at 19.1 V: 3140 mW and 536 mW of a real line are 41 and 7 of them.
        steps_mw=_steps(VDD_IN=77.0, VDD_SYS_GPU=77.0, VDD_SYS_SOC=77.0, VDD_SYS_CPU=77.0),
    ),
    Board(
        name="Jetson TX2 NX",
        rails=frozenset({"VDD_IN", "VDD_CPU_GPU", "VDD_SOC"}),
        total=("VDD_IN",),
        gpu="VDD_CPU_GPU",
        cpu="VDD_CPU_GPU",
        note="the module; CPU and GPU share a rail",
        steps_mw=_steps(VDD_IN=40.0, VDD_CPU_GPU=40.0, VDD_SOC=40.0),
    ),
    Board(
        name="Jetson Xavier NX, Orin NX or Orin Nano",
        rails=frozenset({"VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"}),
        total=("VDD_IN",),
        gpu="VDD_CPU_GPU_CV",
        cpu="VDD_CPU_GPU_CV",
        note="the module; CPU, GPU and the vision engines share a rail",
        steps_mw=_steps(VDD_IN=40.0, VDD_CPU_GPU_CV=40.0, VDD_SOC=40.0),
    ),
    Board(
        name="Jetson AGX Xavier",
        rails=frozenset({"GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"}),
        total=("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
        gpu="GPU",
        cpu="CPU",
        note="the sum of six rails, without the carrier board; SYS5V is a part in spite of its name",
        gpu_alone=True,
        # 8 mA at 19.4 V: 463, 618 and 2936 mW of a real line are 3, 4 and 19 of them.
        steps_mw=_steps(GPU=155.0, CPU=155.0, SOC=155.0, CV=155.0, VDDRQ=155.0, SYS5V=40.0),
    ),
    Board(
        name="Jetson AGX Orin",
        rails=frozenset({"VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"}),
        total=("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
        gpu="VDD_GPU_SOC",
        cpu="VDD_CPU_CV",
        note="the sum of three rails, without the carrier board; VDDQ_VDD2_1V8AO is fed from VIN_SYS_5V0",
        extra=frozenset({"VDDQ_VDD2_1V8AO"}),
        steps_mw=_steps(VDD_GPU_SOC=400.0, VDD_CPU_CV=400.0, VIN_SYS_5V0=100.0, VDDQ_VDD2_1V8AO=100.0),
    ),
    Board(
        name="Jetson AGX Thor",
        rails=frozenset({"VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0", "VIN"}),
        total=("VIN",),
        gpu="VDD_GPU",
        cpu="VDD_CPU_SOC_MSS",
        note="the whole developer kit with its carrier board",
        gpu_alone=True,
        # VIN has a sensor of another kind (INA238) whose shunt no file names; its step is left unknown.
        steps_mw=_steps(VDD_GPU=392.0, VDD_CPU_SOC_MSS=392.0, VIN_SYS_5V0=100.0),
    ),
    Board(
        name="Jetson Thor on a carrier without input sensor",
        rails=frozenset({"VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"}),
        total=("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"),
        gpu="VDD_GPU",
        cpu="VDD_CPU_SOC_MSS",
        note="the sum of three rails, without the carrier board",
        gpu_alone=True,
        steps_mw=_steps(VDD_GPU=392.0, VDD_CPU_SOC_MSS=392.0, VIN_SYS_5V0=100.0),
    ),
    Board(
        name="external meter",
        rails=frozenset({EXTERNAL}),
        total=(EXTERNAL,),
        note="whatever hangs behind the meter, supply losses and carrier board included",
    ),
)


def match_board(rail_names: Iterable[str]) -> Board | None:
    """The row of the table with exactly these rails (unconnected ones aside), None when nobody knows the set."""
    names = frozenset(rail_names) - {NOT_CONNECTED}
    for board in BOARDS:
        if board.fits(names):
            return board
    return _rapl_board(names) or _nvml_board(names)


def _rapl_board(names: frozenset[str]) -> Board | None:
    packages = sorted(name for name in names if _RAPL_PACKAGE.fullmatch(name))
    if not packages or not all(_RAPL_RAIL.fullmatch(name) for name in names):
        return None
    return Board(
        name="x86 processor",
        rails=frozenset(packages),
        total=tuple(packages),
        cpu=packages[0] if len(packages) == 1 else None,
        note="the sum of the packages; memory, disks, fans and supply losses are not in it",
        extra=names - frozenset(packages),
    )


def _nvml_board(names: frozenset[str]) -> Board | None:
    if not names or not all(_NVML_RAIL.fullmatch(name) for name in names):
        return None
    return Board(
        name="NVIDIA graphics card",
        rails=names,
        total=tuple(sorted(names)),
        gpu=next(iter(names)) if len(names) == 1 else None,
        note="the card alone, its memory included; the host is not in it",
        gpu_alone=True,
    )


def total_mw(readings: Mapping[str, float]) -> float | None:
    """Power of the whole board, mW, from one reading of its rails; None where the rails give none (:func:`why_no_total`)."""
    board = match_board(readings)
    if board is None or _problem(board, readings) is not None:
        return None
    return float(sum(readings[name] for name in board.total))


def total_series(rails: Sequence[str], power_mw: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Power of the whole board over time, mW [n], from power_mw [n, rails].

    Whether the labels are right is judged by the means: one noisy sample must not hide a whole trace.
    """
    board = match_board(rails)
    if board is None:
        return None
    if len(power_mw) and _problem(board, dict(zip(rails, power_mw.mean(axis=0).tolist(), strict=True))) is not None:
        return None
    columns = [list(rails).index(name) for name in board.total]
    return np.asarray(power_mw[:, columns].sum(axis=1), dtype=np.float64)


def total_step_mw(rails: Iterable[str], known_mw: Mapping[str, float] | None = None) -> float | None:
    """Sensor step of the total, mW; None where one of its rails has none that is known.

    ``known_mw`` (step by rail, as the source worked it out) goes before the table. The rails of a sum round independently,
    so their steps add as squares.
    """
    board = match_board(rails)
    if board is None or not board.total:
        return None
    steps = {**board.steps_mw, **(known_mw or {})}
    if not all(name in steps for name in board.total):
        return None
    return math.sqrt(sum(steps[name] ** 2 for name in board.total))


def why_no_total(readings: Mapping[str, float]) -> str | None:
    """In words, why :func:`total_mw` gives None for this reading; None where it does not."""
    board = match_board(readings)
    if board is None:
        known = ", ".join(sorted(set(readings) - {NOT_CONNECTED})) or "none"
        return f"no board in the rail table has these rails: {known}; budgets on one of them (energy@RAIL) still work"
    return _problem(board, readings)


def _problem(board: Board, readings: Mapping[str, float]) -> str | None:
    """A total below one of its parts, beyond what rounding explains: labels were swapped on some carriers."""
    if not board.total:
        return f"{board.name}: {board.note}"
    if len(board.total) > 1:
        return None
    (total,) = board.total
    for part in sorted(board.rails - {total}):
        slack = max(board.steps_mw.get(rail, _DEFAULT_STEP_MW) for rail in (total, part))
        if readings[total] < readings[part] - slack:
            return (
                f"{total} shows {readings[total]:.0f} mW, less than its part {part} with {readings[part]:.0f} mW: "
                "the labels of this carrier board look swapped, so there is no total to trust; use an external meter"
            )
    return None
