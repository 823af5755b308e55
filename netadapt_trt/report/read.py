"""Everything a report shows, read from one run directory, finished or not.

Only files are read, never weights, and nothing is guessed: what is absent is listed in :attr:`RunData.missing` in words.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import FileFormatError, NetadaptError
from netadapt_trt.files import check_header, finite, read_document

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["RunData", "read_run", "resource_value"]

_SAYS_NOTHING = re.compile(r"(runs?|out|outputs?|results?|adapt|adapted|netadapt|tmp)?[-_.]?\d*", re.IGNORECASE)
_NETWORKS = ("initial", "uniform", "adapted")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunData:
    """One run: its settings, its history line by line, its result, and what is not there yet.

    ``sizes`` maps each channel group to its uncut width, ``widths`` a network's name (``initial``, ``adapted``,
    ``uniform``) to its widths. ``result`` is empty while the run goes on.
    """

    name: str
    path: Path
    arguments: Mapping[str, Any]
    settings: Mapping[str, Any]
    initial: Mapping[str, Any]
    proposals: Sequence[Mapping[str, Any]]
    decisions: Sequence[Mapping[str, Any]]
    long_term: Sequence[Mapping[str, Any]]
    failures: Sequence[Mapping[str, Any]]
    end: Mapping[str, Any]
    result: Mapping[str, Any]
    sizes: Mapping[str, int]
    widths: Mapping[str, Mapping[str, int]]
    missing: tuple[str, ...] = field(default=())

    def network(self, name: str) -> Mapping[str, Any]:
        """The result's block of that network; empty when unknown."""
        block = self.result.get(name)
        return block if isinstance(block, dict) else {}


def resource_value(block: object, resource: str, kind: str) -> float | None:
    """``estimate``, ``measured`` or ``scale`` of a resource; a bare number, as proposals have, counts as the estimate."""
    value = block.get(resource) if isinstance(block, dict) else None
    if isinstance(value, dict):
        return finite(value.get(kind))
    return finite(value) if kind == "estimate" else None


def read_run(path: Path) -> RunData:
    """Read a run directory.

    Raises:
        FileFormatError: it is not a run directory, or run.json or result.json is damaged, too old or too new.
    """
    if not (path / "run.json").is_file():
        raise FileFormatError(f"{path} is not a run directory (no run.json in it); give the directory that adapt -o wrote")
    if (path / "theta").is_dir():  # as only searches have
        raise FileFormatError(
            f"{path} is a search; report takes runs of adapt, sweeps and files of lut validate. A search is looked at in "
            f"netadapt-trt ui, or in TensorBoard"
        )
    settings = read_document(path / "run.json", format="netadapt-run", version=1)
    missing: list[str] = []
    lines = _anchored(_read_history(path / "history.jsonl", missing))
    result = _read_result(path / "result.json", missing)
    of = {
        kind: [line for line in lines if line.get("type") == kind]
        for kind in ("initial", "proposal", "decision", "failure", "long_term")
    }
    end = _end(lines)
    initial = of["initial"][-1] if of["initial"] else {}
    if not of["decision"]:
        missing.append("No step has been decided yet: there is no path and there are no widths to show.")
    if not end and not result:
        missing.append("The loop has not ended: the figures below are those of the steps so far.")
    arguments = settings.get("arguments")
    return RunData(
        name=_name(path.resolve()),
        path=path,
        arguments=arguments if isinstance(arguments, dict) else {},
        settings=settings,
        initial=initial,
        proposals=of["proposal"],
        decisions=of["decision"],
        long_term=_latest(of["long_term"]),
        failures=of["failure"],
        end=end,
        result=result,
        sizes=_sizes(path, initial),
        widths=_widths(path, initial, of["decision"], result),
        missing=tuple(missing),
    )


def _name(path: Path) -> str:
    """The directory's name, after the folders it lies in as long as the name says nothing: quickstart/run."""
    depth = 1
    while depth < len(path.parts) - 1 and _SAYS_NOTHING.fullmatch(path.parts[-depth]):
        depth += 1
    return "/".join(path.parts[-depth:])


