"""Energy of adapted against original networks, over several networks and devices: does less time mean less energy?

    python tools/energy_analysis.py measure ADAPTED,ORIGINAL [ADAPTED,ORIGINAL ...] -o FOLDER [--backend trt] [--power auto]
    python tools/energy_analysis.py table FILE [FILE ...] [-o PAGE.md]

``measure`` runs on a device: ``bench`` of every pair (ONNX files or folders of ``export`` or ``build``), a file each in
FOLDER. ``table`` runs anywhere, on the files of all devices. NetAdapt (Yang et al., ECCV 2018) names energy as a budget and
shows no energy results.

Average power is what was measured while a network ran again and again; energy over the device's latency would count the
host's time between two runs as power. Its ratio says what latency does not: below 1 the adapted network also draws less
while it runs, above 1 some of the time that was saved is paid for in power.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from rich.console import Console

from netadapt_trt.cli.power import open_meter
from netadapt_trt.cli.progress import progress_for
from netadapt_trt.deploy.bench import bench
from netadapt_trt.errors import FileFormatError, NetadaptError
from netadapt_trt.files import read_document

_COLUMNS = (
    *("device", "network", "original ms", "adapted ms", "latency ratio"),
    *("original mJ", "adapted mJ", "energy ratio", "dynamic ratio", "original W", "adapted W", "power ratio", "flags"),
)


@dataclass(frozen=True, slots=True)
class Side:
    """One network of a pair. Energies are mJ per inference, average power W, None where nothing was measured; ``stderr`` is
    the total energy's."""

    model: str
    latency_ms: float
    total: float | None
    dynamic: float | None
    stderr: float | None
    power_w: float | None
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """An adapted and an original network on one device."""

    device: str
    adapted: Side
    original: Side
    latency_ratio: float
    spread: tuple[float, float]


def read_pairs(path: Path) -> list[Pair]:
    """The comparisons in a bench.json: its first file is the adapted network, each other one an original.

    Raises:
        FileFormatError: not a bench.json, or one without a second file.
    """
    content = read_document(path, format="netadapt-bench", version=1)
    rows = content["artifacts"]
    if len(rows) < 2:
        raise FileFormatError(f"{path} holds one network; bench it beside the original: bench ADAPTED --vs ORIGINAL")
    identity = rows[0]["identity"]
    device = f"{identity['device']}, {identity['runtime']} {identity['runtime_version']}, {identity['precision']}"
    adapted = _side(rows[0])
    return [
        Pair(device, adapted, _side(row), comparison["ratio"], (comparison["p10"], comparison["p90"]))
        for row, comparison in zip(rows[1:], content["comparisons"], strict=True)
    ]


def _side(row: dict[str, Any]) -> Side:
    energy, power_mw = row["energy_mj"] or {}, row.get("total_mw")
    return Side(
        model=row["model"] or Path(row["path"]).stem,
        latency_ms=row["latency_ms"]["median"],
        total=energy.get("total"),
        dynamic=energy.get("dynamic"),
        stderr=energy.get("stderr"),
        power_w=None if power_mw is None else power_mw / 1000,
        flags=tuple(row.get("energy_flags", ())),
    )


def page(pairs: list[Pair]) -> str:
    """A Markdown table, a row for each pair, and what it comes to."""
    lines = [f"| {' | '.join(_COLUMNS)} |", f"|{'---|' * len(_COLUMNS)}"]
    lines += [
        f"| {' | '.join(_cells(pair))} |" for pair in sorted(pairs, key=lambda pair: (pair.device, pair.adapted.model))
    ]
    return "\n".join([*lines, "", *_sums(pairs)]) + "\n"


