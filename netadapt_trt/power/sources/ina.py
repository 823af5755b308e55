"""Power rails read straight from the chips, through sysfs: no privilege, no service, works in a container.

What the other Jetson sources show comes from the same registers, later and rounded more.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import PowerError
from netadapt_trt.power.rails import match_board, total_step_mw
from netadapt_trt.power.source import INA_TIME_CONSTANT_S
from netadapt_trt.power.sources.ina_channels import Channel, Chip, find_chips, read_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from netadapt_trt.power.source import Scope

__all__ = ["InaSource"]

_GONE = {errno.ENOENT, errno.ENODEV, errno.ENXIO}
_USEFUL_INTERVAL_S = 0.05  # the chips' averaging makes more than 20 readings a second the same reading again


class InaSource:
    """The INA3221 and INA238 chips below ``root``. ``read`` reads one file (tests make it fail like a driver)."""

    name = "ina"
    scope: Scope = "board"
    counts_energy = False
    interval_s = _USEFUL_INTERVAL_S

    def __init__(self, root: Path = Path("/"), *, read: Callable[[Path], str] = read_text) -> None:
        self._root = root
        self._read = read
        self._chips: list[Chip] = []
        self._channels: dict[str, Channel] = {}
        self._steps_mw: dict[str, float] = {}

    @property
    def rails(self) -> tuple[str, ...]:
        """Rails by bus, address and channel."""
        return tuple(self._channels)

    @property
    def step_mw(self) -> float | None:
        """Step of the total from the shunts, else from the rail table, mW."""
        return total_step_mw(self._channels, self._steps_mw)

    @property
    def time_constant_s(self) -> float:
        """That of the slowest chip: its averaging is recursive over one update interval. See ``time_constant_assumed``."""
        told = [chip.update_interval_ms for chip in self._chips]
        if not told or any(not interval for interval in told):
            return INA_TIME_CONSTANT_S
        return max(interval for interval in told if interval) / 1000.0

    def __enter__(self) -> Self:
        """Find the chips. Raises PowerError when there is none, or none that may be read."""
        self._chips = find_chips(self._root, self._read)
        self._channels, self._steps_mw = {}, {}
        if not self._chips:
            raise PowerError(
                f"ina: no power chip under {self._root / 'sys'}: this is no Jetson, or one without sensors (Nano 2GB), or "
                "the container hides /sys; measure with an external meter (csv:FILE), or without power"
            )
        refused: list[str] = []
        for channel in (channel for chip in self._chips for channel in chip.channels):
            if self._answers(channel, refused):
                self._add(channel)
        if not self._channels:
            why = refused[0] if refused else "every channel is switched off (inN_enable is 0)"
            raise PowerError(
                f"ina: the power chips cannot be read: {why}; let all users read them (chmod a+r), or run as root"
            )
        return self

    def _answers(self, channel: Channel, refused: list[str]) -> bool:
        """Whether a channel is on. One that is off answers ENODATA; one that only stumbles (I/O error) is on."""
        try:
            channel.power_mw(self._read)
        except PermissionError as error:
            refused.append(f"{error.filename or channel.current}: permission denied")
            return False
        except OSError as error:
            return error.errno not in {errno.ENODATA, *_GONE}
        except ValueError:
            return True
        return True

    def _add(self, channel: Channel) -> None:
        name, copies = channel.rail, 1
        while name in self._channels:  # two rails of one name are kept apart, and no board has them
            copies += 1
            name = f"{channel.rail}#{copies}"
        self._channels[name] = channel
        try:
            step = channel.step_mw(self._read)
        except (OSError, ValueError):
            step = None
        if step:
            self._steps_mw[name] = step

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        """Nothing is held open between readings."""

    def read(self) -> dict[str, float] | None:
        """Power by rail, mW; None when a channel failed twice in a row. Raises PowerError when a chip is gone."""
        power: dict[str, float] = {}
        for rail, channel in self._channels.items():
            value = self._read_channel(rail, channel)
            if value is None:  # the older driver gives I/O errors when a conversion is late
                value = self._read_channel(rail, channel)
            if value is None:
                return None
            power[rail] = value
        return power

    def _read_channel(self, rail: str, channel: Channel) -> float | None:
        try:
            return channel.power_mw(self._read)
        except ValueError:
            return None
        except OSError as error:
            if error.errno in _GONE:
                raise PowerError(
                    f"ina: rail {rail} vanished while measuring ({error}): the driver was unloaded or the chip reset; "
                    "check dmesg, then measure again"
                ) from error
            return None

    def details(self) -> dict[str, Any]:
        """Chips with their averaging, the board of the rail table, steps by rail."""
        board = match_board(self._channels)
        return {
            "source": self.name,
            "scope": self.scope,
            "board": board.name if board else None,
            "total": list(board.total) if board else None,
            "step_mw": self.step_mw,
            "steps_mw": {rail: round(step, 3) for rail, step in self._steps_mw.items()},
            "time_constant_s": self.time_constant_s,
            "time_constant_assumed": not all(chip.update_interval_ms for chip in self._chips),
            "chips": [
                {
                    "address": chip.address,
                    "layout": chip.layout,
                    "samples": chip.samples,
                    "update_interval_ms": chip.update_interval_ms,
                    "running_mode": chip.running_mode,
                }
                for chip in self._chips
            ],
        }