def _read_history(path: Path, missing: list[str]) -> list[dict[str, Any]]:
    """The history's lines after the header; a torn last line is what a kill leaves and is left out with a word."""
    if not path.is_file():
        missing.append("history.jsonl is not there: the loop has not started.")
        return []
    rows = path.read_text(encoding="utf-8", errors="replace").split("\n")
    torn = rows.pop() != ""
    lines: list[dict[str, Any]] = []
    for count, row in enumerate(rows, 1):
        try:
            line = json.loads(row)
        except (ValueError, RecursionError) as error:
            raise FileFormatError(f"{path}, line {count}, is not JSON: {error}") from error
        if not isinstance(line, dict):
            raise FileFormatError(f"{path}, line {count}: a JSON object was expected")
        if count == 1:
            check_header(line, where=str(path), format="netadapt-history", version=1)
        else:
            lines.append(line)
    if torn:
        missing.append("The last line of history.jsonl is incomplete (the run was stopped while writing it) and left out.")
    return lines


def _anchored(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines with each ``anchor`` (a measurement brought later) laid into the network's line it belongs to."""
    found: list[dict[str, Any]] = []
    for line in lines:
        if line.get("type") != "anchor":
            found.append(line)
            continue
        brought = line.get("resources")
        index = next((i for i in reversed(range(len(found))) if found[i].get("type") in ("initial", "decision")), None)
        if index is None or not isinstance(brought, dict) or not isinstance(found[index].get("resources"), dict):
            continue
        merged = dict(found[index]["resources"])
        for name, block in brought.items():
            measured = resource_value(brought, name, "measured")
            if isinstance(block, dict) and isinstance(merged.get(name), dict) and measured is not None:
                merged[name] = {**merged[name], "measured": measured}
        found[index] = {**found[index], "resources": merged}
    return found


def _end(lines: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The line that ended the run; none when it went on after that."""
    end: Mapping[str, Any] = {}
    for line in lines:
        if line.get("type") in ("proposal", "decision", "end"):
            end = line if line["type"] == "end" else {}
    return end


def _latest(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Long-term lines of the last iteration that had any: a run that went on after its end trains again."""
    last = max((finite(line.get("iteration")) or 0.0 for line in lines), default=0.0)
    return [line for line in lines if (finite(line.get("iteration")) or 0.0) == last]


def _read_result(path: Path, missing: list[str]) -> dict[str, Any]:
    if not path.is_file():
        missing.append("result.json is not there: the run has not finished, so test accuracies and totals are unknown.")
        return {}
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is not JSON: {error}") from error
    if not isinstance(result, dict):
        raise FileFormatError(f"{path} is not a result: a JSON object was expected")
    if "format" in result:  # a header is not part of the contract, which names the result's keys only
        check_header(result, where=str(path), format="netadapt-result", version=1)
    missing.extend(f"The result has no {name} network." for name in _NETWORKS if not isinstance(result.get(name), dict))
    return result


def _int_widths(value: object) -> dict[str, int]:
    if not isinstance(value, dict):
        return {}
    return {str(name): int(width) for name, width in value.items() if finite(width) is not None}


def _sizes(path: Path, initial: Mapping[str, Any]) -> dict[str, int]:
    """Uncut widths: the plan's groups in the network's order, else those of the history's first line."""
    try:
        plan = read_document(path / "plan.json", format="netadapt-plan", version=1)
    except NetadaptError:
        plan = {}
    groups = plan.get("groups")
    known = _int_widths(initial.get("widths"))
    if isinstance(groups, list):
        sizes = {str(g["name"]): int(g["size"]) for g in groups if isinstance(g, dict) and {"name", "size"} <= g.keys()}
        return {**sizes, **{name: size for name, size in known.items() if name not in sizes}}
    return known


def _widths(
    path: Path, initial: Mapping[str, Any], decisions: Sequence[Mapping[str, Any]], result: Mapping[str, Any]
) -> dict[str, dict[str, int]]:
    """Widths of each network: the result's, else those of its directory, else (adapted) of the last decision."""
    found = {"initial": _int_widths(initial.get("widths"))}
    if decisions:
        found["adapted"] = _int_widths(decisions[-1].get("widths"))
    for name in ("adapted", "uniform"):
        block = result.get(name)
        widths = _int_widths(block.get("widths")) if isinstance(block, dict) else {}
        try:
            document = {} if widths else read_document(path / name / "network.json", format="netadapt-network", version=1)
        except NetadaptError:
            document = {}
        if widths or document:
            found[name] = widths or _int_widths(document.get("widths"))
    return {name: {**found["initial"], **widths} for name, widths in found.items() if widths}
