"""What every power source answers, whichever chip, service or file is behind it.

Invariant: a reading holds every rail of ``rails`` or there is no reading at all, so that a trace has no holes inside a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["INA_TIME_CONSTANT_S", "PowerSource", "Scope"]

Scope = Literal["board", "cpu", "gpu", "external", "recording"]
"""What a source's total counts: a whole board; a processor's package (and its memory, where counted); a graphics card;
whatever an external meter is plugged into; what a recording's source counted."""

# Xavier and Orin average 512 conversions of three channels, 430 ms, recursively (TI INA3221 datasheet, nvpower.sh of L4T
# R35 and R36): the register follows the load as a first-order filter of this time constant.
INA_TIME_CONSTANT_S = 0.43


class PowerSource(Protocol):
    """A thing that says how much power flows now. Used as a context manager; ``rails`` and what follows hold once entered.

    Entering and reading raise :class:`~netadapt_trt.errors.PowerError`, which names the source, the cause and the remedy.
    """

    @property
    def name(self) -> str:
        """The word users know: ina, jtop, tegrastats, rapl, nvml, csv or replay."""

    @property
    def scope(self) -> Scope:
        """What its total counts. It is known before entering, and ``details`` holds it."""

    @property
    def rails(self) -> tuple[str, ...]:
        """Names of the rails, in the order of the sensor. They stay the same from entering to leaving."""

    @property
    def step_mw(self) -> float | None:
        """Smallest difference the sensor shows in the board's total, mW; None where it is not known."""

    @property
    def time_constant_s(self) -> float:
        """Time constant of the sensor's own averaging, seconds; 0 where it has none."""

    @property
    def counts_energy(self) -> bool:
        """Whether a reading is the mean since the reading before it (from an energy counter), not the power of a moment."""

    @property
    def interval_s(self) -> float:
        """How often a new value appears, seconds. Reading faster gives the same value again."""

    def details(self) -> dict[str, Any]:
        """What a LUT session keeps about the source, as plain JSON values."""

    def read(self) -> dict[str, float] | None:
        """Power by rail now, mW, negative where the sensor says so; None when this one sample is missing.

        May wait for a new value, at most about three times ``interval_s``: stamp a sample after the call.

        Raises:
            PowerError: the source is gone and will give no more samples.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None: ...
