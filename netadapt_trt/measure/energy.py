"""Energy of things that run again and again, side by side, from a power source.

Each runs in two windows or more, there and back (A B B A), so that a board that warms up costs neither more than the other.
A thread that spins while a GPU works draws power on the same rails: what can wait asleep does in an energy window.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING

from netadapt_trt.backend import PatientExecutable
from netadapt_trt.spec import EnergyStats

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from netadapt_trt.backend import Executable
    from netadapt_trt.power.energy import Measured
    from netadapt_trt.power.meter import PowerMeter

__all__ = ["EnergyReading", "measure_energy", "revised", "settled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyReading:
    """Energy of one run, mean power by rail, and flags (``resolution_limited``, ``low_coverage``).

    ``energy`` is None where the board has no known total, and where readings are missing; then ``power_mw`` is empty, too.
    ``dynamic`` in it is None where the sensor cannot tell the load from idle. ``interval_mj`` is the half width of the
    total's 95 % interval, ``total_mw`` the mean power while it ran again and again; None where they are not known. A run's
    energy is that power times the time from run to run, which is more than the device's own where the host takes a part.
    """

    energy: EnergyStats | None
    power_mw: Mapping[str, float]
    flags: tuple[str, ...] = ()
    interval_mj: float | None = None
    total_mw: float | None = None
    windows: tuple[Measured, ...] = field(default=(), repr=False, compare=False)


def measure_energy(
    meter: PowerMeter, executables: Sequence[Executable], *, rounds: int = 2, closing_idle: bool = True
) -> list[EnergyReading]:
    """Measure each of ``executables`` in ``rounds`` windows. ``meter`` is open; whatever ran before has just ended.

    Takes about ``rounds`` times (settling + window + pause) for each, besides idle windows. A window in which readings are
    missing is measured once again. A :class:`~netadapt_trt.backend.PatientExecutable` waits asleep meanwhile. Without
    ``closing_idle`` idle windows come when the meter's are due: of many measurements in a row each takes half the time, and
    :func:`revised` completes it later.

    Raises:
        PowerError: the source vanished. BackendError: a run failed.
    """
    if rounds < 1:
        raise ValueError("at least one round is needed")
    meter.was_busy()
    found: list[list[Measured]] = [[] for _ in executables]
    for turn in range(rounds):
        order = range(len(executables)) if turn % 2 == 0 else reversed(range(len(executables)))
        for index in order:
            with _asleep(executables[index]) as exe:
                result = meter.measure(exe.run)
                found[index].append(result if result.valid else meter.measure(exe.run))
    if closing_idle:
        meter.idle()  # idle power is then known on both sides of every window
    return [_reading([meter.revised(result) for result in results], results) for results in found]


@contextmanager
def _asleep(exe: Executable) -> Iterator[Executable]:
    """``exe``, which meanwhile waits without keeping a processor busy where it can."""
    if not isinstance(exe, PatientExecutable):
        yield exe
        return
    exe.wait_asleep(True)
    try:
        yield exe
    finally:
        exe.wait_asleep(False)


def settled(meter: PowerMeter, reading: EnergyReading) -> bool:
    """Whether idle power was measured after it, too; until then its ``dynamic`` energy may have drifted."""
    return all(meter.settled(window) for window in reading.windows)


def revised(meter: PowerMeter, reading: EnergyReading) -> EnergyReading:
    """The same reading with idle power interpolated to what was measured since: right after the idle window, at the latest
    before the next one."""
    return _reading([meter.revised(window) for window in reading.windows], reading.windows)


def _reading(results: Sequence[Measured], windows: Sequence[Measured]) -> EnergyReading:
    flags = tuple(dict.fromkeys(flag for result in results for flag in result.flags))
    valid = all(result.valid for result in results)
    rails = {rail: fmean(result.power_mw[rail] for result in results) for rail in results[0].power_mw} if valid else {}
    totals = [result.total_mj for result in results if result.total_mj is not None]
    if len(totals) < len(results):
        return EnergyReading(energy=None, power_mw=rails, flags=flags, windows=tuple(windows))
    dynamics = [result.dynamic_mj for result in results if result.dynamic_mj is not None]
    errors = [result.stderr_mj for result in results if result.stderr_mj is not None]
    energy = EnergyStats(
        total=fmean(totals),
        dynamic=fmean(dynamics) if len(dynamics) == len(results) and not flags else None,
        # Not divided by the number of windows: what the sensor's step hides is hidden in each of them.
        stderr=fmean(errors) if len(errors) == len(results) else None,
    )
    widths = [result.interval_mj for result in results if result.interval_mj is not None]
    interval = fmean(widths) if len(widths) == len(results) else None
    powers = [result.total_mw for result in results if result.total_mw is not None]
    return EnergyReading(
        energy=energy, power_mw=rails, flags=flags, interval_mj=interval, total_mw=fmean(powers), windows=tuple(windows)
    )
