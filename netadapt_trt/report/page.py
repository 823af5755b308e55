"""One self-contained page about runs and tested tables: opens offline, fetches nothing, light and dark, prints.

A content security policy in the page forbids every request, so a mistake here cannot make it phone out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import resources
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import NetadaptError, SpecError
from netadapt_trt.files import write_atomic
from netadapt_trt.report.budgets import BudgetRow, budget_rows
from netadapt_trt.report.context import condition_rows, differences, ending, formula_note, remarks, subtitle
from netadapt_trt.report.figures import (
    accuracy_figure,
    primary_resource,
    ratio_figure,
    resources_of,
    value_figure,
)
from netadapt_trt.report.read import RunData, read_run
from netadapt_trt.report.settings import setting_rows
from netadapt_trt.report.sweep import SweepData, is_sweep, read_sweep, sweep_rows, sweep_tiles
from netadapt_trt.report.sweep_figures import knob_figures, trade_figure
from netadapt_trt.report.tables import (
    Row,
    Tile,
    WidthRow,
    comparison_rows,
    decision_rows,
    headline_rows,
    stage_rows,
    tiles,
    wall_time,
    width_rows,
)
from netadapt_trt.report.validation import ValidationPart, read_validation, validation_part

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from netadapt_trt.report.plotting import Figure

__all__ = ["write_report"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Section:
    """What the template shows of one run."""

    run: RunData
    subtitle: str
    ending: str
    remarks: list[str]
    tiles: list[Tile]
    headline: list[Row]
    budgets: list[BudgetRow]
    accuracy: Figure | None
    widths: list[WidthRow]
    checks: list[tuple[str, list[Figure]]]
    stages: list[tuple[str, str, float]]
    wall_time: str
    decisions: list[tuple[str, ...]]
    resource: str
    settings: list[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _SweepSection:
    """What the template shows of one sweep."""

    data: SweepData
    tiles: list[Tile]
    trade: Figure | None
    knobs: list[tuple[str, list[Figure]]]
    rows: list[tuple[str, ...]]


def write_report(runs: Sequence[Path], output: Path) -> Path:
    """Write ``output``, a page about these run directories; unfinished ones are shown as far as they are.

    A file among ``runs`` is what ``lut validate`` wrote; these stand first, side by side. Directories of ``search sweep``
    follow.

    Returns ``output``.

    Raises:
        SpecError: no run was given.
        FileFormatError: a directory that is no run, a file that is no validation, or a damaged one.
        NetadaptError: jinja2 or plotly is not installed.
    """
    if not runs:
        raise SpecError("no run was given; name at least one directory that adapt -o wrote")
    tested = validation_part([read_validation(path) for path in runs if path.is_file()])
    swept = [_sweep_section(path, f"s{index}") for index, path in enumerate(filter(is_sweep, runs))]
    data = _told_apart([read_run(path) for path in runs if not (path.is_file() or is_sweep(path))])
    sections = [_section(run, f"r{index}") for index, run in enumerate(data)]
    comparison = accuracy_figure(data, "all") if len(data) > 1 else None
    write_atomic(output, _render(sections, comparison, tested, swept))
    return output


def _sweep_section(path: Path, key: str) -> _SweepSection:
    data = read_sweep(path)
    return _SweepSection(
        data=data,
        tiles=sweep_tiles(data),
        trade=trade_figure(data, f"{key}-trade"),
        knobs=knob_figures(data, key),
        rows=sweep_rows(data),
    )


def _told_apart(runs: list[RunData]) -> list[RunData]:
    """Where one name occurs twice ("a/run", "a/run"), so many more folders are told that no two are alike."""
    parts = [run.path.resolve().parts for run in runs]
    named = []
    for run, own in zip(runs, parts, strict=True):
        alike = [other for twin, other in zip(runs, parts, strict=True) if twin.name == run.name and other != own]
        depth = 1 + run.name.count("/")
        while any(other[-depth:] == own[-depth:] for other in alike):
            depth += 1
        named.append(replace(run, name="/".join(own[-depth:])) if alike else run)
    return named


def _section(run: RunData, key: str) -> _Section:
    resource = primary_resource(run)
    checks = []
    for name in (name for name in resources_of(run) if name.partition("@")[0] in ("latency", "energy")):
        figures = [value_figure(run, name, f"{key}-{name}-value"), ratio_figure(run, name, f"{key}-{name}-ratio")]
        drawn = [figure for figure in figures if figure is not None]
        if drawn:
            checks.append((name, drawn))
    return _Section(
        run=run,
        subtitle=subtitle(run),
        ending=ending(run),
        remarks=remarks(run),
        tiles=tiles(run),
        headline=headline_rows(run),
        budgets=budget_rows(run),
        accuracy=accuracy_figure([run], f"{key}-accuracy"),
        widths=width_rows(run),
        checks=checks,
        stages=stage_rows(run),
        wall_time=wall_time(run),
        decisions=decision_rows(run, resource),
        resource=resource,
        settings=setting_rows(run),
    )


def _render(sections: list[_Section], comparison: Figure | None, tested: ValidationPart, swept: list[_SweepSection]) -> str:
    try:
        import jinja2
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise NetadaptError(
            f"the report needs {error.name}, which is not installed; run: pip install 'netadapt-trt[report]'"
        ) from error
    folder = resources.files("netadapt_trt.report")
    runs = [section.run for section in sections]
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    scatters = [figure for _, figure in tested.scatters]
    checks = [figure for section in sections for _, found in section.checks for figure in found]
    trades = [figure for one in swept for figure in (one.trade, *(each for _, found in one.knobs for each in found))]
    drawn = [comparison, *scatters, *trades, *(section.accuracy for section in sections), *checks]
    several = len(runs) > 1
    figures: dict[str, Any] = {figure.key: {"data": figure.data, "layout": figure.layout} for figure in drawn if figure}
    return environment.get_template("page.html.j2").render(
        sections=sections,
        comparison=comparison,
        tested=tested,
        swept=swept,
        conditions=condition_rows(runs) if several else [],
        differences=differences(runs) if several else [],
        formula=formula_note(runs) if several else "",
        compared=comparison_rows([section.headline for section in sections]) if several else [],
        figures=figures,
        style=_inline(folder.joinpath("page.css").read_text(encoding="utf-8")),
        script=_inline(folder.joinpath("page.js").read_text(encoding="utf-8")),
        plotly=_inline(get_plotlyjs()) if figures else "",
    )


def _inline(code: str) -> Any:
    """Our own or Plotly's code, as it is. Never for anything a user wrote: that passes through the template's escaping."""
    from markupsafe import Markup

    return Markup(code.replace("</script", "<\\/script"))  # noqa: S704