def _cells(pair: Pair) -> list[str]:
    adapted, original = pair.adapted, pair.original
    energy = _ratio(adapted.total, original.total)
    return [
        *(pair.device, adapted.model),
        *(f"{original.latency_ms:.4g}", f"{adapted.latency_ms:.4g}"),
        f"{pair.latency_ratio:.3f} ({pair.spread[0]:.3f} to {pair.spread[1]:.3f})",
        *(_energy(original), _energy(adapted)),
        *(_text(energy, ".3f"), _text(_ratio(adapted.dynamic, original.dynamic), ".3f")),
        *(_text(original.power_w, ".4g"), _text(adapted.power_w, ".4g")),
        _text(_ratio(adapted.power_w, original.power_w), ".3f"),
        ", ".join(sorted({*adapted.flags, *original.flags})) or "-",
    ]


def _sums(pairs: list[Pair]) -> list[str]:
    """By device: geometric means of the ratios, of the pairs whose energy is known."""
    lines = []
    for device in sorted({pair.device for pair in pairs}):
        ratios = [
            (pair.latency_ratio, ratio)
            for pair in pairs
            if pair.device == device and (ratio := _ratio(pair.adapted.total, pair.original.total)) is not None
        ]
        if not ratios:
            lines.append(f"- {device}: no energy was measured.")
            continue
        latency, energy = (geometric_mean(column) for column in zip(*ratios, strict=True))
        lines.append(
            f"- {device}: over {len(ratios)} pair(s), {latency:.3f} of the latency and {energy:.3f} of the energy "
            f"(geometric means){_average_power([pair for pair in pairs if pair.device == device])}."
        )
    return lines


def _average_power(pairs: list[Pair]) -> str:
    ratios = [ratio for pair in pairs if (ratio := _ratio(pair.adapted.power_w, pair.original.power_w)) is not None]
    return f"; average power {geometric_mean(ratios):.3f}" if ratios else ""


def _ratio(first: float | None, second: float | None) -> float | None:
    return first / second if first is not None and second else None


def _energy(side: Side) -> str:
    shown = side.stderr is not None and side.total is not None and side.stderr > 1e-9 * side.total
    return _text(side.total, ".4g") + (f" ± {side.stderr:.2g}" if shown else "")


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def measure(pairs: list[str], folder: Path, *, backend: str | None, power: str, rounds: int, energy_seconds: float) -> None:
    """Bench every ``ADAPTED,ORIGINAL`` and keep a file of each; one that is there is not measured again."""
    folder.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    for number, text in enumerate(pairs, start=1):
        adapted, comma, original = text.partition(",")
        if not comma:
            raise NetadaptError(f"{text!r} is not a pair; write ADAPTED,ORIGINAL")
        name = re.sub(r"[^\w.-]+", "-", f"{number:02d}-{Path(adapted).resolve().parent.name}-{Path(adapted).stem}")
        path = folder / f"{name}.json"
        if path.exists():
            console.print(f"{path}: is there, not measured again", markup=False)
            continue
        console.print(f"pair {number} of {len(pairs)}: {text}", markup=False)
        bench(
            Path(adapted),
            [Path(original)],
            backend=backend,
            rounds=rounds,
            meter=lambda runtime: open_meter(power, runtime, window_s=energy_seconds),
            output=path,
            progress=progress_for(console),
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    measuring = verbs.add_parser("measure", help="bench pairs on this device")
    measuring.add_argument("pairs", nargs="+", metavar="ADAPTED,ORIGINAL")
    measuring.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    measuring.add_argument("--backend")
    measuring.add_argument("--power", default="auto")
    measuring.add_argument("--rounds", type=int, default=15)
    measuring.add_argument("--energy-seconds", type=float, default=10.0)
    telling = verbs.add_parser("table", help="a table of bench.json files")
    telling.add_argument("files", nargs="+", type=Path, metavar="FILE")
    telling.add_argument("-o", "--output", type=Path, metavar="PAGE.md")
    arguments = parser.parse_args()
    try:
        if arguments.verb == "measure":
            options = {key: getattr(arguments, key) for key in ("backend", "power", "rounds", "energy_seconds")}
            measure(arguments.pairs, arguments.output, **options)
            return 0
        text = page([pair for path in arguments.files for pair in read_pairs(path)])
    except NetadaptError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if arguments.output is None:
        print(text, end="")
    else:
        arguments.output.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
