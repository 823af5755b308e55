"""One self-contained page about one or several runs: opens offline, fetches nothing, light and dark, prints.

A content security policy in the page forbids every request, so a mistake here cannot make it phone out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import resources
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import NetadaptError, SpecError
from netadapt_trt.files import write_atomic
from netadapt_trt.report.figures import (
    Figure,
    accuracy_figure,
    primary_resource,
    ratio_figure,
    resources_of,
    value_figure,
)
from netadapt_trt.report.read import RunData, read_run
from netadapt_trt.report.tables import (
    BudgetRow,
    Row,
    WidthRow,
    budget_rows,
    comparison_rows,
    decision_rows,
    headline_rows,
    remarks,
    setting_rows,
    stage_rows,
    tiles,
    wall_time,
    width_rows,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["write_report"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Section:
    """What the template shows of one run."""

    run: RunData
    subtitle: str
    ending: str
    remarks: list[str]
    tiles: list[tuple[str, str, str]]
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


def write_report(runs: Sequence[Path], output: Path) -> Path:
    """Write ``output``, a page about these run directories; unfinished ones are shown as far as they are.

    Returns ``output``.

    Raises:
        SpecError: no run was given.
        FileFormatError: a directory that is no run, or a damaged file in it.
        NetadaptError: jinja2 or plotly is not installed.
    """
    if not runs:
        raise SpecError("no run was given; name at least one directory that adapt -o wrote")
    data = _told_apart([read_run(path) for path in runs])
    sections = [_section(run, f"r{index}") for index, run in enumerate(data)]
    comparison = accuracy_figure(data, "all") if len(data) > 1 else None
    write_atomic(output, _render(sections, comparison))
    return output


def _told_apart(runs: list[RunData]) -> list[RunData]:
    """Where one folder name occurs twice ("a/run", "b/run"), the paths as given stand for the names."""
    names = [run.name for run in runs]
    return [replace(run, name=str(run.path)) if names.count(run.name) > 1 else run for run in runs]


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
        subtitle=_subtitle(run),
        ending=_ending(run),
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


def _subtitle(run: RunData) -> str:
    spec = run.arguments.get("spec")
    model = run.result.get("model") or (spec.get("model") if isinstance(spec, dict) else None)
    parts = [model, run.result.get("device")]
    parts += [run.result.get(key) or run.arguments.get(key) for key in ("backend", "precision")]
    return " · ".join(str(part) for part in parts if part)


def _ending(run: RunData) -> str:
    if not run.end:
        return f"{len(run.decisions)} steps so far, not finished"
    steps = f"{len(run.decisions)} steps"
    reason = str(run.end.get("reason", "")).strip()
    state = "budget reached" if run.end.get("reached") else "budget not reached"
    return f"{steps}, {state}" + (f" ({reason})" if reason else "")


def _render(sections: list[_Section], comparison: Figure | None) -> str:
    try:
        import jinja2
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise NetadaptError(
            f"the report needs {error.name}, which is not installed; run: pip install 'netadapt-trt[report]'"
        ) from error
    folder = resources.files("netadapt_trt.report")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    drawn = [comparison, *(s.accuracy for s in sections), *(f for s in sections for _, fs in s.checks for f in fs)]
    figures: dict[str, Any] = {figure.key: {"data": figure.data, "layout": figure.layout} for figure in drawn if figure}
    return environment.get_template("page.html.j2").render(
        sections=sections,
        comparison=comparison,
        compared=comparison_rows([section.headline for section in sections]),
        figures=figures,
        style=_inline(folder.joinpath("page.css").read_text(encoding="utf-8")),
        script=_inline(folder.joinpath("page.js").read_text(encoding="utf-8")),
        plotly=_inline(get_plotlyjs()) if figures else "",
    )


def _inline(code: str) -> Any:
    """Our own or Plotly's code, as it is. Never for anything a user wrote: that passes through the template's escaping."""
    from markupsafe import Markup

    return Markup(code.replace("</script", "<\\/script"))  # noqa: S704
