"""``doctor``: what works on this machine, and what to do about what doesn't."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from netadapt_trt.cli.errors import verb
from netadapt_trt.cli.options import JsonOption
from netadapt_trt.cli.output import Output, bytes_text, table

if TYPE_CHECKING:
    from rich.console import Console

    from netadapt_trt.measure.device_state import ClockDomain

__all__ = ["Line", "examine", "run"]

_ROOM_BYTES = 2 * 2**30
_ROOT = Path("/")


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at. ``action`` is empty where nothing needs doing."""

    what: str
    state: Literal["ok", "missing", "broken", "note"]
    detail: str
    action: str = ""


@verb
def run(as_json: JsonOption = False) -> None:
    """What works here: runtimes, PyTorch, this processor and its clocks, disk, power sources; and what to do about the rest.

    Example:

        netadapt-trt doctor
    """
    with Output(as_json) as out:
        lines = examine()
        out.result({"checks": lines}, lambda console: _show(console, lines))


def examine() -> list[Line]:
    """Everything, in the order in which it is shown. Whatever is broken becomes a line, never an exception."""
    return [*_backends(), *_torch(), *_report(), *_machine(), *_device(), _disk(), *_power()]


def _backends() -> list[Line]:
    from netadapt_trt.backend import backend_names, load_backend

    names = backend_names()
    if not names:
        return [Line("backends", "broken", "none is registered", "install the project: pip install -e .")]
    lines = []
    for name in names:
        try:
            affinity = load_backend(name).affinity()
        except Exception as error:  # a broken plugin is a line here, not a crash
            action = "reinstall or remove the package that registers it"
            lines.append(Line(f"backend {name}", "broken", f"{type(error).__name__}: {error}", action))
            continue
        score = affinity.score
        state: Literal["ok", "missing"] = "ok" if score >= 0 else "missing"
        lines.append(Line(f"backend {name}", state, f"{affinity.reason} (affinity {score})"))
    return lines


def _torch() -> list[Line]:
    what = "plan MODEL, train, adapt and export need it; profile PLAN, lut, bench and report do not"
    if not _installed("torch"):
        return [Line("torch", "missing", what, "pip install 'netadapt-trt[torch]'")]
    try:
        import torch

        cuda = f"CUDA with {torch.cuda.device_count()} devices" if torch.cuda.is_available() else "no CUDA"
        lines = [Line("torch", "ok", f"{torch.__version__}, {cuda}")]
    except Exception as error:
        return [Line("torch", "broken", f"{type(error).__name__}: {error}", "reinstall torch")]
    return [*lines, _torchvision()]


def _torchvision() -> Line:
    if not _installed("torchvision"):
        return Line(
            "torchvision", "missing", "torchvision:NAME models and image data need it", "pip install 'netadapt-trt[torch]'"
        )
    try:
        from netadapt_trt.zoo.torchvision_shim import import_torchvision

        torchvision = import_torchvision()
        compiled = bool(torchvision.extension._has_ops())
    except Exception as error:  # any failure to load is the line this asks for
        return Line("torchvision", "broken", f"{type(error).__name__}: {error}", "install the version that belongs to torch")
    if compiled:
        return Line("torchvision", "ok", str(torchvision.__version__))
    detail = f"{torchvision.__version__}; its compiled operators do not fit this torch; models and data do not need them"
    return Line("torchvision", "ok", detail)


def _report() -> list[Line]:
    lacking = [name for name in ("jinja2", "plotly") if not _installed(name)]
    if lacking:
        return [Line("report", "missing", f"needs {' and '.join(lacking)}", "pip install 'netadapt-trt[report]'")]
    return [Line("report", "ok", f"jinja2 {metadata.version('jinja2')}, plotly {metadata.version('plotly')}")]


def _machine() -> list[Line]:
    from netadapt_trt.measure.machine import machine_state, other_load, quiet_notice

    state = machine_state()
    lines = [Line("processor", "ok", f"{state.model}, {state.physical_cores} physical cores, {state.kernel}")]
    if state.governor is None:
        lines.append(Line("clocks", "note", "the governor cannot be read here (virtual machine?); timings may drift"))
    elif state.governor != "performance":
        action = "for steady timings set the governor to performance (cpupower frequency-set -g performance)"
        lines.append(Line("clocks", "note", f"governor {state.governor}", action))
    else:
        lines.append(Line("clocks", "ok", "governor performance"))
    notice = quiet_notice(other_load())
    lines.append(Line("load", "ok", "quiet") if notice is None else Line("load", "note", notice, "measure when it is quiet"))
    return lines


def _device(root: Path = _ROOT) -> list[Line]:
    """The state of a Jetson, and what to do on its host before measuring; no line elsewhere."""
    from netadapt_trt.measure.device_state import device_state, problems

    state = device_state(root)
    if not state.jetson:
        return []
    where = " in a container" if state.container else ""
    mode = state.power_mode or (None if state.power_mode_id is None else f"number {state.power_mode_id}")
    lines = [
        Line("device", "ok", f"{state.board or 'Jetson'}, L4T {state.l4t or 'unknown'}{where}"),
        Line("power mode", "note" if mode is None else "ok", mode or "unknown"),
    ]
    clocks = ", ".join(f"{name} {_clock_text(clock)}" for name, clock in state.clocks.items())
    lines.append(Line("device clocks", "ok" if state.locked else "note", clocks or "cannot be read"))
    if state.temperatures_c:
        zone, degrees = max(state.temperatures_c.items(), key=lambda item: item[1])
        lines.append(
            Line("temperature", "ok", f"{degrees:.0f} degrees C at {zone}, the hottest of {len(state.temperatures_c)}")
        )
    if state.throttle_events:
        counts = ", ".join(f"{name} {count}" for name, count in state.throttle_events.items())
        lines.append(Line("over-current", "note" if any(state.throttle_events.values()) else "ok", f"{counts} since boot"))
    return [*lines, *(Line("device", "note", problem.what, problem.command) for problem in problems(state))]


def _clock_text(clock: ClockDomain) -> str:
    if clock.locked:
        return f"locked at {clock.max_mhz:.0f} MHz"
    if clock.locked is None:
        return "unknown"
    return f"{clock.min_mhz:.0f} to {clock.max_mhz:.0f} MHz, not locked"


def _disk() -> Line:
    free = shutil.disk_usage(Path.cwd()).free
    if free < _ROOM_BYTES:
        return Line("disk", "note", f"{bytes_text(free)} free here", "a run keeps a network per iteration; make room")
    return Line("disk", "ok", f"{bytes_text(free)} free here")


def _power(root: Path = _ROOT) -> list[Line]:
    """Each source; where one works, the others are alternatives, not something to mend."""
    try:
        from netadapt_trt.power.find import explain

        found = explain(root)
    except ImportError as error:
        return [Line("power", "broken", f"power sources cannot be loaded: {error}", "reinstall netadapt-trt")]
    if any(works for _, works, _ in found):
        return [Line(f"power {name}", "ok" if works else "note", text) for name, works, text in found]
    lines = [Line(f"power {name}", "missing", text) for name, _, text in found]
    action = "latency works without; energy budgets need a source here, or a LUT that holds energy"
    return [*lines, Line("power", "missing", "no power source works here", action)]


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _show(console: Console, lines: list[Line]) -> None:
    rows = [(line.what, line.state, line.detail) for line in lines]
    console.print(table("What works here", ["", "state", "detail"], rows, numbers=False))
    for line in lines:
        if line.action:
            console.print(f"{line.what}: {line.action}", markup=False)
