"""Which power source works here, and for each that does not, why and what to do.

Order: the chips themselves (no privilege, nothing rounds in between), then the two programs that read the same chips, then
the counters of x86 processors and of graphics cards. Files and meters come only when named. Where it is known what the
load runs on, a source that counts another chip is passed over: a graphics card's inference is not the processor's energy.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from netadapt_trt.errors import PowerError
from netadapt_trt.power.rails import match_board, why_no_total
from netadapt_trt.power.sources.csv_meter import CsvMeter
from netadapt_trt.power.sources.ina import InaSource
from netadapt_trt.power.sources.jtop import JtopSource
from netadapt_trt.power.sources.nvml import NvmlSource
from netadapt_trt.power.sources.rapl import RaplSource
from netadapt_trt.power.sources.replay import ReplaySource
from netadapt_trt.power.sources.tegrastats_program import TegrastatsSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.power.source import PowerSource
    from netadapt_trt.spec import Placement

__all__ = ["PREFERENCE", "explain", "find_source"]

_KINDS: dict[str, Callable[[Path], PowerSource]] = {
    "ina": InaSource,
    "jtop": JtopSource,
    "tegrastats": TegrastatsSource,
    "rapl": RaplSource,
    "nvml": NvmlSource,
}
_FILES: dict[str, Callable[[Path], PowerSource]] = {"csv": CsvMeter, "replay": ReplaySource}

PREFERENCE: tuple[str, ...] = tuple(_KINDS)


def find_source(
    *, root: Path = Path("/"), prefer: str | None = None, placement: Placement | None = None
) -> PowerSource | None:
    """The best source that works on the machine below ``root``, not entered; None where none does.

    ``placement`` says what the load runs on. Only a source that counts it comes into question: a board's rails and the own
    counter of a processor or of that graphics card; for a card in a slot its own counter alone. ``prefer`` takes that one
    and no other: a word of :data:`PREFERENCE`, ``csv:FILE`` or ``replay:FILE``. Each candidate is entered and left once to
    see whether it works.

    Raises:
        PowerError: the preferred source is unknown, does not work here, or counts another chip than the one in use.
    """
    bus_id = None if placement is None else placement.bus_id
    if prefer is not None:
        source = NvmlSource(root, bus_id=bus_id) if prefer == "nvml" else _named(prefer, root)
        if placement is not None and source.scope in ("cpu", "gpu") and source.scope != placement.chip:
            raise PowerError(
                f"{source.name}: it counts the {source.scope.upper()}, and this runs on the {placement.chip.upper()}; "
                "leave the choice to auto, or take a meter of the whole machine (csv:FILE)"
            )
        _try(source)
        return source
    for name, make in _KINDS.items():
        source = NvmlSource(root, bus_id=bus_id) if name == "nvml" else make(root)
        if placement is not None and source.scope not in _scopes(placement):
            continue
        try:
            _try(source)
        except PowerError:
            continue
        return source
    return None


def _scopes(placement: Placement) -> tuple[str, ...]:
    """What a source may count that is to say the power of this chip."""
    if placement.chip == "gpu" and placement.integrated is False:
        return ("gpu",)
    return ("board", placement.chip)


def explain(root: Path = Path("/")) -> list[tuple[str, bool, str]]:
    """For each source in order of preference: its name, whether it works, and what it shows or what to do."""
    return [_explain(name, make(root)) for name, make in _KINDS.items()]


def _explain(name: str, source: PowerSource) -> tuple[str, bool, str]:
    try:
        return name, True, _try(source)
    except PowerError as error:
        return name, False, str(error).removeprefix(f"{name}: ")


def _named(prefer: str, root: Path) -> PowerSource:
    kind, colon, file = prefer.partition(":")
    if not colon and kind in _KINDS:
        return _KINDS[kind](root)
    if file and kind in _FILES:
        return _FILES[kind](Path(file))
    raise PowerError(f"no power source is called {prefer!r}; choose one of {', '.join(PREFERENCE)}, csv:FILE, replay:FILE")


def _try(source: PowerSource) -> str:
    """Enter and leave; in words, what it measures."""
    with source:
        rails = ", ".join(source.rails)
        board = match_board(source.rails)
        why = why_no_total(source.read() or dict.fromkeys(source.rails, 0.0))
    if board is None or why is not None:
        return f"{rails}; no total: {why}"
    return f"{rails}; total = {' + '.join(board.total)} ({board.name}{': ' + board.note if board.note else ''})"
